//! What befalls Kafka: a broker that goes or hangs is waited for; a log that is no longer the one that was folded
//! halts the partition, by name and offsets, instead of being guessed at.

use std::{
    process::Command,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::{Duration, Instant},
};

use crate::support::{
    Folder, compare, events, eventually, http,
    kafka::{self, Broker, Topics},
    process::{Process, Signal},
    produce::{Outgoing, Partitioner, Producer},
    product::{self, Product, Settings},
    redis,
};

const WITHIN: Duration = Duration::from_secs(20);

/// A booked entry of 1 in a chosen partition, for an account of that partition.
fn booked(topics: &Topics, partition: i32, entry: u32) -> Outgoing {
    let account = format!("account-{partition}");
    let record = events::booked(topics, &account, &format!("e{entry}"), "1", Some("debtor"));
    Outgoing { partition: Some(partition), ..record }
}

fn book(broker: &Broker, topics: &Topics, partition: i32, entries: std::ops::Range<u32>) {
    let producer = Producer::new(broker, Partitioner::Java);
    for entry in entries {
        producer.send(&booked(topics, partition, entry));
    }
    producer.flush();
}

fn settings() -> Settings {
    Settings {
        api: "max_staleness_ms = 1500\nbalance_types = [\"ITBD\"]\n".to_owned(),
        accounts: vec!["account-0".to_owned(), "account-1".to_owned()],
        ..Settings::default()
    }
}

/// The value that view two serves, as it stands there.
fn value(product: &Product, account: &str) -> Option<String> {
    let answer = http::account(product.views, account).ok().filter(|answer| answer.status == 200)?;
    let value = answer.body.split("\"value\":").last()?.split(',').next()?;
    Some(value.to_owned())
}

/// View two answers, and refuses a figure.
#[track_caller]
fn is_unavailable(product: &Product, account: &str) {
    let answer = http::account(product.views, account).expect("an answer");
    assert_eq!(answer.status, 503, "{answer:?}");
}

/// Starts `project`, which must refuse with these words.
#[track_caller]
fn is_refused(topics: &Topics, redis: &redis::Server, words: &[&str]) {
    let mut product = Product::start("project", topics, &redis.url(), &Settings::default());
    let status = product.process.wait(WITHIN);
    let log = product.process.log();
    assert_eq!(status.code(), Some(1), "{log}");
    for word in words {
        assert!(log.contains(word), "`{word}` is not in the log: {log}");
    }
}

#[test]
fn a_broker_that_is_killed_under_load_is_waited_for() {
    let mut broker = Broker::start(&[]);
    let topics = broker.topics(2);
    let redis = redis::Server::start();
    let mut product = Product::start("run", &topics, &redis.url(), &settings());
    product.ready();
    let producer = Producer::new(&broker, Partitioner::Java);
    let (sent, stop) = (AtomicU32::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let n = sent.fetch_add(1, Ordering::Relaxed);
                let account = format!("account-{}", n % 50);
                producer.send(&events::booked(&topics, &account, &format!("e{n}"), "1", Some("debtor")));
                std::thread::sleep(Duration::from_micros(500));
            }
        });
        for _ in 0..2 {
            std::thread::sleep(Duration::from_secs(1));
            broker.kill();
            std::thread::sleep(Duration::from_millis(300));
            broker.restart();
        }
        std::thread::sleep(Duration::from_millis(500));
        stop.store(true, Ordering::Relaxed);
    });
    producer.flush();
    let expected = compare::whole(&broker, &topics, &redis.url());
    assert!(product.process.runs());
    product.ready();
    assert_eq!((expected.cells.len(), expected.dead_letters.len()), (50, 0));
    let owed = http::customer(product.views, "debtor").expect("an answer").json();
    assert_eq!(owed["balance"][0]["amount"], format!("-{}.0", sent.load(Ordering::Relaxed)));
}

