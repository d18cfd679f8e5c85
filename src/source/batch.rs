//! Records of one partition on their way from the polling thread to the fold, copied into one arena:
//! detaching each message costs more than copying its bytes.

use std::{
    cell::Cell,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Once,
};

use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use smallvec::SmallVec;

use crate::{
    domain::{Offset, Time, Topic},
    wire,
};

/// Consecutive records of one partition, and the claim under which they were polled.
#[derive(Debug, Default)]
pub struct Batch {
    /// Workers drop the batches of an older claim.
    pub claim: u64,
    /// Where the poll stands after these records, where that is further than the last one's successor:
    /// markers of transactions lie in between.
    pub advance: Option<Offset>,
    arena: Vec<u8>,
    headers: Vec<(Range<usize>, Option<Range<usize>>)>,
    records: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    offset: Offset,
    timestamp_ms: i64,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers: Range<usize>,
}

/// The headers of one record.
pub type Headers<'a> = SmallVec<[(&'a str, Option<&'a [u8]>); 12]>;

/// A record of a batch.
#[derive(Debug, Clone)]
pub struct Stored<'a> {
    /// Its offset.
    pub offset: Offset,
    /// Its Kafka timestamp in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: Headers<'a>,
}

impl<'a> Stored<'a> {
    /// The form that `wire` reads.
    pub fn record<'b>(&'b self, topic: Topic) -> wire::Record<'b>
    where
        'a: 'b,
    {
        wire::Record {
            topic,
            offset: self.offset,
            timestamp: Time::from_millis(self.timestamp_ms),
            key: self.key,
            value: self.value,
            headers: &self.headers,
        }
    }
}

thread_local! {
    /// Whether this thread is reading a header, where a panic is caught and means nothing.
    static READS_HEADER: Cell<bool> = const { Cell::new(false) };
}

/// Says nothing of the panics that [`Batch::push`] catches: anybody who may publish could fill the log with them.
pub fn hush_header_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !READS_HEADER.get() {
                tell(panic);
            }
        }));
    });
}

impl Batch {
    /// An empty batch of a claim.
    pub fn new(claim: u64) -> Self {
        Batch { claim, ..Batch::default() }
    }

    /// An empty one with room for as much: batches of a partition are alike, and growing costs copies.
    #[must_use]
    pub fn another(&self) -> Self {
        Batch {
            claim: self.claim,
            advance: None,
            arena: Vec::with_capacity(self.arena.len()),
            headers: Vec::with_capacity(self.headers.len()),
            records: Vec::with_capacity(self.records.len()),
        }
    }

    /// Copies a message.
    pub fn push(&mut self, message: &BorrowedMessage<'_>) {
        let key = message.key().map(|bytes| self.copy(bytes));
        let value = message.payload().map(|bytes| self.copy(bytes));
        let start = self.headers.len();
        if let Some(headers) = message.headers() {
            for index in 0..headers.count() {
                // The client panics on a header name that is not UTF-8; such a header is none of ours.
                READS_HEADER.set(true);
                let header = catch_unwind(AssertUnwindSafe(|| headers.try_get(index)));
                READS_HEADER.set(false);
                if let Ok(Some(header)) = header {
                    let name = self.copy(header.key.as_bytes());
                    let value = header.value.map(|bytes| self.copy(bytes));
                    self.headers.push((name, value));
                }
            }
        }
        self.records.push(Entry {
            offset: Offset(message.offset()),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
            key,
            value,
            headers: start..self.headers.len(),
        });
    }

    /// As if such a message had been polled.
    #[cfg(test)]
    pub fn put(&mut self, at: (Offset, Time), key: &[u8], value: &[u8], headers: &[(&str, &[u8])]) {
        let start = self.headers.len();
        for (name, value) in headers {
            let header = (self.copy(name.as_bytes()), Some(self.copy(value)));
            self.headers.push(header);
        }
        let (key, value) = (Some(self.copy(key)), Some(self.copy(value)));
        let headers = start..self.headers.len();
        let (offset, timestamp_ms) = (at.0, at.1.0.as_millisecond());
        self.records.push(Entry { offset, timestamp_ms, key, value, headers });
    }

    fn copy(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        start..self.arena.len()
    }

    /// Forgets the records and keeps the memory.
    pub fn clear(&mut self) {
        self.advance = None;
        self.arena.clear();
        self.headers.clear();
        self.records.clear();
    }

    /// How many records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is neither a record nor an advance.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.advance.is_none()
    }

    /// How many bytes of records, and what their headers take: a record may consist of nothing else.
    pub fn bytes(&self) -> usize {
        self.arena.len().saturating_add(size_of_val(self.headers.as_slice()))
    }

    /// The records in order.
    pub fn iter(&self) -> impl Iterator<Item = Stored<'_>> {
        self.records.iter().map(|entry| self.stored(entry))
    }

    /// Offsets and keys in order.
    pub fn keys(&self) -> impl Iterator<Item = (Offset, Option<&[u8]>)> {
        self.records.iter().map(|entry| (entry.offset, entry.key.as_ref().map(|range| self.slice(range))))
    }

    /// One of the records, counted from zero.
    pub fn record(&self, index: usize) -> Option<Stored<'_>> {
        self.records.get(index).map(|entry| self.stored(entry))
    }

    fn stored(&self, entry: &Entry) -> Stored<'_> {
        Stored {
            offset: entry.offset,
            timestamp_ms: entry.timestamp_ms,
            key: entry.key.as_ref().map(|range| self.slice(range)),
            value: entry.value.as_ref().map(|range| self.slice(range)),
            headers: self
                .headers
                .get(entry.headers.clone())
                .unwrap_or_default()
                .iter()
                .map(|(name, value)| {
                    let name = std::str::from_utf8(self.slice(name)).unwrap_or_default();
                    (name, value.as_ref().map(|range| self.slice(range)))
                })
                .collect(),
        }
    }

    fn slice(&self, range: &Range<usize>) -> &[u8] {
        self.arena.get(range.clone()).unwrap_or_default()
    }
}
