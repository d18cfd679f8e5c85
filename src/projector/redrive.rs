//! Keys folded again by their owner: because an operator decided about the record that holds them back, or because
//! what a sequence gap waits for has arrived.
//!
//! The records of the keys are read again, from the one that was set aside up to where the fold stood, while other
//! keys go on; what comes for these keys meanwhile is put behind. Cell, dead letters and the mark's end, or its move
//! to the next record that cannot be applied, are one commit that chains like any other: an owner that is killed
//! before it has changed nothing, and the next one finds the same decision beside the same mark.

use std::{
    collections::BTreeSet,
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

use foldhash::{HashMap, HashMapExt as _};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Shared, dead_letters,
    folding::{Counts, Unfolded},
    lane::{self, Fate, Ground, Kept, Lane, Missing, Past},
    partition::{Interrupt, Session},
};
use crate::{
    decisions::Amendments,
    domain::{Cell, Class, Event, Offset, PartitionId, Rejection, Subject},
    source::{batch::Stored, producer::Outgoing, scan::Scan},
    store::{Quarantine, QuarantineWrite},
    wire,
};

/// Keys folded again in one reading of the log.
const KEYS_MAX: usize = 1_000;
/// Records that wait behind them, about: behind gaps they are kept in memory.
const WAITING_MAX: u64 = 100_000;
/// What comes for them meanwhile is kept up to here; past it, the log is read once more.
const BEHIND_BYTES_MAX: usize = 16 << 20;
const AFTER_A_FAILURE: Duration = Duration::from_secs(2);

/// What an owner knows of decisions, and of what it does about them.
pub(super) struct Redrives {
    /// What operators decided, as far as it is known.
    pub(super) amendments: Arc<Amendments>,
    /// The records of this partition about which there is a decision.
    patched: BTreeSet<Offset>,
    /// What the gaps of keys on hold wait for, where this owner knows; `None` for those that never close by
    /// themselves.
    gaps: HashMap<Subject, Option<Missing>>,
    /// How many decisions were tried on the record that holds a key back.
    tried: HashMap<Subject, (Offset, usize)>,
    /// What a gap waits for has arrived since the last look.
    called_for: bool,
    /// After a failure, not before this instant.
    not_before: Option<Instant>,
    running: Option<Running>,
}

/// Keys that are being folded again.
struct Running {
    task: JoinHandle<Result<Vec<Again>, String>>,
    /// Ends the reading with the claim for which it is done.
    _reading: DropGuard,
    keys: HashMap<Subject, Vec<Kept>>,
    /// Up to where the task reads.
    until: Offset,
    behind_bytes: usize,
}

/// A key that is folded again.
struct Again {
    subject: Subject,
    held: Quarantine,
    /// How many decisions there were when it began.
    patches: usize,
    /// The cell before.
    cell: Option<Cell>,
    lane: Lane,
    told: Told,
    /// Retention has removed the record that holds it back: nothing can be folded.
    gone: bool,
}

/// What folding a key again told.
#[derive(Default)]
struct Told {
    counts: Counts,
    dead_letters: Vec<(Class, Outgoing)>,
}

impl Redrives {
    pub(super) fn new(amendments: Arc<Amendments>, id: PartitionId) -> Self {
        let mut redrives = Redrives {
            amendments: Arc::default(),
            patched: BTreeSet::new(),
            gaps: HashMap::new(),
            tried: HashMap::new(),
            called_for: false,
            not_before: None,
            running: None,
        };
        redrives.learn(amendments, id);
        redrives
    }

    fn learn(&mut self, amendments: Arc<Amendments>, id: PartitionId) {
        let (first, last) = ((id, Offset(i64::MIN)), (id, Offset(i64::MAX)));
        self.patched = amendments.patches.range(first..=last).map(|((_, offset), _)| *offset).collect();
        self.amendments = amendments;
    }

    /// Where a subject lives, where that is recorded; asked for every record, so it must cost nothing.
    pub(super) fn home(&self, subject: &Subject) -> Option<i32> {
        if self.amendments.homes.is_empty() { None } else { self.amendments.homes.get(subject).copied() }
    }

    /// Whether an operator decided about the record.
    pub(super) fn is_patched(&self, offset: Offset) -> bool {
        !self.patched.is_empty() && self.patched.contains(&offset)
    }

