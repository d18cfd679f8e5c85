//! An account's balances: what moves them, what bounds them, and on which day they rest.

use super::*;

#[test]
fn the_bounds_of_an_account_hold_it_back() {
    let codes = [
        "AED", "AUD", "BGN", "BRL", "CAD", "CHF", "CNY", "CZK", "DKK", "EUR", "GBP", "HUF", "INR", "JPY",
        "NOK", "PLN",
    ];
    let pendings = || (1..=256).map(|n| event(n, pending(&format!("e{n}"), "-1 CZK"))).collect::<Vec<_>>();
    let currencies = || vec![event(1, opened(&codes, ""))];
    let customers = || {
        (1..=16)
            .map(|n| event(n, owed(&format!("e{n}"), "-1 CZK", DATE, &format!("c-{n}"))))
            .collect::<Vec<_>>()
    };
    let sources = || (1..=8).map(|n| event(n, closed()).from(&format!("s{n}"))).collect::<Vec<_>>();
    check(vec![
        ("257 pending", pendings(), event(300, pending("x", "-1 CZK")), CELL_FULL),
        ("one replaced among 256", pendings(), event(300, pending("e1", "-2 CZK")), APPLIED),
        ("one booked among 256", pendings(), event(300, booked("e1", "-2 CZK", DATE)), APPLIED),
        ("17 currencies booked", currencies(), event(2, booked("x", "1 USD", DATE)), CELL_FULL),
        ("17 currencies pending", currencies(), event(2, pending("x", "1 USD")), CELL_FULL),
        ("17 currencies stated", currencies(), event(2, stated(Prcd, "1 USD", NOON, "")), CELL_FULL),
        (
            "17 currencies stated at the opening",
            currencies(),
            event(2, stated(Itbd, "1 USD", NOON, "")),
            CELL_FULL,
        ),
        ("17 currencies with a line", currencies(), event(2, line("1 USD", true)), CELL_FULL),
        ("17 currencies opened", currencies(), event(2, opened(&["CZK", "USD"], "")), CELL_FULL),
        ("16 opened again", currencies(), event(2, opened(&codes, "")), APPLIED),
        ("17 customers booked", customers(), event(99, owed("x", "-1 CZK", DATE, "c-17")), CELL_FULL),
        ("17 customers opened", customers(), event(99, opened(&["CZK"], "c-17")), CELL_FULL),
        ("the 16th again", customers(), event(99, owed("x", "-1 CZK", DATE, "c-16")), APPLIED),
        ("a ninth source", sources(), event(99, closed()).from("s9"), CELL_FULL),
        ("a ninth numbered source", sources(), event(99, closed()).from("s9").number(1), CELL_FULL),
        ("a gap comes before a ninth source", sources(), event(99, closed()).from("s9").number(2), GAP),
        ("the eighth again", sources(), event(99, closed()).from("s8"), APPLIED),
        (
            "a ninth source of a customer",
            (1..=8).map(|n| event(n, profile("A", "1")).from(&format!("s{n}"))).collect(),
            event(99, profile("A", "1")).from("s9"),
            CELL_FULL,
        ),
    ]);
}

#[test]
fn what_is_booked_and_owed_stays_within_18_integer_digits() {
    // The largest amount is 15 nines; a thousand of them and one crown less would be 18 digits and more.
    let most = "999999999999999.99 CZK";
    let mut log = Log::new();
    for n in 1..=1000 {
        log.takes(&event(n, booked(&format!("e{n}"), most, DATE)));
    }
    assert_eq!(log.itbd(), "999999999999999990.0");
    assert_eq!(came(&log.fold(&event(1001, booked("x", "10.00 CZK", DATE)))), OVERFLOW);
    log.takes(&event(1002, booked("y", "9.99 CZK", "2026-04-01")));
    assert_eq!(log.itbd(), "999999999999999999.99");
    log.takes(&event(1003, line(most, true)));
    assert_eq!(
        log.amount_of("CZK", Clav, DATE),
        "1000999999999999999.98",
        "figures have the digits they need"
    );

    let mut log = Log::new();
    for n in 1..=1000 {
        log.takes(&event(2 * n, owed(&format!("d{n}"), "-999999999999999.99 CZK", DATE, "c-1")));
        log.takes(&event(2 * n + 1, booked(&format!("e{n}"), most, DATE)));
    }
    assert_eq!((log.itbd().as_str(), log.due("c-1").unwrap().as_str()), ("0.0", "999999999999999990.0 CZK"));
    let too_much = log.fold(&event(9_001, owed("x", "-10 CZK", DATE, "c-1")));
    assert_eq!(came(&too_much), OVERFLOW);
    assert_eq!(came(&log.fold(&event(9_002, owed("x", "-10 CZK", DATE, "c-2")))), APPLIED);
}

