//! Instants and days, with the compact form in which cells keep them.

use std::fmt;

use jiff::{
    Timestamp,
    civil::Date,
    tz::{Offset, TimeZone},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// An instant, to the nanosecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Time(pub Timestamp);

/// A calendar day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Day(pub Date);

/// The first second of the year 0 in UTC.
const YEAR_0: i64 = -62_167_219_200;

impl Time {
    /// The day of this instant in a zone.
    pub fn day_in(self, zone: &TimeZone) -> Day {
        Day(zone.to_datetime(self.0).date())
    }

    /// The instant of a Kafka timestamp; one that no calendar holds becomes the nearest that it does.
    pub fn from_millis(ms: i64) -> Time {
        let nearest = if ms < 0 { Timestamp::MIN } else { Timestamp::MAX };
        Time(Timestamp::from_millisecond(ms).unwrap_or(nearest))
    }

    /// Reads an instant of RFC 3339, and nothing else: `2017-02-17T12:32:41.5+01:00`, with `t` and `z` in
    /// either case, seconds to 59, and a fraction of any length that is cut at nine digits.
    ///
    /// The last day of the year 9999, which the calendar used here does not hold, becomes the nearest
    /// instant that it does; what lies before the year 0 in UTC, which cannot be written, its beginning.
    pub fn parse_rfc3339(text: &str) -> Option<Time> {
        let (date, rest) = text.split_at_checked(10)?;
        let date = Day::parse(date)?.0;
        let (clock, rest) = rest.split_at_checked(9)?;
        let &[b'T' | b't', h1, h2, b':', m1, m2, b':', s1, s2] = clock.as_bytes() else { return None };
        let (hour, minute, second) = (two(h1, h2, 23)?, two(m1, m2, 59)?, two(s1, s2, 59)?);
        let (nanosecond, zone) = match rest.strip_prefix('.') {
            Some(rest) => {
                let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
                let (fraction, zone) = rest.split_at_checked(digits).filter(|_| digits > 0)?;
                let kept = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
                (kept.fold(0_i32, |ns, b| ns.saturating_mul(10).saturating_add(i32::from(b & 0xF))), zone)
            }
            None => (0, rest),
        };
        let offset = match *zone.as_bytes() {
            [b'Z' | b'z'] => Offset::UTC,
            [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
                let minutes = i32::from(two(h1, h2, 23)?)
                    .saturating_mul(60)
                    .saturating_add(i32::from(two(m1, m2, 59)?));
                let east = if sign == b'-' { minutes.saturating_neg() } else { minutes };
                Offset::from_seconds(east.saturating_mul(60)).ok()?
            }
            _ => return None,
        };
        let civil = date.at(hour, minute, second, nanosecond);
        let instant = offset.to_timestamp(civil).unwrap_or(Timestamp::MAX);
        Some(Time(instant.max(Timestamp::from_second(YEAR_0).unwrap_or(Timestamp::MIN))))
    }
}

/// The form of the views, in UTC, with at least one digit of fraction and no needless zeros:
/// `2017-02-17T12:32:41.0Z`.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let civil = Offset::UTC.to_datetime(self.0);
        let fraction = format!("{:09}", civil.subsec_nanosecond());
        let fraction = match fraction.trim_end_matches('0') {
            "" => "0",
            digits => digits,
        };
        let (hour, minute, second) = (civil.hour(), civil.minute(), civil.second());
        write!(f, "{}T{hour:02}:{minute:02}:{second:02}.{fraction}Z", Day(civil.date()))
    }
}

impl Day {
    /// This many days earlier; the first day of the calendar at the earliest.
    #[must_use]
    pub fn minus_days(self, days: i32) -> Day {
        Day(self.0.saturating_sub(jiff::Span::new().days(days)))
    }

    /// Reads a day of the calendar written `yyyy-MM-dd`, and nothing else.
    pub fn parse(text: &str) -> Option<Day> {
        let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text.as_bytes() else { return None };
        let year =
            i16::from(two(y1, y2, 99)?).saturating_mul(100).saturating_add(i16::from(two(y3, y4, 99)?));
        Date::new(year, two(m1, m2, 12)?, two(d1, d2, 31)?).ok().map(Day)
    }
}

/// `yyyy-MM-dd`.
impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.0.year(), self.0.month(), self.0.day())
    }
}

