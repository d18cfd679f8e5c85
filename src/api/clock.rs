//! The one place of the read side that asks what time it is.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use crate::domain::{Day, Time};

/// The wall clock, in the configured zone of days. Freshness does not use it: only `Projection-As-Of`, the
/// day that is today, and the expiry of tokens do.
#[derive(Debug, Clone)]
pub struct Clock {
    zone: TimeZone,
    fixed: Option<Timestamp>,
}

impl Clock {
    /// The machine's clock, with days of this zone.
    pub fn system(zone: TimeZone) -> Self {
        Clock { zone, fixed: None }
    }

    /// A clock that stands still, for tests.
    pub fn fixed(zone: TimeZone, at: Time) -> Self {
        Clock { zone, fixed: Some(at.0) }
    }

    /// The instant.
    #[allow(clippy::disallowed_methods, reason = "this is where the instant that is passed in comes from")]
    pub fn now(&self) -> Time {
        Time(self.fixed.unwrap_or_else(Timestamp::now))
    }

    /// The day.
    pub fn today(&self) -> Day {
        self.now().day_in(&self.zone)
    }

    /// How long it takes until the next day begins.
    pub fn until_tomorrow(&self) -> Duration {
        let now = self.now().0;
        let tomorrow = now.to_zoned(self.zone.clone()).tomorrow().and_then(|day| day.start_of_day());
        let wait = tomorrow.map(|day| day.timestamp().duration_since(now));
        // The calendar's last day has no next one.
        wait.ok().and_then(|wait| Duration::try_from(wait).ok()).unwrap_or(Duration::from_hours(24))
    }

    /// The instant so long before another one; the first of the calendar at the earliest.
    pub fn before(now: Time, age: Duration) -> Time {
        let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
        Time(now.0.saturating_sub(age).unwrap_or(Timestamp::MIN))
    }
}
