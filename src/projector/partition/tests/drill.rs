//! The owners of two processes over one partition, by chance: a store that fails over to what it held before, forgets
//! everything, stops scripts half way and loses connections; polling that stalls, hands over late, and moves the
//! partition to the other process, told or untold. However it went, each account ends with the sum of its entries, and
//! beside each customer stands what is owed on it.
//! Every second time the log's end is known to the owners at once, and they gather what they fold until they reach it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use futures::FutureExt as _;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};

use super::*;
use crate::{
    domain::{AccountId, BalanceType, Cell, Currency, CustomerId, Day, decode_due},
    source::{
        batch::Batch,
        producer::Outgoing,
        queue::{self, Room, Sender},
        watch::End,
    },
    store::memory::{Held, MemoryStore},
    wire,
};

const SEEDS: u64 = 200;
const RECORDS: usize = 600;
const ACCOUNTS: usize = 8;
const CUSTOMERS: usize = 3;
const DUMPS_MAX: usize = 24;
/// Virtual, as all time here is.
const FAULTY: Duration = Duration::from_secs(20);
const CALM_MAX: Duration = Duration::from_mins(2);

/// A booked entry, as it lies in the log.
struct Entry {
    offset: Offset,
    account: usize,
    value: Vec<u8>,
}

/// The log, and what each account comes to: the sum of its entries' amounts, repeats counted once; by customer too.
struct Log {
    entries: Vec<Entry>,
    sums: [i64; ACCOUNTS],
    of_customers: BTreeMap<(usize, usize), i64>,
}

impl Log {
    fn new(random: &mut StdRng) -> Self {
        let mut log = Log { entries: Vec::new(), sums: [0; ACCOUNTS], of_customers: BTreeMap::new() };
        let mut next = 0;
        for n in 0..RECORDS {
            // Markers of transactions leave holes.
            let offset = Offset(next + i64::from(random.random_bool(0.2)));
            next = offset.0 + 1;
            let before = log.entries.len().checked_sub(random.random_range(1..12));
            let entry = if let Some(before) = before.filter(|_| random.random_bool(0.1)) {
                let Entry { account, value, .. } = &log.entries[before];
                Entry { offset, account: *account, value: value.clone() }
            } else {
                let (account, amount) = (random.random_range(0..ACCOUNTS), random.random_range(1..1_000));
                log.sums[account] += amount;
                let customer = random.random_range(0..CUSTOMERS);
                *log.of_customers.entry((customer, account)).or_default() += amount;
                Entry { offset, account, value: booked_for(&format!("C{customer}"), n, &id(account), amount) }
            };
            log.entries.push(entry);
        }
        log
    }

    fn end(&self) -> Offset {
        self.entries.last().unwrap().offset.next()
    }
}

fn id(account: usize) -> String {
    format!("A{account}")
}

/// What the processes share, and what happens to it.
struct World {
    store: MemoryStore,
    log: Log,
    published: AtomicUsize,
    /// Which process the group gives the partition to.
    assigned: AtomicUsize,
    calm: AtomicBool,
    chance: Mutex<Chance>,
}

struct Chance {
    random: StdRng,
    dumps: VecDeque<Held>,
    met: BTreeMap<&'static str, usize>,
}

impl World {
    fn met(&self, what: &'static str) {
        *self.chance.lock().unwrap().met.entry(what).or_default() += 1;
    }

    fn happens(&self, what: &'static str, per_mille: u32) -> bool {
        let happens = !self.calm.load(Ordering::Relaxed)
            && self.chance.lock().unwrap().random.random_ratio(per_mille, 1_000);
        if happens {
            self.met(what);
        }
        happens
    }

    fn up_to(&self, most: usize) -> usize {
        self.chance.lock().unwrap().random.random_range(0..=most)
    }

    async fn sleep_up_to(&self, most_ms: usize) {
        let millis = self.up_to(most_ms);
        sleep(Duration::from_millis(u64::try_from(millis).unwrap())).await;
    }

