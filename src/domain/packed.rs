//! The bytes of a cell: varints, and times relative to the newest one, behind a byte for kind and version.
//!
//! Written by hand rather than derived: cost grows with the cell, and most times of a cell lie near its
//! newest one.

use jiff::{Timestamp, civil::Date};

use super::{Amount, CellError, Currency, Day, Offset, Time};

/// What the bytes are: the first of them, which is also their version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Account,
    Customer,
    Due,
}

impl Kind {
    const fn tag(self) -> u8 {
        match self {
            Kind::Account => 0xa1,
            Kind::Customer => 0xc1,
            Kind::Due => 0xd1,
        }
    }
    const fn name(self) -> &'static str {
        match self {
            Kind::Account => "an account",
            Kind::Customer => "a customer",
            Kind::Due => "a due",
        }
    }
}

/// Appends to a buffer.
pub(super) struct Packer<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Packer<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>, kind: Kind) -> Self {
        out.push(kind.tag());
        Packer { out }
    }

    pub(super) fn byte(&mut self, byte: u8) {
        self.out.push(byte);
    }

    pub(super) fn fixed(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.fixed(bytes);
    }

    pub(super) fn count(&mut self, count: usize) {
        self.number(u64::try_from(count).unwrap_or(u64::MAX));
    }

    pub(super) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.out.push(low_seven(number) | 0x80);
            number >>= 7;
        }
        self.out.push(low_seven(number));
    }

    pub(super) fn signed(&mut self, number: i64) {
        self.wide(i128::from(number));
    }

    /// Magnitude and sign.
    pub(super) fn wide(&mut self, number: i128) {
        let mut rest = (number.unsigned_abs() << 1) | u128::from(number.is_negative());
        loop {
            if let Ok(number) = u64::try_from(rest) {
                return self.number(number);
            }
            self.out.push(u8::try_from(rest & 0x7f).unwrap_or_default() | 0x80);
            rest >>= 7;
        }
    }

    pub(super) fn amount(&mut self, amount: Amount) {
        self.wide(amount.ten_thousandths());
    }

    pub(super) fn currency(&mut self, currency: Currency) {
        self.fixed(currency.as_str().as_bytes());
    }

    pub(super) fn offset(&mut self, offset: Offset) {
        self.signed(offset.0);
    }

    /// Year, month and day side by side: three bytes in our time.
    pub(super) fn day(&mut self, day: Day) {
        let month_and_day = (i64::from(day.0.month()) << 5) | i64::from(day.0.day());
        self.signed((i64::from(day.0.year()) << 9) | month_and_day);
    }

    /// Seconds from another time on; thousandths or billionths of a second only where there are some.
    pub(super) fn time(&mut self, time: Time, base: Time) {
        let seconds = i128::from(time.0.as_second().saturating_sub(base.0.as_second()));
        let nanos = u64::from(time.0.subsec_nanosecond().unsigned_abs());
        let negative_nanos = time.0.subsec_nanosecond().is_negative();
        self.wide((seconds << 2) | (i128::from(negative_nanos) << 1) | i128::from(nanos != 0));
        if nanos != 0 {
            match (nanos / 1_000_000, nanos % 1_000_000) {
                (millis, 0) => self.number(millis << 1),
                (_, _) => self.number((nanos << 1) | 1),
            }
        }
    }
}

/// Reads from the front of a slice.
pub(super) struct Unpacker<'a> {
    rest: &'a [u8],
    kind: Kind,
    /// Whether what only tells repeats is read, or passed over.
    remembers: bool,
}

impl<'a> Unpacker<'a> {
    pub(super) fn new(bytes: &'a [u8], kind: Kind) -> Result<Self, CellError> {
        match bytes.split_first() {
            Some((&tag, rest)) if tag == kind.tag() => Ok(Unpacker { rest, kind, remembers: true }),
            Some((tag, _)) => Err(CellError(format!(
                "expected {} of version {:#04x}, found version {tag:#04x}",
                kind.name(),
                kind.tag()
            ))),
            None => Err(CellError(format!(
                "expected {} of version {:#04x}, found nothing",
                kind.name(),
                kind.tag()
            ))),
        }
    }

    /// Passes over what only tells repeats: no figure rests on it.
    pub(super) fn forgetting(self) -> Self {
        Unpacker { remembers: false, ..self }
    }

    /// Whether what tells repeats is read.
    pub(super) fn remembers(&self) -> bool {
        self.remembers
    }

