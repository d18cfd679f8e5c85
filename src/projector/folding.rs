//! A batch of a partition: its records lined up, read and folded into the cells that the next commits take along.

use super::{
    cache::Place,
    identity,
    metrics::Metrics,
    partition::{Interrupt, Session},
};
use crate::{
    domain::{
        Cell, Class, Compared, Dues, Event, Ignored, LastRecord, Offset, Outcome, PREFETCHED, RecordAt,
        Rejection, Subject, Time, Topic, fold,
    },
    source::batch::{Batch, Stored},
    store::{Halt, StoreError},
    wire,
};

impl Session<'_> {
    pub(super) async fn fold_batch(&mut self, batch: &Batch) -> Result<(), Interrupt> {
        if let Some(traced) = &mut self.traced {
            traced.taken_up();
        }
        let mut counts = Counts::default();
        let lined_up = self.line_up(batch).await?;
        let mut folded = None;
        let mut outcome = Ok(());
        'batch: for several in lined_up.chunks(PREFETCHED) {
            self.cache.prefetch(several.iter().filter_map(|next| next.place));
            for next in several {
                let Some(record) = batch.record(next.index) else { return Err(self.lost()) };
                let reading = self.read(&record, next);
                let before = self.traced.as_ref().map(|_| counts);
                outcome = self.apply(&record, next, &reading, &mut counts).await;
                if outcome.is_err() {
                    break 'batch;
                }
                self.next = record.offset.next();
                folded = Some(next.index);
                if let Some(before) = before {
                    self.trace(&record, next, &reading, counts.since(&before));
                }
                if self.fills_a_commit() && !self.gathers() {
                    self.last = Some(self.identity(&record));
                    self.make_room().await?;
                    self.send().await?;
                }
            }
        }
        if let Some(record) = folded.and_then(|index| batch.record(index)) {
            self.last = Some(self.identity(&record));
        }
        counts.publish(self.id.topic, lined_up.len(), &self.shared.standing.metrics);
        outcome?;
        if let Some(advance) = batch.advance {
            if let Some(last) = self.to_verify {
                return Err(self.not_the_log_that_was_folded(last));
            }
            self.next = self.next.max(advance);
        }
        self.keep_to_part();
        Ok(())
    }

    /// A record, or the cell that it is to be folded into, is not where it was put. Never so: but to go on would pass
    /// over an event.
    fn lost(&self) -> Interrupt {
        StoreError::Unchained { partition: self.id }.into()
    }

    /// What came of a record, for the trace that it is part of.
    fn trace(
        &mut self,
        record: &Stored<'_>,
        next: &LinedUp,
        reading: &Reading,
        outcome: Option<&'static str>,
    ) {
        let Some(traced) = &mut self.traced else { return };
        let held = next.subject.as_ref().and_then(|subject| self.quarantined.get(subject));
        let class = match (outcome, reading) {
            (Some(_), _) => None,
            (None, Reading::Rejected(rejection)) => Some(rejection.class),
            (None, Reading::Event(_) | Reading::Waits) => {
                held.filter(|held| held.offset == record.offset).map(|held| held.class)
            }
        };
        let outcome = outcome.unwrap_or("set-aside");
        traced.decided(&record.headers, record.offset.0, outcome, class.map(Class::name));
    }

    /// The record before the checkpoint must be the one that was folded. `Ok(false)` for that one itself.
    fn verify(&mut self, record: &Stored<'_>) -> Result<bool, Interrupt> {
        let Some(last) = self.to_verify else { return Ok(true) };
        if record.offset < last.offset {
            // Says nothing of the log: the consumer is not where it was sent.
            let reason =
                format!("the client was sent to {}@{} and reads {}", self.id, last.offset, record.offset);
            return Err(StoreError::Broker { reason }.into());
        }
        let same = record.offset == last.offset && self.identity(record) == last;
        if same {
            self.to_verify = None;
            return Ok(false);
        }
        Err(self.not_the_log_that_was_folded(last))
    }

    fn not_the_log_that_was_folded(&self, last: LastRecord) -> Interrupt {
        let partition = self.shared.cluster.display(self.id);
        Interrupt::Halt(Halt {
            reason: format!(
                "{partition} does not hold at offset {} the record that was folded there: the topic was made anew",
                last.offset
            ),
            remedy: "rebuild into a new generation from this topic, or restore the old one".to_owned(),
        })
    }

    fn identity(&self, record: &Stored<'_>) -> LastRecord {
        identity(self.shared.birth.parameters.fingerprint_key, record)
    }

    /// The records of a batch that are to be folded, each with its subject and that one's cell. Cells that are not
    /// known are asked for in one round trip.
    async fn line_up(&mut self, batch: &Batch) -> Result<Vec<LinedUp>, Interrupt> {
        let mut lined_up = Vec::with_capacity(batch.len());
        let mut missing = Vec::new();
        for (index, (offset, key)) in batch.keys().enumerate() {
            if self.to_verify.is_some() {
                let Some(record) = batch.record(index) else { continue };
                if !self.verify(&record)? {
                    continue;
                }
            }
            if offset < self.next {
                continue;
            }
            let subject = wire::subject_of(self.id.topic, key);
            let waits = subject.as_ref().is_some_and(|subject| self.waits_unread(subject, offset));
            lined_up.push(LinedUp { index, subject, waits, place: None });
        }
        for (chunk, several) in lined_up.chunks_mut(PREFETCHED).enumerate() {
            self.cache.prefetch_places(several.iter().filter_map(LinedUp::key));
            for (within, next) in several.iter_mut().enumerate() {
                let Some(key) = next.key() else { continue };
                let place = self.cache.find(key);
                if place.is_none() {
                    missing.push((chunk.saturating_mul(PREFETCHED).saturating_add(within), key.clone()));
                }
                next.place = place;
            }
        }
        if !missing.is_empty() {
            let mut wanted: Vec<Subject> = missing.iter().map(|(_, key)| key.clone()).collect();
            wanted.sort_unstable();
            wanted.dedup();
            self.load_cells(&wanted).await?;
            for (at, key) in missing {
                if let Some(next) = lined_up.get_mut(at) {
                    next.place = self.cache.find(&key);
                }
            }
        }
        Ok(lined_up)
    }

    /// Whether a record waits behind a key on hold, and nothing in it matters before the key is folded again.
    fn waits_unread(&self, subject: &Subject, offset: Offset) -> bool {
        if self.quarantined.is_empty() {
            return false;
        }
        let held = self.quarantined.get(subject).filter(|held| offset > held.offset);
        held.is_some_and(|held| !self.redrives.reads_behind(subject, held))
    }

    fn read(&self, record: &Stored<'_>, next: &LinedUp) -> Reading {
        if next.waits {
            return Reading::Waits;
        }
        let raw = record.record(self.id.topic);
        match wire::decode_for(&raw, next.subject.as_ref(), &self.shared.birth.parameters) {
            Ok(event) => Reading::Event(event),
            Err(rejection) => Reading::Rejected(rejection),
        }
    }

    /// Asks the store for those of these cells that are not known.
    pub(super) async fn load_cells(&mut self, wanted: &[Subject]) -> Result<(), Interrupt> {
        let unknown = |key: &&Subject| self.cache.find(key).is_none();
        let missing: Vec<Subject> = wanted.iter().filter(unknown).cloned().collect();
        for keys in missing.chunks(self.shared.settings.batch_cells_max.max(1)) {
            let values =
                self.shared.store.load(self.shared.generation, self.id, self.acknowledged, keys).await?;
            self.shared.standing.metrics.loaded(self.id.topic, keys.len());
            for (key, value) in keys.iter().zip(values) {
                let cell = value.map(|bytes| self.decode_cell(key, &bytes)).transpose()?;
                self.cache.insert(key.clone(), cell);
            }
        }
        Ok(())
    }

    pub(super) fn decode_cell(&self, key: &Subject, bytes: &[u8]) -> Result<Cell, Interrupt> {
        Cell::decode(key, bytes).map_err(|error| {
            Interrupt::Halt(Halt {
                reason: format!("a cell of {} cannot be read: {error}", self.id),
                remedy: "run the version that wrote it, or rebuild into a new generation".to_owned(),
            })
        })
    }

    async fn apply(
        &mut self,
        record: &Stored<'_>,
        next: &LinedUp,
        reading: &Reading,
        counts: &mut Counts,
    ) -> Result<(), Interrupt> {
        let subject = next.subject.as_ref();
        // Quarantined by an earlier record of the same batch.
        let waiting = subject.filter(|subject| self.waits(subject, record.offset));
        if let Some(subject) = waiting {
            self.look_behind(record, subject, reading.event());
            self.wait_behind(subject);
            counts.waiting = counts.waiting.saturating_add(1);
            return Ok(());
        }
        let decided = subject.filter(|_| self.redrives.is_patched(record.offset));
        let folded = match (reading, decided) {
            // It waits no more than it did when it was lined up: never so, and to pass over it would lose it.
            (Reading::Waits, _) => Err(Unfolded::Lost),
            (Reading::Rejected(rejection), None) => Err(rejection.clone().into()),
            (Reading::Rejected(rejection), Some(subject)) => {
                self.fold_decided(record, subject, &Err(rejection.clone()), counts)
            }
            (Reading::Event(event), None) => self.fold(record, next, event, counts),
            (Reading::Event(event), Some(subject)) => {
                self.fold_decided(record, subject, &Ok(event.clone()), counts)
            }
        };
        match folded {
            Ok(()) => Ok(()),
            Err(Unfolded::Rejected(why)) => self.set_aside(record, subject, reading.event(), &why).await,
            Err(Unfolded::Lost) => Err(self.lost()),
        }
    }

    fn fold(
        &mut self,
        record: &Stored<'_>,
        next: &LinedUp,
        event: &Event,
        counts: &mut Counts,
    ) -> Result<(), Unfolded> {
        let (Some(subject), Some(place)) = (&next.subject, next.place) else { return Err(Unfolded::Lost) };
        let home = self.redrives.home(subject);
        let slot = self.cache.at(place, subject).ok_or(Unfolded::Lost)?;
        let at = RecordAt {
            partition: self.id,
            offset: record.offset,
            timestamp: Time::from_millis(record.timestamp_ms),
        };
        let effect = fold(&mut slot.cell, event, &at, home, &self.shared.rules)?;
        // An event of an ignored type leaves nothing, not even a cell: there is nothing to write.
        let nothing = effect.outcome == Outcome::Ignored(Ignored::Replayed) || slot.cell.is_none();
        if !nothing {
            self.changed_at(place, effect.dues);
        }
        counts.add(effect.outcome, effect.compared);
        Ok(())
    }

    /// A known cell has changed: until its commit is acknowledged the store may not have it.
    pub(super) fn changed(&mut self, key: &Subject) {
        if let Some(place) = self.cache.find(key) {
            self.changed_at(place, Dues::Opened);
        }
    }

    fn changed_at(&mut self, place: Place, dues: Dues) {
        if let Some(weight) = self.cache.change(place, dues) {
            self.pending.cells.push(place);
            self.pending.weight = self.pending.weight.saturating_add(weight);
        }
    }
}

