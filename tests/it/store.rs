//! Both stores keep the same promises: each is checked on the one in memory and on a real Redis.

mod alike;
mod on_redis;
mod promises;

use std::{collections::BTreeMap, ops::Deref, sync::Arc, time::Duration};

use balance_projector::{
    config,
    domain::{
        AccountId, Checkpoint, Class, CustomerId, LastRecord, Offset, PartitionId, Subject, Time, Topic,
    },
    store::{
        CellWrite, Commit, Generation, Halt, Owing, PartitionState, Position, Quarantine, QuarantineWrite,
        ReadStore, StoreError, Token, WriteStore,
        contents::Contents,
        keys::Keys,
        memory::{Held, MemoryStore},
        redis::RedisStore,
    },
};
use bytes::Bytes;
use futures::future::join_all;
use rand::{Rng, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use crate::support::{free_port, process::Signal, redis::Server};

const G1: Generation = Generation(1);
const G2: Generation = Generation(2);
const L0: PartitionId = PartitionId { topic: Topic::Ledger, partition: 0 };
const L1: PartitionId = PartitionId { topic: Topic::Ledger, partition: 1 };
const P0: PartitionId = PartitionId { topic: Topic::Payment, partition: 0 };
const OURS: Token = Token([1; 16]);
const THEIRS: Token = Token([2; 16]);

pub trait Both: ReadStore + WriteStore {}
impl<S: ReadStore + WriteStore> Both for S {}

/// A store, and what a test can do to it besides the traits.
pub struct Fixture {
    store: Arc<dyn Both>,
    backend: Backend,
}

enum Backend {
    Memory(Arc<MemoryStore>),
    Redis(Arc<RedisStore>, Server),
}

/// All that a store held once.
pub enum Saved {
    Memory(Held),
    /// Keys, each with its `DUMP`.
    Redis(Vec<(String, Vec<u8>)>),
}

impl Deref for Fixture {
    type Target = dyn Both;
    fn deref(&self) -> &Self::Target {
        &*self.store
    }
}

impl Fixture {
    pub fn memory() -> Self {
        let store = Arc::new(MemoryStore::new());
        Fixture { store: Arc::clone(&store) as Arc<dyn Both>, backend: Backend::Memory(store) }
    }

    pub fn redis() -> Self {
        Self::redis_with(&["--maxmemory-policy", "noeviction"])
    }

    /// Whose store gives up soon, for a Redis that hangs.
    fn impatient_redis() -> Self {
        Self::on(Server::start(), |url| connect_with(url, 1_000, 400))
    }

    fn redis_with(settings: &[&str]) -> Self {
        Self::on(Server::with(settings), connect)
    }

    fn on(server: Server, connect: impl FnOnce(&str) -> RedisStore) -> Self {
        let store = Arc::new(connect(&server.url()));
        Fixture { store: Arc::clone(&store) as Arc<dyn Both>, backend: Backend::Redis(store, server) }
    }

    fn server(&self) -> &Server {
        match &self.backend {
            Backend::Redis(_, server) => server,
            Backend::Memory(_) => panic!("not on Redis"),
        }
    }

    fn server_mut(&mut self) -> &mut Server {
        match &mut self.backend {
            Backend::Redis(_, server) => server,
            Backend::Memory(_) => panic!("not on Redis"),
        }
    }

    pub async fn dump(&self, generation: Generation) -> Contents {
        match &self.backend {
            Backend::Memory(store) => store.dump(generation),
            Backend::Redis(store, _) => store.dump(generation).await.unwrap(),
        }
    }

    pub fn save(&self) -> Saved {
        match &self.backend {
            Backend::Memory(store) => Saved::Memory(store.snapshot()),
            Backend::Redis(_, server) => {
                let mut connection = server.connection();
                let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
                let dump = |key: String| {
                    let dump = redis::cmd("DUMP").arg(&key).query(&mut connection).unwrap();
                    (key, dump)
                };
                Saved::Redis(keys.into_iter().map(dump).collect())
            }
        }
    }

    /// What was written since is lost, while connections survive: as in a fail-over.
    pub fn restore(&self, saved: &Saved) {
        match (&self.backend, saved) {
            (Backend::Memory(store), Saved::Memory(held)) => store.restore(held.clone()),
            (Backend::Redis(_, server), Saved::Redis(dumps)) => {
                let mut pipe = redis::pipe();
                pipe.atomic().cmd("FLUSHALL").ignore();
                for (key, dump) in dumps {
                    pipe.cmd("RESTORE").arg(key).arg(0).arg(dump).ignore();
                }
                pipe.exec(&mut server.connection()).unwrap();
            }
            (Backend::Memory(_) | Backend::Redis(..), _) => panic!("saved from the other store"),
        }
    }

    /// The script stops after some of the cells: Redis does not roll back. `Corrupt` where it did stop.
    pub async fn commit_half_way(&self, commit: &Commit, random: &mut StdRng) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Memory(store) => {
                let before = store.snapshot();
                store.commit(commit).await?;
                let mut half = before;
                let contents = half.generations.entry(commit.generation).or_default();
                let written = random.random_range(1..=commit.cells.len());
                // What customers owe is written before any cell.
                for owing in &commit.owing {
                    let dues = contents.owing.entry(owing.customer.clone()).or_default();
                    dues.insert(owing.account.clone(), owing.due.clone());
                }
                for cell in commit.cells.iter().take(written) {
                    contents.cells.insert(cell.key.clone(), cell.value.clone());
                }
                store.restore(half);
                Err(StoreError::Corrupt { reason: "half way".to_owned() })
            }
            Backend::Redis(store, server) => {
                let states = Keys::new("{bp}", commit.generation).states();
                server.command::<()>(&["SET", &states, "not a hash"]);
                let told = store.commit(&Commit { state: Some(state(1)), ..commit.clone() }).await;
                server.command::<()>(&["DEL", &states]);
                told
            }
        }
    }

    pub fn lose_everything(&self) {
        match &self.backend {
            Backend::Memory(store) => store.restore(Held::default()),
            Backend::Redis(_, server) => server.command::<()>(&["FLUSHALL"]),
        }
    }

    /// Born at 0 and claimed.
    async fn claimed(&self, partition: PartitionId, token: Token) -> Position {
        self.bear(G1, &[(partition, Offset(0))]).await.unwrap();
        self.claim(G1, partition, token).await.unwrap().position
    }
}

