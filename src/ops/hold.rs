//! Holding a generation's fold still for a moment, and letting it go on however the moment ends.

use std::time::{Duration, Instant};

use super::console::Console;
use crate::{
    decisions::{Act, Decision, Decisions},
    domain::{Offset, PartitionId, Topic},
    store::{Generation, Live},
};

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A generation that stands still. Release it; without that its owners go on when the lease is over.
pub struct Hold<'a> {
    console: &'a Console,
    generation: Generation,
    act: Act,
    /// Those that nobody else holds.
    topics: Vec<Topic>,
}

impl<'a> Hold<'a> {
    /// Tells the owners to stand still; those whom an operator has paused stand still anyway.
    pub async fn take(
        console: &'a Console,
        decisions: &Decisions,
        generation: Generation,
        lease: Option<Duration>,
        act: Act,
    ) -> anyhow::Result<Hold<'a>> {
        let lasting =
            |topic| decisions.pauses(generation, topic).iter().any(|pause| pause.lease_ms.is_none());
        let topics: Vec<_> = Topic::ALL.into_iter().filter(|topic| !lasting(*topic)).collect();
        let hold = Hold { console, generation, act, topics };
        let lease_ms = lease.map(|lease| u64::try_from(lease.as_millis()).unwrap_or(u64::MAX));
        for topic in &hold.topics {
            let (topic, act) = (Some(*topic), hold.act.clone());
            let paused = console.record(&Decision::Paused { generation, topic, lease_ms, act }).await;
            if let Err(error) = paused {
                hold.release().await?;
                return Err(error);
            }
        }
        Ok(hold)
    }

    /// Waits until every position stands, and returns them: nothing moves them before the release, or before the
    /// lease is over. `None` where an owner did not obey in time.
    pub async fn standing(&self, deadline: Instant) -> anyhow::Result<Option<Vec<(PartitionId, Offset)>>> {
        let first = self.console.live().await?;
        let asked = Instant::now();
        loop {
            let now = self.console.live().await?;
            let silent = asked.elapsed() > self.console.two_beats();
            if let Some(positions) = stand(&first, &now, self.generation, silent) {
                return Ok(Some(positions));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Lets the owners go on, but for what another operator has paused meanwhile.
    pub async fn release(self) -> anyhow::Result<()> {
        let decisions = self.console.decisions().await?;
        for topic in &self.topics {
            let ours = decisions.paused.get(&(self.generation, Some(*topic)));
            if ours.is_some_and(|pause| pause.act == self.act) {
                let (generation, topic, act) = (self.generation, Some(*topic), self.act.clone());
                self.console.record(&Decision::Resumed { generation, topic, act }).await?;
            }
        }
        Ok(())
    }
}

/// The positions, where every owner has said that it stands still, or has said nothing for two heartbeats.
fn stand(
    first: &Live,
    now: &Live,
    generation: Generation,
    silent: bool,
) -> Option<Vec<(PartitionId, Offset)>> {
    let of = |live: &Live| live.generations.iter().find(|fed| fed.snapshot.generation == generation).cloned();
    let (first, now) = (of(first), of(now)?);
    let stands = |partition: &PartitionId| {
        let state = now.states.iter().find(|(of, _)| of == partition).map(|(_, state)| state);
        let before = first.iter().flat_map(|fed| &fed.states).find(|(of, _)| of == partition);
        let before = before.map(|(_, state)| (state.claim, state.beat));
        match state {
            None => silent,
            Some(state) if before == Some((state.claim, state.beat)) => silent,
            Some(state) => state.paused.is_some() || state.halt.is_some(),
        }
    };
    now.snapshot.positions.iter().all(|(partition, _)| stands(partition)).then(|| {
        now.snapshot.positions.iter().map(|(partition, at)| (*partition, at.checkpoint.next)).collect()
    })
}