#[test]
fn pending_entries_lower_what_is_available_until_they_end() {
    let mut log = Log::of(&[event(1, booked("e0", "100 CZK", DATE))]);
    let steps = [
        (event(2, pending("e1", "-30 CZK")), "70.0", "100.0"),
        (event(3, pending("e2", "20 CZK")), "70.0", "100.0"),
        (event(4, pending("e1", "-40 CZK")), "60.0", "100.0"),
        (event(5, line("5 CZK", false)), "60.0", "100.0"),
        (event(6, line("5 CZK", true)), "65.0", "100.0"),
        (event(7, booked("e1", "-35 CZK", DATE)), "70.0", "65.0"),
        (event(8, pending("e3", "-1 CZK")), "69.0", "65.0"),
        (event(9, released("e3")), "70.0", "65.0"),
        (event(10, pending("e4", "-1 EUR")), "70.0", "65.0"),
        (event(11, pending("e4", "-2 CZK")), "68.0", "65.0"),
    ];
    for (n, (step, available, booked)) in steps.into_iter().enumerate() {
        log.takes(&step);
        assert_eq!(
            (log.amount_of("CZK", Clav, DATE).as_str(), log.itbd().as_str()),
            (available, booked),
            "step {n}"
        );
    }
    assert_eq!(
        log.amount_of("EUR", Clav, DATE),
        "0.0",
        "the later pending took its place in another currency"
    );
}

#[test]
fn customers_owe_what_is_debited_and_the_sum_of_an_opening() {
    let mut log = Log::of(&[event(1, opened(&["USD"], "c-1"))]);
    assert_eq!(log.due("c-1").unwrap(), "", "a due of zero has no currency");
    let steps = [
        (event(2, owed("e1", "-50.25 USD", DATE, "c-1")), "50.25 USD"),
        (event(3, owed("e2", "20 USD", DATE, "c-1")), "30.25 USD"),
        (event(4, booked("e3", "-7 USD", DATE)), "30.25 USD"),
        (event(5, account(AccountFact::Pending(entry("e4", "-9 USD", "c-1")))), "30.25 USD"),
        (event(6, owed("e5", "-1 CZK", DATE, "c-1")), "1.0 CZK, 30.25 USD"),
        (event(7, owed("e6", "31.25 USD", DATE, "c-1")), "1.0 CZK, -1.0 USD"),
        (event(8, owed("e7", "-1 USD", DATE, "c-1")), "1.0 CZK"),
        (event(9, closed()), "1.0 CZK"),
    ];
    for (n, (step, due)) in steps.into_iter().enumerate() {
        log.takes(&step);
        assert_eq!(log.due("c-1").unwrap(), due, "step {n}");
    }
    assert_eq!(log.due("c-2"), None);

    let mut log = Log::new();
    let effect = log.takes(&event(1, stated(Itbd, "-12.50 USD", NOON, "c-9")));
    assert_eq!(effect.dues, Dues::Opened);
    assert_eq!(log.due("c-9").unwrap(), "12.5 USD", "an opening debit is owed");
    let effect = log.takes(&event(2, owed("e1", "2.50 USD", DATE, "c-9")));
    assert_eq!(effect.dues, Dues::Changed, "the account is known by now");
    assert_eq!(log.due("c-9").unwrap(), "10.0 USD");
    let effect = log.takes(&event(3, stated(Itbd, "-99 USD", NOON, "c-8")));
    assert_eq!(
        (effect.dues, effect.compared),
        (Dues::Same, Some(Compared::Drifts)),
        "a later statement opens nothing"
    );
}

