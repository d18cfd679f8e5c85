//! View two.

use std::sync::Arc;

use balance_projector::{
    config::OnQuarantine,
    domain::{AccountFact, BalanceType, EntryId, Subject},
};

use super::world::{
    ACCOUNT_HEADERS, Answer,
    Change::{self, And, Instead, Without},
    LEDGER, Served, World, account_id, booked, changed, config, credit_line, entry, get, opened, send,
    served, stated,
};

const SEED: &str = "/v1/my/accounts/D2C8C1DCC51A3738538A40A4863CA288E0225E52/balance";
/// The second seed's sample response.
const SEED_BODY: &str = r#"{"balances":[{"type":{"codeOrProprietary":{"code":"PRCD"}},"creditLine":{"included":true,"amount":{"value":10000.00,"currency":"CZK"}},"amount":{"value":4520.15,"currency":"CZK"},"creditDebitIndicator":"DBIT","date":{"dateTime":"2017-02-17T12:32:41.0Z"}}]}"#;
const REQUEST_ID: &str = "55d4fffc-2634-44d4-9f2b-3aa94fbd51a4";

/// The seed's account, and A1 with two currencies.
async fn with_seed() -> Arc<World> {
    let world = World::born().await;
    let seed = "D2C8C1DCC51A3738538A40A4863CA288E0225E52";
    world.ledger(0, seed, "2017-01-01T00:00:00Z", opened(&["CZK"], None)).await;
    world.ledger(0, seed, "2017-01-02T00:00:00Z", credit_line("CZK", "10000", true)).await;
    let entry = booked("E1", "-4520.15", "CZK", "2017-02-17", None);
    world.ledger(0, seed, "2017-02-17T12:32:41Z", entry).await;
    world.ledger(1, "A1", "2018-01-01T00:00:00Z", opened(&["JPY", "EUR"], None)).await;
    world.ledger(1, "A1", "2018-02-01T10:00:00.25Z", booked("E2", "1500", "JPY", "2018-02-01", None)).await;
    world
}

async fn ask(served: &Served, path: &str) -> Answer {
    get(served.at, path, ACCOUNT_HEADERS).await
}

/// A balance without a credit line.
fn balance(code: &str, value: &str, currency: &str, indicator: &str, at: &str) -> String {
    format!(
        r#"{{"type":{{"codeOrProprietary":{{"code":"{code}"}}}},"amount":{{"value":{value},"currency":"{currency}"}},"creditDebitIndicator":"{indicator}","date":{{"dateTime":"{at}"}}}}"#
    )
}

fn balances(all: &[String]) -> String {
    format!(r#"{{"balances":[{}]}}"#, all.join(","))
}

#[tokio::test]
async fn the_seeds_sample_request_gets_the_seeds_sample_response() {
    let world = with_seed().await;
    let (served, _beating) = served(&world, &config()).await;
    for path in [SEED, &SEED["/v1".len()..]] {
        let answer = ask(&served, path).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, SEED_BODY), "{path}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("x-request-id"), Some(REQUEST_ID));
        assert_eq!(answer.header("cache-control"), Some("private, no-cache"));
        assert_eq!(answer.header("projection-generation"), Some("1"));
        assert_eq!(answer.header("projection-drift"), None);
        assert_eq!(answer.header("projection-incomplete-since"), None);
        let as_of = answer.header("projection-as-of").unwrap();
        assert!(("2019-01-06T10:59:55.000Z".."2019-01-06T11:00:00.001Z").contains(&as_of), "{as_of}");
    }
}

