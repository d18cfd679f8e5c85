//! Ids of accounts, customers, entries and payments: opaque, case kept.
//!
//! Their `Debug` shows the first two characters and the length only: whole ids never reach a log.

use std::fmt;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

/// The text is not an id: 1 to `max` characters of `A-Z a-z 0-9 . _ -`, not `.` or `..`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not 1 to {max} characters of A-Z, a-z, 0-9, '.', '_' and '-' (and not '.' or '..')")]
pub struct IdError {
    max: usize,
}

fn parse(text: &str, max: usize) -> Result<CompactString, IdError> {
    let grammar = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let fits = (1..=max).contains(&text.len()) && text.bytes().all(grammar) && text != "." && text != "..";
    if fits { Ok(CompactString::from(text)) } else { Err(IdError { max }) }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $max:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(CompactString);

        impl $name {
            /// Reads an id by the grammar; case is kept.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                parse(text, $max).map(Self)
            }

            /// The whole id.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}…({})", self.0.get(..2).unwrap_or(&self.0), self.0.len())
            }
        }
    };
}

id!(
    /// An account id, 1 to 64 characters.
    AccountId, 64
);
id!(
    /// A customer id, 1 to 64 characters.
    CustomerId, 64
);
id!(
    /// An entry id, 1 to 128 characters.
    EntryId, 128
);
id!(
    /// A payment id, 1 to 128 characters.
    PaymentId, 128
);

/// What a balance belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Subject {
    /// An account; its events are in the ledger topic.
    Account(AccountId),
    /// A customer; its own events are in the payment topic.
    Customer(CustomerId),
}

impl Subject {
    /// The subject that a key of a topic names.
    pub fn of_key(topic: super::Topic, key: &str) -> Result<Self, IdError> {
        Ok(match topic {
            super::Topic::Ledger => Subject::Account(AccountId::parse(key)?),
            super::Topic::Payment => Subject::Customer(CustomerId::parse(key)?),
        })
    }

    /// The topic of its own events.
    pub fn topic(&self) -> super::Topic {
        match self {
            Subject::Account(_) => super::Topic::Ledger,
            Subject::Customer(_) => super::Topic::Payment,
        }
    }

    /// `account` or `customer`.
    pub fn kind(&self) -> &'static str {
        match self {
            Subject::Account(_) => "account",
            Subject::Customer(_) => "customer",
        }
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        match self {
            Subject::Account(id) => id.as_str(),
            Subject::Customer(id) => id.as_str(),
        }
    }
}
