//! A generation beside the served one: begun, killed, gone on with, switched to and back, retired; and no reader
//! notices any of it.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use balance_projector::{
    decisions::{Act, Comparison, Decision, Origin},
    domain::{PartitionId, Time, Topic},
    ops::generate::Args,
    store::Generation,
};
use serde_json::Value;

use crate::support::{
    Folder,
    compare::{self, Log},
    events, eventually, http,
    kafka::{self, Broker, Topics},
    load::{self, Load},
    produce::{Outgoing, Partitioner, Producer},
    product::{self, Product, Settings},
    redis,
};

const WATCHED: &str = "watched";
const WITHIN: Duration = Duration::from_secs(60);
const ONE: Generation = Generation(1);
const TWO: Generation = Generation(2);

fn settings() -> Settings {
    Settings {
        // An answer may be half as old as a switch may hold the served generation still.
        api: "max_staleness_ms = 20000\nbalance_types = [\"ITBD\"]\n".to_owned(),
        accounts: [WATCHED, "a0", "a1", "begun", "cut"].map(str::to_owned).to_vec(),
        ..Settings::default()
    }
}

/// A deployment: its topics and its store.
struct Deployment {
    broker: &'static Broker,
    topics: Topics,
    redis: redis::Server,
    producer: Producer,
    balance: u64,
}

impl Deployment {
    fn new(partitions: i32) -> Self {
        let broker = kafka::shared();
        let topics = broker.topics(partitions);
        let producer = Producer::new(broker, Partitioner::Librdkafka);
        Deployment { broker, topics, redis: redis::Server::start(), producer, balance: 0 }
    }

    fn start(&self, arguments: &[&str]) -> Product {
        Product::start_with(arguments, &self.topics, &self.redis.url(), &settings())
    }

    /// Begins the next generation, or goes on with it, in a process of its own.
    fn rebuild(&self) -> Product {
        self.start(&["rebuild", "start", "--yes", "--as", "jana"])
    }

    /// With a generation 2 that is complete beside the served one; who feeds either.
    #[track_caller]
    fn with_a_candidate() -> (Self, Product, Product) {
        let mut deployed = Deployment::new(1);
        deployed.grow(2);
        let product = deployed.start(&["run"]);
        product.ready();
        let rebuild = deployed.rebuild();
        deployed.becomes(TWO, "complete");
        (deployed, product, rebuild)
    }

    /// A command; what it said on both outputs stands in the panic where its status is another.
    #[track_caller]
    fn command(&self, status: i32, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let text = text(&output);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {text}");
        text
    }

    fn output(&self, arguments: &[&str]) -> Output {
        product::command_with(&self.topics, &self.redis.url(), &settings(), arguments)
    }

    /// Books one crown after the other on the watched account.
    fn grow(&mut self, by: u64) {
        for _ in 0..by {
            self.balance += 1;
            let entry = format!("e{}", self.balance);
            self.producer.put(&events::booked(&self.topics, WATCHED, &entry, "1", None));
        }
    }

    #[track_caller]
    fn generations(&self) -> Vec<Value> {
        let output = self.output(&["generations", "--json"]);
        assert!(output.status.success(), "{}", text(&output));
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        told["generations"].as_array().unwrap().clone()
    }

    /// Waits until a generation has this state.
    #[track_caller]
    fn becomes(&self, generation: Generation, state: &str) {
        eventually(WITHIN, || {
            let told = self.generations();
            let told = told.into_iter().find(|told| told["generation"] == generation.0);
            let told = told.ok_or("it was not begun")?;
            let fed = told["fed"] == told["partitions"] || state == "retired";
            if told["state"] == state && fed { Ok(()) } else { Err(told.to_string()) }
        });
    }

    /// What a comparison would have recorded.
    fn compared(&self, candidate: Generation, with: Generation, differences: u64) {
        let act = Act { who: "jana".to_owned(), at: Time::from_millis(0), why: String::new() };
        self.record(&Decision::Compared(Comparison {
            candidate,
            with,
            cells: 9,
            differences,
            expected: 0,
            act,
        }));
    }

    fn record(&self, decision: &Decision) {
        let value = Some(serde_json::to_vec(decision).unwrap());
        let topic = self.topics.decisions.clone();
        self.producer.put(&Outgoing { topic, value, ..Outgoing::default() });
    }

    fn served(&self) -> String {
        self.redis.command::<Option<String>>(&["GET", "{bp}:active"]).unwrap_or_default()
    }

    fn keys_of(&self, generation: Generation) -> usize {
        self.redis.command::<Vec<String>>(&["KEYS", &format!("{{bp}}:g{}:*", generation.0)]).len()
    }

