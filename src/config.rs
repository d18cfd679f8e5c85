//! Every setting, validated once: one TOML file, environment variables over it.
//!
//! `balance-projector.example.toml` documents every key with its default. The variable of a key is
//! [`PREFIX`] and the key in capitals, with two underscores for each dot:
//! `BALANCE_PROJECTOR__KAFKA__BROKERS`.

mod check;
mod keys;
mod load;
mod transport;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

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
    /// Whether the brokers are spoken to by TLS.
    pub security: KafkaSecurity,
    /// The certificates of `security = "tls"`.
    pub tls: ClientTls,
    /// Who this program is to them.
    pub sasl: Sasl,
    /// Settings handed to librdkafka as they are, over all others.
    pub properties: BTreeMap<String, String>,
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
    /// Threads that fold and commit, and in `run` answer requests as well; 0 takes as many as there are processors.
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
    /// New quarantined keys in a minute that halt a partition.
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
    /// How long a verified password is remembered.
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
    ["password", "secret", "key", "pem", "sasl.oauthbearer.config"].iter().any(|part| name.contains(part))
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
mod tests {
    use std::{collections::BTreeSet, ffi::OsString};

    use super::{keys::KEYS, *};

    const EXAMPLE: &str = include_str!("../balance-projector.example.toml");

    /// Loads this text as a file, with these variables over it.
    fn load(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let env = env.iter().map(|(k, v)| (OsString::from(k), OsString::from(v)));
        Config::load(Some(file.path()), env)
    }

    fn faults(text: &str, env: &[(&str, &str)]) -> Vec<String> {
        load(text, env)
            .err()
            .expect("is refused")
            .faults
            .iter()
            .map(|f| format!("{} {}", f.key, f.message))
            .collect()
    }

    /// The example with the marks of its commented-out keys taken away.
    fn uncommented() -> String {
        let is_name = |name: &str| name.starts_with('"') || !name.contains(' ');
        let is_key =
            |line: &str| line.starts_with('[') || line.split_once(" = ").is_some_and(|(k, _)| is_name(k));
        let line = |line: &str| match line.strip_prefix("# ") {
            Some(rest) if is_key(rest) => format!("{rest}\n"),
            Some(_) | None => format!("{line}\n"),
        };
        let text: String = EXAMPLE.lines().map(line).collect();
        // Certificates go with TLS, and a primary with sentinels.
        text.replace("security = \"plain\"", "security = \"tls\"")
            .replace("\"redis://", "\"rediss://")
            .replace("nodes = []", "nodes = [\"127.0.0.1:26379\"]")
    }

    fn names(prefix: &str, value: &toml::Value, into: &mut BTreeSet<String>) {
        let Some(table) = value.as_table().filter(|_| prefix != "kafka.properties") else {
            into.insert(prefix.to_owned());
            return;
        };
        for (name, value) in table {
            let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            names(&name, value, into);
        }
    }

    #[test]
    fn the_example_holds_every_key_with_its_default() {
        let example: toml::Table = EXAMPLE.parse().unwrap();
        let default = toml::Table::try_from(Config::default()).unwrap();
        let (mut in_example, mut in_default) = (BTreeSet::new(), BTreeSet::new());
        names("", &toml::Value::Table(example), &mut in_example);
        names("", &toml::Value::Table(default.clone()), &mut in_default);
        // What has no default stands commented out.
        for empty in ["api.users", "api.profiles", "api.tokens", "api.providers"] {
            assert!(in_default.remove(empty));
        }
        assert_eq!(in_example, in_default);
        let loaded = toml::Table::try_from(load(EXAMPLE, &[]).unwrap()).unwrap();
        assert_eq!(loaded, default);
    }

    #[test]
    fn the_example_uncommented_is_a_valid_configuration_with_every_key() {
        let config = load(&uncommented(), &[]).unwrap();
        assert_eq!(config.api.users[0].profiles, ["north"]);
        assert_eq!(config.api.tokens[0].expires.as_deref(), Some("2027-12-31T23:59:59Z"));
        let mut all = BTreeSet::new();
        names("", &toml::Value::try_from(config).unwrap(), &mut all);
        let rows: BTreeSet<String> = KEYS.iter().map(|k| k.name.to_owned()).collect();
        assert_eq!(all, rows);
    }

