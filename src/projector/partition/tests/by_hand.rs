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
    ground: Ground,
}

/// A store whose answer to a commit takes its while.
struct Slow(Arc<MemoryStore>, Duration);

#[async_trait::async_trait]
impl WriteStore for Slow {
    async fn check(&self, with_permissions: bool) -> Result<(), StoreError> {
        self.0.check(with_permissions).await
    }
    async fn trust(&self, own: Generation) -> Result<(), StoreError> {
        self.0.trust(own).await
    }
    async fn bear(&self, generation: Generation, births: &[(PartitionId, Offset)]) -> Result<(), StoreError> {
        self.0.bear(generation, births).await
    }
    async fn enlist(&self, generation: Generation, log: &str) -> Result<(), StoreError> {
        self.0.enlist(generation, log).await
    }
    async fn strike(&self, generation: Generation) -> Result<(), StoreError> {
        self.0.strike(generation).await
    }
    async fn claim(
        &self,
        generation: Generation,
        id: PartitionId,
        token: Token,
    ) -> Result<Claimed, StoreError> {
        self.0.claim(generation, id, token).await
    }
    async fn load(
        &self,
        generation: Generation,
        id: PartitionId,
        acknowledged: Position,
        keys: &[Subject],
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.0.load(generation, id, acknowledged, keys).await
    }
    async fn commit(&self, commit: &Commit) -> Result<(), StoreError> {
        let told = self.0.commit(commit).await;
        tokio::time::sleep(self.1).await;
        told
    }
    async fn active(&self) -> Result<Option<Generation>, StoreError> {
        self.0.active().await
    }
    async fn activate(&self, from: Option<Generation>, to: Generation) -> Result<bool, StoreError> {
        self.0.activate(from, to).await
    }
}

impl World {
    async fn new() -> Self {
        Self::answering_after(Duration::ZERO).await
    }

    /// The store answers to each commit so much later.
    async fn answering_after(answers: Duration) -> Self {
        let ground = Ground::new().await;
        let store = Arc::new(MemoryStore::new());
        store.bear(G, &ground.birth.starts()).await.unwrap();
        let settings = config::Projector { heartbeat_ms: 20, ..config::Projector::default() };
        let slow = Arc::new(Slow(Arc::clone(&store), answers));
        let (shared, polling) = ground.process(slow, settings);
        let (batches, receiver) = queue::queue(&Room::new(1 << 20));
        let stop = CancellationToken::new();
        let progress = Arc::new(Progress::default());
        let owner = tokio::spawn(own(Arc::clone(&shared), LEDGER, receiver, progress, stop.clone()));
        World { store, shared, polling, batches, stop, owner, ground }
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

    /// Somebody else claims, so that the owner's next heartbeat is refused; the claim that follows, and where to.
    async fn refused(&self) -> (u64, Offset) {
        self.store.claim(G, LEDGER, Token([9; 16])).await.unwrap();
        let polls_on = async {
            loop {
                self.polling.round();
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::select! {
            sought = self.sought() => sought,
            () = polls_on => unreachable!(),
        }
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

    /// Entries of one account, at these offsets.
    fn booked(&self, claim: u64, offsets: std::ops::Range<i64>) {
        let mut batch = Batch::new(claim);
        for n in offsets {
            let value = booked(usize::try_from(n).unwrap(), "A1", 1);
            let headers = [("content-type", crate::wire::STRUCTURED.as_bytes())];
            let at = (Offset(n), Time::from_millis(1_780_000_000_000));
            batch.put(at, b"A1", &value, &headers);
        }
        self.batches.try_send(batch).unwrap();
    }

    /// The broker names an end of the log.
    fn ends_at(&self, end: i64) {
        let end = crate::source::watch::End { offset: Offset(end), asked: Instant::now() };
        self.ground.watched.send_replace(Watched { ends: [(LEDGER, end)].into(), ..Watched::default() });
    }

    /// Up to where the account's cell holds what is folded.
    fn cell(&self) -> Option<Offset> {
        let cells = &self.store.snapshot().generations[&G].cells;
        cells.values().next().map(|bytes| crate::domain::Cell::decode_account(bytes).unwrap().applied())
    }

    async fn beats(&self, times: u64) {
        let commit = self.position().checkpoint.commit.saturating_add(times);
        let beating = async {
            while self.position().checkpoint.commit < commit {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(SOON, beating).await.expect("the heart beats");
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
    let (second, from) = world.refused().await;
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
    world.beats(1).await;

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

#[tokio::test(start_paused = true)]
async fn before_the_logs_end_is_reached_cells_are_gathered_while_the_heart_beats_and_then_each_commit_takes_them_along()
 {
    let world = World::new().await;
    let (claim, _) = world.sought().await;
    world.ends_at(20);
    for first in [0, 5, 10] {
        world.booked(claim, first..first + 5);
        world.beats(1).await;
        assert_eq!((world.position().checkpoint.next, world.cell()), (Offset(0), None));
    }
    world.booked(claim, 15..20);
    assert!(world.reaches(20).await);
    assert_eq!(world.cell(), Some(Offset(20)));
    assert!(world.position().checkpoint.complete);

    world.booked(claim, 20..21);
    assert!(world.reaches(21).await);
    assert_eq!(world.cell(), Some(Offset(21)));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_gathered_goes_out_where_nothing_more_comes() {
    let world = World::new().await;
    let (claim, _) = world.sought().await;
    world.ends_at(20);
    world.booked(claim, 0..5);
    assert!(world.reaches(5).await);
    assert_eq!(world.cell(), Some(Offset(5)));
    assert!(!world.position().checkpoint.complete);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_refusal_what_is_gathered_goes_out_soon() {
    let world = World::new().await;
    world.ends_at(100);
    for refused in [false, true] {
        let (claim, from) = if refused { world.refused().await } else { world.sought().await };
        for n in from.0..from.0 + 4 {
            world.booked(claim, n..n + 1);
            world.beats(1).await;
        }
        assert_eq!(world.position().checkpoint.next > from, refused);
    }
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn where_each_commit_takes_longer_than_a_heartbeat_an_idle_partition_is_caught_up_all_the_same() {
    let world = World::answering_after(Duration::from_millis(30)).await;
    world.sought().await;
    world.ends_at(0);
    let complete = async {
        while !world.position().checkpoint.complete {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(SOON, complete).await.is_ok());
    world.end().await;
}
