//! The records of a subject as rows, each with what it moved.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::Serialize;

use super::figures::Paid;
use crate::{
    decisions::Patch,
    domain::{
        AccountFact, Amount, BalanceType, Cell, Compared, Currency, CustomerFact, CustomerId, Day, Event,
        Fact, Ignored, Indicator, Offset, Outcome,
    },
    ops::money::{between, money},
    projector::lane::{Fate, Step},
    source::Cluster,
    store::Quarantine,
};

/// One record.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The record's offset.
    pub offset: i64,
    /// When Kafka took it.
    pub timestamp: String,
    /// The account, where the explanation is a customer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The event's id; absent where the record cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// Who sent it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Its number, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// Its type, such as `ledger.entry.booked.v1`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    /// When it happened upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Its entry or payment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The day on which it was booked or paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// `applied`, `duplicate`, `without-effect`, `replayed`, `type-ignored`, `skipped`, `dead-letter` or `waits`.
    pub outcome: &'static str,
    /// Why, or what it did besides moving figures; for a human.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// What an operator decided about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decided>,
    /// What it moved.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<Move>,
    /// The last payment that counts from here on, where it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_payment: Option<Paid>,
}

/// What an operator decided about a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decided {
    /// `retry`, `skip`, `replace` or `accept`.
    pub remedy: &'static str,
    /// By whom.
    pub who: String,
    /// By the clock of the operator's machine.
    pub at: String,
    /// In the operator's words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// What a record did to one currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Move {
    /// The currency.
    pub currency: Currency,
    /// What it added to the balance: what is booked, or what is due.
    pub amount: String,
    /// The balance afterwards.
    pub balance: String,
    /// What is available afterwards; of accounts alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available: Option<String>,
}

/// A running figure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Balance {
    /// The account, where the explanation is a customer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The currency.
    pub currency: Currency,
    /// What is booked, or what is due.
    pub balance: String,
    /// What is available; of accounts alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available: Option<String>,
}

/// The running figures of one cell: what is booked or due, and what is available where there is such a thing.
pub(super) type Running = BTreeMap<Currency, (Amount, Option<Amount>)>;

/// Which figures of a cell are told.
pub(super) enum Lens {
    /// An account's balances.
    Account,
    /// What a customer owes on an account.
    Due(String, CustomerId),
    /// A customer's payments and profile.
    Customer,
}

/// The rows that are shown, and the figures before them.
pub(super) struct Trace {
    lens: Lens,
    currency: Option<Currency>,
    last: usize,
    running: Running,
    paid: Option<Paid>,
    opening: BTreeMap<Currency, Balance>,
    /// Records that were told to wait, or to be set aside, and may be told of again.
    held: BTreeSet<(i32, i64)>,
    /// Records that were folded before their place came.
    early: BTreeSet<(i32, i64)>,
    pub(super) rows: VecDeque<Row>,
    pub(super) left_out: u64,
}

impl Lens {
    pub(super) fn running(&self, cell: Option<&Cell>) -> Running {
        match (self, cell) {
            (Lens::Account, Some(Cell::Account(account))) => {
                // Neither figure depends on the day.
                let day = Day(jiff::civil::Date::MIN);
                let of = |currency, balance_type| {
                    let figure = account.figure(currency, balance_type, day).and_then(Result::ok);
                    figure.map(|figure| figure.amount)
                };
                let told = |currency| {
                    let booked = of(currency, BalanceType::Itbd)?;
                    Some((currency, (booked, of(currency, BalanceType::Clav))))
                };
                account.currencies().into_iter().filter_map(told).collect()
            }
            (Lens::Due(_, customer), Some(Cell::Account(account))) => {
                let due = account.due(customer).unwrap_or_default();
                due.iter().map(|(currency, amount)| (*currency, (*amount, None))).collect()
            }
            (Lens::Account | Lens::Due(..) | Lens::Customer, _) => Running::new(),
        }
    }

    /// Whether a record that moved no figure is told all the same.
    fn shows(&self, event: Option<&Event>) -> bool {
        match (self, event.map(|event| &event.fact)) {
            (Lens::Due(_, customer), Some(Fact::Account(_, fact))) => owes(fact) == Some(customer),
            (Lens::Account | Lens::Due(..) | Lens::Customer, _) => true,
        }
    }

