//! The store in memory: the oracle of the tests, and the demo's. It keeps nothing.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    AccountRead, Claimed, Commit, CountStore, CustomerRead, Fed, Generation, Live, Owing, PartitionState,
    Position, Quarantine, Quota, ReadStore, Snapshot, StoreError, Token, WriteStore, contents::Contents,
};
use crate::domain::{AccountId, Checkpoint, CustomerId, Offset, PartitionId, Subject};

/// The store in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    held: Mutex<Held>,
    counts: Mutex<BTreeMap<Quota, u32>>,
}

/// All that the store holds: taken, kept and put back by tests, as a dump of Redis is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// The generation that readers are served.
    pub active: Option<Generation>,
    /// Those that are fed, with the names of their logs.
    pub live: BTreeMap<Generation, String>,
    /// Every generation.
    pub generations: BTreeMap<Generation, Contents>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// A copy of all that it holds.
    pub fn snapshot(&self) -> Held {
        self.lock().clone()
    }

    /// Puts a copy back: what was written since is lost, as in a fail-over.
    pub fn restore(&self, held: Held) {
        *self.lock() = held;
    }

    /// All that a generation holds.
    pub fn dump(&self, generation: Generation) -> Contents {
        self.lock().generations.get(&generation).cloned().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn position(&self, generation: Generation, partition: PartitionId) -> Result<Position, StoreError> {
        let position =
            self.generations.get(&generation).and_then(|contents| contents.positions.get(&partition));
        position.copied().ok_or(StoreError::Missing { partition })
    }

    fn served(&self) -> Option<(Snapshot, &Contents)> {
        self.active.map(|generation| self.contents(generation))
    }

    fn contents(&self, generation: Generation) -> (Snapshot, &Contents) {
        static EMPTY: Contents = Contents {
            cells: BTreeMap::new(),
            owing: BTreeMap::new(),
            quarantines: BTreeMap::new(),
            due_quarantines: BTreeMap::new(),
            index: BTreeMap::new(),
            positions: BTreeMap::new(),
            states: BTreeMap::new(),
        };
        let contents = self.generations.get(&generation).unwrap_or(&EMPTY);
        let positions =
            contents.positions.iter().map(|(partition, position)| (*partition, *position)).collect();
        (Snapshot { generation, positions }, contents)
    }
}

impl Contents {
    /// The clauses of the commit rule that refuse, in the order in which the script checks them.
    fn refusal(&self, commit: &Commit) -> Result<(), StoreError> {
        let partition = commit.partition;
        let held = self.positions.get(&partition).ok_or(StoreError::Missing { partition })?;
        if held.token != commit.from.token {
            return Err(StoreError::Fenced { partition });
        }
        if held.checkpoint != commit.from.checkpoint {
            return Err(StoreError::Unchained { partition });
        }
        let exists = commit.cells.iter().any(|cell| cell.born && self.cells.contains_key(&cell.key));
        let changed = commit
            .quarantines
            .iter()
            .filter_map(|mark| mark.unless_changed.as_ref())
            .any(|(key, value)| self.cells.get(key).cloned().unwrap_or_default() != *value);
        if exists || changed { Err(StoreError::Guarded { partition }) } else { Ok(()) }
    }

