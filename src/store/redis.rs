//! The store in Redis: scripts for whatever must be atomic, reads of many callers in one call.
//!
//! What the users of Redis need, by role, is in `deploy/redis/users.acl`.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use redis::{Cmd, Value};

use super::{
    CellWrite, Claimed, Commit, Generation, Owing, PartitionState, Position, Quarantine, QuarantineWrite,
    StoreError, Token, WriteStore,
    keys::{self, Keys},
};
use crate::{
    config,
    domain::{AccountId, Checkpoint, Class, CustomerId, Offset, PartitionId, Subject, Time, Topic},
};
use link::Link;
use turns::Turns;

pub mod beside;
mod dump;
mod footprint;
mod link;
mod read;
mod scan;
pub mod seed;
mod target;
mod trust;
mod turns;

pub use footprint::Footprint;
pub use turns::Manners;

/// The keys of one checked load, at most: Redis is held for well under a millisecond.
const LOAD_KEYS_MAX: usize = 500;
/// The fields of one `HSET`, at most: Lua's unpack fails near 8,000 values.
const HSET_FIELDS_MAX: usize = 1_000;

/// The store in Redis.
pub struct RedisStore {
    prefix: String,
    writer: Arc<Link>,
    reader: read::Reader,
    scripts: Scripts,
    seen: trust::Seen,
    /// For commits, where they are taken in turns.
    turns: Option<Arc<Turns>>,
}

struct Scripts {
    commit: Code,
    claim: Code,
    load: Code,
    activate: Code,
    beside: Code,
}

/// A script by its text and by its hash: calls name the hash.
#[derive(Clone)]
struct Code {
    text: &'static str,
    hash: String,
}

impl Code {
    fn new(text: &'static str) -> Self {
        Code { text, hash: redis::Script::new(text).get_hash().to_owned() }
    }
}

impl RedisStore {
    /// A store that connects when it is first used, by a connection for writes, one for samples and counts, and one for
    /// the reads of each tokio runtime that asks. The first two live on the runtime that first uses them.
    /// [`StoreError::Corrupt`] for a URL that cannot be read.
    pub fn new(config: &config::Redis) -> Result<Self, StoreError> {
        let scripts = Scripts {
            commit: Code::new(include_str!("redis/commit.lua")),
            claim: Code::new(include_str!("redis/claim.lua")),
            load: Code::new(include_str!("redis/load.lua")),
            activate: Code::new(include_str!("redis/activate.lua")),
            beside: Code::new(include_str!("redis/beside.lua")),
        };
        let all = [&scripts.commit, &scripts.claim, &scripts.load, &scripts.activate, &scripts.beside];
        Ok(RedisStore {
            prefix: config.prefix.clone(),
            writer: Arc::new(Link::new(
                config,
                Duration::from_millis(config.write_timeout_ms),
                all.into_iter().cloned().collect(),
            )?),
            reader: read::Reader::new(config)?,
            scripts,
            seen: trust::Seen::default(),
            turns: None,
        })
    }

    /// Sends no more commits at the same time than manners allow, of all partitions together, so that whoever else uses
    /// this Redis comes in between: see [`RedisStore::give_way_to_readers`].
    #[must_use]
    pub fn with_manners(self, manners: Manners) -> Self {
        RedisStore { turns: Some(Turns::new(manners)), ..self }
    }

    /// Looks for readers, and gives way while they ask; for ever. Nothing without manners.
    pub async fn give_way_to_readers(&self) {
        if let Some(turns) = &self.turns {
            turns.give_way(async || self.calls_of_readers().await.ok()).await;
        }
    }

    /// How often readers have asked this Redis for subjects since it counts: by transactions, which nothing else here is. The
    /// few reads by script, of keys on hold, are not told from samples, of which whoever waits for a position takes many.
    pub async fn calls_of_readers(&self) -> Result<u64, StoreError> {
        let mut info = redis::cmd("INFO");
        info.arg("commandstats");
        let told = bulk(self.writer.call(&info).await?)?.ok_or_else(unexpected)?;
        let told = String::from_utf8(told).map_err(|_| unexpected())?;
        let calls = |command: &str| {
            let calls = info_field(&told, command).and_then(|told| told.strip_prefix("calls="));
            calls.and_then(|calls| calls.split(',').next()?.parse::<u64>().ok()).unwrap_or_default()
        };
        Ok(calls("cmdstat_exec"))
    }

    fn keys(&self, generation: Generation) -> Keys {
        Keys::new(&self.prefix, generation)
    }

