//! Redis by TLS, as users with no more than their role needs, and behind sentinels.

use std::{path::Path, process::Command, time::Duration};

use balance_projector::{
    config::{self, ClientTls, Sentinel},
    domain::{AccountId, Checkpoint, Class, CustomerId, Offset, PartitionId, Subject, Time, Topic},
    store::{
        CountStore as _, Derived, Generation, Quarantine, Quota, ReadStore as _, StoreError, WriteStore as _,
        keys::Name,
        redis::{RedisStore, seed::Planted},
    },
};

use crate::support::{
    Folder,
    certificates::{Authority, secret},
    eventually, free_port,
    process::Process,
    redis::Server,
};

const G1: Generation = Generation(1);
const L0: PartitionId = PartitionId { topic: Topic::Ledger, partition: 0 };

fn settings(url: &str) -> config::Redis {
    config::Redis { url: url.to_owned(), ..config::Redis::default() }
}

fn corrupt(answer: Result<(), StoreError>) -> String {
    match answer {
        Err(StoreError::Corrupt { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

/// The rules that the documentation gives a user.
pub fn rules(user: &str) -> Vec<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/redis/users.acl");
    let text = std::fs::read_to_string(file).expect("deploy/redis/users.acl");
    let prefix = format!("user {user} on >");
    let line = text.lines().find_map(|line| line.strip_prefix(&prefix)).expect("the user's line");
    let (_password, rules) = line.split_once(' ').expect("rules");
    // A selector is one rule, whatever spaces it holds.
    let (plain, selector) = rules.split_once(" (").map_or((rules, None), |(p, s)| (p, Some(format!("({s}"))));
    plain.split(' ').map(str::to_owned).chain(selector).collect()
}

/// A store as a user of this name with these rules.
fn store(server: &Server, name: &str, rules: &[String]) -> RedisStore {
    let mut words = vec!["ACL", "SETUSER", name, "reset", "on", ">secret"];
    words.extend(rules.iter().map(String::as_str));
    server.command::<()>(&words);
    RedisStore::new(&settings(&server.url().replace("redis://", &format!("redis://{name}:secret@"))))
        .expect("a store")
}

fn quota() -> Quota {
    Quota {
        day: "2019-01-06".to_owned(),
        caller: "tpp".to_owned(),
        account: AccountId::parse("A").expect("an id"),
    }
}

/// All that the read side does.
async fn reads(store: &RedisStore) -> Result<(), StoreError> {
    store.healthy().await?;
    store.account(&AccountId::parse("A").expect("an id")).await?.expect("a generation");
    store.customer(&CustomerId::parse("C").expect("an id")).await?.expect("a generation");
    store.live().await?;
    store.quarantined(L0).await?;
    store.take(&quota(), 1_000, true).await.map(|_| ())
}

/// A server with a generation, and something of every kind that a read looks at.
async fn filled() -> Server {
    let server = Server::start();
    let writer = store(&server, "project", &rules("project"));
    writer.check(true).await.expect("the permissions of deploy/redis/users.acl");
    writer.bear(G1, &[(L0, Offset(0))]).await.expect("born");
    writer.activate(None, G1).await.expect("active");
    server
}

#[tokio::test]
async fn each_user_has_what_its_role_needs() {
    let server = filled().await;
    let reader = store(&server, "serve", &rules("serve"));
    assert_eq!(reads(&reader).await, Ok(()));
    // A reader cannot write what it reads, and a writer does not see who reads.
    corrupt(reader.bear(G1, &[(L0, Offset(7))]).await);
    let writer = store(&server, "project", &rules("project"));
    let counted = writer.take(&quota(), 1_000, true).await;
    assert!(matches!(counted, Err(StoreError::Corrupt { .. })), "{counted:?}");
    // Commands that end a generation are an operator's.
    let operator = store(&server, "operate", &rules("operate"));
    operator.enlist(G1, "log").await.expect("listed");
    operator.strike(G1).await.expect("struck");
    operator.dump(G1).await.expect("every key");
    operator.footprint(G1).await.expect("a sample");
    operator.remove_positions(Generation(7)).await.expect("removed");
    // What serves to find others, and a generation that is filled from a snapshot.
    let (customer, account) = (CustomerId::parse("C").expect("an id"), AccountId::parse("A").expect("an id"));
    let entries = [
        Derived::Owing { customer: customer.clone(), account: account.clone() },
        Derived::Told { customer: customer.clone(), account: account.clone(), partition: L0 },
    ];
    let keys = [Subject::Account(account.clone())];
    operator.beside_with([G1], &keys, &entries).await.expect("derived entries");
    let names = [Name::Owing(customer.clone()), Name::DueQuarantine(customer.clone())];
    operator.derived(G1, &names).await.expect("derived entries");
    let import = operator.import(Generation(7)).await.expect("a mark").expect("nobody else imports");
    import.clear().await.expect("deleted");
    let since = Time::from_millis(0);
    let (offset, class) = (Offset(3), Class::NotJson);
    let mark = Quarantine { partition: L0, offset, class, since, waiting: 0, heals: false };
    let subject = Subject::Account(account);
    let (cell, quarantines, dues) = (Some(vec![1]), vec![mark], vec![(customer, vec![2])]);
    import.plant(&[Planted { subject, cell, quarantines, dues }]).await.expect("planted");
    import.place(&[(L0, Checkpoint::born(Offset(7)))]).await.expect("placed");
    // A rebuild looks at what a generation takes; none ends one.
    writer.footprint(G1).await.expect("a sample");
    corrupt(writer.remove_positions(Generation(7)).await);
}

/// Not by each read that fails, but by what everybody is told who asks whether all is well.
#[tokio::test]
async fn a_permission_that_readers_lack_is_found_without_a_read() {
    let server = filled().await;
    for lacks in ["+mget", "+exists", "+multi", "+exec", "+hgetall"] {
        let fewer: Vec<String> = rules("serve").into_iter().filter(|rule| rule != lacks).collect();
        let answer = store(&server, &format!("lacks{}", &lacks[1..]), &fewer).healthy().await;
        let reason = corrupt(answer);
        assert!(reason.contains("lacks a permission"), "{lacks}: {reason}");
    }
}

#[tokio::test]
async fn a_permission_that_is_missing_shows_as_such() {
    let server = filled().await;
    let mut tried = 0;
    for (user, starts) in [("project", true), ("serve", false)] {
        let all = rules(user);
        for (at, rule) in all.iter().enumerate() {
            // Those that a rehearsal on an empty store does not come to.
            let unseen = ["resetkeys", "-@all", "~{bp}:live", "~{bp}:g*", "~{bp}:active", "+hvals", "+scan"];
            if unseen.contains(&rule.as_str()) {
                continue;
            }
            let mut fewer = all.clone();
            fewer.remove(at);
            let store = store(&server, &format!("{user}-{at}"), &fewer);
            let answer = match store.check(true).await {
                Ok(()) if starts => store.trust(G1).await,
                checked if starts => checked,
                _ => reads(&store).await,
            };
            let reason = corrupt(answer);
            assert!(reason.contains("lacks a permission"), "{user} without {rule}: {reason}");
            tried += 1;
        }
    }
    assert!(tried > 20, "{tried} rules were tried");
}

#[tokio::test]
async fn tls_takes_the_configured_authority_and_the_servers_takes_ours() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let identity = authority.issue("redis", "Bank");
    let text = |path: &Path| path.to_str().expect("a path").to_owned();
    let port = free_port();
    let server = Server::with(&[
        "--maxmemory-policy",
        "noeviction",
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &text(&identity.certificate),
        "--tls-key-file",
        &text(&identity.key),
        "--tls-ca-cert-file",
        &text(&authority.file),
        "--tls-auth-clients",
        "yes",
    ]);
    server.command::<()>(&["ACL", "SETUSER", "app", "on", ">from a file", "~*", "+@all"]);
    let folder = Folder::new("password");
    let password = folder.join("password");
    secret(&password, "from a file\n");
    let url = format!("rediss://app@localhost:{port}/");
    let with = |ca: &Authority, who: Option<&balance_projector::tls::Identity>| {
        let tls = ClientTls {
            ca_file: Some(ca.file.clone()),
            certificate_file: who.map(|who| who.certificate.clone()),
            key_file: who.map(|who| who.key.clone()),
        };
        config::Redis { tls, password_file: Some(password.clone()), ..settings(&url) }
    };
    let client = authority.issue("client", "Bank");
    let expired = authority.issue_until("expired", "Bank", 2001);
    let foreign = stranger.issue("foreign", "Bank");
    let good = RedisStore::new(&with(&authority, Some(&client))).expect("a store");
    assert_eq!(good.check(true).await, Ok(()));
    let rows = [
        ("a server of another authority", with(&stranger, Some(&client))),
        ("no certificate", with(&authority, None)),
        ("a certificate that has ended", with(&authority, Some(&expired))),
        ("another authority's certificate", with(&authority, Some(&foreign))),
        ("no TLS", config::Redis { tls: ClientTls::default(), ..settings(&url.replace("rediss", "redis")) }),
    ];
    for (name, settings) in rows {
        let answer = RedisStore::new(&settings).expect("a store").check(false).await;
        assert!(matches!(answer, Err(StoreError::Transient { .. })), "{name}: {answer:?}");
    }
    // A password that changed is read with the next connection.
    secret(&password, "another\n");
    let stale = RedisStore::new(&with(&authority, Some(&client))).expect("a store");
    assert!(corrupt(stale.check(false).await).contains("user or the password"));
    server.command::<()>(&["ACL", "SETUSER", "app", ">another"]);
    assert_eq!(stale.check(false).await, Ok(()));
    crate::support::certificates::mode(&password, 0o644);
    let error = RedisStore::new(&with(&authority, Some(&client))).err().expect("is refused").to_string();
    assert!(error.contains("others may use it"), "{error}");
}

/// How many replicas a sentinel knows.
pub fn replicas(node: u16) -> usize {
    let url = format!("redis://127.0.0.1:{node}/");
    let connection = redis::Client::open(url).and_then(|client| client.get_connection());
    let Ok(mut sentinel) = connection else { return 0 };
    let mut ask = redis::cmd("SENTINEL");
    ask.arg("REPLICAS").arg("balances").query(&mut sentinel).map_or(0, |known: Vec<Vec<String>>| known.len())
}

/// A sentinel that knows one primary.
pub fn sentinel(primary: &Server) -> (Folder, u16, Process) {
    let folder = Folder::new("sentinel");
    let (port, file) = (free_port(), folder.join("sentinel.conf"));
    let at = primary.port();
    let text = format!(
        "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor balances 127.0.0.1 {at} 1\n\
         sentinel down-after-milliseconds balances 500\nsentinel failover-timeout balances 3000\n",
        folder.path().display()
    );
    std::fs::write(&file, text).expect("a file");
    let mut command = Command::new("redis-server");
    command.arg(&file).arg("--sentinel");
    let process = Process::start("sentinel", &mut command, &folder.join("log"));
    (folder, port, process)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_primary_is_found_by_a_sentinel_and_followed_when_it_fails_over() {
    let mut primary = Server::start();
    let port = primary.port();
    let replica = Server::with(&["--maxmemory-policy", "noeviction", "--replicaof", "127.0.0.1", &port]);
    let (_folder, node, _process) = sentinel(&primary);
    let store = RedisStore::new(&config::Redis {
        // The first node does not answer; the second does.
        sentinel: Sentinel {
            nodes: vec![format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{node}")],
            primary: Some("balances".to_owned()),
            ..Sentinel::default()
        },
        ..settings("redis://nowhere:1/")
    })
    .expect("a store");
    let found = async || {
        for _ in 0..600 {
            match store.check(false).await {
                Ok(()) => return,
                Err(StoreError::Transient { .. }) => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(other) => panic!("{other}"),
            }
        }
        panic!("no primary within 30 s");
    };
    found().await;
    store.activate(None, G1).await.expect("active");
    eventually(Duration::from_secs(30), || {
        match replica.command::<Option<String>>(&["GET", "{bp}:active"]) {
            Some(held) if held == "1" => Ok(()),
            other => Err(other),
        }
    });
    eventually(Duration::from_secs(30), || match replicas(node) {
        1 => Ok(()),
        known => Err(known),
    });
    primary.kill();
    found().await;
    assert_eq!(store.active().await, Ok(Some(G1)));
    assert_eq!(store.activate(Some(G1), Generation(2)).await, Ok(true));
    assert_eq!(
        replica.command::<String>(&["GET", "{bp}:active"]),
        "2",
        "what was the replica is written now"
    );
    let unknown = RedisStore::new(&config::Redis {
        sentinel: Sentinel {
            nodes: vec![format!("127.0.0.1:{node}")],
            primary: Some("others".to_owned()),
            ..Sentinel::default()
        },
        ..settings("redis://nowhere:1/")
    });
    let answer = unknown.expect("a store").check(false).await;
    assert!(
        matches!(&answer, Err(StoreError::Transient { reason }) if reason.contains("others")),
        "{answer:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sentinel_that_is_silent_keeps_nobody_from_the_next_one() {
    let primary = Server::start();
    let (_folder, node, _process) = sentinel(&primary);
    // It takes connections, and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = silent.local_addr().expect("an address");
    let store = RedisStore::new(&config::Redis {
        sentinel: Sentinel {
            nodes: vec![at.to_string(), format!("127.0.0.1:{node}")],
            primary: Some("balances".to_owned()),
            ..Sentinel::default()
        },
        ..settings("redis://nowhere:1/")
    })
    .expect("a store");
    // As readers sample: nothing else dials for them. A bound, for it must come to an end.
    let sampled = async {
        while store.live().await.is_err() {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), sampled).await.expect("a sample");
    store.healthy().await.expect("a store to be believed");
}
