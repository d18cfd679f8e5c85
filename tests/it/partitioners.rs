//! Where a subject lives is the publishers' choice: any partitioner gives the same balances, and a subject that
//! shows up in a second partition is held back there while its home goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use balance_projector::{
    decisions::Decision,
    domain::{BalanceType, Cell, Currency, Day, Subject, Topic},
};
use serde_json::json;

use crate::support::{
    compare, events, eventually, http,
    kafka::{self, Topics},
    produce::{Outgoing, Partitioner, Producer},
    product::{self, Product, Settings},
    redis,
};

fn to_partition(partition: i32, record: Outgoing) -> Outgoing {
    Outgoing { partition: Some(partition), ..record }
}

/// Some of everything about 60 accounts and 20 customers, in one order.
fn stream(topics: &Topics) -> Vec<Outgoing> {
    let mut stream = Vec::new();
    for account in 0..60 {
        let (id, customer) = (format!("account-{account}"), format!("customer-{}", account % 20));
        stream.push(events::opened(topics, &id, &["CZK", "EUR"], Some(&customer)));
        let line = json!({ "currency": "CZK", "amount": "1000", "included": true });
        stream.push(events::ledger(topics, "credit_line.set", &id, line));
    }
    for round in 0..5 {
        for account in 0..60 {
            let (id, customer) = (format!("account-{account}"), format!("customer-{}", account % 20));
            let amount = format!("-{}.{round}", account + 1);
            stream.push(events::booked(topics, &id, &format!("e{round}"), &amount, Some(&customer)));
        }
        for customer in 0..20 {
            let id = format!("customer-{customer}");
            let paid_on = format!("2026-03-0{}", 1 + round);
            stream.push(events::settled(
                topics,
                &id,
                &format!("p{round}-{customer}"),
                &format!("{}", round + 1),
                &paid_on,
            ));
        }
    }
    for customer in 0..20 {
        stream.push(events::profile(topics, &format!("customer-{customer}"), "NAME", "5.0"));
        let id = format!("p4-{customer}");
        let data = json!({ "payment_id": id });
        stream.push(events::payment(topics, "payment.reversed", &format!("customer-{customer}"), data));
    }
    stream
}

/// Everything that readers could be told of the cells, apart from where they live.
fn told(cells: &BTreeMap<Subject, Cell>) -> BTreeMap<Subject, String> {
    let today = Day::parse("2026-06-01").expect("a day");
    let of = |(key, cell): (&Subject, &Cell)| {
        let text = match cell {
            Cell::Account(account) => {
                let figure = |currency: &Currency| {
                    let of_type = |kind| account.figure(*currency, kind, today);
                    (*currency, [BalanceType::Prcd, BalanceType::Itbd, BalanceType::Clav].map(of_type))
                };
                let figures: Vec<_> = account.currencies().iter().map(figure).collect();
                let due = |customer| account.due(customer).map(<[_]>::to_vec);
                let dues: Vec<_> = account.customers().iter().map(due).collect();
                format!("{figures:?} {:?} {dues:?} {:?}", account.customers(), account.drifts())
            }
            Cell::Customer(customer) => format!("{:?} {:?}", customer.profile(), customer.last_payment()),
        };
        (key.clone(), text)
    };
    cells.iter().map(of).collect()
}

#[test]
fn both_partitioners_give_the_same_balances() {
    let broker = kafka::shared();
    let (java, librdkafka) = (broker.topics(6), broker.topics(6));
    let stream = stream(&java);
    let mut outcomes = Vec::new();
    for (topics, partitioner) in [(&java, Partitioner::Java), (&librdkafka, Partitioner::Librdkafka)] {
        let producer = Producer::new(broker, partitioner);
        for record in &stream {
            let topic = if record.topic == java.ledger { &topics.ledger } else { &topics.payment };
            producer.send(&Outgoing { topic: topic.clone(), ..record.clone() });
        }
        producer.flush();
        let redis = redis::Server::start();
        let settings = Settings {
            api: "max_staleness_ms = 5000\nbalance_types = [\"ITBD\"]\n".to_owned(),
            accounts: vec!["account-7".to_owned()],
            ..Settings::default()
        };
        let product = Product::start("run", topics, &redis.url(), &settings);
        product.ready();
        // Booked: five times 8, and 0.0 + 0.1 + 0.2 + 0.3 + 0.4.
        let account = http::account(product.views, "account-7").expect("an answer");
        assert!(account.body.contains("\"value\":41.00"), "{account:?}");
        assert!(account.body.contains("\"DBIT\""), "{account:?}");
        // Accounts 7, 27 and 47: 5 × 8 + 1, 5 × 28 + 1, 5 × 48 + 1. The fifth payment was returned.
        let customer = http::customer(product.views, "customer-7").expect("an answer").json();
        assert_eq!(customer["balance"], json!([{ "type": "total", "amount": "423.0" }]));
        assert_eq!(customer["last_payment_amount"], "4.0");
        assert_eq!(customer["last_payment_date"], "2026-03-04");
        outcomes.push(compare::whole(broker, topics, &redis.url()));
    }
    let [java, librdkafka] = &outcomes[..] else { panic!("two outcomes") };
    assert_eq!(told(&java.cells), told(&librdkafka.cells));
    assert_eq!(java.cells.len(), 80);
    let moved = java.cells.iter().filter(|(key, cell)| librdkafka.cells[key].home() != cell.home()).count();
    assert!(moved > 40, "only {moved} of 80 subjects live elsewhere: the two streams hardly differ");
}

