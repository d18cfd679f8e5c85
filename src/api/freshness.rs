//! How old what the store holds is, told without trusting any clock; and whether an answer may be believed.
//!
//! A projector writes with each heartbeat how long ago, by its own monotonic clock, it had reached the
//! broker's end. A reader samples the heartbeats and adds its own monotonic time. Four rules keep that
//! honest:
//!
//! * A heartbeat is believed only when its number rose, within one claim, between two samples of this
//!   process: what a first look finds may be of any age (an old dump, a dead projector).
//! * A heartbeat may have been on its way for long. But an owner measures no age before the store has acknowledged
//!   the heartbeat before, so its age is counted from a sample that did not show *that* one yet: an answer never claims
//!   to be younger than it is.
//! * Every generation that is fed is kept in view, not only the one that is served: a switch finds its
//!   heartbeats believed already, and costs no answer.
//! * Having been caught up stays a fact while the partition's offset and commit number do not fall. When
//!   they do, the store lost writes, and the fact is forgotten.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{metrics::Metrics, unavailable::Unavailable};
use crate::{
    domain::{Checkpoint, Offset, PartitionId, Time, Topic},
    store::{Fed, Generation, Halt, Live, PartitionState, Position, ReadStore, Snapshot, StoreError},
};

/// How often heartbeats are sampled.
const SAMPLE_EVERY: Duration = Duration::from_millis(250);
/// How often while somebody waits for a position.
const SAMPLE_EVERY_WAITING: Duration = Duration::from_millis(5);
/// A store that takes longer over a sample does not answer.
const SAMPLE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the store's settings are checked.
const HEALTH_EVERY: Duration = Duration::from_secs(5);
/// After no answer.
const HEALTH_AGAIN: Duration = Duration::from_millis(500);

/// What this process knows of every partition, refreshed by [`Freshness::watch`].
pub struct Freshness {
    store: Arc<dyn ReadStore>,
    max_staleness: Duration,
    view: ArcSwap<View>,
    reached: ArcSwap<Reached>,
    changed: watch::Sender<()>,
    waiters: AtomicUsize,
    waiting: Notify,
    metrics: Arc<Metrics>,
}

/// One sample of every generation that is fed, and what earlier ones established.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// The one that readers are served.
    active: Option<Generation>,
    builds: BTreeMap<Generation, Build>,
    /// By which zone figures of days are answered here.
    zone: Arc<str>,
    /// Why the last sample failed, if it did.
    fault: Option<StoreError>,
    /// The store evicts, or is otherwise no database, or was not examined yet: nothing that it says is believed.
    corrupt: Option<StoreError>,
}

/// What is known of one generation.
#[derive(Debug, Clone, Default)]
struct Build {
    /// The name of its log.
    log: Arc<str>,
    partitions: BTreeMap<PartitionId, Seen>,
}

/// The furthest offsets of a log that answers of this process rested on, in whichever generation.
///
/// A store that lost writes is folded again from an older position. Caught up as of an instant before the loss
/// it may well be, and fresh enough; but a caller who was told more is not told less.
#[derive(Debug, Clone, Default)]
struct Reached {
    log: Arc<str>,
    offsets: BTreeMap<PartitionId, Offset>,
}

impl Reached {
    /// Offsets of another log say nothing.
    fn offset(&self, log: &str, partition: PartitionId) -> Offset {
        let known = (*self.log == *log).then(|| self.offsets.get(&partition).copied());
        known.flatten().unwrap_or_default()
    }

    fn is_behind(&self, log: &str, snapshot: &Snapshot) -> bool {
        let rises = |(partition, position): &(PartitionId, Position)| {
            position.checkpoint.next > self.offset(log, *partition)
        };
        snapshot.positions.iter().any(rises)
    }

    fn raised(&self, log: &Arc<str>, snapshot: &Snapshot) -> Reached {
        let raised = snapshot.positions.iter().map(|(partition, position)| {
            (*partition, position.checkpoint.next.max(self.offset(log, *partition)))
        });
        Reached { log: Arc::clone(log), offsets: raised.collect() }
    }
}

/// What was known before a read was sent.
pub struct Look {
    view: Arc<View>,
    reached: Arc<Reached>,
}

impl Look {
    /// Whether the read rests on less than an answer that was given before it was sent.
    pub fn fell_behind(&self, snapshot: &Snapshot) -> bool {
        // A generation that is not in view is refused for that.
        let Some(build) = self.view.builds.get(&snapshot.generation) else { return false };
        let falls = |(partition, position): &(PartitionId, Position)| {
            position.checkpoint.next < self.reached.offset(&build.log, *partition)
        };
        snapshot.positions.iter().any(falls)
    }
}

