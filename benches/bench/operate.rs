//! What operators do beside the live projection: rebuilds, and what readers feel of one; audits; explanations.

use std::{
    collections::HashSet,
    process::{Command, Output},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    Bench, free_port,
    http::{self, Manner},
    loops,
    process::Role,
    reads::{account_request, full, until_200},
};

/// How long each load of reads lasts.
const READS: Duration = Duration::from_secs(3);
/// How long a rebuild is given to notice readers.
const NOTICED: Duration = Duration::from_millis(500);
/// What a telephone platform and some third parties ask for together: far from what the machine can answer.
const READS_PER_SECOND: u32 = 2_000;

impl Bench {
    /// A live drain, a rebuild of the same log beside it, their comparison, reads without and with another rebuild, an
    /// audit, explanations.
    pub(crate) fn operate(&mut self, events: u64, flags: &[String]) {
        let topics = self.fill("operate", events, flags);
        let ends = topics.ends();
        let records: i64 = ends.values().sum();
        let records = records as f64;
        let prefix = format!("{{{}}}", topics.name);
        let config = self.args.out.join("operate.toml");

        eprintln!("operate: reading {records} records alone");
        let bare = loops::bare(&topics, u64::try_from(ends.values().sum::<i64>()).unwrap_or(0));
        self.put("operate", "bare_per_second", records / bare.seconds);

        eprintln!("operate: the live drain");
        self.flush();
        let mut live = Role::start(&self.args.binary, "project", &config);
        let seconds = self.until_drained(&prefix, 1, &ends, &mut live);
        self.put("operate", "live_per_second", records / seconds);

        eprintln!("operate: a rebuild beside it");
        // A process of its own: the live one has the admin listener.
        let text = std::fs::read_to_string(&config).expect("the configuration");
        let apart = config.with_file_name("operate.rebuild.toml");
        let admin =
            text.rsplit("listen = \"").next().and_then(|rest| rest.split('"').next()).expect("an address");
        std::fs::write(&apart, text.replace(admin, &format!("127.0.0.1:{}", free_port()))).expect("a file");
        let mut rebuild = Role::start(&self.args.binary, "rebuild start --yes --as bench", &apart);
        let seconds = self.until_drained(&prefix, 2, &ends, &mut rebuild);
        self.put("operate", "rebuild_per_second", records / seconds);

        self.until_complete(&prefix, 2, &mut rebuild);
        drop(rebuild);

        eprintln!("operate: another one that gives way to nobody");
        let mut hurried =
            Role::start(&self.args.binary, "rebuild start --generation 3 --hurry --yes --as bench", &apart);
        let seconds = self.until_drained(&prefix, 3, &ends, &mut hurried);
        self.put("operate", "rebuild_hurried_per_second", records / seconds);
        drop(hurried);

        eprintln!("operate: a comparison of the two");
        let (seconds, output) = self.timed(&config, &["rebuild", "compare", "2", "--json", "--as", "bench"]);
        let told: Value = serde_json::from_slice(&output.stdout).expect("a comparison");
        let subjects = told["cells"].as_u64().expect("a count");
        // Each of them once: as many as there are cells, and subjects that have a mark alone.
        self.put("operate", "compare_subjects", subjects as f64);
        self.put("operate", "compare_cells", self.cells(&prefix, 1) as f64);
        self.put("operate", "compare_seconds", seconds);
        self.put("operate", "compare_per_second", subjects as f64 / seconds);

        let serve = config.with_file_name("operate.serve.toml");
        std::fs::write(&serve, text.replace(admin, &format!("127.0.0.1:{}", free_port()))).expect("a file");
        let server = Role::start(&self.args.binary, "serve", &serve);
        let api =
            text.split("listen = \"").nth(1).and_then(|rest| rest.split('"').next()).expect("an address");
        let accounts: Vec<String> = self.sample_accounts().iter().map(|id| account_request(id)).collect();
        until_200(api, &accounts[0]);
        eprintln!("operate: reads without a rebuild, and with one");
        let manners = [
            ("reads", Manner { per_second: Some(READS_PER_SECOND), ..full(16, READS) }),
            // As many as are answered: they have no processor left for a rebuild, nor one for them.
            ("flood", full(16, READS)),
        ];
        for (name, manner) in manners {
            let load = http::load(api, accounts.clone(), manner);
            self.put("operate", &format!("{name}_p99_us"), load.p99_us as f64);
            self.put("operate", &format!("{name}_per_second"), load.per_second);
        }
        // Another generation: the one before stands at the log's end and has nothing more to do.
        let mut rebuild =
            Role::start(&self.args.binary, "rebuild start --generation 4 --yes --as bench", &apart);
        self.until_begun(&prefix, 4, &mut rebuild);
        // Who begins to read meets it as it is while nobody does, for a tenth of a second.
        http::load(api, accounts.clone(), full(1, NOTICED));
        for (name, manner) in manners {
            let load = http::load(api, accounts.clone(), manner);
            let of = |figure: &str| format!("{name}_rebuilding_{figure}");
            self.put("operate", &of("p99_us"), load.p99_us as f64);
            self.put("operate", &of("per_second"), load.per_second);
            self.put("operate", &of("other_status"), load.other_status as f64);
            // 1: the rebuild ended before the reads did; more events show more.
            let drained = self.is_drained(&prefix, 4, &ends);
            self.put("operate", &of("outlasted"), f64::from(u8::from(drained)));
        }
        drop(rebuild);
        drop(server);

        eprintln!("operate: an audit");
        let (seconds, output) = self.timed(&config, &["audit", "--jobs", "2", "--json"]);
        self.put("operate", "audit_per_second", records / seconds);
        // The rest is comparing with the store, and the walk over it.
        let told: Value = serde_json::from_slice(&output.stdout).expect("an audit");
        let folding = told["partitions"].as_array().expect("partitions").iter();
        let folding: u64 = folding.filter_map(|partition| partition["folding_milliseconds"].as_u64()).sum();
        self.put("operate", "audit_folded_per_second", records * 2.0 * 1e3 / folding as f64);
        for (kind, ids) in
            [("account", self.sample_accounts()), ("customer", self.samples("payment.", "customer_id"))]
        {
            eprintln!("operate: explanations of one {kind} from the log's beginning");
            let mut arguments = vec!["explain", kind, &ids[0], "--json"];
            if kind == "account" {
                arguments.push("--whole");
            }
            let (seconds, output) = self.timed(&config, &arguments);
            let told: Value = serde_json::from_slice(&output.stdout).expect("an explanation");
            let read = told["read"].as_array().expect("what was read");
            let scanned: u64 = read.iter().filter_map(|stretch| stretch["records"].as_u64()).sum();
            self.put("operate", &format!("explain_{kind}_records"), scanned as f64);
            self.put("operate", &format!("explain_{kind}_seconds"), seconds);
            self.put("operate", &format!("explain_{kind}_per_second"), scanned as f64 / seconds);
            // Without starting the command, asking Kafka and Redis, and telling.
            let scanning: u64 = read.iter().filter_map(|stretch| stretch["milliseconds"].as_u64()).sum();
            let name = format!("explain_{kind}_scanned_per_second");
            self.put("operate", &name, scanned as f64 * 1e3 / scanning as f64);
        }
        drop(live);
    }

