//! Records that cannot be applied, and the keys that they put on hold in a partition.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::FutureExt as _;

use super::{
    dead_letters,
    partition::{Interrupt, Session},
};
use crate::{
    decisions::{self, Decision},
    domain::{Cell, Class, CustomerId, Event, Offset, Rejection, Subject, Time},
    source::{batch::Stored, producer::Outgoing},
    store::{Commit, Halt, Quarantine, QuarantineWrite, StoreError},
};

/// How the reason of a halt for too many dead letters reads: an operator may let such a partition go on.
pub const TOO_MANY_KEYS: &str = "new keys with dead letters within a minute";
const POISON_WINDOW_MS: u64 = 60_000;

/// How often a commit is tried that rests on cells which their owners change meanwhile.
const GUARDED_TRIES: usize = 50;

/// When the records were written that put the last keys on hold.
#[derive(Debug, Default)]
pub(super) struct Poison(VecDeque<i64>);

impl Poison {
    /// Counts one more, unless there are as many within a minute already. By the records' own time: whoever was away for
    /// a weekend, or folds a log again, meets within a minute what came in over months.
    fn is_one_too_many(&mut self, timestamp_ms: i64, max: usize) -> bool {
        while self.0.front().is_some_and(|at| at.abs_diff(timestamp_ms) > POISON_WINDOW_MS) {
            self.0.pop_front();
        }
        let full = self.0.len() >= max;
        if !full {
            self.0.push_back(timestamp_ms);
        }
        full
    }
}

