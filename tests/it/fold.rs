//! The fold, rule by rule: expected values are worked out by hand from the rules of the events.
//!
//! Every step of every test here also holds that a rejected event leaves its cell as it was, and that a cell
//! survives its packed form.

use balance_projector::domain::{
    AccountFact, AccountId, Amount, BalanceType, Cell, Class, Compared, Currency, Customer, CustomerFact,
    CustomerId, Day, Effect, Entry, EntryId, Event, FOLD_VERSION, Fact, FigureError, FingerprintKey, Ignored,
    Indicator, LastPayment, Offset, Outcome, Parameters, PartitionId, PaymentId, RecordAt, Rejection, Rules,
    Statement, Time, Topic, fold,
};
use jiff::{Timestamp, ToSpan as _};
use uuid::Uuid;

/// One subject's cell, and where its log goes on.
pub struct Log {
    pub cell: Option<Cell>,
    pub next: i64,
    pub partition: i32,
    pub rules: Rules,
}

pub fn rules(event_window: usize) -> Rules {
    Rules::new(&Parameters {
        fold_version: FOLD_VERSION,
        zone: "Europe/Prague".to_owned(),
        event_window,
        types_ignored: Vec::new(),
        value_bytes_max: 1 << 20,
        depth_max: 64,
        fingerprint_key: FingerprintKey([7; 16]),
    })
    .unwrap()
}

impl Log {
    pub fn new() -> Self {
        Log::with_window(32)
    }

    pub fn with_window(event_window: usize) -> Self {
        Log { cell: None, next: 0, partition: 3, rules: rules(event_window) }
    }

    pub fn of(events: &[Event]) -> Self {
        let mut log = Log::new();
        for event in events {
            log.takes(event);
        }
        log
    }

    pub fn fold_at(&mut self, event: &Event, partition: i32, offset: i64) -> Result<Effect, Rejection> {
        let topic = match event.fact {
            Fact::Account(..) => Topic::Ledger,
            Fact::Customer(..) => Topic::Payment,
        };
        let at = RecordAt {
            partition: PartitionId { topic, partition },
            offset: Offset(offset),
            timestamp: Time::from_millis(1_700_000_000_000 + offset),
        };
        let before = self.cell.clone();
        let result = fold(&mut self.cell, event, &at, None, &self.rules);
        match &result {
            Ok(_) => {
                let cell = self.cell.as_ref().unwrap();
                assert_eq!(*cell, through_bytes(cell), "a cell survives its packed form");
            }
            Err(_) => assert_eq!(self.cell, before, "a rejected event leaves its cell as it was"),
        }
        result
    }

    /// At the next offset.
    pub fn fold(&mut self, event: &Event) -> Result<Effect, Rejection> {
        let offset = self.next;
        self.next += 1;
        self.fold_at(event, self.partition, offset)
    }

    pub fn takes(&mut self, event: &Event) -> Effect {
        self.fold(event).unwrap_or_else(|rejection| panic!("{rejection}: {event:?}"))
    }

    pub fn figure_of(&self, currency: &str, balance_type: BalanceType, today: &str) -> String {
        match self.cell.as_ref() {
            Some(Cell::Account(account)) => match account.figure(coin(currency), balance_type, day(today)) {
                Some(Ok(figure)) => format!("{} {}", figure.amount.to_short(), figure.time.0),
                Some(Err(FigureError::DaysMerged)) => "days merged".to_owned(),
                None => "not held".to_owned(),
            },
            Some(Cell::Customer(_)) | None => "no account".to_owned(),
        }
    }

    /// `itbd` and the like, without its time.
    pub fn amount_of(&self, currency: &str, balance_type: BalanceType, today: &str) -> String {
        self.figure_of(currency, balance_type, today).split(' ').next().unwrap().to_owned()
    }

    pub fn itbd(&self) -> String {
        self.amount_of("CZK", BalanceType::Itbd, "2026-03-10")
    }

