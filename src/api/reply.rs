//! What both views put into an answer.

use std::time::{Duration, Instant};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER},
};

use super::{
    clock::Clock,
    etag,
    freshness::{Freshness, Look, RestsOn},
    limits,
    unavailable::Unavailable,
};
use crate::{
    domain::Time,
    store::{Generation, Quarantine, Snapshot},
};

/// An answer: all of them are short texts.
pub type Reply = Response<String>;

const AS_OF: HeaderName = HeaderName::from_static("projection-as-of");
const GENERATION: HeaderName = HeaderName::from_static("projection-generation");
const INCOMPLETE_SINCE: HeaderName = HeaderName::from_static("projection-incomplete-since");
const DRIFT: HeaderName = HeaderName::from_static("projection-drift");

/// What a figure rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Basis {
    /// Which build of the projection.
    pub generation: Generation,
    /// Everything that the broker held by then is in it.
    pub as_of: Time,
    /// How long ago that was.
    pub staleness: Duration,
}

impl Basis {
    /// What a read rests on, or why it may not be believed. The view was taken before the read.
    pub fn of(
        snapshot: &Snapshot,
        rests_on: RestsOn,
        view: &Look,
        freshness: &Freshness,
        clock: &Clock,
    ) -> Result<Self, Unavailable> {
        if view.fell_behind(snapshot) {
            return Err(Unavailable::WentBack);
        }
        // The wall clock first: what passes until the other is read makes the answer older, not younger.
        let wall = clock.now();
        let staleness = view.staleness(snapshot, rests_on, freshness.max_staleness(), Instant::now())?;
        freshness.served(view, snapshot);
        Ok(Basis { generation: snapshot.generation, as_of: Clock::before(wall, staleness), staleness })
    }
}

/// A figure on its way out.
#[derive(Debug)]
pub struct Served {
    /// The whole body.
    pub body: String,
    /// The weak tag of the body without the tracking id.
    pub tag: String,
    /// What it rests on.
    pub basis: Basis,
    /// Since when something is missing from it, if something is.
    pub incomplete_since: Option<Time>,
    /// The first statement that disagreed, if one did.
    pub drift: Option<Time>,
}

impl Served {
    /// 200, or 304 where the caller holds this body.
    pub fn into_reply(self, request: &HeaderMap) -> Reply {
        let held = etag::matches(request.get_all(IF_NONE_MATCH), &self.tag);
        let mut reply = if held {
            let mut reply = Reply::default();
            *reply.status_mut() = StatusCode::NOT_MODIFIED;
            reply
        } else {
            json(StatusCode::OK, self.body)
        };
        reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        set(&mut reply, ETAG, self.tag);
        set(&mut reply, AS_OF, format!("{:.3}", self.basis.as_of.0));
        set(&mut reply, GENERATION, self.basis.generation.0.to_string());
        if let Some(since) = self.incomplete_since {
            set(&mut reply, INCOMPLETE_SINCE, since.0.to_string());
        }
        if let Some(as_of) = self.drift {
            set(&mut reply, DRIFT, as_of.0.to_string());
        }
        reply
    }
}

/// A body of JSON.
pub fn json(status: StatusCode, body: String) -> Reply {
    let mut reply = Reply::new(body);
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// An error: not to be kept, for the next answer may be another.
pub fn error(status: StatusCode, body: String) -> Reply {
    let mut reply = json(status, body);
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

/// Puts a header made here, which is always visible ASCII.
pub fn set(reply: &mut Reply, name: HeaderName, text: String) {
    if let Ok(value) = HeaderValue::try_from(text) {
        reply.headers_mut().insert(name, value);
    }
}

/// Both views are read.
pub fn is_read(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// With 405.
pub fn allow_reads(reply: &mut Reply) {
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
}

/// With 503.
pub fn retry_after(reply: &mut Reply, reason: &Unavailable) {
    reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from(reason.retry_after_seconds()));
}

/// With 429.
pub fn retry_in(reply: &mut Reply, wait: Duration) {
    reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from(limits::seconds(wait)));
}

/// When the first dead letter was set aside.
pub fn first_set_aside(quarantines: &[Quarantine]) -> Option<Time> {
    quarantines.iter().map(|quarantine| quarantine.since).min()
}
