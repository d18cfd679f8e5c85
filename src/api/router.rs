//! From a path to a view.

use std::{panic::AssertUnwindSafe, pin::pin, sync::Arc, time::Instant};

use arc_swap::ArcSwap;
use axum::{
    Router,
    extract::{Request, State},
    routing::{MethodRouter, any},
};
use futures::FutureExt as _;
use http::request::Parts;

use super::{
    access::Access,
    account_balance,
    clock::Clock,
    customer_balance,
    freshness::Freshness,
    limits::Buckets,
    metrics::{Metrics, View},
    openapi,
    refusal::Refusals,
    reply::Reply,
    settings::Settings,
    unavailable::Unavailable,
};
use crate::{
    store::{CountStore, ReadStore},
    telemetry::Seldom,
    traces,
};

/// Everything that a request needs.
pub struct Api {
    pub(super) settings: Settings,
    pub(super) clock: Clock,
    pub(super) store: Arc<dyn ReadStore>,
    pub(super) freshness: Arc<Freshness>,
    /// Replaced while requests are answered: each takes what is there when it comes.
    pub(super) access: ArcSwap<Access>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) document: ArcSwap<openapi::Document>,
    pub(super) counts: Arc<dyn CountStore>,
    pub(super) user_buckets: Buckets,
    pub(super) provider_buckets: Buckets,
    pub(super) refusals: Refusals,
    pub(super) away: Seldom,
}

/// The paths of both views; all others say "not found" in the form of the view that they are nearest to.
///
/// Paths are taken as they are: a slash too many is another path.
pub fn router(api: Arc<Api>) -> Router {
    paths(&api.settings.account_base_paths, any(customer), &any(account))
        .route(openapi::PATH, any(document))
        .fallback(nothing)
        .with_state(api)
}

fn paths<S: Clone + Send + Sync + 'static>(
    account_base_paths: &[String],
    customer: MethodRouter<S>,
    account: &MethodRouter<S>,
) -> Router<S> {
    let both = Router::new().route("/api/v1/customers/{id}/balance", customer);
    account_base_paths.iter().fold(both, |router, base| {
        router.route(&format!("{base}/my/accounts/{{id}}/balance"), account.clone())
    })
}

async fn customer(State(api): State<Arc<Api>>, request: Request) -> Reply {
    // The body is not read: neither view has one.
    let (parts, _body) = request.into_parts();
    let Some(id) = segment(parts.uri.path()) else { return Box::pin(not_found(&api, &parts)).await };
    let answer = pin!(customer_balance::answer(&api, &parts, id));
    let answer = pin!(api.observe(View::Customer, answer, || customer_balance::broken(&parts.headers)));
    traces::request(&parts, || template(parts.uri.path()), answer).await
}

async fn account(State(api): State<Arc<Api>>, request: Request) -> Reply {
    let (parts, _body) = request.into_parts();
    let Some(id) = segment(parts.uri.path()) else { return Box::pin(not_found(&api, &parts)).await };
    let answer = pin!(account_balance::answer(&api, &parts, id));
    let answer = pin!(api.observe(View::Account, answer, || account_balance::broken(&parts.headers)));
    traces::request(&parts, || template(parts.uri.path()), answer).await
}

async fn document(State(api): State<Arc<Api>>, request: Request) -> Reply {
    let (parts, _body) = request.into_parts();
    let answer = pin!(async { api.document.load().answer(&parts.method, &parts.headers) });
    traces::request(&parts, || Some(openapi::PATH.to_owned()), answer).await
}

async fn nothing(State(api): State<Arc<Api>>, request: Request) -> Reply {
    not_found(&api, &request.into_parts().0).await
}

async fn not_found(api: &Api, parts: &Parts) -> Reply {
    let answer = pin!(async {
        match nearest(&api.settings.account_base_paths, parts.uri.path()) {
            View::Customer => {
                let answer = async { customer_balance::not_found(&parts.headers) };
                api.observe(View::Customer, answer, || customer_balance::broken(&parts.headers)).await
            }
            View::Account => {
                let answer = async { account_balance::not_found(&parts.headers) };
                api.observe(View::Account, answer, || account_balance::broken(&parts.headers)).await
            }
        }
    });
    traces::request(parts, || None, answer).await
}

impl Api {
    /// Counts why there is no figure. Where the store is why, that is told too, once a minute.
    pub(super) fn unavailable(&self, view: View, reason: &Unavailable) {
        self.metrics.unavailable(view, reason);
        if let Unavailable::Store(error) = reason
            && self.away.is_due()
        {
            tracing::warn!(?view, %error, "reads are refused for the store's sake; told once a minute");
        }
    }

    /// Counts and times an answer. A panic is an answer too, and ends nothing else.
    async fn observe(
        &self,
        view: View,
        answer: impl Future<Output = Reply> + Send,
        broken: impl FnOnce() -> Reply + Send,
    ) -> Reply {
        let started = Instant::now();
        let _open = self.metrics.opened();
        let reply = AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|_panic| {
            tracing::error!("answering a request panicked");
            broken()
        });
        self.metrics.answered(view, reply.status().as_u16(), started.elapsed());
        reply
    }
}

