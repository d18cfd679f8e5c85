//! Records that cannot be applied: each is set aside with its class, holds back its own key and no other, and
//! whoever reads a figure that it belongs to is told.

use std::{collections::BTreeMap, time::Duration};

use balance_projector::domain::{Class, PartitionId, Topic};
use serde_json::{Value, json};

use crate::support::{
    compare, events, eventually, http,
    kafka::{self, Topics},
    process::Signal,
    produce::{Outgoing, Partitioner, Producer},
    product::{self, Product, Settings},
    raw, redis,
};

/// Stands in names, ids and amounts, and may stand nowhere in the log.
const SECRET: &str = "77312";

const MIB: usize = 1 << 20;

fn account(class: &str) -> String {
    format!("account-{SECRET}-{class}")
}

fn customer(class: &str) -> String {
    format!("customer-{SECRET}-{class}")
}

fn in_first(record: Outgoing) -> Outgoing {
    Outgoing { partition: Some(0), ..record }
}

/// A booked entry of the account of this class.
fn booked(topics: &Topics, class: &str, entry: &str, amount: &str) -> Outgoing {
    in_first(events::booked(topics, &account(class), entry, amount, Some(&customer(class))))
}

/// The same record with another event in it.
fn with_event(record: Outgoing, change: impl FnOnce(&mut Value)) -> Outgoing {
    let mut event = serde_json::from_slice(record.value.as_deref().expect("a value")).expect("JSON");
    change(&mut event);
    Outgoing { value: Some(event.to_string().into_bytes()), ..record }
}

/// The same record with a text in its event replaced.
fn with_text(record: Outgoing, from: &str, to: &str) -> Outgoing {
    let text = String::from_utf8(record.value.expect("a value")).expect("UTF-8");
    assert!(text.contains(from), "{text}");
    Outgoing { value: Some(text.replacen(from, to, 1).into_bytes()), ..record }
}

/// What comes before the poison of a class, and the poison.
fn poison(topics: &Topics, class: Class) -> (Vec<Outgoing>, Outgoing) {
    let name = class.name();
    let record = || booked(topics, name, "poison", &format!("{SECRET}.45"));
    let after = |before: Vec<Outgoing>, poison| (before, poison);
    let alone = |poison| (Vec::new(), poison);
    match class {
        Class::Tombstone => alone(Outgoing { value: None, ..record() }),
        Class::TooLarge => {
            let filler = "x".repeat(5 * MIB);
            alone(with_event(record(), |event| event["data"]["note"] = filler.into()))
        }
        Class::NoKey => alone(Outgoing { key: None, ..record() }),
        Class::BadKey => alone(Outgoing { key: Some(format!("{SECRET} {name}").into_bytes()), ..record() }),
        Class::BadHeader => {
            let mut poison = record();
            poison.headers.push(("ce_type".to_owned(), Some(vec![b'a', 0xff])));
            alone(poison)
        }
        Class::NotUtf8 => {
            let mut poison = record();
            poison.value.as_mut().expect("a value").push(0xff);
            alone(poison)
        }
        Class::TooDeep => {
            let deep = format!("{}{}", "[".repeat(64), "]".repeat(64));
            alone(with_text(record(), "\"data\":{", &format!("\"data\":{{\"note\":{deep},")))
        }
        Class::NotJson => alone(with_text(record(), "\"data\":", "\"data\";")),
        Class::DuplicateMember => alone(with_text(record(), "\"data\":{", "\"data\":{\"currency\":\"CZK\",")),
        Class::NotCloudevents => alone(Outgoing { headers: Vec::new(), ..record() }),
        Class::UnknownType => alone(with_text(record(), "booked.v1", "booked.v9")),
        Class::WrongTopic => {
            let id = account(name);
            let payment = events::settled(topics, &id, "p1", SECRET, "2026-03-01");
            alone(in_first(Outgoing { topic: topics.ledger.clone(), ..payment }))
        }
        Class::KeyNotSubject => alone(with_event(record(), |event| event["subject"] = "another".into())),
        Class::MissingField => {
            alone(with_event(record(), |event| event["data"]["booking_date"] = Value::Null))
        }
        Class::BadField => alone(with_event(record(), |event| event["data"]["booking_date"] = SECRET.into())),
        Class::BadAmount => {
            alone(with_event(record(), |event| event["data"]["amount"] = format!("{SECRET}e1").into()))
        }
        Class::UnknownCurrency => {
            alone(with_event(record(), |event| event["data"]["currency"] = "XXQ".into()))
        }
        Class::Moved => alone(Outgoing { partition: Some(1), ..record() }),
        Class::SequenceGap => alone(with_event(record(), |event| event["sequence"] = "2".into())),
        Class::Conflict => {
            let first = record();
            let second = with_event(first.clone(), |event| event["data"]["amount"] = "1".into());
            after(vec![first], second)
        }
        Class::Unverifiable => {
            // The oldest time of all, and too many since for its id to be remembered.
            let poison = record();
            let since = (0..40).map(|n| booked(topics, name, &format!("e{n}"), "1"));
            after(since.collect(), poison)
        }
        Class::Overflow => {
            let most = "9".repeat(15);
            let entries = (0..1_000).map(|n| booked(topics, name, &format!("e{n}"), &most));
            after(entries.collect(), booked(topics, name, "poison", &most))
        }
        Class::CellFull => {
            let currencies: Vec<&str> =
                "AED AUD BRL CAD CHF CNY DKK EUR GBP HKD HUF ILS INR JPY KRW NOK PLN".split(' ').collect();
            alone(in_first(events::opened(topics, &account(name), &currencies, None)))
        }
    }
}

