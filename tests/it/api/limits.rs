//! How often a caller may ask, and what a connection may take.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use balance_projector::{
    config::Config,
    store::{CountStore, Quota, StoreError, memory::MemoryStore},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::world::{
    ACCOUNT_HEADERS, CUSTOMER_HEADERS,
    Change::{And, Instead, Without},
    Served, World, changed, config, get, opened, profile, send, served,
};

const A1: &str = "/my/accounts/A1/balance";
const A2: &str = "/v1/my/accounts/A2/balance";
const CUSTOMER: &str = "/api/v1/customers/C/balance";
const TOO_MANY: &str = r#"{"errors":[{"error":"TOO_MANY_REQUESTS"}]}"#;

async fn with_accounts() -> Arc<World> {
    let world = World::born().await;
    world.ledger(0, "A1", "2018-01-01T00:00:00Z", opened(&["EUR"], None)).await;
    world.ledger(1, "A2", "2018-01-01T00:00:00Z", opened(&["EUR"], None)).await;
    world.payment(0, "C", "2018-01-01T00:00:00Z", profile("N", "1")).await;
    world
}

fn unattended() -> Vec<(&'static str, &'static str)> {
    changed(ACCOUNT_HEADERS, &[Instead("User-Involved", "false")])
}

#[tokio::test]
async fn an_account_is_read_four_times_a_day_without_its_user() {
    let world = with_accounts().await;
    let (served, _beating) = served(&world, &config()).await;
    let first = get(served.at, A1, &unattended()).await;
    assert_eq!(first.status, 200);
    let etag: &'static str = first.header("etag").unwrap().to_owned().leak();
    // What is refused is not counted.
    for (path, changes, status) in [
        ("/my/accounts/A1/balance?currency=USD", &[][..], 400),
        ("/my/accounts/A3/balance", &[], 404),
        (A1, &[Without("X-Request-ID")], 400),
        (A1, &[Instead("Authorization", "Bearer wrong")], 401),
    ] {
        for _ in 0..5 {
            let answer = get(served.at, path, &changed(&unattended(), changes)).await;
            assert_eq!(answer.status, status, "{path} {changes:?}");
        }
    }
    let second = get(served.at, A1, &changed(&unattended(), &[And("If-None-Match", etag)])).await;
    assert_eq!(second.status, 304);
    assert_eq!(send(served.at, "HEAD", A1, &unattended()).await.status, 200);
    // The base path does not matter, nor does the way to say that no user is involved.
    let absent = changed(ACCOUNT_HEADERS, &[Without("User-Involved")]);
    assert_eq!(get(served.at, "/v1/my/accounts/A1/balance", &absent).await.status, 200);
    for header in ["false", "TRUE", "yes", ""] {
        let headers = changed(ACCOUNT_HEADERS, &[Instead("User-Involved", header)]);
        let fifth = get(served.at, A1, &headers).await;
        assert_eq!((fifth.status, fifth.body.as_str()), (429, TOO_MANY), "{header:?}");
        // It is noon in Prague.
        assert_eq!(fifth.header("retry-after"), Some("43200"));
        assert_eq!(fifth.header("cache-control"), Some("no-store"));
        assert!(fifth.header("x-request-id").is_some());
    }
    assert_eq!(send(served.at, "HEAD", A1, &unattended()).await.status, 429);
    // The currency before the limit.
    assert_eq!(get(served.at, "/my/accounts/A1/balance?currency=USD", &unattended()).await.status, 400);
    // With its user, another account, another provider.
    assert_eq!(get(served.at, A1, ACCOUNT_HEADERS).await.status, 200);
    assert_eq!(get(served.at, A2, &unattended()).await.status, 200);
    let other = changed(&unattended(), &[Instead("Authorization", "Bearer lasting")]);
    assert_eq!(get(served.at, A1, &other).await.status, 200);
    let counted =
        served.metric("balance_projector_refusals_total{view=\"account\",reason=\"unattended\"}").await;
    assert_eq!(counted.as_deref(), Some("5"));
}

