//! Both stores keep the same promises: each is checked on the one in memory and on a real Redis.

use std::{collections::BTreeMap, ops::Deref, sync::Arc, time::Duration};

use balance_projector::{
    config,
    domain::{
        AccountId, Checkpoint, Class, CustomerId, LastRecord, Offset, PartitionId, Subject, Time, Topic,
    },
    store::{
        CellKey, CellWrite, Commit, Generation, Halt, Owing, PartitionState, Position, Quarantine,
        QuarantineWrite, ReadStore, StoreError, Token, WriteStore,
        contents::Contents,
        keys::Keys,
        memory::{Held, MemoryStore},
        redis::RedisStore,
    },
};
use bytes::Bytes;
use futures::future::join_all;
use rand::{Rng, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use crate::support::{process::Signal, redis::Server};

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

    fn redis_with(settings: &[&str]) -> Self {
        let server = Server::with(settings);
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

fn connect(url: &str) -> RedisStore {
    let settings = config::Redis {
        url: url.to_owned(),
        write_timeout_ms: 1_000,
        read_timeout_ms: 400,
        ..config::Redis::default()
    };
    RedisStore::new(&settings).unwrap()
}

/// Each promise on both stores.
macro_rules! on_both_stores {
    ($($promise:ident)*) => {
        mod in_memory {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise(&super::Fixture::memory()).await;
            })*
        }
        mod on_redis {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise(&super::Fixture::redis()).await;
            })*
        }
    };
}

on_both_stores! {
    a_commit_writes_cells_dues_marks_state_and_position
    a_commit_that_does_not_chain_writes_nothing
    a_new_due_takes_over_the_marks_of_its_account
    a_lifted_mark_is_gone_everywhere_and_no_other
    a_claim_returns_what_is_held_and_fences_the_older_token
    a_load_answers_in_order_and_refuses_what_is_not_ours_or_went_back
    bearing_again_leaves_what_is_there
    the_pointer_moves_only_from_what_the_caller_saw
    reads_are_of_the_active_generation_alone
    absence_comes_with_positions
    an_older_dump_is_unchained_and_an_empty_store_is_missing
    commits_in_flight_are_taken_in_the_order_sent_and_all_fail_after_one
    a_commit_past_every_chunk_is_written_whole
    heartbeats_and_keys_on_hold_are_told_of_the_active_generation
}

fn account(id: &str) -> AccountId {
    AccountId::parse(id).unwrap()
}

fn customer(id: &str) -> CustomerId {
    CustomerId::parse(id).unwrap()
}

fn account_cell(id: &str) -> CellKey {
    CellKey::Account(account(id))
}

fn cell(id: &str, value: &str, born: bool) -> CellWrite {
    CellWrite { key: account_cell(id), value: Bytes::copy_from_slice(value.as_bytes()), born }
}

