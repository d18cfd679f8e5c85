//! One owner, and what must not happen whatever the timing.

use super::*;
use crate::{
    source::{
        batch::Batch,
        queue::{self, Room, Sender},
    },
    store::memory::MemoryStore,
};

const SOON: Duration = Duration::from_secs(30);

struct World {
    store: Arc<MemoryStore>,
    shared: Arc<Shared>,
    polling: Prepared,
    batches: Sender,
    stop: CancellationToken,
    owner: tokio::task::JoinHandle<()>,
    _ground: Ground,
}

impl World {
    async fn new() -> Self {
        let ground = Ground::new().await;
        let store = Arc::new(MemoryStore::new());
        store.bear(G, &ground.birth.starts()).await.unwrap();
        let settings = config::Projector { heartbeat_ms: 20, ..config::Projector::default() };
        let (shared, polling) = ground.process(Arc::<MemoryStore>::clone(&store), settings);
        let (batches, receiver) = queue::queue(&Room::new(1 << 20));
        let stop = CancellationToken::new();
        let progress = Arc::new(Progress::default());
        let owner = tokio::spawn(own(Arc::clone(&shared), LEDGER, receiver, progress, stop.clone()));
        World { store, shared, polling, batches, stop, owner, _ground: ground }
    }

    /// The claim for which the owner next asks to be sent somewhere, and where to.
    async fn sought(&self) -> (u64, Offset) {
        let sought = async {
            loop {
                if let Some(sought) = self.polling.asked().into_iter().flatten().next_back() {
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
    let polls_on = async {
        loop {
            world.polling.round();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let (second, from) = tokio::select! {
        sought = world.sought() => sought,
        () = polls_on => unreachable!(),
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
    world.sought().await;
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