    fn account(&self) -> Option<String> {
        match self {
            Lens::Due(account, _) => Some(account.clone()),
            Lens::Account | Lens::Customer => None,
        }
    }
}

/// Who comes to owe by it.
pub(super) fn owes(fact: &AccountFact) -> Option<&CustomerId> {
    match fact {
        AccountFact::Opened { customer_id, .. } => customer_id.as_ref(),
        AccountFact::Booked { entry, .. } => entry.customer_id.as_ref(),
        AccountFact::Stated(statement) => statement.customer_id.as_ref(),
        AccountFact::Pending(_)
        | AccountFact::Released { .. }
        | AccountFact::CreditLine { .. }
        | AccountFact::Closed
        | AccountFact::Ignored => None,
    }
}

impl Trace {
    pub(super) fn new(lens: Lens, currency: Option<Currency>, last: usize) -> Self {
        Trace {
            lens,
            currency,
            last,
            running: Running::new(),
            paid: None,
            opening: BTreeMap::new(),
            held: BTreeSet::new(),
            early: BTreeSet::new(),
            rows: VecDeque::new(),
            left_out: 0,
        }
    }

    /// Takes in what became of a record.
    pub(super) fn step(&mut self, cluster: &Cluster, step: &Step<'_, '_>) {
        let after = self.lens.running(step.cell);
        let moves = self.moves(&after);
        self.running = after;
        let paid = match step.cell {
            Some(Cell::Customer(customer)) => Paid::of(&customer.last_payment()),
            Some(Cell::Account(_)) | None => None,
        };
        let last_payment = paid.clone().filter(|_| self.paid != paid);
        self.paid = paid;
        let touches = |currency| match step.event.map(|event| &event.fact) {
            Some(fact) => currencies(fact).is_none_or(|named| named.contains(&currency)),
            None => true,
        };
        let unmoved = moves.is_empty() && last_payment.is_none();
        // A record in another currency says nothing of this one; one without a currency does.
        if unmoved && (self.currency.is_some_and(|wanted| !touches(wanted)) || !self.lens.shows(step.event)) {
            return;
        }
        let at = (step.at.partition.partition, step.at.offset.0);
        if matches!(step.fate, Fate::Early(_)) {
            self.early.insert(at);
        } else if self.early.remove(&at) {
            // It was folded before its place came, and told then.
            return;
        }
        if self.held.remove(&at) {
            // What is told now is what came of it.
            self.rows.retain(|row| (row.partition, row.offset) != at);
        }
        if matches!(step.fate, Fate::SetAside(_) | Fate::Waits(_)) {
            self.held.insert(at);
        }
        self.rows.push_back(Row::new(cluster, step, self.lens.account(), moves, last_payment));
        if self.rows.len() > self.last
            && let Some(row) = self.rows.pop_front()
        {
            self.left_out = self.left_out.saturating_add(1);
            for moved in row.moves {
                let Move { currency, balance, available, .. } = moved;
                let account = self.lens.account();
                self.opening.insert(currency, Balance { account, currency, balance, available });
            }
        }
    }

    /// Behind which record those wait that still do, in the end.
    pub(super) fn settle<'q>(&mut self, quarantines: impl Iterator<Item = &'q Quarantine>) {
        let held: BTreeMap<i32, Offset> =
            quarantines.map(|held| (held.partition.partition, held.offset)).collect();
        for row in self.rows.iter_mut().filter(|row| row.outcome == "waits") {
            if let Some(behind) = held.get(&row.partition) {
                row.note = waits(*behind);
            }
        }
    }

    fn moves(&self, after: &Running) -> Vec<Move> {
        let mut moves = Vec::new();
        for (currency, (balance, available)) in after {
            if self.currency.is_some_and(|wanted| wanted != *currency) {
                continue;
            }
            let before = self.running.get(currency).copied();
            if before == Some((*balance, *available)) {
                continue;
            }
            let (before, _) = before.unwrap_or((Amount::ZERO, None));
            moves.push(Move {
                currency: *currency,
                amount: money(between(before, *balance), *currency),
                balance: money(*balance, *currency),
                available: available.map(|available| money(available, *currency)),
            });
        }
        for (currency, (balance, _)) in &self.running {
            let wanted = self.currency.is_none_or(|wanted| wanted == *currency);
            if wanted && !after.contains_key(currency) {
                moves.push(Move {
                    currency: *currency,
                    amount: money(balance.negated(), *currency),
                    balance: money(Amount::ZERO, *currency),
                    available: None,
                });
            }
        }
        moves
    }

    /// The figures before the first row.
    pub(super) fn opening(&self) -> Vec<Balance> {
        self.opening.values().cloned().collect()
    }
}