fn owing(who: &str, on: &str) -> Owing {
    Owing { customer: customer(who), account: account(on) }
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

async fn a_commit_writes_cells_dues_marks_state_and_position(store: &Fixture) {
    let from = store.claimed(L0, OURS).await;
    let mut commit = step(L0, from);
    // Values are bytes: no encoding is assumed.
    let raw = Bytes::from_static(b"\x00\xff\r\n$5");
    commit.cells = vec![cell("a", "A", true), CellWrite { value: raw.clone(), ..cell("b", "", true) }];
    commit.owing = vec![owing("c", "a"), owing("c", "b"), owing("d", "a"), owing("d", "unwritten")];
    commit.quarantines = vec![
        mark(Subject::Account(account("a")), quarantine(L0, 4), &["c", "d"]),
        mark(Subject::Account(account("z")), quarantine(L0, 5), &[]),
    ];
    commit.state = Some(state(1));
    store.commit(&commit).await.unwrap();
    store.activate(None, G1).await.unwrap();

    let held = store.dump(G1).await;
    assert_eq!(
        held.cells,
        BTreeMap::from([(account_cell("a"), "A".into()), (account_cell("b"), raw.clone())])
    );
    assert_eq!(
        held.owing,
        BTreeMap::from([
            (customer("c"), [account("a"), account("b")].into()),
            (customer("d"), [account("a"), account("unwritten")].into()),
        ])
    );
    let by_subject = [("a", quarantine(L0, 4)), ("z", quarantine(L0, 5))];
    let by_subject = by_subject.map(|(id, mark)| (Subject::Account(account(id)), mark));
    assert_eq!(held.index, BTreeMap::from([(L0, BTreeMap::from(by_subject.clone()))]));
    assert_eq!(held.quarantines, by_subject.map(|(id, mark)| (id, BTreeMap::from([(L0, mark)]))).into());
    let marked = BTreeMap::from([((account("a"), L0), quarantine(L0, 4))]);
    assert_eq!(
        held.due_quarantines,
        BTreeMap::from([(customer("c"), marked.clone()), (customer("d"), marked)])
    );
    assert_eq!(held.positions, BTreeMap::from([(L0, after(&commit))]));
    assert_eq!(held.states, BTreeMap::from([(L0, state(1))]));

    let read = store.account(&account("a")).await.unwrap().unwrap();
    assert_eq!(read.snapshot.generation, G1);
    assert_eq!(read.snapshot.positions, [(L0, after(&commit))]);
    assert_eq!(read.cell, Some(Bytes::from_static(b"A")));
    assert_eq!(read.quarantines, [quarantine(L0, 4)]);
    let read = store.customer(&customer("c")).await.unwrap().unwrap();
    assert_eq!(read.cell, None);
    let mut accounts = read.accounts;
    accounts.sort();
    assert_eq!(accounts, [(account("a"), Bytes::from("A")), (account("b"), raw)]);
    assert_eq!(read.quarantines, [quarantine(L0, 4)]);
    let read = store.customer(&customer("d")).await.unwrap().unwrap();
    assert_eq!(read.accounts, [(account("a"), Bytes::from("A"))], "an account without a cell says nothing");
}

async fn a_commit_that_does_not_chain_writes_nothing(store: &Fixture) {
    let first = step(L0, store.claimed(L0, OURS).await);
    let first = Commit { cells: vec![cell("a", "A", true)], ..first };
    store.commit(&first).await.unwrap();
    let chained = Commit {
        cells: vec![cell("a", "A2", false), cell("b", "B", true)],
        owing: vec![owing("c", "a")],
        quarantines: vec![mark(Subject::Account(account("q")), quarantine(L0, 4), &["c"])],
        state: Some(state(2)),
        ..step(L0, after(&first))
    };
    let before = store.dump(G1).await;
    let with = |change: &dyn Fn(&mut Commit)| {
        let mut commit = chained.clone();
        change(&mut commit);
        commit
    };
    let guard = |key: &str, value: &'static str| {
        let unless_changed = Some((account_cell(key), Bytes::from_static(value.as_bytes())));
        QuarantineWrite { unless_changed, ..mark(Subject::Account(account("a")), quarantine(L0, 4), &["c"]) }
    };
    let rows = [
        ("another token", with(&|c| c.from.token = THEIRS), StoreError::Fenced { partition: L0 }),
        (
            "another token and checkpoint",
            with(&|c| c.from = Position { token: THEIRS, ..first.from }),
            StoreError::Fenced { partition: L0 },
        ),
        ("an older checkpoint", with(&|c| c.from = first.from), StoreError::Unchained { partition: L0 }),
        ("a later commit", with(&|c| c.from.checkpoint.commit += 1), StoreError::Unchained { partition: L0 }),
        (
            "another offset",
            with(&|c| c.from.checkpoint.next = Offset(9)),
            StoreError::Unchained { partition: L0 },
        ),
        (
            "another last record",
            with(&|c| c.from.checkpoint.last = None),
            StoreError::Unchained { partition: L0 },
        ),
        (
            "not complete",
            with(&|c| c.from.checkpoint.complete = false),
            StoreError::Unchained { partition: L0 },
        ),
        ("a partition without position", with(&|c| c.partition = L1), StoreError::Missing { partition: L1 }),
        ("another generation", with(&|c| c.generation = G2), StoreError::Missing { partition: L0 }),
        ("a born cell exists", with(&|c| c.cells[0].born = true), StoreError::Guarded { partition: L0 }),
        (
            "a guarded cell differs",
            with(&|c| c.quarantines = vec![guard("a", "A0")]),
            StoreError::Guarded { partition: L0 },
        ),
        (
            "a guarded cell is absent",
            with(&|c| c.quarantines = vec![guard("x", "X")]),
            StoreError::Guarded { partition: L0 },
        ),
        (
            "a cell guarded as absent exists",
            with(&|c| c.quarantines = vec![guard("a", "")]),
            StoreError::Guarded { partition: L0 },
        ),
        (
            "the second guard differs",
            with(&|c| c.quarantines = vec![guard("a", "A"), guard("a", "B")]),
            StoreError::Guarded { partition: L0 },
        ),
    ];
    for (what, commit, refusal) in rows {
        assert_eq!(store.commit(&commit).await, Err(refusal), "{what}");
        assert_eq!(store.dump(G1).await, before, "{what}");
    }
    let kept = with(&|c| c.quarantines = vec![guard("a", "A"), guard("x", "")]);
    store.commit(&kept).await.unwrap();
    assert_eq!(store.commit(&kept).await, Err(StoreError::Unchained { partition: L0 }), "the same once more");
}

async fn a_new_due_takes_over_the_marks_of_its_account(store: &Fixture) {
    // Two foreign partitions hold the account's key back; its home learns of it when a customer is born.
    for partition in [L1, P0] {
        let from = store.claimed(partition, OURS).await;
        let quarantines = vec![mark(Subject::Account(account("a")), quarantine(partition, 4), &[])];
        store.commit(&Commit { quarantines, ..step(partition, from) }).await.unwrap();
    }
    let from = store.claimed(L0, OURS).await;
    let own = mark(Subject::Account(account("b")), quarantine(L0, 6), &[]);
    let owing = vec![owing("new", "a"), owing("new", "free"), owing("same", "b")];
    store.commit(&Commit { owing, quarantines: vec![own], ..step(L0, from) }).await.unwrap();
    let marks = BTreeMap::from([
        (customer("new"), [L1, P0].map(|p| ((account("a"), p), quarantine(p, 4))).into()),
        // Marked by this very commit, which did not know of the customer.
        (customer("same"), BTreeMap::from([((account("b"), L0), quarantine(L0, 6))])),
    ]);
    assert_eq!(store.dump(G1).await.due_quarantines, marks);
}