#[test]
fn brokers_that_are_away_at_the_start_are_waited_for_and_no_client_says_a_word() {
    let folder = Folder::new("away");
    let mut run = Command::new(env!("CARGO_BIN_EXE_balance-projector"));
    run.arg("run").env_clear().envs([
        ("BALANCE_PROJECTOR__KAFKA__BROKERS", "127.0.0.1:1"),
        ("BALANCE_PROJECTOR__REDIS__URL", "redis://127.0.0.1:1/"),
        ("BALANCE_PROJECTOR__API__LISTEN", "127.0.0.1:0"),
        ("BALANCE_PROJECTOR__ADMIN__LISTEN", "127.0.0.1:0"),
    ]);
    let process = Process::start("run", &mut run, &folder.join("log"));
    let log = eventually(Duration::from_secs(60), || {
        let log = process.log();
        if log.contains("waiting for an answer what=\"kafka.brokers 127.0.0.1:1\"") {
            Ok(log)
        } else {
            Err(log)
        }
    });
    let of_clients =
        log.lines().filter(|line| ["rdkafka", "kafka client"].iter().any(|word| line.contains(word)));
    assert_eq!(of_clients.count(), 0, "{log}");
}

#[test]
fn a_broker_that_hangs_makes_both_views_unavailable_until_it_goes_on() {
    let broker = Broker::start(&[]);
    let topics = broker.topics(2);
    let redis = redis::Server::start();
    let product = Product::start("run", &topics, &redis.url(), &settings());
    book(&broker, &topics, 0, 0..10);
    product.ready();
    eventually(WITHIN, || value(&product, "account-0").filter(|value| value == "10.00").ok_or("not yet"));

    broker.signal(Signal::Stop);
    let hung = Instant::now();
    let mut fresh_until = Duration::ZERO;
    eventually(WITHIN, || {
        let asked = hung.elapsed();
        let account = http::account(product.views, "account-0").expect("an answer");
        let customer = http::customer(product.views, "debtor").expect("an answer");
        match (account.status, customer.status) {
            (503, 503) => {
                assert!(account.header("Retry-After").is_some() && customer.header("Retry-After").is_some());
                Ok(())
            }
            other => {
                fresh_until = asked;
                Err(other)
            }
        }
    });
    // The bound, a heartbeat or two, the readers' own interval, and a slow machine.
    assert!(fresh_until < Duration::from_secs(15), "called fresh for {fresh_until:?}");
    // Not fresh again while the broker hangs.
    std::thread::sleep(Duration::from_secs(3));
    is_unavailable(&product, "account-0");

    broker.signal(Signal::Cont);
    eventually(WITHIN, || value(&product, "account-0").filter(|value| value == "10.00").ok_or("not yet"));
    book(&broker, &topics, 0, 10..11);
    eventually(WITHIN, || value(&product, "account-0").filter(|value| value == "11.00").ok_or("not yet"));
    compare::whole(&broker, &topics, &redis.url());
}

#[test]
fn records_removed_before_they_were_folded_halt_their_partition_alone() {
    let broker = kafka::shared();
    let topics = broker.topics(2);
    let redis = redis::Server::start();
    let product = Product::start("run", &topics, &redis.url(), &settings());
    book(broker, &topics, 0, 0..10);
    book(broker, &topics, 1, 0..10);
    compare::whole(broker, &topics, &redis.url());
    let log = compare::Log::read(broker, &topics);
    assert!(product.stop().success());
    book(broker, &topics, 0, 10..15);
    broker.delete_records_before(&topics.ledger, 0, 12);

    let product = Product::start("run", &topics, &redis.url(), &settings());
    let partition = format!("{}/0", topics.ledger);
    product.halts(&topics, &redis.url(), &[&partition, "offset 12", "needs 10", "retention"]);
    book(broker, &topics, 1, 10..11);
    eventually(WITHIN, || value(&product, "account-1").filter(|value| value == "11.00").ok_or("not yet"));
    is_unavailable(&product, "account-0");
    assert_eq!(http::customer(product.views, "debtor").expect("an answer").status, 503);
    // Nothing of the halted partition has changed; the other one went on.
    let now = compare::Log::read(broker, &topics);
    compare::up_to_the_checkpoints(broker, &topics, &log.with_ledger(1, &now), &redis.url());
    assert!(product.stop().success());
}

