//! Standing still because an operator said so: nothing is folded, the heartbeat goes on.

use std::time::{Duration, Instant};

use crate::{
    decisions::{Act, Decisions, Pause},
    domain::Topic,
    store::Generation,
};

/// What an owner knows of the pauses of its topic.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    /// Those with a lease, and until when they hold here: counted from when this owner first saw them.
    leases: Vec<(Act, Instant)>,
}

impl Pauses {
    /// Why the topic stands still now, for humans; `None` where it does not.
    pub(super) fn look(
        &mut self,
        decisions: &Decisions,
        generation: Generation,
        topic: Topic,
        now: Instant,
    ) -> Option<String> {
        let pauses = decisions.pauses(generation, topic);
        self.leases.retain(|(act, _)| pauses.iter().any(|pause| pause.act == *act));
        pauses.into_iter().find(|pause| self.holds(pause, now)).map(told)
    }

    fn holds(&mut self, pause: &Pause, now: Instant) -> bool {
        let Some(lease_ms) = pause.lease_ms else { return true };
        if let Some((_, until)) = self.leases.iter().find(|(act, _)| *act == pause.act) {
            return now < *until;
        }
        let until = now.checked_add(Duration::from_millis(lease_ms)).unwrap_or(now);
        self.leases.push((pause.act.clone(), until));
        now < until
    }
}

fn told(pause: &Pause) -> String {
    let Act { who, at, why } = &pause.act;
    let why = if why.is_empty() { String::new() } else { format!(": {why}") };
    format!("paused by {who} since {:.0}{why}", at.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "a test fails where it overflows")]

    use super::*;
    use crate::{decisions::Decision, domain::Time};

    const GENERATION: Generation = Generation(1);

    fn act(at_ms: i64) -> Act {
        Act { who: "jana".to_owned(), at: Time::from_millis(at_ms), why: "an incident".to_owned() }
    }

    fn paused(topic: Option<Topic>, lease_ms: Option<u64>, act: Act) -> Decision {
        Decision::Paused { generation: GENERATION, topic, lease_ms, act }
    }

    #[test]
    fn a_pause_holds_its_topic_until_it_is_taken_back() {
        let (mut decisions, mut pauses) = (Decisions::default(), Pauses::default());
        let now = Instant::now();
        let mut look = |decisions: &Decisions, topic| pauses.look(decisions, GENERATION, topic, now);
        assert_eq!(look(&decisions, Topic::Ledger), None);
        decisions.adopt(paused(Some(Topic::Ledger), None, act(0)));
        let told = "paused by jana since 1970-01-01T00:00:00Z: an incident".to_owned();
        assert_eq!(look(&decisions, Topic::Ledger), Some(told.clone()));
        assert_eq!(look(&decisions, Topic::Payment), None);
        decisions.adopt(paused(None, None, act(0)));
        assert_eq!(look(&decisions, Topic::Payment), Some(told.clone()));
        let resumed = |topic| Decision::Resumed { generation: GENERATION, topic, act: act(1) };
        decisions.adopt(resumed(Some(Topic::Payment)));
        assert_eq!(look(&decisions, Topic::Payment), Some(told), "the whole stands still");
        decisions.adopt(resumed(None));
        assert_eq!([Topic::Ledger, Topic::Payment].map(|topic| look(&decisions, topic)), [None, None]);
    }

    #[test]
    fn a_pause_with_a_lease_ends_by_itself_and_a_new_one_holds_again() {
        let (mut decisions, mut pauses) = (Decisions::default(), Pauses::default());
        let now = Instant::now();
        decisions.adopt(paused(None, Some(1_000), act(0)));
        let mut look = |decisions: &Decisions, after_ms| {
            let at = now + Duration::from_millis(after_ms);
            pauses.look(decisions, GENERATION, Topic::Ledger, at).is_some()
        };
        assert_eq!([0, 999, 1_000, 5_000].map(|at| look(&decisions, at)), [true, true, false, false]);
        decisions.adopt(paused(None, Some(1_000), act(7)));
        assert_eq!([6_000, 6_999, 7_000].map(|at| look(&decisions, at)), [true, true, false]);
    }
}