async fn a_lifted_mark_is_gone_everywhere_and_no_other(store: &Fixture) {
    let held = |id: &str, offset| mark(Subject::Account(account(id)), quarantine(L0, offset), &["c", "d"]);
    let from = store.claimed(L1, OURS).await;
    let elsewhere = vec![mark(Subject::Account(account("a")), quarantine(L1, 9), &["c"])];
    store.commit(&Commit { quarantines: elsewhere, ..step(L1, from) }).await.unwrap();
    let before = store.dump(G1).await;
    let from = store.claimed(L0, OURS).await;
    let first = Commit { quarantines: vec![held("a", 4), held("b", 5)], ..step(L0, from) };
    store.commit(&first).await.unwrap();

    // The customer "new" comes to owe by the very commit that lifts the mark, which does not know of it.
    let lifted = |id, offset| QuarantineWrite { lifted: true, ..held(id, offset) };
    let second = Commit {
        cells: vec![cell("a", "A", true)],
        owing: vec![owing("new", "a")],
        quarantines: vec![lifted("a", 4), held("b", 7)],
        ..step(L0, after(&first))
    };
    store.commit(&second).await.unwrap();
    let found = store.dump(G1).await;
    let of_b = BTreeMap::from([(Subject::Account(account("b")), quarantine(L0, 7))]);
    assert_eq!(found.index.get(&L0), Some(&of_b));
    let on_a = found.quarantines.get(&Subject::Account(account("a"))).unwrap();
    assert_eq!(on_a.keys().collect::<Vec<_>>(), [&L1]);
    let told = |id: &str| found.due_quarantines[&customer(id)].keys().cloned().collect::<Vec<_>>();
    assert_eq!(told("c"), [(account("a"), L1), (account("b"), L0)]);
    assert_eq!(told("d"), [(account("b"), L0)]);
    assert_eq!(told("new"), [(account("a"), L1)]);

    let third = Commit { quarantines: vec![lifted("b", 7)], ..step(L0, after(&second)) };
    store.commit(&third).await.unwrap();
    let found = store.dump(G1).await;
    assert_eq!((found.index, found.quarantines), (before.index, before.quarantines));
}

async fn a_claim_returns_what_is_held_and_fences_the_older_token(store: &Fixture) {
    assert_eq!(store.claim(G1, L0, OURS).await.unwrap_err(), StoreError::Missing { partition: L0 });
    store.bear(G1, &[(L0, Offset(17)), (P0, Offset(0))]).await.unwrap();
    let claimed = store.claim(G1, L0, OURS).await.unwrap();
    assert_eq!(claimed.position, Position { token: OURS, checkpoint: Checkpoint::born(Offset(17)) });
    assert_eq!(claimed.quarantined, []);
    let mut commit = step(L0, claimed.position);
    commit.quarantines = vec![mark(Subject::Account(account("a")), quarantine(L0, 17), &[])];
    store.commit(&commit).await.unwrap();

    let theirs = store.claim(G1, L0, THEIRS).await.unwrap();
    assert_eq!(theirs.position, Position { token: THEIRS, checkpoint: commit.to });
    assert_eq!(theirs.quarantined, [(Subject::Account(account("a")), quarantine(L0, 17))]);
    let late = step(L0, after(&commit));
    assert_eq!(store.commit(&late).await, Err(StoreError::Fenced { partition: L0 }));
    store.commit(&step(L0, theirs.position)).await.unwrap();
    // A claim of one partition leaves the others alone.
    let other = store.claim(G1, P0, OURS).await.unwrap();
    assert_eq!(other.quarantined, []);
    assert_eq!(other.position.checkpoint, Checkpoint::born(Offset(0)));
}

async fn a_load_answers_in_order_and_refuses_what_is_not_ours_or_went_back(store: &Fixture) {
    let from = store.claimed(L0, OURS).await;
    let ids: Vec<String> = (0..1_201).map(|n| format!("a{n}")).collect();
    let commit = Commit { cells: ids.iter().map(|id| cell(id, id, true)).collect(), ..step(L0, from) };
    store.commit(&commit).await.unwrap();
    let acknowledged = after(&commit);

    // More than one call of Redis takes, with gaps and a repetition.
    let mut asked: Vec<&str> = ids.iter().rev().map(String::as_str).collect();
    asked.insert(700, "gap");
    asked.push("a3");
    let keys: Vec<CellKey> = asked.iter().map(|id| account_cell(id)).collect();
    let loaded = store.load(G1, L0, acknowledged, &keys).await.unwrap();
    let expected: Vec<Option<Bytes>> =
        asked.iter().map(|id| (*id != "gap").then(|| Bytes::copy_from_slice(id.as_bytes()))).collect();
    assert_eq!(loaded, expected);
    assert_eq!(store.load(G1, L0, acknowledged, &[]).await.unwrap(), Vec::<Option<Bytes>>::new());

    let key = [account_cell("a1")];
    let behind = Position { token: OURS, checkpoint: Checkpoint { commit: 0, ..commit.to } };
    assert!(store.load(G1, L0, behind, &key).await.is_ok(), "commits in flight may have landed meanwhile");
    let ahead = Position { token: OURS, checkpoint: Checkpoint { commit: 2, ..commit.to } };
    let rows = [
        (
            "another token",
            L0,
            Position { token: THEIRS, ..acknowledged },
            StoreError::Fenced { partition: L0 },
        ),
        ("the store went back", L0, ahead, StoreError::Unchained { partition: L0 }),
        ("never born", L1, acknowledged, StoreError::Missing { partition: L1 }),
    ];
    for (what, partition, position, refusal) in rows {
        assert_eq!(store.load(G1, partition, position, &key).await, Err(refusal), "{what}");
    }
    assert_eq!(store.load(G2, L0, acknowledged, &key).await, Err(StoreError::Missing { partition: L0 }));
}

