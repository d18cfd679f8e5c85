//! Decoded cells of one partition, bounded by weight; cells that the store may not have yet stay.
//!
//! A record looks its cell up once: what finds it is a *place*, which stays the cell's while it is cached. Which cell
//! goes first is decided by second chance, for keeping a list in order of use would touch three cells for each that
//! is used.

use foldhash::fast::RandomState;
use hashbrown::{HashTable, hash_table::Entry};
use slab::Slab;
use std::hash::BuildHasher as _;

use crate::domain::{Account, AccountId, Cell, Dues, PREFETCHED, Subject, prefetch};

/// Where a cell is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(usize);

/// A cell as the store will hold it once every commit sent is applied.
#[derive(Debug)]
pub struct Slot {
    key: Subject,
    /// `None` before the subject's first event.
    pub cell: Option<Cell>,
    /// Whether the store has it, or will: a cell that it has not yet is written as a birth.
    pub stored: bool,
    /// The number of the last commit that wrote it; [`Slot::UNSENT`] while it is changed and not sent.
    pub commit: u64,
    /// What became since that commit of what customers owe on it.
    dues: Dues,
    /// Used since the hand came by.
    used: bool,
    weight: usize,
}

impl Slot {
    /// Changed since the last commit that wrote it.
    pub const UNSENT: u64 = u64::MAX;
}

/// A cell that goes out with a commit.
#[derive(Debug)]
pub struct Written<'a> {
    /// Whose it is.
    pub key: &'a Subject,
    /// The commit gives birth to it.
    pub born: bool,
    /// What customers owe on it goes out too: the account, and whether a customer may be new to it.
    pub owed: Option<(&'a AccountId, &'a Account, bool)>,
}

/// The cells that are known without asking the store.
#[derive(Debug, Default)]
pub struct Cache {
    hasher: RandomState,
    places: HashTable<usize>,
    slots: Slab<Slot>,
    weight: usize,
    /// The place that is looked at next where room is needed, and the end of all places there ever were.
    hand: usize,
    end: usize,
}

/// A slot, and about what it takes in the table of places.
const SLOT_BYTES: usize = size_of::<Slot>() + 16;

impl Cache {
    /// What the cells weigh, in bytes.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Where the cell is, if it is known, absent or not.
    pub fn find(&self, key: &Subject) -> Option<Place> {
        let hash = self.hasher.hash_one(key);
        let is_it = |place: &usize| self.slots.get(*place).is_some_and(|slot| slot.key == *key);
        self.places.find(hash, is_it).map(|place| Place(*place))
    }

