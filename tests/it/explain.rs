//! A balance told event by event: what the log gives is what the store serves, and where it is not, that is said.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Output,
    time::Duration,
};

use balance_projector::{
    config,
    decisions::{self, Act, Decision, Patch, Remedy},
    domain::{Offset, PartitionId, Subject, Time, Topic},
    ops::{
        explain::{self, Cut, Explanation, Question, Served, Verdict},
        generate::Args,
    },
    source::{Cluster, scan::Scan},
    store::redis::RedisStore,
};
use serde_json::{Value, json};

use crate::support::{
    compare, events, eventually,
    kafka::{self, Topics},
    load, plant,
    produce::{Outgoing, Partitioner, Producer},
    product::{self, Product, Settings},
    redis,
};

fn kafka_settings(topics: &Topics) -> config::Kafka {
    config::Kafka {
        brokers: topics.brokers.clone(),
        group: topics.group.clone(),
        ledger_topic: topics.ledger.clone(),
        payment_topic: topics.payment.clone(),
        dead_letter_topic: topics.dead_letters.clone(),
        decisions_topic: topics.decisions.clone(),
        ..config::Kafka::default()
    }
}

/// Explains one subject after the other, with one consumer.
struct Explainer {
    cluster: Cluster,
    scan: Scan,
    decisions: decisions::Decisions,
    store: RedisStore,
    runtime: tokio::runtime::Runtime,
}

impl Explainer {
    fn new(topics: &Topics, redis_url: &str) -> Self {
        let cluster = Cluster::new(kafka_settings(topics));
        let settings = config::Redis { url: redis_url.to_owned(), ..config::Redis::default() };
        Explainer {
            scan: Scan::new(&cluster).expect("a consumer"),
            decisions: decisions::read(&cluster).expect("the decisions"),
            cluster,
            store: RedisStore::new(&settings).expect("a url"),
            runtime: tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime"),
        }
    }

    fn explain(&self, subject: &Subject, cut: Cut, whole: bool) -> anyhow::Result<Explanation> {
        let served = self.runtime.block_on(Served::read(&self.store, subject))?;
        let question = Question {
            subject: subject.clone(),
            currency: None,
            cut,
            last: 10_000,
            whole,
            now: Time::parse_rfc3339("2026-03-09T12:00:00Z").expect("an instant"),
        };
        explain::explain(&self.cluster, &self.scan, &self.decisions, &served, &question)
    }
}

fn account(id: &str) -> Subject {
    Subject::of_key(Topic::Ledger, id).expect("an id")
}

