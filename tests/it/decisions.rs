//! What an operator decides about a record that cannot be applied: applied once, by the partition's owner, while
//! events of the same key keep arriving, and by every rebuild. A sequence gap closes by itself.

use std::{path::Path, process::Output, thread, time::Duration};

use balance_projector::{
    config,
    decisions::Remedy,
    domain::{AccountId, Checkpoint, Class, CustomerId, Offset, PartitionId, Subject, Time, Topic},
    store::{
        Commit, Generation, Quarantine, QuarantineWrite, StoreError, Token, WriteStore as _,
        redis::RedisStore,
    },
};
use serde_json::{Value, json};

use crate::support::{
    Folder,
    compare::{self, Expected},
    events, eventually, http,
    kafka::{self, Broker, Topics},
    produce::{Outgoing, Partitioner, Producer},
    product::{self, Product, Settings},
    redis,
};

/// A deployment with one product that feeds and serves it.
struct World {
    broker: &'static Broker,
    topics: Topics,
    redis: redis::Server,
    producer: Producer,
    folder: Folder,
}

impl World {
    fn new(partitions: i32) -> Self {
        let broker = kafka::shared();
        World {
            broker,
            topics: broker.topics(partitions),
            redis: redis::Server::start(),
            producer: Producer::new(broker, Partitioner::Java),
            folder: Folder::new("decisions"),
        }
    }

    fn start(&self, accounts: &[&str]) -> Product {
        let settings = Settings {
            accounts: accounts.iter().map(|id| (*id).to_owned()).collect(),
            api: "max_staleness_ms = 5000\nbalance_types = [\"ITBD\"]\n".to_owned(),
            ..Settings::default()
        };
        Product::start("run", &self.topics, &self.redis.url(), &settings)
    }

    fn put(&self, record: &Outgoing) -> i64 {
        self.producer.put(record).1
    }

    fn booked(&self, account: &str, entry: &str, amount: &str) -> Outgoing {
        events::booked(&self.topics, account, entry, amount, Some("C1"))
    }

    /// The same, numbered.
    fn numbered(&self, account: &str, number: u64, amount: &str) -> Outgoing {
        events::numbered(&self.topics, account, number, amount, Some("C1"))
    }

    fn command(&self, arguments: &[&str]) -> Output {
        product::command(&self.topics, &self.redis.url(), arguments)
    }

    /// A command that does what it was told.
    #[track_caller]
    fn redrive(&self, arguments: &[&str]) -> String {
        let mut all = vec!["redrive", "--yes", "--as", "jana"];
        all.extend(arguments);
        let done = self.command(&all);
        let (told, complained) = (text(&done.stdout), text(&done.stderr));
        assert_eq!(done.status.code(), Some(0), "{arguments:?}: {told}{complained}");
        told + &complained
    }

    /// A command that is refused with these words.
    #[track_caller]
    fn refused(&self, arguments: &[&str], words: &str) {
        let before = compare::amendments(self.broker, &self.topics);
        let mut all = vec!["redrive", "--yes", "--as", "jana"];
        all.extend(arguments);
        let done = self.command(&all);
        let complained = text(&done.stderr);
        assert!(!done.status.success(), "{arguments:?}");
        assert!(complained.contains(words), "{arguments:?}: `{words}` is not in {complained}");
        assert_eq!(compare::amendments(self.broker, &self.topics), before, "{arguments:?}");
    }

    fn whole(&self) -> Expected {
        compare::whole(self.broker, &self.topics, &self.redis.url())
    }

    /// Waits until nothing is on hold, and compares everything with the log and the decisions.
    #[track_caller]
    fn nothing_waits(&self) -> Expected {
        nothing_waits_in(self.broker, &self.topics, &self.redis.url())
    }

    /// Folds the same topics into an empty store, with the decisions known from the beginning.
    fn again_from_scratch(&self) -> Expected {
        let redis = redis::Server::start();
        let topics = Topics { group: format!("{}-again", self.topics.group), ..self.topics.clone() };
        let product = Product::start("project", &topics, &redis.url(), &Settings::default());
        let again = nothing_waits_in(self.broker, &topics, &redis.url());
        assert!(product.stop().success());
        again
    }

