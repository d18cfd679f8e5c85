//! The read side: reads that wait at the same time share one call.
//!
//! They are read by a transaction of plain commands, which costs a part of what a script does; and by a script where one
//! of them is on hold, or the store is full.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use async_trait::async_trait;
use bytes::Bytes;
use redis::Value;
use tokio::{
    runtime::{self, Handle},
    sync::{mpsc, oneshot},
};

use super::{
    Code, RedisStore, array, bulk, fields, generation, index_of, link::Link, positions_of, quarantine,
    script, unexpected,
};
use crate::{
    config,
    domain::{AccountId, CustomerId, PartitionId, Subject},
    store::{
        AccountRead, CountStore, CustomerRead, Fed, Generation, Live, PartitionState, Quarantine, Quota,
        ReadStore, Snapshot, StoreError,
        keys::{self, Keys},
    },
    traces,
};

/// Reads that share one call, at most: Redis is held for some tens of microseconds.
const BATCH_READS_MAX: usize = 64;
/// Turns of the event loop that a call waits for more reads.
const TURNS_MAX: usize = 8;
/// Reads that wait for a call; those beyond wait for room.
const WAITING_READS_MAX: usize = 4_096;
/// A day and the zones of the earth around it.
const COUNT_SECONDS: u32 = 2 * 86_400;
/// How often a read is repeated because the pointer moved meanwhile.
const REPEATS_MAX: usize = 3;

/// The read side of the store.
pub(super) struct Reader {
    core: Core,
    gatherers: ArcSwap<Vec<Gatherer>>,
    adding: Mutex<()>,
    timeout: Duration,
}

/// Where the reads of one runtime gather: so none is handed from thread to thread where each thread has its own.
#[derive(Clone)]
struct Gatherer {
    runtime: runtime::Id,
    queue: mpsc::Sender<Ask>,
}

struct Core {
    link: Arc<Link>,
    code: Code,
    live: Code,
    take: Code,
    prefix: String,
    /// The generation that the pointer named last.
    active: ArcSwapOption<(Generation, Keys)>,
    /// The generations that were listed last.
    listed: ArcSwap<Vec<Generation>>,
}

/// A read that waits for its call.
enum Ask {
    Account(AccountId, Reply<AccountRead>),
    Customer(CustomerId, Reply<CustomerRead>),
}

type Reply<T> = oneshot::Sender<Result<Option<T>, StoreError>>;
/// Reads of subjects, each with who waits for it.
type Asked<I, T> = Vec<(I, Reply<T>)>;

/// What one call asks for.
#[derive(Default, Clone)]
struct Wanted<'a> {
    accounts: Vec<&'a AccountId>,
    customers: Vec<&'a CustomerId>,
    states: bool,
}

/// What one call brought.
struct Brought {
    snapshot: Arc<Snapshot>,
    states: Value,
    accounts: std::vec::IntoIter<AccountParts>,
    customers: std::vec::IntoIter<Result<CustomerParts, StoreError>>,
}

type AccountParts = (Option<Bytes>, Vec<Quarantine>);
type CustomerParts = (Option<Bytes>, Dues, Vec<Quarantine>);
type Dues = Vec<(AccountId, Bytes)>;

impl Reader {
    pub(super) fn new(config: &config::Redis) -> Result<Self, StoreError> {
        let timeout = Duration::from_millis(config.read_timeout_ms);
        let script = Code::new(include_str!("read.lua"));
        let live = Code::new(include_str!("live.lua"));
        let take = Code::new(include_str!("take.lua"));
        let core = Core {
            link: Arc::new(Link::new(config, timeout, vec![script.clone(), live.clone(), take.clone()])?),
            code: script,
            live,
            take,
            prefix: config.prefix.clone(),
            active: ArcSwapOption::empty(),
            listed: ArcSwap::default(),
        };
        Ok(Reader { core, gatherers: ArcSwap::default(), adding: Mutex::new(()), timeout })
    }

    /// Reads keys of no generation in both ways.
    pub(super) async fn rehearse(
        &self,
        keys: &Keys,
        account: &AccountId,
        customer: &CustomerId,
    ) -> Result<(), StoreError> {
        let plain = Wanted { accounts: vec![account], customers: vec![customer], states: false };
        let script = Wanted { states: true, ..plain.clone() };
        for wanted in [plain, script] {
            if let Called::Moved(_) = self.core.call(&keys.pointer(), Generation(0), keys, &wanted).await? {
                return Err(unexpected());
            }
        }
        Ok(())
    }

