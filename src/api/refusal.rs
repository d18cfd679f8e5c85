//! Why a caller is refused: counted by reason, and logged without secrets.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use crate::store::StoreError;

use super::{
    limits::{Buckets, Rate},
    metrics::{Metrics, View},
};

/// Lines of the log for one reason; what is beyond is counted, and told with the next line.
const LOGGED: Rate = Rate { per_second: 5, burst: 50 };

macro_rules! reasons {
    ($($(#[$doc:meta])+ $variant:ident = $name:literal,)+) => {
        /// Why a caller is refused. The caller itself is told less.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Reason {
            $($(#[$doc])+ $variant,)+
        }

        impl Reason {
            /// Each of them, once.
            pub const ALL: &[Reason] = &[$(Reason::$variant),+];

            /// The name in metrics and in the log.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Reason::$variant => $name,)+
                }
            }
        }
    };
}

reasons! {
    /// Neither GET nor HEAD.
    Method = "method",
    /// Credentials are missing, repeated, or of another scheme.
    NoCredentials = "no-credentials",
    /// The user or the password is wrong.
    WrongPassword = "wrong-password",
    /// No token of the configuration, and none that could be verified.
    UnknownToken = "unknown-token",
    /// Longer than any token may be.
    OversizedToken = "oversized-token",
    /// No token, or one whose header or claims cannot be read.
    MalformedToken = "malformed-token",
    /// Signed in a way that is not taken, or not that of its key.
    WrongAlgorithm = "wrong-algorithm",
    /// Signed with a key that the issuer does not have.
    UnknownKey = "unknown-key",
    /// The signature is not the key's.
    BadSignature = "bad-signature",
    /// Another issuer's.
    WrongIssuer = "wrong-issuer",
    /// For somebody else.
    WrongAudience = "wrong-audience",
    /// The token's time has not begun.
    NotYetValid = "not-yet-valid",
    /// The token is for something else.
    Scope = "scope",
    /// The certificate does not name the organisation of `TPP-Name`.
    Organisation = "organisation",
    /// The API key is not the provider's, or the provider is not known.
    WrongApiKey = "wrong-api-key",
    /// The token's time is over.
    Expired = "expired",
    /// A provider on the block list.
    Blocked = "blocked",
    /// A required header is missing or malformed.
    Headers = "headers",
    /// The profile is not the user's.
    Profile = "profile",
    /// The customer is outside the profile.
    Customer = "customer",
    /// JSON is not acceptable.
    NotAcceptable = "not-acceptable",
    /// A content type that is not JSON.
    MediaType = "media-type",
    /// An id that nobody can have, a path that names nothing, or a subject that is not there.
    NotFound = "not-found",
    /// Outside the consent; answered as an absent account is.
    NotConsented = "not-consented",
    /// A currency that the account does not hold.
    Currency = "currency",
    /// The caller asks too often.
    Rate = "rate",
    /// The provider has read the account often enough today without its user.
    Unattended = "unattended",
}

/// What is told of a refusal besides its reason: nothing that opens anything.
#[derive(Debug, Default)]
pub struct Who<'a> {
    /// The verified caller: a user of view one or a provider.
    pub caller: Option<&'a str>,
    /// The request's own id, where it is well-formed.
    pub request: Option<&'a str>,
}

/// Counts and logs.
pub struct Refusals {
    lines: Buckets,
    left_out: AtomicU64,
}

impl Refusals {
    /// Nothing was refused yet.
    pub fn new() -> Self {
        Refusals { lines: Buckets::new(), left_out: AtomicU64::new(0) }
    }

    /// Logs that a read could not be counted, now and then.
    pub fn cannot_count(&self, error: &StoreError) {
        if self.may_tell("cannot-count") {
            tracing::warn!(%error, "a read without its user cannot be counted, and is not answered");
        }
    }

    /// Whether something that is counted may be logged too, now and then.
    pub fn may_tell(&self, what: &'static str) -> bool {
        self.lines.take(what, LOGGED, Instant::now()).is_ok()
    }

    /// Counts a refusal, and logs it unless its like floods the log.
    pub fn refused(&self, metrics: &Metrics, view: View, reason: Reason, who: &Who<'_>) {
        metrics.refused(view, reason);
        if self.lines.take(reason.name(), LOGGED, Instant::now()).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        tracing::info!(
            view = view.name(),
            reason = reason.name(),
            caller = who.caller,
            request = who.request,
            left_out_before = self.left_out.swap(0, Ordering::Relaxed),
            "refused"
        );
    }
}
