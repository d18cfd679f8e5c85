//! What a single value's kind does not tell: grammars, and how keys go together.

use std::{collections::BTreeSet, path::PathBuf};

use argon2::password_hash::phc::PasswordHash;
use jiff::{Timestamp, tz::TimeZone};

use super::{Api, ClientTls, Config, Fault, Kafka, KafkaSecurity, Redis, Traces};
use crate::domain::{AccountId, CustomerId};

/// Properties of librdkafka on which exactness rests: the program sets them itself.
const OWN_PROPERTIES: &[&str] = &[
    "acks",
    "allow.auto.create.topics",
    "auto.commit.enable",
    "auto.commit.interval.ms",
    "auto.offset.reset",
    "bootstrap.servers",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "isolation.level",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.send.max.retries",
    "message.timeout.ms",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "partitioner",
    "request.required.acks",
    "retries",
    "statistics.interval.ms",
    "transactional.id",
];

/// Everything that is wrong; empty where the configuration may be used.
pub(super) fn faults(config: &Config) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut want = |fits: bool, fault: Fault| {
        if !fits {
            faults.push(fault);
        }
    };
    want(TimeZone::get(&config.zone).is_ok(), Fault::wrong("zone", &config.zone));
    kafka(&config.kafka, &mut want);
    for (n, name) in config.wire.types_ignored.iter().enumerate() {
        want(is_visible(name, 256), Fault::wrong(format!("wire.types_ignored[{n}]"), name));
    }

    redis(&config.redis, &mut want);
    want(is_prefix(&config.redis.prefix), Fault::wrong("redis.prefix", &config.redis.prefix));

    want(is_level(&config.log.level), Fault::wrong("log.level", &config.log.level));
    if let Some(file) = &config.log.file {
        want(!file.as_os_str().is_empty(), Fault::wrong("log.file", file));
    }

    let (api, admin) = (config.api.listen, config.admin.listen);
    let same = api.port() == admin.port()
        && (api.ip() == admin.ip() || api.ip().is_unspecified() || admin.ip().is_unspecified());
    want(
        api.port() == 0 || !same,
        Fault::new(
            "admin.listen",
            format!("was \"{admin}\", which is taken by api.listen (\"{api}\"): they must differ"),
        ),
    );
    want(
        config.api.max_staleness_ms > config.projector.heartbeat_ms.saturating_mul(2),
        Fault::new(
            "api.max_staleness_ms",
            format!(
                "was {}, may be more than two heartbeats (projector.heartbeat_ms is {}): a shorter one is never fresh",
                config.api.max_staleness_ms, config.projector.heartbeat_ms
            ),
        ),
    );
    views(&config.api, &mut want);
    access(&config.api, &mut want);
    traces(&config.traces, &mut want);
    faults
}

/// `host:port`.
fn is_node(text: &str) -> bool {
    let text = text.trim();
    let port = text.rsplit_once(':').map(|(host, port)| (!host.is_empty(), port.parse::<u16>()));
    matches!(port, Some((true, Ok(1..)))) && !text.contains(char::is_whitespace)
}

/// A certificate goes with its key.
fn pair(
    want: &mut impl FnMut(bool, Fault),
    section: &str,
    certificate: Option<&PathBuf>,
    key: Option<&PathBuf>,
) {
    want(
        certificate.is_some() == key.is_some(),
        Fault::new(format!("{section}.key_file"), "goes with certificate_file: both are set, or neither"),
    );
}

fn redis(redis: &Redis, want: &mut impl FnMut(bool, Fault)) {
    let scheme = redis.url.starts_with("redis://") || redis.url.starts_with("rediss://");
    // `#insecure` would take any certificate.
    let url = redis::Client::open(redis.url.as_str()).is_ok() && !redis.url.contains('#');
    want(scheme && url, Fault::wrong("redis.url", &"not shown"));
    let secure = redis.url.starts_with("rediss://");
    let tls = &redis.tls;
    pair(want, "redis.tls", tls.certificate_file.as_ref(), tls.key_file.as_ref());
    want(
        secure || *tls == ClientTls::default(),
        Fault::new("redis.tls", "goes with a redis.url that begins with rediss://"),
    );
    let login = redis.url.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@'));
    want(
        redis.password_file.is_none() || !login.is_some_and(|(login, _)| login.contains(':')),
        Fault::new("redis.password_file", "may not be set beside a password in redis.url"),
    );
    let sentinel = &redis.sentinel;
    for (i, node) in sentinel.nodes.iter().enumerate() {
        want(is_node(node), Fault::wrong(format!("redis.sentinel.nodes[{i}]"), node));
    }
    want(
        sentinel.nodes.is_empty() != sentinel.primary.is_some(),
        Fault::new("redis.sentinel.primary", "goes with nodes: both are set, or neither"),
    );
}

