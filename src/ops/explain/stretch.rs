//! What is read of the log for one subject: which partitions, from where, up to where.

use std::ops::ControlFlow;

use serde::Serialize;

use super::{Ends, Log};
use crate::{
    domain::{Account, Offset, PartitionId, Subject, Time},
    source::{batch::Stored, scan::ScanError},
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
    /// It begins after the generation's beginning: no record of the subject can lie before.
    pub late: bool,
    #[serde(skip)]
    pub(super) id: Option<PartitionId>,
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
            late: false,
            id: Some(id),
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

    /// Hands over the subject's records of a stretch.
    pub(super) fn read(
        &self,
        stretch: &mut Stretch,
        subject: &Subject,
        mut each: impl FnMut(PartitionId, &Stored<'_>),
    ) -> Result<(), ScanError> {
        let Some(id) = stretch.id else { return Ok(()) };
        let key = subject.as_str().as_bytes();
        let mut records = 0_u64;
        self.scan.read(id, Offset(stretch.from), Offset(stretch.to), |record| {
            records = records.saturating_add(1);
            if record.key == Some(key) {
                each(id, record);
            }
            ControlFlow::Continue(())
        })?;
        stretch.records = records;
        Ok(())
    }
}