    fn remember(&self) {
        let mut chance = self.chance.lock().unwrap();
        if chance.dumps.len() == DUMPS_MAX {
            chance.dumps.pop_front();
        }
        chance.dumps.push_back(self.store.snapshot());
    }

    /// A replica takes over, or an older dump is loaded: a suffix of all writes is gone.
    fn fail_over(&self) {
        let back = if self.up_to(4) > 0 { self.up_to(3) } else { self.up_to(DUMPS_MAX) };
        let mut chance = self.chance.lock().unwrap();
        let left = chance.dumps.len().saturating_sub(back).max(1);
        chance.dumps.truncate(left);
        self.store.restore(chance.dumps.back().cloned().unwrap_or_default());
    }

    fn execute(&self, commit: &Commit) -> Result<(), StoreError> {
        if commit.from.checkpoint.next == commit.to.next && !commit.cells.is_empty() {
            self.met("ahead of the position");
        }
        let told = if commit.cells.is_empty() || !self.happens("half way", 30) {
            self.store.commit(commit).now_or_never().unwrap()
        } else {
            self.half_way(commit)
        };
        match &told {
            Ok(()) => self.remember(),
            Err(refusal) => self.met(remedy(refusal)),
        }
        told
    }

    /// A script that is stopped: some of its dues are written, or all of them and some of its cells, and nothing behind.
    fn half_way(&self, commit: &Commit) -> Result<(), StoreError> {
        let before = self.store.snapshot();
        self.store.commit(commit).now_or_never().unwrap()?;
        let whole = self.store.dump(G);
        let mut half = before;
        let contents = half.generations.get_mut(&G).unwrap();
        let steps = self.up_to(commit.owing.len() + commit.cells.len());
        for owing in commit.owing.iter().take(steps) {
            let dues = contents.owing.entry(owing.customer.clone()).or_default();
            dues.insert(owing.account.clone(), owing.due.clone());
        }
        for cell in commit.cells.iter().take(steps.saturating_sub(commit.owing.len())) {
            contents.cells.insert(cell.key.clone(), whole.cells[&cell.key].clone());
        }
        self.store.restore(half);
        Err(StoreError::Corrupt { reason: "half way".to_owned() })
    }

    /// How the store differs from what the log says.
    fn divergence(&self) -> Option<String> {
        let held = self.store.dump(G);
        if !held.quarantines.is_empty() {
            return Some(format!("on hold: {:?}", held.quarantines.keys()));
        }
        let today = Day::parse("2026-03-02").unwrap();
        for (account, sum) in self.log.sums.iter().enumerate() {
            let key = Subject::Account(AccountId::parse(&id(account)).unwrap());
            let cell = held.cells.get(&key).map(|bytes| Cell::decode_account(bytes).unwrap());
            let figure = cell
                .as_ref()
                .and_then(|cell| cell.figure(Currency::parse("CZK").unwrap(), BalanceType::Itbd, today));
            let balance = figure.map_or(0, |figure| figure.unwrap().amount.ten_thousandths() / 10_000);
            if balance != i128::from(*sum) {
                return Some(format!("{} has {balance} instead of {sum}", id(account)));
            }
        }
        let mut owed = BTreeMap::new();
        for (customer, dues) in &held.owing {
            for (account, due) in dues {
                let due = decode_due(due).unwrap();
                let crowns = due.iter().map(|(_, amount)| amount.ten_thousandths() / 10_000).sum::<i128>();
                owed.insert((customer.clone(), account.clone()), crowns);
            }
        }
        // What is credited to a customer is owed no more.
        let expected = self.log.of_customers.iter().map(|((customer, account), credited)| {
            let customer = CustomerId::parse(&format!("C{customer}")).unwrap();
            ((customer, AccountId::parse(&id(*account)).unwrap()), -i128::from(*credited))
        });
        let expected: BTreeMap<_, _> = expected.collect();
        (owed != expected).then(|| format!("{owed:?} is owed instead of {expected:?}"))
    }
}