    pub fn due(&self, customer: &str) -> Option<String> {
        match self.cell.as_ref()? {
            Cell::Account(account) => {
                let due = account.due(&CustomerId::parse(customer).unwrap())?;
                let amounts = due.iter().map(|(c, a)| format!("{} {}", a.to_short(), c.as_str()));
                Some(amounts.collect::<Vec<_>>().join(", "))
            }
            Cell::Customer(_) => None,
        }
    }

    pub fn drifts(&self) -> Vec<String> {
        match self.cell.as_ref() {
            Some(Cell::Account(account)) => account
                .drifts()
                .into_iter()
                .map(|drift| {
                    format!("{} {:?} {}", drift.currency.as_str(), drift.balance_type, drift.as_of.0)
                })
                .collect(),
            Some(Cell::Customer(_)) | None => Vec::new(),
        }
    }

    pub fn customer(&self) -> &Customer {
        match self.cell.as_ref() {
            Some(Cell::Customer(customer)) => customer,
            Some(Cell::Account(_)) | None => panic!("no customer"),
        }
    }

    pub fn last_payment(&self) -> String {
        match self.customer().last_payment() {
            LastPayment::None => "none".to_owned(),
            LastPayment::Paid { amount, paid_on } => format!("{} {}", amount.to_short(), paid_on.0),
            LastPayment::Forgotten { since } => format!("forgotten since {}", since.0.as_millisecond()),
        }
    }
}

pub fn through_bytes(cell: &Cell) -> Cell {
    let bytes = cell.encode();
    match cell {
        Cell::Account(_) => Cell::Account(Box::new(Cell::decode_account(&bytes).unwrap())),
        Cell::Customer(_) => Cell::Customer(Box::new(Cell::decode_customer(&bytes).unwrap())),
    }
}

pub fn coin(code: &str) -> Currency {
    Currency::parse(code).unwrap()
}
pub fn day(text: &str) -> Day {
    Day(text.parse().unwrap())
}
pub fn time(text: &str) -> Time {
    Time(text.parse().unwrap())
}
pub fn amount(text: &str) -> Amount {
    Amount::parse(text, 4).unwrap()
}

/// `-10.00 CZK` is a debit of ten crowns.
fn money(text: &str) -> (Amount, Currency, Indicator) {
    let (value, currency) = text.split_once(' ').unwrap();
    match value.strip_prefix('-') {
        Some(value) => (amount(value), coin(currency), Indicator::Debit),
        None => (amount(value), coin(currency), Indicator::Credit),
    }
}

/// The event `n` of the source `core`, `n` seconds after ten o'clock on 10 March 2026 (eleven in Prague).
pub fn event(n: u64, fact: Fact) -> Event {
    let ten: Timestamp = "2026-03-10T10:00:00Z".parse().unwrap();
    Event {
        id: Uuid::from_u128(u128::from(n)),
        source: "core".into(),
        time: Time(ten + i64::try_from(n).unwrap().seconds()),
        sequence: None,
        fact,
    }
}

/// Says the rest of an event.
pub trait With {
    fn at(self, text: &str) -> Self;
    fn from(self, source: &str) -> Self;
    fn number(self, number: u64) -> Self;
}

impl With for Event {
    fn at(self, text: &str) -> Self {
        Event { time: time(text), ..self }
    }
    fn from(self, source: &str) -> Self {
        Event { source: source.into(), ..self }
    }
    fn number(self, number: u64) -> Self {
        Event { sequence: Some(number), ..self }
    }
}

