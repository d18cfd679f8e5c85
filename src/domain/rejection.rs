//! Why a record cannot be applied: the dead-letter classes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The class of a dead letter, in the order in which they apply: the first one that fits is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// The record has no value.
    Tombstone,
    /// The value is longer than the limit.
    TooLarge,
    /// The record has no key.
    NoKey,
    /// The key is no account or customer id.
    BadKey,
    /// A header that matters is not UTF-8.
    BadHeader,
    /// The value is not UTF-8.
    #[serde(rename = "not-utf-8")]
    NotUtf8,
    /// The value nests deeper than the limit.
    TooDeep,
    /// The value is not JSON.
    NotJson,
    /// A known member or attribute stands twice.
    DuplicateMember,
    /// Neither mode of `CloudEvents` 1.0.
    NotCloudevents,
    /// The type is not one of those of the schemas.
    UnknownType,
    /// The type belongs to the other topic.
    WrongTopic,
    /// Key, subject and the id in the data differ.
    KeyNotSubject,
    /// A required member is absent or null.
    MissingField,
    /// A member has another type or grammar.
    BadField,
    /// An amount has another grammar or more decimals than its currency.
    BadAmount,
    /// Not a currency of ISO 4217 with a minor unit.
    UnknownCurrency,
    /// The subject lives in another partition.
    Moved,
    /// The number is higher than the next one.
    SequenceGap,
    /// A repeat with other facts.
    Conflict,
    /// Older than what is remembered: cannot be told from a repeat.
    Unverifiable,
    /// A figure passes 18 integer digits.
    Overflow,
    /// A bound of the cell is reached.
    CellFull,
}

impl Class {
    /// Every class, in the order in which they apply.
    pub const ALL: [Class; 23] = [
        Class::Tombstone,
        Class::TooLarge,
        Class::NoKey,
        Class::BadKey,
        Class::BadHeader,
        Class::NotUtf8,
        Class::TooDeep,
        Class::NotJson,
        Class::DuplicateMember,
        Class::NotCloudevents,
        Class::UnknownType,
        Class::WrongTopic,
        Class::KeyNotSubject,
        Class::MissingField,
        Class::BadField,
        Class::BadAmount,
        Class::UnknownCurrency,
        Class::Moved,
        Class::SequenceGap,
        Class::Conflict,
        Class::Unverifiable,
        Class::Overflow,
        Class::CellFull,
    ];

    /// The name on the dead-letter topic, in metrics and in commands, such as `not-utf-8`.
    pub const fn name(self) -> &'static str {
        match self {
            Class::Tombstone => "tombstone",
            Class::TooLarge => "too-large",
            Class::NoKey => "no-key",
            Class::BadKey => "bad-key",
            Class::BadHeader => "bad-header",
            Class::NotUtf8 => "not-utf-8",
            Class::TooDeep => "too-deep",
            Class::NotJson => "not-json",
            Class::DuplicateMember => "duplicate-member",
            Class::NotCloudevents => "not-cloudevents",
            Class::UnknownType => "unknown-type",
            Class::WrongTopic => "wrong-topic",
            Class::KeyNotSubject => "key-not-subject",
            Class::MissingField => "missing-field",
            Class::BadField => "bad-field",
            Class::BadAmount => "bad-amount",
            Class::UnknownCurrency => "unknown-currency",
            Class::Moved => "moved",
            Class::SequenceGap => "sequence-gap",
            Class::Conflict => "conflict",
            Class::Unverifiable => "unverifiable",
            Class::Overflow => "overflow",
            Class::CellFull => "cell-full",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A record that is set aside: its class, and what, where and what would be right, for a human.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{class}: {message}")]
pub struct Rejection {
    /// The first class that applies.
    pub class: Class,
    /// What was wrong, where, and what would be right; without amounts and names.
    pub message: String,
}

impl Rejection {
    /// A rejection of this class.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Rejection { class, message: message.into() }
    }
}
