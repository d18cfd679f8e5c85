//! What a caller may try: to tell accounts that are not its own from absent ones, to hide a request in another,
//! to be slow, to be many.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, Version};
use balance_projector::domain::{AccountFact, Subject};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::world::{
    ACCOUNT_HEADERS, Answer,
    Change::{self, And, Instead, Without},
    Faulty, LEDGER, Served, World, account_id, changed, config, get, opened, send, served,
};

/// The answer without what is of the moment.
fn bytes(mut answer: Answer) -> Answer {
    answer.headers.retain(|(name, _)| name != "date");
    answer
}

#[tokio::test]
async fn anothers_account_is_answered_as_an_absent_one_whatever_is_asked() {
    let world = World::born().await;
    // B1 stands, B2 is on hold, B3 is closed: all of another provider. A5 is closed, and the caller's.
    for account in ["B1", "B2", "B3", "A5"] {
        world.ledger(0, account, "2018-01-01T00:00:00Z", opened(&["EUR"], None)).await;
    }
    for account in ["B3", "A5"] {
        world.ledger(0, account, "2018-01-02T00:00:00Z", AccountFact::Closed).await;
    }
    world.quarantine(LEDGER[0], Subject::Account(account_id("B2")), "2019-01-01T00:00:00Z", &[]).await;
    let (served, _beating) = served(&world, &config()).await;
    let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"];
    let queries = ["", "?currency=EUR", "?currency=eur", "?currency=EUR&currency=EUR", "?currency=%", "?x=1"];
    let headers: &[&[Change]] = &[
        &[],
        &[Instead("User-Involved", "false")],
        &[Without("User-Involved")],
        &[Without("TPP-Name")],
        &[Without("X-Request-ID")],
        &[Without("API-key")],
        &[Instead("Authorization", "Bearer expired")],
        &[Instead("Authorization", "Bearer wrong")],
        &[And("If-None-Match", "*")],
        &[And("If-Match", "*")],
        &[And("Range", "bytes=0-1")],
        &[And("Accept", "text/html")],
        &[Instead("Content-Type", "text/plain")],
        &[And("Projection-Min-Position", "ledger.events/0@1")],
        &[And("Projection-Min-Position", "nonsense")],
        &[And("X-HTTP-Method-Override", "DELETE")],
        &[And("X-Original-URL", "/my/accounts/A1/balance")],
        &[And("Expect", "100-continue")],
    ];
    let mut told = 0;
    for method in methods {
        for query in queries {
            // Every header with the plain question, and every question with the plain headers.
            let rows = if query.is_empty() { headers } else { &headers[..2] };
            for changes in rows {
                let headers = changed(ACCOUNT_HEADERS, changes);
                let mut answers = Vec::new();
                for id in ["none", "A3", "A5", "B1", "B2", "B3", "B%31", "..", "a:b"] {
                    let path = format!("/my/accounts/{id}/balance{query}");
                    answers.push((id, bytes(send(served.at, method, &path, &headers).await)));
                }
                let (_, absent) = &answers[0];
                for (id, answer) in &answers[1..] {
                    assert_eq!(answer, absent, "{method} {id}{query} {changes:?}");
                    told += 1;
                }
            }
        }
    }
    assert!(told > 1_000, "{told}");
    // And it is 404 for who may ask: not the same error for everything.
    assert_eq!(get(served.at, "/my/accounts/B1/balance", ACCOUNT_HEADERS).await.status, 404);
}

#[tokio::test]
async fn anothers_account_is_not_even_looked_at() {
    let world = World::born().await;
    for account in ["A1", "B1"] {
        world.ledger(0, account, "2018-01-01T00:00:00Z", opened(&["EUR"], None)).await;
    }
    let _beating = world.beating();
    let store = Faulty::new(world.store.clone());
    let served = Served::start(store.clone(), &config()).await.ready().await;
    // From here on a look is a fault: so there is no time that could tell one from the other.
    store.panics.store(true, Ordering::Relaxed);
    let looked = get(served.at, "/my/accounts/A1/balance", ACCOUNT_HEADERS).await;
    assert_eq!(looked.status, 500);
    for id in ["B1", "none", "B%31", ".."] {
        let path = format!("/my/accounts/{id}/balance");
        assert_eq!(get(served.at, &path, ACCOUNT_HEADERS).await.status, 404, "{id}");
    }
}

/// Sends these bytes, says nothing more, and counts the answers until the server closes.
async fn answers(at: std::net::SocketAddr, request: &str) -> (usize, String) {
    let mut socket = TcpStream::connect(at).await.unwrap();
    // Closed already, where the first part was enough.
    drop(socket.write_all(request.as_bytes()).await);
    let mut text = Vec::new();
    drop(tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut text)).await.unwrap());
    let text = String::from_utf8_lossy(&text).into_owned();
    (text.matches("HTTP/1.1 ").count(), text)
}

