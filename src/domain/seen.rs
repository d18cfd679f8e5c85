//! What a subject remembers of its events, entries and payments, to tell repeats.
//!
//! Ids are remembered as 64 bits of a keyed hash, facts as 32 bits of another: two ids of one subject that
//! collide within a window of 32 are less likely than a wrong bit on the way, and nobody without the key
//! can make them.

use std::hash::Hasher as _;

use jiff::Timestamp;
use siphasher::sip::SipHasher13;
use smallvec::SmallVec;

use super::{
    AccountFact, CellError, Class, CustomerFact, Day, Entry, EntryId, Event, Fact, FingerprintKey, Indicator,
    PaymentId, Rejection, Statement, Time,
    packed::{Packer, Unpacker},
};

/// The most sources of a subject.
pub(super) const SOURCES_MAX: usize = 8;
/// How many numbers of a source are remembered with their ids.
const NUMBERS_MAX: usize = 8;
/// The first second that a `Timestamp` holds is above this, and the last is below 2^40 after it.
const SECONDS_FIRST: i64 = -400_000_000_000;

/// 64 bits of the keyed hash of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint([u8; 8]);

/// 32 bits of the keyed hash of an event's facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts(pub(super) [u8; 4]);

impl Fingerprint {
    fn of(key: FingerprintKey, domain: u8, parts: [&[u8]; 2]) -> Self {
        let mut bytes = SmallVec::<[u8; 256]>::new();
        bytes.push(domain);
        for part in parts {
            text(&mut bytes, part);
        }
        Fingerprint(hash(key, &bytes).to_le_bytes())
    }

    pub(super) fn entry(key: FingerprintKey, id: &EntryId) -> Self {
        Self::of(key, b'e', [id.as_str().as_bytes(), b""])
    }

    pub(super) fn payment(key: FingerprintKey, id: &PaymentId) -> Self {
        Self::of(key, b'p', [id.as_str().as_bytes(), b""])
    }

    fn source(key: FingerprintKey, event: &Event) -> Self {
        Self::of(key, b's', [event.source.as_bytes(), b""])
    }

    fn event(key: FingerprintKey, event: &Event) -> Self {
        Self::of(key, b'i', [event.source.as_bytes(), event.id.as_bytes()])
    }

    pub(super) const fn bytes(self) -> [u8; 8] {
        self.0
    }

    pub(super) const fn from_bytes(bytes: [u8; 8]) -> Self {
        Fingerprint(bytes)
    }
}

fn hash(key: FingerprintKey, bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_key(&key.0);
    hasher.write(bytes);
    hasher.finish()
}

fn text(bytes: &mut SmallVec<[u8; 256]>, part: &[u8]) {
    // Lengths in front keep ("ab", "c") and ("a", "bc") apart.
    let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(part);
}

impl Facts {
    /// Of the type and all members but `value_date`, `reversal_of` and `reason`; amounts, instants and sets
    /// by their value.
    pub(super) fn of(key: FingerprintKey, fact: &Fact) -> Self {
        let mut bytes = SmallVec::<[u8; 256]>::new();
        match fact {
            Fact::Account(id, fact) => {
                text(&mut bytes, id.as_str().as_bytes());
                account_facts(&mut bytes, fact);
            }
            Fact::Customer(id, fact) => {
                text(&mut bytes, id.as_str().as_bytes());
                customer_facts(&mut bytes, fact);
            }
        }
        let [a, b, c, d, ..] = hash(key, &bytes).to_le_bytes();
        Facts([a, b, c, d])
    }
}