#[test]
fn records_removed_while_a_running_projector_lags_halt_their_partition() {
    let broker = kafka::shared();
    let topics = broker.topics(1);
    let redis = redis::Server::start();
    let product = Product::start("run", &topics, &redis.url(), &settings());
    book(broker, &topics, 0, 0..10);
    compare::whole(broker, &topics, &redis.url());
    product.process.signal(Signal::Stop);
    // Two flushes: the fetch that waits at the broker takes the first along.
    book(broker, &topics, 0, 10..11);
    std::thread::sleep(Duration::from_millis(200));
    book(broker, &topics, 0, 11..30);
    let log = compare::Log::read(broker, &topics);
    broker.delete_records_before(&topics.ledger, 0, 30);
    product.process.signal(Signal::Cont);
    let partition = format!("{}/0", topics.ledger);
    product.halts(&topics, &redis.url(), &[&partition, "offset 30", "retention"]);
    compare::up_to_the_checkpoints(broker, &topics, &log, &redis.url());
}

/// Which topic, its settings, and what the error says.
type WrongKind = (fn(&mut Topics) -> &mut String, &'static [(&'static str, &'static str)], &'static str);

#[test]
fn a_topic_of_the_wrong_kind_is_refused_at_the_start() {
    let broker = kafka::shared();
    let redis = redis::Server::start();
    let rows: [WrongKind; 6] = [
        (|topics| &mut topics.ledger, &[("cleanup.policy", "compact")], "cleanup.policy=compact"),
        (|topics| &mut topics.payment, &[("cleanup.policy", "compact,delete")], "cleanup.policy="),
        (|topics| &mut topics.dead_letters, &[("cleanup.policy", "compact")], "cleanup.policy=compact"),
        (|topics| &mut topics.decisions, &[("cleanup.policy", "compact")], "cleanup.policy=compact"),
        (|topics| &mut topics.decisions, &[("retention.ms", "1000000")], "retention.ms=1000000"),
        (
            |topics| &mut topics.decisions,
            &[("retention.ms", "-1"), ("retention.bytes", "1000000")],
            "retention.bytes=1000000",
        ),
    ];
    for (which, settings, says) in rows {
        let mut topics = broker.topics(1);
        let name = which(&mut topics);
        name.push_str("-other");
        let name = name.clone();
        broker.create_topic(&name, 1, settings);
        is_refused(&topics, &redis, &[&name, says]);
    }
    let mut topics = broker.topics(1);
    topics.payment.push_str("-missing");
    is_refused(&topics, &redis, &[&topics.payment, "does not exist"]);
}

/// Without its head nobody can say what was decided: nothing may be folded as if nothing had been.
#[test]
fn a_decisions_topic_without_its_head_is_refused() {
    let broker = kafka::shared();
    let redis = redis::Server::start();
    let topics = broker.topics(1);
    let product = Product::start("run", &topics, &redis.url(), &Settings::default());
    product.ready();
    assert!(product.stop().success());
    broker.delete_records_before(&topics.decisions, 0, 1);
    is_refused(&topics, &redis, &[&topics.decisions, "begins at offset 1", "restore"]);
    let told = product::command(&topics, &redis.url(), &["generations"]);
    assert_ne!(told.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&told.stderr).contains("begins at offset 1"), "{told:?}");
}

/// What the projector does while its topic is deleted and made anew.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Meanwhile {
    /// It starts afterwards.
    Stopped,
    /// It looks on.
    Runs,
    /// It sees nothing of it, and goes on with the consumer that it has.
    Frozen,
}

