//! A store with a projector's hand in it, both views before it, and a client.
#![allow(clippy::arithmetic_side_effects, reason = "a test fails where it overflows")]

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use argon2::{Algorithm, Argon2, Params, Version, password_hash::PasswordHasher as _};
use async_trait::async_trait;
use balance_projector::{
    api::{Admin, Clock, Readiness, Reloader, Server, Settings},
    config::{Config, ProfileConfig, TokenConfig, User},
    domain::{
        AccountFact, AccountId, Amount, BalanceType, Cell, Class, Currency, CustomerFact, CustomerId, Day,
        Dues, Entry, EntryId, Event, FOLD_VERSION, Fact, FingerprintKey, Indicator, Offset, Parameters,
        PartitionId, PaymentId, RecordAt, Rules, Statement, Subject, Time, Topic, fold,
    },
    store::{
        AccountRead, CellWrite, Commit, CountStore, CustomerRead, Generation, Live, Owing, PartitionState,
        Position, Quarantine, QuarantineWrite, ReadStore, Snapshot, StoreError, Token, WriteStore as _,
        memory::MemoryStore,
    },
    telemetry,
};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Mutex,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::described;

/// Today in every test is 6 January 2019, in Prague.
pub const NOW: &str = "2019-01-06T11:00:00Z";
pub const GENERATION: Generation = Generation(1);

pub const LEDGER: [PartitionId; 2] =
    [PartitionId { topic: Topic::Ledger, partition: 0 }, PartitionId { topic: Topic::Ledger, partition: 1 }];
pub const PAYMENT: [PartitionId; 2] = [
    PartitionId { topic: Topic::Payment, partition: 0 },
    PartitionId { topic: Topic::Payment, partition: 1 },
];

/// The headers of the first seed's sample request.
pub const CUSTOMER_HEADERS: &[(&str, &str)] = &[
    ("Request-Tracking-Id", "12345"),
    ("Authorization", "Basic b2NzdXNlcjpvY3N1c2Vy"),
    ("ProfileId", "WaterField_314"),
];
/// The headers of the second seed's sample request.
pub const ACCOUNT_HEADERS: &[(&str, &str)] = &[
    ("Content-Type", "application/json"),
    ("X-Request-ID", "55d4fffc-2634-44d4-9f2b-3aa94fbd51a4"),
    ("Date", "Wed, 6 Jan 2019 07:22:01 GMT"),
    ("User-Involved", "true"),
    ("API-key", "00000000-1212-0f0f-a0a0-123456789abc"),
    ("TPP-Name", "Google China"),
    ("Authorization", "Bearer AbCdEf123456"),
];
/// Accounts that the sample token's consent names.
pub const CONSENTED: &[&str] = &["D2C8C1DCC51A3738538A40A4863CA288E0225E52", "A1", "A2", "A3", "A4", "A5"];

pub fn time(text: &str) -> Time {
    Time(text.parse().unwrap())
}

pub fn day(text: &str) -> Day {
    Day(text.parse().unwrap())
}

pub fn amount(text: &str) -> Amount {
    Amount::parse(text, 4).unwrap()
}

pub fn currency(code: &str) -> Currency {
    Currency::parse(code).unwrap()
}

pub fn account_id(id: &str) -> AccountId {
    AccountId::parse(id).unwrap()
}

pub fn customer_id(id: &str) -> CustomerId {
    CustomerId::parse(id).unwrap()
}

/// The configuration of the tests: the seeds' credentials and a few more.
pub fn config() -> Config {
    let mut config = Config::default();
    let api = &mut config.api;
    api.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    api.max_staleness_ms = 5_000;
    api.min_position_wait_ms_max = 1_500;
    api.users =
        vec![user("ocsuser", "ocsuser", &["WaterField_314", "Narrow"]), user("other", "pass:word", &["CCT"])];
    let profile = |id: &str, prefixes: Option<&[&str]>| ProfileConfig {
        id: id.to_owned(),
        customer_prefixes: prefixes.map(|all| all.iter().map(|&one| one.to_owned()).collect()),
    };
    api.profiles =
        vec![profile("WaterField_314", None), profile("Narrow", Some(&["7", "88"])), profile("CCT", None)];
    api.tokens = vec![
        token("AbCdEf123456", CONSENTED, None),
        token("expired", CONSENTED, Some(NOW)),
        token("lasting", CONSENTED, Some("2019-01-06T11:00:00.001Z")),
    ];
    config
}

