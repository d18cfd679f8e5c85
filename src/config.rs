//! Every setting, validated once: one TOML file, environment variables over it.
//!
//! `balance-projector.example.toml` documents every key with its default. The variable of a key is
//! [`PREFIX`] and the key in capitals, with two underscores for each dot:
//! `BALANCE_PROJECTOR__KAFKA__BROKERS`.

mod check;
mod keys;
mod load;
mod transport;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use crate::{
    domain::{BalanceType, FOLD_VERSION, FingerprintKey, Parameters},
    tls,
};

pub use load::{ConfigError, Fault, PREFIX};
pub use transport::{ApiTls, ClientCertificates, ClientTls, Jwt, KafkaSecurity, Sasl, Sentinel};

/// The whole file. Not `Debug`: it holds secrets.
#[derive(Clone, Deserialize, Serialize)]
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
    /// Traces, for a collector.
    pub traces: Traces,
}

/// The brokers and topics. Its `Debug` leaves out the properties: one may hold a secret.
#[derive(Clone, Deserialize, Serialize)]
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
    /// By what `publish` chooses partitions: as all other publishers do.
    pub partitioner: Partitioner,
    /// Whether the brokers are spoken to by TLS.
    pub security: KafkaSecurity,
    /// The certificates of `security = "tls"`.
    pub tls: ClientTls,
    /// Who this program is to them.
    pub sasl: Sasl,
    /// Settings handed to librdkafka as they are, over all others.
    pub properties: BTreeMap<String, String>,
}

/// Which of librdkafka's partitioners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Partitioner {
    /// librdkafka's default: CRC32.
    ConsistentRandom,
    /// Java's default: murmur2.
    #[serde(rename = "murmur2_random")]
    #[value(name = "murmur2_random")]
    Murmur2Random,
}

/// The store.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Redis {
    /// `redis://[user:password@]host:port/[db]`, `rediss://` by TLS.
    pub url: String,
    /// The file with the password, where the URL has none.
    pub password_file: Option<PathBuf>,
    /// The certificates of `rediss://`.
    pub tls: ClientTls,
    /// The sentinels that know the primary.
    pub sentinel: Sentinel,
    /// The first part of every key, with its hash tag.
    pub prefix: String,
    /// How long a writer waits for a reply.
    pub write_timeout_ms: u64,
    /// How long a reader waits for a reply.
    pub read_timeout_ms: u64,
}

/// The limits of a record.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wire {
    /// The longest value in bytes.
    pub value_bytes_max: usize,
    /// The deepest nesting of a value.
    pub depth_max: usize,
    /// How many event ids a subject remembers.
    pub event_window: usize,
    /// Types of event that are passed over and counted.
    pub types_ignored: Vec<String>,
}

/// The write side.
#[derive(Debug, Clone, Deserialize, Serialize)]
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
    /// Memory for records that wait for their owners, over all partitions.
    pub queue_bytes_max: usize,
    /// Memory for decoded cells, over all partitions.
    pub cache_bytes_max: usize,
    /// The heartbeat.
    pub heartbeat_ms: u64,
    /// More new quarantined keys than this in a minute of the records' own time halt a partition.
    pub poison_keys_max: usize,
    /// How long an orderly stop may take.
    pub shutdown_ms_max: u64,
}

/// What readers of a quarantined subject get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnQuarantine {
    /// 503.
    Refuse,
    /// The figure, with `Projection-Incomplete-Since`.
    Serve,
}

/// The read side.
#[derive(Clone, Deserialize, Serialize)]
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
    /// Providers of view two whose tokens an issuer signs.
    pub providers: Vec<ProviderConfig>,
    /// Providers that are not let in, whatever they bear.
    pub blocked: Vec<String>,
    /// Tokens that an issuer signed.
    pub jwt: Jwt,
    /// HTTPS.
    pub tls: ApiTls,
    /// How long a verified password is remembered after its last use.
    pub credential_cache_ms: u64,
    /// How long open requests may take after a stop.
    pub shutdown_ms_max: u64,
    /// Reads of one account by one provider in a day without its user; 0 lifts the limit.
    pub unattended_reads_max: u32,
    /// Requests of one user of view one in a second, in the long run; 0 lifts the limit.
    pub user_requests_per_second: u32,
    /// Requests of one user at once.
    pub user_requests_burst: u32,
    /// Requests of one provider in a second, in the long run; 0 lifts the limit.
    pub provider_requests_per_second: u32,
    /// Requests of one provider at once.
    pub provider_requests_burst: u32,
    /// Connections at once.
    pub connections_max: usize,
    /// How long the headers of a request may take to arrive.
    pub headers_ms_max: u64,
    /// How long a connection may be idle between requests.
    pub idle_ms_max: u64,
    /// The longest headers.
    pub header_bytes_max: usize,
}

