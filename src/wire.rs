//! Bytes → event, in both `CloudEvents` modes; or the dead letter's class.

use crate::domain::{Event, Offset, Parameters, Rejection, Subject, Time, Topic};

/// A record as it came from Kafka, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// The topic that it came from.
    pub topic: Topic,
    /// Its offset.
    pub offset: Offset,
    /// Its Kafka timestamp.
    pub timestamp: Time,
    /// Its key, where it has one.
    pub key: Option<&'a [u8]>,
    /// Its value, where it has one.
    pub value: Option<&'a [u8]>,
    /// Its headers in order; a header may have no value.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
}

/// The subject that the record's key names, where it is usable: whom a dead letter quarantines.
pub fn subject(record: &Record<'_>) -> Option<Subject> {
    let key = std::str::from_utf8(record.key?).ok()?;
    Subject::of_key(record.topic, key).ok()
}

/// Reads a record, or tells the first dead-letter class that applies, from `tombstone` to
/// `unknown-currency`.
pub fn decode(record: &Record<'_>, parameters: &Parameters) -> Result<Event, Rejection> {
    let _ = parameters;
    let _ = record;
    unimplemented!()
}
