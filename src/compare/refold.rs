//! A stretch of a partition folded in memory, for some of its subjects: what the log says, without a store.

use std::{
    hash::BuildHasher as _,
    ops::ControlFlow,
    time::{Duration, Instant},
};

use foldhash::quality::RandomState;
use indexmap::IndexMap;

use super::subject::{Law, State};
use crate::{
    domain::{Cell, Offset, PREFETCHED, PartitionId, Subject, prefetch},
    projector::lane::Lane,
    source::{
        batch::Batch,
        scan::{Scan, ScanError},
    },
    wire,
};

/// Which subjects are folded: those whose hash lies in a range, and some by name.
#[derive(Debug, Clone)]
pub struct Selection {
    hasher: RandomState,
    range: Option<(u64, u64)>,
    named: std::collections::HashSet<Subject, RandomState>,
}

/// About what a subject takes besides its cell.
const SUBJECT_BYTES: usize = 256;
/// About what a cell takes after its first record; what the next ones add to it is less than they take themselves.
const NEW_CELL_BYTES: usize = 2_048;

impl Selection {
    /// All of them.
    pub fn all() -> Self {
        Selection {
            hasher: RandomState::default(),
            range: Some((u64::MIN, u64::MAX)),
            named: std::collections::HashSet::default(),
        }
    }

    /// These alone.
    pub fn named(subjects: impl IntoIterator<Item = Subject>) -> Self {
        Selection { range: None, named: subjects.into_iter().collect(), ..Selection::all() }
    }

    /// One of so many equal parts, the parts counted from 0, and these besides.
    pub fn part(number: u64, of: u64, besides: impl IntoIterator<Item = Subject>) -> Self {
        let width = u64::MAX.checked_div(of.max(1)).unwrap_or(u64::MAX);
        let first = width.saturating_mul(number);
        let last = if number.saturating_add(1) >= of { u64::MAX } else { first.saturating_add(width) };
        Selection { range: Some((first, last)), named: besides.into_iter().collect(), ..Selection::all() }
    }

    /// Whether a subject is among them.
    pub fn holds(&self, subject: &Subject) -> bool {
        let hash = || self.hasher.hash_one(subject);
        self.range.is_some_and(|(first, last)| {
            (first, last) == (u64::MIN, u64::MAX) || (first..=last).contains(&hash())
        }) || (!self.named.is_empty() && self.named.contains(subject))
    }

    /// Keeps the first half of the range, and returns the other; `None` where it cannot be halved.
    fn halve(&mut self) -> Option<Selection> {
        let (first, last) = self.range?;
        let middle = first.checked_add(last.checked_sub(first)? / 2)?;
        if middle == last {
            return None;
        }
        let rest = Selection {
            hasher: self.hasher.clone(),
            range: Some((middle.checked_add(1)?, last)),
            named: std::collections::HashSet::default(),
        };
        self.range = Some((first, middle));
        Some(rest)
    }
}

/// A rate of records that is not passed.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    per_second: u32,
    begun: Instant,
    taken: u32,
}

impl Pace {
    /// At most so many records a second.
    pub fn new(per_second: u32) -> Self {
        Pace { per_second: per_second.max(1), begun: Instant::now(), taken: 0 }
    }

    /// Takes one; blocks while that would be too fast.
    fn take(&mut self) {
        self.taken = self.taken.saturating_add(1);
        // A tenth of a second's worth at a time: a sleep for each record would cost more than the record.
        if self.taken < self.per_second.div_ceil(10) {
            return;
        }
        let due = Duration::from_secs(1).saturating_mul(self.taken).checked_div(self.per_second);
        std::thread::sleep(due.unwrap_or_default().saturating_sub(self.begun.elapsed()));
        (self.begun, self.taken) = (Instant::now(), 0);
    }
}

