//! The operator's commands, as a shell sees them: text in, text out, exit status.

use std::{
    collections::BTreeSet,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use argon2::{Argon2, PasswordVerifier as _};
use serde_json::{Value, json};

use crate::support::{
    Folder,
    certificates::Authority,
    eventually, http, kafka,
    process::Process,
    product::{self, Product, Settings},
    redis,
};

/// Runs the binary with these arguments and this standard input, in an environment of its own.
fn command(args: &[&str], env: &[(&str, &str)], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_balance-projector"))
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A command that does not read its input closes it.
    let writer = std::thread::spawn(move || stdin.write_all(&input).is_ok());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn every_command_is_in_the_help() {
    let output = command(&["--help"], &[], b"");
    assert_eq!(output.status.code(), Some(0));
    for name in [
        "project",
        "serve",
        "run",
        "demo",
        "explain",
        "publish",
        "generate",
        "status",
        "audit",
        "generations",
        "rebuild",
        "pause",
        "resume",
        "drift",
        "snapshot",
        "check-config",
        "hash-password",
    ] {
        assert!(stdout(&output).lines().any(|line| line.trim_start().starts_with(name)), "{name}");
    }
}

#[test]
fn wrong_usage_or_configuration_exits_with_2_and_names_the_fault() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[kafka]\nbrokerz = \"a:1\"").unwrap();
    let path = file.path().to_str().unwrap();
    let set = [("BALANCE_PROJECTOR__GENERATION", "none")];
    let named = [("BALANCE_PROJECTOR_CONFIG", path)];
    let rows: &[(&[&str], &[(&str, &str)], &str)] = &[
        (&["check-config", "--config", path], &[], "kafka.brokerz is no key"),
        (&["check-config"], &named, "kafka.brokerz is no key"),
        (&["check-config"], &set, "generation was \"none\", may be an integer from 1 to 4294967295"),
        (&["check-config", "--config", "/does/not/exist"], &[], "/does/not/exist cannot be read"),
        (&["project", "--config", path], &[], "kafka.brokerz is no key"),
        (&["serve", "--config", path], &[], "kafka.brokerz is no key"),
        (&["run", "--config", path], &[], "kafka.brokerz is no key"),
        (&["status", "--config", path], &[], "kafka.brokerz is no key"),
        (&["publish", "--config", path], &[], "kafka.brokerz is no key"),
        (&["generate", "--duplicates", "101"], &[], "101 is not in 0..=100"),
        (&["generate", "--hot-accounts", "9", "--accounts", "8"], &[], "--hot-accounts: 9 are more"),
        (&["generate", "--currencies", "CZX"], &[], "--currencies: \"CZX\" is no code of ISO 4217"),
        (&["proiect"], &[], "unrecognized subcommand 'proiect'"),
    ];
    for (args, env, expected) in rows {
        let output = command(args, env, b"");
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{args:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

/// What stands in files, and what is asked of the system, is configuration as well: a restart would meet the same.
#[test]
fn a_file_that_cannot_be_used_exits_with_2_and_is_found_by_check_config() {
    let (authority, folder) = (Authority::new(), Folder::new("unusable"));
    let (one, other) = (authority.issue("one", "Bank"), authority.issue("other", "Bank"));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let nonsense = folder.join("nonsense.json");
    std::fs::write(&nonsense, "nonsense").unwrap();
    let keys = |jwks: String| {
        vec![
            ("API__JWT__ISSUER", "i".to_owned()),
            ("API__JWT__AUDIENCE", "a".to_owned()),
            ("API__JWT__JWKS", jwks),
        ]
    };
    let pair = vec![
        ("API__TLS__CERTIFICATE_FILE", text(&one.certificate)),
        ("API__TLS__KEY_FILE", text(&other.key)),
    ];
    let rows = [
        ("log.file cannot be used", vec![("LOG__FILE", text(&folder.join("none/log")))]),
        ("log.file cannot be used", vec![("LOG__FILE", text(&nonsense.join("log")))]),
        ("log.file cannot be used", vec![("LOG__FILE", text(&folder.join(".")))]),
        ("api.tls cannot be used", pair),
        ("api.jwt.jwks cannot be used", keys(text(&folder.join("none.json")))),
        ("api.jwt.jwks cannot be used", keys(text(&nonsense))),
    ];
    for (expected, set) in rows {
        let mut env =
            vec![("API__LISTEN", "127.0.0.1:0".to_owned()), ("ADMIN__LISTEN", "127.0.0.1:0".to_owned())];
        env.extend(set);
        let names: Vec<_> = env.iter().map(|(name, _)| format!("BALANCE_PROJECTOR__{name}")).collect();
        let env: Vec<_> = names.iter().zip(&env).map(|(name, (_, value))| (&**name, &**value)).collect();
        for role in ["check-config", "serve", "run"] {
            let output = command(&[role], &env, b"");
            assert_eq!(output.status.code(), Some(2), "{role} {env:?}: {}", stderr(&output));
            assert!(stderr(&output).contains(expected), "{role} {env:?}: {}", stderr(&output));
        }
    }
    let file = text(&folder.join("log"));
    let output = command(&["check-config"], &[("BALANCE_PROJECTOR__LOG__FILE", &file)], b"");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!Path::new(&file).exists(), "a check makes no file");
}

#[test]
fn a_certificate_that_has_ended_is_told_and_stops_nothing() {
    let authority = Authority::new();
    let ended = authority.issue_until("ended", "Bank", 2001);
    let env = [
        ("BALANCE_PROJECTOR__API__TLS__CERTIFICATE_FILE", ended.certificate.to_str().unwrap()),
        ("BALANCE_PROJECTOR__API__TLS__KEY_FILE", ended.key.to_str().unwrap()),
        ("BALANCE_PROJECTOR__API__LISTEN", "127.0.0.1:0"),
        ("BALANCE_PROJECTOR__ADMIN__LISTEN", "127.0.0.1:0"),
    ];
    let told = "api.tls.certificate_file names a certificate that ended at 2001-01-01T00:00:00Z";
    let output = command(&["check-config"], &env, b"");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains(told), "{}", stderr(&output));
    let folder = Folder::new("ended");
    let mut serve = Command::new(env!("CARGO_BIN_EXE_balance-projector"));
    serve.arg("serve").env_clear().envs(env);
    let process = Process::start("serve", &mut serve, &folder.join("log"));
    eventually(Duration::from_secs(30), || {
        let log = process.log();
        if log.contains(told) && log.contains("listening") { Ok(()) } else { Err(log) }
    });
}

#[test]
fn check_config_prints_what_is_in_force_and_no_secret() {
    let env = [
        ("BALANCE_PROJECTOR__REDIS__URL", "redis://u:hunter2@127.0.0.1:7000/"),
        ("BALANCE_PROJECTOR__ZONE", "UTC"),
    ];
    let output = command(&["check-config"], &env, b"");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let printed: toml::Table = stdout(&output).parse().unwrap();
    assert_eq!(printed["zone"].as_str(), Some("UTC"));
    assert_eq!(printed["redis"]["url"].as_str(), Some("redis://u:***@127.0.0.1:7000/"));
    assert_eq!(printed["kafka"]["ledger_topic"].as_str(), Some("ledger.events"));
}

#[test]
fn a_hashed_password_verifies_and_no_two_hashes_are_alike() {
    let hashes = [(); 2].map(|()| command(&["hash-password"], &[], "pa sswörd\n".as_bytes()));
    for output in &hashes {
        assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
        let hash = stdout(output).trim_end();
        assert!(hash.starts_with("$argon2id$"), "{hash}");
        assert!(Argon2::default().verify_password("pa sswörd".as_bytes(), hash).is_ok());
        assert!(Argon2::default().verify_password(b"pa sswoerd", hash).is_err());
    }
    assert_ne!(hashes[0].stdout, hashes[1].stdout);
}

#[test]
fn a_hashed_token_is_its_sha_256() {
    // FIPS 180-4's example.
    let output = command(&["hash-password", "--token"], &[], b"abc\r\n");
    assert_eq!(stdout(&output), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n");
}

#[test]
fn an_empty_secret_is_refused() {
    for args in [&["hash-password"][..], &["hash-password", "--token"]] {
        let output = command(args, &[], b"\n");
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("is empty"), "{}", stderr(&output));
    }
}

#[test]
fn generated_events_pass_publishs_check_and_poison_does_not() {
    let flags =
        ["--events", "3000", "--accounts", "50", "--customers", "20", "--late", "5", "--closures", "1"];
    for extra in [&[][..], &["--numbered", "--currencies", "JPY,KWD,CLF"], &["--history", "3"]] {
        let generated = command(&[&["generate"], &flags[..], extra].concat(), &[], b"");
        assert_eq!(generated.status.code(), Some(0), "{}", stderr(&generated));
        let output = command(&["publish", "--dry-run"], &[], &generated.stdout);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let lines = stdout(&generated).lines().count();
        assert_eq!(stdout(&output), format!("{lines} passed, 0 bad\n"));
    }
    let generated = command(&[&["generate"], &flags[..], &["--poison", "16"]].concat(), &[], b"");
    let output = command(&["publish", "--dry-run"], &[], &generated.stdout);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), "3000 passed, 16 bad\n");
    let output = command(&["publish", "--dry-run", "--raw"], &[], &generated.stdout);
    assert_eq!(stdout(&output), "3016 passed, 0 bad\n");
}