    /// A known cell by its place; `None` where another took the place since.
    pub fn at(&mut self, place: Place, key: &Subject) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(place.0).filter(|slot| slot.key == *key)?;
        slot.used = true;
        Some(slot)
    }

    /// The cell at a place has changed, and is weighed again; its weight, where the change is news since the last commit
    /// that wrote it.
    pub fn change(&mut self, place: Place, dues: Dues) -> Option<usize> {
        let slot = self.slots.get_mut(place.0)?;
        slot.dues = slot.dues.max(dues);
        let weight = weight(slot.cell.as_ref());
        self.weight = self.weight.saturating_sub(slot.weight).saturating_add(weight);
        slot.weight = weight;
        (std::mem::replace(&mut slot.commit, Slot::UNSENT) != Slot::UNSENT).then_some(weight)
    }

    /// What the cell at a place weighs.
    pub fn weight_at(&self, place: Place) -> usize {
        self.slots.get(place.0).map_or(0, |slot| slot.weight)
    }

    /// A known cell.
    pub fn get_mut(&mut self, key: &Subject) -> Option<&mut Slot> {
        let place = self.find(key)?;
        self.at(place, key)
    }

    /// Reads what [`Cache::find`] will read for these keys. It lies scattered in memory, and each look-up waits for it
    /// in turn: here one does not wait for the other.
    pub fn prefetch_places<'k>(&self, keys: impl Iterator<Item = &'k Subject>) {
        let mut likely = [0; PREFETCHED];
        for (key, likely) in keys.zip(&mut likely) {
            // The first whose hash is alike: nearly always the right one.
            let first = self.places.find(self.hasher.hash_one(key), |_| true);
            *likely = first.copied().unwrap_or_default();
        }
        let slots = likely.iter().filter_map(|place| self.slots.get(*place));
        std::hint::black_box(slots.fold(0, |sum: usize, slot| sum.wrapping_add(slot.weight)));
    }

    /// [`prefetch`] of the cells at these places.
    pub fn prefetch(&self, places: impl Iterator<Item = Place> + Clone) {
        prefetch(places.filter_map(|place| self.slots.get(place.0)?.cell.as_ref()));
    }

    /// A cell that the store told.
    pub fn insert(&mut self, key: Subject, cell: Option<Cell>) -> Place {
        let weight = weight(cell.as_ref());
        let stored = cell.is_some();
        let dues = if stored { Dues::Same } else { Dues::Opened };
        let slot = Slot { key, cell, stored, commit: 0, dues, used: true, weight };
        let Cache { hasher, places, slots, .. } = self;
        let hash = hasher.hash_one(&slot.key);
        let is_it = |place: &usize| slots.get(*place).is_some_and(|known| known.key == slot.key);
        let rehash = |place: &usize| slots.get(*place).map_or(0, |known| hasher.hash_one(&known.key));
        self.weight = self.weight.saturating_add(weight);
        let place = match places.entry(hash, is_it, rehash) {
            Entry::Occupied(known) => {
                let place = *known.get();
                if let Some(old) = slots.get_mut(place).map(|known| std::mem::replace(known, slot)) {
                    self.weight = self.weight.saturating_sub(old.weight);
                }
                place
            }
            Entry::Vacant(vacant) => {
                let place = slots.vacant_key();
                vacant.insert(place);
                slots.insert(slot)
            }
        };
        self.end = self.end.max(place.saturating_add(1));
        Place(place)
    }

    /// Forgets one cell.
    pub fn remove(&mut self, key: &Subject) {
        if let Some(place) = self.find(key) {
            self.remove_at(place.0);
        }
    }

    fn remove_at(&mut self, place: usize) {
        let Some(slot) = self.slots.try_remove(place) else { return };
        let hash = self.hasher.hash_one(&slot.key);
        if let Ok(entry) = self.places.find_entry(hash, |known| *known == place) {
            entry.remove();
        }
        self.weight = self.weight.saturating_sub(slot.weight);
    }

    /// The cell at a place goes out with a commit: its packed form is appended to `out`. `None` where there is no cell to
    /// write.
    pub fn write(&mut self, place: Place, commit: u64, out: &mut Vec<u8>) -> Option<Written<'_>> {
        let slot = self.slots.get_mut(place.0)?;
        slot.commit = commit;
        let cell = slot.cell.as_ref()?;
        cell.encode_into(out);
        let born = !std::mem::replace(&mut slot.stored, true);
        let dues = std::mem::replace(&mut slot.dues, Dues::Same);
        let owed = match (&slot.key, cell) {
            (Subject::Account(id), Cell::Account(account)) if dues != Dues::Same => {
                Some((id, account.as_ref(), dues == Dues::Opened))
            }
            _ => None,
        };
        Some(Written { key: &slot.key, born, owed })
    }

    /// Drops cells that were not used lately until no more than `bytes_max` are left, but none that a commit after
    /// `acknowledged` wrote: the store may not have it yet.
    pub fn shrink(&mut self, bytes_max: usize, acknowledged: u64) {
        // Twice around, every cell that may go has gone.
        let mut steps = self.end.saturating_mul(2);
        while self.weight > bytes_max && steps > 0 {
            steps = steps.saturating_sub(1);
            let place = if self.hand < self.end { self.hand } else { 0 };
            self.hand = place.saturating_add(1);
            let Some(slot) = self.slots.get_mut(place) else { continue };
            if !std::mem::take(&mut slot.used) && slot.commit <= acknowledged {
                self.remove_at(place);
            }
        }
    }
}

