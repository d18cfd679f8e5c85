//! The real Kafka, the real Redis and the product's own binary, as child processes that die with the tests.
//!
//! Everything blocks: the harness may be used from plain tests and from asynchronous ones alike.
//!
//! | what | gives |
//! |---|---|
//! | [`kafka::shared`] | one broker for the whole test binary |
//! | [`kafka::Broker::start`] | a broker of the test's own, to kill, freeze or restart |
//! | [`kafka::Broker::topics`] | fresh topics with names of their own, and a configuration that names them |
//! | [`redis::Server::start`] | a Redis of the test's own |
//! | [`produce::Producer`] | records, headers, partitioners, transactions |
//! | [`product::Product`] | the binary with a generated configuration |
//! | [`http::get`] | one request over a plain socket |
//! | [`load::Load`] | generated events at a steady rate |
//! | [`collector::Collector`] | what a collector of traces is sent |
//! | [`oracle::read`] | a whole topic, read committed |
//! | [`plant::amount`] | a fault behind the owner's back |
//! | [`compare::whole`] | every balance, due, dead letter and quarantine against the log |
#![allow(dead_code, reason = "a harness offers what the next test needs")]

pub mod certificates;
pub mod collector;
pub mod compare;
pub mod events;
pub mod http;
pub mod kafka;
pub mod load;
pub mod oracle;
pub mod plant;
pub mod process;
pub mod produce;
pub mod product;
pub mod raw;
pub mod redis;

use std::{
    fmt::Debug,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Repeats `look` until it gives `Ok`; fails with what it said last.
#[track_caller]
pub fn eventually<T, E: Debug>(within: Duration, mut look: impl FnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + within;
    let mut pause = Duration::from_millis(10);
    loop {
        match look() {
            Ok(seen) => return seen,
            Err(last) if Instant::now() >= deadline => panic!("not within {within:?}; last seen: {last:#?}"),
            Err(_) => thread::sleep(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

/// A number that no other caller in this process got.
pub fn unique() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A port of 127.0.0.1 that is free, below the range from which the system takes ports of its own accord.
pub fn free_port() -> u16 {
    loop {
        let spread = std::process::id().wrapping_mul(97).wrapping_add(unique().wrapping_mul(3));
        let port = u16::try_from(10_000 + spread % 20_000).expect("below 65536");
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A folder that goes with its owner, or with the test process.
pub struct Folder(PathBuf);

impl Folder {
    /// A new, empty one.
    pub fn new(name: &str) -> Self {
        let parent = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("it-{}", std::process::id()));
        let path = parent.join(format!("{name}-{}", unique()));
        process::remove_at_end(&parent);
        std::fs::create_dir_all(&path).expect("a folder for a test");
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Not removed: it goes with the process all the same.
        drop(std::fs::remove_dir_all(&self.0));
    }
}
