//! SIGHUP has users and certificates read again, and drops no request.

use std::{
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use balance_projector::ops::hash_password::argon2id;

use crate::support::{
    Folder,
    certificates::{mode, secret},
    eventually, free_port, http,
    process::{Process, Signal},
    redis::Server,
};

fn configuration(file: &Path, redis: &str, at: (SocketAddr, SocketAddr), user: &str, hash: &str) {
    let (views, admin) = at;
    let text = format!(
        "[redis]\nurl = \"{redis}\"\n[api]\nlisten = \"{views}\"\n[admin]\nlisten = \"{admin}\"\n\
         [[api.profiles]]\nid = \"p\"\n\
         [[api.users]]\nname = \"{user}\"\npassword_hash = \"{hash}\"\nprofiles = [\"p\"]\n"
    );
    secret(file, &text);
}

/// The status of a read of view one: 503 for who is let in, for nothing is projected.
fn status(views: SocketAddr, basic: &str) -> std::io::Result<u16> {
    let authorization = format!("Basic {basic}");
    let headers = [("Request-Tracking-Id", "1"), ("ProfileId", "p"), ("Authorization", &*authorization)];
    Ok(http::get(views, "/api/v1/customers/C/balance", &headers)?.status)
}

fn serve(file: &Path, log: &Path) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_balance-projector"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("BALANCE_PROJECTOR") {
            command.env_remove(name);
        }
    }
    command.arg("--config").arg(file).arg("serve");
    Process::start("serve", &mut command, log)
}

#[test]
fn a_hangup_takes_what_the_file_says_by_now_and_a_wrong_file_changes_nothing() {
    let server = Server::start();
    let folder = Folder::new("hangup");
    let (file, log) = (folder.join("config.toml"), folder.join("log"));
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let (views, admin) = (at(free_port()), at(free_port()));
    let hash = argon2id("secret word").expect("a hash");
    // `one:secret word`, `two:secret word`
    let (one, two) = ("b25lOnNlY3JldCB3b3Jk", "dHdvOnNlY3JldCB3b3Jk");
    configuration(&file, &server.url(), (views, admin), "one", &hash);
    let process = serve(&file, &log);
    let becomes = |basic: &str, expected: u16| {
        eventually(Duration::from_secs(30), || match status(views, basic) {
            Ok(status) if status == expected => Ok(()),
            other => Err(format!("{other:?}")),
        });
    };
    becomes(one, 503);
    becomes(two, 401);

    // Somebody asks all the time: every request gets an answer.
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let asking = std::thread::spawn(move || {
        let mut answers = 0;
        while !stopped.load(Ordering::Relaxed) {
            let status = status(views, one).expect("an answer");
            assert!([401, 503].contains(&status), "{status}");
            answers += 1;
        }
        answers
    });
    configuration(&file, &server.url(), (views, admin), "two", &hash);
    process.signal(Signal::Hangup);
    becomes(two, 503);
    becomes(one, 401);

    let said = |words: &str| {
        eventually(Duration::from_secs(30), || {
            let text = std::fs::read_to_string(&log).map_err(|error| error.to_string())?;
            if text.contains(words) { Ok(()) } else { Err(text) }
        });
    };
    let text = std::fs::read_to_string(&file).expect("a file");
    std::fs::write(&file, text + "\n[projector]\nheartbeat_ms = 900\n").expect("a file");
    process.signal(Signal::Hangup);
    said("keys=\"projector.heartbeat_ms\"");

    // One that is just being written, one whose hashes cannot be verified, one that is no configuration.
    std::fs::write(&file, "\n").expect("a file");
    process.signal(Signal::Hangup);
    said("config.toml is empty");
    becomes(two, 503);
    configuration(&file, &server.url(), (views, admin), "two", &hash.replace("argon2id", "argon2xx"));
    process.signal(Signal::Hangup);
    said("api.users[0].password_hash");
    becomes(two, 503);
    std::fs::write(&file, "nonsense").expect("a file");
    process.signal(Signal::Hangup);
    said("TOML");
    becomes(two, 503);
    stop.store(true, Ordering::Relaxed);
    assert!(asking.join().expect("every request got an answer") > 0);
    let text = std::fs::read_to_string(&log).expect("a log");
    for secret in ["secret word", "argon2id", one, two] {
        assert!(!text.contains(secret), "the log tells {secret}: {text}");
    }
    assert!(text.contains("reason=\"wrong-password\""), "{text}");
}

#[test]
fn a_file_with_a_password_that_others_may_read_is_refused() {
    let folder = Folder::new("readable");
    let file = folder.join("config.toml");
    let check = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_balance-projector"));
        command.arg("--config").arg(&file).arg("check-config").output().expect("the program")
    };
    secret(&file, "[redis]\nurl = \"redis://app:hunter2@127.0.0.1/\"\n");
    assert!(check().status.success());
    for others in [0o604, 0o602, 0o646] {
        mode(&file, others);
        let output = check();
        assert_eq!(output.status.code(), Some(2), "{others:o}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains("others may use it") && !text.contains("hunter2"), "{text}");
    }
    // Without a secret in it, anybody may.
    std::fs::write(&file, "[redis]\nurl = \"redis://127.0.0.1/\"\n").expect("a file");
    mode(&file, 0o644);
    assert!(check().status.success());
}