#[test]
fn statements_open_agree_drift_or_only_count() {
    // Events of ten o'clock; `as_of` noon is after them all.
    let noon = NOON;
    let before = "2026-03-10T10:00:00Z";
    let credit = || event(1, booked("e1", "100 CZK", DATE));
    let rows: Vec<(&str, Vec<Event>, Fact, Compared, &str)> = vec![
        ("the first opens", vec![], stated(Itbd, "5 CZK", noon, ""), Compared::Opened, "5.0"),
        ("a debit opens", vec![], stated(Itbd, "-5 CZK", noon, ""), Compared::Opened, "-5.0"),
        ("zero opens", vec![], stated(Itbd, "0 CZK", noon, ""), Compared::Opened, "0.0"),
        (
            "another currency's entries do not matter",
            vec![event(1, booked("e1", "1 EUR", DATE))],
            stated(Itbd, "5 CZK", noon, ""),
            Compared::Opened,
            "5.0",
        ),
        (
            "a pending entry does not matter",
            vec![event(1, pending("e1", "1 CZK"))],
            stated(Itbd, "5 CZK", noon, ""),
            Compared::Opened,
            "5.0",
        ),
        (
            "the second does not open",
            vec![event(1, stated(Itbd, "5 CZK", noon, ""))],
            stated(Itbd, "6 CZK", noon, ""),
            Compared::Drifts,
            "5.0",
        ),
        (
            "after an entry it is compared",
            vec![credit()],
            stated(Itbd, "100 CZK", noon, ""),
            Compared::Agrees,
            "100.0",
        ),
        (
            "at the entry's very time",
            vec![credit()],
            stated(Itbd, "100 CZK", "2026-03-10T10:00:01Z", ""),
            Compared::Agrees,
            "100.0",
        ),
        (
            "before the newest entry's time",
            vec![credit()],
            stated(Itbd, "99 CZK", before, ""),
            Compared::Counted,
            "100.0",
        ),
        ("the other side", vec![credit()], stated(Itbd, "-100 CZK", noon, ""), Compared::Drifts, "100.0"),
        ("PRCD", vec![credit()], stated(Prcd, "1 CZK", noon, ""), Compared::Counted, "100.0"),
        ("CLAV", vec![credit()], stated(Clav, "1 CZK", noon, ""), Compared::Counted, "100.0"),
        ("PRCD does not open", vec![], stated(Prcd, "1 CZK", noon, ""), Compared::Counted, "0.0"),
        ("CLBD agrees", vec![credit()], stated(Clbd, "100 CZK", noon, ""), Compared::Agrees, "100.0"),
        (
            "CLBD of the day before",
            vec![credit()],
            stated(Clbd, "0 CZK", "2026-03-09T12:00:00Z", ""),
            Compared::Agrees,
            "100.0",
        ),
        (
            // 23:30 on the 9th in UTC is half past midnight on the 10th in Prague.
            "CLBD's day is that of the zone",
            vec![credit()],
            stated(Clbd, "100 CZK", "2026-03-09T23:30:00Z", ""),
            Compared::Agrees,
            "100.0",
        ),
        ("CLBD where nothing has begun", vec![], stated(Clbd, "1 CZK", noon, ""), Compared::Counted, "0.0"),
        (
            "CLBD where the account is opened",
            vec![event(1, opened(&["CZK"], ""))],
            stated(Clbd, "1 CZK", noon, ""),
            Compared::Drifts,
            "0.0",
        ),
        (
            "CLBD where the balance is opened",
            vec![event(1, stated(Itbd, "5 CZK", noon, ""))],
            stated(Clbd, "5 CZK", noon, ""),
            Compared::Agrees,
            "5.0",
        ),
        (
            "CLBD before a date that is merged",
            vec![event(1, booked("e1", "1 CZK", "2026-02-20")), event(2, booked("e2", "1 CZK", DATE))],
            stated(Clbd, "0 CZK", "2026-02-19T12:00:00Z", ""),
            Compared::Counted,
            "2.0",
        ),
        (
            "CLBD of the newest date that is merged",
            vec![event(1, booked("e1", "1 CZK", "2026-02-20")), event(2, booked("e2", "1 CZK", DATE))],
            stated(Clbd, "1 CZK", "2026-02-20T12:00:00Z", ""),
            Compared::Agrees,
            "2.0",
        ),
    ];
    for (sentence, history, statement, compared, itbd) in rows {
        let mut log = Log::of(&history);
        let effect = log.takes(&event(50, statement));
        assert_eq!((effect.outcome, effect.compared), (Outcome::Applied, Some(compared)), "{sentence}");
        assert_eq!(log.itbd(), itbd, "{sentence}");
    }
}

