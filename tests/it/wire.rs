//! Bytes to events: every class of the wire with its faces, the order of the classes, both modes, the schemas.
#![allow(clippy::arithmetic_side_effects, reason = "sizes of inputs")]

use balance_projector::domain::{
    AccountFact, AccountId, Amount, Currency, CustomerId, Day, Entry, EntryId, Event, FOLD_VERSION, Fact,
    FingerprintKey, Indicator, Offset, Parameters, Rejection, Time, Topic,
};
use balance_projector::wire::{self, Record};
use serde_json::{Map, Value};

mod asyncapi;
mod classes;
mod meaning;
mod released;
mod schemas;

const KEY: &str = "acc-1";
const BOOKED: &str = r#"{"specversion":"1.0","id":"0b5a9f0e-6a55-4d0c-9d5c-1f0d8a6e2b11","source":"urn:test:ledger","type":"ledger.entry.booked.v1","subject":"acc-1","time":"2017-02-17T12:32:41Z","sequence":"7","data":{"entry_id":"e-1","account_id":"acc-1","customer_id":"c-1","amount":"10.25","currency":"CZK","credit_debit_indicator":"DBIT","booking_date":"2017-02-17","value_date":"2017-02-18","reversal_of":"e-0"}}"#;
const STATED: &str = r#"{"specversion":"1.0","id":"0b5a9f0e-6a55-4d0c-9d5c-1f0d8a6e2b12","source":"urn:test:ledger","type":"ledger.balance.stated.v1","subject":"acc-1","time":"2017-02-17T12:32:41Z","data":{"account_id":"acc-1","currency":"CZK","balance_type":"ITBD","amount":"0.00","credit_debit_indicator":"CRDT","as_of":"2017-02-17T12:00:00Z"}}"#;
const OPENED: &str = r#"{"specversion":"1.0","id":"0b5a9f0e-6a55-4d0c-9d5c-1f0d8a6e2b13","source":"urn:test:ledger","type":"ledger.account.opened.v1","subject":"acc-1","time":"2017-02-17T12:32:41Z","data":{"account_id":"acc-1","currencies":["CZK","EUR"],"customer_id":null}}"#;
const PROFILE: &str = r#"{"specversion":"1.0","id":"0b5a9f0e-6a55-4d0c-9d5c-1f0d8a6e2b14","source":"urn:test:crm","type":"customer.profile.set.v1","subject":"c-1","time":"2017-02-17T12:32:41Z","data":{"customer_id":"c-1","billing_name":"A name ","ivr_fee":"5.0"}}"#;
const STRUCTURED: &str = "application/cloudevents+json";

/// The default limits of the contract.
fn parameters() -> Parameters {
    Parameters {
        fold_version: FOLD_VERSION,
        zone: "Europe/Prague".to_owned(),
        event_window: 32,
        types_ignored: Vec::new(),
        value_bytes_max: 1 << 20,
        depth_max: 64,
        fingerprint_key: FingerprintKey([7; 16]),
    }
}

/// A record, owned, so that rows can be told from it by what differs.
#[derive(Debug, Clone)]
struct Sent {
    topic: Topic,
    key: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    value: Option<Vec<u8>>,
    timestamp: Time,
}

impl Sent {
    /// The structured record of an event.
    fn structured(event: impl Into<Vec<u8>>) -> Self {
        Sent {
            topic: Topic::Ledger,
            key: Some(KEY.into()),
            headers: vec![("content-type".to_owned(), Some(STRUCTURED.into()))],
            value: Some(event.into()),
            timestamp: Time::parse_rfc3339("2017-02-17T12:33:00Z").unwrap(),
        }
    }

    /// The binary record of the same event: attributes as headers, `data` as the value.
    fn binary(event: &str) -> Self {
        let mut event: Map<String, Value> = serde_json::from_str(event).unwrap();
        let data = event.remove("data").unwrap();
        let mut sent = Sent::structured(data.to_string());
        sent.headers = vec![("content-type".to_owned(), Some("application/json".into()))];
        for (name, value) in event {
            let value = value.as_str().map_or(value.to_string(), str::to_owned);
            sent.headers.push((format!("ce_{name}"), Some(value.into())));
        }
        sent
    }

    /// With the one occurrence of a text in the value replaced.
    fn with(mut self, from: &str, to: &str) -> Self {
        let value = String::from_utf8(self.value.unwrap()).unwrap();
        assert_eq!(value.matches(from).count(), 1, "{from} in {value}");
        self.value = Some(value.replacen(from, to, 1).into());
        self
    }

    fn value(mut self, value: Option<&[u8]>) -> Self {
        self.value = value.map(<[u8]>::to_vec);
        self
    }

    fn key(mut self, key: Option<&[u8]>) -> Self {
        self.key = key.map(<[u8]>::to_vec);
        self
    }

    fn topic(mut self, topic: Topic) -> Self {
        self.topic = topic;
        self
    }

    /// A customer's record in the payment topic.
    fn of_customer(self) -> Self {
        self.topic(Topic::Payment).key(Some(b"c-1"))
    }

    fn also(mut self, name: &str, value: Option<&[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.map(<[u8]>::to_vec)));
        self
    }

    fn without(mut self, name: &str) -> Self {
        let before = self.headers.len();
        self.headers.retain(|(other, _)| other != name);
        assert!(self.headers.len() < before, "{name}");
        self
    }

    fn header(self, name: &str, value: Option<&[u8]>) -> Self {
        self.without(name).also(name, value)
    }

    fn decode(&self) -> Result<Event, Rejection> {
        let headers: Vec<(&str, Option<&[u8]>)> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        let record = Record {
            topic: self.topic,
            offset: Offset(0),
            timestamp: self.timestamp,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: &headers,
        };
        wire::decode(&record, &parameters())
    }
}

fn booked() -> Sent {
    Sent::structured(BOOKED)
}

fn booked_binary() -> Sent {
    Sent::binary(BOOKED)
}

fn stated() -> Sent {
    Sent::structured(STATED)
}

fn opened() -> Sent {
    Sent::structured(OPENED)
}

fn profile() -> Sent {
    Sent::structured(PROFILE).of_customer()
}

fn id(text: &str) -> uuid::Uuid {
    uuid::Uuid::parse_str(text).unwrap()
}

fn amount(text: &str) -> Amount {
    Amount::parse(text, 4).unwrap()
}

fn czk() -> Currency {
    currency("CZK")
}

fn currency(code: &str) -> Currency {
    Currency::parse(code).unwrap()
}

fn booked_event() -> Event {
    Event {
        id: id("0b5a9f0e-6a55-4d0c-9d5c-1f0d8a6e2b11"),
        source: "urn:test:ledger".into(),
        time: Time::parse_rfc3339("2017-02-17T12:32:41Z").unwrap(),
        sequence: Some(7),
        fact: Fact::Account(
            AccountId::parse(KEY).unwrap(),
            AccountFact::Booked {
                entry: Entry {
                    entry_id: EntryId::parse("e-1").unwrap(),
                    customer_id: Some(CustomerId::parse("c-1").unwrap()),
                    amount: amount("10.25"),
                    currency: czk(),
                    indicator: Indicator::Debit,
                },
                booking_date: Day::parse("2017-02-17").unwrap(),
            },
        ),
    }
}

/// Every row is the booked event.
fn check_booked(rows: Vec<(&str, Sent)>) {
    for (name, sent) in rows {
        assert_eq!(sent.decode(), Ok(booked_event()), "{name}");
    }
}
