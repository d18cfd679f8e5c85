//! Real brokers, and what an administrator does to their topics.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use futures::executor::block_on;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{
        AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
    },
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
};

use super::{
    Folder, eventually, free_port,
    process::{Process, Signal},
    unique,
};

/// A single-node broker with a data folder and ports of its own.
pub struct Broker {
    folder: Folder,
    port: u16,
    process: Option<Process>,
}

/// Runs a tool of Kafka's to its end.
pub fn tool(class: &str, words: &[&str]) {
    let mut java = Command::new("java");
    java.args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
    java.arg(format!("{}/*", jars().display())).arg(class).args(words).stdin(Stdio::null());
    let output = java.output().expect("java");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{class}: {said:?}");
}

/// The broker that most tests share: topics keep them apart.
pub fn shared() -> &'static Broker {
    static SHARED: OnceLock<Broker> = OnceLock::new();
    SHARED.get_or_init(|| Broker::start(&[]))
}

/// The topics of one deployment.
#[derive(Debug, Clone)]
pub struct Topics {
    pub brokers: String,
    pub group: String,
    pub ledger: String,
    pub payment: String,
    pub dead_letters: String,
    pub decisions: String,
    pub partitions: i32,
}

impl Broker {
    /// Starts a broker of the test's own, with settings over the usual ones.
    pub fn start(settings: &[(&str, &str)]) -> Self {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings: Vec<_> = settings.collect();
        Self::start_by(|_, _| settings)
    }

    /// Starts a broker whose settings name its port and its controller's; `log4j2.…` are those of its log.
    pub fn start_by(settings: impl FnOnce(u16, u16) -> Vec<(String, String)>) -> Self {
        let (port, controller) = (free_port(), free_port());
        let folder = Folder::new("kafka");
        let data = folder.join("data");
        let copied = Command::new("cp").arg("-r").arg(jars().join("formatted")).arg(&data).status();
        assert!(copied.expect("cp").success(), "a formatted data folder");
        let mut properties = format!(
            "process.roles=broker,controller\n\
             node.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
             controller.listener.names=CONTROLLER\n\
             inter.broker.listener.name=PLAINTEXT\n\
             log.dirs={}\n\
             offsets.topic.replication.factor=1\n\
             offsets.topic.num.partitions=2\n\
             transaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\n\
             transaction.state.log.num.partitions=2\n\
             share.coordinator.state.topic.replication.factor=1\n\
             share.coordinator.state.topic.min.isr=1\n\
             group.initial.rebalance.delay.ms=0\n\
             broker.session.timeout.ms=3000\n\
             broker.heartbeat.interval.ms=500\n\
             group.min.session.timeout.ms=1000\n\
             auto.create.topics.enable=false\n\
             log.cleaner.dedupe.buffer.size=4194304\n\
             file.delete.delay.ms=1000\n\
             message.max.bytes=16777216\n\
             replica.fetch.max.bytes=16777216\n",
            data.display()
        );
        let log4j = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/local/log4j2.properties");
        let mut logging = std::fs::read_to_string(log4j).expect("settings of the log");
        for (name, value) in settings(port, controller) {
            match name.strip_prefix("log4j2.") {
                Some(name) => logging.push_str(&format!("{name} = {value}\n")),
                None => properties.push_str(&format!("{name}={value}\n")),
            }
        }
        std::fs::write(folder.join("log4j2.properties"), logging).expect("settings of the log");
        std::fs::write(folder.join("server.properties"), properties).expect("the broker's settings");
        let mut broker = Broker { folder, port, process: None };
        broker.restart();
        broker
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("kafka.log")).expect("a log")
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts it again after [`Broker::kill`], on the same data and port, and waits until it answers.
    pub fn restart(&mut self) {
        let lib = jars();
        let log4j = self.folder.join("log4j2.properties");
        let mut java = Command::new("java");
        // Little memory and a quick start matter more here than throughput.
        java.args(["-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .arg(format!("-Dlog4j2.configurationFile={}", log4j.display()))
            .arg("-cp")
            .arg(format!("{}/*", lib.display()))
            .arg("kafka.Kafka")
            .arg(self.folder.join("server.properties"));
        self.process = Some(Process::start("kafka", &mut java, &self.folder.join("kafka.log")));
        self.answers();
    }

    /// Waits until it answers.
    pub fn answers(&self) {
        let client: BaseConsumer = self.client().create().expect("a client");
        eventually(Duration::from_secs(60), || {
            let metadata = client.fetch_metadata(None, Duration::from_secs(2))?;
            if metadata.brokers().is_empty() {
                return Err(rdkafka::error::KafkaError::Canceled);
            }
            Ok(())
        });
    }

    /// `kill -9`: what it acknowledged is in the system's page cache and survives.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Freezes it, or lets it go on: connections stay open either way.
    pub fn signal(&self, signal: Signal) {
        self.process.as_ref().expect("it runs").signal(signal);
    }

    /// What any client of it needs.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.address())
            .set("broker.address.family", "v4")
            .set("allow.auto.create.topics", "false")
            .set("reconnect.backoff.ms", "20")
            .set("reconnect.backoff.max.ms", "200")
            // What a client says of a broker that a test killed on purpose is of no interest.
            .set("log_level", "0");
        config
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().expect("an administrator's client")
    }

    /// A deployment's two event topics under fresh names, with these many partitions each, and names for the
    /// two topics that the product creates.
    pub fn topics(&self, partitions: i32) -> Topics {
        let n = unique();
        let topics = Topics {
            brokers: self.address(),
            group: format!("group-{n}"),
            ledger: format!("ledger-{n}"),
            payment: format!("payment-{n}"),
            dead_letters: format!("dead-letters-{n}"),
            decisions: format!("decisions-{n}"),
            partitions,
        };
        for name in [&topics.ledger, &topics.payment] {
            self.create_topic(name, partitions, &[("cleanup.policy", "delete"), ("retention.ms", "-1")]);
        }
        topics
    }

    /// Creates a topic with these settings, and waits until the broker tells of it.
    pub fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        // A topic of this name that was deleted a moment ago may still be on its way out.
        eventually(Duration::from_secs(20), || {
            let made =
                block_on(self.admin().create_topics([&topic], &AdminOptions::new())).expect("an answer");
            made.into_iter().next().expect("one topic")
        });
        self.has_partitions(name, partitions);
    }

