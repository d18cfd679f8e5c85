//! The polling thread before librdkafka's in-process broker: an owner that claims at once, a client that stays outside.

use std::sync::{Mutex, atomic::AtomicBool};

use futures::FutureExt as _;
use rdkafka::{
    ClientConfig,
    mocking::{MockCluster, MockCoordinator},
    producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _},
};

use super::*;
use crate::{config, domain::Topic, source::watch::End};

const LEDGER: PartitionId = PartitionId { topic: Topic::Ledger, partition: 0 };

/// Claims at once, at offset 5.
struct Hasty {
    poller: Handle,
    assigned: Mutex<Option<queue::Receiver>>,
    lost: AtomicBool,
}

impl Owner for Hasty {
    fn assign(&self, id: PartitionId, batches: queue::Receiver, _: Arc<Progress>) {
        if id == LEDGER {
            *self.assigned.lock().unwrap() = Some(batches);
            self.poller.seek(id, 1, Offset(5));
        }
    }

    fn revoke(&self, ids: &[PartitionId], lost: bool) {
        if lost && ids.contains(&LEDGER) {
            *self.assigned.lock().unwrap() = None;
            self.lost.store(true, Ordering::Relaxed);
        }
    }

    fn suspect(&self) {}
}

/// Ten records, and a thread that polls for an owner that claims at once.
struct World {
    broker: MockCluster<'static, DefaultProducerContext>,
    owner: Arc<Hasty>,
    watched: watch::Sender<Watched>,
    stop: CancellationToken,
    polling: JoinHandle<Result<(), KafkaError>>,
}

impl World {
    fn new(
        brokers: i32,
        outside_max: Duration,
        before: impl FnOnce(&MockCluster<'_, DefaultProducerContext>),
    ) -> Self {
        let broker = MockCluster::new(brokers).unwrap();
        let settings = config::Kafka { brokers: broker.bootstrap_servers(), ..config::Kafka::default() };
        for topic in [&settings.ledger_topic, &settings.payment_topic] {
            broker.create_topic(topic, 1, 1).unwrap();
            broker.partition_leader(topic, 0, Some(1)).unwrap();
        }
        let mut client = ClientConfig::new();
        let producer: BaseProducer = client.set("bootstrap.servers", &settings.brokers).create().unwrap();
        for n in 0..10 {
            let payload = format!("{n}");
            producer.send(BaseRecord::<(), _>::to(&settings.ledger_topic).payload(&payload)).unwrap();
        }
        producer.flush(Duration::from_secs(10)).unwrap();
        before(&broker);

        let (poller, prepared) = prepare();
        let owner = Arc::new(Hasty { poller, assigned: Mutex::new(None), lost: AtomicBool::new(false) });
        let bounds = Bounds { batch_records_max: 500, queue_bytes_max: 1 << 20, outside_max };
        let (stop, watched) = (CancellationToken::new(), watch::Sender::new(Watched::default()));
        let cluster = Cluster::new(settings);
        let polling =
            spawn(&cluster, owner.clone(), bounds, watched.subscribe(), prepared, stop.clone()).unwrap();
        World { broker, owner, watched, stop, polling }
    }

    /// What was delivered since.
    fn delivered(&self) -> Vec<i64> {
        let (mut delivered, mut assigned) = (Vec::new(), self.owner.assigned.lock().unwrap());
        while let Some(Some(batch)) = assigned.as_mut().and_then(|batches| batches.recv().now_or_never()) {
            delivered.extend(batch.keys().map(|(offset, _)| offset.0));
        }
        delivered
    }

    fn end(self) {
        self.stop.cancel();
        self.polling.join().unwrap().unwrap();
    }
}

#[test]
fn a_claim_that_is_quicker_than_the_broker_gets_what_it_asked_for() {
    let slow = |broker: &MockCluster<'_, DefaultProducerContext>| {
        broker.broker_round_trip_time(1, Duration::from_millis(300)).unwrap();
    };
    let world = World::new(1, Duration::MAX, slow);
    let mut delivered = Vec::new();
    // After the first ones, long enough for an answer to come and for what it would undo to be fetched.
    let (began, mut first) = (Instant::now(), None::<Instant>);
    while first
        .map_or(began.elapsed() < Duration::from_mins(1), |first| first.elapsed() < Duration::from_secs(3))
    {
        std::thread::sleep(Duration::from_millis(20));
        let more = world.delivered();
        if !more.is_empty() {
            first.get_or_insert_with(Instant::now);
        }
        delivered.extend(more);
    }
    world.end();
    assert_eq!(delivered, [5, 6, 7, 8, 9]);
}

#[test]
fn a_client_that_stays_outside_its_group_while_brokers_answer_is_replaced() {
    let world = World::new(2, Duration::from_secs(2), |broker| {
        broker.coordinator(MockCoordinator::Group("balance-projector".to_owned()), 2).unwrap();
    });
    let eventually = |what: &str, reached: &dyn Fn() -> bool| {
        let began = Instant::now();
        while !reached() {
            assert!(began.elapsed() < Duration::from_mins(2), "{what}");
            std::thread::sleep(Duration::from_millis(100));
            let end = End { offset: Offset(10), asked: Instant::now() };
            world.watched.send_modify(|watched| {
                watched.ends.insert(LEDGER, end);
            });
        }
    };
    let all = || world.delivered() == [5, 6, 7, 8, 9];
    eventually("the first client delivers", &all);
    // The group's broker is gone for good; the one with the records answers.
    world.broker.broker_down(2).unwrap();
    eventually("what it had is lost", &|| world.owner.lost.load(Ordering::Relaxed));
    world.broker.coordinator(MockCoordinator::Group("balance-projector".to_owned()), 1).unwrap();
    eventually("another client delivers", &all);
    world.end();
}