fn account_facts(bytes: &mut SmallVec<[u8; 256]>, fact: &AccountFact) {
    match fact {
        AccountFact::Opened { currencies, customer_id } => {
            bytes.push(b'o');
            optional(bytes, customer_id.as_ref().map(super::CustomerId::as_str));
            let mut set: SmallVec<[_; 8]> = currencies.iter().copied().collect();
            set.sort_unstable();
            set.dedup();
            for currency in set {
                bytes.extend_from_slice(currency.as_str().as_bytes());
            }
        }
        AccountFact::Pending(entry) => {
            bytes.push(b'p');
            entry_facts(bytes, entry);
        }
        AccountFact::Released { entry_id } => {
            bytes.push(b'r');
            text(bytes, entry_id.as_str().as_bytes());
        }
        AccountFact::Booked { entry, booking_date } => {
            bytes.push(b'b');
            entry_facts(bytes, entry);
            day(bytes, *booking_date);
        }
        AccountFact::CreditLine { currency, amount, included } => {
            bytes.push(b'l');
            bytes.extend_from_slice(currency.as_str().as_bytes());
            bytes.extend_from_slice(&amount.ten_thousandths().to_le_bytes());
            bytes.push(u8::from(*included));
        }
        AccountFact::Stated(statement) => {
            bytes.push(b's');
            statement_facts(bytes, statement);
        }
        AccountFact::Closed => bytes.push(b'c'),
        AccountFact::Ignored => bytes.push(b'i'),
    }
}

fn entry_facts(bytes: &mut SmallVec<[u8; 256]>, entry: &Entry) {
    text(bytes, entry.entry_id.as_str().as_bytes());
    optional(bytes, entry.customer_id.as_ref().map(super::CustomerId::as_str));
    bytes.extend_from_slice(&entry.amount.ten_thousandths().to_le_bytes());
    bytes.extend_from_slice(entry.currency.as_str().as_bytes());
    indicator(bytes, entry.indicator);
}

fn statement_facts(bytes: &mut SmallVec<[u8; 256]>, statement: &Statement) {
    optional(bytes, statement.customer_id.as_ref().map(super::CustomerId::as_str));
    bytes.extend_from_slice(statement.currency.as_str().as_bytes());
    bytes.push(match statement.balance_type {
        super::BalanceType::Prcd => b'P',
        super::BalanceType::Clbd => b'C',
        super::BalanceType::Itbd => b'I',
        super::BalanceType::Clav => b'A',
    });
    bytes.extend_from_slice(&statement.amount.ten_thousandths().to_le_bytes());
    indicator(bytes, statement.indicator);
    bytes.extend_from_slice(&statement.as_of.0.as_nanosecond().to_le_bytes());
}

fn customer_facts(bytes: &mut SmallVec<[u8; 256]>, fact: &CustomerFact) {
    match fact {
        CustomerFact::Settled { payment_id, amount, currency, paid_on } => {
            bytes.push(b'S');
            text(bytes, payment_id.as_str().as_bytes());
            bytes.extend_from_slice(&amount.ten_thousandths().to_le_bytes());
            bytes.extend_from_slice(currency.as_str().as_bytes());
            day(bytes, *paid_on);
        }
        CustomerFact::Reversed { payment_id } => {
            bytes.push(b'R');
            text(bytes, payment_id.as_str().as_bytes());
        }
        CustomerFact::Profile { billing_name, ivr_fee } => {
            bytes.push(b'N');
            text(bytes, billing_name.as_bytes());
            bytes.extend_from_slice(&ivr_fee.ten_thousandths().to_le_bytes());
        }
        CustomerFact::Ignored => bytes.push(b'i'),
    }
}

fn optional(bytes: &mut SmallVec<[u8; 256]>, value: Option<&str>) {
    bytes.push(u8::from(value.is_some()));
    text(bytes, value.unwrap_or_default().as_bytes());
}

fn indicator(bytes: &mut SmallVec<[u8; 256]>, indicator: Indicator) {
    bytes.push(match indicator {
        Indicator::Credit => b'+',
        Indicator::Debit => b'-',
    });
}

fn day(bytes: &mut SmallVec<[u8; 256]>, day: Day) {
    bytes.extend_from_slice(&day.0.year().to_le_bytes());
    bytes.extend_from_slice(&day.0.month().to_le_bytes());
    bytes.extend_from_slice(&day.0.day().to_le_bytes());
}

/// Records for which a window has room when its first one comes.
const ROOM_RECORDS: usize = 4;

