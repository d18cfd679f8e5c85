//! View two: an account's balances, for a third-party provider.

use std::time::{Duration, Instant};

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CONTENT_TYPE, WWW_AUTHENTICATE},
    request::Parts,
};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    auth::NotLetIn,
    connections::Peer,
    freshness::RestsOn,
    headers::{Parameter, Single, accepts_json, is_json, parameter, percent_decoded, single, visible},
    metrics, min_position,
    refusal::{Reason, Who},
    reply::{self, Basis, Reply, Served},
    router::Api,
    unavailable::Unavailable,
};
use crate::{
    config::OnQuarantine,
    domain::{Account, AccountId, Amount, BalanceType, CellError, Currency, Day, Figure, FigureError, Time},
    store::Quota,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TPP_NAME: HeaderName = HeaderName::from_static("tpp-name");
const USER_INVOLVED: HeaderName = HeaderName::from_static("user-involved");
/// The longest request id, in characters.
const REQUEST_ID_MAX: usize = 60;

/// Why there is no figure, in the order in which it is checked.
enum Refused {
    Method,
    Unauthorised(Reason),
    Forbidden(Reason),
    Headers(Vec<Fault>),
    NotAcceptable,
    MediaType,
    NotFound(Reason),
    Currency,
    /// One read too many, and in so long there may be another.
    TooMany(Reason, Duration),
    Unavailable(Unavailable),
    /// A cell that this program cannot read.
    Broken,
}

/// What is wrong with which header.
struct Fault {
    error: &'static str,
    scope: &'static str,
}

impl Refused {
    /// Why the caller is refused; none where the fault is on this side.
    fn reason(&self) -> Option<Reason> {
        match self {
            Refused::Method => Some(Reason::Method),
            Refused::Unauthorised(reason)
            | Refused::Forbidden(reason)
            | Refused::NotFound(reason)
            | Refused::TooMany(reason, _) => Some(*reason),
            Refused::Headers(_) => Some(Reason::Headers),
            Refused::NotAcceptable => Some(Reason::NotAcceptable),
            Refused::MediaType => Some(Reason::MediaType),
            Refused::Currency => Some(Reason::Currency),
            Refused::Unavailable(_) | Refused::Broken => None,
        }
    }
}

impl From<Unavailable> for Refused {
    fn from(reason: Unavailable) -> Self {
        Refused::Unavailable(reason)
    }
}

/// Answers `…/my/accounts/{id}/balance`; `segment` is the id as it stands in the path.
pub async fn answer(api: &Api, request: &Parts, segment: &str) -> Reply {
    let mut caller = None;
    let mut reply = match balances(api, request, segment, &mut caller).await {
        Ok(served) => {
            api.metrics.figure(metrics::View::Account, served.basis.staleness);
            served.into_reply(&request.headers)
        }
        Err(refused) => {
            if let Refused::Unavailable(reason) = &refused {
                api.unavailable(metrics::View::Account, reason);
            }
            if let Some(reason) = refused.reason() {
                let who = Who { caller: caller.as_deref(), request: request_id(&request.headers) };
                api.refusals.refused(&api.metrics, metrics::View::Account, reason, &who);
            }
            error(&refused, &api.settings.currency_error_code)
        }
    };
    echo(&mut reply, &request.headers);
    reply
}

/// Another path of this view.
pub fn not_found(request: &HeaderMap) -> Reply {
    let mut reply = error(&Refused::NotFound(Reason::NotFound), "");
    echo(&mut reply, request);
    reply
}

/// A method that is none of this view's, on another path too.
pub fn method_not_allowed(request: &HeaderMap) -> Reply {
    let mut reply = error(&Refused::Method, "");
    echo(&mut reply, request);
    reply
}

/// A fault of this program.
pub fn broken(request: &HeaderMap) -> Reply {
    let mut reply = error(&Refused::Broken, "");
    echo(&mut reply, request);
    reply
}

fn echo(reply: &mut Reply, request: &HeaderMap) {
    if let Some(id) = request_id(request).and_then(|id| HeaderValue::from_str(id).ok()) {
        reply.headers_mut().insert(REQUEST_ID, id);
    }
}

/// The request's own id, where it is well-formed.
fn request_id(request: &HeaderMap) -> Option<&str> {
    match single(request, &REQUEST_ID) {
        Single::Once(value) => visible(value, REQUEST_ID_MAX),
        Single::Absent | Single::Repeated => None,
    }
}

async fn balances(
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
    let provider =
        access.bearer.provider(&request.headers, api.clock.now()).await.map_err(|refused| match refused {
            NotLetIn::Unauthorised(reason) => Refused::Unauthorised(reason),
            NotLetIn::Forbidden(reason, who) => {
                *caller = Some(who);
                Refused::Forbidden(reason)
            }
            NotLetIn::Busy(reason) => Refused::Unavailable(reason),
        })?;
    *caller = Some(provider.client_id.clone());
    if access.match_organisation && !is_of(request.extensions.get::<Peer>(), &request.headers) {
        return Err(Refused::Forbidden(Reason::Organisation));
    }
    // Taken by every request, told in its place: what is wrong with a request is told first.
    let token = api.provider_buckets.take(&provider.client_id, settings.provider_rate, Instant::now());

    let freshness = &api.freshness;
    let wanted = min_position::parse(&request.headers, &settings.topics)
        .ok()
        .filter(|wanted| freshness.view().knows_all(wanted));
    let faults = faults(&request.headers, wanted.is_some());
    let Some(wanted) = wanted.filter(|_| faults.is_empty()) else { return Err(Refused::Headers(faults)) };
    if !accepts_json(&request.headers) {
        return Err(Refused::NotAcceptable);
    }
    if request.headers.get(CONTENT_TYPE).is_some_and(|value| !is_json(value)) {
        return Err(Refused::MediaType);
    }
    tracing::debug!(client_id = provider.client_id, tpp_name = ?request.headers.get(TPP_NAME), "a provider reads");

    freshness.reach(&wanted, settings.min_position_wait_max, settings.min_position_waiters_max).await?;
    let view = freshness.look();
    let id = percent_decoded(segment).and_then(|id| AccountId::parse(&id).ok());
    let consented = id
        .ok_or(Reason::NotFound)
        .and_then(|id| if provider.accounts.contains(&id) { Ok(id) } else { Err(Reason::NotConsented) });
    let id = match consented {
        Ok(id) => id,
        Err(reason) => {
            // Not read at all: how long the answer takes tells nothing of accounts outside the consent.
            view.absent(RestsOn::Account { home: None }, freshness.max_staleness())?;
            return Err(Refused::NotFound(reason));
        }
    };
    let read = api.store.account(&id).await.map_err(Unavailable::Store)?.ok_or(Unavailable::NoGeneration)?;
    // Readers may have been pointed to another generation since.
    if !read.snapshot.holds(&wanted) {
        return Err(Refused::Unavailable(Unavailable::PositionNotReached));
    }

    let account = read.cell.as_deref().map(Account::figures).transpose().map_err(|e| unreadable(&e))?;
    let rests_on = RestsOn::Account { home: account.as_ref().map(Account::home) };
    let basis = Basis::of(&read.snapshot, rests_on, &view, freshness, &api.clock)?;

    let begun = account.as_ref().is_some_and(Account::has_beginning);
    let cut = view.cut(read.snapshot.generation, rests_on).filter(|_| !begun);
    let held = account.as_ref().map(Account::currencies).unwrap_or_default();
    let open = account.filter(|account| !account.is_closed() && !held.is_empty());
    let incomplete_since = reply::first_set_aside(&read.quarantines).into_iter().chain(cut).min();
    if incomplete_since.is_some() && (settings.on_quarantine == OnQuarantine::Refuse || open.is_none()) {
        return Err(Refused::Unavailable(Unavailable::Quarantined));
    }
    let account = open.ok_or(Refused::NotFound(Reason::NotFound))?;

    let asked = match parameter(request.uri.query(), "currency") {
        Parameter::Absent => held,
        Parameter::Once(code) => {
            let asked = Currency::parse(&code).filter(|currency| held.contains(currency));
            vec![asked.ok_or(Refused::Currency)?]
        }
        Parameter::Unreadable => return Err(Refused::Currency),
    };
    token.map_err(|wait| Refused::TooMany(Reason::Rate, wait))?;
    let body = body(&account, &asked, &settings.balance_types, api.clock.today());
    if !user_involved(&request.headers) {
        Box::pin(within_limit(api, &provider.client_id, id, body.is_ok())).await?;
    }
    let body = body?;
    let drift = account.drifts().into_iter().filter(|drift| asked.contains(&drift.currency));
    let drift = drift.map(|drift| drift.as_of).min();
    Ok(Served { tag: super::etag::weak(&body), body, basis, incomplete_since, drift })
}

/// Whether the client's certificate names the organisation of `TPP-Name`; a missing name is told as such.
fn is_of(peer: Option<&Peer>, request: &HeaderMap) -> bool {
    let Single::Once(name) = single(request, &TPP_NAME) else { return true };
    peer.is_some_and(|peer| peer.organisations.iter().any(|own| own.as_bytes() == name.as_bytes()))
}

/// Whether the account's holder takes part in the request.
fn user_involved(request: &HeaderMap) -> bool {
    matches!(single(request, &USER_INVOLVED), Single::Once(value) if value == "true")
}

/// Counts a read without the user, if it will be answered and one is left today.
async fn within_limit(api: &Api, provider: &str, account: AccountId, answered: bool) -> Result<(), Refused> {
    let max = api.settings.unattended_reads_max;
    if max == 0 {
        return Ok(());
    }
    let quota = Quota { day: api.clock.today().0.to_string(), caller: provider.to_owned(), account };
    let left = api.counts.take(&quota, max, answered).await.map_err(|error| {
        api.refusals.cannot_count(&error);
        // Not counted is not answered: else a lost store would lift the limit.
        Unavailable::Store(error)
    })?;
    if left { Ok(()) } else { Err(Refused::TooMany(Reason::Unattended, api.clock.until_tomorrow())) }
}

/// The figures asked for, as JSON.
fn body(
    account: &Account,
    asked: &[Currency],
    balance_types: &[BalanceType],
    today: Day,
) -> Result<String, Refused> {
    let mut balances = Vec::new();
    for currency in asked {
        for balance_type in balance_types {
            let figure = account.figure(*currency, *balance_type, today).ok_or(Refused::Broken)?;
            let figure = figure.map_err(|error| match error {
                FigureError::DaysMerged => Unavailable::DaysMerged,
            })?;
            balances.push(Balance::of(*currency, *balance_type, &figure).ok_or(Refused::Broken)?);
        }
    }
    serde_json::to_string(&Body { balances }).map_err(|_| Refused::Broken)
}

/// What is wrong with the headers, each that is.
fn faults(request: &HeaderMap, min_position_is_readable: bool) -> Vec<Fault> {
    const MISSING: &str = "FIELD_MISSING";
    const INVALID: &str = "FIELD_INVALID";
    let request_id = match single(request, &REQUEST_ID) {
        Single::Absent => Some(MISSING),
        Single::Repeated => Some(INVALID),
        Single::Once(value) => visible(value, REQUEST_ID_MAX).is_none().then_some(INVALID),
    };
    let tpp_name = match single(request, &TPP_NAME) {
        Single::Absent => Some(MISSING),
        Single::Repeated => Some(INVALID),
        Single::Once(value) => value.is_empty().then_some(INVALID),
    };
    let repeated = |name: &HeaderName| (single(request, name) == Single::Repeated).then_some(INVALID);
    let all = [
        (request_id, "X-Request-ID"),
        (tpp_name, "TPP-Name"),
        (repeated(&USER_INVOLVED), "User-Involved"),
        (repeated(&CONTENT_TYPE), "Content-Type"),
        ((!min_position_is_readable).then_some(INVALID), "Projection-Min-Position"),
    ];
    all.into_iter().filter_map(|(error, scope)| error.map(|error| Fault { error, scope })).collect()
}

fn unreadable(error: &CellError) -> Refused {
    tracing::error!(%error, "an account's cell cannot be read");
    Refused::Broken
}

#[derive(Serialize)]
struct Body {
    balances: Vec<Balance>,
}

/// Members in the order of the standard's example.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Balance {
    r#type: Type,
    #[serde(skip_serializing_if = "Option::is_none")]
    credit_line: Option<Line>,
    amount: Money,
    credit_debit_indicator: &'static str,
    date: Date,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Type {
    code_or_proprietary: Code,
}

#[derive(Serialize)]
struct Code {
    code: BalanceType,
}

#[derive(Serialize)]
struct Line {
    included: bool,
    amount: Money,
}

#[derive(Serialize)]
struct Money {
    /// A number with exactly the currency's decimals: written as text, for no float holds it.
    value: Box<RawValue>,
    currency: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Date {
    date_time: String,
}

impl Balance {
    fn of(currency: Currency, balance_type: BalanceType, figure: &Figure) -> Option<Self> {
        let credit_line = match figure.credit_line {
            None => None,
            Some(line) => Some(Line { included: line.included, amount: Money::of(currency, line.amount)? }),
        };
        Some(Balance {
            r#type: Type { code_or_proprietary: Code { code: balance_type } },
            credit_line,
            amount: Money::of(currency, figure.amount)?,
            credit_debit_indicator: if figure.amount.is_negative() { "DBIT" } else { "CRDT" },
            date: Date { date_time: date_time(figure.time) },
        })
    }
}

impl Money {
    fn of(currency: Currency, amount: Amount) -> Option<Self> {
        let value = RawValue::from_string(amount.to_unsigned(currency.decimals())).ok()?;
        Some(Money { value, currency: currency.as_str().to_owned() })
    }
}

/// UTC with at least one digit of fraction, as in the standard's example.
fn date_time(time: Time) -> String {
    let text = time.0.to_string();
    match text.strip_suffix('Z') {
        Some(seconds) if !seconds.contains('.') => format!("{seconds}.0Z"),
        Some(_) | None => text,
    }
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    errors: Vec<ErrorFact<'a>>,
}

#[derive(Serialize)]
struct ErrorFact<'a> {
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
}

fn error(refused: &Refused, currency_error_code: &str) -> Reply {
    let one = |error| vec![ErrorFact { error, scope: None }];
    let (status, errors) = match refused {
        Refused::Method => (StatusCode::METHOD_NOT_ALLOWED, one("METHOD_NOT_ALLOWED")),
        Refused::Unauthorised(_) => (StatusCode::UNAUTHORIZED, one("UNAUTHORISED")),
        Refused::Forbidden(_) => (StatusCode::FORBIDDEN, one("FORBIDDEN")),
        Refused::Headers(faults) => {
            let errors = faults.iter().map(|f| ErrorFact { error: f.error, scope: Some(f.scope) });
            (StatusCode::BAD_REQUEST, errors.collect())
        }
        Refused::NotAcceptable => (StatusCode::NOT_ACCEPTABLE, one("NOT_ACCEPTABLE")),
        Refused::MediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, one("UNSUPPORTED_MEDIA_TYPE")),
        Refused::NotFound(_) => (StatusCode::NOT_FOUND, one("ID_NOT_FOUND")),
        Refused::Currency => {
            let errors = vec![ErrorFact { error: currency_error_code, scope: Some("currency") }];
            (StatusCode::BAD_REQUEST, errors)
        }
        Refused::TooMany(..) => (StatusCode::TOO_MANY_REQUESTS, one("TOO_MANY_REQUESTS")),
        Refused::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, one("SERVICE_UNAVAILABLE")),
        Refused::Broken => (StatusCode::INTERNAL_SERVER_ERROR, one("INTERNAL_SERVER_ERROR")),
    };
    let body = serde_json::to_string(&ErrorBody { errors }).unwrap_or_default();
    let mut reply = reply::error(status, body);
    match refused {
        Refused::Method => reply::allow_reads(&mut reply),
        Refused::Unauthorised(_) => {
            reply.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        Refused::Unavailable(reason) => reply::retry_after(&mut reply, reason),
        Refused::TooMany(_, wait) => reply::retry_in(&mut reply, *wait),
        Refused::Forbidden(_)
        | Refused::Headers(_)
        | Refused::NotAcceptable
        | Refused::MediaType
        | Refused::NotFound(_)
        | Refused::Currency
        | Refused::Broken => {}
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_has_at_least_one_digit_of_fraction() {
        let rows = [
            ("2017-02-17T12:32:41Z", "2017-02-17T12:32:41.0Z"),
            ("2017-02-17T12:32:41.500Z", "2017-02-17T12:32:41.5Z"),
            ("2017-02-17T13:32:41.123456789+01:00", "2017-02-17T12:32:41.123456789Z"),
        ];
        for (time, expected) in rows {
            assert_eq!(date_time(Time(time.parse().unwrap())), expected);
        }
    }
}
