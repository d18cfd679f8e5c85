//! The benchmark of `scripts/bench`: on a real Kafka and Redis, each figure beside its limit in the same run.
//!
//! It is not a timed test: nothing fails here because a machine is slow.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::float_arithmetic,
    clippy::as_conversions,
    clippy::let_underscore_must_use,
    clippy::disallowed_types,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_lossless,
    reason = "a benchmark computes rates, and stops at the first surprise"
)]

mod freshness;
mod http;
mod loops;
mod operate;
mod process;
mod reads;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use balance_projector::{
    ops::hash_password::{argon2id, sha256},
    store::Position,
};
use clap::Parser;
use process::Role;
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
};
use serde_json::{Value, json};

/// Measures the drain, the reads, the freshness and the memory.
#[derive(Parser)]
struct Args {
    /// `host:port` of the broker.
    #[arg(long)]
    brokers: String,
    /// The store; it is flushed.
    #[arg(long)]
    redis: String,
    /// The broker's process.
    #[arg(long)]
    kafka_pid: u32,
    /// The store's process.
    #[arg(long)]
    redis_pid: u32,
    /// The product.
    #[arg(long)]
    binary: PathBuf,
    /// Where the stream, the configurations and the result go.
    #[arg(long)]
    out: PathBuf,
    /// Events of the main scenario.
    #[arg(long, default_value_t = 2_000_000)]
    events: u64,
    /// Accounts of the main scenario; half as many customers.
    #[arg(long, default_value_t = 200_000)]
    accounts: u64,
    /// Partitions of each of the two topics.
    #[arg(long, default_value_t = 6)]
    partitions: i32,
    /// Which scenarios, by name; all where left out.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Leaves the store's append-only file as it is: by default it is off, for the limits as for the product.
    #[arg(long)]
    appendonly: bool,
    /// `cargo bench` passes it.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The topics of a scenario.
pub struct Topics {
    brokers: String,
    name: String,
    partitions: i32,
}

impl Topics {
    fn ledger(&self) -> String {
        format!("bench.{}.ledger", self.name)
    }

    fn payment(&self) -> String {
        format!("bench.{}.payment", self.name)
    }

