//! librdkafka's in-process broker, for the demo: memory and loopback only, about 5 MiB a partition.

use rdkafka::{error::KafkaError, mocking::MockCluster, producer::DefaultProducerContext};

use super::Cluster;
use crate::config;

/// A running in-process broker; it ends when this is dropped.
pub struct EmbeddedBroker {
    // Held for its drop.
    _broker: MockCluster<'static, DefaultProducerContext>,
    cluster: Cluster,
}

impl EmbeddedBroker {
    /// Starts it with all four topics.
    pub fn start(mut settings: config::Kafka, partitions: i32) -> Result<Self, KafkaError> {
        let broker = MockCluster::new(1)?;
        for name in [&settings.ledger_topic, &settings.payment_topic] {
            broker.create_topic(name, partitions, 1)?;
        }
        for name in [&settings.dead_letter_topic, &settings.decisions_topic] {
            broker.create_topic(name, 1, 1)?;
        }
        settings.brokers = broker.bootstrap_servers();
        // This broker does not wake a waiting fetch early.
        settings.properties.insert("fetch.wait.max.ms".to_owned(), "10".to_owned());
        Ok(EmbeddedBroker { _broker: broker, cluster: Cluster { settings, embedded: true } })
    }

    /// How to reach it.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }
}
