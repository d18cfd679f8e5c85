//! A subject over all partitions that hold records of it: a lane in each, and the cell of its home.

use std::collections::BTreeMap;

use super::Log;
use crate::{
    decisions::Amendments,
    domain::{Cell, Parameters, PartitionId, RecordAt, Rules, Subject, Time},
    projector::lane::{Fate, Ground, Lane, Step},
    source::batch::Stored,
    store::Quarantine,
    wire,
};

/// A subject folded again.
#[derive(Debug)]
pub(super) struct Replay<'a> {
    subject: Subject,
    parameters: &'a Parameters,
    rules: &'a Rules,
    amendments: Amendments,
    lanes: BTreeMap<PartitionId, Lane>,
    /// Where the store has the key wait though what it waits for may have come: its owner has not folded it again.
    healing: Vec<Quarantine>,
    /// Those of them that were met: what lies behind waits here too, whether the gap is closed or not.
    standing: BTreeMap<PartitionId, Quarantine>,
    /// Where its first record was folded.
    home: Option<PartitionId>,
}

impl<'a> Replay<'a> {
    /// A subject before its first record, with what operators had decided by an instant where one is given.
    ///
    /// What is decided of a record that is still on hold in the store, its owner has not come to yet: it is left out.
    pub(super) fn new(log: &Log<'a>, subject: &Subject, held: &[Quarantine], by: Option<Time>) -> Self {
        let on_hold =
            |partition, offset| held.iter().any(|held| (held.partition, held.offset) == (partition, offset));
        let mut amendments = log.amendments.without(on_hold);
        for patches in amendments.patches.values_mut() {
            patches.retain(|patch| by.is_none_or(|by| patch.act.at <= by));
        }
        Replay {
            subject: subject.clone(),
            parameters: &log.birth.parameters,
            rules: log.rules,
            amendments,
            lanes: BTreeMap::new(),
            healing: held.iter().filter(|held| held.heals).cloned().collect(),
            standing: BTreeMap::new(),
            home: None,
        }
    }

    /// The subject's cell so far; `None` before the first record that was folded.
    pub(super) fn cell(&self) -> Option<&Cell> {
        self.lanes.get(&self.home?)?.cell()
    }

    /// Where its key is on hold.
    pub(super) fn quarantines(&self) -> impl Iterator<Item = &Quarantine> {
        self.lanes.iter().filter_map(move |(id, lane)| self.standing.get(id).or_else(|| lane.quarantine()))
    }

    /// Takes the subject's next record of a partition, and tells what became of it; of several, where a gap closes.
    pub(super) fn take(&mut self, id: PartitionId, record: &Stored<'_>, tell: &mut dyn FnMut(Step<'_, '_>)) {
        if self.waits(id, record, tell) {
            return;
        }
        let elsewhere = if self.lanes.contains_key(&id) { None } else { self.cell().cloned() };
        let lane = self.lanes.entry(id).or_insert_with(|| Lane::new(elsewhere));
        let ground = Ground {
            partition: id,
            subject: &self.subject,
            parameters: self.parameters,
            rules: self.rules,
            amendments: &self.amendments,
        };
        lane.take(&ground, record, tell);
        if self.home.is_none() && lane.cell().is_some() {
            self.home = Some(id);
        }
        if let Some(held) = lane.quarantine()
            && self.healing.iter().any(|of| (of.partition, of.offset) == (held.partition, held.offset))
        {
            self.standing.insert(id, Quarantine { heals: true, ..held.clone() });
        }
    }

    /// Whether the record waits where its owner has not folded the key again; it is told then.
    fn waits(&mut self, id: PartitionId, record: &Stored<'_>, tell: &mut dyn FnMut(Step<'_, '_>)) -> bool {
        let Some(held) = self.standing.get_mut(&id) else { return false };
        held.waiting = held.waiting.saturating_add(1);
        let raw = record.record(id.topic);
        let event = wire::decode_for(&raw, Some(&self.subject), self.parameters).ok();
        let at = RecordAt { partition: id, offset: record.offset, timestamp: raw.timestamp };
        let (fate, cell) = (Fate::Waits(held.offset), self.lanes.get(&id).and_then(Lane::cell));
        tell(Step { at, record, event: event.as_ref(), fate, patch: None, cell });
        true
    }
}