/// A process's way to the store: what is sent is executed in order, some time later, whether or not the sender is
/// still there.
struct Connection {
    world: Arc<World>,
    requests: mpsc::UnboundedSender<Request>,
}

struct Request {
    run: Box<dyn FnOnce(&World) + Send>,
    /// The sender is told nothing but that the connection is gone.
    lost: CancellationToken,
}

impl Connection {
    fn new(world: &Arc<World>) -> Self {
        let (requests, sent) = mpsc::unbounded_channel();
        tokio::spawn(Self::execute(Arc::clone(world), sent));
        Connection { world: Arc::clone(world), requests }
    }

    async fn execute(world: Arc<World>, mut sent: mpsc::UnboundedReceiver<Request>) {
        while let Some(request) = sent.recv().await {
            world.sleep_up_to(30).await;
            if !world.happens("connection lost", 5) {
                (request.run)(&world);
                continue;
            }
            let mut lost = vec![request];
            lost.extend(std::iter::from_fn(|| sent.try_recv().ok()));
            for request in &lost {
                request.lost.cancel();
            }
            // Any part of what was sent still arrives, at any time.
            lost.truncate(world.up_to(lost.len()));
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                for request in lost {
                    world.sleep_up_to(150).await;
                    world.met("arrived late");
                    (request.run)(&world);
                }
            });
        }
    }

    async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&World) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (tell, told) = oneshot::channel();
        let lost = CancellationToken::new();
        let run = Box::new(move |world: &World| drop(tell.send(ask(world))));
        drop(self.requests.send(Request { run, lost: lost.clone() }));
        tokio::select! {
            biased;
            () = lost.cancelled() => Err(StoreError::Transient { reason: "the connection is lost".to_owned() }),
            told = told => told.unwrap(),
        }
    }
}

#[async_trait]
impl WriteStore for Connection {
    async fn check(&self, _: bool) -> Result<(), StoreError> {
        Ok(())
    }

    async fn trust(&self, _: Generation) -> Result<(), StoreError> {
        Ok(())
    }

    async fn bear(&self, generation: Generation, births: &[(PartitionId, Offset)]) -> Result<(), StoreError> {
        let births = births.to_vec();
        self.ask(move |world| world.store.bear(generation, &births).now_or_never().unwrap()).await
    }

    async fn enlist(&self, _: Generation, _: &str) -> Result<(), StoreError> {
        Ok(())
    }

    async fn strike(&self, _: Generation) -> Result<(), StoreError> {
        Ok(())
    }

    async fn claim(
        &self,
        generation: Generation,
        id: PartitionId,
        token: Token,
    ) -> Result<Claimed, StoreError> {
        self.ask(move |world| {
            let claimed = world.store.claim(generation, id, token).now_or_never().unwrap()?;
            world.remember();
            Ok(claimed)
        })
        .await
    }

    async fn load(
        &self,
        generation: Generation,
        id: PartitionId,
        acknowledged: Position,
        keys: &[Subject],
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        // Commits may wait for their turn, which loads do not.
        self.world.sleep_up_to(10).await;
        self.world.met("load");
        self.world.store.load(generation, id, acknowledged, keys).await
    }

    async fn commit(&self, commit: &Commit) -> Result<(), StoreError> {
        let commit = commit.clone();
        self.ask(move |world| world.execute(&commit)).await
    }

    async fn active(&self) -> Result<Option<Generation>, StoreError> {
        Ok(Some(G))
    }

    async fn activate(&self, _: Option<Generation>, _: Generation) -> Result<bool, StoreError> {
        Ok(false)
    }
}

