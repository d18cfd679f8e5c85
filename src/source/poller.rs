//! The polling thread: one consumer of the group, one lane per assigned partition.
//!
//! Partitions are assigned paused: their owner claims them first, and then asks for a seek to where the
//! checkpoint stands. Kafka's committed offsets feed lag tools and nothing else.

mod member;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rdkafka::{
    Offset as KafkaOffset, TopicPartitionList,
    consumer::{CommitMode, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, Message},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::member::{Change, Member};
use super::{
    Cluster,
    batch::{self, Batch},
    queue::{self, Room},
    watch::Watched,
};
use crate::domain::{Offset, PartitionId};

/// How long an empty poll waits; bounds how late a seek or a stop is seen.
const IDLE_POLL: Duration = Duration::from_millis(20);
/// The same where records wait for an owner that is busy.
const BUSY_POLL: Duration = Duration::from_millis(1);
/// A full queue is waited for; past this the partition is paused, though it costs the prefetch.
const BLOCKED_MAX: Duration = Duration::from_secs(1);
const BATCH_BYTES_MAX: usize = 1 << 20;
/// An answer to others that is older says nothing of now.
const ANSWERING: Duration = Duration::from_secs(3);
const COMMIT_EVERY: Duration = Duration::from_secs(5);

/// Who takes the records of the assigned partitions.
pub trait Owner: Send + Sync + 'static {
    /// The partition is assigned, paused: claim it, then [`Handle::seek`].
    fn assign(&self, id: PartitionId, batches: queue::Receiver, progress: Arc<Progress>);

    /// Finish what is in flight for these partitions and let go of them; blocks within a bound. With `lost`
    /// others may own them already: nothing is worth finishing.
    fn revoke(&self, ids: &[PartitionId], lost: bool);

    /// The consumer found an offset that the log does not hold, somewhere: look where.
    fn suspect(&self);
}

/// How far a partition is committed in the store, for Kafka's committed offsets.
#[derive(Debug)]
pub struct Progress(AtomicI64);

impl Default for Progress {
    /// Nothing is known to be committed.
    fn default() -> Self {
        Progress(AtomicI64::new(-1))
    }
}

impl Progress {
    /// The store acknowledged a checkpoint.
    pub fn acknowledged(&self, next: Offset) {
        self.0.store(next.0, Ordering::Relaxed);
    }
}

enum Command {
    Seek { id: PartitionId, claim: u64, offset: Offset },
    Hold { id: PartitionId },
}

/// The workers' side of the polling thread.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    rounds: Arc<AtomicU64>,
}

impl Handle {
    /// Delivers the partition from `offset` on, in batches that bear `claim`.
    pub fn seek(&self, id: PartitionId, claim: u64, offset: Offset) {
        self.send(Command::Seek { id, claim, offset });
    }

    /// Delivers nothing of the partition until the next [`Handle::seek`]; it stays assigned.
    pub fn hold(&self, id: PartitionId) {
        self.send(Command::Hold { id });
    }

    /// How many times the thread has polled: a thread that does not may have lost its partitions unseen.
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }

    fn send(&self, command: Command) {
        // The thread is gone only when the process stops: then nobody needs the partition.
        drop(self.commands.send(command));
    }
}

/// Bounds of what the thread hands over.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The most records in a batch.
    pub batch_records_max: usize,
    /// Memory for batches that wait, over all partitions.
    pub queue_bytes_max: usize,
    /// How long the client may be in no group while the brokers answer others.
    pub outside_max: Duration,
}

/// What goes between the parts of the thread before it runs.
pub struct Prepared {
    commands: mpsc::Receiver<Command>,
    handle: Handle,
}

/// Makes the handle that the owner needs before the thread starts.
pub fn prepare() -> (Handle, Prepared) {
    let (sender, commands) = mpsc::channel();
    let handle = Handle { commands: sender, rounds: Arc::new(AtomicU64::new(0)) };
    (handle.clone(), Prepared { commands, handle })
}

#[cfg(test)]
impl Prepared {
    /// As if the thread had polled once more.
    pub fn round(&self) {
        self.handle.rounds.fetch_add(1, Ordering::Relaxed);
    }

    /// What owners asked for since: to be sent to an offset for a claim, or nothing more.
    pub fn asked(&self) -> Vec<Option<(u64, Offset)>> {
        let asked = |command| match command {
            Command::Seek { claim, offset, .. } => Some((claim, offset)),
            Command::Hold { .. } => None,
        };
        self.commands.try_iter().map(asked).collect()
    }
}