    /// Waits until every partition has reached the log's end since the generation's birth.
    fn until_complete(&self, prefix: &str, generation: u32, role: &mut Role) {
        let limit = Instant::now() + Duration::from_mins(1);
        loop {
            let positions = self.positions(prefix, generation);
            if !positions.is_empty() && positions.values().all(|position| position.checkpoint.complete) {
                return;
            }
            assert!(!role.is_gone(), "the rebuild ended; its log is beside its configuration");
            assert!(Instant::now() < limit, "the rebuild does not become complete");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// How many cells a generation has.
    fn cells(&self, prefix: &str, generation: u32) -> usize {
        let mut redis = self.redis.get_connection().expect("Redis answers");
        // A scan may come by a key twice.
        let mut found = HashSet::new();
        for kind in ["a", "c"] {
            let mut cursor = 0_u64;
            loop {
                let mut scan = redis::cmd("SCAN");
                let pattern = format!("{prefix}:g{generation}:{kind}:*");
                scan.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(5_000);
                let (next, keys): (u64, Vec<String>) = scan.query(&mut redis).expect("Redis answers");
                found.extend(keys);
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        found.len()
    }

    fn until_begun(&self, prefix: &str, generation: u32, role: &mut Role) {
        let limit = Instant::now() + Duration::from_mins(1);
        while !self.is_claimed(prefix, generation) {
            assert!(!role.is_gone(), "the rebuild ended; its log is beside its configuration");
            assert!(Instant::now() < limit, "the rebuild does not begin");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Runs a command to its end; exit status 0 is demanded.
    pub(crate) fn timed(&self, config: &std::path::Path, arguments: &[&str]) -> (f64, Output) {
        let started = Instant::now();
        let output = Command::new(&self.args.binary)
            .args(["--config", config.to_str().expect("a path in UTF-8")])
            .args(arguments)
            .output()
            .expect("the product starts");
        let seconds = started.elapsed().as_secs_f64();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}{}", String::from_utf8_lossy(&output.stdout));
        (seconds, output)
    }
}
