//! Takes connections and answers requests on them, until told to stop.

use std::{
    io::{Error, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use axum::{Router, body::Body};
use http::{
    HeaderValue, Request, Response, StatusCode, Version,
    header::{CONNECTION, HOST, TRANSFER_ENCODING},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service as _;

use super::workers::Workers;
use crate::{telemetry::Seldom, tls::Validity};

/// How long a stop waits for the rest of headers that have begun.
const LAST_HEADERS: Duration = Duration::from_secs(1);

/// What clients may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Connections at once; more wait in the system's queue.
    pub connections: usize,
    /// How long the headers of a request may take to arrive.
    pub headers: Duration,
    /// How long a connection may be idle between requests.
    pub idle: Duration,
    /// The longest headers in bytes; longer ones are 431.
    pub header_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            connections: 4_096,
            headers: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            header_bytes: 32 << 10,
        }
    }
}

/// Serves until the token is cancelled. Then nothing new is taken, open requests are answered, and what is
/// open after `grace` is cut off.
pub async fn serve(
    workers: Workers,
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    router: Router,
    bounds: Bounds,
    shutdown: CancellationToken,
    grace: Duration,
) {
    let slots = Arc::new(Semaphore::new(bounds.connections));
    let connections = TaskTracker::new();
    let cut_off = CancellationToken::new();
    let untaken = Seldom::default();
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
                let (router, shutdown, cut_off) = (router.clone(), shutdown.clone(), cut_off.clone());
                let (stream, tls) = (stream.into_std(), tls.clone());
                let place = workers.place();
                let runtime = place.runtime.clone();
                let answering = async move {
                    tokio::select! {
                        () = secured(stream, tls, router, bounds, shutdown) => {}
                        () = cut_off.cancelled() => {}
                    }
                    drop((slot, place));
                };
                connections.spawn_on(answering, &runtime);
            }
            Err(error) => {
                // Out of descriptors, most likely: those of others must close first.
                if untaken.is_due() {
                    tracing::warn!(%error, "a connection cannot be taken; this is told once a minute");
                }
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

/// The certificate in use, which may be replaced: connections that are open keep theirs.
pub struct Tls {
    config: ArcSwap<ServerConfig>,
    validity: ArcSwap<Validity>,
    failed: Box<dyn Fn() + Send + Sync>,
}

impl Tls {
    /// Tells of each handshake that fails.
    pub fn new(config: Arc<ServerConfig>, validity: Validity, failed: Box<dyn Fn() + Send + Sync>) -> Self {
        Tls { config: ArcSwap::new(config), validity: ArcSwap::from_pointee(validity), failed }
    }

    /// Whether the one in use is valid from and until the same instants.
    pub fn is_of(&self, validity: Validity) -> bool {
        **self.validity.load() == validity
    }

    /// Takes another certificate for connections to come.
    pub fn replace(&self, config: Arc<ServerConfig>, validity: Validity) {
        self.config.store(config);
        self.validity.store(Arc::new(validity));
    }
}

/// Who connected, by the certificate that was verified.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// The organisations that its subject names; none without a certificate.
    pub organisations: Arc<[String]>,
}

async fn secured(
    stream: std::io::Result<std::net::TcpStream>,
    tls: Option<Arc<Tls>>,
    router: Router,
    bounds: Bounds,
    shutdown: CancellationToken,
) {
    // Its readiness is from now on told to the thread that answers.
    let Ok(stream) = stream.and_then(TcpStream::from_std) else { return };
    // Answers are one short packet: waiting for more to send would only delay them.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let Some(tls) = tls else { return connection(stream, Peer::default(), router, bounds, shutdown).await };
    let handshake = TlsAcceptor::from(tls.config.load_full()).accept(stream);
    let stream = tokio::select! {
        shaken = tokio::time::timeout(bounds.headers, handshake) => match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a TLS handshake failed");
                return (tls.failed)();
            }
            Err(_late) => return (tls.failed)(),
        },
        () = shutdown.cancelled() => return,
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let organisations = certificate.map(|certificate| crate::tls::organisations(certificate));
    let peer = Peer { organisations: organisations.unwrap_or_default().into() };
    connection(stream, peer, router, bounds, shutdown).await;
}

