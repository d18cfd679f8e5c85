//! The product's own binary with a generated configuration.

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::{Command, ExitStatus},
    sync::OnceLock,
    time::Duration,
};

use argon2::{Argon2, Params, PasswordHasher as _};
use balance_projector::ops::hash_password::sha256;

use super::{
    Folder, eventually, free_port, http,
    kafka::Topics,
    process::{Process, Signal},
};

/// One process of the product.
pub struct Product {
    pub process: Process,
    /// Where both views listen.
    pub views: SocketAddr,
    /// Where liveness, readiness and metrics listen.
    pub admin: SocketAddr,
    folder: Folder,
}

/// What the configuration says, besides the topics and the store.
#[derive(Debug, Clone)]
pub struct Settings {
    /// TOML before all sections.
    pub head: String,
    /// TOML behind the generated part of `[projector]`.
    pub projector: String,
    /// TOML behind the generated part of `[api]`.
    pub api: String,
    /// TOML behind the generated part of `[kafka]`.
    pub kafka: String,
    /// TOML of `[kafka.properties]`, and sections behind it.
    pub properties: String,
    /// The accounts that the token's consent names.
    pub accounts: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            head: String::new(),
            projector: "workers = 2\nheartbeat_ms = 100\n".to_owned(),
            api: "max_staleness_ms = 5000\n".to_owned(),
            kafka: String::new(),
            // A process that dies must not hold its partitions for the usual 45 s.
            properties: "\"session.timeout.ms\" = \"6000\"\n\"heartbeat.interval.ms\" = \"500\"\n".to_owned(),
            accounts: Vec::new(),
        }
    }
}

impl Product {
    /// Starts `run`, `project` or `serve`.
    pub fn start(role: &str, topics: &Topics, redis_url: &str, settings: &Settings) -> Self {
        Self::start_with(&[role], topics, redis_url, settings)
    }

    /// Starts whatever lasts, with its arguments.
    pub fn start_with(arguments: &[&str], topics: &Topics, redis_url: &str, settings: &Settings) -> Self {
        let (views, admin) = (loopback(), loopback());
        let role = arguments[0];
        let folder = Folder::new(role);
        let file = configuration(&folder, topics, redis_url, settings, views, admin);
        let mut command = binary();
        command.arg("--config").arg(file).args(arguments);
        let process = Process::start(role, &mut command, &folder.join("log"));
        Product { process, views, admin, folder }
    }

    /// Waits until `/readyz` is 200.
    #[track_caller]
    pub fn ready(&self) {
        self.readiness(Duration::from_secs(60), 200);
    }

    /// Waits until `/readyz` has this status; returns its body.
    #[track_caller]
    pub fn readiness(&self, within: Duration, status: u16) -> String {
        eventually(within, || {
            let answer = http::get(self.admin, "/readyz", &[]).map_err(|e| e.to_string())?;
            if answer.status == status { Ok(answer.body) } else { Err(format!("{answer:?}")) }
        })
    }

    /// Waits until a partition is halted: `/readyz`, `status` and its exit status say so, with these words.
    #[track_caller]
    pub fn halts(&self, topics: &Topics, redis_url: &str, words: &[&str]) {
        let body = eventually(Duration::from_secs(30), || {
            let answer = http::get(self.admin, "/readyz", &[]).map_err(|e| e.to_string())?;
            let halted = answer.status == 503 && answer.body.contains("halted");
            if halted { Ok(answer.body) } else { Err(answer.body) }
        });
        let status = command(topics, redis_url, &["status"]);
        let text = String::from_utf8_lossy(&status.stdout).into_owned();
        assert!(text.contains("is halted"), "{text}");
        for word in words {
            assert!(body.contains(word), "`{word}` is not in /readyz: {body}");
            assert!(text.contains(word), "`{word}` is not in `status`: {text}");
        }
        assert_eq!(status.status.code(), Some(1));
    }

