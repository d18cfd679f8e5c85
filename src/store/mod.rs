//! Where the projection lives: cells and checkpoints, written together, read together.
//!
//! Two stores with the same semantics: [`redis`] and [`memory`] (the oracle of the tests and the demo's).
//! Both hold to the commit rule that `ARCHITECTURE.md` explains clause by clause.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::domain::{AccountId, Checkpoint, Class, CustomerId, Offset, PartitionId, Subject, Time};

pub mod contents;
pub mod keys;
pub mod memory;
pub mod redis;

/// The number of a build of the projection; in every key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u32);

/// The proof of owning a partition: random, so that no fail-over can issue it twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(pub [u8; 16]);

/// What the store holds for a partition, as one value: the owner's token and the checkpoint.
///
/// Compared for equality only, as bytes: `Token ‖ postcard(Checkpoint)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Who may commit.
    pub token: Token,
    /// From where.
    pub checkpoint: Checkpoint,
}

/// A cell's new value.
#[derive(Debug, Clone)]
pub struct CellWrite {
    /// Which cell.
    pub key: Subject,
    /// Its encoded value.
    pub value: Bytes,
    /// The commit creates it: refused where it exists already.
    pub born: bool,
}

/// What a customer owes on an account, as the customer's reads find it. It stands in the account's cell too, which the
/// same commit writes.
#[derive(Debug, Clone)]
pub struct Owing {
    /// Who owes.
    pub customer: CustomerId,
    /// On which account.
    pub account: AccountId,
    /// How much, by [`crate::domain::encode_due`].
    pub due: Bytes,
    /// The customer may be new to the account: marks of the account that stand already are copied to the customer by the
    /// same script.
    pub opened: bool,
}

/// An entry beside the cells that follows from one of them, or from the marks of its key: it serves to find them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Derived {
    /// Of the accounts on which a customer owes: follows from the account's cell.
    Owing {
        /// Who owes.
        customer: CustomerId,
        /// On which account.
        account: AccountId,
    },
    /// Of the marks by which a customer's readers are told: follows from the account's cell and its mark.
    Told {
        /// Whose readers.
        customer: CustomerId,
        /// On which account the customer owes.
        account: AccountId,
        /// Where that is on hold.
        partition: PartitionId,
    },
    /// Of a partition's index of keys on hold: follows from the subject's mark.
    Index {
        /// Whose key.
        subject: Subject,
        /// Where it is on hold.
        partition: PartitionId,
    },
}

/// A key on hold in one partition.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Quarantine {
    /// Where the key is on hold.
    pub partition: PartitionId,
    /// The record that was set aside.
    pub offset: Offset,
    /// Why.
    pub class: Class,
    /// The Kafka timestamp of that record: a rebuild gives the same.
    pub since: Time,
    /// How many later records of the key wait in the log, up to the checkpoint.
    pub waiting: u64,
    /// The event that a sequence gap waits for may be among them: the key is to be folded again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub heals: bool,
}

/// Marks a key as on hold, counts what waits behind it, or lifts the mark.
#[derive(Debug, Clone)]
pub struct QuarantineWrite {
    /// The key.
    pub subject: Subject,
    /// Written to the subject's field of this partition, and to the partition's index.
    pub quarantine: Quarantine,
    /// Nothing waits any more: the fields are removed instead.
    pub lifted: bool,
    /// Who has a due on the account, zero included: each is marked, or the mark is lifted. Empty for a customer,
    /// and for a mark that only counts.
    pub customers: Vec<CustomerId>,
    /// The subject's home is another partition: the mark is refused unless the cell still is what
    /// `customers` was read from; empty bytes where there was none.
    pub unless_changed: Option<(Subject, Bytes)>,
}

/// What an owner says of its partition, twice a second: the heartbeat. It travels with a commit.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PartitionState {
    /// Which claim speaks: a random number, drawn anew with each claim.
    pub claim: u64,
    /// Rises with every heartbeat of this claim.
    pub beat: u64,
    /// How long ago, by the owner's own monotonic clock, the position had reached the end that the broker
    /// named in answer to a request; absent where it has not since the claim.
    pub caught_up_ms_ago: Option<u64>,
    /// The next offset to fold.
    pub next: Offset,
    /// The log's end, as the broker named it last.
    pub high_watermark: Option<Offset>,
    /// Why the partition stands still, if it does.
    pub halt: Option<Halt>,
    /// By whom and since when it is told to stand still, if it is: nothing is folded, nothing is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
    /// The generation began where the log's head was gone already: the Kafka timestamp of the first record that
    /// was there. Subjects without a beginning since then are incomplete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Time>,
    /// The zone of the generation's days, as an IANA name: who reads it must go by the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// How many keys are on hold.
    pub quarantined_keys: u64,
    /// How many records of theirs wait in the log.
    pub waiting_records: u64,
    /// Which process speaks, for humans.
    pub owner: String,
}

