//! The containers of `deploy/kubernetes` as plain processes: the same arguments, configuration files, secret files
//! and modes, in a folder that stands for the root of the image.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use balance_projector::ops::hash_password::argon2id;
use toml::{Table, Value};

use crate::support::{
    Folder,
    certificates::mode,
    eventually, free_port, http,
    kafka::{self, Topics},
    process::{Process, Signal},
    product, redis,
};

const PROJECTOR: &str = include_str!("../../deploy/kubernetes/base/projector.toml");
const API: &str = include_str!("../../deploy/kubernetes/base/api.example.toml");
const ACL: &str = include_str!("../../deploy/redis/users.acl");
const SECRETS: &str = "/run/secrets/balance-projector";

/// The arguments of the container.
fn arguments(role: &str) -> Vec<String> {
    let manifest = if role == "project" {
        include_str!("../../deploy/kubernetes/base/projector.yaml")
    } else {
        include_str!("../../deploy/kubernetes/base/api.yaml")
    };
    let line = manifest.lines().find_map(|line| line.trim().strip_prefix("args: ")).unwrap();
    let arguments: Vec<String> = serde_json::from_str(line).unwrap();
    assert_eq!(arguments.last().unwrap(), role);
    arguments
}

/// A root of an image with its two mounts, as the manifests mount them.
struct Root {
    folder: Folder,
    admin: SocketAddr,
}

impl Root {
    fn new(role: &str, text: &str, password: &str, adapt: impl FnOnce(&mut Table)) -> Self {
        let folder = Folder::new(role);
        let admin = loopback();
        let mut config: Table = text.parse().unwrap();
        adapt(&mut config);
        section(&mut config, "admin").insert("listen".to_owned(), admin.to_string().into());
        let root = Root { folder, admin };
        for mount in ["/etc/balance-projector", SECRETS] {
            std::fs::create_dir_all(root.at(mount)).unwrap();
        }
        // What the manifests mount is what the configuration names.
        let text = config.to_string().replace(SECRETS, root.at(SECRETS).to_str().unwrap());
        root.mounted("/etc/balance-projector/config.toml", &text);
        root.mounted(&format!("{SECRETS}/redis.password"), password);
        root
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.join(path.trim_start_matches('/'))
    }

    fn mounted(&self, path: &str, text: &str) {
        std::fs::write(self.at(path), text).unwrap();
        mode(&self.at(path), 0o440);
    }

    fn command(&self, role: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_balance-projector"));
        // Nothing comes from the environment, and no file is found beside the process.
        command.env_clear().current_dir(self.folder.path());
        for argument in arguments(role) {
            let path = argument.starts_with('/');
            command.arg(if path { self.at(&argument) } else { PathBuf::from(argument) });
        }
        command
    }

    /// Every file below the root.
    fn files(&self) -> Vec<PathBuf> {
        let (mut files, mut folders) = (Vec::new(), vec![self.folder.path().to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        files.sort();
        files
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

fn section<'a>(config: &'a mut Table, name: &str) -> &'a mut Table {
    config.entry(name).or_insert_with(|| Value::Table(Table::new())).as_table_mut().unwrap()
}

/// This machine's Redis in place of the cluster's, without its TLS, which has tests of its own.
fn on_this_redis(config: &mut Table, user: &str, redis: &redis::Server) {
    let url = redis.url().replace("redis://", &format!("redis://{user}@"));
    let redis = section(config, "redis");
    assert_eq!(redis["url"].as_str().unwrap().split('@').next(), Some(format!("rediss://{user}").as_str()));
    redis.insert("url".to_owned(), url.into());
    redis.remove("tls").unwrap();
}

fn on_this_kafka(config: &mut Table, topics: &Topics) {
    let kafka = section(config, "kafka");
    for key in ["tls", "sasl", "security", "replication_factor"] {
        kafka.remove(key).unwrap_or_else(|| panic!("{key}"));
    }
    for (key, value) in [
        ("brokers", &topics.brokers),
        ("group", &topics.group),
        ("ledger_topic", &topics.ledger),
        ("payment_topic", &topics.payment),
        ("dead_letter_topic", &topics.dead_letters),
        ("decisions_topic", &topics.decisions),
    ] {
        kafka.insert(key.to_owned(), value.clone().into());
    }
}

/// The users of the deployment, each with its password.
fn let_in(redis: &redis::Server) {
    for line in ACL.lines().filter(|line| line.starts_with("user ")) {
        let line = line.replace("-PASSWORD", "-in-a-file");
        // A selector in parentheses is one word.
        let (plain, selector) = line.split_once('(').map_or((line.as_str(), None), |(a, b)| (a, Some(b)));
        let mut words: Vec<_> =
            ["ACL", "SETUSER"].into_iter().chain(plain.split_whitespace().skip(1)).collect();
        let selector = selector.map(|text| format!("({text}"));
        words.extend(selector.as_deref());
        redis.command::<()>(&words);
    }
    redis.command::<()>(&["ACL", "SETUSER", "default", "off"]);
}

fn status(at: SocketAddr, path: &str) -> Result<u16, String> {
    http::get(at, path, &[]).map(|answer| answer.status).map_err(|e| e.to_string())
}

#[test]
fn the_containers_run_as_plain_processes_with_their_mounted_files_alone() {
    let topics = kafka::shared().topics(2);
    let redis = redis::Server::start();
    let generated = Command::new(env!("CARGO_BIN_EXE_balance-projector"))
        .args(["generate", "--events", "400", "--accounts", "20", "--customers", "10"])
        .output()
        .unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), generated.stdout).unwrap();
    let published = product::command(&topics, &redis.url(), &["publish", file.path().to_str().unwrap()]);
    assert!(published.status.success(), "{published:?}");
    let_in(&redis);

