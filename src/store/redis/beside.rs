//! Subjects of generations side by side, and the walk over all of them: for comparisons, audits and exports.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use redis::Value;

use super::{
    RedisStore, array, bulk, fields, parts, positions_of, quarantine,
    scan::{self, PAGE_KEYS, Scan},
    script, unexpected,
};
use crate::{
    domain::{AccountId, PartitionId, Subject},
    store::{
        Derived, Generation, Position, Quarantine, StoreError,
        keys::{self, Keys, Name},
    },
};

/// How many subjects one call reads, at most: with cells of two generations Redis is held for less than a
/// millisecond.
pub const SUBJECTS_MAX: usize = 120;
/// How many derived entries one call reads beside that, at most.
pub const ENTRIES_MAX: usize = 240;

/// A subject as a generation holds it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    /// Its encoded cell.
    pub cell: Option<Bytes>,
    /// Where its key is on hold.
    pub quarantines: Vec<Quarantine>,
}

/// A derived entry as a generation holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// The account is named, with this due, encoded.
    Due(Bytes),
    /// The field holds this mark.
    Mark(Quarantine),
}

/// Subjects and entries at one instant, in the order asked for.
#[derive(Debug, Clone)]
pub struct Beside<const N: usize> {
    /// The positions of each generation.
    pub positions: [BTreeMap<PartitionId, Position>; N],
    /// The subjects, in each generation.
    pub subjects: Vec<[Held; N]>,
    /// The derived entries, in each generation.
    pub entries: Vec<[Option<Entry>; N]>,
}

/// Where a walk stands.
#[derive(Debug, Clone)]
pub struct Walk {
    generations: Vec<Keys>,
    numbers: Vec<Generation>,
    scan: Scan,
}

impl RedisStore {
    /// Reads up to [`SUBJECTS_MAX`] subjects in several generations, at one instant.
    pub async fn beside<const N: usize>(
        &self,
        generations: [Generation; N],
        subjects: &[Subject],
    ) -> Result<Beside<N>, StoreError> {
        self.beside_with(generations, subjects, &[]).await
    }

    /// The same, with up to [`ENTRIES_MAX`] derived entries at that instant.
    pub async fn beside_with<const N: usize>(
        &self,
        generations: [Generation; N],
        subjects: &[Subject],
        entries: &[Derived],
    ) -> Result<Beside<N>, StoreError> {
        let of = generations.map(|generation| self.keys(generation));
        let each = subjects.len().saturating_mul(2).saturating_add(entries.len()).saturating_add(1);
        let mut command = script(&self.scripts.beside, each.saturating_mul(N));
        for keys in &of {
            command.arg(keys.positions());
        }
        for keys in &of {
            for subject in subjects {
                command.arg(keys.cell(subject));
            }
        }
        for keys in &of {
            for subject in subjects {
                command.arg(match subject {
                    Subject::Account(id) => keys.account_quarantine(id),
                    Subject::Customer(id) => keys.customer_quarantine(id),
                });
            }
        }
        for keys in &of {
            for entry in entries {
                command.arg(keys.derived(entry).0);
            }
        }
        command.arg(N).arg(subjects.len());
        for (entry, keys) in entries.iter().zip(of.iter().cycle()) {
            command.arg(keys.derived(entry).1);
        }
        let [held, cells, quarantines, values] = parts(self.writer.call(&command).await?)?;
        let held: [Value; N] = parts(held)?;
        let mut positions = std::array::from_fn(|_| BTreeMap::new());
        for (to, from) in positions.iter_mut().zip(held) {
            *to = positions_of(from)?.into_iter().collect();
        }
        let (mut cells, mut quarantines) = (array(cells)?.into_iter(), array(quarantines)?.into_iter());
        let mut found: Vec<[Held; N]> =
            subjects.iter().map(|_| std::array::from_fn(|_| Held::default())).collect();
        for generation in 0..N {
            for subject in &mut found {
                let Some(to) = subject.get_mut(generation) else { continue };
                to.cell = bulk(cells.next().ok_or_else(unexpected)?)?.map(Bytes::from);
                let marks = quarantines.next().map(array).transpose()?.unwrap_or_default();
                for mark in marks {
                    to.quarantines.push(quarantine(&bulk(mark)?.ok_or_else(unexpected)?)?);
                }
                to.quarantines.sort_by_key(|mark| mark.partition);
            }
        }
        let mut values = array(values)?.into_iter();
        let mut beside: Vec<[Option<Entry>; N]> =
            entries.iter().map(|_| std::array::from_fn(|_| None)).collect();
        for generation in 0..N {
            for (entry, beside) in entries.iter().zip(&mut beside) {
                let Some(to) = beside.get_mut(generation) else { continue };
                *to = entry_of(entry, values.next().ok_or_else(unexpected)?)?;
            }
        }
        Ok(Beside { positions, subjects: found, entries: beside })
    }

