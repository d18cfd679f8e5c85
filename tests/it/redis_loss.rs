//! A Redis that loses what it had acknowledged is healed from the log without help, and readers meanwhile get
//! 503 or a figure that was right, never an older one and never "not found".

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use balance_projector::ops::generate::Args;

use crate::support::{
    compare, events, eventually, http,
    kafka::{self, Topics},
    load::Load,
    produce::{Partitioner, Producer},
    product::{Product, Settings},
    redis,
};

const WATCHED: &str = "watched";
/// As often as the generated configuration says.
const TEN_HEARTBEATS: Duration = Duration::from_secs(1);

fn settings() -> Settings {
    Settings {
        api: "max_staleness_ms = 1000\nbalance_types = [\"ITBD\"]\n".to_owned(),
        accounts: vec![WATCHED.to_owned()],
        ..Settings::default()
    }
}

/// A reader of one account that only ever grows, and what it has seen.
struct Reader {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(u32, u32)>,
}

impl Reader {
    fn start(views: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let (mut answers, mut refusals) = (0, 0);
                let mut highest = 0;
                while !stop.load(Ordering::Relaxed) {
                    let answer = http::account(views, WATCHED).expect("an answer");
                    match answer.status {
                        503 => refusals += 1,
                        200 => {
                            answers += 1;
                            let value = value(&answer);
                            assert!(value >= highest, "{value} after {highest}");
                            highest = value;
                        }
                        _ => panic!("{answer:?}"),
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
                (answers, refusals)
            }
        });
        Reader { stop, thread }
    }

    /// How many figures and how many refusals it got.
    fn finish(self) -> (u32, u32) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("no older figure, and always an answer")
    }
}

/// A whole number of crowns.
fn value(answer: &http::Answer) -> u64 {
    let rest = answer.body.rsplit("\"value\":").next().expect("a value");
    rest.split(".00").next().expect("a value").parse().expect("whole crowns")
}

#[track_caller]
fn becomes(product: &Product, wanted: u64) {
    eventually(Duration::from_secs(30), || {
        let answer = http::account(product.views, WATCHED).map_err(|e| e.to_string())?;
        if answer.status == 200 && value(&answer) == wanted { Ok(()) } else { Err(format!("{answer:?}")) }
    });
}

struct Watched<'a> {
    topics: &'a Topics,
    producer: Producer,
    balance: u64,
}

