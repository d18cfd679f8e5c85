//! Decoded cells of one partition, bounded by weight; cells with a commit in flight stay.

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashlink::LruCache;

use crate::{domain::Cell, store::CellKey};

/// A cell as the store will hold it once every commit sent is applied.
#[derive(Debug)]
pub struct Slot {
    /// `None` before the subject's first event.
    pub cell: Option<Cell>,
    /// Whether the store has it, or will: a cell that it has not yet is written as a birth.
    pub stored: bool,
    /// The number of the last commit that wrote it; [`Slot::UNSENT`] while it is changed and not sent.
    pub commit: u64,
    weight: usize,
    /// How long its encoded form was, for the next one.
    encoded: usize,
}

impl Slot {
    /// Changed since the last commit that wrote it.
    pub const UNSENT: u64 = u64::MAX;

    /// The packed form.
    pub fn encode(&mut self) -> Option<Bytes> {
        let mut bytes = Vec::with_capacity(self.encoded.saturating_add(64));
        self.cell.as_ref()?.encode_into(&mut bytes);
        self.encoded = bytes.len();
        Some(Bytes::from(bytes))
    }
}

/// The cells that are known without asking the store.
#[derive(Debug)]
pub struct Cache {
    slots: LruCache<CellKey, Slot, RandomState>,
    weight: usize,
}

const SLOT_BYTES: usize = 160;

impl Cache {
    /// An empty one.
    pub fn new() -> Self {
        Cache { slots: LruCache::with_hasher(usize::MAX, RandomState::default()), weight: 0 }
    }

    /// What the cells weigh, in bytes.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Whether the cell is known, absent or not.
    pub fn contains(&self, key: &CellKey) -> bool {
        self.slots.contains_key(key)
    }

    /// A cell that the store told.
    pub fn insert(&mut self, key: CellKey, cell: Option<Cell>) {
        let weight = cell.as_ref().map_or(0, Cell::weight).saturating_add(SLOT_BYTES);
        let stored = cell.is_some();
        let slot = Slot { cell, stored, commit: 0, weight, encoded: 0 };
        self.weight = self.weight.saturating_add(weight);
        if let Some(old) = self.slots.insert(key, slot) {
            self.weight = self.weight.saturating_sub(old.weight);
        }
    }

    /// A known cell, as the most recently used.
    pub fn get_mut(&mut self, key: &CellKey) -> Option<&mut Slot> {
        self.slots.get_mut(key)
    }

    /// Forgets one cell.
    pub fn remove(&mut self, key: &CellKey) {
        if let Some(old) = self.slots.remove(key) {
            self.weight = self.weight.saturating_sub(old.weight);
        }
    }

    /// Weighs a cell again after it was written by a commit.
    pub fn written(&mut self, key: &CellKey, commit: u64) {
        if let Some(slot) = self.slots.get_mut(key) {
            let weight = slot.cell.as_ref().map_or(0, Cell::weight).saturating_add(SLOT_BYTES);
            self.weight = self.weight.saturating_sub(slot.weight).saturating_add(weight);
            slot.weight = weight;
            slot.stored = true;
            slot.commit = commit;
        }
    }

    /// Drops the least recently used down to `bytes_max`, but none that a commit after `acknowledged` wrote:
    /// the store may not have it yet.
    pub fn shrink(&mut self, bytes_max: usize, acknowledged: u64) {
        while self.weight > bytes_max {
            match self.slots.iter().next() {
                Some((_, slot)) if slot.commit <= acknowledged => {}
                Some(_) | None => return,
            }
            if let Some((_, slot)) = self.slots.remove_lru() {
                self.weight = self.weight.saturating_sub(slot.weight);
            }
        }
    }
}
