//! What is watched is there: every metric that an alert or a panel names comes out of a real scrape.

use std::{collections::BTreeSet, time::Duration};

use balance_projector::telemetry::{METRICS_PREFIX, metric};
use serde_json::Value;

use crate::support::{
    eventually, http, kafka,
    product::{self, Product, Settings},
    redis,
};

const ALERTS: &str = include_str!("../../deploy/prometheus/alerts.yml");
const DASHBOARD: &str = include_str!("../../deploy/grafana/balance-projector.json");
const RUNBOOK: &str = include_str!("../../docs/RUNBOOK.md");

/// The metrics that a text names, as `PromQL` does.
fn named(text: &str) -> BTreeSet<String> {
    let starts = text.match_indices(METRICS_PREFIX).map(|(at, _)| &text[at..]);
    let name = |rest: &str| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        rest[..end].to_owned()
    };
    starts.map(name).filter(|name| name != METRICS_PREFIX).collect()
}

/// The metrics that a scrape has a sample of.
fn sampled(scrape: &str) -> BTreeSet<String> {
    let lines = scrape.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split(['{', ' ']).next().unwrap().to_owned()).collect()
}

/// The dashboard's expressions; a panel's words may name what they like.
fn expressions() -> String {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut all = String::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel.get("targets").and_then(Value::as_array).into_iter().flatten() {
            all.push_str(target["expr"].as_str().unwrap());
            all.push('\n');
        }
    }
    all
}

#[test]
fn every_metric_that_an_alert_or_a_panel_names_comes_out_of_a_real_scrape() {
    let topics = kafka::shared().topics(2);
    for topic in [&topics.ledger, &topics.payment] {
        // A week: what is kept for ever is in no danger, and no metric tells of it.
        let settings = [("cleanup.policy", "delete"), ("retention.ms", "604800000")];
        kafka::shared().configure_topic(topic, &settings);
    }
    let redis = redis::Server::start();
    let generated = std::process::Command::new(env!("CARGO_BIN_EXE_balance-projector"))
        .args(["generate", "--events", "300", "--accounts", "20", "--customers", "10", "--poison", "8"])
        .output()
        .unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), generated.stdout).unwrap();
    let published =
        product::command(&topics, &redis.url(), &["publish", "--raw", file.path().to_str().unwrap()]);
    assert!(published.status.success(), "{published:?}");

    let running = Product::start("run", &topics, &redis.url(), &Settings::default());
    running.ready();
    assert!(http::account(running.views, "CZ0000000007").is_ok());
    let scrape = || http::get(running.admin, "/metrics", &[]).map(|answer| answer.body).unwrap_or_default();
    let wanted: BTreeSet<_> = named(ALERTS).union(&named(&expressions())).cloned().collect();
    assert!(wanted.len() > 30, "{wanted:?}");
    // What the broker keeps is asked for once its ends are known, and told with a heartbeat.
    let text = eventually(Duration::from_secs(30), || {
        let text = scrape();
        let missing: Vec<_> = wanted.difference(&sampled(&text)).cloned().collect();
        if missing.is_empty() { Ok(text) } else { Err(missing) }
    });

    // Every metric that the program has is in it, and so is found by those who look for it by name. Those of the
    // continuous audit, a process of its own, are scraped where that runs.
    for metric in metric::ALL.iter().filter(|metric| !metric.name.starts_with("audit_")) {
        let family = format!("# TYPE {METRICS_PREFIX}_{} ", metric.name);
        assert!(text.contains(&family), "{} is never told", metric.name);
    }
    // One of each class was published, seven of them with a usable key; what never happened is zero.
    for (line, value) in [
        ("balance_projector_dead_letters_total{class=\"not-json\"}", "1"),
        ("balance_projector_dead_letters_without_key_total{class=\"no-key\"}", "1"),
        ("balance_projector_dead_letters_total{class=\"cell-full\"}", "0"),
        ("balance_projector_commits_refused_total{reason=\"corrupt\"}", "0"),
        ("balance_projector_requests_total{view=\"customer\",status=\"500\"}", "0"),
        ("balance_projector_records_total{topic=\"ledger\"}", ""),
    ] {
        let found = text.lines().find_map(|l| l.strip_prefix(line));
        let found = found.unwrap_or_else(|| panic!("{line} is not in {text}")).trim();
        assert!(value.is_empty() || found == value, "{line} is {found}");
    }
    assert!(running.stop().success());
}

/// A heading as links name it.
fn anchor(heading: &str) -> String {
    heading.to_lowercase().replace(' ', "-")
}

#[test]
fn every_alert_names_a_heading_of_the_runbook() {
    let headings: BTreeSet<_> = RUNBOOK.lines().filter_map(|l| l.strip_prefix("## ")).map(anchor).collect();
    let mut named = BTreeSet::new();
    for alert in ALERTS.split("- alert: ").skip(1) {
        let name = alert.lines().next().unwrap();
        let link =
            alert.split("docs/RUNBOOK.md#").nth(1).unwrap_or_else(|| panic!("{name} names no heading"));
        let heading = link.split('"').next().unwrap();
        assert!(headings.contains(heading), "{name}: {heading} is not in {headings:?}");
        named.insert(heading);
    }
    // What befalls a deployment has an alert that leads there.
    for heading in [
        "the-lag-grows",
        "a-record-is-poison",
        "an-account-drifts",
        "a-customer-owes-in-several-currencies",
        "redis-is-lost",
        "redis-evicts",
        "kafka-lost-data",
        "a-bad-release",
        "a-wrong-event-was-published",
        "maintenance",
    ] {
        assert!(named.contains(heading), "no alert leads to {heading}");
    }
}

#[test]
fn the_dashboard_has_a_row_for_each_side_and_one_for_customers_and_no_panel_twice() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let rows: Vec<_> =
        panels.iter().filter(|p| p["type"] == "row").map(|p| p["title"].as_str().unwrap()).collect();
    assert_eq!(rows, ["What customers see", "Reader side", "Consumer side"]);
    let ids: BTreeSet<_> = panels.iter().map(|p| p["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    let mut taken = BTreeSet::new();
    for panel in panels {
        let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{}", panel["title"]);
        for cell in at("x")..at("x") + at("w") {
            for row in at("y")..at("y") + at("h") {
                assert!(taken.insert((cell, row)), "{} lies over another", panel["title"]);
            }
        }
        assert!(panel["type"] == "row" || panel["description"].is_string(), "{}", panel["title"]);
    }
}