/// Who may read view two by tokens of an issuer, and by which certificates.
fn access(api: &Api, want: &mut impl FnMut(bool, Fault)) {
    let visible = |id: &str| is_visible(id, 128);
    once(want, "api.providers", ".client_id", api.providers.iter().map(|p| p.client_id.clone()), visible);
    for (i, provider) in api.providers.iter().enumerate() {
        let key = format!("api.providers[{i}].api_key_sha256");
        want(is_sha256(&provider.api_key_sha256), Fault::wrong(key, &"not shown"));
    }
    once(want, "api.blocked", "", api.blocked.iter().cloned(), visible);

    let jwt = &api.jwt;
    let set = [&jwt.issuer, &jwt.audience, &jwt.jwks].map(Option::is_some);
    want(
        set.iter().all(|set| *set) || !set.iter().any(|set| *set),
        Fault::new("api.jwt", "has issuer, audience and jwks: all are set, or none"),
    );
    for (key, text) in [("issuer", &jwt.issuer), ("audience", &jwt.audience), ("jwks", &jwt.jwks)] {
        let empty = text.as_ref().is_some_and(String::is_empty);
        want(!empty, Fault::new(format!("api.jwt.{key}"), "was \"\", may not be empty"));
    }
    if let Some(jwks) = jwt.jwks.as_deref().filter(|jwks| jwks.contains("://")) {
        let (key, wrong) = ("api.jwt.jwks", "may be an address without a login; its value is not shown");
        // A query may be a secret: some issuers tell by it whose keys are meant.
        if jwks.contains(['@', '?']) {
            want(!jwks.contains('@') && is_address(jwks), Fault::new(key, wrong));
        } else {
            want(is_address(jwks), Fault::wrong(key, &jwks));
        }
    }
    want(
        jwt.refresh_ms_min <= jwt.refresh_ms && jwt.refresh_ms < jwt.usable_ms_max,
        Fault::new("api.jwt.refresh_ms", "may be from refresh_ms_min up, and below usable_ms_max"),
    );

    let tls = &api.tls;
    pair(want, "api.tls", tls.certificate_file.as_ref(), tls.key_file.as_ref());
    want(
        tls.client_ca_file.is_none() || tls.certificate_file.is_some(),
        Fault::new("api.tls.client_ca_file", "goes with certificate_file"),
    );
    want(
        !tls.match_organisation || tls.client_ca_file.is_some(),
        Fault::new("api.tls.match_organisation", "goes with client_ca_file"),
    );
}

/// Where spans go, and bounds that go together.
fn traces(traces: &Traces, want: &mut impl FnMut(bool, Fault)) {
    let endpoint = traces.endpoint.as_deref();
    if let Some(endpoint) = endpoint {
        bare(want, "traces.endpoint", endpoint, is_endpoint);
    }
    want(
        traces.ca_file.is_none() || endpoint.is_some_and(|endpoint| endpoint.starts_with("https://")),
        Fault::new("traces.ca_file", "goes with a traces.endpoint that begins with https://"),
    );
    let (batch, queue) = (traces.batch_spans_max, traces.queue_spans_max);
    want(
        batch <= queue,
        Fault::new(
            "traces.batch_spans_max",
            format!("was {batch}, may be at most queue_spans_max ({queue}): more are never there"),
        ),
    );
}

/// An address without a login and a query: either may be a secret, and an address is told.
fn bare(want: &mut impl FnMut(bool, Fault), key: &str, address: &str, fits: impl Fn(&str) -> bool) {
    let bare = !address.contains(['@', '?']);
    want(bare, Fault::new(key, "may have neither a login nor a query; its value is not shown"));
    want(!bare || fits(address), Fault::wrong(key, &address));
}