    /// Everything that the log holds is in the generation.
    #[track_caller]
    fn holds_the_whole_log(&self, generation: Generation) {
        let log = Log::read(self.broker, &self.topics);
        compare::folded_into(&log, &self.redis.url(), generation);
        compare::generation_up_to_the_checkpoints(
            self.broker,
            &self.topics,
            &log,
            &self.redis.url(),
            generation,
        );
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A client that reads without a pause. Whatever it gets must be a 200; a figure that only grows must not shrink.
struct Reader {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    answers: u32,
    generations: BTreeSet<String>,
    /// Figures, each once where it follows itself.
    figures: Vec<(String, String)>,
}

impl Reader {
    fn of(
        read: impl Fn() -> std::io::Result<http::Answer> + Send + 'static,
        figure: fn(&Value) -> String,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let mut seen = Seen::default();
                while !stop.load(Ordering::Relaxed) {
                    let answer = read().expect("an answer");
                    assert_eq!(answer.status, 200, "after {} answers: {answer:?}", seen.answers);
                    seen.answers += 1;
                    let generation = answer.header("Projection-Generation").expect("a generation").to_owned();
                    let told = (generation.clone(), figure(&answer.json()));
                    seen.generations.insert(generation);
                    if seen.figures.last() != Some(&told) {
                        seen.figures.push(told);
                    }
                }
                seen
            }
        });
        Reader { stop, thread }
    }

    fn account(views: SocketAddr) -> Self {
        let figure = |body: &Value| body["balances"][0]["amount"]["value"].to_string();
        Self::of(move || http::account(views, WATCHED), figure)
    }

    fn customer(views: SocketAddr, customer: &'static str) -> Self {
        let figure = |body: &Value| body["balance"][0]["amount"].as_str().unwrap_or("none").to_owned();
        Self::of(move || http::customer(views, customer), figure)
    }

    fn finish(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("nothing but answers")
    }
}

fn crowns(figure: &str) -> u64 {
    figure.split('.').next().expect("a figure").parse().expect("whole crowns")
}

#[track_caller]
fn only_grew(seen: &Seen) {
    let figures: Vec<u64> = seen.figures.iter().map(|(_, figure)| crowns(figure)).collect();
    assert!(figures.is_sorted(), "{figures:?}");
}

#[test]
fn a_switch_and_its_way_back_under_load_cost_no_answer_and_nothing_goes_back() {
    let mut deployed = Deployment::new(2);
    // Two accounts of one debtor with 3 each, and a third with 7.
    for (account, amount) in [("m0", "-3"), ("m1", "-3"), ("m2", "-7")] {
        let entry = format!("entry-{account}");
        deployed.producer.put(&events::booked(&deployed.topics, account, &entry, amount, Some("debtor")));
    }
    deployed.grow(3);
    let args = Args { events: 10_000_000, accounts: 300, customers: 100, seed: 41, ..Args::default() };
    let load = Load::start(deployed.broker, &deployed.topics, &args, 800);
    let product = deployed.start(&["run"]);
    product.ready();
    let rebuild = deployed.rebuild();
    deployed.becomes(TWO, "complete");
    // The store says it first.
    eventually(Duration::from_secs(10), || {
        let log = rebuild.process.log();
        if log.contains("generation 2 is complete") { Ok(()) } else { Err(log) }
    });
    // Generation 2 is told from generation 1: there, all three owe 7. An answer of both would say 17.
    let seven = deployed.redis.command::<Vec<u8>>(&["GET", "{bp}:g2:a:m2"]);
    let due = deployed.redis.command::<Vec<u8>>(&["HGET", "{bp}:g2:d:debtor", "m2"]);
    for account in ["m0", "m1"] {
        let mut both = ::redis::pipe();
        both.set(format!("{{bp}}:g2:a:{account}"), &seven).hset("{bp}:g2:d:debtor", account, &due);
        both.query::<()>(&mut deployed.redis.connection()).unwrap();
    }

    let readers = [Reader::account(product.views), Reader::customer(product.views, "debtor")];
    deployed.grow(5);
    let refusal = deployed.command(1, &["rebuild", "promote", "--yes", "--as", "jana"]);
    assert!(refusal.contains("it was not compared with generation 1"), "{refusal}");
    deployed.compared(TWO, ONE, 2);
    let refusal = deployed.command(1, &["rebuild", "promote", "--yes", "--as", "jana"]);
    assert!(refusal.contains("found 2 differences in 9 cells"), "{refusal}");
    assert_eq!(deployed.served(), "1");
    deployed.compared(TWO, ONE, 0);
    // The newest counts, whichever was held still.
    deployed.compared(ONE, TWO, 3);
    let refusal = deployed.command(1, &["rebuild", "promote", "--yes", "--as", "jana"]);
    assert!(refusal.contains("found 3 differences in 9 cells"), "{refusal}");
    deployed.compared(ONE, TWO, 0);
    for round in 0..3 {
        let told = deployed.command(0, &["rebuild", "promote", "2", "--yes", "--as", "jana"]);
        assert!(told.contains("readers are served generation 2"), "{told}");
        // Readers have no memory of the pointer: the next answer is of generation 2.
        let answer = http::account(product.views, WATCHED).unwrap();
        assert_eq!(answer.header("Projection-Generation"), Some("2"), "round {round}");
        // The examined one stands still: not the one that is read.
        for (candidate, says) in [
            (&["2", "--with", "1"][..], "`rebuild compare 1 --with 2`"),
            (&["--with", "1"][..], "there is no other generation"),
        ] {
            let refusal = deployed.command(1, &[&["rebuild", "compare", "--as", "jana"], candidate].concat());
            assert!(refusal.contains(says), "{refusal}");
        }
        deployed.grow(3);
        let told =
            deployed.command(0, &["rebuild", "rollback", "--yes", "--as", "petr", "--reason", "a trial"]);
        assert!(told.contains("readers are served generation 1"), "{told}");
        deployed.grow(3);
    }
    let [account, customer] = readers.map(Reader::finish);
    load.stop();
    assert!(account.answers > 100 && customer.answers > 100, "{} {}", account.answers, customer.answers);
    only_grew(&account);
    let both: BTreeSet<String> = ["1", "2"].map(str::to_owned).into();
    assert_eq!([&account.generations, &customer.generations], [&both, &both]);
    // 3 + 3 + 7 of the one, 7 + 7 + 7 of the other, and nothing between.
    for (generation, owed) in &customer.figures {
        assert_eq!(owed, if generation == "1" { "13.0" } else { "21.0" }, "generation {generation}");
    }
    let switches: Vec<_> =
        compare::decisions(deployed.broker, &deployed.topics).switched.into_iter().collect();
    assert_eq!((switches[0].0, switches[0].1, switches[0].2.why.as_str()), (TWO, ONE, "a trial"));
    compare::whole(deployed.broker, &deployed.topics, &deployed.redis.url());
    assert!(rebuild.stop().success());
    assert!(product.stop().success());
}

