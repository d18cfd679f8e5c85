//! `/openapi.json` says what the views do: every answer of the tests of both views is held against it as it
//! comes in (see [`super::described`]); here, that it promises nothing more, and that its examples hold.

use std::{collections::BTreeSet, sync::Arc, sync::atomic::Ordering};

use balance_projector::domain::BalanceType;
use serde_json::{Value, json};

use super::{
    described::Described,
    world::{
        ACCOUNT_HEADERS, CUSTOMER_HEADERS,
        Change::{And, Instead, Without},
        Faulty, Served, World, booked, changed, config, credit_line, get, opened, profile, raw, send, served,
        settled,
    },
};

fn written() -> Described {
    let text = include_str!("../../../schemas/openapi.json");
    Described::new(serde_json::from_str(text).unwrap())
}

/// An account with a due and a credit line, and its customer.
async fn world() -> Arc<World> {
    let world = World::born().await;
    let at = "2019-01-01T00:00:00Z";
    world.ledger(0, "A1", at, opened(&["EUR", "CZK"], Some("C"))).await;
    world.ledger(0, "A1", at, credit_line("CZK", "10000", true)).await;
    world.ledger(0, "A1", at, booked("e1", "-30", "EUR", "2019-01-01", Some("C"))).await;
    world.payment(0, "C", at, profile("N", "5")).await;
    world.payment(0, "C", at, settled("p1", "497.7", "2014-09-01")).await;
    world
}

/// Every status that the document promises is given by the server, and described as it is given.
#[tokio::test]
async fn every_answer_that_is_promised_is_given() {
    let world = world().await;
    let faulty = Faulty::new(world.store.clone());
    let beating = world.beating();
    let served = Served::start(faulty.clone(), &config()).await.ready().await;
    let described =
        Described::new(serde_json::from_str(&get(served.at, "/openapi.json", &[]).await.body).unwrap());
    let mut seen = BTreeSet::new();
    let (customer, account) = ("/api/v1/customers/C/balance", "/my/accounts/A1/balance");
    let long: &'static str = "x".repeat(33 << 10).leak();
    // With `Host` and `Connection` one more than a hundred.
    let many = [("X-Filler", "x"); 99];
    let rows: &[(&str, &[(&str, &str)], u16)] = &[
        (customer, CUSTOMER_HEADERS, 200),
        (customer, &changed(CUSTOMER_HEADERS, &[And("If-None-Match", "*")]), 304),
        (customer, &changed(CUSTOMER_HEADERS, &[Without("Authorization")]), 401),
        (customer, &changed(CUSTOMER_HEADERS, &[Instead("ProfileId", "CCT")]), 403),
        ("/api/v1/customers/nobody/balance", CUSTOMER_HEADERS, 404),
        (customer, &changed(CUSTOMER_HEADERS, &[Without("ProfileId")]), 422),
        (customer, &[("X-Filler", long)], 431),
        (account, ACCOUNT_HEADERS, 200),
        ("/my/accounts/A1/balance?currency=CZK", ACCOUNT_HEADERS, 200),
        (account, &changed(ACCOUNT_HEADERS, &[And("If-None-Match", "*")]), 304),
        (account, &changed(ACCOUNT_HEADERS, &[Without("TPP-Name")]), 400),
        ("/my/accounts/A1/balance?currency=USD", ACCOUNT_HEADERS, 400),
        (account, &changed(ACCOUNT_HEADERS, &[Without("API-key")]), 401),
        (account, &changed(ACCOUNT_HEADERS, &[Instead("Authorization", "Bearer expired")]), 403),
        ("/my/accounts/B1/balance", ACCOUNT_HEADERS, 404),
        (account, &changed(ACCOUNT_HEADERS, &[And("Accept", "text/html")]), 406),
        (account, &changed(ACCOUNT_HEADERS, &[Instead("Content-Type", "text/plain")]), 415),
        (account, &[("X-Filler", long)], 431),
        ("/openapi.json", &[], 200),
        ("/openapi.json", &[("If-None-Match", "*")], 304),
        ("/openapi.json", &[("X-Filler", long)], 431),
        ("/openapi.json", &many[..98], 200),
        ("/openapi.json", &many, 431),
    ];
    for method in ["GET", "HEAD"] {
        for (path, headers, status) in rows {
            let answer = send(served.at, method, path, headers).await;
            assert_eq!(answer.status, *status, "{method} {path}: {answer:?}");
            seen.extend(described.check(method, path, &answer));
        }
    }
    // What is no HTTP is no request for a path.
    let answer = raw(served.at, b"nonsense\r\n\r\n").await;
    assert_eq!((answer.status, answer.body.as_str()), (400, ""), "{answer:?}");
    for path in [customer, account, "/openapi.json"] {
        let answer = send(served.at, "PUT", path, &[]).await;
        assert_eq!(answer.status, 405, "{path}: {answer:?}");
        let (name, status) = described.check("PUT", path, &answer).unwrap();
        seen.insert((name, status));
    }
    drop(beating);
    for (trouble, expected) in [(&faulty.fails, 503), (&faulty.panics, 500)] {
        trouble.store(true, Ordering::Relaxed);
        for (path, headers) in [(customer, CUSTOMER_HEADERS), (account, ACCOUNT_HEADERS)] {
            for method in ["GET", "HEAD"] {
                let answer = send(served.at, method, path, headers).await;
                assert_eq!(answer.status, expected, "{method} {path}: {answer:?}");
                seen.extend(described.check(method, path, &answer));
            }
        }
        trouble.store(false, Ordering::Relaxed);
    }
    // The same operations under the second base path: told apart by a number.
    let mut promised = described.promised();
    promised.retain(|(name, _)| !name.ends_with('2'));
    // Limits have tests of their own, where each answer is held against the document too.
    promised.retain(|(_, status)| status != "429");
    let missing: Vec<_> = promised.difference(&seen).collect();
    assert!(missing.is_empty(), "promised and never seen: {missing:?}");
}