    /// Whether this owner must read a record that waits: it may be what a gap waits for.
    pub(super) fn reads_behind(&self, subject: &Subject, held: &Quarantine) -> bool {
        held.class == Class::SequenceGap && !held.heals && !matches!(self.gaps.get(subject), Some(None))
    }

    /// Whether there may be a key to fold again; asked behind every batch, so it must cost nothing.
    pub(super) fn is_called_for(&self) -> bool {
        self.called_for && self.running.is_none()
    }

    /// What came of folding keys again; waits for ever where none are being folded.
    pub(super) async fn finished(&mut self) -> Finished {
        match &mut self.running {
            Some(running) => {
                let joined = (&mut running.task).await;
                Finished(joined.map_err(|error| error.to_string()).and_then(|read| read))
            }
            None => std::future::pending().await,
        }
    }
}

/// What came of folding keys again.
pub(super) struct Finished(Result<Vec<Again>, String>);

impl Session<'_> {
    /// Takes note of what operators decided since; tells whether one of them let a halt for too many dead letters end.
    pub(super) fn learn(&mut self) -> bool {
        self.redrives.learn(self.shared.amendments(), self.id);
        self.poisoned && self.redrives.is_patched(self.next)
    }

    /// Folds a record about which an operator decided.
    pub(super) fn fold_decided(
        &mut self,
        record: &Stored<'_>,
        subject: &Subject,
        read: &Result<Event, Rejection>,
        counts: &mut Counts,
    ) -> Result<(), Unfolded> {
        let amendments = Arc::clone(&self.redrives.amendments);
        let slot = self.cache.get_mut(subject).ok_or(Unfolded::Lost)?;
        let before = slot.cell.clone();
        let ground = ground(self.shared, self.id, subject, &amendments);
        let (past, _) = lane::apply(&mut slot.cell, &ground, record, read)?;
        let changed = slot.cell != before;
        if changed {
            self.changed(subject);
        }
        if let Past::Folded(effect) = past {
            counts.add(effect.outcome, effect.compared);
        }
        Ok(())
    }

    /// A record waits: it may be what a gap waits for, and where its key is being folded again, it is put behind.
    pub(super) fn look_behind(&mut self, record: &Stored<'_>, subject: &Subject, event: Option<&Event>) {
        if let Some(running) = &mut self.redrives.running
            && let Some(behind) = running.keys.get_mut(subject)
            && running.behind_bytes <= BEHIND_BYTES_MAX
        {
            let kept = Kept::from(record);
            running.behind_bytes = running.behind_bytes.saturating_add(kept.bytes()).saturating_add(64);
            behind.push(kept);
        }
        let Some(held) = self.quarantined.get_mut(subject) else { return };
        if held.class != Class::SequenceGap || held.heals {
            return;
        }
        held.heals = match self.redrives.gaps.get_mut(subject) {
            Some(Some(missing)) => event.is_some_and(|event| missing.may_close_by(event)),
            Some(None) => false,
            // Held back before this owner's time: the log tells.
            None => true,
        };
        self.redrives.called_for |= held.heals;
    }

    /// Remembers what the gap of a record that was set aside waits for.
    pub(super) fn watch_gap(&mut self, subject: &Subject, class: Class, event: Option<&Event>) {
        self.redrives.gaps.remove(subject);
        if let (Class::SequenceGap, Some(event)) = (class, event) {
            let cell = self.cache.get_mut(subject).and_then(|slot| slot.cell.as_ref());
            let missing = Missing::before(event, cell, &self.shared.rules);
            self.redrives.gaps.insert(subject.clone(), missing);
        }
    }

    /// Begins to fold keys again, where there is a reason to and none are being folded again already.
    pub(super) async fn redrive(&mut self) -> Result<(), Interrupt> {
        let waits = self.redrives.not_before.is_some_and(|instant| Instant::now() < instant);
        if waits || self.redrives.running.is_some() || self.quarantined.is_empty() || self.stands_still() {
            return Ok(());
        }
        self.redrives.called_for = false;
        let wanted: Vec<(Subject, Quarantine, usize)> = self
            .quarantined
            .iter()
            // A mark may be there without the position that it came with: its record is met again.
            .filter(|(_, held)| held.offset < self.next)
            .filter_map(|(subject, held)| {
                let patches = self.redrives.amendments.patches_of(self.id, held.offset).len();
                let tried = self.redrives.tried.get(subject).filter(|(offset, _)| *offset == held.offset);
                let new = patches > tried.map_or(0, |(_, patches)| *patches);
                (held.heals && tried.is_none_or(|(_, patches)| *patches != usize::MAX) || new)
                    .then(|| (subject.clone(), held.clone(), patches))
            })
            .take(KEYS_MAX)
            .scan(0_u64, |waiting, wanted| {
                let first = *waiting == 0;
                *waiting = waiting.saturating_add(wanted.1.waiting).saturating_add(1);
                (first || *waiting <= WAITING_MAX).then_some(wanted)
            })
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let keys: Vec<_> = wanted.iter().map(|(subject, ..)| subject.clone()).collect();
        // What another partition's owner wrote since is not in the cache.
        let foreign = |cell: &Cell| cell.home() != self.id.partition;
        for key in &keys {
            if self.cache.get_mut(key).and_then(|slot| slot.cell.as_ref()).is_none_or(foreign) {
                self.cache.remove(key);
            }
        }
        self.load_cells(&keys).await?;
        let mut again = Vec::with_capacity(wanted.len());
        for (subject, held, patches) in wanted {
            let slot = self.cache.get_mut(&subject);
            let cell = slot.and_then(|slot| slot.cell.clone());
            let lane = Lane::new(cell.clone());
            again.push(Again { subject, held, patches, cell, lane, told: Told::default(), gone: false });
        }
        tracing::info!(partition = %self.id, keys = again.len(), "folding keys on hold again");
        let from = again.iter().map(|again| again.held.offset).min().unwrap_or(self.next);
        self.read_again(again, from);
        Ok(())
    }

    fn read_again(&mut self, again: Vec<Again>, from: Offset) {
        let (shared, id, until) = (Arc::clone(self.shared), self.id, self.next);
        let amendments = Arc::clone(&self.redrives.amendments);
        let keys = again.iter().map(|again| (again.subject.clone(), Vec::new())).collect();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task =
            tokio::task::spawn_blocking(move || read(&shared, id, &amendments, again, from, until, &stopped));
        let running = Running { task, _reading: stop.drop_guard(), keys, until, behind_bytes: 0 };
        self.redrives.running = Some(running);
    }

    /// Takes over what was folded again.
    pub(super) async fn take_over(&mut self, finished: Finished) -> Result<(), Interrupt> {
        let Some(running) = self.redrives.running.take() else { return Ok(()) };
        let Running { mut keys, until, behind_bytes, .. } = running;
        let again = match finished.0 {
            Ok(again) => again,
            Err(reason) => {
                // The marks stand, and so do the decisions. Other keys are not to wait for these.
                tracing::warn!(partition = %self.id, reason, "keys on hold cannot be folded again yet");
                self.redrives.not_before = Instant::now().checked_add(AFTER_A_FAILURE);
                return Ok(());
            }
        };
        if self.stands_still() {
            // Nothing may change now; the decisions are still there when the partition goes on.
            return Ok(());
        }
        if behind_bytes > BEHIND_BYTES_MAX {
            self.read_again(again, until);
            return Ok(());
        }
        let amendments = Arc::clone(&self.redrives.amendments);
        for mut again in again {
            if again.gone {
                tracing::error!(partition = %self.id, offset = again.held.offset.0, "retention has removed a record that holds its key back");
                self.redrives.tried.insert(again.subject, (again.held.offset, usize::MAX));
                continue;
            }
            for kept in keys.remove(&again.subject).unwrap_or_default() {
                again.take(self.shared, self.id, &amendments, &kept.stored());
            }
            let (offset, lifted) = (again.held.offset.0, again.lane.quarantine().is_none());
            tracing::info!(partition = %self.id, offset, lifted, "a key on hold was folded again");
            self.put(again).await?;
            if self.is_half_full() {
                self.make_room().await?;
                self.send().await?;
            }
        }
        self.make_room().await?;
        self.send().await?;
        Ok(())
    }

    /// Puts what became of a key into the next commit.
    async fn put(&mut self, again: Again) -> Result<(), Interrupt> {
        let Again { subject, held, patches, cell: before, lane, told, gone: _ } = again;
        told.counts.publish(self.id.topic, 0, &self.shared.standing.metrics);
        for (class, outgoing) in told.dead_letters {
            self.write_dead_letter(class, true, outgoing);
        }
        let missing = lane.missing().cloned();
        let (cell, quarantine) = lane.into_parts();
        // A fold that knows the decision from the beginning may come here before it comes to the subject's home. A gap
        // that closes by itself closes wherever it is folded, and needs no record.
        let decided = patches > 0;
        let born_at = cell.as_ref().filter(|_| decided && before.is_none()).map(Cell::home);
        if cell != before {
            if self.cache.find(&subject).is_none() {
                self.cache.insert(subject.clone(), before);
            }
            if let Some(slot) = self.cache.get_mut(&subject) {
                slot.cell = cell;
            }
            self.changed(&subject);
        }
        if let Some(home) = born_at {
            self.record_home(&subject, home);
        }
        let (customers, unless_changed) = self.who_is_told(&subject, decided).await?;
        let (lifted, offset) = (quarantine.is_none(), held.offset);
        let quarantine = quarantine.unwrap_or(held);
        self.redrives.gaps.remove(&subject);
        if lifted {
            self.quarantined.remove(&subject);
            self.redrives.tried.remove(&subject);
        } else {
            if quarantine.class == Class::SequenceGap {
                self.redrives.gaps.insert(subject.clone(), missing);
            }
            let patches = if quarantine.offset == offset { patches } else { 0 };
            self.redrives.tried.insert(subject.clone(), (quarantine.offset, patches));
            self.quarantined.insert(subject.clone(), quarantine.clone());
        }
        let write =
            QuarantineWrite { subject: subject.clone(), quarantine, lifted, customers, unless_changed };
        self.pending.quarantines.insert(subject, write);
        Ok(())
    }
}

