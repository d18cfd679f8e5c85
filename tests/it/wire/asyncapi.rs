//! `schemas/asyncapi.json` says of the topics what the program does.

use std::collections::BTreeSet;

use balance_projector::{
    config::Config,
    domain::{Class, Time, Topic},
    wire::STRUCTURED,
};
use serde_json::{Value, json};

use super::{Sent, schemas};

fn document() -> Value {
    serde_json::from_str(include_str!("../../../schemas/asyncapi.json")).unwrap()
}

#[test]
fn topics_and_version_are_the_programs() {
    let document = document();
    let kafka = Config::default().kafka;
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let address = |channel: &str| document["channels"][channel]["address"].as_str().unwrap().to_owned();
    assert_eq!(address("ledgerEvents"), kafka.ledger_topic);
    assert_eq!(address("paymentEvents"), kafka.payment_topic);
    assert_eq!(address("deadLetters"), kafka.dead_letter_topic);
    for channel in ["ledgerEvents", "paymentEvents"] {
        let topic = &document["channels"][channel]["bindings"]["kafka"];
        assert_eq!(topic["topic"], document["channels"][channel]["address"]);
        assert_eq!(topic["topicConfiguration"]["cleanup.policy"], json!(["delete"]));
    }
}

#[test]
fn every_type_stands_in_its_topic_in_both_modes_and_its_examples_are_read() {
    let document = document();
    let mut seen = BTreeSet::new();
    for (channel, topic) in [("ledgerEvents", Topic::Ledger), ("paymentEvents", Topic::Payment)] {
        for reference in document["channels"][channel]["messages"].as_object().unwrap().values() {
            let at = reference["$ref"].as_str().unwrap();
            let message = document.pointer(at.strip_prefix('#').unwrap()).unwrap();
            let kind = message["name"].as_str().unwrap();
            let structured = message["contentType"] == "application/cloudevents+json";
            let schema = format!("./{kind}.schema.json{}", if structured { "" } else { "#/properties/data" });
            assert_eq!(message["payload"]["$ref"], schema, "{at}");

            let example = &message["examples"][0];
            let headers = example["headers"].as_object().unwrap();
            let subject = if structured { &example["payload"]["subject"] } else { &headers["ce_subject"] };
            let record = Sent {
                topic,
                key: Some(subject.as_str().unwrap().into()),
                headers: headers
                    .iter()
                    .map(|(name, value)| (name.clone(), Some(value.as_str().unwrap().into())))
                    .collect(),
                value: Some(example["payload"].to_string().into_bytes()),
                timestamp: Time::parse_rfc3339("2026-11-23T00:00:00Z").unwrap(),
            };
            record.decode().unwrap_or_else(|rejection| panic!("{at}: {rejection}"));
            let named = message["headers"]["properties"].as_object().unwrap();
            for name in headers.keys() {
                assert!(named.contains_key(name), "{at}: {name}");
            }
            for name in message["headers"]["required"].as_array().unwrap() {
                let without = record.clone().without(name.as_str().unwrap());
                assert!(without.decode().is_err(), "{at} is read without {name}");
            }
            seen.insert((kind.to_owned(), structured));
        }
    }
    let wanted: BTreeSet<_> =
        schemas::TYPES.iter().flat_map(|kind| [true, false].map(|mode| ((*kind).to_owned(), mode))).collect();
    assert_eq!(seen, wanted);
}

#[test]
fn the_content_type_of_a_structured_event_may_have_parameters() {
    let document = document();
    let mut structured = 0;
    for (name, message) in document["components"]["messages"].as_object().unwrap() {
        if message["contentType"] != "application/cloudevents+json" {
            continue;
        }
        let schema = &message["headers"]["properties"]["content-type"];
        let validator = jsonschema::draft202012::new(schema).unwrap();
        let bare = "application/cloudevents+json";
        let rows = [
            (STRUCTURED.to_owned(), true),
            (bare.to_owned(), true),
            (format!("{bare};charset=UTF-8"), true),
            (format!("{bare} ; x=y"), true),
            (format!("{bare}-seq"), false),
            (format!("application/json; {bare}"), false),
            ("application/json".to_owned(), false),
        ];
        for (content_type, expected) in rows {
            assert_eq!(validator.is_valid(&json!(content_type)), expected, "{name}: {content_type}");
        }
        structured += 1;
    }
    assert_eq!(structured, schemas::TYPES.len());
}

#[test]
fn dead_letters_bear_the_classes_of_the_program() {
    let document = document();
    let headers = &document["components"]["messages"]["DeadLetter"]["headers"];
    let classes: Vec<_> = Class::ALL.iter().map(|class| json!(class.name())).collect();
    assert_eq!(headers["properties"]["dead-letter-class"]["enum"], json!(classes));
}