/// With parameters that cost next to nothing.
fn user(name: &str, password: &str, profiles: &[&str]) -> User {
    let cheap = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8, 1, 1, None).unwrap());
    User {
        name: name.to_owned(),
        password_hash: cheap.hash_password(password.as_bytes()).unwrap().to_string(),
        profiles: profiles.iter().map(|&profile| profile.to_owned()).collect(),
    }
}

fn token(token: &str, accounts: &[&str], expires: Option<&str>) -> TokenConfig {
    TokenConfig {
        client_id: token.to_owned(),
        token_sha256: sha256(token),
        api_key_sha256: sha256("00000000-1212-0f0f-a0a0-123456789abc"),
        accounts: accounts.iter().map(|&id| id.to_owned()).collect(),
        expires: expires.map(str::to_owned),
    }
}

fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

/// The write side by hand: folds events and commits them, one by one.
pub struct World {
    pub store: Arc<MemoryStore>,
    rules: Rules,
    hand: Mutex<Hand>,
}

#[derive(Default)]
struct Hand {
    positions: BTreeMap<PartitionId, Position>,
    cells: HashMap<Subject, Cell>,
    claims: u64,
    beats: u64,
    events: u128,
}

impl World {
    /// Four partitions, born and claimed, of an active generation; nothing is complete.
    pub async fn born() -> Arc<Self> {
        let parameters = Parameters {
            fold_version: FOLD_VERSION,
            zone: "Europe/Prague".to_owned(),
            event_window: 32,
            types_ignored: Vec::new(),
            value_bytes_max: 1 << 20,
            depth_max: 64,
            fingerprint_key: FingerprintKey([3; 16]),
        };
        let world = World {
            store: Arc::new(MemoryStore::new()),
            rules: Rules::new(&parameters).unwrap(),
            hand: Mutex::default(),
        };
        world.give_birth().await;
        Arc::new(world)
    }

    /// Bears and claims every partition.
    pub async fn give_birth(&self) {
        let partitions: Vec<_> = LEDGER.into_iter().chain(PAYMENT).collect();
        let births: Vec<_> = partitions.iter().map(|partition| (*partition, Offset(0))).collect();
        self.store.bear(GENERATION, &births).await.unwrap();
        for partition in partitions {
            self.claim(partition).await;
        }
        self.store.activate(None, GENERATION).await.unwrap();
    }

    /// Claims a partition, with a token that no other claim has.
    pub async fn claim(&self, partition: PartitionId) {
        let token = Token(*Uuid::new_v4().as_bytes());
        let mut hand = self.hand.lock().await;
        let claimed = self.store.claim(GENERATION, partition, token).await.unwrap();
        hand.claims += 1;
        hand.positions.insert(partition, claimed.position);
    }

    /// Commits, with whatever the change adds.
    async fn commit(&self, partition: PartitionId, change: impl FnOnce(&mut Hand, &mut Commit)) {
        // Held until the store has it: commits chain.
        let mut hand = self.hand.lock().await;
        let from = hand.positions[&partition];
        let mut commit = Commit {
            generation: GENERATION,
            partition,
            from,
            to: from.checkpoint,
            cells: vec![],
            owing: vec![],
            quarantines: vec![],
            state: None,
        };
        commit.to.commit += 1;
        change(&mut hand, &mut commit);
        hand.positions.insert(partition, Position { token: from.token, checkpoint: commit.to });
        self.store.commit(&commit).await.unwrap();
    }

    /// Folds an event of an account that lives in this ledger partition; gives its offset.
    pub async fn ledger(&self, partition: usize, account: &str, at: &str, fact: AccountFact) -> i64 {
        self.event(LEDGER[partition], at, Fact::Account(account_id(account), fact)).await
    }

    /// Folds an event of a customer that lives in this payment partition; gives its offset.
    pub async fn payment(&self, partition: usize, customer: &str, at: &str, fact: CustomerFact) -> i64 {
        self.event(PAYMENT[partition], at, Fact::Customer(customer_id(customer), fact)).await
    }

