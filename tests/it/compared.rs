//! The comparison of two generations: every cell once, exactly, while events keep flowing.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use balance_projector::{
    domain::{PartitionId, Topic},
    ops::generate::Args,
};
use serde_json::{Value, json};

use crate::support::{
    Folder, compare, events, eventually,
    kafka::{self, Topics},
    load::Load,
    plant,
    produce::{Partitioner, Producer},
    product::{self, Product, Settings},
    redis,
};

#[track_caller]
fn compared(topics: &Topics, redis: &redis::Server, arguments: &[&str]) -> (Option<i32>, Value) {
    let arguments = [&["rebuild", "compare", "--json", "--as", "jana"], arguments].concat();
    let output = product::command(topics, &redis.url(), &arguments);
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    (output.status.code(), report)
}

/// Begins generation 2, and waits until it is complete.
#[track_caller]
fn rebuilt(topics: &Topics, redis: &redis::Server) -> Product {
    let arguments = ["rebuild", "start", "--yes", "--as", "jana"];
    let rebuild = Product::start_with(&arguments, topics, &redis.url(), &Settings::default());
    eventually(Duration::from_secs(120), || {
        let log = rebuild.process.log();
        if log.contains("generation 2 is complete") { Ok(()) } else { Err(log) }
    });
    rebuild
}

#[track_caller]
fn nothing_is_held(broker: &kafka::Broker, topics: &Topics) {
    let paused = compare::decisions(broker, topics).paused;
    assert!(paused.is_empty(), "{paused:?}");
}