impl Decided {
    pub(super) fn of(patch: &Patch) -> Decided {
        Decided {
            remedy: patch.remedy.name(),
            who: patch.act.who.clone(),
            at: patch.act.at.to_string(),
            why: patch.act.why.clone(),
        }
    }
}

impl Row {
    fn new(
        cluster: &Cluster,
        step: &Step<'_, '_>,
        account: Option<String>,
        moves: Vec<Move>,
        last_payment: Option<Paid>,
    ) -> Row {
        let event = step.event;
        let (outcome, note) = told(step);
        let (reference, date) = event.map(details).unwrap_or_default();
        Row {
            topic: cluster.topic_name(step.at.partition.topic).to_owned(),
            partition: step.at.partition.partition,
            offset: step.at.offset.0,
            timestamp: step.at.timestamp.to_string(),
            account,
            event_id: event.map(|event| event.id.to_string()),
            source: event.map(|event| event.source.to_string()),
            sequence: event.and_then(|event| event.sequence),
            kind: event.map(|event| kind(&event.fact)),
            time: event.map(|event| event.time.to_string()),
            reference,
            date,
            outcome,
            note,
            decision: step.patch.map(Decided::of),
            moves,
            last_payment,
        }
    }
}

/// The outcome's name, and why or what besides.
fn told(step: &Step<'_, '_>) -> (&'static str, String) {
    match &step.fate {
        Fate::Skipped => {
            let numbered = step.event.is_some_and(|event| event.sequence.is_some());
            let note = if numbered { "passed over; its number is used up" } else { "passed over" };
            ("skipped", note.to_owned())
        }
        Fate::Folded(effect) | Fate::Early(effect) => match effect.outcome {
            Outcome::Applied => {
                let note = match effect.compared {
                    Some(Compared::Opened) => "the opening balance".to_owned(),
                    Some(Compared::Agrees) => format!("{}: agrees", stated(step)),
                    Some(Compared::Drifts) => format!("{}: drifts", stated(step)),
                    Some(Compared::Counted) => format!("{}: counted only", stated(step)),
                    None => step.event.map(does).unwrap_or_default(),
                };
                ("applied", note)
            }
            Outcome::Ignored(Ignored::Duplicate) => {
                ("duplicate", "a repeat: its event id, number, entry or payment is known already".to_owned())
            }
            Outcome::Ignored(Ignored::WithoutEffect) => {
                ("without-effect", "its entry or payment has ended".to_owned())
            }
            Outcome::Ignored(Ignored::Replayed) => ("replayed", "folded before".to_owned()),
            Outcome::Ignored(Ignored::Type) => ("type-ignored", "its type is passed over".to_owned()),
        },
        Fate::SetAside(rejection) => ("dead-letter", format!("{}: {}", rejection.class, rejection.message)),
        Fate::Waits(behind) => ("waits", waits(*behind)),
    }
}

fn waits(behind: Offset) -> String {
    format!("behind the dead letter at offset {behind}")
}

fn stated(step: &Step<'_, '_>) -> String {
    let Some(Fact::Account(_, AccountFact::Stated(statement))) = step.event.map(|event| &event.fact) else {
        return String::new();
    };
    let amount = match statement.indicator {
        Indicator::Credit => statement.amount,
        Indicator::Debit => statement.amount.negated(),
    };
    format!(
        "stated {} {} {} as of {}",
        statement.balance_type.code(),
        money(amount, statement.currency),
        statement.currency,
        statement.as_of
    )
}