    async fn ask<T>(&self, ask: impl FnOnce(Reply<T>) -> Ask) -> Result<Option<T>, StoreError> {
        let queue = self.queue();
        let (reply, answer) = oneshot::channel();
        let ask = ask(reply);
        self.bounded(async {
            if queue.send(ask).await.is_err() {
                return Err(stopped());
            }
            answer.await.unwrap_or_else(|_| Err(stopped()))
        })
        .await
    }

    /// The queue of the runtime that asks.
    fn queue(&self) -> mpsc::Sender<Ask> {
        let runtime = Handle::current().id();
        let found = |gatherers: &[Gatherer]| {
            let live = |gatherer: &&Gatherer| gatherer.runtime == runtime && !gatherer.queue.is_closed();
            gatherers.iter().find(live).map(|found| found.queue.clone())
        };
        if let Some(queue) = found(&self.gatherers.load()) {
            return queue;
        }
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let gatherers = self.gatherers.load();
        if let Some(queue) = found(&gatherers) {
            return queue;
        }
        let (queue, receiver) = mpsc::channel(WAITING_READS_MAX);
        tokio::spawn(gather(self.core.following(), receiver));
        // Those of runtimes that have ended are gone with them.
        let mut gatherers: Vec<_> =
            gatherers.iter().filter(|gatherer| !gatherer.queue.is_closed()).cloned().collect();
        gatherers.push(Gatherer { runtime, queue: queue.clone() });
        self.gatherers.store(Arc::new(gatherers));
        queue
    }

    async fn bounded<T>(&self, read: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let late = |_| StoreError::Transient { reason: "no reply in time".to_owned() };
        tokio::time::timeout(self.timeout, read).await.map_err(late)?
    }
}

fn stopped() -> StoreError {
    StoreError::Transient { reason: "the reader has stopped".to_owned() }
}

/// Takes the reads that wait, and answers them with one call. While it is under way, reads gather: the busier, the
/// larger the calls, and the less each read costs. Ends with the store.
async fn gather(core: Core, mut queue: mpsc::Receiver<Ask>) {
    let mut waiting = Vec::with_capacity(BATCH_READS_MAX);
    while queue.recv_many(&mut waiting, BATCH_READS_MAX).await > 0 {
        // Whoever asks in this turn of the event loop comes along, and in the next ones as long as somebody does.
        for _ in 0..TURNS_MAX {
            let had = waiting.len();
            tokio::task::yield_now().await;
            while waiting.len() < BATCH_READS_MAX
                && let Ok(ask) = queue.try_recv()
            {
                waiting.push(ask);
            }
            if waiting.len() == had || waiting.len() == BATCH_READS_MAX {
                break;
            }
        }
        core.answer(waiting.drain(..)).await;
    }
}

/// Tells each what was read for it; where nothing was, why not, or that no generation is active.
fn tell<I, T>(
    asked: Asked<I, T>,
    read: Result<Option<impl Iterator<Item = Result<T, StoreError>>>, StoreError>,
) {
    let mut read = read;
    for (_, reply) in asked {
        let own = match &mut read {
            Ok(Some(read)) => read.next().unwrap_or_else(|| Err(unexpected())).map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(error.clone()),
        };
        // Whoever stopped waiting meanwhile does not want the answer.
        drop(reply.send(own));
    }
}

/// How a call went.
enum Called {
    /// The pointer names another generation, or none.
    Moved(Option<Generation>),
    Brought(Brought),
}

impl Core {
    /// The same by a connection of its own.
    fn following(&self) -> Self {
        Core {
            link: Arc::new(self.link.following()),
            code: self.code.clone(),
            live: self.live.clone(),
            take: self.take.clone(),
            prefix: self.prefix.clone(),
            active: ArcSwapOption::empty(),
            listed: ArcSwap::default(),
        }
    }

    async fn answer(&self, asked: impl Iterator<Item = Ask>) {
        let (mut accounts, mut customers) = (Vec::new(), Vec::new());
        for ask in asked {
            match ask {
                // Nobody waits for it any more.
                Ask::Account(_, reply) if reply.is_closed() => (),
                Ask::Customer(_, reply) if reply.is_closed() => (),
                Ask::Account(id, reply) => accounts.push((id, reply)),
                Ask::Customer(id, reply) => customers.push((id, reply)),
            }
        }
        let Some((accounts, customers)) = self.answer_together(accounts, customers).await else { return };
        // It may be about one of them: the others are not refused for it.
        for account in accounts {
            self.answer_together(vec![account], Vec::new()).await;
        }
        for customer in customers {
            self.answer_together(Vec::new(), vec![customer]).await;
        }
    }

