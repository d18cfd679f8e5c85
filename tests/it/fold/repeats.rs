//! What comes twice, late, or out of its order.

use super::*;

#[test]
fn an_unnumbered_event_is_known_by_source_and_id() {
    let first = || event(1, line("10.00 CZK", true));
    check(vec![
        ("the same event again", vec![first()], first(), DUPLICATE),
        ("an amount is compared by value", vec![first()], event(1, line("10 CZK", true)), DUPLICATE),
        ("time is no fact", vec![first()], first().at("2026-03-11T00:00:00Z"), DUPLICATE),
        ("another amount", vec![first()], event(1, line("10.01 CZK", true)), CONFLICT),
        ("another flag", vec![first()], event(1, line("10.00 CZK", false)), CONFLICT),
        ("another currency", vec![first()], event(1, line("10.00 EUR", true)), CONFLICT),
        ("another type", vec![first()], event(1, closed()), CONFLICT),
        ("another source is another event", vec![first()], first().from("cards"), APPLIED),
        ("another id is another event", vec![first()], event(2, line("10.00 CZK", true)), APPLIED),
        (
            "currencies are a set",
            vec![event(1, opened(&["CZK", "EUR"], ""))],
            event(1, opened(&["EUR", "CZK"], "")),
            DUPLICATE,
        ),
        (
            "a customer is a fact",
            vec![event(1, opened(&["CZK"], "c-1"))],
            event(1, opened(&["CZK"], "")),
            CONFLICT,
        ),
        (
            "32 ids are remembered",
            then(vec![first()], filler(2, 32)),
            event(1, line("10.01 CZK", true)),
            CONFLICT,
        ),
        ("the 33rd forgets the first", then(vec![first()], filler(2, 33)), first(), UNVERIFIABLE),
        (
            "a repeat does not renew its place",
            then(vec![first()], then(filler(2, 32), [first(), event(33, closed())])),
            first(),
            UNVERIFIABLE,
        ),
        (
            "names of customers are facts",
            vec![event(1, profile("A", "1"))],
            event(1, profile("B", "1")),
            CONFLICT,
        ),
        ("fees are facts", vec![event(1, profile("A", "1"))], event(1, profile("A", "2")), CONFLICT),
        (
            "fees are compared by value",
            vec![event(1, profile("A", "1"))],
            event(1, profile("A", "1.0")),
            DUPLICATE,
        ),
    ]);
}

#[test]
fn every_member_of_an_unnumbered_event_is_a_fact() {
    let held = |id: &str, of: &str, by: &str| account(AccountFact::Pending(entry(id, of, by)));
    let paid = |id: &str, of: &str, on: &str| {
        let (payment_id, paid_on) = (PaymentId::parse(id).unwrap(), day(on));
        let (amount, currency, _) = money(of);
        customer(CustomerFact::Settled { payment_id, amount, currency, paid_on })
    };
    let rows: Vec<(&str, Fact, Vec<(&str, Fact)>)> = vec![
        (
            "opened",
            opened(&["CZK"], "c-1"),
            vec![
                ("currency", opened(&["EUR"], "c-1")),
                ("number of currencies", opened(&["CZK", "EUR"], "c-1")),
                ("customer", opened(&["CZK"], "c-2")),
            ],
        ),
        (
            "pending",
            held("e1", "-5 CZK", "c-1"),
            vec![
                ("entry", held("e2", "-5 CZK", "c-1")),
                ("amount", held("e1", "-6 CZK", "c-1")),
                ("currency", held("e1", "-5 EUR", "c-1")),
                ("side", held("e1", "5 CZK", "c-1")),
                ("customer", held("e1", "-5 CZK", "c-2")),
                ("customer, who is nobody", held("e1", "-5 CZK", "")),
            ],
        ),
        ("released", released("e1"), vec![("entry", released("e2"))]),
        (
            "booked",
            owed("e1", "-5 CZK", DATE, "c-1"),
            vec![
                ("entry", owed("e2", "-5 CZK", DATE, "c-1")),
                ("date", owed("e1", "-5 CZK", "2026-03-09", "c-1")),
            ],
        ),
        (
            "stated",
            stated(Itbd, "5 CZK", NOON, "c-1"),
            vec![
                ("amount", stated(Itbd, "6 CZK", NOON, "c-1")),
                ("currency", stated(Itbd, "5 EUR", NOON, "c-1")),
                ("side", stated(Itbd, "-5 CZK", NOON, "c-1")),
                ("instant", stated(Itbd, "5 CZK", "2026-03-10T12:00:00.000000001Z", "c-1")),
                ("customer", stated(Itbd, "5 CZK", NOON, "c-2")),
                ("customer, who is nobody", stated(Itbd, "5 CZK", NOON, "")),
            ],
        ),
        (
            "settled",
            paid("p1", "5 USD", "2026-03-01"),
            vec![
                ("payment", paid("p2", "5 USD", "2026-03-01")),
                ("amount", paid("p1", "6 USD", "2026-03-01")),
                ("currency", paid("p1", "5 EUR", "2026-03-01")),
                ("day", paid("p1", "5 USD", "2026-03-02")),
            ],
        ),
        ("reversed", reversed("p1"), vec![("payment", reversed("p2"))]),
    ];
    for (what, first, others) in rows {
        check(vec![(what, vec![event(1, first.clone())], event(1, first.clone()), DUPLICATE)]);
        for (member, other) in others {
            let sentence = format!("{what} with another {member}");
            check(vec![(sentence.as_str(), vec![event(1, first.clone())], event(1, other), CONFLICT)]);
        }
    }
    let of_type = |balance_type| event(1, stated(balance_type, "5 CZK", NOON, ""));
    for first in BalanceType::ALL {
        for other in BalanceType::ALL.into_iter().filter(|other| *other != first) {
            let sentence = format!("{first:?} stated again as {other:?}");
            check(vec![(sentence.as_str(), vec![of_type(first)], of_type(other), CONFLICT)]);
        }
    }
}

