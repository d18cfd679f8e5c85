//! The write side: the loop from a polled batch to a commit; dead letters, quarantine, halts.
//!
//! [`start`] settles the generation, joins the consumer group and gives each assigned partition an owner
//! ([`partition`]), a task that claims it and folds it. Owners share nothing but what is read only.

mod budget;
mod cache;
mod dead_letters;
mod folding;
pub mod generation;
pub mod lane;
mod metrics;
mod partition;
mod pause;
mod quarantine;
mod redrive;

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hasher,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use arc_swap::{ArcSwap, ArcSwapOption};
use futures::FutureExt as _;
use prometheus_client::registry::Registry;
use rdkafka::error::KafkaError;
use siphasher::sip::SipHasher13;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use self::budget::Budget;
use self::metrics::Metrics;
pub use self::metrics::OfPartition;
pub use self::quarantine::TOO_MANY_KEYS;
use crate::{
    config,
    decisions::{self, Amendments, Birth, Decisions, DecisionsError, Origin},
    domain::{FingerprintKey, LastRecord, PartitionId, Rules},
    source::{
        Cluster, Inquirer,
        batch::Stored,
        poller::{self, Handle, Owner, Progress},
        producer::Producer,
        queue,
        topics::{self, TopicError},
        watch::{self as watermarks, Watched},
    },
    store::{Generation, Halt, PartitionState, StoreError, WriteStore},
    telemetry::Seldom,
};

const STORE_CHECK_EVERY: Duration = Duration::from_secs(5);
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// Refusals that go on for so long are told; a rebalance or a blink of the store is over by then.
const REFUSED_MAX: Duration = Duration::from_secs(5);
const PUT_RIGHT: &str = "put right what is said of the store: it goes on by itself; where keys were evicted, give it \
                         memory and empty it, or rebuild";
/// How long the consumer may be in no group while brokers answer: after an outage it is back within seconds.
const OUTSIDE_MAX: Duration = Duration::from_secs(20);
/// How long a claim waits for decisions that are there and not followed yet.
const FOLLOWED_MAX: Duration = Duration::from_secs(5);

/// What the owners of all partitions of a process share.
struct Shared {
    store: Arc<dyn WriteStore>,
    cluster: Cluster,
    generation: Generation,
    birth: Birth,
    rules: Rules,
    settings: config::Projector,
    poller: Handle,
    producer: Producer,
    inquirer: ArcSwap<Inquirer>,
    /// Of questions that were not answered.
    unanswered: Seldom,
    watched: watch::Receiver<Watched>,
    /// What operators decided, as far as it is known by now.
    decisions: watch::Receiver<Arc<Decisions>>,
    trouble: ArcSwapOption<Halt>,
    suspects: AtomicU64,
    claims: AtomicU64,
    budget: Budget,
    standing: Arc<Standing>,
    instance: String,
    /// Ends the write side.
    stop: CancellationToken,
    /// Why it ended though nobody told it to.
    failure: Arc<OnceLock<String>>,
}

impl Shared {
    /// Ends the write side with an error: a part of it is gone that nobody would miss otherwise.
    fn give_up(&self, why: String) {
        if !self.stop.is_cancelled() {
            tracing::error!(why, "the write side ends");
            drop(self.failure.set(why));
            self.stop.cancel();
        }
    }

    /// What operators decided about the log that is folded, as far as it is known by now.
    fn amendments(&self) -> Arc<Amendments> {
        self.decisions.borrow().of(&self.birth)
    }

    /// Fills a store that lost everything again, from what the decisions topic says.
    async fn bear(&self) -> Result<(), StoreError> {
        let cluster = self.cluster.clone();
        let decisions = tokio::task::spawn_blocking(move || decisions::read(&cluster)).await;
        let decisions = match decisions {
            Ok(Ok(decisions)) => decisions,
            Ok(Err(error)) => return Err(StoreError::Broker { reason: error.to_string() }),
            Err(error) => return Err(StoreError::Broker { reason: error.to_string() }),
        };
        if decisions.retired.contains_key(&self.generation) {
            let reason = format!("generation {} is retired", self.generation.0);
            return Err(StoreError::Broker { reason });
        }
        self.store.trust(self.generation).await?;
        give_birth(self.store.as_ref(), &decisions).await?;
        // The claim that follows folds under what is followed: no home that is recorded may be missing there.
        let recorded = decisions.of(&self.birth).homes.len();
        let mut followed = self.decisions.clone();
        let caught_up = followed.wait_for(|known| known.of(&self.birth).homes.len() >= recorded);
        if !matches!(tokio::time::timeout(FOLLOWED_MAX, caught_up).await, Ok(Ok(_))) {
            return Err(StoreError::Broker {
                reason: "the decisions are not followed to their end".to_owned(),
            });
        }
        if let Origin::Seed { digest } = &self.birth.origin {
            let reason = format!(
                "generation {0} is not in the store, and began from a snapshot: import the one with digest {digest} \
                 with `rebuild start --generation {0} --seed FILE`",
                self.generation.0
            );
            return Err(StoreError::Broker { reason });
        }
        Ok(())
    }