#[test]
fn a_subject_in_a_second_partition_is_held_back_there_and_its_home_goes_on() {
    let broker = kafka::shared();
    let topics = broker.topics(2);
    let redis = redis::Server::start();
    let serve = Settings {
        api: "max_staleness_ms = 5000\nbalance_types = [\"ITBD\"]\non_quarantine = \"serve\"\n".to_owned(),
        accounts: vec!["mover".to_owned(), "stayer".to_owned()],
        ..Settings::default()
    };
    let refuse = Settings { api: serve.api.replace("serve", "refuse"), ..serve.clone() };
    let product = Product::start("run", &topics, &redis.url(), &serve);
    let producer = Producer::new(broker, Partitioner::Java);
    producer.put(&to_partition(0, events::opened(&topics, "mover", &["CZK"], Some("debtor"))));
    producer.put(&to_partition(0, events::booked(&topics, "mover", "e1", "-10", Some("debtor"))));
    producer.put(&to_partition(1, events::profile(&topics, "payer", "NAME", "5.0")));
    product.ready();
    compare::whole(broker, &topics, &redis.url());

    producer.put(&to_partition(1, events::booked(&topics, "mover", "e2", "-5", Some("debtor"))));
    producer.put(&to_partition(1, events::booked(&topics, "mover", "e3", "-5", Some("debtor"))));
    producer.put(&to_partition(0, events::settled(&topics, "payer", "p1", "9", "2026-03-01")));
    compare::whole(broker, &topics, &redis.url());
    // After the mark: the home goes on, and whoever comes to owe on the account is marked, too.
    producer.put(&to_partition(0, events::booked(&topics, "mover", "e4", "-1", Some("late"))));
    producer.put(&to_partition(1, events::booked(&topics, "stayer", "e1", "3", None)));
    producer.put(&to_partition(1, events::settled(&topics, "payer", "p2", "8", "2026-03-02")));
    let expected = compare::whole(broker, &topics, &redis.url());

    let moved: Vec<_> = expected
        .dead_letters
        .iter()
        .map(|((id, offset), letter)| (id.to_string(), *offset, letter.class))
        .collect();
    assert_eq!(moved, [("ledger/1".to_owned(), 0, "moved"), ("payment/0".to_owned(), 0, "moved")]);
    let account = http::account(product.views, "mover").expect("an answer");
    // 10 + 1: what came from the other partition is not in it, and that is told.
    assert!(account.body.contains("\"value\":11.00"), "{account:?}");
    for (who, answer) in [
        ("account", account),
        ("debtor", http::customer(product.views, "debtor").expect("an answer")),
        ("late", http::customer(product.views, "late").expect("an answer")),
        ("payer", http::customer(product.views, "payer").expect("an answer")),
    ] {
        assert_eq!(answer.status, 200, "{who}");
        assert!(answer.header("Projection-Incomplete-Since").is_some(), "{who}: {answer:?}");
    }
    let stayer = http::account(product.views, "stayer").expect("an answer");
    assert_eq!((stayer.status, stayer.header("Projection-Incomplete-Since")), (200, None));
    assert!(product.stop().success());

    let product = Product::start("run", &topics, &redis.url(), &refuse);
    product.ready();
    for answer in [
        http::account(product.views, "mover"),
        http::customer(product.views, "debtor"),
        http::customer(product.views, "late"),
        http::customer(product.views, "payer"),
    ] {
        assert_eq!(answer.expect("an answer").status, 503);
    }
    assert_eq!(http::account(product.views, "stayer").expect("an answer").status, 200);
    assert!(product.stop().success());

    let homes = compare::amendments(broker, &topics).homes.clone();
    let home = |topic, id| homes.get(&Subject::of_key(topic, id).expect("an id")).copied();
    assert_eq!((home(Topic::Ledger, "mover"), home(Topic::Payment, "payer")), (Some(0), Some(1)));
    assert_eq!(homes.len(), 2);
}

