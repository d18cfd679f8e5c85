//! Which event comes next. Memory is bounded by accounts and customers, not by the length of the stream.
#![allow(
    clippy::arithmetic_side_effects,
    reason = "counts and times are bounded by the flags' ranges, and overflow checks stop the process"
)]

use std::collections::VecDeque;

use super::{
    Args, check,
    random::Random,
    write::{DAY_US, Out, amount, day, number, padded, text, time, uuid},
};
use crate::{domain::Currency, ops::UsageError};

/// How many recent lines may be repeated.
const RECENT_LINES: usize = 4_096;
/// A repeat is at most so many events of its subject away: a subject remembers 32.
const REPEAT_DISTANCE_MAX: u32 = 30;
/// So many late events of a subject in a row at most: else the newest one would be forgotten first.
const LATE_RUN_MAX: u8 = 8;

const LEDGER_SOURCE: &str = "/ledger";
const PAYMENT_SOURCE: &str = "/billing";

/// The stream of lines.
pub struct Generator {
    args: Args,
    currencies: Vec<Currency>,
    random: Random,
    accounts: Vec<Account>,
    customers: Vec<Customer>,
    recent: VecDeque<Recent>,
    /// Lines but poison: how many there will be, and how many there were.
    lines: u64,
    line: u64,
    poisoned: u64,
    /// An account has had its first event.
    begun: bool,
    start_us: i64,
    step_us: i64,
}

/// What an account's next event depends on.
#[derive(Debug, Clone, Copy, Default)]
struct Account {
    clock: Clock,
    /// The number of the last entry that was booked at once.
    booked: u64,
    /// The numbers of pending entries: from the oldest one that is open to the next.
    pending_first: u64,
    pending_next: u64,
    /// In minor units, for the first and the second currency.
    balances: [i64; 2],
    /// The last booked entry, until it is reversed.
    last: Option<Booked>,
    closed: bool,
}

#[derive(Debug, Clone, Copy)]
struct Booked {
    entry: EntryNumber,
    minor: u64,
    second: bool,
    credit: bool,
}

#[derive(Debug, Clone, Copy)]
enum EntryNumber {
    Direct(u64),
    Pending(u64),
}

#[derive(Debug, Clone, Copy, Default)]
struct Customer {
    clock: Clock,
    payments: u64,
    reversible: bool,
}

/// The times of a subject's events, in microseconds since 1970; before the stream's start where there is none yet.
#[derive(Debug, Clone, Copy, Default)]
struct Clock {
    events: u32,
    newest: i64,
    second: i64,
    late_run: u8,
}

/// A line that may be repeated.
struct Recent {
    line: Vec<u8>,
    who: Who,
    /// How many events the subject had with it.
    at: u32,
}

#[derive(Debug, Clone, Copy)]
enum Who {
    Account(usize),
    Customer(usize),
}

impl Generator {
    /// A stream from its beginning.
    pub fn new(args: &Args) -> Result<Self, UsageError> {
        let currencies = check(args)?;
        let subjects = u64::from(args.accounts) + u64::from(args.customers);
        let too_many = || UsageError("--events and --history: more than 2^62 lines".to_owned());
        let lines = u64::from(args.history)
            .checked_mul(subjects)
            .and_then(|history| history.checked_add(args.events))
            .and_then(|lines| i64::try_from(lines).ok().filter(|lines| *lines < 1 << 62))
            .ok_or_else(too_many)?;
        let step_us = i64::from(args.span_days) * DAY_US / lines.max(1);
        // A late event's time lies between those of two others.
        if step_us < 2 {
            return Err(UsageError("--span-days: too short for so many events".to_owned()));
        }
        let length = |n: u32| usize::try_from(n).map_err(|_| too_many());
        let start_us = args.start.as_microsecond();
        let clock = Clock { newest: start_us - 1, second: start_us - 1, ..Clock::default() };
        Ok(Generator {
            currencies,
            random: Random::new(args.seed),
            accounts: vec![Account { clock, ..Account::default() }; length(args.accounts)?],
            customers: vec![Customer { clock, ..Customer::default() }; length(args.customers)?],
            recent: VecDeque::with_capacity(RECENT_LINES),
            lines: lines.unsigned_abs(),
            line: 0,
            poisoned: 0,
            begun: false,
            start_us,
            step_us,
            args: args.clone(),
        })
    }

