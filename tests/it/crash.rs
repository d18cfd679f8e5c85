//! A projector that is killed in the middle of batches, again and again, changes no balance.

use std::time::Duration;

use balance_projector::{
    domain::{Cell, PartitionId, Subject},
    ops::generate::Args,
    store::Position,
};
use bytes::Bytes;

use crate::support::{
    compare::{self, Log},
    eventually,
    kafka::{self, Topics},
    load::{self, Load},
    product::{Product, Settings},
    redis,
};

/// Small batches, so that a kill finds several commits in flight.
fn settings() -> Settings {
    let projector = "workers = 2\nheartbeat_ms = 100\nbatch_records_max = 50\nbatch_cells_max = 20\n";
    Settings { projector: projector.to_owned(), ..Settings::default() }
}

fn commits(redis: &redis::Server) -> u64 {
    // Not by a dump of everything: what happens goes on meanwhile.
    let positions: Vec<Vec<u8>> = redis.command(&["HVALS", "{bp}:g1:pos"]);
    let position = |bytes: &Vec<u8>| Position::from_bytes(bytes).expect("a position");
    positions.iter().map(|bytes| position(bytes).checkpoint.commit).sum()
}

/// Starts a projector, lets it commit so often, and kills it.
fn killed_under_way(topics: &Topics, redis: &redis::Server, round: u64, settings: &Settings, often: u64) {
    // A group of its own: the dead one's members would hold their partitions until their session ends, and a
    // group's offsets decide nothing.
    let topics = Topics { group: format!("{}-{round}", topics.group), ..topics.clone() };
    let before = commits(redis);
    let product = Product::start("project", &topics, &redis.url(), settings);
    eventually(Duration::from_secs(30), || {
        let now = commits(redis);
        if now > before + often { Ok(()) } else { Err(now) }
    });
    // Another moment of the batch in every round.
    std::thread::sleep(Duration::from_millis(round * 37 % 100));
    product.kill();
}

#[test]
fn a_projector_killed_in_the_middle_of_batches_leaves_every_balance_as_of_its_checkpoint() {
    let broker = kafka::shared();
    let topics = broker.topics(4);
    let redis = redis::Server::start();
    // Readers may be answered from here on: every commit is one that they may see.
    let product = Product::start("project", &topics, &redis.url(), &settings());
    product.ready();
    assert!(product.stop().success());
    let args = Args { events: 150_000, accounts: 500, customers: 200, ..Args::default() };
    load::all_at_once(broker, &topics, &args);
    let log = Log::read(broker, &topics);
    let mut in_the_middle = 0;
    for round in 0..6 {
        killed_under_way(&topics, &redis, round, &settings(), 20);
        in_the_middle += u32::from(!compare::is_folded(&log, &redis.url()));
        // Exactly the records below the checkpoint are in the cells: no more, no less.
        compare::up_to_the_checkpoints(broker, &topics, &log, &redis.url());
    }
    assert!(in_the_middle >= 3, "{in_the_middle} of 6 kills left something to fold: the others say nothing");
    let before = commits(&redis);
    let product = Product::start("project", &topics, &redis.url(), &Settings::default());
    compare::folded(&log, &redis.url());
    // Where nothing was left to fold, it may not even have begun.
    eventually(Duration::from_secs(30), || if commits(&redis) > before { Ok(()) } else { Err(before) });
    assert!(product.stop().success());
    let expected = compare::up_to_the_checkpoints(broker, &topics, &log, &redis.url());
    assert!(expected.cells.len() > 600, "{} cells", expected.cells.len());
}

#[test]
fn before_anybody_is_answered_a_kill_leaves_cells_ahead_of_their_checkpoint_and_folding_again_heals_them() {
    let broker = kafka::shared();
    let topics = broker.topics(2);
    let redis = redis::Server::start();
    let args = Args { events: 150_000, accounts: 20_000, customers: 6_000, ..Args::default() };
    load::all_at_once(broker, &topics, &args);
    // More commits for what was gathered than there are heartbeats: a kill finds some of them written.
    let projector = "workers = 2\nheartbeat_ms = 200\nbatch_records_max = 50\nbatch_cells_max = 1\n";
    let settings = Settings { projector: projector.to_owned(), ..Settings::default() };
    let mut left_ahead = 0;
    for round in 0..6 {
        killed_under_way(&topics, &redis, round, &settings, 100);
        left_ahead += u32::from(ahead(&redis) > 0);
    }
    assert!(left_ahead >= 3, "{left_ahead} of 6 kills left cells ahead: the others say nothing");
    let product = Product::start("project", &topics, &redis.url(), &settings);
    let expected = compare::whole(broker, &topics, &redis.url());
    assert!(product.stop().success());
    assert!(expected.cells.len() > 10_000, "{} cells", expected.cells.len());
}

/// How many cells hold more than their partition's checkpoint tells.
fn ahead(redis: &redis::Server) -> usize {
    let contents = compare::dump(&redis.url());
    let is_ahead = |(subject, bytes): (&Subject, &Bytes)| {
        let cell = Cell::decode(subject, bytes).expect("a cell");
        let partition = PartitionId { topic: subject.topic(), partition: cell.home() };
        cell.applied() > contents.positions[&partition].checkpoint.next
    };
    contents.cells.iter().filter(|cell| is_ahead(*cell)).count()
}

#[test]
fn a_projector_killed_under_load_with_poison_sets_every_dead_letter_aside_and_repeats_of_one_say_the_same() {
    let broker = kafka::shared();
    let topics = broker.topics(3);
    let redis = redis::Server::start();
    let args = Args {
        events: 10_000_000,
        accounts: 300,
        customers: 100,
        poison: 40_000,
        seed: 2,
        ..Args::default()
    };
    let load = Load::start(broker, &topics, &args, 3_000);
    for round in 0..8 {
        killed_under_way(&topics, &redis, round, &settings(), 20);
    }
    let product = Product::start("project", &topics, &redis.url(), &settings());
    load.stop();
    let expected = compare::whole(broker, &topics, &redis.url());
    assert!(product.stop().success());
    assert!(expected.dead_letters.len() >= 20, "{} dead letters", expected.dead_letters.len());
    assert!(!expected.quarantines.is_empty());
}

#[test]
fn an_orderly_stop_under_load_loses_nothing_and_exits_with_0() {
    let broker = kafka::shared();
    let topics = broker.topics(2);
    let redis = redis::Server::start();
    let args = Args { events: 10_000_000, accounts: 200, customers: 100, seed: 3, ..Args::default() };
    let load = Load::start(broker, &topics, &args, 4_000);
    for _ in 0..4 {
        let before = commits(&redis);
        let product = Product::start("run", &topics, &redis.url(), &settings());
        eventually(Duration::from_secs(30), || {
            let now = commits(&redis);
            if now > before + 20 { Ok(()) } else { Err(now) }
        });
        // The same group each time: an orderly stop releases the partitions at once.
        assert!(product.stop().success());
    }
    load.stop();
    let product = Product::start("run", &topics, &redis.url(), &settings());
    product.ready();
    compare::whole(broker, &topics, &redis.url());
    assert!(product.stop().success());
}
