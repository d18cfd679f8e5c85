//! Fills a generation that nobody reads and nobody feeds, from a snapshot.

use super::{RedisStore, array, json, parts, text};
use crate::{
    domain::{Checkpoint, CustomerId, PartitionId, Subject},
    store::{CellKey, Generation, Position, Quarantine, StoreError, Token, keys},
};

/// How many keys a page of the deletion asks for.
const PAGE_KEYS: usize = 500;

/// A subject as it is to stand in the store.
#[derive(Debug, Clone)]
pub struct Planted {
    /// Which one.
    pub subject: Subject,
    /// Its encoded cell.
    pub cell: Option<Vec<u8>>,
    /// Where its key is on hold.
    pub quarantines: Vec<Quarantine>,
    /// Who has a due on it: they find it, and are told where it is on hold.
    pub customers: Vec<CustomerId>,
}

impl RedisStore {
    /// Deletes all that a generation holds, page by page.
    pub async fn clear(&self, generation: Generation) -> Result<(), StoreError> {
        let keys = self.keys(generation);
        let mut cursor = "0".to_owned();
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(keys.pattern()).arg("COUNT").arg(PAGE_KEYS);
            let [next, page] = parts(self.writer.call(&scan).await?)?;
            let page = array(page)?;
            if !page.is_empty() {
                let mut del = redis::cmd("DEL");
                for key in page {
                    del.arg(text(key)?);
                }
                self.writer.call(&del).await?;
            }
            cursor = text(next)?;
            if cursor == "0" {
                return Ok(());
            }
        }
    }

    /// Writes subjects, and what is derived from them.
    pub async fn plant(&self, generation: Generation, subjects: &[Planted]) -> Result<(), StoreError> {
        let keys = self.keys(generation);
        let mut pipe = redis::pipe();
        for Planted { subject, cell, quarantines, customers } in subjects {
            let (key, held) = match subject {
                Subject::Account(id) => (CellKey::Account(id.clone()), keys.account_quarantine(id)),
                Subject::Customer(id) => (CellKey::Customer(id.clone()), keys.customer_quarantine(id)),
            };
            if let Some(cell) = cell {
                pipe.cmd("SET").arg(keys.cell(&key)).arg(cell.as_slice());
            }
            if let Subject::Account(account) = subject {
                for customer in customers {
                    pipe.cmd("SADD").arg(keys.owing(customer)).arg(account.as_str());
                }
            }
            for mark in quarantines {
                let (partition, value) = (mark.partition, json(mark)?);
                pipe.cmd("HSET").arg(&held).arg(partition.to_string()).arg(value.as_slice());
                let index = keys.index(partition);
                pipe.cmd("HSET").arg(index).arg(subject.as_str()).arg(value.as_slice());
                if let Subject::Account(account) = subject {
                    // What waits is counted with the account alone.
                    let value = json(&Quarantine { waiting: 0, ..mark.clone() })?;
                    for customer in customers {
                        let field = keys::due_field(account, partition);
                        let marks = keys.due_quarantine(customer);
                        pipe.cmd("HSET").arg(marks).arg(field).arg(value.as_slice());
                    }
                }
            }
        }
        if pipe.is_empty() { Ok(()) } else { self.writer.call_all(&pipe).await.map(|_| ()) }
    }

    /// Writes the positions: from here on the generation can be claimed.
    pub async fn place(
        &self,
        generation: Generation,
        checkpoints: &[(PartitionId, Checkpoint)],
    ) -> Result<(), StoreError> {
        let mut set = redis::cmd("HSET");
        set.arg(self.keys(generation).positions());
        for (partition, checkpoint) in checkpoints {
            // No claim draws this token: nobody can commit before a claim.
            let position = Position { token: Token([0; 16]), checkpoint: *checkpoint };
            set.arg(partition.to_string()).arg(position.to_bytes().as_ref());
        }
        if checkpoints.is_empty() { Ok(()) } else { self.writer.call(&set).await.map(|_| ()) }
    }
}
