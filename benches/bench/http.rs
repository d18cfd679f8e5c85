//! HTTP/1.1 load on keep-alive connections, in the clear or by TLS: each sends its next request when it has its
//! answer, or when its turn comes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// What a load came to.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Load {
    /// Answers a second.
    pub per_second: f64,
    /// Median of the answer times, in microseconds.
    pub p50_us: u64,
    /// 99th percentile of the answer times, in microseconds.
    pub p99_us: u64,
    /// Answers whose status was neither 200 nor 304.
    pub other_status: usize,
}

/// How requests are sent.
#[derive(Clone, Copy)]
pub struct Manner<'a> {
    /// Connections at the same time.
    pub connections: usize,
    /// For how long.
    pub duration: Duration,
    /// Requests a second on all connections together; without it, as many as are answered.
    pub per_second: Option<u32>,
    /// By TLS where it is given.
    pub tls: Option<&'a Arc<ClientConfig>>,
}

/// Sends the requests in turn.
pub fn load(address: &str, requests: Vec<String>, manner: Manner<'_>) -> Load {
    let Manner { connections, duration, per_second, tls } = manner;
    let each =
        per_second.map(|rate| Duration::from_secs(1) * u32::try_from(connections).expect("few") / rate);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let requests = Arc::new(requests);
        let turn = Arc::new(AtomicUsize::new(0));
        let until = Instant::now() + duration;
        let mut tasks = Vec::new();
        for number in 0..connections {
            let first = each.map(|each| each * u32::try_from(number).expect("few") / connections as u32);
            let due = each.zip(first).map(|(each, first)| (Instant::now() + first, each));
            let (requests, turn, address) = (Arc::clone(&requests), Arc::clone(&turn), address.to_owned());
            let tls = tls.cloned();
            tasks.push(tokio::spawn(async move {
                let stream = TcpStream::connect(&address).await.expect("the server listens");
                stream.set_nodelay(true).expect("a socket option");
                let Some(tls) = tls else { return connection(stream, &requests, &turn, until, due).await };
                let name = ServerName::try_from("localhost").expect("a name");
                let stream = TlsConnector::from(tls).connect(name, stream).await.expect("a handshake");
                connection(stream, &requests, &turn, until, due).await
            }));
        }
        let mut times = Vec::new();
        let mut other_status = 0;
        for task in tasks {
            let (mut own, others) = task.await.expect("a connection's task");
            times.append(&mut own);
            other_status += others;
        }
        times.sort_unstable();
        let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default();
        Load {
            per_second: times.len() as f64 / duration.as_secs_f64(),
            p50_us: at(0.5),
            p99_us: at(0.99),
            other_status,
        }
    })
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    requests: &[String],
    turn: &AtomicUsize,
    until: Instant,
    mut due: Option<(Instant, Duration)>,
) -> (Vec<u64>, usize) {
    let (mut times, mut others) = (Vec::new(), 0);
    let mut buffer = vec![0; 16 << 10];
    while Instant::now() < until {
        let index = turn.fetch_add(1, Ordering::Relaxed) % requests.len();
        let mut sent = Instant::now();
        if let Some((at, each)) = &mut due {
            if *at > sent {
                tokio::time::sleep_until((*at).into()).await;
                // Behind the timer, which is a millisecond coarse.
                sent = Instant::now();
            } else {
                // Its turn came while the last one was not answered: it waits since then.
                sent = *at;
            }
            *at += *each;
        }
        stream.write_all(requests[index].as_bytes()).await.expect("the server reads");
        let ok = answer(&mut stream, &mut buffer).await;
        times.push(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX));
        others += usize::from(!ok);
    }
    (times, others)
}

/// Reads one answer whole; whether its status was 200, or 304.
async fn answer<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut [u8]) -> bool {
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await.expect("the server answers");
        assert!(read > 0, "the server closed the connection");
        filled += read;
        let Some(head) = buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let text = std::str::from_utf8(&buffer[..head]).expect("headers in ASCII").to_ascii_lowercase();
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .and_then(|length| length.trim().parse::<usize>().ok())
            .unwrap_or(0);
        if filled >= head + 4 + length {
            return text.starts_with("http/1.1 200") || text.starts_with("http/1.1 304");
        }
    }
}
