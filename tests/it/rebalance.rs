//! Projectors that join, leave, stall or die change no balance.

use std::time::Duration;

use balance_projector::ops::generate::Args;

use crate::support::{
    compare, eventually, http,
    kafka::{self, Topics},
    load::Load,
    process::Signal,
    product::{Product, Settings},
    redis,
};

/// A projector that is missed after two seconds.
fn settings() -> Settings {
    Settings {
        projector: "workers = 1\nheartbeat_ms = 100\nbatch_records_max = 100\nbatch_cells_max = 50\n"
            .to_owned(),
        properties: "\"session.timeout.ms\" = \"2000\"\n\"heartbeat.interval.ms\" = \"200\"\n".to_owned(),
        ..Settings::default()
    }
}

/// A metric's value, summed over its labels that contain `label`.
fn metric(product: &Product, name: &str, label: &str) -> u64 {
    // One that has just been started does not answer yet, and owns nothing.
    let text = http::get(product.admin, "/metrics", &[]).map(|answer| answer.body).unwrap_or_default();
    text.lines()
        .filter(|line| line.starts_with(name) && line.contains(label))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

fn owned(product: &Product) -> u64 {
    metric(product, "balance_projector_partitions_owned", "")
}

/// Waits until the projectors own all partitions among them, and each at least one.
fn shared_out(products: &[&Product], topics: &Topics) {
    eventually(Duration::from_secs(30), || {
        let owned: Vec<u64> = products.iter().map(|product| owned(product)).collect();
        let whole = owned.iter().sum::<u64>() == u64::try_from(topics.partitions * 2).expect("positive");
        if whole && owned.iter().all(|n| *n > 0) { Ok(()) } else { Err(owned) }
    });
}

#[test]
fn projectors_that_join_leave_and_die_under_load_change_no_balance() {
    let broker = kafka::shared();
    let topics = broker.topics(6);
    let redis = redis::Server::start();
    let args =
        Args { events: 10_000_000, accounts: 500, customers: 200, poison: 4_000, seed: 4, ..Args::default() };
    let load = Load::start(broker, &topics, &args, 3_000);
    let start = || Product::start("project", &topics, &redis.url(), &settings());

    let first = start();
    shared_out(&[&first], &topics);
    let second = start();
    shared_out(&[&first, &second], &topics);
    let third = start();
    shared_out(&[&first, &second, &third], &topics);
    assert!(first.stop().success());
    shared_out(&[&second, &third], &topics);
    second.kill();
    let fourth = start();
    shared_out(&[&third, &fourth], &topics);
    load.stop();
    compare::whole(broker, &topics, &redis.url());
    assert!(third.stop().success());
    assert!(fourth.stop().success());
    let expected = compare::whole(broker, &topics, &redis.url());
    assert!(!expected.dead_letters.is_empty());
}

#[test]
fn projectors_frozen_past_their_session_in_turn_change_no_balance() {
    let broker = kafka::shared();
    let topics = broker.topics(3);
    let redis = redis::Server::start();
    let args = Args { events: 10_000_000, accounts: 300, customers: 100, seed: 5, ..Args::default() };
    let load = Load::start(broker, &topics, &args, 2_000);
    let start = || Product::start("project", &topics, &redis.url(), &settings());
    let (first, second) = (start(), start());
    for (frozen, other) in [(&first, &second), (&second, &first)] {
        shared_out(&[&first, &second], &topics);
        frozen.process.signal(Signal::Stop);
        eventually(Duration::from_secs(30), || {
            let owned = owned(other);
            if owned == u64::try_from(topics.partitions * 2).expect("positive") { Ok(()) } else { Err(owned) }
        });
        // The other one has claimed, and goes on.
        std::thread::sleep(Duration::from_millis(500));
        frozen.process.signal(Signal::Cont);
    }
    shared_out(&[&first, &second], &topics);
    load.stop();
    compare::whole(broker, &topics, &redis.url());
    assert!(first.stop().success());
    assert!(second.stop().success());
}

#[test]
fn a_projector_that_stalls_wakes_and_writes_is_refused_where_another_has_claimed() {
    let broker = kafka::shared();
    let topics = broker.topics(2);
    let redis = redis::Server::start();
    let args = Args { events: 10_000_000, accounts: 300, customers: 100, seed: 6, ..Args::default() };
    let load = Load::start(broker, &topics, &args, 2_000);
    // A long session, and another group: nothing but the store can tell the stalled one of its loss.
    let patient = Settings::default();
    let elsewhere = Topics { group: format!("{}-other", topics.group), ..topics.clone() };
    let stalled = Product::start("project", &topics, &redis.url(), &patient);
    shared_out(&[&stalled], &topics);
    stalled.process.signal(Signal::Stop);
    let other = Product::start("project", &elsewhere, &redis.url(), &patient);
    shared_out(&[&other], &topics);
    std::thread::sleep(Duration::from_millis(500));
    stalled.process.signal(Signal::Cont);
    eventually(Duration::from_secs(10), || {
        let refused = metric(&stalled, "balance_projector_commits_refused", "fenced");
        if refused > 0 { Ok(()) } else { Err(stalled.process.log()) }
    });
    assert!(stalled.stop().success());
    load.stop();
    compare::whole(broker, &topics, &redis.url());
    assert!(other.stop().success());
}