    /// SIGTERM; returns how it ended.
    #[track_caller]
    pub fn stop(mut self) -> ExitStatus {
        self.process.signal(Signal::Term);
        self.process.wait(Duration::from_secs(20))
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.process.kill();
    }
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_balance-projector");

/// Runs a command of the product to its end, or five minutes (status 124); returns its status, output and errors.
pub fn command(topics: &Topics, redis_url: &str, arguments: &[&str]) -> std::process::Output {
    command_with(topics, redis_url, &Settings::default(), arguments)
}

/// The same with settings of the test's own.
pub fn command_with(
    topics: &Topics,
    redis_url: &str,
    settings: &Settings,
    arguments: &[&str],
) -> std::process::Output {
    let folder = Folder::new("command");
    let file = configuration(&folder, topics, redis_url, settings, loopback(), loopback());
    // One that should be refused and is not would go on for ever.
    let mut bounded = without_settings(Command::new("timeout"));
    bounded.args(["--kill-after=10", "300", PROGRAM]).arg("--config").arg(file).args(arguments);
    bounded.output().expect("the product's binary")
}

/// Runs a command of the product on a terminal of its own up to its question; `meanwhile` happens while that stands, and
/// then the answer is yes. Returns the status, and all that was on the terminal.
#[track_caller]
pub fn asked(
    topics: &Topics,
    redis_url: &str,
    arguments: &[&str],
    meanwhile: impl FnOnce(),
) -> (ExitStatus, String) {
    let folder = Folder::new("asked");
    let file = configuration(&folder, topics, redis_url, &Settings::default(), loopback(), loopback());
    let words = [&[PROGRAM, "--config", file.to_str().expect("UTF-8")], arguments].concat();
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    // `script` is in every Debian: it makes the terminal.
    let mut script = without_settings(Command::new("script"));
    script.args(["--quiet", "--return", "--command", &quoted.join(" "), "/dev/null"]);
    let (stdin, stdout) = (std::process::Stdio::piped(), std::process::Stdio::piped());
    let mut running = script.env("USER", "jana").stdin(stdin).stdout(stdout).spawn().expect("script");
    let (mut told, mut seen) = (running.stdout.take().expect("a pipe"), Vec::new());
    let mut byte = [0];
    while !String::from_utf8_lossy(&seen).contains("[y/N]") {
        let read = told.read(&mut byte).expect("the terminal");
        assert!(read == 1, "it ended without a question: {}", String::from_utf8_lossy(&seen));
        seen.push(byte[0]);
    }
    meanwhile();
    running.stdin.take().expect("a pipe").write_all(b"yes\n").expect("the terminal");
    told.read_to_end(&mut seen).expect("the terminal");
    (running.wait().expect("an end"), String::from_utf8_lossy(&seen).into_owned())
}

fn binary() -> Command {
    let mut command = without_settings(Command::new(PROGRAM));
    command.env("RUST_BACKTRACE", "1");
    command
}

/// A developer's own settings must not reach a test.
fn without_settings(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("BALANCE_PROJECTOR") {
            command.env_remove(name);
        }
    }
    command
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

fn configuration(
    folder: &Folder,
    topics: &Topics,
    redis_url: &str,
    settings: &Settings,
    views: SocketAddr,
    admin: SocketAddr,
) -> PathBuf {
    let Topics { brokers, group, ledger, payment, dead_letters, decisions, .. } = topics;
    let Settings { head, projector, api, kafka, properties, accounts } = settings;
    let (token, api_key) = (sha256(http::TOKEN), sha256(http::API_KEY));
    let text = format!(
        r#"{head}
[kafka]
brokers = "{brokers}"
group = "{group}"
ledger_topic = "{ledger}"
payment_topic = "{payment}"
dead_letter_topic = "{dead_letters}"
decisions_topic = "{decisions}"
{kafka}
[kafka.properties]
{properties}
[redis]
url = "{redis_url}"
[projector]
{projector}
[api]
listen = "{views}"
{api}
[[api.profiles]]
id = "{profile}"
[[api.users]]
name = "{user}"
password_hash = "{hash}"
profiles = ["{profile}"]
[[api.tokens]]
client_id = "test"
token_sha256 = "{token}"
api_key_sha256 = "{api_key}"
accounts = {accounts:?}
[admin]
listen = "{admin}"
[log]
level = "info,rdkafka=warn"
"#,
        profile = http::PROFILE,
        user = http::USER.0,
        hash = password_hash(),
    );
    let file = folder.join("config.toml");
    std::fs::write(&file, text).expect("a configuration");
    file
}

/// The cheapest there is: tests do not guard a secret.
fn password_hash() -> &'static str {
    static HASH: OnceLock<String> = OnceLock::new();
    HASH.get_or_init(|| {
        let params = Params::new(8, 1, 1, None).expect("parameters");
        let argon = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        argon.hash_password(http::USER.1.as_bytes()).expect("a hash").to_string()
    })
}