fn settings() -> Settings {
    let mut accounts: Vec<String> = Class::ALL.iter().map(|class| account(class.name())).collect();
    accounts.push(account("healthy"));
    Settings {
        api: "max_staleness_ms = 5000\nbalance_types = [\"ITBD\"]\n".to_owned(),
        accounts,
        ..Settings::default()
    }
}

/// A counter or gauge by its whole name with labels, as the exposition writes it.
fn metric(product: &Product, name: &str) -> Option<u64> {
    let text = http::get(product.admin, "/metrics", &[]).expect("metrics").body;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    Some(line.parse().expect("a number"))
}

/// The most memory that the process ever held.
fn peak_bytes(product: &Product) -> usize {
    let path = format!("/proc/{}/status", product.process.id());
    let text = std::fs::read_to_string(path).expect("the process's status");
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
    line.trim().strip_suffix(" kB").expect("in kB").parse::<usize>().expect("a number") * 1024
}

/// The log holds nothing that is nobody's business, and no thread has panicked.
#[track_caller]
fn is_discreet(log: &str) {
    assert!(log.contains("dead letter"), "the log tells of dead letters: {log}");
    for word in [SECRET, "panicked"] {
        assert!(!log.contains(word), "`{word}` is in the log: {log}");
    }
}

#[test]
fn every_class_is_set_aside_and_holds_back_its_own_key_alone() {
    let broker = kafka::shared();
    let topics = broker.topics(2);
    broker.configure_topic(&topics.ledger, &[("max.message.bytes", "16000000")]);
    let redis = redis::Server::start();
    let product = Product::start("run", &topics, &redis.url(), &settings());
    let producer = Producer::new(broker, Partitioner::Java);

    // Somebody owes on every account, be it nothing, before anything goes wrong.
    for class in Class::ALL {
        let (account, customer) = (account(class.name()), customer(class.name()));
        producer.send(&in_first(events::opened(&topics, &account, &["CZK"], Some(&customer))));
    }
    // Where a subject is folded first is where it lives.
    producer.flush();
    compare::whole(broker, &topics, &redis.url());
    let mut wanted = BTreeMap::new();
    for class in Class::ALL {
        let (before, poison) = poison(&topics, class);
        for record in &before {
            producer.send(record);
        }
        let mut poison = poison;
        poison.headers.push(("trace".to_owned(), Some(vec![0xff, 0])));
        poison.headers.push(("empty".to_owned(), None));
        let (partition, offset) = producer.put(&poison);
        wanted.insert((PartitionId { topic: Topic::Ledger, partition }, offset), (class, poison));
        // Two more of the key behind it, where it went wrong; and one of another key.
        for entry in ["later", "latest"] {
            let later = booked(&topics, class.name(), entry, "1");
            producer.send(&Outgoing { partition: Some(partition), ..later });
        }
        producer.send(&booked(&topics, "healthy", class.name(), "1"));
    }
    producer.flush();
    product.ready();
    let expected = compare::whole(broker, &topics, &redis.url());

    let found = compare::dead_letters(broker, &topics);
    let classes: Vec<_> = found.iter().map(|(at, letter)| (*at, letter.class)).collect();
    assert_eq!(classes, wanted.iter().map(|(at, (class, _))| (*at, class.name())).collect::<Vec<_>>());
    for (at, (class, poison)) in &wanted {
        let letter = &found[at];
        assert_eq!((&letter.key, &letter.headers), (&poison.key, &poison.headers), "{class}");
        let value = if *class == Class::TooLarge { &None } else { &poison.value };
        assert!(letter.value == *value, "{class}: another value");
        assert!(letter.message.len() > 10 && !letter.message.contains(SECRET), "{class}: {}", letter.message);
    }

    let healthy = http::account(product.views, &account("healthy")).expect("an answer");
    // One entry of 1 behind each poison.
    assert!(healthy.body.contains(&format!("\"value\":{}.00", Class::ALL.len())), "{healthy:?}");
    for class in Class::ALL {
        let name = class.name();
        // Without a key nobody can be told, and nothing waits.
        let told = !matches!(class, Class::NoKey | Class::BadKey);
        let status = if told { 503 } else { 200 };
        let account = http::account(product.views, &account(name)).expect("an answer");
        let customer = http::customer(product.views, &customer(name)).expect("an answer");
        assert_eq!((account.status, customer.status), (status, status), "{class}");
        let count = |metric_name: &str| {
            metric(&product, &format!("balance_projector_{metric_name}{{class=\"{name}\"}}"))
        };
        assert_eq!(count("dead_letters_total"), Some(1), "{class}");
        assert_eq!(count("dead_letters_without_key_total"), Some(u64::from(!told)), "{class}");
    }
    let keys: usize = expected.quarantines.values().map(BTreeMap::len).sum();
    let waiting: u64 =
        expected.quarantines.values().flat_map(BTreeMap::values).map(|held| held.waiting).sum();
    assert_eq!((keys, waiting), (Class::ALL.len() - 2, 2 * (Class::ALL.len() as u64 - 2)));
    let status = product::command(&topics, &redis.url(), &["status", "--json", "--keys", "100"]);
    assert_eq!(status.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert_eq!(report["quarantined_keys"], json!(keys));
    let rows = report["quarantined"].as_array().expect("rows");
    assert_eq!(rows.len(), keys);
    assert!(rows.iter().all(|row| row["waiting"] == 2), "{rows:?}");

    let peak = peak_bytes(&product);
    assert!(peak < 256 * MIB, "{} MiB", peak / MIB);
    is_discreet(&product.process.log());
    assert!(product.stop().success());
}

#[test]
fn a_customers_own_poison_holds_back_the_customer_and_says_since_when() {
    let broker = kafka::shared();
    let topics = broker.topics(1);
    let redis = redis::Server::start();
    let serve = Settings { api: "on_quarantine = \"serve\"\n".to_owned(), ..settings() };
    let product = Product::start("run", &topics, &redis.url(), &serve);
    let producer = Producer::new(broker, Partitioner::Java);
    let payer = customer("payer");
    producer.put(&events::profile(&topics, &payer, &format!("NAME {SECRET}"), "5.0"));
    producer.put(&events::settled(&topics, &payer, "p1", "10", "2026-03-01"));
    let poison = with_text(events::settled(&topics, &payer, "p2", SECRET, "2026-03-02"), "CZK", "XXQ");
    // 2026-06-01T00:00:00Z
    producer.put(&Outgoing { timestamp_ms: Some(1_780_272_000_000), ..poison });
    producer.put(&events::settled(&topics, &payer, "p3", "30", "2026-03-03"));
    // Nothing is known of this one but its poison: it is not absent, and there is no figure.
    let unknown = customer("unknown");
    producer.put(&Outgoing { value: None, ..events::profile(&topics, &unknown, "NAME", "5.0") });
    producer.put(&events::settled(&topics, &customer("other"), "p4", "7", "2026-03-03"));
    product.ready();
    compare::whole(broker, &topics, &redis.url());

    let answer = http::customer(product.views, &payer).expect("an answer");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["last_payment_amount"], "10.0");
    let since = answer.header("Projection-Incomplete-Since").expect("it is told");
    assert!(since.starts_with("2026-06-01T00:00:00"), "{since}");
    assert_eq!(http::customer(product.views, &unknown).expect("an answer").status, 503);
    let other = http::customer(product.views, &customer("other")).expect("an answer");
    assert_eq!((other.status, other.header("Projection-Incomplete-Since")), (200, None));
    is_discreet(&product.process.log());
}