/// The id as it stands in a path that ends in `/{id}/balance`, not decoded. The routes let an empty one through.
fn segment(path: &str) -> Option<&str> {
    path.rsplit('/').nth(1).filter(|id| !id.is_empty())
}

/// The path of a view without the id in it: what stands before it is a route.
fn template(path: &str) -> Option<String> {
    let (before, _) = path.rsplit_once('/')?.0.rsplit_once('/')?;
    Some(format!("{before}/{{id}}/balance"))
}

/// In whose form a path that names nothing is answered, whatever slashes are too many in it.
fn nearest(account_base_paths: &[String], path: &str) -> View {
    fn segments(path: &str) -> impl Iterator<Item = &str> {
        path.split('/').filter(|segment| !segment.is_empty())
    }
    let under = |above: &str| {
        let mut own = segments(path);
        segments(above).all(|segment| own.next() == Some(segment))
    };
    // Every path is under an empty one, which tells nothing.
    let based = account_base_paths.iter().any(|base| !base.is_empty() && under(base));
    if under("/api/v1/customers") || (under("/api") && !based) { View::Customer } else { View::Account }
}

#[cfg(test)]
mod tests {
    use http::{StatusCode, Uri};

    use super::*;

    fn told(view: &str, uri: &Uri) -> Result<String, StatusCode> {
        segment(uri.path()).map(|id| format!("{view} {id}")).ok_or(StatusCode::NOT_FOUND)
    }

    /// Which view a path names and with which id, by the same routes; or in whose form nothing is said.
    async fn named(path: &str) -> (View, Option<String>) {
        let customer = any(async |uri: Uri| told("customer", &uri));
        let account = any(async |uri: Uri| told("account", &uri));
        let bases = ["", "/v1", "/bank/v2", "/api/aisp"].map(str::to_owned);
        let router = paths::<()>(&bases, customer, &account);
        let request = Request::builder().uri(path).body(axum::body::Body::empty()).unwrap();
        let answer = tower::ServiceExt::oneshot(router, request).await.unwrap();
        if answer.status() == StatusCode::NOT_FOUND {
            return (nearest(&bases, path), None);
        }
        let body = axum::body::to_bytes(answer.into_body(), 1_000).await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        match text.split_once(' ').unwrap() {
            ("customer", id) => (View::Customer, Some(id.to_owned())),
            (_, id) => (View::Account, Some(id.to_owned())),
        }
    }

    #[test]
    fn a_route_is_a_path_without_its_id() {
        let rows = [
            ("/api/v1/customers/000152301242008/balance", "/api/v1/customers/{id}/balance"),
            ("/my/accounts/A1/balance", "/my/accounts/{id}/balance"),
            ("/bank/v2/my/accounts/balance/balance", "/bank/v2/my/accounts/{id}/balance"),
        ];
        for (path, route) in rows {
            assert_eq!(template(path).as_deref(), Some(route), "{path}");
        }
    }

    #[tokio::test]
    async fn a_path_is_a_view_or_nothing() {
        let rows = [
            ("/api/v1/customers/000152301242008/balance", View::Customer, Some("000152301242008")),
            ("/api/v1/customers/%2e%2e/balance", View::Customer, Some("%2e%2e")),
            ("/api/v1/customers/balance/balance", View::Customer, Some("balance")),
            ("/api/v1/customers//balance", View::Customer, None),
            ("/api/v1/customers/balance", View::Customer, None),
            ("/api/v1/customers/a/b/balance", View::Customer, None),
            ("/api/v1/customers/a/balance/", View::Customer, None),
            ("//api/v1/customers/a/balance", View::Customer, None),
            ("/api/v1//customers/a/balance", View::Customer, None),
            ("/api/v1/customers/a", View::Customer, None),
            ("/api", View::Customer, None),
            ("/apis", View::Account, None),
            ("/my/accounts/A1/balance", View::Account, Some("A1")),
            ("/v1/my/accounts/A1/balance", View::Account, Some("A1")),
            ("/bank/v2/my/accounts/A1/balance", View::Account, Some("A1")),
            ("/api/aisp/my/accounts/A1/balance", View::Account, Some("A1")),
            ("/api/aisp//my/accounts/A1/balance", View::Account, None),
            ("/api//aisp/my/accounts/A1/balance", View::Account, None),
            ("/api/aisp", View::Account, None),
            ("/api/aisps/my/accounts/A1/balance", View::Customer, None),
            ("/v2/my/accounts/A1/balance", View::Account, None),
            ("/v1/v1/my/accounts/A1/balance", View::Account, None),
            ("/my/accounts/A1/balance/", View::Account, None),
            ("/my/accounts//A1/balance", View::Account, None),
            ("/my/accounts//balance", View::Account, None),
            ("//my/accounts/A1/balance", View::Account, None),
            ("/my/accounts/A1/balances", View::Account, None),
            ("/", View::Account, None),
            ("*", View::Account, None),
        ];
        for (path, view, id) in rows {
            assert_eq!(named(path).await, (view, id.map(str::to_owned)), "{path}");
        }
    }
}