fn weight(cell: Option<&Cell>) -> usize {
    cell.map_or(0, Cell::weight).saturating_add(SLOT_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config,
        domain::{Offset, Parameters, PartitionId, RecordAt, Rules, Time, Topic, fold},
        projector::partition,
        wire,
    };

    fn key(number: usize) -> Subject {
        Subject::Account(AccountId::parse(&format!("A{number}")).unwrap())
    }

    fn filled(count: usize) -> (Cache, Vec<Place>) {
        let mut cache = Cache::default();
        let places = (0..count).map(|number| cache.insert(key(number), None)).collect();
        (cache, places)
    }

    #[test]
    fn a_place_is_its_cells_until_that_is_forgotten() {
        let (mut cache, places) = filled(1_000);
        for (number, place) in places.iter().enumerate() {
            assert_eq!(cache.find(&key(number)), Some(*place));
            assert!(cache.at(*place, &key(number)).is_some());
        }
        cache.remove(&key(7));
        assert_eq!(cache.find(&key(7)), None);
        let again = cache.insert(key(5_000), None);
        assert_eq!(again, places[7], "a place that is free is taken again");
        assert!(cache.at(places[7], &key(7)).is_none(), "and is not the old cell's any more");
        assert_eq!(cache.weight(), 1_000 * SLOT_BYTES);
    }

    #[test]
    fn a_cell_that_the_store_may_not_have_stays() {
        let (mut cache, places) = filled(10);
        cache.at(places[1], &key(1)).unwrap().commit = 8;
        assert_eq!(cache.change(places[2], Dues::Same), Some(SLOT_BYTES));
        assert_eq!(cache.change(places[2], Dues::Same), None, "it has changed already");
        cache.shrink(0, 7);
        let left: Vec<usize> = (0..10).filter(|number| cache.find(&key(*number)).is_some()).collect();
        assert_eq!(left, [1, 2], "in flight, and not sent yet");
        cache.shrink(0, 8);
        let left: Vec<usize> = (0..10).filter(|number| cache.find(&key(*number)).is_some()).collect();
        assert_eq!(left, [2]);
        assert_eq!(cache.weight(), SLOT_BYTES);
    }

    #[test]
    fn what_is_owed_goes_out_at_a_birth_and_as_it_changes() {
        let parameters = config::Config::default().parameters();
        let (mut cache, places) = filled(1);
        fold_one(&mut cache.at(places[0], &key(0)).unwrap().cell, 0, &parameters);
        let written = |cache: &mut Cache, commit| {
            let written = cache.write(places[0], commit, &mut Vec::new()).unwrap();
            written.owed.map(|(account, _, opened)| (account.as_str().to_owned(), opened))
        };
        cache.change(places[0], Dues::Same);
        assert_eq!(written(&mut cache, 1), Some(("A0".to_owned(), true)), "a birth");
        cache.change(places[0], Dues::Same);
        assert_eq!(written(&mut cache, 2), None);
        for dues in [Dues::Changed, Dues::Same] {
            cache.change(places[0], dues);
        }
        assert_eq!(written(&mut cache, 3), Some(("A0".to_owned(), false)));
        for dues in [Dues::Opened, Dues::Changed] {
            cache.change(places[0], dues);
        }
        assert_eq!(written(&mut cache, 4), Some(("A0".to_owned(), true)));
        cache.change(places[0], Dues::Same);
        assert_eq!(written(&mut cache, 5), None);
    }

    /// Folds one more entry into the account's cell.
    fn fold_one(cell: &mut Option<Cell>, n: i64, parameters: &Parameters) {
        let (offset, timestamp) = (Offset(n), Time::from_millis(1_780_000_000_000));
        let value = partition::tests::booked(usize::try_from(n).unwrap(), "A0", 1);
        let record = wire::Record {
            topic: Topic::Ledger,
            offset,
            timestamp,
            key: Some(b"A0"),
            value: Some(&value),
            headers: &[("content-type", Some(wire::STRUCTURED.as_bytes()))],
        };
        let event = wire::decode_for(&record, Some(&key(0)), parameters).unwrap();
        let at =
            RecordAt { partition: PartitionId { topic: Topic::Ledger, partition: 0 }, offset, timestamp };
        fold(cell, &event, &at, None, &Rules::new(parameters).unwrap()).unwrap();
    }

    #[test]
    fn a_cell_that_grows_is_weighed_before_it_is_written() {
        let parameters = config::Config::default().parameters();
        let (mut cache, places) = filled(1);
        let mut weights = vec![cache.weight()];
        for n in 0..40 {
            fold_one(&mut cache.at(places[0], &key(0)).unwrap().cell, n, &parameters);
            cache.change(places[0], Dues::Same);
            weights.push(cache.weight());
        }
        assert!(weights.is_sorted() && weights[40] > weights[1] && weights[1] > weights[0], "{weights:?}");
        cache.remove(&key(0));
        assert_eq!(cache.weight(), 0);
    }

    #[test]
    fn what_was_used_since_the_last_look_stays_longer() {
        let (mut cache, _) = filled(10);
        // Room for all but one: the hand passes every cell once and takes the first.
        cache.shrink(9 * SLOT_BYTES, 0);
        assert!(cache.get_mut(&key(1)).is_some());
        cache.shrink(8 * SLOT_BYTES, 0);
        let left: Vec<usize> = (0..10).filter(|number| cache.find(&key(*number)).is_some()).collect();
        assert_eq!(left, [1, 3, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn an_insert_in_place_of_a_cell_is_weighed_once() {
        let (mut cache, places) = filled(3);
        assert_eq!(cache.insert(key(1), None), places[1]);
        assert_eq!(cache.weight(), 3 * SLOT_BYTES);
    }
}