    /// Does all that the write side and the read side do, on keys of no generation.
    async fn check_permissions(&self) -> Result<(), StoreError> {
        let keys = Keys::scratch(&self.prefix, rand::random());
        let partition = PartitionId { topic: Topic::Ledger, partition: 0 };
        let (Ok(account), Ok(customer)) = (AccountId::parse("check"), CustomerId::parse("check")) else {
            return Err(unexpected());
        };
        let rehearsed = self.rehearse(&keys, partition, &account, &customer).await;
        let mut del = redis::cmd("DEL");
        del.arg(keys.pointer()).arg(keys.positions()).arg(keys.states());
        del.arg(keys.account(&account)).arg(keys.owing(&customer)).arg(keys.account_quarantine(&account));
        del.arg(keys.due_quarantine(&customer)).arg(keys.index(partition));
        let cleared = self.writer.call(&del).await;
        rehearsed.and(cleared.map(|_| ()))
    }

    async fn rehearse(
        &self,
        keys: &Keys,
        partition: PartitionId,
        account: &AccountId,
        customer: &CustomerId,
    ) -> Result<(), StoreError> {
        let token = Token(rand::random());
        self.bear_at(keys, &[(partition, Offset(0))]).await?;
        let claimed = self.claim_at(keys, partition, token).await?;
        let cell = Subject::Account(account.clone());
        let value = Bytes::from_static(b"check");
        let mark = Quarantine {
            partition,
            offset: Offset(0),
            class: Class::NotJson,
            since: Time::from_millis(0),
            waiting: 0,
            heals: false,
        };
        let state = PartitionState {
            claim: 0,
            beat: 0,
            caught_up_ms_ago: None,
            next: Offset(0),
            high_watermark: None,
            halt: None,
            paused: None,
            cut: None,
            zone: None,
            quarantined_keys: 0,
            waiting_records: 0,
            owner: "check".to_owned(),
        };
        let mut commit = Commit {
            generation: Generation(0),
            partition,
            from: claimed.position,
            to: Checkpoint { commit: 1, ..claimed.position.checkpoint },
            cells: vec![CellWrite { key: cell.clone(), value: value.clone(), born: true }],
            owing: vec![Owing {
                customer: customer.clone(),
                account: account.clone(),
                due: value.clone(),
                opened: true,
            }],
            quarantines: vec![QuarantineWrite {
                subject: Subject::Account(account.clone()),
                quarantine: mark,
                lifted: false,
                customers: vec![customer.clone()],
                unless_changed: None,
            }],
            state: Some(state),
        };
        self.commit_at(keys, &commit).await?;
        // The guard reads a cell that exists by now.
        commit.from.checkpoint = commit.to;
        commit.to.commit = 2;
        commit.cells.clear();
        for mark in &mut commit.quarantines {
            mark.unless_changed = Some((cell.clone(), value.clone()));
        }
        self.commit_at(keys, &commit).await?;
        commit.from.checkpoint = commit.to;
        commit.to.commit = 3;
        for mark in &mut commit.quarantines {
            mark.lifted = true;
        }
        self.commit_at(keys, &commit).await?;
        self.load_at(keys, partition, Position { token, checkpoint: commit.to }, &[cell]).await?;
        self.activate_at(&keys.pointer(), None, Generation(0)).await?;
        self.reader.rehearse(keys, account, customer).await
    }

    async fn bear_at(&self, keys: &Keys, births: &[(PartitionId, Offset)]) -> Result<(), StoreError> {
        if births.is_empty() {
            return Ok(());
        }
        let mut pipe = redis::pipe();
        let positions = keys.positions();
        for (partition, at) in births {
            // No claim draws this token: nobody can commit before a claim.
            let position = Position { token: Token([0; 16]), checkpoint: Checkpoint::born(*at) };
            pipe.cmd("HSETNX").arg(&positions).arg(partition.to_string()).arg(position.to_bytes().as_ref());
        }
        self.writer.call_all(&pipe).await.map(|_| ())
    }

    async fn claim_at(
        &self,
        keys: &Keys,
        partition: PartitionId,
        token: Token,
    ) -> Result<Claimed, StoreError> {
        let mut command = script(&self.scripts.claim, 2);
        command
            .arg(keys.positions())
            .arg(keys.index(partition))
            .arg(partition.to_string())
            .arg(token.0.as_slice());
        let reply = self.writer.call(&command).await?;
        if matches!(reply, Value::Nil) {
            return Err(StoreError::Missing { partition });
        }
        let [held, index] = parts(reply)?;
        let position = position(held)?.ok_or(StoreError::Missing { partition })?;
        Ok(Claimed { position, quarantined: index_of(partition, index)? })
    }