/// The last so many records of `STRIDE` bytes, oldest first; each begins with a fingerprint.
///
/// Raw bytes in memory as in the cell: reading and writing a window is one copy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Window<const STRIDE: usize> {
    bytes: Vec<u8>,
}

impl<const STRIDE: usize> Window<STRIDE> {
    pub(super) fn records(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact(STRIDE)
    }

    /// What stands behind the fingerprint.
    pub(super) fn find(&self, fingerprint: Fingerprint) -> Option<&[u8]> {
        self.records().find_map(|record| record.strip_prefix(fingerprint.0.as_slice()))
    }

    pub(super) fn find_mut(&mut self, fingerprint: Fingerprint) -> Option<&mut [u8]> {
        self.bytes.chunks_exact_mut(STRIDE).find_map(|record| {
            let (head, tail) = record.split_at_mut_checked(8)?;
            (head == fingerprint.0).then_some(tail)
        })
    }

    pub(super) fn holds(&self, fingerprint: Fingerprint) -> bool {
        self.find(fingerprint).is_some()
    }

    /// Appends, and takes the oldest out where there would be more than `max`.
    pub(super) fn push(&mut self, record: [u8; STRIDE], max: usize) -> Option<[u8; STRIDE]> {
        let full = self.bytes.len() >= max.saturating_mul(STRIDE);
        let oldest = if full { self.bytes.first_chunk().copied() } else { None };
        if oldest.is_some() {
            self.bytes.drain(..STRIDE);
        }
        if self.bytes.capacity().saturating_sub(self.bytes.len()) < STRIDE {
            self.grow(max);
        }
        self.bytes.extend_from_slice(&record);
        oldest
    }

    /// Room for twice as many records, but for some at least, for growing by one at a time costs more than they take;
    /// and for no more than there may be.
    fn grow(&mut self, max: usize) {
        let held = self.bytes.len();
        let most = max.max(1).saturating_mul(STRIDE).saturating_sub(held);
        self.bytes.reserve_exact(held.max(STRIDE.saturating_mul(ROOM_RECORDS)).min(most));
    }

    pub(super) fn remove(&mut self, fingerprint: Fingerprint) {
        let at = self.records().position(|record| record.starts_with(&fingerprint.0));
        if let Some(start) = at.and_then(|at| at.checked_mul(STRIDE)) {
            self.bytes.drain(start..start.saturating_add(STRIDE));
        }
    }

    pub(super) fn pack(&self, out: &mut Packer<'_>) {
        out.bytes(&self.bytes);
    }

    pub(super) fn unpack(from: &mut Unpacker<'_>) -> Result<Self, CellError> {
        let bytes = from.bytes()?;
        if bytes.len().checked_rem(STRIDE) != Some(0) {
            return Err(from.broken("half a record"));
        }
        Ok(if from.remembers() { Window { bytes: bytes.to_vec() } } else { Window::default() })
    }

    /// Reads both of its ends.
    pub(super) fn prefetch(&self) -> usize {
        let ends = [self.bytes.first(), self.bytes.last()];
        ends.into_iter().flatten().fold(0, |sum, byte| sum.wrapping_add(usize::from(*byte)))
    }

    pub(super) fn weight(&self) -> usize {
        self.bytes.capacity()
    }
}

/// Two arrays side by side.
pub(super) fn joined<const A: usize, const B: usize, const N: usize>(a: [u8; A], b: [u8; B]) -> [u8; N] {
    let mut record = [0; N];
    for (to, from) in record.iter_mut().zip(a.into_iter().chain(b)) {
        *to = from;
    }
    record
}

/// A source of a subject's events.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    fingerprint: Fingerprint,
    /// The last number; 0 before the first.
    last: u64,
    /// The event ids of the last numbers, the last one at the end.
    numbers: Window<8>,
    /// The newest `time` of its numbered events.
    numbered_newest: Option<Time>,
    /// The newest `time` of its events whose ids are no longer remembered, numbered or not; not before it.
    forgotten: Option<Time>,
    /// A record that cannot be read was passed over, and may have been this source's: its next number may be any
    /// higher one, once.
    open: bool,
}

