//! What follows from cells and marks, and serves to find them: whether it is there, and nothing besides.
//!
//! Nothing else is the measure here than what a generation itself says: an account's cell names who owes how much on it,
//! so each one's dues name it with as much, and a mark on the account stands with each of them; a mark on a subject stands in
//! its partition's index. So each generation is judged by itself, without the log:
//!
//! 1. What the subjects of a page call for is looked up behind it ([`Derivation::look`]); no cell is read for that.
//! 2. Once every subject has come up, a walk over what is there finds what none of them called for
//!    ([`Derivation::walk`]), by 64 bits of a hash for each entry that one did call for.
//! 3. Either is a mere suspicion, for events keep flowing. What is suspect is judged at one instant, with the cell and
//!    the marks from which it would follow ([`Derivation::judge`]).

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    hash::BuildHasher as _,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use foldhash::quality::RandomState;
use rand::seq::IteratorRandom as _;

use super::{
    difference::{At, Difference, Field, Kind, mark_told},
    engine::{Suspect, offsets},
    subject::State,
    tail::Offsets,
};
use crate::{
    domain::{Aspect, Cell, CellError, Offset, PartitionId, Subject, Topic, decode_due, due_told},
    source::Cluster,
    store::{
        Derived, Generation, Quarantine, StoreError,
        keys::Name,
        redis::{
            RedisStore,
            beside::{ENTRIES_MAX, Entry, Held, SUBJECTS_MAX},
        },
    },
};

/// How often what is wrong is looked at again: a script that stopped half way is made good by the next commit.
const LOOKS_MAX: u32 = 3;
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The derived entries of generations, in the course of a comparison.
pub struct Derivation<const N: usize> {
    generations: [Generation; N],
    hasher: RandomState,
    state: Mutex<Known<N>>,
}

struct Known<const N: usize> {
    /// Entries that a subject called for.
    called: [HashSet<u64>; N],
    suspects: BTreeSet<Derived>,
}

/// An entry that is wrong in one of the generations at least.
#[derive(Debug, Clone)]
pub struct Wrong<const N: usize> {
    /// Which one.
    pub entry: Derived,
    /// Its subject's cell and marks call for it, where it is wrong.
    pub called_for: bool,
    /// In each generation.
    pub sides: [Side; N],
}

/// An entry in a generation.
#[derive(Debug, Clone, Default)]
pub struct Side {
    /// What the subject's cell and marks call for.
    pub called: Option<Entry>,
    /// What is there.
    pub held: Option<Entry>,
    home: Option<PartitionId>,
    applied: Option<Offset>,
    next: Offsets,
}

impl<const N: usize> Derivation<N> {
    /// Nothing looked at yet.
    pub fn new(generations: [Generation; N]) -> Self {
        let state = Known { called: std::array::from_fn(|_| HashSet::new()), suspects: BTreeSet::new() };
        Derivation { generations, hasher: RandomState::default(), state: Mutex::new(state) }
    }

    /// Looks up what these subjects call for, as they were read.
    pub async fn look(
        &self,
        store: &RedisStore,
        keys: &[Subject],
        subjects: &[[Held; N]],
    ) -> Result<(), StoreError> {
        let mut called: [Vec<(Derived, Entry)>; N] = std::array::from_fn(|_| Vec::new());
        for (key, held) in keys.iter().zip(subjects) {
            let mut before: Option<(&Held, Vec<(Derived, Entry)>)> = None;
            for (held, called) in held.iter().zip(&mut called) {
                let calls = match before.take() {
                    // Mostly the generations are equal: a cell is decoded once.
                    Some((other, calls)) if other == held => calls,
                    // A cell that cannot be read is told by those who compare it.
                    Some(_) | None => called_for(key, held).unwrap_or_default(),
                };
                called.extend(calls.iter().cloned());
                before = Some((held, calls));
            }
        }
        let entries: BTreeSet<&Derived> = called.iter().flatten().map(|(entry, _)| entry).collect();
        let entries: Vec<Derived> = entries.into_iter().cloned().collect();
        let mut found = Vec::with_capacity(entries.len());
        for page in entries.chunks(Self::PAGE) {
            found.extend(store.beside_with(self.generations, &[], page).await?.entries);
        }
        let mut state = self.state();
        for (generation, called) in called.into_iter().enumerate() {
            for (entry, calls) in called {
                if let Some(known) = state.called.get_mut(generation) {
                    known.insert(self.hasher.hash_one(&entry));
                }
                let at = entries.binary_search(&entry).ok();
                let held = at.and_then(|at| found.get(at)?.get(generation)?.as_ref());
                if differ(&entry, Some(&calls), held) {
                    state.suspects.insert(entry);
                }
            }
        }
        Ok(())
    }

