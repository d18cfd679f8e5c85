//! Both views on their listener, with the task that watches freshness.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    access::Access,
    admin::{Readiness, Report},
    clock::Clock,
    connections::{self, Tls},
    freshness::Freshness,
    jwks::Keys,
    limits::Buckets,
    metrics::Metrics,
    openapi,
    refusal::Refusals,
    router::{self, Api},
    settings::{self, Settings, SettingsError},
    workers::Workers,
};
use crate::{
    store::{CountStore, ReadStore},
    telemetry::Seldom,
};

/// How soon the issuer's keys are looked at again, at least and at most.
const SOON: Duration = Duration::from_millis(50);
const IDLE: Duration = Duration::from_secs(1);

/// The read side cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken, or is not this machine's.
    #[error("cannot listen on {listen} ({key}): choose another address, or stop what listens there")]
    Listen {
        /// The setting.
        key: &'static str,
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A setting that cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// No more threads.
    #[error("the system starts no threads to answer on")]
    Threads(#[source] std::io::Error),
    /// The description of the views is none.
    #[error("the description of the views cannot be made")]
    Document(#[from] serde_json::Error),
}

/// Both views, bound and not yet answering.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    api: Arc<Api>,
    tls: Option<Arc<Tls>>,
    workers: Workers,
}

impl Server {
    /// Binds the listener and registers the metrics. Nothing is answered before [`Server::run`].
    pub async fn bind(
        mut settings: Settings,
        clock: Clock,
        store: Arc<dyn ReadStore>,
        counts: Arc<dyn CountStore>,
        registry: &mut Registry,
    ) -> Result<Self, StartError> {
        let listen = settings.listen;
        let bound = async {
            let listener = TcpListener::bind(listen).await?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (listener, address) =
            bound.await.map_err(|source| StartError::Listen { key: "api.listen", listen, source })?;
        let metrics = Arc::new(Metrics::new(registry));
        let zone = settings.zone.iana_name().unwrap_or_default();
        let freshness =
            Freshness::new(Arc::clone(&store), settings.max_staleness, zone, Arc::clone(&metrics));
        let access = Access::of(&mut settings, None)?;
        if let Some(keys) = access.keys() {
            let read = keys.refresh().await;
            // An issuer that is down keeps nobody from starting: its providers get 503 until it answers.
            if keys.in_file() {
                read.map_err(|error| settings::unusable_keys(&error))?;
            }
        }
        if let Some(untimely) = settings.untimely(clock.now()) {
            tracing::warn!("{untimely}");
        }
        let tls = settings.tls.take().map(|tls| {
            metrics.certificate_ends(tls.validity.until);
            let counted = Arc::clone(&metrics);
            Arc::new(Tls::new(tls.config, tls.validity, Box::new(move || counted.handshake_failed())))
        });
        let freshness = Arc::new(freshness);
        let document = openapi::Document::of(&settings, settings.certificates())?;
        let api = Arc::new(Api {
            settings,
            clock,
            store,
            freshness,
            access: ArcSwap::from_pointee(access),
            metrics,
            document: ArcSwap::from_pointee(document),
            counts,
            user_buckets: Buckets::new(),
            provider_buckets: Buckets::new(),
            refusals: Refusals::new(),
            away: Seldom::default(),
        });
        let workers = Workers::start().map_err(StartError::Threads)?;
        Ok(Server { listener, address, api, tls, workers })
    }

    /// Where it listens: the port that was found where 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What replaces who may read, and the certificate.
    pub fn reloader(&self) -> Reloader {
        Reloader { api: Arc::clone(&self.api), tls: self.tls.clone() }
    }

    /// Whether reads are complete and fresh, for the admin listener.
    pub fn readiness(&self) -> Arc<dyn Readiness> {
        self.api.freshness.clone()
    }

    /// Answers until the token is cancelled; then answers what is open, within the configured bound.
    pub async fn run(self, shutdown: CancellationToken) {
        // Requests that are open at a stop may still wait for a sample.
        let answered = CancellationToken::new();
        let watching = tokio::spawn(watch(Arc::clone(&self.api.freshness), answered.clone()));
        tokio::spawn(keep_keys(Arc::clone(&self.api), answered.clone()));
        let (bounds, grace) = (self.api.settings.bounds, self.api.settings.shutdown_max);
        let router = router::router(self.api);
        connections::serve(self.workers, self.listener, self.tls, router, bounds, shutdown, grace).await;
        answered.cancel();
        if watching.await.is_err() {
            tracing::error!("the task that watches freshness ended by itself");
        }
    }
}

/// Replaces who may read, and the certificate, while requests are answered.
#[derive(Clone)]
pub struct Reloader {
    api: Arc<Api>,
    tls: Option<Arc<Tls>>,
}

impl Reloader {
    /// Takes users, profiles, providers, their issuer and the certificate from settings that were read again.
    /// All of it or, where something is wrong, nothing: what was in force goes on.
    pub async fn reload(&self, settings: Result<Settings, SettingsError>) -> Result<(), ReloadError> {
        let replaced = self.replace(settings).await;
        self.api.metrics.reloaded(replaced.is_ok());
        replaced
    }

    /// A reload that did not even come to settings.
    pub fn refused(&self) {
        self.api.metrics.reloaded(false);
    }

    async fn replace(&self, settings: Result<Settings, SettingsError>) -> Result<(), ReloadError> {
        let mut settings = settings?;
        if let Some(untimely) = settings.untimely(self.api.clock.now()) {
            // One that is in use already keeps nobody from being shut out.
            if !self
                .tls
                .as_ref()
                .zip(settings.tls.as_ref())
                .is_some_and(|(used, new)| used.is_of(new.validity))
            {
                return Err(untimely.into());
            }
            tracing::warn!("{untimely}");
        }
        let before = self.api.access.load_full();
        let document = openapi::Document::of(&self.api.settings, settings.certificates())?;
        let access = Access::of(&mut settings, Some(&before))?;
        // Keys from another place must be here before their tokens come, and a file is read again. Nobody else waits for
        // the issuer: who is blocked by this reload is served until then.
        let go_on = |keys: &Keys| before.keys().is_some_and(|held| keys.go_on_from(held));
        if let Some(keys) = access.keys().filter(|keys| keys.in_file() || !go_on(keys)) {
            keys.refresh().await.map_err(|error| settings::unusable_keys(&error))?;
        }
        match (&self.tls, settings.tls) {
            (None, None) => {}
            (Some(tls), Some(new)) => {
                self.api.metrics.certificate_ends(new.validity.until);
                tls.replace(new.config, new.validity);
            }
            (None, Some(_)) | (Some(_), None) => return Err(ReloadError::Scheme),
        }
        self.api.access.store(Arc::new(access));
        self.api.document.store(Arc::new(document));
        Ok(())
    }
}

/// What was in force goes on.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// A setting that cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The document cannot be made of them.
    #[error(transparent)]
    Document(#[from] serde_json::Error),
    /// Clients speak what they spoke to this process.
    #[error("api.tls.certificate_file was set or taken away, which takes a new start")]
    Scheme,
}

/// Keeps the issuer's keys fresh, whichever are in use.
async fn keep_keys(api: Arc<Api>, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        let keys = api.access.load().keys().cloned();
        let wait = keys.as_ref().map_or(IDLE, |keys| keys.due());
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait.clamp(SOON, IDLE)) => {}
        }
        let current = api.access.load().keys().cloned();
        if let Some(keys) = current.filter(|keys| keys.due().is_zero()) {
            // What does not work is logged where it is tried, and tried again.
            drop(keys.refresh().await);
        }
    }
}

/// Watches, come what may: without samples every figure would be refused for good.
async fn watch(freshness: Arc<Freshness>, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        let watching = {
            let (freshness, shutdown) = (Arc::clone(&freshness), shutdown.clone());
            tokio::spawn(async move { freshness.watch(shutdown).await })
        };
        if watching.await.is_err() {
            tracing::error!("a sample of the store panicked; sampling again in a second");
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    }
}

impl Readiness for Freshness {
    fn report(&self) -> Report {
        let view = self.view();
        Report { reasons: view.reasons(self.max_staleness(), Instant::now()), notes: view.halts() }
    }
}
