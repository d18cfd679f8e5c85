//! From split members to an event: every rule about a single event's content.
//!
//! Each check notes what it finds; the first class in the contract's order is kept, so no check has to wait for
//! another and the order of classes is written down in one place: [`Class`].

use std::borrow::Cow;

use compact_str::CompactString;
use jiff::SignedDuration;
use uuid::Uuid;

use super::{
    json::{self, Value},
    members::{Data, Envelope, Slot},
};
use crate::domain::{
    AccountFact, Amount, AmountError, BalanceType, Class, Currency, CustomerFact, CustomerId, Day, Entry,
    EntryId, Event, Fact, IdError, Indicator, PaymentId, Rejection, Statement, Subject, Time, Topic,
};

/// How far an event may be ahead of the record that carries it.
const AHEAD_MAX: SignedDuration = SignedDuration::from_hours(24);

/// The types of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Opened,
    Pending,
    Released,
    Booked,
    CreditLine,
    Stated,
    Closed,
    Settled,
    Reversed,
    Profile,
}

impl Kind {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "ledger.account.opened.v1" => Kind::Opened,
            "ledger.entry.pending.v1" => Kind::Pending,
            "ledger.entry.released.v1" => Kind::Released,
            "ledger.entry.booked.v1" => Kind::Booked,
            "ledger.credit_line.set.v1" => Kind::CreditLine,
            "ledger.balance.stated.v1" => Kind::Stated,
            "ledger.account.closed.v1" => Kind::Closed,
            "payment.settled.v1" => Kind::Settled,
            "payment.reversed.v1" => Kind::Reversed,
            "customer.profile.set.v1" => Kind::Profile,
            _ => return None,
        })
    }

    fn topic(self) -> Topic {
        match self {
            Kind::Opened
            | Kind::Pending
            | Kind::Released
            | Kind::Booked
            | Kind::CreditLine
            | Kind::Stated
            | Kind::Closed => Topic::Ledger,
            Kind::Settled | Kind::Reversed | Kind::Profile => Topic::Payment,
        }
    }
}

/// What the record says about its event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Carrier<'a> {
    /// The topic that it is in.
    pub(super) topic: Topic,
    /// Whom its key names; `None` where there is no record yet and the event names nobody.
    pub(super) key: Option<&'a Subject>,
    /// When the broker took it.
    pub(super) timestamp: Time,
    /// The types of which nothing but the envelope is read.
    pub(super) types_ignored: &'a [String],
    /// Of no type is more read.
    pub(super) envelope_alone: bool,
}

/// The topic that the event's type belongs to, where it is known.
pub(super) fn topic(envelope: &Envelope<'_>) -> Option<Topic> {
    Kind::parse(&envelope.kind.text()?).map(Kind::topic)
}

/// The event, or what is wrong with it by the first class that applies.
pub(super) fn event(
    envelope: &Envelope<'_>,
    data: &Data<'_>,
    carrier: &Carrier<'_>,
    faults: Faults,
) -> Result<Event, Rejection> {
    let mut faults = faults;
    let event = faults.event(envelope, data, carrier);
    match (faults.first, event) {
        (None, Some(event)) => Ok(event),
        (Some(rejection), _) => Err(rejection),
        // Reached only for a line to publish whose subject is missing, which is noted already.
        (None, None) => Err(Rejection::new(Class::MissingField, "the event does not say whom it is about")),
    }
}

fn of_an_ignored_type(key: &Subject) -> Fact {
    match key {
        Subject::Account(id) => Fact::Account(id.clone(), AccountFact::Ignored),
        Subject::Customer(id) => Fact::Customer(id.clone(), CustomerFact::Ignored),
    }
}

/// A member is there and wrong, which is noted.
struct Noted;

/// What was found wrong so far: of all faults the one whose class comes first.
#[derive(Debug, Default)]
pub(super) struct Faults {
    first: Option<Rejection>,
}

impl Faults {
    /// Notes a fault; of two of one class the first noted stands.
    pub(super) fn note(&mut self, class: Class, message: impl FnOnce() -> String) {
        if self.first.as_ref().is_none_or(|first| class < first.class) {
            self.first = Some(Rejection::new(class, message()));
        }
    }

