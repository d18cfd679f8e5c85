//! View one.

use std::sync::Arc;

use balance_projector::{config::OnQuarantine, domain::Subject};

use super::world::{
    Answer, CUSTOMER_HEADERS,
    Change::{self, And, Instead, Without},
    LEDGER, PAYMENT, Served, World, booked, changed, config, customer_id, get, opened, profile, reversed,
    send, served, settled,
};

const SEED: &str = "/api/v1/customers/000152301242008/balance";
/// The first seed's sample response, with the tracking id of its sample request.
const SEED_BODY: &str = r#"{"request_tracking_id":"12345","billing_name":"FAIRPOINT COMMUNICATIONS INC ","ivr_fee":"5.0","last_payment_amount":"497.7","last_payment_date":"2014-09-01","balance":[{"type":"total","amount":"30.0"}]}"#;

/// The seed's customer, by its events.
async fn with_seed() -> Arc<World> {
    let world = World::born().await;
    let id = "000152301242008";
    world.payment(0, id, "2014-01-01T00:00:00Z", profile("FAIRPOINT COMMUNICATIONS INC ", "5.00")).await;
    world.payment(0, id, "2014-09-01T08:00:00Z", settled("P1", "497.70", "2014-09-01")).await;
    world.ledger(1, "S1", "2014-08-01T00:00:00Z", opened(&["USD"], Some(id))).await;
    world.ledger(1, "S1", "2014-08-02T00:00:00Z", booked("E1", "-30", "USD", "2014-08-02", Some(id))).await;
    world
}

async fn ask(served: &Served, customer: &str) -> Answer {
    get(served.at, &format!("/api/v1/customers/{customer}/balance"), CUSTOMER_HEADERS).await
}

#[tokio::test]
async fn the_seeds_sample_request_gets_the_seeds_sample_response() {
    let world = with_seed().await;
    let (served, _beating) = served(&world, &config()).await;
    let answer = get(served.at, SEED, CUSTOMER_HEADERS).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, SEED_BODY));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("private, no-cache"));
    assert_eq!(answer.header("projection-generation"), Some("1"));
    assert_eq!(answer.header("projection-incomplete-since"), None);
    // Older than the clock, which stands, by no more than is allowed.
    let as_of = answer.header("projection-as-of").unwrap();
    assert!(("2019-01-06T10:59:55.000Z".."2019-01-06T11:00:00.001Z").contains(&as_of), "{as_of}");
    assert_eq!(as_of.len(), "2019-01-06T10:59:58.000Z".len());
}