/// How many threads of a process run only where no other process wants to.
fn giving_way(process: u32) -> usize {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    threads
        .filter_map(|thread| std::fs::read_to_string(thread.unwrap().path().join("stat")).ok())
        .filter(|stat| {
            // Counted as `proc(5)` does: behind the name, which may hold anything in its brackets, the state is field
            // 3 and the policy 41; 5 is `SCHED_IDLE`.
            let behind = stat.rsplit_once(") ").unwrap().1;
            behind.split(' ').nth(38).unwrap() == "5"
        })
        .count()
}

#[test]
fn a_rebuild_killed_at_any_moment_goes_on_where_it_was_and_several_share_it() {
    let deployed = Deployment::new(4);
    let args = Args {
        events: 40_000,
        accounts: 400,
        customers: 150,
        duplicates: 5,
        poison: 2_000,
        seed: 42,
        ..Args::default()
    };
    load::all_at_once(deployed.broker, &deployed.topics, &args);
    let product = deployed.start(&["run"]);
    let log = Log::read(deployed.broker, &deployed.topics);
    compare::folded(&log, &deployed.redis.url());
    // More keys than these were poisoned, but not within a minute of their own time: no reason to halt.
    let small = "workers = 2\nheartbeat_ms = 100\nbatch_records_max = 50\nbatch_cells_max = 20\npoison_keys_max = 5\n";
    let small = small.to_owned();
    let small = Settings { projector: small, ..settings() };
    let commits = || -> u64 {
        let positions = compare::dump_of(&deployed.redis.url(), TWO).positions;
        positions.values().map(|position| position.checkpoint.commit).sum()
    };
    let mut in_the_middle = 0;
    for round in 0..4_u64 {
        // A group of its own each time: the dead one's members would hold their partitions until their session ends.
        let topics =
            Topics { group: format!("{}-{round}", deployed.topics.group), ..deployed.topics.clone() };
        let before = commits();
        let arguments = ["rebuild", "start", "--yes", "--as", "jana"];
        let rebuild = Product::start_with(&arguments, &topics, &deployed.redis.url(), &small);
        eventually(WITHIN, || if commits() > before + 20 { Ok(()) } else { Err(commits()) });
        std::thread::sleep(Duration::from_millis(round * 37 % 100));
        // It gives way to readers: the two threads that fold, and those that read for them.
        let idle = giving_way(rebuild.process.id());
        assert!(idle > 4, "{idle} threads give way");
        rebuild.kill();
        let positions = compare::dump_of(&deployed.redis.url(), TWO).positions;
        in_the_middle += u32::from(positions.values().any(|position| !position.checkpoint.complete));
    }
    assert!(in_the_middle >= 2, "{in_the_middle} of 4 kills came before the end");
    let several = [(); 2].map(|()| {
        let arguments = ["rebuild", "start", "--yes", "--as", "jana"];
        Product::start_with(&arguments, &deployed.topics, &deployed.redis.url(), &small)
    });
    eventually(WITHIN, || {
        let states = compare::dump_of(&deployed.redis.url(), TWO).states;
        let owners: BTreeSet<_> = states.values().map(|state| state.owner.clone()).collect();
        if owners.len() == 2 && several.iter().all(|one| one.process.log().contains("generation 2")) {
            Ok(())
        } else {
            Err(owners)
        }
    });
    deployed.becomes(TWO, "complete");
    // Soon readers may be served it: from here on it is fed like any other.
    for rebuild in &several {
        eventually(WITHIN, || match giving_way(rebuild.process.id()) {
            0 => Ok(()),
            threads => Err(threads),
        });
    }
    deployed.holds_the_whole_log(TWO);
    // The key of the fingerprints is inherited: equal histories give equal bytes.
    let [one, two] = [ONE, TWO].map(|generation| {
        let mut figures = compare::dump_of(&deployed.redis.url(), generation).figures();
        // What waits is counted with the account; a customer's copy is from when it came to owe.
        for mark in figures.due_quarantines.values_mut().flat_map(|marks| marks.values_mut()) {
            mark.waiting = 0;
        }
        figures
    });
    assert!(one.cells.len() > 400, "{} cells", one.cells.len());
    assert_eq!(one, two);
    let births = compare::decisions(deployed.broker, &deployed.topics).births;
    assert_eq!(births.keys().copied().collect::<Vec<_>>(), [ONE, TWO]);
    assert_eq!(births[&TWO].act.as_ref().map(|act| act.who.as_str()), Some("jana"));
    for rebuild in several {
        assert!(rebuild.stop().success());
    }
    assert!(product.stop().success());
}

