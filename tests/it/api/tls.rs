//! HTTPS: certificates of the server and of its clients.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use balance_projector::{
    api::Settings,
    config::{ClientCertificates, Config},
    tls::{self, Identity},
};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::world::{
    ACCOUNT_HEADERS, CUSTOMER_HEADERS, Change::Instead, Change::Without, World, changed, config, opened,
    profile,
};
use crate::support::certificates::{Authority, mode};

const A1: &str = "/my/accounts/A1/balance";
const CUSTOMER: &str = "/api/v1/customers/C/balance";

async fn world() -> Arc<World> {
    let world = World::born().await;
    world.ledger(0, "A1", "2018-01-01T00:00:00Z", opened(&["EUR"], None)).await;
    world.payment(0, "C", "2018-01-01T00:00:00Z", profile("N", "1")).await;
    world
}

fn secured(by: &Identity) -> Config {
    let mut config = config();
    config.api.tls.certificate_file = Some(by.certificate.clone());
    config.api.tls.key_file = Some(by.key.clone());
    config
}

async fn connect(
    at: SocketAddr,
    authority: &Path,
    identity: Option<&Identity>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let config = tls::client(Some(authority), identity).unwrap();
    let socket = TcpStream::connect(at).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), socket).await
}

/// Sends a request on an open connection; gives the status of its answer, or none where the server closed.
async fn ask(
    socket: &mut TlsStream<TcpStream>,
    path: &str,
    headers: &[(&str, &str)],
) -> std::io::Result<Option<u16>> {
    let mut request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    socket.write_all(format!("{request}\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    loop {
        let mut chunk = [0; 2_048];
        let read = socket.read(&mut chunk).await?;
        if read == 0 {
            return Ok(None);
        }
        answer.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            return Ok(Some(head["HTTP/1.1 ".len()..][..3].parse().unwrap()));
        }
    }
}

/// A connection and one request; none where the handshake fails, which a client of TLS 1.3 learns late.
async fn once(
    at: SocketAddr,
    authority: &Path,
    identity: Option<&Identity>,
    path: &str,
    headers: &[(&str, &str)],
) -> Option<u16> {
    let mut socket = connect(at, authority, identity).await.ok()?;
    ask(&mut socket, path, headers).await.ok().flatten()
}

