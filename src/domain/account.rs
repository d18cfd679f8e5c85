//! An account's cell: balances per currency, pending entries, dues, drift.

mod facets;
mod held;

use jiff::{Timestamp, tz::TimeZone};

use super::{
    AccountFact, Amount, CellError, Class, Compared, Currency, CustomerId, Day, Dues, Effect, Entry, EntryId,
    Event, Ignored, Indicator, Manner, Offset, RecordAt, Rejection, Rules, Statement, Time,
    due::{self, CURRENCIES_MAX},
    packed::{Kind, Packer, Unpacker},
    seen::{Fingerprint, Recognised, Seen, Sighting, Window, joined, other_facts, unverifiable},
};
use held::{Dated, Held, Mark, Opening};

/// The most pending entries of an account.
const PENDING_MAX: usize = 256;
/// The most customers with a due on an account.
const CUSTOMERS_MAX: usize = 16;
/// How long before the account's newest event booking dates are told apart.
const DATES_BACK: i32 = 7;
/// How many ended entries are remembered, booked and released ones each.
const ENDED_MAX: usize = 32;

/// ISO 20022's balance types, as far as they are known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum BalanceType {
    /// Previously closed booked: every booking date before today.
    Prcd,
    /// Closing booked: equals `PRCD`.
    Clbd,
    /// Interim booked: the opening balance and every booked entry.
    Itbd,
    /// Closing available: `ITBD` less pending debits, plus the credit line where included.
    Clav,
}

impl BalanceType {
    /// All of them.
    pub const ALL: [BalanceType; 4] =
        [BalanceType::Prcd, BalanceType::Clbd, BalanceType::Itbd, BalanceType::Clav];

    /// ISO 20022's code.
    pub const fn code(self) -> &'static str {
        match self {
            BalanceType::Prcd => "PRCD",
            BalanceType::Clbd => "CLBD",
            BalanceType::Itbd => "ITBD",
            BalanceType::Clav => "CLAV",
        }
    }
}

/// A credit line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreditLine {
    /// Zero or above.
    pub amount: Amount,
    /// Whether available balances include it.
    pub included: bool,
}

/// A balance as it is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figure {
    /// Signed: below zero is a debit balance.
    pub amount: Amount,
    /// The newest `time` among the events that the figure rests on.
    pub time: Time,
    /// The currency's credit line, where one is set.
    pub credit_line: Option<CreditLine>,
}

/// A figure that cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FigureError {
    /// Merged booking dates are not all before the day asked for.
    #[error("more than 64 booking dates lie ahead: days are no longer told apart")]
    DaysMerged,
}

/// A statement that disagreed, and none since that agreed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// In which currency.
    pub currency: Currency,
    /// Of which type.
    pub balance_type: BalanceType,
    /// The `as_of` of the first statement that disagreed.
    pub as_of: Time,
    /// What it stated, signed.
    pub stated: Amount,
    /// What was projected then, signed.
    pub ours: Amount,
    /// The statement's record.
    pub offset: Offset,
}

/// An account's cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    home: i32,
    applied: Offset,
    /// The newest `time` of its events: the only clock of the fold.
    newest: Time,
    /// Opened at least once.
    opened: bool,
    closed: bool,
    seen: Seen,
    /// Fingerprint and facts of the last booked entries.
    booked: Window<12>,
    /// Fingerprints of the last released entries.
    released: Window<8>,
    /// In alphabetical order.
    currencies: Vec<Held>,
    /// In the order of their first pending.
    pending: Vec<Pending>,
    /// In the order in which they opened.
    dues: Vec<HeldDue>,
}

/// An entry that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pending {
    entry: Fingerprint,
    currency: Currency,
    /// Signed as it will move the balance.
    amount: Amount,
    /// The account's newest `time` when the entry became pending: an event with a later one cannot have
    /// been folded before, so it is no forgotten repeat.
    since: Time,
}

/// What a customer owes on the account.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HeldDue {
    customer: CustomerId,
    /// None of them zero; in alphabetical order.
    amounts: Vec<(Currency, Amount)>,
}

impl Account {
    pub(super) fn born(home: i32) -> Self {
        Account {
            home,
            applied: Offset(0),
            newest: Time(Timestamp::MIN),
            opened: false,
            closed: false,
            seen: Seen::default(),
            booked: Window::default(),
            released: Window::default(),
            currencies: Vec::new(),
            pending: Vec::new(),
            dues: Vec::new(),
        }
    }