/// Subjects of a partition as the log makes them.
pub struct Refold<'a> {
    law: &'a Law,
    partition: PartitionId,
    selection: Selection,
    lanes: IndexMap<Subject, Lane, RandomState>,
    /// Ranges of subjects that did not fit into memory, to be folded by themselves.
    pub left_over: Vec<Selection>,
    /// Records read, selected or not.
    pub records: u64,
    /// What the cells weigh at most: more than they did when they were weighed last, by all that came since.
    bytes: usize,
    bytes_max: usize,
    pace: Option<Pace>,
}

impl<'a> Refold<'a> {
    /// Nothing folded yet; about so much memory at most.
    pub fn new(
        law: &'a Law,
        partition: PartitionId,
        selection: Selection,
        bytes_max: usize,
        pace: Option<Pace>,
    ) -> Self {
        Refold {
            law,
            partition,
            selection,
            lanes: IndexMap::default(),
            left_over: Vec::new(),
            records: 0,
            bytes: 0,
            bytes_max,
            pace,
        }
    }

    /// Folds a stretch; blocking. `stop` is asked every now and then.
    pub fn fold(
        &mut self,
        scan: &Scan,
        (from, to): (Offset, Offset),
        stop: &tokio_util::sync::CancellationToken,
    ) -> Result<(), ScanError> {
        scan.read_batches(self.partition, from, to, |batch| {
            self.fold_batch(batch);
            self.make_room();
            if stop.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    }

    fn fold_batch(&mut self, batch: &Batch) {
        let (topic, known) = (self.partition.topic, self.lanes.len());
        let mut lined_up = Vec::with_capacity(batch.len());
        for (index, (_, key)) in batch.keys().enumerate() {
            let subject = wire::subject_of(topic, key).filter(|subject| self.selection.holds(subject));
            lined_up.push((index, subject.map(|subject| self.place(subject))));
        }
        for several in lined_up.chunks(PREFETCHED) {
            let cells = several.iter().filter_map(|(_, place)| self.lanes.get_index((*place)?)?.1.cell());
            prefetch(cells);
            for (index, place) in several {
                self.records = self.records.saturating_add(1);
                if let Some(pace) = &mut self.pace {
                    pace.take();
                }
                let lane = place.and_then(|place| self.lanes.get_index_mut(place));
                if let (Some((subject, lane)), Some(record)) = (lane, batch.record(*index)) {
                    let ground = self.law.ground(self.partition, subject);
                    lane.take(&ground, &record, &mut |_| {});
                }
            }
        }
        let born = self.lanes.len().saturating_sub(known);
        let new = born.saturating_mul(NEW_CELL_BYTES);
        self.bytes = self.bytes.saturating_add(batch.bytes()).saturating_add(new);
    }

    /// Every subject that came up, with its cell and what is on hold in this partition.
    pub fn into_states(self) -> Vec<(Subject, State)> {
        let partition = self.partition;
        let state = |(subject, lane): (Subject, Lane)| {
            let (cell, mark) = lane.into_parts();
            (subject, State { cell, quarantines: mark.map(|mark| (partition, mark)).into_iter().collect() })
        };
        self.lanes.into_iter().map(state).collect()
    }

    fn place(&mut self, subject: Subject) -> usize {
        let entry = self.lanes.entry(subject);
        let place = entry.index();
        entry.or_default();
        place
    }

    fn make_room(&mut self) {
        if self.bytes <= self.bytes_max {
            return;
        }
        self.bytes = self.weigh();
        // Weighing takes time: a quarter stays free until the next one.
        let most = self.bytes_max.saturating_sub(self.bytes_max / 4);
        while self.bytes > most {
            let Some(rest) = self.selection.halve() else { return };
            self.left_over.push(rest);
            let selection = &self.selection;
            self.lanes.retain(|subject, _| selection.holds(subject));
            self.bytes = self.weigh();
        }
    }

    fn weigh(&self) -> usize {
        let of = |lane: &Lane| lane.cell().map_or(0, Cell::weight).saturating_add(lane.waiting_bytes());
        let subjects = self.lanes.len().saturating_mul(SUBJECT_BYTES);
        self.lanes.values().map(of).fold(subjects, usize::saturating_add)
    }
}