async fn connection<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    peer: Peer,
    router: Router,
    bounds: Bounds,
    shutdown: CancellationToken,
) {
    let activity = Arc::new(Activity::new());
    let service = service_fn(|request: Request<Incoming>| {
        let (mut router, activity, peer) = (router.clone(), Arc::clone(&activity), peer.clone());
        async move {
            activity.enter(Phase::Answering);
            if request.version() == Version::HTTP_11 && request.headers().get_all(HOST).iter().count() != 1 {
                // RFC 9112, 3.2: with none or several, programs on the way may disagree on whom it is for.
                activity.enter(Phase::Idle);
                return Ok(malformed());
            }
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            // Reads have no body. One that comes in pieces is where two programs may disagree on its end, and
            // take what follows for another request: nothing that follows is read.
            let in_pieces = request.headers().contains_key(TRANSFER_ENCODING);
            let mut answer = router.call(request).await;
            if let Some(answer) = answer.as_mut().ok().filter(|_| in_pieces) {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            activity.enter(Phase::Idle);
            answer
        }
    });
    let stream = Watched { stream, activity: Arc::clone(&activity) };
    // hyper's own timeout of headers runs while a connection is idle, too: one bound for both.
    let serving = http1::Builder::new()
        .header_read_timeout(None)
        // Answers are short: copied behind their headers they go out for less than side by side.
        .writev(false)
        .max_header_size(bounds.header_bytes)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = activity.overdue(bounds) => return,
        () = shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            let last = Bounds { headers: bounds.headers.min(LAST_HEADERS), ..bounds };
            let overdue = async {
                tokio::time::sleep(last.headers).await;
                activity.overdue(last).await;
            };
            tokio::select! {
                // First of all, what has come is read: a whole request is answered, however late it is seen.
                biased;
                ended = serving => ended,
                () = overdue => return,
            }
        }
    };
    if let Err(error) = ended {
        // The client's doing: it went away, or sent no HTTP.
        tracing::debug!(%error, "a connection ended");
    }
}

fn malformed() -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::BAD_REQUEST;
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The headers of a request are arriving, or those of the first are awaited.
    Headers,
    /// A request is being answered.
    Answering,
    /// The next request is awaited.
    Idle,
}

/// What a connection is doing, and since when.
struct Activity {
    opened: Instant,
    /// Milliseconds since `opened`, times four, plus the phase: one value, so that they change together.
    state: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        Activity { opened: Instant::now(), state: AtomicU64::new(0) }
    }

    fn enter(&self, phase: Phase) {
        let tag = match phase {
            Phase::Headers => 0,
            Phase::Answering => 1,
            Phase::Idle => 2,
        };
        let since = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.state.store(since.saturating_mul(4) | tag, Ordering::Relaxed);
    }

    fn now(&self) -> (Phase, Duration) {
        let state = self.state.load(Ordering::Relaxed);
        let phase = match state & 3 {
            0 => Phase::Headers,
            1 => Phase::Answering,
            _ => Phase::Idle,
        };
        (phase, self.opened.elapsed().saturating_sub(Duration::from_millis(state >> 2)))
    }

    /// Bytes came in.
    fn read(&self) {
        if self.now().0 == Phase::Idle {
            self.enter(Phase::Headers);
        }
    }

    /// Returns once the client has taken too long over something; looked at now and then, for a timer per
    /// request would cost more than it saves.
    async fn overdue(&self, bounds: Bounds) {
        let every = bounds.headers.min(bounds.idle).checked_div(10).unwrap_or_default();
        let mut look = tokio::time::interval(every.max(Duration::from_millis(1)));
        loop {
            look.tick().await;
            let (phase, lasted) = self.now();
            let max = match phase {
                Phase::Headers => bounds.headers,
                Phase::Idle => bounds.idle,
                Phase::Answering => continue,
            };
            if lasted > max {
                return;
            }
        }
    }
}