impl std::ops::Deref for Look {
    type Target = View;

    fn deref(&self) -> &View {
        &self.view
    }
}

/// What is known of a partition.
#[derive(Debug, Clone)]
struct Seen {
    next: Offset,
    commit: u64,
    complete: bool,
    /// The heartbeat of the last sample, unless that failed.
    beat: Option<Beat>,
    /// The position had reached the end of the log no earlier than then.
    caught_up: Option<Instant>,
    halt: Option<Halt>,
    paused: Option<String>,
    cut: Option<Time>,
    /// By which zone its days are counted, where the heartbeat says so.
    zone: Option<String>,
}

#[derive(Debug, Clone, Copy)]
struct Beat {
    claim: u64,
    number: u64,
    /// When the last sample that showed it was asked for.
    sampled: Instant,
    /// When the last sample was asked for that showed an earlier one of this claim: it was written later.
    not_yet: Option<Instant>,
}

impl Beat {
    fn after(before: Option<Beat>, state: &PartitionState, asked: Instant) -> Beat {
        let before = before.filter(|before| before.claim == state.claim && before.number <= state.beat);
        let not_yet =
            before.and_then(
                |before| {
                    if before.number == state.beat { before.not_yet } else { Some(before.sampled) }
                },
            );
        Beat { claim: state.claim, number: state.beat, sampled: asked, not_yet }
    }
}

/// Which partitions an answer rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestsOn {
    /// An account: its home, or every ledger partition where it has none.
    Account {
        /// The account's partition.
        home: Option<i32>,
    },
    /// A customer: its home, or every payment partition where it has none, and every ledger partition.
    Customer {
        /// The customer's partition.
        home: Option<i32>,
    },
}

impl RestsOn {
    fn holds(self, partition: PartitionId) -> bool {
        match (self, partition.topic) {
            (RestsOn::Account { home }, Topic::Ledger) | (RestsOn::Customer { home }, Topic::Payment) => {
                home.is_none_or(|home| home == partition.partition)
            }
            (RestsOn::Account { .. }, Topic::Payment) => false,
            (RestsOn::Customer { .. }, Topic::Ledger) => true,
        }
    }

    /// Each topic that it rests on must have at least one of these partitions, a home above all.
    fn is_covered_by<I: Iterator<Item = PartitionId> + Clone>(
        self,
        partitions: &I,
    ) -> Result<(), Unavailable> {
        let topics: &[Topic] = match self {
            RestsOn::Account { .. } => &[Topic::Ledger],
            RestsOn::Customer { .. } => &Topic::ALL,
        };
        let covers = |topic| partitions.clone().any(|p| p.topic == topic && self.holds(p));
        if topics.iter().all(|topic| covers(*topic)) { Ok(()) } else { Err(Unavailable::Incomplete) }
    }
}

impl Freshness {
    /// Knows nothing yet: nothing is fresh.
    pub fn new(
        store: Arc<dyn ReadStore>,
        max_staleness: Duration,
        zone: &str,
        metrics: Arc<Metrics>,
    ) -> Self {
        let unexamined = StoreError::Transient { reason: "the store is yet to be examined".to_owned() };
        Freshness {
            store,
            max_staleness,
            view: ArcSwap::from_pointee(View {
                corrupt: Some(unexamined),
                zone: zone.into(),
                ..View::default()
            }),
            reached: ArcSwap::default(),
            changed: watch::Sender::new(()),
            waiters: AtomicUsize::new(0),
            waiting: Notify::new(),
            metrics,
        }
    }

    /// What is known now. Take it *before* reading: a later one may know of commits that the read did not
    /// see, and would take it for a store that went back.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// What is known now, for a read that is about to be sent.
    pub fn look(&self) -> Look {
        Look { reached: self.reached.load_full(), view: self.view() }
    }

    /// An answer is given from this snapshot, read after the look: none given later may rest on less.
    pub fn served(&self, look: &Look, snapshot: &Snapshot) {
        let Some(build) = look.view.builds.get(&snapshot.generation) else { return };
        if self.reached.load().is_behind(&build.log, snapshot) {
            self.reached.rcu(|reached| reached.raised(&build.log, snapshot));
        }
    }

    /// The oldest that answers may be.
    pub fn max_staleness(&self) -> Duration {
        self.max_staleness
    }

