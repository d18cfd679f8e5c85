//! Events as a publisher would send them: structured `CloudEvents`.

use serde_json::{Value, json};

use super::{kafka::Topics, produce::Outgoing, unique};

/// An event of the ledger topic about an account.
pub fn ledger(topics: &Topics, kind: &str, account: &str, mut data: Value) -> Outgoing {
    data["account_id"] = account.into();
    structured(&topics.ledger, &format!("ledger.{kind}.v1"), account, &data)
}

/// An event of the payment topic about a customer.
pub fn payment(topics: &Topics, kind: &str, customer: &str, mut data: Value) -> Outgoing {
    data["customer_id"] = customer.into();
    structured(&topics.payment, &format!("{kind}.v1"), customer, &data)
}

/// `ledger.account.opened.v1`
pub fn opened(topics: &Topics, account: &str, currencies: &[&str], customer: Option<&str>) -> Outgoing {
    ledger(topics, "account.opened", account, json!({ "currencies": currencies, "customer_id": customer }))
}

/// `ledger.entry.booked.v1` in CZK; a negative amount is a debit.
pub fn booked(topics: &Topics, account: &str, entry: &str, amount: &str, customer: Option<&str>) -> Outgoing {
    let (amount, indicator) = match amount.strip_prefix('-') {
        Some(amount) => (amount, "DBIT"),
        None => (amount, "CRDT"),
    };
    ledger(
        topics,
        "entry.booked",
        account,
        json!({
            "entry_id": entry,
            "amount": amount,
            "currency": "CZK",
            "credit_debit_indicator": indicator,
            "booking_date": "2026-03-01",
            "customer_id": customer,
        }),
    )
}

/// The same with a number of its subject, by which its entry is called.
pub fn numbered(
    topics: &Topics,
    account: &str,
    number: u64,
    amount: &str,
    customer: Option<&str>,
) -> Outgoing {
    let booked = booked(topics, account, &format!("n{number}"), amount, customer);
    let mut event: Value = serde_json::from_slice(booked.value.as_deref().expect("a value")).expect("JSON");
    event["sequence"] = number.to_string().into();
    Outgoing { value: Some(event.to_string().into_bytes()), ..booked }
}

/// `payment.settled.v1` in CZK.
pub fn settled(topics: &Topics, customer: &str, id: &str, amount: &str, paid_on: &str) -> Outgoing {
    let data = json!({ "payment_id": id, "amount": amount, "currency": "CZK", "paid_on": paid_on });
    payment(topics, "payment.settled", customer, data)
}

/// `customer.profile.set.v1`
pub fn profile(topics: &Topics, customer: &str, name: &str, fee: &str) -> Outgoing {
    payment(topics, "customer.profile.set", customer, json!({ "billing_name": name, "ivr_fee": fee }))
}

/// A structured event whose `time` rises with every call: a second per event, from 1 March 2026.
pub fn structured(topic: &str, kind: &str, subject: &str, data: &Value) -> Outgoing {
    let n = unique();
    let minute = n / 60;
    let event = json!({
        "specversion": "1.0",
        "id": format!("00000000-0000-4000-8000-{n:012}"),
        "source": "/test",
        "type": kind,
        "subject": subject,
        "time": format!("2026-03-{:02}T{:02}:{:02}:{:02}Z", 1 + minute / 1440 % 28, minute / 60 % 24, minute % 60, n % 60),
        "data": data,
    });
    Outgoing {
        topic: topic.to_owned(),
        key: Some(subject.as_bytes().to_vec()),
        value: Some(event.to_string().into_bytes()),
        headers: vec![("content-type".to_owned(), Some(b"application/cloudevents+json".to_vec()))],
        ..Outgoing::default()
    }
}
