//! One partition and its owner: claim, fold, commit, beat; refuse and begin again, or halt.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use foldhash::HashMap;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesOrdered};
use rdkafka::error::KafkaError;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    budget::Part,
    cache::{Cache, Place},
    pause::Pauses,
    quarantine::Poison,
    redrive::Redrives,
};
use crate::{
    domain::{Checkpoint, LastRecord, Offset, PREFETCHED, PartitionId, Subject, Time, encode_due},
    source::{poller::Progress, queue::Receiver},
    store::{
        CellWrite, Claimed, Commit, Halt, Owing, PartitionState, Position, Quarantine, QuarantineWrite,
        StoreError, Token,
    },
    telemetry::Seldom,
    traces,
};

mod gathering;
#[cfg(test)]
pub(super) mod tests;

use gathering::Gathering;

const BACKOFF_MS: (u64, u64) = (50, 2_000);
/// What is acknowledged so long after the claim is no failure that comes each time.
const WENT_WELL: Duration = Duration::from_secs(3);
/// About what a cell takes in a commit; more makes room for itself.
const CELL_BYTES: usize = 512;
/// What the cells of one commit weigh, about: where windows are full, fewer go out at once, for what is in flight is held
/// several times, here and on its way, and Redis is held for as long as it takes.
const COMMIT_WEIGHT_MAX: usize = 512 << 10;

/// Owns a partition until `stop`, or until the task is aborted because it was lost.
pub(super) async fn own(
    shared: Arc<Shared>,
    id: PartitionId,
    mut batches: Receiver,
    progress: Arc<Progress>,
    stop: CancellationToken,
) {
    let mut backoff_ms = BACKOFF_MS.0;
    let mut refused = false;
    let away = Seldom::default();
    while !stop.is_cancelled() {
        let claimed = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            claimed = claim(&shared, id) => claimed,
        };
        let ended = match claimed {
            Ok(claimed) => {
                shared.standing.metrics.claimed(id.topic);
                let mut session = Session::new(&shared, id, &progress, claimed);
                if refused {
                    // What was gathered is lost with each refusal: were they frequent, it would never get on.
                    session.gathering.goes_out_soon();
                }
                let ended = session.run(&mut batches, &stop).await;
                if session.went_well {
                    away.end();
                    backoff_ms = BACKOFF_MS.0;
                }
                ended
            }
            Err(error) => Ended::Refused(error),
        };
        refused = matches!(ended, Ended::Refused(_));
        shared.poller.hold(id);
        let rounds = shared.poller.rounds();
        match ended {
            Ended::Stopped => return,
            Ended::Suspect => tracing::warn!(partition = %id, "looking at the log again"),
            Ended::Refused(error) => {
                shared.standing.metrics.refused(remedy(&error));
                shared.standing.refused(id, &error);
                // A store that is away refuses each try; the others come one at a time.
                let away_again = matches!(error, StoreError::Transient { .. } | StoreError::Broker { .. });
                if !away_again || away.is_due() {
                    tracing::warn!(partition = %id, remedy = remedy(&error), %error, "refused");
                }
                let wait = match error {
                    StoreError::Fenced { .. } => Duration::from_millis(shared.settings.heartbeat_ms),
                    StoreError::Unchained { .. }
                    | StoreError::Missing { .. }
                    | StoreError::Guarded { .. } => Duration::from_millis(BACKOFF_MS.0),
                    StoreError::Transient { .. } | StoreError::Broker { .. } | StoreError::Corrupt { .. } => {
                        backoff_ms = backoff_ms.saturating_mul(2).min(BACKOFF_MS.1);
                        Duration::from_millis(backoff_ms)
                    }
                };
                wait_and_drain(wait, &mut batches, &stop).await;
            }
        }
        // Who has not polled since may have lost the partition without having been told.
        while shared.poller.rounds() < rounds.saturating_add(2) && !stop.is_cancelled() {
            wait_and_drain(Duration::from_millis(10), &mut batches, &stop).await;
        }
    }
}