    /// Rebuilds the live log into generation 2, and compares both.
    #[track_caller]
    fn a_rebuild_differs_in_nothing(&self) {
        let start = ["rebuild", "start", "--yes", "--as", "jana"];
        let rebuild = Product::start_with(&start, &self.topics, &self.redis.url(), &Settings::default());
        eventually(Duration::from_secs(120), || {
            let log = rebuild.process.log();
            if log.contains("generation 2 is complete") { Ok(()) } else { Err(log) }
        });
        let output = self.command(&["rebuild", "compare", "--json", "--as", "jana"]);
        let report: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
        let told = (output.status.code(), &report["differences"]);
        assert_eq!(told, (Some(0), &json!(0)), "{report:#}");
        assert!(report["cells"].as_u64().expect("a number") > 0, "{report:#}");
        assert!(rebuild.stop().success());
    }

    /// Sets the next record of partition 0 of the ledger aside, as an owner of a release that cannot apply it would.
    fn set_aside_by_a_release_before(&self, account: &str, offset: Offset, class: Class) {
        let settings = config::Redis { url: self.redis.url(), ..config::Redis::default() };
        let (generation, partition) = (Generation(1), PartitionId { topic: Topic::Ledger, partition: 0 });
        let quarantine = Quarantine {
            partition,
            offset,
            class,
            since: Time::from_millis(1_700_000_000_000),
            waiting: 0,
            heals: false,
        };
        let held = QuarantineWrite {
            subject: Subject::Account(AccountId::parse(account).expect("an id")),
            quarantine,
            lifted: false,
            customers: vec![CustomerId::parse("C1").expect("an id")],
            unless_changed: None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let done: Result<(), StoreError> = runtime.block_on(async {
            let store = RedisStore::new(&settings)?;
            let from = store.claim(generation, partition, Token([7; 16])).await?.position;
            assert_eq!(from.checkpoint.next, offset, "the next record");
            let to =
                Checkpoint { next: offset.next(), commit: from.checkpoint.commit + 1, ..from.checkpoint };
            let commit = Commit {
                generation,
                partition,
                from,
                to,
                cells: vec![],
                owing: vec![],
                quarantines: vec![held],
                state: None,
            };
            store.commit(&commit).await
        });
        done.expect("set aside");
    }

    fn file(&self, name: &str, record: &Outgoing) -> String {
        let path = self.folder.join(name);
        std::fs::write(&path, record.value.as_deref().expect("a value")).expect("a file");
        path_text(&path)
    }
}

/// A gap closes behind the commit that passes the missing record: that everything is folded is not all.
#[track_caller]
fn nothing_waits_in(broker: &Broker, topics: &Topics, redis_url: &str) -> Expected {
    compare::folded(&compare::Log::read(broker, topics), redis_url);
    eventually(Duration::from_secs(30), || {
        let contents = compare::dump(redis_url);
        let marks = (contents.quarantines, contents.due_quarantines);
        if marks.0.is_empty() && marks.1.is_empty() { Ok(()) } else { Err(marks) }
    });
    let expected = compare::whole(broker, topics, redis_url);
    assert!(expected.quarantines.is_empty(), "{:?}", expected.quarantines);
    expected
}

fn path_text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn with_event(record: Outgoing, change: impl FnOnce(&mut Value)) -> Outgoing {
    let mut event = serde_json::from_slice(record.value.as_deref().expect("a value")).expect("JSON");
    change(&mut event);
    Outgoing { value: Some(event.to_string().into_bytes()), ..record }
}

fn unreadable(record: Outgoing) -> Outgoing {
    Outgoing { value: Some(b"no event".to_vec()), ..record }
}

/// The booked balance, as it is served.
#[track_caller]
fn balance(product: &Product, account: &str) -> String {
    eventually(Duration::from_secs(20), || {
        let answer = http::account(product.views, account).map_err(|error| error.to_string())?;
        if answer.status != 200 {
            return Err(format!("{answer:?}"));
        }
        // As it is written: a parser would make a float of it.
        let amount =
            answer.body.split("\"amount\":{\"value\":").nth(1).and_then(|rest| rest.split(',').next());
        Ok(amount.unwrap_or_else(|| panic!("no amount: {answer:?}")).to_owned())
    })
}

#[test]
fn each_remedy_is_applied_by_the_owner_and_by_a_fold_from_scratch() {
    let world = World::new(2);
    let accounts = ["skipped", "replaced", "accepted", "retried", "healthy"];
    let product = world.start(&accounts);
    for account in accounts {
        world.put(&events::opened(&world.topics, account, &["CZK"], Some("C1")));
        world.put(&world.booked(account, "first", "100"));
    }
    world.put(&unreadable(world.booked("skipped", "poison", "1")));
    let wrong = world.booked("replaced", "poison", "20");
    world.put(&with_event(wrong.clone(), |event| event["data"]["amount"] = "20.001".into()));
    // The oldest time of all, and too many since for its id to be remembered.
    let late = with_event(world.booked("accepted", "poison", "20"), |event| {
        event["time"] = "2026-02-01T00:00:00Z".into();
    });
    for n in 0..40 {
        world.put(&world.booked("accepted", &format!("e{n}"), "1"));
    }
    world.put(&late);
    let first = world.booked("retried", "first", "7");
    world.put(&first);
    for account in accounts {
        world.put(&world.booked(account, "behind", "3"));
    }
    product.ready();
    let held = world.whole();
    assert_eq!(held.quarantines.len(), 4);
    assert_eq!(http::account(product.views, "skipped").expect("an answer").status, 503);

    let listed = world.command(&["dead-letters", "list", "--json"]);
    let cases: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    let mut rows: Vec<_> = cases.as_array().expect("rows").iter().collect();
    rows.sort_by_key(|row| row["key"].to_string());
    let told: Vec<_> =
        rows.iter().map(|row| (row["key"].as_str(), row["class"].as_str(), &row["waiting"])).collect();
    let one = Value::from(1);
    assert_eq!(
        told,
        [
            (Some("accepted"), Some("unverifiable"), &one),
            (Some("replaced"), Some("bad-amount"), &one),
            (Some("retried"), Some("conflict"), &one),
            (Some("skipped"), Some("not-json"), &one),
        ]
    );
    assert!(rows.iter().all(|row| row["message"].as_str().is_some_and(|message| message.len() > 10)));
    assert!(rows.iter().all(|row| row["kept_until"].is_null() && row["gone"] == false));
    let only = world.command(&["dead-letters", "list", "--class", "conflict"]);
    assert!(text(&only.stdout).contains("retried") && !text(&only.stdout).contains("skipped"));
    let shown = world.command(&["dead-letters", "show", "skipped"]);
    assert!(text(&shown.stdout).contains("no event"), "{}", text(&shown.stdout));

    let told = world.redrive(&["--key", "skipped", "--skip", "--reason", "a test record"]);
    assert!(told.contains("booked 100.00") && told.contains("booked 103.00"), "{told}");
    let file = world.file("right.json", &wrong);
    world.redrive(&["--key", "replaced", "--replace", &file]);
    world.redrive(&["--class", "unverifiable", "--accept"]);
    world.refused(&["--key", "retried"], "conflict");
    world.redrive(&["--all", "--skip", "--reason", "booked twice"]);

    let figures: Vec<String> = accounts.iter().map(|account| balance(&product, account)).collect();
    assert_eq!(figures, ["103.00", "123.00", "163.00", "103.00", "103.00"]);
    let live = world.nothing_waits();
    assert_eq!(http::customer(product.views, "C1").expect("an answer").status, 200);
    let again = world.again_from_scratch();
    assert_eq!((again.cells, again.quarantines), (live.cells, live.quarantines));
    world.a_rebuild_differs_in_nothing();
    assert!(product.stop().success());
}

/// What a generation pins never changes, so nothing is foldable later by itself: it takes a release that folds what the
/// one before it could not.
#[test]
fn a_record_that_is_foldable_since_is_folded_as_it_stands_by_a_plain_redrive() {
    let world = World::new(1);
    let product = world.start(&["A1"]);
    world.put(&world.booked("A1", "first", "100"));
    product.ready();
    world.whole();
    assert!(product.stop().success());
    let offset = Offset(world.put(&world.booked("A1", "second", "20")));
    world.set_aside_by_a_release_before("A1", offset, Class::BadField);
    world.put(&world.booked("A1", "behind", "3"));
    let product = world.start(&["A1"]);
    product.ready();
    compare::folded(&compare::Log::read(world.broker, &world.topics), &world.redis.url());
    for answer in [http::account(product.views, "A1"), http::customer(product.views, "C1")] {
        assert_eq!(answer.expect("an answer").status, 503);
    }

    let told = world.redrive(&["--key", "A1"]);
    assert!(told.contains("booked 100.00") && told.contains("booked 123.00"), "{told}");
    let remedies: Vec<_> = compare::amendments(world.broker, &world.topics)
        .patches
        .values()
        .flatten()
        .map(|patch| patch.remedy.clone())
        .collect();
    assert_eq!(remedies, [Remedy::Retry]);
    assert_eq!(balance(&product, "A1"), "123.00");
    let live = world.nothing_waits();
    assert_eq!(http::customer(product.views, "C1").expect("an answer").status, 200);
    assert_eq!(world.again_from_scratch().cells, live.cells);
    world.a_rebuild_differs_in_nothing();
    assert!(product.stop().success());
}

#[test]
fn what_cannot_be_decided_is_refused_and_nothing_is_changed() {
    let world = World::new(1);
    let product = world.start(&["A1", "A2"]);
    for account in ["A1", "A2"] {
        world.put(&world.booked(account, "first", "100"));
    }
    let offset = world.put(&unreadable(world.booked("A1", "poison", "1")));
    product.ready();
    world.whole();
    let right = world.file("right.json", &world.booked("A1", "poison", "1"));
    let another = world.file("another.json", &world.booked("A2", "poison", "1"));
    let broken = world.file("broken.json", &unreadable(world.booked("A1", "poison", "1")));
    let place = format!("{}/0@{}", world.topics.ledger, offset - 1);
    let rows: [(&[&str], &str); 10] = [
        (&["--key", "A2"], "A2 is not on hold"),
        (&["--key", "nobody", "--skip", "--reason", "x"], "nobody is not on hold"),
        (&["--at", &place, "--skip", "--reason", "x"], "is not on hold"),
        (&["--at", "ledger", "--skip", "--reason", "x"], "no TOPIC/PARTITION@OFFSET"),
        (&["--key", "A1", "--skip"], "say why with --reason"),
        (&["--key", "A1", "--accept"], "only an unverifiable event"),
        (&["--key", "A1", "--replace", &another], "key-not-subject"),
        (&["--key", "A1", "--replace", &broken], "not-json"),
        (&["--key", "A1"], "A1 would not get past"),
        (&["--halted", &format!("{}/0", world.topics.ledger)], "has not halted"),
    ];
    for (arguments, words) in rows {
        world.refused(arguments, words);
    }
    let asked = world.command(&["redrive", "--key", "A1", "--replace", &right]);
    assert_eq!(asked.status.code(), Some(2), "nobody can be asked: {}", text(&asked.stderr));
    let shown = world.command(&["redrive", "--key", "A1", "--replace", &right, "--preview"]);
    assert!(text(&shown.stdout).contains("booked 101.00"), "{}", text(&shown.stdout));
    let unknown = world.command(&["dead-letters", "show", "A2"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert_eq!(world.whole().quarantines.len(), 1);
    assert!(product.stop().success());
}

#[test]
fn a_sequence_gap_closes_by_itself_in_any_shape() {
    let world = World::new(1);
    let shapes: [&[u64]; 5] =
        [&[1, 3, 2, 4], &[3, 2, 1, 4], &[1, 4, 3, 2, 5], &[2, 1, 4, 3, 6, 5], &[1, 5, 7, 6, 2, 4, 3, 8]];
    let names: Vec<String> = (0..shapes.len()).map(|n| format!("G{n}")).collect();
    let product = world.start(&names.iter().map(String::as_str).collect::<Vec<_>>());
    product.ready();
    let longest = shapes.iter().map(|shape| shape.len()).max().expect("some");
    for at in 0..longest {
        for (name, shape) in names.iter().zip(shapes) {
            if let Some(number) = shape.get(at) {
                world.put(&world.numbered(name, *number, &number.to_string()));
            }
        }
    }
    for (name, shape) in names.iter().zip(shapes) {
        let sum: u64 = shape.iter().sum();
        assert_eq!(balance(&product, name), format!("{sum}.00"), "{shape:?}");
    }
    let live = world.nothing_waits();
    let again = world.again_from_scratch();
    assert_eq!(again.cells, live.cells);
    assert!(product.stop().success());
}

#[test]
fn a_stray_record_that_is_passed_over_leaves_its_subject_where_it_lives() {
    let world = World::new(2);
    let product = world.start(&["A7"]);
    product.ready();
    let stray = unreadable(world.booked("A7", "stray", "1"));
    let (partition, _) = world.producer.put(&world.booked("A7", "e0", "100"));
    world.put(&Outgoing { partition: Some(1 - partition), ..stray });
    for n in 1..3 {
        world.put(&world.booked("A7", &format!("e{n}"), "100"));
    }
    world.whole();
    world.redrive(&["--key", "A7", "--skip", "--reason", "a stray record"]);
    assert_eq!(balance(&product, "A7"), "300.00");
    let live = world.nothing_waits();
    assert_eq!(live.cells.len(), 1);
    // By the log a partition at a time, and by a fold that may come to the stray record first.
    let audit = world.command(&["audit"]);
    assert!(audit.status.success(), "{}{}", text(&audit.stdout), text(&audit.stderr));
    let homes = compare::amendments(world.broker, &world.topics).homes.clone();
    assert_eq!(homes.into_values().collect::<Vec<_>>(), [partition]);
    assert_eq!(world.again_from_scratch().cells, live.cells);
    assert!(product.stop().success());
}

#[test]
fn of_several_keys_one_that_was_let_go_while_the_question_stood_is_left_out() {
    let world = World::new(1);
    let product = world.start(&["B1", "B2"]);
    product.ready();
    for account in ["B1", "B2"] {
        world.put(&world.numbered(account, 1, "1"));
        world.put(&world.numbered(account, 3, "100"));
    }
    world.whole();
    let redrive = ["redrive", "--all", "--accept", "--wait", "30"];
    let (status, told) = product::asked(&world.topics, &world.redis.url(), &redrive, || {
        world.put(&world.numbered("B2", 2, "10"));
        assert_eq!(balance(&product, "B2"), "111.00");
    });
    assert_eq!(status.code(), Some(0), "{told}");
    assert!(told.contains("left out: B2 is not on hold at"), "{told}");
    assert_eq!(
        (balance(&product, "B1"), balance(&product, "B2")),
        ("101.00".to_owned(), "111.00".to_owned())
    );
    let live = world.nothing_waits();
    assert_eq!(world.again_from_scratch().cells, live.cells);
    assert!(product.stop().success());
}

#[test]
fn what_is_decided_while_the_partition_stands_still_is_no_difference() {
    let world = World::new(1);
    let product = world.start(&["B3"]);
    product.ready();
    world.put(&world.booked("B3", "e0", "100"));
    world.put(&unreadable(world.booked("B3", "e1", "1")));
    world.put(&world.booked("B3", "e2", "10"));
    world.whole();
    let done = |arguments: &[&str]| {
        let done = world.command(arguments);
        (done.status.code(), text(&done.stdout) + &text(&done.stderr))
    };
    let (status, told) = done(&["pause", "--topic", "ledger", "--yes", "--as", "jana"]);
    assert_eq!(status, Some(0), "{told}");
    eventually(Duration::from_secs(10), || {
        let states = compare::dump(&world.redis.url()).states;
        let ledger = states.iter().filter(|(id, _)| id.topic == Topic::Ledger);
        if ledger.clone().all(|(_, state)| state.paused.is_some()) { Ok(()) } else { Err(states) }
    });
    let skip =
        ["redrive", "--key", "B3", "--skip", "--reason", "a test", "--wait", "1", "--yes", "--as", "jana"];
    let (status, told) = done(&skip);
    assert_eq!(status, Some(1), "{told}");
    assert!(told.contains("1 key not applied yet"), "{told}");
    let (status, told) = done(&["audit"]);
    assert_eq!(status, Some(0), "{told}");
    let undecided = "1 on hold, decided about and not folded again yet";
    assert!(told.contains(undecided), "{told}");
    let (status, told) = done(&["resume", "--yes", "--as", "jana"]);
    assert_eq!(status, Some(0), "{told}");
    assert_eq!(balance(&product, "B3"), "110.00");
    world.nothing_waits();
    let (status, told) = done(&["audit"]);
    assert!(status == Some(0) && !told.contains(undecided), "{told}");
    assert!(product.stop().success());
}

#[test]
fn nothing_is_decided_about_a_key_that_was_let_go_while_the_question_stood() {
    let world = World::new(1);
    let product = world.start(&["A9"]);
    product.ready();
    world.put(&world.numbered("A9", 1, "1"));
    world.put(&world.numbered("A9", 3, "100"));
    world.whole();
    let redrive = ["redrive", "--key", "A9", "--skip", "--reason", "a test"];
    let (status, told) = product::asked(&world.topics, &world.redis.url(), &redrive, || {
        world.put(&world.numbered("A9", 2, "10"));
        assert_eq!(balance(&product, "A9"), "111.00");
    });
    assert_eq!(status.code(), Some(1), "{told}");
    assert!(told.contains("nothing was changed: A9 is not on hold at"), "{told}");
    assert!(compare::amendments(world.broker, &world.topics).patches.is_empty());
    let live = world.nothing_waits();
    assert_eq!(world.again_from_scratch().cells, live.cells);
    assert!(product.stop().success());
}

#[test]
fn a_replacement_that_cannot_be_folded_says_its_own_fault() {
    let world = World::new(1);
    let product = world.start(&["A1"]);
    product.ready();
    world.put(&world.booked("A1", "once", "1"));
    world.put(&unreadable(world.booked("A1", "poison", "1")));
    world.whole();
    let other = world.file("other.json", &world.booked("A1", "once", "2"));
    world.refused(&["--key", "A1", "--replace", &other], "conflict");
    assert!(product.stop().success());
}

#[test]
fn decisions_hold_while_events_of_the_key_arrive_and_the_owner_is_killed() {
    let world = World::new(1);
    let mut product = world.start(&["A1"]);
    product.ready();
    let rounds = 4_u64;
    let mut expected = 0;
    for round in 0..rounds {
        world.put(&unreadable(world.booked("A1", &format!("poison{round}"), "1")));
        // Events of the key keep arriving while it is decided, and while the owner dies.
        thread::scope(|scope| {
            let arriving = scope.spawn(|| {
                for n in 0..200 {
                    world.put(&world.booked("A1", &format!("e{round}-{n}"), "1"));
                }
            });
            let reason = ["--reason", "unreadable"];
            let mut arguments =
                vec!["redrive", "--yes", "--as", "jana", "--key", "A1", "--skip", "--wait", "0"];
            arguments.extend(reason);
            eventually(Duration::from_secs(20), || {
                let done = world.command(&arguments);
                if text(&done.stdout).contains("recorded") { Ok(()) } else { Err(text(&done.stderr)) }
            });
            // At another moment of the decision's way in every round.
            thread::sleep(Duration::from_millis(round * 40));
            product.process.kill();
            product = world.start(&["A1"]);
            arriving.join().expect("no panic");
        });
        expected += 200;
        product.ready();
        let live = world.nothing_waits();
        assert_eq!(live.cells.len(), 1);
        assert_eq!(balance(&product, "A1"), format!("{expected}.00"));
    }
    let again = world.again_from_scratch();
    assert_eq!(again.cells, world.whole().cells);
    assert!(product.stop().success());
}

#[test]
fn a_gap_that_was_due_to_close_when_the_owner_died_closes_at_the_next_start() {
    let world = World::new(1);
    let product = world.start(&["A1"]);
    product.ready();
    world.put(&world.numbered("A1", 1, "1"));
    world.put(&world.numbered("A1", 3, "3"));
    let held = world.whole();
    let id = PartitionId { topic: Topic::Ledger, partition: 0 };
    let marks: Vec<_> = held.quarantines.values().map(|held| held[&id].class).collect();
    assert_eq!(marks, [Class::SequenceGap]);
    product.kill();
    world.put(&world.numbered("A1", 2, "2"));
    let product = world.start(&["A1"]);
    assert_eq!(balance(&product, "A1"), "6.00");
    world.nothing_waits();
    assert!(product.stop().success());
}

#[test]
fn a_gap_whose_event_is_lost_for_good_is_accepted_and_the_lost_number_is_a_conflict_later() {
    let world = World::new(1);
    let product = world.start(&["A1"]);
    product.ready();
    for number in [1, 3, 4] {
        world.put(&world.numbered("A1", number, &number.to_string()));
    }
    world.whole();
    world.redrive(&["--key", "A1", "--accept", "--reason", "number 2 was never sent"]);
    assert_eq!(balance(&product, "A1"), "8.00");
    world.nothing_waits();
    world.put(&world.numbered("A1", 2, "2"));
    let held = world.whole();
    let classes: Vec<_> =
        held.quarantines.values().flat_map(|held| held.values().map(|mark| mark.class)).collect();
    assert_eq!(classes, [Class::Conflict]);
    assert!(product.stop().success());
}

#[test]
fn a_dead_letter_that_names_nobody_is_settled_in_the_list() {
    let world = World::new(1);
    let product = world.start(&["A1"]);
    let offset = world.put(&Outgoing { key: None, ..world.booked("A1", "e1", "1") });
    product.ready();
    world.whole();
    let list = || text(&world.command(&["dead-letters", "list"]).stdout);
    let place = format!("{}/0@{offset}", world.topics.ledger);
    assert!(list().contains(&place), "{}", list());
    world.refused(&["--at", &place], "names nobody");
    world.redrive(&["--at", &place, "--skip", "--reason", "told the publisher"]);
    assert!(list().contains("nothing is on hold"), "{}", list());
    assert!(product.stop().success());
}

#[test]
fn a_partition_that_halted_for_too_many_dead_letters_goes_on_without_a_restart() {
    let world = World::new(1);
    let settings = Settings {
        projector: "workers = 2\nheartbeat_ms = 100\npoison_keys_max = 3\n".to_owned(),
        ..Settings::default()
    };
    let product = Product::start("run", &world.topics, &world.redis.url(), &settings);
    for n in 0..5 {
        world.put(&unreadable(world.booked(&format!("A{n}"), "e", "1")));
    }
    let partition = format!("{}/0", world.topics.ledger);
    product.halts(&world.topics, &world.redis.url(), &["more than 3 new keys", "redrive --halted"]);
    world.redrive(&["--halted", &partition]);
    let expected = world.whole();
    assert_eq!(expected.dead_letters.len(), 5);
    product.ready();
    assert!(product.stop().success());
}

#[test]
fn a_type_to_ignore_is_passed_over_counted_and_pinned() {
    let world = World::new(1);
    let renamed =
        |record: Outgoing| with_event(record, |event| event["type"] = "ledger.account.renamed.v1".into());
    let settings = |types: &str| Settings {
        // Behind the generated tables stands one of our own.
        projector: format!("workers = 2\nheartbeat_ms = 100\n[wire]\ntypes_ignored = {types}\n"),
        accounts: vec!["A1".to_owned()],
        api: "max_staleness_ms = 5000\nbalance_types = [\"ITBD\"]\n".to_owned(),
        ..Settings::default()
    };
    let one = "[\"ledger.account.renamed.v1\"]";
    let product = Product::start("run", &world.topics, &world.redis.url(), &settings(one));
    world.put(&world.numbered("A1", 1, "1"));
    world.put(&renamed(world.numbered("A1", 2, "2")));
    world.put(&world.numbered("A1", 3, "3"));
    world.put(&renamed(world.booked("A2", "e", "1")));
    product.ready();
    assert_eq!(balance(&product, "A1"), "4.00");
    let expected = world.whole();
    assert!(expected.quarantines.is_empty());
    assert!(expected.cells.len() == 1, "an ignored event makes nobody known: {:?}", expected.cells.keys());
    let metrics = http::get(product.admin, "/metrics", &[]).expect("metrics").body;
    assert!(metrics.contains("balance_projector_events_ignored_total{reason=\"type\"} 2"), "{metrics}");
    // What comes for such a subject later is folded, written and told like anybody's.
    world.put(&world.booked("A2", "e2", "1"));
    world.put(&renamed(world.booked("A3", "e3", "1")));
    world.put(&unreadable(world.booked("A3", "e4", "1")));
    let expected = world.whole();
    assert_eq!((expected.cells.len(), expected.quarantines.len()), (2, 1));
    assert!(product.stop().success());
    let mut other = Product::start("project", &world.topics, &world.redis.url(), &settings("[]"));
    assert_eq!(other.process.wait(Duration::from_secs(30)).code(), Some(1));
    assert!(other.process.log().contains("wire.types_ignored"), "{}", other.process.log());
}