    async fn watermarks(&self, id: PartitionId) -> Result<(i64, i64), KafkaError> {
        let (cluster, inquirer) = (self.cluster.clone(), self.inquirer.load_full());
        let asked = tokio::task::spawn_blocking(move || {
            crate::source::watermarks(&cluster, &inquirer, id, Duration::from_secs(5))
        });
        let answer = asked.await.unwrap_or(Err(KafkaError::Canceled));
        if answer.is_ok() {
            self.unanswered.end();
        } else if self.unanswered.is_due() {
            // A client that lost all its brokers may not find back.
            let before = self.inquirer.swap(Arc::new(self.cluster.inquirer("read_uncommitted")?));
            crate::source::discard(before);
        }
        answer
    }

    fn trouble(&self) -> Option<Halt> {
        self.trouble.load().as_ref().map(|halt| Halt::clone(halt))
    }

    fn suspects(&self) -> u64 {
        self.suspects.load(Ordering::Relaxed)
    }

    /// The number of a claim: no other of this process has it, whoever owns a partition.
    fn next_claim(&self) -> u64 {
        self.claims.fetch_add(1, Ordering::Relaxed)
    }

    fn count_owned(&self, owned: usize) {
        self.budget.divide(owned);
        self.standing.metrics.owned.set(i64::try_from(owned).unwrap_or(i64::MAX));
    }
}

/// How the write side of this process stands, from before it has reached Kafka on.
pub struct Standing {
    metrics: Metrics,
    owned: Mutex<BTreeMap<PartitionId, (bool, PartitionState)>>,
    /// Partitions of which nothing is folded, since when, and why.
    refused: Mutex<BTreeMap<PartitionId, (Instant, String)>>,
    joined: AtomicBool,
    /// Readers are served another generation than the one that is fed.
    unserved: AtomicBool,
    /// What it waits for, and why that does not come.
    waits: ArcSwapOption<String>,
}

impl Standing {
    /// Registers the metrics; not ready yet.
    pub fn new(registry: &mut Registry) -> Self {
        Standing {
            metrics: Metrics::new(registry),
            owned: Mutex::default(),
            refused: Mutex::default(),
            joined: AtomicBool::new(false),
            unserved: AtomicBool::new(false),
            waits: ArcSwapOption::empty(),
        }
    }

    fn beat(&self, id: PartitionId, complete: bool, state: PartitionState) {
        self.metrics.beat(id, &state);
        self.owned().insert(id, (complete, state));
    }

    fn refused(&self, id: PartitionId, why: &StoreError) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.entry(id).or_insert_with(|| (Instant::now(), String::new())).1 = why.to_string();
    }

    fn goes_well(&self, id: PartitionId) {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    fn forget(&self, id: PartitionId) {
        self.metrics.forget(id);
        self.owned().remove(&id);
        self.goes_well(id);
    }

    /// Whether readers are served another generation, as far as is known: how this one stands keeps nobody waiting.
    pub fn is_unserved(&self) -> bool {
        self.unserved.load(Ordering::Relaxed)
    }

    fn owned(&self) -> std::sync::MutexGuard<'_, BTreeMap<PartitionId, (bool, PartitionState)>> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its topics and its store were reached.
    pub fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Relaxed)
    }

    /// Whether a partition is fed by this process.
    pub fn feeds_any(&self) -> bool {
        !self.owned().is_empty()
    }

    /// Why the write side of this process is not ready; empty where it is.
    pub fn reasons(&self) -> Vec<String> {
        if !self.has_joined() {
            let why = self.waits.load().as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            return vec![format!("the write side has not reached its topics and its store yet{why}")];
        }
        let of = |(id, (complete, state)): (&PartitionId, &(bool, PartitionState))| match (
            &state.halt,
            complete,
        ) {
            (Some(halt), _) => Some(format!("{id} is halted: {}; {}", halt.reason, halt.remedy)),
            (None, false) => Some(format!("{id} has not reached the log's end since its birth")),
            (None, true) => None,
        };
        let mut reasons: Vec<String> = self.owned().iter().filter_map(of).collect();
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let long = refused.iter().filter(|(_, (since, _))| since.elapsed() > REFUSED_MAX);
        reasons.extend(long.map(|(id, (_, why))| format!("{id} is not folded: {why}")));
        reasons
    }
}