#[test]
fn every_example_passes_the_schema_that_it_illustrates() {
    let described = written();
    let mut examples = 0;
    let mut walk = vec![&described.document];
    while let Some(value) = walk.pop() {
        if let (Some(schema), Some(all)) =
            (value.get("schema"), value.get("examples").and_then(Value::as_object))
        {
            for (name, example) in all {
                described.check_value(schema, &example["value"], name);
                examples += 1;
            }
        }
        if let (Some(schema), Some(example)) = (value.get("schema"), value.get("example")) {
            described.check_value(schema, example, &value.to_string());
            examples += 1;
        }
        if let (Some(_), Some(all)) = (value.get("type"), value.get("examples").and_then(Value::as_array)) {
            for example in all {
                described.check_value(value, example, &value.to_string());
                examples += 1;
            }
        }
        match value {
            Value::Object(members) => walk.extend(members.values()),
            Value::Array(items) => walk.extend(items),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    assert!(examples > 40, "{examples}");
}

#[test]
fn every_response_with_a_body_has_an_example_and_every_reference_leads_somewhere() {
    let described = written();
    for item in described.document["paths"].as_object().unwrap().values() {
        for (method, operation) in item.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters")
        {
            for parameter in operation["parameters"].as_array().unwrap() {
                assert!(described.resolved(parameter)["description"].is_string(), "{parameter}");
            }
            for (status, response) in operation["responses"].as_object().unwrap() {
                let response = described.resolved(response);
                assert!(response["description"].is_string(), "{method} {status}");
                let Some(content) = response.get("content").map(|content| &content["application/json"])
                else {
                    continue;
                };
                let own = operation["operationId"] == "getDocument" && status == "200";
                assert!(
                    own || content["examples"].as_object().is_some_and(|e| !e.is_empty()),
                    "{method} {status}"
                );
                for header in response["headers"].as_object().unwrap().values() {
                    assert!(described.resolved(header)["schema"].is_object(), "{header}");
                }
            }
        }
    }
}

#[tokio::test]
async fn the_document_is_public_and_says_what_this_deployment_does() {
    let mut config = config();
    config.api.account_base_paths = ["/bank/v2", "", "/v3"].map(str::to_owned).to_vec();
    config.api.currency_error_code = "AC09".to_owned();
    config.api.balance_types = vec![BalanceType::Itbd, BalanceType::Clav];
    config.api.unattended_reads_max = 7;
    config.api.header_bytes_max = 5_000;
    config.zone = "Europe/Lisbon".to_owned();
    config.kafka.ledger_topic = "payment.events".to_owned();
    config.kafka.payment_topic = "ledger.events".to_owned();
    let world = World::born().await;
    let (served, _beating) = served(&world, &config).await;
    let answer = get(served.at, "/openapi.json", &[]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("cache-control"), Some("public, no-cache"));
    assert_eq!(answer.header("www-authenticate"), None);
    let tag = answer.header("etag").unwrap().to_owned();
    let held = get(served.at, "/openapi.json", &[("If-None-Match", tag.as_str())]).await;
    assert_eq!((held.status, held.body.as_str(), held.header("etag")), (304, "", Some(tag.as_str())));

    let document: Value = serde_json::from_str(&answer.body).unwrap();
    let paths: Vec<_> = document["paths"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(
        paths,
        [
            "/api/v1/customers/{customerId}/balance",
            "/bank/v2/my/accounts/{id}/balance",
            "/my/accounts/{id}/balance",
            "/openapi.json",
            "/v3/my/accounts/{id}/balance"
        ]
    );
    let name = |base: &str| {
        document["paths"][format!("{base}/my/accounts/{{id}}/balance")]["get"]["operationId"].clone()
    };
    assert_eq!(
        [name("/bank/v2"), name(""), name("/v3")],
        ["getAccountBalance", "getAccountBalance2", "getAccountBalance3"]
    );
    let codes = document["components"]["schemas"]["AccountErrorCode"]["enum"].as_array().unwrap();
    assert!(codes.contains(&json!("AC09")) && !codes.contains(&json!("AM03")), "{codes:?}");
    // A figure is an example too: its decimals are written as the views write them.
    assert!(answer.body.contains(r#""value":10000.00,"#) || answer.body.contains(r#""value": 10000.00,"#));
    // What else is configured. Topics that bear each other's name keep their own.
    let written = include_str!("../../../schemas/openapi.json");
    for (default, configured) in [
        ("of these types in this order: `PRCD`.", "of these types in this order: `ITBD`, `CLAV`."),
        ("the topics are `ledger.events` and", "the topics are `payment.events` and `ledger.events`,"),
        (r#""example": "ledger.events/0@0""#, r#""example": "payment.events/0@0""#),
        ("has 4 of them a day (Europe/Prague) for", "has 7 of them a day (Europe/Lisbon) for each account"),
        ("are longer than 32768 bytes", "are longer than 5000 bytes"),
    ] {
        assert!(written.contains(default), "{default}");
        assert!(!answer.body.contains(default), "{default}");
        assert!(answer.body.contains(configured), "{configured}: {}", answer.body);
    }
    // Nobody who may read, and no hash, is in it.
    for secret in ["ocsuser", "AbCdEf123456", "00000000-1212-0f0f-a0a0-123456789abc", "argon2"] {
        assert!(!answer.body.contains(secret), "{secret}");
    }

    let refused = send(served.at, "POST", "/openapi.json", &[("X-Request-ID", "r1")]).await;
    assert_eq!(refused.status, 405);
    assert_eq!(refused.body, r#"{"errors":[{"error":"METHOD_NOT_ALLOWED"}]}"#);
    assert_eq!(refused.header("x-request-id"), Some("r1"));
    assert_eq!(get(served.at, "/openapi.json/", &[]).await.status, 404);
    assert_eq!(get(served.at, "//openapi.json", &[]).await.status, 404);
}

#[tokio::test]
async fn a_deployment_that_limits_no_unattended_read_says_so() {
    let mut config = config();
    config.api.unattended_reads_max = 0;
    let served = Served::start(World::born().await.store.clone(), &config).await;
    let answer = get(served.at, "/openapi.json", &[]).await;
    assert!(answer.body.contains("is an unattended read. They are not limited.\""), "{}", answer.body);
}

#[test]
fn the_document_bears_the_version_of_the_program() {
    assert_eq!(written().document["info"]["version"], env!("CARGO_PKG_VERSION"));
}

/// What the Czech Standard for Open Banking's own description (8.0.0) says of the balance of an account: the
/// names of members, their types and words, and which are required.
fn standard() -> Value {
    let text = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    let object = |required: &[&str], properties: Value| json!({ "type": "object", "required": required, "properties": properties });
    let money = object(
        &["value", "currency"],
        json!({ "value": { "type": "number" }, "currency": text("^[A-Z]{3}$") }),
    );
    let code = object(&["code"], json!({ "code": { "enum": ["CLAV", "PRCD", "CLBD", "ITBD"] } }));
    let balance = object(
        &["type", "amount", "creditDebitIndicator", "date"],
        json!({
            "type": object(&["codeOrProprietary"], json!({ "codeOrProprietary": code })),
            "creditLine": object(&["included"], json!({ "included": { "type": "boolean" }, "amount": money })),
            "amount": money,
            "creditDebitIndicator": { "enum": ["DBIT", "CRDT"] },
            "date": object(&["dateTime"], json!({ "dateTime": { "type": "string" } })),
        }),
    );
    object(&["balances"], json!({ "balances": { "type": "array", "items": balance } }))
}

/// Ours says of every member of the standard at least as much: it has the same members, requires those that the
/// standard requires, and gives no word and no type that the standard does not know.
fn conforms(described: &Described, ours: &Value, standard: &Value, at: &str) {
    let ours = described.resolved(ours);
    if let Some(kind) = standard.get("type") {
        assert_eq!(&ours["type"], kind, "{at}");
    }
    if let Some(words) = standard.get("enum") {
        let known = words.as_array().unwrap();
        assert!(ours["enum"].as_array().unwrap().iter().all(|word| known.contains(word)), "{at}");
    }
    if let Some(pattern) = standard.get("pattern") {
        assert_eq!(&ours["pattern"], pattern, "{at}");
    }
    if let Some(items) = standard.get("items") {
        conforms(described, &ours["items"], items, &format!("{at}[]"));
    }
    if let Some(properties) = standard.get("properties").and_then(Value::as_object) {
        let names = |of: &Value| of.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(names(&ours["properties"]), names(&standard["properties"]), "{at}");
        for name in standard["required"].as_array().unwrap() {
            assert!(ours["required"].as_array().unwrap().contains(name), "{at}.{name}");
        }
        for (name, member) in properties {
            conforms(described, &ours["properties"][name], member, &format!("{at}.{name}"));
        }
    }
}

#[tokio::test]
async fn view_two_is_that_of_the_open_banking_standard() {
    let described = written();
    let item = &described.document["paths"]["/my/accounts/{id}/balance"];
    let body = &item["get"]["responses"]["200"]["content"]["application/json"]["schema"];
    conforms(&described, body, &standard(), "");

    // What the standard lets a client send, this view understands by the same name; what only this view
    // requires, the standard knows.
    let parameters: Vec<_> =
        item["get"]["parameters"].as_array().unwrap().iter().map(|p| described.resolved(p)).collect();
    let named =
        |name: &str| parameters.iter().find(|p| p["name"] == name).unwrap_or_else(|| panic!("{name}"));
    assert_eq!(named("currency")["in"], "query");
    assert_eq!(named("currency")["schema"]["$ref"], "#/components/schemas/CurrencyCode");
    assert_eq!(described.document["components"]["schemas"]["CurrencyCode"]["pattern"], "^[A-Z]{3}$");
    assert_eq!(named("X-Request-ID")["schema"]["pattern"], "^[!-~]{1,60}$");
    assert_eq!(named("User-Involved")["schema"]["type"], "boolean");
    let required: Vec<_> =
        parameters.iter().filter(|p| p["required"] == true).map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(required, ["X-Request-ID", "TPP-Name"]);
    let schemes = &described.document["components"]["securitySchemes"];
    assert_eq!((&schemes["ApiKey"]["in"], &schemes["ApiKey"]["name"]), (&json!("header"), &json!("API-key")));

    // And what the server really says passes the standard's schema.
    let validator = jsonschema::draft202012::new(&standard()).unwrap();
    let mut config = config();
    config.api.balance_types =
        vec![BalanceType::Prcd, BalanceType::Clbd, BalanceType::Itbd, BalanceType::Clav];
    let world = world().await;
    let (served, _beating) = served(&world, &config).await;
    let answer = get(served.at, "/my/accounts/A1/balance", ACCOUNT_HEADERS).await;
    assert_eq!(answer.status, 200);
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body["balances"].as_array().unwrap().len(), 8);
    let faults: Vec<_> = validator.iter_errors(&body).map(|e| e.to_string()).collect();
    assert!(faults.is_empty(), "{faults:?}");
}
