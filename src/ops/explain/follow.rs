//! One subject on its way through the log.

use super::{
    Log, Question,
    trace::{Lens, Trace},
};
use crate::{
    domain::{AccountFact, Fact, Offset, Outcome, PartitionId, Subject},
    projector::replay::{Fate, Replay, Step},
    source::batch::Stored,
};

/// A subject folded again.
pub(super) struct Follow<'a> {
    /// Up to the cut.
    pub(super) shown: Replay<'a>,
    /// Up to where the store stands, where that is further.
    rest: Option<Replay<'a>>,
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
        cut_short: bool,
    ) -> Self {
        let replay = || Replay::new(subject, &log.birth.parameters, log.rules, log.decisions);
        Follow {
            shown: replay(),
            rest: cut_short.then(replay),
            trace: Trace::new(lens, question.currency, question.last),
            records: 0,
            begins_with_opening: false,
        }
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
        if record.offset < shown_to {
            let trace = &mut self.trace;
            self.shown.take(id, record, &mut |step| {
                *begins |= first && opens(&step);
                trace.step(log.cluster, &step);
            });
        }
    }
}

fn opens(step: &Step<'_>) -> bool {
    let opening =
        step.event.is_some_and(|event| matches!(event.fact, Fact::Account(_, AccountFact::Opened { .. })));
    let applied = match &step.fate {
        Fate::Folded(effect) => effect.outcome == Outcome::Applied,
        Fate::SetAside(_) | Fate::Waits(_) => false,
    };
    opening && applied
}
