//! Both views on their listener, with the task that watches freshness.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    admin::{Readiness, Report},
    auth::{BasicAuth, BearerAuth},
    clock::Clock,
    connections,
    freshness::Freshness,
    limits::Buckets,
    metrics::Metrics,
    openapi,
    refusal::Refusals,
    router::{self, Api},
    settings::Settings,
};
use crate::store::{CountStore, ReadStore};

/// The read side cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken, or is not this machine's.
    #[error("cannot listen on {listen}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The description of the views is none.
    #[error("the description of the views cannot be made")]
    Document(#[from] serde_json::Error),
}

/// Both views, bound and not yet answering.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    api: Arc<Api>,
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
        let (listener, address) = bound.await.map_err(|source| StartError::Listen { listen, source })?;
        let metrics = Arc::new(Metrics::new(registry));
        let freshness = Freshness::new(Arc::clone(&store), settings.max_staleness, Arc::clone(&metrics));
        let basic = BasicAuth::new(std::mem::take(&mut settings.users), settings.credential_cache);
        let bearer = BearerAuth::new(std::mem::take(&mut settings.tokens));
        let freshness = Arc::new(freshness);
        let document = openapi::Document::of(&settings)?;
        let api = Arc::new(Api {
            settings,
            clock,
            store,
            freshness,
            basic,
            bearer,
            metrics,
            document,
            counts,
            user_buckets: Buckets::new(),
            provider_buckets: Buckets::new(),
            refusals: Refusals::new(),
        });
        Ok(Server { listener, address, api })
    }

    /// Where it listens: the port that was found where 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
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
        let (bounds, grace) = (self.api.settings.bounds, self.api.settings.shutdown_max);
        connections::serve(self.listener, router::router(self.api), bounds, shutdown, grace).await;
        answered.cancel();
        if watching.await.is_err() {
            tracing::error!("the task that watches freshness ended by itself");
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