    /// Samples until the token is cancelled.
    pub async fn watch(&self, shutdown: CancellationToken) {
        let mut health_due = Instant::now();
        let mut ready = None;
        loop {
            if Instant::now() >= health_due {
                let pause = if self.check_health().await { HEALTH_EVERY } else { HEALTH_AGAIN };
                health_due = Instant::now().checked_add(pause).unwrap_or(health_due);
            }
            self.sample().await;
            let (view, now) = (self.view(), Instant::now());
            let reasons = view.reasons(self.max_staleness, now);
            self.metrics.sampled(reasons.is_empty(), view.oldest(now), self.waiters.load(Ordering::Relaxed));
            if ready != Some(reasons.is_empty()) {
                let began = ready.replace(reasons.is_empty()).is_none();
                let why = reasons.join("; ");
                if reasons.is_empty() {
                    tracing::info!("reads are complete and fresh");
                } else if began {
                    tracing::info!(reasons = why, "reads are refused until this is over");
                } else {
                    tracing::warn!(reasons = why, "reads are refused");
                }
            }
            let somebody_waits = self.waiters.load(Ordering::Relaxed) > 0;
            let pause = if somebody_waits { SAMPLE_EVERY_WAITING } else { SAMPLE_EVERY };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.waiting.notified(), if !somebody_waits => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn sample(&self) {
        let asked = Instant::now();
        let live = tokio::time::timeout(SAMPLE_TIMEOUT, self.store.live());
        let sample = match live.await {
            Ok(sample) => sample,
            Err(_elapsed) => Err(StoreError::Transient { reason: "no answer to a sample in 2 s".to_owned() }),
        };
        let view = self.view();
        let next = match sample {
            Ok(live) => view.advanced(&live, asked),
            Err(fault) => view.without_beats(fault),
        };
        self.view.store(Arc::new(next));
        self.changed.send_replace(());
    }

    /// Whether there was an answer.
    async fn check_health(&self) -> bool {
        let answer = tokio::time::timeout(SAMPLE_TIMEOUT, self.store.healthy()).await;
        let corrupt = match answer {
            Ok(Err(corrupt @ StoreError::Corrupt { .. })) => Some(corrupt),
            Ok(Ok(())) => None,
            // No answer says nothing: what was known stands.
            Ok(Err(
                StoreError::Fenced { .. }
                | StoreError::Unchained { .. }
                | StoreError::Missing { .. }
                | StoreError::Guarded { .. }
                | StoreError::Transient { .. }
                | StoreError::Broker { .. },
            ))
            | Err(_) => return false,
        };
        let view = View { corrupt, ..View::clone(&self.view()) };
        self.view.store(Arc::new(view));
        true
    }

    /// Waits until the positions are in the projection: at most `wait`, and at most `waiters_max` requests
    /// at once.
    pub async fn reach(
        &self,
        wanted: &[(PartitionId, Offset)],
        wait: Duration,
        waiters_max: usize,
    ) -> Result<(), Unavailable> {
        if wanted.is_empty() {
            return Ok(());
        }
        Box::pin(self.wait_for(wanted, wait, waiters_max)).await
    }

    async fn wait_for(
        &self,
        wanted: &[(PartitionId, Offset)],
        wait: Duration,
        waiters_max: usize,
    ) -> Result<(), Unavailable> {
        // Subscribed before looking: a sample in between is not missed.
        let mut changed = self.changed.subscribe();
        if self.view().has_reached(wanted) {
            return Ok(());
        }
        let Some(_waiter) = Waiter::enter(&self.waiters, waiters_max) else {
            return Err(Unavailable::TooManyWaiters);
        };
        self.waiting.notify_one();
        let reached = async {
            // The sender lives in self, so that changed() fails never.
            while changed.changed().await.is_ok() {
                if self.view().has_reached(wanted) {
                    return;
                }
            }
        };
        tokio::time::timeout(wait, reached).await.map_err(|_elapsed| Unavailable::PositionNotReached)
    }
}

/// Counts a waiting request for as long as it waits, however it ends.
struct Waiter<'a>(&'a AtomicUsize);

impl<'a> Waiter<'a> {
    fn enter(waiters: &'a AtomicUsize, max: usize) -> Option<Self> {
        waiters
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
                (now < max).then(|| now.saturating_add(1))
            })
            .ok()
            .map(|_| Waiter(waiters))
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl View {
    /// The view after a sample that was asked for at `asked`.
    fn advanced(&self, live: &Live, asked: Instant) -> View {
        let build = |fed: &Fed| {
            let generation = fed.snapshot.generation;
            let before = self.builds.get(&generation);
            let partitions = fed.snapshot.positions.iter().map(|(partition, position)| {
                let state = fed.states.iter().find(|(of, _)| of == partition).map(|(_, state)| state);
                let before = before.and_then(|before| before.partitions.get(partition));
                (*partition, Seen::after(before, position.checkpoint, state, asked))
            });
            (generation, Build { log: Arc::clone(&fed.log), partitions: partitions.collect() })
        };
        // Where nothing is served, there is nothing to go on from.
        let builds = live.active.map(|_| live.generations.iter().map(build).collect());
        View {
            active: live.active,
            builds: builds.unwrap_or_default(),
            fault: None,
            corrupt: self.corrupt.clone(),
            zone: Arc::clone(&self.zone),
        }
    }

    /// The view after a sample that failed: the next one sets a baseline again.
    fn without_beats(&self, fault: StoreError) -> View {
        let mut view = self.clone();
        for seen in view.builds.values_mut().flat_map(|build| build.partitions.values_mut()) {
            seen.beat = None;
        }
        view.fault = Some(fault);
        view
    }

    /// The partitions of the generation that readers are served.
    fn served(&self) -> impl Iterator<Item = (PartitionId, &Seen)> {
        let active = self.active.and_then(|active| self.builds.get(&active));
        active
            .into_iter()
            .flat_map(|build| build.partitions.iter().map(|(partition, seen)| (*partition, seen)))
    }

    fn seen(&self, partition: PartitionId) -> Option<&Seen> {
        self.builds.get(&self.active?)?.partitions.get(&partition)
    }

    /// Since when what an answer rests on is known, where the log's head was gone when the generation began.
    pub fn cut(&self, generation: Generation, rests_on: RestsOn) -> Option<Time> {
        let partitions = &self.builds.get(&generation)?.partitions;
        let cut = |(partition, seen): (&PartitionId, &Seen)| seen.cut.filter(|_| rests_on.holds(*partition));
        partitions.iter().filter_map(cut).min()
    }

    /// Whether all these partitions exist, as far as is known: nothing is ruled out before a generation
    /// was seen.
    pub fn knows_all(&self, wanted: &[(PartitionId, Offset)]) -> bool {
        wanted.is_empty()
            || self.active.is_none()
            || wanted.iter().all(|(partition, _)| self.seen(*partition).is_some())
    }

    /// The age of the oldest partition; `None` where one's is not known.
    fn oldest(&self, now: Instant) -> Option<Duration> {
        let ages = self.served().map(|(_, seen)| seen.age(now));
        ages.collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// The zone of a partition's days, where it is another one than figures of days are answered by here.
    fn other_zone<'s>(&self, seen: &'s Seen) -> Option<&'s str> {
        seen.zone.as_deref().filter(|zone| !zone.eq_ignore_ascii_case(&self.zone))
    }