#[tokio::test]
async fn a_request_that_hides_another_is_answered_once() {
    let world = World::born().await;
    let mut config = config();
    config.api.idle_ms_max = 500;
    let (served, _beating) = served(&world, &config).await;
    let hidden = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = "GET /shown HTTP/1.1\r\nHost: a\r\n";
    let rows = [
        (
            "both lengths",
            format!("{head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        (
            "both, the other way",
            format!("{head}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        (
            "two lengths",
            format!("{head}Content-Length: 0\r\nContent-Length: {}\r\n\r\n{hidden}", hidden.len()),
        ),
        ("a list of lengths", format!("{head}Content-Length: 0, {}\r\n\r\n{hidden}", hidden.len())),
        ("a signed length", format!("{head}Content-Length: +0\r\n\r\n{hidden}")),
        ("a length in hexadecimal", format!("{head}Content-Length: 0x0\r\n\r\n{hidden}")),
        ("an unknown coding", format!("{head}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{hidden}")),
        (
            "a coding after chunked",
            format!("{head}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        (
            "two codings",
            format!(
                "{head}Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"
            ),
        ),
        ("chunks alone", format!("{head}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}")),
        ("a broken chunk", format!("{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n{hidden}")),
        (
            "a chunk's size too large",
            format!("{head}Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n\r\n{hidden}"),
        ),
        ("a blank before the colon", format!("{head}Content-Length : {}\r\n\r\n{hidden}", hidden.len())),
        ("a folded line", format!("{head}X: a\r\n Content-Length: {}\r\n\r\n{hidden}", hidden.len())),
        ("a zero byte", format!("{head}X: a\0b\r\n\r\n{hidden}")),
        ("a bare return", format!("{head}X: a\rContent-Length: 0\r\n\r\n{hidden}")),
        (
            "an older protocol with chunks",
            format!("GET /shown HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        ("another protocol", format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{hidden}")),
        ("no host", format!("GET /shown HTTP/1.1\r\n\r\n{hidden}")),
        ("two hosts", format!("{head}Host: b\r\n\r\n{hidden}")),
    ];
    for (name, request) in rows {
        let (count, text) = answers(served.at, &request).await;
        assert!(count <= 1, "{name}: {text}");
    }
    for request in ["GET /livez HTTP/1.1\r\n\r\n".to_owned(), format!("{head}Host: b\r\n\r\n")] {
        let (_, text) = answers(served.at, &request).await;
        assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{text}");
    }
    // What is no trick is answered as often as it is asked.
    let (count, text) = answers(served.at, &format!("{head}\r\n{hidden}")).await;
    assert_eq!(count, 2, "{text}");
}

#[tokio::test]
async fn headers_that_come_byte_by_byte_have_the_same_bound_as_others() {
    let world = World::born().await;
    let mut config = config();
    config.api.headers_ms_max = 500;
    let (served, _beating) = served(&world, &config).await;
    let mut socket = TcpStream::connect(served.at).await.unwrap();
    let started = Instant::now();
    let request = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(1_000));
    for byte in request.bytes() {
        if socket.write_all(&[byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut rest = Vec::new();
    assert_eq!(socket.read_to_end(&mut rest).await.unwrap_or(0), 0);
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(498), "{took:?}");
    assert!(took < Duration::from_secs(20), "all of it was waited for: {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_wrong_passwords_leaves_others_their_answers() {
    let world = World::born().await;
    world.ledger(0, "A1", "2018-01-01T00:00:00Z", opened(&["EUR"], None)).await;
    let mut config = config();
    // As `hash-password` makes them, nearly: some 20 ms of a processor each.
    let costly = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(19_456, 2, 1, None).unwrap());
    config.api.users[0].password_hash = costly.hash_password(b"ocsuser").unwrap().to_string();
    let (served, _beating) = served(&world, &config).await;
    let (stop, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let at = served.at;
    let flood: Vec<_> = (0..64)
        .map(|_| {
            let (stop, refused) = (Arc::clone(&stop), Arc::clone(&refused));
            tokio::spawn(async move {
                let wrong = [("Authorization", "Basic b2NzdXNlcjp3cm9uZw==")];
                while !stop.load(Ordering::Relaxed) {
                    let status = get(at, "/api/v1/customers/C/balance", &wrong).await.status;
                    assert!([401, 503].contains(&status), "{status}");
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    while refused.load(Ordering::Relaxed) < 20 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let started = Instant::now();
    let before = refused.load(Ordering::Relaxed);
    for _ in 0..100 {
        assert_eq!(get(at, "/my/accounts/A1/balance", ACCOUNT_HEADERS).await.status, 200);
    }
    let (took, verified) = (started.elapsed(), refused.load(Ordering::Relaxed) - before);
    stop.store(true, Ordering::Relaxed);
    for part in flood {
        part.await.unwrap();
    }
    // Behind the flood in one queue, each of the hundred would wait for some sixty verifications.
    assert!(verified < 6_000, "{verified} passwords were verified meanwhile, in {took:?}");
}
