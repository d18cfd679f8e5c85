//! A Redis that fails over while it is written and read: the right figure or none, and in the end all of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use super::redis::sentinel;
use crate::support::{
    events, eventually, http,
    kafka::shared,
    produce::{Partitioner, Producer},
    product::{Product, Settings},
    redis::Server,
};

const WATCHED: &str = "watched";

/// The watched account's balance in whole units, where there is an answer.
fn balance(views: std::net::SocketAddr) -> Option<u32> {
    let answer = http::account(views, WATCHED).expect("an answer");
    match answer.status {
        503 => None,
        200 => {
            let value = answer.json()["balances"][0]["amount"]["value"].to_string();
            Some(value.split('.').next().expect("a number").parse().expect("whole units"))
        }
        _ => panic!("{answer:?}"),
    }
}

/// What a server tells of its replication.
fn replication(server: &Server, name: &str) -> Option<String> {
    let info: String = server.command(&["INFO", "replication"]);
    let value = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned());
    info.lines().find_map(value)
}

#[test]
fn readers_get_the_right_figure_or_none_while_redis_fails_over() {
    let broker = shared();
    let topics = broker.topics(1);
    let mut primary = Server::start();
    let replica =
        Server::with(&["--maxmemory-policy", "noeviction", "--replicaof", "127.0.0.1", &primary.port()]);
    let (_folder, node, _process) = sentinel(&primary);
    let mut settings = Settings {
        api: "max_staleness_ms = 2000\nbalance_types = [\"ITBD\"]\n".to_owned(),
        accounts: vec![WATCHED.to_owned()],
        ..Settings::default()
    };
    let sentinels = format!("[redis.sentinel]\nnodes = [\"127.0.0.1:{node}\"]\nprimary = \"balances\"\n");
    settings.properties.push_str(&sentinels);
    let product = Product::start("run", &topics, "redis://nowhere:1/", &settings);
    let producer = Producer::new(broker, Partitioner::Java);
    let book = |from: u32, to: u32| {
        for n in from..to {
            producer.put(&events::booked(&topics, WATCHED, &format!("E{n}"), "1", None));
        }
    };
    producer.put(&events::opened(&topics, WATCHED, &["CZK"], None));
    book(0, 50);
    product.ready();
    let reaches = |expected: u32| {
        eventually(Duration::from_secs(60), || {
            let seen = balance(product.views);
            if seen == Some(expected) { Ok(()) } else { Err(seen) }
        });
    };
    reaches(50);
    // The replica has what the primary has, and the sentinel knows it.
    eventually(Duration::from_secs(30), || {
        // The primary first: what is written goes on, and the replica must have come as far.
        let written = replication(&primary, "master_repl_offset").and_then(|at| at.parse::<u64>().ok());
        let held = replication(&replica, "slave_repl_offset").and_then(|at| at.parse::<u64>().ok());
        let link = replication(&replica, "master_link_status");
        let known = super::redis::replicas(node);
        let has_all = written.is_some() && held >= written;
        if has_all && link.as_deref() == Some("up") && known == 1 {
            Ok(())
        } else {
            Err((written, held, link, known))
        }
    });

    let (stop, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let (stopped, counted, views) = (Arc::clone(&stop), Arc::clone(&refused), product.views);
    let reading = std::thread::spawn(move || {
        let mut highest = 0;
        while !stopped.load(Ordering::Relaxed) {
            match balance(views) {
                None => drop(counted.fetch_add(1, Ordering::Relaxed)),
                Some(value) => {
                    assert!(value >= highest, "{value} after {highest}");
                    highest = value;
                }
            }
        }
        highest
    });
    book(50, 75);
    primary.kill();
    book(75, 100);
    reaches(100);
    stop.store(true, Ordering::Relaxed);
    let highest = reading.join().expect("no figure went back");
    assert_eq!(balance(product.views), Some(100));
    assert!(highest <= 100);
    assert!(refused.load(Ordering::Relaxed) > 0, "nobody noticed the fail-over");
    let active: Option<String> = replica.command(&["GET", "{bp}:active"]);
    assert_eq!(active.as_deref(), Some("1"), "what was the replica serves now");
    assert!(product.stop().success());
}