/// `http://` or `https://`, a host, and a path: collectors take nothing at `/`.
fn is_endpoint(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else { return false };
    matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.host().is_some_and(|host| !host.is_empty())
        && uri.port_u16() != Some(0)
        && uri.path().len() > 1
}

/// `https://…`, or `http://` of this machine.
fn is_address(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else { return false };
    let local = matches!(uri.host(), Some("127.0.0.1" | "localhost" | "[::1]"));
    let scheme = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => local,
        Some(_) | None => false,
    };
    scheme && uri.host().is_some_and(|host| !host.is_empty())
}

fn kafka(kafka: &Kafka, want: &mut impl FnMut(bool, Fault)) {
    want(kafka.brokers.split(',').all(is_node), Fault::wrong("kafka.brokers", &kafka.brokers));
    want(is_visible(&kafka.group, 249), Fault::wrong("kafka.group", &kafka.group));

    let topics = [
        ("kafka.ledger_topic", &kafka.ledger_topic),
        ("kafka.payment_topic", &kafka.payment_topic),
        ("kafka.dead_letter_topic", &kafka.dead_letter_topic),
        ("kafka.decisions_topic", &kafka.decisions_topic),
    ];
    let mut seen = BTreeSet::new();
    for (key, name) in topics {
        let grammar = (1..=249).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
            && name != "."
            && name != "..";
        want(grammar, Fault::wrong(key, name));
        want(
            seen.insert(name),
            Fault::new(key, format!("was {name:?}, which another topic's key names already")),
        );
    }

    let (tls, sasl) = (&kafka.tls, &kafka.sasl);
    pair(want, "kafka.tls", tls.certificate_file.as_ref(), tls.key_file.as_ref());
    want(
        kafka.security == KafkaSecurity::Tls || *tls == ClientTls::default(),
        Fault::new("kafka.tls", "goes with kafka.security = \"tls\""),
    );
    let set = [sasl.mechanism.is_some(), sasl.username.is_some(), sasl.password_file.is_some()];
    let whole = set.iter().all(|set| *set) || !set.iter().any(|set| *set);
    want(whole, Fault::new("kafka.sasl", "has mechanism, username and password_file: all are set, or none"));
    // What librdkafka's own properties say is their author's.
    let properties = kafka.properties.contains_key("security.protocol");
    let in_the_clear =
        sasl.mechanism.as_deref() == Some("PLAIN") && kafka.security == KafkaSecurity::Plain && !properties;
    want(
        !in_the_clear,
        Fault::new(
            "kafka.sasl.mechanism",
            "was \"PLAIN\", which shows the password to whoever listens: set kafka.security to \"tls\", or take a SCRAM mechanism",
        ),
    );

    let mut client = rdkafka::ClientConfig::new();
    for (name, value) in &kafka.properties {
        let key = format!("kafka.properties.{name}");
        if OWN_PROPERTIES.contains(&name.as_str()) {
            want(
                false,
                Fault::new(key, "may not be set: exactness rests on it, and the program sets it itself"),
            );
            continue;
        }
        client.set(name, value);
        if let Err(e) = client.create_native_config() {
            // librdkafka's text names the property and quotes its value.
            let secret = super::is_secret_property(name);
            let why = if secret { "its value is not shown".to_owned() } else { e.to_string() };
            want(false, Fault::new(key, format!("is refused by librdkafka: {why}")));
            client.remove(name);
        }
    }
}