/// A process's polling, by hand: a round every few milliseconds, or none for a while.
struct Polling {
    world: Arc<World>,
    number: usize,
    shared: Arc<Shared>,
    prepared: Prepared,
    owner: Option<(Sender, CancellationToken, tokio::task::JoinHandle<()>)>,
    /// What is read next, and for which claim.
    sought: Option<(u64, Offset)>,
    /// Polled, and not in the queue before this instant: no command reaches it there.
    hand: Option<(Batch, Instant)>,
}

impl Polling {
    async fn run(mut self) {
        loop {
            let stalls = self.world.happens("stall", 10);
            self.world.sleep_up_to(if stalls { 3_000 } else { 10 }).await;
            self.prepared.round();
            self.learn().await;
            for asked in self.prepared.asked() {
                self.sought = asked;
            }
            self.hand_over();
            if self.hand.is_none() {
                self.poll();
            }
        }
    }

    /// What the group says is learned by polling alone.
    async fn learn(&mut self) {
        let ours = self.world.assigned.load(Ordering::Relaxed) == self.number;
        if ours && self.owner.is_none() {
            let (sender, receiver) = queue::queue(&Room::new(1 << 16));
            let (stop, progress) = (CancellationToken::new(), Arc::new(Progress::default()));
            let owner = own(Arc::clone(&self.shared), LEDGER, receiver, progress, stop.clone());
            self.owner = Some((sender, stop, tokio::spawn(owner)));
        } else if !ours && let Some((_, stop, mut owner)) = self.owner.take() {
            stop.cancel();
            if self.world.happens("lost without being told", 500) {
                owner.abort();
            }
            if tokio::time::timeout(Duration::from_secs(2), &mut owner).await.is_err() {
                owner.abort();
            }
        }
    }

    fn hand_over(&mut self) {
        let Some((sender, ..)) = &self.owner else { return };
        let Some((batch, due)) = self.hand.take_if(|(_, due)| *due <= Instant::now()) else { return };
        if self.sought.is_none_or(|(claim, _)| claim != batch.claim) {
            self.world.met("of an older claim");
        }
        self.hand = sender.try_send(batch).err().map(|batch| (batch, due));
    }

    fn poll(&mut self) {
        let Some((claim, from)) = self.sought else { return };
        let published = self.world.published.load(Ordering::Relaxed);
        let there = self.world.log.entries[..published].iter().filter(|entry| entry.offset >= from);
        let published_at = Time::from_millis(1_780_000_000_000);
        let mut batch = Batch::new(claim);
        for entry in there.take(1 + self.world.up_to(30)) {
            let headers = [("content-type", wire::STRUCTURED.as_bytes())];
            batch.put((entry.offset, published_at), id(entry.account).as_bytes(), &entry.value, &headers);
            self.sought = Some((claim, entry.offset.next()));
        }
        let late = if self.world.happens("handed over late", 100) { self.world.up_to(500) } else { 0 };
        let due = Instant::now() + Duration::from_millis(u64::try_from(late).unwrap());
        self.hand = Some((batch, due)).filter(|(batch, _)| !batch.is_empty());
    }
}