async fn wait_and_drain(wait: Duration, batches: &mut Receiver, stop: &CancellationToken) {
    let timer = tokio::time::sleep(wait);
    tokio::pin!(timer);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = &mut timer => return,
            // Polled under an older claim; a closed queue is followed by `stop`.
            batch = batches.recv() => if batch.is_none() { stop.cancelled().await },
        }
    }
}

/// Takes the partition; where the store lost its position, gives birth to it again first.
async fn claim(shared: &Shared, id: PartitionId) -> Result<Claimed, StoreError> {
    let token = Token(rand::random());
    match shared.store.claim(shared.generation, id, token).await {
        Err(StoreError::Missing { .. }) => {
            shared.bear().await?;
            shared.store.claim(shared.generation, id, token).await
        }
        other => other,
    }
}

fn remedy(error: &StoreError) -> &'static str {
    match error {
        StoreError::Fenced { .. } => "fenced",
        StoreError::Unchained { .. } => "unchained",
        StoreError::Missing { .. } => "missing",
        StoreError::Guarded { .. } => "guarded",
        StoreError::Transient { .. } => "transient",
        StoreError::Broker { .. } => "broker",
        StoreError::Corrupt { .. } => "corrupt",
    }
}

/// Why a session is over.
enum Ended {
    /// An orderly stop: everything in flight is answered.
    Stopped,
    /// The store refused: drop everything and begin again with a claim.
    Refused(StoreError),
    /// The consumer met an offset that is not there.
    Suspect,
}

/// Why a batch was not folded to its end.
pub(super) enum Interrupt {
    Refused(StoreError),
    Halt(Halt),
}

impl From<StoreError> for Interrupt {
    fn from(error: StoreError) -> Self {
        Interrupt::Refused(error)
    }
}

/// What is folded and not yet sent.
#[derive(Default)]
pub(super) struct Pending {
    /// Each once. A changed cell keeps its place until a commit has written it.
    pub(super) cells: Vec<Place>,
    /// What they weighed when they changed first.
    pub(super) weight: usize,
    pub(super) quarantines: HashMap<Subject, QuarantineWrite>,
    pub(super) dead_letters: Vec<BoxFuture<'static, Result<(), KafkaError>>>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.cells.is_empty() && self.quarantines.is_empty() && self.dead_letters.is_empty()
    }
}

/// One claim of one partition.
pub(super) struct Session<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) id: PartitionId,
    progress: &'a Progress,
    /// The number of the claim, on every batch polled for it.
    claim: u64,
    /// What the last commit sent leaves behind.
    sent: Position,
    /// What the last commit acknowledged left behind.
    pub(super) acknowledged: Position,
    /// When and where the claim began.
    claimed: (Instant, Offset),
    /// It brought something.
    went_well: bool,
    in_flight: FuturesOrdered<BoxFuture<'static, Result<Position, StoreError>>>,
    pub(super) cache: Cache,
    part: Part<'a>,
    pub(super) quarantined: HashMap<Subject, Quarantine>,
    pub(super) pending: Pending,
    /// Where the fold stands.
    pub(super) next: Offset,
    pub(super) last: Option<LastRecord>,
    /// The record before the checkpoint, to be read again before anything is folded.
    pub(super) to_verify: Option<LastRecord>,
    ends: VecDeque<(Instant, Offset)>,
    /// Where the fold stood, and since when at the latest.
    stood: Option<(Instant, Offset)>,
    /// Samples of the end below where the fold already stood when they were asked for, one after the other.
    ends_short: u32,
    caught_up: Option<Instant>,
    pub(super) poison: Poison,
    /// The halt is for too many dead letters.
    pub(super) poisoned: bool,
    pub(super) redrives: Redrives,
    halt: Option<Halt>,
    /// The halt is for the store's sake.
    troubled: bool,
    gathering: Gathering,
    /// Told to stand still, and by whom.
    paused: Option<String>,
    pauses: Pauses,
    suspect_round: u64,
    beat: Beat,
    /// Where traces are followed, and nowhere else.
    pub(super) traced: Option<traces::Records>,
}