/// A number of two ASCII digits, up to a limit.
fn two(tens: u8, units: u8, max: i8) -> Option<i8> {
    if !tens.is_ascii_digit() || !units.is_ascii_digit() {
        return None;
    }
    let digit = |b: u8| i8::try_from(b & 0xF).unwrap_or_default();
    Some(digit(tens).saturating_mul(10).saturating_add(digit(units))).filter(|&number| number <= max)
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.0.as_second(), self.0.subsec_nanosecond()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (second, nanosecond) = <(i64, i32)>::deserialize(deserializer)?;
        Timestamp::new(second, nanosecond).map(Time).map_err(D::Error::custom)
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.0.year(), self.0.month(), self.0.day()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (year, month, day) = <(i16, i8, i8)>::deserialize(deserializer)?;
        Date::new(year, month, day).map(Day).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_of_rfc_3339_read_to_the_nanosecond() {
        // Text, the same instant as the views write it.
        let table = [
            ("2017-02-17T12:32:41Z", "2017-02-17T12:32:41.0Z"),
            ("2017-02-17t12:32:41z", "2017-02-17T12:32:41.0Z"),
            ("2017-02-17T12:32:41.000Z", "2017-02-17T12:32:41.0Z"),
            ("2017-02-17T12:32:41.500Z", "2017-02-17T12:32:41.5Z"),
            ("2017-02-17T12:32:41.000000001Z", "2017-02-17T12:32:41.000000001Z"),
            // Cut, not rounded.
            ("2017-02-17T12:32:41.9999999999999Z", "2017-02-17T12:32:41.999999999Z"),
            ("2017-02-17T12:32:41+01:00", "2017-02-17T11:32:41.0Z"),
            ("2017-02-17T23:30:00-02:30", "2017-02-18T02:00:00.0Z"),
            ("2017-01-01T00:00:00+23:59", "2016-12-31T00:01:00.0Z"),
            ("2017-02-17T12:32:41-00:00", "2017-02-17T12:32:41.0Z"),
            ("2016-02-29T00:00:00.25Z", "2016-02-29T00:00:00.25Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00.0Z"),
            ("0000-01-01T00:00:00+01:00", "0000-01-01T00:00:00.0Z"),
            // Before 1970 the fraction still counts forwards.
            ("1969-12-31T23:59:59.25Z", "1969-12-31T23:59:59.25Z"),
            ("9999-12-30T00:00:00Z", "9999-12-30T00:00:00.0Z"),
            ("9999-12-31T23:59:59Z", "9999-12-30T22:00:00.999999999Z"),
        ];
        for (text, shown) in table {
            assert_eq!(Time::parse_rfc3339(text).map(|t| t.to_string()).as_deref(), Some(shown), "{text}");
        }
    }

    #[test]
    fn no_other_text_is_an_instant() {
        let table = [
            "",
            "2017-02-17",
            "2017-02-17T12:32:41",
            "2017-02-17 12:32:41Z",
            "2017-02-17_12:32:41Z",
            "2017-02-17T12:32Z",
            "2017-02-17T1:32:41Z",
            "2017-02-17T12:32:60Z",
            "2016-12-31T23:59:60Z",
            "2017-02-17T24:00:00Z",
            "2017-02-17T12:60:00Z",
            "2017-02-30T12:32:41Z",
            "2017-02-29T00:00:00Z",
            "2017-13-01T00:00:00Z",
            "2017-00-10T00:00:00Z",
            "2017-01-00T00:00:00Z",
            "2017-02-17T12:32:41.Z",
            "2017-02-17T12:32:41,5Z",
            "2017-02-17T12:32:41.5",
            "2017-02-17T12:32:41+0100",
            "2017-02-17T12:32:41+01",
            "2017-02-17T12:32:41+24:00",
            "2017-02-17T12:32:41+01:60",
            "2017-02-17T12:32:41 Z",
            "2017-02-17T12:32:41Z ",
            " 2017-02-17T12:32:41Z",
            "20170217T123241Z",
            "+2017-02-17T12:32:41Z",
            "12017-02-17T12:32:41Z",
            "2017-048T12:32:41Z",
            "2017-W07-5T12:32:41Z",
            "1487334761",
            "2017-02-17T12:32:41Z[Europe/Prague]",
            "2017-02-17T12:32:41−01:00",
            "２017-02-17T12:32:41Z",
            "2017-02-1٧T12:32:41Z",
            "2017-02-17T12:32:41.٥Z",
            "2017-02-17T12:32:41ZZ",
            "Fri, 17 Feb 2017 12:32:41 GMT",
        ];
        for text in table {
            assert_eq!(Time::parse_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn days_are_read_strictly_and_written_back() {
        for text in ["2014-09-01", "2016-02-29", "2000-02-29", "0001-01-01", "9999-12-31"] {
            assert_eq!(Day::parse(text).map(|day| day.to_string()).as_deref(), Some(text));
        }
        let table = [
            "",
            "2017-02-30",
            "2017-02-29",
            "1900-02-29",
            "2017-04-31",
            "2017-13-01",
            "2017-00-01",
            "2017-01-00",
            "2017-1-01",
            "17-01-01",
            "2017/01/01",
            "20170101",
            "01-01-2017",
            "2017-01-01T",
            " 2017-01-01",
            "2017-01-01 ",
            "-017-01-01",
            "+017-01-01",
            "2017-01-٠١",
            "2017-01-32",
        ];
        for text in table {
            assert_eq!(Day::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_earliest_instant_of_the_calendar_is_still_written() {
        assert_eq!(Time::from_millis(i64::MIN).to_string(), "-9999-01-02T01:59:59.0Z");
    }
}
