//! The fold's laws, on logs made up at random.

use std::collections::{BTreeMap, BTreeSet};

use balance_projector::domain::{Account, BalanceType, Cell, Customer, Day, Event, Fact, Outcome};
use jiff::{Timestamp, ToSpan as _, civil::Date};
use proptest::{collection::vec, prelude::*, sample::Index};

use crate::fold::{
    Log, With as _, booked, closed, event, line, opened, owed, pending, profile, released, reversed, settled,
    stated, through_bytes,
};

const CODES: [&str; 3] = ["CZK", "EUR", "USD"];

/// What a step of a log is made of; each test reads of it what it needs.
#[derive(Debug, Clone)]
struct Step {
    kind: u8,
    entry: u8,
    cents: u32,
    currency: u8,
    source: u8,
    seconds: i32,
    nanos: u32,
}

fn step() -> impl Strategy<Value = Step> {
    (
        0_u8..16,
        0_u8..60,
        1_u32..100_000,
        0_u8..3,
        0_u8..4,
        -200_000_i32..20_000,
        prop_oneof![Just(0_u32), (0_u32..1000).prop_map(|millis| millis * 1_000_000), 0_u32..1_000_000_000],
    )
        .prop_map(|(kind, entry, cents, currency, source, seconds, nanos)| Step {
            kind,
            entry,
            cents,
            currency,
            source,
            seconds,
            nanos,
        })
}

/// An hour passes from one to the next; `seconds` and `nanos` disturb it.
fn instant(n: usize, step: &Step) -> Timestamp {
    let first: Timestamp = "2026-03-10T10:00:00Z".parse().unwrap();
    first + (n as i64).hours() + step.seconds.seconds() + i64::from(step.nanos).nanoseconds()
}

fn date(n: usize, days: i64) -> Date {
    let first: Date = "2026-03-10".parse().unwrap();
    first + (n as i64 / 24 + days).days()
}

fn money(step: &Step) -> String {
    let sign = if step.kind.is_multiple_of(2) { "-" } else { "" };
    format!("{sign}{}.{:02} {}", step.cents / 100, step.cents % 100, CODES[usize::from(step.currency)])
}

/// Ids of entries or payments. One that may be forgotten by now does not come again for another entry or payment: a
/// subject remembers 32 of them, and what is forgotten cannot be told from what is new.
#[derive(Default)]
struct Ids {
    given: usize,
    last: BTreeMap<u8, (usize, usize)>,
}

impl Ids {
    fn of(&mut self, entry: u8, kind: char) -> String {
        self.given += 1;
        let (given, generation) = self.last.entry(entry).or_insert((self.given, 0));
        if self.given - *given >= 24 {
            *generation += 1;
        }
        *given = self.given;
        format!("{kind}{entry}.{generation}")
    }
}

/// Events of every type, of two unnumbered sources and two numbered ones.
///
/// An entry's facts follow from its id, so that most repeats of an entry state the same.
fn ledger(steps: &[Step]) -> Vec<Event> {
    let mut numbers = [0_u64; 4];
    let mut events = Vec::new();
    let mut ids = Ids::default();
    for (n, step) in steps.iter().enumerate() {
        let id = ids.of(step.entry, 'e');
        let of_entry = Step {
            cents: u32::from(step.entry) * 7 + 1,
            kind: step.entry,
            currency: step.entry % 3,
            ..*step
        };
        let on = date(0, i64::from(step.entry)).to_string();
        let fact = match step.kind {
            0 => opened(&[CODES[usize::from(step.currency)]], if step.entry < 20 { "c-1" } else { "" }),
            1 => line(&money(step).replace('-', ""), step.entry < 30),
            2 => closed(),
            3 => stated(BalanceType::Itbd, &money(step), &instant(n, step).to_string(), ""),
            4 => stated(BalanceType::Clbd, &money(step), &instant(n, step).to_string(), "c-2"),
            5..=7 => pending(&id, &money(&of_entry)),
            8 | 9 => released(&id),
            10 => booked(&id, &money(step), &on),
            _ => owed(&id, &money(&of_entry), &on, if step.entry.is_multiple_of(4) { "c-3" } else { "" }),
        };
        events.push(placed(n, step, fact, &mut numbers));
    }
    events
}