pub fn account(fact: AccountFact) -> Fact {
    Fact::Account(AccountId::parse("a-1").unwrap(), fact)
}
pub fn customer(fact: CustomerFact) -> Fact {
    Fact::Customer(CustomerId::parse("c-1").unwrap(), fact)
}
fn who(customer: &str) -> Option<CustomerId> {
    (!customer.is_empty()).then(|| CustomerId::parse(customer).unwrap())
}
fn entry(id: &str, money_of: &str, customer: &str) -> Entry {
    let (amount, currency, indicator) = money(money_of);
    Entry { entry_id: EntryId::parse(id).unwrap(), customer_id: who(customer), amount, currency, indicator }
}
pub fn opened(currencies: &[&str], customer: &str) -> Fact {
    let currencies = currencies.iter().map(|code| coin(code)).collect();
    account(AccountFact::Opened { currencies, customer_id: who(customer) })
}
pub fn pending(id: &str, money: &str) -> Fact {
    account(AccountFact::Pending(entry(id, money, "")))
}
pub fn released(id: &str) -> Fact {
    account(AccountFact::Released { entry_id: EntryId::parse(id).unwrap() })
}
pub fn booked(id: &str, money: &str, date: &str) -> Fact {
    owed(id, money, date, "")
}
pub fn owed(id: &str, money: &str, date: &str, customer: &str) -> Fact {
    account(AccountFact::Booked { entry: entry(id, money, customer), booking_date: day(date) })
}
pub fn line(money_of: &str, included: bool) -> Fact {
    let (amount, currency, _) = money(money_of);
    account(AccountFact::CreditLine { currency, amount, included })
}
pub fn stated(balance_type: BalanceType, money_of: &str, as_of: &str, customer: &str) -> Fact {
    let (amount, currency, indicator) = money(money_of);
    let (customer_id, as_of) = (who(customer), time(as_of));
    account(AccountFact::Stated(Statement { customer_id, currency, balance_type, amount, indicator, as_of }))
}
pub fn closed() -> Fact {
    account(AccountFact::Closed)
}
pub fn settled(id: &str, value: &str, paid_on: &str) -> Fact {
    customer(CustomerFact::Settled {
        payment_id: PaymentId::parse(id).unwrap(),
        amount: amount(value),
        currency: coin("USD"),
        paid_on: day(paid_on),
    })
}
pub fn reversed(id: &str) -> Fact {
    customer(CustomerFact::Reversed { payment_id: PaymentId::parse(id).unwrap() })
}
pub fn profile(name: &str, fee: &str) -> Fact {
    customer(CustomerFact::Profile { billing_name: name.to_owned(), ivr_fee: amount(fee) })
}

use BalanceType::{Clav, Clbd, Itbd, Prcd};

const DATE: &str = "2026-03-10";
const NOON: &str = "2026-03-10T12:00:00Z";

/// What an event came to.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    Applied,
    Ignored(Ignored),
    Rejected(Class),
}

fn came(result: &Result<Effect, Rejection>) -> Came {
    match result {
        Ok(Effect { outcome: Outcome::Applied, .. }) => Came::Applied,
        Ok(Effect { outcome: Outcome::Ignored(why), .. }) => Came::Ignored(*why),
        Err(rejection) => Came::Rejected(rejection.class),
    }
}

const DUPLICATE: Came = Came::Ignored(Ignored::Duplicate);
const WITHOUT_EFFECT: Came = Came::Ignored(Ignored::WithoutEffect);
const APPLIED: Came = Came::Applied;
const CONFLICT: Came = Came::Rejected(Class::Conflict);
const GAP: Came = Came::Rejected(Class::SequenceGap);
const UNVERIFIABLE: Came = Came::Rejected(Class::Unverifiable);
const CELL_FULL: Came = Came::Rejected(Class::CellFull);
const OVERFLOW: Came = Came::Rejected(Class::Overflow);

/// Folds each row's history, then its event.
fn check(rows: Vec<(&str, Vec<Event>, Event, Came)>) {
    for (sentence, history, last, expected) in rows {
        let mut log = Log::of(&history);
        let result = log.fold(&last);
        assert_eq!(came(&result), expected, "{sentence}: {result:?}");
    }
}

/// Credits of one crown each, in events `from` to `to`, in entries `n1`, `n2` and so on.
fn filler(from: u64, to: u64) -> Vec<Event> {
    (from..=to).map(|n| event(n, booked(&format!("n{n}"), "1 CZK", DATE))).collect()
}

