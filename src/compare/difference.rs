//! What differs: by kind, with both values and both positions; and which differences were expected.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Serialize, Serializer};

use crate::{
    domain::{Aspect, CellError, Facet},
    store::Quarantine,
};

/// What kind of difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The examined side lacks the cell.
    Missing,
    /// The examined side has a cell that nothing calls for.
    Extra,
    /// A cell cannot be read.
    Unreadable,
    /// A part of the cell.
    Cell(Aspect),
    /// The key is on hold on one side alone, or otherwise than on the other.
    Quarantine,
    /// A customer's accounts lack one whose cell names the customer, or name one whose cell does not.
    Owing,
    /// The marks by which a customer's readers are told are not those of the accounts on which the customer owes.
    Told,
    /// A partition's index of keys on hold does not say what the subject's mark says.
    Index,
}

impl Kind {
    /// All that are no part of a cell.
    const OTHERS: [Kind; 7] = [
        Kind::Missing,
        Kind::Extra,
        Kind::Unreadable,
        Kind::Quarantine,
        Kind::Owing,
        Kind::Told,
        Kind::Index,
    ];

    /// The name in reports and in files of expected differences.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Missing => "missing",
            Kind::Extra => "extra",
            Kind::Unreadable => "unreadable",
            Kind::Cell(aspect) => aspect.name(),
            Kind::Quarantine => "quarantine",
            Kind::Owing => "owing",
            Kind::Told => "told",
            Kind::Index => "index",
        }
    }

    fn all() -> impl Iterator<Item = Kind> {
        Kind::OTHERS.into_iter().chain(Aspect::ALL.into_iter().map(Kind::Cell))
    }

    /// The kind of a name.
    pub fn parse(name: &str) -> Option<Kind> {
        Kind::all().find(|kind| kind.name() == name)
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A part that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Field {
    /// Which part, such as `CZK booked 2026-03-01`.
    pub name: String,
    /// Its value on the left; absent where that side has no such part.
    pub left: Option<String>,
    /// Its value on the right.
    pub right: Option<String>,
}

/// Where a side stood when it was compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct At {
    /// The offset after the last record folded into the cell, as `ledger.events/1@77`.
    pub applied: Option<String>,
    /// The next offset of the partition, likewise.
    pub next: Option<String>,
}

/// A subject that differs in one kind; of what serves to find others, one entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// `account` or `customer`.
    pub subject: &'static str,
    /// The whole id.
    pub id: String,
    /// What kind.
    pub kind: Kind,
    /// What differs.
    pub fields: Vec<Field>,
    /// Where the left stood.
    pub left: At,
    /// Where the right stood.
    pub right: At,
    /// It was named as expected.
    pub expected: bool,
}

/// The parts in which two cells differ, by kind.
pub fn fields(left: &[Facet], right: &[Facet]) -> BTreeMap<Kind, Vec<Field>> {
    let map = |facets: &[Facet]| -> BTreeMap<(Aspect, String), String> {
        let part = |facet: &Facet| ((facet.aspect, facet.name.clone()), facet.value.clone());
        facets.iter().map(part).collect()
    };
    let (left, right) = (map(left), map(right));
    let names: BTreeSet<_> = left.keys().chain(right.keys()).collect();
    let mut differing: BTreeMap<Kind, Vec<Field>> = BTreeMap::new();
    for name in names {
        let (on_left, on_right) = (left.get(name), right.get(name));
        if on_left != on_right {
            let field = Field { name: name.1.clone(), left: on_left.cloned(), right: on_right.cloned() };
            differing.entry(Kind::Cell(name.0)).or_default().push(field);
        }
    }
    differing
}

/// A mark, as the value of a field.
pub fn mark_told(mark: &Quarantine) -> String {
    format!("{} at offset {} since {}, {} wait", mark.class, mark.offset, mark.since, mark.waiting)
}

/// A cell that cannot be read, as a field.
pub fn unreadable(left: Option<&CellError>, right: Option<&CellError>) -> Field {
    let told = |error: Option<&CellError>| Some(error.map_or("readable".to_owned(), ToString::to_string));
    Field { name: "cell".to_owned(), left: told(left), right: told(right) }
}

/// Differences that somebody named beforehand.
///
/// A file of them has one a line: `account` or `customer`, the whole id, and the kind, or `*` for any; empty lines
/// and those that begin with `#` say nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected(BTreeSet<(String, String, Option<Kind>)>);

