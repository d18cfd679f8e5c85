//! Pairs of one subject's two sides, brought to the same position and compared.

use std::{
    collections::{BTreeMap, HashSet, btree_map::Entry},
    hash::BuildHasher as _,
    sync::Arc,
};

use foldhash::quality::RandomState;

use super::{
    difference::{At, Difference, Field, Kind, Tally, fields, mark_told, unreadable},
    subject::{Law, State},
    tail::{Offsets, Tail},
};
use crate::{
    domain::{Cell, Class, Offset, PartitionId, Subject},
    source::{Cluster, scan::ScanError},
    store::{Position, Quarantine, redis::beside::Held},
};

/// Pairs that wait to be folded forward together, at most.
pub const BEHIND_MAX: usize = 4_000;
/// Subjects that are looked at again, at most; what lies beyond counts at once, as if nothing were decided since.
pub const SUSPECTS_MAX: usize = 1_000_000;
/// Subjects whose differences come with their fields, at most: of others no more is kept than what is counted.
const WHOLE_MAX: usize = 10_000;

/// Which side is examined: what it lacks is missing, what it has alone is extra.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Examined {
    /// The left: a projection, compared with the log.
    Left,
    /// The right: a candidate, compared with the live generation.
    Right,
}

/// One subject, on both sides.
#[derive(Debug, Clone)]
pub struct Pair {
    /// Which one.
    pub key: Subject,
    /// On the left.
    pub left: Held,
    /// Where the left stood in the same reply.
    pub left_at: Arc<Offsets>,
    /// On the right.
    pub right: Held,
    /// Where the right stood; not after the left.
    pub right_at: Arc<Offsets>,
}

impl Pair {
    fn left_stands_further(&self) -> bool {
        let topic = self.key.topic();
        let of_topic = self.left_at.iter().filter(|(partition, _)| partition.topic == topic);
        of_topic
            .into_iter()
            .any(|(partition, left)| self.right_at.get(partition).is_some_and(|right| right < left))
    }
}

/// A subject that differed, and is to be looked at again.
#[derive(Debug, Clone)]
pub struct Suspect {
    /// Which one.
    pub key: Subject,
    /// In what; told by the last look alone ([`Engine::tell`]).
    pub differences: Vec<Difference>,
}

/// The comparison in its course.
pub struct Engine<'a> {
    cluster: &'a Cluster,
    law: Arc<Law>,
    examined: Examined,
    tail: Tail,
    /// What waits behind keys on hold, from where the holds began: kept while pairs are looked at again.
    deep: Option<Tail>,
    /// Where retention has got to, in the partitions of `deep`.
    lows: Offsets,
    again: bool,
    telling: bool,
    /// What it has come to.
    pub tally: Tally,
    behind: Vec<Pair>,
    suspects: Vec<Suspect>,
    seen: HashSet<u64>,
    hasher: RandomState,
}

impl<'a> Engine<'a> {
    /// Nothing compared yet. `law` is that of the right side, which is folded forward by the tail.
    pub fn new(cluster: &'a Cluster, law: Arc<Law>, examined: Examined, tail: Tail, tally: Tally) -> Self {
        Engine {
            cluster,
            law,
            examined,
            tail,
            deep: None,
            lows: Offsets::new(),
            again: false,
            telling: false,
            tally,
            behind: Vec::new(),
            suspects: Vec::new(),
            seen: HashSet::new(),
            hasher: RandomState::default(),
        }
    }

    /// Compares a pair, or keeps it to be folded forward by [`Engine::settle`]. A subject counts once, however often
    /// it comes up.
    pub fn offer(&mut self, pair: Pair) {
        let hash = self.hasher.hash_one(&pair.key);
        // Two subjects of one hash would be counted as one; they are compared all the same.
        if self.seen.insert(hash) {
            self.tally.cells = self.tally.cells.saturating_add(1);
        }
        if pair.left != pair.right || pair.left_stands_further() {
            self.behind.push(pair);
        }
    }

    /// Whether [`Engine::settle`] is due.
    pub fn is_full(&self) -> bool {
        self.behind.len() >= BEHIND_MAX
    }

    /// Subjects of the tail that did not come up yet: those that were born since.
    pub fn unseen(&self) -> Vec<Subject> {
        let known = |subject: &&Subject| !self.seen.contains(&self.hasher.hash_one(subject));
        self.tail.subjects().filter(known).cloned().collect()
    }

    /// Reads the tail on up to these offsets; blocking.
    pub fn advance(&mut self, to: &Offsets) -> Result<(), ScanError> {
        self.tail.advance(to)
    }

    /// About how much memory the tail takes.
    pub fn tail_bytes(&self) -> usize {
        self.tail.bytes()
    }

