//! JSON by hand: no value trees, no allocation, some hundred nanoseconds an event.
#![allow(
    clippy::arithmetic_side_effects,
    reason = "times and digits are bounded by the flags' ranges, and overflow checks stop the process"
)]

/// A line in the making.
pub(super) type Out = Vec<u8>;

pub(super) const DAY_US: i64 = 86_400_000_000;

pub(super) fn text(out: &mut Out, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

pub(super) fn number(out: &mut Out, n: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// With leading zeros up to this width.
pub(super) fn padded(out: &mut Out, n: u64, width: usize) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(n).as_bytes();
    out.extend(std::iter::repeat_n(b'0', width.saturating_sub(digits.len())));
    out.extend_from_slice(digits);
}

/// A version 4 UUID of these bits.
pub(super) fn uuid(out: &mut Out, high: u64, low: u64) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let high = high & !0xf000 | 0x4000;
    let low = low & !(0b11 << 62) | (0b10 << 62);
    let mut bits = u128::from(high) << 64 | u128::from(low);
    for i in 0..32 {
        if matches!(i, 8 | 12 | 16 | 20) {
            out.push(b'-');
        }
        let nibble = usize::try_from(bits >> 124).unwrap_or_default();
        out.push(HEX.get(nibble).copied().unwrap_or(b'0'));
        bits <<= 4;
    }
}

/// `yyyy-mm-dd` of a count of days since 1970.
pub(super) fn day(out: &mut Out, days: i64) {
    // Howard Hinnant's `civil_from_days`: eras of 400 years that begin in March.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    padded(out, year.unsigned_abs(), 4);
    out.push(b'-');
    padded(out, month.unsigned_abs(), 2);
    out.push(b'-');
    padded(out, (doy - (153 * mp + 2) / 5 + 1).unsigned_abs(), 2);
}

/// An RFC 3339 instant of a count of microseconds since 1970.
pub(super) fn time(out: &mut Out, us: i64) {
    day(out, us.div_euclid(DAY_US));
    let rest = us.rem_euclid(DAY_US).unsigned_abs();
    for (mark, value, width) in [
        (b'T', rest / 3_600_000_000, 2),
        (b':', rest / 60_000_000 % 60, 2),
        (b':', rest / 1_000_000 % 60, 2),
        (b'.', rest % 1_000_000, 6),
    ] {
        out.push(mark);
        padded(out, value, width);
    }
    out.push(b'Z');
}

/// An amount of so many minor units.
pub(super) fn amount(out: &mut Out, minor: u64, decimals: u32) {
    let unit = 10_u64.pow(decimals);
    number(out, minor / unit);
    if decimals > 0 {
        out.push(b'.');
        padded(out, minor % unit, usize::try_from(decimals).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(f: impl Fn(&mut Out)) -> String {
        let mut out = Out::new();
        f(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn instants_are_those_of_the_calendar() {
        for text in
            ["1970-01-01T00:00:00.000000Z", "2024-02-29T23:59:59.999999Z", "2100-03-01T12:34:56.000789Z"]
        {
            let instant: jiff::Timestamp = text.parse().unwrap();
            assert_eq!(written(|out| time(out, instant.as_microsecond())), text);
        }
    }

    #[test]
    fn amounts_have_the_decimals_of_their_currency() {
        for (minor, decimals, text) in [(5, 2, "0.05"), (1234, 2, "12.34"), (7, 0, "7"), (1, 4, "0.0001")] {
            assert_eq!(written(|out| amount(out, minor, decimals)), text);
        }
    }

    #[test]
    fn ids_are_uuids_of_version_4() {
        let text = written(|out| uuid(out, u64::MAX, u64::MAX));
        assert_eq!(text, "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(uuid::Uuid::parse_str(&text).unwrap().get_version_num(), 4);
    }
}
