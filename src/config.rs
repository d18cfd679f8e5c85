//! Every setting, validated once: one TOML file, environment variables over it.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use serde::Deserialize;

use crate::domain::BalanceType;

/// The whole file. Not `Debug`: it holds secrets.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The generation that this deployment feeds.
    pub generation: u32,
    /// The zone of days, as an IANA name; pinned by the generation.
    pub zone: String,
    /// The brokers and topics.
    pub kafka: Kafka,
    /// The store.
    pub redis: Redis,
    /// The limits of a record; pinned by the generation.
    pub wire: Wire,
    /// The write side.
    pub projector: Projector,
    /// The read side.
    pub api: Api,
    /// Liveness, readiness and metrics.
    pub admin: Admin,
    /// The log.
    pub log: Log,
}

/// The brokers and topics.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kafka {
    /// `host:port`, comma-separated.
    pub brokers: String,
    /// The consumer group.
    pub group: String,
    /// The ledger topic.
    pub ledger_topic: String,
    /// The payment topic.
    pub payment_topic: String,
    /// Where records that cannot be applied are set aside.
    pub dead_letter_topic: String,
    /// Births of generations, homes, and the operator's decisions.
    pub decisions_topic: String,
    /// Replication of the two topics that are created where missing.
    pub replication_factor: i32,
    /// Settings handed to librdkafka as they are, over all others.
    pub properties: BTreeMap<String, String>,
}

/// The store.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Redis {
    /// `redis://[user:password@]host:port/[db]`.
    pub url: String,
    /// The first part of every key, with its hash tag.
    pub prefix: String,
    /// How long a writer waits for a reply.
    pub write_timeout_ms: u64,
    /// How long a reader waits for a reply.
    pub read_timeout_ms: u64,
}

/// The limits of a record.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wire {
    /// The longest value in bytes.
    pub value_bytes_max: usize,
    /// The deepest nesting of a value.
    pub depth_max: usize,
    /// How many event ids a subject remembers.
    pub event_window: usize,
}

/// The write side.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Projector {
    /// Threads that fold and commit; 0 takes as many as there are processors.
    pub workers: usize,
    /// The most records handed over at once.
    pub batch_records_max: usize,
    /// The most cells in one commit: a commit holds Redis for about a millisecond.
    pub batch_cells_max: usize,
    /// Commits in flight per partition.
    pub commits_in_flight_max: usize,
    /// Batches waiting per partition.
    pub queue_batches_max: usize,
    /// Memory for decoded cells, over all partitions.
    pub cache_bytes_max: usize,
    /// The heartbeat.
    pub heartbeat_ms: u64,
    /// New quarantined keys in a minute that halt a partition.
    pub poison_keys_max: usize,
    /// How long an orderly stop may take.
    pub shutdown_ms_max: u64,
}

/// What readers of a quarantined subject get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnQuarantine {
    /// 503.
    Refuse,
    /// The figure, with `Projection-Incomplete-Since`.
    Serve,
}

/// The read side.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Api {
    /// Where both views listen.
    pub listen: SocketAddr,
    /// Base paths of view two, each starting with a slash, or empty.
    pub account_base_paths: Vec<String>,
    /// Which balances view two serves, in this order.
    pub balance_types: Vec<BalanceType>,
    /// The error code of a currency that the account does not hold.
    pub currency_error_code: String,
    /// Older answers than this are 503.
    pub max_staleness_ms: u64,
    /// What readers of a quarantined subject get.
    pub on_quarantine: OnQuarantine,
    /// How long a request may wait for `Projection-Min-Position`.
    pub min_position_wait_ms_max: u64,
    /// How many requests may wait at once.
    pub min_position_waiters_max: usize,
    /// Users of view one.
    pub users: Vec<User>,
    /// Profiles of view one.
    pub profiles: Vec<ProfileConfig>,
    /// Tokens of view two.
    pub tokens: Vec<TokenConfig>,
    /// How long a verified password is remembered.
    pub credential_cache_ms: u64,
    /// How long open requests may take after a stop.
    pub shutdown_ms_max: u64,
}

