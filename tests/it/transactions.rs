//! Transactions: aborted records change nothing, open ones make answers stale and never wrong, and a log that
//! ends in markers is caught up like any other.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    compare, events, eventually, http,
    kafka::{self, Topics},
    produce::{Outgoing, Partitioner, Producer},
    product::{self, Product, Settings},
    redis,
};

const ACCOUNT: &str = "account-1";
const CUSTOMER: &str = "customer-1";

fn settings() -> Settings {
    Settings {
        api: "max_staleness_ms = 1000\nbalance_types = [\"ITBD\"]\n".to_owned(),
        accounts: vec![ACCOUNT.to_owned()],
        ..Settings::default()
    }
}

fn booked(topics: &Topics, entry: &str, amount: &str) -> Outgoing {
    events::booked(topics, ACCOUNT, entry, amount, Some(CUSTOMER))
}

/// What view two answers: the status and the signed value, if any.
fn balance(product: &Product) -> (u16, Option<String>) {
    let answer = http::account(product.views, ACCOUNT).expect("an answer");
    let balance = (answer.status == 200).then(|| {
        // As it stands there: a parsed number would not tell 71.00 from 71.
        let value = answer.body.split("\"value\":").last().and_then(|rest| rest.split(',').next());
        let sign = if answer.body.contains("DBIT") { "-" } else { "" };
        format!("{sign}{}", value.expect("a value"))
    });
    (answer.status, balance)
}

#[track_caller]
fn becomes(product: &Product, value: &str) {
    let wanted = (200, Some(value.to_owned()));
    eventually(Duration::from_secs(20), || {
        let found = balance(product);
        if found == wanted { Ok(()) } else { Err(found) }
    });
}

