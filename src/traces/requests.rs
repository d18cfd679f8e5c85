//! The read side: a span for each request that is followed, and one within it for each round trip to the store.

use std::pin::Pin;

use http::{Method, Response, request::Parts};

use super::{
    context::{Context, Parent},
    on,
    span::{Kind, Open, number, text},
};

const TRACEPARENT: &str = "traceparent";

tokio::task_local! {
    /// The request that this task answers, where it is followed.
    static CURRENT: Context;
}

/// Answers a request; where its trace is followed, within a span. `route` is its path without what callers put into
/// it, where it has one. The answer is pinned where it is made: it is large, and moved no further.
pub async fn request<B>(
    asked: &Parts,
    route: impl FnOnce() -> Option<String>,
    answer: Pin<&mut impl Future<Output = Response<B>>>,
) -> Response<B> {
    let followed = on().and_then(|traces| {
        let parent = asked.headers.get(TRACEPARENT).and_then(|value| Parent::parse(value.as_bytes()));
        Some((traces, traces.begin(parent)?))
    });
    let Some((traces, span)) = followed else { return answer.await };
    let reply = CURRENT.scope(span.context(), answer).await;
    let status = reply.status();
    traces.queue.put(|| {
        let (method, known) = method(&asked.method);
        let mut attributes = vec![
            text("http.request.method", method),
            number("http.response.status_code", i64::from(status.as_u16())),
        ];
        let named = if known { method } else { "HTTP" };
        let route = route();
        let name = route.as_ref().map_or_else(|| named.to_owned(), |route| format!("{named} {route}"));
        attributes.extend(route.map(|route| text("http.route", &route)));
        let failed = status.is_server_error();
        attributes.extend(failed.then(|| text("error.type", status.as_str())));
        span.end(Kind::Server, name, attributes, failed.then_some(""))
    });
    reply
}

/// Asks Redis; within a request that is followed, in a span of its own.
pub async fn round_trip<T, E>(
    operation: &'static str,
    call: Pin<&mut impl Future<Output = Result<T, E>>>,
) -> Result<T, E> {
    let followed = on().and_then(|traces| Some((traces, CURRENT.try_with(|parent| *parent).ok()?)));
    let Some((traces, parent)) = followed else { return call.await };
    let span = Open::within(parent);
    let answer = call.await;
    traces.queue.put(|| {
        let attributes = vec![text("db.system.name", "redis"), text("db.operation.name", operation)];
        let failed = answer.is_err();
        span.end(Kind::Client, operation.to_owned(), attributes, failed.then_some(""))
    });
    answer
}

/// The method, unless it is a word of the caller's.
fn method(method: &Method) -> (&str, bool) {
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::OPTIONS,
        Method::PATCH,
        Method::CONNECT,
        Method::TRACE,
    ];
    if known.contains(method) { (method.as_str(), true) } else { ("_OTHER", false) }
}