    /// Walks over what is there, for what no subject called for.
    pub async fn walk(&self, store: &RedisStore) -> Result<(), StoreError> {
        let mut walk = store.walk(&self.generations);
        while let Some(names) = store.step(&mut walk).await? {
            for (at, generation) in self.generations.iter().enumerate() {
                let of = names.iter().filter(|(of, _)| of == generation).map(|(_, name)| name.clone());
                let entries = store.derived(*generation, &of.collect::<Vec<_>>()).await?;
                let mut state = self.state();
                for entry in entries {
                    let hash = self.hasher.hash_one(&entry);
                    if !state.called.get(at).is_some_and(|called| called.contains(&hash)) {
                        state.suspects.insert(entry);
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes every entry under these names of a generation for suspect, up to a page of them, whichever.
    pub async fn draw(
        &self,
        store: &RedisStore,
        generation: Generation,
        names: &[Name],
    ) -> Result<(), StoreError> {
        let entries = store.derived(generation, names).await?;
        let drawn = entries.into_iter().choose_multiple(&mut rand::rng(), SUBJECTS_MAX);
        self.state().suspects.extend(drawn);
        Ok(())
    }

    /// Judges what is suspect, each at one instant; what is wrong is looked at again, and what still is, is told.
    pub async fn judge(&self, store: &RedisStore) -> Result<Vec<Wrong<N>>, StoreError> {
        let mut suspects: Vec<Derived> = std::mem::take(&mut self.state().suspects).into_iter().collect();
        let mut wrong = Vec::new();
        for look in 0..LOOKS_MAX {
            if suspects.is_empty() {
                break;
            }
            if look > 0 {
                tokio::time::sleep(LOOK_AGAIN_AFTER).await;
            }
            wrong = Vec::new();
            for page in suspects.chunks(Self::PAGE.min(SUBJECTS_MAX)) {
                self.judge_page(store, page, &mut wrong).await?;
            }
            suspects = wrong.iter().map(|wrong: &Wrong<N>| wrong.entry.clone()).collect();
        }
        Ok(if suspects.is_empty() { Vec::new() } else { wrong })
    }

    async fn judge_page(
        &self,
        store: &RedisStore,
        entries: &[Derived],
        wrong: &mut Vec<Wrong<N>>,
    ) -> Result<(), StoreError> {
        let keys: BTreeSet<Subject> = entries.iter().map(Derived::subject).collect();
        let keys: Vec<Subject> = keys.into_iter().collect();
        let beside = store.beside_with(self.generations, &keys, entries).await?;
        let next = beside.positions.each_ref().map(offsets);
        for (entry, found) in entries.iter().zip(beside.entries) {
            let subject = entry.subject();
            let at = keys.binary_search(&subject).ok();
            let Some(subjects) = at.and_then(|at| beside.subjects.get(at)) else { continue };
            let mut sides: [Side; N] = std::array::from_fn(|_| Side::default());
            let mut called_for_it = None;
            let read = subjects.iter().zip(found).zip(&next).zip(&mut sides);
            for (((subject_held, held), next), side) in read {
                // What cannot be read calls for nothing that could be told.
                let Ok(state) = State::decode(&subject, subject_held) else { continue };
                let called = calls_of(&subject, &state).into_iter().find(|(called, _)| called == entry);
                let called = called.map(|(_, called)| called);
                if differ(entry, called.as_ref(), held.as_ref()) {
                    called_for_it.get_or_insert(called.is_some());
                }
                let home = state.cell.as_ref().map(Cell::home);
                let home = home.map(|partition| PartitionId { topic: subject.topic(), partition });
                let (applied, next) = (state.applied(), next.clone());
                *side = Side { called, held, home, applied, next };
            }
            if let Some(called_for) = called_for_it {
                wrong.push(Wrong { entry: entry.clone(), called_for, sides });
            }
        }
        Ok(())
    }

    /// How many entries one call reads, so that their number in all generations is bounded.
    const PAGE: usize = match ENTRIES_MAX.checked_div(N) {
        Some(page) if page > 0 => page,
        Some(_) | None => 1,
    };

    fn state(&self) -> MutexGuard<'_, Known<N>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Derived {
    /// From whose cell and marks it follows.
    pub fn subject(&self) -> Subject {
        match self {
            Derived::Owing { account, .. } | Derived::Told { account, .. } => {
                Subject::Account(account.clone())
            }
            Derived::Index { subject, .. } => subject.clone(),
        }
    }

    /// What kind of difference it is where it is wrong.
    pub fn kind(&self) -> Kind {
        match self {
            Derived::Owing { .. } => Kind::Owing,
            Derived::Told { .. } => Kind::Told,
            Derived::Index { .. } => Kind::Index,
        }
    }

    /// Whether it follows from what differs in this kind: that is told already, and what follows from it is not told
    /// once more.
    fn rests_on(&self, kind: Kind) -> bool {
        let cell = matches!(kind, Kind::Missing | Kind::Extra | Kind::Unreadable | Kind::Cell(Aspect::Due));
        match self {
            Derived::Owing { .. } => cell,
            Derived::Told { .. } => cell || kind == Kind::Quarantine,
            Derived::Index { .. } => kind == Kind::Quarantine,
        }
    }
}

impl<const N: usize> Wrong<N> {
    /// The partition that answers for it: where the account lives, or where the key is on hold.
    pub fn partition(&self) -> PartitionId {
        match &self.entry {
            Derived::Told { partition, .. } | Derived::Index { partition, .. } => *partition,
            Derived::Owing { .. } => {
                let home = self.sides.iter().find_map(|side| side.home);
                // An account without a cell lives nowhere: the first partition tells of it.
                home.unwrap_or(PartitionId { topic: Topic::Ledger, partition: 0 })
            }
        }
    }

    /// As a difference of what is there on two sides.
    pub fn difference(&self, cluster: &Cluster, left: Says<'_>, right: Says<'_>) -> Difference {
        let rests =
            if self.called_for { "as its cell calls for" } else { "which its cell does not call for" };
        let (subject, id, name) = match &self.entry {
            Derived::Owing { customer, account } => {
                ("customer", customer.as_str().to_owned(), format!("account {}, {rests}", account.as_str()))
            }
            Derived::Told { customer, account, partition } => {
                let (account, place) = (account.as_str(), cluster.display(*partition));
                let rests =
                    if self.called_for { "which is on hold" } else { "which is not on hold, or not owed on" };
                ("customer", customer.as_str().to_owned(), format!("account {account} in {place}, {rests}"))
            }
            Derived::Index { subject, partition } => {
                let rests = if self.called_for { "where it is on hold" } else { "where it is not on hold" };
                (
                    subject.kind(),
                    subject.as_str().to_owned(),
                    format!("{}, {rests}", cluster.display(*partition)),
                )
            }
        };
        let field = Field { name, left: left.value(), right: right.value() };
        Difference {
            subject,
            id,
            kind: self.entry.kind(),
            fields: vec![field],
            left: left.at(cluster),
            right: right.at(cluster),
            expected: false,
        }
    }
}

/// What was told of subjects already.
#[derive(Debug, Default)]
pub struct Told(HashMap<Subject, Vec<Kind>>);

impl Told {
    /// Takes note of a subject that differs.
    pub fn add(&mut self, suspect: &Suspect) {
        let kinds = suspect.differences.iter().map(|difference| difference.kind);
        self.0.entry(suspect.key.clone()).or_default().extend(kinds);
    }

    /// Whether an entry that is wrong follows from what was told.
    pub fn explains(&self, entry: &Derived) -> bool {
        let kinds = self.0.get(&entry.subject());
        kinds.is_some_and(|kinds| kinds.iter().any(|kind| entry.rests_on(*kind)))
    }
}

/// What a side of a difference says.
#[derive(Debug, Clone, Copy)]
pub enum Says<'a> {
    /// What is there.
    Held(&'a Side),
    /// What is called for.
    Called(&'a Side),
}

impl Says<'_> {
    fn value(self) -> Option<String> {
        let entry = match self {
            Says::Held(side) => &side.held,
            Says::Called(side) => &side.called,
        };
        entry.as_ref().map(|entry| match entry {
            Entry::Due(due) => decode_due(due).map_or("unreadable".to_owned(), |due| due_told(&due)),
            Entry::Mark(mark) => mark_told(mark),
        })
    }

    fn at(self, cluster: &Cluster) -> At {
        let (Says::Held(side) | Says::Called(side)) = self;
        let place = |offset: Offset| side.home.map(|home| format!("{}@{offset}", cluster.display(home)));
        let next = side.home.and_then(|home| side.next.get(&home)).copied();
        At { applied: side.applied.and_then(place), next: next.and_then(place) }
    }
}

/// The derived entries that a subject calls for.
fn called_for(key: &Subject, held: &Held) -> Result<Vec<(Derived, Entry)>, CellError> {
    let nothing = match key {
        Subject::Account(_) => held.cell.is_none(),
        // Nobody is named by a customer's cell, which need not be decoded.
        Subject::Customer(_) => true,
    };
    if nothing && held.quarantines.is_empty() {
        return Ok(Vec::new());
    }
    Ok(calls_of(key, &State::decode(key, held)?))
}

fn calls_of(subject: &Subject, state: &State) -> Vec<(Derived, Entry)> {
    let mut calls = Vec::new();
    for (partition, mark) in &state.quarantines {
        let (subject, partition) = (subject.clone(), *partition);
        calls.push((Derived::Index { subject, partition }, Entry::Mark(mark.clone())));
    }
    let (Subject::Account(account), Some(Cell::Account(cell))) = (subject, &state.cell) else { return calls };
    for (customer, due) in cell.encoded_dues() {
        for (partition, mark) in &state.quarantines {
            let (customer, account, partition) = (customer.clone(), account.clone(), *partition);
            calls.push((Derived::Told { customer, account, partition }, Entry::Mark(mark.clone())));
        }
        calls.push((Derived::Owing { customer, account: account.clone() }, Entry::Due(due.into())));
    }
    calls
}

/// Whether what is there is another thing than what is called for.
fn differ(entry: &Derived, called: Option<&Entry>, held: Option<&Entry>) -> bool {
    let counted = match entry {
        // What waits is counted with the account alone.
        Derived::Told { .. } => false,
        Derived::Owing { .. } | Derived::Index { .. } => true,
    };
    let compared = |entry: &Entry| match entry {
        Entry::Due(due) => Entry::Due(due.clone()),
        Entry::Mark(mark) => {
            let waiting = if counted { mark.waiting } else { 0 };
            // Whether a gap is about to close is a note of the owner's.
            Entry::Mark(Quarantine { waiting, heals: false, ..mark.clone() })
        }
    };
    called.map(compared) != held.map(compared)
}
