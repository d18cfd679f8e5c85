//! Standing still because an operator said so: nothing is folded, the heartbeat goes on.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    decisions::{self, Act, Decision, Decisions, Pause},
    domain::Topic,
    source::{Cluster, producer::Producer},
    store::Generation,
};

/// How long to wait where no lease runs.
const IDLE: Duration = Duration::from_hours(1);

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

/// Takes back what a command held for a moment and did not take back itself: it was killed. Every owner has gone on when
/// the lease was over; but whoever starts later counts it from then, and would stand still once more.
pub(super) async fn take_back(
    cluster: Cluster,
    producer: Producer,
    generation: Generation,
    mut decisions: watch::Receiver<Arc<Decisions>>,
    stop: CancellationToken,
) {
    let mut leases = Leases::default();
    loop {
        let known = Arc::clone(&decisions.borrow_and_update());
        let (over, next) = leases.over(&known, generation, Instant::now());
        for (topic, act) in over {
            let decision = Decision::Resumed { generation, topic, of: Some(act.clone()), act };
            if let Err(error) = decisions::record(&cluster, &producer, &decision).await {
                tracing::warn!(%error, "a hold whose lease is over is not taken back yet");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(next) => {}
            changed = decisions.changed() => if changed.is_err() { return },
        }
    }
}

/// Leases that run, each with its end.
#[derive(Debug, Default)]
struct Leases(Vec<(Option<Topic>, Act, Instant)>);

impl Leases {
    /// Those that are over, and how long until the next one is. One that is over is told again after as long again,
    /// where it still stands by then.
    fn over(
        &mut self,
        decisions: &Decisions,
        generation: Generation,
        now: Instant,
    ) -> (Vec<(Option<Topic>, Act)>, Duration) {
        let (mut running, mut over) = (Vec::new(), Vec::new());
        for ((of, topic), pause) in &decisions.paused {
            let Some(lease_ms) = pause.lease_ms.filter(|_| *of == generation) else { continue };
            let known = self.0.iter().find(|(part, act, _)| part == topic && *act == pause.act);
            let anew = now.checked_add(Duration::from_millis(lease_ms)).unwrap_or(now);
            let mut until = known.map_or(anew, |(.., until)| *until);
            if until <= now {
                over.push((*topic, pause.act.clone()));
                until = anew;
            }
            running.push((*topic, pause.act.clone(), until));
        }
        let next = running.iter().map(|(.., until)| until.saturating_duration_since(now)).min();
        self.0 = running;
        (over, next.unwrap_or(IDLE))
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
        let resumed = |topic| Decision::Resumed { generation: GENERATION, topic, of: None, act: act(1) };
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

    #[test]
    fn a_lease_that_is_over_is_taken_back_once_and_never_what_was_decided_since() {
        let (mut decisions, mut leases) = (Decisions::default(), Leases::default());
        let now = Instant::now();
        let topic = Some(Topic::Ledger);
        decisions.adopt(paused(topic, Some(1_000), act(0)));
        decisions.adopt(paused(Some(Topic::Payment), None, act(0)));
        let mut over = |decisions: &Decisions, after_ms| {
            let (over, next) = leases.over(decisions, GENERATION, now + Duration::from_millis(after_ms));
            (over, u64::try_from(next.as_millis()).unwrap())
        };
        assert_eq!(over(&decisions, 0), (vec![], 1_000));
        assert_eq!(over(&decisions, 999), (vec![], 1));
        assert_eq!(over(&decisions, 1_000), (vec![(topic, act(0))], 1_000));
        assert_eq!(over(&decisions, 1_500), (vec![], 500));
        // The command lives, and holds on; and an operator pauses it for good before that is taken back.
        decisions.adopt(paused(topic, Some(1_000), act(7)));
        assert_eq!(over(&decisions, 1_600), (vec![], 1_000));
        decisions.adopt(paused(topic, None, act(8)));
        let resumed = |of| Decision::Resumed { generation: GENERATION, topic, of, act: act(9) };
        decisions.adopt(resumed(Some(act(7))));
        assert_eq!(decisions.paused.len(), 2, "it is another's by now");
        assert_eq!(over(&decisions, 9_000), (vec![], u64::try_from(IDLE.as_millis()).unwrap()));
        decisions.adopt(resumed(None));
        assert_eq!(decisions.paused.len(), 1);
    }
}
