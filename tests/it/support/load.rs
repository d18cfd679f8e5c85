//! A stream of generated events, sent at a steady rate while a test does its worst.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use balance_projector::ops::generate::{Args, Generator};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;

use super::{
    kafka::{Broker, Topics},
    produce::{Outgoing, Partitioner, Producer},
};

/// A running stream.
pub struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Sends what `generate` makes of these flags, so many records a second. They are made as they are sent: a
    /// stream longer than any machine takes for the test is a load that ends when the test stops it.
    pub fn start(broker: &Broker, topics: &Topics, args: &Args, per_second: u32) -> Self {
        let records = records(topics, args);
        let producer = Producer::new(broker, Partitioner::Librdkafka);
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let thread = std::thread::spawn({
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            move || {
                let begun = Instant::now();
                for (n, record) in (0_u32..).zip(records) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let due = Duration::from_secs(1) * n / per_second;
                    std::thread::sleep(due.saturating_sub(begun.elapsed()));
                    producer.send(&record);
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                producer.flush();
            }
        });
        Load { stop, sent, thread: Some(thread) }
    }

    /// Waits for its end; returns how many records it sent.
    pub fn finish(mut self) -> usize {
        self.thread.take().expect("it was started").join().expect("all was delivered");
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends it before its end; returns how many records it sent.
    pub fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.finish()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Sends all of it at once, and waits.
pub fn all_at_once(broker: &Broker, topics: &Topics, args: &Args) -> usize {
    let producer = Producer::new(broker, Partitioner::Librdkafka);
    let sent = records(topics, args).inspect(|record| producer.send(record)).count();
    producer.flush();
    sent
}

/// What `generate` makes of these flags, as records.
pub fn records(topics: &Topics, args: &Args) -> impl Iterator<Item = Outgoing> + use<> {
    let mut generator = Generator::new(args).expect("flags that fit together");
    let topics = topics.clone();
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        generator.next_line(&mut line).then(|| record(&topics, line))
    })
}

fn record(topics: &Topics, line: Vec<u8>) -> Outgoing {
    let event: Value = serde_json::from_slice(&line).expect("a line of JSON");
    let Some(raw) = event.get("raw") else {
        let kind = event["type"].as_str().expect("a type");
        let topic = if kind.starts_with("ledger.") { &topics.ledger } else { &topics.payment };
        let subject = event["subject"].as_str().expect("a subject");
        return Outgoing {
            topic: topic.clone(),
            key: Some(subject.as_bytes().to_vec()),
            headers: vec![("content-type".to_owned(), Some(b"application/cloudevents+json".to_vec()))],
            value: Some(line),
            ..Outgoing::default()
        };
    };
    let topic = if raw["topic"] == "ledger" { &topics.ledger } else { &topics.payment };
    let text = |value: &Value| value.as_str().map(|text| text.as_bytes().to_vec());
    let base64 = |value: &Value| Some(BASE64_STANDARD.decode(value.as_str()?).expect("base64"));
    let headers: BTreeMap<String, Value> = serde_json::from_value(raw["headers"].clone()).unwrap_or_default();
    Outgoing {
        topic: topic.clone(),
        key: text(&raw["key"]),
        value: text(&raw["value"]).or_else(|| base64(&raw["value_base64"])),
        headers: headers.into_iter().map(|(name, value)| (name, text(&value))).collect(),
        ..Outgoing::default()
    }
}
