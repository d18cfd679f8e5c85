//! Connections, the admin listener, and the orderly stop.
#![allow(clippy::arithmetic_side_effects, reason = "a test fails where it overflows")]

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::world::{
    ACCOUNT_HEADERS, CUSTOMER_HEADERS, Change::And, Served, World, changed, config, get, opened, profile,
    raw, send, served,
};

#[tokio::test]
async fn the_admin_listener_tells_of_life_readiness_and_figures() {
    let world = World::born().await;
    let (served, _beating) = served(&world, &config()).await;
    get(served.at, "/api/v1/customers/C/balance", CUSTOMER_HEADERS).await;
    get(served.at, "/my/accounts/A1/balance", &[]).await;
    let rows = [
        ("GET", "/livez", 200, "text/plain; charset=utf-8", "ok\n"),
        ("HEAD", "/livez", 200, "text/plain; charset=utf-8", ""),
        ("GET", "/livez/", 404, "text/plain; charset=utf-8", "there are /livez, /readyz and /metrics\n"),
        ("POST", "/livez", 405, "text/plain; charset=utf-8", "only GET and HEAD are allowed\n"),
        ("GET", "/readyz", 200, "application/json", r#"{"ready":true,"reasons":[],"notes":[]}"#),
    ];
    for (method, path, status, kind, body) in rows {
        let answer = send(served.admin, method, path, &[]).await;
        assert_eq!((answer.status, answer.body.as_str()), (status, body), "{method} {path}");
        assert_eq!(answer.header("content-type"), Some(kind), "{method} {path}");
    }
    let rows = [
        ("balance_projector_requests_total{view=\"customer\",status=\"404\"}", "1"),
        ("balance_projector_requests_total{view=\"account\",status=\"401\"}", "1"),
        ("balance_projector_request_seconds_count{view=\"customer\"}", "1"),
        ("balance_projector_requests_open", "0"),
        ("balance_projector_min_position_waiters", "0"),
        ("balance_projector_ready", "1"),
    ];
    for (name, value) in rows {
        assert_eq!(served.metric(name).await.as_deref(), Some(value), "{name}");
    }
    let staleness: String = served.metric("balance_projector_staleness_seconds").await.unwrap();
    assert!(staleness.starts_with("0."), "{staleness}");
    // Neither view tells of it, and the views are not on the admin listener.
    assert_eq!(get(served.at, "/metrics", &[]).await.status, 404);
    assert_eq!(get(served.admin, "/api/v1/customers/C/balance", CUSTOMER_HEADERS).await.status, 404);
}

#[tokio::test]
async fn headers_that_are_too_long_are_431_and_no_http_is_400() {
    let world = World::born().await;
    let served = Served::start(world.store.clone(), &config()).await;
    let long: &'static str = "x".repeat(33 << 10).leak();
    let answer = get(served.at, "/my/accounts/A1/balance", &[("X-Filler", long)]).await;
    assert_eq!(answer.status, 431);
    assert_eq!(raw(served.at, b"nonsense\r\n\r\n").await.status, 400);
    assert_eq!(raw(served.at, b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n").await.status, 400);
    let fits: &'static str = "x".repeat(30 << 10).leak();
    assert_eq!(get(served.at, "/my/accounts/A1/balance", &[("X-Filler", fits)]).await.status, 401);
}

#[tokio::test]
async fn a_connection_answers_many_requests_also_those_with_a_body() {
    let world = World::born().await;
    let served = Served::start(world.store.clone(), &config()).await;
    let mut socket = TcpStream::connect(served.at).await.unwrap();
    let requests = "GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nxxHEAD /c HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    socket.write_all(requests.as_bytes()).await.unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    assert_eq!(text.matches("HTTP/1.1 404 Not Found\r\n").count(), 3, "{text}");
}

#[tokio::test]
async fn a_stop_answers_open_requests_and_takes_no_new_ones() {
    let world = World::born().await;
    world.payment(0, "C", "2019-01-01T00:00:00Z", profile("N", "1")).await;
    world.ledger(0, "A1", "2019-01-01T00:00:00Z", opened(&["EUR"], None)).await;
    let (mut served, _beating) = served(&world, &config()).await;
    let mut idle = TcpStream::connect(served.at).await.unwrap();
    let next =
        world.store.dump(super::world::GENERATION).positions[&super::world::LEDGER[0]].checkpoint.next.0;
    let wanted: &'static str = format!("ledger.events/0@{next}").leak();
    let at = served.at;
    let open = tokio::spawn(async move {
        let headers = changed(ACCOUNT_HEADERS, &[And("Projection-Min-Position", wanted)]);
        get(at, "/my/accounts/A1/balance", &headers).await
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    served.shutdown.cancel();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(TcpStream::connect(at).await.is_err(), "nothing new is taken");
    // An idle connection is closed at once.
    let mut rest = Vec::new();
    assert_eq!(idle.read_to_end(&mut rest).await.unwrap(), 0);
    assert!(!open.is_finished());
    world.skip(super::world::LEDGER[0]).await;
    assert_eq!(open.await.unwrap().status, 200);
    tokio::time::timeout(Duration::from_secs(1), &mut served.running).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stop_cuts_off_what_is_open_after_its_bound() {
    let world = World::born().await;
    let mut config = config();
    config.api.shutdown_ms_max = 300;
    config.api.min_position_wait_ms_max = 60_000;
    let (mut served, _beating) = served(&world, &config).await;
    let headers = changed(CUSTOMER_HEADERS, &[And("Projection-Min-Position", "ledger.events/0@1000")]);
    let mut request = "GET /api/v1/customers/C/balance HTTP/1.1\r\nHost: a\r\n".to_owned();
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut socket = TcpStream::connect(served.at).await.unwrap();
    socket.write_all(format!("{request}\r\n").as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let stopped = Instant::now();
    served.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(2), &mut served.running).await.unwrap().unwrap();
    assert!(stopped.elapsed() >= Duration::from_millis(300));
    let mut rest = Vec::new();
    assert_eq!(socket.read_to_end(&mut rest).await.unwrap_or(0), 0);
}
