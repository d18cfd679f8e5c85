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
    home: Option<i32>,
    parameters: &'a Parameters,
    rules: &'a Rules,
    cell: Option<Cell>,
    quarantines: BTreeMap<PartitionId, Quarantine>,
}

/// What became of a record of the subject.
#[derive(Debug)]
pub struct Step<'a> {
    /// Where it stands.
    pub at: RecordAt,
    /// What it says, where it can be read.
    pub event: Option<&'a Event>,
    /// What was done with it.
    pub fate: Fate,
    /// The cell afterwards.
    pub cell: Option<&'a Cell>,
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
        subject: &Subject,
        parameters: &'a Parameters,
        rules: &'a Rules,
        decisions: &Decisions,
    ) -> Self {
        let home = decisions.homes.get(subject).copied();
        Replay { home, parameters, rules, cell: None, quarantines: BTreeMap::new() }
    }

    /// The subject's cell so far; `None` before the first record that was folded.
    pub fn cell(&self) -> Option<&Cell> {
        self.cell.as_ref()
    }

    /// Where its key is on hold.
    pub fn quarantines(&self) -> &BTreeMap<PartitionId, Quarantine> {
        &self.quarantines
    }

    /// Takes the subject's next record of a partition, and tells what became of it.
    pub fn take(&mut self, partition: PartitionId, record: &Stored<'_>, tell: &mut dyn FnMut(Step<'_>)) {
        let timestamp = Time::from_millis(record.timestamp_ms);
        let at = RecordAt { partition, offset: record.offset, timestamp };
        let read = wire::decode(&record.record(partition.topic), self.parameters);
        let event = read.as_ref().ok();
        if let Some(quarantine) = self.quarantines.get_mut(&partition) {
            quarantine.waiting = quarantine.waiting.saturating_add(1);
            let fate = Fate::Waits(quarantine.offset);
            return tell(Step { at, event, fate, cell: self.cell.as_ref() });
        }
        let folded = match &read {
            Ok(event) => fold(&mut self.cell, event, &at, self.home, self.rules),
            Err(rejection) => Err(rejection.clone()),
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
                    heals: false,
                };
                self.quarantines.insert(partition, quarantine);
                Fate::SetAside(rejection)
            }
        };
        tell(Step { at, event, fate, cell: self.cell.as_ref() });
    }
}