    let projector = Root::new("projector", PROJECTOR, "PROJECT-in-a-file\n", |config| {
        on_this_kafka(config, &topics);
        on_this_redis(config, "project", &redis);
    });
    let views = loopback();
    let api = Root::new("api", API, "SERVE-in-a-file\n", |config| {
        on_this_redis(config, "serve", &redis);
        let api = section(config, "api");
        api.insert("listen".to_owned(), views.to_string().into());
        api.remove("tls").unwrap();
        let users = api["users"].as_array_mut().unwrap();
        users[0]
            .as_table_mut()
            .unwrap()
            .insert("password_hash".to_owned(), argon2id("secret").unwrap().into());
        assert!(config.get("kafka").is_none(), "the read side needs no broker");
    });
    let files = [projector.files(), api.files()];

    let logs = Folder::new("logs");
    let start = |root: &Root, role: &str| Process::start(role, &mut root.command(role), &logs.join(role));
    let mut running = [start(&projector, "project"), start(&api, "serve")];
    for root in [&projector, &api] {
        eventually(Duration::from_secs(60), || match status(root.admin, "/readyz")? {
            200 => Ok(()),
            other => Err(other.to_string()),
        });
        assert_eq!(status(root.admin, "/livez"), Ok(200));
    }
    let answer = http::get(
        views,
        "/api/v1/customers/C00000000000/balance",
        &[("Request-Tracking-Id", "1"), ("Authorization", "Basic aXZyOnNlY3JldA=="), ("ProfileId", "phone")],
    );
    let answer = answer.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(status(views, "/openapi.json"), Ok(200));

    for process in &mut running {
        process.signal(Signal::Term);
        // The manifests give thirty seconds.
        assert!(process.wait(Duration::from_secs(30)).success());
    }
    // A read-only file system is enough.
    assert_eq!([projector.files(), api.files()], files);
    // One line of the log, as every line, is an object for machines.
    for role in ["project", "serve"] {
        let log = std::fs::read_to_string(logs.join(role)).unwrap();
        assert!(!log.is_empty());
        for line in log.lines() {
            let told: serde_json::Value =
                serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            assert!(told["level"].is_string() && told["timestamp"].is_string(), "{line}");
        }
        assert!(!log.contains("in-a-file"), "a password is in the log of {role}");
    }
}

#[test]
fn a_secret_that_others_may_read_stops_the_start_and_is_named() {
    let redis = redis::Server::start();
    let adapt = |config: &mut Table| {
        on_this_redis(config, "serve", &redis);
        section(config, "api").remove("tls").unwrap();
    };
    let api = Root::new("api", API, "SERVE-in-a-file\n", adapt);
    let secret = api.at(&format!("{SECRETS}/redis.password"));
    mode(&secret, 0o444);
    let output = api.command("serve").output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("redis.password_file") && told.contains(file_name(&secret)), "{told}");
}

fn file_name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}