async fn bearing_again_leaves_what_is_there(store: &Fixture) {
    let commit = step(L0, store.claimed(L0, OURS).await);
    store.commit(&commit).await.unwrap();
    store.bear(G1, &[(L0, Offset(0)), (L1, Offset(40))]).await.unwrap();
    store.bear(G1, &[]).await.unwrap();
    assert_eq!(store.claim(G1, L0, THEIRS).await.unwrap().position.checkpoint, commit.to);
    assert_eq!(store.claim(G1, L1, THEIRS).await.unwrap().position.checkpoint, Checkpoint::born(Offset(40)));
    assert_eq!(store.claim(G2, L0, OURS).await.unwrap_err(), StoreError::Missing { partition: L0 });
}

async fn the_pointer_moves_only_from_what_the_caller_saw(store: &Fixture) {
    assert_eq!(store.active().await, Ok(None));
    assert_eq!(store.activate(Some(G1), G2).await, Ok(false));
    assert_eq!(store.activate(None, G1).await, Ok(true));
    assert_eq!(store.activate(None, G2).await, Ok(false));
    assert_eq!(store.activate(Some(G2), G2).await, Ok(false));
    assert_eq!(store.active().await, Ok(Some(G1)));
    assert_eq!(store.activate(Some(G1), G2).await, Ok(true));
    assert_eq!(store.active().await, Ok(Some(G2)));
}

async fn reads_are_of_the_active_generation_alone(store: &Fixture) {
    for (generation, value) in [(G1, "one"), (G2, "two")] {
        store.bear(generation, &[(L0, Offset(0))]).await.unwrap();
        let from = store.claim(generation, L0, OURS).await.unwrap().position;
        let mut commit = Commit { generation, ..step(L0, from) };
        commit.cells = vec![cell("a", value, true)];
        commit.owing = vec![owing("c", "a")];
        store.commit(&commit).await.unwrap();
    }
    assert!(store.account(&account("a")).await.unwrap().is_none());
    assert!(store.customer(&customer("c")).await.unwrap().is_none());
    assert!(store.states().await.unwrap().is_none());
    assert_eq!(store.quarantined(L0).await, Ok(vec![]));
    let mut from = None;
    for (to, value) in [(G1, "one"), (G2, "two"), (G1, "one")] {
        assert!(store.activate(from, to).await.unwrap());
        from = Some(to);
        let read = store.account(&account("a")).await.unwrap().unwrap();
        assert_eq!((read.snapshot.generation, read.cell), (to, Some(Bytes::from_static(value.as_bytes()))));
        let read = store.customer(&customer("c")).await.unwrap().unwrap();
        assert_eq!(read.snapshot.generation, to);
        assert_eq!(read.accounts, [(account("a"), Bytes::from_static(value.as_bytes()))]);
    }
}

async fn absence_comes_with_positions(store: &Fixture) {
    let commit = step(L0, store.claimed(L0, OURS).await);
    store.commit(&commit).await.unwrap();
    store.activate(None, G1).await.unwrap();
    let read = store.account(&account("nobody")).await.unwrap().unwrap();
    assert_eq!((read.cell, read.quarantines), (None, vec![]));
    assert_eq!(read.snapshot.positions, [(L0, after(&commit))]);
    let read = store.customer(&customer("nobody")).await.unwrap().unwrap();
    assert_eq!((read.cell, read.accounts, read.quarantines), (None, vec![], vec![]));
    assert_eq!(read.snapshot.positions, [(L0, after(&commit))]);
}

async fn an_older_dump_is_unchained_and_an_empty_store_is_missing(store: &Fixture) {
    let first = Commit { cells: vec![cell("a", "1", true)], ..step(L0, store.claimed(L0, OURS).await) };
    store.commit(&first).await.unwrap();
    store.activate(None, G1).await.unwrap();
    let saved = store.save();
    let second = Commit { cells: vec![cell("a", "2", false)], ..step(L0, after(&first)) };
    store.commit(&second).await.unwrap();
    store.account(&account("a")).await.unwrap().unwrap();

    store.restore(&saved);
    let third = step(L0, after(&second));
    assert_eq!(store.commit(&third).await, Err(StoreError::Unchained { partition: L0 }));
    let key = [account_cell("a")];
    assert_eq!(store.load(G1, L0, after(&second), &key).await, Err(StoreError::Unchained { partition: L0 }));
    // Cell and checkpoint went back together: folding goes on from there.
    assert_eq!(store.load(G1, L0, after(&first), &key).await, Ok(vec![Some(Bytes::from_static(b"1"))]));
    store.commit(&second).await.unwrap();

    store.lose_everything();
    assert_eq!(store.commit(&third).await, Err(StoreError::Missing { partition: L0 }));
    assert_eq!(store.load(G1, L0, after(&second), &key).await, Err(StoreError::Missing { partition: L0 }));
    assert_eq!(store.claim(G1, L0, OURS).await.unwrap_err(), StoreError::Missing { partition: L0 });
    assert!(store.account(&account("a")).await.unwrap().is_none());
    store.activate(None, G1).await.unwrap();
    assert_eq!(store.account(&account("a")).await.unwrap().unwrap().snapshot.positions, []);
}