    fn has_reached(&self, wanted: &[(PartitionId, Offset)]) -> bool {
        wanted.iter().all(|(partition, offset)| self.seen(*partition).is_some_and(|seen| seen.next > *offset))
    }

    /// How old an answer is that was read after this view was taken; or why it may not be given.
    ///
    /// The whole projection must be complete, whatever the answer rests on: a key may be on hold in a
    /// partition that is not its home.
    pub fn staleness(
        &self,
        snapshot: &Snapshot,
        rests_on: RestsOn,
        max_staleness: Duration,
        now: Instant,
    ) -> Result<Duration, Unavailable> {
        if let Some(corrupt) = &self.corrupt {
            return Err(Unavailable::Store(corrupt.clone()));
        }
        let Some(build) = self.builds.get(&snapshot.generation) else {
            return Err(Unavailable::NoGeneration);
        };
        if snapshot.positions.len() < build.partitions.len() {
            return Err(Unavailable::WentBack);
        }
        let mut oldest = Duration::ZERO;
        for (partition, position) in &snapshot.positions {
            let checkpoint = position.checkpoint;
            if !checkpoint.complete {
                return Err(Unavailable::Incomplete);
            }
            let seen = build.partitions.get(partition).ok_or(Unavailable::Stale)?;
            if seen.is_ahead_of(checkpoint.next, checkpoint.commit) {
                return Err(Unavailable::WentBack);
            }
            if rests_on.holds(*partition) {
                oldest = oldest.max(seen.age(now).ok_or(Unavailable::Stale)?);
                // Only balances of accounts are told by days.
                if matches!(rests_on, RestsOn::Account { .. }) && self.other_zone(seen).is_some() {
                    return Err(Unavailable::Incomplete);
                }
            }
        }
        rests_on.is_covered_by(&snapshot.positions.iter().map(|(partition, _)| *partition))?;
        if oldest > max_staleness { Err(Unavailable::Stale) } else { Ok(oldest) }
    }