/// A user of view one.
#[derive(Clone, Deserialize, Serialize)]
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
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileConfig {
    /// The value of `ProfileId`.
    pub id: String,
    /// Prefixes of the customer ids that it may read; all where left out.
    #[serde(default)]
    pub customer_prefixes: Option<Vec<String>>,
}

/// A static token of view two.
#[derive(Clone, Deserialize, Serialize)]
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

/// A provider of view two whose tokens an issuer signs.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    /// `client_id` of its tokens.
    pub client_id: String,
    /// SHA-256 of its API key, in hexadecimal.
    pub api_key_sha256: String,
}

/// Liveness, readiness and metrics.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Where `/livez`, `/readyz` and `/metrics` listen.
    pub listen: SocketAddr,
}

/// The log.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`, or a filter such as `info,rdkafka=warn`.
    pub level: String,
    /// `text` or `json`.
    pub format: LogFormat,
    /// A file to append to instead of standard error.
    pub file: Option<PathBuf>,
}

/// OpenTelemetry traces. Without an endpoint there are none.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Traces {
    /// Where the collector takes OTLP over HTTP, as protobuf.
    pub endpoint: Option<String>,
    /// PEM: the authority of its certificate; the system's where left out.
    pub ca_file: Option<PathBuf>,
    /// Of a million records or requests that bring no `traceparent`, so many are followed.
    pub sampled_per_million: u32,
    /// Spans that wait for the collector.
    pub queue_spans_max: usize,
    /// The most spans sent at once.
    pub batch_spans_max: usize,
    /// How long a span waits for others.
    pub interval_ms: u64,
    /// How long the collector may take for a batch, and for the last ones at a stop.
    pub timeout_ms: u64,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For humans.
    Text,
    /// For machines.
    Json,
}

impl Config {
    /// The same settings with every secret replaced by `***`: what may be printed.
    #[must_use]
    pub fn masked(&self) -> Config {
        const MASK: &str = "***";
        let mut masked = self.clone();
        masked.redis.url = mask_password(&self.redis.url, MASK);
        for (name, value) in &mut masked.kafka.properties {
            if is_secret_property(name) {
                MASK.clone_into(value);
            }
        }
        if let Some((place, _)) = self.api.jwt.jwks.as_deref().and_then(|jwks| jwks.split_once('?')) {
            masked.api.jwt.jwks = Some(format!("{place}?{MASK}"));
        }
        for provider in &mut masked.api.providers {
            MASK.clone_into(&mut provider.api_key_sha256);
        }
        for user in &mut masked.api.users {
            MASK.clone_into(&mut user.password_hash);
        }
        for token in &mut masked.api.tokens {
            MASK.clone_into(&mut token.token_sha256);
            MASK.clone_into(&mut token.api_key_sha256);
        }
        masked
    }

    /// The keys that have other values in another configuration.
    pub fn differing(&self, other: &Config) -> BTreeSet<String> {
        let leaves = |config: &Config| {
            let mut leaves = BTreeMap::new();
            // A configuration that was read can be written.
            if let Ok(table) = toml::Table::try_from(config) {
                collect_leaves("", table, &mut leaves);
            }
            leaves
        };
        let (own, others) = (leaves(self), leaves(other));
        let differs = |name: &&String| own.get(*name) != others.get(*name);
        own.keys().chain(others.keys()).filter(differs).cloned().collect()
    }
}

fn collect_leaves(prefix: &str, table: toml::Table, leaves: &mut BTreeMap<String, toml::Value>) {
    for (name, value) in table {
        let name = format!("{prefix}{name}");
        if let toml::Value::Table(inner) = value {
            collect_leaves(&format!("{name}."), inner, leaves);
        } else {
            leaves.insert(name, value);
        }
    }
}

