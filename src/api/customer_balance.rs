//! View one: what a customer owes, for a person on the phone.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::WWW_AUTHENTICATE, request::Parts};
use serde::Serialize;

use super::{
    auth::NotLetIn,
    freshness::RestsOn,
    headers::{Single, percent_decoded, single, visible},
    metrics, min_position,
    refusal::{Reason, Who},
    reply::{self, Basis, Reply, Served},
    router::Api,
    unavailable::Unavailable,
};
use crate::{
    config::OnQuarantine,
    domain::{AccountId, Amount, CellError, Currency, Customer, CustomerId, LastPayment, decode_due},
};
use bytes::Bytes;

const TRACKING_ID: HeaderName = HeaderName::from_static("request-tracking-id");
const PROFILE_ID: HeaderName = HeaderName::from_static("profileid");
/// The longest tracking or profile id, in characters.
const HEADER_ID_MAX: usize = 128;

/// Why there is no figure, in the order in which it is checked.
enum Refused {
    Method,
    Unauthorised(Reason),
    /// The user asks too often; in so long it may again.
    TooMany(Duration),
    /// What is wrong with which header, each.
    Headers(Vec<String>),
    /// The profile is not the user's.
    Profile,
    /// The customer is outside the profile.
    Customer,
    NotFound,
    Unavailable(Unavailable),
    /// A cell that this program cannot read.
    Broken,
}

impl Refused {
    /// Why the caller is refused; none where the fault is on this side.
    fn reason(&self) -> Option<Reason> {
        match self {
            Refused::Method => Some(Reason::Method),
            Refused::Unauthorised(reason) => Some(*reason),
            Refused::TooMany(_) => Some(Reason::Rate),
            Refused::Headers(_) => Some(Reason::Headers),
            Refused::Profile => Some(Reason::Profile),
            Refused::Customer => Some(Reason::Customer),
            Refused::NotFound => Some(Reason::NotFound),
            Refused::Unavailable(_) | Refused::Broken => None,
        }
    }
}

impl From<Unavailable> for Refused {
    fn from(reason: Unavailable) -> Self {
        Refused::Unavailable(reason)
    }
}

/// Answers `…/customers/{customerId}/balance`; `segment` is the id as it stands in the path.
pub async fn answer(api: &Api, request: &Parts, segment: &str) -> Reply {
    let mut caller = None;
    match balance(api, request, segment, &mut caller).await {
        Ok(served) => {
            api.metrics.figure(metrics::View::Customer, served.basis.staleness);
            served.into_reply(&request.headers)
        }
        Err(refused) => {
            if let Refused::Unavailable(reason) = &refused {
                api.unavailable(metrics::View::Customer, reason);
            }
            if let Some(reason) = refused.reason() {
                let who = Who { caller: caller.as_deref(), request: tracking_id(&request.headers) };
                api.refusals.refused(&api.metrics, metrics::View::Customer, reason, &who);
            }
            error(&refused, &request.headers)
        }
    }
}

/// Another path of this view.
pub fn not_found(request: &HeaderMap) -> Reply {
    error(&Refused::NotFound, request)
}

/// A fault of this program.
pub fn broken(request: &HeaderMap) -> Reply {
    error(&Refused::Broken, request)
}

