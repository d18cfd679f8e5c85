//! Bytes → event, in both `CloudEvents` modes; or the dead letter's class.

mod json;
mod members;
mod read;

use smallvec::SmallVec;

use self::{
    json::Fault,
    members::{Data, Envelope},
    read::{Carrier, Faults},
};
use crate::domain::{Class, Event, Offset, Parameters, Rejection, Subject, Time, Topic};

/// The content type of a structured event, as `publish` sends it.
pub const STRUCTURED: &str = "application/cloudevents+json; charset=utf-8";

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
    subject_of(record.topic, record.key)
}

/// The subject that a key names in a topic, where there is one and it is usable.
pub fn subject_of(topic: Topic, key: Option<&[u8]>) -> Option<Subject> {
    let key = std::str::from_utf8(key?).ok()?;
    Subject::of_key(topic, key).ok()
}

/// Reads a record, or tells the first dead-letter class that applies, from `tombstone` to
/// `unknown-currency`.
pub fn decode(record: &Record<'_>, parameters: &Parameters) -> Result<Event, Rejection> {
    decode_for(record, subject(record).as_ref(), parameters)
}

/// [`decode`], for who knows already what [`subject`] says of the record.
pub fn decode_for(
    record: &Record<'_>,
    subject: Option<&Subject>,
    parameters: &Parameters,
) -> Result<Event, Rejection> {
    read_as_far(record, subject, parameters, false)
}

/// What stands around the data of an event that cannot be read whole, where that can: whose event it is, and which
/// number it has used up. Its fact is that of an ignored type.
pub fn around_the_data(record: &Record<'_>, subject: &Subject, parameters: &Parameters) -> Option<Event> {
    read_as_far(record, Some(subject), parameters, true).ok()
}

fn read_as_far(
    record: &Record<'_>,
    subject: Option<&Subject>,
    parameters: &Parameters,
    envelope_alone: bool,
) -> Result<Event, Rejection> {
    let value = record
        .value
        .ok_or_else(|| Rejection::new(Class::Tombstone, "the record has no value; an event is required"))?;
    check_size(value, parameters)?;
    if record.key.is_none() {
        return Err(Rejection::new(Class::NoKey, "the record has no key; it must be the event's subject"));
    }
    let key = subject.ok_or_else(|| bad_key("the record's key", record.topic))?;
    let headers = Headers::read(record.headers)?;
    let text = utf_8(value)?;

    let (mut envelope, mut data, mut faults) = (Envelope::new(), Data::new(), Faults::default());
    match headers.mode {
        Mode::Structured => read_structured(&mut envelope, &mut data, text, parameters, &mut faults)?,
        Mode::Binary | Mode::Neither => {
            let scanned = envelope.scan_data(&mut data, text, parameters.depth_max);
            scanned.map_err(|fault| unreadable(fault, text, parameters))?;
        }
    }
    match headers.mode {
        Mode::Structured => {}
        Mode::Binary => headers.attributes(&mut envelope, &mut faults),
        Mode::Neither => {
            let message = "neither content-type application/cloudevents+json nor any ce_ header";
            return Err(Rejection::new(Class::NotCloudevents, message));
        }
    }
    let types_ignored = &parameters.types_ignored;
    let carrier = Carrier {
        topic: record.topic,
        key: Some(key),
        timestamp: record.timestamp,
        types_ignored,
        envelope_alone,
    };
    read::event(&envelope, &data, &carrier, faults)
}

/// Checks a line of NDJSON that holds a structured event, before it is published: the topic in which and the
/// subject by whose id a record of it belongs, or what that record would be rejected for.
///
/// `now` stands for the record's timestamp. An event that names nobody has `missing-field`, not the `no-key` of a
/// record that cannot be made.
pub fn check_line(line: &[u8], now: Time, parameters: &Parameters) -> Result<(Topic, Subject), Rejection> {
    check_size(line, parameters)?;
    let text = utf_8(line)?;
    let (mut envelope, mut data, mut faults) = (Envelope::new(), Data::new(), Faults::default());
    read_structured(&mut envelope, &mut data, text, parameters, &mut faults)?;
    // Without a known type the topic does not matter: the event is refused for its type.
    let topic = read::topic(&envelope).unwrap_or(Topic::Ledger);
    let key = match envelope.subject() {
        Some(id) => Some(Subject::of_key(topic, &id).map_err(|_| bad_key("`subject`", topic))?),
        None => None,
    };
    // Who publishes is to hear of a type that nobody knows, ignored or not.
    let carrier =
        Carrier { topic, key: key.as_ref(), timestamp: now, types_ignored: &[], envelope_alone: false };
    let event = read::event(&envelope, &data, &carrier, faults)?;
    Ok((topic, event.fact.subject()))
}