    /// Where the tail begins: a right side that is held still stands there.
    pub fn right_stands_at(&self) -> &Offsets {
        self.tail.from()
    }

    /// Begins a new tail, where the right side has moved on. Nothing may be behind.
    pub fn renew(&mut self, tail: Tail) {
        self.tail = tail;
    }

    /// From here on pairs are looked at again, under what is decided by now: where a key is on hold on the right, its
    /// records are folded from where the hold began, as its owner does for a decision, or when a gap closes.
    pub fn look_again(&mut self, law: Law) {
        self.law = Arc::new(law);
        self.again = true;
    }

    /// From here on suspects come with their differences: they are looked at for the last time.
    pub fn tell(&mut self) {
        self.telling = true;
    }

    /// The records behind the keys on hold among these pairs, and all that they have since.
    fn deepen(&mut self, pairs: &[Pair], to: &Offsets) -> Result<(), ScanError> {
        let held: Vec<&Pair> = pairs.iter().filter(|pair| !pair.right.quarantines.is_empty()).collect();
        self.lows.clear();
        for mark in held.iter().flat_map(|pair| &pair.right.quarantines) {
            if let Entry::Vacant(low) = self.lows.entry(mark.partition) {
                low.insert(self.tail.low(mark.partition)?);
            }
        }
        let (mut from, mut subjects) = (Offsets::new(), HashSet::new());
        for pair in held {
            subjects.insert(pair.key.clone());
            for (partition, at) in pair.right_at.iter() {
                let mark = pair.right.quarantines.iter().find(|mark| mark.partition == *partition);
                let first = mark.filter(|mark| !self.is_gone(mark)).map_or(*at, |mark| mark.offset);
                let earliest = from.entry(*partition).or_insert(first);
                *earliest = (*earliest).min(first);
            }
        }
        if !subjects.is_empty() {
            let mut deep = Tail::of(self.cluster, from, subjects)?;
            deep.advance(to)?;
            self.deep = Some(deep);
        }
        Ok(())
    }

    /// Whether retention has removed the record that holds a key back: nobody folds it any more, and the mark stands.
    fn is_gone(&self, mark: &Quarantine) -> bool {
        self.lows.get(&mark.partition).is_some_and(|low| mark.offset < *low)
    }

    /// Folds what is behind forward, and compares; blocking. What differs becomes a suspect.
    pub fn settle(&mut self) -> Result<(), ScanError> {
        let behind = std::mem::take(&mut self.behind);
        let mut to = Offsets::new();
        for pair in &behind {
            for (partition, offset) in pair.left_at.iter() {
                let furthest = to.entry(*partition).or_insert(*offset);
                *furthest = (*furthest).max(*offset);
            }
        }
        self.tail.advance(&to)?;
        if self.again {
            self.deepen(&behind, &to)?;
        }
        for pair in behind {
            let differences = self.judge(&pair);
            if differences.is_empty() {
                continue;
            }
            let suspects = self.suspects.len();
            if suspects < SUSPECTS_MAX {
                let differences = match (self.telling, suspects < WHOLE_MAX) {
                    (true, true) => differences,
                    (true, false) => differences.into_iter().map(counted).collect(),
                    (false, _) => Vec::new(),
                };
                self.suspects.push(Suspect { key: pair.key, differences });
            } else {
                for difference in differences {
                    self.tally.add(difference);
                }
            }
        }
        Ok(())
    }

    /// The suspects so far, to be read and offered again.
    pub fn take_suspects(&mut self) -> Vec<Suspect> {
        std::mem::take(&mut self.suspects)
    }

    fn judge(&self, pair: &Pair) -> Vec<Difference> {
        // Equal although the left stands further: so it must be, unless there was something to fold between.
        if pair.left == pair.right && !self.tail.moves(&pair.key, (&pair.right_at, &pair.left_at)) {
            return Vec::new();
        }
        let (left, right) = (State::decode(&pair.key, &pair.left), State::decode(&pair.key, &pair.right));
        let (left, mut right) = match (left, right) {
            (Ok(left), Ok(right)) => (left, right),
            (left, right) => {
                let field = unreadable(left.as_ref().err(), right.as_ref().err());
                let none = State::default();
                let sides = (left.as_ref().unwrap_or(&none), right.as_ref().unwrap_or(&none));
                return vec![self.difference(pair, sides, Kind::Unreadable, vec![field])];
            }
        };
        let subject = &pair.key;
        let mut from = Offsets::clone(&pair.right_at);
        let deep = self.deep.as_ref().filter(|_| !right.quarantines.is_empty());
        let tail = deep.unwrap_or(&self.tail);
        let mut lifted = Vec::new();
        if deep.is_some() {
            let marks = std::mem::take(&mut right.quarantines);
            let (gone, there): (Vec<_>, Vec<_>) = marks.into_iter().partition(|(_, mark)| self.is_gone(mark));
            right.quarantines.extend(gone);
            for (partition, mark) in there {
                from.insert(partition, mark.offset);
                lifted.push(mark);
            }
        }
        let mut where_it_stood = State::default();
        if !lifted.is_empty() {
            where_it_stood = right.clone();
            tail.forward(&self.law, subject, &mut where_it_stood, (&from, &pair.right_at));
        }
        tail.forward(&self.law, subject, &mut right, (&from, &pair.left_at));
        for mark in lifted {
            // A hold ends by a decision, or when a gap closes. One that ends by itself had no reason: it stands.
            let may_end = self.law.decides(&mark)
                || mark.class == Class::SequenceGap && (noted(pair, &mark) || stands(&mark, &where_it_stood));
            if !may_end && !stands(&mark, &right) {
                right.quarantines.insert(mark.partition, mark);
            }
        }
        let mut differences = Vec::new();
        for (kind, fields) in self.kinds(&left, &right) {
            differences.push(self.difference(pair, (&left, &right), kind, fields));
        }
        differences
    }

