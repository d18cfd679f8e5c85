//! Records that cannot be applied, and the keys that they put on hold in a partition.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt as _;

use super::{
    dead_letters,
    partition::{Interrupt, Session, cell_key},
};
use crate::{
    decisions::{self, Decision},
    domain::{Cell, Class, CustomerId, Event, Offset, Rejection, Subject, Time},
    source::{batch::Stored, producer::Outgoing},
    store::{CellKey, Halt, Quarantine, QuarantineWrite},
};

/// How the reason of a halt for too many dead letters reads: an operator may let such a partition go on.
pub const TOO_MANY_KEYS: &str = "new keys with dead letters within a minute";
const POISON_WINDOW: Duration = Duration::from_mins(1);

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
            self.count_poison()?;
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
        let (customers, unless_changed) = self.who_is_told(subject, rejection.class == Class::Moved).await?;
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

    fn count_poison(&mut self) -> Result<(), Interrupt> {
        // A rebuild meets within a minute what came in over months, and was judged when it came in.
        if !self.shared.birth.active && !self.acknowledged.checkpoint.complete {
            return Ok(());
        }
        let now = Instant::now();
        while self.poison.front().is_some_and(|at| now.duration_since(*at) > POISON_WINDOW) {
            self.poison.pop_front();
        }
        if self.poison.len() >= self.shared.settings.poison_keys_max {
            let partition = self.shared.cluster.display(self.id);
            self.poisoned = true;
            return Err(Interrupt::Halt(Halt {
                reason: format!(
                    "{partition} had more than {} {TOO_MANY_KEYS}, next at offset {}: a bad release upstream",
                    self.shared.settings.poison_keys_max, self.next
                ),
                remedy: format!(
                    "mend the publisher; then `redrive --halted {partition}` lets it go on, without a restart"
                ),
            }));
        }
        self.poison.push_back(now);
        Ok(())
    }

    /// Records where a subject lives, for every fold to come: another one may meet its partitions in another order. The
    /// next commit waits for it.
    pub(super) fn record_home(&mut self, subject: &Subject, partition: i32) {
        if self.shared.decisions.borrow().homes.contains_key(subject) {
            return;
        }
        let subject = subject.as_str().to_owned();
        let decision = Decision::Home { topic: self.id.topic, subject, partition };
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
    ) -> Result<(Vec<CustomerId>, Option<(CellKey, Bytes)>), Interrupt> {
        let key = cell_key(subject);
        let lives_here = self
            .cache
            .get_mut(&key)
            .and_then(|slot| slot.cell.as_ref())
            .map(|cell| cell.home() == self.id.partition);
        if lives_here == Some(true) {
            let customers = match self.cache.get_mut(&key).and_then(|slot| slot.cell.as_ref()) {
                Some(Cell::Account(account)) => account.customers(),
                Some(Cell::Customer(_)) | None => Vec::new(),
            };
            return Ok((customers, None));
        }
        // The cell is another partition's, or nobody's yet: what is read now must still stand at the commit.
        let values = self
            .shared
            .store
            .load(self.shared.generation, self.id, self.acknowledged, std::slice::from_ref(&key))
            .await?;
        let bytes = values.into_iter().next().flatten().unwrap_or_default();
        let cell = if bytes.is_empty() { None } else { Some(self.decode_cell(&key, &bytes)?) };
        if let (true, Some(cell)) = (keeps_home, &cell) {
            self.record_home(subject, cell.home());
        }
        let customers = match cell {
            Some(Cell::Account(account)) => account.customers(),
            Some(Cell::Customer(_)) | None => Vec::new(),
        };
        self.cache.remove(&key);
        Ok((customers, Some((key, bytes))))
    }
}