    async fn event(&self, partition: PartitionId, at: &str, fact: Fact) -> i64 {
        let key = match &fact {
            Fact::Account(id, _) => Subject::Account(id.clone()),
            Fact::Customer(id, _) => Subject::Customer(id.clone()),
        };
        let mut folded = 0;
        self.commit(partition, |hand, commit| {
            let offset = commit.from.checkpoint.next;
            folded = offset.0;
            hand.events += 1;
            let event = Event {
                id: Uuid::from_u128(hand.events),
                source: "test".into(),
                time: time(at),
                sequence: None,
                fact,
            };
            let record = RecordAt { partition, offset, timestamp: time(at) };
            let mut cell = hand.cells.get(&key).cloned();
            let born = cell.is_none();
            let effect = fold(&mut cell, &event, &record, None, &self.rules).unwrap();
            let cell = cell.unwrap();
            if let (Subject::Account(id), Cell::Account(account)) = (&key, &cell) {
                let opened = effect.dues == Dues::Opened;
                let owes = |(customer, due): (CustomerId, Vec<u8>)| Owing {
                    customer,
                    account: id.clone(),
                    due: due.into(),
                    opened,
                };
                commit.owing.extend(account.encoded_dues().into_iter().map(owes));
            }
            commit.cells.push(CellWrite { key: key.clone(), value: cell.encode().into(), born });
            commit.to.next = offset.next();
            hand.cells.insert(key, cell);
        })
        .await;
        folded
    }

    /// Sets a record of this subject aside; customers of an account are told.
    pub async fn quarantine(&self, partition: PartitionId, subject: Subject, since: &str, told: &[&str]) {
        self.commit(partition, |_, commit| {
            let offset = commit.from.checkpoint.next;
            commit.to.next = offset.next();
            commit.quarantines.push(QuarantineWrite {
                subject,
                quarantine: Quarantine {
                    partition,
                    offset,
                    class: Class::Conflict,
                    since: time(since),
                    waiting: 0,
                    heals: false,
                },
                lifted: false,
                customers: told.iter().map(|&id| customer_id(id)).collect(),
                unless_changed: None,
            });
        })
        .await;
    }

    /// Lets a partition pass a record that moves nothing; gives its offset.
    pub async fn skip(&self, partition: PartitionId) -> i64 {
        let mut skipped = 0;
        self.commit(partition, |_, commit| {
            skipped = commit.from.checkpoint.next.0;
            commit.to.next = commit.from.checkpoint.next.next();
        })
        .await;
        skipped
    }

    /// One heartbeat of one partition, which is complete by then.
    pub async fn beat(&self, partition: PartitionId, caught_up_ms_ago: u64) {
        self.commit(partition, |hand, commit| {
            hand.beats += 1;
            commit.to.complete = true;
            commit.state = Some(PartitionState {
                claim: hand.claims,
                beat: hand.beats,
                caught_up_ms_ago: Some(caught_up_ms_ago),
                next: commit.to.next,
                high_watermark: Some(commit.to.next),
                halt: None,
                paused: None,
                cut: None,
                zone: None,
                quarantined_keys: 0,
                waiting_records: 0,
                owner: "test".to_owned(),
            });
        })
        .await;
    }