    /// How many lines there will be in all.
    pub fn lines(&self) -> u64 {
        self.lines.saturating_add(self.args.poison)
    }

    /// Appends the next line, without its end; `false` at the end of the stream.
    pub fn next_line(&mut self, out: &mut Vec<u8>) -> bool {
        let [line, lines, poison_lines] = [self.line, self.lines, self.args.poison].map(u128::from);
        let due = if line == lines { poison_lines } else { line * poison_lines / lines };
        // A number that is used up before the account's opening would stand on that again.
        let may_be = !self.args.numbered || self.begun || self.line == self.lines;
        if u128::from(self.poisoned) < due && may_be {
            poison(self, out);
            self.poisoned += 1;
            return true;
        }
        if self.line == self.lines {
            return false;
        }
        let history = self.lines - self.args.events;
        if self.line < history {
            let subject = self.line % (u64::from(self.args.accounts) + u64::from(self.args.customers));
            self.event(subject, out);
        } else if !(self.random.percent(self.args.duplicates) && self.repeat(out)) {
            let subject = self.subject();
            self.event(subject, out);
        }
        self.line += 1;
        true
    }

    /// Any subject: accounts come first, then customers.
    fn subject(&mut self) -> u64 {
        let (accounts, hot) = (u64::from(self.args.accounts), u64::from(self.args.hot_accounts));
        if self.random.percent(self.args.payments) {
            accounts + self.random.below(u64::from(self.args.customers))
        } else if hot > 0 && self.random.percent(self.args.hot_share) {
            self.random.below(hot)
        } else {
            self.random.below(accounts)
        }
    }

    fn event(&mut self, subject: u64, out: &mut Out) {
        let begin = out.len();
        let now = self.start_us + self.step_us * i64::try_from(self.line).unwrap_or(i64::MAX);
        let subject = usize::try_from(subject).unwrap_or_default();
        let (who, at) = if let Some(account) = self.accounts.get(subject).copied() {
            let account = self.account_event(subject, account, now, out);
            if let Some(slot) = self.accounts.get_mut(subject) {
                *slot = account;
            }
            self.begun = true;
            (Who::Account(subject), account.clock.events)
        } else {
            let index = subject.saturating_sub(self.accounts.len());
            let customer = self.customers.get(index).copied().unwrap_or_default();
            let customer = self.customer_event(index, customer, now, out);
            if let Some(slot) = self.customers.get_mut(index) {
                *slot = customer;
            }
            (Who::Customer(index), customer.clock.events)
        };
        if self.args.duplicates > 0 {
            let full = self.recent.len() >= RECENT_LINES;
            let mut line =
                if full { self.recent.pop_front().map(|r| r.line).unwrap_or_default() } else { Vec::new() };
            line.clear();
            line.extend_from_slice(out.get(begin..).unwrap_or_default());
            self.recent.push_back(Recent { line, who, at });
        }
    }

    /// Repeats a recent line: any one that is still in its subject's window, or else one of the newest.
    fn repeat(&mut self, out: &mut Out) -> bool {
        let length = self.recent.len();
        let drawn = self.draw_index(length);
        if self.recent.get(drawn).is_some_and(|recent| self.is_near(recent)) {
            return self.copy(drawn, out);
        }
        // So few lines are in the window whoever they are about.
        let newest = length.min(16);
        let drawn = length - newest + self.draw_index(newest);
        self.copy(drawn, out)
    }

    fn draw_index(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or_default();
        usize::try_from(self.random.below(end)).unwrap_or_default()
    }