async fn commits_in_flight_are_taken_in_the_order_sent_and_all_fail_after_one(store: &Fixture) {
    let mut position = store.claimed(L0, OURS).await;
    let mut commits = Vec::new();
    for _ in 0..64 {
        let commit = step(L0, position);
        position = after(&commit);
        commits.push(commit);
    }
    assert!(join_all(commits.iter().map(|commit| store.commit(commit))).await.iter().all(Result::is_ok));

    let mut commits = Vec::new();
    for n in 0..16 {
        let mut commit = step(L0, position);
        position = after(&commit);
        if n == 5 {
            // Refused, for nobody wrote that cell.
            let unless_changed = Some((account_cell("x"), Bytes::from_static(b"x")));
            let mark = mark(Subject::Account(account("x")), quarantine(L0, 1), &[]);
            commit.quarantines = vec![QuarantineWrite { unless_changed, ..mark }];
        }
        commits.push(commit);
    }
    let told = join_all(commits.iter().map(|commit| store.commit(commit))).await;
    let mut expected = vec![Ok(()); 5];
    expected.push(Err(StoreError::Guarded { partition: L0 }));
    expected.resize(16, Err(StoreError::Unchained { partition: L0 }));
    assert_eq!(told, expected);
    assert_eq!(store.claim(G1, L0, OURS).await.unwrap().position, commits[5].from);
}

async fn a_commit_past_every_chunk_is_written_whole(store: &Fixture) {
    const MANY: usize = 9_001;
    let holder = MemoryStore::new();
    holder.bear(G1, &[(L0, Offset(0))]).await.unwrap();
    holder.claim(G1, L0, OURS).await.unwrap();
    let from = store.claimed(L0, OURS).await;
    let id = |n: usize| format!("a{n}");
    let mut commit = step(L0, from);
    commit.cells = (0..MANY).map(|n| cell(&id(n), &format!("v{n}"), n % 2 == 0)).collect();
    commit.owing = (0..MANY).map(|n| owing("one", &id(n))).collect();
    commit.quarantines = (0..MANY)
        .map(|n| mark(Subject::Account(account(&id(n))), quarantine(L0, n as i64), &["two"]))
        .collect();
    for target in [&holder as &dyn WriteStore, &*store.store as &dyn WriteStore] {
        target.commit(&commit).await.unwrap();
    }
    let held = store.dump(G1).await;
    assert_eq!(held.cells.len(), MANY);
    assert!(held == holder.dump(G1), "the two stores differ");
    // Of the cells to be born, the last one exists: the check passes every chunk too.
    let mut again = step(L0, after(&commit));
    again.cells = (0..MANY).map(|n| cell(&format!("b{n}"), "", true)).collect();
    again.cells.push(cell("a0", "", true));
    assert_eq!(store.commit(&again).await, Err(StoreError::Guarded { partition: L0 }));
}

async fn heartbeats_and_keys_on_hold_are_told_of_the_active_generation(store: &Fixture) {
    let commit = step(L0, store.claimed(L0, OURS).await);
    let subject = Subject::Account(account("a"));
    let quarantines = vec![mark(subject.clone(), quarantine(L0, 4), &[])];
    store.commit(&Commit { quarantines, state: Some(state(1)), ..commit.clone() }).await.unwrap();
    // The heartbeat alone is a commit too, and the commit number rises.
    let beat = Commit {
        to: Checkpoint { commit: 2, ..commit.to },
        state: Some(state(2)),
        ..step(L0, after(&commit))
    };
    store.commit(&beat).await.unwrap();
    let from = store.claimed(P0, OURS).await;
    let subject_of_payments = Subject::Customer(customer("a"));
    let mut other = step(P0, from);
    other.quarantines = vec![mark(subject_of_payments.clone(), quarantine(P0, 1), &[])];
    store.commit(&other).await.unwrap();
    store.activate(None, G1).await.unwrap();
    let (snapshot, states) = store.states().await.unwrap().unwrap();
    assert_eq!(snapshot.positions, [(L0, after(&beat)), (P0, after(&other))]);
    assert_eq!(states, [(L0, state(2))]);
    assert_eq!(store.quarantined(L0).await, Ok(vec![(subject, quarantine(L0, 4))]));
    assert_eq!(store.quarantined(P0).await, Ok(vec![(subject_of_payments, quarantine(P0, 1))]));
    assert_eq!(store.quarantined(L1).await, Ok(vec![]));
    let read = store.customer(&customer("a")).await.unwrap().unwrap();
    assert_eq!(read.quarantines, [quarantine(P0, 1)], "a customer is no account of the same id");
    assert_eq!(store.healthy().await, Ok(()));
    assert_eq!(store.check(true).await, Ok(()));
}

