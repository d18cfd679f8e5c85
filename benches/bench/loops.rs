//! What the drain is measured against: reading alone, and a careful afternoon's at-least-once loop.

use std::{
    borrow::Cow,
    collections::HashMap,
    time::{Duration, Instant},
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    message::Message,
};
use rust_decimal::Decimal;
use serde::Deserialize;

use crate::{Topics, process};

/// What a loop cost.
pub struct Cost {
    /// From its first record to its last.
    pub seconds: f64,
    /// Processor time of this process meanwhile.
    pub cpu: f64,
}

fn consumer(topics: &Topics) -> BaseConsumer {
    let consumer: BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", &topics.brokers)
        .set("group.id", "bench-loop")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("fetch.queue.backoff.ms", "10")
        .set("queued.min.messages", "50000")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    for (topic, partition) in topics.partitions() {
        list.add_partition_offset(topic, partition, Offset::Beginning).expect("a partition");
    }
    consumer.assign(&list).expect("assigned");
    consumer
}

/// Reads every record and does nothing with it.
pub fn bare(topics: &Topics, events: u64) -> Cost {
    let consumer = consumer(topics);
    let (mut first, mut seen, mut bytes) = (None, 0, 0);
    let before = process::cpu_seconds(std::process::id());
    while seen < events {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            first.get_or_insert_with(Instant::now);
            seen += 1;
            bytes += message.payload().map_or(0, <[u8]>::len);
        }
    }
    assert!(bytes > 0, "records have values");
    cost(first, before)
}

fn cost(first: Option<Instant>, before: f64) -> Cost {
    Cost {
        seconds: first.map_or(0.0, |first| first.elapsed().as_secs_f64()),
        cpu: process::cpu_seconds(std::process::id()) - before,
    }
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    subject: Cow<'a, str>,
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow, default)]
    amount: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    currency: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    customer_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    credit_debit_indicator: Option<Cow<'a, str>>,
}

/// Reads, decodes, sums, and adds to Redis in pipelines of 500 events; offsets would be committed after each.
/// It knows no duplicate, no order and no owner: a crash or a repeat makes its balances wrong.
pub fn at_least_once(topics: &Topics, redis_url: &str, events: u64) -> Cost {
    let consumer = consumer(topics);
    let client = redis::Client::open(redis_url).expect("a Redis URL");
    let mut redis = client.get_connection().expect("Redis answers");
    let (mut first, mut seen) = (None, 0);
    let mut sums: HashMap<String, Decimal> = HashMap::new();
    let mut pipeline = redis::pipe();
    let mut waiting = 0;
    let before = process::cpu_seconds(std::process::id());
    while seen < events {
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
        first.get_or_insert_with(Instant::now);
        seen += 1;
        if let Ok(event) = serde_json::from_slice::<Event<'_>>(message.payload().unwrap_or_default()) {
            add(&event, &mut sums, &mut pipeline);
            waiting += 1;
        }
        if waiting == 500 || seen == events {
            pipeline.exec(&mut redis).expect("Redis takes the pipeline");
            pipeline.clear();
            waiting = 0;
        }
    }
    cost(first, before)
}

fn add(event: &Event<'_>, sums: &mut HashMap<String, Decimal>, pipeline: &mut redis::Pipeline) {
    let data = &event.data;
    let amount = data.amount.as_deref().and_then(|text| Decimal::from_str_exact(text).ok());
    let amount = amount.unwrap_or_default();
    let signed = if data.credit_debit_indicator.as_deref() == Some("DBIT") { -amount } else { amount };
    *sums.entry(data.currency.as_deref().unwrap_or_default().to_owned()).or_default() += signed;
    let minor = i64::try_from(signed.mantissa()).unwrap_or_default();
    let field = data.currency.as_deref().unwrap_or("-");
    pipeline.cmd("HINCRBY").arg(format!("loop:{}", event.subject)).arg(field).arg(minor).ignore();
    let other = data.customer_id.as_deref().unwrap_or(event.kind.as_ref());
    pipeline.cmd("HINCRBY").arg(format!("loop:due:{other}")).arg(field).arg(-minor).ignore();
}