async fn balance(
    api: &Api,
    request: &Parts,
    segment: &str,
    caller: &mut Option<String>,
) -> Result<Served, Refused> {
    let settings = &api.settings;
    if !reply::is_read(&request.method) {
        return Err(Refused::Method);
    }
    let access = api.access.load_full();
    let user = access.basic.user(&request.headers).await.map_err(|refused| match refused {
        NotLetIn::Unauthorised(reason) | NotLetIn::Forbidden(reason, _) => Refused::Unauthorised(reason),
        NotLetIn::Busy(reason) => Refused::Unavailable(reason),
    })?;
    *caller = Some(user.name.clone());
    api.user_buckets.take(&user.name, settings.user_rate, Instant::now()).map_err(Refused::TooMany)?;

    let mut faults = Vec::new();
    let tracking_id = required(&request.headers, &TRACKING_ID, "Request-Tracking-Id", &mut faults);
    let profile_id = required(&request.headers, &PROFILE_ID, "ProfileId", &mut faults);
    let freshness = &api.freshness;
    let wanted = min_position::parse(&request.headers, &settings.topics)
        .ok()
        .filter(|wanted| freshness.view().knows_all(wanted));
    if wanted.is_none() {
        faults.push("Projection-Min-Position - Header is malformed".to_owned());
    }
    let (Some(tracking_id), Some(profile_id), Some(wanted)) = (tracking_id, profile_id, wanted) else {
        return Err(Refused::Headers(faults));
    };

    let id = percent_decoded(segment);
    let profile = user.profiles.get(profile_id).and_then(|id| access.profiles.get(id));
    let profile = profile.ok_or(Refused::Profile)?;
    if !profile.covers(id.as_deref().unwrap_or(segment)) {
        return Err(Refused::Customer);
    }

    freshness.reach(&wanted, settings.min_position_wait_max, settings.min_position_waiters_max).await?;
    let view = freshness.look();
    let Some(id) = id.and_then(|id| CustomerId::parse(&id).ok()) else {
        // No customer can have this id: there is nothing to read.
        view.absent(RestsOn::Customer { home: None }, freshness.max_staleness())?;
        return Err(Refused::NotFound);
    };
    let read = api.store.customer(&id).await.map_err(Unavailable::Store)?.ok_or(Unavailable::NoGeneration)?;
    // Readers may have been pointed to another generation since.
    if !read.snapshot.holds(&wanted) {
        return Err(Refused::Unavailable(Unavailable::PositionNotReached));
    }

    let cell = read.cell.as_deref().map(Customer::figures).transpose().map_err(|error| unreadable(&error))?;
    let rests_on = RestsOn::Customer { home: cell.as_ref().map(Customer::home) };
    let basis = Basis::of(&read.snapshot, rests_on, &view, freshness, &api.clock)?;

    let last_payment = cell.as_ref().map_or(LastPayment::None, Customer::last_payment);
    // Nobody can tell what the log's missing head held of a customer: dues of accounts never seen since included.
    let cut = view.cut(read.snapshot.generation, rests_on);
    let mut incomplete_since = reply::first_set_aside(&read.quarantines).into_iter().chain(cut).min();
    if let LastPayment::Forgotten { since } = last_payment {
        incomplete_since = Some(incomplete_since.map_or(since, |earlier| earlier.min(since)));
    }
    let total = total(&read.dues)?;
    let exists = !matches!(total, Total::NoDue) || cell.as_ref().is_some_and(Customer::exists);
    if incomplete_since.is_some() && (settings.on_quarantine == OnQuarantine::Refuse || !exists) {
        return Err(Refused::Unavailable(Unavailable::Quarantined));
    }
    if !exists {
        return Err(Refused::NotFound);
    }

    let (last_payment_amount, last_payment_date) = match last_payment {
        LastPayment::Paid { amount, paid_on } => (Some(amount.to_short()), Some(paid_on.0.to_string())),
        LastPayment::None | LastPayment::Forgotten { .. } => (None, None),
    };
    let profile = cell.as_ref().and_then(|cell| cell.profile());
    let total = match total {
        Total::Owed(total) => Some(total.to_short()),
        Total::NoDue => None,
        Total::SeveralCurrencies => {
            api.metrics.several_currencies();
            if api.refusals.may_tell("several-currencies") {
                tracing::info!(request = tracking_id, "dues in several currencies: a balance is left out");
            }
            None
        }
    };
    let told_nothing = profile.is_none() && last_payment_amount.is_none() && total.is_none();
    if incomplete_since.is_some() && told_nothing {
        return Err(Refused::Unavailable(Unavailable::Quarantined));
    }
    let facts = Facts {
        billing_name: profile.map(|profile| profile.billing_name.as_str()),
        ivr_fee: profile.map(|profile| profile.ivr_fee.to_short()),
        last_payment_amount,
        last_payment_date,
        balance: total.map(|amount| [Balance { kind: "total", amount }]),
    };
    let facts = serde_json::to_string(&facts).map_err(|_| Refused::Broken)?;
    Ok(Served {
        tag: super::etag::weak(&facts),
        body: with_tracking_id(tracking_id, &facts),
        basis,
        incomplete_since,
        drift: None,
    })
}

/// What is owed over all accounts.
enum Total {
    Owed(Amount),
    NoDue,
    SeveralCurrencies,
}