    #[test]
    fn without_a_file_the_defaults_are_in_force() {
        let config = Config::load(None, []).unwrap();
        assert_eq!(toml::to_string(&config).unwrap(), toml::to_string(&Config::default()).unwrap());
    }

    #[test]
    fn a_variable_goes_over_the_file() {
        let config = load(
            "generation = 2\n[kafka]\nbrokers = \"file:1\"",
            &[
                ("BALANCE_PROJECTOR__KAFKA__BROKERS", "env:2"),
                ("BALANCE_PROJECTOR__API__BALANCE_TYPES", "[\"CLAV\", \"ITBD\"]"),
                ("BALANCE_PROJECTOR__API__PROFILES", "[{ id = \"p\" }]"),
                ("BALANCE_PROJECTOR__PROJECTOR__WORKERS", "3"),
                ("BALANCE_PROJECTOR__API__JWT__LEEWAY_S", "7"),
                ("BALANCE_PROJECTOR__API__TLS__CLIENT_CERTIFICATES", "optional"),
                ("BALANCE_PROJECTOR__KAFKA__PROPERTIES__CLIENT_ID", "seven"),
                ("BALANCE_PROJECTOR_CONFIG", "another.toml"),
                ("HOME", "/"),
            ],
        )
        .unwrap();
        assert_eq!(config.generation, 2);
        assert_eq!(config.kafka.brokers, "env:2");
        assert_eq!(config.api.balance_types, [BalanceType::Clav, BalanceType::Itbd]);
        assert_eq!(config.api.profiles[0].id, "p");
        assert_eq!(config.projector.workers, 3);
        assert_eq!(config.api.jwt.leeway_s, 7);
        assert_eq!(config.api.tls.client_certificates, ClientCertificates::Optional);
        assert_eq!(config.kafka.properties["client.id"], "seven");
    }

    const HASH: &str =
        "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$MbZ2jWlTkBTfSgkrGC3pIvPFbxYuqzmtcGBtUTmNHrw";

