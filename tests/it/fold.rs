//! The fold, rule by rule: expected values are worked out by hand from the rules of the events.
//!
//! Every step of every test here also holds that a rejected event leaves its cell as it was, and that a cell
//! survives its packed form.

mod accounts;
mod customers;
mod repeats;

use balance_projector::domain::{
    AccountFact, AccountId, Amount, BalanceType, Cell, Class, Compared, Currency, Customer, CustomerFact,
    CustomerId, Day, Dues, Effect, Entry, EntryId, Event, FOLD_VERSION, Fact, FigureError, FingerprintKey,
    Ignored, Indicator, LastPayment, Offset, Outcome, Parameters, PartitionId, PaymentId, RecordAt,
    Rejection, Rules, Statement, Time, Topic, fold,
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