#[test]
fn of_two_operators_who_promote_at_once_one_wins_and_the_other_is_told() {
    let deployed = Deployment::new(1);
    deployed.producer.put(&events::booked(&deployed.topics, "a0", "e1", "5", None));
    let product = deployed.start(&["run"]);
    product.ready();
    let rebuilds = [deployed.rebuild(), {
        deployed.becomes(TWO, "complete");
        deployed.start(&["rebuild", "start", "--generation", "3", "--yes", "--as", "jana"])
    }];
    deployed.becomes(Generation(3), "complete");
    let promote = |to: &'static str, who: &'static str| {
        let arguments = ["rebuild", "promote", to, "--yes", "--as", who, "--reason", "a race"];
        deployed.output(&arguments)
    };
    let (jana, petr) = std::thread::scope(|scope| {
        let jana = scope.spawn(|| promote("2", "jana"));
        let petr = scope.spawn(|| promote("3", "petr"));
        (jana.join().unwrap(), petr.join().unwrap())
    });
    let codes = [jana.status.code(), petr.status.code()];
    let texts = [text(&jana), text(&petr)];
    let served = deployed.served();
    let switched = compare::decisions(deployed.broker, &deployed.topics).switched.expect("a switch");
    if codes == [Some(0), Some(0)] {
        // One after the other: the second began when the first was done.
        assert_eq!(switched.1.0.to_string(), served, "{texts:?}");
        assert!([TWO, Generation(3)].contains(&switched.0), "{switched:?} {texts:?}");
    } else {
        let winner = usize::from(codes[1] == Some(0));
        assert_eq!((codes[winner], codes[1 - winner]), (Some(0), Some(1)), "{texts:?}");
        assert_eq!(served, ["2", "3"][winner]);
        assert_eq!((switched.0, switched.2.who.as_str()), (ONE, ["jana", "petr"][winner]));
        assert!(texts[1 - winner].contains("another operator was first"), "{texts:?}");
    }
    // Whoever lost has let the served generation go on.
    deployed.producer.put(&events::booked(&deployed.topics, "a0", "e2", "5", None));
    deployed.holds_the_whole_log(ONE);
    for rebuild in rebuilds {
        assert!(rebuild.stop().success());
    }
    assert!(product.stop().success());
}

#[test]
fn a_log_whose_head_is_gone_is_named_and_taken_up_where_it_starts_with_its_cut_subjects_incomplete() {
    let deployed = Deployment::new(2);
    let put = |partition: i32, record: Outgoing| {
        deployed.producer.put(&Outgoing { partition: Some(partition), ..record });
    };
    let topics = &deployed.topics;
    put(0, events::booked(topics, "cut", "e1", "5", None));
    put(0, events::booked(topics, "cut", "e2", "6", None));
    put(0, events::opened(topics, "begun", &["CZK"], None));
    put(0, events::booked(topics, "begun", "e3", "7", None));
    put(0, events::booked(topics, "cut", "e4", "8", None));
    put(1, events::booked(topics, "a1", "e5", "9", Some("debtor")));
    put(0, events::profile(topics, "debtor", "Debtor", "1.5"));
    let product = deployed.start(&["run"]);
    product.ready();
    deployed.broker.delete_records_before(&topics.ledger, 0, 2);

    let refusal = deployed.command(1, &["rebuild", "start", "--yes", "--as", "jana"]);
    let named = format!("{}/0 begins at offset 2: retention has removed offsets 0 to 1", topics.ledger);
    assert!(refusal.contains(&named) && refusal.contains("--from log-start"), "{refusal}");
    assert_eq!(compare::decisions(deployed.broker, topics).births.len(), 1, "nothing was changed");
    assert_eq!(deployed.keys_of(TWO), 0, "nothing was changed");

    let rebuild = deployed.start(&["rebuild", "start", "--from", "log-start", "--yes", "--as", "jana"]);
    deployed.becomes(TWO, "complete");
    let begun = deployed.generations().remove(1);
    assert_eq!((&begun["from"], &begun["begun"]["who"]), (&"log-start".into(), &"jana".into()));
    deployed.command(0, &["rebuild", "promote", "--yes", "--as", "jana", "--reason", "the head is gone"]);
    // 7 since it was opened; 8 of 5 + 6 + 8 is not told; no record of the other partition is gone.
    for (account, status) in [("begun", 200), ("cut", 503), ("a1", 200), ("a0", 503)] {
        let answer = http::account(product.views, account).unwrap();
        assert_eq!(answer.status, status, "{account}: {answer:?}");
    }
    let answer = http::customer(product.views, "debtor").unwrap();
    assert_eq!(answer.status, 503, "an account of the debtor may be among what is gone: {answer:?}");
    assert!(product.stop().success());

    // A reader that is told to serve says since when the account is known.
    let serve = Settings { api: format!("{}on_quarantine = \"serve\"\n", settings().api), ..settings() };
    let reader = Product::start("serve", topics, &deployed.redis.url(), &serve);
    reader.ready();
    let answer = http::account(reader.views, "cut").unwrap();
    assert!(answer.status == 200 && answer.body.contains("\"value\":8.00"), "{answer:?}");
    assert!(answer.header("Projection-Incomplete-Since").is_some(), "{answer:?}");
    let answer = http::account(reader.views, "a1").unwrap();
    assert_eq!((answer.status, answer.header("Projection-Incomplete-Since")), (200, None));
    assert!(reader.stop().success());
    assert!(rebuild.stop().success());

    // What begins with a snapshot of it knows no more.
    let folder = Folder::new("log-start");
    let file = folder.join("snapshot");
    let file = file.to_str().unwrap();
    deployed.command(0, &["snapshot", "export", file]);
    let three = Generation(3);
    let seeded = deployed.start(&["rebuild", "start", "--seed", file, "--yes", "--as", "jana"]);
    deployed.becomes(three, "complete");
    deployed.command(0, &["rebuild", "promote", "3", "--yes", "--as", "jana", "--reason", "a trial"]);
    let reader = Product::start("serve", topics, &deployed.redis.url(), &settings());
    reader.ready();
    for (account, status) in [("begun", 200), ("cut", 503), ("a1", 200), ("a0", 503)] {
        let answer = http::account(reader.views, account).unwrap();
        assert_eq!(answer.status, status, "{account} from the snapshot: {answer:?}");
    }
    assert!(reader.stop().success());
    assert!(seeded.stop().success());
}