fn payments(steps: &[Step]) -> Vec<Event> {
    let mut numbers = [0_u64; 4];
    let mut events = Vec::new();
    let mut ids = Ids::default();
    for (n, step) in steps.iter().enumerate() {
        let id = ids.of(step.entry, 'p');
        let fact = match step.kind {
            0 | 1 => profile(&format!("name {}", step.cents), "0.5"),
            2..=5 => reversed(&id),
            _ => settled(&id, &format!("{}.5", step.entry), &date(0, i64::from(step.entry % 9)).to_string()),
        };
        events.push(placed(n, step, fact, &mut numbers));
    }
    events
}

fn placed(n: usize, step: &Step, fact: Fact, numbers: &mut [u64; 4]) -> Event {
    let source = usize::from(step.source);
    let event = event(n as u64, fact).at(&instant(n, step).to_string()).from(&format!("s{source}"));
    if source < 2 {
        return event;
    }
    numbers[source] += 1;
    event.number(numbers[source])
}

/// Everything that readers see.
fn seen(log: &Log) -> Vec<String> {
    let mut lines = Vec::new();
    match &log.cell {
        Some(Cell::Account(account)) => {
            lines.push(format!("{} {:?} {:?}", account.is_closed(), account.customers(), log.drifts()));
            for customer in account.customers() {
                lines.push(format!("{:?}", account.due(&customer).unwrap()));
            }
            for currency in account.currencies() {
                for balance_type in [BalanceType::Prcd, BalanceType::Itbd, BalanceType::Clav] {
                    for days in 0..70 {
                        let today = date(0, days).to_string();
                        lines.push(log.figure_of(currency.as_str(), balance_type, &today));
                    }
                }
            }
        }
        Some(Cell::Customer(customer)) => {
            lines.push(format!(
                "{} {:?} {:?}",
                customer.exists(),
                customer.profile(),
                customer.last_payment()
            ));
        }
        None => {}
    }
    lines
}

/// Folds a log of which every rejected event is left out, and tells which stay.
fn accepted(events: &[Event]) -> (Log, Vec<(i64, Event)>) {
    let mut log = Log::new();
    let mut accepted = Vec::new();
    for event in events {
        let offset = log.next;
        if log.fold(event).is_ok() {
            accepted.push((offset, event.clone()));
        }
    }
    (log, accepted)
}