    fn apply(&mut self, commit: &Commit) {
        for mark in commit.quarantines.iter().filter(|mark| mark.lifted) {
            let partition = mark.quarantine.partition;
            remove(&mut self.index, &partition, &mark.subject);
            remove(&mut self.quarantines, &mark.subject, &partition);
            if let Subject::Account(account) = &mark.subject {
                for customer in &mark.customers {
                    remove(&mut self.due_quarantines, customer, &(account.clone(), partition));
                }
            }
        }
        for mark in commit.quarantines.iter().filter(|mark| !mark.lifted) {
            let partition = mark.quarantine.partition;
            self.index.entry(partition).or_default().insert(mark.subject.clone(), mark.quarantine.clone());
            self.quarantines
                .entry(mark.subject.clone())
                .or_default()
                .insert(partition, mark.quarantine.clone());
            if let Subject::Account(account) = &mark.subject {
                for customer in &mark.customers {
                    let marks = self.due_quarantines.entry(customer.clone()).or_default();
                    marks.insert((account.clone(), partition), mark.quarantine.clone());
                }
            }
        }
        for Owing { customer, account, due, opened } in &commit.owing {
            self.owing.entry(customer.clone()).or_default().insert(account.clone(), due.clone());
            if *opened && let Some(marks) = self.quarantines.get(&Subject::Account(account.clone())) {
                let copies = self.due_quarantines.entry(customer.clone()).or_default();
                for (partition, mark) in marks {
                    copies.insert((account.clone(), *partition), mark.clone());
                }
            }
        }
        for cell in &commit.cells {
            self.cells.insert(cell.key.clone(), cell.value.clone());
        }
        if let Some(state) = &commit.state {
            self.states.insert(commit.partition, state.clone());
        }
        self.positions.insert(commit.partition, Position { token: commit.from.token, checkpoint: commit.to });
    }

    fn index_of(&self, partition: PartitionId) -> Vec<(Subject, Quarantine)> {
        let index = self.index.get(&partition).into_iter().flatten();
        index.map(|(subject, quarantine)| (subject.clone(), quarantine.clone())).collect()
    }

    fn quarantines_of(&self, subject: &Subject) -> Vec<Quarantine> {
        self.quarantines.get(subject).into_iter().flat_map(BTreeMap::values).cloned().collect()
    }
}

/// Removes an entry, and what held it where nothing else is in it.
fn remove<K: Ord, L: Ord, V>(from: &mut BTreeMap<K, BTreeMap<L, V>>, key: &K, field: &L) {
    if let Some(fields) = from.get_mut(key) {
        fields.remove(field);
        if fields.is_empty() {
            from.remove(key);
        }
    }
}

#[async_trait]
impl WriteStore for MemoryStore {
    async fn check(&self, _with_permissions: bool) -> Result<(), StoreError> {
        Ok(())
    }

    async fn trust(&self, _own: Generation) -> Result<(), StoreError> {
        Ok(())
    }

    async fn bear(&self, generation: Generation, births: &[(PartitionId, Offset)]) -> Result<(), StoreError> {
        let mut held = self.lock();
        let contents = held.generations.entry(generation).or_default();
        for (partition, at) in births {
            let born = Position { token: Token([0; 16]), checkpoint: Checkpoint::born(*at) };
            contents.positions.entry(*partition).or_insert(born);
        }
        Ok(())
    }

    async fn enlist(&self, generation: Generation, log: &str) -> Result<(), StoreError> {
        self.lock().live.insert(generation, log.to_owned());
        Ok(())
    }

    async fn strike(&self, generation: Generation) -> Result<(), StoreError> {
        self.lock().live.remove(&generation);
        Ok(())
    }

    async fn claim(
        &self,
        generation: Generation,
        partition: PartitionId,
        token: Token,
    ) -> Result<Claimed, StoreError> {
        let mut held = self.lock();
        let contents = held.generations.get_mut(&generation).ok_or(StoreError::Missing { partition })?;
        let position = contents.positions.get_mut(&partition).ok_or(StoreError::Missing { partition })?;
        position.token = token;
        let position = *position;
        Ok(Claimed { position, quarantined: contents.index_of(partition) })
    }

    async fn load(
        &self,
        generation: Generation,
        partition: PartitionId,
        acknowledged: Position,
        keys: &[Subject],
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let held = self.lock();
        let position = held.position(generation, partition)?;
        if position.token != acknowledged.token {
            return Err(StoreError::Fenced { partition });
        }
        if position.checkpoint.commit < acknowledged.checkpoint.commit {
            return Err(StoreError::Unchained { partition });
        }
        let cells = held.generations.get(&generation).map(|contents| &contents.cells);
        Ok(keys.iter().map(|key| cells.and_then(|cells| cells.get(key)).cloned()).collect())
    }

