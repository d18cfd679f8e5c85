//! Control balances: what the ledger of record states, against what the events add up to.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    events, eventually, http,
    kafka::{self, Topics},
    produce::{Outgoing, Partitioner, Producer},
    product::{self, Product, Settings},
    redis,
};

fn stated(topics: &Topics, account: &str, amount: &str, as_of: &str) -> Outgoing {
    let data = json!({
        "currency": "CZK",
        "balance_type": "ITBD",
        "amount": amount,
        "credit_debit_indicator": "CRDT",
        "as_of": as_of,
    });
    events::ledger(topics, "balance.stated", account, data)
}

fn list(topics: &Topics, redis: &redis::Server) -> (Option<i32>, Value) {
    let output = product::command(topics, &redis.url(), &["drift", "list", "--json"]);
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    (output.status.code(), report)
}

#[test]
fn an_account_that_drifts_is_listed_with_both_figures_and_both_positions_until_a_statement_agrees() {
    let broker = kafka::shared();
    let topics = broker.topics(2);
    let redis = redis::Server::start();
    let producer = Producer::new(broker, Partitioner::Librdkafka);
    for account in ["right", "wrong"] {
        producer.put(&events::opened(&topics, account, &["CZK"], None));
        producer.put(&events::booked(&topics, account, &format!("{account}-1"), "10.25", None));
    }
    producer.put(&stated(&topics, "right", "10.25", "2026-03-30T00:00:00Z"));
    let (partition, offset) = producer.put(&stated(&topics, "wrong", "12.00", "2026-03-30T00:00:00Z"));
    let product = Product::start("run", &topics, &redis.url(), &Settings::default());
    product.ready();
    let (status, report) = list(&topics, &redis);
    let at = |offset: i64| format!("{}/{partition}@{offset}", topics.ledger);
    let expected = json!([{
        "account": "wrong",
        "currency": "CZK",
        "type": "ITBD",
        "since": "2026-03-30T00:00:00.0Z",
        "stated": { "amount": "12.0", "record": at(offset) },
        "projected": { "amount": "10.25", "next": at(offset) },
        "applied": at(offset + 1),
    }]);
    assert_eq!((status, &report["drifts"]), (Some(1), &expected));

    // Still the first that disagreed, whatever disagrees after it; until one agrees.
    producer.put(&stated(&topics, "wrong", "13.00", "2026-03-30T01:00:00Z"));
    producer.put(&events::booked(&topics, "wrong", "wrong-2", "1.75", None));
    producer.put(&stated(&topics, "wrong", "12.00", "2026-03-30T02:00:00Z"));
    eventually(Duration::from_secs(20), || match list(&topics, &redis) {
        (Some(0), report) if report["drifts"] == json!([]) => Ok(()),
        other => Err(other),
    });
    let output = product::command(&topics, &redis.url(), &["drift", "list", "--generation", "7"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("generation 7 does not exist"), "{output:?}");
}

#[test]
fn statements_and_repeats_are_counted_by_what_came_of_them() {
    let broker = kafka::shared();
    let topics = broker.topics(1);
    let redis = redis::Server::start();
    let producer = Producer::new(broker, Partitioner::Librdkafka);
    let after_all = |amount: &str| stated(&topics, "A1", amount, "2026-03-30T00:00:00Z");
    let entry = || events::booked(&topics, "A1", "e1", "5.00", None);

    // Of one metric no two counts are alike, or one could pass for the other.
    let opening = after_all("10.00");
    let booked = entry();
    let mut records = vec![opening, booked.clone()];
    let agreeing = ["15.00", "15.0"];
    records.extend(agreeing.map(after_all));
    let drifting = ["14.99", "10.00", "0"];
    records.extend(drifting.map(after_all));
    // Before the entry happened: not comparable, whatever they say.
    let early = ["10.00", "15.00", "16.00", "0"];
    records.extend(early.map(|amount| stated(&topics, "A1", amount, "2026-02-01T00:00:00Z")));
    // The same event, and another one of the same entry.
    records.extend([booked, entry()]);
    records.push(events::ledger(&topics, "entry.released", "A1", json!({ "entry_id": "e1" })));
    for record in &records {
        producer.put(record);
    }

    let product = Product::start("run", &topics, &redis.url(), &Settings::default());
    product.ready();
    let expected = [
        r#"balance_projector_statements_total{result="opened"} 1"#,
        r#"balance_projector_statements_total{result="agrees"} 2"#,
        r#"balance_projector_statements_total{result="drifts"} 3"#,
        r#"balance_projector_statements_total{result="counted"} 4"#,
        r#"balance_projector_events_ignored_total{reason="duplicate"} 2"#,
        r#"balance_projector_events_ignored_total{reason="without-effect"} 1"#,
    ];
    eventually(Duration::from_secs(20), || {
        let told = http::get(product.admin, "/metrics", &[]).map_err(|error| error.to_string())?.body;
        let missing: Vec<_> =
            expected.into_iter().filter(|line| told.lines().all(|other| other != *line)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:#?} are not in {told}")) }
    });
    assert!(product.stop().success());
}