    /// Deletes a topic, and waits until it is gone.
    pub fn delete_topic(&self, name: &str) {
        let deleted = block_on(self.admin().delete_topics(&[name], &AdminOptions::new())).expect("an answer");
        deleted.into_iter().next().expect("one topic").expect("deleted");
        let client: BaseConsumer = self.client().create().expect("a client");
        eventually(Duration::from_secs(20), || {
            let metadata = client.fetch_metadata(None, Duration::from_secs(5)).expect("metadata");
            if metadata.topics().iter().any(|t| t.name() == name) { Err("it is still there") } else { Ok(()) }
        });
    }

    /// Raises the number of a topic's partitions.
    pub fn add_partitions(&self, name: &str, to: i32) {
        let count = usize::try_from(to).expect("positive");
        let grown = [NewPartitions::new(name, count)];
        let made = block_on(self.admin().create_partitions(&grown, &AdminOptions::new())).expect("an answer");
        made.into_iter().next().expect("one topic").expect("grown");
        self.has_partitions(name, to);
    }

    /// Sets settings of a topic.
    pub fn configure_topic(&self, name: &str, settings: &[(&str, &str)]) {
        let mut alter = AlterConfig::new(ResourceSpecifier::Topic(name));
        for (key, value) in settings {
            alter = alter.set(key, value);
        }
        let altered =
            block_on(self.admin().alter_configs([&alter], &AdminOptions::new())).expect("an answer");
        altered.into_iter().next().expect("one topic").expect("altered");
    }

    /// Removes a partition's records before an offset, as retention does.
    pub fn delete_records_before(&self, name: &str, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(name, partition, Offset::Offset(offset)).expect("an offset");
        let done = block_on(self.admin().delete_records(&list, &AdminOptions::new())).expect("an answer");
        for element in done.elements() {
            element.error().expect("removed");
        }
    }

    /// The first offset that a partition still holds, and its end.
    pub fn watermarks(&self, name: &str, partition: i32) -> (i64, i64) {
        let client: BaseConsumer = self.client().create().expect("a client");
        client.fetch_watermarks(name, partition, Duration::from_secs(10)).expect("watermarks")
    }

    fn has_partitions(&self, name: &str, partitions: i32) {
        let client: BaseConsumer = self.client().create().expect("a client");
        let expected = usize::try_from(partitions).expect("positive");
        eventually(Duration::from_secs(20), || {
            let metadata =
                client.fetch_metadata(Some(name), Duration::from_secs(5)).map_err(|e| e.to_string())?;
            let topic = metadata.topics().first().ok_or("no such topic")?;
            let led = topic.partitions().iter().filter(|p| p.leader() >= 0).count();
            if led == expected { Ok(()) } else { Err(format!("{led} partitions have a leader")) }
        });
    }
}

/// The folder of the jars, filled on first use by the script that also starts Kafka for people.
fn jars() -> &'static Path {
    static JARS: OnceLock<PathBuf> = OnceLock::new();
    JARS.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/stack");
        let output = Command::new(&script)
            .arg("fetch")
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .expect("scripts/stack");
        assert!(output.status.success(), "scripts/stack fetch failed");
        PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim())
    })
}