    fn is_near(&self, recent: &Recent) -> bool {
        let events = match recent.who {
            Who::Account(i) => self.accounts.get(i).map(|a| a.clock.events),
            Who::Customer(i) => self.customers.get(i).map(|c| c.clock.events),
        };
        events.is_some_and(|events| events.saturating_sub(recent.at) <= REPEAT_DISTANCE_MAX)
    }

    fn copy(&self, index: usize, out: &mut Out) -> bool {
        let recent = self.recent.get(index);
        out.extend_from_slice(recent.map_or(&[], |recent| recent.line.as_slice()));
        recent.is_some()
    }

    /// The time of the subject's next event: now, or a late one between the subject's two newest.
    fn tick(&mut self, clock: &mut Clock, now: i64) -> i64 {
        clock.events += 1;
        let room = clock.newest - clock.second;
        // Poison counts among the events and has no time.
        if clock.events > 3
            && clock.second >= self.start_us
            && clock.late_run < LATE_RUN_MAX
            && room >= 2
            && self.random.percent(self.args.late)
        {
            clock.late_run += 1;
            clock.second += room / 2;
            return clock.second;
        }
        clock.late_run = 0;
        clock.second = clock.newest;
        clock.newest = now;
        now
    }

    fn account_id(&self, out: &mut Out, index: usize) {
        text(out, &self.args.prefix);
        text(out, "CZ");
        padded(out, u64::try_from(index).unwrap_or_default(), 10);
    }

    fn customer_id(&self, out: &mut Out, index: usize) {
        text(out, &self.args.prefix);
        text(out, "C");
        padded(out, u64::try_from(index).unwrap_or_default(), 11);
    }

    /// The customer of an account.
    fn customer_of(&self, account: usize) -> usize {
        account.checked_rem(self.customers.len()).unwrap_or_default()
    }

    /// A customer's dues are all in one currency, so that they have a total.
    fn currency_of(&self, customer: usize, second: bool) -> Option<Currency> {
        let index = (customer + usize::from(second)).checked_rem(self.currencies.len())?;
        self.currencies.get(index).copied()
    }

    fn has_second(&self, account: usize) -> bool {
        self.currencies.len() > 1 && account.is_multiple_of(5)
    }

