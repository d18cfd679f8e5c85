//! The end of the log, from given positions on, kept by subject: what folds a cell forward.

use std::{
    collections::{BTreeMap, HashMap},
    ops::ControlFlow,
};

use rdkafka::error::KafkaError;

use super::subject::{Law, State};
use crate::{
    domain::{Offset, PartitionId, Subject},
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
    reached: Offsets,
    records: HashMap<Subject, Vec<Kept>>,
    bytes: usize,
}

/// A record, without its key: that is the subject's.
struct Kept {
    partition: PartitionId,
    offset: Offset,
    timestamp_ms: i64,
    value: Option<Box<[u8]>>,
    headers: Vec<(Box<str>, Option<Box<[u8]>>)>,
}

/// What a record costs besides its bytes.
const RECORD_BYTES: usize = 160;

impl Tail {
    /// An empty tail that begins at these offsets; nothing is read yet.
    pub fn new(cluster: &Cluster, from: Offsets) -> Result<Self, KafkaError> {
        Ok(Tail { scan: Scan::new(cluster)?, reached: from, records: HashMap::new(), bytes: 0 })
    }

    /// Reads on up to these offsets; blocking. Partitions in which the tail does not begin are left out.
    pub fn advance(&mut self, to: &Offsets) -> Result<(), ScanError> {
        for (partition, reached) in &mut self.reached {
            let Some(to) = to.get(partition).filter(|to| *to > reached) else { continue };
            let (records, bytes) = (&mut self.records, &mut self.bytes);
            self.scan.read(*partition, *reached, *to, |record| {
                if let Some(subject) = wire::subject(&record.record(partition.topic)) {
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
    pub fn forward(
        &self,
        law: &Law,
        subject: &Subject,
        state: &mut State,
        (from, to): (&Offsets, &Offsets),
        home: Option<i32>,
    ) {
        for kept in self.records.get(subject).into_iter().flatten() {
            let within = from.get(&kept.partition).is_some_and(|from| kept.offset >= *from)
                && to.get(&kept.partition).is_some_and(|to| kept.offset < *to);
            if within {
                kept.lent(subject, |record| law.take(subject, state, kept.partition, record, home));
            }
        }
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