impl Session<'_> {
    /// A mark may be there without the position that it came with, where a script stopped half way: what lies
    /// before it, and the record itself, do not wait.
    pub(super) fn waits(&self, subject: &Subject, offset: Offset) -> bool {
        self.quarantined.get(subject).is_some_and(|quarantine| offset > quarantine.offset)
    }

    pub(super) fn wait_behind(&mut self, subject: &Subject) {
        let Some(quarantine) = self.quarantined.get_mut(subject) else { return };
        quarantine.waiting = quarantine.waiting.saturating_add(1);
        let quarantine = quarantine.clone();
        let write = self.pending.quarantines.entry(subject.clone()).or_insert_with(|| QuarantineWrite {
            subject: subject.clone(),
            quarantine: quarantine.clone(),
            lifted: false,
            customers: Vec::new(),
            unless_changed: None,
        });
        write.quarantine = quarantine;
    }

    /// A record that cannot be applied: to the dead-letter topic, and its key on hold.
    pub(super) async fn set_aside(
        &mut self,
        record: &Stored<'_>,
        subject: Option<&Subject>,
        event: Option<&Event>,
        rejection: &Rejection,
    ) -> Result<(), Interrupt> {
        if subject.is_some() {
            self.count_poison(record.timestamp_ms)?;
        }
        tracing::warn!(
            partition = %self.id, offset = record.offset.0, class = %rejection.class, "dead letter"
        );
        let outgoing = dead_letters::outgoing(&self.shared.cluster, self.id, record, rejection);
        self.write_dead_letter(rejection.class, subject.is_some(), outgoing);
        let Some(subject) = subject else { return Ok(()) };
        let quarantine = Quarantine {
            partition: self.id,
            offset: record.offset,
            class: rejection.class,
            since: Time::from_millis(record.timestamp_ms),
            waiting: 0,
            heals: false,
        };
        let (customers, unless_changed) = self.who_is_told(subject, true).await?;
        self.quarantined.insert(subject.clone(), quarantine.clone());
        self.watch_gap(subject, rejection.class, event);
        let write = QuarantineWrite {
            subject: subject.clone(),
            quarantine,
            lifted: false,
            customers,
            unless_changed,
        };
        self.pending.quarantines.insert(subject.clone(), write);
        Ok(())
    }

    /// Sends a record to the dead-letter topic; the next commit waits for it.
    pub(super) fn write_dead_letter(&mut self, class: Class, usable_key: bool, outgoing: Outgoing) {
        self.shared.standing.metrics.dead_letter(class, usable_key);
        let producer = self.shared.producer.clone();
        self.pending.dead_letters.push(async move { dead_letters::write(&producer, outgoing).await }.boxed());
    }

    fn count_poison(&mut self, timestamp_ms: i64) -> Result<(), Interrupt> {
        // What a rebuild meets was judged when it came in.
        let is_judged = !self.shared.birth.active && !self.acknowledged.checkpoint.complete;
        let max = self.shared.settings.poison_keys_max;
        if is_judged || !self.poison.is_one_too_many(timestamp_ms, max) {
            return Ok(());
        }
        let partition = self.shared.cluster.display(self.id);
        self.poisoned = true;
        Err(Interrupt::Halt(Halt {
            reason: format!(
                "{partition} had more than {max} {TOO_MANY_KEYS}, next at offset {}: a bad release upstream",
                self.next
            ),
            remedy: format!(
                "mend the publisher; then `redrive --halted {partition}` lets it go on, without a restart"
            ),
        }))
    }

    /// Records where a subject lives, for every fold to come: another one may meet its partitions in another order. The
    /// next commit waits for it.
    pub(super) fn record_home(&mut self, subject: &Subject, partition: i32) {
        if self.shared.amendments().homes.contains_key(subject) {
            return;
        }
        let (subject, log) = (subject.as_str().to_owned(), Some(self.shared.birth.log()));
        let decision = Decision::Home { topic: self.id.topic, subject, partition, log };
        let (cluster, producer) = (self.shared.cluster.clone(), self.shared.producer.clone());
        let recorded = async move { decisions::record(&cluster, &producer, &decision).await };
        self.pending.dead_letters.push(recorded.boxed());
    }

    /// The customers to mark, and what must still hold when they are. Where the subject lives elsewhere, that is
    /// recorded if asked for.
    pub(super) async fn who_is_told(
        &mut self,
        subject: &Subject,
        keeps_home: bool,
    ) -> Result<(Vec<CustomerId>, Option<(Subject, Bytes)>), Interrupt> {
        let lives_here = self
            .cache
            .get_mut(subject)
            .and_then(|slot| slot.cell.as_ref())
            .map(|cell| cell.home() == self.id.partition);
        if lives_here == Some(true) {
            let cell = self.cache.get_mut(subject).and_then(|slot| slot.cell.as_ref());
            return Ok((customers(cell), None));
        }
        let (cell, bytes) = self.elsewhere(subject).await?;
        if let (true, Some(cell)) = (keeps_home, &cell) {
            self.record_home(subject, cell.home());
        }
        self.cache.remove(subject);
        Ok((customers(cell.as_ref()), Some((subject.clone(), bytes))))
    }

    /// Another partition's cell, or nobody's yet: what is read now must still stand at the commit.
    async fn elsewhere(&mut self, key: &Subject) -> Result<(Option<Cell>, Bytes), Interrupt> {
        let (generation, wanted) = (self.shared.generation, std::slice::from_ref(key));
        let values = self.shared.store.load(generation, self.id, self.acknowledged, wanted).await?;
        let bytes = values.into_iter().next().flatten().unwrap_or_default();
        Ok((self.decode_elsewhere(key, &bytes)?, bytes))
    }

    /// Sends a commit that rests on other partitions' cells. Those may change all the time: they are read right before,
    /// and again where one has changed nevertheless.
    pub(super) async fn commit_guarded(&mut self, commit: &mut Commit) -> Result<(), StoreError> {
        let mut refused = None;
        for _ in 0..GUARDED_TRIES {
            let changed = self.look_elsewhere_again(&mut commit.quarantines).await?;
            if let Some(refused) = refused.filter(|_| !changed) {
                // It is not for one of these.
                return Err(refused);
            }
            match self.shared.store.commit(commit).await {
                Err(error @ StoreError::Guarded { .. }) => refused = Some(error),
                other => return other,
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Reads all of those cells in one round trip; tells whether one has changed.
    async fn look_elsewhere_again(&mut self, marks: &mut [QuarantineWrite]) -> Result<bool, StoreError> {
        let keys: Vec<Subject> =
            marks.iter().filter_map(|mark| Some(mark.unless_changed.as_ref()?.0.clone())).collect();
        let values =
            self.shared.store.load(self.shared.generation, self.id, self.acknowledged, &keys).await?;
        let mut changed = false;
        let guarded = marks.iter_mut().filter(|mark| mark.unless_changed.is_some());
        for (mark, value) in guarded.zip(values) {
            let (Some((key, bytes)), now) = (&mut mark.unless_changed, value.unwrap_or_default()) else {
                continue;
            };
            if *bytes == now {
                continue;
            }
            changed = true;
            match self.decode_elsewhere(key, &now) {
                Ok(cell) => {
                    *bytes = now;
                    mark.customers = customers(cell.as_ref());
                }
                Err(Interrupt::Refused(error)) => return Err(error),
                // It cannot be read any more: the guard refuses, and whoever sets the record aside anew halts.
                Err(Interrupt::Halt(_)) => {}
            }
        }
        Ok(changed)
    }

    fn decode_elsewhere(&self, key: &Subject, bytes: &Bytes) -> Result<Option<Cell>, Interrupt> {
        if bytes.is_empty() { Ok(None) } else { self.decode_cell(key, bytes).map(Some) }
    }
}

/// Who is told of what holds a subject back.
fn customers(cell: Option<&Cell>) -> Vec<CustomerId> {
    match cell {
        Some(Cell::Account(account)) => account.customers(),
        Some(Cell::Customer(_)) | None => Vec::new(),
    }
}