/// A record of a batch that is to be folded.
struct LinedUp {
    /// Which one.
    index: usize,
    /// Whom its key names, where it is usable.
    subject: Option<Subject>,
    /// It waits, unread.
    waits: bool,
    /// Where the subject's cell is, unless the record waits.
    place: Option<Place>,
}

impl LinedUp {
    /// Whose cell it is to be folded into.
    fn key(&self) -> Option<&Subject> {
        self.subject.as_ref().filter(|_| !self.waits)
    }
}

/// A record was not folded, and nothing has changed.
pub(super) enum Unfolded {
    /// It cannot be.
    Rejected(Rejection),
    /// Its cell is not where it was put.
    Lost,
}

impl From<Rejection> for Unfolded {
    fn from(rejection: Rejection) -> Self {
        Unfolded::Rejected(rejection)
    }
}

enum Reading {
    Event(Event),
    Rejected(Rejection),
    Waits,
}

impl Reading {
    fn event(&self) -> Option<&Event> {
        match self {
            Reading::Event(event) => Some(event),
            Reading::Rejected(_) | Reading::Waits => None,
        }
    }
}

/// Counted per batch, not per record: the counters are shared.
#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    applied: u64,
    duplicate: u64,
    without_effect: u64,
    replayed: u64,
    of_type: u64,
    waiting: u64,
    opened: u64,
    agrees: u64,
    drifts: u64,
    counted: u64,
}