impl Expected {
    /// Reads the text of a file; an error names the line and what may stand there.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut expected = BTreeSet::new();
        for (number, line) in (1_usize..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            let [subject @ ("account" | "customer"), id, kind] = words.as_slice() else {
                return Err(format!(
                    "line {number}: expected `account ID KIND` or `customer ID KIND`, where KIND may be *"
                ));
            };
            let kind = match *kind {
                "*" => None,
                name => Some(Kind::parse(name).ok_or_else(|| {
                    let kinds = Kind::all().map(Kind::name).collect::<Vec<_>>().join(", ");
                    format!("line {number}: {name:?} is no kind of difference; one of {kinds}, or *")
                })?),
            };
            expected.insert(((*subject).to_owned(), (*id).to_owned(), kind));
        }
        Ok(Expected(expected))
    }

    fn names(&self, subject: &str, id: &str, kind: Kind) -> bool {
        let named = |kind| self.0.contains(&(subject.to_owned(), id.to_owned(), kind));
        !self.0.is_empty() && (named(Some(kind)) || named(None))
    }
}

/// What a comparison has come to so far.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Subjects compared, each once.
    pub cells: u64,
    /// Differences that nobody expected, by kind.
    pub kinds: BTreeMap<Kind, u64>,
    /// Differences that were named as expected.
    pub expected: u64,
    /// The first of them all.
    pub first: Vec<Difference>,
    first_max: usize,
    expect: Expected,
}

impl Tally {
    /// Nothing compared; keeps this many differences whole.
    pub fn new(expect: Expected, first_max: usize) -> Self {
        Tally { first_max, expect, ..Tally::default() }
    }

    /// Differences that nobody expected.
    pub fn differences(&self) -> u64 {
        self.kinds.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Counts a difference.
    pub fn add(&mut self, mut difference: Difference) {
        difference.expected = self.expect.names(difference.subject, &difference.id, difference.kind);
        let count = if difference.expected {
            &mut self.expected
        } else {
            self.kinds.entry(difference.kind).or_default()
        };
        *count = count.saturating_add(1);
        if self.first.len() < self.first_max {
            self.first.push(difference);
        }
    }

    /// Takes in what another part of the same comparison came to.
    pub fn join(&mut self, other: Tally) {
        self.cells = self.cells.saturating_add(other.cells);
        self.expected = self.expected.saturating_add(other.expected);
        for (kind, count) in other.kinds {
            let sum = self.kinds.entry(kind).or_default();
            *sum = sum.saturating_add(count);
        }
        let room = self.first_max.saturating_sub(self.first.len());
        self.first.extend(other.first.into_iter().take(room));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(id: &str, kind: Kind) -> Difference {
        let at = At { applied: None, next: None };
        Difference {
            subject: "account",
            id: id.to_owned(),
            kind,
            fields: Vec::new(),
            left: at.clone(),
            right: at,
            expected: false,
        }
    }

    #[test]
    fn differences_that_were_named_are_counted_apart() {
        let text = "# a correction of 3 March\n\naccount A1 balance\n  account A2 *\n";
        let mut tally = Tally::new(Expected::parse(text).unwrap(), 2);
        let balance = Kind::Cell(Aspect::Balance);
        for (id, kind) in
            [("A1", balance), ("A1", Kind::Missing), ("A2", Kind::Extra), ("A3", balance), ("A4", balance)]
        {
            tally.add(difference(id, kind));
        }
        assert_eq!((tally.expected, tally.differences()), (2, 3));
        assert_eq!(tally.kinds, [(Kind::Missing, 1), (balance, 2)].into());
        let first: Vec<_> = tally.first.iter().map(|d| (d.id.as_str(), d.expected)).collect();
        assert_eq!(first, [("A1", true), ("A1", false)]);
    }

    #[test]
    fn a_line_that_names_no_difference_is_refused_with_its_number() {
        for (text, fault) in [
            ("account A1", "line 1"),
            ("\nledger A1 balance", "line 2"),
            ("account A1 balans", "\"balans\" is no kind"),
            ("account A1 balance due", "line 1"),
        ] {
            let error = Expected::parse(text).unwrap_err();
            assert!(error.contains(fault), "{error}");
        }
    }

    #[test]
    fn every_kind_is_found_by_its_name() {
        let cells = Aspect::ALL.into_iter().map(Kind::Cell);
        for kind in cells.chain(Kind::OTHERS) {
            assert_eq!(Kind::parse(kind.name()), Some(kind));
        }
    }
}