    /// Beats on all partitions but these until the guard is dropped.
    pub fn beating_but(self: &Arc<Self>, silent: &'static [PartitionId]) -> Beating {
        let stop = CancellationToken::new();
        let (world, stopped) = (Arc::clone(self), stop.clone());
        tokio::spawn(async move {
            while !stopped.is_cancelled() {
                for partition in LEDGER.into_iter().chain(PAYMENT).filter(|p| !silent.contains(p)) {
                    world.beat(partition, 0).await;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        Beating(stop)
    }

    /// Beats on all partitions until the guard is dropped.
    pub fn beating(self: &Arc<Self>) -> Beating {
        self.beating_but(&[])
    }

    /// The hand forgets an account: its cell is what the store holds, which is older.
    pub async fn forget(&self, account: &str) {
        let key = Subject::Account(account_id(account));
        let held = self.store.dump(GENERATION).cells.get(&key).cloned().unwrap();
        let cell = Cell::Account(Box::new(Cell::decode_account(&held).unwrap()));
        self.hand.lock().await.cells.insert(key, cell);
    }

    /// The hand takes the position that the store holds.
    pub async fn recover(&self) {
        for partition in LEDGER.into_iter().chain(PAYMENT) {
            self.claim(partition).await;
        }
    }
}

/// Stops the heartbeats when dropped.
pub struct Beating(CancellationToken);

impl Drop for Beating {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Both views and the admin listener before a store.
pub struct Served {
    pub at: SocketAddr,
    pub admin: SocketAddr,
    pub readiness: Arc<dyn Readiness>,
    pub reloader: Reloader,
    pub shutdown: CancellationToken,
    pub running: tokio::task::JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Served {
    /// Binds and answers; not ready yet.
    pub async fn start(store: Arc<dyn ReadStore>, config: &Config) -> Served {
        Self::counting(store, Arc::new(MemoryStore::new()), config).await
    }

    /// With counts that others may share.
    pub async fn counting(store: Arc<dyn ReadStore>, counts: Arc<dyn CountStore>, config: &Config) -> Served {
        Self::at(store, counts, config, NOW).await
    }

    /// With another instant as now.
    pub async fn at(
        store: Arc<dyn ReadStore>,
        counts: Arc<dyn CountStore>,
        config: &Config,
        now: &str,
    ) -> Served {
        let settings = Settings::of(config).unwrap();
        let clock = Clock::fixed(settings.zone.clone(), time(now));
        let mut registry = telemetry::registry();
        let server = Server::bind(settings, clock, store, counts, &mut registry).await.unwrap();
        let (readiness, reloader) = (server.readiness(), server.reloader());
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let admin = Admin::bind(free, Arc::new(registry), vec![server.readiness()]).await.unwrap();
        let shutdown = CancellationToken::new();
        let (at, admin_at) = (server.local_addr(), admin.local_addr());
        tokio::spawn(admin.run(shutdown.clone()));
        let running = tokio::spawn(server.run(shutdown.clone()));
        // By HTTPS, the test asks for itself.
        if config.api.tls.certificate_file.is_none() {
            described::note(at).await;
        }
        Served { at, admin: admin_at, readiness, reloader, shutdown, running }
    }

    /// Waits until reads are complete and fresh.
    pub async fn ready(self) -> Self {
        self.wait_for(|reasons| reasons.is_empty()).await;
        self
    }

    /// Waits until the reasons of not being ready satisfy this.
    pub async fn wait_for(&self, satisfied: impl Fn(&[String]) -> bool) {
        for _ in 0..500 {
            if satisfied(&self.readiness.report().reasons) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("not within 10 s: {:?}", self.readiness.report());
    }

    /// The metric's line, without its name and labels.
    pub async fn metric(&self, name_and_labels: &str) -> Option<String> {
        let answer = send(self.admin, "GET", "/metrics", &[]).await;
        answer.body.lines().find_map(|line| line.strip_prefix(name_and_labels)).map(|v| v.trim().to_owned())
    }
}

/// A ready server before a world with the seeds' subjects and a few more.
pub async fn served(world: &Arc<World>, config: &Config) -> (Served, Beating) {
    let beating = world.beating();
    (Served::start(world.store.clone(), config).await.ready().await, beating)
}

/// An answer as it came over the socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    /// The header of this name; fails where it stands twice.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let first = found.next();
        assert!(found.next().is_none(), "{name} stands twice");
        first.map(|(_, value)| value.as_str())
    }
}

/// How a row's headers differ from the sample's.
#[derive(Debug, Clone, Copy)]
pub enum Change {
    /// One is left out.
    Without(&'static str),
    /// One is added, whether it is there or not.
    And(&'static str, &'static str),
    /// One has another value.
    Instead(&'static str, &'static str),
}

pub fn changed(
    headers: &[(&'static str, &'static str)],
    changes: &[Change],
) -> Vec<(&'static str, &'static str)> {
    let mut headers = headers.to_vec();
    for change in changes {
        match *change {
            Change::Without(name) => headers.retain(|(n, _)| *n != name),
            Change::And(name, value) => headers.push((name, value)),
            Change::Instead(name, value) => {
                headers.retain(|(n, _)| *n != name);
                headers.push((name, value));
            }
        }
    }
    headers
}

pub async fn get(at: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    send(at, "GET", path, headers).await
}

pub async fn send(at: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
    for (name, value) in headers {
        write!(request, "{name}: {value}\r\n").unwrap();
    }
    request.push_str("\r\n");
    let answer = raw(at, request.as_bytes()).await;
    described::check(at, method, path, &answer);
    answer
}

/// Sends these bytes and reads until the server closes.
pub async fn raw(at: SocketAddr, request: &[u8]) -> Answer {
    let mut socket = TcpStream::connect(at).await.unwrap();
    socket.write_all(request).await.unwrap();
    let mut bytes = Vec::new();
    tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut bytes)).await.unwrap().unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap()["HTTP/1.1 ".len()..][..3].parse().unwrap();
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_ascii_lowercase(), value.trim().to_owned())
    });
    Answer { status, headers: headers.collect(), body: body.to_owned() }
}

/// A store that can be told to fail.
pub struct Faulty {
    pub store: Arc<MemoryStore>,
    pub fails: AtomicBool,
    pub panics: AtomicBool,
    pub corrupt: AtomicBool,
}

impl Faulty {
    pub fn new(store: Arc<MemoryStore>) -> Arc<Self> {
        Arc::new(Faulty {
            store,
            fails: AtomicBool::new(false),
            panics: AtomicBool::new(false),
            corrupt: AtomicBool::new(false),
        })
    }