fn then(mut history: Vec<Event>, more: impl IntoIterator<Item = Event>) -> Vec<Event> {
    history.extend(more);
    history
}

#[test]
fn the_first_seed_is_answered_by_its_events() {
    let mut log = Log::of(&[
        event(1, profile("FAIRPOINT COMMUNICATIONS INC ", "5.0")),
        event(2, settled("p-1", "120.00", "2014-08-01")),
        event(3, settled("p-2", "497.70", "2014-09-01")),
    ]);
    assert_eq!(log.last_payment(), "497.7 2014-09-01");
    let profile = log.customer().profile().unwrap().clone();
    assert_eq!(
        (profile.billing_name.as_str(), profile.ivr_fee.to_short().as_str()),
        ("FAIRPOINT COMMUNICATIONS INC ", "5.0")
    );
    assert!(log.customer().exists());
    log.takes(&event(4, reversed("p-2")));
    assert_eq!(log.last_payment(), "120.0 2014-08-01");

    let account = Log::of(&[
        event(1, opened(&["USD"], "000152301242008")),
        event(2, owed("e-1", "-527.70 USD", "2014-08-20", "000152301242008")),
        event(3, owed("e-2", "497.70 USD", "2014-09-01", "000152301242008")),
    ]);
    assert_eq!(account.due("000152301242008").unwrap(), "30.0 USD");
}

#[test]
fn the_second_seed_is_answered_by_its_events() {
    let log = Log::of(&[
        event(1, opened(&["CZK"], "")).at("2017-02-01T08:00:00Z"),
        event(2, line("10000.00 CZK", true)).at("2017-02-01T08:00:01Z"),
        event(3, booked("e-1", "1000.00 CZK", "2017-02-16")).at("2017-02-16T09:00:00Z"),
        event(4, booked("e-2", "-5520.15 CZK", "2017-02-17")).at("2017-02-17T12:32:41Z"),
    ]);
    assert_eq!(log.figure_of("CZK", Prcd, "2017-02-18"), "-4520.15 2017-02-17T12:32:41Z");
    let Some(Cell::Account(account)) = &log.cell else { panic!("an account") };
    let figure = account.figure(coin("CZK"), Prcd, day("2017-02-18")).unwrap().unwrap();
    let line = figure.credit_line.unwrap();
    assert_eq!((line.amount.to_unsigned(2).as_str(), line.included), ("10000.00", true));
}

#[test]
fn a_subject_lives_in_the_partition_of_its_first_event() {
    let mut log = Log::of(&[event(1, opened(&["CZK"], ""))]);
    let moved = log.fold_at(&event(2, closed()), 4, 0);
    assert_eq!(came(&moved), Came::Rejected(Class::Moved), "also where the offset is below the cell's own");
    assert_eq!(came(&log.fold(&event(2, closed()))), APPLIED, "its home goes on");
}

#[test]
fn a_recorded_home_holds_before_the_first_event_is_folded() {
    let at = |partition| RecordAt {
        partition: PartitionId { topic: Topic::Ledger, partition },
        offset: Offset(5),
        timestamp: Time::from_millis(0),
    };
    let mut cell = None;
    let first = event(1, opened(&["CZK"], ""));
    assert_eq!(fold(&mut cell, &first, &at(2), Some(1), &rules(32)).unwrap_err().class, Class::Moved);
    assert_eq!(cell, None);
    fold(&mut cell, &first, &at(1), Some(1), &rules(32)).unwrap();
    let cell = cell.unwrap();
    assert_eq!((cell.home(), cell.applied()), (1, Offset(6)));
}

