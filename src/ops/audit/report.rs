//! What an audit came to, for humans and for programs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    compare::{
        audit::Audited,
        difference::{Difference, Tally},
    },
    ops::compared::{self, Sides},
    store::Generation,
};

/// What became of a partition.
#[derive(Debug)]
pub enum Verdict {
    /// It was audited.
    Ran(Audited),
    /// It could not be, and why: it does not pass.
    NotRun(String),
}

/// The whole.
pub struct Report {
    generation: Generation,
    /// By the partitions' names.
    verdicts: Vec<(String, Verdict)>,
    took: Duration,
}

/// What the sides are called.
pub const SIDES: Sides<'static> = Sides { left: "projection", right: "log" };

impl Report {
    /// Of these partitions.
    pub fn new(generation: Generation, verdicts: Vec<(String, Verdict)>, took: Duration) -> Self {
        Report { generation, verdicts, took }
    }

    /// Whether every partition was audited, and nothing differs.
    pub fn passes(&self) -> bool {
        let passes = |verdict: &Verdict| match verdict {
            Verdict::Ran(audited) => audited.tally.differences() == 0,
            Verdict::NotRun(_) => false,
        };
        !self.verdicts.is_empty() && self.verdicts.iter().all(|(_, verdict)| passes(verdict))
    }

    fn ran(&self) -> impl Iterator<Item = &Audited> {
        self.verdicts.iter().filter_map(|(_, verdict)| match verdict {
            Verdict::Ran(audited) => Some(audited),
            Verdict::NotRun(_) => None,
        })
    }

    fn verdict(&self) -> &'static str {
        let ran_all = self.ran().count() == self.verdicts.len() && !self.verdicts.is_empty();
        match (self.passes(), ran_all) {
            (true, _) => "agrees",
            (false, true) => "differs",
            (false, false) => "could not run",
        }
    }

    fn records(&self) -> u64 {
        self.ran().fold(0, |sum, audited| sum.saturating_add(audited.records))
    }

    fn cells(&self) -> u64 {
        self.ran().fold(0, |sum, audited| sum.saturating_add(audited.tally.cells))
    }

    fn first(&self) -> impl Iterator<Item = &Difference> {
        self.ran().flat_map(|audited| &audited.tally.first)
    }

    /// One JSON object.
    pub fn json(&self) -> anyhow::Result<String> {
        let partitions: Vec<Value> = self
            .verdicts
            .iter()
            .map(|(partition, verdict)| match verdict {
                Verdict::Ran(Audited { cut, records, folding, passes, tally, undecided }) => json!({
                    "partition": partition,
                    "verdict": told(tally),
                    "cut": cut,
                    "records": records,
                    "folding_milliseconds": milliseconds(*folding),
                    "passes": passes,
                    "cells": tally.cells,
                    "differences": tally.differences(),
                    "kinds": compared::kinds_json(tally),
                    "decisions_not_applied": undecided,
                }),
                Verdict::NotRun(reason) => json!({
                    "partition": partition,
                    "verdict": "could not run",
                    "reason": reason,
                }),
            })
            .collect();
        let report = json!({
            "generation": self.generation,
            "verdict": self.verdict(),
            "partitions": partitions,
            "records": self.records(),
            "cells": self.cells(),
            "milliseconds": milliseconds(self.took),
            "first": self.first().map(|difference| SIDES.json(difference)).collect::<Vec<_>>(),
        });
        Ok(serde_json::to_string_pretty(&report)? + "\n")
    }

    /// A table, and the first differences.
    pub fn table(&self) -> String {
        let mut text = format!("generation {}\n", self.generation.0);
        for (partition, verdict) in &self.verdicts {
            let line = match verdict {
                Verdict::Ran(Audited { cut, records, passes, tally, undecided, folding: _ }) => {
                    let again = if *passes > 1 { format!(" in {passes} passes") } else { String::new() };
                    let undecided = match undecided {
                        0 => String::new(),
                        keys => format!("; {keys} on hold, decided about and not folded again yet"),
                    };
                    format!(
                        "{partition:<17} {:<9} up to offset {cut}: {} subjects from {records} records{again}{}{undecided}",
                        told(tally),
                        tally.cells,
                        compared::kinds_told(tally),
                    )
                }
                Verdict::NotRun(reason) => format!("{partition:<17} could not run: {reason}"),
            };
            text.push_str(&line);
            text.push('\n');
        }
        for difference in self.first() {
            text.push_str(&SIDES.text(difference));
        }
        let rate = compared::per_second(self.records(), self.took);
        let (cells, records) = (self.cells(), self.records());
        text + &format!(
            "{}: {cells} subjects recomputed from {records} records, {rate} records a second\n",
            self.verdict()
        )
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn told(tally: &Tally) -> &'static str {
    if tally.differences() == 0 { "agrees" } else { "differs" }
}