/// Bytes that no codec makes smaller, none of them at home in an id.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8 | 0x80
    };
    (0..bytes).map(|_| next()).collect()
}

#[test]
fn what_does_not_fit_the_dead_letter_topic_is_left_out_and_delays_nobody() {
    let broker = kafka::shared();
    let topics = broker.topics(1);
    broker.create_topic(&topics.dead_letters, 1, &[("max.message.bytes", "200000")]);
    let redis = redis::Server::start();
    let product = Product::start("run", &topics, &redis.url(), &settings());
    let producer = Producer::new(broker, Partitioner::Java);
    let record = |entry: &str| booked(&topics, "large", entry, "1");
    let large_header = vec![("note".to_owned(), Some(noise(300_000)))];
    let rows = [
        (Outgoing { value: Some(noise(300_000)), ..record("value") }, "not-utf-8", [true, false, true]),
        (
            Outgoing { key: Some(b"k2".to_vec()), headers: large_header, ..record("header") },
            "not-cloudevents",
            [true, false, false],
        ),
        (Outgoing { key: Some(noise(300_000)), ..record("key") }, "bad-key", [false, false, false]),
    ];
    let mut wanted = Vec::new();
    for (poison, class, kept) in &rows {
        producer.put(poison);
        producer.put(&booked(&topics, "healthy", class, "1"));
        wanted.push((*class, *kept));
    }
    compare::whole(broker, &topics, &redis.url());
    let found = compare::dead_letters(broker, &topics);
    let found: Vec<_> = found
        .values()
        .map(|letter| {
            (letter.class, [letter.key.is_some(), letter.value.is_some(), !letter.headers.is_empty()])
        })
        .collect();
    assert_eq!(found, wanted);
    product.ready();
    let healthy = http::account(product.views, &account("healthy")).expect("an answer");
    assert!(healthy.body.contains("\"value\":3.00"), "{healthy:?}");
    is_discreet(&product.process.log());
}