    async fn load_at(
        &self,
        keys: &Keys,
        partition: PartitionId,
        acknowledged: Position,
        wanted: &[Subject],
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        let mut cells = Vec::with_capacity(wanted.len());
        let positions = keys.positions();
        for chunk in wanted.chunks(LOAD_KEYS_MAX) {
            let mut command = script(&self.scripts.load, chunk.len().saturating_add(1));
            command.arg(&positions);
            for key in chunk {
                command.arg(keys.cell(key));
            }
            command.arg(partition.to_string());
            let [held, values] = parts(self.writer.call(&command).await?)?;
            let held = position(held)?.ok_or(StoreError::Missing { partition })?;
            if held.token != acknowledged.token {
                return Err(StoreError::Fenced { partition });
            }
            if held.checkpoint.commit < acknowledged.checkpoint.commit {
                return Err(StoreError::Unchained { partition });
            }
            for value in array(values)? {
                cells.push(bulk(value)?.map(Bytes::from));
            }
        }
        if cells.len() == wanted.len() { Ok(cells) } else { Err(unexpected()) }
    }

    async fn commit_at(&self, keys: &Keys, commit: &Commit) -> Result<(), StoreError> {
        let partition = commit.partition;
        let command = commit_command(&self.scripts.commit, keys, commit)?;
        let replied = match &self.turns {
            Some(turns) => {
                let writer = Arc::clone(&self.writer);
                let sent = turns.take(async move { writer.call(&command).await }).await;
                sent.ok_or_else(|| StoreError::Transient { reason: "this process ends".to_owned() })?
            }
            None => self.writer.call(&command).await,
        };
        let Value::Int(code) = replied? else { return Err(unexpected()) };
        match code {
            0 => Ok(()),
            1 => Err(StoreError::Missing { partition }),
            2 => Err(StoreError::Fenced { partition }),
            3 => Err(StoreError::Unchained { partition }),
            4 => Err(StoreError::Guarded { partition }),
            _ => Err(unexpected()),
        }
    }

    async fn activate_at(
        &self,
        pointer: &str,
        from: Option<Generation>,
        to: Generation,
    ) -> Result<bool, StoreError> {
        let mut command = script(&self.scripts.activate, 1);
        command.arg(pointer).arg(from.map(|from| from.0.to_string()).unwrap_or_default()).arg(to.0);
        Ok(matches!(self.writer.call(&command).await?, Value::Int(1)))
    }
}

#[async_trait]
impl WriteStore for RedisStore {
    async fn check(&self, with_permissions: bool) -> Result<(), StoreError> {
        self.check_server(&self.writer).await?;
        if with_permissions {
            self.check_permissions().await?;
            self.read_note().await?;
        }
        Ok(())
    }

    async fn trust(&self, own: Generation) -> Result<(), StoreError> {
        self.trust_written(own).await
    }

    async fn bear(&self, generation: Generation, births: &[(PartitionId, Offset)]) -> Result<(), StoreError> {
        self.bear_at(&self.keys(generation), births).await
    }

    async fn enlist(&self, generation: Generation, log: &str) -> Result<(), StoreError> {
        let mut listed = redis::cmd("HSET");
        listed.arg(keys::live(&self.prefix)).arg(generation.0).arg(log);
        self.writer.call(&listed).await.map(|_| ())
    }

    async fn strike(&self, generation: Generation) -> Result<(), StoreError> {
        let mut struck = redis::cmd("HDEL");
        struck.arg(keys::live(&self.prefix)).arg(generation.0);
        self.writer.call(&struck).await.map(|_| ())
    }

    async fn claim(
        &self,
        generation: Generation,
        partition: PartitionId,
        token: Token,
    ) -> Result<Claimed, StoreError> {
        self.claim_at(&self.keys(generation), partition, token).await
    }

    async fn load(
        &self,
        generation: Generation,
        partition: PartitionId,
        acknowledged: Position,
        keys: &[Subject],
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.load_at(&self.keys(generation), partition, acknowledged, keys).await
    }

    fn cells_max(&self) -> usize {
        self.turns.as_ref().map_or(usize::MAX, |turns| turns.cells_max())
    }

    async fn commit(&self, commit: &Commit) -> Result<(), StoreError> {
        self.commit_at(&self.keys(commit.generation), commit).await
    }

    async fn active(&self) -> Result<Option<Generation>, StoreError> {
        let mut get = redis::cmd("GET");
        get.arg(keys::active(&self.prefix));
        generation(self.writer.call(&get).await?)
    }