/// The events of a subject.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Seen {
    sources: Vec<Source>,
    /// Fingerprint, facts, slot of the source, seconds, billionths.
    events: Window<EVENT>,
    /// As for a source: the first number of one that is not known yet may be any, once.
    open: bool,
}

const EVENT: usize = 8 + 4 + 1 + 5 + 4;
/// In the packed count of sources.
const OPEN: usize = 16;

/// An event as its subject sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sighting {
    event: Fingerprint,
    source: Fingerprint,
    slot: Option<usize>,
    pub(super) facts: Facts,
    number: Option<u64>,
    time: Time,
    /// It cannot be told from a repeat that is forgotten, unless its entry or payment tells.
    pub(super) late: bool,
    /// It bears a due number, but came before without one.
    pub(super) repeated: bool,
}

/// Whether an event was seen before.
pub(super) enum Recognised {
    Repeat,
    New(Sighting),
}

impl Seen {
    /// Tells a repeat, a gap and a conflict by number and id. As new, an event is no gap and not late.
    pub(super) fn recognise(
        &self,
        event: &Event,
        key: FingerprintKey,
        as_new: bool,
    ) -> Result<Recognised, Rejection> {
        let source = Fingerprint::source(key, event);
        let fingerprint = Fingerprint::event(key, event);
        let facts = Facts::of(key, &event.fact);
        let slot = self.sources.iter().position(|known| known.fingerprint == source);
        let known = slot.and_then(|slot| self.sources.get(slot));
        if let Some(number) = event.sequence
            && by_number(
                known,
                number,
                fingerprint,
                event.time,
                as_new || known.map_or(self.open, |s| s.open),
            )?
        {
            return Ok(Recognised::Repeat);
        }
        let remembered = match self.events.find(fingerprint) {
            Some(record) if record.starts_with(&facts.0) => true,
            Some(_) => return Err(other_facts("event id", "event")),
            // Of a numbered event the number decides, and no facts are kept.
            None => event.sequence.is_none() && known.is_some_and(|known| known.numbers.holds(fingerprint)),
        };
        if remembered && event.sequence.is_none() {
            return Ok(Recognised::Repeat);
        }
        let forgotten = known.and_then(|known| known.forgotten);
        let late =
            !as_new && event.sequence.is_none() && forgotten.is_some_and(|forgotten| event.time <= forgotten);
        Ok(Recognised::New(Sighting {
            event: fingerprint,
            source,
            slot,
            facts,
            number: event.sequence,
            time: event.time,
            late,
            repeated: remembered,
        }))
    }

    /// Whether there is room for its source.
    pub(super) fn room(&self, sighting: &Sighting) -> Result<(), Rejection> {
        if sighting.slot.is_none() && self.sources.len() >= SOURCES_MAX {
            let message =
                format!("source: a ninth one; a subject has at most {SOURCES_MAX} sources of events");
            return Err(Rejection::new(Class::CellFull, message));
        }
        Ok(())
    }

    /// Remembers an event that was accepted, whether it had an effect or none.
    pub(super) fn remember(&mut self, sighting: &Sighting, event_window: usize) {
        let slot = self.slot(sighting.slot, sighting.source, sighting.number.is_some());
        if let Some(number) = sighting.number {
            if let Some(source) = self.sources.get_mut(slot) {
                source.count(number, sighting.event);
                source.numbered_newest = source.numbered_newest.max(Some(sighting.time));
            }
            return;
        }
        let mut record = [0; EVENT];
        let (second, nano) = split_time(sighting.time);
        let parts = sighting.event.0.into_iter().chain(sighting.facts.0);
        let parts = parts.chain([u8::try_from(slot).unwrap_or(u8::MAX)]).chain(second).chain(nano);
        for (to, from) in record.iter_mut().zip(parts) {
            *to = from;
        }
        if let Some(oldest) = self.events.push(record, event_window) {
            self.forget(oldest);
        }
    }