#[test]
fn a_comparison_finds_a_planted_cent_a_missing_cell_and_an_extra_one_under_load_and_nothing_else() {
    let broker = kafka::shared();
    let topics = broker.topics(2);
    let redis = redis::Server::start();
    let folder = Folder::new("compared");
    let producer = Producer::new(broker, Partitioner::Librdkafka);
    for account in ["idle-1", "idle-2", "idle-3"] {
        producer.send(&events::opened(&topics, account, &["CZK"], Some("idle-c")));
        producer.send(&events::booked(&topics, account, &format!("{account}-e"), "123456.78", None));
    }
    producer.send(&events::settled(&topics, "idle-c", "p1", "20", "2026-02-01"));
    producer.flush();
    let product = Product::start("run", &topics, &redis.url(), &Settings::default());
    product.ready();
    let args = Args {
        events: 10_000_000,
        accounts: 1_000,
        customers: 300,
        poison: 20_000,
        seed: 61,
        prefix: "busy-".to_owned(),
        ..Args::default()
    };
    let load = Load::start(broker, &topics, &args, 1_500);
    let rebuild = rebuilt(&topics, &redis);
    let (status, report) = compared(&topics, &redis, &[]);
    assert_eq!((status, &report["differences"]), (Some(0), &json!(0)), "{report:#}");
    assert!(report["cells"].as_u64().unwrap() > 100, "{report:#}");
    nothing_is_held(broker, &topics);

    plant::amount(&redis, &plant::account(2, "idle-1"), 12_345_678, 12_345_679);
    redis.command::<()>(&["DEL", &plant::customer(2, "idle-c")]);
    redis.command::<()>(&["COPY", &plant::account(2, "idle-3"), &plant::account(2, "nobody")]);
    let (status, report) = compared(&topics, &redis, &["2", "--with", "1"]);
    let kinds = json!({ "balance": 1, "missing": 1, "extra": 1 });
    assert_eq!(
        (status, &report["differences"], &report["kinds"]),
        (Some(1), &json!(3), &kinds),
        "{report:#}"
    );
    let first = report["first"].as_array().unwrap();
    let found: BTreeSet<_> =
        first.iter().map(|d| (d["id"].as_str().unwrap(), d["kind"].as_str().unwrap())).collect();
    assert_eq!(found, [("idle-1", "balance"), ("idle-c", "missing"), ("nobody", "extra")].into());
    let cent = first.iter().find(|d| d["kind"] == "balance").unwrap();
    let values = json!([{ "field": "CZK booked 2026-03-01", "generation 1": "123456.78", "generation 2": "123456.79" }]);
    assert_eq!(cent["fields"], values);
    let at = |side: &str| cent["positions"][side]["applied"].as_str().unwrap().to_owned();
    assert!(at("generation 1").starts_with(&format!("{}/", topics.ledger)), "{cent}");
    assert_eq!(at("generation 1"), at("generation 2"));
    let recorded = compare::decisions(broker, &topics).comparisons.pop().expect("a comparison");
    assert_eq!((recorded.differences, recorded.act.who.as_str()), (3, "jana"));

    let expected = folder.join("expected");
    let named = "account idle-1 balance\ncustomer idle-c missing\n# a trial\naccount nobody *\n";
    std::fs::write(&expected, named).unwrap();
    let (status, report) = compared(&topics, &redis, &["--expect", expected.to_str().unwrap()]);
    assert_eq!((status, &report["differences"], &report["expected"]), (Some(0), &json!(0), &json!(3)));
    std::fs::write(&expected, "account idle-1 balans\n").unwrap();
    let arguments = ["rebuild", "compare", "--as", "jana", "--expect", expected.to_str().unwrap()];
    assert_eq!(product::command(&topics, &redis.url(), &arguments).status.code(), Some(2));

    for (arguments, says) in [
        (&["9"][..], "generation 9 was never begun"),
        (&["1"], "would be compared with itself"),
        (&["2", "--with", "9"], "generation 9 was never begun"),
    ] {
        let arguments = [&["rebuild", "compare", "--as", "jana"], arguments].concat();
        let output = product::command(&topics, &redis.url(), &arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(says), "{said}");
    }
    // An error in the middle lets the candidate go too.
    redis.command::<()>(&["SET", "{bp}:g2:what", "is this"]);
    let output = product::command(&topics, &redis.url(), &["rebuild", "compare", "--as", "jana"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    nothing_is_held(broker, &topics);
    load.stop();
    assert!(rebuild.stop().success());
    assert!(product.stop().success());
}

/// Equal bytes are no proof where the live generation stands further: what it should have folded since is not in them.
#[test]
fn a_write_that_the_live_generation_lost_is_found_where_the_candidate_stands_before_it() {
    let broker = kafka::shared();
    let topics = broker.topics(1);
    let redis = redis::Server::start();
    let producer = Producer::new(broker, Partitioner::Librdkafka);
    for account in ["lost", "kept"] {
        producer.put(&events::booked(&topics, account, "e1", "1", None));
    }
    let product = Product::start("run", &topics, &redis.url(), &Settings::default());
    product.ready();
    assert!(rebuilt(&topics, &redis).stop().success());
    let cell = |account: &str| redis.command::<Vec<u8>>(&["GET", &plant::account(1, account)]);
    let before = ["lost", "kept"].map(cell);
    for account in ["lost", "kept"] {
        producer.put(&events::booked(&topics, account, "e2", "2", None));
    }
    eventually(Duration::from_secs(10), || {
        if ["lost", "kept"].map(cell).iter().zip(&before).all(|(now, before)| now != before) {
            Ok(())
        } else {
            Err(())
        }
    });
    let [lost, _] = &before;
    let mut set = ::redis::cmd("SET");
    set.arg(plant::account(1, "lost")).arg(lost).query::<()>(&mut redis.connection()).expect("written");
    let (status, report) = compared(&topics, &redis, &[]);
    let first = report["first"].as_array().expect("differences");
    let found: BTreeSet<_> = first.iter().map(|d| d["id"].as_str().unwrap()).collect();
    assert_eq!((status, found), (Some(1), ["lost"].into()), "{report:#}");
}

#[test]
fn a_comparison_finds_what_follows_from_cells_and_marks_missing_or_too_much_under_load_and_nothing_else() {
    let broker = kafka::shared();
    let topics = broker.topics(2);
    let redis = redis::Server::start();
    let folder = Folder::new("compared");
    plant::subjects(&topics, &Producer::new(broker, Partitioner::Librdkafka));
    let product = Product::start("run", &topics, &redis.url(), &Settings::default());
    product.ready();
    // Customers come to owe on accounts, and keys are put on hold, all the time.
    let args = Args {
        events: 10_000_000,
        accounts: 20_000,
        customers: 3_000,
        poison: 20_000,
        seed: 62,
        prefix: "busy-".to_owned(),
        ..Args::default()
    };
    let load = Load::start(broker, &topics, &args, 1_500);
    let rebuild = rebuilt(&topics, &redis);
    let (status, report) = compared(&topics, &redis, &[]);
    assert_eq!((status, &report["differences"]), (Some(0), &json!(0)), "{report:#}");

    let planted = plant::derived(&redis, 2);
    let (status, report) = compared(&topics, &redis, &[]);
    assert_eq!((status, plant::found(&report)), (Some(1), planted), "{report:#}");
    let kinds = json!({ "owing": 4, "told": 2, "index": 2, "quarantine": 3 });
    assert_eq!((&report["differences"], &report["kinds"]), (&json!(11), &kinds));
    let lost = report["first"].as_array().unwrap().iter().find(|d| d["id"] == "lone-c").unwrap();
    let field = json!([{
        "field": "account lone, as its cell calls for", "generation 1": "CZK 7.0", "generation 2": null
    }]);
    assert_eq!(lost["fields"], field);
    let at = |side: &str| lost["positions"][side]["applied"].as_str().unwrap().to_owned();
    assert!(at("generation 2").starts_with(&format!("{}/", topics.ledger)), "{lost}");
    assert_eq!(at("generation 1"), at("generation 2"));

    let expected = folder.join("expected");
    let named = "customer free-c owing\ncustomer lone-c owing\ncustomer held-c owing\ncustomer held-c told\ncustomer free-c told\n\
                 account held-2 index\naccount free-2 index\naccount held-3 quarantine\n\
                 account free-1 quarantine\ncustomer held-d quarantine\n";
    std::fs::write(&expected, named).unwrap();
    let (status, report) = compared(&topics, &redis, &["--expect", expected.to_str().unwrap()]);
    assert_eq!((status, &report["differences"], &report["expected"]), (Some(0), &json!(0), &json!(11)));
    load.stop();
    nothing_is_held(broker, &topics);
    assert!(rebuild.stop().success());
    assert!(product.stop().success());
}

/// The subjects of [`plant::subjects`] in two generations, and what feeds each.
fn planted_twice() -> (Topics, redis::Server, [Product; 2]) {
    let broker = kafka::shared();
    let topics = broker.topics(1);
    let redis = redis::Server::start();
    plant::subjects(&topics, &Producer::new(broker, Partitioner::Librdkafka));
    let product = Product::start("run", &topics, &redis.url(), &Settings::default());
    product.ready();
    let rebuild = rebuilt(&topics, &redis);
    (topics, redis, [product, rebuild])
}

#[test]
fn what_is_wrong_beside_the_cells_of_the_served_generation_is_told_too() {
    let (topics, redis, [product, rebuild]) = planted_twice();
    redis.command::<()>(&["DEL", "{bp}:g1:d:lone-c"]);
    for generation in [1, 2] {
        let accounts = format!("{{bp}}:g{generation}:d:free-c");
        redis.command::<()>(&["HSET", &accounts, "nobody", ""]);
    }
    let (status, report) = compared(&topics, &redis, &[]);
    let found: BTreeSet<_> =
        report["first"].as_array().unwrap().iter().map(|d| d["fields"].to_string()).collect();
    let both = json!([{
        "field": "account nobody, which its cell does not call for",
        "generation 1": "unreadable", "generation 2": "unreadable"
    }]);
    let served = json!([{
        "field": "account lone, as its cell calls for", "generation 1": null, "generation 2": "CZK 7.0"
    }]);
    assert_eq!((status, found), (Some(1), [both.to_string(), served.to_string()].into()), "{report:#}");
    assert!(rebuild.stop().success());
    assert!(product.stop().success());
}

/// What the differences are about, and of which kind.
#[track_caller]
fn found(report: &Value) -> Vec<(&str, &str)> {
    let first = report["first"].as_array().expect("differences");
    first.iter().map(|d| (d["id"].as_str().unwrap(), d["kind"].as_str().unwrap())).collect()
}

#[test]
fn a_hold_on_a_record_that_retention_has_removed_does_not_keep_others_from_being_compared() {
    let broker = kafka::shared();
    let (topics, redis, [product, rebuild]) = planted_twice();
    let (_, end) = broker.watermarks(&topics.ledger, 0);
    broker.delete_records_before(&topics.ledger, 0, end);
    // What differs is folded again from where its hold began; here that is gone.
    for account in ["held-1", "free-1"] {
        redis.command::<()>(&["DEL", &plant::account(2, account)]);
    }
    let (status, report) = compared(&topics, &redis, &[]);
    let found: BTreeSet<_> = found(&report).into_iter().collect();
    let missing = BTreeSet::from([("free-1", "missing"), ("held-1", "missing")]);
    assert_eq!((status, found), (Some(1), missing), "{report:#}");
    assert!(rebuild.stop().success());
    assert!(product.stop().success());
}

#[test]
fn a_gap_that_was_closed_long_ago_and_still_holds_its_key_is_found() {
    let broker = kafka::shared();
    let topics = broker.topics(1);
    let redis = redis::Server::start();
    let producer = Producer::new(broker, Partitioner::Librdkafka);
    let put = |number: u64| producer.put(&events::numbered(&topics, "gap", number, "1", None));
    put(1);
    let product = Product::start("run", &topics, &redis.url(), &Settings::default());
    product.ready();
    let rebuild = rebuilt(&topics, &redis);
    let mark_key = |generation: u32| format!("{{bp}}:g{generation}:qa:gap");
    let marks =
        |generation: u32| redis.command::<BTreeMap<String, String>>(&["HGETALL", &mark_key(generation)]);
    let held_in_both = |held: usize| {
        eventually(Duration::from_secs(60), || {
            let marks = [1, 2].map(marks);
            if marks.iter().all(|marks| marks.len() == held) { Ok(()) } else { Err(marks) }
        });
    };
    put(3);
    held_in_both(1);
    let (partition, mark) = marks(2).into_iter().next().unwrap();
    let cell: Vec<u8> = redis.command(&["GET", &plant::account(2, "gap")]);
    put(2);
    held_in_both(0);
    assert_eq!(compared(&topics, &redis, &[]).0, Some(0));

    // As an owner would leave it that did not see the gap close.
    let mut set = ::redis::cmd("SET");
    set.arg(plant::account(2, "gap")).arg(cell).query::<()>(&mut redis.connection()).expect("written");
    let mut mark: Value = serde_json::from_str(&mark).unwrap();
    mark["waiting"] = 1.into();
    for key in [mark_key(2), format!("{{bp}}:g2:qi:{partition}")] {
        let field = if key == mark_key(2) { partition.as_str() } else { "gap" };
        redis.command::<()>(&["HSET", &key, field, &mark.to_string()]);
    }
    let (status, report) = compared(&topics, &redis, &[]);
    assert_eq!((status, found(&report)), (Some(1), vec![("gap", "quarantine")]), "{report:#}");

    // One that saw it, and stands still since, is about to fold the key again.
    mark["heals"] = true.into();
    redis.command::<()>(&["HSET", &mark_key(2), &partition, &mark.to_string()]);
    let (status, report) = compared(&topics, &redis, &[]);
    assert_eq!((status, &report["differences"]), (Some(0), &json!(0)), "{report:#}");
    assert!(rebuild.stop().success());
    assert!(product.stop().success());
}

#[test]
fn a_comparison_that_is_killed_leaves_nothing_held_and_is_done_again() {
    let broker = kafka::shared();
    let topics = broker.topics(2);
    let redis = redis::Server::start();
    let producer = Producer::new(broker, Partitioner::Librdkafka);
    plant::subjects(&topics, &producer);
    let product = Product::start("run", &topics, &redis.url(), &Settings::default());
    product.ready();
    let rebuild = rebuilt(&topics, &redis);
    // What differs is looked at again for seconds: time to be killed in.
    redis.command::<()>(&["HSET", "{bp}:g2:d:lone-c", "nobody", ""]);
    let two = balance_projector::store::Generation(2);
    let killed = || {
        let arguments = ["rebuild", "compare", "--as", "jana"];
        let comparison = Product::start_with(&arguments, &topics, &redis.url(), &Settings::default());
        eventually(Duration::from_secs(60), || {
            let states = compare::dump_of(&redis.url(), two).states;
            let stands = states.values().all(|state| state.paused.is_some());
            if stands { Ok(()) } else { Err((states, comparison.process.log())) }
        });
        comparison.kill();
        let decisions = compare::decisions(broker, &topics);
        let held: Vec<_> = decisions.paused.values().map(|pause| pause.lease_ms).collect();
        assert_eq!(held, [Some(30_000); 2]);
        assert!(decisions.comparisons.is_empty(), "{:?}", decisions.comparisons);
    };

    killed();
    // It goes on by itself, and nobody who starts later stands still for it once more.
    let (partition, offset) = producer.put(&events::booked(&topics, "free-1", "later", "-1", None));
    let ledger = PartitionId { topic: Topic::Ledger, partition };
    eventually(Duration::from_secs(60), || {
        let next = compare::dump_of(&redis.url(), two).positions[&ledger].checkpoint.next.0;
        if next > offset { Ok(()) } else { Err(next) }
    });
    eventually(Duration::from_secs(60), || {
        let paused = compare::decisions(broker, &topics).paused;
        if paused.is_empty() { Ok(()) } else { Err(paused) }
    });

    // Whoever does not wait for that compares at once.
    killed();
    let (status, report) = compared(&topics, &redis, &[]);
    assert_eq!((status, &report["kinds"]), (Some(1), &json!({ "owing": 1 })), "{report:#}");
    nothing_is_held(broker, &topics);
    redis.command::<()>(&["HDEL", "{bp}:g2:d:lone-c", "nobody"]);
    assert_eq!(compared(&topics, &redis, &[]).0, Some(0));
    assert_eq!(compare::decisions(broker, &topics).comparisons.pop().expect("a comparison").differences, 0);
    assert!(rebuild.stop().success());
    assert!(product.stop().success());
}