impl Counts {
    pub(super) fn add(&mut self, outcome: Outcome, compared: Option<Compared>) {
        let counter = match outcome {
            Outcome::Applied => &mut self.applied,
            Outcome::Ignored(Ignored::Duplicate) => &mut self.duplicate,
            Outcome::Ignored(Ignored::WithoutEffect) => &mut self.without_effect,
            Outcome::Ignored(Ignored::Replayed) => &mut self.replayed,
            Outcome::Ignored(Ignored::Type) => &mut self.of_type,
        };
        *counter = counter.saturating_add(1);
        let Some(compared) = compared else { return };
        let counter = match compared {
            Compared::Opened => &mut self.opened,
            Compared::Agrees => &mut self.agrees,
            Compared::Drifts => &mut self.drifts,
            Compared::Counted => &mut self.counted,
        };
        *counter = counter.saturating_add(1);
    }

    /// What came of the record that was counted since; nothing where it was set aside.
    fn since(&self, before: &Counts) -> Option<&'static str> {
        let outcomes = [
            ("applied", self.applied, before.applied),
            ("duplicate", self.duplicate, before.duplicate),
            ("without-effect", self.without_effect, before.without_effect),
            ("replayed", self.replayed, before.replayed),
            ("type", self.of_type, before.of_type),
            ("waiting", self.waiting, before.waiting),
        ];
        outcomes.into_iter().find(|(_, now, before)| now > before).map(|(name, ..)| name)
    }

    pub(super) fn publish(&self, topic: Topic, records: usize, metrics: &Metrics) {
        metrics.folded(topic, u64::try_from(records).unwrap_or(u64::MAX), self.applied);
        for (reason, count) in [
            ("duplicate", self.duplicate),
            ("without-effect", self.without_effect),
            ("replayed", self.replayed),
            ("type", self.of_type),
            ("waiting", self.waiting),
        ] {
            metrics.ignored(reason, count);
        }
        for (result, count) in [
            ("opened", self.opened),
            ("agrees", self.agrees),
            ("drifts", self.drifts),
            ("counted", self.counted),
        ] {
            metrics.statements(result, count);
        }
    }
}