    /// The slot of a source, made where it is new.
    fn slot(&mut self, known: Option<usize>, fingerprint: Fingerprint, numbered: bool) -> usize {
        if let Some(slot) = known {
            return slot;
        }
        // Most subjects have one source, and a vector would make room for four.
        self.sources.reserve_exact(1);
        self.sources.push(Source {
            fingerprint,
            last: 0,
            numbers: Window::default(),
            numbered_newest: None,
            forgotten: None,
            open: self.open,
        });
        self.open &= !numbered;
        self.sources.len().saturating_sub(1)
    }

    /// The number that is due from an event's source.
    pub(super) fn due(&self, event: &Event, key: FingerprintKey) -> u64 {
        let source = Fingerprint::source(key, event);
        let known = self.sources.iter().find(|known| known.fingerprint == source);
        known.map_or(0, |known| known.last).saturating_add(1)
    }

    /// Passes over an event: nothing of it is remembered but that its number is used up.
    pub(super) fn pass_over(&mut self, event: &Event, key: FingerprintKey) {
        let Some(number) = event.sequence else { return };
        let source = Fingerprint::source(key, event);
        let known = self.sources.iter().position(|known| known.fingerprint == source);
        if known.is_none() && self.sources.len() >= SOURCES_MAX {
            return;
        }
        let slot = self.slot(known, source, true);
        if let Some(source) = self.sources.get_mut(slot).filter(|source| source.last < number) {
            source.count(number, Fingerprint::event(key, event));
        }
    }

    /// Passes over a record that cannot be read: whose number it used up, nobody can tell.
    pub(super) fn pass_over_unreadable(&mut self) {
        self.open = true;
        for source in &mut self.sources {
            source.open = true;
        }
    }

    fn forget(&mut self, record: [u8; EVENT]) {
        let [_, _, _, _, _, _, _, _, _, _, _, _, slot, s0, s1, s2, s3, s4, n0, n1, n2, n3] = record;
        let time = joined_time([s0, s1, s2, s3, s4], [n0, n1, n2, n3]);
        if let Some(source) = self.sources.get_mut(usize::from(slot)) {
            source.forgotten = source.forgotten.max(Some(time));
        }
    }

    pub(super) fn pack(&self, out: &mut Packer<'_>, base: Time) {
        out.count(self.sources.len() | if self.open { OPEN } else { 0 });
        for source in &self.sources {
            out.fixed(&source.fingerprint.0);
            let numbered = source.last != 0 || source.numbered_newest.is_some();
            out.byte(
                u8::from(numbered)
                    | (u8::from(source.forgotten.is_some()) << 1)
                    | (u8::from(source.numbered_newest.is_some()) << 2)
                    | (u8::from(source.open) << 3),
            );
            if numbered {
                out.number(source.last);
                source.numbers.pack(out);
            }
            for time in [source.forgotten, source.numbered_newest].into_iter().flatten() {
                out.time(time, base);
            }
        }
        self.events.pack(out);
    }

    pub(super) fn unpack(from: &mut Unpacker<'_>, base: Time) -> Result<Self, CellError> {
        let packed = usize::try_from(from.number()?).map_err(|_| from.broken("a count past the end"))?;
        let (open, count) = (packed & OPEN != 0, packed & !OPEN);
        let mut sources = Vec::with_capacity(if from.remembers() { count.min(SOURCES_MAX) } else { 0 });
        for _ in 0..count {
            let fingerprint = Fingerprint(from.array()?);
            let flags = from.byte()?;
            let (last, numbers) = match flags & 1 {
                0 => (0, Window::default()),
                _ => (from.number()?, Window::unpack(from)?),
            };
            let forgotten = if flags & 2 == 0 { None } else { Some(from.time(base)?) };
            let numbered_newest = if flags & 4 == 0 { None } else { Some(from.time(base)?) };
            let open = flags & 8 != 0;
            if from.remembers() {
                sources.push(Source { fingerprint, last, numbers, numbered_newest, forgotten, open });
            }
        }
        Ok(Seen { sources, events: Window::unpack(from)?, open })
    }