/// Joins the group and polls until `stop`; then the owner lets go of every partition.
pub fn spawn(
    cluster: &Cluster,
    owner: Arc<dyn Owner>,
    bounds: Bounds,
    watched: watch::Receiver<Watched>,
    prepared: Prepared,
    stop: CancellationToken,
) -> Result<JoinHandle<Result<(), KafkaError>>, KafkaError> {
    batch::hush_header_panics();
    let mut poller = Poller {
        member: Member::join(cluster, &owner)?,
        cluster: cluster.clone(),
        owner,
        lanes: HashMap::new(),
        bounds,
        watched,
        answering: None,
        room: Room::new(bounds.queue_bytes_max),
        commands: prepared.commands,
        sought: HashMap::new(),
        handle: prepared.handle,
        committed_at: Instant::now(),
    };
    std::thread::Builder::new()
        .name("poller".to_owned())
        .spawn(move || poller.run(&stop))
        .map_err(|error| KafkaError::ClientCreation(format!("no thread for polling: {error}")))
}

struct Poller {
    cluster: Cluster,
    member: Member,
    owner: Arc<dyn Owner>,
    /// What other clients of this process hear from the brokers.
    watched: watch::Receiver<Watched>,
    /// Since when they have heard without a break.
    answering: Option<Instant>,
    lanes: HashMap<PartitionId, Lane>,
    bounds: Bounds,
    room: Arc<Room>,
    commands: mpsc::Receiver<Command>,
    /// Where owners asked to be sent, and are not yet: what they ask for since takes its place.
    sought: HashMap<PartitionId, (u64, Offset)>,
    handle: Handle,
    committed_at: Instant,
}

struct Lane {
    batches: queue::Sender,
    progress: Arc<Progress>,
    committed: i64,
    /// The claim that the consumer's position belongs to; `None` while held.
    claim: Option<u64>,
    building: Batch,
    /// The furthest offset handed over.
    handed: Offset,
    /// What the full queue did not take; not empty only while paused for it.
    parked: VecDeque<Batch>,
}

impl Poller {
    fn run(&mut self, stop: &CancellationToken) -> Result<(), KafkaError> {
        while !stop.is_cancelled() {
            self.handle.rounds.fetch_add(1, Ordering::Relaxed);
            self.join_again_if_outside();
            self.hold_if_made_anew();
            self.obey();
            self.unpark();
            self.poll_available()?;
            let all = self.hand_over_to_idle();
            self.hand_over_positions();
            self.commit_progress(CommitMode::Async);
            if let Some(result) = self.member.consumer.poll(if all { IDLE_POLL } else { BUSY_POLL })
                && !self.member.told.made_anew.load(Ordering::Acquire)
            {
                let full = Self::take(&self.cluster, self.bounds, &mut self.lanes, &self.owner, result)?;
                if let Some(id) = full {
                    self.hand_over(id);
                }
            }
            self.adopt_changes();
        }
        let ids: Vec<PartitionId> = self.lanes.keys().copied().collect();
        self.owner.revoke(&ids, false);
        self.commit_progress(CommitMode::Sync);
        self.lanes.clear();
        self.member.consumer.unsubscribe();
        Ok(())
    }

    /// A client that lost all its brokers may not find back, and says nothing: where others have been answered for a
    /// while and it is in no group all the same, another one takes its place.
    fn join_again_if_outside(&mut self) {
        let heard = self.watched.borrow().ends.values().map(|end| end.asked).max();
        if heard.is_none_or(|heard| heard.elapsed() > ANSWERING) {
            self.answering = None;
            return;
        }
        let answering = self.answering.get_or_insert_with(Instant::now).elapsed();
        let outside = *self.member.told.outside.lock().unwrap_or_else(PoisonError::into_inner);
        let outside = outside.map_or(Duration::ZERO, |since| since.elapsed());
        if answering.min(outside) < self.bounds.outside_max {
            return;
        }
        tracing::warn!(
            "brokers answer, and the client has found no way back to its group: another takes its place"
        );
        let before = match Member::join(&self.cluster, &self.owner) {
            Ok(another) => std::mem::replace(&mut self.member, another),
            Err(error) => {
                tracing::warn!(%error, "no other client could be made: it is tried again");
                self.answering = None;
                return;
            }
        };
        before.told.replaced.store(true, Ordering::Release);
        // Whoever is in no group has lost what it had.
        let ids: Vec<PartitionId> = self.lanes.keys().copied().collect();
        self.owner.revoke(&ids, true);
        self.lanes.clear();
        self.sought.clear();
        super::discard(before);
    }

