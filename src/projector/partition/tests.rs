//! An owner alone: what the polling thread and other claims do to it is done by hand.

use super::*;
use crate::{
    config,
    decisions::{Birth, BirthTopic, Decisions, Origin},
    domain::{Rules, Topic},
    projector::Standing,
    source::{
        batch::Batch,
        embedded::EmbeddedBroker,
        poller::{self, Prepared},
        producer::Producer,
        queue::{self, Room, Sender},
        watch::Watched,
    },
    store::{Generation, WriteStore as _, memory::MemoryStore},
};

const G: Generation = Generation(1);
const LEDGER: PartitionId = PartitionId { topic: Topic::Ledger, partition: 0 };
const SOON: Duration = Duration::from_secs(30);

struct World {
    store: Arc<MemoryStore>,
    shared: Arc<Shared>,
    polling: Prepared,
    batches: Sender,
    stop: CancellationToken,
    owner: tokio::task::JoinHandle<()>,
    // Held, so that those who follow them do not take the process for stopping.
    _watched: tokio::sync::watch::Sender<Watched>,
    _decisions: tokio::sync::watch::Sender<Arc<Decisions>>,
    _broker: EmbeddedBroker,
}

impl World {
    async fn new() -> Self {
        let config = config::Config::default();
        let broker = EmbeddedBroker::start(config.kafka.clone(), 1).unwrap();
        let cluster = broker.cluster().clone();
        let store = Arc::new(MemoryStore::new());
        let topic =
            |name: &str| BirthTopic { name: name.to_owned(), starts: vec![Offset(0)], cuts: Vec::new() };
        let birth = Birth {
            id: uuid::Uuid::nil(),
            generation: G,
            topics: [
                (Topic::Ledger, topic(&config.kafka.ledger_topic)),
                (Topic::Payment, topic(&config.kafka.payment_topic)),
            ]
            .into(),
            parameters: config.parameters(),
            active: true,
            origin: Origin::Beginning,
            made_anew: 0,
            act: None,
        };
        store.bear(G, &birth.starts()).await.unwrap();
        let (handle, polling) = poller::prepare();
        let (watching, watched) = tokio::sync::watch::channel(Watched::default());
        let (deciding, decisions) = tokio::sync::watch::channel(Arc::new(Decisions::default()));
        let shared = Arc::new(Shared {
            store: store.clone(),
            producer: Producer::new(&cluster).unwrap(),
            inquirer: Arc::new(cluster.inquirer("read_uncommitted").unwrap()),
            cluster,
            generation: G,
            rules: Rules::new(&birth.parameters).unwrap(),
            birth,
            settings: config::Projector { heartbeat_ms: 20, ..config.projector },
            poller: handle,
            watched,
            decisions,
            trouble: arc_swap::ArcSwapOption::empty(),
            suspects: 0.into(),
            owned: 1.into(),
            standing: Arc::new(Standing::new(&mut prometheus_client::registry::Registry::default())),
            instance: "alone".to_owned(),
        });
        let (batches, receiver) = queue::queue(&Room::new(1 << 20));
        let stop = CancellationToken::new();
        let progress = Arc::new(Progress::default());
        let owner = tokio::spawn(own(Arc::clone(&shared), LEDGER, receiver, progress, stop.clone()));
        World {
            store,
            shared,
            polling,
            batches,
            stop,
            owner,
            _watched: watching,
            _decisions: deciding,
            _broker: broker,
        }
    }

    /// The claim for which the owner next asks to be sent somewhere, and where to.
    async fn sought(&self) -> (u64, Offset) {
        let sought = async {
            loop {
                if let Some(sought) = self.polling.sought() {
                    return sought;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(SOON, sought).await.expect("the owner claims")
    }

    /// What was polled for a claim: markers of transactions up to `next`, which are folded by passing them.
    fn polled(&self, claim: u64, next: i64) {
        let mut batch = Batch::new(claim);
        batch.advance = Some(Offset(next));
        self.batches.try_send(batch).unwrap();
    }

    fn position(&self) -> Position {
        self.store.snapshot().generations[&G].positions[&LEDGER]
    }

    async fn reaches(&self, next: i64) -> bool {
        let reached = async {
            while self.position().checkpoint.next != Offset(next) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(SOON, reached).await.is_ok()
    }

    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(SOON, self.owner).await.expect("it stops").unwrap();
    }
}

#[tokio::test]
async fn what_was_polled_for_an_older_claim_is_dropped() {
    let world = World::new().await;
    let (first, _) = world.sought().await;
    // Somebody else claims: the owner's next heartbeat is refused.
    world.store.claim(G, LEDGER, Token([9; 16])).await.unwrap();
    let polled = async {
        loop {
            world.polling.round();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let (second, from) = tokio::select! {
        sought = world.sought() => sought,
        () = polled => unreachable!(),
    };
    assert_ne!(second, first);
    assert_eq!(from, Offset(0), "goes on where the store stands");

    // In the polling thread's hand meanwhile: what lies before it was not folded, and is not passed over.
    world.polled(first, 9);
    world.polled(second, 5);
    assert!(world.reaches(5).await);
    world.polled(first, 9);
    world.polled(second, 6);
    assert!(world.reaches(6).await);
    world.end().await;
}

#[tokio::test]
async fn who_is_fenced_claims_again_only_once_the_thread_has_polled_twice() {
    let world = World::new().await;
    let (_, _) = world.sought().await;
    let beats = world.position().checkpoint.commit;
    let beating = async {
        while world.position().checkpoint.commit == beats {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(SOON, beating).await.expect("the heart beats");

    let other = Token([9; 16]);
    world.store.claim(G, LEDGER, other).await.unwrap();
    let many_beats = Duration::from_millis(world.shared.settings.heartbeat_ms * 25);
    for rounds in 0..2 {
        tokio::time::sleep(many_beats).await;
        assert_eq!(world.position().token, other, "claimed after {rounds} rounds of polling");
        world.polling.round();
    }
    world.sought().await;
    assert_ne!(world.position().token, other);
    world.end().await;
}