    /// The partition that the account lives in.
    pub fn home(&self) -> i32 {
        self.home
    }
    /// The offset after its last folded record.
    pub fn applied(&self) -> Offset {
        self.applied
    }
    /// Whether it is closed, and was not opened again since.
    pub fn is_closed(&self) -> bool {
        self.closed
    }
    /// Whether its figures rest on a beginning, whatever the log held before: it was opened, or each currency has an
    /// opening balance.
    pub fn has_beginning(&self) -> bool {
        let begun = |held: &Held| held.opening.is_some();
        self.opened || (!self.currencies.is_empty() && self.currencies.iter().all(begun))
    }
    /// Of an account that was opened, the earliest `time` among the events that made its currencies known.
    pub fn opened_at(&self) -> Option<Time> {
        self.currencies.iter().map(|held| held.known).min().filter(|_| self.opened)
    }
    /// The currencies that it holds, in alphabetical order.
    pub fn currencies(&self) -> Vec<Currency> {
        self.currencies.iter().map(|held| held.currency).collect()
    }
    /// A balance; `None` for a currency that it does not hold.
    pub fn figure(
        &self,
        currency: Currency,
        balance_type: BalanceType,
        today: Day,
    ) -> Option<Result<Figure, FigureError>> {
        let held = self.held(currency)?;
        Some(match balance_type {
            BalanceType::Prcd | BalanceType::Clbd => held.before(today),
            BalanceType::Itbd => held.interim(),
            BalanceType::Clav => held.available(&self.pending),
        })
    }
    /// Where it drifts.
    pub fn drifts(&self) -> Vec<Drift> {
        let marks = self.currencies.iter().flat_map(|held| {
            [(BalanceType::Itbd, held.interim_drift), (BalanceType::Clbd, held.closing_drift)]
                .into_iter()
                .filter_map(|(balance_type, mark)| Some((held.currency, balance_type, mark?)))
        });
        marks
            .map(|(currency, balance_type, mark)| Drift {
                currency,
                balance_type,
                as_of: mark.as_of,
                stated: mark.stated,
                ours: mark.ours,
                offset: mark.offset,
            })
            .collect()
    }
    /// Who has a due on it, zero included.
    pub fn customers(&self) -> Vec<CustomerId> {
        self.dues().map(|(customer, _)| customer.clone()).collect()
    }
    /// What each customer owes on it, as [`Account::due`] has it.
    pub fn dues(&self) -> impl Iterator<Item = (&CustomerId, &[(Currency, Amount)])> {
        self.dues.iter().map(|due| (&due.customer, due.amounts.as_slice()))
    }
    /// The same as it stands beside each customer's cell.
    pub fn encoded_dues(&self) -> Vec<(CustomerId, Vec<u8>)> {
        let encoded = |amounts: &[(Currency, Amount)]| {
            let mut bytes = Vec::new();
            due::encode_due(amounts, &mut bytes);
            bytes
        };
        self.dues().map(|(customer, amounts)| (customer.clone(), encoded(amounts))).collect()
    }
    /// What a customer owes on it per currency, signed and never zero; `None` for one who never came to owe.
    pub fn due(&self, customer: &CustomerId) -> Option<&[(Currency, Amount)]> {
        let due = self.dues.iter().find(|due| due.customer == *customer)?;
        Some(&due.amounts)
    }

    pub(super) fn set_applied(&mut self, applied: Offset) {
        self.applied = applied;
    }
    pub(super) fn seen(&self) -> &Seen {
        &self.seen
    }
    pub(super) fn seen_mut(&mut self) -> &mut Seen {
        &mut self.seen
    }

