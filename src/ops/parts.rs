//! What the roles are made of.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use prometheus_client::registry::Registry;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{Readiness, Reloader, Report, Settings, admin::Admin},
    config::{self, Config},
    domain::Time,
    projector::{self, Standing, Stopped},
    source::Cluster,
    store::{
        Generation, StoreError, WriteStore,
        redis::{Manners, RedisStore},
    },
};

/// Cancelled by SIGTERM or SIGINT.
pub fn shutdown() -> anyhow::Result<CancellationToken> {
    let shutdown = CancellationToken::new();
    let mut term = signal(SignalKind::terminate()).context("SIGTERM cannot be handled")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be handled")?;
    let cancelled = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        cancelled.cancel();
    });
    Ok(shutdown)
}

/// Descriptors beside those of connections to the views: of Kafka, files, and the admin listener.
const DESCRIPTORS_BESIDE: u64 = 256;
/// Those of each thread that answers: its event loop, and its connection to Redis, which may be made anew.
const DESCRIPTORS_OF_A_THREAD: u64 = 8;

/// Lets the process hold as many descriptors as the system allows: what it is given at first, mostly 1024, is less than
/// the views may take, and without one neither Redis nor the admin listener is reached.
pub fn raise_descriptors(connections_max: usize) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = u64::try_from(threads).unwrap_or(u64::MAX).saturating_mul(DESCRIPTORS_OF_A_THREAD);
    let beside = DESCRIPTORS_BESIDE.saturating_add(threads);
    let wanted = u64::try_from(connections_max).unwrap_or(u64::MAX).saturating_add(beside);
    // None is no limit.
    if let Some(limit) = getrlimit(Resource::Nofile).current.filter(|limit| *limit < wanted) {
        tracing::warn!(
            limit,
            "api.connections_max is {connections_max}, and with {beside} more does not fit into the limit of \
             open files: raise that (LimitNOFILE=, ulimit -n), or lower the key"
        );
    }
}

/// What SIGHUP takes from the configuration, by the beginning of its keys.
const RELOADED: [&str; 8] = [
    "api.users",
    "api.profiles",
    "api.tokens",
    "api.providers",
    "api.blocked",
    "api.jwt.",
    "api.tls.",
    "api.credential_cache_ms",
];

/// Reads users, providers and certificates again on SIGHUP; where something is wrong, what was in force goes on.
/// The write side has none: its passwords and certificates are read with each connection. What else has changed in
/// the file is named: it takes a new start.
pub fn reload_on_hangup(
    running: Config,
    path: Option<PathBuf>,
    reloader: Option<Reloader>,
) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP cannot be handled")?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let Some(reloader) = &reloader else {
                tracing::info!("nothing to reload: passwords and certificates are read with each connection");
                continue;
            };
            // A file system may hang: readers are not to wait for it.
            let from = path.clone();
            let load = move || load_again(from.as_deref()).map(|config| (Settings::of(&config), config));
            let loaded = tokio::task::spawn_blocking(load).await;
            let outcome = match loaded.map_err(anyhow::Error::from).flatten() {
                Ok((settings, config)) => {
                    let taken = reloader.reload(settings).await;
                    taken.map(|()| untaken(&running, &config)).map_err(anyhow::Error::from)
                }
                Err(error) => {
                    reloader.refused();
                    Err(error)
                }
            };
            match outcome {
                Ok(untaken) => {
                    tracing::info!("users, providers and certificates are read again");
                    if !untaken.is_empty() {
                        let keys = untaken.join(", ");
                        tracing::warn!(keys, "these have changed as well: they take a new start");
                    }
                }
                Err(error) => {
                    tracing::error!(error = %format!("{error:#}"), "nothing is reloaded: what was in force goes on");
                }
            }
        }
    });
    Ok(())
}

/// As at the start; but a file with nothing in it is one that is being written.
fn load_again(path: Option<&Path>) -> anyhow::Result<Config> {
    if let Some(path) = path
        && std::fs::read(path).is_ok_and(|text| text.trim_ascii().is_empty())
    {
        anyhow::bail!("{} is empty", path.display());
    }
    super::load(path)
}

