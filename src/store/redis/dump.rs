//! All that a generation holds, read key by key: for audits and tests, not for serving.

use redis::Value;

use super::{
    RedisStore, bulk, fields, positions_of, quarantine,
    scan::{self, Scan},
    unexpected,
};
use crate::{
    domain::{AccountId, Subject},
    store::{
        Generation, StoreError,
        contents::Contents,
        keys::{self, Name},
    },
};

impl RedisStore {
    /// All that a generation holds. Pages through the keys: not one instant, where something writes.
    ///
    /// [`StoreError::Corrupt`] for a key under the generation that this program did not write.
    pub async fn dump(&self, generation: Generation) -> Result<Contents, StoreError> {
        let keys = self.keys(generation);
        let mut contents = Contents::default();
        let mut scan = Scan::new(keys.pattern());
        while let Some(page) = scan.page(&self.writer).await? {
            let mut names = Vec::new();
            let mut gets = redis::pipe();
            for key in page {
                let key = scan::own(key)?;
                let name = keys.name(&key).ok_or_else(unexpected)?;
                match &name {
                    Name::Cell(_) => gets.cmd("GET").arg(key),
                    Name::Owing(_)
                    | Name::AccountQuarantine(_)
                    | Name::CustomerQuarantine(_)
                    | Name::DueQuarantine(_)
                    | Name::Index(_)
                    | Name::Positions
                    | Name::States => gets.cmd("HGETALL").arg(key),
                };
                names.push(name);
            }
            if !names.is_empty() {
                for (name, value) in names.into_iter().zip(self.writer.call_all(&gets).await?) {
                    put(&mut contents, name, value)?;
                }
            }
        }
        Ok(contents)
    }
}

fn put(contents: &mut Contents, name: Name, value: Value) -> Result<(), StoreError> {
    let partition = |field: &str| keys::partition(field).ok_or_else(unexpected);
    match name {
        Name::Cell(key) => {
            if let Some(cell) = bulk(value)? {
                contents.cells.insert(key, cell.into());
            }
        }
        Name::Owing(customer) => {
            for (account, due) in fields(value)? {
                let account = AccountId::parse(&account).map_err(|_| unexpected())?;
                contents.owing.entry(customer.clone()).or_default().insert(account, due.into());
            }
        }
        Name::AccountQuarantine(account) => marks(contents, &Subject::Account(account), value)?,
        Name::CustomerQuarantine(customer) => marks(contents, &Subject::Customer(customer), value)?,
        Name::DueQuarantine(customer) => {
            for (field, mark) in fields(value)? {
                let at = keys::due_field_parts(&field).ok_or_else(unexpected)?;
                contents.due_quarantines.entry(customer.clone()).or_default().insert(at, quarantine(&mark)?);
            }
        }
        Name::Index(at) => {
            for (subject, mark) in super::index_of(at, value)? {
                contents.index.entry(at).or_default().insert(subject, mark);
            }
        }
        Name::Positions => {
            contents.positions.extend(positions_of(value)?);
        }
        Name::States => {
            for (field, state) in fields(value)? {
                let state = serde_json::from_slice(&state).map_err(|_| unexpected())?;
                contents.states.insert(partition(&field)?, state);
            }
        }
    }
    Ok(())
}

fn marks(contents: &mut Contents, subject: &Subject, value: Value) -> Result<(), StoreError> {
    for (field, mark) in fields(value)? {
        let at = keys::partition(&field).ok_or_else(unexpected)?;
        contents.quarantines.entry(subject.clone()).or_default().insert(at, quarantine(&mark)?);
    }
    Ok(())
}
