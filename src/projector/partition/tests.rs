//! Owners alone: what the polling thread, the store and other owners do to them is done by hand, or by chance.

#![allow(clippy::arithmetic_side_effects, reason = "a test fails where it overflows")]

mod by_hand;
mod drill;

use super::*;
use crate::{
    config,
    decisions::Decisions,
    domain::{Rules, Topic},
    projector::{Standing, budget::Budget, generation},
    source::{
        Cluster, Inquirer,
        embedded::EmbeddedBroker,
        poller::{self, Prepared},
        producer::Producer,
        watch::Watched,
    },
    store::{Generation, WriteStore},
};

const G: Generation = Generation(1);
const LEDGER: PartitionId = PartitionId { topic: Topic::Ledger, partition: 0 };

/// What owners need besides a store: a broker that has recorded the birth of [`G`].
struct Ground {
    cluster: Cluster,
    producer: Producer,
    inquirer: Arc<Inquirer>,
    birth: crate::decisions::Birth,
    watched: tokio::sync::watch::Sender<Watched>,
    decisions: tokio::sync::watch::Sender<Arc<Decisions>>,
    _broker: EmbeddedBroker,
}

impl Ground {
    async fn new() -> Self {
        let config = config::Config::default();
        let broker = EmbeddedBroker::start(config.kafka.clone(), 1).unwrap();
        let cluster = broker.cluster().clone();
        let producer = Producer::new(&cluster).unwrap();
        let counts = [(Topic::Ledger, 1), (Topic::Payment, 1)];
        let birth = generation::settle(&cluster, &producer, G, config.parameters(), &counts).await.unwrap();
        Ground {
            inquirer: Arc::new(cluster.inquirer("read_uncommitted").unwrap()),
            producer,
            cluster,
            birth,
            watched: tokio::sync::watch::Sender::new(Watched::default()),
            decisions: tokio::sync::watch::Sender::new(Arc::new(Decisions::default())),
            _broker: broker,
        }
    }

    /// A process over a store, and the polling thread's end of it.
    fn process(&self, store: Arc<dyn WriteStore>, settings: config::Projector) -> (Arc<Shared>, Prepared) {
        let (poller, polling) = poller::prepare();
        let shared = Arc::new(Shared {
            store,
            cluster: self.cluster.clone(),
            generation: G,
            birth: self.birth.clone(),
            rules: Rules::new(&self.birth.parameters).unwrap(),
            budget: Budget::new(settings.cache_bytes_max),
            settings,
            poller,
            producer: self.producer.clone(),
            inquirer: arc_swap::ArcSwap::new(Arc::clone(&self.inquirer)),
            unanswered: Seldom::default(),
            watched: self.watched.subscribe(),
            decisions: self.decisions.subscribe(),
            trouble: arc_swap::ArcSwapOption::empty(),
            suspects: 0.into(),
            claims: 0.into(),
            standing: Arc::new(Standing::new(&mut prometheus_client::registry::Registry::default())),
            instance: "alone".to_owned(),
            stop: tokio_util::sync::CancellationToken::new(),
            failure: Arc::default(),
        });
        (shared, polling)
    }
}

/// A booked entry in crowns, as it lies in the log.
pub(in crate::projector) fn booked(n: usize, account: &str, amount: i64) -> Vec<u8> {
    entry(n, account, amount).to_string().into_bytes()
}

/// The same on account of a customer, who owes so much less.
fn booked_for(customer: &str, n: usize, account: &str, amount: i64) -> Vec<u8> {
    let mut event = entry(n, account, amount);
    event["data"]["customer_id"] = customer.into();
    event.to_string().into_bytes()
}

fn entry(n: usize, account: &str, amount: i64) -> serde_json::Value {
    serde_json::json!({
        "specversion": "1.0",
        "id": format!("00000000-0000-4000-8000-{n:012}"),
        "source": "/owners",
        "type": "ledger.entry.booked.v1",
        "subject": account,
        "time": format!("2026-03-01T10:{:02}:{:02}Z", n / 60, n % 60),
        "data": {
            "entry_id": format!("e{n}"), "account_id": account, "amount": amount.to_string(),
            "currency": "CZK", "credit_debit_indicator": "CRDT", "booking_date": "2026-03-01",
        },
    })
}