    /// Folds an event that comes from the account's home. On `Err` nothing has changed.
    pub(super) fn fold(
        &mut self,
        event: &Event,
        fact: &AccountFact,
        at: &RecordAt,
        rules: &Rules,
        manner: Manner,
    ) -> Result<Effect, Rejection> {
        if at.offset < self.applied {
            return Ok(Effect::ignored(Ignored::Replayed));
        }
        let sighting = match self.seen.recognise(event, rules.key, manner == Manner::AsNew)? {
            Recognised::Repeat => {
                self.applied = at.offset.next();
                return Ok(Effect::ignored(Ignored::Duplicate));
            }
            Recognised::New(sighting) => sighting,
        };
        if let Some(ignored) = self.ended(event, fact, &sighting, rules)? {
            self.seen.room(&sighting)?;
            self.accept(event, at, &sighting, rules);
            return Ok(Effect::ignored(ignored));
        }
        let effect = match fact {
            AccountFact::Opened { currencies, customer_id } => {
                self.room(&sighting, currencies, customer_id.as_ref())?;
                self.opened = true;
                self.closed = false;
                for currency in currencies {
                    self.hold(*currency, event.time).touch(event.time);
                }
                self.opens_due(customer_id.as_ref())
            }
            AccountFact::Pending(entry) => self.pend(entry, event, &sighting, rules)?,
            AccountFact::Released { entry_id } => self.release(entry_id, event, &sighting, rules)?,
            AccountFact::Booked { entry, booking_date } => {
                self.book(entry, *booking_date, event, &sighting, rules)?
            }
            AccountFact::CreditLine { currency, amount, included } => {
                self.room(&sighting, &[*currency], None)?;
                let held = self.hold(*currency, event.time);
                held.touch(event.time);
                held.credit_line = Some(CreditLine { amount: *amount, included: *included });
                Effect::applied()
            }
            AccountFact::Stated(statement) => self.state(statement, event, at, &sighting, rules)?,
            AccountFact::Closed => {
                self.seen.room(&sighting)?;
                self.closed = true;
                Effect::applied()
            }
            AccountFact::Ignored => {
                self.seen.room(&sighting)?;
                self.seen.remember(&sighting, rules.event_window);
                self.applied = at.offset.next();
                return Ok(Effect::ignored(Ignored::Type));
            }
        };
        self.accept(event, at, &sighting, rules);
        Ok(effect)
    }

    /// What every event leaves behind that is no repeat by its own id, with an effect or without.
    fn accept(&mut self, event: &Event, at: &RecordAt, sighting: &Sighting, rules: &Rules) {
        self.seen.remember(sighting, rules.event_window);
        self.applied = at.offset.next();
        if event.time > self.newest {
            self.newest = event.time;
            self.merge(rules.zone());
        }
    }

    /// Whether the event is a repeat by its entry, comes after the entry's end, or cannot be verified.
    fn ended(
        &self,
        event: &Event,
        fact: &AccountFact,
        sighting: &Sighting,
        rules: &Rules,
    ) -> Result<Option<Ignored>, Rejection> {
        if sighting.repeated {
            return Ok(Some(Ignored::Duplicate));
        }
        let not_before =
            |entry| self.pending.iter().any(|pending| pending.entry == entry && pending.since < event.time);
        let known = match fact {
            AccountFact::Booked { entry, .. } => {
                let id = Fingerprint::entry(rules.key, &entry.entry_id);
                match self.booked.find(id) {
                    Some(facts) if facts == sighting.facts.0 => return Ok(Some(Ignored::Duplicate)),
                    Some(_) => return Err(other_facts("data.entry_id", "entry")),
                    None => not_before(id),
                }
            }
            AccountFact::Pending(Entry { entry_id, .. }) | AccountFact::Released { entry_id } => {
                let id = Fingerprint::entry(rules.key, entry_id);
                if self.booked.holds(id) || self.released.holds(id) {
                    return Ok(Some(Ignored::WithoutEffect));
                }
                matches!(fact, AccountFact::Released { .. }) && not_before(id)
            }
            AccountFact::Opened { .. }
            | AccountFact::CreditLine { .. }
            | AccountFact::Stated(_)
            | AccountFact::Closed
            | AccountFact::Ignored => false,
        };
        if sighting.late && !known { Err(unverifiable()) } else { Ok(None) }
    }

    fn pend(
        &mut self,
        entry: &Entry,
        event: &Event,
        sighting: &Sighting,
        rules: &Rules,
    ) -> Result<Effect, Rejection> {
        let id = Fingerprint::entry(rules.key, &entry.entry_id);
        let replaced = self.pending.iter().position(|pending| pending.entry == id);
        if replaced.is_none() && self.pending.len() >= PENDING_MAX {
            return Err(full("data.entry_id", "pending entry", PENDING_MAX));
        }
        self.room(sighting, &[entry.currency], None)?;
        let amount = signed(entry.amount, entry.indicator);
        self.hold(entry.currency, event.time).touch(event.time);
        match replaced.and_then(|at| self.pending.get_mut(at)) {
            Some(pending) => {
                let before = pending.currency;
                pending.currency = entry.currency;
                pending.amount = amount;
                self.touch(before, event.time);
            }
            None => {
                self.pending.push(Pending {
                    entry: id,
                    currency: entry.currency,
                    amount,
                    since: self.newest,
                });
            }
        }
        Ok(Effect::applied())
    }