    #[test]
    #[allow(clippy::too_many_lines, reason = "one row per way to be wrong")]
    fn a_wrong_file_is_refused_with_the_key_what_it_was_and_what_it_may_be() {
        let rows: &[(&str, &str)] = &[
            ("generatoin = 1", "generatoin is no key; the keys here are generation, zone, kafka"),
            ("[kafka]\nbroker = \"a:1\"", "kafka.broker is no key; the keys here are brokers, group"),
            ("[kafak]\nbrokers = \"a:1\"", "kafak is no key"),
            ("kafka = 7", "kafka is a section, written [kafka]"),
            ("generation = 0", "generation was 0, may be an integer from 1 to 4294967295"),
            ("generation = \"1\"", "generation was \"1\", may be an integer"),
            ("generation = 1.5", "generation was 1.5, may be an integer"),
            ("zone = \"Europe/Atlantis\"", "zone was \"Europe/Atlantis\", may be an IANA time zone"),
            ("zone = \"\"", "zone was \"\""),
            ("[kafka]\nbrokers = \"localhost\"", "kafka.brokers was \"localhost\", may be host:port"),
            ("[kafka]\nbrokers = \"a:1,\"", "kafka.brokers was"),
            ("[kafka]\nbrokers = \"a:0\"", "kafka.brokers was"),
            ("[kafka]\ngroup = \"\"", "kafka.group was \"\""),
            ("[kafka]\nledger_topic = \"a/b\"", "kafka.ledger_topic was \"a/b\", may be a topic's name"),
            (
                "[kafka]\nledger_topic = \"x\"\npayment_topic = \"x\"",
                "kafka.payment_topic was \"x\", which another topic's key names",
            ),
            (
                "[kafka]\nreplication_factor = 0",
                "kafka.replication_factor was 0, may be an integer from 1 to 32767",
            ),
            ("[kafka.properties]\n\"group.id\" = \"x\"", "kafka.properties.group.id may not be set"),
            (
                "[kafka.properties]\n\"enable.auto.commit\" = \"true\"",
                "kafka.properties.enable.auto.commit may not be set",
            ),
            (
                "[kafka.properties]\n\"auto.offset.reset\" = \"latest\"",
                "kafka.properties.auto.offset.reset may not be set",
            ),
            (
                "[kafka.properties]\n\"isolation.level\" = \"read_uncommitted\"",
                "kafka.properties.isolation.level may not be set",
            ),
            (
                "[kafka.properties]\n\"no.such.property\" = \"1\"",
                "kafka.properties.no.such.property is refused by librdkafka",
            ),
            (
                "[kafka.properties]\n\"fetch.wait.max.ms\" = \"soon\"",
                "kafka.properties.fetch.wait.max.ms is refused by librdkafka",
            ),
            (
                "[kafka.properties]\n\"fetch.wait.max.ms\" = 5",
                "kafka.properties may be a table from librdkafka's property names to strings",
            ),
            (
                "[redis]\nprefix = \"bp\"",
                "redis.prefix was \"bp\", may be 1 to 64 visible characters with one hash tag",
            ),
            ("[redis]\nprefix = \"{}\"", "redis.prefix was \"{}\""),
            (
                "[redis]\nread_timeout_ms = 5",
                "redis.read_timeout_ms was 5, may be an integer from 10 to 60000 (milliseconds)",
            ),
            ("[wire]\nevent_window = 1025", "wire.event_window was 1025, may be an integer from 1 to 1024"),
            ("[projector]\nworkers = -1", "projector.workers was -1"),
            (
                "[api]\nlisten = \"localhost:80\"",
                "api.listen was \"localhost:80\", may be an address and port",
            ),
            (
                "[api]\nlisten = \"0.0.0.0:9090\"",
                "admin.listen was \"127.0.0.1:9090\", which is taken by api.listen",
            ),
            ("[api]\naccount_base_paths = []", "api.account_base_paths was []"),
            (
                "[api]\naccount_base_paths = [\"v1\"]",
                "api.account_base_paths[0] was \"v1\", may be empty, or a path",
            ),
            ("[api]\naccount_base_paths = [\"/v1/\"]", "api.account_base_paths[0] was \"/v1/\""),
            (
                "[api]\naccount_base_paths = [\"/a\", \"/a\"]",
                "api.account_base_paths[1] stands in api.account_base_paths twice",
            ),
            (
                "[api]\nbalance_types = [\"prcd\"]",
                "api.balance_types was [\"prcd\"], may be an array of one or more of \"PRCD\"",
            ),
            ("[api]\nbalance_types = []", "api.balance_types was []"),
            ("[api]\nbalance_types = [\"PRCD\", \"PRCD\"]", "api.balance_types was"),
            (
                "[api]\non_quarantine = \"hide\"",
                "api.on_quarantine was \"hide\", may be one of \"refuse\", \"serve\"",
            ),
            (
                "[api]\nmax_staleness_ms = 1000",
                "api.max_staleness_ms was 1000, may be more than two heartbeats",
            ),
            ("[[api.users]]\nname = \"u\"\nprofiles = [\"p\"]", "api.users[0].password_hash is missing"),
            (
                "[[api.users]]\nname = \"u\"\npassword = \"x\"",
                "api.users[0].password is no key; the keys here are name, password_hash, profiles",
            ),
            ("[[api.profiles]]\nid = \"two words\"", "api.profiles[0].id was \"two words\""),
            (
                "[[api.profiles]]\nid = \"p\"\n[[api.profiles]]\nid = \"p\"",
                "api.profiles[1].id stands in api.profiles twice",
            ),
            (
                "[[api.profiles]]\nid = \"p\"\ncustomer_prefixes = []",
                "api.profiles[0].customer_prefixes was []",
            ),
            (
                "[[api.profiles]]\nid = \"p\"\ncustomer_prefixes = [\"0 1\"]",
                "api.profiles[0].customer_prefixes[0] was \"0 1\"",
            ),
            (
                "[api]\ntokens = [{ client_id = \"t\", token_sha256 = \"ab\", api_key_sha256 = \"\", accounts = [\"a/b\"], expires = \"tomorrow\" }]",
                "api.tokens[0].token_sha256 may be 64 hexadecimal digits",
            ),
            ("[log]\nlevel = \"loud\"", "log.level was \"loud\", may be error, warn"),
            ("[log]\nformat = \"xml\"", "log.format was \"xml\", may be one of \"text\", \"json\""),
            ("generation 1", "is not TOML, line 1"),
            ("[kafka]\nsecurity = \"ssl\"", "kafka.security was \"ssl\", may be one of \"plain\", \"tls\""),
            ("[kafka.tls]\nca_file = \"x\"", "kafka.tls goes with kafka.security = \"tls\""),
            ("[kafka.sasl]\nmechanism = \"PLAIN\"", "kafka.sasl has mechanism, username and password_file"),
            ("[kafka.sasl]\nmechanism = \"GSSAPI\"", "kafka.sasl.mechanism was \"GSSAPI\""),
            ("[redis]\nurl = \"http://h/\"", "redis.url may be redis://"),
            ("[redis]\nurl = \"rediss://h/#insecure\"", "redis.url may be redis://"),
            (
                "[redis]\nurl = \"redis://u:p@h/\"\npassword_file = \"f\"",
                "redis.password_file may not be set beside a password in redis.url",
            ),
            ("[redis.tls]\nca_file = \"x\"", "redis.tls goes with a redis.url that begins with rediss://"),
            ("[redis.sentinel]\nprimary = \"p\"", "redis.sentinel.primary goes with nodes"),
            (
                "[redis.sentinel]\nnodes = [\"h\"]\nprimary = \"p\"",
                "redis.sentinel.nodes[0] was \"h\", may be host:port",
            ),
            ("[api.jwt]\nissuer = \"i\"", "api.jwt has issuer, audience and jwks: all are set, or none"),
            (
                "[api.jwt]\nissuer = \"i\"\naudience = \"a\"\njwks = \"http://id.example/\"",
                "api.jwt.jwks was \"http://id.example/\", may be the path of a file, https://",
            ),
            ("[api.jwt]\nalgorithms = [\"HS256\"]", "api.jwt.algorithms was [\"HS256\"]"),
            (
                "[api.jwt]\nleeway_s = 301",
                "api.jwt.leeway_s was 301, may be an integer from 0 to 300 (seconds)",
            ),
            ("[api.jwt]\nissuers = \"i\"", "api.jwt.issuers is no key; the keys here are issuer, audience"),
            ("[api.tls]\ncertificate_file = \"c\"", "api.tls.key_file goes with certificate_file"),
            ("[api.tls]\nmatch_organisation = true", "api.tls.match_organisation goes with client_ca_file"),
            (
                "[api.tls]\nmatch_organisation = \"yes\"",
                "api.tls.match_organisation was \"yes\", may be true or false",
            ),
            ("[api]\nblocked = [\"a b\"]", "api.blocked[0] was \"a b\", may be a client_id"),
            ("[[api.providers]]\nclient_id = \"x\"", "api.providers[0].api_key_sha256 is missing"),
            (
                "[traces]\nendpoint = \"collector:4318\"",
                "traces.endpoint was \"collector:4318\", may be http:// or https:// with a path",
            ),
            (
                "[traces]\nendpoint = \"http://collector:4318\"",
                "traces.endpoint was \"http://collector:4318\"",
            ),
            ("[traces]\nendpoint = \"http://collector:4318/\"", "traces.endpoint was"),
            ("[traces]\nendpoint = \"grpc://collector:4317/v1/traces\"", "traces.endpoint was"),
            (
                "[traces]\nendpoint = \"http://h/v1/traces\"\nca_file = \"x\"",
                "traces.ca_file goes with a traces.endpoint that begins with https://",
            ),
            ("[traces]\nca_file = \"x\"", "traces.ca_file goes with"),
            (
                "[traces]\nsampled_per_million = 1000001",
                "traces.sampled_per_million was 1000001, may be an integer from 0 to 1000000",
            ),
            ("[traces]\nsampled_per_million = 0.5", "traces.sampled_per_million was 0.5, may be an integer"),
            (
                "[traces]\nqueue_spans_max = 100\nbatch_spans_max = 101",
                "traces.batch_spans_max was 101, may be at most queue_spans_max (100)",
            ),
        ];
        for (text, expected) in rows {
            let faults = faults(text, &[]);
            assert!(faults.iter().any(|fault| fault.contains(expected)), "{text}\ngave {faults:#?}");
        }
        let profiles = format!("[[api.users]]\nname = \"u\"\npassword_hash = \"{HASH}\"\nprofiles = [\"p\"]");
        assert_eq!(
            faults(&profiles, &[]),
            ["api.users[0].profiles[0] was \"p\", may be an id of api.profiles"]
        );
    }