/// One run: how it diverged, if it did, and what happened in it.
async fn run(ground: &Ground, seed: u64) -> (Option<String>, BTreeMap<&'static str, usize>) {
    let mut random = StdRng::seed_from_u64(seed);
    let log = Log::new(&mut random);
    let world = Arc::new(World {
        store: MemoryStore::new(),
        log,
        published: AtomicUsize::new(0),
        assigned: AtomicUsize::new(0),
        calm: AtomicBool::new(false),
        chance: Mutex::new(Chance { random, dumps: VecDeque::new(), met: BTreeMap::new() }),
    });
    world.store.bear(G, &ground.birth.starts()).await.unwrap();
    world.remember();
    let gathers = seed % 2 == 1;
    let end =
        End { offset: if gathers { world.log.end() } else { Offset(0) }, asked: Instant::now().into_std() };
    ground.watched.send_replace(Watched { ends: [(LEDGER, end)].into(), ..Watched::default() });
    let settings = config::Projector {
        batch_cells_max: if gathers { 2 } else { 6 },
        // A few cells: most are asked for again.
        cache_bytes_max: if gathers { 4_000 } else { 900 },
        ..config::Projector::default()
    };
    let mut polling = tokio::task::JoinSet::new();
    for number in 0..2 {
        let (shared, prepared) = ground.process(Arc::new(Connection::new(&world)), settings.clone());
        let world = Arc::clone(&world);
        let process = Polling { world, number, shared, prepared, owner: None, sought: None, hand: None };
        polling.spawn(process.run());
    }
    let began = Instant::now();
    while began.elapsed() < FAULTY {
        world.sleep_up_to(200).await;
        let published = world.published.load(Ordering::Relaxed);
        let more = world.up_to(if world.happens("burst", 50) { 100 } else { 4 });
        world.published.store((published + more).min(RECORDS), Ordering::Relaxed);
        if world.happens("moved", 100) {
            world.assigned.fetch_xor(1, Ordering::Relaxed);
        }
        if world.happens("fail-over", 100) {
            world.fail_over();
        }
        if world.happens("lost everything", 5) {
            world.store.restore(Held::default());
        }
    }
    world.calm.store(true, Ordering::Relaxed);
    world.published.store(RECORDS, Ordering::Relaxed);
    let mut diverged = settled(&world).await;
    if diverged.is_none() {
        // Everything is folded, nothing is published any more, and then a loss.
        world.fail_over();
        diverged = settled(&world).await;
    }
    let met = std::mem::take(&mut world.chance.lock().unwrap().met);
    (diverged, met)
}

/// Waits until the position stands at the log's end; how the store differs from the log then.
async fn settled(world: &World) -> Option<String> {
    let stands = || world.store.dump(G).positions.get(&LEDGER).map(|position| position.checkpoint.next);
    let reached = async {
        // A loss is learned from the next heartbeat.
        sleep(Duration::from_secs(2)).await;
        while stands() != Some(world.log.end()) {
            sleep(Duration::from_millis(50)).await;
        }
        sleep(Duration::from_secs(2)).await;
    };
    if tokio::time::timeout(CALM_MAX, reached).await.is_err() {
        return Some(format!("stands at {:?} instead of {:?}", stands(), world.log.end()));
    }
    world.divergence()
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_to_owners_each_account_ends_with_the_sum_of_its_entries() {
    let ground = Ground::new().await;
    // An owner compares its checkpoint with the end that the broker names.
    let blank = Outgoing {
        topic: ground.cluster.topic_name(Topic::Ledger).to_owned(),
        key: None,
        value: None,
        headers: Vec::new(),
    };
    for written in futures::future::join_all((0..RECORDS * 2).map(|_| ground.producer.write(&blank))).await {
        written.unwrap();
    }
    let (mut diverged, mut met) = (Vec::new(), BTreeMap::<_, usize>::new());
    for seed in 0..SEEDS {
        let (how, one) = run(&ground, seed).await;
        diverged.extend(how.map(|how| (seed, how)));
        for (what, times) in one {
            *met.entry(what).or_default() += times;
        }
    }
    // A drill in which nothing goes wrong would prove nothing.
    let often = [
        ("ahead of the position", 1_000),
        ("arrived late", 30),
        ("fail-over", 1_000),
        ("fenced", 300),
        ("half way", 100),
        ("load", 1_000),
        ("lost without being told", 200),
        ("missing", 20),
        ("of an older claim", 200),
        ("unchained", 500),
    ];
    println!("{} of {SEEDS} seeds diverge; met: {met:?}", diverged.len());
    assert!(diverged.is_empty(), "{:?}", &diverged[..diverged.len().min(5)]);
    for (what, least) in often {
        assert!(met.get(what).is_some_and(|times| *times >= least), "{what}: {met:?}");
    }
}
