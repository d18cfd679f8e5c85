//! Reads of both views, beside a constant route of the same server: idle, by TLS, while a stream is folded.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    API_KEY, Bench, TOKEN, Topics, free_port,
    http::{self, Manner},
    process::Role,
};

impl Bench {
    /// Publishes a stream of other subjects to the same topics, until it is killed or at its end. Each stream has a letter
    /// of its own: the same ids would come with other facts.
    pub(crate) fn pour(&self, config: &Path, events: u64, letter: char) -> Pouring {
        let accounts = self.args.accounts.to_string();
        let customers = (self.args.accounts / 2).to_string();
        let mut generate = Command::new(&self.args.binary)
            .args(["generate", "--events", &events.to_string(), "--seed", "7"])
            .args(["--accounts", &accounts, "--customers", &customers])
            .stdout(Stdio::piped())
            .spawn()
            .expect("generate starts");
        let rename = format!("s/\"CZ0/\"{letter}Z0/g;s/\"C0/\"{letter}0/g");
        let mut rename = Command::new("sed")
            .arg(rename)
            .stdin(generate.stdout.take().expect("a pipe"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("sed starts");
        let publish = Command::new(&self.args.binary)
            .args(["--config", config.to_str().expect("a path in UTF-8"), "publish"])
            .stdin(rename.stdout.take().expect("a pipe"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("publish starts");
        Pouring([generate, rename, publish])
    }

    /// Both views and the constant route, in turn, from one server. Where a stream waits behind a pause, it is folded
    /// meanwhile, and how much of it is left after each is told.
    pub(crate) fn reads(&mut self, scenario: &str, config: &Path, waiting: Option<&Topics>) {
        let text = fs::read_to_string(config).expect("the configuration");
        let listen = |section: &str| {
            let at = text.find(section).expect("a section");
            let line = text[at..].lines().find(|line| line.starts_with("listen")).expect("a listener");
            line.split('"').nth(1).expect("an address").to_owned()
        };
        let (api, admin) = (listen("[api]"), listen("[admin]"));
        // `project` has its own admin listener: the server's must be another.
        let own_admin = format!("127.0.0.1:{}", free_port());
        let serve_config = config.with_extension("serve.toml");
        fs::write(&serve_config, text.replace(&admin, &own_admin)).expect("a configuration");
        let server = Role::start(&self.args.binary, "serve", &serve_config);
        let account = |id: &String| account_request(id);
        let customer = |id: &String| {
            format!(
                "GET /api/v1/customers/{id}/balance HTTP/1.1\r\nHost: x\r\nAuthorization: Basic \
                 YmVuY2g6YmVuY2g=\r\nProfileId: bench\r\nRequest-Tracking-Id: 1\r\n\r\n"
            )
        };
        let accounts: Vec<String> = self.sample_accounts().iter().map(account).collect();
        let customers: Vec<String> = self.samples("payment.", "customer_id").iter().map(customer).collect();
        until_200(&api, &accounts[0]);
        if waiting.is_some() {
            self.timed(&serve_config, &["resume", "--yes", "--as", "bench"]);
        }
        // 304: the same for everybody, and nothing to read or to make.
        let tag = tag(&api, "/openapi.json");
        let constant = vec![format!("GET /openapi.json HTTP/1.1\r\nHost: x\r\nIf-None-Match: {tag}\r\n\r\n")];
        let seconds = Duration::from_secs(4);
        for (name, requests) in [("constant", constant), ("account", accounts), ("customer", customers)] {
            eprintln!("{scenario}: {name}");
            let load = http::load(&api, requests, full(64, seconds));
            let of = |figure: &str| format!("{name}_{figure}");
            self.put(scenario, &of("per_second"), load.per_second);
            self.put(scenario, &of("p50_us"), load.p50_us as f64);
            self.put(scenario, &of("p99_us"), load.p99_us as f64);
            self.put(scenario, &of("other_status"), load.other_status as f64);
            if let Some(topics) = waiting {
                let left = self.left(topics);
                self.put(scenario, &of("left"), left as f64);
            }
        }
        if waiting.is_none() {
            self.apart(scenario, &api);
            drop(server);
            self.secured(scenario, &api, &serve_config);
        }
    }

    /// Another's account and one that does not exist, in turn on one connection: neither takes longer.
    pub(crate) fn apart(&mut self, scenario: &str, api: &str) {
        eprintln!("{scenario}: another's account, and none");
        let mut stream = std::net::TcpStream::connect(api).expect("the server listens");
        stream.set_nodelay(true).expect("a socket option");
        let foreign: Vec<String> = self.foreign_accounts().iter().map(|id| account_request(id)).collect();
        let absent: Vec<String> = (0..foreign.len()).map(|n| account_request(&format!("none-{n}"))).collect();
        let (mut of_foreign, mut of_absent) = (Vec::new(), Vec::new());
        for round in 0..20_000 {
            for (times, requests) in [(&mut of_foreign, &foreign), (&mut of_absent, &absent)] {
                let sent = Instant::now();
                ask(&mut stream, &requests[round % requests.len()], 404);
                times.push(sent.elapsed().as_nanos());
            }
        }
        for (name, mut times) in [("foreign", of_foreign), ("absent", of_absent)] {
            times.sort_unstable();
            self.put(scenario, &format!("{name}_p50_us"), times[times.len() / 2] as f64 / 1e3);
        }
    }

    /// The views by TLS, beside the constant route in the clear.
    pub(crate) fn secured(&mut self, scenario: &str, api: &str, serve_config: &Path) {
        use std::os::unix::fs::PermissionsExt as _;
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let (certificate, key) = (self.args.out.join("server.pem"), self.args.out.join("server.key"));
        fs::write(&certificate, made.cert.pem()).expect("a file");
        fs::write(&key, made.signing_key.serialize_pem()).expect("a file");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("permissions");
        let text = fs::read_to_string(serve_config).expect("the configuration");
        let path = |path: &Path| fs::canonicalize(path).expect("a file").display().to_string();
        let tls = format!(
            "\n[api.tls]\ncertificate_file = {:?}\nkey_file = {:?}\n",
            path(&certificate),
            path(&key)
        );
        let secured = serve_config.with_extension("tls.toml");
        fs::write(&secured, text + &tls).expect("a configuration");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a root");
        let client = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let client = std::sync::Arc::new(client);
        let _server = Role::start(&self.args.binary, "serve", &secured);
        // The server takes a moment to believe heartbeats.
        std::thread::sleep(Duration::from_secs(3));
        let accounts: Vec<String> = self.sample_accounts().iter().map(|id| account_request(id)).collect();
        eprintln!("{scenario}: accounts by TLS");
        let load =
            http::load(api, accounts, Manner { tls: Some(&client), ..full(64, Duration::from_secs(4)) });
        self.put(scenario, "tls_account_per_second", load.per_second);
        self.put(scenario, "tls_account_p99_us", load.p99_us as f64);
        self.put(scenario, "tls_account_other_status", load.other_status as f64);
    }
}

/// A generator, what renames its subjects, and a publisher.
pub(crate) struct Pouring([std::process::Child; 3]);

impl Pouring {
    /// Waits until all of it is published.
    pub(crate) fn wait(&mut self) {
        for child in &mut self.0 {
            let ended = child.wait().expect("a child");
            assert!(ended.success(), "pouring failed: {ended}");
        }
    }
}

/// As many requests as are answered.
pub(crate) fn full(connections: usize, duration: Duration) -> Manner<'static> {
    Manner { connections, duration, per_second: None, tls: None }
}

pub(crate) fn until_200(address: &str, request: &str) {
    let limit = Instant::now() + Duration::from_mins(1);
    loop {
        let bound = std::net::TcpStream::connect(address).is_ok();
        if bound {
            let load = http::load(address, vec![request.to_owned()], full(1, Duration::from_millis(50)));
            if load.other_status == 0 {
                return;
            }
        }
        assert!(Instant::now() < limit, "the server does not answer 200");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The tag of what stands at this path.
fn tag(address: &str, path: &str) -> String {
    use std::io::Read as _;
    let mut stream = std::net::TcpStream::connect(address).expect("the server listens");
    let request = format!("HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("the server reads");
    let mut head = String::new();
    stream.read_to_string(&mut head).expect("the server answers");
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: "));
    tag.expect("a tag").trim().to_owned()
}

pub(crate) fn account_request(id: &str) -> String {
    format!(
        "GET /my/accounts/{id}/balance HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nAPI-key: \
         {API_KEY}\r\nTPP-Name: bench\r\nUser-Involved: true\r\nX-Request-ID: 1\r\n\r\n"
    )
}

pub(crate) fn ask(stream: &mut std::net::TcpStream, request: &str, status: u16) {
    use std::io::Read as _;
    stream.write_all(request.as_bytes()).expect("the server reads");
    let mut buffer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let read = stream.read(&mut chunk).expect("the server answers");
        buffer.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&buffer);
        if let Some(head) = text.find("\r\n\r\n") {
            let length = text[..head]
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:").map(str::to_owned))
                .and_then(|length| length.trim().parse::<usize>().ok())
                .unwrap_or(0);
            if buffer.len() >= head + 4 + length {
                let expected = format!("HTTP/1.1 {status}");
                assert!(text.starts_with(&expected), "the probe is answered: {}", &text[..head]);
                return;
            }
        }
    }
}
