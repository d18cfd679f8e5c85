//! What the read side counts.

use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::{refusal::Reason, unavailable::Unavailable};
use crate::telemetry::{metric, register};

/// The views, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum View {
    /// View one.
    Customer,
    /// View two.
    Account,
}

impl View {
    /// The name in metrics and in the log.
    pub const fn name(self) -> &'static str {
        match self {
            View::Customer => "customer",
            View::Account => "account",
        }
    }

    /// Every status that its answers have.
    const fn statuses(self) -> &'static [u16] {
        match self {
            View::Customer => &[200, 304, 401, 403, 404, 405, 422, 429, 500, 503],
            View::Account => &[200, 304, 400, 401, 403, 404, 405, 406, 415, 429, 500, 503],
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    view: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refusal {
    view: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reload {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByView {
    view: &'static str,
}

#[allow(clippy::disallowed_types, reason = "seconds, not money")]
type Seconds = Gauge<f64, AtomicU64>;

/// The read side's counters; each is registered once.
pub struct Metrics {
    requests: Family<Answer, Counter>,
    seconds: Family<ByView, Histogram, fn() -> Histogram>,
    unavailable: Family<Refusal, Counter>,
    refusals: Family<Refusal, Counter>,
    several_currencies: Counter,
    handshakes_failed: Counter,
    certificate_ends: Gauge,
    reloads: Family<Reload, Counter>,
    store_errors: Counter,
    open: Gauge,
    waiters: Gauge,
    ready: Gauge,
    staleness: Seconds,
    staleness_served: Family<ByView, Histogram, fn() -> Histogram>,
}

impl Metrics {
    /// Registers all.
    pub fn new(registry: &mut Registry) -> Self {
        let histogram: fn() -> Histogram = || {
            Histogram::new([0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5])
        };
        let metrics = Metrics {
            requests: register(registry, metric::REQUESTS, Family::default()),
            seconds: register(registry, metric::REQUEST_SECONDS, Family::new_with_constructor(histogram)),
            unavailable: register(registry, metric::REQUESTS_UNAVAILABLE, Family::default()),
            refusals: register(registry, metric::REFUSALS, Family::default()),
            handshakes_failed: register(registry, metric::TLS_HANDSHAKES_FAILED, Counter::default()),
            certificate_ends: register(registry, metric::TLS_CERTIFICATE_ENDS, Gauge::default()),
            reloads: register(registry, metric::RELOADS, Family::default()),
            several_currencies: register(registry, metric::SEVERAL_CURRENCIES, Counter::default()),
            store_errors: register(registry, metric::STORE_READ_ERRORS, Counter::default()),
            open: register(registry, metric::REQUESTS_OPEN, Gauge::default()),
            waiters: register(registry, metric::MIN_POSITION_WAITERS, Gauge::default()),
            ready: register(registry, metric::READY, Gauge::default()),
            staleness: register(registry, metric::STALENESS_SECONDS, Seconds::default()),
            staleness_served: register(
                registry,
                metric::STALENESS_SERVED_SECONDS,
                Family::new_with_constructor(|| {
                    Histogram::new([0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 300.0])
                }),
            ),
        };
        metrics.begin();
        metrics
    }

    /// What has not happened yet is zero and not absent: nobody sees an increase from nothing.
    fn begin(&self) {
        for result in ["done", "refused"] {
            drop(self.reloads.get_or_create(&Reload { result }));
        }
        for view in [View::Customer, View::Account] {
            for status in view.statuses() {
                drop(self.requests.get_or_create(&Answer { view: view.name(), status: *status }));
            }
            for reason in Unavailable::NAMES {
                drop(self.unavailable.get_or_create(&Refusal { view: view.name(), reason }));
            }
            for reason in Reason::ALL {
                drop(self.refusals.get_or_create(&Refusal { view: view.name(), reason: reason.name() }));
            }
            drop(self.seconds.get_or_create(&ByView { view: view.name() }));
            drop(self.staleness_served.get_or_create(&ByView { view: view.name() }));
        }
    }

    /// A request came; the guard counts it as open while it lives.
    pub fn opened(&self) -> Open<'_> {
        self.open.inc();
        Open(&self.open)
    }

    /// A request was answered.
    pub fn answered(&self, view: View, status: u16, took: Duration) {
        self.requests.get_or_create(&Answer { view: view.name(), status }).inc();
        self.seconds.get_or_create(&ByView { view: view.name() }).observe(took.as_secs_f64());
    }

    /// A figure of this age was given.
    pub fn figure(&self, view: View, staleness: Duration) {
        self.staleness_served.get_or_create(&ByView { view: view.name() }).observe(staleness.as_secs_f64());
    }

    /// A question got no figure now.
    pub fn unavailable(&self, view: View, reason: &Unavailable) {
        if matches!(reason, Unavailable::Store(_)) {
            self.store_errors.inc();
        }
        self.unavailable.get_or_create(&Refusal { view: view.name(), reason: reason.name() }).inc();
    }

    /// A TLS handshake failed.
    pub fn handshake_failed(&self) {
        self.handshakes_failed.inc();
    }

    /// The server's certificate ends then.
    pub fn certificate_ends(&self, seconds: i64) {
        self.certificate_ends.set(seconds);
    }

    /// Credentials and certificates were read again, or could not be.
    pub fn reloaded(&self, worked: bool) {
        let result = if worked { "done" } else { "refused" };
        self.reloads.get_or_create(&Reload { result }).inc();
    }

    /// A caller was refused.
    pub fn refused(&self, view: View, reason: Reason) {
        self.refusals.get_or_create(&Refusal { view: view.name(), reason: reason.name() }).inc();
    }

    /// A customer's dues are in several currencies: the balance was left out.
    pub fn several_currencies(&self) {
        self.several_currencies.inc();
    }

    /// What a sample found.
    pub fn sampled(&self, ready: bool, oldest: Option<Duration>, waiters: usize) {
        self.ready.set(i64::from(ready));
        self.waiters.set(i64::try_from(waiters).unwrap_or(i64::MAX));
        // Not known is not zero.
        self.staleness.set(oldest.unwrap_or(Duration::MAX).as_secs_f64());
    }
}

/// A request that is being answered.
pub struct Open<'a>(&'a Gauge);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