/// Starts to project. Returns an error only for what a restart or a human must mend: a broker or a store that
/// does not answer is waited for.
pub async fn start(
    config: &config::Config,
    cluster: Cluster,
    store: Arc<dyn WriteStore>,
    standing: Arc<Standing>,
    instance: String,
) -> anyhow::Result<Projector> {
    let inquirer = Arc::new(cluster.inquirer("read_uncommitted").context("kafka settings")?);
    let producer = Producer::new(&cluster).context("kafka settings")?;
    let brokers = format!("kafka.brokers {}", config.kafka.brokers);
    let counts = until_answered(&standing, &brokers, || async {
        topics::check_own(&cluster, &inquirer).await?;
        topics::check_folded(&cluster, &inquirer).await
    })
    .await?;
    until_answered(&standing, "redis.url", || store.check(true)).await.context("the store cannot be used")?;
    let configured = Generation(config.generation);
    let parameters = config.parameters();
    let birth = until_answered(&standing, &brokers, || {
        generation::settle(&cluster, &producer, configured, parameters.clone(), &counts)
    })
    .await?;
    let generation = birth.generation;
    if generation != configured {
        tracing::warn!(
            retired = configured.0,
            generation = generation.0,
            "the configured generation is retired: readers are served this one, and it is fed"
        );
    }
    let cluster = cluster.clone().in_group(birth.group(&cluster.settings().group));
    let rules = Rules::new(&birth.parameters).context("the generation's parameters")?;

    let stop = CancellationToken::new();
    let (followed, _) =
        until_answered(&standing, &brokers, || async { decisions::follow(&cluster, stop.clone()) }).await?;
    let known = Arc::clone(&followed.borrow());
    // Before anything is born: what was evicted of others is none of ours.
    let trouble = ArcSwapOption::empty();
    if let Err(StoreError::Corrupt { reason }) =
        until_answered(&standing, "redis.url", || store.trust(generation)).await
    {
        trouble.store(Some(Arc::new(not_believed(reason))));
    }
    until_answered(&standing, "redis.url", || give_birth(store.as_ref(), &known)).await?;
    let retired = Arc::new(AtomicBool::new(false));
    tokio::spawn(stop_when_retired(generation, followed.clone(), stop.clone(), Arc::clone(&retired)));
    let (again, own) = (followed.clone(), producer.clone());
    tokio::spawn(pause::take_back(cluster.clone(), own, generation, again, stop.clone()));
    let half_beat = Duration::from_millis(config.projector.heartbeat_ms.max(2).div_euclid(2));
    let (watched, _) = watermarks::spawn(&cluster, birth.counts(), half_beat, stop.clone())?;
    let (handle, prepared) = poller::prepare();
    let shared = Arc::new(Shared {
        store,
        cluster: cluster.clone(),
        generation,
        birth,
        rules,
        settings: config.projector.clone(),
        poller: handle,
        producer,
        inquirer: ArcSwap::new(inquirer),
        unanswered: Seldom::default(),
        watched,
        decisions: followed,
        trouble,
        suspects: AtomicU64::new(0),
        claims: AtomicU64::new(0),
        budget: Budget::new(config.projector.cache_bytes_max),
        standing: Arc::clone(&standing),
        instance,
        stop: stop.clone(),
        failure: Arc::default(),
    });
    let supervisor = Arc::new(Supervisor {
        shared: Arc::clone(&shared),
        runtime: tokio::runtime::Handle::current(),
        owners: Mutex::new(HashMap::new()),
    });
    let bounds = poller::Bounds {
        batch_records_max: config.projector.batch_records_max,
        queue_bytes_max: config.projector.queue_bytes_max,
        outside_max: OUTSIDE_MAX,
    };
    let thread = poller::spawn(&cluster, supervisor, bounds, shared.watched.clone(), prepared, stop.clone())?;
    tokio::spawn(watch_store(Arc::clone(&shared), stop.clone()));
    standing.joined.store(true, Ordering::Relaxed);
    let failure = Arc::clone(&shared.failure);
    Ok(Projector { generation, stop, thread, retired, failure })
}