    /// Answers all of them by one call; where the store holds what nobody can read, and there are several, hands them back.
    async fn answer_together(
        &self,
        accounts: Asked<AccountId, AccountRead>,
        customers: Asked<CustomerId, CustomerRead>,
    ) -> Option<(Asked<AccountId, AccountRead>, Asked<CustomerId, CustomerRead>)> {
        let count = accounts.len().saturating_add(customers.len());
        if count == 0 {
            return None;
        }
        let wanted = Wanted {
            accounts: accounts.iter().map(|(id, _)| id).collect(),
            customers: customers.iter().map(|(id, _)| id).collect(),
            states: false,
        };
        let read = self.read(&wanted).await;
        if count > 1 && matches!(read, Err(StoreError::Corrupt { .. })) {
            return Some((accounts, customers));
        }
        let (of_accounts, of_customers) = match read {
            Ok(Some(brought)) => {
                let snapshot = Arc::clone(&brought.snapshot);
                let read = brought.accounts.map(move |(cell, quarantines)| {
                    Ok(AccountRead { snapshot: Arc::clone(&snapshot), cell, quarantines })
                });
                let snapshot = brought.snapshot;
                let owed = brought.customers.map(move |read| {
                    let (cell, dues, quarantines) = read?;
                    Ok(CustomerRead { snapshot: Arc::clone(&snapshot), cell, dues, quarantines })
                });
                (Ok(Some(read)), Ok(Some(owed)))
            }
            Ok(None) => (Ok(None), Ok(None)),
            Err(error) => (Err(error.clone()), Err(error)),
        };
        tell(accounts, of_accounts);
        tell(customers, of_customers);
        None
    }

    /// Every generation that is listed, and the active one, in one call once the list is known.
    async fn live(&self) -> Result<Live, StoreError> {
        let unlisted: Arc<str> = Arc::from("");
        for _ in 0..REPEATS_MAX {
            let known = self.listed.load_full();
            let mut command = redis::cmd("EVALSHA_RO");
            command.arg(&self.live.hash).arg(known.len().saturating_mul(2).saturating_add(2));
            command.arg(keys::active(&self.prefix)).arg(keys::live(&self.prefix));
            for generation in known.iter() {
                let keys = Keys::new(&self.prefix, *generation);
                command.arg(keys.positions()).arg(keys.states());
            }
            let mut reply = array(self.link.call(&command).await?)?.into_iter();
            let mut next = || reply.next().ok_or_else(unexpected);
            let active = generation(next()?)?;
            let mut logs = BTreeMap::new();
            for (number, log) in fields(next()?)? {
                let number = number.parse().map(Generation).map_err(|_| unexpected())?;
                logs.insert(number, Arc::from(String::from_utf8(log).map_err(|_| unexpected())?));
            }
            if let Some(active) = active {
                logs.entry(active).or_insert_with(|| Arc::clone(&unlisted));
            }
            if !logs.keys().eq(known.iter()) {
                self.listed.store(Arc::new(logs.into_keys().collect()));
                continue;
            }
            let mut generations = Vec::with_capacity(logs.len());
            for (generation, log) in logs {
                let snapshot = Snapshot { generation, positions: positions_of(next()?)? };
                generations.push(Fed { snapshot, log, states: states(next()?)? });
            }
            return Ok(Live { active, generations });
        }
        Err(StoreError::Transient { reason: "the list of generations keeps changing".to_owned() })
    }

    /// Reads under the generation that the pointer names in the same reply.
    async fn read(&self, wanted: &Wanted<'_>) -> Result<Option<Brought>, StoreError> {
        let pointer = keys::active(&self.prefix);
        for _ in 0..REPEATS_MAX {
            let cached = self.active.load_full();
            let moved = if let Some(active) = &cached {
                match self.call(&pointer, active.0, &active.1, wanted).await? {
                    Called::Brought(brought) => return Ok(Some(brought)),
                    Called::Moved(to) => to,
                }
            } else {
                let mut get = redis::cmd("GET");
                get.arg(&pointer);
                generation(self.link.call(&get).await?)?
            };
            let Some(to) = moved else {
                self.active.store(None);
                return Ok(None);
            };
            self.active.store(Some(Arc::new((to, Keys::new(&self.prefix, to)))));
        }
        Err(StoreError::Transient { reason: "the active generation keeps changing".to_owned() })
    }