#[test]
fn a_header_whose_name_is_no_text_is_none_of_ours() {
    let broker = kafka::shared();
    let topics = broker.topics(1);
    let redis = redis::Server::start();
    let product = Product::start("run", &topics, &redis.url(), &settings());
    // 2026-06-01T00:00:00Z
    let stamped = |record| Outgoing { timestamp_ms: Some(1_780_272_000_000), ..record };
    let event = stamped(booked(&topics, "healthy", "e1", "1"));
    assert_eq!(raw::put(broker, &event, b"caf\xe9"), 0);
    assert_eq!(raw::put(broker, &stamped(booked(&topics, "healthy", "e2", "2")), b"ce_\xff"), 1);
    // Neither is what makes this one a dead letter.
    raw::put(broker, &Outgoing { value: None, ..stamped(booked(&topics, "other", "e3", "4")) }, b"\xff");
    product.ready();
    // The client that the comparison reads with panics at such a name: what is right is told by hand.
    let contents = eventually(Duration::from_secs(20), || {
        let contents = compare::dump(&redis.url());
        let next = contents.positions[&PartitionId { topic: Topic::Ledger, partition: 0 }].checkpoint.next;
        if next.0 == 3 { Ok(contents) } else { Err(next) }
    });
    assert_eq!((contents.cells.len(), contents.quarantines.len()), (1, 1));
    let healthy = http::account(product.views, &account("healthy")).expect("an answer");
    assert!(healthy.body.contains("\"value\":3.00"), "{healthy:?}");
    is_discreet(&product.process.log());
}

