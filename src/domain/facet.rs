//! A cell told in parts: what two cells that differ are compared by, field by field.

use std::hash::Hasher as _;

use serde::Serialize;
use siphasher::sip::SipHasher13;

use super::{
    Cell,
    packed::{Kind, Packer},
};

/// What a part of a cell is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aspect {
    /// What is booked: the opening balance, and each booking date.
    Balance,
    /// What a customer owes on the account.
    Due,
    /// Entries that have not ended.
    Pending,
    /// A credit line.
    CreditLine,
    /// Opened, closed.
    State,
    /// A statement that disagreed.
    Drift,
    /// A customer's profile.
    Profile,
    /// A customer's payments.
    Payment,
    /// The times that figures bear.
    Times,
    /// The ids by which repeats are told.
    Memory,
    /// The home partition, and the offset after the last folded record.
    Position,
}

impl Aspect {
    /// The name in reports and in files of expected differences.
    pub const fn name(self) -> &'static str {
        match self {
            Aspect::Balance => "balance",
            Aspect::Due => "due",
            Aspect::Pending => "pending",
            Aspect::CreditLine => "credit-line",
            Aspect::State => "state",
            Aspect::Drift => "drift",
            Aspect::Profile => "profile",
            Aspect::Payment => "payment",
            Aspect::Times => "times",
            Aspect::Memory => "memory",
            Aspect::Position => "position",
        }
    }

    /// Every aspect, the gravest first.
    pub const ALL: [Aspect; 11] = [
        Aspect::Balance,
        Aspect::Due,
        Aspect::Pending,
        Aspect::CreditLine,
        Aspect::State,
        Aspect::Drift,
        Aspect::Profile,
        Aspect::Payment,
        Aspect::Times,
        Aspect::Memory,
        Aspect::Position,
    ];
}

/// A part of a cell: two cells are equal if, and only if, all their facets are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Facet {
    /// What it is about.
    pub aspect: Aspect,
    /// Which one, such as `CZK booked 2026-03-01`; no two of a cell share aspect and name.
    pub name: String,
    /// Its value, for humans; equal exactly where the parts are.
    pub value: String,
}

impl Facet {
    pub(super) fn new(aspect: Aspect, name: impl Into<String>, value: impl Into<String>) -> Self {
        Facet { aspect, name: name.into(), value: value.into() }
    }
}

impl Cell {
    /// All parts of the cell.
    pub fn facets(&self) -> Vec<Facet> {
        match self {
            Cell::Account(account) => account.facets(),
            Cell::Customer(customer) => customer.facets(),
        }
    }
}

/// Names bytes that mean nothing to a human: their number and a hash.
pub(super) fn digest(pack: impl FnOnce(&mut Packer<'_>)) -> String {
    let mut bytes = Vec::new();
    pack(&mut Packer::new(&mut bytes, Kind::Account));
    let mut hasher = SipHasher13::new();
    hasher.write(&bytes);
    format!("{} bytes, {:016x}", bytes.len(), hasher.finish())
}

/// An id of which only the fingerprint is kept.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
