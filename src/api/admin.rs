//! Liveness, readiness and metrics, on a listener of their own.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::State, routing::get};
use http::{HeaderValue, StatusCode, header::CONTENT_TYPE};
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    connections::{self, Bounds},
    reply::{self, Reply},
    server::StartError,
    workers::Workers,
};
use crate::telemetry;

/// How long open requests may take after a stop.
const GRACE: Duration = Duration::from_secs(1);

/// Whatever may be ready or not.
pub trait Readiness: Send + Sync {
    /// How it stands now.
    fn report(&self) -> Report;
}

/// How something stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Why it is not ready; empty where it is.
    pub reasons: Vec<String>,
    /// What a person should know though it is ready.
    pub notes: Vec<String>,
}

/// The admin listener.
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
    routes: Arc<Routes>,
}

struct Routes {
    registry: Arc<Registry>,
    readiness: Vec<Arc<dyn Readiness>>,
}

impl Admin {
    /// Binds the listener. Ready is what all of these say.
    pub async fn bind(
        listen: SocketAddr,
        registry: Arc<Registry>,
        readiness: Vec<Arc<dyn Readiness>>,
    ) -> Result<Self, StartError> {
        let bound = async {
            let listener = TcpListener::bind(listen).await?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (listener, address) =
            bound.await.map_err(|source| StartError::Listen { key: "admin.listen", listen, source })?;
        let routes = Arc::new(Routes { registry, readiness });
        Ok(Admin { listener, address, routes })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the token is cancelled.
    pub async fn run(self, shutdown: CancellationToken) {
        let router = router(self.routes);
        connections::serve(Workers::here(), self.listener, None, router, Bounds::default(), shutdown, GRACE)
            .await;
    }
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    #[serde(flatten)]
    report: Report,
}

fn router(routes: Arc<Routes>) -> Router {
    Router::new()
        .route("/livez", get(async || text(StatusCode::OK, "ok\n".to_owned())))
        .route("/readyz", get(async |State(routes): State<Arc<Routes>>| routes.ready()))
        .route("/metrics", get(async |State(routes): State<Arc<Routes>>| routes.metrics()))
        .method_not_allowed_fallback(async || {
            let mut reply =
                text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are allowed\n".to_owned());
            reply::allow_reads(&mut reply);
            reply
        })
        .fallback(async || text(StatusCode::NOT_FOUND, "there are /livez, /readyz and /metrics\n".to_owned()))
        .with_state(routes)
}

impl Routes {
    fn metrics(&self) -> Reply {
        let mut reply = text(StatusCode::OK, telemetry::encode(&self.registry));
        let kind = HeaderValue::from_static(telemetry::METRICS_CONTENT_TYPE);
        reply.headers_mut().insert(CONTENT_TYPE, kind);
        reply
    }

    fn ready(&self) -> Reply {
        let mut report = Report::default();
        for part in &self.readiness {
            let part = part.report();
            report.reasons.extend(part.reasons);
            report.notes.extend(part.notes);
        }
        let ready = report.reasons.is_empty();
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        reply::json(status, serde_json::to_string(&Ready { ready, report }).unwrap_or_default())
    }
}

fn text(status: StatusCode, text: String) -> Reply {
    let mut reply = Reply::new(text);
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    reply
}
