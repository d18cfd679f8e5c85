//! A trace goes on from a record to its commit and from a request to Redis, says nothing that it may not, and
//! delays nobody.

use std::{net::TcpListener, time::Duration};

use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};

use crate::support::{
    certificates::Authority,
    collector::{Collector, attribute, ids, kind},
    compare, events, eventually, free_port, http,
    kafka::{self, Topics},
    oracle,
    produce::{Outgoing, Partitioner, Producer},
    product::{Product, Settings},
    redis,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";
const WITHIN: Duration = Duration::from_secs(30);

/// A trace of its own for each letter.
fn trace(letter: char) -> String {
    letter.to_string().repeat(32)
}

fn sampled(trace: &str) -> String {
    format!("00-{trace}-{PARENT}-01")
}

fn unsampled(trace: &str) -> String {
    format!("00-{trace}-{PARENT}-00")
}

/// With a collector here, and more of `[traces]`.
fn settings(endpoint: &str, more: &str) -> Settings {
    let usual = Settings::default();
    let traces = format!("[traces]\nendpoint = \"{endpoint}\"\ninterval_ms = 100\n{more}\n");
    Settings {
        properties: format!("{}{traces}", usual.properties),
        accounts: vec!["account-77312".to_owned()],
        ..usual
    }
}

fn with_header(record: Outgoing, name: &str, value: &str) -> Outgoing {
    let mut record = Outgoing { partition: Some(0), ..record };
    record.headers.push((name.to_owned(), Some(value.as_bytes().to_vec())));
    record
}

/// Waits until the collector has a span like this, and gives it back.
#[track_caller]
fn told(collector: &Collector, wanted: impl Fn(&Span) -> bool) -> Span {
    eventually(WITHIN, || {
        let spans = collector.spans();
        spans.iter().find(|span| wanted(span)).cloned().ok_or(spans)
    })
}

/// The span of the record at this offset of partition 0.
#[track_caller]
fn folded(collector: &Collector, topic: &str, offset: i64) -> Span {
    told(collector, |span| {
        span.name == format!("fold {topic}")
            && attribute(span, "messaging.kafka.offset") == Some(offset.to_string())
    })
}

fn metric(product: &Product, line: &str) -> u64 {
    let scrape = http::get(product.admin, "/metrics", &[]).map(|answer| answer.body).unwrap_or_default();
    let value = scrape.lines().find_map(|l| l.strip_prefix(line)).unwrap_or_default();
    value.trim().parse().unwrap_or_default()
}

#[test]
fn a_record_that_brings_a_traceparent_is_followed_to_its_commit() {
    let topics = kafka::shared().topics(1);
    let (redis, collector) = (redis::Server::start(), Collector::start());
    let producer = Producer::new(kafka::shared(), Partitioner::Java);
    let projector = Product::start(
        "project",
        &topics,
        &redis.url(),
        &settings(collector.endpoint(), "sampled_per_million = 0"),
    );
    let opened = events::opened(&topics, "account-77312", &["CZK"], None);
    producer.put(&with_header(opened, "traceparent", &sampled(TRACE)));

    let fold = folded(&collector, &topics.ledger, 0);
    let (in_trace, itself, parent) = ids(&fold);
    assert_eq!((in_trace.as_str(), parent.as_str()), (TRACE, PARENT));
    assert_eq!(kind(&fold), SpanKind::Consumer);
    assert_eq!((fold.flags, fold.status.clone()), (0x301, None));
    for (key, value) in [
        ("messaging.system", "kafka"),
        ("messaging.destination.name", topics.ledger.as_str()),
        ("messaging.destination.partition.id", "0"),
        ("messaging.kafka.offset", "0"),
        ("messaging.consumer.group.name", topics.group.as_str()),
        ("messaging.operation.type", "process"),
        ("balance_projector.outcome", "applied"),
    ] {
        assert_eq!(attribute(&fold, key).as_deref(), Some(value), "{key}");
    }
    assert_eq!(attribute(&fold, "balance_projector.dead_letter.class"), None);

    let commit = told(&collector, |span| span.name == "commit" && ids(span).2 == itself);
    assert_eq!(ids(&commit).0, TRACE);
    assert_eq!(kind(&commit), SpanKind::Client);
    assert_eq!(attribute(&commit, "db.system.name").as_deref(), Some("redis"));
    assert_eq!(attribute(&commit, "balance_projector.cells").as_deref(), Some("1"));
    // It begins before the commit, and ends with its acknowledgement.
    assert!(fold.start_time_unix_nano <= commit.start_time_unix_nano);
    assert!(commit.start_time_unix_nano < commit.end_time_unix_nano);
    assert!(commit.end_time_unix_nano <= fold.end_time_unix_nano);

    // The attribute of CloudEvents in the binary mode says it too; a header that cannot be read says nothing.
    let booked = events::booked(&topics, "account-77312", "e1", "1.00", None);
    let booked = with_header(booked, "traceparent", "nonsense");
    producer.put(&with_header(booked, "ce_traceparent", &sampled(&trace('c'))));
    assert_eq!(ids(&folded(&collector, &topics.ledger, 1)).0, trace('c'));
    assert!(projector.stop().success());
}

#[test]
fn a_collector_is_told_by_https_where_its_authority_is_the_configured_one() {
    let topics = kafka::shared().topics(1);
    let redis = redis::Server::start();
    let (authority, stranger) = (Authority::new(), Authority::new());
    let producer = Producer::new(kafka::shared(), Partitioner::Java);
    let opened = events::opened(&topics, "account-77312", &["CZK"], None);
    producer.put(&with_header(opened, "traceparent", &sampled(TRACE)));
    let ours = format!("ca_file = {:?}", authority.file);
    let another = Collector::start_tls(&stranger.issue("another", "Collector"));
    let projector = Product::start("project", &topics, &redis.url(), &settings(another.endpoint(), &ours));
    eventually(WITHIN, || {
        let lost = metric(&projector, "balance_projector_trace_spans_total{result=\"refused\"}");
        if lost > 0 { Ok(()) } else { Err(lost) }
    });
    assert!(projector.stop().success());
    assert!(another.bodies().is_empty(), "another authority's collector is told nothing");

    let collector = Collector::start_tls(&authority.issue("collector", "Collector"));
    let projector = Product::start("project", &topics, &redis.url(), &settings(collector.endpoint(), &ours));
    let booked = events::booked(&topics, "account-77312", "e1", "1.00", None);
    producer.put(&with_header(booked, "traceparent", &sampled(&trace('d'))));
    assert_eq!(ids(&folded(&collector, &topics.ledger, 1)).0, trace('d'));
    assert!(projector.stop().success());
}

#[test]
fn every_record_that_is_followed_is_told_by_one_commit() {
    let topics = kafka::shared().topics(1);
    let (redis, collector) = (redis::Server::start(), Collector::start());
    let producer = Producer::new(kafka::shared(), Partitioner::Java);
    let letters = ['1', '2', '3', '4', '5', '6'];
    for letter in letters {
        let record = events::booked(&topics, "account-77312", &format!("e{letter}"), "1.00", None);
        producer.send(&with_header(record, "traceparent", &sampled(&trace(letter))));
    }
    producer.flush();
    let projector = Product::start(
        "project",
        &topics,
        &redis.url(),
        &settings(collector.endpoint(), "sampled_per_million = 0"),
    );
    let folds: Vec<Span> = (0..6).map(|offset| folded(&collector, &topics.ledger, offset)).collect();
    assert!(projector.stop().success());
    let spans = collector.spans();
    let commits: Vec<&Span> = spans.iter().filter(|span| span.name == "commit").collect();
    for fold in &folds {
        let as_parent = commits.iter().filter(|commit| commit.parent_span_id == fold.span_id).count();
        let linked = |commit: &&&Span| commit.links.iter().any(|link| link.span_id == fold.span_id);
        assert_eq!(as_parent + commits.iter().filter(linked).count(), 1, "{commits:#?}");
    }
    // They were there before the projector: one commit has several.
    assert!(commits.len() < folds.len(), "{commits:#?}");
}

#[test]
fn a_record_that_is_set_aside_says_its_class_and_takes_its_traceparent_along() {
    let topics = kafka::shared().topics(1);
    let (redis, collector) = (redis::Server::start(), Collector::start());
    let producer = Producer::new(kafka::shared(), Partitioner::Java);
    let projector = Product::start(
        "project",
        &topics,
        &redis.url(),
        &settings(collector.endpoint(), "sampled_per_million = 0"),
    );
    let record = |entry, amount| events::booked(&topics, "account-77312", entry, amount, None);
    producer.put(&with_header(record("e1", "1.00"), "traceparent", &sampled(&trace('1'))));
    producer.put(&with_header(record("e1", "2.00"), "traceparent", &sampled(&trace('2'))));
    producer.put(&with_header(record("e2", "0"), "traceparent", &sampled(&trace('3'))));
    let other = events::booked(&topics, "another-account", "e3", "0", None);
    producer.put(&with_header(other, "traceparent", &sampled(&trace('4'))));
    for (offset, outcome, class) in [
        (0, "applied", None),
        // The same entry with another amount.
        (1, "set-aside", Some("conflict")),
        // Behind it.
        (2, "waiting", None),
        // Nothing is booked.
        (3, "set-aside", Some("bad-amount")),
    ] {
        let span = folded(&collector, &topics.ledger, offset);
        assert_eq!(attribute(&span, "balance_projector.outcome").as_deref(), Some(outcome), "{offset}");
        assert_eq!(attribute(&span, "balance_projector.dead_letter.class").as_deref(), class, "{offset}");
    }
    assert!(projector.stop().success());
    let letters = oracle::read(kafka::shared(), &topics.dead_letters, 1).remove(0);
    let parents: Vec<_> = letters.iter().map(|letter| letter.header("traceparent").unwrap()).collect();
    assert_eq!(parents, [sampled(&trace('2')), sampled(&trace('4'))]);
}

/// An account and a customer with a figure each, before both views.
fn served(topics: &Topics, redis: &redis::Server, settings: &Settings) -> Product {
    let producer = Producer::new(kafka::shared(), Partitioner::Java);
    producer.put(&events::booked(topics, "account-77312", "e1", "-77312.45", Some("customer-77312")));
    producer.put(&events::profile(topics, "customer-77312", "Name 77312", "77312.5"));
    let running = Product::start("run", topics, &redis.url(), settings);
    running.ready();
    let status = |answer: std::io::Result<http::Answer>| answer.map(|a| a.status).map_err(|e| e.to_string());
    eventually(WITHIN, || {
        let seen = (
            status(http::account(running.views, "account-77312")),
            status(http::customer(running.views, "customer-77312")),
        );
        if seen == (Ok(200), Ok(200)) { Ok(()) } else { Err(seen) }
    });
    running
}

const CUSTOMER: [(&str, &str); 3] = [
    ("Request-Tracking-Id", "12345"),
    ("Authorization", "Basic b2NzdXNlcjpvY3N1c2Vy"),
    ("ProfileId", http::PROFILE),
];
const ACCOUNT: [(&str, &str); 5] = [
    ("X-Request-ID", "55d4fffc-2634-44d4-9f2b-3aa94fbd51a4"),
    ("User-Involved", "true"),
    ("API-key", http::API_KEY),
    ("TPP-Name", "Test"),
    ("Authorization", "Bearer AbCdEf123456"),
];

#[test]
fn a_request_that_brings_a_traceparent_is_followed_to_redis() {
    let topics = kafka::shared().topics(1);
    let (redis, collector) = (redis::Server::start(), Collector::start());
    let running = served(&topics, &redis, &settings(collector.endpoint(), "sampled_per_million = 0"));
    let rows: &[(&str, &[(&str, &str)], &str, &str, usize)] = &[
        ("/api/v1/customers/customer-77312/balance", &CUSTOMER, "/api/v1/customers/{id}/balance", "200", 1),
        ("/my/accounts/account-77312/balance", &ACCOUNT, "/my/accounts/{id}/balance", "200", 1),
        ("/v1/my/accounts/account-77312/balance", &ACCOUNT, "/v1/my/accounts/{id}/balance", "200", 1),
        // Without credentials nothing is looked up.
        ("/my/accounts/account-77312/balance", &[], "/my/accounts/{id}/balance", "401", 0),
        ("/openapi.json", &[], "/openapi.json", "200", 0),
        ("/no/such/77312", &[], "", "404", 0),
    ];
    for (letter, (path, headers, route, status, round_trips)) in ('1'..).zip(rows) {
        let parent = sampled(&trace(letter));
        let headers = [headers, &[("traceparent", parent.as_str())][..]].concat();
        let answer = http::get(running.views, path, &headers).unwrap();
        assert_eq!(answer.status.to_string(), *status, "{path}: {answer:?}");

        let of_trace = |span: &Span| ids(span).0 == trace(letter);
        let server = told(&collector, |span| of_trace(span) && kind(span) == SpanKind::Server);
        let (_, itself, parent) = ids(&server);
        assert_eq!((parent.as_str(), server.flags), (PARENT, 0x301), "{path}");
        assert_eq!(server.name, format!("GET {route}").trim_end(), "{path}");
        assert_eq!(attribute(&server, "http.request.method").as_deref(), Some("GET"));
        assert_eq!(attribute(&server, "http.route").unwrap_or_default(), *route);
        assert_eq!(attribute(&server, "http.response.status_code").as_deref(), Some(*status));

        // What is within a request ends before it.
        let within: Vec<Span> =
            collector.spans().into_iter().filter(|s| of_trace(s) && ids(s).2 == itself).collect();
        assert_eq!(within.len(), *round_trips, "{path}: {within:#?}");
        for trip in within {
            assert_eq!((kind(&trip), trip.name.as_str()), (SpanKind::Client, "MULTI"));
            assert_eq!(attribute(&trip, "db.system.name").as_deref(), Some("redis"));
        }
    }
    assert!(running.stop().success());
}

#[test]
fn what_is_not_sampled_is_not_followed() {
    let topics = kafka::shared().topics(1);
    let (redis, collector) = (redis::Server::start(), Collector::start());
    // Where chance decides, it says yes.
    let running = served(&topics, &redis, &settings(collector.endpoint(), "sampled_per_million = 1000000"));
    let producer = Producer::new(kafka::shared(), Partitioner::Java);
    let record = |entry| events::booked(&topics, "account-77312", entry, "1.00", None);
    let (_, not) = producer.put(&with_header(record("e2"), "traceparent", &unsampled(&trace('a'))));
    let (_, by_chance) = producer.put(&Outgoing { partition: Some(0), ..record("e3") });
    let ask = |parent: &str| http::get(running.views, "/openapi.json", &[("traceparent", parent)]).unwrap();
    ask(&unsampled(&trace('b')));
    ask(&sampled(&trace('c')));

    assert_eq!(ids(&folded(&collector, &topics.ledger, by_chance)).2, "", "it is the first of its trace");
    told(&collector, |span| ids(span).0 == trace('c'));
    let spans = collector.spans();
    for unwanted in [trace('a'), trace('b')] {
        assert!(!spans.iter().any(|span| ids(span).0 == unwanted), "{spans:#?}");
    }
    let at = Some(not.to_string());
    assert!(!spans.iter().any(|span| attribute(span, "messaging.kafka.offset") == at
        && attribute(span, "messaging.destination.name").as_ref() == Some(&topics.ledger)));
    assert!(running.stop().success());
}

#[test]
fn nothing_of_a_subject_or_a_caller_is_in_what_is_exported() {
    let topics = kafka::shared().topics(1);
    let (redis, collector) = (redis::Server::start(), Collector::start());
    let running = served(&topics, &redis, &settings(collector.endpoint(), "sampled_per_million = 1000000"));
    let producer = Producer::new(kafka::shared(), Partitioner::Java);
    let mut poison = events::booked(&topics, "poison-77312", "e-77312", "77312", None);
    poison.value.as_mut().unwrap().push(b'!');
    poison.headers.push(("tracestate".to_owned(), Some(b"vendor=77312".to_vec())));
    producer.put(&with_header(poison, "traceparent", &sampled(&trace('1'))));
    folded(&collector, &topics.ledger, 1);
    let with = |headers: &[(&'static str, &'static str)]| {
        [headers, &[("tracestate", "vendor=77312"), ("baggage", "who=77312")]].concat()
    };
    for (method, path, headers) in [
        ("GET", "/api/v1/customers/customer-77312/balance?who=77312", with(&CUSTOMER)),
        ("GET", "/my/accounts/account-77312/balance?currency=CZK", with(&ACCOUNT)),
        ("WORD77312", "/my/accounts/account-77312/balance", with(&ACCOUNT)),
        ("GET", "/77312/my/accounts/account-77312/balance", with(&[])),
    ] {
        http::request(running.views, method, path, &headers).unwrap();
    }
    let last = sampled(&trace('f'));
    http::get(running.views, "/openapi.json", &[("traceparent", &last)]).unwrap();
    told(&collector, |span| ids(span).0 == trace('f'));
    assert!(running.stop().success());

    let spans = collector.spans();
    for name in ["commit", "MULTI", "HTTP /my/accounts/{id}/balance"] {
        assert!(spans.iter().any(|span| span.name == name), "no {name} in {spans:#?}");
    }
    // In ids, names, amounts, paths, queries, methods and headers.
    let secrets =
        ["77312", http::TOKEN, http::API_KEY, http::USER.0, "b2NzdXNlcjpvY3N1c2Vy", http::PROFILE, "vendor"];
    for body in collector.bodies() {
        for secret in secrets {
            let found = body.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} is in {}", String::from_utf8_lossy(&body));
        }
    }
}