#[test]
fn a_bad_line_is_named_with_its_number_class_and_fault() {
    let generated = command(&["generate", "--events", "2"], &[], b"");
    let mut input = generated.stdout;
    input.extend_from_slice(b"{\"specversion\":\"1.0\"\n");
    let output = command(&["publish", "--dry-run"], &[], &input);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("line 3: not-json: "), "{}", stderr(&output));
    assert_eq!(stdout(&output), "2 passed, 1 bad\n");
}

#[test]
fn a_reader_that_leaves_ends_the_generator_quietly() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_balance-projector"))
        .args(["generate", "--events", "1000000000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(output.stderr.is_empty(), "{}", stderr(&output));
}

/// What the stream holds, told by `status` and by a view, on a real broker and a real Redis.
#[test]
fn what_is_generated_and_published_is_served_and_told_by_status() {
    let topics = kafka::shared().topics(2);
    let redis = redis::Server::start();
    let status = || {
        let output = product::command(&topics, &redis.url(), &["status", "--json"]);
        let report: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
        (output.status.code(), report)
    };
    let publish = |generate: &[&str]| {
        let generated = command(&[&["generate"], generate].concat(), &[], b"");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), generated.stdout).unwrap();
        let output =
            product::command(&topics, &redis.url(), &["publish", "--raw", file.path().to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let (first, rest) = stdout(&output).split_once('\n').unwrap();
        let position = rest.trim_end().strip_prefix("Projection-Min-Position: ").unwrap();
        (first.to_owned(), position.to_owned())
    };

    let (code, report) = status();
    assert_eq!(code, Some(1));
    assert_eq!(report["needs_person"][0], "no generation is active: no `project` has begun one");

    let (sent, position) = publish(&["--events", "2000", "--accounts", "50", "--customers", "20"]);
    assert_eq!(sent, "2000 sent, 0 bad");
    let settings = Settings { accounts: vec!["CZ0000000007".to_owned()], ..Settings::default() };
    let running = Product::start("run", &topics, &redis.url(), &settings);
    running.ready();
    let answer = http::get(
        running.views,
        "/my/accounts/CZ0000000007/balance",
        &[
            ("X-Request-ID", "1"),
            ("User-Involved", "true"),
            ("API-key", http::API_KEY),
            ("TPP-Name", "Test"),
            ("Authorization", &format!("Bearer {}", http::TOKEN)),
            ("Projection-Min-Position", &position),
        ],
    );
    assert_eq!(answer.unwrap().status, 200);

    let (code, report) = status();
    assert_eq!((code, &report["needs_person"]), (Some(0), &json!([])), "{report:#}");
    assert_eq!(report["generation"], 1);
    let partitions = report["partitions"].as_array().unwrap();
    assert_eq!(partitions.len(), 4);
    let mut records = 0;
    for partition in partitions {
        assert_eq!((&partition["lag"], &partition["complete"]), (&json!(0), &json!(true)), "{partition}");
        assert_eq!(partition["next_offset"], partition["high_watermark"]);
        records += partition["next_offset"].as_i64().unwrap();
    }
    assert_eq!(records, 2_000);

    // Eight records, one of each class that `generate` writes; the one without a key holds nobody.
    let (sent, _) = publish(&["--events", "0", "--accounts", "1000", "--poison", "8", "--prefix", "p-"]);
    assert_eq!(sent, "8 sent, 0 bad");
    let report = eventually(Duration::from_secs(20), || match status() {
        (Some(1), report) if report["quarantined_keys"] == 7 => Ok(report),
        other => Err(other),
    });
    let needs_person = [
        "7 keys are on hold: decide on the dead letters",
        "1 dead letter names nobody who could be told: `dead-letters list`, and decide",
    ];
    assert_eq!(report["needs_person"], json!(needs_person));
    let classes: BTreeSet<_> =
        report["quarantined"].as_array().unwrap().iter().map(|k| k["class"].as_str()).collect();
    let expected = [
        "bad-amount",
        "key-not-subject",
        "missing-field",
        "not-json",
        "tombstone",
        "unknown-currency",
        "unknown-type",
    ];
    assert_eq!(classes, expected.map(Some).into());

    assert!(running.stop().success());
    publish(&["--events", "30", "--prefix", "q-"]);
    let (code, report) = status();
    assert_eq!(code, Some(1));
    let needs = report["needs_person"][0].as_str().unwrap();
    assert!(needs.contains("and 3 other partitions have no living owner and 30 records wait"), "{needs}");
    let waiting = report["partitions"].as_array().unwrap().iter();
    assert!(waiting.filter(|p| p["lag"] != 0).all(|p| p["oldest_unapplied_ms"].as_u64() < Some(60_000)));
}