#[test]
fn a_topic_made_anew_halts_instead_of_being_folded_from_the_middle() {
    use Meanwhile::{Frozen, Runs, Stopped};
    let broker = kafka::shared();
    // Ten records of the old topic were folded; the new one has fewer, as many, or more.
    let rows = [
        (4, Stopped),
        (10, Stopped),
        (25, Stopped),
        (4, Runs),
        (25, Runs),
        (4, Frozen),
        (10, Frozen),
        (25, Frozen),
    ];
    std::thread::scope(|scope| {
        let halts = |(records, meanwhile)| move || made_anew_halts(broker, records, meanwhile);
        let running = rows.map(|row| (row, scope.spawn(halts(row))));
        for (row, running) in running {
            assert!(running.join().is_ok(), "{row:?}");
        }
    });
}

fn made_anew_halts(broker: &Broker, records: u32, meanwhile: Meanwhile) {
    let topics = broker.topics(1);
    let redis = redis::Server::start();
    let mut product = Product::start("run", &topics, &redis.url(), &settings());
    book(broker, &topics, 0, 0..10);
    compare::whole(broker, &topics, &redis.url());
    product.ready();
    let log = compare::Log::read(broker, &topics);
    match meanwhile {
        Meanwhile::Stopped => {
            assert!(product.stop().success());
            make_anew(broker, &topics, records);
            product = Product::start("run", &topics, &redis.url(), &settings());
        }
        Meanwhile::Runs => make_anew(broker, &topics, records),
        Meanwhile::Frozen => {
            product.process.signal(Signal::Stop);
            make_anew(broker, &topics, records);
            product.process.signal(Signal::Cont);
        }
    }
    let partition = format!("{}/0", topics.ledger);
    product.halts(&topics, &redis.url(), &[&partition, "made anew"]);
    compare::up_to_the_checkpoints(broker, &topics, &log, &redis.url());
    is_unavailable(&product, "account-0");
    assert!(product.stop().success());
}

/// Offsets of the new log say nothing of the old one's: readers are not held to what they were told of that.
#[test]
fn a_topic_made_anew_is_served_by_a_rebuild_without_a_restart_of_readers() {
    let broker = kafka::shared();
    let topics = broker.topics(1);
    let redis = redis::Server::start();
    let product = Product::start("run", &topics, &redis.url(), &settings());
    let told = |words: &[&str]| product::command(&topics, &redis.url(), words);
    book(broker, &topics, 0, 0..2);
    product.ready();
    let poison = Outgoing { value: Some(b"no event".to_vec()), ..booked(&topics, 0, 99) };
    assert_eq!(Producer::new(broker, Partitioner::Java).put(&poison), (0, 2));
    eventually(WITHIN, || {
        let skip = ["redrive", "--key", "account-0", "--skip", "--reason", "a test", "--yes", "--as", "jana"];
        let output = told(&skip);
        if output.status.success() { Ok(()) } else { Err(output) }
    });
    book(broker, &topics, 0, 2..10);
    eventually(WITHIN, || {
        if value(&product, "account-0").as_deref() == Some("10.00") { Ok(()) } else { Err(()) }
    });
    // What was decided about the third record says nothing of the one that lies there in the new log.
    make_anew(broker, &topics, 4);
    let partition = format!("{}/0", topics.ledger);
    product.halts(&topics, &redis.url(), &[&partition, "made anew"]);
    let start = ["rebuild", "start", "--yes", "--as", "jana", "--reason", "made anew"];
    let rebuild = Product::start_with(&start, &topics, &redis.url(), &settings());
    let promote = ["rebuild", "promote", "2", "--yes", "--as", "jana"];
    // It is of another log: there is nothing to compare it with.
    eventually(WITHIN, || {
        let refused = told(&promote);
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        if text.contains("not compared") && !text.contains("complete") && !text.contains("owner") {
            Ok(())
        } else {
            Err(text)
        }
    });
    let promoted = told(&[&promote[..], &["--reason", "made anew"]].concat());
    assert!(promoted.status.success(), "{promoted:?}");
    eventually(WITHIN, || {
        if value(&product, "account-0").as_deref() == Some("4.00") { Ok(()) } else { Err(()) }
    });
    assert!(rebuild.stop().success());
}

