//! Why a question is not answered with a figure now: every 503.

use crate::store::StoreError;

/// The reasons for a 503. Each has a short name for metrics, a sentence for the caller that gives nothing
/// away, and a time after which asking again makes sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unavailable {
    /// No generation is served, or none that was seen yet.
    NoGeneration,
    /// A partition has not reached the end of the log since its birth.
    Incomplete,
    /// What the answer rests on is older than allowed, or its age is not known.
    Stale,
    /// The store holds less than it did: a fail-over or a restored dump.
    WentBack,
    /// The store did not answer, or may not be believed.
    Store(StoreError),
    /// The subject is on hold behind a dead letter.
    Quarantined,
    /// Booking dates are merged beyond the day asked for.
    DaysMerged,
    /// The positions asked for were not reached in time.
    PositionNotReached,
    /// Too many requests wait for positions.
    TooManyWaiters,
    /// Too many passwords wait to be verified.
    TooManyLogins,
    /// The issuer's keys are not known, or it cannot be asked for the one that a token names.
    NoKeys,
}

impl Unavailable {
    /// Every name in metrics.
    pub const NAMES: [&str; 11] = [
        "no-generation",
        "incomplete",
        "stale",
        "went-back",
        "store",
        "quarantined",
        "days-merged",
        "position-not-reached",
        "too-many-waiters",
        "too-many-logins",
        "no-keys",
    ];

    /// The name in metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Unavailable::NoGeneration => "no-generation",
            Unavailable::Incomplete => "incomplete",
            Unavailable::Stale => "stale",
            Unavailable::WentBack => "went-back",
            Unavailable::Store(_) => "store",
            Unavailable::Quarantined => "quarantined",
            Unavailable::DaysMerged => "days-merged",
            Unavailable::PositionNotReached => "position-not-reached",
            Unavailable::TooManyWaiters => "too-many-waiters",
            Unavailable::TooManyLogins => "too-many-logins",
            Unavailable::NoKeys => "no-keys",
        }
    }

    /// What the caller is told, where the view has room for a sentence.
    pub const fn message(&self) -> &'static str {
        match self {
            Unavailable::NoGeneration | Unavailable::Incomplete => "The projection is not complete",
            Unavailable::Stale => "The projection is not fresh",
            Unavailable::WentBack | Unavailable::Store(_) => "The store is not available",
            Unavailable::Quarantined => "The figures are incomplete",
            Unavailable::DaysMerged => "The figure cannot be told for today",
            Unavailable::PositionNotReached => "Projection-Min-Position is not reached",
            Unavailable::NoKeys => "The token cannot be verified",
            Unavailable::TooManyWaiters | Unavailable::TooManyLogins => "Too many requests are waiting",
        }
    }

    /// Seconds, for `Retry-After`: what passes by itself soon, what takes a recovery, what takes a human.
    pub const fn retry_after_seconds(&self) -> u16 {
        match self {
            Unavailable::WentBack
            | Unavailable::PositionNotReached
            | Unavailable::TooManyWaiters
            | Unavailable::TooManyLogins => 1,
            Unavailable::NoGeneration
            | Unavailable::Incomplete
            | Unavailable::Stale
            | Unavailable::NoKeys
            | Unavailable::Store(_) => 5,
            Unavailable::Quarantined | Unavailable::DaysMerged => 60,
        }
    }
}
