//! `publish`: NDJSON events → Kafka, checked first by the projector's own rules.
//!
//! A line is a structured `CloudEvent`, sent to its type's topic under its subject. A line whose first
//! member is `raw` is a record as it is, sent with `--raw` only, for trying out what becomes a dead letter:
//! `{"raw": {"topic": "ledger", "key": "…", "value": "…", "headers": {"content-type": "…"}}}`, with `null`
//! for no key, no value or no header's value, and `value_base64` for bytes that are no text. Headers go in the order in
//! which they stand, and one may stand there several times.

mod lines;
mod sender;

use std::{
    fs::File,
    io::{BufRead, BufReader, IsTerminal as _, Write as _},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};

use super::Outcome;
use crate::config::{Config, Partitioner};

use self::{
    lines::{Checker, Lines},
    sender::{Positions, Sender},
};

/// The command line of `publish`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// The file of events, one a line; standard input where left out.
    pub file: Option<PathBuf>,
    /// Only check: send nothing, and reach for no broker.
    #[arg(long)]
    pub dry_run: bool,
    /// Leave out lines that do not pass, and go on; by default nothing is sent from the first such line on.
    #[arg(long)]
    pub skip_bad: bool,
    /// Send raw records too: lines of the form {"raw": …}, as they are.
    #[arg(long)]
    pub raw: bool,
    /// The partitioner, if not `kafka.partitioner`: all publishers of a topic have one.
    #[arg(long, value_enum)]
    pub partitioner: Option<Partitioner>,
}

/// Sends every line of the file or standard input, and tells what came of it.
pub fn run(config: &Config, args: &Args) -> anyhow::Result<Outcome> {
    let summary = match &args.file {
        None => publish(config, args, std::io::stdin().lock(), Progress::new(None)),
        Some(path) => {
            let named = || format!("{} cannot be read", path.display());
            let file = File::open(path).with_context(named)?;
            let length = file.metadata().with_context(named)?.len();
            publish(config, args, BufReader::with_capacity(1 << 18, file), Progress::new(Some(length)))
        }
    }?;
    let mut out = std::io::stdout().lock();
    let verb = if args.dry_run { "passed" } else { "sent" };
    writeln!(out, "{} {verb}, {} bad", summary.good, summary.bad)?;
    if !summary.positions.is_empty() {
        writeln!(out, "Projection-Min-Position: {}", summary.positions)?;
    }
    if let Some(line) = summary.stopped {
        eprintln!(
            "balance-projector: stopped at line {line}: nothing was sent from it on (--skip-bad goes on)"
        );
    }
    Ok(if summary.bad == 0 { Outcome::Well } else { Outcome::NeedsPerson })
}

/// What came of the lines.
#[derive(Debug, Default)]
struct Summary {
    /// Sent, or with `--dry-run` fit to be sent.
    good: u64,
    bad: u64,
    /// The line from which on nothing was sent.
    stopped: Option<u64>,
    /// The newest record in each partition: what readers name to wait for all that was sent.
    positions: Positions,
}

fn publish(
    config: &Config,
    args: &Args,
    input: impl BufRead,
    mut progress: Progress,
) -> anyhow::Result<Summary> {
    let mut checker = Checker::new(config, args.raw);
    let mut sender = if args.dry_run {
        None
    } else {
        Some(Sender::new(config, args.partitioner.unwrap_or(config.kafka.partitioner))?)
    };
    let mut lines = Lines::new(input, checker.line_bytes_max());
    let (mut summary, mut sent) = (Summary::default(), Ok(()));
    loop {
        let line = match lines.next() {
            Ok(Some(line)) => line,
            Ok(None) => break,
            Err(error) => {
                sent = Err(error).context("the input cannot be read");
                break;
            }
        };
        progress.at(line.number, line.bytes_read);
        let spread = line.text.is_some_and(|text| matches!(text.trim_ascii(), b"{" | b"["));
        let outcome = line.text.ok_or_else(|| checker.too_long()).and_then(|text| checker.check(text));
        match outcome {
            Ok(None) => {}
            Ok(Some(record)) => {
                if let Some(sender) = &mut sender {
                    sent = sender.send(line.number, &record);
                    if sent.is_err() {
                        break;
                    }
                }
                summary.good = summary.good.saturating_add(1);
            }
            Err(fault) => {
                summary.bad = summary.bad.saturating_add(1);
                let hint = if spread {
                    "; an event stands on one line: of a file with one event, `tr -d '\\n'` makes it so"
                } else {
                    ""
                };
                progress.tell(&format!("line {}: {fault}{hint}", line.number), summary.bad);
                if !args.skip_bad && !args.dry_run {
                    summary.stopped = Some(line.number);
                    break;
                }
            }
        }
    }
    match sender {
        Some(sender) => summary.positions = sender.finish(sent)?,
        None => sent?,
    }
    progress.finish();
    Ok(summary)
}