/// What the old topic said is gone for good: who has no beginning in the new one is not served as if that were all.
#[test]
fn from_where_a_topic_made_anew_starts_subjects_without_a_beginning_are_incomplete() {
    let broker = kafka::shared();
    let topics = broker.topics(1);
    let redis = redis::Server::start();
    let product = Product::start("run", &topics, &redis.url(), &settings());
    book(broker, &topics, 0, 0..10);
    product.ready();
    compare::whole(broker, &topics, &redis.url());
    make_anew(broker, &topics, 4);
    let producer = Producer::new(broker, Partitioner::Java);
    producer.put(&events::opened(&topics, "account-1", &["CZK"], None));
    producer.put(&events::booked(&topics, "account-1", "e1", "7", None));
    let partition = format!("{}/0", topics.ledger);
    product.halts(&topics, &redis.url(), &[&partition, "made anew"]);
    let told = |words: &[&str]| product::command(&topics, &redis.url(), words);
    for (number, reason) in [("2", "made anew"), ("3", "once more")] {
        let start = ["rebuild", "start", "--from", "log-start", "--generation", number];
        let start = [&start[..], &["--yes", "--as", "jana", "--reason", reason]].concat();
        let rebuild = Product::start_with(&start, &topics, &redis.url(), &settings());
        let promote = ["rebuild", "promote", number, "--yes", "--as", "jana", "--reason", reason];
        eventually(WITHIN, || {
            let log = rebuild.process.log();
            if log.contains(&format!("generation {number} is complete")) { Ok(()) } else { Err(log) }
        });
        let promoted = told(&promote);
        assert!(promoted.status.success(), "{promoted:?}");
        eventually(WITHIN, || {
            let answer = http::account(product.views, "account-1").map_err(|error| error.to_string())?;
            let generation = answer.header("Projection-Generation").map(str::to_owned);
            if answer.status == 200 && generation.as_deref() == Some(number) {
                Ok(())
            } else {
                Err(format!("{answer:?}"))
            }
        });
        assert_eq!(value(&product, "account-1").as_deref(), Some("7.00"));
        let answer = http::account(product.views, "account-0").expect("an answer");
        assert_eq!(answer.status, 503, "generation {number}: {answer:?}");
        assert!(rebuild.stop().success());
    }
}

/// Deletes the ledger topic and makes it anew with these many records of other entries.
fn make_anew(broker: &Broker, topics: &Topics, records: u32) {
    broker.delete_topic(&topics.ledger);
    broker.create_topic(&topics.ledger, 1, &[("cleanup.policy", "delete")]);
    book(broker, topics, 0, 100..100 + records);
}

#[test]
fn added_partitions_halt_the_topic_and_a_restart_is_refused() {
    let broker = kafka::shared();
    let topics = broker.topics(2);
    let redis = redis::Server::start();
    let product = Product::start("run", &topics, &redis.url(), &settings());
    book(broker, &topics, 0, 0..3);
    compare::whole(broker, &topics, &redis.url());
    product.ready();
    broker.add_partitions(&topics.ledger, 3);
    let says = format!("topic {} has 3 partitions, the generation pins 2", topics.ledger);
    product.halts(&topics, &redis.url(), &[&says]);
    is_unavailable(&product, "account-0");
    compare::whole(broker, &topics, &redis.url());
    assert!(product.stop().success());
    let pinned = format!("2 of {}", topics.ledger);
    is_refused(&topics, &redis, &[&pinned, "this process has 3", "rebuild"]);
}

#[test]
fn a_generation_that_has_no_beginning_is_refused_and_nothing_is_born() {
    let broker = kafka::shared();
    let topics = broker.topics(2);
    let redis = redis::Server::start();
    book(broker, &topics, 1, 0..3);
    broker.delete_records_before(&topics.ledger, 1, 2);
    let partition = format!("{}/1", topics.ledger);
    is_refused(&topics, &redis, &["generation 1 cannot begin", &partition, "offset 2", "not at 0"]);
    assert_eq!(compare::decisions(broker, &topics).births.len(), 0);
    assert_eq!(redis.command::<Vec<String>>(&["KEYS", "*"]), Vec::<String>::new());
}