/// Reads the stretch once, and folds every key whose records are in it.
fn read(
    shared: &Shared,
    id: PartitionId,
    amendments: &Amendments,
    again: Vec<Again>,
    from: Offset,
    until: Offset,
    stop: &CancellationToken,
) -> Result<Vec<Again>, String> {
    let failed =
        |error: &dyn std::fmt::Display| format!("keys on hold of {id} cannot be folded again: {error}");
    let mut keys: HashMap<Subject, Again> =
        again.into_iter().map(|again| (again.subject.clone(), again)).collect();
    let scan = Scan::new(&shared.cluster).map_err(|error| failed(&error))?;
    let (low, _) = scan.bounds(id).map_err(|error| failed(&error))?;
    for again in keys.values_mut() {
        again.gone = again.held.offset < low;
    }
    let mut each = |record: &Stored<'_>| {
        let subject = wire::subject(&record.record(id.topic));
        if let Some(again) = subject.and_then(|subject| keys.get_mut(&subject))
            && record.offset >= again.held.offset
            && !again.gone
        {
            again.take(shared, id, amendments, record);
        }
        if stop.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    scan.read(id, from.max(low), until, &mut each).map_err(|error| failed(&error))?;
    Ok(keys.into_values().collect())
}

fn ground<'a>(
    shared: &'a Shared,
    partition: PartitionId,
    subject: &'a Subject,
    amendments: &'a Amendments,
) -> Ground<'a> {
    Ground { partition, subject, parameters: &shared.birth.parameters, rules: &shared.rules, amendments }
}

impl Again {
    fn take(&mut self, shared: &Shared, id: PartitionId, amendments: &Amendments, record: &Stored<'_>) {
        let Again { subject, held, lane, told, .. } = self;
        let ground = ground(shared, id, subject, amendments);
        lane.take(&ground, record, &mut |step| match step.fate {
            Fate::Folded(effect) | Fate::Early(effect) => {
                told.counts.add(effect.outcome, effect.compared);
            }
            // It is on the dead-letter topic already.
            Fate::SetAside(why) if step.at.offset == held.offset && why.class == held.class => {}
            Fate::SetAside(why) => {
                let outgoing = dead_letters::outgoing(&shared.cluster, id, step.record, &why);
                told.dead_letters.push((why.class, outgoing));
            }
            Fate::Skipped | Fate::Waits(_) => {}
        });
    }
}