    fn release(
        &mut self,
        entry_id: &EntryId,
        event: &Event,
        sighting: &Sighting,
        rules: &Rules,
    ) -> Result<Effect, Rejection> {
        self.seen.room(sighting)?;
        let id = Fingerprint::entry(rules.key, entry_id);
        self.end_pending(id, event.time);
        self.released.push(id.bytes(), ENDED_MAX);
        Ok(Effect::applied())
    }

    fn book(
        &mut self,
        entry: &Entry,
        booking_date: Day,
        event: &Event,
        sighting: &Sighting,
        rules: &Rules,
    ) -> Result<Effect, Rejection> {
        let amount = signed(entry.amount, entry.indicator);
        let total = self.held(entry.currency).map_or(0, Held::total);
        let total = Amount::from_ten_thousandths(total).and_then(|total| total.checked_add(amount));
        if total.is_none() {
            return Err(overflow("what is booked in this currency"));
        }
        let due = self.due_after(entry.customer_id.as_ref(), entry.currency, amount.negated())?;
        self.room(sighting, &[entry.currency], entry.customer_id.as_ref())?;

        let id = Fingerprint::entry(rules.key, &entry.entry_id);
        let held = self.hold(entry.currency, event.time);
        held.touch(event.time);
        held.book(booking_date, amount.ten_thousandths(), event.time);
        self.end_pending(id, event.time);
        self.booked.push(joined(id.bytes(), sighting.facts.0), ENDED_MAX);
        if event.time <= self.newest {
            // The newest time stands still, so nobody else merges what was booked on an old date.
            self.merge(rules.zone());
        }
        Ok(self.sets_due(entry.customer_id.as_ref(), entry.currency, due))
    }

    fn state(
        &mut self,
        statement: &Statement,
        event: &Event,
        at: &RecordAt,
        sighting: &Sighting,
        rules: &Rules,
    ) -> Result<Effect, Rejection> {
        let currency = statement.currency;
        let stated = signed(statement.amount, statement.indicator);
        let untouched = self.held(currency).is_none_or(|held| held.opening.is_none() && held.is_unbooked());
        if statement.balance_type == BalanceType::Itbd && untouched {
            let customer = statement.customer_id.as_ref();
            let due = self.due_after(customer, currency, stated.negated())?;
            self.room(sighting, &[currency], customer)?;
            let held = self.hold(currency, event.time);
            held.touch(event.time);
            held.opening = Some(Opening { amount: stated, time: event.time });
            let effect = self.sets_due(customer, currency, due);
            return Ok(Effect { compared: Some(Compared::Opened), ..effect });
        }
        self.room(sighting, &[currency], None)?;
        let opened = self.opened;
        let held = self.hold(currency, event.time);
        let ours = match statement.balance_type {
            BalanceType::Itbd => held.interim_at(statement.as_of),
            BalanceType::Clbd => held.closing_at(statement.as_of.day_in(rules.zone()), opened),
            BalanceType::Prcd | BalanceType::Clav => None,
        };
        let Some(ours) = ours else {
            return Ok(Effect { compared: Some(Compared::Counted), ..Effect::applied() });
        };
        let mark = match statement.balance_type {
            BalanceType::Clbd => &mut held.closing_drift,
            BalanceType::Itbd | BalanceType::Prcd | BalanceType::Clav => &mut held.interim_drift,
        };
        let compared = if ours == stated {
            // An agreement about an earlier instant says nothing about the one that disagreed.
            *mark = mark.filter(|mark| statement.as_of < mark.as_of);
            Compared::Agrees
        } else {
            mark.get_or_insert(Mark { as_of: statement.as_of, stated, ours, offset: at.offset });
            Compared::Drifts
        };
        Ok(Effect { compared: Some(compared), ..Effect::applied() })
    }

    fn held(&self, currency: Currency) -> Option<&Held> {
        self.currencies.iter().find(|held| held.currency == currency)
    }

    fn touch(&mut self, currency: Currency, time: Time) {
        if let Some(held) = self.currencies.iter_mut().find(|held| held.currency == currency) {
            held.touch(time);
        }
    }

