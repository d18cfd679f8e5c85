//! One subject on its way through the log.

use std::collections::BTreeMap;

use super::{
    Ends, Hold, Log, Question,
    replay::Replay,
    trace::{Lens, Trace},
};
use crate::{
    decisions::Patch,
    domain::{AccountFact, Fact, Offset, Outcome, PartitionId, Subject},
    projector::lane::{Fate, Step},
    source::{Cluster, batch::Stored},
    store::Quarantine,
};

/// A subject folded again.
pub(super) struct Follow<'a> {
    /// Up to the cut.
    pub(super) shown: Replay<'a>,
    /// Up to where the store stands, where that is further.
    rest: Option<Replay<'a>>,
    /// With all that is decided, where some of it is about what the store has on hold.
    decided: Option<Replay<'a>>,
    /// Those records, and what gets past them.
    past: BTreeMap<(PartitionId, Offset), Option<Patch>>,
    pub(super) trace: Trace,
    pub(super) records: u64,
    /// The first record opened the account.
    pub(super) begins_with_opening: bool,
}

impl<'a> Follow<'a> {
    pub(super) fn new(
        log: &Log<'a>,
        subject: &Subject,
        lens: Lens,
        question: &Question,
        held: &[Quarantine],
        ends: &Ends,
    ) -> Self {
        let mut patches = held.iter().map(|held| log.amendments.patches_of(held.partition, held.offset));
        let decided = patches.any(|patches| !patches.is_empty());
        Follow {
            shown: Replay::new(log, subject, held, ends.time),
            rest: ends.time.map(|_| Replay::new(log, subject, held, None)),
            decided: decided.then(|| Replay::new(log, subject, &[], None)),
            past: held.iter().map(|held| ((held.partition, held.offset), None)).collect(),
            trace: Trace::new(lens, question.currency, question.last),
            records: 0,
            begins_with_opening: false,
        }
    }

    /// To be told once no record is left.
    pub(super) fn settle(&mut self) {
        self.trace.settle(self.shown.quarantines());
    }

    /// Where the key is on hold, as it is told.
    pub(super) fn holds(&self, cluster: &Cluster, key: &str) -> impl Iterator<Item = Hold> {
        let held = self.shown.quarantines();
        let past = |held: &Quarantine| self.past.get(&(held.partition, held.offset)).and_then(Option::as_ref);
        held.map(move |held| Hold::new(cluster, key, held, past(held)))
    }

    /// Where the store stands.
    pub(super) fn now(&self) -> &Replay<'a> {
        self.rest.as_ref().unwrap_or(&self.shown)
    }

    pub(super) fn take(&mut self, log: &Log<'_>, id: PartitionId, record: &Stored<'_>, shown_to: Offset) {
        let first = self.records == 0;
        self.records = self.records.saturating_add(1);
        let begins = &mut self.begins_with_opening;
        if let Some(rest) = &mut self.rest {
            rest.take(id, record, &mut |step| *begins |= first && opens(&step));
        }
        if let Some(decided) = &mut self.decided {
            let past = &mut self.past;
            decided.take(id, record, &mut |step| {
                if let Some(patch) = step.patch
                    && let Some(past) = past.get_mut(&(patch.partition, patch.offset))
                {
                    *past = Some(patch.clone());
                }
            });
        }
        if record.offset < shown_to {
            let trace = &mut self.trace;
            self.shown.take(id, record, &mut |step| {
                *begins |= first && opens(&step);
                trace.step(log.cluster, &step);
            });
        }
    }
}

fn opens(step: &Step<'_, '_>) -> bool {
    let opening =
        step.event.is_some_and(|event| matches!(event.fact, Fact::Account(_, AccountFact::Opened { .. })));
    let applied = match &step.fate {
        Fate::Folded(effect) => effect.outcome == Outcome::Applied,
        Fate::Early(_) | Fate::Skipped | Fate::SetAside(_) | Fate::Waits(_) => false,
    };
    opening && applied
}