/// A partition stopped because going on would guess.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Halt {
    /// What is wrong, with topic, partition and offsets.
    pub reason: String,
    /// What a human can do.
    pub remedy: String,
}

/// One atomic step of one partition: refused as a whole unless it chains.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Which generation.
    pub generation: Generation,
    /// Which partition.
    pub partition: PartitionId,
    /// Must equal what the store holds.
    pub from: Position,
    /// What it holds afterwards: same token, `commit` one higher.
    pub to: Checkpoint,
    /// Cells, each at most once.
    pub cells: Vec<CellWrite>,
    /// Who owes how much on which account, each at most once; with the account's cell.
    pub owing: Vec<Owing>,
    /// Keys on hold.
    pub quarantines: Vec<QuarantineWrite>,
    /// The heartbeat, where one is due.
    pub state: Option<PartitionState>,
}

/// A claimed partition.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The position with the new token.
    pub position: Position,
    /// The keys on hold in this partition.
    pub quarantined: Vec<(Subject, Quarantine)>,
}

/// What the store did not do, by remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another owner claimed the partition: drop everything, and claim again only if still assigned.
    #[error("{partition} was claimed by another process; nothing was written")]
    Fenced {
        /// Which partition.
        partition: PartitionId,
    },
    /// The token is ours, the checkpoint is not: writes were lost, or a reply was. Claim again, seek, go on.
    #[error("{partition} is at another checkpoint than expected; nothing was written")]
    Unchained {
        /// Which partition.
        partition: PartitionId,
    },
    /// The store holds no position: it lost everything. Give birth again as the decisions say, then claim.
    #[error("the store holds no position of {partition}; nothing was written")]
    Missing {
        /// Which partition.
        partition: PartitionId,
    },
    /// A cell to be created exists, or one that a mark rests on has changed: claim again, seek, go on.
    #[error("a cell of {partition} was written from another partition meanwhile; nothing was written")]
    Guarded {
        /// Which partition.
        partition: PartitionId,
    },
    /// No answer, or none that tells: the effect is unknown. Retry from the checkpoint, with backoff.
    #[error("the store did not answer: {reason}")]
    Transient {
        /// What the client said, without keys and values.
        reason: String,
    },
    /// What a commit rests on besides the store was not had from Kafka. Retry from the checkpoint, with backoff.
    #[error("{reason}")]
    Broker {
        /// What was asked for, and what the client said.
        reason: String,
    },
    /// Not a database that keeps what it acknowledged, or not what this program wrote: halt where that is seen of the store
    /// as a whole, else retry with backoff.
    #[error("{reason}")]
    Corrupt {
        /// What is wrong, and the remedy.
        reason: String,
    },
}

/// The write side.
#[async_trait]
pub trait WriteStore: Send + Sync {
    /// Checks that the store is a database (`noeviction`, a primary, no cluster) and, at the start, that the script may
    /// do all it does, on scratch keys.
    async fn check(&self, with_permissions: bool) -> Result<(), StoreError>;

    /// The first of that, and that nothing of the generation was evicted; what was, is noted in the store. Every 5 s.
    async fn trust(&self, own: Generation) -> Result<(), StoreError>;

    /// Sets the checkpoint of each partition that has none, and leaves the others.
    async fn bear(&self, generation: Generation, births: &[(PartitionId, Offset)]) -> Result<(), StoreError>;

    /// Puts the generation on the list of those that are fed, with the name of its log: readers keep all of them
    /// in view.
    async fn enlist(&self, generation: Generation, log: &str) -> Result<(), StoreError>;

    /// Takes the generation off that list.
    async fn strike(&self, generation: Generation) -> Result<(), StoreError>;

    /// Stores a fresh token for the partition and returns its checkpoint and quarantined keys, atomically.
    /// [`StoreError::Missing`] where it was never born or was lost.
    async fn claim(
        &self,
        generation: Generation,
        partition: PartitionId,
        token: Token,
    ) -> Result<Claimed, StoreError>;

    /// Reads cells, in the order asked for, together with the position: a foreign token is
    /// [`StoreError::Fenced`], a commit number below `acknowledged.checkpoint.commit` is
    /// [`StoreError::Unchained`].
    async fn load(
        &self,
        generation: Generation,
        partition: PartitionId,
        acknowledged: Position,
        keys: &[Subject],
    ) -> Result<Vec<Option<Bytes>>, StoreError>;

    /// The most cells that a commit should have now, so that whoever else uses the store comes in between.
    fn cells_max(&self) -> usize {
        usize::MAX
    }

