//! Limited reads are counted once for all processes, on both stores alike.

use std::sync::Arc;

use balance_projector::{
    config,
    domain::AccountId,
    store::{CountStore, Quota, StoreError, memory::MemoryStore, redis::RedisStore},
};
use futures::future::join_all;

use crate::support::redis::Server;

fn quota(day: &str, caller: &str, account: &str) -> Quota {
    Quota {
        day: day.to_owned(),
        caller: caller.to_owned(),
        account: AccountId::parse(account).expect("an id"),
    }
}

fn redis(server: &Server) -> RedisStore {
    RedisStore::new(&config::Redis { url: server.url(), ..config::Redis::default() }).expect("a store")
}

async fn counts_apart(store: &dyn CountStore) {
    let ours = quota("2019-01-06", "tpp:one", "A1");
    let take = |quota: Quota, count| async move { store.take(&quota, 2, count).await.expect("an answer") };
    assert!(take(ours.clone(), false).await, "asking counts nothing");
    assert!(take(ours.clone(), true).await);
    assert!(take(ours.clone(), true).await);
    assert!(!take(ours.clone(), true).await);
    assert!(!take(ours.clone(), false).await);
    for other in [quota("2019-01-06", "tpp:two", "A1"), quota("2019-01-06", "tpp:one", "A2")] {
        assert!(take(other.clone(), true).await, "{other:?}");
    }
    // The next day begins with none.
    assert!(take(quota("2019-01-07", "tpp:one", "A1"), true).await);
}

#[tokio::test]
async fn callers_accounts_and_days_are_counted_apart() {
    counts_apart(&MemoryStore::new()).await;
    let server = Server::start();
    counts_apart(&redis(&server)).await;
    // Under a family of its own, which says who only to those who know, and goes by itself.
    let keys: Vec<String> = server.command(&["KEYS", "*"]);
    assert_eq!(keys.len(), 4, "{keys:?}");
    for key in keys {
        assert!(key.starts_with("{bp}:u:2019-01-0") && !key.contains("tpp"), "{key}");
        let seconds: i64 = server.command(&["TTL", &key]);
        assert!((86_400..=172_800).contains(&seconds), "{key} goes in {seconds} s");
    }
}

#[tokio::test]
async fn two_processes_that_count_at_once_never_let_one_more_through() {
    let server = Server::start();
    let processes = [redis(&server), redis(&server)];
    let ours = quota("2019-01-06", "tpp", "A1");
    let takes = (0..100).map(|n| processes[n % 2].take(&ours, 4, true));
    let let_through = join_all(takes).await.into_iter().filter(|taken| *taken == Ok(true)).count();
    assert_eq!(let_through, 4);
}

#[tokio::test]
async fn a_store_that_is_gone_counts_nothing_and_says_so() {
    let mut server = Server::start();
    let store = Arc::new(redis(&server));
    let ours = quota("2019-01-06", "tpp", "A1");
    assert_eq!(store.take(&ours, 4, true).await, Ok(true));
    server.kill();
    let answer = store.take(&ours, 4, true).await;
    assert!(matches!(answer, Err(StoreError::Transient { .. })), "{answer:?}");
}