    /// Takes what is prefetched, up to a round's worth: seeks and rebalances are not to wait for long.
    fn poll_available(&mut self) -> Result<(), KafkaError> {
        for _ in 0..10_000 {
            let Some(result) = self.member.consumer.poll(Duration::ZERO) else { break };
            if self.member.told.made_anew.load(Ordering::Acquire) {
                break;
            }
            let full = Self::take(&self.cluster, self.bounds, &mut self.lanes, &self.owner, result)?;
            if let Some(id) = full {
                self.hand_over(id);
            }
        }
        self.adopt_changes();
        Ok(())
    }

    /// Copies a message into the batch of its partition; names the partition whose batch is full.
    fn take(
        cluster: &Cluster,
        bounds: Bounds,
        lanes: &mut HashMap<PartitionId, Lane>,
        owner: &Arc<dyn Owner>,
        result: Result<BorrowedMessage<'_>, KafkaError>,
    ) -> Result<Option<PartitionId>, KafkaError> {
        match result {
            Ok(message) => {
                let Some(topic) = cluster.topic(message.topic()) else { return Ok(None) };
                let id = PartitionId { topic, partition: message.partition() };
                let Some(lane) = lanes.get_mut(&id) else { return Ok(None) };
                let Some(claim) = lane.claim else { return Ok(None) };
                lane.building.claim = claim;
                lane.building.push(&message);
                lane.handed = lane.handed.max(Offset(message.offset()).next());
                let full = lane.building.len() >= bounds.batch_records_max
                    || lane.building.bytes() >= BATCH_BYTES_MAX;
                Ok(full.then_some(id))
            }
            Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange,
            )) => {
                owner.suspect();
                Ok(None)
            }
            Err(fatal @ KafkaError::MessageConsumptionFatal(_)) => Err(fatal),
            Err(error) => {
                super::tell(&error, "polling");
                Ok(None)
            }
        }
    }

    /// Hands over what is there to owners with nothing to do; the batches of the others go on growing. Tells
    /// whether everything is handed over.
    fn hand_over_to_idle(&mut self) -> bool {
        let waiting = |(_, lane): &(&PartitionId, &Lane)| !lane.building.is_empty();
        let idle = |(id, lane): (&PartitionId, &Lane)| lane.batches.is_empty().then_some(*id);
        let total = self.lanes.iter().filter(waiting).count();
        let ready: Vec<PartitionId> = self.lanes.iter().filter(waiting).filter_map(idle).collect();
        for id in &ready {
            self.hand_over(*id);
        }
        ready.len() == total
    }

    /// Waits for a place in the queue; past [`BLOCKED_MAX`] the partition is paused and the batch parked.
    fn hand_over(&mut self, id: PartitionId) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let room = lane.building.another();
        let batch = std::mem::replace(&mut lane.building, room);
        if !lane.parked.is_empty() {
            lane.parked.push_back(batch);
            return;
        }
        let blocked_since = Instant::now();
        let mut batch = batch;
        loop {
            match lane.batches.try_send(batch) {
                Ok(()) => return,
                Err(back) => batch = back,
            }
            if blocked_since.elapsed() > BLOCKED_MAX {
                break;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        lane.parked.push_back(batch);
        if let Err(error) = self.member.consumer.pause(&self.cluster.list([id])) {
            tracing::warn!(%error, partition = %id, "pausing a blocked partition");
        }
    }

    fn unpark(&mut self) {
        for (id, lane) in &mut self.lanes {
            if lane.parked.is_empty() {
                continue;
            }
            while let Some(batch) = lane.parked.pop_front() {
                if let Err(back) = lane.batches.try_send(batch) {
                    lane.parked.push_front(back);
                    break;
                }
            }
            if lane.parked.is_empty()
                && lane.claim.is_some()
                && let Err(error) = self.member.consumer.resume(&self.cluster.list([*id]))
            {
                tracing::warn!(%error, partition = %id, "resuming a blocked partition");
            }
        }
    }

    /// After an empty poll the position has passed the markers of transactions: the fold follows.
    fn hand_over_positions(&mut self) {
        let Ok(positions) = self.member.consumer.position() else { return };
        if self.member.told.made_anew.load(Ordering::Acquire) {
            return;
        }
        for element in positions.elements() {
            let Some(topic) = self.cluster.topic(element.topic()) else { continue };
            let id = PartitionId { topic, partition: element.partition() };
            let (Some(lane), KafkaOffset::Offset(offset)) = (self.lanes.get_mut(&id), element.offset())
            else {
                continue;
            };
            let (Some(claim), true) = (lane.claim, Offset(offset) > lane.handed && lane.is_handed_over())
            else {
                continue;
            };
            let mut batch = Batch::new(claim);
            batch.advance = Some(Offset(offset));
            if lane.batches.try_send(batch).is_ok() {
                lane.handed = Offset(offset);
            }
        }
    }

    /// Delivers nothing until the owners have looked at the log again.
    fn hold_if_made_anew(&mut self) {
        if self.member.told.made_anew.swap(false, Ordering::AcqRel) {
            self.sought.clear();
            tracing::warn!("a topic has another id than before: every partition is looked at again");
            for lane in self.lanes.values_mut() {
                lane.hold();
            }
            if let Err(error) = self.member.consumer.pause(&self.cluster.list(self.lanes.keys().copied())) {
                tracing::warn!(%error, "holding every partition");
            }
            self.owner.suspect();
        }
    }

    fn obey(&mut self) {
        for command in self.commands.try_iter().collect::<Vec<_>>() {
            match command {
                Command::Seek { id, claim, offset } => {
                    self.sought.insert(id, (claim, offset));
                }
                Command::Hold { id } => {
                    self.sought.remove(&id);
                    if let Some(lane) = self.lanes.get_mut(&id) {
                        lane.hold();
                        if let Err(error) = self.member.consumer.pause(&self.cluster.list([id])) {
                            tracing::warn!(%error, partition = %id, "holding a partition");
                        }
                    }
                }
            }
        }
        for (id, (claim, offset)) in std::mem::take(&mut self.sought) {
            self.seek(id, claim, offset);
        }
    }

    fn seek(&mut self, id: PartitionId, claim: u64, offset: Offset) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.hold();
        let topic = self.cluster.topic_name(id.topic);
        let sought = self
            .member
            .consumer
            .seek(topic, id.partition, KafkaOffset::Offset(offset.0), Duration::from_secs(1))
            .and_then(|()| self.member.consumer.resume(&self.cluster.list([id])));
        match sought {
            Ok(()) => {
                lane.claim = Some(claim);
                lane.building = Batch::new(claim);
                lane.handed = offset;
            }
            Err(error) => {
                // Just assigned: librdkafka refuses until its own state has followed.
                tracing::debug!(%error, partition = %id, "the seek is tried again");
                self.sought.insert(id, (claim, offset));
            }
        }
    }

    fn adopt_changes(&mut self) {
        let changes =
            std::mem::take(&mut *self.member.told.changes.lock().unwrap_or_else(PoisonError::into_inner));
        for change in changes {
            match change {
                Change::Assigned(id) => {
                    let (batches, receiver) = queue::queue(&self.room);
                    let progress = Arc::new(Progress::default());
                    self.lanes.insert(
                        id,
                        Lane {
                            batches,
                            progress: Arc::clone(&progress),
                            committed: -1,
                            claim: None,
                            building: Batch::default(),
                            handed: Offset(0),
                            parked: VecDeque::new(),
                        },
                    );
                    self.owner.assign(id, receiver, progress);
                }
                Change::Revoked(id) => {
                    self.sought.remove(&id);
                    self.lanes.remove(&id);
                }
            }
        }
    }

    /// For lag tools only. Never more than the store has acknowledged.
    fn commit_progress(&mut self, mode: CommitMode) {
        if matches!(mode, CommitMode::Async) && self.committed_at.elapsed() < COMMIT_EVERY {
            return;
        }
        self.committed_at = Instant::now();
        let mut list = TopicPartitionList::new();
        for (id, lane) in &mut self.lanes {
            let next = lane.progress.0.load(Ordering::Relaxed);
            if next > lane.committed {
                lane.committed = next;
                let topic = self.cluster.topic_name(id.topic);
                if list.add_partition_offset(topic, id.partition, KafkaOffset::Offset(next)).is_err() {
                    return;
                }
            }
        }
        if list.count() > 0
            && let Err(error) = self.member.consumer.commit(&list, mode)
        {
            tracing::debug!(%error, "kafka's committed offsets were not updated");
        }
    }
}

impl Lane {
    fn is_handed_over(&self) -> bool {
        self.building.is_empty() && self.parked.is_empty()
    }

    fn hold(&mut self) {
        self.claim = None;
        self.building = Batch::default();
        self.parked.clear();
    }
}