#[tokio::test]
async fn what_is_refused_and_in_which_order() {
    let world = with_seed().await;
    let (served, _beating) = served(&world, &config()).await;
    let unauthorised = r#"{"error":{"code":"401","message":"Unauthorized","errors":[{"message":"Invalid Credentials"}]},"request_tracking_id":"12345"}"#;
    let profile_missing = r#"{"error":{"code":"422","message":"Validation Error","errors":[{"message":"ProfileId - Header is a required field"}]},"request_tracking_id":"12345"}"#;
    let profile_malformed = r#"{"error":{"code":"422","message":"Validation Error","errors":[{"message":"ProfileId - Header is malformed"}]},"request_tracking_id":"12345"}"#;
    let tracking_malformed = r#"{"error":{"code":"422","message":"Validation Error","errors":[{"message":"Request-Tracking-Id - Header is malformed"}]}}"#;
    let position_malformed = r#"{"error":{"code":"422","message":"Validation Error","errors":[{"message":"Projection-Min-Position - Header is malformed"}]},"request_tracking_id":"12345"}"#;
    let profile_forbidden = r#"{"error":{"code":"403","message":"Forbidden","errors":[{"message":"ProfileId - Not permitted"}]},"request_tracking_id":"12345"}"#;
    let customer_forbidden = r#"{"error":{"code":"403","message":"Forbidden","errors":[{"message":"customerId - Not permitted"}]},"request_tracking_id":"12345"}"#;
    let not_found = r#"{"error":{"code":"404","message":"Not Found","errors":[{"message":"Invalid Resource"}]},"request_tracking_id":"12345"}"#;
    let not_allowed = r#"{"error":{"code":"405","message":"Method Not Allowed","errors":[{"message":"Only GET and HEAD are allowed"}]},"request_tracking_id":"12345"}"#;
    let absent = "/api/v1/customers/999/balance";
    let long: &'static str = "x".repeat(129).leak();
    let just: &'static str = "x".repeat(128).leak();

    let rows: &[(&str, &str, &str, &[Change], u16, &str)] = &[
        // Credentials come first.
        ("no credentials", "GET", SEED, &[Without("Authorization")], 401, unauthorised),
        (
            "two credentials",
            "GET",
            SEED,
            &[And("Authorization", "Basic b2NzdXNlcjpvY3N1c2Vy")],
            401,
            unauthorised,
        ),
        // ocsuser:other
        (
            "a wrong password",
            "GET",
            SEED,
            &[Instead("Authorization", "Basic b2NzdXNlcjpvdGhlcg==")],
            401,
            unauthorised,
        ),
        // nobody:ocsuser
        (
            "an unknown user",
            "GET",
            SEED,
            &[Instead("Authorization", "Basic bm9ib2R5Om9jc3VzZXI=")],
            401,
            unauthorised,
        ),
        // ocsuser
        ("no colon", "GET", SEED, &[Instead("Authorization", "Basic b2NzdXNlcg==")], 401, unauthorised),
        // ocsuser:
        (
            "an empty password",
            "GET",
            SEED,
            &[Instead("Authorization", "Basic b2NzdXNlcjo=")],
            401,
            unauthorised,
        ),
        ("no base64", "GET", SEED, &[Instead("Authorization", "Basic !!!")], 401, unauthorised),
        ("nothing after the scheme", "GET", SEED, &[Instead("Authorization", "Basic")], 401, unauthorised),
        (
            "another scheme",
            "GET",
            SEED,
            &[Instead("Authorization", "Bearer AbCdEf123456")],
            401,
            unauthorised,
        ),
        ("401 before 422", "GET", SEED, &[Without("Authorization"), Without("ProfileId")], 401, unauthorised),
        ("401 before 404", "GET", absent, &[Without("Authorization")], 401, unauthorised),
        // Then the headers, all at once.
        ("no profile", "GET", SEED, &[Without("ProfileId")], 422, profile_missing),
        ("two profiles", "GET", SEED, &[And("ProfileId", "WaterField_314")], 422, profile_malformed),
        ("an empty profile", "GET", SEED, &[Instead("ProfileId", "")], 422, profile_malformed),
        (
            "a profile with a space",
            "GET",
            SEED,
            &[Instead("ProfileId", "Water Field")],
            422,
            profile_malformed,
        ),
        (
            "a profile that is not ASCII",
            "GET",
            SEED,
            &[Instead("ProfileId", "Wäter")],
            422,
            profile_malformed,
        ),
        ("a profile that is too long", "GET", SEED, &[Instead("ProfileId", long)], 422, profile_malformed),
        (
            "a tracking id that is too long",
            "GET",
            SEED,
            &[Instead("Request-Tracking-Id", long)],
            422,
            tracking_malformed,
        ),
        ("two tracking ids", "GET", SEED, &[And("Request-Tracking-Id", "12345")], 422, tracking_malformed),
        (
            "nothing but credentials",
            "GET",
            SEED,
            &[Without("ProfileId"), Without("Request-Tracking-Id"), And("Projection-Min-Position", "x")],
            422,
            r#"{"error":{"code":"422","message":"Validation Error","errors":[{"message":"Request-Tracking-Id - Header is a required field"},{"message":"ProfileId - Header is a required field"},{"message":"Projection-Min-Position - Header is malformed"}]}}"#,
        ),
        (
            "a malformed position",
            "GET",
            SEED,
            &[And("Projection-Min-Position", "ledger.events/0")],
            422,
            position_malformed,
        ),
        (
            "an unknown topic",
            "GET",
            SEED,
            &[And("Projection-Min-Position", "other/0@0")],
            422,
            position_malformed,
        ),
        (
            "an unknown partition",
            "GET",
            SEED,
            &[And("Projection-Min-Position", "ledger.events/2@0")],
            422,
            position_malformed,
        ),
        (
            "422 before 403",
            "GET",
            SEED,
            &[Instead("ProfileId", "CCT"), Without("Request-Tracking-Id")],
            422,
            r#"{"error":{"code":"422","message":"Validation Error","errors":[{"message":"Request-Tracking-Id - Header is a required field"}]}}"#,
        ),
        // Then what the caller may see.
        ("another user's profile", "GET", SEED, &[Instead("ProfileId", "CCT")], 403, profile_forbidden),
        ("a profile that does not exist", "GET", SEED, &[Instead("ProfileId", just)], 403, profile_forbidden),
        (
            "a profile in another case",
            "GET",
            SEED,
            &[Instead("ProfileId", "waterfield_314")],
            403,
            profile_forbidden,
        ),
        (
            "a customer outside the profile",
            "GET",
            SEED,
            &[Instead("ProfileId", "Narrow")],
            403,
            customer_forbidden,
        ),
        ("403 before 404", "GET", absent, &[Instead("ProfileId", "Narrow")], 403, customer_forbidden),
        // Then whether there is one.
        ("an unknown customer", "GET", absent, &[], 404, not_found),
        (
            "an unknown customer inside the profile",
            "GET",
            "/api/v1/customers/777/balance",
            &[Instead("ProfileId", "Narrow")],
            404,
            not_found,
        ),
        ("an id that is none", "GET", "/api/v1/customers/a%20b/balance", &[], 404, not_found),
        ("an id that goes up", "GET", "/api/v1/customers/../balance", &[], 404, not_found),
        ("an encoded slash", "GET", "/api/v1/customers/a%2Fb/balance", &[], 404, not_found),
        ("an id that is not UTF-8", "GET", "/api/v1/customers/%FF/balance", &[], 404, not_found),
        ("a broken encoding", "GET", "/api/v1/customers/%4/balance", &[], 404, not_found),
        ("an empty id", "GET", "/api/v1/customers//balance", &[], 404, not_found),
        ("a slash too many", "GET", "/api/v1/customers/000152301242008/balance/", &[], 404, not_found),
        (
            "a slash too many in front",
            "GET",
            "//api/v1/customers/000152301242008/balance",
            &[],
            404,
            not_found,
        ),
        ("another path", "GET", "/api/v1/customers/000152301242008", &[], 404, not_found),
        ("another path without credentials", "GET", "/api/v2", &[Without("Authorization")], 404, not_found),
        // The method before all.
        ("POST", "POST", SEED, &[Without("Authorization")], 405, not_allowed),
        ("OPTIONS", "OPTIONS", SEED, &[], 405, not_allowed),
        ("a method of its own", "BREW", SEED, &[], 405, not_allowed),
        // And what does not matter.
        (
            "the scheme in another case",
            "GET",
            SEED,
            &[Instead("Authorization", "bASIC b2NzdXNlcjpvY3N1c2Vy")],
            200,
            SEED_BODY,
        ),
        (
            "an unknown parameter",
            "GET",
            concat!("/api/v1/customers/000152301242008/balance", "?x=1&currency=nonsense"),
            &[],
            200,
            SEED_BODY,
        ),
        ("an encoded id", "GET", "/api/v1/customers/%300015230124200%38/balance", &[], 200, SEED_BODY),
        (
            "nothing acceptable",
            "GET",
            SEED,
            &[And("Accept", "text/html"), And("Content-Type", "text/plain")],
            200,
            SEED_BODY,
        ),
    ];
    for (name, method, path, changes, status, body) in rows {
        let answer = send(served.at, method, path, &changed(CUSTOMER_HEADERS, changes)).await;
        assert_eq!((answer.status, answer.body.as_str()), (*status, *body), "{name}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{name}");
        let challenge = (*status == 401).then_some("Basic realm=\"balances\", charset=\"UTF-8\"");
        assert_eq!(answer.header("www-authenticate"), challenge, "{name}");
        assert_eq!(answer.header("allow"), (*status == 405).then_some("GET, HEAD"), "{name}");
        let kept = if *status == 200 { "private, no-cache" } else { "no-store" };
        assert_eq!(answer.header("cache-control"), Some(kept), "{name}");
        assert_eq!(answer.header("projection-as-of").is_some(), *status == 200, "{name}");
    }
}