/// In ten-thousandths.
fn count(amount: &str) -> i128 {
    let (sign, digits) = amount.strip_prefix('-').map_or((1, amount), |digits| (-1, digits));
    let (integer, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    sign * format!("{integer}{fraction:0<4}").parse::<i128>().expect("an amount")
}

#[test]
fn every_subject_of_a_log_with_repeats_late_events_and_reversals_is_explained_as_it_is_served() {
    let broker = kafka::shared();
    let topics = broker.topics(3);
    let redis = redis::Server::start();
    let args = Args {
        events: 6_000,
        accounts: 60,
        customers: 25,
        duplicates: 8,
        late: 8,
        reversals: 10,
        closures: 1,
        history: 20,
        poison: 16,
        ..Args::default()
    };
    let producer = Producer::new(broker, Partitioner::Java);
    for record in load::records(&topics, &args) {
        producer.send(&record);
    }
    producer.flush();
    let project = Product::start("project", &topics, &redis.url(), &Settings::default());
    project.ready();
    let expected = compare::whole(broker, &topics, &redis.url());

    let mut subjects: BTreeSet<Subject> = expected.quarantines.keys().cloned().collect();
    subjects.extend(expected.cells.keys().cloned());
    assert!(subjects.len() > 80, "{}", subjects.len());

    let explainer = Explainer::new(&topics, &redis.url());
    let mut outcomes = BTreeSet::new();
    for subject in &subjects {
        let told = explainer.explain(subject, Cut::Served, false).expect("an explanation");
        assert_eq!((told.verdict, &told.differences), (Verdict::Agrees, &Vec::new()), "{told:#?}");
        // What is told adds up, currency by currency.
        for figure in told.figures.balances.iter().filter(|f| f.balance_type == ITBD) {
            let moves = told.records.iter().flat_map(|row| &row.moves);
            let sum: i128 = moves.filter(|m| m.currency == figure.currency).map(|m| count(&m.amount)).sum();
            assert_eq!(Some(sum), figure.amount.as_deref().map(count), "{} {told:#?}", figure.currency);
        }
        for due in &told.figures.dues {
            let rows = told.records.iter().filter(|row| row.account == due.account);
            let moves = rows.flat_map(|row| &row.moves).filter(|m| m.currency == due.currency);
            assert_eq!(moves.map(|m| count(&m.amount)).sum::<i128>(), count(&due.balance), "{told:#?}");
        }
        outcomes.extend(told.records.iter().map(|row| row.outcome));
    }
    let all = ["applied", "dead-letter", "duplicate", "waits"];
    assert_eq!(outcomes, all.into(), "the log holds every kind of record");
    assert!(project.stop().success());
}

const ITBD: balance_projector::domain::BalanceType = balance_projector::domain::BalanceType::Itbd;

/// 1 June 2026, 00:00 UTC.
const JUNE_MS: i64 = 1_780_272_000_000;
const HOUR_MS: i64 = 3_600_000;

/// The first records of a partition, each an hour after the one before.
fn hourly(producer: &Producer, records: Vec<Outgoing>) {
    for (hour, record) in (0..).zip(records) {
        let timestamp_ms = Some(JUNE_MS + hour * HOUR_MS);
        let (_, offset) = producer.put(&Outgoing { partition: Some(0), timestamp_ms, ..record });
        assert_eq!(offset, hour);
    }
}

fn run(topics: &Topics, redis: &redis::Server, arguments: &[&str]) -> Output {
    product::command(topics, &redis.url(), &[&["explain"], arguments].concat())
}

fn text(output: &Output) -> String {
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

#[track_caller]
fn agrees(output: &Output) -> String {
    let text = text(output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    text
}

/// An account whose figures are worked out by hand, hour by hour.
fn worked_out(topics: &Topics) -> Vec<Outgoing> {
    let entry = |kind: &str, data: Value| events::ledger(topics, kind, "A1", data);
    let stated = json!({ "currency": "CZK", "balance_type": "ITBD", "amount": "100.00",
                         "credit_debit_indicator": "CRDT", "as_of": "2026-02-28T00:00:00Z" });
    let pending =
        json!({ "entry_id": "p1", "amount": "10", "currency": "CZK", "credit_debit_indicator": "DBIT" });
    let line = json!({ "currency": "CZK", "amount": "1000", "included": true });
    let debit = events::booked(topics, "A1", "e1", "-30.25", Some("C1"));
    vec![
        events::opened(topics, "A1", &["CZK"], None),  // 00:00  0.00
        events::booked(topics, "A2", "e1", "7", None), // 01:00  another account's
        entry("balance.stated", stated),               // 02:00  100.00
        debit.clone(),                                 // 03:00  69.75
        entry("entry.pending", pending),               // 04:00  69.75, available 59.75
        debit,                                         // 05:00  a repeat
        events::booked(topics, "A1", "r1", "30.25", Some("C1")), // 06:00  100.00, available 90.00
        entry("credit_line.set", line),                // 07:00  available 1090.00
        entry("entry.released", json!({ "entry_id": "p1" })), // 08:00  available 1100.00
        Outgoing { value: None, ..events::booked(topics, "A1", "e2", "1", None) }, // 09:00  unreadable
        events::booked(topics, "A1", "e3", "1", None), // 10:00  waits
    ]
}

#[test]
fn a_balance_is_told_event_by_event_as_a_table_as_json_and_as_csv() {
    let broker = kafka::shared();
    let topics = broker.topics(1);
    let redis = redis::Server::start();
    hourly(&Producer::new(broker, Partitioner::Java), worked_out(&topics));
    let project = Product::start("project", &topics, &redis.url(), &Settings::default());
    project.ready();
    compare::whole(broker, &topics, &redis.url());

    let told: Value =
        serde_json::from_str(&agrees(&run(&topics, &redis, &["account", "A1", "--json"]))).unwrap();
    assert_eq!((&told["verdict"], &told["differences"]), (&json!("agrees"), &json!([])));
    let rows = told["records"].as_array().unwrap();
    let brief: Vec<_> = rows
        .iter()
        .map(|row| {
            let moved = &row["moves"][0];
            let word = |key: &str| moved[key].as_str().unwrap_or("").to_owned();
            let outcome = row["outcome"].as_str().unwrap();
            (row["offset"].as_i64().unwrap(), outcome, word("amount"), word("balance"), word("available"))
        })
        .collect();
    let row = |offset, outcome, amount: &str, balance: &str, available: &str| {
        (offset, outcome, amount.to_owned(), balance.to_owned(), available.to_owned())
    };
    let by_hand = [
        row(0, "applied", "0.00", "0.00", "0.00"),
        row(2, "applied", "100.00", "100.00", "100.00"),
        row(3, "applied", "-30.25", "69.75", "69.75"),
        row(4, "applied", "0.00", "69.75", "59.75"),
        row(5, "duplicate", "", "", ""),
        row(6, "applied", "30.25", "100.00", "90.00"),
        row(7, "applied", "0.00", "100.00", "1090.00"),
        row(8, "applied", "0.00", "100.00", "1100.00"),
        row(9, "dead-letter", "", "", ""),
        row(10, "waits", "", "", ""),
    ];
    assert_eq!(brief, by_hand);
    let debit = &rows[2];
    let keys = ["topic", "partition", "timestamp", "type", "reference", "date"].map(|key| &debit[key]);
    let ledger = json!(topics.ledger);
    let [zero, at, kind] = [json!(0), json!("2026-06-01T03:00:00.0Z"), json!("ledger.entry.booked.v1")];
    assert_eq!(keys, [&ledger, &zero, &at, &kind, &json!("e1"), &json!("2026-03-01")]);
    assert!(debit["event_id"].as_str().unwrap().starts_with("00000000-0000-4000-8000-"), "{debit}");
    assert_eq!(told["figures"]["on_hold"][0]["waiting"], 1);

    let table = agrees(&run(&topics, &redis, &["account", "A1"]));
    let line = |offset: i64| {
        let record = format!("{}/0@{offset} ", topics.ledger);
        table.lines().find(|line| line.starts_with(&record)).unwrap_or_else(|| panic!("{offset}: {table}"))
    };
    let debit: Vec<&str> = line(3).split_whitespace().collect();
    assert_eq!(&debit[4..10], ["ledger.entry.booked.v1", "CZK", "-30.25", "69.75", "69.75", "applied"]);
    assert!(line(9).contains("dead-letter") && line(9).contains("tombstone: "), "{}", line(9));
    assert!(line(10).ends_with("behind the dead letter at offset 9"), "{}", line(10));
    assert!(table.ends_with("agrees\n"), "{table}");

    let output = run(&topics, &redis, &["account", "A1", "--csv"]);
    // The verdict is no row: it is told beside them.
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(0) && told.ends_with("\nagrees\n"), "{told}");
    let on_hold = told.lines().filter(|line| line.starts_with("! ")).count();
    assert_eq!(on_hold, 1, "the dead letter at offset 9: {told}");
    let csv = String::from_utf8(output.stdout).expect("UTF-8");
    let lines: Vec<Vec<&str>> = csv.split("\r\n").map(|line| line.split(',').collect()).collect();
    assert_eq!(lines[0].len(), 17);
    assert_eq!(lines.len(), 1 + 10 + 1, "a header, ten records, and nothing behind the last");
    assert_eq!(&lines[3][11..16], ["CZK", "-30.25", "69.75", "69.75", "applied"]);

    // The last two figures, and what came before them as one.
    let told = agrees(&run(&topics, &redis, &["account", "A1", "--json", "--last", "5"]));
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["left_out"], 5);
    let opening = json!([{ "currency": "CZK", "balance": "69.75", "available": "59.75" }]);
    assert_eq!((&told["opening"], &told["records"][0]["offset"]), (&opening, &json!(6)));
    assert!(project.stop().success());
}

#[test]
fn what_would_have_been_answered_at_an_instant_or_at_a_position_is_told() {
    let broker = kafka::shared();
    let topics = broker.topics(1);
    let redis = redis::Server::start();
    hourly(&Producer::new(broker, Partitioner::Java), worked_out(&topics));
    let project = Product::start("project", &topics, &redis.url(), &Settings::default());
    project.ready();
    compare::whole(broker, &topics, &redis.url());
    let figures = |arguments: &[&str]| {
        let output = run(&topics, &redis, &[&["account", "A1", "--json"], arguments].concat());
        let told: Value = serde_json::from_str(&agrees(&output)).unwrap();
        let balances = told["figures"]["balances"].as_array().cloned().unwrap_or_default();
        let amounts: Vec<_> =
            balances.iter().map(|figure| figure["amount"].as_str().unwrap().to_owned()).collect();
        (amounts, told)
    };
    let position = |offset: i64| format!("{}/0@{offset}", topics.ledger);
    // PRCD, CLBD, ITBD, CLAV: all was booked for the first of March.
    let rows: [(&[&str], [&str; 4]); 6] = [
        (&["--as-of", "2026-06-01T00:30:00Z"], ["0.00", "0.00", "0.00", "0.00"]),
        (&["--as-of", "2026-06-01T02:59:59.999Z"], ["100.00", "100.00", "100.00", "100.00"]),
        (&["--as-of", "2026-06-01T06:00:00+02:00"], ["69.75", "69.75", "69.75", "59.75"]),
        (&["--at", &position(6)], ["100.00", "100.00", "100.00", "90.00"]),
        (&["--at", &position(1)], ["0.00", "0.00", "0.00", "0.00"]),
        (&["--as-of", "2030-01-01T00:00:00Z"], ["100.00", "100.00", "100.00", "1100.00"]),
    ];
    for (arguments, expected) in rows {
        let (amounts, told) = figures(arguments);
        assert_eq!(amounts, expected, "{arguments:?}: {told:#}");
    }
    // Before the dead letter nothing was on hold, and before the opening there was nothing.
    let (_, told) = figures(&["--at", &position(8)]);
    assert_eq!(told["figures"]["on_hold"], Value::Null);
    let (amounts, told) = figures(&["--as-of", "2026-05-31T00:00:00Z"]);
    assert_eq!((amounts.len(), &told["records"], &told["verdict"]), (0, &json!([]), &json!("agrees")));
    assert_eq!(told["notes"], json!(["nothing was known of the account"]));
    assert!(project.stop().success());
}

#[test]
fn a_cent_or_a_cell_that_the_store_has_otherwise_differs() {
    let broker = kafka::shared();
    let topics = broker.topics(1);
    let redis = redis::Server::start();
    let producer = Producer::new(broker, Partitioner::Java);
    for (id, amount) in [("B1", "100.00"), ("B2", "99.99"), ("B3", "5")] {
        producer.put(&events::opened(&topics, id, &["CZK"], None));
        producer.put(&events::booked(&topics, id, "e1", amount, None));
    }
    let project = Product::start("project", &topics, &redis.url(), &Settings::default());
    project.ready();
    compare::whole(broker, &topics, &redis.url());
    assert!(project.stop().success());

    let other: Vec<u8> = redis.command(&["GET", "{bp}:g1:a:B2"]);
    let mut connection = redis.connection();
    ::redis::cmd("SET").arg("{bp}:g1:a:B1").arg(other).query::<()>(&mut connection).unwrap();
    redis.command::<i64>(&["DEL", "{bp}:g1:a:B3"]);
    for (id, difference) in [
        ("B1", "CZK ITBD: 100.00 by the log, 99.99 in the store"),
        ("B3", "the log gives a balance, the store has none"),
    ] {
        let output = run(&topics, &redis, &["account", id]);
        let table = text(&output);
        assert!(table.contains(difference) && table.ends_with("differs\n"), "{table}");
        assert_eq!(output.status.code(), Some(1));
    }
    agrees(&run(&topics, &redis, &["account", "B2"]));
}

#[test]
fn an_account_that_opened_late_in_the_log_is_not_looked_for_before() {
    let broker = kafka::shared();
    let topics = broker.topics(1);
    let redis = redis::Server::start();
    let producer = Producer::new(broker, Partitioner::Java);
    // Opened in March 2026 by its time: what Kafka took in 2025 cannot be its.
    let old_ms = JUNE_MS - 365 * 24 * HOUR_MS;
    let before = (0..500).map(|n| Outgoing {
        timestamp_ms: Some(old_ms + n),
        value: None,
        ..events::booked(&topics, "old", "e1", "1", None)
    });
    for record in before {
        producer.send(&record);
    }
    producer.flush();
    let at =
        |record: Outgoing, hour: i64| Outgoing { timestamp_ms: Some(JUNE_MS + hour * HOUR_MS), ..record };
    producer.put(&at(events::opened(&topics, "new", &["CZK"], None), 0));
    // Known by an entry before it was opened: it begins with that.
    producer.put(&at(events::booked(&topics, "odd", "e0", "2", None), 0));
    producer.put(&at(events::opened(&topics, "odd", &["CZK"], None), 1));
    for id in ["new", "odd"] {
        producer.put(&at(events::booked(&topics, id, "e1", "1", None), 2));
    }
    let project = Product::start("project", &topics, &redis.url(), &Settings::default());
    project.ready();
    compare::whole(broker, &topics, &redis.url());

    let explainer = Explainer::new(&topics, &redis.url());
    let told = |id: &str, whole: bool| {
        let told = explainer.explain(&account(id), Cut::Served, whole).expect("an explanation");
        assert_eq!(told.verdict, Verdict::Agrees, "{told:#?}");
        (told.read[0].from, told.read[0].records, told.records.len())
    };
    assert_eq!(told("new", false), (500, 5, 2));
    assert_eq!(told("new", true), (0, 505, 2));
    assert_eq!(told("odd", false), (0, 505, 3));
    assert!(project.stop().success());
}

#[test]
fn what_cannot_be_explained_is_refused_with_the_reason() {
    let broker = kafka::shared();
    let topics = broker.topics(2);
    let redis = redis::Server::start();
    let fails = |arguments: &[&str], status: i32, words: &str| {
        let output = run(&topics, &redis, arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {errors}");
        assert!(errors.contains(words), "{arguments:?}: {errors}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    };
    fails(&["account", "A1"], 1, "no generation is active");
    let producer = Producer::new(broker, Partitioner::Java);
    producer.put(&Outgoing { partition: Some(0), ..events::opened(&topics, "A1", &["CZK"], None) });
    let project = Product::start("project", &topics, &redis.url(), &Settings::default());
    project.ready();
    compare::whole(broker, &topics, &redis.url());

    fails(&["account", "nobody"], 1, "account \"nobody\" is unknown: no record of");
    fails(&["account", "no/body"], 2, "the id is not 1 to 64 characters");
    fails(&["account", "A1", "--currency", "CZX"], 2, "\"CZX\" is no code of ISO 4217");
    fails(&["account", "A1", "--as-of", "Tuesday"], 2, "\"Tuesday\" is no instant of RFC 3339");
    fails(&["account", "A1", "--at", "elsewhere/0@1"], 2, "\"elsewhere/0@1\" is no record of");
    let at = |rest: &str| format!("{}/{rest}", topics.ledger);
    fails(&["account", "A1", "--at", &at("0@1")], 1, "is not in the projection yet");
    fails(&["account", "A1", "--at", &at("7@0")], 1, "is not part of generation 1");
    fails(&["account", "A1", "--json", "--csv"], 2, "cannot be used with");
    assert!(project.stop().success());
    // Nobody is answered from it, and cells may be ahead of their positions.
    plant::incomplete(&redis, 1, "payment/1");
    let unfinished =
        format!("generation 1 is not complete: {}/1 has not reached the log's end", topics.payment);
    fails(&["account", "A1"], 1, &unfinished);
}

#[test]
fn what_a_customer_owes_and_paid_is_told_account_by_account() {
    let broker = kafka::shared();
    let topics = broker.topics(1);
    let redis = redis::Server::start();
    let producer = Producer::new(broker, Partitioner::Java);
    let in_euros = json!({ "entry_id": "e2", "amount": "7", "currency": "EUR", "credit_debit_indicator": "DBIT",
                           "booking_date": "2026-03-01", "customer_id": "C3" });
    let in_euros = events::ledger(&topics, "entry.booked", "A3", in_euros);
    hourly(
        &producer,
        vec![
            events::opened(&topics, "A1", &["CZK"], Some("C1")),
            events::booked(&topics, "A1", "e1", "-30.25", Some("C1")), // 01:00  30.25
            events::booked(&topics, "A2", "e1", "-10", Some("C1")),    // 02:00  and 10.00
            events::booked(&topics, "A1", "e2", "5", Some("C1")),      // 03:00  25.25
            events::booked(&topics, "A2", "e2", "-400", Some("C2")),   // 04:00  another customer's
            events::booked(&topics, "A3", "e1", "-5", Some("C3")),     // 05:00  and one with two currencies
            in_euros,
        ],
    );
    hourly(
        &producer,
        vec![
            events::profile(&topics, "C1", "FAIRPOINT COMMUNICATIONS INC ", "5.0"),
            events::settled(&topics, "C1", "p1", "497.70", "2026-03-01"), // 01:00
            events::settled(&topics, "C1", "p2", "10", "2026-03-02"),     // 02:00
            events::payment(&topics, "payment.reversed", "C1", json!({ "payment_id": "p2" })), // 03:00
        ],
    );
    let project = Product::start("project", &topics, &redis.url(), &Settings::default());
    project.ready();
    compare::whole(broker, &topics, &redis.url());

    let told = |arguments: &[&str]| -> Value {
        let output = run(&topics, &redis, &[&["customer", "C1", "--json"], arguments].concat());
        serde_json::from_str(&agrees(&output)).unwrap()
    };
    let figures = |arguments: &[&str]| {
        let told = told(arguments);
        let figures = &told["figures"];
        let word = |value: &Value| value.as_str().unwrap_or("none").to_owned();
        let dues: Vec<_> = figures["dues"].as_array().into_iter().flatten().collect();
        let dues: Vec<_> =
            dues.iter().map(|due| format!("{} {}", word(&due["account"]), word(&due["balance"]))).collect();
        let paid = &figures["last_payment"];
        (word(&figures["total"]), dues.join(", "), word(&paid["amount"]), word(&paid["date"]))
    };
    let row = |total: &str, dues: &str, paid: &str, date: &str| {
        (total.to_owned(), dues.to_owned(), paid.to_owned(), date.to_owned())
    };
    let position = format!("{}/0@1", topics.ledger);
    assert_eq!(figures(&[]), row("35.25", "A1 25.25, A2 10.00", "497.7", "2026-03-01"));
    assert_eq!(
        figures(&["--as-of", "2026-06-01T02:30:00Z"]),
        row("40.25", "A1 30.25, A2 10.00", "10.0", "2026-03-02")
    );
    assert_eq!(figures(&["--at", &position]), row("30.25", "A1 30.25", "497.7", "2026-03-01"));
    assert_eq!(figures(&["--as-of", "2026-06-01T00:00:00Z"]), row("0.0", "", "none", "none"));
    // No total says more than the dues that are shown, nor is there one of several currencies.
    assert_eq!(figures(&["--currency", "CZK"]), figures(&[]));
    assert_eq!(figures(&["--currency", "EUR"]), row("none", "", "497.7", "2026-03-01"));
    let euros = agrees(&run(&topics, &redis, &["customer", "C3", "--json", "--currency", "EUR"]));
    let euros: Value = serde_json::from_str(&euros).unwrap();
    let due = json!([{ "account": "A3", "currency": "EUR", "balance": "7.00" }]);
    assert_eq!((&euros["figures"]["dues"], &euros["figures"]["total"]), (&due, &Value::Null), "{euros:#}");

    let all = told(&[]);
    let rows: Vec<_> = all["records"].as_array().unwrap().iter().collect();
    let places: Vec<_> =
        rows.iter().map(|row| (row["account"].as_str(), row["offset"].as_i64().unwrap())).collect();
    let own = (0..4).map(|offset| (None, offset));
    let dues = [(Some("A1"), 0), (Some("A1"), 1), (Some("A1"), 3), (Some("A2"), 2)];
    assert_eq!(places, own.chain(dues).collect::<Vec<_>>());
    assert_eq!(rows[3]["last_payment"], json!({ "amount": "497.7", "date": "2026-03-01" }));
    assert_eq!(rows[6]["moves"], json!([{ "currency": "CZK", "amount": "-5.00", "balance": "25.25" }]));

    let table = agrees(&run(&topics, &redis, &["customer", "C1"]));
    for words in ["due on A1", "the last payment is 10.0 of 2026-03-02", "FAIRPOINT COMMUNICATIONS INC"] {
        assert!(table.contains(words), "{words}: {table}");
    }
    // An account of the customer's that the store forgot is found in the ledger all the same.
    redis.command::<i64>(&["HDEL", "{bp}:g1:d:C1", "A2"]);
    let output = run(&topics, &redis, &["customer", "C1"]);
    let table = text(&output);
    assert!(
        table.contains("account A2: due of the customer: 10.00 CZK by the log, none in the store"),
        "{table}"
    );
    assert_eq!(output.status.code(), Some(1));

    let output = run(&topics, &redis, &["customer", "C9"]);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("customer \"C9\" is unknown"), "{errors}");
    assert_eq!(output.status.code(), Some(1));
    assert!(project.stop().success());
}

#[test]
fn a_decision_to_which_the_owner_has_not_come_is_told() {
    let broker = kafka::shared();
    let topics = broker.topics(1);
    let redis = redis::Server::start();
    let producer = Producer::new(broker, Partitioner::Java);
    producer.put(&events::booked(&topics, "A1", "e1", "1", None));
    let unreadable = Outgoing { value: None, ..events::booked(&topics, "A1", "e2", "1", None) };
    let (_, offset) = producer.put(&unreadable);
    let project = Product::start("project", &topics, &redis.url(), &Settings::default());
    project.ready();
    compare::whole(broker, &topics, &redis.url());
    assert!(project.stop().success());

    let decide = |remedy: Remedy| {
        let partition = PartitionId { topic: Topic::Ledger, partition: 0 };
        let act = Act { who: "jana".to_owned(), at: Time::from_millis(0), why: String::new() };
        let (offset, key) = (Offset(offset), Some("A1".to_owned()));
        let patch = Decision::Patch(Patch { partition, offset, key, remedy, log: None, act });
        let (topic, value) = (topics.decisions.clone(), serde_json::to_vec(&patch).unwrap());
        producer.put(&Outgoing { topic, value: Some(value), ..Outgoing::default() });
        agrees(&run(&topics, &redis, &["account", "A1"]))
    };
    // Tried again, it is as unreadable as before.
    let table = decide(Remedy::Retry);
    assert!(table.contains("with 0 waiting: decide on it"), "{table}");
    let table = decide(Remedy::Skip);
    let note =
        "a decision of jana about it is recorded (skip); the owner of the partition has not come to it";
    assert!(table.contains(note) && !table.contains("decide on it"), "{table}");
    let told = agrees(&run(&topics, &redis, &["account", "A1", "--json"]));
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["figures"]["on_hold"][0]["decision"]["remedy"], "skip", "{told:#}");
}

#[test]
fn a_gap_that_has_closed_while_its_owner_stands_still_is_told_and_is_no_difference() {
    let broker = kafka::shared();
    let topics = broker.topics(1);
    let redis = redis::Server::start();
    let producer = Producer::new(broker, Partitioner::Java);
    let put = |number: u64| producer.put(&events::numbered(&topics, "gap", number, "1", None));
    put(1);
    put(3);
    let project = Product::start("project", &topics, &redis.url(), &Settings::default());
    project.ready();
    compare::whole(broker, &topics, &redis.url());
    let (cell_key, mark_key) = (plant::account(1, "gap"), "{bp}:g1:qa:gap");
    let marks = || redis.command::<BTreeMap<String, String>>(&["HGETALL", mark_key]);
    let (partition, mark) = marks().into_iter().next().expect("a mark");
    let cell: Vec<u8> = redis.command(&["GET", &cell_key]);
    put(2);
    eventually(Duration::from_secs(60), || if marks().is_empty() { Ok(()) } else { Err(marks()) });
    assert!(project.stop().success());

    // As an owner leaves it that stands still since it saw the gap close.
    let mut set = ::redis::cmd("SET");
    set.arg(cell_key).arg(cell).query::<()>(&mut redis.connection()).unwrap();
    let mut mark: Value = serde_json::from_str(&mark).unwrap();
    mark["waiting"] = 1.into();
    mark["heals"] = true.into();
    redis.command::<()>(&["HSET", mark_key, &partition, &mark.to_string()]);
    let table = agrees(&run(&topics, &redis, &["account", "gap"]));
    assert!(table.contains("with 1 waiting: what it waits for may have come"), "{table}");
    // One that did not see it has missed something.
    mark["heals"] = false.into();
    redis.command::<()>(&["HSET", mark_key, &partition, &mark.to_string()]);
    let output = run(&topics, &redis, &["account", "gap"]);
    assert!(text(&output).ends_with("differs\n") && output.status.code() == Some(1), "{output:?}");
}
