//! Snapshots: a generation in a file, and back, with nothing lost between.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    path::Path,
    time::{Duration, Instant},
};

use balance_projector::{
    config,
    domain::{AccountId, Checkpoint, Offset, PartitionId, Subject, Topic},
    ops::generate::Args,
    snapshot::{self, Imported},
    store::{
        Generation,
        contents::Contents,
        redis::{
            RedisStore,
            seed::{ImportError, Planted},
        },
    },
};
use serde_json::Value;

use crate::support::{
    Folder, compare, events, eventually, http,
    kafka::{self, Topics},
    load::{self, Load},
    produce::{Partitioner, Producer},
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
        assert_eq!(opened.import(&store, Generation(2)).await.unwrap(), Imported::Done);
        // Twice is as good as once.
        assert_eq!(opened.import(&store, Generation(2)).await.unwrap(), Imported::Done);
        store.dump(Generation(2)).await.unwrap()
    })
}

/// An import of a file that is another one by the time that it is read for the second time.
fn replaced(file: &Path, by: &Path) -> String {
    let redis = redis::Server::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = store(&redis);
        let opened = snapshot::open(file).unwrap();
        std::fs::copy(by, file).unwrap();
        let error = opened.import(&store, Generation(2)).await.unwrap_err();
        assert!(store.positions(Generation(2)).await.unwrap().is_empty(), "nobody may fold onto it");
        error.to_string()
    })
}

/// The keys on hold in all partitions of the first generation.
fn on_hold(redis: &redis::Server, partitions: &[PartitionId]) -> BTreeSet<Subject> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async { store(redis).on_hold(Generation(1), partitions).await.unwrap() })
}

/// `rebuild start` onto a snapshot.
fn seed(file: &Path) -> [&str; 7] {
    ["rebuild", "start", "--yes", "--as", "jana", "--seed", file.to_str().unwrap()]
}

#[track_caller]
fn is_complete(rebuild: &Product, generation: u32) {
    let said = format!("generation {generation} is complete");
    eventually(Duration::from_secs(120), || {
        let log = rebuild.process.log();
        if log.contains(&said) { Ok(()) } else { Err(log) }
    });
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
    let partitions: Vec<_> = contents.positions.keys().copied().collect();
    let marked: BTreeSet<_> = contents.index.values().flat_map(|keys| keys.keys().cloned()).collect();
    assert_eq!(on_hold(&redis, &partitions), marked);
    let back = imported(&file);
    for (partition, position) in &contents.positions {
        let (ours, theirs) = (position.checkpoint, back.positions[partition].checkpoint);
        assert_eq!((ours.next, ours.last, theirs.complete), (theirs.next, theirs.last, false));
    }
    assert_eq!(uncounted(back), uncounted(contents));
    let later = folder.join("later.snapshot");
    export(&topics, &redis, &later);
    let refused = replaced(&file, &later);
    assert!(refused.contains("was changed or replaced meanwhile: start again"), "{refused}");
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
        let imported = snapshot::open(&file).unwrap().import(&store(&seeded), Generation(1)).await;
        assert_eq!(imported.unwrap(), Imported::Done);
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
    // One that fails at its very end: a folder gives its name to no file.
    let taken = folder.join("taken");
    std::fs::create_dir(&taken).unwrap();
    let arguments = ["snapshot", "export", "--force", taken.to_str().unwrap()];
    let failed = product::command(&topics, &redis.url(), &arguments);
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    assert_eq!(std::fs::read(&file).unwrap(), whole);
    let names: BTreeSet<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let left = ["other.snapshot", "taken", "whole.snapshot"].map(OsString::from);
    assert_eq!(names, BTreeSet::from(left), "no half files");
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
    let refused = product::command(&topics, &redis.url(), &seed(&broken));
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("cut short or altered"), "{refused:?}");
    assert_eq!(compare::decisions(broker, &topics).births.len(), 1);

    // More events than the snapshot knows.
    Load::start(broker, &topics, &Args { events: 1_000, poison: 10, ..busy(55) }, 20_000).finish();
    compare::whole(broker, &topics, &redis.url());
    let seeded = Product::start_with(&seed(&file), &topics, &redis.url(), &Settings::default());
    is_complete(&seeded, 2);
    let compared = product::command(&topics, &redis.url(), &["rebuild", "compare", "--json", "--as", "jana"]);
    let report: Value = serde_json::from_slice(&compared.stdout).unwrap();
    assert_eq!((compared.status.code(), &report["differences"]), (Some(0), &0.into()), "{report:#}");
    let log = compare::Log::read(broker, &topics);
    compare::generation_up_to_the_checkpoints(broker, &topics, &log, &redis.url(), Generation(2));
    assert!(seeded.stop().success());
    assert!(product.stop().success());
}