#[test]
fn a_log_whose_head_is_gone_makes_a_first_generation_from_where_it_starts() {
    let deployed = Deployment::new(2);
    let put = |partition: i32, record: Outgoing| {
        deployed.producer.put(&Outgoing { partition: Some(partition), ..record });
    };
    let topics = &deployed.topics;
    put(0, events::booked(topics, "cut", "e1", "5", None));
    put(0, events::opened(topics, "begun", &["CZK"], None));
    put(0, events::booked(topics, "begun", "e3", "7", None));
    put(0, events::booked(topics, "cut", "e4", "8", None));
    put(1, events::booked(topics, "a1", "e5", "9", Some("debtor")));
    put(0, events::profile(topics, "debtor", "Debtor", "1.5"));
    deployed.broker.delete_records_before(&topics.ledger, 0, 1);

    // Neither the store nor the decisions topic knows anything.
    for (arguments, says) in [
        (&["project"][..], "begin with `rebuild start` from a snapshot or from where the log starts"),
        (&["rebuild", "start", "--yes", "--as", "jana"], "`--seed FILE` or `--from log-start` does"),
        (
            &["rebuild", "start", "--from", "beginning", "--yes", "--as", "jana"],
            "`--seed FILE` or `--from log-start` does",
        ),
    ] {
        let refusal = deployed.command(1, arguments);
        assert!(refusal.contains(says), "{refusal}");
    }
    assert!(compare::decisions(deployed.broker, topics).births.is_empty(), "nothing was changed");
    assert_eq!(deployed.keys_of(ONE), 0, "nothing was changed");

    let arguments = ["rebuild", "start", "--from", "log-start", "--yes", "--as", "jana"];
    let killed = deployed.start(&arguments);
    eventually(WITHIN, || {
        let births = compare::decisions(deployed.broker, topics).births.len();
        if births == 1 { Ok(()) } else { Err(births) }
    });
    killed.kill();
    // Complete or not by then: it is the first one that is served, and no other begins.
    let product = deployed.start(&["run"]);
    product.ready();
    let births = compare::decisions(deployed.broker, topics).births;
    assert_eq!(births.keys().copied().collect::<Vec<_>>(), [ONE]);
    assert!(births[&ONE].active && births[&ONE].origin == Origin::LogStart, "{births:?}");
    assert_eq!(deployed.served(), "1");
    // 7 since it was opened; 8 of 5 + 8 is not told; no record of the other partition is gone.
    for (account, status) in [("begun", 200), ("cut", 503), ("a1", 200), ("a0", 503)] {
        let answer = http::account(product.views, account).unwrap();
        assert_eq!(answer.status, status, "{account}: {answer:?}");
    }
    let answer = http::customer(product.views, "debtor").unwrap();
    assert_eq!(answer.status, 503, "an account of the debtor may be among what is gone: {answer:?}");
    assert!(product.stop().success());
}