/// Random calls, wrong ones among them: both stores tell the same and hold the same after each.
#[tokio::test]
async fn the_two_stores_cannot_be_told_apart() {
    let (memory, redis) = (Fixture::memory(), Fixture::redis());
    let mut refused = [0_usize; 5];
    for seed in 0..60_u64 {
        memory.lose_everything();
        redis.lose_everything();
        let mut random = StdRng::seed_from_u64(seed);
        let mut positions: Vec<(PartitionId, Position)> = vec![];
        for call in 0..50 {
            let partition = *[L0, L1, P0].choose(&mut random).unwrap();
            let generation = if random.random_bool(0.95) { G1 } else { G2 };
            match if call < 3 { 0 } else { random.random_range(0..16) } {
                0 => {
                    let births = [(partition, Offset(random.random_range(0..3)))];
                    assert_eq!(memory.bear(generation, &births).await, redis.bear(generation, &births).await);
                }
                1 | 2 => {
                    let token = Token([random.random_range(1..3); 16]);
                    let sorted = |claimed: Result<balance_projector::store::Claimed, StoreError>| {
                        claimed.map(|mut claimed| {
                            claimed.quarantined.sort_by(|a, b| a.0.cmp(&b.0));
                            (claimed.position, claimed.quarantined)
                        })
                    };
                    let ours = sorted(memory.claim(generation, partition, token).await);
                    assert_eq!(ours, sorted(redis.claim(generation, partition, token).await));
                    positions.extend(ours.ok().map(|(position, _)| (partition, position)));
                }
                3 => {
                    let acknowledged = pick(&mut random, partition, &positions);
                    let keys: Vec<CellKey> = (0..4).map(|n| account_cell(&format!("a{n}"))).collect();
                    let ours = memory.load(generation, partition, acknowledged, &keys).await;
                    assert_eq!(ours, redis.load(generation, partition, acknowledged, &keys).await);
                }
                4 => {
                    let from = if random.random_bool(0.5) { None } else { Some(generation) };
                    assert_eq!(memory.activate(from, G1).await, redis.activate(from, G1).await);
                }
                _ => {
                    let mut commit = step(partition, pick(&mut random, partition, &positions));
                    commit.generation = generation;
                    fill(&mut random, &mut commit);
                    let ours = memory.commit(&commit).await;
                    assert_eq!(ours, redis.commit(&commit).await, "seed {seed}, call {call}");
                    if ours.is_ok() {
                        positions.push((partition, after(&commit)));
                    }
                    refused[match ours {
                        Ok(()) => 0,
                        Err(StoreError::Missing { .. }) => 1,
                        Err(StoreError::Fenced { .. }) => 2,
                        Err(StoreError::Unchained { .. }) => 3,
                        Err(StoreError::Guarded { .. }) => 4,
                        Err(other) => panic!("{other}"),
                    }] += 1;
                }
            }
        }
        for generation in [G1, G2] {
            assert_eq!(memory.dump(generation).await, redis.dump(generation).await, "seed {seed}");
        }
        for n in 0..3 {
            let [ours, theirs] =
                [&memory, &redis].map(|store| {
                    let id = account(&format!("a{n}"));
                    async move {
                        store.account(&id).await.unwrap().map(|read| {
                            (read.snapshot.positions.clone(), read.cell, sorted(read.quarantines))
                        })
                    }
                });
            assert_eq!(ours.await, theirs.await, "seed {seed}");
            let [ours, theirs] = [&memory, &redis].map(|store| {
                let id = customer(&format!("c{n}"));
                async move {
                    store.customer(&id).await.unwrap().map(|mut read| {
                        read.accounts.sort();
                        (read.snapshot.positions.clone(), read.cell, read.accounts, sorted(read.quarantines))
                    })
                }
            });
            assert_eq!(ours.await, theirs.await, "seed {seed}");
        }
    }
    assert!(refused.iter().all(|count| *count > 10), "not every answer was met: {refused:?}");
}

/// Mostly the newest position that this test knows of the partition.
fn pick(random: &mut StdRng, partition: PartitionId, positions: &[(PartitionId, Position)]) -> Position {
    let own = positions.iter().rfind(|(of, _)| *of == partition && random.random_bool(0.8));
    let any = own.or_else(|| positions.choose(random));
    any.map_or(Position { token: OURS, checkpoint: Checkpoint::born(Offset(0)) }, |(_, position)| *position)
}

fn sorted(mut quarantines: Vec<Quarantine>) -> Vec<Quarantine> {
    quarantines.sort_by_key(|mark| (mark.partition, mark.offset, mark.waiting));
    quarantines
}

fn fill(random: &mut StdRng, commit: &mut Commit) {
    let mut some = |most: u32| random.random_range(0..most);
    for n in 0..some(3) {
        commit.cells.push(cell(&format!("a{n}"), &format!("v{}", some(4)), some(8) == 0));
    }
    for n in 0..some(3) {
        commit.owing.push(owing(&format!("c{n}"), &format!("a{}", some(3))));
    }
    if some(3) == 0 {
        let id = format!("a{}", some(3));
        let subject = match commit.partition.topic {
            Topic::Ledger => Subject::Account(account(&id)),
            Topic::Payment => Subject::Customer(customer(&format!("c{}", some(3)))),
        };
        let quarantine = Quarantine { waiting: u64::from(some(5)), ..quarantine(commit.partition, 2) };
        let customers: &[&str] = match &subject {
            Subject::Account(_) => &["c0", "c2"],
            Subject::Customer(_) => &[],
        };
        let unless_changed =
            (some(4) == 0).then(|| (account_cell(&id), Bytes::from(format!("v{}", some(4)))));
        let lifted = some(3) == 0;
        commit.quarantines.push(QuarantineWrite {
            unless_changed,
            lifted,
            ..mark(subject, quarantine, customers)
        });
    }
    if some(4) == 0 {
        commit.state = Some(state(u64::from(some(100))));
    }
}

// What befalls Redis alone.

fn corrupt_about(told: &Result<(), StoreError>, words: &str) {
    match told {
        Err(StoreError::Corrupt { reason }) if reason.contains(words) => {}
        other => panic!("not corrupt for {words}: {other:?}"),
    }
}

fn transient<T: std::fmt::Debug>(told: &Result<T, StoreError>) {
    assert!(matches!(told, Err(StoreError::Transient { .. })), "not transient: {told:?}");
}

