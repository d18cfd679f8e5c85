//! From a publish to its balance read over HTTP, beside produce to consume.

use std::{
    fs,
    time::{Duration, Instant},
};

use rdkafka::{
    consumer::{BaseConsumer, Consumer},
    message::Message,
    producer::{BaseProducer, BaseRecord, Producer},
};

use crate::{API_KEY, Bench, TOKEN, Topics, process::Role, reads::ask};

impl Bench {
    /// Publish to readable over HTTP at 1,000 events a second, beside produce to consume.
    pub(crate) fn freshness(&mut self) {
        let topics = self.fill("freshness", 10_000, &["--accounts".to_owned(), "1000".to_owned()]);
        let config = self.args.out.join("freshness.toml");
        let _project = Role::start(&self.args.binary, "run", &config);
        let text = fs::read_to_string(&config).expect("the configuration");
        let api =
            text.split("listen = \"").nth(1).and_then(|rest| rest.split('"').next()).expect("an address");
        // None of those that were published, which live in partitions of their own.
        let account = self.sample_accounts().last().expect("accounts").clone();
        let request = |position: &str| {
            format!(
                "GET /my/accounts/{account}/balance HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nAPI-key: \
                 {API_KEY}\r\nTPP-Name: bench\r\nUser-Involved: true\r\nX-Request-ID: 1\r\n{position}\r\n"
            )
        };
        std::thread::sleep(Duration::from_secs(3));
        let (readable, consumed) = probe(&topics, api, &account, &request);
        for (name, mut times) in [("readable", readable), ("consumed", consumed)] {
            times.sort_unstable();
            let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or(0);
            self.put("freshness", &format!("{name}_p50_us"), at(0.5) as f64);
            self.put("freshness", &format!("{name}_p99_us"), at(0.99) as f64);
        }
    }
}

/// Times, in microseconds, from before a publish to its balance read, and to its record consumed.
fn probe(
    topics: &Topics,
    api: &str,
    account: &str,
    request: &dyn Fn(&str) -> String,
) -> (Vec<u64>, Vec<u64>) {
    let producer: BaseProducer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", &topics.brokers)
        .set("linger.ms", "0")
        .create()
        .expect("a producer");
    let consumer: BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", &topics.brokers)
        .set("group.id", "bench-freshness")
        .set("fetch.wait.max.ms", "100")
        .create()
        .expect("a consumer");
    let ledger = topics.ledger();
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition_offset(&ledger, 0, rdkafka::Offset::End).expect("a partition");
    consumer.assign(&list).expect("assigned");
    while consumer.poll(Duration::from_millis(500)).is_some() {}
    let (mut readable, mut received) = (Vec::new(), Vec::new());
    // The probed account keeps to partition 0; the rate around it comes from other accounts.
    let clock = Instant::now();
    let event = |id: usize, subject: &str| {
        format!(
            r#"{{"specversion":"1.0","id":"00000000-0000-4000-8000-{:012x}","source":"urn:bench","type":"ledger.entry.booked.v1","subject":"{subject}","time":"2026-01-01T00:00:{:02}.{:09}Z","data":{{"entry_id":"p-{id}","account_id":"{subject}","amount":"1.00","currency":"EUR","credit_debit_indicator":"CRDT","booking_date":"2026-01-01"}}}}"#,
            id + usize::try_from(std::process::id()).unwrap_or(0) * 1_000_000,
            id / 1_000_000,
            id % 1_000_000,
        )
    };
    let mut id = 0;
    let mut stream = std::net::TcpStream::connect(api).expect("the server listens");
    stream.set_nodelay(true).expect("a socket option");
    let (_, mut next) = consumer.fetch_watermarks(&ledger, 0, Duration::from_secs(5)).expect("watermarks");
    for round in 0..1_000_u64 {
        // Nine events of other accounts and one of the probed one, every ten milliseconds.
        for other in 0..9 {
            id += 1;
            let subject = format!("other-{other}");
            let value = event(id, &subject);
            let record = BaseRecord::to(&ledger).partition(1).key(&subject).payload(&value).headers(header());
            producer.send(record).expect("queued");
        }
        id += 1;
        let value = event(id, account);
        let sent = Instant::now();
        let record = BaseRecord::to(&ledger).partition(0).key(account).payload(&value).headers(header());
        producer.send(record).expect("queued");
        producer.poll(Duration::ZERO);
        if round % 2 == 0 {
            let position = format!("Projection-Min-Position: {ledger}/0@{next}\r\n");
            ask(&mut stream, &request(&position), 200);
            readable.push(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX));
            while consumer.poll(Duration::ZERO).is_some() {}
        } else {
            while !matches!(consumer.poll(Duration::from_millis(200)), Some(Ok(message)) if message.offset() >= next)
            {
            }
            received.push(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX));
        }
        next += 1;
        let due = Duration::from_millis(round * 10);
        std::thread::sleep(due.saturating_sub(clock.elapsed()));
    }
    producer.flush(Duration::from_secs(10)).expect("flushed");
    (readable, received)
}

fn header() -> rdkafka::message::OwnedHeaders {
    rdkafka::message::OwnedHeaders::new()
        .insert(rdkafka::message::Header { key: "content-type", value: Some("application/cloudevents+json") })
}