    #[test]
    fn a_wrong_variable_is_refused_with_its_name() {
        let rows = [
            ("BALANCE_PROJECTOR__KAFKA__BROKER", "x", "BALANCE_PROJECTOR__KAFKA__BROKER names no key"),
            ("BALANCE_PROJECTOR__kafka__brokers", "a:1", "BALANCE_PROJECTOR__kafka__brokers names no key"),
            ("BALANCE_PROJECTOR__KAFKA", "{}", "BALANCE_PROJECTOR__KAFKA names no key"),
            ("BALANCE_PROJECTOR__GENERATION", "two", "generation was \"two\", may be an integer"),
            ("BALANCE_PROJECTOR__GENERATION", "0", "generation was 0, may be an integer"),
            (
                "BALANCE_PROJECTOR__API__BALANCE_TYPES",
                "PRCD",
                "api.balance_types was \"PRCD\", may be an array",
            ),
            (
                "BALANCE_PROJECTOR__KAFKA__PROPERTIES__GROUP_ID",
                "x",
                "kafka.properties.group.id may not be set",
            ),
        ];
        for (name, value, expected) in rows {
            let error = load("", &[(name, value)]).err().expect("is refused");
            let text = error.to_string();
            assert!(text.contains(expected) && text.contains(name), "{name}={value} gave {text}");
        }
    }