#[test]
fn the_window_of_event_ids_is_a_parameter() {
    for (window, expected) in [(2, DUPLICATE), (1, UNVERIFIABLE)] {
        let mut log = Log::with_window(window);
        log.takes(&event(1, line("10 CZK", true)));
        log.takes(&event(2, closed()));
        assert_eq!(came(&log.fold(&event(1, line("10 CZK", true)))), expected, "{window}");
    }
}

#[test]
fn what_is_not_after_the_newest_forgotten_of_its_source_cannot_be_verified() {
    // Events 1 to 33: the first is forgotten; its time is 10:00:01.
    let past = || filler(1, 33);
    let at_one = "2026-03-10T10:00:01Z";
    let after = "2026-03-10T10:00:01.000000001Z";
    // The first is the newest: it is forgotten with the 33rd, and the second, an older one, with the next.
    let ahead = || {
        let first = event(1, booked("n1", "1 CZK", DATE)).at("2026-03-10T11:00:00Z");
        then(vec![first], then(filler(2, 33), [event(34, closed()).at(NOON)]))
    };
    check(vec![
        ("of the same instant", past(), event(99, closed()).at(at_one), UNVERIFIABLE),
        ("a billionth later", past(), event(99, closed()).at(after), APPLIED),
        ("of another source", past(), event(99, closed()).at(at_one).from("cards"), APPLIED),
        ("a numbered one", past(), event(99, closed()).at(at_one).number(1), APPLIED),
        (
            "the newest forgotten counts, not the last",
            ahead(),
            event(99, closed()).at("2026-03-10T10:30:00Z"),
            UNVERIFIABLE,
        ),
        ("a new entry", past(), event(99, booked("x", "1 CZK", DATE)).at(at_one), UNVERIFIABLE),
        (
            "a remembered entry, same facts",
            past(),
            event(99, booked("n2", "1 CZK", DATE)).at(at_one),
            DUPLICATE,
        ),
        (
            "a remembered entry, other facts",
            past(),
            event(99, booked("n2", "2 CZK", DATE)).at(at_one),
            CONFLICT,
        ),
        ("a forgotten entry", past(), event(1, booked("n1", "1 CZK", DATE)), UNVERIFIABLE),
        ("a release of a booked entry", past(), event(99, released("n2")).at(at_one), WITHOUT_EFFECT),
        ("a release of an unknown entry", past(), event(99, released("x")).at(at_one), UNVERIFIABLE),
        ("a pending of a booked entry", past(), event(99, pending("n2", "1 CZK")).at(at_one), WITHOUT_EFFECT),
        ("a pending of an unknown entry", past(), event(99, pending("x", "1 CZK")).at(at_one), UNVERIFIABLE),
        ("an opening", past(), event(99, opened(&["EUR"], "")).at(at_one), UNVERIFIABLE),
        ("a statement", past(), event(99, stated(Prcd, "1 CZK", NOON, "")).at(at_one), UNVERIFIABLE),
        ("a credit line", past(), event(99, line("1 CZK", true)).at(at_one), UNVERIFIABLE),
    ]);
}

