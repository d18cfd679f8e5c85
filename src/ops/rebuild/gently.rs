//! A feeder that gives way: to the other processes of its group on its machine, and in Redis to readers. It folds the
//! log beside the served generation; once that is done, one of ordinary rank takes its place.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    ops::{self, parts},
    projector::Standing,
    source::Cluster,
    store::{Generation, redis::RedisStore},
    telemetry,
};

/// Commits that Redis is given at the same time, and the cells in each. More of them or larger ones are faster, and readers
/// wait longer, up to several times as long: so where readers ask, all but one of the turns are taken.
const COMMITS_AT_ONCE: usize = 12;
const TAKEN_BESIDE_READERS: u32 = 11;
const CELLS_AT_ONCE: usize = 50;
/// How often readers are looked for; calls in between from which on they are held to be there, for each process that
/// serves samples four times a second; and how often in a row nobody is there before that is believed.
const READERS_EVERY: Duration = Duration::from_millis(100);
const CALLS_OF_READERS: u64 = 8;
const LOOKS_ALONE: u32 = 5;
/// How long it stays, once the other one has joined, for that to be given a partition.
const RELIEVED_MAX: Duration = Duration::from_secs(10);
const LOOKS_EVERY: Duration = Duration::from_millis(500);
/// How long what is still running may take once the feeder has stopped in order.
const LEFT_MAX: Duration = Duration::from_secs(1);

/// A feeder with threads of its own.
pub(super) struct Feeder {
    stop: CancellationToken,
    ended: oneshot::Receiver<anyhow::Result<Option<Generation>>>,
}

impl Feeder {
    /// Starts to feed the configured generation, until it is told to stop, or `shutdown`.
    pub(super) fn start(
        config: Config,
        cluster: Cluster,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let stop = shutdown.child_token();
        let (ends, ended) = oneshot::channel();
        let told = stop.clone();
        // Who was set back may not come forward again without a right that few have. So a thread is, from which the
        // others inherit it, and they end with it.
        std::thread::Builder::new()
            .name("gently".to_owned())
            .spawn(move || drop(ends.send(feed(config, cluster, told))))
            .context("a thread that gives way")?;
        Ok(Feeder { stop, ended })
    }

    /// Waits for its end: the generation, where that was retired.
    pub(super) async fn ended(&mut self) -> anyhow::Result<Option<Generation>> {
        (&mut self.ended).await.context("the feeder that gives way panicked")?
    }

    /// Stops in order once another one feeds, so that the partitions go over from one to the other; or once that one
    /// is `over`.
    pub(super) async fn hand_over(mut self, other: &Standing, over: &CancellationToken) {
        let fed = async {
            until(|| other.has_joined()).await;
            // Where there are more processes than partitions, it is given one when this one has gone.
            drop(tokio::time::timeout(RELIEVED_MAX, until(|| other.feeds_any())).await);
        };
        tokio::select! {
            () = fed => {}
            () = over.cancelled() => {}
        }
        self.stop.cancel();
        if let Err(error) = self.ended().await {
            tracing::warn!(%error, "the feeder that gave way did not end in order");
        }
    }
}

async fn until(reached: impl Fn() -> bool) {
    while !reached() {
        tokio::time::sleep(LOOKS_EVERY).await;
    }
}

/// Takes turns from the commits while readers ask, and until it is known that they do not. `count` tells how often they
/// have asked since the server counts.
async fn give_way<C>(count: impl Fn() -> C, turns: Arc<Semaphore>)
where
    C: Future<Output = Option<u64>>,
{
    let mut taken = turns.acquire_many(TAKEN_BESIDE_READERS).await.ok();
    let (mut calls, mut alone) = (None, 0_u32);
    loop {
        tokio::time::sleep(READERS_EVERY).await;
        let now = count().await;
        alone = if nobody_asks(calls, now) { alone.saturating_add(1) } else { 0 };
        calls = now;
        if alone >= LOOKS_ALONE {
            taken = None;
        } else if alone == 0 && taken.is_none() {
            taken = turns.acquire_many(TAKEN_BESIDE_READERS).await.ok();
        }
    }
}

/// Whether the calls between two looks are no readers'. A server that does not answer, or counts anew, says nothing.
fn nobody_asks(before: Option<u64>, now: Option<u64>) -> bool {
    let calls = before.zip(now).and_then(|(before, now)| now.checked_sub(before));
    calls.is_some_and(|calls| calls < CALLS_OF_READERS)
}

fn feed(mut config: Config, cluster: Cluster, stop: CancellationToken) -> anyhow::Result<Option<Generation>> {
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    if let Err(error) = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle) {
        tracing::warn!(?error, "this rebuild does not give way to other processes");
    }
    let settings = &mut config.projector;
    settings.batch_cells_max = settings.batch_cells_max.min(CELLS_AT_ONCE);
    settings.commits_in_flight_max = 1;
    let store = RedisStore::new(&config.redis).context("redis")?;
    let turns = Arc::new(Semaphore::new(COMMITS_AT_ONCE));
    let store = Arc::new(store.in_turns(Arc::clone(&turns)));
    let runtime = ops::runtime(settings.workers)?;
    let asked = Arc::clone(&store);
    let count = move || {
        let asked = Arc::clone(&asked);
        async move { asked.calls_of_readers().await.ok() }
    };
    runtime.spawn(give_way(count, turns));
    let standing = Arc::new(Standing::new(&mut telemetry::registry()));
    let fed = runtime.block_on(parts::feed(config, cluster, store, standing, stop));
    runtime.shutdown_timeout(LEFT_MAX);
    fed
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn turns_are_taken_while_readers_ask_and_given_back_half_a_second_after_they_have_gone() {
        let turns = Arc::new(Semaphore::new(COMMITS_AT_ONCE));
        let calls = Arc::new(AtomicU64::new(0));
        let per_look = Arc::new(AtomicU64::new(1_000));
        let count = {
            let (calls, per_look) = (Arc::clone(&calls), Arc::clone(&per_look));
            move || {
                let more = per_look.load(Ordering::Relaxed);
                std::future::ready(Some(calls.fetch_add(more, Ordering::Relaxed)))
            }
        };
        tokio::spawn(give_way(count, Arc::clone(&turns)));
        let after = |looks: u32| tokio::time::sleep(READERS_EVERY * looks + READERS_EVERY / 2);
        after(20).await;
        assert_eq!(turns.available_permits(), 1, "readers ask");
        per_look.store(0, Ordering::Relaxed);
        after(3).await;
        assert_eq!(turns.available_permits(), 1, "a moment without readers is no absence");
        after(4).await;
        assert_eq!(turns.available_permits(), COMMITS_AT_ONCE, "nobody asks");
        per_look.store(CALLS_OF_READERS, Ordering::Relaxed);
        after(2).await;
        assert_eq!(turns.available_permits(), 1, "they are back");
    }

    #[test]
    fn a_server_that_says_nothing_is_one_with_readers() {
        assert!(nobody_asks(Some(7), Some(14)));
        assert!(!nobody_asks(Some(7), Some(15)), "somebody reads");
        for (before, now) in [(None, Some(7)), (Some(7), None), (None, None), (Some(7), Some(6))] {
            assert!(!nobody_asks(before, now), "{before:?}, {now:?}");
        }
    }
}