/// The subjects of a generation that the store holds.
fn cells(redis: &redis::Server, generation: u32) -> BTreeSet<String> {
    let accounts = redis.command::<BTreeSet<String>>(&["KEYS", &format!("{{bp}}:g{generation}:a:*")]);
    let customers = redis.command::<BTreeSet<String>>(&["KEYS", &format!("{{bp}}:g{generation}:c:*")]);
    accounts.union(&customers).cloned().collect()
}

/// Begins to fill a generation, and kills that in the middle: the store takes no writes from then on.
#[track_caller]
fn killed_in_the_middle(topics: &Topics, redis: &redis::Server, file: &Path, generation: u32) {
    let import = Product::start_with(&seed(file), topics, &redis.url(), &Settings::default());
    let deadline = Instant::now() + Duration::from_secs(60);
    while cells(redis, generation).is_empty() {
        assert!(Instant::now() < deadline, "{}", import.process.log());
    }
    redis.command::<()>(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    import.kill();
    redis.command::<()>(&["CLIENT", "UNPAUSE"]);
    let positions: u64 = redis.command(&["EXISTS", &format!("{{bp}}:g{generation}:pos")]);
    assert_eq!(positions, 0, "it was over already");
}

#[test]
fn an_import_that_is_killed_is_never_folded_onto_and_is_done_again() {
    let broker = kafka::shared();
    let topics = broker.topics(2);
    let redis = redis::Server::start();
    let folder = Folder::new("snapshot");
    let product = Product::start("run", &topics, &redis.url(), &Settings::default());
    product.ready();
    let many =
        Args { events: 20_000, accounts: 20_000, customers: 10_000, history: 0, poison: 40, ..busy(56) };
    load::all_at_once(broker, &topics, &many);
    compare::whole(broker, &topics, &redis.url());
    let file = folder.join("seed.snapshot");
    export(&topics, &redis, &file);
    load::all_at_once(broker, &topics, &Args { events: 1_000, poison: 10, ..busy(57) });

    killed_in_the_middle(&topics, &redis, &file, 2);
    let half = cells(&redis, 2);
    assert!(half.len() < cells(&redis, 1).len(), "{} cells", half.len());
    // Whoever feeds it without the file waits, and changes nothing.
    let config = "generation = 2\n".to_owned();
    let feeds = Settings { head: config, ..Settings::default() };
    let waits = Product::start("project", &topics, &redis.url(), &feeds);
    eventually(Duration::from_secs(60), || {
        let log = waits.process.log();
        if log.contains("--generation 2 --seed FILE") { Ok(()) } else { Err(log) }
    });
    assert_eq!((cells(&redis, 2), redis.command::<u64>(&["EXISTS", "{bp}:g2:pos"])), (half, 0));

    // Two at once: one of them fills it, and both feed it.
    let again =
        [(); 2].map(|()| Product::start_with(&seed(&file), &topics, &redis.url(), &Settings::default()));
    for again in &again {
        is_complete(again, 2);
    }
    let log = compare::Log::read(broker, &topics);
    compare::folded_into(&log, &redis.url(), Generation(2));
    compare::generation_up_to_the_checkpoints(broker, &topics, &log, &redis.url(), Generation(2));
    let filled = again.iter().filter(|again| again.process.log().contains("subjects from the snapshot"));
    assert_eq!(filled.count(), 1);
    let births = compare::decisions(broker, &topics).births;
    assert_eq!(births.keys().copied().collect::<Vec<_>>(), [Generation(1), Generation(2)]);
    for one in again {
        assert!(one.stop().success());
    }
    assert!(waits.stop().success());
    assert!(product.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_another_one_took_over_changes_nothing_any_more() {
    let redis = redis::Server::start();
    let store = store(&redis);
    let generation = Generation(2);
    let planted = |value: &str| {
        let subject = Subject::Account(AccountId::parse("A1").unwrap());
        let cell = Some(value.as_bytes().to_vec());
        [Planted { subject, cell, quarantines: Vec::new(), dues: Vec::new() }]
    };
    let stored = || redis.command::<Option<String>>(&["GET", "{bp}:g2:a:A1"]);
    let dead = store.import(generation).await.unwrap().expect("nobody else imports");
    dead.plant(&planted("half")).await.unwrap();
    assert!(store.import(generation).await.unwrap().is_none(), "one at a time");
    // As after its lease.
    redis.command::<()>(&["DEL", "{bp}:g2.import"]);
    let other = store.import(generation).await.unwrap().expect("it is over");
    other.clear().await.unwrap();
    assert_eq!(stored(), None);
    other.plant(&planted("whole")).await.unwrap();
    let at = (PartitionId { topic: Topic::Ledger, partition: 0 }, Checkpoint::born(Offset(7)));
    assert_eq!(dead.clear().await, Err(ImportError::TakenOver));
    assert_eq!(dead.plant(&planted("half")).await, Err(ImportError::TakenOver));
    assert!(store.positions(generation).await.unwrap().is_empty());
    other.place(&[at]).await.unwrap();
    assert_eq!(dead.plant(&planted("half")).await, Err(ImportError::TakenOver));
    assert_eq!(dead.place(&[]).await, Err(ImportError::TakenOver));
    let positions = store.positions(generation).await.unwrap();
    assert_eq!((positions[&at.0].checkpoint, stored().as_deref()), (at.1, Some("whole")));
}

#[test]
fn a_snapshot_is_the_first_generation_where_the_history_is_gone() {
    let broker = kafka::shared();
    let topics = broker.topics(2);
    let redis = redis::Server::start();
    let folder = Folder::new("snapshot");
    let product = Product::start("run", &topics, &redis.url(), &Settings::default());
    product.ready();
    let many =
        Args { events: 20_000, accounts: 20_000, customers: 10_000, history: 0, poison: 40, ..busy(58) };
    load::all_at_once(broker, &topics, &many);
    let producer = Producer::new(broker, Partitioner::Librdkafka);
    producer.put(&events::booked(&topics, "a0", "e1", "700", None));
    compare::whole(broker, &topics, &redis.url());
    let file = folder.join("seed.snapshot");
    export(&topics, &redis, &file);
    assert!(product.stop().success());
    let positions = compare::dump(&redis.url()).positions;
    load::all_at_once(broker, &topics, &Args { events: 1_000, poison: 10, ..busy(59) });
    producer.put(&events::booked(&topics, "a0", "e2", "77", None));
    let whole = compare::Log::read(broker, &topics);

    // All is lost but the file and what came after it: Redis, the decisions, the history.
    for (id, position) in positions {
        let topic = if id.topic == Topic::Ledger { &topics.ledger } else { &topics.payment };
        broker.delete_records_before(topic, id.partition, position.checkpoint.next.0);
    }
    let anew = broker.topics(1);
    let topics =
        Topics { decisions: anew.decisions, dead_letters: anew.dead_letters, group: anew.group, ..topics };
    let redis = redis::Server::start();
    for (arguments, says) in [
        (&["project"][..], "begin with `rebuild start` from a snapshot or from where the log starts"),
        (&["rebuild", "start", "--yes", "--as", "jana"], "`--seed FILE` or `--from log-start` does"),
    ] {
        let refused = product::command(&topics, &redis.url(), arguments);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(1) && said.contains(says), "{said}");
    }
    assert!(compare::decisions(broker, &topics).births.is_empty());

    killed_in_the_middle(&topics, &redis, &file, 1);
    // No number is wasted on what was killed: the same command goes on.
    let seeded = Product::start_with(&seed(&file), &topics, &redis.url(), &Settings::default());
    is_complete(&seeded, 1);
    compare::folded(&whole, &redis.url());
    compare::generation_up_to_the_checkpoints(broker, &topics, &whole, &redis.url(), Generation(1));
    let births = compare::decisions(broker, &topics).births;
    assert_eq!(births.keys().copied().collect::<Vec<_>>(), [Generation(1)]);
    assert!(births[&Generation(1)].active);
    assert!(seeded.stop().success());

    // From here on it is the deployment's generation like any other.
    let accounts = vec!["a0".to_owned()];
    let api = "max_staleness_ms = 5000\nbalance_types = [\"ITBD\"]\n".to_owned();
    let settings = Settings { api, accounts, ..Settings::default() };
    let product = Product::start("run", &topics, &redis.url(), &settings);
    product.ready();
    let answer = http::account(product.views, "a0").unwrap();
    assert!(answer.status == 200 && answer.body.contains("\"value\":777.00"), "{answer:?}");
    let report = product::command(&topics, &redis.url(), &["audit"]);
    let said = String::from_utf8_lossy(&report.stderr).into_owned();
    assert!(report.status.code() == Some(1) && said.contains("began from a snapshot"), "{said}");
    let next = Product::start_with(&seed(&file), &topics, &redis.url(), &Settings::default());
    is_complete(&next, 2);
    let compared = product::command(&topics, &redis.url(), &["rebuild", "compare", "--as", "jana"]);
    assert_eq!(compared.status.code(), Some(0), "{compared:?}");
    assert!(next.stop().success());
    assert!(product.stop().success());
}

#[test]
fn a_seed_is_told_by_its_digest_and_its_topics_and_only_what_lies_behind_it_is_folded() {
    let broker = kafka::shared();
    let topics = broker.topics(1);
    let redis = redis::Server::start();
    let folder = Folder::new("snapshot");
    let producer = Producer::new(broker, Partitioner::Librdkafka);
    let book = |entries: std::ops::Range<u32>| {
        for entry in entries {
            producer.put(&events::booked(&topics, "a0", &format!("e{entry}"), "1", None));
        }
    };
    book(0..5);
    let product = Product::start("run", &topics, &redis.url(), &Settings::default());
    product.ready();
    compare::whole(broker, &topics, &redis.url());
    let file = folder.join("seed.snapshot");
    let report = export(&topics, &redis, &file);
    let verify = ["snapshot", "verify", "--json", file.to_str().unwrap()];
    let verified = product::command(&topics, &redis.url(), &verify);
    let verified: Value = serde_json::from_slice(&verified.stdout).unwrap();
    let at = Value::from(format!("{}/0@5", topics.ledger));
    assert!(report["positions"].as_array().unwrap().contains(&at), "{report:#}");
    assert_eq!(verified["positions"], report["positions"]);

    book(5..8);
    compare::whole(broker, &topics, &redis.url());
    // Nobody can be asked here: it tells what it would do, and ends.
    let unasked: Vec<_> = seed(&file).into_iter().filter(|word| *word != "--yes").collect();
    let told = product::command(&topics, &redis.url(), &unasked);
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.status.code() == Some(2) && said.contains("folds 3 records onto the snapshot"), "{said}");

    let seeded = Product::start_with(&seed(&file), &topics, &redis.url(), &Settings::default());
    is_complete(&seeded, 2);
    assert!(seeded.stop().success());
    let later = folder.join("later.snapshot");
    let other = export(&topics, &redis, &later);
    let refused = product::command(&topics, &redis.url(), &seed(&later));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    let [first, second] = [&report, &other].map(|report| report["digest"].as_str().unwrap()[..12].to_owned());
    let words =
        format!("generation 2 began from the snapshot {first}, not from the snapshot {second}: give that");
    assert!(refused.status.code() == Some(2) && said.contains(&words), "{said}");
    assert!(product.stop().success());
}
