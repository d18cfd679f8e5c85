//! How often a caller may ask: a bucket of tokens each.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How many requests a caller may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// In a second, in the long run; 0 lifts the limit.
    pub per_second: u32,
    /// At once.
    pub burst: u32,
}

/// A bucket per caller. Callers are those of the configuration: their number is bounded by it.
pub struct Buckets {
    origin: Instant,
    /// When each bucket will be full again, in nanoseconds since `origin`.
    full_at: Mutex<HashMap<String, u64>>,
}

impl Buckets {
    /// All full.
    pub fn new() -> Self {
        Buckets { origin: Instant::now(), full_at: Mutex::default() }
    }

    /// Takes a token of the caller's; where there is none, tells how long it takes until there is.
    pub fn take(&self, caller: &str, rate: Rate, now: Instant) -> Result<(), Duration> {
        let Some(interval) = 1_000_000_000_u64.checked_div(u64::from(rate.per_second)) else { return Ok(()) };
        let now = u64::try_from(now.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX);
        let room = interval.saturating_mul(u64::from(rate.burst.saturating_sub(1)));
        // Every step under the lock leaves the map whole.
        let mut buckets = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let held = buckets.get_mut(caller);
        let full_at = held.as_deref().copied().unwrap_or_default().max(now);
        let missing = full_at.saturating_sub(now).saturating_sub(room);
        if missing > 0 {
            return Err(Duration::from_nanos(missing));
        }
        let full_at = full_at.saturating_add(interval);
        match held {
            Some(held) => *held = full_at,
            None => drop(buckets.insert(caller.to_owned(), full_at)),
        }
        Ok(())
    }
}

/// Whole seconds for `Retry-After`: after them asking again makes sense.
pub fn seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "a test fails where it overflows")]

    use super::*;

    const TEN: Rate = Rate { per_second: 10, burst: 3 };

    #[test]
    fn a_bucket_gives_its_burst_at_once_and_then_a_token_per_interval() {
        let buckets = Buckets::new();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        for _ in 0..3 {
            assert_eq!(buckets.take("a", TEN, at(0)), Ok(()));
        }
        let wait = buckets.take("a", TEN, at(0)).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        assert!(buckets.take("a", TEN, at(99)).is_err(), "a refusal takes no token and brings none");
        assert_eq!(buckets.take("a", TEN, at(100)), Ok(()));
        assert!(buckets.take("a", TEN, at(100)).is_err());
        assert_eq!(buckets.take("b", TEN, at(100)), Ok(()), "another caller has a bucket of its own");
        for _ in 0..3 {
            assert_eq!(buckets.take("a", TEN, at(60_000)), Ok(()), "a bucket holds its burst, not more");
        }
        assert!(buckets.take("a", TEN, at(60_000)).is_err());
    }

    #[test]
    fn no_rate_is_no_limit() {
        let buckets = Buckets::new();
        let now = Instant::now();
        assert!((0..1_000).all(|_| buckets.take("a", Rate { per_second: 0, burst: 1 }, now).is_ok()));
    }

    #[test]
    fn whole_seconds_are_never_too_few() {
        let rows = [(0, 1), (1, 1), (999, 1), (1_000, 1), (1_001, 2), (59_999, 60)];
        for (ms, expected) in rows {
            assert_eq!(seconds(Duration::from_millis(ms)), expected, "{ms} ms");
        }
    }
}