/// The sum of the dues; those of zero have no currency.
fn total(dues: &[(AccountId, Bytes)]) -> Result<Total, Refused> {
    let mut sum = Amount::ZERO;
    let mut of: Option<Currency> = None;
    for (_, due) in dues {
        for (currency, amount) in decode_due(due).map_err(|error| unreadable(&error))? {
            if of.replace(currency).is_some_and(|other| other != currency) {
                return Ok(Total::SeveralCurrencies);
            }
            sum = sum.wide_add(amount).ok_or(Refused::Broken)?;
        }
    }
    Ok(if dues.is_empty() { Total::NoDue } else { Total::Owed(sum) })
}

fn unreadable(error: &CellError) -> Refused {
    tracing::error!(%error, "a customer's cell or a due cannot be read");
    Refused::Broken
}

/// Members in the order in which clients know them. What has no fact behind it is left out.
#[derive(Serialize)]
struct Facts<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    billing_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ivr_fee: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_payment_amount: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_payment_date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    balance: Option<[Balance; 1]>,
}

#[derive(Serialize)]
struct Balance {
    #[serde(rename = "type")]
    kind: &'static str,
    amount: String,
}

/// The object with the tracking id as its first member.
fn with_tracking_id(tracking_id: &str, object: &str) -> String {
    let members = object.strip_prefix('{').unwrap_or(object);
    let comma = if members == "}" { "" } else { "," };
    format!("{{\"request_tracking_id\":{}{comma}{members}", quoted(tracking_id))
}

/// A JSON string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn tracking_id(request: &HeaderMap) -> Option<&str> {
    match single(request, &TRACKING_ID) {
        Single::Once(value) => visible(value, HEADER_ID_MAX),
        Single::Absent | Single::Repeated => None,
    }
}

/// A required header; what is wrong with it is added to the faults.
fn required<'a>(
    request: &'a HeaderMap,
    header: &HeaderName,
    name: &str,
    faults: &mut Vec<String>,
) -> Option<&'a str> {
    let (value, fault) = match single(request, header) {
        Single::Absent => (None, "Header is a required field"),
        Single::Repeated => (None, "Header is malformed"),
        Single::Once(value) => (visible(value, HEADER_ID_MAX), "Header is malformed"),
    };
    if value.is_none() {
        faults.push(format!("{name} - {fault}"));
    }
    value
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: ErrorFacts<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_tracking_id: Option<&'a str>,
}

#[derive(Serialize)]
struct ErrorFacts<'a> {
    code: &'a str,
    message: &'a str,
    errors: Vec<Message<'a>>,
}

#[derive(Serialize)]
struct Message<'a> {
    message: &'a str,
}

fn error(refused: &Refused, request: &HeaderMap) -> Reply {
    let (status, message, errors) = match refused {
        Refused::Method => {
            (StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed", vec!["Only GET and HEAD are allowed"])
        }
        Refused::Unauthorised(_) => (StatusCode::UNAUTHORIZED, "Unauthorized", vec!["Invalid Credentials"]),
        Refused::TooMany(_) => {
            (StatusCode::TOO_MANY_REQUESTS, "Too Many Requests", vec!["The user asks too often"])
        }
        Refused::Headers(faults) => {
            let faults = faults.iter().map(String::as_str).collect();
            (StatusCode::UNPROCESSABLE_ENTITY, "Validation Error", faults)
        }
        Refused::Profile => (StatusCode::FORBIDDEN, "Forbidden", vec!["ProfileId - Not permitted"]),
        Refused::Customer => (StatusCode::FORBIDDEN, "Forbidden", vec!["customerId - Not permitted"]),
        Refused::NotFound => (StatusCode::NOT_FOUND, "Not Found", vec!["Invalid Resource"]),
        Refused::Unavailable(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable", vec![reason.message()])
        }
        Refused::Broken => {
            (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error", vec!["The request failed"])
        }
    };
    let errors = errors.into_iter().map(|message| Message { message }).collect();
    let body = ErrorBody {
        error: ErrorFacts { code: status.as_str(), message, errors },
        request_tracking_id: tracking_id(request),
    };
    let mut reply = reply::error(status, serde_json::to_string(&body).unwrap_or_default());
    match refused {
        Refused::Method => reply::allow_reads(&mut reply),
        Refused::Unauthorised(_) => {
            let challenge = HeaderValue::from_static("Basic realm=\"balances\", charset=\"UTF-8\"");
            reply.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        Refused::Unavailable(reason) => reply::retry_after(&mut reply, reason),
        Refused::TooMany(wait) => reply::retry_in(&mut reply, *wait),
        Refused::Headers(_) | Refused::Profile | Refused::Customer | Refused::NotFound | Refused::Broken => {}
    }
    reply
}