#[tokio::test]
async fn processes_share_one_count_and_a_day_ends_at_midnight_of_the_zone() {
    let world = with_accounts().await;
    let _beating = world.beating();
    let counts = Arc::new(MemoryStore::new());
    let at =
        async |now: &str| Served::at(world.store.clone(), counts.clone(), &config(), now).await.ready().await;
    // A second before midnight in Prague.
    let (one, two) = (at("2019-01-06T22:59:59Z").await, at("2019-01-06T22:59:59Z").await);
    for served in [&one, &two, &one, &two] {
        assert_eq!(get(served.at, A1, &unattended()).await.status, 200);
    }
    for served in [&one, &two] {
        let answer = get(served.at, A1, &unattended()).await;
        assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")));
    }
    let tomorrow = at("2019-01-06T23:00:00Z").await;
    assert_eq!(get(tomorrow.at, A1, &unattended()).await.status, 200);
}

#[tokio::test]
async fn the_limit_of_reads_without_a_user_is_configuration() {
    let world = with_accounts().await;
    for (max, statuses) in [(1, [200, 429, 429, 429, 429, 429]), (0, [200; 6])] {
        let mut config = config();
        config.api.unattended_reads_max = max;
        let (served, _beating) = served(&world, &config).await;
        for status in statuses {
            assert_eq!(get(served.at, A1, &unattended()).await.status, status, "at most {max}");
        }
    }
}

struct Uncounted;

#[async_trait]
impl CountStore for Uncounted {
    async fn take(&self, _: &Quota, _: u32, _: bool) -> Result<bool, StoreError> {
        Err(StoreError::Transient { reason: "as told".to_owned() })
    }
}

#[tokio::test]
async fn what_cannot_be_counted_is_not_answered() {
    let world = with_accounts().await;
    let _beating = world.beating();
    let served = Served::counting(world.store.clone(), Arc::new(Uncounted), &config()).await.ready().await;
    assert_eq!(get(served.at, A1, &unattended()).await.status, 503);
    assert_eq!(get(served.at, A1, ACCOUNT_HEADERS).await.status, 200);
}

