//! Takes connections and answers requests on them, until told to stop.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Whatever answers requests.
pub trait Answers: Send + Sync + 'static {
    /// Answers one request; always.
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Response<String>> + Send;
}

/// What a client may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Connections at once; more wait in the system's queue.
    pub connections_max: usize,
    /// How long a connection may be idle or take over its headers.
    pub idle_max: Duration,
    /// The longest headers; longer ones are 431.
    pub header_bytes_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { connections_max: 4_096, idle_max: Duration::from_secs(75), header_bytes_max: 32 << 10 }
    }
}

/// Serves until the token is cancelled. Then nothing new is taken, open requests are answered, and what is
/// open after `grace` is cut off.
pub async fn serve<A: Answers>(
    listener: TcpListener,
    answers: Arc<A>,
    bounds: Bounds,
    shutdown: CancellationToken,
    grace: Duration,
) {
    let slots = Arc::new(Semaphore::new(bounds.connections_max));
    let connections = TaskTracker::new();
    let cut_off = CancellationToken::new();
    loop {
        let accepted = async {
            // Closed never: acquiring fails never.
            let slot = Arc::clone(&slots).acquire_owned().await.ok();
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, _peer)) => {
                let (answers, shutdown, cut_off) = (Arc::clone(&answers), shutdown.clone(), cut_off.clone());
                connections.spawn(async move {
                    tokio::select! {
                        () = connection(stream, answers, bounds, shutdown) => {}
                        () = cut_off.cancelled() => {}
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: those of others must close first.
                tracing::warn!(%error, "a connection cannot be taken");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(grace, connections.wait()).await.is_err() {
        tracing::warn!(open = connections.len(), "connections are cut off after the grace period");
        cut_off.cancel();
        connections.wait().await;
    }
}

async fn connection<A: Answers>(
    stream: TcpStream,
    answers: Arc<A>,
    bounds: Bounds,
    shutdown: CancellationToken,
) {
    // Answers are one short packet: waiting for more to send would only delay them.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(|request| {
        let answers = Arc::clone(&answers);
        async move { Ok::<_, Infallible>(answers.answer(request).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.idle_max)
        .max_header_size(bounds.header_bytes_max)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        // The client's doing: it went away, or sent no HTTP.
        tracing::debug!(%error, "a connection ended");
    }
}
