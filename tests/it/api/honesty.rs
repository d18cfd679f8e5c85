//! Never a wrong number as a right one: completeness, freshness, positions, and a store in trouble.
#![allow(clippy::arithmetic_side_effects, reason = "a test fails where it overflows")]

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::world::{
    ACCOUNT_HEADERS, Answer, CUSTOMER_HEADERS, Change::And, Faulty, GENERATION, LEDGER, PAYMENT, Served,
    World, booked, changed, config, get, opened, profile, send, served,
};

/// A1 in ledger/0 with a due of C, A2 in ledger/1, and C in payment/0.
async fn world() -> Arc<World> {
    let world = World::born().await;
    let at = "2019-01-01T00:00:00Z";
    world.ledger(0, "A1", at, opened(&["EUR"], Some("C"))).await;
    world.ledger(1, "A2", at, opened(&["EUR"], None)).await;
    world.payment(0, "C", at, profile("N", "1")).await;
    world
}

async fn account(served: &Served, id: &str) -> Answer {
    get(served.at, &format!("/my/accounts/{id}/balance"), ACCOUNT_HEADERS).await
}

async fn customer(served: &Served, id: &str) -> Answer {
    get(served.at, &format!("/api/v1/customers/{id}/balance"), CUSTOMER_HEADERS).await
}

/// The statuses of: A1, A2, an absent account, one outside the consent; C, an absent customer, one that
/// cannot be.
async fn statuses(served: &Served) -> [u16; 7] {
    [
        account(served, "A1").await.status,
        account(served, "A2").await.status,
        account(served, "A5").await.status,
        account(served, "B1").await.status,
        customer(served, "C").await.status,
        customer(served, "nobody").await.status,
        customer(served, "a%20b").await.status,
    ]
}

const ALL_WELL: [u16; 7] = [200, 200, 404, 404, 200, 404, 404];

fn unavailable(message: &str) -> String {
    format!(
        r#"{{"error":{{"code":"503","message":"Service Unavailable","errors":[{{"message":"{message}"}}]}},"request_tracking_id":"12345"}}"#
    )
}