    /// Reads a little of each of its parts.
    pub(super) fn prefetch(&self) -> usize {
        let sources =
            self.sources.iter().fold(0_usize, |sum, source| sum.wrapping_add(source.numbers.prefetch()));
        sources.wrapping_add(self.events.prefetch())
    }

    pub(super) fn weight(&self) -> usize {
        let numbers: usize = self.sources.iter().map(|source| source.numbers.weight()).sum();
        let sources = self.sources.capacity().saturating_mul(size_of::<Source>());
        sources.saturating_add(numbers).saturating_add(self.events.weight())
    }
}

impl Source {
    /// Uses up a number, and those between the last one and it.
    fn count(&mut self, number: u64, event: Fingerprint) {
        let missing = number.saturating_sub(self.last).saturating_sub(1);
        for _ in 0..usize::try_from(missing).unwrap_or(NUMBERS_MAX).min(NUMBERS_MAX) {
            // No id: an event that comes with such a number is a conflict, for it may have been given up, while the number is
            // among the last.
            self.numbers.push([0; 8], NUMBERS_MAX);
        }
        if self.numbers.push(event.0, NUMBERS_MAX).is_some() {
            // Whose id goes came no later than the newest before this one, and may come again without its number.
            self.forgotten = self.forgotten.max(self.numbered_newest);
        }
        self.last = number;
        self.open = false;
    }

    /// The id that bore a number not above the last; `None` further back than is remembered.
    fn id_of(&self, number: u64) -> Option<&[u8]> {
        let back = usize::try_from(self.last.checked_sub(number)?).ok()?;
        let at = self.numbers.records().count().checked_sub(1)?.checked_sub(back)?;
        self.numbers.records().nth(at)
    }
}

/// `true` for a repeat, `false` where the number is due.
fn by_number(
    known: Option<&Source>,
    number: u64,
    event: Fingerprint,
    time: Time,
    any: bool,
) -> Result<bool, Rejection> {
    let last = known.map_or(0, |source| source.last);
    if number > last {
        if any || number == last.saturating_add(1) {
            return Ok(false);
        }
        let message = format!(
            "sequence: {number}, where {} is due from this source for this subject",
            last.saturating_add(1)
        );
        return Err(Rejection::new(Class::SequenceGap, message));
    }
    let same = match known.and_then(|source| source.id_of(number)) {
        Some(id) => id == event.0,
        None => known.and_then(|source| source.numbered_newest).is_some_and(|newest| time <= newest),
    };
    if same {
        return Ok(true);
    }
    let message = format!("sequence: {number} was used by another event of this source; {last} was the last");
    Err(Rejection::new(Class::Conflict, message))
}

/// A repeat with other facts.
pub(super) fn other_facts(member: &str, what: &str) -> Rejection {
    Rejection::new(
        Class::Conflict,
        format!(
            "{member}: known already with other facts; a repeat states the same facts, another {what} has another id"
        ),
    )
}

/// An event that cannot be told from a repeat.
pub(super) fn unverifiable() -> Rejection {
    Rejection::new(
        Class::Unverifiable,
        "time: not after the newest of this source's events that are no longer remembered, so this may be a repeat; \
         number the events, widen the window, or accept this one as new",
    )
}

fn split_time(time: Time) -> ([u8; 5], [u8; 4]) {
    let seconds = time.0.as_second().saturating_sub(SECONDS_FIRST);
    let [s0, s1, s2, s3, s4, ..] = seconds.to_le_bytes();
    ([s0, s1, s2, s3, s4], time.0.subsec_nanosecond().to_le_bytes())
}

fn joined_time(seconds: [u8; 5], nanos: [u8; 4]) -> Time {
    let [s0, s1, s2, s3, s4] = seconds;
    let seconds = i64::from_le_bytes([s0, s1, s2, s3, s4, 0, 0, 0]).saturating_add(SECONDS_FIRST);
    // What was split from a time joins to one; broken bytes join to the latest, which verifies nothing.
    Time(Timestamp::new(seconds, i32::from_le_bytes(nanos)).unwrap_or(Timestamp::MAX))
}