    /// The currency, made known where it is not yet.
    fn hold(&mut self, currency: Currency, time: Time) -> &mut Held {
        let at = self.currencies.partition_point(|held| held.currency < currency);
        if self.currencies.get(at).is_none_or(|held| held.currency != currency) {
            // Most accounts hold one currency, and a vector would make room for four.
            self.currencies.reserve_exact(1);
            self.currencies.insert(at, Held::known(currency, time));
        }
        // It stands where it was found or inserted.
        #[allow(clippy::indexing_slicing, reason = "the position was checked or filled above")]
        &mut self.currencies[at]
    }

    /// Whether there is room for the event's source, currencies and customer.
    fn room(
        &self,
        sighting: &Sighting,
        currencies: &[Currency],
        customer: Option<&CustomerId>,
    ) -> Result<(), Rejection> {
        let new = |at: usize, currency: &Currency| {
            let earlier = currencies.get(..at).unwrap_or_default();
            self.held(*currency).is_none() && !earlier.contains(currency)
        };
        let unknown = currencies.iter().enumerate().filter(|(at, currency)| new(*at, currency)).count();
        if self.currencies.len().saturating_add(unknown) > CURRENCIES_MAX {
            return Err(full("currency", "currency", CURRENCIES_MAX));
        }
        let unknown = customer.is_some_and(|customer| self.dues.iter().all(|due| due.customer != *customer));
        if unknown && self.dues.len() >= CUSTOMERS_MAX {
            return Err(full("data.customer_id", "customer with a due", CUSTOMERS_MAX));
        }
        self.seen.room(sighting)
    }

    /// What the customer owes afterwards.
    fn due_after(
        &self,
        customer: Option<&CustomerId>,
        currency: Currency,
        owed: Amount,
    ) -> Result<Amount, Rejection> {
        let due = customer.and_then(|customer| self.dues.iter().find(|due| due.customer == *customer));
        let before = due.and_then(|due| due.amounts.iter().find(|(known, _)| *known == currency));
        let before = before.map_or(Amount::ZERO, |(_, amount)| *amount);
        match customer {
            Some(_) => {
                before.checked_add(owed).ok_or_else(|| overflow("what the customer owes on this account"))
            }
            None => Ok(Amount::ZERO),
        }
    }

    /// Opens a due of zero where the customer has none.
    fn opens_due(&mut self, customer: Option<&CustomerId>) -> Effect {
        let Some(customer) = customer else { return Effect::applied() };
        if self.dues.iter().any(|due| due.customer == *customer) {
            return Effect::applied();
        }
        self.dues.reserve_exact(1);
        self.dues.push(HeldDue { customer: customer.clone(), amounts: Vec::new() });
        Effect { dues: Dues::Opened, ..Effect::applied() }
    }

    fn sets_due(&mut self, customer: Option<&CustomerId>, currency: Currency, amount: Amount) -> Effect {
        let born = self.opens_due(customer);
        let due = customer.and_then(|customer| self.dues.iter_mut().find(|due| due.customer == *customer));
        let Some(due) = due else { return born };
        due.amounts.retain(|(known, _)| *known != currency);
        if !amount.is_zero() {
            let at = due.amounts.partition_point(|(known, _)| *known < currency);
            due.amounts.insert(at, (currency, amount));
        }
        Effect { dues: born.dues.max(Dues::Changed), ..born }
    }

    /// Ends a pending entry, where there is one.
    fn end_pending(&mut self, id: Fingerprint, time: Time) {
        if let Some(at) = self.pending.iter().position(|pending| pending.entry == id) {
            let ended = self.pending.remove(at);
            self.touch(ended.currency, time);
        }
    }

    /// Merges the booking dates that the newest event leaves behind.
    fn merge(&mut self, zone: &TimeZone) {
        if self.currencies.iter().all(|held| held.dates.is_empty()) {
            return;
        }
        let first = self.newest.day_in(zone).minus_days(DATES_BACK);
        for held in &mut self.currencies {
            held.merge_before(first);
        }
    }

    pub(super) fn encode_into(&self, out: &mut Vec<u8>) {
        let mut out = Packer::new(out, Kind::Account);
        out.signed(i64::from(self.home));
        out.offset(self.applied);
        out.time(self.newest, Time(Timestamp::UNIX_EPOCH));
        out.byte(u8::from(self.opened) | (u8::from(self.closed) << 1));
        self.seen.pack(&mut out, self.newest);
        self.booked.pack(&mut out);
        self.released.pack(&mut out);
        out.count(self.currencies.len());
        for held in &self.currencies {
            held.pack(&mut out, self.newest);
        }
        out.count(self.pending.len());
        for pending in &self.pending {
            out.fixed(&pending.entry.bytes());
            out.currency(pending.currency);
            out.amount(pending.amount);
            out.time(pending.since, self.newest);
        }
        out.count(self.dues.len());
        for due in &self.dues {
            out.bytes(due.customer.as_str().as_bytes());
            due::pack(&mut out, &due.amounts);
        }
    }