    fn kinds(&self, left: &State, right: &State) -> BTreeMap<Kind, Vec<Field>> {
        let whole = |side: Option<&Cell>| side.map(|_| "a cell".to_owned());
        let mut kinds = match (&left.cell, &right.cell) {
            (None, None) => BTreeMap::new(),
            (Some(left), Some(right)) => fields(&left.facets(), &right.facets()),
            (left, right) => {
                let lacks = match self.examined {
                    Examined::Left => left.is_none(),
                    Examined::Right => right.is_none(),
                };
                let kind = if lacks { Kind::Missing } else { Kind::Extra };
                let (left, right) = (whole(left.as_ref()), whole(right.as_ref()));
                BTreeMap::from([(kind, vec![Field { name: "cell".to_owned(), left, right }])])
            }
        };
        let marks = self.marks(&left.quarantines, &right.quarantines);
        if !marks.is_empty() {
            kinds.insert(Kind::Quarantine, marks);
        }
        kinds
    }

    fn marks(
        &self,
        left: &BTreeMap<PartitionId, Quarantine>,
        right: &BTreeMap<PartitionId, Quarantine>,
    ) -> Vec<Field> {
        let mut partitions: Vec<_> = left.keys().chain(right.keys()).collect();
        partitions.sort_unstable();
        partitions.dedup();
        partitions
            .into_iter()
            .filter(|partition| left.get(partition) != right.get(partition))
            .map(|partition| Field {
                name: self.cluster.display(*partition),
                left: left.get(partition).map(mark_told),
                right: right.get(partition).map(mark_told),
            })
            .collect()
    }

    fn difference(
        &self,
        pair: &Pair,
        (left, right): (&State, &State),
        kind: Kind,
        fields: Vec<Field>,
    ) -> Difference {
        let topic = pair.key.topic();
        let homes = [left, right].map(|state| state.cell.as_ref().map(Cell::home));
        let known = homes.into_iter().flatten().next();
        let at = |state: &State, offsets: &Offsets, home: Option<i32>| {
            let partition = PartitionId { topic, partition: home.or(known).unwrap_or_default() };
            let place = |offset: Offset| format!("{}@{offset}", self.cluster.display(partition));
            let known = home.or(known).is_some();
            At {
                applied: state.applied().map(place),
                next: offsets.get(&partition).filter(|_| known).map(|next| place(*next)),
            }
        };
        let [left_home, right_home] = homes;
        Difference {
            subject: pair.key.kind(),
            id: pair.key.as_str().to_owned(),
            kind,
            fields,
            left: at(left, &pair.left_at, left_home),
            // The right side was folded forward to where the left stood.
            right: at(right, &pair.left_at, right_home),
            expected: false,
        }
    }
}

/// Whether the owner on the right has noted that a gap may close: it has not come to that yet. It notes so with the
/// record that closes the gap; a gap that is closed by then without a note holds back what it should not.
fn noted(pair: &Pair, mark: &Quarantine) -> bool {
    pair.right.quarantines.iter().any(|held| held.partition == mark.partition && held.heals)
}

/// Whether a mark is there, for the same record.
fn stands(mark: &Quarantine, state: &State) -> bool {
    state.quarantines.get(&mark.partition).is_some_and(|held| held.offset == mark.offset)
}

/// A difference without what nobody reads of it.
fn counted(difference: Difference) -> Difference {
    let nowhere = At { applied: None, next: None };
    Difference { fields: Vec::new(), left: nowhere.clone(), right: nowhere, ..difference }
}

/// The next offsets of positions.
pub fn offsets(positions: &BTreeMap<PartitionId, Position>) -> Offsets {
    positions.iter().map(|(partition, position)| (*partition, position.checkpoint.next)).collect()
}
