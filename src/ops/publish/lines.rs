//! Lines, each read within a bound and checked before anything of it is sent.

use std::{borrow::Cow, fmt, io::BufRead};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};

use crate::{
    config::Config,
    domain::{Class, Parameters, Rejection, Time, Topic},
    wire,
};

/// The lines of an input, each at most so long: memory stays bounded whatever comes.
pub(super) struct Lines<R> {
    input: R,
    line: Vec<u8>,
    line_bytes_max: usize,
    number: u64,
    bytes_read: u64,
}

/// One line.
pub(super) struct Line<'a> {
    /// From 1.
    pub(super) number: u64,
    /// Of the whole input so far.
    pub(super) bytes_read: u64,
    /// Without its end; `None` where it is too long.
    pub(super) text: Option<&'a [u8]>,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R, line_bytes_max: usize) -> Self {
        Lines { input, line: Vec::new(), line_bytes_max, number: 0, bytes_read: 0 }
    }

    /// The next line, or `None` at the end.
    pub(super) fn next(&mut self) -> std::io::Result<Option<Line<'_>>> {
        self.line.clear();
        let mut length = 0_usize;
        loop {
            let chunk = self.input.fill_buf()?;
            let end = chunk.iter().position(|b| *b == b'\n');
            let part = end.and_then(|end| chunk.get(..end)).unwrap_or(chunk);
            let at_end = chunk.is_empty();
            length = length.saturating_add(part.len());
            if length <= self.line_bytes_max {
                self.line.extend_from_slice(part);
            }
            let taken = part.len().saturating_add(usize::from(end.is_some()));
            self.input.consume(taken);
            self.bytes_read = self.bytes_read.saturating_add(u64::try_from(taken).unwrap_or(u64::MAX));
            if at_end && length == 0 {
                return Ok(None);
            }
            if at_end || end.is_some() {
                break;
            }
        }
        self.number = self.number.saturating_add(1);
        let text = (length <= self.line_bytes_max).then_some(self.line.as_slice());
        Ok(Some(Line { number: self.number, bytes_read: self.bytes_read, text }))
    }
}

/// What may be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) topic: Topic,
    pub(super) key: Option<Cow<'a, [u8]>>,
    pub(super) value: Option<Cow<'a, [u8]>>,
    /// `None`: those of a structured event.
    pub(super) headers: Option<Headers>,
}

/// What is wrong with a line: the class of the dead letter that it would become, and the fault.
#[derive(Debug)]
pub(super) enum Fault {
    /// No event that would be folded.
    Rejected(Rejection),
    /// A raw record that cannot be sent as it is written.
    Raw(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Rejected(rejection) => rejection.fmt(f),
            Fault::Raw(message) => write!(f, "raw: {message}"),
        }
    }
}

/// Checks lines by the rules that the projector holds records to.
pub(super) struct Checker {
    parameters: Parameters,
    raw: bool,
    now: Time,
    checked: u64,
}

impl Checker {
    pub(super) fn new(config: &Config, raw: bool) -> Self {
        // A single record's check takes no fingerprints: the key does not matter.
        let parameters = config.parameters();
        Checker { parameters, raw, now: now(), checked: 0 }
    }

    /// A value within the limit may be longer as a raw line, where it is escaped.
    pub(super) fn line_bytes_max(&self) -> usize {
        self.parameters.value_bytes_max.saturating_mul(if self.raw { 8 } else { 1 }).saturating_add(4_096)
    }

    pub(super) fn too_long(&self) -> Fault {
        let max = self.parameters.value_bytes_max;
        Fault::Rejected(Rejection::new(Class::TooLarge, format!("the line is longer than {max} bytes")))
    }

    /// What to send for a line; nothing for an empty one.
    pub(super) fn check<'a>(&mut self, line: &'a [u8]) -> Result<Option<Record<'a>>, Fault> {
        /// The clock is asked now and then: `time` is held to a day.
        const STRIDE: u64 = 4_096;
        self.checked = self.checked.wrapping_add(1);
        if self.checked.is_multiple_of(STRIDE) {
            self.now = now();
        }
        let line = line.trim_ascii();
        if line.is_empty() {
            return Ok(None);
        }
        if is_raw(line) {
            return self.raw(line).map(Some);
        }
        let (topic, key) = wire::check_line(line, self.now, &self.parameters).map_err(Fault::Rejected)?;
        let key = Cow::Owned(key.as_str().as_bytes().to_vec());
        Ok(Some(Record { topic, key: Some(key), value: Some(Cow::Borrowed(line)), headers: None }))
    }

    fn raw<'a>(&self, line: &'a [u8]) -> Result<Record<'a>, Fault> {
        if !self.raw {
            return Err(Fault::Raw("is sent with --raw only".to_owned()));
        }
        let RawLine { raw } = serde_json::from_slice(line).map_err(|e| Fault::Raw(e.to_string()))?;
        let value = match (raw.value, raw.value_base64) {
            (None, None) => None,
            (Some(text), None) => Some(text.into_bytes()),
            (None, Some(base64)) => {
                Some(STANDARD.decode(base64).map_err(|e| Fault::Raw(format!("value_base64: {e}")))?)
            }
            (Some(_), Some(_)) => return Err(Fault::Raw("holds both value and value_base64".to_owned())),
        };
        Ok(Record {
            topic: raw.topic,
            key: raw.key.map(|key| Cow::Owned(key.into_bytes())),
            value: value.map(Cow::Owned),
            headers: Some(raw.headers),
        })
    }
}

fn is_raw(line: &[u8]) -> bool {
    line.strip_prefix(b"{").is_some_and(|rest| rest.trim_ascii_start().starts_with(br#""raw""#))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLine {
    raw: RawRecord,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRecord {
    topic: Topic,
    key: Option<String>,
    value: Option<String>,
    value_base64: Option<String>,
    #[serde(default, deserialize_with = "headers")]
    headers: Headers,
}

/// In order; a name may stand there several times.
pub(super) type Headers = Vec<(String, Option<String>)>;

fn headers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Headers, D::Error> {
    struct InOrder;
    impl<'de> Visitor<'de> for InOrder {
        type Value = Headers;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object of headers")
        }

        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Headers, M::Error> {
            std::iter::from_fn(|| map.next_entry().transpose()).collect()
        }
    }
    deserializer.deserialize_map(InOrder)
}

/// The instant that the broker will stamp the record with, about.
#[allow(clippy::disallowed_methods, reason = "the command stands where the publisher's clock is")]
fn now() -> Time {
    Time(jiff::Timestamp::now())
}
