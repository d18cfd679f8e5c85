//! One subject folded again from the log, record by record, as its owner does: for explanations.

use std::collections::BTreeMap;

use crate::{
    decisions::Decisions,
    domain::{
        Cell, Effect, Event, Offset, Parameters, PartitionId, RecordAt, Rejection, Rules, Subject, Time, fold,
    },
    source::batch::Stored,
    store::Quarantine,
    wire,
};

/// A subject between two of its records.
#[derive(Debug)]
pub struct Replay<'a> {
    subject: Subject,
    home: Option<i32>,
    parameters: &'a Parameters,
    rules: &'a Rules,
    cell: Option<Cell>,
    quarantines: BTreeMap<PartitionId, Quarantine>,
}

/// What became of a record of the subject.
#[derive(Debug)]
pub struct Step {
    /// Where it stands.
    pub at: RecordAt,
    /// What it says, where it can be read.
    pub event: Option<Event>,
    /// What was done with it.
    pub fate: Fate,
}

/// What was done with a record.
#[derive(Debug)]
pub enum Fate {
    /// It was folded; it may have been ignored by that.
    Folded(Effect),
    /// It cannot be applied: its key is on hold from here on.
    SetAside(Rejection),
    /// Its key is on hold since an earlier record of the partition.
    Waits(Offset),
}

impl<'a> Replay<'a> {
    /// A subject before its first record.
    pub fn new(
        subject: Subject,
        parameters: &'a Parameters,
        rules: &'a Rules,
        decisions: &Decisions,
    ) -> Self {
        let home = decisions.homes.get(&subject).copied();
        Replay { subject, home, parameters, rules, cell: None, quarantines: BTreeMap::new() }
    }

    /// The subject's cell so far; `None` before the first record that was folded.
    pub fn cell(&self) -> Option<&Cell> {
        self.cell.as_ref()
    }

    /// Where its key is on hold.
    pub fn quarantines(&self) -> &BTreeMap<PartitionId, Quarantine> {
        &self.quarantines
    }

    /// Takes the subject's next record of a partition; the home's records come before those of any other.
    pub fn take(&mut self, partition: PartitionId, record: &Stored<'_>) -> Step {
        let timestamp = Time::from_millis(record.timestamp_ms);
        let at = RecordAt { partition, offset: record.offset, timestamp };
        let decoded = wire::decode(&record.record(partition.topic), self.parameters);
        if let Some(quarantine) = self.quarantines.get_mut(&partition) {
            quarantine.waiting = quarantine.waiting.saturating_add(1);
            return Step { at, event: decoded.ok(), fate: Fate::Waits(quarantine.offset) };
        }
        let (event, folded) = match decoded {
            Ok(event) => {
                let folded = fold(&mut self.cell, &event, &at, self.home, self.rules);
                (Some(event), folded)
            }
            Err(rejection) => (None, Err(rejection)),
        };
        let fate = match folded {
            Ok(effect) => Fate::Folded(effect),
            Err(rejection) => {
                let quarantine = Quarantine {
                    partition,
                    offset: record.offset,
                    class: rejection.class,
                    since: timestamp,
                    waiting: 0,
                };
                self.quarantines.insert(partition, quarantine);
                Fate::SetAside(rejection)
            }
        };
        Step { at, event, fate }
    }

    /// The subject.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }
}
