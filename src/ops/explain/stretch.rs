//! What is read of the log for one subject: which partitions, from where, up to where.

use std::{collections::BTreeSet, ops::ControlFlow, time::Instant};

use serde::Serialize;

use super::{Ends, Log};
use crate::{
    domain::{Account, Offset, PartitionId, Time, Topic},
    source::{batch::Stored, scan::ScanError},
    store::Quarantine,
};

/// A stretch of one partition.
#[derive(Debug, Clone, Serialize)]
pub struct Stretch {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The first offset read.
    pub from: i64,
    /// What is shown ends before this offset.
    pub shown_to: i64,
    /// What is compared ends before this offset: where the store stands.
    pub to: i64,
    /// How many records were read, the subject's and others.
    pub records: u64,
    /// How long that took.
    pub milliseconds: u64,
    /// It begins after the generation's beginning: no record of the subject can lie before.
    pub late: bool,
    #[serde(skip)]
    pub(super) id: PartitionId,
}

impl Log<'_> {
    /// The whole stretch of a partition that the store has folded.
    pub(super) fn stretch(&self, id: PartitionId, ends: &Ends) -> anyhow::Result<Stretch> {
        Ok(Stretch {
            topic: self.cluster.topic_name(id.topic).to_owned(),
            partition: id.partition,
            from: self.birth.start(id).unwrap_or_default().0,
            shown_to: self.end(ends, id)?.0,
            to: self.positions.get(&id).copied().unwrap_or_default().0,
            records: 0,
            milliseconds: 0,
            late: false,
            id,
        })
    }

    /// Where an account's records may begin, if that is later than where the generation does.
    ///
    /// An event's `time` is at most a day after its Kafka timestamp, so no record that made one of the account's
    /// currencies known was stamped earlier than a day before the earliest such `time`; and of the offsets that the
    /// broker names, none before has a timestamp as late. What remains to be seen is that the first record found
    /// there opens the account, and that the cell comes out equal: else the whole stretch is read.
    pub(super) fn late_start(&self, id: PartitionId, account: &Account) -> anyhow::Result<Option<Offset>> {
        const DAY_MS: i64 = 86_400_000;
        let Some(known) = account.opened_at() else { return Ok(None) };
        let earliest = Time::from_millis(known.0.as_millisecond().saturating_sub(DAY_MS));
        let start = self.birth.start(id).unwrap_or_default();
        Ok(self.scan.offset_at(id, earliest)?.filter(|offset| *offset > start))
    }

    /// The stretches that may hold records of a subject: its home and where it is on hold, or all of the topic.
    pub(super) fn stretches(
        &self,
        topic: Topic,
        home: Option<i32>,
        quarantines: &[Quarantine],
        ends: &Ends,
    ) -> anyhow::Result<Vec<Stretch>> {
        let mut partitions = Vec::new();
        if let Some(partition) = home {
            partitions.push(PartitionId { topic, partition });
            let held = quarantines.iter().map(|quarantine| quarantine.partition);
            partitions.extend(held.filter(|id| id.topic == topic));
        } else {
            partitions
                .extend(self.birth.starts().into_iter().map(|(id, _)| id).filter(|id| id.topic == topic));
        }
        let mut seen = BTreeSet::new();
        partitions.retain(|partition| seen.insert(*partition));
        partitions.into_iter().map(|id| self.stretch(id, ends)).collect()
    }

    /// Hands over those records of a stretch that are wanted, by key and value.
    pub(super) fn read(
        &self,
        stretch: &mut Stretch,
        mut wants: impl FnMut(Option<&[u8]>, Option<&[u8]>) -> bool,
        mut each: impl FnMut(PartitionId, &Stored<'_>),
    ) -> Result<(), ScanError> {
        let (id, from, to) = (stretch.id, Offset(stretch.from), Offset(stretch.to));
        let mut records = 0_u64;
        let wants = |key: Option<&[u8]>, value: Option<&[u8]>| {
            records = records.saturating_add(1);
            wants(key, value)
        };
        let begun = Instant::now();
        self.scan.read_some(id, from, to, wants, |record| {
            each(id, record);
            ControlFlow::Continue(())
        })?;
        stretch.records = records;
        stretch.milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(())
    }

    /// Where the log and the store disagree about what is on hold.
    pub(super) fn holds(
        &self,
        of_log: impl Iterator<Item = Quarantine>,
        of_store: impl Iterator<Item = Quarantine>,
    ) -> Option<String> {
        let sorted = |held: Vec<Quarantine>| {
            // That a gap may be about to close is nothing that the log says.
            let mut held: Vec<_> = held.into_iter().map(|held| Quarantine { heals: false, ..held }).collect();
            held.sort_by_key(|held| (held.partition, held.offset));
            held
        };
        let (of_log, of_store) = (sorted(of_log.collect()), sorted(of_store.collect()));
        if of_log == of_store {
            return None;
        }
        let list = |held: &[Quarantine]| {
            let each = held.iter().map(|held| {
                let at = self.cluster.display(held.partition);
                format!("{at}@{} {} with {} waiting", held.offset, held.class, held.waiting)
            });
            let all: Vec<_> = each.collect();
            if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
        };
        Some(format!("on hold: {} by the log, {} in the store", list(&of_log), list(&of_store)))
    }
}
