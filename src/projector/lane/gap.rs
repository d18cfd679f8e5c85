//! What waits behind a sequence gap, and when it may close.

use std::{
    collections::{BTreeSet, VecDeque},
    ops::Range,
};

use compact_str::CompactString;

use crate::{
    domain::{Cell, Event, Offset, Rejection, Rules, number_due},
    source::batch::Stored,
};

/// A gap closes by itself while no more records than these wait behind it, and no more bytes; past that, only a
/// decision closes it. Part of the fold: every process counts alike.
const GAP_RECORDS_MAX: usize = 10_000;
/// See [`GAP_RECORDS_MAX`].
const GAP_BYTES_MAX: usize = 64 << 20;

/// What waits behind a gap, while it may close by itself; the record with the gap first.
#[derive(Debug)]
pub(super) struct Gap {
    pub(super) missing: Missing,
    pub(super) records: VecDeque<Kept>,
    bytes: usize,
}

/// The numbers that a gap waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    pub(super) source: CompactString,
    pub(super) range: Range<u64>,
    /// Those that have come: few mostly, where thousands may be missing.
    come: BTreeSet<u64>,
    /// All had come, and it could not be closed: the number whose event could not be folded, or the one of the record
    /// with the gap. Another event with that number alone makes a difference.
    stuck_at: Option<u64>,
}

impl Missing {
    /// What is missing before an event; `None` where that is nothing, or more than may be waited for.
    pub fn before(event: &Event, cell: Option<&Cell>, rules: &Rules) -> Option<Missing> {
        let range = number_due(cell, event, rules)..event.sequence?;
        let source = event.source.clone();
        let missing = Missing { source, range, come: BTreeSet::new(), stuck_at: None };
        (1..=GAP_RECORDS_MAX).contains(&missing.count()).then_some(missing)
    }

    /// Notes an event behind the gap; tells whether the gap may close by it: it bears one of the numbers, and none is
    /// missing any more.
    pub fn may_close_by(&mut self, event: &Event) -> bool {
        let Some(number) = event.sequence.filter(|_| event.source == self.source) else { return false };
        let counts = self.stuck_at.is_none_or(|stuck| stuck == number);
        self.comes(number) && counts && self.come.len() == self.count()
    }

    /// It could not be closed, for want of an event with this number that can be folded.
    pub(super) fn is_stuck_at(&mut self, number: u64) {
        self.stuck_at = Some(number);
    }

    /// Whether the number is one of them.
    fn comes(&mut self, number: u64) -> bool {
        let one_of_them = self.range.contains(&number);
        if one_of_them {
            self.come.insert(number);
        }
        one_of_them
    }

    fn count(&self) -> usize {
        usize::try_from(self.range.end.saturating_sub(self.range.start)).unwrap_or(usize::MAX)
    }
}

impl Gap {
    pub(super) fn new(mut missing: Missing, first: Kept, mut records: VecDeque<Kept>) -> Self {
        for kept in &records {
            if let Some((_, number)) = kept.numbered.as_ref().filter(|(source, _)| *source == missing.source)
            {
                missing.comes(*number);
            }
        }
        records.push_front(first);
        let bytes = records.iter().map(Kept::bytes).fold(0, usize::saturating_add);
        Gap { missing, records, bytes }
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is room for the record, which is kept then.
    pub(super) fn keep(&mut self, record: &Stored<'_>, read: &Result<Event, Rejection>) -> bool {
        let kept = Kept::new(record, read);
        self.bytes = self.bytes.saturating_add(kept.bytes());
        self.records.push_back(kept);
        self.records.len() <= GAP_RECORDS_MAX && self.bytes <= GAP_BYTES_MAX
    }
}

/// A record that waits.
#[derive(Debug, Clone)]
pub struct Kept {
    pub(super) offset: Offset,
    pub(super) timestamp_ms: i64,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Vec<(String, Option<Vec<u8>>)>,
    pub(super) numbered: Option<(CompactString, u64)>,
}

impl Kept {
    pub(super) fn new(record: &Stored<'_>, read: &Result<Event, Rejection>) -> Self {
        let numbered = read.as_ref().ok().and_then(|event| Some((event.source.clone(), event.sequence?)));
        Kept { numbered, ..Kept::from(record) }
    }

    /// The record, borrowed.
    pub fn stored(&self) -> Stored<'_> {
        Stored {
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: self.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect(),
        }
    }

    /// About how much memory it takes.
    pub fn bytes(&self) -> usize {
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| name.len().saturating_add(value.as_ref().map_or(0, Vec::len)));
        let parts = [self.key.as_ref().map_or(0, Vec::len), self.value.as_ref().map_or(0, Vec::len)];
        headers.chain(parts).fold(0, usize::saturating_add)
    }

    pub(super) fn bears(&self, source: &str, number: u64) -> bool {
        self.numbered.as_ref().is_some_and(|(its, bears)| *bears == number && its == source)
    }
}

impl From<&Stored<'_>> for Kept {
    fn from(record: &Stored<'_>) -> Self {
        Kept {
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record
                .headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.map(<[u8]>::to_vec)))
                .collect(),
            numbered: None,
        }
    }
}
