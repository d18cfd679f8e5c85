//! Differences as commands tell them.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::compare::difference::{Difference, Tally};

/// What the two sides of a comparison are called.
#[derive(Debug, Clone, Copy)]
pub struct Sides<'a> {
    /// The left one.
    pub left: &'a str,
    /// The right one.
    pub right: &'a str,
}

impl Sides<'_> {
    /// A difference as an object: both values of each field, and both positions, by the names of the sides.
    pub fn json(&self, difference: &Difference) -> Value {
        let Difference { subject, id, kind, fields, left, right, expected } = difference;
        let fields = fields
            .iter()
            .map(|field| json!({ "field": field.name, self.left: field.left, self.right: field.right }))
            .collect::<Vec<_>>();
        json!({
            "subject": subject,
            "id": id,
            "kind": kind,
            "expected": expected,
            "fields": fields,
            "positions": { self.left: left, self.right: right },
        })
    }

    /// A difference as lines.
    pub fn text(&self, difference: &Difference) -> String {
        let Difference { subject, id, kind, fields, left, right, expected } = difference;
        let expected = if *expected { " (expected)" } else { "" };
        let mut text = format!("{subject} {id}: {}{expected}\n", kind.name());
        for field in fields {
            let value = |side: &Option<String>| side.clone().unwrap_or_else(|| "none".to_owned());
            told(
                &mut text,
                format_args!(
                    "  {}: {} in the {}, {} in the {}\n",
                    field.name,
                    value(&field.left),
                    self.left,
                    value(&field.right),
                    self.right
                ),
            );
        }
        let at = |side: &crate::compare::difference::At| {
            let told = |at: &Option<String>| at.clone().unwrap_or_else(|| "nowhere".to_owned());
            format!("applied to {}, which is at {}", told(&side.applied), told(&side.next))
        };
        told(&mut text, format_args!("  {}: {}; {}: {}\n", self.left, at(left), self.right, at(right)));
        text
    }
}

/// Counts by kind.
pub fn kinds_json(tally: &Tally) -> Map<String, Value> {
    tally.kinds.iter().map(|(kind, count)| (kind.name().to_owned(), json!(count))).collect()
}

/// Counts by kind, as the end of a line; empty where nothing differs.
pub fn kinds_told(tally: &Tally) -> String {
    let kinds: Vec<_> = tally.kinds.iter().map(|(kind, count)| format!("{count} {}", kind.name())).collect();
    if kinds.is_empty() { String::new() } else { format!("; differences: {}", kinds.join(", ")) }
}

/// How many a second; all of them where it took no time.
pub fn per_second(count: u64, took: Duration) -> u64 {
    let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    count.saturating_mul(1_000).checked_div(ms).unwrap_or(count)
}

/// Appends; a string takes whatever is written to it.
pub fn told(text: &mut String, what: std::fmt::Arguments<'_>) {
    let _infallible = std::fmt::Write::write_fmt(text, what);
}