    /// Everything must have been read.
    pub(super) fn end(self) -> Result<(), CellError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.broken("bytes after the end")) }
    }

    pub(super) fn broken(&self, what: &str) -> CellError {
        CellError(format!("{} of version {:#04x}: {what}", self.kind.name(), self.kind.tag()))
    }

    pub(super) fn byte(&mut self) -> Result<u8, CellError> {
        let (&byte, rest) = self.rest.split_first().ok_or_else(|| self.broken("cut off"))?;
        self.rest = rest;
        Ok(byte)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], CellError> {
        let (array, rest) = self.rest.split_first_chunk().ok_or_else(|| self.broken("cut off"))?;
        self.rest = rest;
        Ok(*array)
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], CellError> {
        let count = self.count()?;
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or_else(|| self.broken("cut off"))?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, CellError> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_| self.broken("a text that is not UTF-8"))
    }

    /// A count of things of at least one byte each, so that broken bytes reserve no memory.
    pub(super) fn count(&mut self) -> Result<usize, CellError> {
        let count = self.number()?;
        match usize::try_from(count) {
            Ok(count) if count <= self.rest.len() => Ok(count),
            Ok(_) | Err(_) => Err(self.broken("a count past the end")),
        }
    }

    pub(super) fn number(&mut self) -> Result<u64, CellError> {
        u64::try_from(self.varint()?).map_err(|_| self.broken("a number past 64 bits"))
    }

    pub(super) fn signed(&mut self) -> Result<i64, CellError> {
        i64::try_from(self.wide()?).map_err(|_| self.broken("a number past 64 bits"))
    }

    pub(super) fn wide(&mut self) -> Result<i128, CellError> {
        let number = self.varint()?;
        let magnitude = i128::try_from(number >> 1).map_err(|_| self.broken("a number past 127 bits"))?;
        Ok(if number & 1 == 0 { magnitude } else { magnitude.saturating_neg() })
    }

    fn varint(&mut self) -> Result<u128, CellError> {
        // Almost every number takes a byte or two, and none of those needs wide arithmetic.
        let mut low = 0_u64;
        for shift in (0_u32..63).step_by(7) {
            let byte = self.byte()?;
            low |= u64::from(byte & 0x7f).wrapping_shl(shift);
            if byte & 0x80 == 0 {
                return Ok(u128::from(low));
            }
        }
        let mut number = u128::from(low);
        for shift in (63_u32..126).step_by(7) {
            let byte = self.byte()?;
            number |= u128::from(byte & 0x7f).wrapping_shl(shift);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(self.broken("a number past 126 bits"))
    }

    pub(super) fn amount(&mut self) -> Result<Amount, CellError> {
        let count = self.wide()?;
        Amount::from_ten_thousandths(count).ok_or_else(|| self.broken("an amount past its bound"))
    }

    pub(super) fn currency(&mut self) -> Result<Currency, CellError> {
        let code = self.array::<3>()?;
        let currency = std::str::from_utf8(&code).ok().and_then(Currency::parse);
        currency.ok_or_else(|| self.broken("an unknown currency"))
    }

    pub(super) fn offset(&mut self) -> Result<Offset, CellError> {
        self.signed().map(Offset)
    }

    pub(super) fn day(&mut self) -> Result<Day, CellError> {
        let packed = self.signed()?;
        let year = i16::try_from(packed >> 9).ok();
        let month = i8::try_from((packed >> 5) & 0xf).ok();
        let day = i8::try_from(packed & 0x1f).ok();
        let date = match (year, month, day) {
            (Some(year), Some(month), Some(day)) => Date::new(year, month, day).ok(),
            (_, _, _) => None,
        };
        date.map(Day).ok_or_else(|| self.broken("a day that no calendar holds"))
    }

    pub(super) fn time(&mut self, base: Time) -> Result<Time, CellError> {
        let packed = self.wide()?;
        let seconds = i64::try_from(packed >> 2).ok().and_then(|delta| base.0.as_second().checked_add(delta));
        let mut nanos = 0_i32;
        if packed & 1 != 0 {
            let fraction = self.number()?;
            let count =
                if fraction & 1 == 0 { (fraction >> 1).checked_mul(1_000_000) } else { Some(fraction >> 1) };
            let count = count.and_then(|count| i32::try_from(count).ok());
            nanos = count.ok_or_else(|| self.broken("a fraction past a second"))?;
        }
        if packed & 2 != 0 {
            nanos = nanos.saturating_neg();
        }
        let time = seconds.and_then(|seconds| Timestamp::new(seconds, nanos).ok());
        time.map(Time).ok_or_else(|| self.broken("an instant that no calendar holds"))
    }
}

fn low_seven(number: u64) -> u8 {
    u8::try_from(number & 0x7f).unwrap_or_default()
}
