//! A customer's payments: which one was the last, and since when there is a customer.

use super::*;

#[test]
fn a_payment_is_settled_once_and_reversed_once() {
    let once = || event(1, settled("p1", "497.7", "2014-09-01"));
    check(vec![
        (
            "another event, same facts",
            vec![once()],
            event(2, settled("p1", "497.70", "2014-09-01")),
            DUPLICATE,
        ),
        ("another amount", vec![once()], event(2, settled("p1", "497.71", "2014-09-01")), CONFLICT),
        ("another day", vec![once()], event(2, settled("p1", "497.7", "2014-09-02")), CONFLICT),
        ("reversed", vec![once()], event(2, reversed("p1")), APPLIED),
        ("reversed twice", vec![once(), event(2, reversed("p1"))], event(3, reversed("p1")), WITHOUT_EFFECT),
        (
            "settled again after its reversal",
            vec![once(), event(2, reversed("p1"))],
            event(3, settled("p1", "497.7", "2014-09-01")),
            DUPLICATE,
        ),
        ("reversed without a payment", vec![], event(1, reversed("p1")), APPLIED),
        (
            "reversed twice without one",
            vec![event(1, reversed("p1"))],
            event(2, reversed("p1")),
            WITHOUT_EFFECT,
        ),
        (
            "settled after it",
            vec![event(1, reversed("p1"))],
            event(2, settled("p1", "1", "2014-09-01")),
            APPLIED,
        ),
        (
            "reversed, settled, and settled again with other facts",
            vec![event(1, reversed("p1")), event(2, settled("p1", "1", "2014-09-01"))],
            event(3, settled("p1", "2", "2014-09-01")),
            CONFLICT,
        ),
        (
            "of the latest by day, facts are remembered beyond the last 32",
            then(vec![once()], (2..=50).map(|n| event(n, settled(&format!("p{n}"), "1", "2013-01-01")))),
            event(99, settled("p1", "1", "2014-09-01")),
            CONFLICT,
        ),
    ]);
}

#[test]
fn the_last_payment_is_the_latest_by_day_then_offset_that_stands() {
    let steps = [
        (event(1, settled("p1", "10", "2026-03-01")), "10.0 2026-03-01"),
        (event(2, settled("p2", "20", "2026-03-05")), "20.0 2026-03-05"),
        (event(3, settled("p3", "30", "2026-03-04")), "20.0 2026-03-05"),
        (event(4, settled("p4", "40", "2026-03-05")), "40.0 2026-03-05"),
        (event(5, reversed("p4")), "20.0 2026-03-05"),
        (event(6, reversed("p2")), "30.0 2026-03-04"),
        (event(7, reversed("p9")), "30.0 2026-03-04"),
        (event(8, settled("p9", "90", "2026-03-09")), "30.0 2026-03-04"),
        (event(9, reversed("p3")), "10.0 2026-03-01"),
        (event(10, reversed("p1")), "none"),
        (event(11, settled("p5", "50", "2026-01-01")), "50.0 2026-01-01"),
    ];
    let mut log = Log::new();
    for (n, (step, expected)) in steps.into_iter().enumerate() {
        log.takes(&step);
        assert_eq!(log.last_payment(), expected, "step {n}");
    }
}

#[test]
fn where_all_remembered_payments_are_reversed_and_more_are_forgotten_the_last_is_not_known() {
    let mut log = Log::new();
    for n in 1..=33 {
        log.takes(&event(n, settled(&format!("p{n}"), "1", &format!("2026-01-{:02}", n.min(31)))));
    }
    for n in 2..=32 {
        log.takes(&event(100 + n, reversed(&format!("p{n}"))));
        assert!(log.last_payment().starts_with("1.0"), "{n}");
    }
    let since = 1_700_000_000_000 + log.next;
    log.takes(&event(200, reversed("p33")));
    let unknown = format!("forgotten since {since}");
    assert_eq!(log.last_payment(), unknown);
    log.takes(&event(201, profile("A", "1")));
    log.takes(&event(202, reversed("p1")));
    assert_eq!(log.last_payment(), unknown, "it stays so since the same record");
    log.takes(&event(203, settled("p99", "2", "2025-01-01")));
    assert_eq!(log.last_payment(), unknown, "an older one is forgotten at once");
    log.takes(&event(204, settled("p98", "2", "2026-02-01")));
    assert_eq!(log.last_payment(), "2.0 2026-02-01");
}

#[test]
fn the_last_32_settled_tell_repeats_whatever_their_day() {
    let late = |from: u64, to: u64| {
        (from..=to).map(|n| event(n, settled(&format!("p{n}"), "1", "2026-03-01"))).collect::<Vec<_>>()
    };
    let old = |n: u64| event(n, settled("old", "5", "2020-01-01"));
    // The 32 latest by day are others: this one is forgotten among them at once.
    let past = || then(late(1, 32), [old(33)]);
    let taken_back = || then(past(), [event(34, reversed("old"))]);
    check(vec![
        ("settled again, same facts", past(), old(99), DUPLICATE),
        ("settled again, other facts", past(), event(99, settled("old", "6", "2020-01-01")), CONFLICT),
        ("reversed", past(), event(99, reversed("old")), APPLIED),
        ("reversed twice", taken_back(), event(99, reversed("old")), WITHOUT_EFFECT),
        ("settled again after its reversal", taken_back(), old(99), DUPLICATE),
        (
            "reversed before it is settled and once more",
            then(late(1, 32), [event(33, reversed("old")), old(34)]),
            event(99, reversed("old")),
            WITHOUT_EFFECT,
        ),
        ("the first of the last 32", then(past(), late(34, 64)), old(99), DUPLICATE),
        ("the one before them", then(past(), late(34, 65)), old(99), APPLIED),
    ]);
}

#[test]
fn the_last_32_reversals_without_a_payment_are_remembered() {
    let reversals = |to: u64| (1..=to).map(|n| event(n, reversed(&format!("p{n}")))).collect::<Vec<_>>();
    let rows = [
        ("the first of 32 never counts", reversals(32), "none"),
        ("the 33rd forgets the first", reversals(33), "5.0 2026-03-01"),
        (
            "one whose payment came makes room",
            then(reversals(32), [event(33, settled("p32", "1", "2026-03-01")), event(34, reversed("p33"))]),
            "none",
        ),
    ];
    for (sentence, history, expected) in rows {
        let mut log = Log::of(&history);
        log.takes(&event(99, settled("p1", "5", "2026-03-01")));
        assert_eq!(log.last_payment(), expected, "{sentence}");
    }
}

#[test]
fn a_customer_exists_from_the_first_profile_or_payment() {
    let mut log = Log::of(&[event(1, reversed("p1"))]);
    assert!(!log.customer().exists());
    log.takes(&event(2, settled("p1", "1", "2026-03-01")));
    assert!(log.customer().exists());
    assert_eq!(log.last_payment(), "none");
    assert!(Log::of(&[event(1, profile("A", "0"))]).customer().exists());
}
