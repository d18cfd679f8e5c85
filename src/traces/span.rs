//! A span that is open, and what it says once it has ended.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::{Span, Status, span::Link, status::StatusCode},
};

use super::context::Context;

pub(super) use opentelemetry_proto::tonic::trace::v1::span::SpanKind as Kind;

/// The flags of a span or a link: sampled, and that it is known whether the parent is of another process.
const FLAGS: u32 = 0x101;
/// It is.
const REMOTE: u32 = 0x200;

/// A span that has begun.
pub(super) struct Open {
    context: Context,
    parent: Option<[u8; 8]>,
    flags: u32,
    began: Moment,
}

/// Nanoseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(u64);

impl Moment {
    #[allow(clippy::disallowed_methods, reason = "a span says when; no fold and no answer rests on it")]
    pub(super) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Moment(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl Open {
    /// The first span of a trace.
    pub(super) fn root() -> Self {
        Self::new(rand::random(), None, FLAGS)
    }

    /// The span of a caller's request, or of its record.
    pub(super) fn of_caller(caller: Context) -> Self {
        Self::new(caller.trace, Some(caller.span), FLAGS | REMOTE)
    }

    /// A part of another span of this process.
    pub(super) fn within(parent: Context) -> Self {
        Self::new(parent.trace, Some(parent.span), FLAGS)
    }

    fn new(trace: [u8; 16], parent: Option<[u8; 8]>, flags: u32) -> Self {
        Open { context: Context { trace, span: rand::random() }, parent, flags, began: Moment::now() }
    }

    /// The same, having begun at another moment.
    pub(super) fn since(self, began: Moment) -> Self {
        Open { began, ..self }
    }

    pub(super) fn context(&self) -> Context {
        self.context
    }

    /// Ends it now. `failure` is a word of this program's.
    pub(super) fn end(
        &self,
        kind: Kind,
        name: String,
        attributes: Vec<KeyValue>,
        failure: Option<&str>,
    ) -> Span {
        Span {
            trace_id: self.context.trace.to_vec(),
            span_id: self.context.span.to_vec(),
            parent_span_id: self.parent.map(|parent| parent.to_vec()).unwrap_or_default(),
            flags: self.flags,
            name,
            kind: kind.into(),
            start_time_unix_nano: self.began.0,
            end_time_unix_nano: Moment::now().max(self.began).0,
            attributes,
            status: failure
                .map(|failure| Status { message: failure.to_owned(), code: StatusCode::Error.into() }),
            ..Span::default()
        }
    }
}

/// A reference to another span of this process.
pub(super) fn link(to: Context) -> Link {
    Link { trace_id: to.trace.to_vec(), span_id: to.span.to_vec(), flags: FLAGS, ..Link::default() }
}

/// An attribute.
pub(super) fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

/// An attribute.
pub(super) fn number(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