    /// All up to the members of `data`.
    fn head(&mut self, out: &mut Out, kind: &str, who: Who, at: i64, events: u32) {
        text(out, r#"{"specversion":"1.0","id":""#);
        uuid(out, self.random.next(), self.random.next());
        text(out, r#"","source":""#);
        text(
            out,
            match who {
                Who::Account(_) => LEDGER_SOURCE,
                Who::Customer(_) => PAYMENT_SOURCE,
            },
        );
        text(out, r#"","type":""#);
        text(out, kind);
        text(out, r#"","subject":""#);
        match who {
            Who::Account(index) => self.account_id(out, index),
            Who::Customer(index) => self.customer_id(out, index),
        }
        text(out, r#"","time":""#);
        time(out, at);
        if self.args.numbered {
            text(out, r#"","sequence":""#);
            number(out, u64::from(events));
        }
        match who {
            Who::Account(index) => {
                text(out, r#"","data":{"account_id":""#);
                self.account_id(out, index);
            }
            Who::Customer(index) => {
                text(out, r#"","data":{"customer_id":""#);
                self.customer_id(out, index);
            }
        }
        out.push(b'"');
    }

    /// The next account that has begun, where one has: the first event of an account is its opening.
    fn begun(&self, from: usize) -> usize {
        let (before, behind) = self.accounts.split_at_checked(from).unwrap_or_default();
        let begun = |(index, account): (usize, &Account)| (account.clock.events > 0).then_some(index);
        let behind = behind.iter().enumerate().map(|(index, account)| (index + from, account));
        behind.chain(before.iter().enumerate()).find_map(begun).unwrap_or(from)
    }

    fn account_event(&mut self, index: usize, mut account: Account, now: i64, out: &mut Out) -> Account {
        let at = self.tick(&mut account.clock, now);
        let events = account.clock.events;
        let who = Who::Account(index);
        let open = account.pending_next - account.pending_first;
        if events == 1 || account.closed {
            account.closed = false;
            self.opened(out, index, at, events);
        } else if events == 2 && index % 2 == 1 {
            let minor = self.random.below(10_000_000);
            account.balances = [i64::try_from(minor).unwrap_or_default(), 0];
            self.head(out, "ledger.balance.stated.v1", who, at, events);
            self.customer_member(out, index, false);
            self.stated(out, index, account.balances, at);
        } else if events == 3 && index.is_multiple_of(4) {
            self.credit_line(out, index, at, events);
        } else if self.random.percent(self.args.closures) {
            account.closed = true;
            self.head(out, "ledger.account.closed.v1", who, at, events);
        } else if open > 0 && self.random.percent(self.args.pending) {
            let entry = EntryNumber::Pending(account.pending_first);
            account.pending_first += 1;
            if self.random.percent(20) {
                self.head(out, "ledger.entry.released.v1", who, at, events);
                self.entry_id(out, index, entry);
            } else {
                self.booked(out, index, &mut account, entry, at);
            }
        } else if open < u64::from(self.args.pending_max) && self.random.percent(self.args.pending) {
            let entry = EntryNumber::Pending(account.pending_next);
            account.pending_next += 1;
            self.head(out, "ledger.entry.pending.v1", who, at, events);
            let booked = self.draw(index, entry);
            self.entry(out, index, &booked);
        } else {
            match self.random.below(100) {
                0 | 1 => {
                    self.head(out, "ledger.balance.stated.v1", who, at, events);
                    self.stated(out, index, account.balances, at);
                }
                2 => self.credit_line(out, index, at, events),
                _ => {
                    account.booked += 1;
                    let entry = EntryNumber::Direct(account.booked);
                    self.booked(out, index, &mut account, entry, at);
                }
            }
        }
        text(out, "}}");
        account
    }

    fn opened(&mut self, out: &mut Out, index: usize, at: i64, events: u32) {
        self.head(out, "ledger.account.opened.v1", Who::Account(index), at, events);
        self.customer_member(out, index, false);
        text(out, r#","currencies":["#);
        for second in [false, true] {
            if second && !self.has_second(index) {
                break;
            }
            text(out, if second { r#",""# } else { "\"" });
            self.currency_code(out, index, second);
            out.push(b'"');
        }
        out.push(b']');
    }

    fn credit_line(&mut self, out: &mut Out, index: usize, at: i64, events: u32) {
        self.head(out, "ledger.credit_line.set.v1", Who::Account(index), at, events);
        let minor = self.random.below(100) * 10_000;
        self.money(out, index, false, minor);
        text(out, r#","included":"#);
        text(out, if self.random.percent(75) { "true" } else { "false" });
    }

    /// The interim booked balance of the first currency, as it is after every entry so far.
    fn stated(&mut self, out: &mut Out, index: usize, balances: [i64; 2], at: i64) {
        let [first, _] = balances;
        self.money(out, index, false, first.unsigned_abs());
        text(out, r#","balance_type":"ITBD""#);
        indicator(out, first >= 0);
        text(out, r#","as_of":""#);
        time(out, at);
        out.push(b'"');
    }

    /// An entry of any amount and side.
    fn draw(&mut self, index: usize, entry: EntryNumber) -> Booked {
        // Small ones are frequent, and some are large.
        let magnitude = 10_u64.pow(2 + u32::try_from(self.random.below(5)).unwrap_or_default());
        // A pending entry is booked in the currency in which it was pending.
        let direct = matches!(entry, EntryNumber::Direct(_));
        Booked {
            entry,
            minor: 1 + self.random.below(magnitude),
            second: direct && self.has_second(index) && self.random.percent(30),
            credit: self.random.percent(50),
        }
    }

    fn booked(&mut self, out: &mut Out, index: usize, account: &mut Account, entry: EntryNumber, at: i64) {
        let direct = matches!(entry, EntryNumber::Direct(_));
        let reversed = account.last.filter(|_| direct && self.random.percent(self.args.reversals));
        let booked = match reversed {
            Some(last) => Booked { entry, credit: !last.credit, ..last },
            None => self.draw(index, entry),
        };
        self.head(out, "ledger.entry.booked.v1", Who::Account(index), at, account.clock.events);
        self.entry(out, index, &booked);
        if let Some(last) = reversed {
            text(out, r#","reversal_of":""#);
            self.entry_name(out, index, last.entry);
            out.push(b'"');
        }
        let today = at.div_euclid(DAY_US);
        let days = match self.random.below(100) {
            0..=4 => today - 1,
            5 | 6 => today + 1,
            7 => today + 2,
            _ => today,
        };
        text(out, r#","booking_date":""#);
        day(out, days);
        out.push(b'"');
        if self.random.percent(25) {
            text(out, r#","value_date":""#);
            day(out, days + 1);
            out.push(b'"');
        }
        account.last = if reversed.is_some() { None } else { Some(booked) };
        let minor = i64::try_from(booked.minor).unwrap_or_default();
        let [first, second] = &mut account.balances;
        let balance = if booked.second { second } else { first };
        *balance += if booked.credit { minor } else { -minor };
    }

    /// What pending and booked events have in common.
    fn entry(&mut self, out: &mut Out, index: usize, booked: &Booked) {
        self.entry_id(out, index, booked.entry);
        self.customer_member(out, index, booked.second);
        self.money(out, index, booked.second, booked.minor);
        indicator(out, booked.credit);
    }

    fn entry_id(&self, out: &mut Out, index: usize, entry: EntryNumber) {
        text(out, r#","entry_id":""#);
        self.entry_name(out, index, entry);
        out.push(b'"');
    }

    fn entry_name(&self, out: &mut Out, index: usize, entry: EntryNumber) {
        text(out, &self.args.prefix);
        number(out, u64::try_from(index).unwrap_or_default());
        let (mark, n) = match entry {
            EntryNumber::Direct(n) => ("-e", n),
            EntryNumber::Pending(n) => ("-p", n),
        };
        text(out, mark);
        number(out, n);
    }

    /// Entries of the second currency name nobody: dues in two currencies have no total.
    fn customer_member(&self, out: &mut Out, account: usize, second: bool) {
        if !second {
            text(out, r#","customer_id":""#);
            self.customer_id(out, self.customer_of(account));
            out.push(b'"');
        }
    }

    fn currency_code(&self, out: &mut Out, account: usize, second: bool) {
        if let Some(currency) = self.currency_of(self.customer_of(account), second) {
            text(out, currency.as_str());
        }
    }

    fn money(&mut self, out: &mut Out, account: usize, second: bool, minor: u64) {
        let currency = self.currency_of(self.customer_of(account), second);
        self.amount_member(out, currency, minor);
    }

    /// One amount in eight is a JSON number, the others are strings.
    fn amount_member(&mut self, out: &mut Out, currency: Option<Currency>, minor: u64) {
        let Some(currency) = currency else { return };
        let quote = if self.random.below(8) == 0 { "" } else { "\"" };
        text(out, r#","amount":"#);
        text(out, quote);
        amount(out, minor, currency.decimals());
        text(out, quote);
        text(out, r#","currency":""#);
        text(out, currency.as_str());
        out.push(b'"');
    }

    fn customer_event(&mut self, index: usize, mut customer: Customer, now: i64, out: &mut Out) -> Customer {
        let at = self.tick(&mut customer.clock, now);
        let events = customer.clock.events;
        let who = Who::Customer(index);
        if events == 1 || self.random.percent(2) {
            self.head(out, "customer.profile.set.v1", who, at, events);
            text(out, r#","billing_name":"CUSTOMER "#);
            number(out, u64::try_from(index).unwrap_or_default());
            text(out, r#" INC ","ivr_fee":""#);
            text(
                out,
                match self.random.below(4) {
                    0 => "0",
                    1 => "5.0",
                    2 => "2.25",
                    _ => "1.0005",
                },
            );
            out.push(b'"');
        } else if customer.reversible && self.random.percent(self.args.reversals) {
            customer.reversible = false;
            self.head(out, "payment.reversed.v1", who, at, events);
            self.payment_id(out, index, customer.payments);
            text(out, r#","reason":"returned by the bank""#);
        } else {
            customer.payments += 1;
            customer.reversible = true;
            self.head(out, "payment.settled.v1", who, at, events);
            self.payment_id(out, index, customer.payments);
            let minor = 1 + self.random.below(1_000_000);
            let currency = self.currency_of(index, false);
            self.amount_member(out, currency, minor);
            text(out, r#","paid_on":""#);
            day(out, at.div_euclid(DAY_US));
            out.push(b'"');
        }
        text(out, "}}");
        customer
    }

    fn payment_id(&self, out: &mut Out, index: usize, payment: u64) {
        text(out, r#","payment_id":""#);
        self.customer_id(out, index);
        out.push(b'-');
        number(out, payment);
        out.push(b'"');
    }
}

fn indicator(out: &mut Out, credit: bool) {
    text(out, r#","credit_debit_indicator":""#);
    text(out, if credit { "CRDT\"" } else { "DBIT\"" });
}

/// A record that becomes a dead letter, as a raw line: see `publish`.
fn poison(generator: &mut Generator, out: &mut Out) {
    let index =
        usize::try_from(generator.random.below(u64::from(generator.args.accounts))).unwrap_or_default();
    let now = generator.start_us + generator.step_us * i64::try_from(generator.line).unwrap_or(i64::MAX);
    let kind = generator.poisoned % 8;
    // It uses up a number, or the next event would bear the same; but not where its subject is another, or unknown.
    let numbered = generator.args.numbered && kind < 5;
    let index = if numbered { generator.begun(index) } else { index };
    let who = Who::Account(index);
    let sequence = generator.accounts.get(index).map_or(1, |a| a.clock.events + 1);
    if let Some(account) = generator.accounts.get_mut(index).filter(|_| numbered) {
        account.clock.events = sequence;
    }
    let mut key = Out::new();
    generator.account_id(&mut key, index);

    let mut value = Out::new();
    let event_type = if kind == 4 { "ledger.account.renamed.v1" } else { "ledger.entry.booked.v1" };
    generator.head(&mut value, event_type, who, now, sequence);
    text(&mut value, r#","entry_id":""#);
    generator.account_id(&mut value, index);
    text(&mut value, "-x");
    number(&mut value, generator.poisoned);
    text(&mut value, r#"","credit_debit_indicator":"DBIT","booking_date":""#);
    day(&mut value, now.div_euclid(DAY_US));
    text(
        &mut value,
        match kind {
            // bad-amount, missing-field, unknown-currency; the others are wrong elsewhere.
            0 => r#"","amount":"1e2","currency":"EUR"}}"#,
            1 => r#"","currency":"EUR"}}"#,
            2 => r#"","amount":"1.00","currency":"EEK"}}"#,
            _ => r#"","amount":"1.00","currency":"EUR"}}"#,
        },
    );
    if kind == 3 {
        // not-json: cut off.
        value.truncate(value.len() / 2);
    }
    if kind == 5 {
        // key-not-subject.
        text(&mut key, "X");
    }

    text(out, r#"{"raw":{"topic":"ledger","key":"#);
    if kind == 7 {
        // no-key.
        text(out, "null");
    } else {
        out.push(b'"');
        out.extend_from_slice(&key);
        out.push(b'"');
    }
    text(out, r#","headers":{"content-type":"application/cloudevents+json"},"value":"#);
    if kind == 6 {
        // tombstone.
        text(out, "null");
    } else {
        out.push(b'"');
        for byte in value {
            if byte == b'"' {
                out.push(b'\\');
            }
            out.push(byte);
        }
        out.push(b'"');
    }
    text(out, "}}");
}
