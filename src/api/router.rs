//! From a path to a view.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Instant};

use futures::FutureExt as _;
use http::{Request, request::Parts};
use hyper::body::Incoming;

use super::{
    account_balance,
    auth::{BasicAuth, BearerAuth},
    clock::Clock,
    connections::Answers,
    customer_balance,
    freshness::Freshness,
    metrics::{self, Metrics},
    reply::Reply,
    settings::Settings,
};
use crate::store::ReadStore;

/// Everything that a request needs.
pub struct Api {
    pub(super) settings: Settings,
    pub(super) clock: Clock,
    pub(super) store: Arc<dyn ReadStore>,
    pub(super) freshness: Arc<Freshness>,
    pub(super) basic: BasicAuth,
    pub(super) bearer: BearerAuth,
    pub(super) metrics: Arc<Metrics>,
}

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route<'a> {
    /// View one; the id as it stands in the path.
    Customer(&'a str),
    /// View two; the id as it stands in the path.
    Account(&'a str),
    /// Nothing, said in this view's form.
    Nothing(metrics::View),
}

impl Answers for Api {
    async fn answer(&self, request: Request<Incoming>) -> Reply {
        let started = Instant::now();
        let _open = self.metrics.opened();
        // The body is not read: neither view has one.
        let (parts, _body) = request.into_parts();
        let route = route(parts.uri.path(), &self.settings.account_base_paths);
        let answered = AssertUnwindSafe(self.by_route(route, &parts)).catch_unwind().await;
        let reply = answered.unwrap_or_else(|_panic| {
            tracing::error!("answering a request panicked");
            match route.view() {
                metrics::View::Customer => customer_balance::broken(&parts.headers),
                metrics::View::Account => account_balance::broken(&parts.headers),
            }
        });
        self.metrics.answered(route.view(), reply.status().as_u16(), started.elapsed());
        reply
    }
}

impl Api {
    async fn by_route(&self, route: Route<'_>, request: &Parts) -> Reply {
        match route {
            Route::Customer(id) => customer_balance::answer(self, request, id).await,
            Route::Account(id) => account_balance::answer(self, request, id).await,
            Route::Nothing(metrics::View::Customer) => customer_balance::not_found(&request.headers),
            Route::Nothing(metrics::View::Account) => account_balance::not_found(&request.headers),
        }
    }
}

impl Route<'_> {
    fn view(self) -> metrics::View {
        match self {
            Route::Customer(_) => metrics::View::Customer,
            Route::Account(_) => metrics::View::Account,
            Route::Nothing(view) => view,
        }
    }
}

/// Paths are taken as they are: a slash too many is another path.
fn route<'a>(path: &'a str, account_base_paths: &[String]) -> Route<'a> {
    if let Some(id) = between(path, "/api/v1/customers/", "/balance") {
        return Route::Customer(id);
    }
    let account = account_base_paths
        .iter()
        .filter_map(|base| path.strip_prefix(base.as_str()))
        .find_map(|rest| between(rest, "/my/accounts/", "/balance"));
    if let Some(id) = account {
        return Route::Account(id);
    }
    let bare = path.trim_start_matches('/');
    Route::Nothing(match bare.strip_prefix("api") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => metrics::View::Customer,
        Some(_) | None => metrics::View::Account,
    })
}

/// The one segment between two fixed parts.
fn between<'a>(path: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let segment = path.strip_prefix(before)?.strip_suffix(after)?;
    (!segment.is_empty() && !segment.contains('/')).then_some(segment)
}

#[cfg(test)]
mod tests {
    use super::{metrics::View, *};

    #[test]
    fn a_path_is_a_view_or_nothing() {
        let bases = [String::new(), "/v1".to_owned(), "/bank/v2".to_owned()];
        let rows = [
            ("/api/v1/customers/000152301242008/balance", Route::Customer("000152301242008")),
            ("/api/v1/customers/%2e%2e/balance", Route::Customer("%2e%2e")),
            ("/api/v1/customers/balance/balance", Route::Customer("balance")),
            ("/api/v1/customers//balance", Route::Nothing(View::Customer)),
            ("/api/v1/customers/balance", Route::Nothing(View::Customer)),
            ("/api/v1/customers/a/b/balance", Route::Nothing(View::Customer)),
            ("/api/v1/customers/a/balance/", Route::Nothing(View::Customer)),
            ("//api/v1/customers/a/balance", Route::Nothing(View::Customer)),
            ("/api/v1//customers/a/balance", Route::Nothing(View::Customer)),
            ("/api/v1/customers/a", Route::Nothing(View::Customer)),
            ("/api", Route::Nothing(View::Customer)),
            ("/apis", Route::Nothing(View::Account)),
            ("/my/accounts/A1/balance", Route::Account("A1")),
            ("/v1/my/accounts/A1/balance", Route::Account("A1")),
            ("/bank/v2/my/accounts/A1/balance", Route::Account("A1")),
            ("/v2/my/accounts/A1/balance", Route::Nothing(View::Account)),
            ("/v1/v1/my/accounts/A1/balance", Route::Nothing(View::Account)),
            ("/my/accounts/A1/balance/", Route::Nothing(View::Account)),
            ("/my/accounts//A1/balance", Route::Nothing(View::Account)),
            ("/my/accounts//balance", Route::Nothing(View::Account)),
            ("//my/accounts/A1/balance", Route::Nothing(View::Account)),
            ("/my/accounts/A1/balances", Route::Nothing(View::Account)),
            ("/", Route::Nothing(View::Account)),
            ("*", Route::Nothing(View::Account)),
        ];
        for (path, expected) in rows {
            assert_eq!(route(path, &bases), expected, "{path}");
        }
    }
}