#[tokio::test]
async fn what_is_refused_and_in_which_order() {
    let world = with_seed().await;
    let (served, _beating) = served(&world, &config()).await;
    let unauthorised = r#"{"errors":[{"error":"UNAUTHORISED"}]}"#;
    let forbidden = r#"{"errors":[{"error":"FORBIDDEN"}]}"#;
    let not_found = r#"{"errors":[{"error":"ID_NOT_FOUND"}]}"#;
    let not_allowed = r#"{"errors":[{"error":"METHOD_NOT_ALLOWED"}]}"#;
    let not_acceptable = r#"{"errors":[{"error":"NOT_ACCEPTABLE"}]}"#;
    let media_type = r#"{"errors":[{"error":"UNSUPPORTED_MEDIA_TYPE"}]}"#;
    let currency = r#"{"errors":[{"error":"AM03","scope":"currency"}]}"#;
    let id_missing = r#"{"errors":[{"error":"FIELD_MISSING","scope":"X-Request-ID"}]}"#;
    let id_invalid = r#"{"errors":[{"error":"FIELD_INVALID","scope":"X-Request-ID"}]}"#;
    let name_missing = r#"{"errors":[{"error":"FIELD_MISSING","scope":"TPP-Name"}]}"#;
    let name_invalid = r#"{"errors":[{"error":"FIELD_INVALID","scope":"TPP-Name"}]}"#;
    let position = r#"{"errors":[{"error":"FIELD_INVALID","scope":"Projection-Min-Position"}]}"#;
    let eur = balances(&[balance("PRCD", "0.00", "EUR", "CRDT", "2018-01-01T00:00:00.0Z")]);
    let both = balances(&[
        balance("PRCD", "0.00", "EUR", "CRDT", "2018-01-01T00:00:00.0Z"),
        balance("PRCD", "1500", "JPY", "CRDT", "2018-02-01T10:00:00.25Z"),
    ]);
    let longest: &'static str = "x".repeat(60).leak();
    let long: &'static str = "x".repeat(61).leak();
    let absent = "/my/accounts/A2/balance";

    let rows: &[(&str, &str, &str, &[Change], u16, &str)] = &[
        // The method before all.
        ("POST", "POST", SEED, &[Without("Authorization")], 405, not_allowed),
        ("DELETE", "DELETE", SEED, &[], 405, not_allowed),
        // The token and its API key.
        ("no token", "GET", SEED, &[Without("Authorization")], 401, unauthorised),
        ("two tokens", "GET", SEED, &[And("Authorization", "Bearer AbCdEf123456")], 401, unauthorised),
        (
            "an unknown token",
            "GET",
            SEED,
            &[Instead("Authorization", "Bearer abcdef123456")],
            401,
            unauthorised,
        ),
        ("an empty token", "GET", SEED, &[Instead("Authorization", "Bearer ")], 401, unauthorised),
        (
            "another scheme",
            "GET",
            SEED,
            &[Instead("Authorization", "Basic b2NzdXNlcjpvY3N1c2Vy")],
            401,
            unauthorised,
        ),
        ("no API key", "GET", SEED, &[Without("API-key")], 401, unauthorised),
        (
            "two API keys",
            "GET",
            SEED,
            &[And("API-key", "00000000-1212-0f0f-a0a0-123456789abc")],
            401,
            unauthorised,
        ),
        (
            "another API key",
            "GET",
            SEED,
            &[Instead("API-key", "00000000-1212-0f0f-a0a0-123456789abd")],
            401,
            unauthorised,
        ),
        (
            "401 before 403",
            "GET",
            SEED,
            &[Instead("Authorization", "Bearer expired"), Without("API-key")],
            401,
            unauthorised,
        ),
        (
            "401 before 400",
            "GET",
            SEED,
            &[Without("Authorization"), Without("X-Request-ID")],
            401,
            unauthorised,
        ),
        ("an expired token", "GET", SEED, &[Instead("Authorization", "Bearer expired")], 403, forbidden),
        (
            "403 before 400",
            "GET",
            SEED,
            &[Instead("Authorization", "Bearer expired"), Without("TPP-Name")],
            403,
            forbidden,
        ),
        // The headers, all at once.
        ("no request id", "GET", SEED, &[Without("X-Request-ID")], 400, id_missing),
        ("two request ids", "GET", SEED, &[And("X-Request-ID", REQUEST_ID)], 400, id_invalid),
        ("an empty request id", "GET", SEED, &[Instead("X-Request-ID", "")], 400, id_invalid),
        ("a request id of 60 characters", "GET", SEED, &[Instead("X-Request-ID", longest)], 200, SEED_BODY),
        ("a request id that is too long", "GET", SEED, &[Instead("X-Request-ID", long)], 400, id_invalid),
        ("a request id that is not ASCII", "GET", SEED, &[Instead("X-Request-ID", "ž")], 400, id_invalid),
        ("no name", "GET", SEED, &[Without("TPP-Name")], 400, name_missing),
        ("two names", "GET", SEED, &[And("TPP-Name", "Google China")], 400, name_invalid),
        ("an empty name", "GET", SEED, &[Instead("TPP-Name", "")], 400, name_invalid),
        (
            "all of them",
            "GET",
            SEED,
            &[
                Without("X-Request-ID"),
                Without("TPP-Name"),
                And("User-Involved", "true"),
                And("Content-Type", "application/json"),
                And("Projection-Min-Position", ""),
                And("Accept", "text/html"),
            ],
            400,
            r#"{"errors":[{"error":"FIELD_MISSING","scope":"X-Request-ID"},{"error":"FIELD_MISSING","scope":"TPP-Name"},{"error":"FIELD_INVALID","scope":"User-Involved"},{"error":"FIELD_INVALID","scope":"Content-Type"},{"error":"FIELD_INVALID","scope":"Projection-Min-Position"}]}"#,
        ),
        (
            "a malformed position",
            "GET",
            SEED,
            &[And("Projection-Min-Position", "ledger.events/0@x")],
            400,
            position,
        ),
        (
            "an unknown topic",
            "GET",
            SEED,
            &[And("Projection-Min-Position", "projection.decisions/0@0")],
            400,
            position,
        ),
        (
            "an unknown partition",
            "GET",
            SEED,
            &[And("Projection-Min-Position", "payment.events/2@0")],
            400,
            position,
        ),
        // The media types.
        (
            "not acceptable",
            "GET",
            SEED,
            &[And("Accept", "text/html, application/json;q=0")],
            406,
            not_acceptable,
        ),
        (
            "406 before 415",
            "GET",
            SEED,
            &[And("Accept", "text/html"), Instead("Content-Type", "text/plain")],
            406,
            not_acceptable,
        ),
        ("406 before 404", "GET", absent, &[And("Accept", "text/html")], 406, not_acceptable),
        ("another content", "GET", SEED, &[Instead("Content-Type", "text/plain")], 415, media_type),
        ("an empty content type", "GET", SEED, &[Instead("Content-Type", "")], 415, media_type),
        ("415 before 404", "GET", absent, &[Instead("Content-Type", "text/plain")], 415, media_type),
        // Whether there is such an account.
        ("an account that is not there", "GET", absent, &[], 404, not_found),
        ("an account outside the consent", "GET", "/my/accounts/B1/balance", &[], 404, not_found),
        ("an id that is none", "GET", "/my/accounts/a%20b/balance", &[], 404, not_found),
        ("404 before 400", "GET", "/my/accounts/A2/balance?currency=nonsense", &[], 404, not_found),
        ("a slash too many", "GET", "/my/accounts/A1/balance/", &[], 404, not_found),
        ("a slash too many within", "GET", "/my/accounts//A1/balance", &[], 404, not_found),
        ("another base path", "GET", "/v2/my/accounts/A1/balance", &[], 404, not_found),
        ("another path without a token", "GET", "/", &[Without("Authorization")], 404, not_found),
        // The currency.
        ("not held", "GET", "/my/accounts/A1/balance?currency=CZK", &[], 400, currency),
        ("in lower case", "GET", "/my/accounts/A1/balance?currency=eur", &[], 400, currency),
        ("empty", "GET", "/my/accounts/A1/balance?currency=", &[], 400, currency),
        ("without a value", "GET", "/my/accounts/A1/balance?currency", &[], 400, currency),
        ("repeated", "GET", "/my/accounts/A1/balance?currency=EUR&currency=EUR", &[], 400, currency),
        ("not of ISO 4217", "GET", "/my/accounts/A1/balance?currency=XYZ", &[], 400, currency),
        ("of a broken encoding", "GET", "/my/accounts/A1/balance?currency=EU%5", &[], 400, currency),
        // And what is answered.
        ("one currency", "GET", "/my/accounts/A1/balance?currency=EUR", &[], 200, &eur),
        (
            "one currency, encoded",
            "GET",
            "/my/accounts/A1/balance?x=%&currency=%45UR&Currency=JPY",
            &[],
            200,
            &eur,
        ),
        ("all currencies, by alphabet", "GET", "/my/accounts/A1/balance", &[], 200, &both),
        ("the consent names the whole id", "GET", "/my/accounts/A/balance", &[], 404, not_found),
        (
            "a token that is about to expire",
            "GET",
            SEED,
            &[Instead("Authorization", "Bearer lasting")],
            200,
            SEED_BODY,
        ),
        (
            "what is not required is left out",
            "GET",
            SEED,
            &[Without("Date"), Without("Content-Type"), Without("User-Involved")],
            200,
            SEED_BODY,
        ),
        (
            "dates are not checked",
            "GET",
            SEED,
            &[Instead("Date", "yesterday"), And("Date", "today")],
            200,
            SEED_BODY,
        ),
        (
            "acceptable",
            "GET",
            SEED,
            &[And("Accept", "text/html"), And("Accept", "*/*;q=0.1")],
            200,
            SEED_BODY,
        ),
        (
            "content with a charset",
            "GET",
            SEED,
            &[Instead("Content-Type", "application/json; charset=utf-8")],
            200,
            SEED_BODY,
        ),
        ("a name of any letters", "GET", SEED, &[Instead("TPP-Name", "Žluťoučký kůň")], 200, SEED_BODY),
        ("unattended", "GET", SEED, &[Instead("User-Involved", "maybe")], 200, SEED_BODY),
    ];
    for (name, method, path, changes, status, body) in rows {
        let headers = changed(ACCOUNT_HEADERS, changes);
        let answer = send(served.at, method, path, &headers).await;
        assert_eq!((answer.status, answer.body.as_str()), (*status, *body), "{name}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{name}");
        assert_eq!(answer.header("www-authenticate"), (*status == 401).then_some("Bearer"), "{name}");
        assert_eq!(answer.header("allow"), (*status == 405).then_some("GET, HEAD"), "{name}");
        let kept = if *status == 200 { "private, no-cache" } else { "no-store" };
        assert_eq!(answer.header("cache-control"), Some(kept), "{name}");
        let mut ids = headers.iter().filter(|(n, _)| *n == "X-Request-ID").map(|(_, value)| *value);
        let echoed = ids.next().filter(|id| ids.next().is_none() && [REQUEST_ID, longest].contains(id));
        assert_eq!(answer.header("x-request-id"), echoed, "{name}");
    }
}

