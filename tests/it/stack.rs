//! The harness itself: a real Kafka and a real Redis, that do what the other tests rely on.

use std::time::Duration;

use crate::support::{
    kafka::{self, Broker},
    oracle,
    process::Signal,
    produce::{Outgoing, Partitioner, Producer},
    redis,
};

fn record(topic: &str, key: &str, value: &str) -> Outgoing {
    Outgoing {
        topic: topic.to_owned(),
        key: Some(key.as_bytes().to_vec()),
        value: Some(value.as_bytes().to_vec()),
        headers: vec![("ce_id".to_owned(), Some(b"1".to_vec())), ("empty".to_owned(), None)],
        ..Outgoing::default()
    }
}

#[test]
fn a_record_is_read_back_as_it_was_sent() {
    let broker = kafka::shared();
    let topics = broker.topics(3);
    let producer = Producer::new(broker, Partitioner::Java);
    let sent = Outgoing { partition: Some(1), ..record(&topics.ledger, "a", "1") };
    assert_eq!(producer.put(&sent), (1, 0));
    let read = oracle::read(broker, &topics.ledger, 3);
    assert_eq!(read[0], []);
    assert_eq!(read[1].len(), 1);
    assert_eq!(read[1][0].key, sent.key);
    assert_eq!(read[1][0].value, sent.value);
    assert_eq!(read[1][0].headers, sent.headers);
}

#[test]
fn the_two_partitioners_disagree() {
    let broker = kafka::shared();
    let topics = broker.topics(6);
    let [java, librdkafka] = [Partitioner::Java, Partitioner::Librdkafka].map(|p| Producer::new(broker, p));
    let keys: Vec<String> = (0..60).map(|n| format!("account-{n}")).collect();
    let moved = keys
        .iter()
        .filter(|key| {
            let record = record(&topics.ledger, key, "1");
            java.put(&record).0 != librdkafka.put(&record).0
        })
        .count();
    // Five in six would differ by chance alone.
    assert!((35..=59).contains(&moved), "{moved} of 60 keys are in another partition");
}

#[test]
fn aborted_records_are_not_read_and_leave_a_hole() {
    let broker = kafka::shared();
    let topics = broker.topics(1);
    let producer = Producer::transactional(broker, &topics.group);
    for (value, commit) in [("kept", true), ("dropped", false), ("last", true)] {
        producer.begin();
        producer.send(&record(&topics.ledger, "a", value));
        if commit { producer.commit() } else { producer.abort() }
    }
    let read = oracle::read(broker, &topics.ledger, 1);
    let seen: Vec<_> = read[0].iter().map(|r| (r.offset, r.value.as_deref().unwrap())).collect();
    // Each transaction takes an offset for its record and one for its marker.
    assert_eq!(seen, [(0, &b"kept"[..]), (4, b"last")]);
}

#[test]
fn records_removed_from_the_head_raise_the_low_watermark() {
    let broker = kafka::shared();
    let topics = broker.topics(1);
    let producer = Producer::new(broker, Partitioner::Java);
    for value in ["1", "2", "3"] {
        producer.put(&record(&topics.payment, "c", value));
    }
    broker.delete_records_before(&topics.payment, 0, 2);
    assert_eq!(broker.watermarks(&topics.payment, 0), (2, 3));
}

#[test]
fn a_topic_made_anew_begins_at_zero() {
    let broker = kafka::shared();
    let topics = broker.topics(1);
    let producer = Producer::new(broker, Partitioner::Java);
    producer.put(&record(&topics.ledger, "a", "1"));
    broker.delete_topic(&topics.ledger);
    broker.create_topic(&topics.ledger, 2, &[]);
    assert_eq!(broker.watermarks(&topics.ledger, 0), (0, 0));
    broker.add_partitions(&topics.ledger, 3);
    assert_eq!(broker.watermarks(&topics.ledger, 2), (0, 0));
}

#[test]
fn a_broker_killed_or_frozen_comes_back_with_its_records() {
    let mut broker = Broker::start(&[]);
    let topics = broker.topics(1);
    Producer::new(&broker, Partitioner::Java).put(&record(&topics.ledger, "a", "1"));
    broker.kill();
    broker.restart();
    broker.signal(Signal::Stop);
    broker.signal(Signal::Cont);
    broker.answers();
    assert_eq!(oracle::read(&broker, &topics.ledger, 1)[0].len(), 1);
}

#[test]
fn a_redis_begins_again_with_what_it_saved_last() {
    let mut redis = redis::Server::start();
    redis.command::<()>(&["SET", "k", "saved"]);
    redis.save();
    redis.command::<()>(&["SET", "k", "lost"]);
    redis.kill();
    redis.restart();
    assert_eq!(redis.command::<String>(&["GET", "k"]), "saved");
    let policy: Vec<String> = redis.command(&["CONFIG", "GET", "maxmemory-policy"]);
    assert_eq!(policy[1], "noeviction");
    redis.signal(Signal::Stop);
    redis.signal(Signal::Cont);
    crate::support::eventually(Duration::from_secs(5), || {
        (redis.command::<String>(&["PING"]) == "PONG").then_some(()).ok_or("no answer")
    });
}