/// A running write side.
pub struct Projector {
    generation: Generation,
    stop: CancellationToken,
    thread: std::thread::JoinHandle<Result<(), KafkaError>>,
    retired: Arc<AtomicBool>,
    failure: Arc<OnceLock<String>>,
}

/// Why a write side has stopped in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// It was told to.
    Told,
    /// Its generation was retired.
    Retired(Generation),
}

impl Projector {
    /// Waits for `shutdown`, then stops in order: no more polling, what is in flight is finished, partitions
    /// are released. So too when the generation is retired. An error where the consumer cannot go on.
    pub async fn until(self, shutdown: CancellationToken) -> anyhow::Result<Stopped> {
        let Projector { generation, stop, thread, retired, failure } = self;
        let joined = tokio::task::spawn_blocking(move || thread.join());
        tokio::pin!(joined);
        let ended = tokio::select! {
            ended = &mut joined => ended,
            () = shutdown.cancelled() => {
                stop.cancel();
                joined.await
            }
        };
        stop.cancel();
        match ended? {
            Ok(result) => {
                result.context("the consumer cannot go on")?;
                if let Some(why) = failure.get() {
                    anyhow::bail!("{why}");
                }
            }
            Err(_) => anyhow::bail!("the polling thread panicked"),
        }
        Ok(if retired.load(Ordering::Relaxed) { Stopped::Retired(generation) } else { Stopped::Told })
    }
}

/// A remedy of "try again" for errors at the start.
trait Retriable {
    fn is_retriable(&self) -> bool;
}

impl Retriable for TopicError {
    fn is_retriable(&self) -> bool {
        matches!(self, TopicError::Unanswered { .. })
    }
}

impl Retriable for generation::GenerationError {
    fn is_retriable(&self) -> bool {
        match self {
            generation::GenerationError::Unanswered(_) => true,
            generation::GenerationError::Decisions(error) => error.is_retriable(),
            generation::GenerationError::NoBeginning { .. }
            | generation::GenerationError::NotBegun { .. }
            | generation::GenerationError::Retired { .. }
            | generation::GenerationError::Pinned { .. } => false,
        }
    }
}

impl Retriable for DecisionsError {
    fn is_retriable(&self) -> bool {
        // It was made just now, and not every broker knows of it yet.
        matches!(self, DecisionsError::Unanswered(_) | DecisionsError::Missing { .. })
    }
}

impl Retriable for StoreError {
    fn is_retriable(&self) -> bool {
        matches!(self, StoreError::Transient { .. })
    }
}

async fn until_answered<T, E, F, A>(standing: &Standing, what: &str, mut ask: A) -> Result<T, E>
where
    E: Retriable + std::fmt::Display,
    F: Future<Output = Result<T, E>>,
    A: FnMut() -> F,
{
    loop {
        match ask().await {
            Err(error) if error.is_retriable() => {
                tracing::warn!(what, %error, "waiting for an answer");
                standing.waits.store(Some(Arc::new(format!("{what}: {error}"))));
                tokio::time::sleep(RETRY_EVERY).await;
            }
            other => {
                standing.waits.store(None);
                return other;
            }
        }
    }
}

/// Sets the checkpoints that are missing, and the pointer where nobody set it: to the generation that readers were
/// pointed to last. A generation that began from a snapshot is not born again without it.
async fn give_birth(store: &dyn WriteStore, decisions: &Decisions) -> Result<(), StoreError> {
    for birth in decisions.live() {
        if !matches!(birth.origin, Origin::Seed { .. }) {
            store.bear(birth.generation, &birth.starts()).await?;
        }
        store.enlist(birth.generation, &birth.log()).await?;
    }
    if let Some(serving) = decisions.serving() {
        store.activate(None, serving).await?;
    }
    point_to_what_is_fed(store, decisions).await
}

/// A store that is back from before a switch points readers to a generation that was retired since, which nobody feeds.
async fn point_to_what_is_fed(store: &dyn WriteStore, decisions: &Decisions) -> Result<(), StoreError> {
    if let (Some(active), Some(serving)) = (store.active().await?, decisions.serving())
        && decisions.retired.contains_key(&active)
        && store.activate(Some(active), serving).await?
    {
        tracing::warn!(
            retired = active.0,
            serving = serving.0,
            "readers were pointed to a retired generation"
        );
    }
    Ok(())
}