#[tokio::test]
async fn whatever_is_not_found_looks_the_same() {
    let world = with_seed().await;
    // Closed, and another's.
    world.ledger(0, "A3", "2018-01-01T00:00:00Z", opened(&["EUR"], None)).await;
    world.ledger(0, "A3", "2018-01-02T00:00:00Z", AccountFact::Closed).await;
    world.ledger(0, "B1", "2018-01-01T00:00:00Z", opened(&["EUR"], None)).await;
    // Known, but without a currency.
    world.ledger(0, "A4", "2018-01-01T00:00:00Z", AccountFact::Closed).await;
    let released = AccountFact::Released { entry_id: EntryId::parse("E").unwrap() };
    world.ledger(0, "A5", "2018-01-01T00:00:00Z", released).await;
    let (served, _beating) = served(&world, &config()).await;
    let without_date = |mut answer: Answer| {
        answer.headers.retain(|(name, _)| name != "date");
        answer
    };
    let absent = without_date(ask(&served, "/my/accounts/A2/balance").await);
    assert_eq!((absent.status, absent.body.as_str()), (404, r#"{"errors":[{"error":"ID_NOT_FOUND"}]}"#));
    let names: Vec<_> = absent.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.iter().all(|name| !name.starts_with("projection") && *name != "etag"), "{names:?}");
    for id in ["A3", "A4", "A5", "B1", "none", "a%20b", "a%2Fb"] {
        let answer = ask(&served, &format!("/my/accounts/{id}/balance")).await;
        assert_eq!(without_date(answer), absent, "{id}");
    }
    // Opened again.
    world.ledger(0, "A3", "2018-01-03T00:00:00Z", opened(&["EUR"], None)).await;
    assert_eq!(ask(&served, "/my/accounts/A3/balance").await.status, 200);
}

#[tokio::test]
async fn the_configured_types_are_served_in_their_order() {
    let world = World::born().await;
    // Today is 6 January 2019 in Prague: the day began at 23:00 UTC.
    world.ledger(0, "A1", "2019-01-01T00:00:00Z", opened(&["KWD"], None)).await;
    world
        .ledger(
            0,
            "A1",
            "2019-01-02T00:00:00Z",
            stated(BalanceType::Itbd, "100", "KWD", "2019-01-01T00:00:00Z"),
        )
        .await;
    world.ledger(0, "A1", "2019-01-05T10:00:00Z", booked("E1", "-0.125", "KWD", "2019-01-05", None)).await;
    world.ledger(0, "A1", "2019-01-06T10:00:00Z", booked("E2", "-200", "KWD", "2019-01-06", None)).await;
    world.ledger(0, "A1", "2019-01-06T10:30:00Z", AccountFact::Pending(entry("E3", "-5", "KWD", None))).await;
    world.ledger(0, "A1", "2019-01-06T10:40:00Z", credit_line("KWD", "50", true)).await;
    let mut config = config();
    config.api.balance_types =
        vec![BalanceType::Clav, BalanceType::Itbd, BalanceType::Clbd, BalanceType::Prcd];
    config.api.account_base_paths = vec!["/bank".to_owned()];
    let (served, _beating) = served(&world, &config).await;
    let answer = ask(&served, "/bank/my/accounts/A1/balance").await;
    let line = r#""creditLine":{"included":true,"amount":{"value":50.000,"currency":"KWD"}},"amount""#;
    let rows = [
        // -100.125 less 5, plus 50; of all events of the currency.
        balance("CLAV", "55.125", "KWD", "DBIT", "2019-01-06T10:40:00.0Z"),
        // 100 less 0.125 less 200.
        balance("ITBD", "100.125", "KWD", "DBIT", "2019-01-06T10:00:00.0Z"),
        // 100 less 0.125: without today.
        balance("CLBD", "99.875", "KWD", "CRDT", "2019-01-05T10:00:00.0Z"),
        balance("PRCD", "99.875", "KWD", "CRDT", "2019-01-05T10:00:00.0Z"),
    ];
    let expected = balances(&rows.map(|row| row.replacen(r#""amount""#, line, 1)));
    assert_eq!((answer.status, answer.body), (200, expected));
    // The default base paths are no more.
    assert_eq!(ask(&served, "/my/accounts/A1/balance").await.status, 404);
}

#[tokio::test]
async fn balances_are_grouped_by_currency_and_within_one_in_the_order_of_their_types() {
    let world = with_seed().await;
    let mut config = config();
    config.api.balance_types = vec![BalanceType::Prcd, BalanceType::Clav, BalanceType::Itbd];
    let (served, _beating) = served(&world, &config).await;
    let answer = ask(&served, "/my/accounts/A1/balance").await;
    let expected = balances(&[
        balance("PRCD", "0.00", "EUR", "CRDT", "2018-01-01T00:00:00.0Z"),
        balance("CLAV", "0.00", "EUR", "CRDT", "2018-01-01T00:00:00.0Z"),
        balance("ITBD", "0.00", "EUR", "CRDT", "2018-01-01T00:00:00.0Z"),
        balance("PRCD", "1500", "JPY", "CRDT", "2018-02-01T10:00:00.25Z"),
        balance("CLAV", "1500", "JPY", "CRDT", "2018-02-01T10:00:00.25Z"),
        balance("ITBD", "1500", "JPY", "CRDT", "2018-02-01T10:00:00.25Z"),
    ]);
    assert_eq!((answer.status, answer.body), (200, expected));
}

#[tokio::test]
async fn a_credit_line_that_is_not_included_is_told_as_stated() {
    let world = World::born().await;
    world.ledger(0, "A1", "2018-01-01T00:00:00Z", opened(&["EUR"], None)).await;
    world.ledger(0, "A1", "2018-01-02T00:00:00Z", credit_line("EUR", "50", false)).await;
    world.ledger(0, "A1", "2018-01-03T10:00:00Z", booked("E1", "-20", "EUR", "2018-01-03", None)).await;
    let mut config = config();
    config.api.balance_types = vec![BalanceType::Prcd, BalanceType::Clav];
    let (served, _beating) = served(&world, &config).await;
    let answer = ask(&served, "/my/accounts/A1/balance").await;
    let line = r#""creditLine":{"included":false,"amount":{"value":50.00,"currency":"EUR"}},"amount""#;
    // It adds nothing to what is available either.
    let rows = ["PRCD", "CLAV"].map(|code| balance(code, "20.00", "EUR", "DBIT", "2018-01-03T10:00:00.0Z"));
    let expected = balances(&rows.map(|row| row.replacen(r#""amount""#, line, 1)));
    assert_eq!((answer.status, answer.body), (200, expected));
}

#[tokio::test]
async fn days_that_are_no_longer_told_apart_are_refused() {
    let world = World::born().await;
    world.ledger(0, "A1", "2019-01-01T00:00:00Z", opened(&["EUR", "CZK"], None)).await;
    // 65 booking dates from 7 January 2019 on, all after today.
    for n in 0..65 {
        let on = super::world::day("2019-01-07").minus_days(-n).0.to_string();
        let (id, at) = (format!("E{n}"), format!("2019-01-02T00:{:02}:{:02}Z", n / 60, n % 60));
        world.ledger(0, "A1", &at, booked(&id, "1", "EUR", &on, None)).await;
    }
    let (served, _beating) = served(&world, &config()).await;
    let answer = ask(&served, "/my/accounts/A1/balance?currency=EUR").await;
    assert_eq!(
        (answer.status, answer.body.as_str(), answer.header("retry-after")),
        (503, r#"{"errors":[{"error":"SERVICE_UNAVAILABLE"}]}"#, Some("60"))
    );
    assert_eq!(ask(&served, "/my/accounts/A1/balance?currency=XYZ").await.status, 400, "400 before 503");
    assert_eq!(ask(&served, "/my/accounts/A1/balance?currency=CZK").await.status, 200, "another currency");

    // What is not told uses up no read without the user; with none left, that is told first.
    let (merged, told) = ("/my/accounts/A1/balance?currency=EUR", "/my/accounts/A1/balance?currency=CZK");
    let unattended = changed(ACCOUNT_HEADERS, &[Instead("User-Involved", "false")]);
    let steps = [(merged, 503); 5].into_iter().chain([(told, 200); 4]).chain([(told, 429), (merged, 429)]);
    for (n, (path, status)) in steps.enumerate() {
        assert_eq!(get(served.at, path, &unattended).await.status, status, "read {n} of {path}");
    }

    // And so is a rate that is used up.
    let mut config = config();
    config.api.provider_requests_per_second = 1;
    config.api.provider_requests_burst = 1;
    let limited = Served::start(world.store.clone(), &config).await.ready().await;
    let mut asked = 0;
    let refused = loop {
        let answer = ask(&limited, merged).await;
        if answer.status != 503 {
            break answer;
        }
        asked += 1;
        assert!(asked < 50, "fifty at once and no limit");
    };
    assert_eq!(
        (refused.status, refused.body.as_str(), refused.header("retry-after")),
        (429, r#"{"errors":[{"error":"TOO_MANY_REQUESTS"}]}"#, Some("1"))
    );
    assert!(asked > 0, "the first has a token");
}

#[tokio::test]
async fn drift_is_told_with_the_earliest_of_the_currencies_answered() {
    let world = World::born().await;
    world.ledger(0, "A1", "2018-01-01T00:00:00Z", opened(&["CZK", "EUR", "USD"], None)).await;
    for (code, as_of) in [("EUR", "2018-01-05T00:00:00.5Z"), ("CZK", "2018-01-04T00:00:00Z")] {
        let id = format!("E-{code}");
        world.ledger(0, "A1", "2018-01-02T00:00:00Z", booked(&id, "1", code, "2018-01-02", None)).await;
        world.ledger(0, "A1", "2018-01-06T00:00:00Z", stated(BalanceType::Itbd, "2", code, as_of)).await;
    }
    let (served, _beating) = served(&world, &config()).await;
    let rows = [
        ("", Some("2018-01-04T00:00:00Z")),
        ("?currency=CZK", Some("2018-01-04T00:00:00Z")),
        ("?currency=EUR", Some("2018-01-05T00:00:00.5Z")),
        ("?currency=USD", None),
    ];
    for (query, drift) in rows {
        let answer = ask(&served, &format!("/my/accounts/A1/balance{query}")).await;
        assert_eq!((answer.status, answer.header("projection-drift")), (200, drift), "{query}");
    }
    let agrees = stated(BalanceType::Itbd, "1", "CZK", "2018-01-07T00:00:00Z");
    world.ledger(0, "A1", "2018-01-07T00:00:00Z", agrees).await;
    let answer = ask(&served, "/my/accounts/A1/balance").await;
    assert_eq!(answer.header("projection-drift"), Some("2018-01-05T00:00:00.5Z"));
}

/// A1 open, A3 closed, A2 without a cell: all on hold.
async fn on_hold() -> Arc<World> {
    let world = with_seed().await;
    world.ledger(1, "A3", "2018-01-01T00:00:00Z", opened(&["EUR"], None)).await;
    world.ledger(1, "A3", "2018-01-02T00:00:00Z", AccountFact::Closed).await;
    for id in ["A1", "A2", "A3", "B1"] {
        let subject = Subject::Account(account_id(id));
        world.quarantine(LEDGER[1], subject.clone(), "2019-01-02T00:00:00Z", &[]).await;
        world.quarantine(LEDGER[0], subject, "2019-01-03T00:00:00Z", &[]).await;
    }
    world
}

#[tokio::test]
async fn an_account_on_hold_is_refused() {
    let world = on_hold().await;
    let (served, _beating) = served(&world, &config()).await;
    let rows = [
        ("A1/balance", 503),
        ("A1/balance?currency=XYZ", 503),
        // Without a cell it is not absent.
        ("A2/balance", 503),
        ("A3/balance", 503),
        // Not the caller's comes before.
        ("B1/balance", 404),
    ];
    for (path, status) in rows {
        let answer = ask(&served, &format!("/my/accounts/{path}")).await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.header("retry-after"), (status == 503).then_some("60"), "{path}");
    }
}

#[tokio::test]
async fn an_account_on_hold_is_served_with_a_mark_where_configured() {
    let world = on_hold().await;
    let mut config = config();
    config.api.on_quarantine = OnQuarantine::Serve;
    let (served, _beating) = served(&world, &config).await;
    let since = Some("2019-01-02T00:00:00Z");
    for (id, status, since) in [("A1", 200, since), ("A2", 503, None), ("A3", 503, None), ("B1", 404, None)] {
        let answer = ask(&served, &format!("/my/accounts/{id}/balance")).await;
        assert_eq!(answer.status, status, "{id}");
        assert_eq!(answer.header("projection-incomplete-since"), since, "{id}");
    }
}

#[tokio::test]
async fn a_held_body_is_not_sent_again() {
    let world = with_seed().await;
    let (served, _beating) = served(&world, &config()).await;
    let first = ask(&served, SEED).await;
    let tag: &'static str = first.header("etag").unwrap().to_owned().leak();
    for (sent, status) in [(tag, 304), ("*", 304), ("W/\"other\"", 200), ("\"a\", W/\"b\"", 200)] {
        let answer = get(served.at, SEED, &changed(ACCOUNT_HEADERS, &[And("If-None-Match", sent)])).await;
        assert_eq!(answer.status, status, "{sent}");
        assert_eq!(answer.header("etag"), Some(tag), "{sent}");
        assert_eq!(answer.header("x-request-id"), Some(REQUEST_ID), "{sent}");
        assert!(answer.header("projection-as-of").is_some(), "{sent}");
        assert_eq!(answer.body.is_empty(), status == 304, "{sent}");
    }
    let one = ask(&served, &format!("{SEED}?currency=CZK")).await;
    assert_eq!(one.header("etag"), Some(tag), "the same body");
    let head = send(served.at, "HEAD", SEED, ACCOUNT_HEADERS).await;
    assert_eq!((head.status, head.body.as_str(), head.header("etag")), (200, "", Some(tag)));
    assert_eq!(head.header("content-length"), Some(SEED_BODY.len().to_string().as_str()));
}

#[tokio::test]
async fn the_currencys_error_code_is_configured() {
    let world = with_seed().await;
    let mut config = config();
    config.api.currency_error_code = "AC09".to_owned();
    let (served, _beating) = served(&world, &config).await;
    let answer = ask(&served, "/my/accounts/A1/balance?currency=CZK").await;
    assert_eq!(answer.body, r#"{"errors":[{"error":"AC09","scope":"currency"}]}"#);
}