#[test]
fn a_late_event_of_an_entry_that_has_been_pending_since_before_it_is_no_repeat() {
    // Pending before anything else, and 33 events of ten o'clock come between.
    let long_pending = || then(vec![event(1, pending("e1", "-9 CZK"))], filler(2, 40));
    // The entry was booked and forgotten; it becomes pending again afterwards.
    let ghost = || {
        let first = event(1, booked("e1", "-9 CZK", DATE));
        then(vec![first], then(filler(2, 40), [event(41, pending("e1", "-9 CZK"))]))
    };
    let released_ghost = || {
        let releases = (2..=40).map(|n| event(n, released(&format!("r{n}"))));
        let first = event(1, released("e1"));
        then(vec![first], then(releases.collect(), [event(41, pending("e1", "-9 CZK"))]))
    };
    check(vec![
        (
            "booked late",
            long_pending(),
            event(50, booked("e1", "-9 CZK", DATE)).at("2026-03-10T10:00:02Z"),
            APPLIED,
        ),
        ("released late", long_pending(), event(50, released("e1")).at("2026-03-10T10:00:02Z"), APPLIED),
        (
            "pending again late",
            long_pending(),
            event(50, pending("e1", "-8 CZK")).at("2026-03-10T10:00:02Z"),
            UNVERIFIABLE,
        ),
        (
            "a booking from before it was pending",
            ghost(),
            event(1, booked("e1", "-9 CZK", DATE)),
            UNVERIFIABLE,
        ),
        ("a release from before it was pending", released_ghost(), event(1, released("e1")), UNVERIFIABLE),
    ]);
}

#[test]
fn a_late_event_of_a_remembered_payment_is_told() {
    // 34 settlements, so that two events are forgotten, and p1 and p2 from the last 32 settled. p40 was
    // reversed before it was settled.
    let past = || {
        let first = event(1, reversed("p40")).at("2026-03-10T09:00:00Z");
        let settle = |n: u64| event(n + 1, settled(&format!("p{n}"), "5", "2026-03-01"));
        then(vec![first], (1..=34).map(settle))
    };
    let late = "2026-03-10T09:00:00Z";
    check(vec![
        (
            "a settled one, same facts",
            past(),
            event(99, settled("p20", "5", "2026-03-01")).at(late),
            DUPLICATE,
        ),
        (
            "a settled one, other facts",
            past(),
            event(99, settled("p20", "6", "2026-03-01")).at(late),
            CONFLICT,
        ),
        ("a new one", past(), event(99, settled("p99", "5", "2026-03-01")).at(late), UNVERIFIABLE),
        ("one forgotten", past(), event(99, settled("p1", "5", "2026-03-01")).at(late), UNVERIFIABLE),
        (
            "one reversed before it is settled",
            past(),
            event(99, settled("p40", "5", "2026-04-01")).at(late),
            APPLIED,
        ),
        ("a reversal of a settled one", past(), event(99, reversed("p20")).at(late), APPLIED),
        (
            "a reversal again",
            then(past(), [event(98, reversed("p20"))]),
            event(99, reversed("p20")).at(late),
            WITHOUT_EFFECT,
        ),
        ("a reversal of one reversed before", past(), event(99, reversed("p40")).at(late), WITHOUT_EFFECT),
        ("a reversal of an unknown one", past(), event(99, reversed("p99")).at(late), UNVERIFIABLE),
        ("a profile", past(), event(99, profile("A", "1")).at(late), UNVERIFIABLE),
    ]);
}

