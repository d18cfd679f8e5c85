//! Holding a generation's fold still for a moment, and letting it go on however the moment ends.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{console::Console, parts};
use crate::{
    decisions::{self, Act, Decision, Decisions},
    domain::{Offset, PartitionId, Topic},
    source::{Cluster, producer::Producer},
    store::{Generation, Live},
};

const LOOK_EVERY: Duration = Duration::from_millis(20);
/// An owner that has said nothing for so long is held to be gone. One that lives may be late, above all one that gives
/// way to others, and a partition that changes hands is nobody's for a moment. Less where there is no time for that: two
/// heartbeats at least.
const GONE_AFTER: Duration = Duration::from_secs(5);
/// A lease is extended so often within its time: a broker may take its while to answer.
const EXTENDED_WITHIN: u32 = 3;

/// How long owners stand still, counted from when they hear of it, where nobody lets them go on.
#[derive(Debug, Clone, Copy)]
pub enum Lease {
    /// This long.
    Once(Duration),
    /// This long after the command that holds has been killed; it extends the lease while it lives.
    Extended(Duration),
}

/// A generation that stands still. Release it; without that its owners go on when the lease is over.
pub struct Hold<'a> {
    console: &'a Console,
    /// What extends the lease, and what ends that.
    extends: Option<(JoinHandle<()>, DropGuard)>,
    held: Held,
}

/// What is recorded, once more with each extension.
#[derive(Clone)]
struct Held {
    generation: Generation,
    /// Those that nobody else holds.
    topics: Vec<Topic>,
    lease_ms: u64,
    /// Every act by which it was recorded.
    acts: Arc<Mutex<Vec<Act>>>,
}

impl<'a> Hold<'a> {
    /// Tells the owners to stand still; those whom an operator has paused stand still anyway.
    pub async fn take(
        console: &'a Console,
        decisions: &Decisions,
        generation: Generation,
        lease: Lease,
        act: Act,
    ) -> anyhow::Result<Hold<'a>> {
        let lasting =
            |topic| decisions.pauses(generation, topic).iter().any(|pause| pause.lease_ms.is_none());
        let topics: Vec<_> = Topic::ALL.into_iter().filter(|topic| !lasting(*topic)).collect();
        let (Lease::Once(length) | Lease::Extended(length)) = lease;
        let lease_ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        let acts = Arc::default();
        let mut hold = Hold { console, extends: None, held: Held { generation, topics, lease_ms, acts } };
        for topic in hold.held.topics.clone() {
            if let Err(error) = console.record(&hold.held.paused(topic, act.clone())).await {
                hold.release().await?;
                return Err(error);
            }
        }
        if let Lease::Extended(length) = lease {
            let (cluster, producer) = (console.cluster.clone(), console.producer.clone());
            let every = length.checked_div(EXTENDED_WITHIN).unwrap_or(length);
            let stop = CancellationToken::new();
            let extend = hold.held.clone().extend(cluster, producer, act, every, stop.clone());
            hold.extends = Some((tokio::spawn(extend), stop.drop_guard()));
        }
        Ok(hold)
    }

    /// Waits until every position stands, and returns them: nothing moves them before the release, or before the
    /// lease is over. `None` where an owner did not obey in time.
    pub async fn standing(&self, deadline: Instant) -> anyhow::Result<Option<Vec<(PartitionId, Offset)>>> {
        let first = self.console.live().await?;
        let asked = Instant::now();
        let half = deadline.saturating_duration_since(asked).mul_f32(0.5);
        let gone_after = GONE_AFTER.min(half).max(self.console.two_beats());
        loop {
            let now = self.console.live().await?;
            let silent = asked.elapsed() > gone_after;
            if let Some(positions) = stand(&first, &now, self.held.generation, silent) {
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
        let Hold { console, extends, held } = self;
        if let Some((extends, stop)) = extends {
            drop(stop);
            // What it is recording must not come behind what is recorded here.
            extends.await?;
        }
        let decisions = console.decisions().await?;
        for topic in &held.topics {
            if let Some(act) = held.standing(&decisions, *topic) {
                let (generation, topic) = (held.generation, Some(*topic));
                let of = Some(act.clone());
                console.record(&Decision::Resumed { generation, topic, of, act }).await?;
            }
        }
        Ok(())
    }
}

impl Held {
    /// The decision that holds a topic by this act.
    fn paused(&self, topic: Topic, act: Act) -> Decision {
        let mut acts = self.acts.lock().unwrap_or_else(PoisonError::into_inner);
        if !acts.contains(&act) {
            acts.push(act.clone());
        }
        let lease_ms = Some(self.lease_ms);
        Decision::Paused { generation: self.generation, topic: Some(topic), lease_ms, act }
    }

    /// The act by which a topic is held here; `None` where it is not, or by somebody else.
    fn standing(&self, decisions: &Decisions, topic: Topic) -> Option<Act> {
        let acts = self.acts.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = decisions.paused.get(&(self.generation, Some(topic)))?;
        acts.contains(&pause.act).then(|| pause.act.clone())
    }

    async fn extend(
        self,
        cluster: Cluster,
        producer: Producer,
        act: Act,
        every: Duration,
        stop: CancellationToken,
    ) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
            let act = Act { at: parts::now(), ..act.clone() };
            if let Err(error) = self.extend_once(&cluster, &producer, &act).await {
                // Whoever reads the positions sees whether they still stand.
                tracing::warn!(error = format!("{error:#}"), "the lease is not extended");
            }
        }
    }

    async fn extend_once(&self, cluster: &Cluster, producer: &Producer, act: &Act) -> anyhow::Result<()> {
        let asked = cluster.clone();
        let decisions = tokio::task::spawn_blocking(move || decisions::read(&asked)).await??;
        for topic in &self.topics {
            // What another operator has paused or let go on meanwhile is theirs.
            if self.standing(&decisions, *topic).is_some() {
                decisions::record(cluster, producer, &self.paused(*topic, act.clone())).await?;
            }
        }
        Ok(())
    }
}

/// The positions, where every owner has said that it stands still, or has said nothing while it was `silent`.
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
