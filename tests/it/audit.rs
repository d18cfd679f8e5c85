//! The audit: every balance recomputed from the log and compared with what is served, while both go on.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use balance_projector::ops::generate::Args;
use serde_json::{Value, json};

use crate::support::{
    events, eventually, http,
    kafka::{self, Topics},
    load::Load,
    plant,
    produce::{Partitioner, Producer},
    product::{self, Product, Settings},
    redis,
};

/// An audit's exit status and report.
#[track_caller]
fn audit(topics: &Topics, redis: &redis::Server, arguments: &[&str]) -> (Option<i32>, Value) {
    let arguments = [&["audit", "--json"], arguments].concat();
    let output = product::command(topics, &redis.url(), &arguments);
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    (output.status.code(), report)
}

/// The differences as (subject, id, kind).
fn found(report: &Value) -> BTreeSet<(String, String, String)> {
    let text = |difference: &Value, name: &str| difference[name].as_str().expect("text").to_owned();
    let first = report["first"].as_array().expect("differences");
    first.iter().map(|d| (text(d, "subject"), text(d, "id"), text(d, "kind"))).collect()
}

fn three(rows: [(&str, &str, &str); 3]) -> BTreeSet<(String, String, String)> {
    rows.into_iter().map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())).collect()
}

/// Idle subjects: 123 456.78 on each account, and a customer who owes 0 there and has paid.
fn idle(topics: &Topics, producer: &Producer) {
    for account in ["idle-1", "idle-2", "idle-3"] {
        producer.send(&events::opened(topics, account, &["CZK"], Some("idle-c")));
        producer.send(&events::booked(topics, account, &format!("{account}-e"), "123456.78", None));
    }
    producer.send(&events::settled(topics, "idle-c", "p1", "20", "2026-02-01"));
    producer.flush();
}

#[test]
fn an_audit_finds_a_planted_cent_a_missing_cell_and_an_extra_one_under_load_and_nothing_else() {
    let broker = kafka::shared();
    let topics = broker.topics(2);
    let redis = redis::Server::start();
    let producer = Producer::new(broker, Partitioner::Librdkafka);
    idle(&topics, &producer);
    let product = Product::start("run", &topics, &redis.url(), &Settings::default());
    product.ready();
    let args = Args {
        events: 10_000_000,
        accounts: 3_000,
        customers: 200,
        history: 2,
        poison: 20_000,
        seed: 41,
        prefix: "busy-".to_owned(),
        ..Args::default()
    };
    let load = Load::start(broker, &topics, &args, 1_500);
    std::thread::sleep(Duration::from_secs(2));

    let (status, report) = audit(&topics, &redis, &[]);
    assert_eq!((status, &report["verdict"]), (Some(0), &json!("agrees")), "{report:#}");
    let partitions = report["partitions"].as_array().unwrap();
    assert_eq!(partitions.len(), 4);
    assert!(partitions.iter().all(|partition| partition["verdict"] == "agrees"), "{report:#}");
    assert!(report["cells"].as_u64().unwrap() > 4, "{report:#}");

    plant::amount(&redis, &plant::account(1, "idle-1"), 12_345_678, 12_345_679);
    redis.command::<()>(&["DEL", &plant::customer(1, "idle-c")]);
    redis.command::<()>(&["COPY", &plant::account(1, "idle-3"), &plant::account(1, "nobody")]);
    let planted = three([
        ("account", "idle-1", "balance"),
        ("customer", "idle-c", "missing"),
        ("account", "nobody", "extra"),
    ]);
    // Little memory: several passes over each partition.
    for arguments in [&[][..], &["--memory", "1"]] {
        let (status, report) = audit(&topics, &redis, arguments);
        assert_eq!((status, &report["verdict"]), (Some(1), &json!("differs")), "{report:#}");
        assert_eq!(found(&report), planted, "{report:#}");
        let counted =
            report["partitions"].as_array().unwrap().iter().map(|p| p["differences"].as_u64().unwrap());
        assert_eq!(counted.sum::<u64>(), 3, "{report:#}");
    }
    let (_, report) = audit(&topics, &redis, &[]);
    let cent = report["first"].as_array().unwrap().iter().find(|d| d["kind"] == "balance").unwrap();
    assert_eq!(
        cent["fields"],
        json!([{ "field": "CZK booked 2026-03-01", "projection": "123456.79", "log": "123456.78" }])
    );
    let at = |side: &str| cent["positions"][side]["applied"].as_str().unwrap().to_owned();
    assert!(at("projection").starts_with(&format!("{}/", topics.ledger)), "{cent}");
    assert_eq!(at("projection"), at("log"));
    load.stop();
    assert!(product.stop().success());

    // Nobody feeds the projection any more: that is none of the audit's business.
    let (status, report) = audit(&topics, &redis, &[]);
    assert_eq!((status, found(&report)), (Some(1), planted), "{report:#}");
}

