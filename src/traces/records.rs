//! The write side: a span for each record that is followed, until its commit is acknowledged, and one for the commit.

use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::KeyValue;

use super::{
    Traces,
    context::{Context, Parent},
    export,
    span::{Kind, Moment, Open, link, number, text},
};

/// Records of one commit that are followed: a collector keeps no more links of a span. Others are counted.
const FOLLOWED_MAX: usize = 128;
/// Where a publisher says which trace a record is part of: the first that can be read counts.
const PARENTS: [&str; 2] = ["traceparent", "ce_traceparent"];

/// The records of one partition that are followed and not sent yet.
pub struct Records {
    traces: &'static Traces,
    place: Arc<Place>,
    began: Moment,
    open: Vec<Record>,
}

/// What spans of a partition have in common.
struct Place {
    group: String,
    topic: String,
    partition: i32,
}

struct Record {
    span: Open,
    offset: i64,
    outcome: &'static str,
    class: Option<&'static str>,
}

impl Records {
    pub(super) fn new(traces: &'static Traces, group: &str, topic: &str, partition: i32) -> Self {
        let place = Place { group: group.to_owned(), topic: topic.to_owned(), partition };
        Records { traces, place: Arc::new(place), began: Moment::now(), open: Vec::new() }
    }

    /// A batch is taken up: the spans of its records begin here.
    pub fn taken_up(&mut self) {
        self.began = Moment::now();
    }

    /// A record is decided: what came of it, and its class where it was set aside.
    pub fn decided(
        &mut self,
        headers: &[(&str, Option<&[u8]>)],
        offset: i64,
        outcome: &'static str,
        class: Option<&'static str>,
    ) {
        let Some(span) = self.traces.begin(parent(headers)) else { return };
        if self.open.len() >= FOLLOWED_MAX {
            return export::dropped(1);
        }
        self.open.push(Record { span: span.since(self.began), offset, outcome, class });
    }

    /// A commit of so many cells goes out with all that is decided. It is part of the trace of its first record that
    /// is followed, and tells of the others; with none, chance decides, unless it is but a heartbeat.
    pub fn sent(&mut self, cells: usize) -> Option<Sent> {
        let records = std::mem::take(&mut self.open);
        let span = match records.first() {
            Some(first) => Open::within(first.span.context()),
            None if cells == 0 => return None,
            None => self.traces.begin(None)?,
        };
        let cells = i64::try_from(cells).unwrap_or(i64::MAX);
        Some(Sent { traces: self.traces, place: Arc::clone(&self.place), span, records, cells })
    }
}

/// A commit in flight that is followed, with its records.
pub struct Sent {
    traces: &'static Traces,
    place: Arc<Place>,
    span: Open,
    records: Vec<Record>,
    cells: i64,
}

impl Sent {
    /// It is acknowledged, or refused for this reason: then its records will be folded again.
    pub fn ended(self, outcome: Result<(), &'static str>) {
        let refused = outcome.err();
        let others: Vec<Context> = self.records.iter().skip(1).map(|record| record.span.context()).collect();
        self.traces.queue.put(|| {
            let mut attributes = self.place.attributes();
            attributes.push(text("db.system.name", "redis"));
            attributes.push(text("db.operation.name", "EVALSHA"));
            attributes.push(number("balance_projector.cells", self.cells));
            let mut span = self.span.end(Kind::Client, "commit".to_owned(), attributes, refused);
            span.links = others.into_iter().map(link).collect();
            span
        });
        for record in &self.records {
            self.traces.queue.put(|| {
                let name = format!("fold {}", self.place.topic);
                record.span.end(Kind::Consumer, name, self.place.of(record), refused)
            });
        }
    }
}

impl Place {
    fn attributes(&self) -> Vec<KeyValue> {
        vec![
            text("messaging.destination.name", &self.topic),
            text("messaging.destination.partition.id", &self.partition.to_string()),
        ]
    }

    fn of(&self, record: &Record) -> Vec<KeyValue> {
        let mut attributes = self.attributes();
        attributes.extend([
            text("messaging.system", "kafka"),
            text("messaging.operation.name", "fold"),
            text("messaging.operation.type", "process"),
            text("messaging.consumer.group.name", &self.group),
            number("messaging.kafka.offset", record.offset),
            text("balance_projector.outcome", record.outcome),
        ]);
        attributes.extend(record.class.map(|class| text("balance_projector.dead_letter.class", class)));
        attributes
    }
}

/// What the publisher says of its trace.
fn parent(headers: &[(&str, Option<&[u8]>)]) -> Option<Parent> {
    PARENTS.into_iter().find_map(|wanted| {
        let (_, value) = headers.iter().find(|(name, _)| *name == wanted)?;
        Parent::parse((*value)?)
    })
}