fn limited(per_second: u32) -> Config {
    let mut config = config();
    config.api.user_requests_per_second = per_second;
    config.api.user_requests_burst = 3;
    config.api.provider_requests_per_second = per_second;
    config.api.provider_requests_burst = 3;
    config
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_ask_again() {
    let world = with_accounts().await;
    let (served, _beating) = served(&world, &limited(1)).await;
    let other_user = changed(
        CUSTOMER_HEADERS,
        &[Instead("Authorization", "Basic b3RoZXI6cGFzczp3b3Jk"), Instead("ProfileId", "CCT")],
    );
    let other_provider = changed(ACCOUNT_HEADERS, &[Instead("Authorization", "Bearer lasting")]);
    // Wrong credentials take no token of anybody's.
    for _ in 0..5 {
        let wrong = changed(CUSTOMER_HEADERS, &[Instead("Authorization", "Basic b2NzdXNlcjp3cm9uZw==")]);
        assert_eq!(get(served.at, CUSTOMER, &wrong).await.status, 401);
    }
    for (path, headers, other) in
        [(CUSTOMER, CUSTOMER_HEADERS, other_user), (A1, ACCOUNT_HEADERS, other_provider)]
    {
        let started = Instant::now();
        let mut answered = 0;
        let limited = loop {
            let answer = get(served.at, path, headers).await;
            if answer.status != 200 {
                break answer;
            }
            answered += 1;
            assert!(answered < 50, "{path}: fifty at once and no limit");
        };
        // Three at once, and one more for each second that the test took.
        assert!((3..=3 + started.elapsed().as_secs()).contains(&answered), "{path}: {answered}");
        assert_eq!((limited.status, limited.header("retry-after")), (429, Some("1")), "{path}");
        assert_eq!(get(served.at, path, &other).await.status, 200, "another caller has its own");
    }
}

#[tokio::test]
async fn the_rate_is_told_after_what_is_wrong_with_the_request() {
    let world = with_accounts().await;
    let mut config = limited(1);
    config.api.provider_requests_burst = 1;
    config.api.user_requests_burst = 1;
    let (served, _beating) = served(&world, &config).await;
    let until_limited = async |path, headers| {
        for _ in 0..50 {
            let answer = get(served.at, path, headers).await;
            if answer.status == 429 {
                return answer;
            }
        }
        panic!("fifty at once and no limit");
    };
    let answer = until_limited(A1, ACCOUNT_HEADERS).await;
    assert_eq!(answer.body, TOO_MANY);
    for (path, status) in [("/my/accounts/A1/balance?currency=USD", 400), ("/my/accounts/none/balance", 404)]
    {
        assert_eq!(get(served.at, path, ACCOUNT_HEADERS).await.status, status, "{path}");
    }
    let answer = until_limited(CUSTOMER, CUSTOMER_HEADERS).await;
    assert_eq!(
        answer.body,
        r#"{"error":{"code":"429","message":"Too Many Requests","errors":[{"message":"The user asks too often"}]},"request_tracking_id":"12345"}"#
    );
}

#[tokio::test]
async fn what_a_connection_may_take_is_configuration() {
    let world = with_accounts().await;
    let mut config = config();
    config.api.connections_max = 1;
    config.api.headers_ms_max = 300;
    config.api.idle_ms_max = 600;
    config.api.header_bytes_max = 1 << 10;
    let (served, _beating) = served(&world, &config).await;
    let long: &'static str = "x".repeat(1 << 10).leak();
    assert_eq!(get(served.at, A1, &[("X-Filler", long)]).await.status, 431);
    // It sends half of its headers and holds the only place: the next one waits until it is let go.
    let started = Instant::now();
    let mut slow = TcpStream::connect(served.at).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(get(served.at, A1, ACCOUNT_HEADERS).await.status, 200);
    assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());
    let mut rest = Vec::new();
    assert_eq!(slow.read_to_end(&mut rest).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn refusals_are_counted_by_reason() {
    let world = with_accounts().await;
    let (served, _beating) = served(&world, &config()).await;
    let account = |changes: &[_]| changed(ACCOUNT_HEADERS, changes);
    let customer = |changes: &[_]| changed(CUSTOMER_HEADERS, changes);
    let rows = [
        ("account", "no-credentials", A1, account(&[Without("API-key")])),
        ("account", "unknown-token", A1, account(&[Instead("Authorization", "Bearer wrong")])),
        ("account", "wrong-api-key", A1, account(&[Instead("API-key", "wrong")])),
        ("account", "expired", A1, account(&[Instead("Authorization", "Bearer expired")])),
        ("account", "headers", A1, account(&[Without("TPP-Name")])),
        ("account", "not-acceptable", A1, account(&[And("Accept", "text/html")])),
        ("account", "media-type", A1, account(&[Instead("Content-Type", "text/plain")])),
        ("account", "not-consented", "/my/accounts/B/balance", account(&[])),
        ("account", "not-found", "/my/accounts/A3/balance", account(&[])),
        ("account", "currency", "/my/accounts/A1/balance?currency=x", account(&[])),
        ("customer", "no-credentials", CUSTOMER, customer(&[Without("Authorization")])),
        ("customer", "wrong-password", CUSTOMER, customer(&[Instead("Authorization", "Basic YTpi")])),
        ("customer", "headers", CUSTOMER, customer(&[Without("ProfileId")])),
        ("customer", "profile", CUSTOMER, customer(&[Instead("ProfileId", "CCT")])),
        ("customer", "customer", CUSTOMER, customer(&[Instead("ProfileId", "Narrow")])),
        ("customer", "not-found", "/api/v1/customers/none/balance", customer(&[])),
    ];
    for (view, reason, path, headers) in rows {
        assert_ne!(get(served.at, path, &headers).await.status, 200, "{reason}");
        let name = format!("balance_projector_refusals_total{{view=\"{view}\",reason=\"{reason}\"}}");
        assert_eq!(served.metric(&name).await.as_deref(), Some("1"), "{reason}");
    }
}