#[tokio::test]
async fn both_views_answer_by_https_and_by_nothing_else() {
    let world = world().await;
    let authority = Authority::new();
    let (served, _beating) = super::world::served(&world, &secured(&authority.issue("server", "Bank"))).await;
    let mut socket = connect(served.at, &authority.file, None).await.unwrap();
    assert_eq!(socket.get_ref().1.alpn_protocol(), None);
    assert_eq!(ask(&mut socket, A1, ACCOUNT_HEADERS).await.unwrap(), Some(200));
    assert_eq!(ask(&mut socket, CUSTOMER, CUSTOMER_HEADERS).await.unwrap(), Some(200), "on one connection");
    // Plain HTTP gets no HTTP.
    let mut plain = TcpStream::connect(served.at).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    drop(plain.read_to_end(&mut rest).await);
    assert!(!rest.starts_with(b"HTTP"), "{rest:?}");
    assert!(connect(served.at, &Authority::new().file, None).await.is_err(), "another authority's");
    let ends = served.metric("balance_projector_tls_certificate_ends_timestamp_seconds").await;
    // The first of January 2999.
    assert_eq!(ends.as_deref(), Some("32472144000"));
    // The server learns of it a moment later than the client.
    for _ in 0..400 {
        let failed = served.metric("balance_projector_tls_handshakes_failed_total").await;
        if failed.as_deref() == Some("2") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("two handshakes failed, and were not counted");
}

#[tokio::test]
async fn a_client_needs_a_certificate_of_the_authority_that_has_not_ended() {
    let world = world().await;
    let (authority, stranger) = (Authority::new(), Authority::new());
    let mut config = secured(&authority.issue("server", "Bank"));
    config.api.tls.client_ca_file = Some(authority.file.clone());
    let good = authority.issue("client", "TPP");
    let expired = authority.issue_until("expired", "TPP", 2001);
    let foreign = stranger.issue("foreign", "TPP");
    for (required, without) in
        [(ClientCertificates::Required, None), (ClientCertificates::Optional, Some(200))]
    {
        config.api.tls.client_certificates = required;
        let (served, _beating) = super::world::served(&world, &config).await;
        let rows = [
            ("good", Some(&good), Some(200)),
            ("expired", Some(&expired), None),
            ("another authority's", Some(&foreign), None),
            ("none", None, without),
        ];
        for (name, identity, expected) in rows {
            let status = once(served.at, &authority.file, identity, A1, ACCOUNT_HEADERS).await;
            assert_eq!(status, expected, "{name}, {required:?}");
        }
    }
}

#[tokio::test]
async fn the_organisation_of_the_certificate_is_the_tpp_name() {
    let world = world().await;
    let authority = Authority::new();
    let mut config = secured(&authority.issue("server", "Bank"));
    config.api.tls.client_ca_file = Some(authority.file.clone());
    config.api.tls.client_certificates = ClientCertificates::Optional;
    config.api.tls.match_organisation = true;
    let (served, _beating) = super::world::served(&world, &config).await;
    let tpp = authority.issue("tpp", "Google China");
    let other = authority.issue("other", "Google");
    let named = |name| changed(ACCOUNT_HEADERS, &[Instead("TPP-Name", name)]);
    let rows = [
        ("its own name", Some(&tpp), ACCOUNT_HEADERS.to_vec(), Some(200)),
        ("in capitals", Some(&tpp), named("GOOGLE CHINA"), Some(403)),
        ("another's name", Some(&other), ACCOUNT_HEADERS.to_vec(), Some(403)),
        ("no certificate", None, ACCOUNT_HEADERS.to_vec(), Some(403)),
        ("no name", Some(&tpp), changed(ACCOUNT_HEADERS, &[Without("TPP-Name")]), Some(400)),
        (
            "a wrong token is told first",
            None,
            changed(ACCOUNT_HEADERS, &[Instead("API-key", "x")]),
            Some(401),
        ),
    ];
    for (name, identity, headers, expected) in rows {
        let status = once(served.at, &authority.file, identity, A1, &headers).await;
        assert_eq!(status, expected, "{name}");
    }
    // View one names no provider.
    assert_eq!(once(served.at, &authority.file, None, CUSTOMER, CUSTOMER_HEADERS).await, Some(200));
    let refused =
        served.metric("balance_projector_refusals_total{view=\"account\",reason=\"organisation\"}").await;
    assert_eq!(refused.as_deref(), Some("3"));
}

#[tokio::test]
async fn a_certificate_is_replaced_without_a_request_dropped() {
    let world = world().await;
    let (before, after) = (Authority::new(), Authority::new());
    let identity = before.issue("server", "Bank");
    let config = secured(&identity);
    let (served, _beating) = super::world::served(&world, &config).await;
    let mut open = connect(served.at, &before.file, None).await.unwrap();
    assert_eq!(ask(&mut open, A1, ACCOUNT_HEADERS).await.unwrap(), Some(200));
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let (stopped, counted, at) = (Arc::clone(&stop), Arc::clone(&answered), served.at);
    let authority = before.file.clone();
    let asking = tokio::spawn(async move {
        let mut socket = connect(at, &authority, None).await.unwrap();
        while !stopped.load(Ordering::Relaxed) {
            assert_eq!(ask(&mut socket, A1, ACCOUNT_HEADERS).await.unwrap(), Some(200));
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    // A key that is not the certificate's: what was in force goes on.
    let replacement = after.issue("server", "Bank");
    std::fs::copy(&replacement.certificate, &identity.certificate).unwrap();
    assert!(served.reloader.reload(Settings::of(&config)).await.is_err());
    assert_eq!(once(served.at, &before.file, None, A1, ACCOUNT_HEADERS).await, Some(200));
    std::fs::copy(&replacement.key, &identity.key).unwrap();
    for _ in 0..20 {
        served.reloader.reload(Settings::of(&config)).await.unwrap();
    }
    assert_eq!(once(served.at, &after.file, None, A1, ACCOUNT_HEADERS).await, Some(200));
    assert_eq!(once(served.at, &before.file, None, A1, ACCOUNT_HEADERS).await, None);
    assert_eq!(ask(&mut open, A1, ACCOUNT_HEADERS).await.unwrap(), Some(200), "it was open before");
    let so_far = answered.load(Ordering::Relaxed);
    while answered.load(Ordering::Relaxed) == so_far {
        assert!(!asking.is_finished());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.store(true, Ordering::Relaxed);
    asking.await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_clients_will_not_take_replaces_none() {
    let world = world().await;
    let authority = Authority::new();
    let identity = authority.issue("server", "Bank");
    let config = secured(&identity);
    let (served, _beating) = super::world::served(&world, &config).await;
    let rows = [
        ((2000, 2001), "ended at 2001-01-01T00:00:00Z"),
        ((2100, 2999), "begins only at 2100-01-01T00:00:00Z"),
    ];
    for ((from, until), expected) in rows {
        let untimely = authority.issue_between("untimely", "Bank", from, until);
        std::fs::copy(&untimely.certificate, &identity.certificate).unwrap();
        std::fs::copy(&untimely.key, &identity.key).unwrap();
        let error = served.reloader.reload(Settings::of(&config)).await.expect_err("is refused").to_string();
        assert!(error.contains("api.tls.certificate_file") && error.contains(expected), "{error}");
        assert_eq!(
            once(served.at, &authority.file, None, A1, ACCOUNT_HEADERS).await,
            Some(200),
            "{expected}"
        );
    }
    let ends = served.metric("balance_projector_tls_certificate_ends_timestamp_seconds").await;
    assert_eq!(ends.as_deref(), Some("32472144000"), "that of the certificate in use");
    let refused = served.metric("balance_projector_reloads_total{result=\"refused\"}").await;
    assert_eq!(refused.as_deref(), Some("2"));
}

#[tokio::test]
async fn a_certificate_that_has_ended_keeps_nobody_from_being_shut_out() {
    let world = world().await;
    let authority = Authority::new();
    let mut config = secured(&authority.issue_between("untimely", "Bank", 2000, 2001));
    let (served, _beating) = super::world::served(&world, &config).await;
    config.api.blocked.push("somebody".to_owned());
    served.reloader.reload(Settings::of(&config)).await.expect("the certificate is the one in use");
}

#[tokio::test]
async fn a_handshake_has_the_bound_of_headers() {
    let world = world().await;
    let authority = Authority::new();
    let mut config = secured(&authority.issue("server", "Bank"));
    config.api.headers_ms_max = 300;
    let (served, _beating) = super::world::served(&world, &config).await;
    let started = Instant::now();
    let mut silent = TcpStream::connect(served.at).await.unwrap();
    let mut rest = Vec::new();
    drop(tokio::time::timeout(Duration::from_secs(20), silent.read_to_end(&mut rest)).await.unwrap());
    assert!(started.elapsed() >= Duration::from_millis(300));
}

#[test]
fn keys_that_others_may_read_are_refused() {
    let authority = Authority::new();
    let identity = authority.issue("server", "Bank");
    let config = secured(&identity);
    assert!(Settings::of(&config).is_ok() && config.check_files().is_ok());
    for others in [0o604, 0o602, 0o644] {
        mode(&identity.key, others);
        let error = Settings::of(&config).err().expect("is refused").to_string();
        assert!(error.contains("api.tls") && error.contains("others may use it"), "{error}");
        let error = config.check_files().expect_err("is refused").to_string();
        assert!(error.contains("api.tls.key_file") && error.contains("others may use it"), "{error}");
    }
    mode(&identity.key, 0o640);
    assert!(Settings::of(&config).is_ok());
    std::fs::write(&identity.key, "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
        .unwrap();
    let error = Settings::of(&config).err().expect("is refused").to_string();
    assert!(!error.contains("c2VjcmV0"), "{error}");
}