struct Beat {
    claim: u64,
    number: u64,
    due: bool,
    /// The commit of the last one. No age is measured before it is acknowledged: readers count on that.
    commit: u64,
}

impl<'a> Session<'a> {
    fn new(shared: &'a Arc<Shared>, id: PartitionId, progress: &'a Progress, claimed: Claimed) -> Self {
        let checkpoint = claimed.position.checkpoint;
        Session {
            shared,
            id,
            progress,
            claim: shared.next_claim(),
            sent: claimed.position,
            acknowledged: claimed.position,
            claimed: (Instant::now(), checkpoint.next),
            went_well: false,
            in_flight: FuturesOrdered::new(),
            cache: Cache::default(),
            part: shared.budget.part(),
            quarantined: claimed.quarantined.into_iter().collect(),
            pending: Pending::default(),
            next: checkpoint.next,
            last: checkpoint.last,
            to_verify: None,
            ends: VecDeque::new(),
            stood: None,
            ends_short: 0,
            caught_up: None,
            poison: Poison::default(),
            poisoned: false,
            redrives: Redrives::new(shared.amendments(), id),
            halt: None,
            troubled: false,
            gathering: Gathering::from(checkpoint.next),
            paused: None,
            pauses: Pauses::default(),
            suspect_round: shared.suspects(),
            beat: Beat { claim: rand::random(), number: 0, due: true, commit: 0 },
            traced: traces::records(
                &shared.cluster.settings().group,
                shared.cluster.topic_name(id.topic),
                id.partition,
            ),
        }
    }

    async fn run(&mut self, batches: &mut Receiver, stop: &CancellationToken) -> Ended {
        match self.look_at_the_log().await {
            Ok(from) => {
                self.paused = self.look_at_pauses();
                if self.paused.is_none() {
                    self.shared.poller.seek(self.id, self.claim, from);
                }
            }
            Err(Interrupt::Halt(halt)) => self.halt(halt),
            Err(Interrupt::Refused(error)) => return Ended::Refused(error),
        }
        match self.follow(batches, stop).await {
            Ok(ended) => ended,
            Err(error) => Ended::Refused(error),
        }
    }