    fn trouble(&self) -> Result<(), StoreError> {
        assert!(!self.panics.load(Ordering::Relaxed), "as told");
        if self.fails.load(Ordering::Relaxed) {
            return Err(StoreError::Transient { reason: "as told".to_owned() });
        }
        Ok(())
    }
}

#[async_trait]
impl ReadStore for Faulty {
    async fn account(&self, id: &AccountId) -> Result<Option<AccountRead>, StoreError> {
        self.trouble()?;
        self.store.account(id).await
    }

    async fn customer(&self, id: &CustomerId) -> Result<Option<CustomerRead>, StoreError> {
        self.trouble()?;
        self.store.customer(id).await
    }

    async fn states(&self) -> Result<Option<(Snapshot, Vec<(PartitionId, PartitionState)>)>, StoreError> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(StoreError::Transient { reason: "as told".to_owned() });
        }
        self.store.states().await
    }

    async fn live(&self) -> Result<Live, StoreError> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(StoreError::Transient { reason: "as told".to_owned() });
        }
        self.store.live().await
    }

    async fn quarantined(&self, partition: PartitionId) -> Result<Vec<(Subject, Quarantine)>, StoreError> {
        self.store.quarantined(partition).await
    }

    async fn healthy(&self) -> Result<(), StoreError> {
        if self.corrupt.load(Ordering::Relaxed) {
            return Err(StoreError::Corrupt { reason: "it evicts".to_owned() });
        }
        Ok(())
    }
}

// The events of the tests, by hand.

pub fn opened(currencies: &[&str], customer: Option<&str>) -> AccountFact {
    AccountFact::Opened {
        currencies: currencies.iter().map(|code| currency(code)).collect(),
        customer_id: customer.map(customer_id),
    }
}

pub fn entry(id: &str, signed: &str, code: &str, customer: Option<&str>) -> Entry {
    let (indicator, unsigned) = match signed.strip_prefix('-') {
        Some(unsigned) => (Indicator::Debit, unsigned),
        None => (Indicator::Credit, signed),
    };
    Entry {
        entry_id: EntryId::parse(id).unwrap(),
        customer_id: customer.map(customer_id),
        amount: amount(unsigned),
        currency: currency(code),
        indicator,
    }
}

pub fn booked(id: &str, signed: &str, code: &str, on: &str, customer: Option<&str>) -> AccountFact {
    AccountFact::Booked { entry: entry(id, signed, code, customer), booking_date: day(on) }
}

pub fn credit_line(code: &str, of: &str, included: bool) -> AccountFact {
    AccountFact::CreditLine { currency: currency(code), amount: amount(of), included }
}

pub fn stated(balance_type: BalanceType, signed: &str, code: &str, as_of: &str) -> AccountFact {
    let Entry { amount, currency, indicator, .. } = entry("none", signed, code, None);
    AccountFact::Stated(Statement {
        customer_id: None,
        currency,
        balance_type,
        amount,
        indicator,
        as_of: time(as_of),
    })
}

pub fn profile(name: &str, fee: &str) -> CustomerFact {
    CustomerFact::Profile { billing_name: name.to_owned(), ivr_fee: amount(fee) }
}

pub fn settled(id: &str, of: &str, on: &str) -> CustomerFact {
    CustomerFact::Settled {
        payment_id: PaymentId::parse(id).unwrap(),
        amount: amount(of),
        currency: currency("USD"),
        paid_on: day(on),
    }
}

pub fn reversed(id: &str) -> CustomerFact {
    CustomerFact::Reversed { payment_id: PaymentId::parse(id).unwrap() }
}