/// A store that waits as long as a slow machine may take.
fn connect(url: &str) -> RedisStore {
    connect_with(url, 5_000, 5_000)
}

fn connect_with(url: &str, write_timeout_ms: u64, read_timeout_ms: u64) -> RedisStore {
    let settings =
        config::Redis { url: url.to_owned(), write_timeout_ms, read_timeout_ms, ..config::Redis::default() };
    RedisStore::new(&settings).unwrap()
}

fn account(id: &str) -> AccountId {
    AccountId::parse(id).unwrap()
}

fn customer(id: &str) -> CustomerId {
    CustomerId::parse(id).unwrap()
}

fn account_cell(id: &str) -> Subject {
    Subject::Account(account(id))
}

fn cell(id: &str, value: &str, born: bool) -> CellWrite {
    CellWrite { key: account_cell(id), value: Bytes::copy_from_slice(value.as_bytes()), born }
}

/// What a customer who may be new to an account owes on it.
fn owing(who: &str, on: &str) -> Owing {
    Owing { customer: customer(who), account: account(on), due: due(who, on), opened: true }
}

/// Stores look into no due: any bytes will do.
fn due(who: &str, on: &str) -> Bytes {
    Bytes::from(format!("due of {who} on {on}"))
}

fn quarantine(partition: PartitionId, offset: i64) -> Quarantine {
    let since = Time::from_millis(1_700_000_000_123);
    Quarantine {
        partition,
        offset: Offset(offset),
        class: Class::SequenceGap,
        since,
        waiting: 3,
        heals: false,
    }
}

fn mark(subject: Subject, quarantine: Quarantine, customers: &[&str]) -> QuarantineWrite {
    let customers = customers.iter().map(|id| customer(id)).collect();
    QuarantineWrite { subject, quarantine, lifted: false, customers, unless_changed: None }
}

fn state(beat: u64) -> PartitionState {
    PartitionState {
        claim: u64::MAX,
        beat,
        caught_up_ms_ago: Some(12),
        next: Offset(5),
        high_watermark: Some(Offset(7)),
        halt: Some(Halt { reason: "r".to_owned(), remedy: "é".to_owned() }),
        paused: Some("p".to_owned()),
        cut: Some(Time::from_millis(3)),
        zone: Some("Europe/Prague".to_owned()),
        quarantined_keys: 1,
        waiting_records: 2,
        owner: "test".to_owned(),
    }
}

/// The next step of a partition: one commit and one record further.
fn step(partition: PartitionId, from: Position) -> Commit {
    let next = from.checkpoint.next.next();
    let last =
        LastRecord { offset: from.checkpoint.next, timestamp_ms: 1_700_000_000_000, hash: u64::MAX - 1 };
    let to = Checkpoint { next, commit: from.checkpoint.commit + 1, complete: true, last: Some(last) };
    Commit {
        generation: G1,
        partition,
        from,
        to,
        cells: vec![],
        owing: vec![],
        quarantines: vec![],
        state: None,
    }
}

fn after(commit: &Commit) -> Position {
    Position { token: commit.from.token, checkpoint: commit.to }
}