#[test]
fn homes_are_kept_by_a_store_that_is_filled_again() {
    let broker = kafka::shared();
    let topics = broker.topics(2);
    let redis = redis::Server::start();
    let producer = Producer::new(broker, Partitioner::Java);
    // Which partition is first is a race: both are in the log before anything is folded.
    let ids: Vec<String> = (0..40).map(|n| format!("account-{n}")).collect();
    for id in &ids {
        for partition in [0, 1] {
            let entry = format!("e{partition}");
            producer.send(&to_partition(partition, events::booked(&topics, id, &entry, "1", Some("debtor"))));
        }
    }
    producer.flush();
    let product = Product::start("run", &topics, &redis.url(), &Settings::default());
    product.ready();
    let first = compare::whole(broker, &topics, &redis.url());
    assert_eq!((first.cells.len(), first.dead_letters.len()), (40, 40));
    let homes = compare::amendments(broker, &topics).homes.clone();
    let recorded: BTreeSet<&str> = homes.keys().map(Subject::as_str).collect();
    assert_eq!(recorded, ids.iter().map(String::as_str).collect());
    assert!(product.stop().success());

    redis.command::<()>(&["FLUSHALL"]);
    let product = Product::start("run", &topics, &redis.url(), &Settings::default());
    product.ready();
    let again = compare::whole(broker, &topics, &redis.url());
    assert_eq!(again.cells, first.cells);
    assert_eq!(again.quarantines, first.quarantines);
    eventually(Duration::from_secs(5), || {
        let status = http::customer(product.views, "debtor").expect("an answer").status;
        if status == 503 { Ok(()) } else { Err(status) }
    });
}

#[test]
fn a_home_that_is_recorded_meanwhile_holds_without_a_restart() {
    let broker = kafka::shared();
    let topics = broker.topics(2);
    let redis = redis::Server::start();
    let producer = Producer::new(broker, Partitioner::Java);
    let product = Product::start("run", &topics, &redis.url(), &Settings::default());
    product.ready();
    // As the owner of another generation records it, which met the partitions in another order.
    let home = Decision::Home { topic: Topic::Ledger, subject: "mover".to_owned(), partition: 1, log: None };
    let value = serde_json::to_vec(&home).expect("JSON");
    producer.put(&Outgoing { topic: topics.decisions.clone(), value: Some(value), ..Outgoing::default() });
    // What is decided behind it is obeyed: so it is known.
    let decided = |words: &[&str]| {
        let told = product::command(&topics, &redis.url(), &[words, &["--yes", "--as", "jana"]].concat());
        assert!(told.status.success(), "{told:?}");
    };
    decided(&["pause", "--topic", "ledger"]);
    eventually(Duration::from_secs(10), || {
        let states = compare::dump(&redis.url()).states;
        let ledger = states.iter().filter(|(id, _)| id.topic == Topic::Ledger);
        if ledger.clone().all(|(_, state)| state.paused.is_some()) { Ok(()) } else { Err(()) }
    });
    decided(&["resume", "--topic", "ledger"]);

    producer.put(&to_partition(0, events::booked(&topics, "mover", "stray", "-5", None)));
    producer.put(&to_partition(1, events::booked(&topics, "mover", "e1", "-10", None)));
    let expected = compare::whole(broker, &topics, &redis.url());
    let moved = expected.dead_letters.iter().map(|((id, _), letter)| (id.to_string(), letter.class));
    assert_eq!(moved.collect::<Vec<_>>(), [("ledger/0".to_owned(), "moved")]);
    let homes: Vec<i32> = expected.cells.values().map(Cell::home).collect();
    assert_eq!(homes, [1]);
}

/// The mark of a stray record rests on its home's cell, which its home changes all the time.
#[test]
fn a_stray_record_of_a_busy_account_holds_up_nobody() {
    let broker = kafka::shared();
    let topics = broker.topics(2);
    let redis = redis::Server::start();
    let settings = Settings {
        projector: "workers = 2\nheartbeat_ms = 100\nbatch_records_max = 1\n".to_owned(),
        accounts: vec!["other".to_owned()],
        ..Settings::default()
    };
    let product = Product::start("run", &topics, &redis.url(), &settings);
    product.ready();
    let producer = Producer::new(broker, Partitioner::Java);
    producer.put(&to_partition(0, events::opened(&topics, "mover", &["CZK"], Some("debtor"))));
    compare::whole(broker, &topics, &redis.url());
    let busy = AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut entries = 0..;
            while busy.load(Ordering::Relaxed) {
                let entry = format!("e{}", entries.next().expect("numbers"));
                producer
                    .send(&to_partition(0, events::booked(&topics, "mover", &entry, "-1", Some("debtor"))));
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        std::thread::sleep(Duration::from_secs(1));
        for stray in ["s1", "s2"] {
            producer.put(&to_partition(1, events::booked(&topics, "mover", stray, "-1", None)));
        }
        producer.put(&to_partition(1, events::booked(&topics, "other", "e1", "-7", None)));
        eventually(Duration::from_secs(10), || {
            let answer = http::account(product.views, "other").expect("an answer");
            if answer.status == 200 { Ok(()) } else { Err(answer) }
        });
        busy.store(false, Ordering::Relaxed);
    });
    producer.flush();
    let scrape = http::get(product.admin, "/metrics", &[]).expect("an answer").body;
    let refused =
        |line: &&str| line.starts_with("balance_projector_commits_refused_total") && !line.ends_with(" 0");
    assert_eq!(scrape.lines().filter(refused).collect::<Vec<_>>(), Vec::<&str>::new());
    let expected = compare::whole(broker, &topics, &redis.url());
    let moved = expected.dead_letters.iter().map(|((id, at), letter)| (id.to_string(), *at, letter.class));
    assert_eq!(moved.collect::<Vec<_>>(), [("ledger/1".to_owned(), 0, "moved")]);
}