fn views(api: &Api, want: &mut impl FnMut(bool, Fault)) {
    want(
        !api.account_base_paths.is_empty(),
        Fault::new("api.account_base_paths", "was [], may be one path or more (\"\" is one)"),
    );
    once(want, "api.account_base_paths", "", api.account_base_paths.iter().cloned(), is_base_path);
    let code = &api.currency_error_code;
    let is_code = (1..=35).contains(&code.len())
        && code.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    want(is_code, Fault::wrong("api.currency_error_code", code));

    let is_name = |name: &str| {
        (1..=128).contains(&name.chars().count()) && !name.contains(':') && !name.contains(char::is_control)
    };
    once(want, "api.users", ".name", api.users.iter().map(|u| u.name.clone()), is_name);
    once(want, "api.profiles", ".id", api.profiles.iter().map(|p| p.id.clone()), |id| is_visible(id, 128));
    for (i, user) in api.users.iter().enumerate() {
        let key = format!("api.users[{i}].password_hash");
        want(is_argon2(&user.password_hash), Fault::wrong(key, &"not shown"));
        want(
            !user.profiles.is_empty(),
            Fault::new(format!("api.users[{i}].profiles"), "was [], may be one profile or more"),
        );
        for (j, profile) in user.profiles.iter().enumerate() {
            want(
                api.profiles.iter().any(|p| &p.id == profile),
                Fault::wrong(format!("api.users[{i}].profiles[{j}]"), profile),
            );
        }
    }
    for (i, profile) in api.profiles.iter().enumerate() {
        let Some(prefixes) = &profile.customer_prefixes else { continue };
        let key = format!("api.profiles[{i}].customer_prefixes");
        want(
            !prefixes.is_empty(),
            Fault::new(&key, "was [], may be one prefix or more; left out, it is all"),
        );
        for (j, prefix) in prefixes.iter().enumerate() {
            // A prefix is the beginning of an id: "." may begin one.
            let fits = CustomerId::parse(&format!("{prefix}x")).is_ok() || CustomerId::parse(prefix).is_ok();
            want(fits && !prefix.is_empty(), Fault::wrong(format!("{key}[{j}]"), prefix));
        }
    }
    once(
        want,
        "api.tokens",
        ".token_sha256",
        api.tokens.iter().map(|t| t.token_sha256.to_ascii_lowercase()),
        is_sha256,
    );
    for (i, token) in api.tokens.iter().enumerate() {
        let key = |name: &str| format!("api.tokens[{i}].{name}");
        want(is_visible(&token.client_id, 128), Fault::wrong(key("client_id"), &token.client_id));
        want(is_sha256(&token.api_key_sha256), Fault::wrong(key("api_key_sha256"), &"not shown"));
        for (j, account) in token.accounts.iter().enumerate() {
            want(AccountId::parse(account).is_ok(), Fault::wrong(key(&format!("accounts[{j}]")), account));
        }
        if let Some(expires) = &token.expires {
            want(expires.parse::<Timestamp>().is_ok(), Fault::wrong(key("expires"), expires));
        }
    }
}

/// Every text fits and stands once.
fn once(
    want: &mut impl FnMut(bool, Fault),
    array: &str,
    member: &str,
    texts: impl Iterator<Item = String>,
    fits: impl Fn(&str) -> bool,
) {
    let mut seen = BTreeSet::new();
    for (i, text) in texts.enumerate() {
        let key = format!("{array}[{i}]{member}");
        want(fits(&text), Fault::wrong(&key, &text));
        want(seen.insert(text), Fault::new(&key, format!("stands in {array} twice")));
    }
}

fn is_visible(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_argon2(text: &str) -> bool {
    PasswordHash::new(text).is_ok_and(|hash| {
        hash.algorithm.as_str().starts_with("argon2") && hash.salt.is_some() && hash.hash.is_some()
    })
}

fn is_base_path(path: &str) -> bool {
    let segment = |s: &str| {
        !s.is_empty()
            && s != "."
            && s != ".."
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'~'))
    };
    path.is_empty() || path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(segment))
}

/// One hash tag that holds something, so that every key lies in one slot.
fn is_prefix(prefix: &str) -> bool {
    let tag = prefix.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    is_visible(prefix, 64)
        && tag.is_some_and(|(tag, rest)| !tag.is_empty() && !tag.contains('{') && !rest.contains(['{', '}']))
}

/// `level`, or several `target=level` after commas.
fn is_level(text: &str) -> bool {
    let level = |word: &str| ["error", "warn", "info", "debug", "trace", "off"].contains(&word);
    let target = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':' | b'-'))
    };
    text.split(',').all(|part| match part.trim().split_once('=') {
        None => level(part.trim()),
        Some((name, word)) => target(name) && level(word),
    })
}