#[test]
fn drift_lasts_from_the_first_disagreement_to_an_agreement_that_is_not_older() {
    let (one, two, three) = ("2026-03-10T11:00:00Z", "2026-03-10T12:00:00Z", "2026-03-10T13:00:00Z");
    let mut log = Log::of(&[event(1, booked("e1", "100 CZK", DATE)), event(2, booked("e2", "8 EUR", DATE))]);
    let czk_two = "CZK Itbd 2026-03-10T12:00:00Z";
    let steps: Vec<(Fact, Compared, Vec<&str>)> = vec![
        (stated(Itbd, "99 CZK", two, ""), Compared::Drifts, vec![czk_two]),
        (stated(Itbd, "98 CZK", three, ""), Compared::Drifts, vec![czk_two]),
        (stated(Itbd, "100 CZK", one, ""), Compared::Agrees, vec![czk_two]),
        (stated(Clbd, "100 CZK", three, ""), Compared::Agrees, vec![czk_two]),
        (stated(Clbd, "1 CZK", three, ""), Compared::Drifts, vec![czk_two, "CZK Clbd 2026-03-10T13:00:00Z"]),
        (
            stated(Itbd, "7 EUR", one, ""),
            Compared::Drifts,
            vec![czk_two, "CZK Clbd 2026-03-10T13:00:00Z", "EUR Itbd 2026-03-10T11:00:00Z"],
        ),
        (
            stated(Itbd, "100 CZK", two, ""),
            Compared::Agrees,
            vec!["CZK Clbd 2026-03-10T13:00:00Z", "EUR Itbd 2026-03-10T11:00:00Z"],
        ),
        (stated(Clbd, "100 CZK", three, ""), Compared::Agrees, vec!["EUR Itbd 2026-03-10T11:00:00Z"]),
    ];
    for (n, (statement, compared, drifts)) in steps.into_iter().enumerate() {
        let effect = log.takes(&event(10 + n as u64, statement));
        assert_eq!(effect.compared, Some(compared), "step {n}");
        assert_eq!(log.drifts(), drifts, "step {n}");
    }
    let Some(Cell::Account(account)) = &log.cell else { panic!("an account") };
    let drift = account.drifts().remove(0);
    assert_eq!(
        (drift.stated.to_short().as_str(), drift.ours.to_short().as_str(), drift.offset),
        ("7.0", "8.0", Offset(7)),
        "an operator sees both figures and the record"
    );
}

#[test]
fn each_balance_rests_on_its_days_and_tells_its_newest_time() {
    let log = Log::of(&[
        event(1, opened(&["CZK", "EUR"], "")).at("2026-03-01T08:00:00Z"),
        event(2, stated(Itbd, "1000 CZK", "2026-03-01T00:00:00Z", "")).at("2026-03-01T09:00:00Z"),
        event(3, booked("e1", "10 CZK", "2026-03-08")).at("2026-03-08T10:00:00Z"),
        event(4, booked("e2", "20 CZK", "2026-03-09")).at("2026-03-09T10:00:00Z"),
        // Booked on the 8th, but told on the 10th.
        event(5, booked("e3", "40 CZK", "2026-03-08")).at("2026-03-10T07:00:00Z"),
        event(6, booked("e4", "80 CZK", "2026-03-10")).at("2026-03-10T06:00:00Z"),
        event(7, pending("e5", "-1 CZK")).at("2026-03-10T09:00:00Z"),
        event(8, stated(Prcd, "7 CZK", NOON, "")).at("2026-03-10T11:00:00Z"),
        event(9, stated(Prcd, "7 USD", NOON, "")).at("2026-03-10T11:30:00Z"),
    ]);
    let rows = [
        ("CZK", Prcd, "2026-03-08", "1000.0 2026-03-01T09:00:00Z"),
        ("CZK", Prcd, "2026-03-09", "1050.0 2026-03-10T07:00:00Z"),
        ("CZK", Prcd, "2026-03-10", "1070.0 2026-03-10T07:00:00Z"),
        ("CZK", Clbd, "2026-03-10", "1070.0 2026-03-10T07:00:00Z"),
        ("CZK", Prcd, "2026-03-11", "1150.0 2026-03-10T07:00:00Z"),
        ("CZK", Itbd, "2026-03-08", "1150.0 2026-03-10T07:00:00Z"),
        ("CZK", Clav, "2026-03-08", "1149.0 2026-03-10T09:00:00Z"),
        ("EUR", Prcd, "2026-03-10", "0.0 2026-03-01T08:00:00Z"),
        ("EUR", Clav, "2026-03-10", "0.0 2026-03-01T08:00:00Z"),
        ("USD", Prcd, "2026-03-10", "0.0 2026-03-10T11:30:00Z"),
        ("USD", Clav, "2026-03-10", "0.0 2026-03-10T11:30:00Z"),
        ("GBP", Prcd, "2026-03-10", "not held"),
    ];
    for (currency, balance_type, today, expected) in rows {
        assert_eq!(
            log.figure_of(currency, balance_type, today),
            expected,
            "{currency} {balance_type:?} {today}"
        );
    }
    let Some(Cell::Account(account)) = &log.cell else { panic!("an account") };
    assert_eq!(account.currencies(), ["CZK", "EUR", "USD"].map(coin));
}