    /// By plain commands in one transaction. `None` where one of the subjects may be on hold, or the store is full.
    async fn call_plainly(
        &self,
        pointer: &str,
        at: Generation,
        keys: &Keys,
        Wanted { accounts, customers, .. }: &Wanted<'_>,
    ) -> Result<Option<Called>, StoreError> {
        let mut transaction = redis::pipe();
        // Not as the client's own transaction: it counts replies wrongly where the server refuses to begin one.
        transaction.cmd("MULTI").cmd("GET").arg(pointer).cmd("HGETALL").arg(keys.positions());
        transaction.cmd("MGET");
        for id in accounts {
            transaction.arg(keys.account(id));
        }
        for id in customers {
            transaction.arg(keys.customer(id));
        }
        transaction.cmd("EXISTS");
        for id in accounts {
            transaction.arg(keys.account_quarantine(id));
        }
        for id in customers {
            transaction.arg(keys.customer_quarantine(id)).arg(keys.due_quarantine(id));
        }
        for id in customers {
            transaction.cmd("HGETALL").arg(keys.owing(id));
        }
        transaction.cmd("EXEC");
        let replies = match self.link.call_all(&transaction).await {
            // A full store refuses transactions, also those that write nothing; not so scripts.
            Err(StoreError::Transient { reason }) if reason.starts_with("OOM ") => return Ok(None),
            replies => replies?,
        };
        let mut replies = array(replies.into_iter().next_back().unwrap_or(Value::Nil))?.into_iter();
        let mut next = || replies.next().ok_or_else(unexpected);
        let named = generation(next()?)?;
        if named != Some(at) {
            return Ok(Some(Called::Moved(named)));
        }
        let snapshot = Arc::new(Snapshot { generation: at, positions: positions_of(next()?)? });
        let mut cells = cells(next()?)?;
        if !matches!(next()?, Value::Int(0)) {
            return Ok(None);
        }
        let mut brought_accounts = Vec::with_capacity(accounts.len());
        for _ in accounts {
            brought_accounts.push((cells.next().ok_or_else(unexpected)??, Vec::new()));
        }
        let mut brought_customers = Vec::with_capacity(customers.len());
        for _ in customers {
            let cell = cells.next().ok_or_else(unexpected)??;
            brought_customers.push(dues(next()?).map(|dues| (cell, dues, Vec::new())));
        }
        Ok(Some(Called::Brought(Brought {
            snapshot,
            states: Value::Nil,
            accounts: brought_accounts.into_iter(),
            customers: brought_customers.into_iter(),
        })))
    }

    async fn call(
        &self,
        pointer: &str,
        at: Generation,
        keys: &Keys,
        wanted: &Wanted<'_>,
    ) -> Result<Called, StoreError> {
        let Wanted { accounts, customers, states } = wanted;
        let subjects = !accounts.is_empty() || !customers.is_empty();
        if subjects
            && !states
            && let Some(called) = self.call_plainly(pointer, at, keys, wanted).await?
        {
            return Ok(called);
        }
        let key_count = accounts
            .len()
            .saturating_mul(2)
            .saturating_add(customers.len().saturating_mul(4))
            .saturating_add(3);
        // So that a user who may only read can call it.
        let mut command = redis::cmd("EVALSHA_RO");
        command.arg(&self.code.hash).arg(key_count);
        command.arg(pointer).arg(keys.positions()).arg(keys.states());
        for id in accounts {
            command.arg(keys.account(id));
        }
        for id in customers {
            command.arg(keys.customer(id));
        }
        for id in accounts {
            command.arg(keys.account_quarantine(id));
        }
        for id in customers {
            command.arg(keys.customer_quarantine(id));
        }
        for id in customers {
            command.arg(keys.due_quarantine(id));
        }
        for id in customers {
            command.arg(keys.owing(id));
        }
        command.arg(at.0).arg(accounts.len()).arg(customers.len()).arg(if *states { "1" } else { "0" });

        let mut reply = array(self.link.call(&command).await?)?.into_iter();
        let mut next = || reply.next().ok_or_else(unexpected);
        let named = generation(next()?)?;
        if named != Some(at) {
            return Ok(Called::Moved(named));
        }
        let snapshot = Arc::new(Snapshot { generation: at, positions: positions_of(next()?)? });
        let states = next()?;
        let mut cells = cells(next()?)?;
        let mut cell = || cells.next().ok_or_else(unexpected)?;
        let mut marks = array(next()?)?.into_iter();
        let mut owing = array(next()?)?.into_iter();

        // The order of the keys: accounts, customers' own, customers' from accounts.
        let mut marked = || marks.next().map_or_else(|| Ok(Vec::new()), quarantines);
        let mut brought_accounts = Vec::with_capacity(accounts.len());
        for _ in accounts {
            brought_accounts.push((cell()?, marked()?));
        }
        let mut brought_customers = Vec::with_capacity(customers.len());
        for _ in customers {
            let dues = dues(owing.next().ok_or_else(unexpected)?);
            brought_customers.push((cell()?, dues, marked()?));
        }
        let mut whole = Vec::with_capacity(brought_customers.len());
        for (cell, dues, mut quarantines) in brought_customers {
            quarantines.append(&mut marked()?);
            whole.push(dues.map(|dues| (cell, dues, quarantines)));
        }
        Ok(Called::Brought(Brought {
            snapshot,
            states,
            accounts: brought_accounts.into_iter(),
            customers: whole.into_iter(),
        }))
    }
}