#[test]
fn what_lies_below_applied_is_skipped() {
    let mut log = Log::of(&[event(1, booked("e1", "5 CZK", DATE)), event(2, booked("e2", "7 CZK", DATE))]);
    let before = log.cell.clone();
    for (offset, again) in
        [(0, event(1, booked("e1", "5 CZK", DATE))), (1, event(9, booked("e9", "1 CZK", DATE)))]
    {
        let result = log.fold_at(&again, 3, offset);
        assert_eq!(came(&result), Came::Ignored(Ignored::Replayed));
    }
    assert_eq!(log.cell, before);
}

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
    assert_eq!(effect.owing, who("c-9"));
    assert_eq!(log.due("c-9").unwrap(), "12.5 USD", "an opening debit is owed");
    let effect = log.takes(&event(2, owed("e1", "2.50 USD", DATE, "c-9")));
    assert_eq!(effect.owing, None, "the account is known by now");
    assert_eq!(log.due("c-9").unwrap(), "10.0 USD");
    let effect = log.takes(&event(3, stated(Itbd, "-99 USD", NOON, "c-8")));
    assert_eq!(
        (effect.owing, effect.compared),
        (None, Some(Compared::Drifts)),
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
fn a_customer_exists_from_the_first_profile_or_payment() {
    let mut log = Log::of(&[event(1, reversed("p1"))]);
    assert!(!log.customer().exists());
    log.takes(&event(2, settled("p1", "1", "2026-03-01")));
    assert!(log.customer().exists());
    assert_eq!(log.last_payment(), "none");
    assert!(Log::of(&[event(1, profile("A", "0"))]).customer().exists());
}

#[test]
fn a_later_profile_and_a_later_line_take_the_place_of_the_earlier() {
    let log =
        Log::of(&[event(1, profile("A", "1")), event(2, profile("B", "0.5")).at("2020-01-01T00:00:00Z")]);
    assert_eq!(log.customer().profile().unwrap().billing_name, "B");
    let log = Log::of(&[event(1, line("9 CZK", true)), event(2, line("0 CZK", true))]);
    assert_eq!(log.amount_of("CZK", Clav, DATE), "0.0");
}

#[test]
fn broken_bytes_are_errors_that_name_the_version() {
    let log = Log::of(&[event(1, owed("e1", "-5 CZK", DATE, "c-1")), event(2, pending("e2", "1 CZK"))]);
    let bytes = log.cell.as_ref().unwrap().encode();
    assert!(Cell::decode_customer(&bytes).unwrap_err().to_string().contains("version"));
    assert!(Cell::decode_account(&[]).unwrap_err().to_string().contains("version"));
    for cut in 1..bytes.len() {
        assert!(Cell::decode_account(&bytes[..cut]).unwrap_err().to_string().contains("version"), "{cut}");
    }
    assert!(Cell::decode_account(&[bytes.as_slice(), &[0]].concat()).is_err(), "bytes after the end");
}

#[test]
fn cells_are_small() {
    let fresh = Log::of(&[event(1, owed("e1", "-1234.50 CZK", DATE, "000152301242008"))]);
    let fresh = fresh.cell.unwrap().encode().len();
    assert!(fresh < 120, "a fresh account takes {fresh} bytes");
    let full = Log::of(&filler(1, 100)).cell.unwrap().encode().len();
    assert!(full < 1_250, "an account with full windows takes {full} bytes");
}

#[test]
fn a_zone_or_window_that_cannot_be_used_is_refused() {
    let parameters = |zone: &str, event_window| Parameters {
        fold_version: FOLD_VERSION,
        zone: zone.to_owned(),
        event_window,
        types_ignored: Vec::new(),
        value_bytes_max: 1 << 20,
        depth_max: 64,
        fingerprint_key: FingerprintKey([7; 16]),
    };
    assert!(
        Rules::new(&parameters("Europe/Atlantis", 32)).unwrap_err().to_string().contains("Europe/Atlantis")
    );
    for window in [0, 1025] {
        assert!(
            Rules::new(&parameters("UTC", window)).unwrap_err().to_string().contains(&window.to_string())
        );
    }
    assert!(Rules::new(&parameters("UTC", 1024)).is_ok());
}
