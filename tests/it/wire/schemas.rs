//! The published schemas and examples say what the wire does.

use std::{fs, path::PathBuf};

use balance_projector::domain::{Class, Topic};
use jsonschema::{Registry, Validator};
use serde_json::Value;

use super::Sent;

pub const TYPES: [&str; 10] = [
    "customer.profile.set.v1",
    "ledger.account.closed.v1",
    "ledger.account.opened.v1",
    "ledger.balance.stated.v1",
    "ledger.credit_line.set.v1",
    "ledger.entry.booked.v1",
    "ledger.entry.pending.v1",
    "ledger.entry.released.v1",
    "payment.reversed.v1",
    "payment.settled.v1",
];

/// Faults of an event that no JSON Schema sees: how something was written, or that two members disagree.
const A_SCHEMA_CANNOT_TELL: [&str; 9] = [
    "bad-amount.exponent",
    "bad-amount.three-decimals-of-koruna-as-number",
    "bad-field.sequence-written-as-fraction",
    "duplicate-member.amount",
    "duplicate-member.amount-escaped",
    "duplicate-member.id",
    "key-not-subject.account-id-of-another",
    "key-not-subject.other-case",
    "too-deep.nested-arrays",
];

pub fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("schemas").join(name)
}

fn schema(name: &str) -> Value {
    let text = fs::read_to_string(folder(&format!("{name}.schema.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Each type's validator, which knows the shared definitions.
pub fn validators() -> Vec<(&'static str, Validator)> {
    let common = schema("common");
    let registry = Registry::new().add(common["$id"].as_str().unwrap(), common.clone()).unwrap();
    let registry = registry.prepare().unwrap();
    let build = |kind| {
        let options = jsonschema::draft202012::options().should_validate_formats(true);
        let validator = options.with_registry(&registry).build(&schema(kind));
        (kind, validator.unwrap_or_else(|error| panic!("{kind}: {error}")))
    };
    TYPES.map(build).into()
}

/// The examples of a folder: name without `.json`, bytes.
fn examples(kind: &str) -> Vec<(String, Vec<u8>)> {
    let mut examples: Vec<_> = fs::read_dir(folder("examples").join(kind))
        .unwrap()
        .map(|file| {
            let path = file.unwrap().path();
            assert_eq!(path.extension().unwrap(), "json", "{}", path.display());
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())
        })
        .collect();
    examples.sort();
    examples
}

/// The record of an example, in the topic of its type, keyed by its subject.
pub fn record(bytes: &[u8]) -> Sent {
    let event: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let customer = event["type"].as_str().is_some_and(|kind| !kind.starts_with("ledger."));
    let key = event["subject"].as_str().unwrap_or("D2C8C1DCC51A3738538A40A4863CA288E0225E52");
    let mut sent = Sent::structured(bytes).key(Some(key.as_bytes()));
    sent.topic = if customer { Topic::Payment } else { Topic::Ledger };
    sent.timestamp = balance_projector::domain::Time::parse_rfc3339("2026-11-23T00:00:00Z").unwrap();
    sent
}

#[test]
fn there_is_one_schema_for_each_type_and_each_is_a_valid_one() {
    let mut found: Vec<String> = fs::read_dir(folder(""))
        .unwrap()
        .filter_map(|file| {
            file.unwrap().file_name().to_str().unwrap().strip_suffix(".schema.json").map(str::to_owned)
        })
        .collect();
    found.sort();
    let mut wanted = vec!["common"];
    wanted.extend(TYPES);
    wanted.sort_unstable();
    assert_eq!(found, wanted);
    for name in wanted {
        let schema = schema(name);
        assert!(jsonschema::draft202012::meta::is_valid(&schema), "{name}");
        assert!(schema["title"].is_string() && schema["description"].is_string(), "{name}");
        if name != "common" {
            assert_eq!(schema["properties"]["type"]["const"], name);
            assert!(schema["examples"].as_array().is_some_and(|examples| !examples.is_empty()), "{name}");
        }
    }
}

#[test]
fn what_is_accepted_by_example_passes_its_schema_and_no_other_and_decodes() {
    let validators = validators();
    let mut types = Vec::new();
    for (name, bytes) in examples("accept") {
        let event: Value = serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let kind = event["type"].as_str().unwrap().to_owned();
        assert!(name.starts_with(&kind), "{name} is a {kind}");
        for (other, validator) in &validators {
            let errors: Vec<String> = validator.iter_errors(&event).map(|error| error.to_string()).collect();
            assert_eq!(errors.is_empty(), *other == kind, "{name} by {other}: {errors:?}");
        }
        record(&bytes).decode().unwrap_or_else(|rejection| panic!("{name}: {rejection}"));
        types.push(kind);
    }
    types.dedup();
    assert_eq!(types, TYPES);
}

#[test]
fn the_examples_within_the_schemas_decode() {
    for (kind, validator) in validators() {
        for example in schema(kind)["examples"].as_array().unwrap() {
            assert!(validator.is_valid(example), "{kind}");
            record(example.to_string().as_bytes()).decode().unwrap();
        }
    }
}

#[test]
fn what_is_rejected_by_example_has_the_class_in_its_name_and_fails_its_schema_where_one_can_tell() {
    let validators = validators();
    let mut classes = Vec::new();
    for (name, bytes) in examples("reject") {
        let class = record(&bytes).decode().expect_err(&name).class;
        let (named, _) = name.split_once('.').unwrap();
        assert_eq!(class.name(), named, "{name}");
        classes.push(class);

        // Text that is not JSON, or that the library cannot hold, has no value to judge.
        let Ok(event) = serde_json::from_slice::<Value>(&bytes) else { continue };
        let passes = validators.iter().any(|(_, validator)| validator.is_valid(&event));
        assert_eq!(passes, A_SCHEMA_CANNOT_TELL.contains(&name.as_str()), "{name}");
    }
    classes.sort_unstable();
    classes.dedup();
    // Every class that the value alone decides; the others need a record around it, or bytes that are no text.
    let wanted = [
        Class::TooDeep,
        Class::NotJson,
        Class::DuplicateMember,
        Class::NotCloudevents,
        Class::UnknownType,
        Class::KeyNotSubject,
        Class::MissingField,
        Class::BadField,
        Class::BadAmount,
        Class::UnknownCurrency,
    ];
    assert_eq!(classes, wanted);
}