#[async_trait]
impl ReadStore for RedisStore {
    async fn account(&self, id: &AccountId) -> Result<Option<AccountRead>, StoreError> {
        let read = pin!(self.reader.ask(|reply| Ask::Account(id.clone(), reply)));
        traces::round_trip("MULTI", read).await
    }

    async fn customer(&self, id: &CustomerId) -> Result<Option<CustomerRead>, StoreError> {
        let read = pin!(self.reader.ask(|reply| Ask::Customer(id.clone(), reply)));
        traces::round_trip("MULTI", read).await
    }

    async fn states(&self) -> Result<Option<(Snapshot, Vec<(PartitionId, PartitionState)>)>, StoreError> {
        let wanted = Wanted { states: true, ..Wanted::default() };
        let Some(brought) = self.reader.bounded(self.reader.core.read(&wanted)).await? else {
            return Ok(None);
        };
        Ok(Some((Snapshot::clone(&brought.snapshot), states(brought.states)?)))
    }

    async fn live(&self) -> Result<Live, StoreError> {
        // Not within the time of a read: a dial may have to try one sentinel after another.
        self.reader.core.live().await
    }

    async fn quarantined(&self, partition: PartitionId) -> Result<Vec<(Subject, Quarantine)>, StoreError> {
        let core = &self.reader.core;
        let Some(brought) = self.reader.bounded(core.read(&Wanted::default())).await? else {
            return Ok(Vec::new());
        };
        let mut index = redis::cmd("HGETALL");
        index.arg(Keys::new(&core.prefix, brought.snapshot.generation).index(partition));
        let mut keys = index_of(partition, self.reader.bounded(core.link.call(&index)).await?)?;
        keys.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(keys)
    }

    async fn healthy(&self) -> Result<(), StoreError> {
        let core = &self.reader.core;
        self.trust_read(&core.link).await?;
        // In both ways, of subjects that nobody has: what a read may not do shows here, and is told.
        let (Ok(account), Ok(customer)) = (AccountId::parse("check"), CustomerId::parse("check")) else {
            return Err(unexpected());
        };
        let plain = Wanted { accounts: vec![&account], customers: vec![&customer], states: false };
        let script = Wanted { states: true, ..plain.clone() };
        for wanted in [plain, script] {
            core.read(&wanted).await?;
        }
        Ok(())
    }
}

fn states(value: Value) -> Result<Vec<(PartitionId, PartitionState)>, StoreError> {
    let mut states = Vec::new();
    for (field, state) in fields(value)? {
        let partition = keys::partition(&field).ok_or_else(unexpected)?;
        states.push((partition, serde_json::from_slice(&state).map_err(|_| unexpected())?));
    }
    states.sort_by_key(|(partition, _)| *partition);
    Ok(states)
}

#[async_trait]
impl CountStore for RedisStore {
    async fn take(&self, quota: &Quota, max: u32, count: bool) -> Result<bool, StoreError> {
        let core = &self.reader.core;
        let mut command = script(&core.take, 1);
        command.arg(keys::count(&core.prefix, quota)).arg(max).arg(COUNT_SECONDS);
        command.arg(if count { "1" } else { "0" });
        let left = pin!(self.reader.bounded(core.link.call(&command)));
        let left = traces::round_trip("EVALSHA", left).await?;
        Ok(matches!(left, Value::Int(1)))
    }
}

/// Cells, or where there is none.
fn cells(values: Value) -> Result<impl Iterator<Item = Result<Option<Bytes>, StoreError>>, StoreError> {
    Ok(array(values)?.into_iter().map(|cell| Ok(bulk(cell)?.map(Bytes::from))))
}

/// What a customer owes, by account.
fn dues(values: Value) -> Result<Dues, StoreError> {
    let due = |(account, due): (String, Vec<u8>)| {
        Ok((AccountId::parse(&account).map_err(|_| unexpected())?, Bytes::from(due)))
    };
    fields(values)?.into_iter().map(due).collect()
}

fn quarantines(values: Value) -> Result<Vec<Quarantine>, StoreError> {
    array(values)?.into_iter().map(|value| quarantine(&bulk(value)?.ok_or_else(unexpected)?)).collect()
}
