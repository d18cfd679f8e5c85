//! Producers: both partitioners, headers, transactions.

use std::{
    sync::{
        Arc, Mutex,
        mpsc::{Sender, channel},
    },
    time::Duration,
};

use rdkafka::{
    ClientContext, Message as _,
    error::KafkaError,
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer},
};

use super::kafka::Broker;

/// Which partition a key goes to, where the record names none.
#[derive(Debug, Clone, Copy)]
pub enum Partitioner {
    /// Java's default: murmur2.
    Java,
    /// librdkafka's default: CRC32.
    Librdkafka,
}

/// A producer that waits for every acknowledgement.
pub struct Producer {
    producer: ThreadedProducer<Deliveries>,
    failures: Arc<Mutex<Vec<KafkaError>>>,
}

/// A record to be sent.
#[derive(Debug, Clone, Default)]
pub struct Outgoing {
    pub topic: String,
    pub partition: Option<i32>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    pub timestamp_ms: Option<i64>,
}

struct Deliveries(Arc<Mutex<Vec<KafkaError>>>);

/// Who waits for the outcome, if somebody does.
type Told = Box<Option<Sender<Result<(i32, i64), KafkaError>>>>;

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Told;

    fn delivery(&self, result: &DeliveryResult<'_>, told: Told) {
        let result = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(error.clone()),
        };
        match *told {
            // Nobody waits any more: the test has failed already.
            Some(told) => drop(told.send(result)),
            None => self.0.lock().expect("no panic").extend(result.err()),
        }
    }
}

impl Producer {
    pub fn new(broker: &Broker, partitioner: Partitioner) -> Self {
        Self::with(broker, partitioner, &[("enable.idempotence", "true")])
    }

    /// One whose records are in transactions; `initialise` is done.
    pub fn transactional(broker: &Broker, id: &str) -> Self {
        let producer = Self::with(broker, Partitioner::Java, &[("transactional.id", id)]);
        producer.producer.init_transactions(Duration::from_secs(30)).expect("transactions");
        producer
    }

    pub fn with(broker: &Broker, partitioner: Partitioner, settings: &[(&str, &str)]) -> Self {
        let mut config = broker.client();
        let partitioner = match partitioner {
            Partitioner::Java => "murmur2_random",
            Partitioner::Librdkafka => "consistent_random",
        };
        config
            .set("partitioner", partitioner)
            .set("message.max.bytes", "16000000")
            .set("queue.buffering.max.messages", "1000000")
            .set("linger.ms", "2");
        for (key, value) in settings {
            config.set(*key, *value);
        }
        let failures = Arc::new(Mutex::new(Vec::new()));
        let producer = config.create_with_context(Deliveries(Arc::clone(&failures))).expect("a producer");
        Producer { producer, failures }
    }

    /// Hands a record over; [`Producer::flush`] tells whether it arrived.
    pub fn send(&self, record: &Outgoing) {
        self.enqueue(record, Box::new(None));
    }

    /// Sends a record and waits; returns its partition and offset.
    pub fn put(&self, record: &Outgoing) -> (i32, i64) {
        let (told, tells) = channel();
        self.enqueue(record, Box::new(Some(told)));
        tells.recv_timeout(Duration::from_secs(30)).expect("an acknowledgement").expect("delivered")
    }

    /// Waits until all that was sent is acknowledged.
    pub fn flush(&self) {
        self.producer.flush(Duration::from_secs(60)).expect("acknowledgements");
        let failures = self.failures.lock().expect("no panic");
        assert!(failures.is_empty(), "not delivered: {failures:?}");
    }

    pub fn begin(&self) {
        self.producer.begin_transaction().expect("a transaction");
    }

    pub fn commit(&self) {
        self.producer.commit_transaction(Duration::from_secs(30)).expect("committed");
    }

    pub fn abort(&self) {
        // What has not reached the broker would be dropped here, and leave nothing to abort.
        self.flush();
        self.producer.abort_transaction(Duration::from_secs(30)).expect("aborted");
    }

    fn enqueue(&self, record: &Outgoing, told: Told) {
        let mut headers = OwnedHeaders::new();
        for (key, value) in &record.headers {
            headers = headers.insert(Header { key, value: value.as_deref() });
        }
        let mut told = Some(told);
        loop {
            let mut outgoing: BaseRecord<'_, [u8], [u8], Told> =
                BaseRecord::with_opaque_to(&record.topic, told.take().expect("given back"))
                    .headers(headers.clone());
            outgoing.partition = record.partition;
            outgoing.key = record.key.as_deref();
            outgoing.payload = record.value.as_deref();
            outgoing.timestamp = record.timestamp_ms;
            match self.producer.send(outgoing) {
                Ok(()) => return,
                Err((KafkaError::MessageProduction(rdkafka::types::RDKafkaErrorCode::QueueFull), back)) => {
                    told = Some(back.delivery_opaque);
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err((error, _)) => panic!("the record is refused: {error}"),
            }
        }
    }
}
