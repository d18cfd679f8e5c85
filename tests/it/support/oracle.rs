//! The whole log in order, for the store in memory that says what is right.

use std::time::{Duration, Instant};

use balance_projector::domain::{Offset, Time, Topic};
use balance_projector::wire::Record;
use rdkafka::{
    Message as _, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    message::Headers as _,
};

use super::kafka::Broker;

/// A record as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Stored {
    /// The headers, borrowed as a record wants them.
    pub fn headers(&self) -> Vec<(&str, Option<&[u8]>)> {
        self.headers.iter().map(|(k, v)| (k.as_str(), v.as_deref())).collect()
    }

    /// The record as the decoder takes it.
    pub fn record<'a>(&'a self, topic: Topic, headers: &'a [(&'a str, Option<&'a [u8]>)]) -> Record<'a> {
        Record {
            topic,
            offset: Offset(self.offset),
            timestamp: Time::from_millis(self.timestamp_ms),
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers,
        }
    }

    /// A header's value as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(n, _)| n == name)?;
        value.as_deref().and_then(|v| std::str::from_utf8(v).ok())
    }
}

/// Every record of a topic that a reader of committed records sees now, per partition in order.
pub fn read(broker: &Broker, topic: &str, partitions: i32) -> Vec<Vec<Stored>> {
    let consumer: BaseConsumer = broker
        .client()
        .set("group.id", "oracle")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "20")
        .set("fetch.message.max.bytes", "16000000")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, rdkafka::Offset::Beginning).expect("a partition");
    }
    consumer.assign(&list).expect("assigned");
    let mut read: Vec<Vec<Stored>> = (0..partitions).map(|_| Vec::new()).collect();
    let mut ended = vec![false; read.len()];
    let deadline = Instant::now() + Duration::from_secs(60);
    while ended.contains(&false) {
        assert!(Instant::now() < deadline, "{topic} is not read to its end within a minute");
        match consumer.poll(Duration::from_millis(200)) {
            None => {}
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                ended[usize::try_from(partition).expect("positive")] = true;
            }
            Some(Err(e)) => panic!("{topic}: {e}"),
            Some(Ok(message)) => {
                let headers = message.headers().map(|headers| {
                    headers.iter().map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect()
                });
                read[usize::try_from(message.partition()).expect("positive")].push(Stored {
                    partition: message.partition(),
                    offset: message.offset(),
                    timestamp_ms: message.timestamp().to_millis().expect("a timestamp"),
                    key: message.key().map(<[u8]>::to_vec),
                    value: message.payload().map(<[u8]>::to_vec),
                    headers: headers.unwrap_or_default(),
                });
            }
        }
    }
    read
}