#[test]
fn an_audit_finds_what_follows_from_cells_and_marks_missing_or_too_much_under_load_and_nothing_else() {
    let broker = kafka::shared();
    let topics = broker.topics(2);
    let redis = redis::Server::start();
    plant::subjects(&topics, &Producer::new(broker, Partitioner::Librdkafka));
    let product = Product::start("run", &topics, &redis.url(), &Settings::default());
    product.ready();
    // Customers come to owe on accounts, and keys are put on hold, all the time.
    let args = Args {
        events: 10_000_000,
        accounts: 20_000,
        customers: 3_000,
        poison: 20_000,
        seed: 42,
        prefix: "busy-".to_owned(),
        ..Args::default()
    };
    let load = Load::start(broker, &topics, &args, 1_500);
    std::thread::sleep(Duration::from_secs(2));
    let (status, report) = audit(&topics, &redis, &[]);
    assert_eq!((status, &report["verdict"]), (Some(0), &json!("agrees")), "{report:#}");

    let planted = plant::derived(&redis, 1);
    // Little memory: several passes over each partition.
    for arguments in [&[][..], &["--memory", "1"]] {
        let (status, report) = audit(&topics, &redis, arguments);
        assert_eq!((status, &report["verdict"]), (Some(1), &json!("differs")), "{report:#}");
        assert_eq!(plant::found(&report), planted, "{report:#}");
        let mut kinds = BTreeMap::<String, u64>::new();
        for partition in report["partitions"].as_array().unwrap() {
            for (kind, count) in partition["kinds"].as_object().unwrap() {
                *kinds.entry(kind.clone()).or_default() += count.as_u64().unwrap();
            }
        }
        let expected = [("index", 2), ("owing", 4), ("quarantine", 3), ("told", 2)];
        assert_eq!(kinds, expected.map(|(kind, count)| (kind.to_owned(), count)).into(), "{report:#}");
        let lost = report["first"].as_array().unwrap().iter().find(|d| d["id"] == "lone-c").unwrap();
        let field =
            json!([{ "field": "account lone, as its cell calls for", "projection": null, "log": "CZK 7.0" }]);
        assert_eq!(lost["fields"], field);
    }
    load.stop();
    assert!(product.stop().success());
}