#[test]
fn too_many_new_poisoned_keys_in_a_minute_halt_the_partition() {
    let broker = kafka::shared();
    let topics = broker.topics(2);
    let redis = redis::Server::start();
    let settings = Settings {
        projector: "workers = 2\nheartbeat_ms = 100\npoison_keys_max = 3\n".to_owned(),
        accounts: vec!["b".to_owned()],
        ..Settings::default()
    };
    let product = Product::start("run", &topics, &redis.url(), &settings);
    let producer = Producer::new(broker, Partitioner::Java);
    let tombstone =
        |key: &str| in_first(Outgoing { value: None, ..events::booked(&topics, key, "e", "1", None) });
    // Keyless ones and repeats are no new keys.
    producer.put(&Outgoing { key: None, ..tombstone("none") });
    for key in ["k1", "k2", "k1", "k3", "k2"] {
        producer.put(&tombstone(key));
    }
    compare::whole(broker, &topics, &redis.url());
    product.ready();
    let (_, fourth) = producer.put(&tombstone("k4"));
    let after = in_first(events::booked(&topics, "a", "e1", "1", None));
    producer.put(&after);
    let partition = format!("{}/0", topics.ledger);
    product.halts(&topics, &redis.url(), &[&partition, "more than 3 new keys", &format!("offset {fourth}")]);
    // The other partition goes on, and nothing of this one was passed over.
    producer.put(&Outgoing { partition: Some(1), ..events::booked(&topics, "b", "e1", "1", None) });
    eventually(Duration::from_secs(10), || {
        let status = http::account(product.views, "b").expect("an answer").status;
        // Its own partition is fresh: a halted one is no reason to refuse an account of another.
        if status == 200 { Ok(()) } else { Err(status) }
    });
    let log = compare::Log::read(broker, &topics);
    let expected = compare::up_to_the_checkpoints(broker, &topics, &log, &redis.url());
    assert_eq!(expected.dead_letters.len(), 4);
    assert!(product.stop().success());

    // A person restarts it: what was set aside stays so, and the next ones are counted anew.
    let product = Product::start("run", &topics, &redis.url(), &settings);
    product.ready();
    let expected = compare::whole(broker, &topics, &redis.url());
    assert_eq!(expected.dead_letters.len(), 5);
    product.process.signal(Signal::Term);
}

/// What came in over months is met within a second by whoever folds the log for the first time, or again.
#[test]
fn keys_that_were_poisoned_over_days_are_no_reason_to_halt() {
    let broker = kafka::shared();
    let topics = broker.topics(1);
    let redis = redis::Server::start();
    let settings = Settings {
        projector: "workers = 2\nheartbeat_ms = 100\npoison_keys_max = 3\n".to_owned(),
        ..Settings::default()
    };
    let producer = Producer::new(broker, Partitioner::Java);
    for day in 1..=10 {
        let tombstone =
            Outgoing { value: None, ..events::booked(&topics, &format!("k{day}"), "e", "1", None) };
        let written = 1_767_225_600_000 + day * 86_400_000;
        producer.send(&in_first(Outgoing { timestamp_ms: Some(written), ..tombstone }));
    }
    producer.flush();
    let product = Product::start("run", &topics, &redis.url(), &settings);
    product.ready();
    let first = compare::whole(broker, &topics, &redis.url());
    assert_eq!(first.quarantines.len(), 10);
    redis.command::<()>(&["FLUSHALL"]);
    product.ready();
    let again = compare::whole(broker, &topics, &redis.url());
    assert_eq!(again.quarantines, first.quarantines);
}

/// No reader can be told of it: whoever asks whether all is well must be.
#[test]
fn a_record_without_a_key_needs_a_person_until_one_has_decided() {
    let broker = kafka::shared();
    let topics = broker.topics(1);
    let redis = redis::Server::start();
    let product = Product::start("run", &topics, &redis.url(), &Settings::default());
    let producer = Producer::new(broker, Partitioner::Java);
    producer.put(&in_first(Outgoing { key: None, ..events::booked(&topics, "a", "e1", "1", None) }));
    compare::whole(broker, &topics, &redis.url());
    product.ready();
    let asked = |words: &[&str]| product::command(&topics, &redis.url(), words);
    let told = asked(&["status"]);
    assert_eq!(told.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&told.stdout).contains("1 dead letter names nobody"), "{told:?}");
    let place = format!("{}/0@0", topics.ledger);
    let skip = |place: &str| {
        asked(&[
            "redrive",
            "--at",
            place,
            "--skip",
            "--reason",
            "told the publisher",
            "--yes",
            "--as",
            "jana",
        ])
    };
    assert_eq!(skip(&place).status.code(), Some(0));
    assert_eq!(asked(&["status"]).status.code(), Some(0));

    // So too once retention has removed it: nobody's key has to be folded again.
    producer.put(&in_first(Outgoing { key: None, ..events::booked(&topics, "a", "e2", "1", None) }));
    compare::whole(broker, &topics, &redis.url());
    broker.delete_records_before(&topics.ledger, 0, 2);
    assert_eq!(asked(&["status"]).status.code(), Some(1));
    let skipped = skip(&format!("{}/0@1", topics.ledger));
    assert_eq!(skipped.status.code(), Some(0), "{skipped:?}");
    assert_eq!(asked(&["status"]).status.code(), Some(0));
}