    /// Every derived entry under these names of a generation; those that name nothing derived are left out.
    pub async fn derived(&self, generation: Generation, names: &[Name]) -> Result<Vec<Derived>, StoreError> {
        let keys = self.keys(generation);
        let mut found = Vec::new();
        for names in names.chunks(SUBJECTS_MAX) {
            let mut pipe = redis::pipe();
            let mut asked = Vec::new();
            for name in names {
                match name {
                    Name::Owing(_) | Name::DueQuarantine(_) | Name::Index(_) => {
                        pipe.cmd("HGETALL").arg(keys.key(name))
                    }
                    Name::Cell(_)
                    | Name::AccountQuarantine(_)
                    | Name::CustomerQuarantine(_)
                    | Name::Positions
                    | Name::States => continue,
                };
                asked.push(name);
            }
            if asked.is_empty() {
                continue;
            }
            for (name, value) in asked.into_iter().zip(self.writer.call_all(&pipe).await?) {
                found.extend(derived_of(name, value)?);
            }
        }
        Ok(found)
    }

    /// The subjects on hold in these partitions of a generation, by the partitions' indexes. A walk may miss one that has
    /// no cell and is let go meanwhile: its mark's key goes, and its cell's key comes.
    pub async fn on_hold(
        &self,
        generation: Generation,
        partitions: &[PartitionId],
    ) -> Result<BTreeSet<Subject>, StoreError> {
        let names: Vec<Name> = partitions.iter().copied().map(Name::Index).collect();
        let found = self.derived(generation, &names).await?.into_iter();
        let subjects = found.filter_map(|entry| match entry {
            Derived::Index { subject, .. } => Some(subject),
            Derived::Owing { .. } | Derived::Told { .. } => None,
        });
        Ok(subjects.collect())
    }

    /// A walk over every key of these generations: each that is there from its beginning to its end comes up at
    /// least once.
    pub fn walk(&self, generations: &[Generation]) -> Walk {
        let of: Vec<Keys> = generations.iter().map(|generation| self.keys(*generation)).collect();
        let pattern = match of.as_slice() {
            [one] => one.pattern(),
            _ => keys::pattern_of_all(&self.prefix),
        };
        Walk { generations: of, numbers: generations.to_vec(), scan: Scan::new(pattern) }
    }

    /// The next page of a walk; `None` at its end.
    ///
    /// [`StoreError::Corrupt`] for a key under a generation that this program did not write.
    pub async fn step(&self, walk: &mut Walk) -> Result<Option<Vec<(Generation, Name)>>, StoreError> {
        let Some(page) = walk.scan.page(&self.writer).await? else { return Ok(None) };
        let mut names = Vec::new();
        for key in page {
            let key = scan::own(key)?;
            for (keys, generation) in walk.generations.iter().zip(&walk.numbers) {
                if keys.owns(&key) {
                    names.push((*generation, keys.name(&key).ok_or_else(unexpected)?));
                }
            }
        }
        Ok(Some(names))
    }

    /// Which of these subjects have a cell in a generation.
    pub async fn exist(&self, generation: Generation, subjects: &[Subject]) -> Result<Vec<bool>, StoreError> {
        let keys = self.keys(generation);
        let mut found = Vec::with_capacity(subjects.len());
        for page in subjects.chunks(PAGE_KEYS) {
            let mut pipe = redis::pipe();
            for subject in page {
                pipe.cmd("EXISTS").arg(keys.cell(subject));
            }
            for value in self.writer.call_all(&pipe).await? {
                found.push(matches!(value, Value::Int(1)));
            }
        }
        Ok(found)
    }

    /// The positions of a generation; empty where it has none.
    pub async fn positions(
        &self,
        generation: Generation,
    ) -> Result<BTreeMap<PartitionId, Position>, StoreError> {
        let mut get = redis::cmd("HGETALL");
        get.arg(self.keys(generation).positions());
        Ok(positions_of(self.writer.call(&get).await?)?.into_iter().collect())
    }
}

fn entry_of(entry: &Derived, value: Value) -> Result<Option<Entry>, StoreError> {
    let value = bulk(value)?;
    match entry {
        Derived::Owing { .. } => Ok(value.map(|due| Entry::Due(due.into()))),
        Derived::Told { .. } | Derived::Index { .. } => {
            value.map(|mark| quarantine(&mark).map(Entry::Mark)).transpose()
        }
    }
}

fn derived_of(name: &Name, value: Value) -> Result<Vec<Derived>, StoreError> {
    let parsed = |parsed: Option<Derived>| parsed.ok_or_else(unexpected);
    match name {
        Name::Owing(customer) => fields(value)?
            .into_iter()
            .map(|(account, _)| {
                let account = AccountId::parse(&account).ok();
                parsed(account.map(|account| Derived::Owing { customer: customer.clone(), account }))
            })
            .collect(),
        Name::DueQuarantine(customer) => fields(value)?
            .into_iter()
            .map(|(field, _)| {
                let customer = customer.clone();
                parsed(keys::due_field_parts(&field).map(|(account, partition)| Derived::Told {
                    customer,
                    account,
                    partition,
                }))
            })
            .collect(),
        Name::Index(partition) => fields(value)?
            .into_iter()
            .map(|(key, _)| {
                let subject = Subject::of_key(partition.topic, &key).ok();
                parsed(subject.map(|subject| Derived::Index { subject, partition: *partition }))
            })
            .collect(),
        Name::Cell(_)
        | Name::AccountQuarantine(_)
        | Name::CustomerQuarantine(_)
        | Name::Positions
        | Name::States => Ok(Vec::new()),
    }
}