    fn partitions(&self) -> Vec<(&'static str, i32)> {
        // Leaked once per scenario: the names live as long as the benchmark.
        let names = [self.ledger().leak() as &'static str, self.payment().leak()];
        names.into_iter().flat_map(|name| (0..self.partitions).map(move |p| (name, p))).collect()
    }

    fn create(&self) {
        let admin: AdminClient<DefaultClientContext> =
            rdkafka::ClientConfig::new().set("bootstrap.servers", &self.brokers).create().expect("a client");
        let names = [self.ledger(), self.payment()];
        let topics: Vec<NewTopic<'_>> = names
            .iter()
            .map(|name| NewTopic::new(name, self.partitions, TopicReplication::Fixed(1)))
            .collect();
        futures::executor::block_on(admin.create_topics(&topics, &AdminOptions::new())).expect("topics");
    }

    /// The end of every partition.
    fn ends(&self) -> BTreeMap<String, i64> {
        let consumer: BaseConsumer =
            rdkafka::ClientConfig::new().set("bootstrap.servers", &self.brokers).create().expect("a client");
        let mut ends = BTreeMap::new();
        for (topic, partition) in self.partitions() {
            let (_, high) =
                consumer.fetch_watermarks(topic, partition, Duration::from_secs(10)).expect("watermarks");
            let kind = if topic.ends_with("ledger") { "ledger" } else { "payment" };
            ends.insert(format!("{kind}/{partition}"), high);
        }
        ends
    }
}

/// Less than the cells of the main scenario take.
const BOUND_MIB: u64 = 64;

struct Bench {
    args: Args,
    redis: redis::Client,
    results: serde_json::Map<String, Value>,
}

const TOKEN: &str = "bench-token";
const API_KEY: &str = "bench-key";
/// Subjects that are read.
const SAMPLES: usize = 1000;

fn main() {
    let args = Args::parse();
    balance_projector::tls::install();
    fs::create_dir_all(&args.out).expect("the output folder");
    let redis = redis::Client::open(args.redis.as_str()).expect("a Redis URL");
    let mut bench = Bench { args, redis, results: serde_json::Map::new() };
    bench.machine();
    let events = bench.args.events;
    let accounts = bench.args.accounts;
    let customers = accounts / 2;
    let base = |extra: &[&str]| -> Vec<String> {
        let mut flags = vec![
            "--accounts".to_owned(),
            accounts.to_string(),
            "--customers".to_owned(),
            customers.to_string(),
            "--duplicates".to_owned(),
            "2".to_owned(),
        ];
        flags.extend(extra.iter().map(|flag| (*flag).to_owned()));
        flags
    };
    if bench.wanted("drain") {
        let topics = bench.fill("fresh", events, &base(&[]));
        bench.limits("drain", &topics);
        bench.drain("drain", &topics, true);
    }
    if bench.wanted("windows") {
        let small = (accounts / 10).to_string();
        let per_account = (events / (accounts / 10)).to_string();
        let flags = ["--accounts", &small, "--customers", &small, "--history", &per_account]
            .map(str::to_owned)
            .to_vec();
        let topics = bench.fill("windows", events / 4, &flags);
        bench.limits("windows", &topics);
        bench.drain("windows", &topics, false);
    }
    if bench.wanted("hot") {
        let topics = bench.fill("hot", events, &base(&["--hot-accounts", "10", "--hot-share", "90"]));
        bench.limits("hot", &topics);
        bench.drain("hot", &topics, false);
    }
    if bench.wanted("freshness") {
        bench.freshness();
    }
    if bench.wanted("operate") {
        bench.operate(events, &base(&[]));
    }
    if bench.wanted("memory") {
        let short = bench.fill("short", events, &base(&[]));
        let long = bench.fill("long", events * 5, &base(&[]));
        bench.drain("long", &long, false);
        bench.bounded(&[("short", &short), ("long", &long)]);
    }
    bench.report();
}

impl Bench {
    fn wanted(&self, scenario: &str) -> bool {
        self.args.only.is_empty() || self.args.only.iter().any(|only| only == scenario)
    }

    fn machine(&mut self) {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        let model = model.trim_start_matches(['\t', ' ', ':']).to_owned();
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let mut redis = self.redis.get_connection().expect("Redis answers");
        if !self.args.appendonly {
            // A rewrite of the file is a process beside the store, and takes a processor of two by surprise.
            let off = redis::cmd("CONFIG").arg("SET").arg("appendonly").arg("no").exec(&mut redis);
            off.expect("Redis takes the setting");
        }
        let machine = json!({ "cpu": model, "cores": cores, "redis_appendonly": self.args.appendonly });
        self.results.insert("machine".to_owned(), machine);
    }