#[test]
fn a_numbered_event_is_known_by_its_number() {
    let first = || event(1, closed()).number(1);
    let nine = || (1..=9).map(|n| event(n, line("1 CZK", true)).number(n)).collect::<Vec<_>>();
    check(vec![
        ("one is first", vec![], first(), APPLIED),
        ("two is not", vec![], event(2, closed()).number(2), GAP),
        ("the next", vec![first()], event(2, closed()).number(2), APPLIED),
        ("one too high", vec![first()], event(3, closed()).number(3), GAP),
        ("each source counts for itself", vec![first()], event(2, closed()).number(2).from("cards"), GAP),
        ("each source begins at one", vec![first()], event(2, closed()).number(1).from("cards"), APPLIED),
        (
            "unnumbered ones do not count",
            vec![first(), event(5, closed())],
            event(2, closed()).number(2),
            APPLIED,
        ),
        ("the same again", vec![first()], first(), DUPLICATE),
        ("facts are not compared", vec![first()], event(1, line("1 CZK", true)).number(1), DUPLICATE),
        ("another id", vec![first()], event(2, closed()).number(1), CONFLICT),
        ("the last eight are remembered", nine(), event(99, closed()).number(2), CONFLICT),
        ("the last eight are repeats by their id", nine(), event(2, closed()).number(2), DUPLICATE),
        (
            "further back, not after the newest time",
            nine(),
            event(99, closed()).number(1).at("2026-03-10T10:00:09Z"),
            DUPLICATE,
        ),
        (
            "further back, after the newest time",
            nine(),
            event(99, closed()).number(1).at("2026-03-10T10:00:10Z"),
            CONFLICT,
        ),
        ("without its number it is the same event", vec![first()], event(1, closed()), DUPLICATE),
        ("without its number, one of the last eight", nine(), event(2, line("1 CZK", true)), DUPLICATE),
        ("without its number, further back", nine(), event(1, line("1 CZK", true)), UNVERIFIABLE),
        (
            "without a number, not after what may be forgotten",
            nine(),
            event(99, closed()).at("2026-03-10T10:00:08Z"),
            UNVERIFIABLE,
        ),
        (
            "without a number, of the newest time",
            nine(),
            event(99, closed()).at("2026-03-10T10:00:09Z"),
            APPLIED,
        ),
        (
            "without a number, where every number is remembered",
            nine().into_iter().take(8).collect(),
            event(99, closed()).at("2026-03-10T10:00:01Z"),
            APPLIED,
        ),
        ("with a number it is the same event", vec![event(1, closed())], first(), DUPLICATE),
        (
            "a repeat uses up its number",
            vec![event(1, closed()), first()],
            event(2, line("1 CZK", true)).number(2),
            APPLIED,
        ),
        (
            "a repeat by its entry uses up its number",
            vec![
                event(1, booked("e1", "1 CZK", DATE)).number(1),
                event(2, booked("e1", "1 CZK", DATE)).number(2),
            ],
            event(3, closed()).number(3),
            APPLIED,
        ),
        (
            "a conflict by its entry does not",
            vec![event(1, booked("e1", "1 CZK", DATE)).number(1)],
            event(3, booked("e1", "2 CZK", DATE)).number(2),
            CONFLICT,
        ),
        (
            "an old time does not matter",
            then(filler(1, 40), [first().at("2026-03-01T00:00:00Z")]),
            event(2, closed()).number(2).at("2026-02-01T00:00:00Z"),
            APPLIED,
        ),
    ]);
}

#[test]
fn an_entry_is_booked_once() {
    let once = || event(1, booked("e1", "10.50 CZK", DATE));
    check(vec![
        ("another event, same facts", vec![once()], event(2, booked("e1", "10.5 CZK", DATE)), DUPLICATE),
        (
            "of another source",
            vec![once()],
            event(2, booked("e1", "10.5 CZK", DATE)).from("cards"),
            DUPLICATE,
        ),
        ("another amount", vec![once()], event(2, booked("e1", "10.51 CZK", DATE)), CONFLICT),
        ("another side", vec![once()], event(2, booked("e1", "-10.50 CZK", DATE)), CONFLICT),
        ("another currency", vec![once()], event(2, booked("e1", "10.50 EUR", DATE)), CONFLICT),
        ("another date", vec![once()], event(2, booked("e1", "10.50 CZK", "2026-03-09")), CONFLICT),
        ("another customer", vec![once()], event(2, owed("e1", "10.50 CZK", DATE, "c-1")), CONFLICT),
        ("case is kept", vec![once()], event(2, booked("E1", "10.50 CZK", DATE)), APPLIED),
        (
            "32 are remembered",
            then(vec![once()], filler(2, 32)),
            event(99, booked("e1", "1 CZK", DATE)),
            CONFLICT,
        ),
        (
            "the 33rd forgets the first",
            then(vec![once()], filler(2, 33)),
            event(99, booked("e1", "1 CZK", DATE)),
            APPLIED,
        ),
        ("pending after it is booked", vec![once()], event(2, pending("e1", "1 CZK")), WITHOUT_EFFECT),
        ("released after it is booked", vec![once()], event(2, released("e1")), WITHOUT_EFFECT),
        (
            "booked after it is released",
            vec![event(1, released("e1"))],
            event(2, booked("e1", "1 CZK", DATE)),
            APPLIED,
        ),
        (
            "pending after it is released",
            vec![event(1, released("e1"))],
            event(2, pending("e1", "1 CZK")),
            WITHOUT_EFFECT,
        ),
        ("released twice", vec![event(1, released("e1"))], event(2, released("e1")), WITHOUT_EFFECT),
        (
            "32 releases are remembered",
            (1..=32).map(|n| event(n, released(&format!("e{n}")))).collect(),
            event(99, pending("e1", "1 CZK")),
            WITHOUT_EFFECT,
        ),
        (
            "the 33rd release forgets the first",
            (1..=33).map(|n| event(n, released(&format!("e{n}")))).collect(),
            event(99, pending("e1", "1 CZK")),
            APPLIED,
        ),
        (
            "releases and bookings are remembered apart",
            then(vec![event(1, released("e1"))], filler(2, 40)),
            event(99, pending("e1", "1 CZK")),
            WITHOUT_EFFECT,
        ),
    ]);
}