    /// Writes all of it or nothing, unless a script stops half way: then the position is unchanged.
    ///
    /// Several may be in flight: they reach the store in the order in which the futures are first polled.
    async fn commit(&self, commit: &Commit) -> Result<(), StoreError>;

    /// The generation that readers are served.
    async fn active(&self) -> Result<Option<Generation>, StoreError>;

    /// Points readers to a generation, if the pointer still is `from`; tells whether it was.
    async fn activate(&self, from: Option<Generation>, to: Generation) -> Result<bool, StoreError>;
}

/// What every read brings along, in the same round trip.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The generation that was read, and that the pointer named in the same reply.
    pub generation: Generation,
    /// The position of every partition of the generation that has one.
    pub positions: Vec<(PartitionId, Position)>,
}

impl Snapshot {
    /// Whether all of these records are in what was read.
    pub fn holds(&self, records: &[(PartitionId, Offset)]) -> bool {
        let next = |partition| {
            self.positions.iter().find(|(of, _)| *of == partition).map(|(_, at)| at.checkpoint.next)
        };
        records.iter().all(|(partition, offset)| next(*partition).is_some_and(|next| next > *offset))
    }
}

/// What view two rests on.
#[derive(Debug, Clone)]
pub struct AccountRead {
    /// Generation and positions.
    pub snapshot: Arc<Snapshot>,
    /// The encoded [`crate::domain::Account`].
    pub cell: Option<Bytes>,
    /// Why the account is on hold, per partition.
    pub quarantines: Vec<Quarantine>,
}

/// What view one rests on.
#[derive(Debug, Clone)]
pub struct CustomerRead {
    /// Generation and positions.
    pub snapshot: Arc<Snapshot>,
    /// The encoded [`crate::domain::Customer`].
    pub cell: Option<Bytes>,
    /// Each account on which the customer owes or once did, and how much, to be read by [`crate::domain::decode_due`].
    pub dues: Vec<(AccountId, Bytes)>,
    /// Why the customer, or an account with a due, is on hold.
    pub quarantines: Vec<Quarantine>,
}

/// A generation that is fed, as a reader sees it.
#[derive(Debug, Clone)]
pub struct Fed {
    /// Positions of every partition that has one.
    pub snapshot: Snapshot,
    /// The name of its log: positions of two generations compare where it is the same.
    pub log: Arc<str>,
    /// The heartbeats.
    pub states: Vec<(PartitionId, PartitionState)>,
}

/// Every generation that is fed, at one instant.
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// The one that readers are served.
    pub active: Option<Generation>,
    /// All on the list, and the active one.
    pub generations: Vec<Fed>,
}

/// The read side. Every method is one round trip, a second one where a subject is on hold or the store is full;
/// `Ok(None)` where no generation is active.
#[async_trait]
pub trait ReadStore: Send + Sync {
    /// An account's cell and what tells whether to believe it.
    async fn account(&self, id: &AccountId) -> Result<Option<AccountRead>, StoreError>;

    /// A customer's cell, the dues, and what tells whether to believe them.
    async fn customer(&self, id: &CustomerId) -> Result<Option<CustomerRead>, StoreError>;

    /// Positions and heartbeats of every partition of the active generation.
    async fn states(&self) -> Result<Option<(Snapshot, Vec<(PartitionId, PartitionState)>)>, StoreError>;

    /// Positions and heartbeats of every partition of every generation that is fed. Two round trips where the list
    /// has changed.
    async fn live(&self) -> Result<Live, StoreError>;

    /// The keys on hold in a partition of the active generation.
    async fn quarantined(&self, partition: PartitionId) -> Result<Vec<(Subject, Quarantine)>, StoreError>;

    /// Whether the store may be believed, and read at all: [`StoreError::Corrupt`] for one that evicts or has evicted,
    /// that is a replica, or whose user lacks a permission.
    async fn healthy(&self) -> Result<(), StoreError>;
}

/// One kind of read that is limited by the day: of an account by a caller.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quota {
    /// The day, `yyyy-MM-dd`.
    pub day: String,
    /// Who reads; nothing but its digest is stored.
    pub caller: String,
    /// What is read.
    pub account: AccountId,
}

/// Counts that limit callers, one for all processes. They lie under keys of their own and are no part of the
/// projection: what is lost of them lets a caller read more often on that day, nothing else.
#[async_trait]
pub trait CountStore: Send + Sync {
    /// Whether fewer than `max` were counted; if so, and if `count`, counts one more. Counts go by themselves
    /// two days after the first.
    async fn take(&self, quota: &Quota, max: u32, count: bool) -> Result<bool, StoreError>;
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}
