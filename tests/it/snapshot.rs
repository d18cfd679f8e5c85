//! Snapshots: a generation in a file, and back, with nothing lost between.

use std::{path::Path, time::Duration};

use balance_projector::{
    config,
    ops::generate::Args,
    snapshot,
    store::{Generation, contents::Contents, redis::RedisStore},
};
use serde_json::Value;

use crate::support::{
    Folder, compare, eventually,
    kafka::{self, Topics},
    load::Load,
    product::{self, Product, Settings},
    redis,
};

#[track_caller]
fn export(topics: &Topics, redis: &redis::Server, file: &Path) -> Value {
    let arguments = ["snapshot", "export", "--json", file.to_str().unwrap()];
    let output = product::command(topics, &redis.url(), &arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn store(redis: &redis::Server) -> RedisStore {
    RedisStore::new(&config::Redis { url: redis.url(), ..config::Redis::default() }).unwrap()
}

fn busy(seed: u64) -> Args {
    let prefix = format!("s{seed}-");
    Args {
        events: 10_000_000,
        accounts: 2_000,
        customers: 500,
        history: 3,
        poison: 50_000,
        seed,
        prefix,
        ..Args::default()
    }
}

/// The file's contents, as another generation of another store holds them.
fn imported(file: &Path) -> Contents {
    let redis = redis::Server::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = store(&redis);
        let opened = snapshot::open(file).unwrap();
        opened.import(&store, Generation(2)).await.unwrap();
        // Twice is as good as once.
        opened.import(&store, Generation(2)).await.unwrap();
        store.dump(Generation(2)).await.unwrap()
    })
}

/// What waits is counted with the account: how far with its customers too depends on how it was batched.
fn uncounted(contents: Contents) -> Contents {
    let mut contents = contents.figures();
    for mark in contents.due_quarantines.values_mut().flat_map(|marks| marks.values_mut()) {
        mark.waiting = 0;
    }
    contents
}

#[test]
fn a_snapshot_of_an_idle_generation_holds_all_that_the_store_does() {
    let broker = kafka::shared();
    let topics = broker.topics(2);
    let redis = redis::Server::start();
    let folder = Folder::new("snapshot");
    let product = Product::start("run", &topics, &redis.url(), &Settings::default());
    product.ready();
    Load::start(broker, &topics, &Args { events: 3_000, poison: 40, ..busy(51) }, 20_000).finish();
    compare::whole(broker, &topics, &redis.url());
    assert!(product.stop().success());
    let file = folder.join("idle.snapshot");
    let report = export(&topics, &redis, &file);
    let contents = compare::dump(&redis.url());
    assert!(!contents.index.is_empty() && !contents.owing.is_empty());
    assert!(report["subjects"].as_u64().unwrap() >= contents.cells.len() as u64, "{report:#}");
    let back = imported(&file);
    for (partition, position) in &contents.positions {
        let (ours, theirs) = (position.checkpoint, back.positions[partition].checkpoint);
        assert_eq!((ours.next, ours.last, theirs.complete), (theirs.next, theirs.last, false));
    }
    assert_eq!(uncounted(back), uncounted(contents));
}

#[test]
fn a_snapshot_taken_under_load_is_the_log_up_to_its_cut() {
    let broker = kafka::shared();
    let topics = broker.topics(2);
    let redis = redis::Server::start();
    let folder = Folder::new("snapshot");
    let product = Product::start("run", &topics, &redis.url(), &Settings::default());
    product.ready();
    let load = Load::start(broker, &topics, &busy(52), 2_000);
    std::thread::sleep(Duration::from_secs(4));
    let file = folder.join("busy.snapshot");
    export(&topics, &redis, &file);
    load.stop();
    let log = compare::Log::read(broker, &topics);
    assert!(product.stop().success());
    // The log alone says what the cells must be at those positions.
    let seeded = redis::Server::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        snapshot::open(&file).unwrap().import(&store(&seeded), Generation(1)).await.unwrap();
    });
    compare::generation_up_to_the_checkpoints(broker, &topics, &log, &seeded.url(), Generation(1));
    compare::whole(broker, &topics, &redis.url());
}

