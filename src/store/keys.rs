//! Every key of the store, made from its parts; no other place makes one.
//!
//! | key | holds |
//! |---|---|
//! | `{bp}:active` | the number of the generation that readers are served |
//! | `{bp}:live` | hash: the number of each generation that is fed → the name of its log |
//! | `{bp}:evicted` | hash: each run of a server → how often it had evicted; the generations that lost keys by it |
//! | `{bp}:g1:pos`, `:state` | hashes, a field per partition: [`Position`] packed, heartbeat as JSON |
//! | `{bp}:g1:a:<account>`, `:c:<customer>` | cells |
//! | `{bp}:g1:d:<customer>` | hash: each account on which the customer owes, or once did → how much, packed |
//! | `{bp}:g1:qa:<account>`, `:qc:<customer>` | hashes: partition → quarantine as JSON |
//! | `{bp}:g1:qd:<customer>` | hash: `<account>/<partition>` → quarantine of an account with a due |
//! | `{bp}:g1:qi:<partition>` | hash: key → quarantine; what an owner loads when it claims |
//! | `{bp}:g1.import` | while the generation is filled from a snapshot: by which import |
//! | `{bp}:u:<day>:<caller>:<account>` | reads of a day that are limited; the caller as a digest |
//!
//! The prefix carries one hash tag, so that all keys share a slot. Ids hold no colon and no slash, hence a
//! key names its parts without doubt.

use std::fmt::Write as _;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{Derived, Generation, Position, Quota, Token};
use crate::domain::{AccountId, Checkpoint, CustomerId, PartitionId, Subject, Topic};

/// The keys of one generation.
#[derive(Debug, Clone)]
pub struct Keys {
    head: String,
}

/// What a key of a generation names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// A cell.
    Cell(Subject),
    /// What a customer owes, by account.
    Owing(CustomerId),
    /// The marks of an account, one per partition.
    AccountQuarantine(AccountId),
    /// The marks of a customer's own key, one per partition.
    CustomerQuarantine(CustomerId),
    /// The marks that a customer has from its accounts.
    DueQuarantine(CustomerId),
    /// The keys on hold in a partition.
    Index(PartitionId),
    /// Positions of all partitions.
    Positions,
    /// Heartbeats of all partitions.
    States,
}

/// The pointer to the generation that readers are served.
pub fn active(prefix: &str) -> String {
    format!("{prefix}:active")
}

/// The list of generations that are fed.
pub fn live(prefix: &str) -> String {
    format!("{prefix}:live")
}

/// What was evicted.
pub fn evicted(prefix: &str) -> String {
    format!("{prefix}:evicted")
}

/// The mark of the import that fills a generation; no key of the generation itself.
pub fn import(prefix: &str, generation: Generation) -> String {
    format!("{prefix}:g{}.import", generation.0)
}

/// The count of a caller's reads of an account on a day. Ids of callers hold anything: a digest does not.
pub fn count(prefix: &str, quota: &Quota) -> String {
    let digest = Sha256::digest(quota.caller.as_bytes());
    let mut caller = String::with_capacity(32);
    for byte in digest.iter().take(16) {
        // Writing to a string cannot fail.
        let _ignored = write!(caller, "{byte:02x}");
    }
    format!("{prefix}:u:{}:{caller}:{}", quota.day, quota.account.as_str())
}

impl Keys {
    /// The keys of a generation.
    pub fn new(prefix: &str, generation: Generation) -> Self {
        Keys { head: format!("{prefix}:g{}:", generation.0) }
    }

    /// Keys of no generation, on which permissions are tried.
    pub fn scratch(prefix: &str, nonce: u64) -> Self {
        Keys { head: format!("{prefix}:check{nonce:016x}:") }
    }

    /// The pointer of scratch keys: readers never look at it.
    pub fn pointer(&self) -> String {
        self.of("active", "")
    }

    /// The key of a name.
    pub fn key(&self, name: &Name) -> String {
        match name {
            Name::Cell(cell) => self.cell(cell),
            Name::Owing(id) => self.owing(id),
            Name::AccountQuarantine(id) => self.account_quarantine(id),
            Name::CustomerQuarantine(id) => self.customer_quarantine(id),
            Name::DueQuarantine(id) => self.due_quarantine(id),
            Name::Index(partition) => self.index(*partition),
            Name::Positions => self.positions(),
            Name::States => self.states(),
        }
    }

