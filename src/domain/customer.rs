//! A customer's cell: profile and payments.

mod facets;

use jiff::Timestamp;

use super::{
    Amount, CellError, CustomerFact, Day, Effect, Event, Ignored, Manner, Offset, PaymentId, RecordAt,
    Rejection, Rules, Time,
    packed::{Kind, Packer, Unpacker},
    seen::{Facts, Fingerprint, Recognised, Seen, Sighting, Window, joined, other_facts, unverifiable},
};

/// How many payments are remembered: the latest, the last settled, and the last reversed without one.
const PAYMENTS_MAX: usize = 32;
/// In a settled payment's record, behind its facts.
const STANDS: u8 = 0;
const REVERSED: u8 = 1;

/// What the profile says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// 1 to 256 characters.
    pub billing_name: String,
    /// Zero or above, at most four decimals.
    pub ivr_fee: Amount,
}

/// The last payment, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LastPayment {
    /// No payment that counts.
    None,
    /// The latest that is not reversed.
    Paid {
        /// Above zero.
        amount: Amount,
        /// The day.
        paid_on: Day,
    },
    /// All that are remembered are reversed, and more are forgotten: not known.
    Forgotten {
        /// The Kafka timestamp of the record since which it is so.
        since: Time,
    },
}

/// A customer's cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Customer {
    home: i32,
    applied: Offset,
    profile: Option<Profile>,
    seen: Seen,
    /// The latest by day, then offset; the latest first.
    latest: Vec<Payment>,
    /// There were more than the latest.
    truncated: bool,
    /// Since which record all of the latest are reversed, and more are forgotten.
    forgotten_since: Option<Time>,
    /// The last settled: fingerprint, facts, whether it is reversed.
    settled: Window<SETTLED>,
    /// The last reversals without a payment.
    unmatched: Window<8>,
}

const SETTLED: usize = 8 + 4 + 1;

/// A settled payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Payment {
    id: Fingerprint,
    facts: Facts,
    amount: Amount,
    paid_on: Day,
    offset: Offset,
    reversed: bool,
}

/// What is remembered of a payment.
#[derive(Clone, Copy)]
struct Remembered {
    facts: Facts,
    reversed: bool,
}

impl Customer {
    pub(super) fn born(home: i32) -> Self {
        Customer {
            home,
            applied: Offset(0),
            profile: None,
            seen: Seen::default(),
            latest: Vec::new(),
            truncated: false,
            forgotten_since: None,
            settled: Window::default(),
            unmatched: Window::default(),
        }
    }