/// What an event does besides moving figures.
fn does(event: &Event) -> String {
    match &event.fact {
        Fact::Account(_, fact) => match fact {
            AccountFact::Opened { .. } => "opened".to_owned(),
            AccountFact::Pending(entry) => {
                let side = match entry.indicator {
                    Indicator::Credit => "credit",
                    Indicator::Debit => "debit",
                };
                format!("pending {side} of {} {}", money(entry.amount, entry.currency), entry.currency)
            }
            AccountFact::Released { .. } => "a pending entry ends".to_owned(),
            AccountFact::Booked { .. } | AccountFact::Stated(_) | AccountFact::Ignored => String::new(),
            AccountFact::CreditLine { currency, amount, included } => {
                let included = if *included { "included" } else { "not included" };
                format!(
                    "credit line {} {currency}, {included} in what is available",
                    money(*amount, *currency)
                )
            }
            AccountFact::Closed => "closed".to_owned(),
        },
        Fact::Customer(_, fact) => match fact {
            CustomerFact::Settled { amount, currency, .. } => {
                format!("paid {} {currency}", money(*amount, *currency))
            }
            CustomerFact::Reversed { .. } => "a payment is returned".to_owned(),
            CustomerFact::Ignored => String::new(),
            CustomerFact::Profile { billing_name, ivr_fee } => {
                format!("billing name {billing_name:?}, fee {}", ivr_fee.to_short())
            }
        },
    }
}

fn details(event: &Event) -> (Option<String>, Option<String>) {
    match &event.fact {
        Fact::Account(_, fact) => match fact {
            AccountFact::Pending(entry) => (Some(entry.entry_id.as_str().to_owned()), None),
            AccountFact::Released { entry_id } => (Some(entry_id.as_str().to_owned()), None),
            AccountFact::Booked { entry, booking_date } => {
                (Some(entry.entry_id.as_str().to_owned()), Some(booking_date.to_string()))
            }
            AccountFact::Opened { .. }
            | AccountFact::CreditLine { .. }
            | AccountFact::Stated(_)
            | AccountFact::Closed
            | AccountFact::Ignored => (None, None),
        },
        Fact::Customer(_, fact) => match fact {
            CustomerFact::Settled { payment_id, paid_on, .. } => {
                (Some(payment_id.as_str().to_owned()), Some(paid_on.to_string()))
            }
            CustomerFact::Reversed { payment_id } => (Some(payment_id.as_str().to_owned()), None),
            CustomerFact::Profile { .. } | CustomerFact::Ignored => (None, None),
        },
    }
}

/// The currencies that an event names; `None` where it names none and may touch any.
fn currencies(fact: &Fact) -> Option<Vec<Currency>> {
    match fact {
        Fact::Account(_, fact) => match fact {
            AccountFact::Opened { currencies, .. } => Some(currencies.clone()),
            AccountFact::Pending(entry) | AccountFact::Booked { entry, .. } => Some(vec![entry.currency]),
            AccountFact::CreditLine { currency, .. } => Some(vec![*currency]),
            AccountFact::Stated(statement) => Some(vec![statement.currency]),
            AccountFact::Released { .. } | AccountFact::Closed | AccountFact::Ignored => None,
        },
        Fact::Customer(_, fact) => match fact {
            CustomerFact::Settled { currency, .. } => Some(vec![*currency]),
            CustomerFact::Reversed { .. } | CustomerFact::Profile { .. } | CustomerFact::Ignored => None,
        },
    }
}

fn kind(fact: &Fact) -> &'static str {
    match fact {
        Fact::Account(_, fact) => match fact {
            AccountFact::Opened { .. } => "ledger.account.opened.v1",
            AccountFact::Pending(_) => "ledger.entry.pending.v1",
            AccountFact::Released { .. } => "ledger.entry.released.v1",
            AccountFact::Booked { .. } => "ledger.entry.booked.v1",
            AccountFact::CreditLine { .. } => "ledger.credit_line.set.v1",
            AccountFact::Stated(_) => "ledger.balance.stated.v1",
            AccountFact::Closed => "ledger.account.closed.v1",
            AccountFact::Ignored => "(a type that is passed over)",
        },
        Fact::Customer(_, fact) => match fact {
            CustomerFact::Settled { .. } => "payment.settled.v1",
            CustomerFact::Reversed { .. } => "payment.reversed.v1",
            CustomerFact::Profile { .. } => "customer.profile.set.v1",
            CustomerFact::Ignored => "(a type that is passed over)",
        },
    }
}