    /// What stands in a cell, for its figures alone: what tells repeats is passed over, so it folds nothing.
    pub fn figures(bytes: &[u8]) -> Result<Self, CellError> {
        Self::unpack(Unpacker::new(bytes, Kind::Account)?.forgetting())
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, CellError> {
        Self::unpack(Unpacker::new(bytes, Kind::Account)?)
    }

    fn unpack(mut from: Unpacker<'_>) -> Result<Self, CellError> {
        let home = from.signed()?;
        let home = i32::try_from(home).map_err(|_| from.broken("a partition past 32 bits"))?;
        let applied = from.offset()?;
        let newest = from.time(Time(Timestamp::UNIX_EPOCH))?;
        let flags = from.byte()?;
        let mut account = Account {
            home,
            applied,
            newest,
            opened: flags & 1 != 0,
            closed: flags & 2 != 0,
            seen: Seen::unpack(&mut from, newest)?,
            booked: Window::unpack(&mut from)?,
            released: Window::unpack(&mut from)?,
            currencies: Vec::new(),
            pending: Vec::new(),
            dues: Vec::new(),
        };
        let count = from.count()?;
        account.currencies.reserve_exact(count.min(CURRENCIES_MAX));
        for _ in 0..count {
            account.currencies.push(Held::unpack(&mut from, newest)?);
        }
        let count = from.count()?;
        account.pending.reserve_exact(count.min(PENDING_MAX));
        for _ in 0..count {
            account.pending.push(Pending {
                entry: Fingerprint::from_bytes(from.array()?),
                currency: from.currency()?,
                amount: from.amount()?,
                since: from.time(newest)?,
            });
        }
        let count = from.count()?;
        account.dues.reserve_exact(count.min(CUSTOMERS_MAX));
        for _ in 0..count {
            let customer = CustomerId::parse(from.text()?).map_err(|_| from.broken("no customer id"))?;
            account.dues.push(HeldDue { customer, amounts: due::unpack(&mut from)? });
        }
        from.end()?;
        Ok(account)
    }

    pub(super) fn prefetch(&self) -> usize {
        let held = self
            .currencies
            .iter()
            .map(|held| held.dates.last().map_or(0, |dated| usize::from(dated.net == 0)));
        let dues =
            self.dues.iter().map(|due| usize::from(due.amounts.first().is_some_and(|due| due.1.is_zero())));
        let pending = self.pending.last().map(|pending| usize::from(pending.amount.is_zero()));
        let windows = [self.seen.prefetch(), self.booked.prefetch(), self.released.prefetch()];
        held.chain(dues).chain(pending).chain(windows).fold(0, usize::wrapping_add)
    }

    pub(super) fn weight(&self) -> usize {
        let dates: usize =
            self.currencies.iter().map(|held| held.dates.capacity().saturating_mul(size_of::<Dated>())).sum();
        let amounts: usize = self
            .dues
            .iter()
            .map(|due| {
                due.amounts.capacity().saturating_mul(size_of::<(Currency, Amount)>()).saturating_add(64)
            })
            .sum();
        [
            size_of::<Account>(),
            self.seen.weight(),
            self.booked.weight(),
            self.released.weight(),
            self.currencies.capacity().saturating_mul(size_of::<Held>()),
            self.pending.capacity().saturating_mul(size_of::<Pending>()),
            self.dues.capacity().saturating_mul(size_of::<HeldDue>()),
            dates,
            amounts,
        ]
        .into_iter()
        .sum()
    }
}

fn signed(amount: Amount, indicator: Indicator) -> Amount {
    match indicator {
        Indicator::Credit => amount,
        Indicator::Debit => amount.negated(),
    }
}

fn overflow(what: &str) -> Rejection {
    Rejection::new(Class::Overflow, format!("data.amount: {what} would pass 18 integer digits"))
}

fn full(member: &str, what: &str, max: usize) -> Rejection {
    Rejection::new(Class::CellFull, format!("{member}: one {what} too many; an account has at most {max}"))
}