#[tokio::test]
async fn each_user_has_its_own_password_and_profiles() {
    let world = with_seed().await;
    let (served, _beating) = served(&world, &config()).await;
    // other:pass:word
    let other = Instead("Authorization", "Basic b3RoZXI6cGFzczp3b3Jk");
    let rows = [("CCT", 200), ("WaterField_314", 403)];
    for (profile, status) in rows {
        // Twice: verified, then remembered.
        for _ in 0..2 {
            let headers = changed(CUSTOMER_HEADERS, &[other, Instead("ProfileId", profile)]);
            assert_eq!(get(served.at, SEED, &headers).await.status, status, "{profile}");
        }
    }
}

#[tokio::test]
async fn a_field_without_a_fact_is_left_out() {
    let world = World::born().await;
    let at = "2018-12-01T00:00:00Z";
    let due = |on: &'static str, signed: &'static str, code: &'static str, of: &'static str| {
        let world = Arc::clone(&world);
        async move {
            let id = format!("{on}-{signed}-{code}");
            world.ledger(0, on, at, booked(&id, signed, code, "2018-12-01", Some(of))).await;
        }
    };
    world.payment(0, "profile", at, profile("A \"B\" \\ Žižka\u{1}", "0")).await;
    world.payment(1, "paid", at, settled("P1", "10.25", "2018-11-30")).await;
    world.payment(1, "returned", at, settled("P2", "1", "2018-11-29")).await;
    world.payment(1, "returned", at, settled("P3", "2", "2018-11-30")).await;
    world.payment(1, "returned", at, reversed("P3")).await;
    world.payment(1, "all-returned", at, settled("P4", "1", "2018-11-29")).await;
    world.payment(1, "all-returned", at, reversed("P4")).await;
    world.payment(1, "only-reversed", at, reversed("P5")).await;
    world.ledger(0, "D1", at, opened(&["USD"], Some("due-of-zero"))).await;
    due("D2", "4.50", "USD", "overpaid").await;
    due("D3", "-10.10", "USD", "two-accounts").await;
    due("D4", "-0.15", "USD", "two-accounts").await;
    due("D5", "-10", "USD", "two-currencies").await;
    due("D6", "-10", "CZK", "two-currencies").await;
    due("D7", "-10", "USD", "one-currency-left").await;
    due("D7", "10", "USD", "one-currency-left").await;
    due("D8", "-7", "CZK", "one-currency-left").await;
    due("D9", "-999999999999999.99", "USD", "a-lot").await;

    let (served, _beating) = served(&world, &config()).await;
    let rows: &[(&str, Result<&str, u16>)] = &[
        ("profile", Ok(r#""billing_name":"A \"B\" \\ Žižka\u0001","ivr_fee":"0.0""#)),
        ("paid", Ok(r#""last_payment_amount":"10.25","last_payment_date":"2018-11-30""#)),
        ("returned", Ok(r#""last_payment_amount":"1.0","last_payment_date":"2018-11-29""#)),
        ("all-returned", Ok("")),
        ("only-reversed", Err(404)),
        ("due-of-zero", Ok(r#""balance":[{"type":"total","amount":"0.0"}]"#)),
        ("overpaid", Ok(r#""balance":[{"type":"total","amount":"-4.5"}]"#)),
        ("two-accounts", Ok(r#""balance":[{"type":"total","amount":"10.25"}]"#)),
        ("two-currencies", Ok("")),
        ("one-currency-left", Ok(r#""balance":[{"type":"total","amount":"7.0"}]"#)),
        ("a-lot", Ok(r#""balance":[{"type":"total","amount":"999999999999999.99"}]"#)),
    ];
    for (customer, expected) in rows {
        let answer = ask(&served, customer).await;
        match expected {
            Ok(members) => {
                let comma = if members.is_empty() { "" } else { "," };
                let body = format!("{{\"request_tracking_id\":\"12345\"{comma}{members}}}");
                assert_eq!((answer.status, answer.body), (200, body), "{customer}");
            }
            Err(status) => assert_eq!(answer.status, *status, "{customer}"),
        }
    }
    // The customer with several currencies was asked for once.
    assert_eq!(served.metric("balance_projector_several_currencies_total").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn the_tag_is_of_the_body_without_the_tracking_id() {
    let world = with_seed().await;
    let (served, _beating) = served(&world, &config()).await;
    let first = get(served.at, SEED, CUSTOMER_HEADERS).await;
    let tag: &'static str = first.header("etag").unwrap().to_owned().leak();
    assert!(tag.starts_with("W/\"") && tag.ends_with('"'), "{tag}");
    let other_id = changed(CUSTOMER_HEADERS, &[Instead("Request-Tracking-Id", "67890")]);
    assert_eq!(get(served.at, SEED, &other_id).await.header("etag"), Some(tag));

    let with_tag = changed(&other_id, &[And("If-None-Match", tag)]);
    let held = get(served.at, SEED, &with_tag).await;
    assert_eq!((held.status, held.body.as_str()), (304, ""));
    assert_eq!(held.header("etag"), Some(tag));
    assert_eq!(held.header("cache-control"), Some("private, no-cache"));
    assert!(held.header("projection-as-of").is_some());

    world.payment(0, "000152301242008", "2014-10-01T08:00:00Z", settled("P9", "1", "2014-10-01")).await;
    let moved = get(served.at, SEED, &with_tag).await;
    assert_eq!(moved.status, 200);
    assert!(moved.body.contains(r#""last_payment_amount":"1.0""#), "{}", moved.body);
    assert_ne!(moved.header("etag"), Some(tag));
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let world = with_seed().await;
    let (served, _beating) = served(&world, &config()).await;
    let head = send(served.at, "HEAD", SEED, CUSTOMER_HEADERS).await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.header("content-length"), Some(SEED_BODY.len().to_string().as_str()));
    assert_eq!(head.header("content-type"), Some("application/json"));
    let get = get(served.at, SEED, CUSTOMER_HEADERS).await;
    assert_eq!(head.header("etag"), get.header("etag"));
    let wrong = send(served.at, "HEAD", SEED, &[]).await;
    assert_eq!((wrong.status, wrong.body.as_str()), (401, ""));
}

/// A customer with figures, and one with a due on an account, each on hold; and one that has no cell.
async fn on_hold() -> Arc<World> {
    let world = with_seed().await;
    let at = "2018-12-01T00:00:00Z";
    let own = Subject::Customer(customer_id("000152301242008"));
    world.quarantine(PAYMENT[0], own.clone(), "2019-01-02T00:00:00Z", &[]).await;
    // And in another partition, before.
    world.quarantine(PAYMENT[1], own, "2019-01-01T00:00:00.5Z", &[]).await;
    world.ledger(0, "Q1", at, opened(&["USD"], Some("debtor"))).await;
    let account = Subject::Account(super::world::account_id("Q1"));
    world.quarantine(LEDGER[0], account, "2019-01-03T00:00:00Z", &["debtor"]).await;
    let unseen = Subject::Customer(customer_id("unseen"));
    world.quarantine(PAYMENT[0], unseen, "2019-01-04T00:00:00Z", &[]).await;
    world
}

#[tokio::test]
async fn a_customer_on_hold_is_refused() {
    let world = on_hold().await;
    let (served, _beating) = served(&world, &config()).await;
    let body = r#"{"error":{"code":"503","message":"Service Unavailable","errors":[{"message":"The figures are incomplete"}]},"request_tracking_id":"12345"}"#;
    for customer in ["000152301242008", "debtor", "unseen"] {
        let answer = ask(&served, customer).await;
        assert_eq!((answer.status, answer.body.as_str()), (503, body), "{customer}");
        assert_eq!(answer.header("retry-after"), Some("60"), "{customer}");
    }
    let refused = "balance_projector_requests_unavailable_total{view=\"customer\",reason=\"quarantined\"}";
    assert_eq!(served.metric(refused).await.as_deref(), Some("3"));
}

#[tokio::test]
async fn a_customer_on_hold_is_served_with_a_mark_where_configured() {
    let world = on_hold().await;
    let mut config = config();
    config.api.on_quarantine = OnQuarantine::Serve;
    let (served, _beating) = served(&world, &config).await;
    let rows = [
        ("000152301242008", 200, Some("2019-01-01T00:00:00.5Z")),
        ("debtor", 200, Some("2019-01-03T00:00:00Z")),
        // Without any figure.
        ("unseen", 503, None),
        ("nobody", 404, None),
    ];
    for (customer, status, since) in rows {
        let answer = ask(&served, customer).await;
        assert_eq!(answer.status, status, "{customer}");
        assert_eq!(answer.header("projection-incomplete-since"), since, "{customer}");
    }
    assert_eq!(ask(&served, "000152301242008").await.body, SEED_BODY);
}

#[tokio::test]
async fn a_last_payment_that_is_forgotten_is_told_as_a_quarantine_is() {
    let world = World::born().await;
    // The 32 latest are remembered; the 33rd pushes the oldest out, and then all that are left return.
    for n in 1..=33 {
        let on = format!("2018-{:02}-{:02}", 1 + n / 28, 1 + n % 28);
        let at = format!("{on}T12:00:00Z");
        world.payment(0, "C", &at, settled(&format!("P{n}"), "1", &on)).await;
    }
    for n in 2..=33 {
        world.payment(0, "C", "2018-12-01T00:00:00Z", reversed(&format!("P{n}"))).await;
    }
    let (refusing, _beating) = served(&world, &config()).await;
    assert_eq!(ask(&refusing, "C").await.status, 503);
    let mut config = config();
    config.api.on_quarantine = OnQuarantine::Serve;
    let serving = Served::start(world.store.clone(), &config).await.ready().await;
    // Without any figure there is nothing to serve.
    assert_eq!(ask(&serving, "C").await.status, 503);
    world.payment(0, "C", "2018-12-02T00:00:00Z", profile("NAME", "5.0")).await;
    let answer = ask(&serving, "C").await;
    let body = r#"{"request_tracking_id":"12345","billing_name":"NAME","ivr_fee":"5.0"}"#;
    assert_eq!((answer.status, answer.body.as_str()), (200, body));
    assert_eq!(answer.header("projection-incomplete-since"), Some("2018-12-01T00:00:00Z"));
}