/// A user of view one.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The name in `Authorization: Basic`.
    pub name: String,
    /// An argon2 hash in PHC form, as `hash-password` prints it.
    pub password_hash: String,
    /// The profiles that the user may name.
    pub profiles: Vec<String>,
}

/// A profile of view one.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileConfig {
    /// The value of `ProfileId`.
    pub id: String,
    /// Prefixes of the customer ids that it may read; all where left out.
    #[serde(default)]
    pub customer_prefixes: Option<Vec<String>>,
}

/// A static token of view two.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// Who bears it, for logs and metrics.
    pub client_id: String,
    /// SHA-256 of the token, in hexadecimal, as `hash-password --token` prints it.
    pub token_sha256: String,
    /// SHA-256 of the API key, in hexadecimal.
    pub api_key_sha256: String,
    /// The accounts of the consent.
    pub accounts: Vec<String>,
    /// An RFC 3339 instant after which the token is refused with 403.
    #[serde(default)]
    pub expires: Option<String>,
}

/// Liveness, readiness and metrics.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Where `/livez`, `/readyz` and `/metrics` listen.
    pub listen: SocketAddr,
}

/// The log.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`, or a filter such as `info,rdkafka=warn`.
    pub level: String,
    /// `text` or `json`.
    pub format: LogFormat,
    /// A file to append to instead of standard error.
    pub file: Option<PathBuf>,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For humans.
    Text,
    /// For machines.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            generation: 1,
            zone: "Europe/Prague".to_owned(),
            kafka: Kafka::default(),
            redis: Redis::default(),
            wire: Wire::default(),
            projector: Projector::default(),
            api: Api::default(),
            admin: Admin::default(),
            log: Log::default(),
        }
    }
}

impl Default for Kafka {
    fn default() -> Self {
        Kafka {
            brokers: "127.0.0.1:9092".to_owned(),
            group: "balance-projector".to_owned(),
            ledger_topic: "ledger.events".to_owned(),
            payment_topic: "payment.events".to_owned(),
            dead_letter_topic: "projection.dead-letters".to_owned(),
            decisions_topic: "projection.decisions".to_owned(),
            replication_factor: 1,
            properties: BTreeMap::new(),
        }
    }
}

impl Default for Redis {
    fn default() -> Self {
        Redis {
            url: "redis://127.0.0.1:6379/".to_owned(),
            prefix: "{bp}".to_owned(),
            write_timeout_ms: 5_000,
            read_timeout_ms: 500,
        }
    }
}

impl Default for Wire {
    fn default() -> Self {
        Wire { value_bytes_max: 1 << 20, depth_max: 64, event_window: 32 }
    }
}

impl Default for Projector {
    fn default() -> Self {
        Projector {
            workers: 0,
            batch_records_max: 500,
            batch_cells_max: 400,
            commits_in_flight_max: 4,
            queue_batches_max: 8,
            cache_bytes_max: 512 << 20,
            heartbeat_ms: 500,
            poison_keys_max: 1_000,
            shutdown_ms_max: 10_000,
        }
    }
}

impl Default for Api {
    fn default() -> Self {
        Api {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            account_base_paths: vec![String::new(), "/v1".to_owned()],
            balance_types: vec![BalanceType::Prcd],
            currency_error_code: "AM03".to_owned(),
            max_staleness_ms: 30_000,
            on_quarantine: OnQuarantine::Refuse,
            min_position_wait_ms_max: 2_000,
            min_position_waiters_max: 256,
            users: Vec::new(),
            profiles: Vec::new(),
            tokens: Vec::new(),
            credential_cache_ms: 60_000,
            shutdown_ms_max: 10_000,
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Admin { listen: SocketAddr::from(([127, 0, 0, 1], 9090)) }
    }
}

impl Default for Log {
    fn default() -> Self {
        Log { level: "info".to_owned(), format: LogFormat::Text, file: None }
    }
}