    /// The key of a derived entry, and the field that it is.
    pub fn derived(&self, entry: &Derived) -> (String, String) {
        match entry {
            Derived::Owing { customer, account } => (self.owing(customer), account.as_str().to_owned()),
            Derived::Told { customer, account, partition } => {
                (self.due_quarantine(customer), due_field(account, *partition))
            }
            Derived::Index { subject, partition } => (self.index(*partition), subject.as_str().to_owned()),
        }
    }

    /// A cell.
    pub fn cell(&self, key: &Subject) -> String {
        let mut text = String::new();
        self.put_cell(&mut text, key);
        text
    }

    /// [`Keys::cell`] in place of what the text held.
    pub fn put_cell(&self, text: &mut String, key: &Subject) {
        let (kind, id) = match key {
            Subject::Account(id) => ("a:", id.as_str()),
            Subject::Customer(id) => ("c:", id.as_str()),
        };
        text.clear();
        text.extend([self.head.as_str(), kind, id]);
    }

    /// An account's cell.
    pub fn account(&self, id: &AccountId) -> String {
        self.of("a:", id.as_str())
    }

    /// A customer's cell.
    pub fn customer(&self, id: &CustomerId) -> String {
        self.of("c:", id.as_str())
    }

    /// Hash: account on which the customer owes, or once did → how much.
    pub fn owing(&self, id: &CustomerId) -> String {
        self.of("d:", id.as_str())
    }

    /// Hash: partition → quarantine.
    pub fn account_quarantine(&self, id: &AccountId) -> String {
        self.of("qa:", id.as_str())
    }

    /// Hash: partition → quarantine.
    pub fn customer_quarantine(&self, id: &CustomerId) -> String {
        self.of("qc:", id.as_str())
    }

    /// Hash: [`due_field`] → quarantine.
    pub fn due_quarantine(&self, id: &CustomerId) -> String {
        self.of("qd:", id.as_str())
    }

    /// Hash: key → quarantine.
    pub fn index(&self, partition: PartitionId) -> String {
        self.of("qi:", &partition.to_string())
    }

    /// Hash: partition → packed position.
    pub fn positions(&self) -> String {
        self.of("pos", "")
    }

    /// Hash: partition → heartbeat.
    pub fn states(&self) -> String {
        self.of("state", "")
    }

    /// A pattern of `SCAN` that fits every key of the generation.
    pub fn pattern(&self) -> String {
        pattern(&self.head)
    }

    /// Whether a key is of this generation, whoever wrote it.
    pub fn owns(&self, key: &str) -> bool {
        key.starts_with(&self.head)
    }

    /// What a key of this generation names; `None` for a key that this program does not write.
    pub fn name(&self, key: &str) -> Option<Name> {
        let rest = key.strip_prefix(&self.head)?;
        let account = |id: &str| AccountId::parse(id).ok();
        let customer = |id: &str| CustomerId::parse(id).ok();
        match rest.split_once(':') {
            None if rest == "pos" => Some(Name::Positions),
            None if rest == "state" => Some(Name::States),
            Some(("a", id)) => account(id).map(Subject::Account).map(Name::Cell),
            Some(("c", id)) => customer(id).map(Subject::Customer).map(Name::Cell),
            Some(("d", id)) => customer(id).map(Name::Owing),
            Some(("qa", id)) => account(id).map(Name::AccountQuarantine),
            Some(("qc", id)) => customer(id).map(Name::CustomerQuarantine),
            Some(("qd", id)) => customer(id).map(Name::DueQuarantine),
            Some(("qi", id)) => partition(id).map(Name::Index),
            None | Some(_) => None,
        }
    }

    fn of(&self, kind: &str, id: &str) -> String {
        let mut key =
            String::with_capacity(self.head.len().saturating_add(kind.len()).saturating_add(id.len()));
        key.push_str(&self.head);
        key.push_str(kind);
        key.push_str(id);
        key
    }
}

/// A pattern of `SCAN` that fits every key of every generation.
pub fn pattern_of_all(prefix: &str) -> String {
    pattern(&format!("{prefix}:g"))
}