    #[test]
    fn every_fault_is_told_at_once() {
        assert_eq!(faults("generation = 0\n[log]\nformat = \"xml\"", &[]).len(), 2);
    }

    #[test]
    fn an_error_echoes_no_secret() {
        let rows = [
            "[redis]\nurl = \"http://user:hunter2@h:1/\"",
            "[redis]\nurl = [\"hunter2\"]",
            "[redis]\nurl = \"redis://u:hunter2@h:1/\" trailing",
            "[kafka.properties]\n\"sasl.password\" = \"x\"\n\"ssl.key.pem\" = [\"hunter2\"]",
            "[kafka.properties]\n\"ssl.key.bogus\" = \"hunter2\"",
            "[api]\nusers = [{ name = \"u\", password_hash = \"hunter2\", profiles = [] }]",
            "[api]\nusers = \"hunter2\"",
            "[traces]\nendpoint = \"http://u:hunter2@h/v1/traces\"",
            "[traces]\nendpoint = \"https://h/v1/traces?token=hunter2\"",
            "[api]\ntokens = [{ client_id = \"t\", token_sha256 = \"hunter2\", api_key_sha256 = \"hunter2\", accounts = [] }]",
        ];
        for text in rows {
            let error = load(text, &[]).err().expect("is refused").to_string();
            assert!(!error.contains("hunter2"), "{text} gave {error}");
        }
    }

    #[test]
    fn what_is_printed_masks_every_secret() {
        let text = format!(
            "[redis]\nurl = \"redis://user:hunter2@h:1/3\"\n[kafka.properties]\n\"sasl.password\" = \"hunter2\"\n\
             [[api.profiles]]\nid = \"p\"\n[[api.users]]\nname = \"u\"\npassword_hash = \"{HASH}\"\nprofiles = [\"p\"]\n\
             [[api.tokens]]\nclient_id = \"t\"\ntoken_sha256 = \"{0}\"\napi_key_sha256 = \"{0}\"\naccounts = []",
            "ab".repeat(32)
        );
        let printed = toml::to_string(&load(&text, &[]).unwrap().masked()).unwrap();
        for secret in ["hunter2", "argon2id", "abab"] {
            assert!(!printed.contains(secret), "{printed}");
        }
        assert!(printed.contains("redis://user:***@h:1/3"));
    }

    #[test]
    fn both_listeners_may_take_a_free_port() {
        assert!(load("[api]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"", &[]).is_ok());
    }
}