#[test]
fn only_committed_records_count_and_an_open_transaction_makes_answers_stale() {
    let broker = kafka::shared();
    let topics = broker.topics(2);
    let redis = redis::Server::start();
    let product = Product::start("run", &topics, &redis.url(), &settings());
    let plain = Producer::new(broker, Partitioner::Java);
    let transactional = Producer::transactional(broker, &topics.group);

    plain.put(&events::opened(&topics, ACCOUNT, &["CZK"], Some(CUSTOMER)));
    plain.put(&booked(&topics, "e1", "100"));
    transactional.begin();
    transactional.send(&booked(&topics, "e2", "-30"));
    transactional.send(&events::settled(&topics, CUSTOMER, "p1", "12", "2026-03-01"));
    transactional.commit();
    transactional.begin();
    transactional.send(&booked(&topics, "e3", "1000"));
    transactional.send(&events::settled(&topics, CUSTOMER, "p2", "13", "2026-03-02"));
    transactional.abort();
    plain.put(&booked(&topics, "e4", "1"));
    product.ready();
    // 100 − 30 + 1; the customer owes the opposite.
    becomes(&product, "71.00");
    let customer = http::customer(product.views, CUSTOMER).expect("an answer").json();
    assert_eq!(customer["last_payment_amount"], "12.0");
    assert_eq!(customer["balance"], json!([{ "type": "total", "amount": "-71.0" }]));

    transactional.begin();
    transactional.send(&booked(&topics, "e5", "500"));
    transactional.flush();
    plain.put(&booked(&topics, "e6", "5"));
    let opened = Instant::now();
    let mut stale_since = None::<Instant>;
    while stale_since.is_none_or(|since| since.elapsed() < Duration::from_secs(3)) {
        let asked = opened.elapsed();
        match balance(&product) {
            (200, Some(value)) => {
                assert_eq!(value, "71.00");
                assert!(stale_since.is_none(), "fresh again though the transaction is open");
                assert!(asked < Duration::from_secs(15), "still called fresh after {asked:?}");
            }
            (503, None) => stale_since = stale_since.or_else(|| Some(Instant::now())),
            other => panic!("{other:?}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let status = http::customer(product.views, CUSTOMER).expect("an answer").status;
    assert_eq!(status, 503, "a customer's answer rests on every ledger partition");
    transactional.commit();
    // 71 + 500 + 5
    becomes(&product, "576.00");

    transactional.begin();
    transactional.send(&booked(&topics, "e7", "7000"));
    transactional.flush();
    plain.put(&booked(&topics, "e8", "0.5"));
    std::thread::sleep(Duration::from_millis(300));
    transactional.abort();
    // 576 + 0.5
    becomes(&product, "576.50");
    let expected = compare::whole(broker, &topics, &redis.url());
    assert_eq!((expected.cells.len(), expected.dead_letters.len()), (2, 0));
}

#[test]
fn a_log_that_ends_in_markers_is_caught_up_and_resumes_there() {
    let broker = kafka::shared();
    let topics = broker.topics(1);
    let redis = redis::Server::start();
    let transactional = Producer::transactional(broker, &topics.group);
    // The ledger: one record and its marker, an aborted one and its marker. Payments: nothing but an aborted one.
    transactional.begin();
    transactional.send(&booked(&topics, "e1", "10"));
    transactional.commit();
    transactional.begin();
    transactional.send(&booked(&topics, "e2", "100"));
    transactional.send(&events::settled(&topics, CUSTOMER, "p1", "12", "2026-03-01"));
    transactional.abort();
    // The broker writes an abort's markers after it has answered.
    eventually(Duration::from_secs(10), || {
        let ends = (broker.watermarks(&topics.ledger, 0).1, broker.watermarks(&topics.payment, 0).1);
        if ends == (4, 2) { Ok(()) } else { Err(ends) }
    });

    for round in 0..2 {
        let product = Product::start("run", &topics, &redis.url(), &settings());
        product.ready();
        becomes(&product, "10.00");
        let partitions = status(&topics, &redis);
        for (topic, next) in [(&topics.ledger, 4), (&topics.payment, 2)] {
            let partition = partitions.iter().find(|p| p["topic"] == **topic).expect("the partition");
            assert_eq!(
                (&partition["next_offset"], &partition["lag"], &partition["complete"], &partition["halt"]),
                (&json!(next), &json!(0), &json!(true), &Value::Null),
                "start {round} on {topic}"
            );
        }
        assert!(product.stop().success());
    }

    let product = Product::start("run", &topics, &redis.url(), &settings());
    transactional.begin();
    transactional.send(&booked(&topics, "e3", "1"));
    transactional.commit();
    becomes(&product, "11.00");
    compare::whole(broker, &topics, &redis.url());
}

#[test]
fn whatever_differs_from_the_log_is_noticed() {
    let broker = kafka::shared();
    let topics = broker.topics(1);
    let redis = redis::Server::start();
    let producer = Producer::new(broker, Partitioner::Java);
    producer.put(&events::opened(&topics, ACCOUNT, &["CZK"], Some(CUSTOMER)));
    producer.put(&booked(&topics, "e1", "10"));
    producer.put(&Outgoing { value: None, ..booked(&topics, "e2", "1") });
    producer.put(&events::settled(&topics, CUSTOMER, "p1", "12", "2026-03-01"));
    let product = Product::start("run", &topics, &redis.url(), &settings());
    compare::whole(broker, &topics, &redis.url());
    assert!(product.stop().success());
    for key in ["a:account-1", "c:customer-1", "d:customer-1", "qa:account-1", "qd:customer-1", "qi:ledger/0"]
    {
        let key = format!("{{bp}}:g1:{key}");
        let aside = "aside";
        redis.command::<()>(&["RENAME", &key, aside]);
        let noticed = std::panic::catch_unwind(|| compare::whole(broker, &topics, &redis.url())).is_err();
        assert!(noticed, "{key} is gone and nobody noticed");
        redis.command::<()>(&["RENAME", aside, &key]);
    }
    compare::whole(broker, &topics, &redis.url());
}

#[test]
fn a_transaction_that_is_open_at_a_restart_is_folded_once_it_ends() {
    let broker = kafka::shared();
    let topics = broker.topics(1);
    let redis = redis::Server::start();
    let plain = Producer::new(broker, Partitioner::Java);
    let transactional = Producer::transactional(broker, &topics.group);
    plain.put(&booked(&topics, "e1", "10"));
    let product = Product::start("run", &topics, &redis.url(), &settings());
    product.ready();
    transactional.begin();
    transactional.send(&booked(&topics, "e2", "1"));
    transactional.flush();
    plain.put(&booked(&topics, "e3", "2"));
    assert!(product.stop().success());

    let product = Product::start("run", &topics, &redis.url(), &settings());
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(balance(&product), (503, None), "what stands behind the open transaction is not known");
    transactional.commit();
    // 10 + 1 + 2
    becomes(&product, "13.00");
    compare::whole(broker, &topics, &redis.url());
}

/// The partitions as `status` tells of them.
fn status(topics: &Topics, redis: &redis::Server) -> Vec<Value> {
    let output = product::command(topics, &redis.url(), &["status", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["needs_person"], json!([]));
    assert!(output.status.success());
    report["partitions"].as_array().expect("partitions").clone()
}