fn pattern(head: &str) -> String {
    let mut pattern = String::with_capacity(head.len().saturating_add(1));
    for character in head.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\' | '^') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('*');
    pattern
}

/// The field of a customer's mark that comes from a quarantine of an account.
pub fn due_field(account: &AccountId, partition: PartitionId) -> String {
    format!("{}/{partition}", account.as_str())
}

/// Reads [`due_field`] back.
pub fn due_field_parts(field: &str) -> Option<(AccountId, PartitionId)> {
    let (account, rest) = field.split_once('/')?;
    Some((AccountId::parse(account).ok()?, partition(rest)?))
}

/// Reads the short form of a partition, such as `ledger/1`.
pub fn partition(text: &str) -> Option<PartitionId> {
    let (topic, number) = text.split_once('/')?;
    let topic = match topic {
        "ledger" => Topic::Ledger,
        "payment" => Topic::Payment,
        _ => return None,
    };
    Some(PartitionId { topic, partition: number.parse().ok()? })
}

impl Position {
    /// The token's 16 bytes, then the packed checkpoint: compared for equality only, as bytes.
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend_from_slice(&self.token.0);
        // Packing integers into a growing vector cannot fail; an empty checkpoint would be refused on reading.
        Bytes::from(postcard::to_extend(&self.checkpoint, bytes).unwrap_or_default())
    }

    /// Reads the packed form; `None` where it is not one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (token, rest) = bytes.split_first_chunk::<16>()?;
        let (checkpoint, rest) = postcard::take_from_bytes::<Checkpoint>(rest).ok()?;
        rest.is_empty().then_some(Position { token: Token(*token), checkpoint })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{LastRecord, Offset};

    #[test]
    fn a_position_is_its_token_and_its_packed_checkpoint() {
        let last = Some(LastRecord { offset: Offset(-1), timestamp_ms: i64::MAX, hash: u64::MAX });
        let position = Position {
            token: Token([7; 16]),
            checkpoint: Checkpoint { next: Offset(i64::MAX), commit: u64::MAX, complete: true, last },
        };
        let bytes = position.to_bytes();
        assert_eq!(bytes.get(..16), Some([7; 16].as_slice()));
        assert_eq!(Position::from_bytes(&bytes), Some(position));
        assert_eq!(Position::from_bytes(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Position::from_bytes(&[bytes.as_ref(), &[0]].concat()), None);
        assert_eq!(Position::from_bytes(b""), None);
    }

    #[test]
    fn every_key_names_its_parts() {
        let keys = Keys::new("{bp}", Generation(12));
        let account = AccountId::parse("a.1-_Z").unwrap();
        let customer = CustomerId::parse("c").unwrap();
        let ledger = PartitionId { topic: Topic::Ledger, partition: 11 };
        let rows = [
            (Name::Positions, "{bp}:g12:pos"),
            (Name::States, "{bp}:g12:state"),
            (Name::Cell(Subject::Account(account.clone())), "{bp}:g12:a:a.1-_Z"),
            (Name::Cell(Subject::Customer(customer.clone())), "{bp}:g12:c:c"),
            (Name::Owing(customer.clone()), "{bp}:g12:d:c"),
            (Name::AccountQuarantine(account), "{bp}:g12:qa:a.1-_Z"),
            (Name::CustomerQuarantine(customer.clone()), "{bp}:g12:qc:c"),
            (Name::DueQuarantine(customer), "{bp}:g12:qd:c"),
            (Name::Index(ledger), "{bp}:g12:qi:ledger/11"),
        ];
        for (name, key) in rows {
            assert_eq!(keys.key(&name), key);
            assert_eq!(keys.name(key), Some(name));
        }
        let import = import("{bp}", Generation(12));
        assert!(!keys.owns(&import), "{import}");
        for foreign in ["{bp}:g1:pos", "{bp}:g12:x:y", "{bp}:g12:a:b:c", "{bp}:g12:qi:ledger", "{bp}:active"]
        {
            assert_eq!(keys.name(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_prefix_with_characters_of_patterns_matches_itself_only() {
        assert_eq!(Keys::new("{a*[b]}", Generation(1)).pattern(), "{a\\*\\[b\\]}:g1:*");
    }
}
