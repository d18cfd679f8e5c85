//! What an operator decided about a record: how it gets past.

use super::Ground;
use crate::{
    decisions::{Patch, Remedy},
    domain::{Cell, Effect, Event, Manner, RecordAt, Rejection, Time, fold, fold_in, pass_over},
    source::batch::Stored,
    wire,
};

/// How a record got past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Past {
    /// Folded, by the log's event or by the one that replaces it.
    Folded(Effect),
    /// Passed over.
    Skipped,
}

/// Folds a record into its subject's cell by the patches that it has, in their order; as it stands where none of them
/// gets past it. Returns how, and by which patch. On `Err` the cell is unchanged.
pub fn apply<'a>(
    cell: &mut Option<Cell>,
    ground: &Ground<'a>,
    record: &Stored<'_>,
    read: &Result<Event, Rejection>,
) -> Result<(Past, Option<&'a Patch>), Rejection> {
    let at = record_at(ground, record);
    let home = ground.home();
    // One about a record that names nobody, or somebody else, was made about another record than this one.
    let meant = |patch: &&Patch| match &patch.key {
        Some(key) => key == ground.subject.as_str(),
        None => patch.remedy == Remedy::Retry,
    };
    for patch in ground.amendments.patches_of(ground.partition, record.offset).iter().filter(meant) {
        let folded = match (&patch.remedy, read) {
            (Remedy::Retry, Ok(event)) => fold(cell, event, &at, home, ground.rules),
            (Remedy::Accept, Ok(event)) => fold_in(cell, event, &at, home, ground.rules, Manner::AsNew),
            (Remedy::Retry | Remedy::Accept, Err(rejection)) => Err(rejection.clone()),
            (Remedy::Skip, read) => {
                let around = read.is_err().then(|| around_the_data(ground, record)).flatten();
                let event = read.as_ref().ok().or(around.as_ref());
                pass_over(cell, ground.subject, event, &at, home, ground.rules);
                return Ok((Past::Skipped, Some(patch)));
            }
            (Remedy::Replace(text), _) => replacement(ground, record, text)
                .and_then(|event| fold(cell, &event, &at, home, ground.rules)),
        };
        if let Ok(effect) = folded {
            return Ok((Past::Folded(effect), Some(patch)));
        }
    }
    let event = read.as_ref().map_err(Clone::clone)?;
    Ok((Past::Folded(fold(cell, event, &at, home, ground.rules)?), None))
}

fn around_the_data(ground: &Ground<'_>, record: &Stored<'_>) -> Option<Event> {
    wire::around_the_data(&record.record(ground.partition.topic), ground.subject, ground.parameters)
}

/// Reads the event that replaces a record, as if it stood there.
pub fn replacement(ground: &Ground<'_>, record: &Stored<'_>, text: &str) -> Result<Event, Rejection> {
    let headers = [("content-type", Some(wire::STRUCTURED.as_bytes()))];
    wire::decode(
        &wire::Record {
            topic: ground.partition.topic,
            offset: record.offset,
            timestamp: Time::from_millis(record.timestamp_ms),
            key: Some(ground.subject.as_str().as_bytes()),
            value: Some(text.as_bytes()),
            headers: &headers,
        },
        ground.parameters,
    )
}

pub(super) fn record_at(ground: &Ground<'_>, record: &Stored<'_>) -> RecordAt {
    RecordAt {
        partition: ground.partition,
        offset: record.offset,
        timestamp: Time::from_millis(record.timestamp_ms),
    }
}