#[test]
fn an_audit_that_could_not_run_says_so_and_does_not_pass() {
    let broker = kafka::shared();
    let topics = broker.topics(2);
    let mut redis = redis::Server::start();
    let refused = |redis: &redis::Server, arguments: &[&str], words: &[&str]| {
        let arguments = [&["audit"], arguments].concat();
        let output = product::command(&topics, &redis.url(), &arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        for word in ["could not run"].iter().chain(words) {
            assert!(said.contains(word), "`{word}` is not in {said}");
        }
        assert!(output.stdout.is_empty());
    };
    refused(&redis, &[], &["no generation is active"]);

    let producer = Producer::new(broker, Partitioner::Librdkafka);
    idle(&topics, &producer);
    let product = Product::start("run", &topics, &redis.url(), &Settings::default());
    product.ready();
    assert_eq!(audit(&topics, &redis, &[]).0, Some(0));
    refused(&redis, &["--generation", "7"], &["generation 7 does not exist"]);
    assert!(product.stop().success());

    // The projection is right, but that can no longer be told.
    let (partition, offset) = producer.put(&events::booked(&topics, "idle-1", "later", "1", None));
    broker.delete_records_before(&topics.ledger, partition, offset);
    let (status, report) = audit(&topics, &redis, &[]);
    assert_eq!((status, &report["verdict"]), (Some(1), &json!("could not run")), "{report:#}");
    let verdicts: Vec<_> = report["partitions"].as_array().unwrap().iter().collect();
    let named = format!("{}/{partition}", topics.ledger);
    let cut = verdicts.iter().find(|p| p["partition"] == named.as_str()).unwrap();
    assert_eq!(cut["verdict"], "could not run");
    assert!(cut["reason"].as_str().unwrap().contains("the records are gone"), "{cut}");
    assert_eq!(verdicts.iter().filter(|p| p["verdict"] == "agrees").count(), 3, "{report:#}");

    plant::incomplete(&redis, 1, "payment/1");
    let (status, report) = audit(&topics, &redis, &[]);
    assert_eq!((status, &report["verdict"]), (Some(1), &json!("could not run")), "{report:#}");
    let unfinished = format!("{}/1 has not reached the log's end yet", topics.payment);
    assert!(report.to_string().contains(&unfinished), "{report:#}");

    redis.kill();
    refused(&redis, &[], &["the store did not answer"]);
}

#[test]
fn a_continuous_audit_finds_what_is_planted_and_tells_it_in_its_metrics() {
    let broker = kafka::shared();
    let topics = broker.topics(2);
    let redis = redis::Server::start();
    idle(&topics, &Producer::new(broker, Partitioner::Librdkafka));
    let product = Product::start("run", &topics, &redis.url(), &Settings::default());
    product.ready();
    let arguments = ["audit", "--continuous", "--rate", "50000"];
    let audit = Product::start_with(&arguments, &topics, &redis.url(), &Settings::default());
    let metric = |name: &str| {
        let text = http::get(audit.admin, "/metrics", &[]).map_err(|e| e.to_string())?.body;
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("balance_projector_{name} ")));
        line.and_then(|value| value.parse::<u64>().ok()).ok_or(text)
    };
    eventually(Duration::from_secs(60), || {
        let (agreeing, subjects) =
            (metric("audit_parts_total{result=\"agrees\"}")?, metric("audit_subjects_total")?);
        if agreeing >= 4 && subjects >= 4 { Ok(()) } else { Err(format!("{agreeing}, {subjects}")) }
    });
    assert_eq!(metric("audit_differences_total"), Ok(0));
    // What no subject calls for is drawn from the projection.
    redis.command::<()>(&["HSET", "{bp}:g1:d:idle-d", "idle-1", ""]);
    eventually(Duration::from_secs(120), || {
        let log = audit.process.log();
        if log.contains("customer idle-d: owing") { Ok(()) } else { Err(log) }
    });
    redis.command::<()>(&["HDEL", "{bp}:g1:d:idle-d", "idle-1"]);
    plant::amount(&redis, &plant::account(1, "idle-2"), 12_345_678, 12_345_679);
    eventually(Duration::from_secs(120), || {
        let log = audit.process.log();
        if log.contains("account idle-2: balance") { Ok(()) } else { Err(log) }
    });
    assert!(metric("audit_differences_total").is_ok_and(|differences| differences >= 2));
    assert!(audit.process.log().contains("the projection differs from the log"));
    assert!(audit.stop().success());
    assert!(product.stop().success());
}

#[test]
fn a_continuous_audit_ends_while_it_reads() {
    let broker = kafka::shared();
    let topics = broker.topics(1);
    let redis = redis::Server::start();
    let producer = Producer::new(broker, Partitioner::Librdkafka);
    for entry in 0..6_000 {
        producer.send(&events::booked(&topics, "busy", &format!("e{entry}"), "1", None));
    }
    producer.flush();
    let product = Product::start("run", &topics, &redis.url(), &Settings::default());
    product.ready();
    // A minute for the partition.
    let arguments = ["audit", "--continuous", "--rate", "100"];
    let audit = Product::start_with(&arguments, &topics, &redis.url(), &Settings::default());
    eventually(Duration::from_secs(60), || http::get(audit.admin, "/metrics", &[]));
    std::thread::sleep(Duration::from_secs(3));
    assert!(audit.stop().success());
    assert!(product.stop().success());
}