#[test]
fn what_is_available_is_as_new_as_the_newest_event_of_its_currency() {
    let first = || vec![event(1, opened(&["CZK", "EUR"], ""))];
    let pending_euro = || vec![event(1, pending("e1", "-1 EUR"))];
    let opening = |n: u64| event(n, stated(Itbd, "5 CZK", NOON, ""));
    // In crowns, and in euros.
    let rows: Vec<(&str, Vec<Event>, Event, &str, &str)> = vec![
        (
            "a booking",
            first(),
            event(9, booked("e1", "10 CZK", DATE)),
            "10.0 2026-03-10T10:00:09Z",
            "0.0 2026-03-10T10:00:01Z",
        ),
        ("an opening statement", first(), opening(9), "5.0 2026-03-10T10:00:09Z", "0.0 2026-03-10T10:00:01Z"),
        (
            "a statement after the opening is none of them",
            vec![opening(1)],
            opening(9),
            "5.0 2026-03-10T10:00:01Z",
            "not held",
        ),
        (
            "a pending entry",
            first(),
            event(9, pending("e1", "-1 CZK")),
            "-1.0 2026-03-10T10:00:09Z",
            "0.0 2026-03-10T10:00:01Z",
        ),
        (
            "a pending entry that takes the place of one in another currency",
            pending_euro(),
            event(9, pending("e1", "-1 CZK")),
            "-1.0 2026-03-10T10:00:09Z",
            "0.0 2026-03-10T10:00:09Z",
        ),
        (
            "a booking that ends a pending entry in another currency",
            pending_euro(),
            event(9, booked("e1", "-1 CZK", DATE)),
            "-1.0 2026-03-10T10:00:09Z",
            "0.0 2026-03-10T10:00:09Z",
        ),
        (
            "a release that ends a pending entry",
            pending_euro(),
            event(9, released("e1")),
            "not held",
            "0.0 2026-03-10T10:00:09Z",
        ),
        (
            "a release of nothing is of no currency",
            first(),
            event(9, released("e1")),
            "0.0 2026-03-10T10:00:01Z",
            "0.0 2026-03-10T10:00:01Z",
        ),
        (
            "a credit line",
            first(),
            event(9, line("5 CZK", true)),
            "5.0 2026-03-10T10:00:09Z",
            "0.0 2026-03-10T10:00:01Z",
        ),
        (
            "an account opened again, in one of its currencies",
            then(first(), [event(2, closed())]),
            event(9, opened(&["CZK"], "")),
            "0.0 2026-03-10T10:00:09Z",
            "0.0 2026-03-10T10:00:01Z",
        ),
        (
            "the newest by its time, not the last",
            vec![event(9, booked("e1", "10 CZK", DATE))],
            event(1, line("5 CZK", false)),
            "10.0 2026-03-10T10:00:09Z",
            "not held",
        ),
    ];
    for (sentence, history, last, crowns, euros) in rows {
        let mut log = Log::of(&history);
        log.takes(&last);
        assert_eq!(log.figure_of("CZK", Clav, DATE), crowns, "{sentence}");
        assert_eq!(log.figure_of("EUR", Clav, DATE), euros, "{sentence}");
    }
}