#[tokio::test]
async fn a_redis_that_evicts_is_refused_by_both_sides() {
    let store = Fixture::redis_with(&["--maxmemory-policy", "allkeys-lru"]);
    corrupt_about(&store.check(true).await, "maxmemory-policy allkeys-lru");
    corrupt_about(&store.healthy().await, "maxmemory-policy allkeys-lru");
    store.server().command::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    assert_eq!(store.check(true).await, Ok(()));
    // Somebody turned eviction on and off again between two looks.
    store.server().command::<()>(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    store.server().command::<()>(&["SET", "x", "y"]);
    store.server().command::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    eventually_evicted(store.server());
    store.server().command::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    store.server().command::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    corrupt_about(&store.check(false).await, "evicted keys");
    corrupt_about(&store.healthy().await, "evicted keys");
}

fn eventually_evicted(server: &Server) {
    crate::support::eventually(Duration::from_secs(10), || {
        let stats: String = server.command(&["INFO", "stats"]);
        if stats.contains("evicted_keys:0\r") { Err(stats) } else { Ok(()) }
    });
}

#[tokio::test]
async fn a_redis_cluster_is_refused() {
    let store = Fixture::redis_with(&["--cluster-enabled", "yes"]);
    corrupt_about(&store.check(true).await, "Cluster");
    corrupt_about(&store.healthy().await, "Cluster");
}

#[test]
fn a_url_that_cannot_be_read_is_refused_without_repeating_it() {
    let config = config::Redis { url: "redis//user:hunter2@host".to_owned(), ..config::Redis::default() };
    match RedisStore::new(&config) {
        Err(StoreError::Corrupt { reason }) => {
            assert!(reason.contains("redis.url") && !reason.contains("hunter2"));
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("read"),
    }
}

/// The permissions that the documentation of the store names, and no others.
const ACL: &str = "~{bp}:* +evalsha +evalsha_ro +multi +exec +script|load +info +get +mget +set +mset +exists +hget +hset +hsetnx \
                   +hgetall +hvals +hdel +sadd +smembers +del +scan";

fn user(server: &Server, name: &str, rules: &str) -> RedisStore {
    let mut words = vec!["ACL", "SETUSER", name, "on", ">secret", "resetkeys", "-@all"];
    words.extend(rules.split_whitespace());
    server.command::<()>(&words);
    connect(&server.url().replace("redis://", &format!("redis://{name}:secret@")))
}

#[tokio::test]
async fn the_check_at_the_start_passes_with_the_documented_permissions_and_leaves_no_key() {
    let server = Server::start();
    assert_eq!(user(&server, "enough", ACL).check(true).await, Ok(()));
    assert_eq!(server.command::<u64>(&["DBSIZE"]), 0);
}

#[tokio::test]
async fn a_missing_permission_shows_at_the_start() {
    let server = Server::start();
    for missing in [
        "-evalsha",
        "-evalsha_ro",
        "-script",
        "-info",
        "-get",
        "-mget",
        "-multi",
        "-exec",
        "-set",
        "-mset",
        "-exists",
        "-hget",
        "-hset",
        "-hsetnx",
        "-hdel",
        "-hgetall",
        "-sadd",
        "-smembers",
        "-del",
    ] {
        let store = user(&server, &format!("without{missing}"), &format!("{ACL} {missing}"));
        corrupt_about(&store.check(true).await, "lacks a permission");
    }
    let store = user(&server, "elsewhere", &ACL.replace("~{bp}:*", "~other:*"));
    corrupt_about(&store.check(true).await, "lacks a permission");
    let wrong = connect(&server.url().replace("redis://", "redis://enough:wrong@"));
    corrupt_about(&wrong.check(true).await, "user or the password");
}

#[tokio::test]
async fn a_script_that_stopped_half_way_is_healed_by_folding_again() {
    let store = Fixture::redis();
    let first = Commit { cells: vec![cell("a", "1", true)], ..step(L0, store.claimed(L0, OURS).await) };
    store.commit(&first).await.unwrap();
    let keys = Keys::new("{bp}", G1);
    store.server().command::<()>(&["SET", &keys.states(), "not a hash"]);
    let mut second = step(L0, after(&first));
    second.cells = vec![cell("a", "2", false), cell("b", "1", true)];
    second.owing = vec![owing("c", "b")];
    second.state = Some(state(1));
    corrupt_about(&store.commit(&second).await, "another type");
    // Redis does not roll back: the cells are written, the position is not.
    store.server().command::<()>(&["DEL", &keys.states()]);
    let half = store.dump(G1).await;
    assert_eq!(half.cells[&account_cell("b")], "1");
    assert_eq!(half.positions[&L0], after(&first));

    let claimed = store.claim(G1, L0, THEIRS).await.unwrap();
    assert_eq!(claimed.position.checkpoint, first.to);
    let loaded = store.load(G1, L0, claimed.position, &[account_cell("a"), account_cell("b")]).await.unwrap();
    assert_eq!(loaded, [Some(Bytes::from_static(b"2")), Some(Bytes::from_static(b"1"))]);
    // Both cells have applied the record: nothing is left to write but the position.
    let again = Commit { state: Some(state(1)), ..step(L0, claimed.position) };
    store.commit(&again).await.unwrap();
    let whole = store.dump(G1).await;
    assert_eq!(whole.clone().figures(), half.figures());
    assert_eq!(whole.positions[&L0], after(&again));
}

#[tokio::test]
async fn a_dead_a_hung_and_a_forgetful_redis_are_transient_and_heal_by_themselves() {
    let mut store = Fixture::redis();
    let mut position = store.claimed(L0, OURS).await;
    store.activate(None, G1).await.unwrap();
    store.account(&account("a")).await.unwrap().unwrap();
    let mut commit = step(L0, position);
    store.commit(&commit).await.unwrap();
    position = after(&commit);

    // Scripts forgotten, as after a fail-over: loaded again, nothing else needed. Accounts are read without one.
    store.server().command::<()>(&["SCRIPT", "FLUSH"]);
    commit = step(L0, position);
    transient(&store.commit(&commit).await);
    store.account(&account("a")).await.unwrap().unwrap();
    transient(&store.customer(&customer("c")).await);
    healed(&store, &commit).await;
    position = after(&commit);

    // Hung: both give up in their time.
    store.server().signal(Signal::Stop);
    commit = step(L0, position);
    let started = std::time::Instant::now();
    transient(&store.account(&account("a")).await);
    assert!(started.elapsed() < Duration::from_millis(900), "{:?}", started.elapsed());
    transient(&store.commit(&commit).await);
    transient(&store.commit(&commit).await);
    store.server().signal(Signal::Cont);
    // What was sent before may still be executed: a claim tells, and fences it.
    let claimed = eventually_claimed(&store).await;
    commit = step(L0, claimed);
    healed(&store, &commit).await;
    position = after(&commit);

    // Killed, and back with its dump.
    store.server().save();
    store.server_mut().kill();
    commit = step(L0, position);
    transient(&store.commit(&commit).await);
    transient(&store.account(&account("a")).await);
    transient(&store.check(true).await);
    store.server_mut().restart();
    healed(&store, &commit).await;
}

async fn healed(store: &Fixture, commit: &Commit) {
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    loop {
        match store.commit(commit).await {
            Ok(()) => break,
            Err(StoreError::Transient { .. }) if std::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(other) => panic!("{other}"),
        }
    }
    while store.account(&account("a")).await.is_err() || store.customer(&customer("c")).await.is_err() {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn eventually_claimed(store: &Fixture) -> Position {
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    loop {
        match store.claim(G1, L0, THEIRS).await {
            Ok(claimed) => return claimed.position,
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_full_or_demoted_redis_takes_no_commit_and_is_transient() {
    let store = Fixture::redis();
    let mut commit = step(L0, store.claimed(L0, OURS).await);
    commit.owing = vec![owing("c", "a")];
    commit.cells = vec![cell("a", "1", true)];
    let before = store.dump(G1).await;
    for (on, off) in [
        (["CONFIG", "SET", "maxmemory", "1"].as_slice(), ["CONFIG", "SET", "maxmemory", "0"].as_slice()),
        (&["REPLICAOF", "127.0.0.1", "1"], &["REPLICAOF", "NO", "ONE"]),
    ] {
        store.server().command::<()>(on);
        transient(&store.commit(&commit).await);
        store.server().command::<()>(off);
        assert_eq!(store.dump(G1).await, before, "{on:?}");
    }
    healed(&store, &commit).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_that_wait_together_share_calls_and_each_gets_its_own() {
    let store = Fixture::redis();
    let from = store.claimed(L0, OURS).await;
    let mut commit = step(L0, from);
    commit.cells = (0..300).map(|n| cell(&format!("a{n}"), &format!("v{n}"), true)).collect();
    commit.owing = (0..300).map(|n| owing(&format!("c{n}"), &format!("a{n}"))).collect();
    let poison = |n: i64| mark(Subject::Account(account(&format!("a{n}"))), quarantine(L0, n), &[]);
    commit.quarantines = [7, 8, 200].map(poison).into();
    commit.quarantines[2].customers = vec![customer("c7")];
    store.commit(&commit).await.unwrap();
    store.activate(None, G1).await.unwrap();
    store.account(&account("a0")).await.unwrap().unwrap();
    store.server().command::<()>(&["CONFIG", "RESETSTAT"]);
    let accounts = join_all((0..300).map(|n| {
        let store = &store;
        async move { (n, store.account(&account(&format!("a{n}"))).await.unwrap().unwrap()) }
    }));
    let customers = join_all((0..300).map(|n| {
        let store = &store;
        async move { (n, store.customer(&customer(&format!("c{n}"))).await.unwrap().unwrap()) }
    }));
    let (accounts, customers) = futures::join!(accounts, customers);
    for (n, read) in accounts {
        assert_eq!(read.cell, Some(Bytes::from(format!("v{n}"))));
        let held = if [7, 8, 200].contains(&n) { vec![quarantine(L0, n)] } else { vec![] };
        assert_eq!(read.quarantines, held, "{n}");
    }
    for (n, read) in customers {
        assert_eq!(read.accounts, [(account(&format!("a{n}")), Bytes::from(format!("v{n}")))]);
        assert_eq!(
            read.quarantines.len(),
            usize::from([7, 8, 200].contains(&n)) + usize::from(n == 7),
            "{n}"
        );
    }
    let stats: String = store.server().command(&["INFO", "commandstats"]);
    let calls =
        stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha_ro:calls=")?.split(',').next());
    let calls: u32 = calls.unwrap().parse().unwrap();
    assert!(calls < 100, "{calls} calls for 600 reads");
}

#[tokio::test]
async fn a_foreign_key_under_the_generation_is_told_by_a_dump() {
    let store = Fixture::redis();
    store.server().command::<()>(&["SET", "{bp}:g1:x:y", "z"]);
    let Backend::Redis(redis, _) = &store.backend else { panic!("on Redis") };
    corrupt_about(&redis.dump(G1).await.map(drop), "did not write");
}
