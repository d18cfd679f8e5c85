//! Instants and days, with the compact form in which cells keep them.

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// An instant, to the nanosecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Time(pub Timestamp);

/// A calendar day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Day(pub Date);

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
}

impl Day {
    /// This many days earlier; the first day of the calendar at the earliest.
    #[must_use]
    pub fn minus_days(self, days: i32) -> Day {
        Day(self.0.saturating_sub(jiff::Span::new().days(days)))
    }
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