    async fn activate(&self, from: Option<Generation>, to: Generation) -> Result<bool, StoreError> {
        self.activate_at(&keys::active(&self.prefix), from, to).await
    }
}

/// The call of `commit.lua`; its head comment tells the layout.
fn commit_command(code: &Code, keys: &Keys, commit: &Commit) -> Result<Cmd, StoreError> {
    let field = commit.partition.to_string();
    let (born, known): (Vec<&CellWrite>, Vec<&CellWrite>) = commit.cells.iter().partition(|cell| cell.born);
    let guards: Vec<&(Subject, Bytes)> =
        commit.quarantines.iter().filter_map(|mark| mark.unless_changed.as_ref()).collect();
    let fields = quarantine_fields(keys, commit)?;
    let (opened, changed): (Vec<&Owing>, Vec<&Owing>) = commit.owing.iter().partition(|owing| owing.opened);
    let owing = || opened.iter().chain(&changed);
    let marks = mark_hashes(&fields);

    let owing_keys = commit.owing.len().saturating_add(opened.len().saturating_mul(2));
    let counts = [2, commit.cells.len(), guards.len(), owing_keys, marks.len()];
    let key_count = counts.into_iter().fold(0, usize::saturating_add);
    let cell_bytes =
        commit.cells.iter().map(|cell| cell.value.len().saturating_add(64)).fold(512, usize::saturating_add);
    let owing_bytes = commit.owing.len().saturating_mul(200);
    let mut command = Cmd::with_capacity(key_count.saturating_mul(3), cell_bytes.saturating_add(owing_bytes));
    command.arg("EVALSHA").arg(&code.hash).arg(key_count);

    command.arg(keys.positions()).arg(keys.states());
    let mut text = String::new();
    for cell in born.iter().chain(&known) {
        keys.put_cell(&mut text, &cell.key);
        command.arg(&text);
    }
    for (key, _) in &guards {
        command.arg(keys.cell(key));
    }
    for owing in owing() {
        command.arg(keys.owing(&owing.customer));
    }
    for Owing { account, .. } in &opened {
        command.arg(keys.account_quarantine(account));
    }
    for Owing { customer, .. } in &opened {
        command.arg(keys.due_quarantine(customer));
    }
    for hash in &marks {
        command.arg(hash.key);
    }

    let to = Position { token: commit.from.token, checkpoint: commit.to };
    command.arg(&field).arg(commit.from.to_bytes().as_ref()).arg(to.to_bytes().as_ref());
    match &commit.state {
        Some(state) => command.arg(json(state)?),
        None => command.arg(""),
    };
    command.arg(commit.cells.len()).arg(born.len()).arg(guards.len());
    command.arg(commit.owing.len()).arg(opened.len()).arg(marks.len());
    for cell in born.iter().chain(&known) {
        command.arg(cell.value.as_ref());
    }
    for (_, value) in &guards {
        command.arg(value.as_ref());
    }
    for owing in owing() {
        command.arg(owing.account.as_str());
    }
    for owing in owing() {
        command.arg(owing.due.as_ref());
    }
    for hash in &marks {
        let count = i64::try_from(hash.fields.len()).unwrap_or(i64::MAX);
        command.arg(if hash.removed { count.saturating_neg() } else { count.saturating_mul(2) });
        for (name, value) in &hash.fields {
            command.arg(*name);
            if !hash.removed {
                command.arg(*value);
            }
        }
    }
    Ok(command)
}

/// The fields of one `HSET`, or of one `HDEL`.
struct Hash<'a> {
    key: &'a str,
    removed: bool,
    fields: Vec<(&'a str, &'a [u8])>,
}

/// A field of a hash of marks.
struct MarkField {
    key: String,
    name: String,
    value: Vec<u8>,
    /// Of the partition's index.
    index: bool,
    /// Not set, but removed.
    removed: bool,
}

/// Marks, grouped by hash, the partition's index last.
fn mark_hashes(fields: &[MarkField]) -> Vec<Hash<'_>> {
    let mut hashes = Vec::new();
    let mut sorted: Vec<&MarkField> = fields.iter().collect();
    // Stable: of two marks in one field the later one counts.
    sorted.sort_by(|a, b| (a.index, &a.key).cmp(&(b.index, &b.key)));
    for same in sorted.chunk_by(|a, b| (&a.key, a.removed) == (&b.key, b.removed)) {
        for chunk in same.chunks(HSET_FIELDS_MAX) {
            let Some(first) = chunk.first() else { continue };
            let fields = chunk.iter().map(|mark| (mark.name.as_str(), mark.value.as_slice())).collect();
            hashes.push(Hash { key: first.key.as_str(), removed: first.removed, fields });
        }
    }
    hashes
}