#[test]
fn a_collector_that_is_down_or_hangs_delays_neither_folding_nor_answers() {
    // Its connections are made by the system, and nobody answers.
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    for (port, result) in [(free_port(), "refused"), (silent.local_addr().unwrap().port(), "dropped")] {
        let topics = kafka::shared().topics(1);
        let redis = redis::Server::start();
        let endpoint = format!("http://127.0.0.1:{port}/v1/traces");
        let more =
            "sampled_per_million = 1000000\nqueue_spans_max = 8\nbatch_spans_max = 4\ntimeout_ms = 2000";
        let running = served(&topics, &redis, &settings(&endpoint, more));
        let producer = Producer::new(kafka::shared(), Partitioner::Java);
        for n in 0..500 {
            producer.send(&events::booked(&topics, "account-77312", &format!("f{n}"), "1.00", None));
        }
        producer.flush();
        compare::folded(&compare::Log::read(kafka::shared(), &topics), &redis.url());
        let began = std::time::Instant::now();
        for _ in 0..20 {
            assert_eq!(http::account(running.views, "account-77312").unwrap().status, 200);
        }
        // Each would have waited for the two seconds that the collector has.
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        let line = format!("balance_projector_trace_spans_total{{result=\"{result}\"}}");
        eventually(
            WITHIN,
            || if metric(&running, &line) > 0 { Ok(()) } else { Err(metric(&running, &line)) },
        );
        assert!(running.stop().success(), "a stop waits for it no longer than that");
    }
}

#[test]
fn what_is_queued_is_sent_at_a_stop() {
    let topics = kafka::shared().topics(1);
    let (redis, collector) = (redis::Server::start(), Collector::start());
    let mut slow = settings(collector.endpoint(), "sampled_per_million = 0");
    slow.properties = slow.properties.replace("interval_ms = 100", "interval_ms = 60000");
    let projector = Product::start("project", &topics, &redis.url(), &slow);
    let opened = events::opened(&topics, "account-77312", &["CZK"], None);
    let producer = Producer::new(kafka::shared(), Partitioner::Java);
    producer.put(&with_header(opened, "traceparent", &sampled(TRACE)));
    compare::folded(&compare::Log::read(kafka::shared(), &topics), &redis.url());
    assert_eq!(collector.spans(), []);
    assert!(projector.stop().success());
    let names: Vec<_> = collector.spans().into_iter().map(|span| span.name).collect();
    assert_eq!(names, ["commit".to_owned(), format!("fold {}", topics.ledger)]);
}
