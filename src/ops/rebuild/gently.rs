//! A feeder that gives way: to the other processes of its group on its machine, and in Redis to readers. It folds the
//! log beside the served generation; once that is done, one of ordinary rank takes its place.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    ops::{self, parts},
    projector::Standing,
    source::Cluster,
    store::{
        Generation,
        redis::{Manners, RedisStore},
    },
    telemetry,
};

/// More commits at the same time or larger ones are faster, and readers wait longer, up to several times as long.
const CELLS_AT_ONCE: usize = 50;
const MANNERS: Manners =
    Manners { commits_at_once: 12, calls_of_readers: 80, cells_beside_readers: CELLS_AT_ONCE };
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

fn feed(mut config: Config, cluster: Cluster, stop: CancellationToken) -> anyhow::Result<Option<Generation>> {
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    if let Err(error) = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle) {
        tracing::warn!(?error, "this rebuild does not give way to other processes");
    }
    let settings = &mut config.projector;
    settings.batch_cells_max = settings.batch_cells_max.min(CELLS_AT_ONCE);
    settings.commits_in_flight_max = 1;
    let store = Arc::new(RedisStore::new(&config.redis).context("redis")?.with_manners(MANNERS));
    let runtime = ops::runtime(settings.workers)?;
    let gives_way = Arc::clone(&store);
    runtime.spawn(async move { gives_way.give_way_to_readers().await });
    let standing = Arc::new(Standing::new(&mut telemetry::registry()));
    let fed = runtime.block_on(parts::feed(config, cluster, store, standing, stop));
    runtime.shutdown_timeout(LEFT_MAX);
    fed
}
