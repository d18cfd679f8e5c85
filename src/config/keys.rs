//! Every key with what it may be, one row each: an unknown key or a wrong value is told by its full name.

/// A key of the file.
pub(super) struct Key {
    /// The full name, such as `kafka.brokers`; within an array of tables, the name in the table.
    pub(super) name: &'static str,
    /// What it may be.
    pub(super) kind: Kind,
}

/// What a key may be, as far as its own value tells.
pub(super) enum Kind {
    /// An integer of this range, in this unit.
    Integer(i64, i64, &'static str),
    /// A string; what it may be, for humans.
    Text(&'static str),
    /// A string that is never echoed.
    Secret(&'static str),
    /// `true` or `false`.
    Switch,
    /// One of these strings.
    Choice(&'static [&'static str]),
    /// `address:port`.
    Address,
    /// An array of strings; what each may be, for humans.
    Texts(&'static str),
    /// An array of some of these strings.
    Choices(&'static [&'static str]),
    /// A table from names of properties to strings.
    Properties,
    /// An array of tables with these keys and, of those, the required ones.
    Tables(&'static [Key], &'static [&'static str]),
}

impl Kind {
    /// Whether a value may hold a secret: then it is never echoed.
    pub(super) fn is_secret(&self) -> bool {
        matches!(self, Secret(_) | Properties | Tables(..))
    }
}

use Kind::{Address, Choice, Choices, Integer, Properties, Secret, Switch, Tables, Text, Texts};

const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind }
}

const MS: &str = " (milliseconds)";
const BYTES: &str = " (bytes)";
const TOPIC: &str = "a topic's name: 1 to 249 characters of A-Z, a-z, 0-9, '.', '_' and '-'";
const SHA256: &str = "64 hexadecimal digits, as `hash-password --token` prints them";

const PEM: &str = "the path of a file in PEM";
const PASSWORD: &str = "the path of a file with a password in one line, not readable by others";

/// Every key.
pub(super) const KEYS: &[Key] = &[
    key("generation", Integer(1, 4_294_967_295, "")),
    key("zone", Text("an IANA time zone, such as \"Europe/Prague\"")),
    key("kafka.brokers", Text("host:port, several comma-separated")),
    key("kafka.group", Text("a consumer group's name: 1 to 249 visible characters")),
    key("kafka.ledger_topic", Text(TOPIC)),
    key("kafka.payment_topic", Text(TOPIC)),
    key("kafka.dead_letter_topic", Text(TOPIC)),
    key("kafka.decisions_topic", Text(TOPIC)),
    key("kafka.replication_factor", Integer(1, 32_767, "")),
    key("kafka.partitioner", Choice(&["consistent_random", "murmur2_random"])),
    key("kafka.security", Choice(&["plain", "tls"])),
    key("kafka.tls.ca_file", Text(PEM)),
    key("kafka.tls.certificate_file", Text(PEM)),
    key("kafka.tls.key_file", Text(PEM)),
    key("kafka.sasl.mechanism", Choice(&["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])),
    key("kafka.sasl.username", Text("a user's name")),
    key("kafka.sasl.password_file", Text(PASSWORD)),
    key("kafka.properties", Properties),
    key("redis.url", Secret("redis://[user:password@]host:port/[db], or rediss:// for TLS")),
    key("redis.password_file", Text(PASSWORD)),
    key("redis.tls.ca_file", Text(PEM)),
    key("redis.tls.certificate_file", Text(PEM)),
    key("redis.tls.key_file", Text(PEM)),
    key("redis.sentinel.nodes", Texts("host:port")),
    key("redis.sentinel.primary", Text("the name by which the sentinels know the primary")),
    key("redis.sentinel.username", Text("a user of the sentinels")),
    key("redis.sentinel.password_file", Text(PASSWORD)),
    key("redis.prefix", Text("1 to 64 visible characters with one hash tag, such as \"{bp}\"")),
    key("redis.write_timeout_ms", Integer(10, 600_000, MS)),
    key("redis.read_timeout_ms", Integer(10, 60_000, MS)),
    key("wire.value_bytes_max", Integer(1_024, 64 << 20, BYTES)),
    key("wire.depth_max", Integer(4, 120, "")),
    key("wire.event_window", Integer(1, 1_024, "")),
    key(
        "wire.types_ignored",
        Texts("a type of event, such as \"ledger.account.renamed.v1\": 1 to 256 characters"),
    ),
    key("projector.workers", Integer(0, 1_024, "")),
    key("projector.batch_records_max", Integer(1, 100_000, "")),
    key("projector.batch_cells_max", Integer(1, 1_000, "")),
    key("projector.commits_in_flight_max", Integer(1, 64, "")),
    key("projector.queue_bytes_max", Integer(1 << 20, 1 << 40, BYTES)),
    key("projector.cache_bytes_max", Integer(1 << 20, 1 << 40, BYTES)),
    key("projector.heartbeat_ms", Integer(50, 10_000, MS)),
    key("projector.poison_keys_max", Integer(1, 1_000_000_000, "")),
    key("projector.shutdown_ms_max", Integer(100, 600_000, MS)),
    key("api.listen", Address),
    key("api.account_base_paths", Texts("empty, or a path such as \"/v1\" without a slash at its end")),
    key("api.balance_types", Choices(&["PRCD", "CLBD", "ITBD", "CLAV"])),
    key("api.currency_error_code", Text("1 to 35 characters of A-Z, 0-9 and '_'")),
    key("api.max_staleness_ms", Integer(100, 86_400_000, MS)),
    key("api.on_quarantine", Choice(&["refuse", "serve"])),
    key("api.min_position_wait_ms_max", Integer(0, 60_000, MS)),
    key("api.min_position_waiters_max", Integer(0, 1_000_000, "")),
    key("api.credential_cache_ms", Integer(0, 86_400_000, MS)),
    key("api.shutdown_ms_max", Integer(100, 600_000, MS)),
    key("api.unattended_reads_max", Integer(0, 1_000_000, "")),
    key("api.user_requests_per_second", Integer(0, 1_000_000, "")),
    key("api.user_requests_burst", Integer(1, 1_000_000, "")),
    key("api.provider_requests_per_second", Integer(0, 1_000_000, "")),
    key("api.provider_requests_burst", Integer(1, 1_000_000, "")),
    key("api.connections_max", Integer(1, 1_000_000, "")),
    key("api.headers_ms_max", Integer(100, 600_000, MS)),
    key("api.idle_ms_max", Integer(100, 3_600_000, MS)),
    key("api.header_bytes_max", Integer(1_024, 1 << 20, BYTES)),
    key("api.users", Tables(USER, &["name", "password_hash", "profiles"])),
    key("api.profiles", Tables(PROFILE, &["id"])),
    key("api.tokens", Tables(TOKEN, &["client_id", "token_sha256", "api_key_sha256", "accounts"])),
    key("api.providers", Tables(PROVIDER, &["client_id", "api_key_sha256"])),
    key("api.blocked", Texts("a client_id: 1 to 128 visible ASCII characters")),
    key("api.jwt.issuer", Text("what `iss` of a token says")),
    key("api.jwt.audience", Text("what `aud` of a token holds")),
    key("api.jwt.jwks", Text("the path of a file, https://…, or http:// of this machine")),
    key("api.jwt.jwks_ca_file", Text(PEM)),
    key("api.jwt.algorithms", Choices(&["RS256", "ES256", "EdDSA"])),
    key("api.jwt.leeway_s", Integer(0, 300, " (seconds)")),
    key("api.jwt.token_bytes_max", Integer(256, 64 << 10, BYTES)),
    key("api.jwt.cache_ms", Integer(0, 86_400_000, MS)),
    key("api.jwt.refresh_ms", Integer(1_000, 86_400_000, MS)),
    key("api.jwt.refresh_ms_min", Integer(100, 3_600_000, MS)),
    key("api.jwt.usable_ms_max", Integer(1_000, 2_592_000_000, MS)),
    key("api.jwt.fetch_ms_max", Integer(100, 60_000, MS)),
    key("api.tls.certificate_file", Text(PEM)),
    key("api.tls.key_file", Text(PEM)),
    key("api.tls.client_ca_file", Text(PEM)),
    key("api.tls.client_certificates", Choice(&["required", "optional"])),
    key("api.tls.match_organisation", Switch),
    key("admin.listen", Address),
    key("log.level", Text("error, warn, info, debug, trace or off; after commas, target=level")),
    key("log.format", Choice(&["text", "json"])),
    key("log.file", Text("the path of a file to append to")),
    key(
        "traces.endpoint",
        Text("http:// or https:// with a path, such as \"http://127.0.0.1:4318/v1/traces\""),
    ),
    key("traces.ca_file", Text(PEM)),
    key("traces.sampled_per_million", Integer(0, 1_000_000, "")),
    key("traces.queue_spans_max", Integer(1, 1_000_000, "")),
    key("traces.batch_spans_max", Integer(1, 10_000, "")),
    key("traces.interval_ms", Integer(100, 60_000, MS)),
    key("traces.timeout_ms", Integer(100, 60_000, MS)),
];

const PROVIDER: &[Key] =
    &[key("client_id", Text("1 to 128 visible ASCII characters")), key("api_key_sha256", Secret(SHA256))];

const USER: &[Key] = &[
    key("name", Text("1 to 128 characters without a colon and control characters")),
    key("password_hash", Secret("an argon2 hash in PHC form, as `hash-password` prints it")),
    key("profiles", Texts("an id of api.profiles")),
];

const PROFILE: &[Key] = &[
    key("id", Text("1 to 128 visible ASCII characters")),
    key("customer_prefixes", Texts("1 to 64 characters of A-Z, a-z, 0-9, '.', '_' and '-'")),
];

const TOKEN: &[Key] = &[
    key("client_id", Text("1 to 128 visible ASCII characters")),
    key("token_sha256", Secret(SHA256)),
    key("api_key_sha256", Secret(SHA256)),
    key("accounts", Texts("an account id: 1 to 64 characters of A-Z, a-z, 0-9, '.', '_' and '-'")),
    key("expires", Text("an RFC 3339 instant, such as \"2027-01-31T00:00:00Z\"")),
];

/// What a key wants, in the words of the error.
impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |words: &[&str]| words.iter().map(|w| format!("\"{w}\"")).collect::<Vec<_>>().join(", ");
        match self {
            Integer(min, max, unit) => write!(f, "an integer from {min} to {max}{unit}"),
            Text(what) | Secret(what) => f.write_str(what),
            Switch => f.write_str("true or false"),
            Choice(words) => write!(f, "one of {}", list(words)),
            Address => f.write_str("an address and port, such as \"127.0.0.1:8080\" or \"[::]:8080\""),
            Texts(what) => write!(f, "an array of strings, each {what}"),
            Choices(words) => write!(f, "an array of one or more of {}, each once", list(words)),
            Properties => f.write_str("a table from librdkafka's property names to strings"),
            Tables(keys, _) => {
                let names: Vec<_> = keys.iter().map(|k| k.name).collect();
                write!(f, "an array of tables with the keys {}", names.join(", "))
            }
        }
    }
}

/// The row of a full name, and for a key within an array of tables its row in there:
/// `api.users[0].name` is found as well as `zone`.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    if let Some((array, inner)) = name.split_once("].") {
        let array = array.split_once('[')?.0;
        let Kind::Tables(keys, _) = KEYS.iter().find(|k| k.name == array)?.kind else { return None };
        let inner = inner.split('[').next()?;
        return keys.iter().find(|k| k.name == inner);
    }
    let plain = name.split('[').next()?;
    KEYS.iter().find(|k| k.name == plain).or_else(|| {
        KEYS.iter().find(|k| {
            matches!(k.kind, Properties)
                && plain.strip_prefix(k.name).is_some_and(|rest| rest.starts_with('.'))
        })
    })
}