    /// Whether it may be said that a subject is absent which was not looked up, because no such subject
    /// can exist for the caller.
    pub fn absent(&self, rests_on: RestsOn, max_staleness: Duration) -> Result<(), Unavailable> {
        if let Some(fault) = self.corrupt.as_ref().or(self.fault.as_ref()) {
            return Err(Unavailable::Store(fault.clone()));
        }
        if self.active.is_none() {
            return Err(Unavailable::NoGeneration);
        }
        let now = Instant::now();
        for (partition, seen) in self.served() {
            if !seen.complete {
                return Err(Unavailable::Incomplete);
            }
            if rests_on.holds(partition) && seen.age(now).is_none_or(|age| age > max_staleness) {
                return Err(Unavailable::Stale);
            }
        }
        let partitions: Vec<_> = self.served().map(|(partition, _)| partition).collect();
        rests_on.is_covered_by(&partitions.into_iter())
    }

    /// Why reads are refused, all or some; empty where none is. For humans.
    pub fn reasons(&self, max_staleness: Duration, now: Instant) -> Vec<String> {
        let mut reasons = Vec::new();
        reasons.extend(self.corrupt.iter().chain(&self.fault).map(ToString::to_string));
        if self.active.is_none() {
            reasons.push("no generation is active, or none was seen yet".to_owned());
        }
        for topic in Topic::ALL {
            if self.active.is_some() && !self.served().any(|(p, _)| p.topic == topic) {
                reasons.push(format!("no {topic:?} partition has a position").to_lowercase());
            }
        }
        for (partition, seen) in self.served() {
            let age = seen.age(now);
            let halt = seen.halt.as_ref().map(|halt| format!(": halted: {}: {}", halt.reason, halt.remedy));
            let halt = halt.or_else(|| seen.paused.as_ref().map(|paused| format!(": {paused}")));
            let halt = halt.unwrap_or_default();
            if let Some(zone) = self.other_zone(seen) {
                reasons.push(format!(
                    "{partition} is folded by days of {zone}, and answered by those of {}: set `zone` of this process to the former",
                    self.zone
                ));
            }
            if !seen.complete {
                reasons.push(format!("{partition} is not complete{halt}"));
            } else if age.is_none() {
                reasons.push(format!("{partition} has no fresh heartbeat{halt}"));
            } else if let Some(age) = age.filter(|age| *age > max_staleness) {
                reasons.push(format!("{partition} was last caught up {} s ago{halt}", age.as_secs()));
            }
        }
        reasons
    }

    /// Which partitions stand still though reads may still be fresh.
    pub fn halts(&self) -> Vec<String> {
        let halted = self.served().filter_map(|(partition, seen)| {
            let halt = seen
                .halt
                .as_ref()
                .map(|halt| format!("{partition} halted: {}: {}", halt.reason, halt.remedy));
            halt.or_else(|| seen.paused.as_ref().map(|paused| format!("{partition} {paused}")))
        });
        halted.collect()
    }
}

impl Seen {
    fn after(
        before: Option<&Seen>,
        checkpoint: Checkpoint,
        state: Option<&PartitionState>,
        asked: Instant,
    ) -> Seen {
        Seen {
            next: checkpoint.next,
            commit: checkpoint.commit,
            complete: checkpoint.complete,
            beat: state.map(|state| Beat::after(before.and_then(|before| before.beat), state, asked)),
            caught_up: before
                .filter(|before| !before.is_ahead_of(checkpoint.next, checkpoint.commit))
                .and_then(|before| before.caught_up.max(before.believed(state))),
            halt: state.and_then(|state| state.halt.clone()),
            paused: state.and_then(|state| state.paused.clone()),
            cut: state.and_then(|state| state.cut),
            zone: state.and_then(|state| state.zone.clone()),
        }
    }

    fn age(&self, now: Instant) -> Option<Duration> {
        Some(now.saturating_duration_since(self.caught_up?))
    }

    fn is_ahead_of(&self, next: Offset, commit: u64) -> bool {
        self.next > next || self.commit > commit
    }

    /// From which instant on the partition is known to have been caught up, if this later heartbeat is
    /// believed.
    fn believed(&self, state: Option<&PartitionState>) -> Option<Instant> {
        let (before, state) = (self.beat?, state?);
        if state.claim != before.claim || state.beat <= before.number {
            return None;
        }
        // The one before it, behind whose acknowledgement it was measured: that of the last sample, or one after it.
        let adjacent = state.beat == before.number.saturating_add(1);
        let measured_after = if adjacent { before.not_yet? } else { before.sampled };
        measured_after.checked_sub(Duration::from_millis(state.caught_up_ms_ago?))
    }
}

#[cfg(test)]
mod tests;
