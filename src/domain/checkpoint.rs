//! Where folding goes on: offsets, partitions, and the checkpoint of a partition.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Time;

/// The two kinds of topic that are folded. Their names on the broker are configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Topic {
    /// `ledger.events`: keyed by account.
    Ledger,
    /// `payment.events`: keyed by customer.
    Payment,
}

impl Topic {
    /// Every topic that is folded.
    pub const ALL: [Topic; 2] = [Topic::Ledger, Topic::Payment];
}

/// One partition of one of the two topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PartitionId {
    /// Which topic.
    pub topic: Topic,
    /// The partition's number on the broker.
    pub partition: i32,
}

/// `ledger/1`: the short form used in keys of the store and in logs.
impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topic = match self.topic {
            Topic::Ledger => "ledger",
            Topic::Payment => "payment",
        };
        write!(f, "{topic}/{}", self.partition)
    }
}

/// An offset on the broker; as a position it is always the next one to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Offset(pub i64);

impl Offset {
    /// The offset after this one: the only place that adds one.
    #[must_use]
    pub const fn next(self) -> Offset {
        Offset(self.0.saturating_add(1))
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a record stands in the log, and when the broker took it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordAt {
    /// The record's topic and partition.
    pub partition: PartitionId,
    /// The record's own offset.
    pub offset: Offset,
    /// The record's Kafka timestamp.
    pub timestamp: Time,
}

/// The position of a partition, written by the same script as the cells that it describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The next offset to fold.
    pub next: Offset,
    /// Rises with every commit, also where `next` stands still.
    pub commit: u64,
    /// Whether the partition has reached, since it was born, an end of the log taken after its birth.
    pub complete: bool,
    /// The last record folded; a log that does not hold it is not the log that was folded.
    pub last: Option<LastRecord>,
}

/// The identity of the last folded record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRecord {
    /// Its offset: markers of transactions may stand between it and the checkpoint.
    pub offset: Offset,
    /// Its Kafka timestamp in milliseconds.
    pub timestamp_ms: i64,
    /// A keyed hash of its key and value.
    pub hash: u64,
}

impl Checkpoint {
    /// The same place in the log, one commit on.
    #[must_use]
    pub fn with_next_commit(self) -> Self {
        Checkpoint { commit: self.commit.saturating_add(1), ..self }
    }

    /// The checkpoint of a partition from which nothing was folded yet.
    pub const fn born(at: Offset) -> Self {
        Checkpoint { next: at, commit: 0, complete: false, last: None }
    }
}