#[test]
fn what_cannot_be_rebuilt_is_refused_before_anything_is_changed() {
    let deployed = Deployment::new(3);
    let topics = &deployed.topics;
    let args = Args { events: 3_000, accounts: 200, customers: 50, seed: 44, ..Args::default() };
    let refused = |words: &[&str]| {
        let refusal = deployed.command(1, &["rebuild", "start", "--yes", "--as", "jana"]);
        for word in words {
            assert!(refusal.contains(word), "`{word}` is not in: {refusal}");
        }
    };
    load::all_at_once(deployed.broker, topics, &args);
    let product = deployed.start(&["project"]);
    compare::folded(&Log::read(deployed.broker, topics), &deployed.redis.url());

    // As much again does not fit.
    let info = deployed.redis.command::<String>(&["INFO", "memory"]);
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().trim();
    let max = used.parse::<u64>().unwrap() + 10_000;
    deployed.redis.command::<()>(&["CONFIG", "SET", "maxmemory", &max.to_string()]);
    refused(&["the store has maxmemory", "the new generation takes about"]);
    deployed.redis.command::<()>(&["CONFIG", "SET", "maxmemory", "0"]);

    deployed.broker.configure_topic(&topics.payment, &[("cleanup.policy", "compact")]);
    let (_, end) = deployed.broker.watermarks(&topics.payment, 1);
    let named = format!("{}/1 has cleanup.policy=compact", topics.payment);
    refused(&[&named, &format!("any record from offset 0 to {}", end - 1)]);
    deployed.broker.configure_topic(&topics.payment, &[("cleanup.policy", "delete")]);

    // Without a terminal nobody can be asked.
    let unasked = deployed.command(2, &["rebuild", "start", "--as", "jana"]);
    assert!(unasked.contains("repeat with --yes") && unasked.contains("begin generation 2"), "{unasked}");
    assert!(product.stop().success());

    // The topic was made anew with fewer partitions than the checkpoint knows.
    deployed.broker.delete_topic(&topics.payment);
    deployed.broker.create_topic(&topics.payment, 2, &[("cleanup.policy", "delete")]);
    refused(&[&format!("{} has 2 partitions, generation 1 knows 3", topics.payment)]);
    assert_eq!(compare::decisions(deployed.broker, topics).births.len(), 1);
    assert_eq!(deployed.keys_of(TWO), 0);
}

#[test]
fn what_is_not_there_cannot_be_promoted_retired_paused_or_gone_back_to() {
    let deployed = Deployment::new(1);
    let rows: &[(i32, &[&str], &str)] = &[
        (1, &["rebuild", "promote", "9"], "generation 9 was never begun; there is 1"),
        (1, &["rebuild", "promote"], "there is no generation but 1"),
        (1, &["rebuild", "promote", "1"], "generation 1 is served already"),
        (1, &["rebuild", "rollback"], "there is nothing to go back to"),
        (1, &["rebuild", "retire", "1"], "readers are served generation 1"),
        (1, &["rebuild", "retire", "9"], "generation 9 was never begun; there is 1"),
        (1, &["rebuild", "start", "--generation", "9"], "the next free number is 2"),
        (1, &["resume"], "generation 1 is not paused"),
        (1, &["pause", "--generation", "9"], "generation 9 was never begun"),
        (2, &["pause", "--topic", "nothing"], "\"nothing\" is neither"),
        (2, &["rebuild", "start", "--from", "yesterday"], "invalid value 'yesterday'"),
    ];
    let nothing = deployed.command(1, &["rebuild", "start", "--yes", "--as", "jana"]);
    assert!(nothing.contains("cannot be read") || nothing.contains("there is no projection"), "{nothing}");
    let product = deployed.start(&["run"]);
    product.ready();
    for (status, arguments, expected) in rows {
        let arguments = [*arguments, &["--yes", "--as", "jana"]].concat();
        let told = deployed.command(*status, &arguments);
        assert!(told.contains(expected), "{arguments:?}: {told}");
    }
    let decisions = compare::decisions(deployed.broker, &deployed.topics);
    assert_eq!((decisions.births.len(), decisions.paused.len(), decisions.retired.len()), (1, 0, 0));
    assert_eq!(decisions.switched, None);
    assert!(product.stop().success());
}

#[test]
fn who_begins_what_another_has_begun_otherwise_meanwhile_is_told() {
    let deployed = Deployment::new(1);
    let product = deployed.start(&["run"]);
    product.ready();
    let mut first = None;
    let start = ["rebuild", "start"];
    let (status, told) = product::asked(&deployed.topics, &deployed.redis.url(), &start, || {
        first = Some(deployed.start(&["rebuild", "start", "--from", "log-start", "--yes", "--as", "petr"]));
        deployed.becomes(TWO, "complete");
    });
    assert_eq!(status.code(), Some(1), "{told}");
    let says =
        "generation 2 was begun meanwhile by petr, from log-start, not from beginning: nothing was changed";
    assert!(told.contains(says), "{told}");
    let births = compare::decisions(deployed.broker, &deployed.topics).births;
    assert_eq!((births.len(), &births[&TWO].origin), (2, &Origin::LogStart));
    assert!(first.expect("it was started").stop().success());
    assert!(product.stop().success());
}