#[tokio::test]
async fn nothing_is_told_before_the_projection_is_complete() {
    let world = world().await;
    let served = Served::start(world.store.clone(), &config()).await;
    served.wait_for(|reasons| reasons.iter().any(|r| r.contains("is not complete"))).await;
    assert_eq!(statuses(&served).await, [503; 7]);
    let answer = customer(&served, "C").await;
    assert_eq!(answer.body, unavailable("The projection is not complete"));
    assert_eq!(answer.header("retry-after"), Some("5"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));

    // One partition is enough, whatever an answer rests on: a key may be on hold in it.
    let beating = world.beating_but(&PAYMENT[1..]);
    served.wait_for(|reasons| reasons == ["payment/1 is not complete"]).await;
    assert_eq!(statuses(&served).await, [503; 7]);
    let ready = send(served.admin, "GET", "/readyz", &[]).await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.body, r#"{"ready":false,"reasons":["payment/1 is not complete"],"notes":[]}"#);
    drop(beating);

    let _beating = world.beating();
    let served = served.ready().await;
    assert_eq!(statuses(&served).await, ALL_WELL);
    let ready = send(served.admin, "GET", "/readyz", &[]).await;
    assert_eq!((ready.status, ready.body.as_str()), (200, r#"{"ready":true,"reasons":[],"notes":[]}"#));
}

#[tokio::test]
async fn without_an_active_generation_there_is_nothing_to_look_up_in() {
    let empty = Arc::new(balance_projector::store::memory::MemoryStore::new());
    let served = Served::start(empty, &config()).await;
    served.wait_for(|reasons| reasons == ["no generation is active, or none was seen yet"]).await;
    assert_eq!(statuses(&served).await, [503; 7]);
}

#[tokio::test]
async fn an_answer_is_as_old_as_the_partitions_that_it_rests_on() {
    let world = world().await;
    let mut config = config();
    config.api.max_staleness_ms = 3_000;
    let all = world.beating();
    let served = Served::start(world.store.clone(), &config).await.ready().await;
    assert_eq!(statuses(&served).await, ALL_WELL);
    drop(all);

    // ledger/1 falls silent, as with a projector that died.
    let without_ledger_1 = world.beating_but(&LEDGER[1..]);
    let silent_since = Instant::now();
    served.wait_for(|reasons| reasons.iter().any(|r| r.starts_with("ledger/1 was last caught up"))).await;
    let took = silent_since.elapsed();
    assert!(took > Duration::from_millis(2_500), "{took:?}");
    // A1 rests on ledger/0 alone; an absent account and every customer on all of the ledger.
    assert_eq!(statuses(&served).await, [200, 503, 503, 503, 503, 503, 503]);
    assert_eq!(customer(&served, "C").await.body, unavailable("The projection is not fresh"));
    drop(without_ledger_1);

    // payment/1 falls silent: C lives in payment/0, an absent customer may live in either.
    let without_payment_1 = world.beating_but(&PAYMENT[1..]);
    served.wait_for(|reasons| reasons.len() == 1 && reasons[0].starts_with("payment/1 was last")).await;
    assert_eq!(statuses(&served).await, [200, 200, 404, 404, 200, 503, 503]);
    drop(without_payment_1);

    let _all = world.beating();
    let served = served.ready().await;
    assert_eq!(statuses(&served).await, ALL_WELL);
}

#[tokio::test]
async fn as_of_is_the_oldest_of_what_an_answer_rests_on() {
    let world = world().await;
    let mut config = config();
    config.api.max_staleness_ms = 30_000;
    let served = Served::start(world.store.clone(), &config).await;
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (beating, stopped) = (Arc::clone(&world), Arc::clone(&stop));
    tokio::spawn(async move {
        while !stopped.load(Ordering::Relaxed) {
            for (partition, ms) in
                [(LEDGER[0], 0), (LEDGER[1], 6_000), (PAYMENT[0], 3_000), (PAYMENT[1], 8_000)]
            {
                beating.beat(partition, ms).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let served = served.ready().await;
    // The clock stands at 11:00:00; sampling may add some.
    let within = |answer: Answer, from: &str, to: &str| {
        let as_of = answer.header("projection-as-of").unwrap();
        assert!((from..to).contains(&as_of), "{as_of} is not within {from} and {to}");
    };
    within(account(&served, "A1").await, "2019-01-06T10:59:56.000Z", "2019-01-06T11:00:00.000Z");
    within(account(&served, "A2").await, "2019-01-06T10:59:51.000Z", "2019-01-06T10:59:54.001Z");
    within(customer(&served, "C").await, "2019-01-06T10:59:51.000Z", "2019-01-06T10:59:54.001Z");
    stop.store(true, Ordering::Relaxed);
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_no_404() {
    let world = world().await;
    let faulty = Faulty::new(world.store.clone());
    let _beating = world.beating();
    let served = Served::start(faulty.clone(), &config()).await.ready().await;
    faulty.fails.store(true, Ordering::Relaxed);
    served.wait_for(|reasons| reasons == ["the store did not answer: as told"]).await;
    assert_eq!(statuses(&served).await, [503; 7]);
    assert_eq!(customer(&served, "C").await.body, unavailable("The store is not available"));
    assert_eq!(account(&served, "A1").await.body, r#"{"errors":[{"error":"SERVICE_UNAVAILABLE"}]}"#);
    faulty.fails.store(false, Ordering::Relaxed);
    let served = served.ready().await;
    assert_eq!(statuses(&served).await, ALL_WELL);
    let errors: u32 =
        served.metric("balance_projector_store_read_errors_total").await.unwrap().parse().unwrap();
    assert!(errors >= 9, "{errors}");
}

#[tokio::test]
async fn a_store_that_evicts_is_not_believed() {
    let world = world().await;
    let faulty = Faulty::new(world.store.clone());
    faulty.corrupt.store(true, Ordering::Relaxed);
    let _beating = world.beating();
    let served = Served::start(faulty, &config()).await;
    served.wait_for(|reasons| reasons == ["it evicts"]).await;
    assert_eq!(statuses(&served).await, [503; 7]);
}

#[tokio::test]
async fn a_fault_of_the_program_is_a_500_and_the_next_request_is_answered() {
    let world = world().await;
    let faulty = Faulty::new(world.store.clone());
    let _beating = world.beating();
    let served = Served::start(faulty.clone(), &config()).await.ready().await;
    faulty.panics.store(true, Ordering::Relaxed);
    let answer = customer(&served, "C").await;
    let body = r#"{"error":{"code":"500","message":"Internal Server Error","errors":[{"message":"The request failed"}]},"request_tracking_id":"12345"}"#;
    assert_eq!((answer.status, answer.body.as_str()), (500, body));
    let answer = account(&served, "A1").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (500, r#"{"errors":[{"error":"INTERNAL_SERVER_ERROR"}]}"#)
    );
    assert!(answer.header("x-request-id").is_some());
    faulty.panics.store(false, Ordering::Relaxed);
    assert_eq!(statuses(&served).await, ALL_WELL);
}

#[tokio::test]
async fn an_older_dump_is_not_served_until_it_has_been_folded_again() {
    let world = world().await;
    let beating = world.beating();
    let served = Served::start(world.store.clone(), &config()).await.ready().await;
    let older = world.store.snapshot();
    // Every partition moves on from there.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let at = "2019-01-02T00:00:00Z";
    world.ledger(0, "A1", at, booked("E1", "5", "EUR", "2019-01-02", None)).await;
    let answer = account(&served, "A1").await;
    assert!(answer.body.contains(r#""value":5.00"#), "{}", answer.body);
    drop(beating);
    // What samples have seen is what a store may not fall behind.
    tokio::time::sleep(Duration::from_millis(600)).await;

    world.store.restore(older);
    let answer = customer(&served, "C").await;
    assert_eq!((answer.status, answer.body), (503, unavailable("The store is not available")));
    assert_eq!(account(&served, "A1").await.status, 503, "not the balance of before");
    // Also once samples have seen it.
    served.wait_for(|reasons| reasons.iter().any(|r| r == "ledger/0 has no fresh heartbeat")).await;
    assert_eq!(statuses(&served).await, [503; 7]);

    // The projector claims, folds again, and beats.
    world.forget("A1").await;
    world.recover().await;
    world.ledger(0, "A1", at, booked("E1", "5", "EUR", "2019-01-02", None)).await;
    let _beating = world.beating();
    let served = served.ready().await;
    assert!(account(&served, "A1").await.body.contains(r#""value":5.00"#));
}

#[tokio::test]
async fn an_emptied_store_is_not_served() {
    let world = world().await;
    let beating = world.beating();
    let served = Served::start(world.store.clone(), &config()).await.ready().await;
    drop(beating);
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.store.restore(balance_projector::store::memory::Held::default());
    assert_eq!(statuses(&served).await[..3], [503; 3]);
    // Born again, and already complete, but with less in it than was seen.
    world.give_birth().await;
    for partition in [LEDGER[0], LEDGER[1], PAYMENT[0], PAYMENT[1]] {
        world.beat(partition, 0).await;
    }
    assert_eq!(statuses(&served).await[..3], [503; 3]);
}

#[tokio::test]
async fn a_new_claim_makes_nobody_wait() {
    let world = world().await;
    let _beating = world.beating();
    let served = Served::start(world.store.clone(), &config()).await.ready().await;
    for _ in 0..10 {
        world.recover().await;
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert_eq!(statuses(&served).await, ALL_WELL);
    }
}

#[tokio::test]
async fn a_read_waits_for_its_position() {
    let world = world().await;
    let (served, _beating) = served(&world, &config()).await;
    let next = world.store.dump(GENERATION).positions[&LEDGER[0]].checkpoint.next.0;
    let wanted: &'static str = format!("ledger.events/0@{next}, payment.events/0@0").leak();

    // Both views wait until the record is folded.
    let at = served.at;
    let waiting = tokio::spawn(async move {
        let headers = changed(ACCOUNT_HEADERS, &[And("Projection-Min-Position", wanted)]);
        get(at, "/my/accounts/A1/balance", &headers).await
    });
    let waiting_too = tokio::spawn(async move {
        let headers = changed(CUSTOMER_HEADERS, &[And("Projection-Min-Position", wanted)]);
        get(at, "/api/v1/customers/C/balance", &headers).await
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished() && !waiting_too.is_finished());
    let entry = booked("E1", "-5", "EUR", "2019-01-02", Some("C"));
    let folded = world.ledger(0, "A1", "2019-01-02T00:00:00Z", entry).await;
    assert_eq!(folded, next);
    let (answer, answer_too) = (waiting.await.unwrap(), waiting_too.await.unwrap());
    assert_eq!(answer.status, 200);
    let debit = r#""value":5.00,"currency":"EUR"},"creditDebitIndicator":"DBIT""#;
    assert!(answer.body.contains(debit), "{}", answer.body);
    assert!(answer_too.body.contains(r#""amount":"5.0""#), "{}", answer_too.body);

    // What is in already costs no wait.
    let headers = changed(CUSTOMER_HEADERS, &[And("Projection-Min-Position", "ledger.events/0@0")]);
    assert_eq!(get(at, "/api/v1/customers/C/balance", &headers).await.status, 200);
}

#[tokio::test]
async fn samples_are_taken_more_often_while_somebody_waits() {
    let world = world().await;
    let (served, _beating) = served(&world, &config()).await;
    let mut fastest = Duration::MAX;
    for _ in 0..10 {
        let next = world.store.dump(GENERATION).positions[&PAYMENT[1]].checkpoint.next.0;
        let wanted: &'static str = format!("payment.events/1@{next}").leak();
        let at = served.at;
        let waiting = tokio::spawn(async move {
            let headers = changed(CUSTOMER_HEADERS, &[And("Projection-Min-Position", wanted)]);
            get(at, "/api/v1/customers/C/balance", &headers).await.status
        });
        tokio::time::sleep(Duration::from_millis(60)).await;
        let folded = Instant::now();
        world.skip(PAYMENT[1]).await;
        assert_eq!(waiting.await.unwrap(), 200);
        fastest = fastest.min(folded.elapsed());
    }
    // A quarter of the pause without waiters: a loaded machine may be slow now and then, not always.
    assert!(fastest < Duration::from_millis(60), "{fastest:?}");
}

#[tokio::test]
async fn a_position_that_is_not_reached_in_time_is_refused() {
    let world = world().await;
    let (served, _beating) = served(&world, &config()).await;
    let far = And("Projection-Min-Position", "ledger.events/0@9223372036854775807");
    let started = Instant::now();
    let answer = get(served.at, "/api/v1/customers/C/balance", &changed(CUSTOMER_HEADERS, &[far])).await;
    let took = started.elapsed();
    assert_eq!(answer.status, 503);
    assert_eq!(answer.body, unavailable("Projection-Min-Position is not reached"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(took >= Duration::from_millis(1_500), "{took:?}");
    // Before the subject is looked up; after authentication and the checks of headers.
    let answer = get(served.at, "/my/accounts/B1/balance", &changed(ACCOUNT_HEADERS, &[far])).await;
    assert_eq!(answer.status, 503);
    let started = Instant::now();
    let bare = [("Projection-Min-Position", "ledger.events/0@9223372036854775807")];
    assert_eq!(get(served.at, "/my/accounts/A1/balance", &bare).await.status, 401);
    let not_acceptable = changed(ACCOUNT_HEADERS, &[far, And("Accept", "text/html")]);
    assert_eq!(get(served.at, "/my/accounts/A1/balance", &not_acceptable).await.status, 406);
    assert!(started.elapsed() < Duration::from_millis(1_500), "neither waited");
}

#[tokio::test]
async fn waiters_are_bounded() {
    let world = world().await;
    let mut config = config();
    config.api.min_position_waiters_max = 2;
    let (served, _beating) = served(&world, &config).await;
    let far = And("Projection-Min-Position", "payment.events/1@1000");
    let headers = changed(CUSTOMER_HEADERS, &[far]);
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let (at, headers) = (served.at, headers.clone());
        waiting.push(tokio::spawn(async move { get(at, "/api/v1/customers/C/balance", &headers).await }));
    }
    let mut messages = Vec::new();
    for answer in waiting {
        let answer = answer.await.unwrap();
        assert_eq!(answer.status, 503);
        messages.push(answer.body);
    }
    messages.sort();
    let late = unavailable("Projection-Min-Position is not reached");
    assert_eq!(messages, [late.clone(), late, unavailable("Too many requests are waiting")]);
    // Their places are free again, and what needs no place is answered.
    assert_eq!(customer(&served, "C").await.status, 200);
    let answer = get(served.at, "/api/v1/customers/C/balance", &headers).await;
    assert_eq!(answer.body, unavailable("Projection-Min-Position is not reached"));
}