#[test]
fn a_snapshot_cut_short_or_altered_is_refused() {
    let broker = kafka::shared();
    let topics = broker.topics(1);
    let redis = redis::Server::start();
    let folder = Folder::new("snapshot");
    let product = Product::start("run", &topics, &redis.url(), &Settings::default());
    Load::start(broker, &topics, &Args { events: 500, poison: 0, ..busy(53) }, 20_000).finish();
    product.ready();
    compare::whole(broker, &topics, &redis.url());
    let file = folder.join("whole.snapshot");
    export(&topics, &redis, &file);
    assert!(product.stop().success());
    let whole = std::fs::read(&file).unwrap();
    let verify = |bytes: &[u8]| {
        let path = folder.join("other.snapshot");
        std::fs::write(&path, bytes).unwrap();
        let output = product::command(&topics, &redis.url(), &["snapshot", "verify", path.to_str().unwrap()]);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(verify(&whole).0, Some(0));
    let mut altered = whole.clone();
    altered[whole.len() / 2] ^= 1;
    let mut other_digest = whole.clone();
    *other_digest.last_mut().unwrap() ^= 1;
    let longer = [whole.as_slice(), b"x"].concat();
    for (bytes, word) in [
        (&whole[..whole.len() - 1], "cut short or altered"),
        (&whole[..whole.len() / 2], "cut short or altered"),
        (&whole[..20], "cut short or altered"),
        (altered.as_slice(), "cut short or altered"),
        (other_digest.as_slice(), "cut short or altered"),
        (longer.as_slice(), "cut short or altered"),
        (b"{}".as_slice(), "is no snapshot"),
        (b"".as_slice(), "is no snapshot"),
    ] {
        let (status, said) = verify(bytes);
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains(word), "{said}");
    }
    let there = product::command(&topics, &redis.url(), &["snapshot", "export", file.to_str().unwrap()]);
    assert_eq!(there.status.code(), Some(2), "{there:?}");
    let mut nowhere = vec!["snapshot", "export", "--generation", "7"];
    let path = folder.join("nothing");
    nowhere.push(path.to_str().unwrap());
    let nothing = product::command(&topics, &redis.url(), &nowhere);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("generation 7 does not exist"), "{nothing:?}");
    assert_eq!(std::fs::read(&file).unwrap(), whole);
    let names: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "no half files: {names:?}");
}

#[test]
fn what_is_exported_flushed_and_seeded_compares_as_equal() {
    let broker = kafka::shared();
    let topics = broker.topics(2);
    let redis = redis::Server::start();
    let folder = Folder::new("snapshot");
    let product = Product::start("run", &topics, &redis.url(), &Settings::default());
    product.ready();
    Load::start(broker, &topics, &Args { events: 3_000, poison: 40, ..busy(54) }, 20_000).finish();
    compare::whole(broker, &topics, &redis.url());
    let file = folder.join("seed.snapshot");
    export(&topics, &redis, &file);
    redis.command::<()>(&["FLUSHALL"]);

    // A snapshot that is not whole changes nothing.
    let bytes = std::fs::read(&file).unwrap();
    let broken = folder.join("broken.snapshot");
    std::fs::write(&broken, &bytes[..bytes.len() - 7]).unwrap();
    let start = |file: &Path| {
        let file = file.to_str().unwrap().to_owned();
        ["rebuild", "start", "--yes", "--as", "jana", "--seed"].map(str::to_owned).into_iter().chain([file])
    };
    let arguments: Vec<String> = start(&broken).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let refused = product::command(&topics, &redis.url(), &arguments);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("cut short or altered"), "{refused:?}");
    assert_eq!(compare::decisions(broker, &topics).births.len(), 1);

    // More events than the snapshot knows.
    Load::start(broker, &topics, &Args { events: 1_000, poison: 10, ..busy(55) }, 20_000).finish();
    compare::whole(broker, &topics, &redis.url());
    let arguments: Vec<String> = start(&file).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let seeded = Product::start_with(&arguments, &topics, &redis.url(), &Settings::default());
    eventually(Duration::from_secs(120), || {
        let log = seeded.process.log();
        if log.contains("generation 2 is complete") { Ok(()) } else { Err(log) }
    });
    let compared = product::command(&topics, &redis.url(), &["rebuild", "compare", "--json", "--as", "jana"]);
    let report: Value = serde_json::from_slice(&compared.stdout).unwrap();
    assert_eq!((compared.status.code(), &report["differences"]), (Some(0), &0.into()), "{report:#}");
    let log = compare::Log::read(broker, &topics);
    compare::generation_up_to_the_checkpoints(broker, &topics, &log, &redis.url(), Generation(2));
    assert!(seeded.stop().success());
    assert!(product.stop().success());
}