    async fn commit(&self, commit: &Commit) -> Result<(), StoreError> {
        let mut held = self.lock();
        let missing = StoreError::Missing { partition: commit.partition };
        let contents = held.generations.get_mut(&commit.generation).ok_or(missing)?;
        contents.refusal(commit)?;
        contents.apply(commit);
        Ok(())
    }

    async fn active(&self) -> Result<Option<Generation>, StoreError> {
        Ok(self.lock().active)
    }

    async fn activate(&self, from: Option<Generation>, to: Generation) -> Result<bool, StoreError> {
        let mut held = self.lock();
        let same = held.active == from;
        if same {
            held.active = Some(to);
        }
        Ok(same)
    }
}

#[async_trait]
impl CountStore for MemoryStore {
    async fn take(&self, quota: &Quota, max: u32, count: bool) -> Result<bool, StoreError> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        // Days end: what was counted on another one is never asked for again.
        counts.retain(|held, _| held.day == quota.day);
        let taken = counts.get(quota).copied().unwrap_or_default();
        if taken >= max {
            return Ok(false);
        }
        if count {
            counts.insert(quota.clone(), taken.saturating_add(1));
        }
        Ok(true)
    }
}

#[async_trait]
impl ReadStore for MemoryStore {
    async fn account(&self, id: &AccountId) -> Result<Option<AccountRead>, StoreError> {
        Ok(self.lock().served().map(|(snapshot, contents)| AccountRead {
            snapshot: Arc::new(snapshot),
            cell: contents.cells.get(&Subject::Account(id.clone())).cloned(),
            quarantines: contents.quarantines_of(&Subject::Account(id.clone())),
        }))
    }

    async fn customer(&self, id: &CustomerId) -> Result<Option<CustomerRead>, StoreError> {
        let held = self.lock();
        let Some((snapshot, contents)) = held.served() else { return Ok(None) };
        let owing = contents.owing.get(id).into_iter().flatten();
        let mut quarantines = contents.quarantines_of(&Subject::Customer(id.clone()));
        quarantines.extend(contents.due_quarantines.get(id).into_iter().flat_map(BTreeMap::values).cloned());
        Ok(Some(CustomerRead {
            snapshot: Arc::new(snapshot),
            cell: contents.cells.get(&Subject::Customer(id.clone())).cloned(),
            dues: owing.map(|(account, due)| (account.clone(), due.clone())).collect(),
            quarantines,
        }))
    }

    async fn states(&self) -> Result<Option<(Snapshot, Vec<(PartitionId, PartitionState)>)>, StoreError> {
        Ok(self.lock().served().map(|(snapshot, contents)| {
            let states =
                contents.states.iter().map(|(partition, state)| (*partition, state.clone())).collect();
            (snapshot, states)
        }))
    }

    async fn live(&self) -> Result<Live, StoreError> {
        let held = self.lock();
        let mut listed = held.live.clone();
        if let Some(active) = held.active {
            listed.entry(active).or_default();
        }
        let fed = |(generation, log): (Generation, String)| {
            let (snapshot, contents) = held.contents(generation);
            let states =
                contents.states.iter().map(|(partition, state)| (*partition, state.clone())).collect();
            Fed { snapshot, log: log.into(), states }
        };
        Ok(Live { active: held.active, generations: listed.into_iter().map(fed).collect() })
    }

    async fn quarantined(&self, partition: PartitionId) -> Result<Vec<(Subject, Quarantine)>, StoreError> {
        Ok(self.lock().served().map(|(_, contents)| contents.index_of(partition)).unwrap_or_default())
    }

    async fn healthy(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
