//! Open files: as many as the system allows, and a log that is not filled where they are too few.
#![allow(clippy::arithmetic_side_effects, reason = "a test fails where it overflows")]

use std::{
    net::{SocketAddr, TcpStream},
    process::Command,
    time::Duration,
};

use crate::support::{Folder, eventually, free_port, http, process::Process};

/// `serve` under these limits, once it listens; Redis is not needed for that.
fn serve(folder: &Folder, limits: &str) -> (Process, SocketAddr, SocketAddr) {
    let at = || SocketAddr::from(([127, 0, 0, 1], free_port()));
    let (views, admin) = (at(), at());
    let program = env!("CARGO_BIN_EXE_balance-projector");
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{limits} && exec {program} serve")]).env_clear();
    command.env("BALANCE_PROJECTOR__API__LISTEN", views.to_string());
    command.env("BALANCE_PROJECTOR__ADMIN__LISTEN", admin.to_string());
    let process = Process::start("serve", &mut command, &folder.join("log"));
    eventually(Duration::from_secs(30), || {
        let log = process.log();
        if log.contains("listening") { Ok(()) } else { Err(log) }
    });
    (process, views, admin)
}

#[test]
fn the_limit_of_open_files_is_raised_as_far_as_the_system_allows() {
    let folder = Folder::new("descriptors");
    let (process, ..) = serve(&folder, "ulimit -S -n 128 && ulimit -H -n 5000");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.id())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), ["5000", "5000"], "{limits}");
    assert!(!process.log().contains("api.connections_max"), "{}", process.log());
}

#[test]
fn too_few_open_files_are_told_and_told_seldom() {
    let folder = Folder::new("descriptors");
    let (process, views, admin) = serve(&folder, "ulimit -n 64");
    let more = 256 + 8 * std::thread::available_parallelism().unwrap().get();
    let told = format!(
        "api.connections_max is 4096, and with {more} more does not fit into the limit of open files"
    );
    let log = process.log();
    assert!(log.matches(&told).count() == 1 && log.contains("limit=64"), "{log}");
    let held: Vec<_> = (0..100).map(|_| TcpStream::connect(views).unwrap()).collect();
    eventually(Duration::from_secs(30), || {
        let log = process.log();
        if log.contains("a connection cannot be taken") { Ok(()) } else { Err(log) }
    });
    // Each try is 50 ms after the one before.
    std::thread::sleep(Duration::from_secs(1));
    let log = process.log();
    assert_eq!(log.matches("a connection cannot be taken").count(), 1, "{log}");
    drop(held);
    eventually(Duration::from_secs(30), || match http::get(admin, "/livez", &[]) {
        Ok(answer) if answer.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    });
}