fn check_size(value: &[u8], parameters: &Parameters) -> Result<(), Rejection> {
    if value.len() <= parameters.value_bytes_max {
        return Ok(());
    }
    let message = format!("the value has {} bytes; {} is the most", value.len(), parameters.value_bytes_max);
    Err(Rejection::new(Class::TooLarge, message))
}

fn bad_key(what: &str, topic: Topic) -> Rejection {
    let whose = match topic {
        Topic::Ledger => "account",
        Topic::Payment => "customer",
    };
    let message =
        format!("{what} is no {whose} id: 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-', not '.' or '..'");
    Rejection::new(Class::BadKey, message)
}

fn utf_8(value: &[u8]) -> Result<&str, Rejection> {
    std::str::from_utf8(value).map_err(|error| {
        let message = format!("the value is not UTF-8 from byte {} on", error.valid_up_to());
        Rejection::new(Class::NotUtf8, message)
    })
}

fn read_structured<'a>(
    envelope: &mut Envelope<'a>,
    data: &mut Data<'a>,
    text: &'a str,
    parameters: &Parameters,
    faults: &mut Faults,
) -> Result<(), Rejection> {
    let scanned = envelope.scan(data, text, parameters.depth_max);
    if !scanned.map_err(|fault| unreadable(fault, text, parameters))? {
        faults.note(Class::NotCloudevents, || "the value is JSON but no object".to_owned());
    }
    Ok(())
}

fn unreadable(fault: Fault, text: &str, parameters: &Parameters) -> Rejection {
    match fault {
        Fault::Syntax { at, wanted } if !json::nests_deeper(text, parameters.depth_max) => {
            let message = format!("the value is not JSON from byte {at} on, where {wanted} would be right");
            Rejection::new(Class::NotJson, message)
        }
        // Too deep comes first, also where something else is wrong before.
        Fault::Syntax { .. } | Fault::TooDeep => {
            let message = format!("the value nests deeper than {} levels", parameters.depth_max);
            Rejection::new(Class::TooDeep, message)
        }
    }
}

/// How a record carries its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// The value is the whole event.
    Structured,
    /// Headers are its attributes, the value is its data.
    Binary,
    /// It is no event.
    Neither,
}

/// The headers that matter.
struct Headers<'a> {
    mode: Mode,
    /// Names without `ce_`, in the record's order.
    attributes: SmallVec<[(&'a str, Option<&'a str>); 8]>,
}

impl<'a> Headers<'a> {
    fn read(headers: &[(&'a str, Option<&'a [u8]>)]) -> Result<Self, Rejection> {
        let mut content_type: Option<Option<&str>> = None;
        let mut attributes = SmallVec::new();
        for &(name, value) in headers {
            let attribute = name.strip_prefix("ce_");
            if attribute.is_none() && name != "content-type" {
                continue;
            }
            let value = value.map(std::str::from_utf8).transpose().map_err(|_| {
                // The name of an extension is the publisher's; it may say anything and be of any length.
                let which = if attribute.is_some() { "a ce_ header" } else { "the header content-type" };
                Rejection::new(Class::BadHeader, format!("{which} is not UTF-8, which it must be"))
            })?;
            match attribute {
                Some(attribute) => attributes.push((attribute, value)),
                // Of two the first counts.
                None => content_type = content_type.or(Some(value)),
            }
        }
        let structured = content_type.flatten().is_some_and(is_structured);
        let mode = match (structured, attributes.is_empty()) {
            (true, _) => Mode::Structured,
            (false, false) => Mode::Binary,
            (false, true) => Mode::Neither,
        };
        Ok(Headers { mode, attributes })
    }

    fn attributes(mut self, envelope: &mut Envelope<'a>, faults: &mut Faults) {
        for &(name, value) in &self.attributes {
            envelope.attribute(name, value);
        }
        // An extension twice, too: sorted, for there may be as many as a record holds.
        self.attributes.sort_unstable_by_key(|&(name, _)| name);
        let twice =
            self.attributes.windows(2).any(|pair| matches!(pair, [(one, _), (next, _)] if one == next));
        if twice {
            faults.note(Class::DuplicateMember, || "a ce_ header stands twice; once is right".to_owned());
        }
    }
}

/// Whether a content type is that of a structured event, in letters of any case and with any parameters.
fn is_structured(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/cloudevents+json")
}