/// Lets go of everything once the generation is fed no more.
async fn stop_when_retired(
    generation: Generation,
    mut decisions: watch::Receiver<Arc<Decisions>>,
    stop: CancellationToken,
    retired: Arc<AtomicBool>,
) {
    while !decisions.borrow_and_update().retired.contains_key(&generation) {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = decisions.changed() => if changed.is_err() { return },
        }
    }
    tracing::warn!(generation = generation.0, "the generation is retired: it is fed no more");
    retired.store(true, Ordering::Relaxed);
    stop.cancel();
}

fn not_believed(reason: String) -> Halt {
    Halt { reason, remedy: PUT_RIGHT.to_owned() }
}

/// A store that evicts is no database: every partition halts, until it is one again that has evicted nothing.
async fn watch_store(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(STORE_CHECK_EVERY) => {}
        }
        let known = Arc::clone(&shared.decisions.borrow());
        let looked = async {
            shared.store.trust(shared.generation).await?;
            point_to_what_is_fed(shared.store.as_ref(), &known).await?;
            let served = shared.store.active().await?;
            let other = served.is_some_and(|served| served != shared.generation);
            shared.standing.unserved.store(other, Ordering::Relaxed);
            Ok(())
        };
        match looked.await {
            Ok(()) => {
                if shared.trouble.swap(None).is_some() {
                    tracing::info!("the store is to be believed again: every partition is looked at again");
                    shared.suspects.fetch_add(1, Ordering::Relaxed);
                }
            }
            Err(StoreError::Corrupt { reason }) => {
                shared.standing.metrics.refused("corrupt");
                shared.trouble.store(Some(Arc::new(not_believed(reason))));
            }
            // Who does not answer says nothing of that.
            Err(_) => {}
        }
    }
}

struct Supervisor {
    shared: Arc<Shared>,
    runtime: tokio::runtime::Handle,
    owners: Mutex<HashMap<PartitionId, (CancellationToken, JoinHandle<()>)>>,
}

impl Owner for Supervisor {
    fn assign(&self, id: PartitionId, batches: queue::Receiver, progress: Arc<Progress>) {
        if self.shared.birth.start(id).is_none() {
            tracing::error!(partition = %id, "not folded: the generation was born without this partition");
            return;
        }
        let stop = CancellationToken::new();
        let task = partition::own(Arc::clone(&self.shared), id, batches, progress, stop.clone());
        let shared = Arc::clone(&self.shared);
        let task = self.runtime.spawn(async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                shared.give_up(format!("the owner of {id} panicked"));
            }
        });
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        owners.insert(id, (stop, task));
        self.shared.count_owned(owners.len());
    }

    fn revoke(&self, ids: &[PartitionId], lost: bool) {
        let leaving: Vec<_> = {
            let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
            let leaving = ids.iter().filter_map(|id| owners.remove(id)).collect();
            self.shared.count_owned(owners.len());
            leaving
        };
        for (stop, task) in &leaving {
            stop.cancel();
            if lost {
                task.abort();
            }
        }
        let bound = Duration::from_millis(self.shared.settings.shutdown_ms_max);
        self.runtime.block_on(async {
            let deadline = tokio::time::Instant::now().checked_add(bound);
            for (_, mut task) in leaving {
                let finished = match deadline {
                    Some(deadline) => tokio::time::timeout_at(deadline, &mut task).await.is_ok(),
                    None => false,
                };
                if !finished {
                    task.abort();
                }
            }
        });
        // Not before: the last commits of an owner tell how its partition stands.
        for id in ids {
            self.shared.standing.forget(*id);
        }
    }

    fn suspect(&self) {
        self.shared.suspects.fetch_add(1, Ordering::Relaxed);
    }
}

/// By what a record is told from another at its place, in a log made anew.
pub fn identity(key: FingerprintKey, record: &Stored<'_>) -> LastRecord {
    let hash = hash(key, record.key, record.value);
    LastRecord { offset: record.offset, timestamp_ms: record.timestamp_ms, hash }
}

/// A keyed hash of a record's key and value; absent and empty differ.
fn hash(key: FingerprintKey, record_key: Option<&[u8]>, value: Option<&[u8]>) -> u64 {
    let mut hasher = SipHasher13::new_with_key(&key.0);
    for part in [record_key, value] {
        match part {
            None => hasher.write_u8(0),
            Some(bytes) => {
                hasher.write_u8(1);
                hasher.write(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
                hasher.write(bytes);
            }
        }
    }
    hasher.finish()
}