    async fn follow(
        &mut self,
        batches: &mut Receiver,
        stop: &CancellationToken,
    ) -> Result<Ended, StoreError> {
        let mut watched = self.shared.watched.clone();
        watched.mark_changed();
        let mut decisions = self.shared.decisions.clone();
        decisions.mark_changed();
        let mut ticks = tokio::time::interval(Duration::from_millis(self.shared.settings.heartbeat_ms));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let room = self.in_flight.len() < self.shared.settings.commits_in_flight_max;
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    self.make_room().await?;
                    self.send().await?;
                    self.settle().await?;
                    return Ok(Ended::Stopped);
                }
                Some(result) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    self.acknowledge(result?);
                    let waits = !self.pending.is_empty() || self.next > self.sent.checkpoint.next;
                    if waits && self.gathers() {
                        self.beat().await;
                    } else if waits || self.beat_is_due() {
                        self.send().await?;
                    }
                }
                _ = ticks.tick() => {
                    self.beat.due = true;
                    self.keep_to_part();
                    // A pause with a lease ends by itself.
                    self.obey_pauses().await?;
                    if let Err(ended) = self.redrive().await {
                        self.interrupted(ended)?;
                    }
                    let over = self.troubled && self.shared.trouble().is_none();
                    if self.shared.suspects() != self.suspect_round && (self.halt.is_none() || over) {
                        self.settle().await?;
                        return Ok(Ended::Suspect);
                    }
                    if room && self.goes_on_gathering() {
                        self.beat().await;
                    } else if room {
                        self.send().await?;
                    }
                }
                changed = watched.changed() => {
                    // Without its watcher the process has nothing to say about freshness.
                    if changed.is_err() {
                        self.shared.give_up("the log's ends are watched no more".to_owned());
                        stop.cancelled().await;
                    }
                    let watched = watched.borrow_and_update().clone();
                    self.watch(&watched);
                }
                changed = decisions.changed() => {
                    if changed.is_err() {
                        self.shared.give_up("decisions are followed no more".to_owned());
                        stop.cancelled().await;
                    }
                    self.obey_pauses().await?;
                    if self.learn() {
                        tracing::info!(partition = %self.id, "an operator lets it go on");
                        self.settle().await?;
                        return Ok(Ended::Suspect);
                    }
                    if let Err(ended) = self.redrive().await {
                        self.interrupted(ended)?;
                    }
                }
                finished = self.redrives.finished() => {
                    if let Err(ended) = self.take_over(finished).await {
                        self.interrupted(ended)?;
                    }
                }
                batch = batches.recv(), if room && self.halt.is_none() && self.paused.is_none() => {
                    let Some(batch) = batch else { stop.cancelled().await; continue };
                    if batch.claim != self.claim {
                        continue;
                    }
                    if let Err(ended) = self.fold_batch(&batch).await {
                        self.interrupted(ended)?;
                    }
                    if self.redrives.is_called_for()
                        && let Err(ended) = self.redrive().await
                    {
                        self.interrupted(ended)?;
                    }
                    if self.is_due() {
                        // The batch may have sent one itself.
                        self.make_room().await?;
                        self.send().await?;
                    }
                }
            }
        }
    }

    /// Checks that the log still holds what the checkpoint needs; the offset to read from.
    async fn look_at_the_log(&mut self) -> Result<Offset, Interrupt> {
        let (low, high) = self.shared.watermarks(self.id).await.map_err(|error| StoreError::Broker {
            reason: format!("the broker did not name the watermarks of {}: {error}", self.id),
        })?;
        let partition = self.shared.cluster.display(self.id);
        let next = self.next;
        if next.0 < low {
            return Err(Interrupt::Halt(Halt {
                reason: format!(
                    "{partition} begins at offset {low}, the checkpoint needs {next}: retention has removed records that were not folded"
                ),
                remedy: "restore the records, or rebuild from the log's start or from a snapshot".to_owned(),
            }));
        }
        if next.0 > high {
            return Err(Interrupt::Halt(Halt {
                reason: format!(
                    "{partition} ends at offset {high}, the checkpoint is at {next}: the log lost records, or the topic was made anew"
                ),
                remedy: "restore the topic, or rebuild into a new generation".to_owned(),
            }));
        }
        self.to_verify = self.last.filter(|last| last.offset.0 >= low);
        Ok(self.to_verify.map_or(next, |last| last.offset))
    }

    fn interrupted(&mut self, interrupt: Interrupt) -> Result<(), StoreError> {
        match interrupt {
            Interrupt::Refused(error) => Err(error),
            Interrupt::Halt(halt) => {
                self.halt(halt);
                Ok(())
            }
        }
    }

    /// Whether nothing may change now, or it is not known yet whether the log is the one that was folded.
    pub(super) fn stands_still(&self) -> bool {
        self.halt.is_some() || self.paused.is_some() || self.to_verify.is_some()
    }

    fn halt(&mut self, halt: Halt) {
        if self.halt.is_none() {
            tracing::error!(partition = %self.id, reason = %halt.reason, remedy = %halt.remedy, "halted");
            self.shared.poller.hold(self.id);
            self.halt = Some(halt);
            self.beat.due = true;
        }
    }

    fn look_at_pauses(&mut self) -> Option<String> {
        let decisions = Arc::clone(&self.shared.decisions.borrow());
        self.pauses.look(&decisions, self.shared.generation, self.id.topic, Instant::now())
    }

    /// Stands still, or goes on. The heartbeat that tells of a pause is sent behind all that is folded: whoever
    /// reads it knows that the position stands.
    async fn obey_pauses(&mut self) -> Result<(), StoreError> {
        let told = self.look_at_pauses();
        let changes = told.is_some() != self.paused.is_some();
        self.paused = told;
        if !changes {
            return Ok(());
        }
        tracing::info!(partition = %self.id, paused = self.paused.is_some(), "an operator's decision");
        if self.paused.is_some() {
            self.shared.poller.hold(self.id);
        } else if self.halt.is_none() {
            let from = self.to_verify.map_or(self.next, |last| last.offset);
            self.shared.poller.seek(self.id, self.claim, from);
        }
        self.beat.due = true;
        self.make_room().await?;
        self.send().await
    }

    fn watch(&mut self, watched: &crate::source::watch::Watched) {
        if let Some(found) = watched.repartitioned.get(&self.id.topic) {
            let topic = self.shared.cluster.topic_name(self.id.topic);
            let pinned = self.shared.birth.counts().get(&self.id.topic).copied().unwrap_or_default();
            self.halt(Halt {
                reason: format!(
                    "topic {topic} has {found} partitions, the generation pins {pinned}: keys may have moved"
                ),
                remedy: "publish to a new topic with that many partitions and rebuild".to_owned(),
            });
        }
        if let Some(halt) = self.shared.trouble() {
            self.troubled |= self.halt.is_none();
            self.halt(halt);
        }
        let Some(end) = watched.ends.get(&self.id) else { return };
        if self.ends.back().is_some_and(|(asked, _)| *asked >= end.asked) {
            return;
        }
        self.shared.standing.metrics.lag(self.id, end.offset.0.saturating_sub(self.next.0).max(0));
        // Where the log was cut, one that is not reached any more must not stand before those that are.
        while self.ends.back().is_some_and(|(_, before)| *before > end.offset) {
            self.ends.pop_back();
        }
        self.ends.push_back((end.asked, end.offset));
        // A bound, not a rule: an older sample says less than a newer one that is reached.
        if self.ends.len() > 240 {
            self.ends.pop_front();
        }
        // An end says nothing of what was folded after the broker was asked: under load that is the rule.
        match self.stood {
            Some((since, _)) if end.asked <= since => {}
            Some((_, stood)) if end.offset < stood => {
                self.ends_short = self.ends_short.saturating_add(1);
                self.stood = Some((Instant::now(), self.next));
            }
            Some(_) | None => {
                self.ends_short = 0;
                self.stood = Some((Instant::now(), self.next));
            }
        }
        if self.ends_short >= 2 {
            let partition = self.shared.cluster.display(self.id);
            self.halt(Halt {
                reason: format!("{partition} ends at offset {}, {} are folded: the log lost records, or the topic was made anew", end.offset, self.next),
                remedy: "restore the topic, or rebuild into a new generation".to_owned(),
            });
        }
    }

    /// Whether what is folded is as much as one commit takes.
    pub(super) fn fills_a_commit(&self) -> bool {
        self.fills_a_part(1)
    }

    pub(super) fn is_half_full(&self) -> bool {
        self.fills_a_part(2)
    }

    fn fills_a_part(&self, of: usize) -> bool {
        self.pending.cells.len().saturating_mul(of) >= self.cells_max()
            || self.pending.weight.saturating_mul(of) >= COMMIT_WEIGHT_MAX
    }

    /// The most cells in a commit.
    fn cells_max(&self) -> usize {
        self.shared.settings.batch_cells_max.min(self.shared.store.cells_max()).max(1)
    }

    pub(super) async fn make_room(&mut self) -> Result<(), StoreError> {
        while self.in_flight.len() >= self.shared.settings.commits_in_flight_max {
            if let Some(result) = self.in_flight.next().await {
                self.acknowledge(result?);
            }
        }
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), StoreError> {
        while let Some(result) = self.in_flight.next().await {
            self.acknowledge(result?);
        }
        Ok(())
    }

    fn acknowledge(&mut self, position: Position) {
        self.acknowledged = position;
        // That a heartbeat was acknowledged says little: what is refused each time may come behind it.
        let (began, at) = self.claimed;
        if position.checkpoint.next > at || began.elapsed() > WENT_WELL {
            self.went_well = true;
            self.shared.standing.goes_well(self.id);
        }
        self.progress.acknowledged(position.checkpoint.next);
        self.shared.standing.metrics.committed(self.id.topic);
    }

    /// Sends what is folded, or an empty commit where a heartbeat is due. Dead letters are acknowledged first:
    /// a crash after the commit would lose them.
    pub(super) async fn send(&mut self) -> Result<(), StoreError> {
        let mut pending = std::mem::take(&mut self.pending);
        if pending.is_empty() && self.next == self.sent.checkpoint.next && !self.beat_is_due() {
            return Ok(());
        }
        if !pending.dead_letters.is_empty() {
            // A commit that waits for its turn in the store would keep it from others, for as long as the broker takes.
            self.settle().await?;
        }
        for delivery in futures::future::join_all(pending.dead_letters.drain(..)).await {
            delivery.map_err(|error| StoreError::Broker {
                reason: format!("a dead letter or a home of {} was not acknowledged: {error}", self.id),
            })?;
        }
        if self.next > self.sent.checkpoint.next {
            self.gathering.begin();
        }
        self.write_ahead(&mut pending).await?;
        let to = Checkpoint { next: self.next, last: self.last, ..self.sent.checkpoint.with_next_commit() };
        let to = self.catch_up(to);
        let state = self.beat_is_due().then(|| self.state(to));
        let mut commit = self.commit_to(to, &pending.cells);
        commit.quarantines = pending.quarantines.into_values().collect();
        commit.state = state;
        let traced = self.traced.as_mut().and_then(|traced| traced.sent(commit.cells.len()));
        if commit.quarantines.iter().any(|mark| mark.unless_changed.is_some()) {
            self.settle().await?;
            let ended = self.ended(&commit, traced);
            let stored = self.commit_guarded(&mut commit).await;
            self.acknowledge(ended(stored)?);
            return Ok(());
        }
        self.put_in_flight(commit, traced).await;
        Ok(())
    }

    fn beat_is_due(&self) -> bool {
        self.beat.due && self.beat.commit <= self.acknowledged.checkpoint.commit
    }

    /// A heartbeat alone: what is folded stays.
    async fn beat(&mut self) {
        if !self.beat_is_due() {
            return;
        }
        let to = self.sent.checkpoint.with_next_commit();
        let mut commit = self.commit_to(to, &[]);
        commit.state = Some(self.state(to));
        self.put_in_flight(commit, None).await;
    }

    /// The next commit of the chain.
    fn commit_to(&mut self, to: Checkpoint, places: &[Place]) -> Commit {
        let from = std::mem::replace(&mut self.sent.checkpoint, to);
        let (cells, owing) = self.write_cells(places, to.commit);
        Commit {
            generation: self.shared.generation,
            partition: self.id,
            from: Position { checkpoint: from, ..self.sent },
            to,
            owing,
            cells,
            quarantines: Vec::new(),
            state: None,
        }
    }

    async fn put_in_flight(&mut self, commit: Commit, traced: Option<traces::Sent>) {
        let (store, ended) = (Arc::clone(&self.shared.store), self.ended(&commit, traced));
        let mut in_flight = async move { ended(store.commit(&commit).await) }.boxed();
        // Polled once here: commits reach the store in the order in which they are first polled.
        match futures::poll!(&mut in_flight) {
            std::task::Poll::Ready(result) => self.in_flight.push_back(std::future::ready(result).boxed()),
            std::task::Poll::Pending => self.in_flight.push_back(in_flight),
        }
    }

    /// What follows the store's answer to a commit: where that leaves the position.
    fn ended(
        &self,
        commit: &Commit,
        traced: Option<traces::Sent>,
    ) -> impl FnOnce(Result<(), StoreError>) -> Result<Position, StoreError> + Send + 'static {
        let (sent, metrics) = (self.sent, self.shared.standing.metrics.clone());
        let (topic, cells, began) = (self.id.topic, commit.cells.len(), Instant::now());
        move |stored| {
            if let Some(traced) = traced {
                traced.ended(stored.as_ref().copied().map_err(remedy));
            }
            stored?;
            metrics.wrote(topic, cells, began.elapsed());
            Ok(sent)
        }
    }

    /// Cells as they go out with a commit, and what customers owe on them, side by side in one piece of memory.
    fn write_cells(&mut self, places: &[Place], commit: u64) -> (Vec<CellWrite>, Vec<Owing>) {
        let mut packed = Vec::with_capacity(places.len().saturating_mul(CELL_BYTES));
        let (mut written, mut owed) = (Vec::with_capacity(places.len()), Vec::new());
        for several in places.chunks(PREFETCHED) {
            // They were folded some time ago.
            self.cache.prefetch(several.iter().copied());
            for place in several {
                let start = packed.len();
                let Some(cell) = self.cache.write(*place, commit, &mut packed) else { continue };
                written.push((cell.key.clone(), cell.born, start..packed.len()));
                let Some((account, dues, opened)) = cell.owed else { continue };
                for (customer, amounts) in dues.dues() {
                    let start = packed.len();
                    encode_due(amounts, &mut packed);
                    owed.push((customer.clone(), account.clone(), start..packed.len(), opened));
                }
            }
        }
        let packed = Bytes::from(packed);
        let write = |(key, born, range)| CellWrite { key, born, value: packed.slice(range) };
        let owe = |(customer, account, range, opened)| Owing {
            customer,
            account,
            due: packed.slice(range),
            opened,
        };
        (written.into_iter().map(write).collect(), owed.into_iter().map(owe).collect())
    }

    /// Caught up as of the newest instant at which the broker named an end that this checkpoint has reached.
    fn catch_up(&mut self, to: Checkpoint) -> Checkpoint {
        if self.halt.is_some() || self.to_verify.is_some() {
            return to;
        }
        while let Some((asked, _)) = self.ends.front().filter(|(_, end)| *end <= to.next) {
            self.caught_up = Some(*asked);
            self.ends.pop_front();
        }
        Checkpoint { complete: to.complete || self.caught_up.is_some(), ..to }
    }

    fn state(&mut self, to: Checkpoint) -> PartitionState {
        self.beat.number = self.beat.number.saturating_add(1);
        (self.beat.due, self.beat.commit) = (false, to.commit);
        let waiting = self.quarantined.values().fold(0_u64, |sum, q| sum.saturating_add(q.waiting));
        let quarantined_keys = u64::try_from(self.quarantined.len()).unwrap_or(u64::MAX);
        let state = PartitionState {
            claim: self.beat.claim,
            beat: self.beat.number,
            caught_up_ms_ago: self
                .caught_up
                .map(|asked| u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX)),
            next: to.next,
            high_watermark: self.shared.watched.borrow().ends.get(&self.id).map(|end| end.offset),
            halt: self.halt.clone(),
            paused: self.paused.clone(),
            cut: self.shared.birth.cut(self.id),
            zone: Some(self.shared.birth.parameters.zone.clone()),
            quarantined_keys,
            waiting_records: waiting,
            owner: self.shared.instance.clone(),
        };
        let metrics = &self.shared.standing.metrics;
        metrics.cached(self.id, self.cache.weight());
        metrics.retention_ends(self.id, self.retention_ends(&state));
        self.shared.standing.beat(self.id, to.complete, state.clone());
        state
    }

    /// Forgets cells beyond the partition's part of the memory, as far as the store has them. Not amid a batch, whose
    /// records know their cells by place.
    pub(super) fn keep_to_part(&mut self) {
        self.part.weighs(self.cache.weight());
        self.cache.shrink(self.part.bytes_max(), self.acknowledged.checkpoint.commit);
        self.part.weighs(self.cache.weight());
    }

    /// When retention by time may remove the first record that still has to be read: that on which the oldest
    /// quarantine waits, or the first that is not folded, which is not older than the last folded one.
    fn retention_ends(&self, state: &PartitionState) -> Option<Time> {
        let kept = self.shared.watched.borrow().retention.get(&self.id.topic).copied()?;
        let held = self.quarantined.values().map(|quarantine| quarantine.since).min();
        let behind = state.high_watermark.is_some_and(|end| end > self.next);
        let last = self.last.filter(|_| behind).map(|last| Time::from_millis(last.timestamp_ms));
        let oldest = held.into_iter().chain(last).min()?;
        oldest.0.checked_add(jiff::SignedDuration::try_from(kept).ok()?).ok().map(Time)
    }
}
