//! Fills a generation that nobody reads and nobody feeds, from a snapshot.
//!
//! Every step is a script that looks first whether the import still is its own. So one that was thought dead (its
//! process stood still, and another took over) changes nothing any more when it wakes, least of all what was folded
//! onto the other's work since.

use redis::Value;

use super::{
    Code, RedisStore, json, parts,
    scan::{self, Scan},
    script,
};
use crate::{
    domain::{Checkpoint, CustomerId, PartitionId, Subject},
    store::{
        Generation, Position, Quarantine, StoreError, Token,
        keys::{self, Keys},
    },
};

/// How long an import that makes no step keeps others from beginning: it is dead, or as good as that.
const LEASE_SECONDS: u32 = 15;

/// A subject as it is to stand in the store.
#[derive(Debug, Clone)]
pub struct Planted {
    /// Which one.
    pub subject: Subject,
    /// Its encoded cell.
    pub cell: Option<Vec<u8>>,
    /// Where its key is on hold.
    pub quarantines: Vec<Quarantine>,
    /// Who has a due on it, and the due encoded: they find it, and are told where the account is on hold.
    pub dues: Vec<(CustomerId, Vec<u8>)>,
}

/// A step was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// Another process has begun to fill the generation; nothing was changed.
    #[error("another process fills the generation by now")]
    TakenOver,
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An import in its course. One that ends before [`Import::place`] leaves no position: nobody can fold onto it.
pub struct Import<'a> {
    store: &'a RedisStore,
    keys: Keys,
    mark: String,
    token: Token,
    code: Code,
}

impl RedisStore {
    /// Begins to fill a generation; `None` where another process does that, or did a moment ago.
    pub async fn import(&self, generation: Generation) -> Result<Option<Import<'_>>, StoreError> {
        let (mark, token) = (keys::import(&self.prefix, generation), Token(rand::random()));
        let mut set = redis::cmd("SET");
        set.arg(&mark).arg(token.0.as_slice()).arg("NX").arg("EX").arg(LEASE_SECONDS);
        if matches!(self.writer.call(&set).await?, Value::Nil) {
            return Ok(None);
        }
        let code = Code::new(include_str!("seed.lua"));
        Ok(Some(Import { store: self, keys: self.keys(generation), mark, token, code }))
    }
}

impl Import<'_> {
    /// Deletes all that the generation holds, page by page.
    pub async fn clear(&self) -> Result<(), ImportError> {
        let mut scan = Scan::new(self.keys.pattern());
        while let Some(page) = scan.page(&self.store.writer).await? {
            let mut steps = Steps::default();
            for key in page {
                steps.step("DEL", scan::own(key)?, []);
            }
            self.make(steps).await?;
        }
        Ok(())
    }

    /// Writes subjects, and what is derived from them.
    pub async fn plant(&self, subjects: &[Planted]) -> Result<(), ImportError> {
        let keys = &self.keys;
        let mut steps = Steps::default();
        for Planted { subject, cell, quarantines, dues } in subjects {
            let held = match subject {
                Subject::Account(id) => keys.account_quarantine(id),
                Subject::Customer(id) => keys.customer_quarantine(id),
            };
            if let Some(cell) = cell {
                steps.step("SET", keys.cell(subject), [cell.as_slice()]);
            }
            if let Subject::Account(account) = subject {
                for (customer, due) in dues {
                    steps.step("HSET", keys.owing(customer), [account.as_str().as_bytes(), due]);
                }
            }
            for mark in quarantines {
                let (partition, value) = (mark.partition, json(mark)?);
                steps.step("HSET", held.clone(), [partition.to_string().as_bytes(), &value]);
                steps.step("HSET", keys.index(partition), [subject.as_str().as_bytes(), &value]);
                if let Subject::Account(account) = subject {
                    // What waits is counted with the account alone.
                    let value = json(&Quarantine { waiting: 0, ..mark.clone() })?;
                    for (customer, _) in dues {
                        let field = keys::due_field(account, partition);
                        steps.step("HSET", keys.due_quarantine(customer), [field.as_bytes(), &value]);
                    }
                }
            }
        }
        self.make(steps).await
    }

    /// Writes the positions, and ends the import: where there are any, the generation can be claimed from here on.
    pub async fn place(self, checkpoints: &[(PartitionId, Checkpoint)]) -> Result<(), ImportError> {
        let mut steps = Steps::default();
        for (partition, checkpoint) in checkpoints {
            // No claim draws this token: nobody can commit before a claim.
            let position = Position { token: Token([0; 16]), checkpoint: *checkpoint };
            let (field, position) = (partition.to_string(), position.to_bytes());
            steps.step("HSET", self.keys.positions(), [field.as_bytes(), &position]);
        }
        steps.step("DEL", self.mark.clone(), []);
        self.make(steps).await
    }

    async fn make(&self, steps: Steps) -> Result<(), ImportError> {
        let mut command = script(&self.code, steps.keys.len().saturating_add(1));
        command.arg(&self.mark).arg(steps.keys).arg(self.token.0.as_slice()).arg(LEASE_SECONDS);
        command.arg(steps.arguments);
        let mut pipe = redis::pipe();
        // A server that began anew does not know it, and no other call needs it.
        pipe.cmd("SCRIPT").arg("LOAD").arg(self.code.text).add_command(command);
        let [_, made] = parts(Value::Array(self.store.writer.call_all(&pipe).await?))?;
        if matches!(made, Value::Int(1)) { Ok(()) } else { Err(ImportError::TakenOver) }
    }
}

/// Commands of one step.
#[derive(Default)]
struct Steps {
    keys: Vec<String>,
    arguments: Vec<Vec<u8>>,
}

impl Steps {
    fn step<const N: usize>(&mut self, name: &str, key: String, arguments: [&[u8]; N]) {
        self.keys.push(key);
        self.arguments.extend([name.as_bytes().to_vec(), N.to_string().into_bytes()]);
        self.arguments.extend(arguments.map(<[u8]>::to_vec));
    }
}
