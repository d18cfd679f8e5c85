//! The example is complete and right, and every wrong setting is named.

use std::{collections::BTreeSet, ffi::OsString};

use super::{keys::KEYS, *};

const EXAMPLE: &str = include_str!("../../balance-projector.example.toml");

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
        ("[api]\nlisten = \"localhost:80\"", "api.listen was \"localhost:80\", may be an address and port"),
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
        ("[api]\nmax_staleness_ms = 1000", "api.max_staleness_ms was 1000, may be more than two heartbeats"),
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
        ("[[api.profiles]]\nid = \"p\"\ncustomer_prefixes = []", "api.profiles[0].customer_prefixes was []"),
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
        (
            "[kafka.sasl]\nmechanism = \"PLAIN\"\nusername = \"u\"\npassword_file = \"f\"",
            "kafka.sasl.mechanism was \"PLAIN\", which shows the password to whoever listens",
        ),
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
        ("[api.jwt]\nleeway_s = 301", "api.jwt.leeway_s was 301, may be an integer from 0 to 300 (seconds)"),
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
        ("[traces]\nendpoint = \"http://collector:4318\"", "traces.endpoint was \"http://collector:4318\""),
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
    assert_eq!(faults(&profiles, &[]), ["api.users[0].profiles[0] was \"p\", may be an id of api.profiles"]);
}

#[test]
fn a_wrong_variable_is_refused_with_its_name() {
    let rows = [
        ("BALANCE_PROJECTOR__KAFKA__BROKER", "x", "BALANCE_PROJECTOR__KAFKA__BROKER names no key"),
        ("BALANCE_PROJECTOR__kafka__brokers", "a:1", "BALANCE_PROJECTOR__kafka__brokers names no key"),
        ("BALANCE_PROJECTOR__KAFKA", "{}", "BALANCE_PROJECTOR__KAFKA names no key"),
        ("BALANCE_PROJECTOR_KAFKA__BROKERS", "x", "a key's variable begins with BALANCE_PROJECTOR__"),
        ("BALANCE_PROJECTOR__GENERATION", "two", "generation was \"two\", may be an integer"),
        ("BALANCE_PROJECTOR__GENERATION", "0", "generation was 0, may be an integer"),
        ("BALANCE_PROJECTOR__API__BALANCE_TYPES", "PRCD", "api.balance_types was \"PRCD\", may be an array"),
        ("BALANCE_PROJECTOR__KAFKA__PROPERTIES__GROUP_ID", "x", "kafka.properties.group.id may not be set"),
    ];
    for (name, value, expected) in rows {
        let error = load("", &[(name, value)]).err().expect("is refused");
        let text = error.to_string();
        assert!(text.contains(expected) && text.contains(name), "{name}={value} gave {text}");
        // The file has no part in it.
        assert!(!text.contains("set in /"), "{name}={value} gave {text}");
    }
    let of_kubernetes =
        [("BALANCE_PROJECTOR_SERVICE_HOST", "10.0.0.1"), ("BALANCE_PROJECTOR_PORT", "tcp://")];
    assert!(load("", &of_kubernetes).is_ok());
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
        "[api.jwt]\nissuer = \"i\"\naudience = \"a\"\njwks = \"https://u:hunter2@h/jwks\"",
        "[api.jwt]\nissuer = \"i\"\naudience = \"a\"\njwks = \"http://h/jwks?apikey=hunter2\"",
        "[api]\ntokens = [{ client_id = \"t\", token_sha256 = \"hunter2\", api_key_sha256 = \"hunter2\", accounts = [] }]",
    ];
    for text in rows {
        let error = load(text, &[]).err().expect("is refused").to_string();
        assert!(!error.contains("hunter2"), "{text} gave {error}");
    }
    for section in ["USERS", "TOKENS", "PROVIDERS"] {
        let name = format!("BALANCE_PROJECTOR__API__{section}");
        for value in ["[{ name = \"hunter2\"", "hunter2", "\"hunter2\""] {
            let error = load("", &[(&name, value)]).err().expect("is refused").to_string();
            assert!(error.contains(&name) && !error.contains("hunter2"), "{name}={value} gave {error}");
        }
    }
}

#[test]
fn what_is_printed_masks_every_secret() {
    let text = format!(
        "[redis]\nurl = \"redis://user:hunter2@h:1/3\"\n[kafka.properties]\n\"sasl.password\" = \"hunter2\"\n\
         [api.jwt]\nissuer = \"i\"\naudience = \"a\"\njwks = \"https://h/keys?app=hunter2\"\n\
         [[api.profiles]]\nid = \"p\"\n[[api.users]]\nname = \"u\"\npassword_hash = \"{HASH}\"\nprofiles = [\"p\"]\n\
         [[api.tokens]]\nclient_id = \"t\"\ntoken_sha256 = \"{0}\"\napi_key_sha256 = \"{0}\"\naccounts = []",
        "ab".repeat(32)
    );
    let printed = toml::to_string(&load(&text, &[]).unwrap().masked()).unwrap();
    for secret in ["hunter2", "argon2id", "abab"] {
        assert!(!printed.contains(secret), "{printed}");
    }
    assert!(
        printed.contains("redis://user:***@h:1/3") && printed.contains("https://h/keys?***"),
        "{printed}"
    );
}

#[test]
fn both_listeners_may_take_a_free_port() {
    assert!(load("[api]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"", &[]).is_ok());
}