fn untaken(running: &Config, config: &Config) -> Vec<String> {
    let taken = |name: &String| RELOADED.iter().any(|begin| name.starts_with(begin));
    running.differing(config).into_iter().filter(|name| !taken(name)).collect()
}

/// The admin listener.
pub async fn admin(
    listen: SocketAddr,
    registry: Registry,
    readiness: Vec<Arc<dyn Readiness>>,
) -> anyhow::Result<Admin> {
    Ok(Admin::bind(listen, Arc::new(registry), readiness).await?)
}

/// Says where both views and the admin listener are: where a port was left to the system, in no other way.
pub fn tell_listening(views: SocketAddr, admin: SocketAddr) {
    tracing::info!(%views, %admin, "listening");
}

/// The instant of this command, for what it checks and publishes.
#[allow(clippy::disallowed_methods, reason = "commands run now; folds and answers never ask here")]
pub fn now() -> Time {
    Time(jiff::Timestamp::now())
}

struct WriteSide(Arc<Standing>);

impl Readiness for WriteSide {
    fn report(&self) -> Report {
        let reasons = self.0.reasons();
        // Whoever reads here is answered from another generation, which has its own owners.
        if self.0.is_unserved() && self.0.has_joined() {
            return Report { reasons: Vec::new(), notes: reasons };
        }
        Report { reasons, notes: Vec::new() }
    }
}

/// The write side's part in readiness.
pub fn write_side(standing: &Arc<Standing>) -> Arc<dyn Readiness> {
    Arc::new(WriteSide(Arc::clone(standing)))
}

/// While a backlog is folded, many who read would wait for each other and for commits: these take turns then.
const MANNERS: Manners = Manners { commits_at_once: 4_096, calls_of_readers: 200, cells_beside_readers: 100 };

/// The store as the write side uses it: readers come first.
pub fn write_store(config: &config::Redis) -> Result<Arc<RedisStore>, StoreError> {
    let store = Arc::new(RedisStore::new(config)?.with_manners(MANNERS));
    let gives_way = Arc::clone(&store);
    tokio::spawn(async move { gives_way.give_way_to_readers().await });
    Ok(store)
}

/// The write side, from its start to its orderly stop. Where its generation is retired, it goes on with the one that
/// readers are served.
pub async fn project(
    config: Config,
    cluster: Cluster,
    store: Arc<dyn WriteStore>,
    standing: Arc<Standing>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        let (cluster, store, standing) = (cluster.clone(), Arc::clone(&store), Arc::clone(&standing));
        if feed(config.clone(), cluster, store, standing, shutdown.clone()).await?.is_none() {
            return Ok(());
        }
    }
}

/// Feeds one generation until it is told to stop; the generation, where that was retired.
pub async fn feed(
    config: Config,
    cluster: Cluster,
    store: Arc<dyn WriteStore>,
    standing: Arc<Standing>,
    shutdown: CancellationToken,
) -> anyhow::Result<Option<Generation>> {
    let instance = format!("{}@{}", std::process::id(), host());
    let stopped = tokio::select! {
        () = shutdown.cancelled() => return Ok(None),
        started = projector::start(&config, cluster, store, standing, instance) => {
            started?.until(shutdown).await?
        }
    };
    Ok(match stopped {
        Stopped::Told => None,
        Stopped::Retired(generation) => Some(generation),
    })
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}

/// A part that ends only when it is told to.
pub fn spawn(part: impl Future<Output = ()> + Send + 'static) -> JoinHandle<anyhow::Result<()>> {
    tokio::spawn(async move {
        part.await;
        Ok(())
    })
}

/// Waits for every part. The first that fails stops the others; its error is the role's.
pub async fn until_all<const N: usize>(
    shutdown: CancellationToken,
    parts: [JoinHandle<anyhow::Result<()>>; N],
) -> anyhow::Result<()> {
    let mut first_error = None;
    let mut running = futures::stream::FuturesUnordered::from_iter(parts);
    while let Some(ended) = futures::StreamExt::next(&mut running).await {
        if let Err(error) = ended.context("a part of the process panicked").and_then(|result| result) {
            shutdown.cancel();
            first_error.get_or_insert(error);
        }
    }
    first_error.map_or(Ok(()), Err)
}