    /// Generates a stream and publishes it to topics of its own.
    fn fill(&mut self, name: &str, events: u64, flags: &[String]) -> Topics {
        let nonce = std::process::id();
        let topics = Topics {
            brokers: self.args.brokers.clone(),
            name: format!("{name}.{nonce}"),
            partitions: self.args.partitions,
        };
        topics.create();
        let config = self.configure(&topics, name);
        eprintln!("{name}: generating and publishing {events} events");
        let started = Instant::now();
        let mut generate = Command::new(&self.args.binary)
            .args(["generate", "--events", &events.to_string()])
            .args(flags)
            .stdout(Stdio::piped())
            .spawn()
            .expect("generate starts");
        let publish = Command::new(&self.args.binary)
            .args(["--config", config.to_str().expect("a path in UTF-8"), "publish"])
            .stdin(generate.stdout.take().expect("a pipe"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("publish starts");
        assert!(publish.success() && generate.wait().expect("generate ends").success(), "publishing {name}");
        let sent: i64 = topics.ends().values().sum();
        self.put(name, "published_per_second", sent as f64 / started.elapsed().as_secs_f64());
        self.put(name, "events", sent as f64);
        topics
    }

    fn configure(&self, topics: &Topics, name: &str) -> PathBuf {
        let path = self.args.out.join(format!("{name}.toml"));
        let accounts: Vec<String> = self.sample_accounts().iter().map(|id| format!("{id:?}")).collect();
        let text = format!(
            r#"
[kafka]
brokers = "{brokers}"
group = "bench-{topic}"
ledger_topic = "{ledger}"
payment_topic = "{payment}"
dead_letter_topic = "bench.{topic}.dead-letters"
decisions_topic = "bench.{topic}.decisions"
[redis]
url = "{redis}"
prefix = "{{{topic}}}"
[log]
level = "warn"
[api]
listen = "127.0.0.1:{api}"
[[api.users]]
name = "bench"
password_hash = "{password}"
profiles = ["bench"]
[[api.profiles]]
id = "bench"
[[api.tokens]]
client_id = "bench"
token_sha256 = "{token}"
api_key_sha256 = "{key}"
accounts = [{accounts}]
[admin]
listen = "127.0.0.1:{admin}"
"#,
            brokers = topics.brokers,
            topic = topics.name,
            ledger = topics.ledger(),
            payment = topics.payment(),
            redis = self.args.redis,
            api = free_port(),
            admin = free_port(),
            password = argon2id("bench").expect("a hash"),
            token = sha256(TOKEN),
            key = sha256(API_KEY),
            accounts = accounts.join(","),
        );
        fs::write(&path, text).expect("the configuration");
        path
    }

    /// Ids that `generate` gives its first accounts, read from a small stream of the same seed.
    fn sample_accounts(&self) -> Vec<String> {
        self.samples("ledger.", "account_id")
    }

    /// Accounts that exist, outside the consent.
    fn foreign_accounts(&self) -> Vec<String> {
        let mut ids = self.all_samples("ledger.", "account_id");
        ids.drain(..SAMPLES.min(ids.len()));
        ids
    }

    fn samples(&self, kind: &str, field: &str) -> Vec<String> {
        let mut ids = self.all_samples(kind, field);
        ids.truncate(SAMPLES);
        ids
    }

    fn all_samples(&self, kind: &str, field: &str) -> Vec<String> {
        let accounts = self.args.accounts.to_string();
        let customers = (self.args.accounts / 2).to_string();
        let output = Command::new(&self.args.binary)
            .args(["generate", "--events", "5000", "--accounts", &accounts, "--customers", &customers])
            .output()
            .expect("generate starts");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let mut ids: Vec<String> = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|event| event["type"].as_str().is_some_and(|t| t.starts_with(kind)))
            .filter_map(|event| event["data"][field].as_str().map(str::to_owned))
            .collect();
        ids.sort();
        ids.dedup();
        ids
    }

    /// Reading alone, and the at-least-once loop, on the same records.
    fn limits(&mut self, scenario: &str, topics: &Topics) {
        let events: u64 = topics.ends().values().map(|end| u64::try_from(*end).unwrap_or(0)).sum();
        let millions = events as f64 / 1e6;
        eprintln!("{scenario}: reading {events} records alone");
        let cost = loops::bare(topics, events);
        self.put(scenario, "bare_per_second", events as f64 / cost.seconds);
        self.put(scenario, "bare_cpu_per_million", cost.cpu / millions);
        self.flush();
        eprintln!("{scenario}: the at-least-once loop");
        let redis_before = process::cpu_seconds(self.args.redis_pid);
        let cost = loops::at_least_once(topics, &self.args.redis, events);
        let redis = process::cpu_seconds(self.args.redis_pid) - redis_before;
        self.put(scenario, "loop_per_second", events as f64 / cost.seconds);
        self.put(scenario, "loop_cpu_per_million", cost.cpu / millions);
        self.put(scenario, "loop_redis_cpu_per_million", redis / millions);
        self.flush();
    }

    /// The product, from its first checkpoint to checkpoints at every end.
    fn drain(&mut self, scenario: &str, topics: &Topics, with_reads: bool) {
        self.flush();
        let name = topics.name.split('.').next().unwrap_or_default().to_owned();
        let config = self.args.out.join(format!("{name}.toml"));
        let ends = topics.ends();
        let events: i64 = ends.values().sum();
        eprintln!("{scenario}: draining {events} records");
        let (redis_before, kafka_before) =
            (process::cpu_seconds(self.args.redis_pid), process::cpu_seconds(self.args.kafka_pid));
        let memory_before = self.redis_memory();
        let mut role = Role::start(&self.args.binary, "project", &config);
        let prefix = format!("{{{}}}", topics.name);
        let seconds = self.until_drained(&prefix, 1, &ends, &mut role);
        let millions = events as f64 / 1e6;
        self.put(scenario, "drain_per_second", events as f64 / seconds);
        self.put(scenario, "project_cpu_per_million", process::cpu_seconds(role.pid()) / millions);
        let redis = process::cpu_seconds(self.args.redis_pid) - redis_before;
        self.put(scenario, "redis_cpu_per_million", redis / millions);
        let kafka = process::cpu_seconds(self.args.kafka_pid) - kafka_before;
        self.put(scenario, "broker_cpu_per_million", kafka / millions);
        self.put(scenario, "project_peak_mib", process::peak_mib(role.pid()));
        self.memory(scenario, &prefix, memory_before);
        if with_reads {
            self.reads("reads_idle", &config, None);
            self.reads_draining(topics, &config);
            self.behind(scenario, topics, &config, role);
        }
    }

    /// Reads while what was published during a pause is folded into the generation that they are answered from.
    fn reads_draining(&mut self, topics: &Topics, config: &Path) {
        self.timed(config, &["pause", "--yes", "--as", "bench"]);
        self.pour(config, self.args.events * 3 / 2, 'X').wait();
        let text = fs::read_to_string(config).expect("the configuration");
        let patient = config.with_extension("patient.toml");
        // What waits is older than answers may be.
        let bound = "[api]\nmax_staleness_ms = 3600000\n";
        fs::write(&patient, text.replacen("[api]\n", bound, 1)).expect("a configuration");
        self.reads("reads_draining", &patient, Some(topics));
    }

    /// Records that are not folded yet.
    fn left(&self, topics: &Topics) -> i64 {
        let folded: i64 = self.folded(&format!("{{{}}}", topics.name), 1).values().sum();
        topics.ends().values().sum::<i64>().saturating_sub(folded)
    }

    /// Peaks of memory where the cells of either stream fill their bound.
    fn bounded(&mut self, streams: &[(&str, &Topics)]) {
        for (name, topics) in streams {
            self.flush();
            let text =
                fs::read_to_string(self.args.out.join(format!("{name}.toml"))).expect("the configuration");
            let config = self.args.out.join(format!("{name}.bounded.toml"));
            let bound = format!("{text}[projector]\ncache_bytes_max = {}\n", BOUND_MIB << 20);
            fs::write(&config, bound).expect("a configuration");
            eprintln!("memory: draining {name} with {BOUND_MIB} MiB for cells");
            let mut role = Role::start(&self.args.binary, "project", &config);
            let prefix = format!("{{{}}}", topics.name);
            self.until_drained(&prefix, 1, &topics.ends(), &mut role);
            self.put("memory", &format!("{name}_peak_mib"), process::peak_mib(role.pid()));
        }
    }

    /// What came while nobody projected, folded into a generation that readers are answered from: each commit is one
    /// that they may see, so nothing is gathered.
    fn behind(&mut self, scenario: &str, topics: &Topics, config: &Path, mut role: Role) {
        let prefix = format!("{{{}}}", topics.name);
        self.until_drained(&prefix, 1, &topics.ends(), &mut role);
        drop(role);
        let from: i64 = topics.ends().values().sum();
        eprintln!("{scenario}: publishing while nobody projects");
        self.pour(config, self.args.events / 2, 'Y').wait();
        let ends = topics.ends();
        eprintln!("{scenario}: catching up");
        // Its owners bear the tokens of the process before: what moves is the first commit, a moment after the first record.
        let started = Instant::now();
        let redis_before = process::cpu_seconds(self.args.redis_pid);
        let mut role = Role::start(&self.args.binary, "project", config);
        while self.folded(&prefix, 1).values().sum::<i64>() == from {
            assert!(started.elapsed() < Duration::from_mins(1), "nothing is folded");
            std::thread::sleep(Duration::from_millis(2));
        }
        let began = Instant::now();
        self.until_drained(&prefix, 1, &ends, &mut role);
        let records = ends.values().sum::<i64>() - from;
        self.put(scenario, "behind_per_second", records as f64 / began.elapsed().as_secs_f64());
        let millions = records as f64 / 1e6;
        let redis = process::cpu_seconds(self.args.redis_pid) - redis_before;
        self.put(scenario, "behind_project_cpu_per_million", process::cpu_seconds(role.pid()) / millions);
        self.put(scenario, "behind_redis_cpu_per_million", redis / millions);
    }

    fn until_drained(
        &self,
        prefix: &str,
        generation: u32,
        ends: &BTreeMap<String, i64>,
        role: &mut Role,
    ) -> f64 {
        let mut first = None;
        let limit = Instant::now() + Duration::from_mins(15);
        loop {
            // The first checkpoint that moves comes late: by then much is folded.
            if first.is_none() && self.is_claimed(prefix, generation) {
                first = Some(Instant::now());
            }
            let next = self.folded(prefix, generation);
            let sum: i64 = next.values().sum();
            if ends.iter().all(|(id, end)| next.get(id).is_some_and(|next| next >= end)) {
                return first.map_or(0.0, |first| first.elapsed().as_secs_f64());
            }
            assert!(!role.is_gone(), "the role ended; its log is beside its configuration");
            assert!(Instant::now() < limit, "not drained in 15 minutes: {sum} records");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn is_drained(&self, prefix: &str, generation: u32, ends: &BTreeMap<String, i64>) -> bool {
        let next = self.folded(prefix, generation);
        ends.iter().all(|(id, end)| next.get(id).is_some_and(|next| next >= end))
    }

    /// Whether a partition has an owner: from here on records are read.
    fn is_claimed(&self, prefix: &str, generation: u32) -> bool {
        self.positions(prefix, generation).values().any(|position| position.token.0 != [0; 16])
    }

    /// The next offset to fold of every partition.
    fn folded(&self, prefix: &str, generation: u32) -> BTreeMap<String, i64> {
        let positions = self.positions(prefix, generation);
        positions.into_iter().map(|(id, position)| (id, position.checkpoint.next.0)).collect()
    }

    fn positions(&self, prefix: &str, generation: u32) -> BTreeMap<String, Position> {
        let mut redis = self.redis.get_connection().expect("Redis answers");
        let raw: BTreeMap<String, Vec<u8>> = redis::cmd("HGETALL")
            .arg(format!("{prefix}:g{generation}:pos"))
            .query(&mut redis)
            .expect("Redis answers");
        raw.into_iter().filter_map(|(id, bytes)| Some((id, Position::from_bytes(&bytes)?))).collect()
    }

    fn memory(&mut self, scenario: &str, prefix: &str, before: f64) {
        let mut redis = self.redis.get_connection().expect("Redis answers");
        let (mut accounts, mut customers, mut cursor) = (0_u64, 0_u64, 0_u64);
        loop {
            let (next, keys): (u64, Vec<String>) = redis::cmd("SCAN")
                .arg(cursor)
                .arg("COUNT")
                .arg(10_000)
                .query(&mut redis)
                .expect("Redis answers");
            accounts += keys.iter().filter(|k| k.starts_with(&format!("{prefix}:g1:a:"))).count() as u64;
            customers += keys.iter().filter(|k| k.starts_with(&format!("{prefix}:g1:c:"))).count() as u64;
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        let sample = |kind: &str| -> f64 {
            let mut redis = self.redis.get_connection().expect("Redis answers");
            let mut sizes: Vec<f64> = Vec::new();
            let mut cursor = 0_u64;
            while sizes.len() < 1000 {
                let (next, keys): (u64, Vec<String>) = redis::cmd("SCAN")
                    .arg(cursor)
                    .arg("MATCH")
                    .arg(format!("{prefix}:g1:{kind}:*"))
                    .arg("COUNT")
                    .arg(1000)
                    .query(&mut redis)
                    .expect("Redis answers");
                for key in keys {
                    let size: u64 =
                        redis::cmd("MEMORY").arg("USAGE").arg(key).query(&mut redis).unwrap_or_default();
                    sizes.push(size as f64);
                }
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
            sizes.iter().sum::<f64>() / (sizes.len().max(1) as f64)
        };
        let (account_cell, customer_cell) = (sample("a"), sample("c"));
        let used = self.redis_memory() - before;
        self.put(scenario, "accounts", accounts as f64);
        self.put(scenario, "customers", customers as f64);
        self.put(scenario, "redis_mib", used / 1024.0 / 1024.0);
        self.put(scenario, "redis_bytes_per_subject", used / (accounts + customers).max(1) as f64);
        self.put(scenario, "redis_bytes_per_account_cell", account_cell);
        self.put(scenario, "redis_bytes_per_customer_cell", customer_cell);
    }

    fn redis_memory(&self) -> f64 {
        let mut redis = self.redis.get_connection().expect("Redis answers");
        let info: String = redis::cmd("INFO").arg("memory").query(&mut redis).expect("Redis answers");
        info.lines()
            .find_map(|line| line.strip_prefix("used_memory:"))
            .and_then(|bytes| bytes.trim().parse::<f64>().ok())
            .unwrap_or(0.0)
    }

    fn flush(&self) {
        let mut redis = self.redis.get_connection().expect("Redis answers");
        redis::cmd("FLUSHALL").exec(&mut redis).expect("Redis answers");
    }

    fn put(&mut self, scenario: &str, figure: &str, value: f64) {
        let rounded = (value * 100.0).round() / 100.0;
        let scenario = self.results.entry(scenario).or_insert_with(|| json!({}));
        scenario[figure] = json!(rounded);
    }

    fn report(&self) {
        let path = self.args.out.join("result.json");
        let text = serde_json::to_string_pretty(&self.results).expect("JSON");
        fs::write(&path, text).expect("the result");
        for (scenario, figures) in &self.results {
            println!("\n{scenario}");
            let Some(figures) = figures.as_object() else { continue };
            for (figure, value) in figures {
                println!("  {figure:<32} {value:>14}{}", self.ratio(scenario, figure));
            }
        }
        println!("\n{}", path.display());
    }

    /// The figure as a share of its limit in the same run.
    fn ratio(&self, scenario: &str, figure: &str) -> String {
        let of = |name: &str| self.results[scenario][name].as_f64();
        let limit = match figure {
            "drain_per_second" | "behind_per_second" => "loop_per_second",
            "rebuild_per_second" | "rebuild_hurried_per_second" => "live_per_second",
            "reads_rebuilding_p99_us" => "reads_p99_us",
            "flood_rebuilding_p99_us" => "flood_p99_us",
            "audit_per_second"
            | "audit_folded_per_second"
            | "explain_account_per_second"
            | "explain_account_scanned_per_second"
            | "explain_customer_scanned_per_second"
            | "explain_customer_per_second" => "bare_per_second",
            "account_per_second" | "customer_per_second" | "tls_account_per_second" => "constant_per_second",
            "long_peak_mib" => "short_peak_mib",
            "foreign_p50_us" => "absent_p50_us",
            "readable_p50_us" => "consumed_p50_us",
            "readable_p99_us" => "consumed_p99_us",
            _ => return String::new(),
        };
        match (of(figure), of(limit)) {
            (Some(value), Some(limit)) if limit > 0.0 => format!("   {:.2} of {limit}", value / limit),
            _ => String::new(),
        }
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}
