//! Faults planted in a store behind the back of its owner: what a comparison must find.

use std::collections::BTreeMap;

use balance_projector::store::Position;

use super::{
    events, eventually,
    kafka::Topics,
    produce::{Outgoing, Producer},
    redis::Server,
};

/// The key of an account's cell.
pub fn account(generation: u32, id: &str) -> String {
    format!("{{bp}}:g{generation}:a:{id}")
}

/// The key of a customer's cell.
pub fn customer(generation: u32, id: &str) -> String {
    format!("{{bp}}:g{generation}:c:{id}")
}

/// Makes a partition one that has not reached the log's end yet; nobody may own it.
#[track_caller]
pub fn incomplete(redis: &Server, generation: u32, partition: &str) {
    let positions = format!("{{bp}}:g{generation}:pos");
    let held: Vec<u8> = redis.command(&["HGET", &positions, partition]);
    let mut position = Position::from_bytes(&held).expect("a position");
    assert!(std::mem::replace(&mut position.checkpoint.complete, false), "{partition} is complete");
    let set = redis::cmd("HSET").arg(positions).arg(partition).arg(&position.to_bytes()[..]).to_owned();
    set.exec(&mut redis.connection()).expect("Redis answers");
}

/// Changes an amount in a cell to one of the same length on the wire, given in cents; it must stand there once.
#[track_caller]
pub fn amount(redis: &Server, key: &str, from_cents: u64, to_cents: u64) {
    let mut bytes: Vec<u8> = redis.command(&["GET", key]);
    let (from, to) = (packed(from_cents), packed(to_cents));
    assert_eq!(from.len(), to.len(), "amounts of one length");
    let places: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(&from)).collect();
    let [at] = places.as_slice() else { panic!("{from_cents} cents stand {} times in {key}", places.len()) };
    bytes[*at..at + to.len()].copy_from_slice(&to);
    let mut set = redis::cmd("SET");
    set.arg(key).arg(bytes).query::<()>(&mut redis.connection()).expect("written");
}

/// A cell takes an amount as ten-thousandths: twice its magnitude and the sign in the last bit, seven bits a byte.
fn packed(cents: u64) -> Vec<u8> {
    let mut rest = cents * 100 * 2;
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

/// Idle subjects with something that follows from them: accounts on hold (`held-…`, on which `held-c` owes), others
/// (`free-…`, on which `free-c` owes, and `lone` with `lone-c`), and a customer on hold (`held-d`).
pub fn subjects(topics: &Topics, producer: &Producer) {
    let owed = [
        ("held-1", "held-c"),
        ("held-2", "held-c"),
        ("held-3", "held-c"),
        ("free-1", "free-c"),
        ("free-2", "free-c"),
        ("lone", "lone-c"),
    ];
    for (account, customer) in owed {
        producer.send(&events::opened(topics, account, &["CZK"], Some(customer)));
        producer.send(&events::booked(topics, account, &format!("{account}-e"), "-7", Some(customer)));
    }
    producer.send(&events::settled(topics, "held-d", "p1", "20", "2026-02-01"));
    let poison = |record: Outgoing| Outgoing { value: Some(b"no event".to_vec()), ..record };
    for account in ["held-1", "held-2", "held-3"] {
        producer.send(&poison(events::booked(topics, account, "poison", "1", None)));
    }
    producer.send(&poison(events::settled(topics, "held-d", "p2", "20", "2026-02-01")));
    producer.flush();
}

/// Takes away and adds entries that follow from [`subjects`], of every kind; returns what a comparison must find, as
/// (subject, id, kind), each with how often.
#[track_caller]
pub fn derived(redis: &Server, generation: u32) -> BTreeMap<(&'static str, &'static str, &'static str), u64> {
    let key = |kind: &str, id: &str| format!("{{bp}}:g{generation}:{kind}:{id}");
    // The partition in which an account is on hold, and its mark.
    let mark = |account: &str| {
        eventually(std::time::Duration::from_secs(60), || {
            let held: BTreeMap<String, String> = redis.command(&["HGETALL", &key("qa", account)]);
            held.into_iter().next().ok_or(account.to_owned())
        })
    };
    let changes = |words: &[&str]| {
        let changed: u64 = redis.command(words);
        assert_eq!(changed, 1, "{words:?}");
    };
    let [(one, value), (two, _), (three, _)] = ["held-1", "held-2", "held-3"].map(mark);
    // What customers owe.
    changes(&["HDEL", &key("d", "free-c"), "free-1"]);
    changes(&["HSET", &key("d", "free-c"), "held-1", ""]);
    changes(&["DEL", &key("d", "lone-c")]);
    changes(&["HDEL", &key("d", "held-c"), "held-2"]);
    changes(&["HSET", &key("d", "held-c"), "held-2", ""]);
    // The marks of which a customer's readers are told.
    changes(&["HDEL", &key("qd", "held-c"), &format!("held-1/{one}")]);
    changes(&["HSET", &key("qd", "free-c"), &format!("free-2/{one}"), &value]);
    // A partition's index of keys on hold.
    changes(&["HDEL", &key("qi", &two), "held-2"]);
    changes(&["HSET", &key("qi", &one), "free-2", &value]);
    // The marks of subjects: what follows from them is not told once more.
    changes(&["HDEL", &key("qa", "held-3"), &three]);
    changes(&["HSET", &key("qa", "free-1"), &one, &value]);
    changes(&["DEL", &key("qc", "held-d")]);
    BTreeMap::from([
        (("customer", "free-c", "owing"), 2),
        (("customer", "lone-c", "owing"), 1),
        (("customer", "held-c", "owing"), 1),
        (("customer", "held-c", "told"), 1),
        (("customer", "free-c", "told"), 1),
        (("account", "held-2", "index"), 1),
        (("account", "free-2", "index"), 1),
        (("account", "held-3", "quarantine"), 1),
        (("account", "free-1", "quarantine"), 1),
        (("customer", "held-d", "quarantine"), 1),
    ])
}

/// What a report of a comparison found, as [`derived`] returns it.
#[track_caller]
pub fn found(report: &serde_json::Value) -> BTreeMap<(&str, &str, &str), u64> {
    let mut found = BTreeMap::new();
    for difference in report["first"].as_array().expect("differences") {
        let text = |name: &str| difference[name].as_str().expect("text");
        *found.entry((text("subject"), text("id"), text("kind"))).or_default() += 1;
    }
    found
}
