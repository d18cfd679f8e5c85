//! All that a generation holds, decoded from keys: what two stores are compared by.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{PartitionState, Position, Quarantine};
use crate::domain::{AccountId, CustomerId, PartitionId, Subject};

/// All that a generation holds, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// Cells, encoded.
    pub cells: BTreeMap<Subject, Bytes>,
    /// The accounts on which each customer owes, or once did, and how much, encoded.
    pub owing: BTreeMap<CustomerId, BTreeMap<AccountId, Bytes>>,
    /// Why a subject is on hold, per partition.
    pub quarantines: BTreeMap<Subject, BTreeMap<PartitionId, Quarantine>>,
    /// Which accounts with a due put a customer on hold.
    pub due_quarantines: BTreeMap<CustomerId, BTreeMap<(AccountId, PartitionId), Quarantine>>,
    /// The keys on hold in each partition.
    pub index: BTreeMap<PartitionId, BTreeMap<Subject, Quarantine>>,
    /// Tokens and checkpoints.
    pub positions: BTreeMap<PartitionId, Position>,
    /// Heartbeats.
    pub states: BTreeMap<PartitionId, PartitionState>,
}

impl Contents {
    /// Without tokens, commit numbers and heartbeats: equal for two ways to fold one log.
    #[must_use]
    pub fn figures(mut self) -> Self {
        self.positions.clear();
        self.states.clear();
        self
    }
}