    /// The partition that the customer lives in.
    pub fn home(&self) -> i32 {
        self.home
    }
    /// The offset after its last folded record.
    pub fn applied(&self) -> Offset {
        self.applied
    }
    /// Whether a profile or a settled payment was folded: a customer with neither, and without a due, does
    /// not exist for readers.
    pub fn exists(&self) -> bool {
        self.profile.is_some() || !self.latest.is_empty()
    }
    /// The profile, where one was set.
    pub fn profile(&self) -> Option<&Profile> {
        self.profile.as_ref()
    }
    /// The last payment.
    pub fn last_payment(&self) -> LastPayment {
        match (self.latest.iter().find(|payment| !payment.reversed), self.forgotten_since) {
            (Some(payment), _) => LastPayment::Paid { amount: payment.amount, paid_on: payment.paid_on },
            (None, Some(since)) => LastPayment::Forgotten { since },
            (None, None) => LastPayment::None,
        }
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

    /// Folds an event that comes from the customer's home. On `Err` nothing has changed.
    pub(super) fn fold(
        &mut self,
        event: &Event,
        fact: &CustomerFact,
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
        let ignored = self.known(fact, &sighting, rules)?;
        self.seen.room(&sighting)?;
        self.seen.remember(&sighting, rules.event_window);
        self.applied = at.offset.next();
        if let Some(ignored) = ignored {
            return Ok(Effect::ignored(ignored));
        }
        match fact {
            CustomerFact::Settled { payment_id, amount, paid_on, .. } => {
                let id = Fingerprint::payment(rules.key, payment_id);
                let reversed = self.unmatched.holds(id);
                self.unmatched.remove(id);
                let (facts, amount, paid_on, offset) = (sighting.facts, *amount, *paid_on, at.offset);
                self.settle(Payment { id, facts, amount, paid_on, offset, reversed });
            }
            CustomerFact::Reversed { payment_id } => self.reverse(payment_id, rules),
            CustomerFact::Profile { billing_name, ivr_fee } => {
                self.profile = Some(Profile { billing_name: billing_name.clone(), ivr_fee: *ivr_fee });
            }
            CustomerFact::Ignored => return Ok(Effect::ignored(Ignored::Type)),
        }
        if !self.truncated || self.latest.iter().any(|payment| !payment.reversed) {
            self.forgotten_since = None;
        } else if self.forgotten_since.is_none() {
            self.forgotten_since = Some(at.timestamp);
        }
        Ok(Effect::applied())
    }

    /// Whether the event is a repeat by its payment, or cannot be verified.
    fn known(
        &self,
        fact: &CustomerFact,
        sighting: &Sighting,
        rules: &Rules,
    ) -> Result<Option<Ignored>, Rejection> {
        if sighting.repeated {
            return Ok(Some(Ignored::Duplicate));
        }
        let excused = match fact {
            CustomerFact::Settled { payment_id, .. } => {
                let id = Fingerprint::payment(rules.key, payment_id);
                match self.payment(id) {
                    Some(known) if known.facts == sighting.facts => return Ok(Some(Ignored::Duplicate)),
                    Some(_) => return Err(other_facts("data.payment_id", "payment")),
                    // Reversed before it was settled: it never counts, so it cannot count twice.
                    None => self.unmatched.holds(id),
                }
            }
            CustomerFact::Reversed { payment_id } => {
                let id = Fingerprint::payment(rules.key, payment_id);
                let payment = self.payment(id);
                if self.unmatched.holds(id) || payment.is_some_and(|known| known.reversed) {
                    return Ok(Some(Ignored::WithoutEffect));
                }
                // It is remembered and not reversed: this reversal was not folded before.
                payment.is_some()
            }
            CustomerFact::Profile { .. } | CustomerFact::Ignored => false,
        };
        if sighting.late && !excused { Err(unverifiable()) } else { Ok(None) }
    }

    fn payment(&self, id: Fingerprint) -> Option<Remembered> {
        let latest = self.latest.iter().find(|payment| payment.id == id);
        let latest = latest.map(|payment| Remembered { facts: payment.facts, reversed: payment.reversed });
        latest.or_else(|| match self.settled.find(id)? {
            [a, b, c, d, state] => {
                Some(Remembered { facts: Facts([*a, *b, *c, *d]), reversed: *state == REVERSED })
            }
            _ => None,
        })
    }

    fn settle(&mut self, payment: Payment) {
        let state = if payment.reversed { REVERSED } else { STANDS };
        let [a, b, c, d] = payment.facts.0;
        self.settled.push(joined(payment.id.bytes(), [a, b, c, d, state]), PAYMENTS_MAX);
        let later = |known: &Payment| (known.paid_on, known.offset) > (payment.paid_on, payment.offset);
        let at = self.latest.partition_point(later);
        self.latest.insert(at, payment);
        if self.latest.len() > PAYMENTS_MAX {
            self.latest.truncate(PAYMENTS_MAX);
            self.truncated = true;
        }
    }

    fn reverse(&mut self, payment_id: &PaymentId, rules: &Rules) {
        let id = Fingerprint::payment(rules.key, payment_id);
        let latest = self.latest.iter_mut().find(|payment| payment.id == id);
        let settled = self.settled.find_mut(id);
        if latest.is_none() && settled.is_none() {
            self.unmatched.push(id.bytes(), PAYMENTS_MAX);
        }
        if let Some(payment) = latest {
            payment.reversed = true;
        }
        if let Some(state) = settled.and_then(<[u8]>::last_mut) {
            *state = REVERSED;
        }
    }

    pub(super) fn encode_into(&self, out: &mut Vec<u8>) {
        let base = Time(Timestamp::UNIX_EPOCH);
        let mut out = Packer::new(out, Kind::Customer);
        out.signed(i64::from(self.home));
        out.offset(self.applied);
        out.byte(
            u8::from(self.profile.is_some())
                | (u8::from(self.truncated) << 1)
                | (u8::from(self.forgotten_since.is_some()) << 2),
        );
        if let Some(profile) = &self.profile {
            out.bytes(profile.billing_name.as_bytes());
            out.amount(profile.ivr_fee);
        }
        if let Some(since) = self.forgotten_since {
            out.time(since, base);
        }
        self.seen.pack(&mut out, base);
        out.count(self.latest.len());
        for payment in &self.latest {
            out.fixed(&payment.id.bytes());
            out.fixed(&payment.facts.0);
            out.amount(payment.amount);
            out.day(payment.paid_on);
            out.offset(payment.offset);
            out.byte(u8::from(payment.reversed));
        }
        self.settled.pack(&mut out);
        self.unmatched.pack(&mut out);
    }

    /// What stands in a cell, for its figures alone: what tells repeats is passed over, so it folds nothing.
    pub fn figures(bytes: &[u8]) -> Result<Self, CellError> {
        Self::unpack(Unpacker::new(bytes, Kind::Customer)?.forgetting())
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, CellError> {
        Self::unpack(Unpacker::new(bytes, Kind::Customer)?)
    }

    fn unpack(mut from: Unpacker<'_>) -> Result<Self, CellError> {
        let base = Time(Timestamp::UNIX_EPOCH);
        let home = from.signed()?;
        let home = i32::try_from(home).map_err(|_| from.broken("a partition past 32 bits"))?;
        let applied = from.offset()?;
        let flags = from.byte()?;
        let profile = match flags & 1 {
            0 => None,
            _ => Some(Profile { billing_name: from.text()?.to_owned(), ivr_fee: from.amount()? }),
        };
        let forgotten_since = if flags & 4 == 0 { None } else { Some(from.time(base)?) };
        let seen = Seen::unpack(&mut from, base)?;
        let count = from.count()?;
        let mut latest = Vec::with_capacity(count.min(PAYMENTS_MAX));
        for _ in 0..count {
            latest.push(Payment {
                id: Fingerprint::from_bytes(from.array()?),
                facts: Facts(from.array()?),
                amount: from.amount()?,
                paid_on: from.day()?,
                offset: from.offset()?,
                reversed: from.byte()? != 0,
            });
        }
        let settled = Window::unpack(&mut from)?;
        let unmatched = Window::unpack(&mut from)?;
        from.end()?;
        let truncated = flags & 2 != 0;
        Ok(Customer { home, applied, profile, seen, latest, truncated, forgotten_since, settled, unmatched })
    }

    pub(super) fn prefetch(&self) -> usize {
        let latest = self.latest.first().map_or(0, |payment| usize::from(payment.reversed));
        let windows = [self.seen.prefetch(), self.settled.prefetch(), self.unmatched.prefetch()];
        windows.into_iter().fold(latest, usize::wrapping_add)
    }

    pub(super) fn weight(&self) -> usize {
        [
            size_of::<Customer>(),
            self.profile.as_ref().map_or(0, |profile| profile.billing_name.capacity()),
            self.seen.weight(),
            self.latest.capacity().saturating_mul(size_of::<Payment>()),
            self.settled.weight(),
            self.unmatched.weight(),
        ]
        .into_iter()
        .sum()
    }
}