#[test]
fn a_retired_generation_is_let_go_of_and_deleted_while_readers_read_on() {
    let mut deployed = Deployment::new(2);
    let args = Args { events: 6_000, accounts: 500, customers: 100, seed: 45, ..Args::default() };
    load::all_at_once(deployed.broker, &deployed.topics, &args);
    deployed.grow(3);
    let product = deployed.start(&["run"]);
    product.ready();
    let rebuild = deployed.rebuild();
    deployed.becomes(TWO, "complete");
    let reader = Reader::account(product.views);
    deployed.command(0, &["rebuild", "promote", "--yes", "--as", "jana", "--reason", "not compared here"]);
    assert!(deployed.keys_of(ONE) > 500);
    // Somebody goes back to it while the question stands.
    let retire = ["rebuild", "retire", "1"];
    let (status, told) = product::asked(&deployed.topics, &deployed.redis.url(), &retire, || {
        deployed.command(0, &["rebuild", "rollback", "--yes", "--as", "petr"]);
    });
    assert_eq!(status.code(), Some(1), "{told}");
    assert!(told.contains("readers are served generation 1: promote another one first"), "{told}");
    assert!(deployed.keys_of(ONE) > 500);
    deployed.command(0, &["rebuild", "promote", "--yes", "--as", "jana", "--reason", "not compared here"]);
    let told = deployed.command(0, &["rebuild", "retire", "1", "--yes", "--as", "jana"]);
    assert!(told.contains("generation 1 is retired"), "{told}");
    assert_eq!(deployed.keys_of(ONE), 0);
    // The process that fed it feeds the served one now, beside the one that rebuilt it, or alone.
    assert!(rebuild.stop().success());
    deployed.grow(3);
    let figure = deployed.balance.to_string();
    eventually(WITHIN, || {
        let answer = http::account(product.views, WATCHED).map_err(|e| e.to_string())?;
        let value = answer.json()["balances"][0]["amount"]["value"].to_string();
        if value.starts_with(&format!("{figure}.")) { Ok(()) } else { Err(value) }
    });
    let seen = reader.finish();
    only_grew(&seen);
    assert!(seen.answers > 50, "{} answers", seen.answers);
    assert_eq!(deployed.keys_of(ONE), 0, "nothing of it comes back");
    deployed.becomes(ONE, "retired");
    deployed.becomes(TWO, "served");
    deployed.holds_the_whole_log(TWO);
    let gone = deployed.command(1, &["rebuild", "rollback", "--yes", "--as", "jana"]);
    assert!(gone.contains("generation 1 was retired by jana"), "{gone}");
    // The store comes back from before the switch: nobody feeds what its pointer names.
    deployed.redis.command::<()>(&["SET", "{bp}:active", "1"]);
    eventually(WITHIN, || {
        let answer = http::account(product.views, WATCHED).map_err(|e| e.to_string())?;
        if answer.status == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    deployed.becomes(TWO, "served");
    assert!(product.stop().success());
}

#[test]
fn a_generation_that_is_retired_while_the_question_of_its_promotion_stands_is_not_served() {
    let (deployed, product, rebuild) = Deployment::with_a_candidate();
    let promote = ["rebuild", "promote", "2", "--reason", "not compared here"];
    let (status, told) = product::asked(&deployed.topics, &deployed.redis.url(), &promote, || {
        deployed.command(0, &["rebuild", "retire", "2", "--yes", "--as", "petr"]);
    });
    assert_eq!(status.code(), Some(1), "{told}");
    assert!(told.contains("generation 2 was retired by petr"), "{told}");
    deployed.becomes(ONE, "served");
    assert_eq!(http::account(product.views, WATCHED).unwrap().status, 200);
    rebuild.kill();
    assert!(product.stop().success());
}

#[test]
fn a_generation_that_is_retired_while_it_is_filled_is_not_fed_nor_another_in_its_place() {
    let deployed = Deployment::new(1);
    let args =
        Args { events: 20_000, accounts: 20_000, customers: 10_000, history: 0, seed: 46, ..Args::default() };
    load::all_at_once(deployed.broker, &deployed.topics, &args);
    let product = deployed.start(&["run"]);
    product.ready();
    let folder = Folder::new("retired");
    let file = folder.join("seed.snapshot");
    let file = file.to_str().unwrap();
    deployed.command(0, &["snapshot", "export", file]);
    let mut seeded = deployed.start(&["rebuild", "start", "--seed", file, "--yes", "--as", "jana"]);
    let deadline = Instant::now() + WITHIN;
    while deployed.keys_of(TWO) == 0 {
        assert!(Instant::now() < deadline, "{}", seeded.process.log());
    }
    deployed.redis.command::<()>(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    let positions: u64 = deployed.redis.command(&["EXISTS", "{bp}:g2:pos"]);
    assert_eq!(positions, 0, "it was over already");
    let act = Act { who: "petr".to_owned(), at: Time::from_millis(0), why: String::new() };
    deployed.record(&Decision::Retired { generation: TWO, act });
    deployed.redis.command::<()>(&["CLIENT", "UNPAUSE"]);
    let status = seeded.process.wait(WITHIN);
    let log = seeded.process.log();
    let says = "generation 2 was retired meanwhile by petr: it is not fed";
    assert!(status.code() == Some(1) && log.contains(says), "{log}");
    // What there is of it is deleted as ever.
    deployed.command(0, &["rebuild", "retire", "2", "--yes", "--as", "petr"]);
    assert_eq!(deployed.keys_of(TWO), 0);
    assert!(product.stop().success());
}

#[test]
fn a_switch_without_a_record_is_recorded_by_a_promotion_and_can_be_gone_back_from_then() {
    let (deployed, product, rebuild) = Deployment::with_a_candidate();
    // As its maker leaves it that is killed behind the flip.
    deployed.redis.command::<()>(&["SET", "{bp}:active", "2"]);
    let back = ["rebuild", "rollback", "--yes", "--as", "petr"];
    let refusal = deployed.command(1, &back);
    let says = "the switch to generation 2 is not recorded: `rebuild promote 2` records it";
    assert!(refusal.contains(says), "{refusal}");
    deployed.command(0, &["rebuild", "promote", "2", "--yes", "--as", "jana"]);
    let told = deployed.command(0, &back);
    assert!(told.contains("readers are served generation 1"), "{told}");
    assert!(rebuild.stop().success());
    assert!(product.stop().success());
}

#[test]
fn what_is_paused_stands_still_through_restarts_and_goes_on_where_it_was() {
    let mut deployed = Deployment::new(1);
    deployed.grow(2);
    let product = deployed.start(&["run"]);
    product.ready();
    let ledger = deployed.topics.ledger.clone();
    deployed.command(0, &["pause", "--topic", &ledger, "--yes", "--as", "jana", "--reason", "a storm"]);
    let refusal = deployed.command(1, &["pause", "--topic", "ledger", "--yes", "--as", "petr"]);
    assert!(refusal.contains("is paused already, by jana"), "{refusal}");
    let paused = || {
        let told = eventually(WITHIN, || {
            let told = deployed.output(&["status", "--json"]);
            let told: Value = serde_json::from_slice(&told.stdout).map_err(|e| e.to_string())?;
            let paused = told["partitions"][0]["paused"].as_str().unwrap_or_default().to_owned();
            if paused.is_empty() { Err(told.to_string()) } else { Ok(paused) }
        });
        assert!(told.starts_with("paused by jana since ") && told.ends_with(": a storm"), "{told}");
    };
    paused();
    let stands = |deployed: &Deployment| {
        let positions = compare::dump(&deployed.redis.url()).positions;
        let at = |topic| positions[&PartitionId { topic, partition: 0 }].checkpoint.next.0;
        (at(Topic::Ledger), at(Topic::Payment))
    };
    assert_eq!(stands(&deployed), (2, 0));
    assert!(product.stop().success());

    // Persisted: a process that starts anew stands still too, while the other topic is folded.
    let product = deployed.start(&["run"]);
    for n in 0..3 {
        let record = events::booked(&deployed.topics, WATCHED, &format!("late-{n}"), "1", None);
        deployed.producer.put(&record);
    }
    deployed.producer.put(&events::profile(&deployed.topics, "debtor", "Debtor", "1.5"));
    eventually(WITHIN, || if stands(&deployed).1 == 1 { Ok(()) } else { Err(stands(&deployed)) });
    assert_eq!(stands(&deployed), (2, 1));
    paused();
    deployed.command(0, &["resume", "--topic", "ledger", "--yes", "--as", "petr"]);
    eventually(WITHIN, || if stands(&deployed).0 == 5 { Ok(()) } else { Err(stands(&deployed)) });

    deployed.command(0, &["pause", "--yes", "--as", "jana", "--reason", "a storm"]);
    paused();
    let refusal = deployed.command(1, &["resume", "--topic", "ledger", "--yes", "--as", "petr"]);
    assert!(refusal.contains("is paused as a whole"), "{refusal}");
    deployed.command(0, &["resume", "--yes", "--as", "petr"]);
    product.ready();
    compare::whole(deployed.broker, &deployed.topics, &deployed.redis.url());
    assert!(product.stop().success());
}

#[test]
fn a_store_that_is_lost_after_a_switch_comes_back_with_the_generation_that_was_promoted() {
    let mut deployed = Deployment::new(2);
    deployed.grow(3);
    let product = deployed.start(&["run"]);
    product.ready();
    let rebuild = deployed.rebuild();
    deployed.becomes(TWO, "complete");
    deployed.command(0, &["rebuild", "promote", "--yes", "--as", "jana", "--reason", "not compared here"]);
    assert_eq!(deployed.served(), "2");
    deployed.redis.command::<()>(&["FLUSHALL"]);
    deployed.grow(3);
    let figure = format!("{}.00", deployed.balance);
    eventually(WITHIN, || {
        let answer = http::account(product.views, WATCHED).map_err(|e| e.to_string())?;
        let told = (answer.status, answer.header("Projection-Generation").unwrap_or_default().to_owned());
        if told == (200, "2".to_owned()) && answer.body.contains(&figure) {
            Ok(())
        } else {
            Err(format!("{answer:?}"))
        }
    });
    assert_eq!(deployed.served(), "2");
    deployed.holds_the_whole_log(ONE);
    deployed.holds_the_whole_log(TWO);
    assert!(rebuild.stop().success());
    assert!(product.stop().success());
}