    fn event(&mut self, envelope: &Envelope<'_>, data: &Data<'_>, carrier: &Carrier<'_>) -> Option<Event> {
        for slot in envelope.slots() {
            self.once(slot);
        }
        self.specversion(&envelope.specversion);
        let kind_text = envelope.kind.text();
        let ignored = carrier.envelope_alone
            || kind_text.is_some_and(|kind| carrier.types_ignored.iter().any(|ignored| *ignored == kind));
        let kind = if ignored { None } else { self.kind(&envelope.kind, carrier.topic) };
        self.names_the_key(&envelope.subject, carrier.key);
        let id = self.uuid(&envelope.id);
        let source = self.name(&envelope.source);
        let time = self.time(&envelope.time);
        if let Some(time) = time {
            self.not_ahead(&envelope.time, time, carrier.timestamp);
        }
        let sequence = self.sequence(&envelope.sequence);
        let fact = match if ignored { None } else { self.required(&envelope.data) } {
            None if ignored => carrier.key.map(of_an_ignored_type),
            // Without a known type it is not known either which members its data has.
            Some(Value::Object) => kind.and_then(|kind| self.fact(kind, data, carrier.key)),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Array(_)) => {
                self.bad_field(&envelope.data, "an object")
            }
            None => None,
        };
        Some(Event {
            id: id?,
            source: CompactString::from(source?),
            time: time?,
            sequence: sequence.ok()?,
            fact: fact?,
        })
    }

    fn specversion(&mut self, slot: &Slot<'_>) {
        if self.required(slot).is_some() && slot.text().as_deref() != Some("1.0") {
            self.note(Class::NotCloudevents, || "`specversion` is not the string \"1.0\"".to_owned());
        }
    }

    fn kind(&mut self, slot: &Slot<'_>, topic: Topic) -> Option<Kind> {
        self.required(slot)?;
        let kind = slot.text().as_deref().and_then(Kind::parse);
        match kind {
            None => self.note(Class::UnknownType, || {
                "`type` is none of the known event types, such as ledger.entry.booked.v1".to_owned()
            }),
            Some(kind) if kind.topic() != topic => self.note(Class::WrongTopic, || {
                let topic = match kind.topic() {
                    Topic::Ledger => "ledger",
                    Topic::Payment => "payment",
                };
                format!("the event's `type` belongs in the topic of {topic} events")
            }),
            Some(_) => {}
        }
        kind
    }

    /// Checks a member that must be the record's key, character for character.
    fn names_the_key(&mut self, slot: &Slot<'_>, key: Option<&Subject>) {
        self.once(slot);
        if self.required(slot).is_none() {
            return;
        }
        match key {
            Some(key) if slot.text().as_deref() != Some(key.as_str()) => self
                .note(Class::KeyNotSubject, || {
                    format!("`{}` is not the record's key, which it must equal", slot.name)
                }),
            Some(_) => {}
            None => {
                self.bad_field::<()>(slot, "the account's or customer's id");
            }
        }
    }

    fn not_ahead(&mut self, slot: &Slot<'_>, time: Time, timestamp: Time) {
        if time.0.duration_since(timestamp.0) > AHEAD_MAX {
            self.note(Class::BadField, || {
                format!("`{}` is more than a day after the record's Kafka timestamp", slot.name)
            });
        }
    }

    fn fact(&mut self, kind: Kind, data: &Data<'_>, key: Option<&Subject>) -> Option<Fact> {
        match kind.topic() {
            Topic::Ledger => {
                self.names_the_key(&data.account_id, key);
                let fact = self.account_fact(kind, data);
                match key? {
                    Subject::Account(id) => Some(Fact::Account(id.clone(), fact?)),
                    Subject::Customer(_) => None,
                }
            }
            Topic::Payment => {
                self.names_the_key(&data.customer_id, key);
                let fact = self.customer_fact(kind, data);
                match key? {
                    Subject::Customer(id) => Some(Fact::Customer(id.clone(), fact?)),
                    Subject::Account(_) => None,
                }
            }
        }
    }

    fn account_fact(&mut self, kind: Kind, data: &Data<'_>) -> Option<AccountFact> {
        match kind {
            Kind::Opened => {
                let currencies = self.currencies(&data.currencies);
                let customer_id = self.optional(&data.customer_id, Self::customer_id);
                Some(AccountFact::Opened { currencies: currencies?, customer_id: customer_id.ok()? })
            }
            Kind::Pending => self.entry(data).map(AccountFact::Pending),
            Kind::Released => {
                Some(AccountFact::Released { entry_id: self.id(&data.entry_id, EntryId::parse)? })
            }
            Kind::Booked => {
                let entry = self.entry(data);
                let booking_date = self.day(&data.booking_date);
                // They inform and move nothing, but an event that breaks its grammar is not well-formed.
                let value_date = self.optional(&data.value_date, Self::day);
                let reversal_of =
                    self.optional(&data.reversal_of, |faults, slot| faults.id(slot, EntryId::parse));
                value_date.ok()?;
                reversal_of.ok()?;
                Some(AccountFact::Booked { entry: entry?, booking_date: booking_date? })
            }
            Kind::CreditLine => {
                let money = self.money(data, Zero::Allowed);
                let included = self.boolean(&data.included);
                let (amount, currency) = money?;
                Some(AccountFact::CreditLine { currency, amount, included: included? })
            }
            Kind::Stated => {
                let customer_id = self.optional(&data.customer_id, Self::customer_id);
                let money = self.money(data, Zero::Allowed);
                let balance_type = self.balance_type(&data.balance_type);
                let indicator = self.indicator(&data.indicator);
                let as_of = self.time(&data.as_of);
                let (amount, currency) = money?;
                Some(AccountFact::Stated(Statement {
                    customer_id: customer_id.ok()?,
                    currency,
                    balance_type: balance_type?,
                    amount,
                    indicator: indicator?,
                    as_of: as_of?,
                }))
            }
            Kind::Closed => Some(AccountFact::Closed),
            Kind::Settled | Kind::Reversed | Kind::Profile => None,
        }
    }

    fn customer_fact(&mut self, kind: Kind, data: &Data<'_>) -> Option<CustomerFact> {
        match kind {
            Kind::Settled => {
                let payment_id = self.id(&data.payment_id, PaymentId::parse);
                let money = self.money(data, Zero::Forbidden);
                let paid_on = self.day(&data.paid_on);
                let (amount, currency) = money?;
                Some(CustomerFact::Settled { payment_id: payment_id?, amount, currency, paid_on: paid_on? })
            }
            Kind::Reversed => {
                let payment_id = self.id(&data.payment_id, PaymentId::parse);
                self.optional(&data.reason, Self::string).ok()?;
                Some(CustomerFact::Reversed { payment_id: payment_id? })
            }
            Kind::Profile => {
                let billing_name = self.name(&data.billing_name);
                let ivr_fee = self.amount(&data.ivr_fee, u32::MAX, Zero::Allowed);
                Some(CustomerFact::Profile { billing_name: billing_name?.into_owned(), ivr_fee: ivr_fee? })
            }
            Kind::Opened
            | Kind::Pending
            | Kind::Released
            | Kind::Booked
            | Kind::CreditLine
            | Kind::Stated
            | Kind::Closed => None,
        }
    }

    fn entry(&mut self, data: &Data<'_>) -> Option<Entry> {
        let entry_id = self.id(&data.entry_id, EntryId::parse);
        let customer_id = self.optional(&data.customer_id, Self::customer_id);
        let money = self.money(data, Zero::Forbidden);
        let indicator = self.indicator(&data.indicator);
        let (amount, currency) = money?;
        Some(Entry {
            entry_id: entry_id?,
            customer_id: customer_id.ok()?,
            amount,
            currency,
            indicator: indicator?,
        })
    }

    /// `amount` and `currency`: the currency says how many decimals there may be.
    fn money(&mut self, data: &Data<'_>, zero: Zero) -> Option<(Amount, Currency)> {
        let code = self.string(&data.currency);
        let currency = code.as_deref().and_then(Currency::parse);
        if code.is_some() && currency.is_none() {
            self.not_a_currency(&data.currency);
        }
        // Of an unknown currency nobody knows the decimals: then the grammar alone is judged.
        let decimals = currency.map_or(u32::MAX, Currency::decimals);
        let amount = match (currency, self.amount_text(&data.amount)) {
            (_, None) => None,
            (None, Some(text)) if matches!(Amount::parse(&text, u32::MAX), Err(AmountError::Decimals(_))) => {
                None
            }
            (_, Some(text)) => self.parse_amount(&data.amount, &text, decimals, zero),
        };
        Some((amount?, currency?))
    }

    fn amount(&mut self, slot: &Slot<'_>, decimals: u32, zero: Zero) -> Option<Amount> {
        let text = self.amount_text(slot)?;
        self.parse_amount(slot, &text, decimals, zero)
    }

    /// The digits of an amount: a number's as they were written, or a string's.
    fn amount_text<'a>(&mut self, slot: &Slot<'a>) -> Option<Cow<'a, str>> {
        self.once(slot);
        match self.required(slot)? {
            Value::Number(raw) => Some(Cow::Borrowed(raw)),
            Value::Text(_) => self.string(slot),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object => {
                self.note(Class::BadAmount, || {
                    format!("`{}` is neither a decimal string nor a number", slot.name)
                });
                None
            }
        }
    }

    fn parse_amount(&mut self, slot: &Slot<'_>, text: &str, decimals: u32, zero: Zero) -> Option<Amount> {
        match Amount::parse(text, decimals) {
            Ok(amount) if amount.is_zero() && zero == Zero::Forbidden => {
                self.note(Class::BadAmount, || format!("`{}` is zero; it must be above zero", slot.name));
                None
            }
            Ok(amount) => Some(amount),
            Err(error) => {
                self.note(Class::BadAmount, || format!("`{}` {error}", slot.name));
                None
            }
        }
    }

    fn currencies(&mut self, slot: &Slot<'_>) -> Option<Vec<Currency>> {
        self.once(slot);
        let Value::Array(array) = self.required(slot)? else {
            return self.bad_field(slot, "an array of currency codes");
        };
        let (mut currencies, mut strings, mut known) = (Vec::new(), true, true);
        json::elements(array, |element| {
            let text = match element {
                Value::Text(text) => text.read().ok(),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object => None,
            };
            match text.as_deref().map(Currency::parse) {
                None => strings = false,
                Some(None) => known = false,
                // Listed twice it is held once, which also bounds the list by the table of currencies.
                Some(Some(currency)) if !currencies.contains(&currency) => currencies.push(currency),
                Some(Some(_)) => {}
            }
        });
        if !known {
            self.not_a_currency(slot);
        }
        if !strings || (known && currencies.is_empty()) {
            return self.bad_field(slot, "an array of at least one currency code, each a string");
        }
        Some(currencies)
    }

    fn not_a_currency(&mut self, slot: &Slot<'_>) {
        self.note(Class::UnknownCurrency, || {
            format!(
                "`{}` is not an ISO 4217 code with a minor unit, in capital letters, such as CZK",
                slot.name
            )
        });
    }

    fn uuid(&mut self, slot: &Slot<'_>) -> Option<Uuid> {
        let text = self.string(slot)?;
        // Of the forms that the crate reads, the hyphenated one alone has this length.
        let uuid = Some(&text).filter(|text| text.len() == 36).and_then(|text| Uuid::try_parse(text).ok());
        uuid.or_else(|| self.bad_field(slot, "a hyphenated UUID"))
    }

    fn sequence(&mut self, slot: &Slot<'_>) -> Result<Option<u64>, Noted> {
        self.optional(slot, |faults, slot| {
            let text = match slot.present() {
                Some(Value::Number(raw)) => Cow::Borrowed(raw),
                _ => faults.string(slot)?,
            };
            let grammar = matches!(text.as_bytes(), [b'1'..=b'9', rest @ ..]
                if rest.len() < 18 && rest.iter().all(u8::is_ascii_digit));
            let number = text.parse().ok().filter(|_| grammar);
            number.or_else(|| {
                faults.bad_field(slot, "1, 2, 3 and so on, up to 18 digits without leading zeros")
            })
        })
    }

    fn customer_id(&mut self, slot: &Slot<'_>) -> Option<CustomerId> {
        self.id(slot, CustomerId::parse)
    }

    fn id<T>(&mut self, slot: &Slot<'_>, parse: impl Fn(&str) -> Result<T, IdError>) -> Option<T> {
        match parse(&self.string(slot)?) {
            Ok(id) => Some(id),
            Err(error) => {
                self.note(Class::BadField, || format!("`{}` {error}", slot.name));
                None
            }
        }
    }

    fn name<'a>(&mut self, slot: &Slot<'a>) -> Option<Cow<'a, str>> {
        let text = self.string(slot)?;
        // Counting stops where it is clear that there are too many.
        match text.chars().take(257).count() {
            1..=256 => Some(text),
            _ => self.bad_field(slot, "a string of 1 to 256 characters"),
        }
    }

    fn time(&mut self, slot: &Slot<'_>) -> Option<Time> {
        let time = Time::parse_rfc3339(&self.string(slot)?);
        time.or_else(|| self.bad_field(slot, "an instant of RFC 3339, such as 2017-02-17T12:32:41Z"))
    }

    fn day(&mut self, slot: &Slot<'_>) -> Option<Day> {
        let day = Day::parse(&self.string(slot)?);
        day.or_else(|| self.bad_field(slot, "a day of the calendar written yyyy-MM-dd"))
    }

    fn indicator(&mut self, slot: &Slot<'_>) -> Option<Indicator> {
        match &*self.string(slot)? {
            "CRDT" => Some(Indicator::Credit),
            "DBIT" => Some(Indicator::Debit),
            _ => self.bad_field(slot, "CRDT or DBIT"),
        }
    }

    fn balance_type(&mut self, slot: &Slot<'_>) -> Option<BalanceType> {
        let code = self.string(slot)?;
        let found = BalanceType::ALL.into_iter().find(|known| known.code() == code);
        found.or_else(|| self.bad_field(slot, "PRCD, CLBD, ITBD or CLAV"))
    }

    fn boolean(&mut self, slot: &Slot<'_>) -> Option<bool> {
        self.once(slot);
        match self.required(slot)? {
            Value::Bool(value) => Some(value),
            Value::Null | Value::Number(_) | Value::Text(_) | Value::Array(_) | Value::Object => {
                self.bad_field(slot, "true or false")
            }
        }
    }

    /// A required string, whatever it says.
    fn string<'a>(&mut self, slot: &Slot<'a>) -> Option<Cow<'a, str>> {
        self.once(slot);
        match self.required(slot)? {
            Value::Text(text) => match text.read() {
                Ok(text) => Some(text),
                Err(json::HalfSurrogate) => self.bad_field(slot, "text: it escapes half a surrogate pair"),
            },
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object => {
                self.bad_field(slot, "a string")
            }
        }
    }

    /// Reads a member that may be absent or `null`.
    fn optional<'a, T>(
        &mut self,
        slot: &Slot<'a>,
        read: impl FnOnce(&mut Self, &Slot<'a>) -> Option<T>,
    ) -> Result<Option<T>, Noted> {
        self.once(slot);
        if slot.present().is_none() {
            return Ok(None);
        }
        read(self, slot).map(Some).ok_or(Noted)
    }

    fn required<'a>(&mut self, slot: &Slot<'a>) -> Option<Value<'a>> {
        let present = slot.present();
        if present.is_none() {
            self.note(Class::MissingField, || format!("`{}` is missing or null; it is required", slot.name));
        }
        present
    }

    fn once(&mut self, slot: &Slot<'_>) {
        if slot.twice {
            self.note(Class::DuplicateMember, || format!("`{}` stands twice; once is right", slot.name));
        }
    }

    fn bad_field<T>(&mut self, slot: &Slot<'_>, wanted: &str) -> Option<T> {
        self.note(Class::BadField, || format!("`{}` is not {wanted}", slot.name));
        None
    }
}

/// Whether an amount may be zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Zero {
    Allowed,
    Forbidden,
}