/// How far it is: a bar on a terminal, else a line now and then.
struct Progress {
    bar: Option<ProgressBar>,
    told: Instant,
    lines: u64,
}

impl Progress {
    const EVERY: Duration = Duration::from_secs(5);
    /// Looking at the clock costs more than reading a line.
    const STRIDE: u64 = 1_024;
    const BAD_LINES_TOLD_MAX: u64 = 100;

    fn new(bytes: Option<u64>) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let (bar, template) = match bytes {
                Some(bytes) => {
                    (ProgressBar::new(bytes), "{wide_bar} {percent} % {msg} {elapsed} (eta {eta})")
                }
                None => (ProgressBar::no_length(), "{spinner} {msg} {elapsed}"),
            };
            // A template that does not parse would leave the default style.
            bar.with_style(
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
            )
        });
        Progress { bar, told: Instant::now(), lines: 0 }
    }

    fn at(&mut self, line: u64, bytes_read: u64) {
        self.lines = line;
        if !line.is_multiple_of(Self::STRIDE) {
            return;
        }
        if let Some(bar) = &self.bar {
            bar.set_position(bytes_read);
            bar.set_message(format!("{line} lines"));
        } else if self.told.elapsed() >= Self::EVERY {
            self.told = Instant::now();
            eprintln!("{line} lines");
        }
    }

    /// A bad line; only so many of them are told.
    fn tell(&self, text: &str, bad: u64) {
        let text = match bad {
            ..=Self::BAD_LINES_TOLD_MAX => text,
            bad if bad.checked_sub(1) == Some(Self::BAD_LINES_TOLD_MAX) => {
                "more bad lines are counted, not told"
            }
            _ => return,
        };
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_with_message(format!("{} lines", self.lines));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rdkafka::{
        ClientConfig, Message as _, Offset, TopicPartitionList,
        consumer::{BaseConsumer, Consumer as _},
        message::Headers as _,
        mocking::MockCluster,
        producer::DefaultProducerContext,
        types::{RDKafkaApiKey, RDKafkaRespErr},
    };

    use super::*;

    type Cluster = MockCluster<'static, DefaultProducerContext>;

    fn cluster() -> (Cluster, Config) {
        let cluster = MockCluster::new(1).unwrap();
        for topic in ["ledger.events", "payment.events"] {
            cluster.create_topic(topic, 3, 1).unwrap();
        }
        let mut config = Config::default();
        config.kafka.brokers = cluster.bootstrap_servers();
        (cluster, config)
    }

    fn quiet() -> Progress {
        Progress { bar: None, told: Instant::now(), lines: 0 }
    }

    fn published(config: &Config, args: &Args, text: &str) -> anyhow::Result<Summary> {
        publish(config, args, text.as_bytes(), quiet())
    }

    /// Topic, key, value, headers, position.
    type Sent = (String, Option<String>, Option<String>, Vec<String>, String);

    /// Every record.
    fn records(config: &Config, count: usize) -> Vec<Sent> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &config.kafka.brokers)
            .set("group.id", "test")
            .create()
            .unwrap();
        let mut all = TopicPartitionList::new();
        for topic in ["ledger.events", "payment.events"] {
            (0..3).for_each(|p| all.add_partition_offset(topic, p, Offset::Beginning).unwrap());
        }
        consumer.assign(&all).unwrap();
        let text = |bytes: Option<&[u8]>| bytes.map(|b| String::from_utf8(b.to_vec()).unwrap());
        let (mut records, begun) = (Vec::new(), Instant::now());
        while records.len() < count {
            assert!(begun.elapsed() < Duration::from_secs(30), "{} of {count} records came", records.len());
            let Some(message) = consumer.poll(Duration::from_secs(1)) else { continue };
            let message = message.unwrap();
            let headers = message.headers().into_iter().flat_map(|h| h.iter());
            let headers =
                headers.map(|h| format!("{}: {}", h.key, text(h.value).unwrap_or("null".to_owned())));
            records.push((
                message.topic().to_owned(),
                text(message.key()),
                text(message.payload()),
                headers.collect(),
                format!("{}/{}@{}", message.topic(), message.partition(), message.offset()),
            ));
        }
        records
    }

    fn line(event_type: &str, id: u32, subject: &str, data: &str) -> String {
        format!(
            r#"{{"specversion":"1.0","id":"00000000-0000-4000-8000-{id:012}","source":"/t","type":"{event_type}","subject":"{subject}","time":"2025-01-01T00:00:00Z","data":{data}}}"#
        )
    }

    fn opened(id: u32, account: &str) -> String {
        line(
            "ledger.account.opened.v1",
            id,
            account,
            &format!(r#"{{"account_id":"{account}","currencies":["CZK"]}}"#),
        )
    }

    fn profile(id: u32, customer: &str) -> String {
        let data = format!(r#"{{"customer_id":"{customer}","billing_name":"N","ivr_fee":"5.0"}}"#);
        line("customer.profile.set.v1", id, customer, &data)
    }

    #[test]
    fn an_event_goes_to_its_types_topic_under_its_subject() {
        let (_cluster, config) = cluster();
        let (one, two) = (opened(1, "A1"), profile(2, "C1"));
        let summary = published(&config, &Args::default(), &format!("{one}\n\n  {two}  \r\n")).unwrap();
        assert_eq!((summary.good, summary.bad, summary.stopped), (2, 0, None));
        let mut records = records(&config, 2);
        records.sort();
        let header = vec!["content-type: application/cloudevents+json; charset=utf-8".to_owned()];
        let [(t1, k1, v1, h1, p1), (t2, k2, v2, h2, p2)] = &records[..] else { unreachable!() };
        assert_eq!(
            (t1.as_str(), k1.as_deref(), v1.as_ref(), h1),
            ("ledger.events", Some("A1"), Some(&one), &header)
        );
        assert_eq!(
            (t2.as_str(), k2.as_deref(), v2.as_ref(), h2),
            ("payment.events", Some("C1"), Some(&two), &header)
        );
        assert_eq!(summary.positions.to_string(), format!("{p1}, {p2}"));
    }

    #[test]
    fn nothing_is_sent_from_the_first_bad_line_on() {
        let (_cluster, config) = cluster();
        let text = format!("{}\nnonsense\n{}\n", opened(1, "A1"), opened(2, "A2"));
        let summary = published(&config, &Args::default(), &text).unwrap();
        assert_eq!((summary.good, summary.bad, summary.stopped), (1, 1, Some(2)));
        assert_eq!(summary.positions.to_string().matches('@').count(), 1);
    }

    #[test]
    fn with_skip_bad_the_good_lines_are_sent() {
        let (_cluster, config) = cluster();
        let text = format!("{}\nnonsense\n[]\n{}", opened(1, "A1"), opened(2, "A2"));
        let summary = published(&config, &Args { skip_bad: true, ..Args::default() }, &text).unwrap();
        assert_eq!((summary.good, summary.bad, summary.stopped), (2, 2, None));
        assert_eq!(records(&config, 2).len(), 2);
    }

    #[test]
    fn a_dry_run_reaches_for_no_broker() {
        let mut config = Config::default();
        config.kafka.brokers = "127.0.0.1:1".to_owned();
        let text = format!("{}\nnonsense\n{}", opened(1, "A1"), opened(2, "A2"));
        let summary = published(&config, &Args { dry_run: true, ..Args::default() }, &text).unwrap();
        assert_eq!((summary.good, summary.bad), (2, 1));
        assert!(summary.positions.is_empty());
    }

    #[test]
    fn a_raw_record_is_sent_as_it_is_where_allowed() {
        let (_cluster, config) = cluster();
        let text = concat!(
            r#"{"raw":{"topic":"ledger","key":"A1","value":"nonsense","headers":{"x":null,"content-type":"a/b","x":"2"}}}"#,
            "\n",
            r#" { "raw": {"topic":"payment","key":null,"value":null}}"#,
            "\n",
            r#"{"raw":{"topic":"payment","key":"C1","value_base64":"aGk="}}"#,
        );
        let refused = published(&config, &Args::default(), text).unwrap();
        assert_eq!((refused.good, refused.stopped), (0, Some(1)));
        let summary = published(&config, &Args { raw: true, ..Args::default() }, text).unwrap();
        assert_eq!((summary.good, summary.bad), (3, 0));
        let records: BTreeMap<_, _> =
            records(&config, 3).into_iter().map(|(t, k, v, h, _)| ((t, k), (v, h))).collect();
        let expected = [
            (
                "ledger.events",
                Some("A1"),
                Some("nonsense"),
                vec!["x: null".to_owned(), "content-type: a/b".to_owned(), "x: 2".to_owned()],
            ),
            ("payment.events", None, None, vec![]),
            ("payment.events", Some("C1"), Some("hi"), vec![]),
        ];
        for (topic, key, value, headers) in expected {
            let found = &records[&(topic.to_owned(), key.map(str::to_owned))];
            assert_eq!(found, &(value.map(str::to_owned), headers), "{topic} {key:?}");
        }
    }

    #[test]
    fn a_wrong_raw_record_is_a_bad_line() {
        let config = Config::default();
        let rows = [
            (r#"{"raw":{"topic":"other","key":"A"}}"#, "unknown variant `other`"),
            (r#"{"raw":{"topic":"ledger","keys":"A"}}"#, "unknown field `keys`"),
            (r#"{"raw":{"topic":"ledger","value":"a","value_base64":""}}"#, "both value and value_base64"),
            (r#"{"raw":{"topic":"ledger","value_base64":"*"}}"#, "value_base64"),
            (r#"{"raw":{"topic":"ledger"}"#, "EOF"),
        ];
        for (text, expected) in rows {
            let fault = Checker::new(&config, true).check(text.as_bytes()).unwrap_err().to_string();
            assert!(fault.contains(expected), "{text} gave {fault}");
        }
    }

    #[test]
    fn a_missing_topic_is_named_at_once() {
        let cluster = MockCluster::new(1).unwrap();
        let mut config = Config::default();
        config.kafka.brokers = cluster.bootstrap_servers();
        let error = format!("{:#}", published(&config, &Args::default(), &opened(1, "A1")).unwrap_err());
        assert!(error.contains("the topic ledger.events does not exist"), "{error}");
    }

    #[test]
    fn a_record_that_is_not_delivered_fails_the_command() {
        let (cluster, config) = cluster();
        let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
        cluster.request_errors(RDKafkaApiKey::Produce, &[denied; 20]);
        let text = format!("\n{}", opened(1, "A1"));
        let error = published(&config, &Args::default(), &text).unwrap_err().to_string();
        assert!(
            error.starts_with("1 of 1 records were not delivered, 0 were; the first: line 2: "),
            "{error}"
        );
        assert!(error.contains("TopicAuthorizationFailed"), "{error}");
    }

    #[test]
    fn javas_partitioner_spreads_keys_otherwise() {
        let (_cluster, config) = cluster();
        let text: String = (0..30).map(|i| opened(i, &format!("A{i}")) + "\n").collect();
        let mut places = Vec::new();
        for partitioner in [Partitioner::ConsistentRandom, Partitioner::Murmur2Random] {
            published(&config, &Args { partitioner: Some(partitioner), ..Args::default() }, &text).unwrap();
        }
        for (_, key, _, _, position) in records(&config, 60) {
            places.push((key, position.split('@').next().unwrap().to_owned()));
        }
        places.sort();
        places.dedup();
        // A key that both partitioners place alike stands once.
        assert!(places.len() > 40, "{} places of 30 keys", places.len());
    }

    #[test]
    fn lines_are_read_within_a_bound() {
        let long = "x".repeat(50);
        let text = format!("one\n{long}\n\nfour");
        let input = BufReader::with_capacity(7, text.as_bytes());
        let mut lines = Lines::new(input, 20);
        let mut seen = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            seen.push((line.number, line.text.map(|t| String::from_utf8(t.to_vec()).unwrap())));
        }
        let text = |t: &str| Some(t.to_owned());
        assert_eq!(seen, [(1, text("one")), (2, None), (3, text("")), (4, text("four"))]);
    }
}