fn either() -> impl Strategy<Value = Vec<Event>> {
    prop_oneof![
        2 => vec(step(), 1..160).prop_map(|steps| ledger(&steps)),
        1 => vec(step(), 1..160).prop_map(|steps| payments(&steps)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_repeat_from_any_distance_changes_no_figure(events in either(), repeats in vec((any::<Index>(), any::<Index>()), 1..40)) {
        let mut log = Log::new();
        let mut folded: Vec<Event> = Vec::new();
        let mut after = BTreeMap::<usize, Vec<&Index>>::new();
        for (at, which) in &repeats {
            after.entry(at.index(events.len())).or_default().push(which);
        }
        for (n, event) in events.iter().enumerate() {
            if log.fold(event).is_ok() {
                folded.push(event.clone());
            }
            for which in after.get(&n).into_iter().flatten() {
                if folded.is_empty() {
                    continue;
                }
                // Half of them come from close by.
                let which = which.index(folded.len() * 2);
                let again = folded.get(which).unwrap_or_else(|| &folded[folded.len() - 1 - which % folded.len().min(8)]);
                let before = seen(&log);
                let result = log.fold(again);
                prop_assert!(!matches!(&result, Ok(effect) if effect.outcome == Outcome::Applied), "{again:?}");
                prop_assert_eq!(before, seen(&log));
            }
        }
    }

    #[test]
    fn a_repeat_within_the_window_is_never_a_dead_letter(events in either(), back in 1_usize..32) {
        let (mut log, accepted) = accepted(&events);
        for (_, again) in accepted.iter().rev().take(back) {
            let before = seen(&log);
            let effect = log.fold(again).unwrap();
            prop_assert!(matches!(effect.outcome, Outcome::Ignored(_)));
            prop_assert_eq!(before, seen(&log));
        }
    }

    #[test]
    fn any_split_into_batches_gives_the_same_cell(events in either(), splits in vec(any::<Index>(), 0..6)) {
        let (log, accepted) = accepted(&events);
        let splits: BTreeSet<usize> = splits.iter().map(|at| at.index(events.len())).collect();
        let mut batched = Log::new();
        for (n, (offset, event)) in accepted.iter().enumerate() {
            if splits.contains(&n) {
                batched.cell = batched.cell.as_ref().map(through_bytes);
            }
            batched.fold_at(event, 3, *offset).unwrap();
        }
        prop_assert_eq!(batched.cell.map(|cell| cell.encode()), log.cell.map(|cell| cell.encode()));
    }

    #[test]
    fn what_tells_repeats_is_in_no_figure(events in either()) {
        let (log, _) = accepted(&events);
        let Some(cell) = log.cell else { return Ok(()) };
        let bytes = cell.encode();
        match cell {
            Cell::Account(whole) => {
                let read = Account::figures(&bytes).unwrap();
                prop_assert_eq!(read.currencies(), whole.currencies());
                prop_assert_eq!(read.customers(), whole.customers());
                for customer in whole.customers() {
                    prop_assert_eq!(read.due(&customer), whole.due(&customer));
                }
                prop_assert_eq!(read.drifts(), whole.drifts());
                prop_assert_eq!((read.home(), read.is_closed(), read.has_beginning()), (whole.home(), whole.is_closed(), whole.has_beginning()));
                for currency in whole.currencies() {
                    for balance_type in [BalanceType::Prcd, BalanceType::Clbd, BalanceType::Itbd, BalanceType::Clav] {
                        let today = Day(date(0, 3));
                        prop_assert_eq!(read.figure(currency, balance_type, today), whole.figure(currency, balance_type, today));
                    }
                }
            }
            Cell::Customer(whole) => {
                let read = Customer::figures(&bytes).unwrap();
                prop_assert_eq!(read.last_payment(), whole.last_payment());
                prop_assert_eq!(read.profile(), whole.profile());
                prop_assert_eq!((read.home(), read.exists()), (whole.home(), whole.exists()));
            }
        }
    }

    #[test]
    fn folding_on_from_any_earlier_point_gives_the_same_cell(events in either(), crash in any::<Index>(), back in any::<Index>()) {
        let (log, accepted) = accepted(&events);
        prop_assume!(!accepted.is_empty());
        let crash = crash.index(accepted.len());
        let mut resumed = Log::new();
        for (offset, event) in &accepted[..=crash] {
            resumed.fold_at(event, 3, *offset).unwrap();
        }
        for (offset, event) in &accepted[back.index(crash + 1)..] {
            resumed.fold_at(event, 3, *offset).unwrap();
        }
        prop_assert_eq!(resumed.cell, log.cell);
    }

    #[test]
    fn what_others_fold_between_does_not_matter(account in vec(step(), 1..60), customer in vec(step(), 1..60), order in vec(any::<bool>(), 120)) {
        let (account, customer) = (ledger(&account), payments(&customer));
        let mut cells = [None, None];
        let mut logs = [account.iter().peekable(), customer.iter().peekable()];
        let mut offset = 0;
        // One takes turns with the other by chance; whatever is left comes at the end.
        for turn in order.iter().map(|turn| usize::from(*turn)).chain([0; 60]).chain([1; 60]) {
            let Some(event) = logs[turn].next() else { continue };
            let mut log = Log { cell: cells[turn].take(), next: offset, partition: 3, rules: crate::fold::rules(32) };
            offset += 1;
            // A dead letter on one side or both: what counts is that both sides end the same.
            drop(log.fold(event));
            cells[turn] = log.cell;
        }
        for (events, cell) in [(account, cells[0].take()), (customer, cells[1].take())] {
            let (alone, _) = accepted(&events);
            let together = Log { cell, next: 0, partition: 3, rules: crate::fold::rules(32) };
            // All but the Kafka timestamp since which a payment is forgotten, which 60 events do not reach.
            prop_assert_eq!(seen(&alone), seen(&together));
        }
    }

    #[test]
    fn booked_is_the_sum_of_all_entries_and_each_day_rests_on_those_before(
        entries in vec((1_i64..100_000_000, any::<bool>(), 0_usize..3, -30_i64..11, prop::option::of(1_usize..16)), 1..120),
    ) {
        let mut log = Log::new();
        let mut naive: BTreeMap<(usize, Date), i128> = BTreeMap::new();
        let mut events: Vec<Event> = Vec::new();
        let mut newest = Date::MIN;
        for (n, (cents, debit, currency, days, repeat)) in entries.iter().enumerate() {
            let on = date(n, *days);
            let sign = if *debit { "-" } else { "" };
            let money = format!("{sign}{}.{:02} {}", cents / 100, cents % 100, CODES[*currency]);
            // Hours pass within a day of Prague that begins with the date: 2026-03-10T00:00+01:00.
            let first: Timestamp = "2026-03-09T23:00:00Z".parse().unwrap();
            let happened = first + (n as i64).hours();
            newest = newest.max(date(n, 0));
            let event = event(n as u64, booked(&format!("e{n}"), &money, &on.to_string())).at(&happened.to_string());
            log.takes(&event);
            *naive.entry((*currency, on)).or_default() += i128::from(if *debit { -cents } else { *cents });
            events.push(event);
            if let Some(again) = repeat.and_then(|back| events.len().checked_sub(back)) {
                log.takes(&events[again]);
            }
        }
        // Clocks go forward on 29 March, before the last of 120 hours would tell.
        let Some(Cell::Account(account)) = &log.cell else { panic!("an account") };
        for (at, code) in CODES.iter().enumerate() {
            let of = |before: Date| -> i128 {
                naive.iter().filter(|((currency, on), _)| *currency == at && *on < before).map(|(_, net)| *net).sum()
            };
            let currency = crate::fold::coin(code);
            let held = naive.keys().any(|(currency, _)| *currency == at);
            let figure = |balance_type, today| account.figure(currency, balance_type, Day(today));
            let total = figure(BalanceType::Itbd, newest).map(|figure| figure.unwrap().amount.ten_thousandths());
            prop_assert_eq!(total, held.then(|| of(Date::MAX) * 100));
            for days in -40..20_i64 {
                let today = newest + days.days();
                match figure(BalanceType::Prcd, today) {
                    Some(Ok(figure)) => prop_assert_eq!(figure.amount.ten_thousandths(), of(today) * 100),
                    Some(Err(_)) => prop_assert!(days < -7, "{days} days from the newest are told apart"),
                    None => prop_assert!(!held),
                }
            }
        }
    }

    #[test]
    fn the_last_payment_is_that_of_a_list_of_all(
        steps in vec((any::<bool>(), 0_usize..30, 0_i64..9), 1..60),
    ) {
        // Payment n settles once at most, on a day of its own, and there are too few to forget one.
        let mut log = Log::new();
        let mut settlements: Vec<(Date, usize, usize)> = Vec::new();
        let mut reversals = BTreeSet::new();
        for (n, (settles, payment, days)) in steps.iter().enumerate() {
            let id = format!("p{payment}");
            if !settles {
                reversals.insert(*payment);
                log.takes(&event(n as u64, reversed(&id)));
            } else if settlements.iter().all(|(_, _, known)| known != payment) {
                settlements.push((date(0, *days), n, *payment));
                log.takes(&event(n as u64, settled(&id, &format!("{}", payment + 1), &date(0, *days).to_string())));
            }
            let last = settlements.iter().filter(|(_, _, payment)| !reversals.contains(payment)).max();
            let expected = last.map_or("none".to_owned(), |(on, _, payment)| format!("{}.0 {on}", payment + 1));
            if log.cell.is_some() {
                prop_assert_eq!(log.last_payment(), expected);
            }
        }
    }
}
