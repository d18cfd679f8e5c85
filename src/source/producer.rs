//! Acknowledged writes to Kafka: dead letters and decisions.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode},
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
    cluster: Cluster,
    inner: Arc<ArcSwap<FutureProducer<Quiet>>>,
}

impl Producer {
    /// An idempotent producer.
    pub fn new(cluster: &Cluster) -> Result<Self, KafkaError> {
        let inner = Arc::new(ArcSwap::from_pointee(Self::client(cluster)?));
        Ok(Producer { cluster: cluster.clone(), inner })
    }

    fn client(cluster: &Cluster) -> Result<FutureProducer<Quiet>, KafkaError> {
        cluster
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
            .create_with_context(Quiet::default())
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
        let client = self.inner.load_full();
        let sent = client.send(outgoing, queue_timeout).await;
        if let Err((KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut), _)) = &sent {
            self.replace(client);
        }
        sent.map(drop).map_err(|(error, _)| error)
    }

    /// A client that lost all its brokers may not find back: the next record is written by another one.
    fn replace(&self, lost: Arc<FutureProducer<Quiet>>) {
        match Self::client(&self.cluster) {
            Ok(another) => {
                drop(self.inner.compare_and_swap(&lost, Arc::new(another)));
                super::discard(lost);
            }
            Err(error) => tracing::debug!(%error, "no other client"),
        }
    }

    /// Waits until everything written is acknowledged or given up.
    pub fn flush(&self, timeout: Duration) -> Result<(), KafkaError> {
        self.inner.load().flush(timeout)
    }
}