impl std::fmt::Debug for Kafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kafka")
            .field("brokers", &self.brokers)
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Whether every file that it names can be read, and holds no secret for others: told by key.
    pub fn check_files(&self) -> Result<(), ConfigError> {
        let (kafka, redis, api) = (&self.kafka, &self.redis, &self.api);
        let secrets = [
            ("kafka.tls.key_file", &kafka.tls.key_file),
            ("kafka.sasl.password_file", &kafka.sasl.password_file),
            ("redis.tls.key_file", &redis.tls.key_file),
            ("redis.password_file", &redis.password_file),
            ("redis.sentinel.password_file", &redis.sentinel.password_file),
            ("api.tls.key_file", &api.tls.key_file),
        ];
        let others = [
            ("kafka.tls.ca_file", &kafka.tls.ca_file),
            ("kafka.tls.certificate_file", &kafka.tls.certificate_file),
            ("redis.tls.ca_file", &redis.tls.ca_file),
            ("redis.tls.certificate_file", &redis.tls.certificate_file),
            ("api.tls.certificate_file", &api.tls.certificate_file),
            ("api.tls.client_ca_file", &api.tls.client_ca_file),
            ("api.jwt.jwks_ca_file", &api.jwt.jwks_ca_file),
            ("traces.ca_file", &self.traces.ca_file),
        ];
        let secret = |path: &PathBuf| tls::read_secret(path).map(|_| ()).map_err(|e| e.to_string());
        let other = |path: &PathBuf| {
            std::fs::File::open(path).map(|_| ()).map_err(|error| format!("{}: {error}", path.display()))
        };
        let faults: Vec<_> = secrets
            .into_iter()
            .filter_map(|(key, path)| Some((key, secret(path.as_ref()?))))
            .chain(others.into_iter().filter_map(|(key, path)| Some((key, other(path.as_ref()?)))))
            .filter_map(|(key, read)| Some(Fault::new(key, format!("cannot be used: {}", read.err()?))))
            .collect();
        if faults.is_empty() { Ok(()) } else { Err(ConfigError { faults }) }
    }

    /// Whether it holds a password or a key as it stands: hashes open nothing, and are none.
    pub(crate) fn holds_secrets(&self) -> bool {
        let login = self.redis.url.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@'));
        login.is_some_and(|(login, _)| login.contains(':'))
            || self.kafka.properties.keys().any(|name| is_secret_property(name) && !is_location(name))
    }
}

/// Whether a property names a file, and not what is in it.
fn is_location(name: &str) -> bool {
    name.ends_with(".location")
}

/// Whether a property of librdkafka may hold a secret, by its name.
fn is_secret_property(name: &str) -> bool {
    ["password", "secret", "key", "pem", "jaas", "sasl.oauthbearer.config"]
        .iter()
        .any(|part| name.contains(part))
}

/// The URL without its password.
fn mask_password(url: &str, mask: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return mask.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match authority.rsplit_once('@') {
        None => url.to_owned(),
        Some((login, host)) => {
            let user = login.split_once(':').map_or(login, |(user, _)| user);
            format!("{scheme}://{user}:{mask}@{host}{path}")
        }
    }
}

impl Config {
    /// The parameters with which a generation would be born now: the settings, and a fresh key.
    pub fn parameters(&self) -> Parameters {
        Parameters {
            fold_version: FOLD_VERSION,
            zone: self.zone.clone(),
            event_window: self.wire.event_window,
            value_bytes_max: self.wire.value_bytes_max,
            depth_max: self.wire.depth_max,
            types_ignored: self.wire.types_ignored(),
            fingerprint_key: FingerprintKey(rand::random()),
        }
    }
}

impl Wire {
    /// In order and each once: the same set in another order is the same setting.
    fn types_ignored(&self) -> Vec<String> {
        let mut types = self.types_ignored.clone();
        types.sort();
        types.dedup();
        types
    }
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
            traces: Traces::default(),
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
            partitioner: Partitioner::ConsistentRandom,
            security: KafkaSecurity::Plain,
            tls: ClientTls::default(),
            sasl: Sasl::default(),
            properties: BTreeMap::new(),
        }
    }
}

impl Default for Redis {
    fn default() -> Self {
        Redis {
            url: "redis://127.0.0.1:6379/".to_owned(),
            password_file: None,
            tls: ClientTls::default(),
            sentinel: Sentinel::default(),
            prefix: "{bp}".to_owned(),
            write_timeout_ms: 5_000,
            read_timeout_ms: 500,
        }
    }
}

impl Default for Wire {
    fn default() -> Self {
        Wire { value_bytes_max: 1 << 20, depth_max: 64, event_window: 32, types_ignored: Vec::new() }
    }
}

impl Default for Projector {
    fn default() -> Self {
        Projector {
            workers: 0,
            batch_records_max: 500,
            batch_cells_max: 400,
            commits_in_flight_max: 4,
            queue_bytes_max: 64 << 20,
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
            providers: Vec::new(),
            blocked: Vec::new(),
            jwt: Jwt::default(),
            tls: ApiTls::default(),
            credential_cache_ms: 60_000,
            shutdown_ms_max: 10_000,
            unattended_reads_max: 4,
            user_requests_per_second: 0,
            user_requests_burst: 50,
            provider_requests_per_second: 0,
            provider_requests_burst: 50,
            connections_max: 4_096,
            headers_ms_max: 10_000,
            idle_ms_max: 75_000,
            header_bytes_max: 32 << 10,
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

impl Default for Traces {
    fn default() -> Self {
        Traces {
            endpoint: None,
            ca_file: None,
            sampled_per_million: 1_000,
            queue_spans_max: 4_096,
            batch_spans_max: 512,
            interval_ms: 1_000,
            timeout_ms: 3_000,
        }
    }
}

#[cfg(test)]
mod tests;
