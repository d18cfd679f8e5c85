//! Kafka by TLS and SASL, with no more permissions than deploy/kafka/acls names.

use std::{collections::BTreeSet, path::Path, time::Duration};

use balance_projector::{
    config::{self, ClientTls, KafkaSecurity, Sasl},
    source::{self, Cluster},
    tls::Identity,
};
use rdkafka::consumer::Consumer as _;

use crate::support::{
    Folder,
    certificates::{Authority, secret},
    eventually, free_port, http,
    kafka::{Broker, Topics, tool},
    oracle,
    produce::{Outgoing, Partitioner, Producer},
    product::{self, Product, Settings},
    redis::Server,
};

const PASSWORD: &str = "a password of tests";

/// A broker that is spoken to by SASL over TLS, by certificates, and in the clear by its administrator.
struct Secured {
    broker: Broker,
    authority: Authority,
    sasl: u16,
    certificates: u16,
}

fn secured() -> Secured {
    let authority = Authority::new();
    let server = authority.issue("kafka", "Bank");
    let read = |path: &Path| std::fs::read_to_string(path).expect("a file");
    let folder = Folder::new("keystore");
    let keystore = folder.join("kafka.pem");
    secret(&keystore, &format!("{}{}", read(&server.key), read(&server.certificate)));
    let (sasl, certificates) = (free_port(), free_port());
    let login = "org.apache.kafka.common.security";
    let broker = Broker::start_by(|port, controller| {
        let at = |name: &str, port: u16| format!("{name}://127.0.0.1:{port}");
        let outside = [at("PLAINTEXT", port), at("SASL_SSL", sasl), at("SSL", certificates)].join(",");
        let inside = at("CONTROLLER", controller);
        [
            ("listeners", format!("{outside},{inside}")),
            ("advertised.listeners", outside),
            (
                "listener.security.protocol.map",
                "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL".to_owned(),
            ),
            ("ssl.keystore.type", "PEM".to_owned()),
            ("ssl.keystore.location", keystore.display().to_string()),
            ("ssl.truststore.type", "PEM".to_owned()),
            ("ssl.truststore.location", authority.file.display().to_string()),
            ("listener.name.ssl.ssl.client.auth", "required".to_owned()),
            ("ssl.principal.mapping.rules", "RULE:^.*CN=([a-z]+).*$/$1/,DEFAULT".to_owned()),
            ("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512".to_owned()),
            (
                "listener.name.sasl_ssl.plain.sasl.jaas.config",
                format!("{login}.plain.PlainLoginModule required user_project=\"{PASSWORD}\" user_publisher=\"{PASSWORD}\" user_operate=\"{PASSWORD}\";"),
            ),
            (
                "listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config",
                format!("{login}.scram.ScramLoginModule required;"),
            ),
            (
                "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config",
                format!("{login}.scram.ScramLoginModule required;"),
            ),
            ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer".to_owned()),
            ("super.users", "User:ANONYMOUS".to_owned()),
            // What is asked for, and what grants it, is written to the broker's log.
            ("log4j2.logger.access.name", "kafka.authorizer.logger".to_owned()),
            ("log4j2.logger.access.level", "DEBUG".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    });
    let address = broker.address();
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let add = format!("{mechanism}=[password={PASSWORD}]");
        let words = ["--bootstrap-server", &address, "--alter", "--add-config", &add];
        tool(
            "kafka.admin.ConfigCommand",
            &[&words[..], &["--entity-type", "users", "--entity-name", "project"]].concat(),
        );
    }
    // Read when the broker started; kept as long as the tests.
    std::mem::forget(folder);
    Secured { broker, authority, sasl, certificates }
}

/// Grants what the documentation grants, on the topics and the group of this test; gives each permission as
/// user, operation and resource.
fn grant(broker: &Broker, topics: &Topics) -> BTreeSet<(String, String, String)> {
    let mut granted = BTreeSet::new();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kafka/acls");
    for line in std::fs::read_to_string(file).expect("deploy/kafka/acls").lines() {
        let address = broker.address();
        let mut words = vec!["--bootstrap-server", &address, "--add", "--force"];
        words.extend(line.split(' ').map(|word| match word {
            "ledger.events" => topics.ledger.as_str(),
            "payment.events" => topics.payment.as_str(),
            "projection.decisions" => topics.decisions.as_str(),
            "projection.dead-letters" => topics.dead_letters.as_str(),
            "balance-projector" => topics.group.as_str(),
            other => other,
        }));
        tool("org.apache.kafka.tools.AclCommand", &words);
        let of = |option: &str| -> Vec<String> {
            let values = words.windows(2).filter(|pair| pair[0] == option);
            values
                .map(|pair| {
                    pair[1].replace("User:", "").to_uppercase().replace("DESCRIBECONFIGS", "DESCRIBE_CONFIGS")
                })
                .collect()
        };
        for (user, operation) in of("--allow-principal").iter().zip(std::iter::repeat(of("--operation"))) {
            for operation in operation {
                for resource in of("--topic").into_iter().chain(of("--group")) {
                    granted.insert((user.clone(), operation.clone(), resource));
                }
            }
        }
    }
    granted
}

/// The permissions that a request was granted by, and whatever was denied, of the broker's log.
fn used(log: &str) -> (BTreeSet<(String, String, String)>, Vec<String>) {
    let (mut used, mut denied) = (BTreeSet::new(), Vec::new());
    let known = |line: &&str| {
        ["project", "publisher", "operate"]
            .iter()
            .any(|user| line.contains(&format!("Principal = User:{user} ")))
    };
    for line in log.lines().filter(known) {
        if line.contains(" is Denied ") {
            denied.push(line.to_owned());
        }
        let Some((_, rule)) = line.split_once("StandardAcl") else { continue };
        let field = |name: &str| {
            let (_, rest) = rule.split_once(&format!("{name}=")).expect("a field");
            rest.split([',', ')', ']']).next().unwrap_or_default().replace("User:", "").to_uppercase()
        };
        used.insert((field("principal"), field("operation"), field("resourceName")));
    }
    (used, denied)
}

fn settings(
    port: u16,
    authority: &Authority,
    identity: Option<&Identity>,
    sasl: Option<(&str, &Path)>,
) -> config::Kafka {
    config::Kafka {
        brokers: format!("127.0.0.1:{port}"),
        security: KafkaSecurity::Tls,
        tls: ClientTls {
            ca_file: Some(authority.file.clone()),
            certificate_file: identity.map(|identity| identity.certificate.clone()),
            key_file: identity.map(|identity| identity.key.clone()),
        },
        sasl: sasl.map_or_else(Sasl::default, |(mechanism, file)| Sasl {
            mechanism: Some(mechanism.to_owned()),
            username: Some("project".to_owned()),
            password_file: Some(file.to_owned()),
        }),
        ..config::Kafka::default()
    }
}

fn answers(settings: config::Kafka) -> bool {
    let Ok(client) = Cluster::new(settings).inquirer("read_committed") else { return false };
    client.fetch_metadata(None, Duration::from_secs(4)).is_ok_and(|metadata| !metadata.brokers().is_empty())
}

#[test]
fn the_write_side_works_by_tls_and_sasl_with_the_documented_permissions() {
    let Secured { broker, authority, sasl, certificates } = &secured();
    let stranger = Authority::new();
    let client = authority.issue("project", "Bank");
    let foreign = stranger.issue("project", "Bank");
    let expired = authority.issue_until("expired", "Bank", 2001);
    let folder = Folder::new("passwords");
    let (password, wrong) = (folder.join("right"), folder.join("wrong"));
    secret(&password, PASSWORD);
    secret(&wrong, "another");

    let ways = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
    for mechanism in ways {
        // What was set a moment ago may take one to reach the listener.
        eventually(Duration::from_secs(30), || {
            let way = settings(*sasl, authority, None, Some((mechanism, &password)));
            if answers(way) { Ok(()) } else { Err(mechanism) }
        });
        assert!(!answers(settings(*sasl, authority, None, Some((mechanism, &wrong)))), "{mechanism}");
    }
    assert!(answers(settings(*certificates, authority, Some(&client), None)));
    let rows = [
        ("a server of another authority", settings(*sasl, &stranger, None, Some(("PLAIN", &password)))),
        ("no login", settings(*sasl, authority, None, None)),
        ("no certificate", settings(*certificates, authority, None, None)),
        ("another authority's certificate", settings(*certificates, authority, Some(&foreign), None)),
        ("a certificate that has ended", settings(*certificates, authority, Some(&expired), None)),
        (
            "no TLS",
            config::Kafka {
                security: KafkaSecurity::Plain,
                tls: ClientTls::default(),
                ..settings(*sasl, authority, None, Some(("PLAIN", &password)))
            },
        ),
    ];
    for (name, settings) in rows {
        assert!(!answers(settings), "{name}");
    }

    let topics = broker.topics(1);
    let granted = grant(broker, &topics);
    let server = Server::start();
    let tls = format!("[kafka.tls]\nca_file = {:?}\n", authority.file);
    let settings_of = |user: &str, password: &Path| {
        let mut settings = Settings { kafka: "security = \"tls\"\n".to_owned(), ..Settings::default() };
        settings.properties.push_str(&format!(
            "{tls}[kafka.sasl]\nmechanism = \"PLAIN\"\nusername = {user:?}\npassword_file = {password:?}\n"
        ));
        settings
    };
    let secured = Topics { brokers: format!("127.0.0.1:{sasl}"), ..topics.clone() };
    let fails = |user: &str, password: &Path, words: &[&str], says: &str| {
        let told = product::command_with(&secured, &server.url(), &settings_of(user, password), words);
        let text = [told.stdout.as_slice(), &told.stderr].map(String::from_utf8_lossy).concat();
        assert!(!told.status.success() && text.contains(says), "{words:?}: {told:?}");
    };
    // A broker that refuses the password answers nothing.
    let event = folder.join("event");
    let example = include_str!("../../../schemas/examples/accept/ledger.entry.booked.v1.json");
    std::fs::write(&event, example.replace('\n', "")).expect("a file");
    for words in [&["status"][..], &["publish", event.to_str().expect("a path")]] {
        fails("project", &wrong, words, "Invalid username or password");
    }
    let waits = Product::start("project", &secured, &server.url(), &settings_of("project", &wrong));
    eventually(Duration::from_secs(60), || {
        let told = http::get(waits.admin, "/readyz", &[]).map_err(|error| error.to_string())?;
        if told.status == 503 && told.body.contains("Invalid username or password") {
            Ok(())
        } else {
            Err(told.body)
        }
    });
    assert!(waits.stop().success());
    // Nobody may create topics: it is said what they must be.
    let says = format!("topic {} does not exist, and this user may not create it", topics.decisions);
    fails("project", &password, &["project"], &says);
    for name in [&topics.dead_letters, &topics.decisions] {
        let keep = [("cleanup.policy", "delete"), ("retention.ms", "-1"), ("retention.bytes", "-1")];
        broker.create_topic(name, 1, &keep);
    }
    let before = broker.log().len();
    let by_password = format!(
        "{tls}[kafka.sasl]\nmechanism = \"SCRAM-SHA-512\"\nusername = \"project\"\npassword_file = {password:?}\n"
    );
    let by_certificate =
        format!("{tls}certificate_file = {:?}\nkey_file = {:?}\n", client.certificate, client.key);
    let producer = Producer::new(broker, Partitioner::Java);
    for (set_aside, (port, sections)) in
        [(*sasl, by_password), (*certificates, by_certificate)].into_iter().enumerate()
    {
        let mut settings = Settings { kafka: "security = \"tls\"\n".to_owned(), ..Settings::default() };
        settings.properties.push_str(&sections);
        let secured = Topics { brokers: format!("127.0.0.1:{port}"), ..topics.clone() };
        let product = Product::start("run", &secured, &server.url(), &settings);
        product.ready();
        // A record that cannot be read is written to the topic of dead letters.
        producer.put(&Outgoing {
            topic: topics.ledger.clone(),
            partition: Some(0),
            key: Some(format!("key-{set_aside}").into_bytes()),
            value: Some(b"nonsense".to_vec()),
            ..Outgoing::default()
        });
        eventually(Duration::from_secs(30), || {
            let found = oracle::read(broker, &topics.dead_letters, 1).remove(0).len();
            if found == set_aside + 1 { Ok(()) } else { Err(found) }
        });
        assert!(product.stop().success());
    }

    // Whoever looks at what is on hold, and decides.
    let asks = |words: &[&str], exit: i32, says: &str| {
        let told = product::command_with(&secured, &server.url(), &settings_of("operate", &password), words);
        let text = String::from_utf8_lossy(&told.stdout);
        assert!(told.status.code() == Some(exit) && text.contains(says), "{words:?}: {told:?}");
    };
    asks(&["status"], 1, "key-1");
    asks(&["dead-letters", "list"], 0, "key-1");
    asks(&["explain", "account", "key-1"], 0, "agrees");
    asks(&["audit"], 0, "");
    // The partition's owner applies it once it runs again.
    let skip =
        ["redrive", "--all", "--skip", "--reason", "of no use", "--wait", "0", "--yes", "--as", "jana"];
    asks(&skip, 1, "recorded: 2 records decided");

    // A rebuild runs with the rights of the write side, in Redis too.
    let mut user = vec!["ACL", "SETUSER", "default", "reset", "on", "nopass"];
    let rules = super::redis::rules("project");
    user.extend(rules.iter().map(String::as_str));
    server.command::<()>(&user);
    let words = ["rebuild", "start", "--yes", "--as", "jana"];
    let rebuild = Product::start_with(&words, &secured, &server.url(), &settings_of("project", &password));
    eventually(Duration::from_secs(60), || {
        let log = rebuild.process.log();
        if log.contains("generation 2 is complete") { Ok(()) } else { Err(log) }
    });
    assert!(rebuild.stop().success());

    // A publisher of events, by the way of those of decisions.
    let publishing = settings(*sasl, authority, None, Some(("PLAIN", &password)));
    let publishing = config::Kafka {
        sasl: Sasl { username: Some("publisher".to_owned()), ..publishing.sasl.clone() },
        ..publishing
    };
    let publisher = source::producer::Producer::new(&Cluster::new(publishing)).expect("a producer");
    for topic in [&topics.ledger, &topics.payment] {
        let record = source::producer::Outgoing {
            topic: topic.clone(),
            key: Some(b"key".to_vec()),
            value: Some(b"nonsense".to_vec()),
            headers: Vec::new(),
        };
        futures::executor::block_on(publisher.write(&record)).expect("written");
    }
    let (used, denied) = used(&broker.log()[before..]);
    assert!(denied.is_empty(), "a permission is missing: {denied:#?}");
    let needless: Vec<_> = granted.difference(&used).collect();
    assert!(needless.is_empty(), "a permission is needless: {needless:#?}");

    // A dead letter that may not be written stops its partition, which says so, and goes on once it may.
    let project = Product::start("project", &secured, &server.url(), &settings_of("project", &password));
    eventually(Duration::from_secs(60), || {
        let told = http::get(project.admin, "/readyz", &[]).map_err(|error| error.to_string())?;
        if told.status == 200 { Ok(()) } else { Err(told.body) }
    });
    let address = broker.address();
    let may_write = |change: &str| {
        let whose = ["--allow-principal", "User:project", "--operation", "Write"];
        let of = ["--topic", &topics.dead_letters, "--bootstrap-server", &address, change, "--force"];
        tool("org.apache.kafka.tools.AclCommand", &[&whose[..], &of].concat());
    };
    may_write("--remove");
    producer.put(&Outgoing {
        topic: topics.ledger.clone(),
        partition: Some(0),
        key: Some(b"key-2".to_vec()),
        value: Some(b"nonsense".to_vec()),
        ..Outgoing::default()
    });
    eventually(Duration::from_secs(60), || {
        let told = http::get(project.admin, "/readyz", &[]).map_err(|error| error.to_string())?;
        let says = ["ledger/0 is not folded: a dead letter", "was not acknowledged"];
        if told.status == 503 && says.iter().all(|says| told.body.contains(says)) {
            Ok(())
        } else {
            Err(told.body)
        }
    });
    let written = || oracle::read(broker, &topics.dead_letters, 1).remove(0).len();
    let before = written();
    may_write("--add");
    eventually(Duration::from_secs(60), || {
        let told = http::get(project.admin, "/readyz", &[]).map_err(|error| error.to_string())?;
        let now = written();
        if told.status == 200 && now > before { Ok(()) } else { Err(format!("{now}: {}", told.body)) }
    });
    assert!(project.stop().success());

    // Who lacks one is told so, and does not wait for another answer.
    fails("publisher", &password, &["project"], &format!("denies topic {}", topics.decisions));
}