#[test]
fn dates_are_told_apart_from_seven_days_before_the_newest_event_in_the_zone() {
    let booking = |n: u64, date: &str| event(n, booked(&format!("e{n}"), "1 CZK", date));
    let mut log = Log::of(&[
        booking(1, "2026-03-01").at("2026-03-03T12:00:00Z"),
        booking(2, "2026-03-02").at("2026-03-03T12:00:00Z"),
        booking(3, "2026-03-03").at("2026-03-03T12:00:00Z"),
    ]);
    assert_eq!(log.amount_of("CZK", Prcd, "2026-03-02"), "1.0", "all are told apart");
    // In Prague it is the 9th until 23:00 UTC, so the 2nd is the first date.
    log.takes(&event(4, closed()).at("2026-03-09T22:59:59Z"));
    assert_eq!(log.amount_of("CZK", Prcd, "2026-03-02"), "1.0");
    assert_eq!(log.amount_of("CZK", Prcd, "2026-03-01"), "days");
    // A second later it is the 10th.
    log.takes(&event(5, closed()).at("2026-03-09T23:00:00Z"));
    assert_eq!(log.amount_of("CZK", Prcd, "2026-03-02"), "days");
    assert_eq!(log.amount_of("CZK", Prcd, "2026-03-03"), "2.0");
    // A later entry of an old date joins the merged ones, and one of an older event time changes nothing.
    log.takes(&booking(6, "2026-02-01").at("2026-03-09T12:00:00Z"));
    log.takes(&event(7, closed()).at("2026-01-01T12:00:00Z"));
    assert_eq!(log.amount_of("CZK", Prcd, "2026-03-03"), "3.0");
    assert_eq!(log.amount_of("CZK", Prcd, "2026-03-04"), "4.0");
}

#[test]
fn an_old_date_in_an_event_that_is_not_the_newest_is_merged_at_once() {
    let mut log = Log::of(&[
        event(2, booked("e1", "1 CZK", "2026-03-10")),
        event(1, booked("e2", "2 CZK", "2026-02-01")),
    ]);
    // The newest event is of 10 March, so the 3rd is the first day that is told apart.
    assert_eq!(log.figure_of("CZK", Prcd, "2026-02-01"), "days merged");
    assert_eq!(log.figure_of("CZK", Prcd, "2026-02-02"), "2.0 2026-03-10T10:00:01Z");
    assert_eq!(log.figure_of("CZK", Prcd, "2026-03-11"), "3.0 2026-03-10T10:00:02Z");
    let effect = log.takes(&event(3, stated(Clbd, "0 CZK", "2026-01-31T12:00:00Z", "")));
    assert_eq!(effect.compared, Some(Compared::Counted), "what was booked by then is not known");
    let effect = log.takes(&event(4, stated(Clbd, "2 CZK", "2026-02-01T12:00:00Z", "")));
    assert_eq!(effect.compared, Some(Compared::Agrees));
}

#[test]
fn the_oldest_of_65_dates_is_merged() {
    let first: jiff::civil::Date = "2026-03-10".parse().unwrap();
    let booking =
        |n: i64| event(n as u64, booked(&format!("e{n}"), "1 CZK", &(first + n.days()).to_string()));
    let mut log = Log::new();
    for n in 1..=64 {
        log.takes(&booking(n));
    }
    assert_eq!(log.amount_of("CZK", Prcd, "2026-03-11"), "0.0");
    log.takes(&booking(65));
    assert_eq!(log.figure_of("CZK", Prcd, "2026-03-11"), "days merged", "the 11th is the newest merged");
    assert_eq!(log.amount_of("CZK", Prcd, "2026-03-12"), "1.0");
    assert_eq!(log.itbd(), "65.0");
}

#[test]
fn an_account_closes_and_opens_again() {
    let closed_now = |log: &Log| match &log.cell {
        Some(Cell::Account(account)) => account.is_closed(),
        Some(Cell::Customer(_)) | None => panic!("an account"),
    };
    let mut log = Log::of(&[event(1, opened(&["CZK"], "")), event(2, closed())]);
    assert!(closed_now(&log));
    log.takes(&event(3, booked("e1", "5 CZK", DATE)));
    assert!(closed_now(&log), "a late entry folds and does not open");
    assert_eq!(log.itbd(), "5.0");
    log.takes(&event(4, opened(&["EUR"], "")));
    assert!(!closed_now(&log));
    assert_eq!(log.itbd(), "5.0");
}

#[test]
fn a_later_profile_and_a_later_line_take_the_place_of_the_earlier() {
    let log =
        Log::of(&[event(1, profile("A", "1")), event(2, profile("B", "0.5")).at("2020-01-01T00:00:00Z")]);
    assert_eq!(log.customer().profile().unwrap().billing_name, "B");
    let log = Log::of(&[event(1, line("9 CZK", true)), event(2, line("0 CZK", true))]);
    assert_eq!(log.amount_of("CZK", Clav, DATE), "0.0");
}