impl Watched<'_> {
    /// Books one crown after the other.
    fn grow(&mut self, by: u64) {
        for _ in 0..by {
            self.balance += 1;
            let entry = format!("e{}", self.balance);
            self.producer.put(&events::booked(self.topics, WATCHED, &entry, "1", None));
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Loss {
    Flushed,
    KilledEmpty,
    OlderDump,
}

impl Loss {
    fn befalls(self, redis: &mut redis::Server) {
        match self {
            Loss::Flushed => redis.command::<()>(&["FLUSHALL"]),
            Loss::KilledEmpty => {
                redis.forget();
                redis.kill();
                redis.restart();
            }
            Loss::OlderDump => {
                redis.kill();
                redis.restart();
            }
        }
    }
}

/// Readers sample the positions a few times a second, and an answer may be as old as `max_staleness`: what a
/// sample has not shown them is not yet an older figure to them.
fn seen_by_readers() {
    std::thread::sleep(Duration::from_millis(700));
}

#[track_caller]
fn healed(loss: Loss, seed: u64) {
    let broker = kafka::shared();
    let topics = broker.topics(2);
    let mut redis = redis::Server::start();
    let mut watched =
        Watched { topics: &topics, producer: Producer::new(broker, Partitioner::Librdkafka), balance: 0 };
    watched.grow(5);
    let product = Product::start("run", &topics, &redis.url(), &settings());
    product.ready();
    becomes(&product, watched.balance);
    let reader = Reader::start(product.views);

    // Under load.
    let args = Args { events: 12_000, accounts: 200, customers: 100, poison: 12, seed, ..Args::default() };
    let load = Load::start(broker, &topics, &args, 3_000);
    watched.grow(5);
    std::thread::sleep(Duration::from_millis(500));
    redis.save();
    watched.grow(5);
    becomes(&product, watched.balance);
    seen_by_readers();
    loss.befalls(&mut redis);
    watched.grow(5);
    load.finish();
    becomes(&product, watched.balance);
    compare::whole(broker, &topics, &redis.url());

    // Idle: the dump is from before the last records.
    redis.save();
    watched.grow(5);
    becomes(&product, watched.balance);
    seen_by_readers();
    loss.befalls(&mut redis);
    // A write after the loss would hide whether an idle owner notices.
    product.ready();
    becomes(&product, watched.balance);
    compare::whole(broker, &topics, &redis.url());

    let (answers, refusals) = reader.finish();
    assert!(answers > 20, "{answers} figures, {refusals} refusals");
    assert!(product.stop().success());
    compare::whole(broker, &topics, &redis.url());
}

#[test]
fn a_flushed_redis_is_healed() {
    healed(Loss::Flushed, 11);
}

#[test]
fn a_redis_killed_without_a_dump_is_healed() {
    healed(Loss::KilledEmpty, 12);
}

#[test]
fn a_redis_restored_from_an_older_dump_is_healed() {
    healed(Loss::OlderDump, 13);
}

#[test]
fn a_redis_that_evicts_is_refused_at_the_start_and_halts_every_partition_later() {
    let broker = kafka::shared();
    let topics = broker.topics(1);
    let redis = redis::Server::with(&["--maxmemory-policy", "allkeys-lru"]);
    let mut refused = Product::start("project", &topics, &redis.url(), &settings());
    let status = refused.process.wait(Duration::from_secs(30));
    assert_eq!(status.code(), Some(1));
    assert!(refused.process.log().contains("noeviction"), "{}", refused.process.log());
    assert_eq!(redis.command::<u32>(&["DBSIZE"]), 0);

    redis.command::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    let mut watched =
        Watched { topics: &topics, producer: Producer::new(broker, Partitioner::Librdkafka), balance: 0 };
    watched.grow(3);
    let product = Product::start("run", &topics, &redis.url(), &settings());
    becomes(&product, 3);
    redis.command::<()>(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    eventually(Duration::from_secs(20), || {
        let answer = http::get(product.admin, "/readyz", &[]).map_err(|e| e.to_string())?;
        let told =
            answer.status == 503 && answer.body.contains("noeviction") && answer.body.contains("halted");
        if told { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    watched.grow(2);
    eventually(Duration::from_secs(10), || {
        let answer = http::account(product.views, WATCHED).map_err(|e| e.to_string())?;
        if answer.status == 503 { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    // It was refused before them, too: the owner must have learnt of both, and had the time to fold them.
    eventually(Duration::from_secs(20), || {
        let answer = http::get(product.admin, "/metrics", &[]).map_err(|e| e.to_string())?;
        let behind = "balance_projector_lag_records{topic=\"ledger\",partition=\"0\"} 2";
        if answer.body.lines().any(|line| line == behind) { Ok(()) } else { Err(answer.body) }
    });
    std::thread::sleep(TEN_HEARTBEATS);
    let next = compare::dump(&redis.url()).positions.values().map(|p| p.checkpoint.next.0).sum::<i64>();
    assert_eq!(next, 3, "nothing is folded into a store that evicts");

    // Nothing was evicted: it goes on by itself.
    redis.command::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    becomes(&product, 5);
    compare::whole(broker, &topics, &redis.url());
}

#[test]
fn a_redis_that_has_evicted_is_not_believed_again() {
    let broker = kafka::shared();
    let topics = broker.topics(1);
    let mut redis = redis::Server::start();
    let mut watched =
        Watched { topics: &topics, producer: Producer::new(broker, Partitioner::Librdkafka), balance: 0 };
    watched.grow(3);
    let product = Product::start("run", &topics, &redis.url(), &settings());
    becomes(&product, 3);
    for n in 0..200 {
        redis.command::<()>(&["SET", &format!("other{n}"), &"x".repeat(10_000)]);
    }
    let info = redis.command::<String>(&["INFO", "memory"]);
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("a figure");
    let less = (used.trim().parse::<u64>().expect("a number") - 500_000).to_string();
    for (policy, memory, words) in [
        ("allkeys-random", less.as_str(), "maxmemory-policy allkeys-random"),
        ("noeviction", "0", "has evicted keys"),
    ] {
        redis.command::<()>(&["CONFIG", "SET", "maxmemory-policy", policy, "maxmemory", memory]);
        // Room is made for what is written.
        redis.command::<()>(&["SET", "another", "x"]);
        eventually(Duration::from_secs(20), || {
            let answer = http::get(product.admin, "/readyz", &[]).map_err(|e| e.to_string())?;
            if answer.status == 503 && answer.body.contains(words) {
                Ok(())
            } else {
                Err(format!("{answer:?}"))
            }
        });
    }

    // The count of evictions ends with the server's run, the memory of it with the product's: what is lost stays lost.
    assert!(product.stop().success());
    redis.save();
    redis.kill();
    redis.restart();
    let product = Product::start("run", &topics, &redis.url(), &settings());
    watched.grow(1);
    let refused = product.readiness(Duration::from_secs(20), 503);
    std::thread::sleep(Duration::from_secs(7));
    let still = product.readiness(Duration::from_secs(1), 503);
    assert!(still.contains("has evicted keys"), "{refused}, then {still}");
    redis.command::<()>(&["FLUSHALL"]);
    becomes(&product, 4);
}