/// A stream that tells when bytes come in.
struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), Error>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        if buffer.filled().len() > before {
            self.activity.read();
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, Error>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize, Error>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "a test fails where it overflows")]

    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Says hello as the thread that it runs on, after a while where the path says so.
    async fn hello(request: Request<Body>) -> String {
        if request.uri().path() == "/slow" {
            tokio::time::sleep(Duration::from_millis(900)).await;
        }
        format!("hello from {}", std::thread::current().name().unwrap_or_default())
    }

    const BOUNDS: Bounds = Bounds {
        connections: 1,
        headers: Duration::from_millis(300),
        idle: Duration::from_millis(600),
        header_bytes: 1 << 10,
    };

    /// Phases begin at whole milliseconds.
    const ROUNDING: Duration = Duration::from_millis(2);

    async fn serving(bounds: Bounds) -> (SocketAddr, CancellationToken) {
        let (at, stop, _running) = serving_with_grace(bounds, Duration::from_secs(1)).await;
        (at, stop)
    }

    async fn serving_with_grace(
        bounds: Bounds,
        grace: Duration,
    ) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let router = Router::new().fallback(hello);
        let running = tokio::spawn(serve(
            Workers::start().unwrap(),
            listener,
            None,
            router,
            bounds,
            stop.clone(),
            grace,
        ));
        (at, stop, running)
    }

    /// Sends, and tells what came until the server closed, and after how long that was.
    async fn until_closed(socket: &mut TcpStream, send: &str) -> (String, Duration) {
        let started = Instant::now();
        socket.write_all(send.as_bytes()).await.unwrap();
        let mut text = String::new();
        tokio::time::timeout(Duration::from_secs(10), socket.read_to_string(&mut text))
            .await
            .unwrap()
            .unwrap();
        (text, started.elapsed())
    }

    #[tokio::test]
    async fn a_thread_of_its_own_answers() {
        let (at, _stop) = serving(BOUNDS).await;
        let mut socket = TcpStream::connect(at).await.unwrap();
        let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let (text, _) = until_closed(&mut socket, request).await;
        assert!(text.ends_with(&format!("hello from {}", crate::api::workers::THREAD)), "{text}");
    }

    #[tokio::test]
    async fn a_client_that_takes_too_long_is_let_go() {
        const WHOLE: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        const SLOW: &str = "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n";
        let part = &WHOLE[..20];
        let rows = [
            ("sends nothing", String::new(), 0, BOUNDS.headers),
            ("sends half of its headers", part.to_owned(), 0, BOUNDS.headers),
            ("is idle after an answer", WHOLE.to_owned(), 1, BOUNDS.idle),
            ("is idle after a slow answer", SLOW.to_owned(), 1, BOUNDS.idle + Duration::from_millis(900)),
        ];
        for (name, send, answers, at_least) in rows {
            let (at, _stop) = serving(BOUNDS).await;
            let mut socket = TcpStream::connect(at).await.unwrap();
            let (text, took) = until_closed(&mut socket, &send).await;
            assert_eq!(text.matches("HTTP/1.1 200 OK").count(), answers, "{name}: {text}");
            assert!(took + ROUNDING >= at_least, "{name}: {took:?}");
        }
    }

    #[tokio::test]
    async fn headers_have_their_own_bound_after_an_idle_while() {
        let (at, _stop) = serving(Bounds { idle: Duration::from_mins(1), ..BOUNDS }).await;
        let mut socket = TcpStream::connect(at).await.unwrap();
        socket.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut answer = [0; 256];
        assert!(socket.read(&mut answer).await.unwrap() > 0);
        tokio::time::sleep(BOUNDS.headers * 3).await;
        let (text, took) = until_closed(&mut socket, "GET / HT").await;
        assert!(text.is_empty(), "{text}");
        assert!(took + ROUNDING >= BOUNDS.headers, "{took:?}");
    }

    #[tokio::test]
    async fn a_stop_waits_for_requests_and_not_for_half_of_their_headers() {
        let bounds = Bounds {
            connections: 9,
            headers: Duration::from_mins(1),
            idle: Duration::from_mins(1),
            ..BOUNDS
        };
        let (at, stop, running) = serving_with_grace(bounds, Duration::from_mins(1)).await;
        let mut sockets = Vec::new();
        for send in ["GET / HT", "GET / HTTP/1.1\r\nHost: a\r\n", "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"] {
            let mut socket = TcpStream::connect(at).await.unwrap();
            socket.write_all(send.as_bytes()).await.unwrap();
            sockets.push(socket);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        stop.cancel();
        // The rest of one comes with the stop.
        sockets[1].write_all(b"\r\n").await.unwrap();
        tokio::time::timeout(Duration::from_secs(20), running).await.expect("the stop waits on").unwrap();
        for (socket, answers) in sockets.iter_mut().zip([0, 1, 1]) {
            let (text, _) = until_closed(socket, "").await;
            assert_eq!(text.matches("HTTP/1.1 200 OK").count(), answers, "{text}");
        }
    }

    #[tokio::test]
    async fn connections_beyond_the_bound_wait_for_a_place() {
        let (at, _stop) = serving(Bounds { idle: Duration::from_mins(1), ..BOUNDS }).await;
        let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let mut first = TcpStream::connect(at).await.unwrap();
        first.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut answer = [0; 256];
        assert!(first.read(&mut answer).await.unwrap() > 0);
        let second = tokio::spawn(async move {
            let mut second = TcpStream::connect(at).await.unwrap();
            until_closed(&mut second, request).await.0
        });
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!second.is_finished(), "the first holds the only place");
        drop(first);
        assert!(second.await.unwrap().starts_with("HTTP/1.1 200 OK"));
    }
}
