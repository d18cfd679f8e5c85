//! Acknowledged writes to Kafka: dead letters and decisions.

use std::time::Duration;

use rdkafka::{
    error::KafkaError,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord, Producer as _},
    util::Timeout,
};

use super::{Cluster, Quiet};

/// One record to write.
#[derive(Debug, Clone, Default)]
pub struct Outgoing {
    /// The topic's name.
    pub topic: String,
    /// The key, where it has one.
    pub key: Option<Vec<u8>>,
    /// The value, where it has one.
    pub value: Option<Vec<u8>>,
    /// The headers in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// A producer whose writes count once every replica in sync has them.
#[derive(Clone)]
pub struct Producer {
    inner: FutureProducer<Quiet>,
}

impl Producer {
    /// An idempotent producer.
    pub fn new(cluster: &Cluster) -> Result<Self, KafkaError> {
        let inner = cluster
            .client(&[
                ("enable.idempotence", "true"),
                ("acks", "all"),
                ("message.timeout.ms", "30000"),
                ("compression.type", "lz4"),
                // What is written here is rare, and a record too large must not take others down with it.
                ("batch.num.messages", "1"),
                // The broker decides what is too large; the client is not to refuse before it.
                ("message.max.bytes", "100000000"),
            ])
            .create_with_context(Quiet)?;
        Ok(Producer { inner })
    }

    /// Writes a record and waits until it is acknowledged.
    pub async fn write(&self, record: &Outgoing) -> Result<(), KafkaError> {
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in &record.headers {
            headers = headers.insert(Header { key, value: value.as_ref() });
        }
        let mut outgoing = FutureRecord::<Vec<u8>, Vec<u8>>::to(&record.topic).headers(headers);
        if let Some(key) = &record.key {
            outgoing = outgoing.key(key);
        }
        if let Some(value) = &record.value {
            outgoing = outgoing.payload(value);
        }
        let queue_timeout = Timeout::After(Duration::from_secs(30));
        self.inner.send(outgoing, queue_timeout).await.map(drop).map_err(|(error, _)| error)
    }

    /// Waits until everything written is acknowledged or given up.
    pub fn flush(&self, timeout: Duration) -> Result<(), KafkaError> {
        self.inner.flush(timeout)
    }
}
