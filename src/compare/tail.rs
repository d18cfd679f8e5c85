//! The end of the log, from given positions on, kept by subject: what folds a cell forward.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::ControlFlow,
};

use rdkafka::error::KafkaError;

use super::subject::{Law, State};
use crate::{
    domain::{Cell, Offset, PartitionId, Subject},
    projector::lane::Lane,
    source::{
        Cluster,
        batch::{Headers, Stored},
        scan::{Scan, ScanError},
    },
    wire,
};

/// Offsets per partition, each the next one to read.
pub type Offsets = BTreeMap<PartitionId, Offset>;

/// The records of some partitions from given offsets on, by subject.
pub struct Tail {
    scan: Scan,
    from: Offsets,
    reached: Offsets,
    records: HashMap<Subject, Vec<Kept>>,
    /// Whose records are kept; without it, everybody's.
    only: Option<HashSet<Subject>>,
    bytes: usize,
}

/// A record, without its key: that is the subject's.
struct Kept {
    partition: PartitionId,
    offset: Offset,
    timestamp_ms: i64,
    value: Option<Box<[u8]>>,
    headers: Vec<KeptHeader>,
}

type KeptHeader = (Box<str>, Option<Box<[u8]>>);

/// What a record costs besides its bytes.
const RECORD_BYTES: usize = 160;

impl Tail {
    /// An empty tail that begins at these offsets; nothing is read yet.
    pub fn new(cluster: &Cluster, from: Offsets) -> Result<Self, KafkaError> {
        Ok(Tail {
            scan: Scan::new(cluster)?,
            reached: from.clone(),
            from,
            records: HashMap::new(),
            only: None,
            bytes: 0,
        })
    }

    /// The same, of these subjects alone.
    pub fn of(cluster: &Cluster, from: Offsets, subjects: HashSet<Subject>) -> Result<Self, KafkaError> {
        Ok(Tail { only: Some(subjects), ..Tail::new(cluster, from)? })
    }

    /// Reads on up to these offsets; blocking. Partitions in which the tail does not begin are left out.
    pub fn advance(&mut self, to: &Offsets) -> Result<(), ScanError> {
        for (partition, reached) in &mut self.reached {
            let Some(to) = to.get(partition).filter(|to| *to > reached) else { continue };
            let (records, bytes, only) = (&mut self.records, &mut self.bytes, &self.only);
            let wanted = |subject: &Subject| only.as_ref().is_none_or(|only| only.contains(subject));
            self.scan.read(*partition, *reached, *to, |record| {
                let subject = wire::subject(&record.record(partition.topic));
                if let Some(subject) = subject.filter(wanted) {
                    let kept = Kept::of(*partition, record);
                    *bytes = bytes.saturating_add(kept.bytes());
                    records.entry(subject).or_default().push(kept);
                }
                ControlFlow::Continue(())
            })?;
            *reached = *to;
        }
        Ok(())
    }

    /// Folds a subject forward from one position to another; what the tail does not hold yet is not folded.
    ///
    /// Where its key is on hold, its records wait. A decision or a gap that closes calls for them to be folded again
    /// from where the hold began: take the mark away, and begin there.
    pub fn forward(&self, law: &Law, subject: &Subject, state: &mut State, (from, to): (&Offsets, &Offsets)) {
        let Some(records) = self.records.get(subject) else { return };
        let home = state.cell.as_ref().map(Cell::home);
        let mut partitions: Vec<PartitionId> = records.iter().map(|kept| kept.partition).collect();
        partitions.sort_unstable_by_key(|partition| (Some(partition.partition) != home, *partition));
        partitions.dedup();
        for partition in partitions {
            let (Some(from), Some(to)) = (from.get(&partition), to.get(&partition)) else { continue };
            let within =
                |kept: &&Kept| kept.partition == partition && kept.offset >= *from && kept.offset < *to;
            let records = records.iter().filter(within);
            if let Some(mark) = state.quarantines.get_mut(&partition) {
                let waiting = records.filter(|kept| kept.offset > mark.offset).count();
                mark.waiting = mark.waiting.saturating_add(u64::try_from(waiting).unwrap_or(u64::MAX));
                continue;
            }
            let mut lane = Lane::new(state.cell.take());
            for kept in records {
                let ground = law.ground(partition, subject);
                kept.lent(subject, |record| lane.take(&ground, record, &mut |_| {}));
            }
            let (cell, mark) = lane.into_parts();
            state.cell = cell;
            state.quarantines.extend(mark.map(|mark| (partition, mark)));
        }
    }

    /// Whether it holds a record of the subject between these positions.
    pub fn moves(&self, subject: &Subject, (from, to): (&Offsets, &Offsets)) -> bool {
        let between = |kept: &Kept| {
            let (from, to) = (from.get(&kept.partition), to.get(&kept.partition));
            from.is_some_and(|from| kept.offset >= *from) && to.is_some_and(|to| kept.offset < *to)
        };
        self.records.get(subject).is_some_and(|records| records.iter().any(between))
    }

    /// The first offset of a partition that retention has left.
    pub fn low(&self, partition: PartitionId) -> Result<Offset, ScanError> {
        Ok(self.scan.bounds(partition)?.0)
    }

    /// Where it begins.
    pub fn from(&self) -> &Offsets {
        &self.from
    }

    /// Whether a subject has a record in the tail.
    pub fn holds(&self, subject: &Subject) -> bool {
        self.records.contains_key(subject)
    }

    /// Every subject that has a record in the tail.
    pub fn subjects(&self) -> impl Iterator<Item = &Subject> {
        self.records.keys()
    }

    /// About how much memory it takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Kept {
    fn of(partition: PartitionId, record: &Stored<'_>) -> Self {
        let header = |(name, value): &(&str, Option<&[u8]>)| ((*name).into(), value.map(Into::into));
        Kept {
            partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            value: record.value.map(Into::into),
            headers: record.headers.iter().map(header).collect(),
        }
    }

    fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| {
            name.len().saturating_add(value.as_ref().map_or(0, |value| value.len())).saturating_add(48)
        });
        let value = self.value.as_ref().map_or(0, |value| value.len());
        headers.fold(value.saturating_add(RECORD_BYTES), usize::saturating_add)
    }

    fn lent(&self, subject: &Subject, mut to: impl FnMut(&Stored<'_>)) {
        let headers: Headers<'_> =
            self.headers.iter().map(|(name, value)| (name.as_ref(), value.as_deref())).collect();
        to(&Stored {
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            key: Some(subject.as_str().as_bytes()),
            value: self.value.as_deref(),
            headers,
        });
    }
}