/// Every field of every mark: the subject's, the partition's index, and the customers'.
fn quarantine_fields(keys: &Keys, commit: &Commit) -> Result<Vec<MarkField>, StoreError> {
    let mut fields = Vec::new();
    for mark in &commit.quarantines {
        let partition = mark.quarantine.partition;
        let (value, removed) = (json(&mark.quarantine)?, mark.lifted);
        let key = match &mark.subject {
            Subject::Account(id) => {
                // The script copies the marks that stand already: not this one.
                let new = commit.owing.iter().filter(|owing| owing.opened && owing.account == *id);
                let new = new.map(|owing| &owing.customer);
                for customer in mark.customers.iter().chain(new) {
                    let (key, name) = (keys.due_quarantine(customer), keys::due_field(id, partition));
                    fields.push(MarkField { key, name, value: value.clone(), index: false, removed });
                }
                keys.account_quarantine(id)
            }
            Subject::Customer(id) => keys.customer_quarantine(id),
        };
        fields.push(MarkField {
            key,
            name: partition.to_string(),
            value: value.clone(),
            index: false,
            removed,
        });
        let name = mark.subject.as_str().to_owned();
        fields.push(MarkField { key: keys.index(partition), name, value, index: true, removed });
    }
    Ok(fields)
}

/// A call of a script with this many keys.
fn script(code: &Code, keys: usize) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command.arg(&code.hash).arg(keys);
    command
}

fn json<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|_| unexpected())
}

/// Redis answered, but not what this program wrote.
fn unexpected() -> StoreError {
    StoreError::Corrupt {
        reason: "the store holds something that this program did not write; check redis.prefix, or rebuild"
            .to_owned(),
    }
}

fn array(value: Value) -> Result<Vec<Value>, StoreError> {
    if let Value::Array(values) = value { Ok(values) } else { Err(unexpected()) }
}

fn parts<const N: usize>(value: Value) -> Result<[Value; N], StoreError> {
    array(value)?.try_into().map_err(|_| unexpected())
}

fn bulk(value: Value) -> Result<Option<Vec<u8>>, StoreError> {
    if let Value::BulkString(bytes) = value {
        return Ok(Some(bytes));
    }
    if matches!(value, Value::Nil) { Ok(None) } else { Err(unexpected()) }
}

fn text(value: Value) -> Result<String, StoreError> {
    String::from_utf8(bulk(value)?.ok_or_else(unexpected)?).map_err(|_| unexpected())
}

fn generation(value: Value) -> Result<Option<Generation>, StoreError> {
    let Some(number) = bulk(value)? else { return Ok(None) };
    let number = std::str::from_utf8(&number).ok().and_then(|number| number.parse().ok());
    number.map(|number| Some(Generation(number))).ok_or_else(unexpected)
}

fn position(value: Value) -> Result<Option<Position>, StoreError> {
    bulk(value)?.map(|bytes| Position::from_bytes(&bytes).ok_or_else(unexpected)).transpose()
}

/// A field of what `INFO` told.
fn info_field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// The positions of a generation, by partition.
fn positions_of(value: Value) -> Result<Vec<(PartitionId, Position)>, StoreError> {
    let held = |(field, value): (String, Vec<u8>)| {
        let partition = keys::partition(&field).ok_or_else(unexpected)?;
        Ok((partition, Position::from_bytes(&value).ok_or_else(unexpected)?))
    };
    let mut positions: Vec<_> = fields(value)?.into_iter().map(held).collect::<Result<_, StoreError>>()?;
    positions.sort_unstable_by_key(|(partition, _)| *partition);
    Ok(positions)
}

/// Fields and values of a hash.
fn fields(value: Value) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let mut values = array(value)?.into_iter();
    let mut fields = Vec::with_capacity(values.len() / 2);
    while let Some(name) = values.next() {
        let value = values.next().ok_or_else(unexpected)?;
        fields.push((text(name)?, bulk(value)?.ok_or_else(unexpected)?));
    }
    Ok(fields)
}

/// The keys on hold in a partition.
fn index_of(partition: PartitionId, value: Value) -> Result<Vec<(Subject, Quarantine)>, StoreError> {
    fields(value)?
        .into_iter()
        .map(|(key, value)| {
            let subject = Subject::of_key(partition.topic, &key).map_err(|_| unexpected())?;
            Ok((subject, quarantine(&value)?))
        })
        .collect()
}

fn quarantine(value: &[u8]) -> Result<Quarantine, StoreError> {
    serde_json::from_slice(value).map_err(|_| unexpected())
}
