//! What events mean: both modes, every type, lines to publish, and events built at random.

use balance_projector::domain::{
    AccountFact, AccountId, Amount, BalanceType, Class, Currency, CustomerFact, CustomerId, Day, Entry,
    EntryId, Event, Fact, Indicator, PaymentId, Statement, Subject, Time, Topic,
};
use balance_projector::wire;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    BOOKED, KEY, OPENED, PROFILE, STATED, STRUCTURED, Sent, amount, booked, booked_binary, check_booked, czk,
    parameters,
};

#[test]
fn the_content_type_decides_the_mode() {
    let content_type = |value: &str| booked().header("content-type", Some(value.as_bytes()));
    check_booked(vec![
        ("structured", booked()),
        ("binary", booked_binary()),
        ("a charset", content_type("application/cloudevents+json; charset=UTF-8")),
        ("a charset without a space", content_type("application/cloudevents+json;charset=utf-8;x=y")),
        ("another case", content_type("Application/CloudEvents+JSON")),
        ("space around", content_type(" application/cloudevents+json ; charset=utf-8")),
        ("of two the first counts", booked().also("content-type", Some(b"application/json"))),
        ("attributes are ignored", booked().also("ce_specversion", Some(b"0.3")).also("ce_type", None)),
        ("binary without a content type", booked_binary().without("content-type")),
        ("binary with another content type", booked_binary().header("content-type", Some(b"text/plain"))),
        (
            "binary, second content type structured",
            booked_binary().also("content-type", Some(STRUCTURED.as_bytes())),
        ),
        ("binary with data in a header", booked_binary().also("ce_data", Some(b"{}"))),
        ("binary with extensions", booked_binary().also("ce_traceparent", Some(b"00")).also("ce_", None)),
        ("an escaped spelling", booked().with(r#""entry_id":"e-1""#, r#""\u0065ntry_id":"\u0065\u002d1""#)),
        ("numbers for texts", booked().with(r#""10.25""#, "10.25").with(r#""7""#, "7")),
        ("space wherever it may be", booked().with(r#""data":{"#, "\r\n\t \"data\" :\n{ ")),
        ("members in another order", {
            let data = BOOKED.find(r#""data""#).unwrap();
            let (attributes, data) = (&BOOKED[1..data - 1], &BOOKED[data..BOOKED.len() - 1]);
            Sent::structured(format!("{{{data},{attributes}}}"))
        }),
    ]);
    // What a header says is text as it stands: nothing in it is escaped.
    let percent = booked_binary().header("ce_source", Some("urn:a%20b:č\"".as_bytes()));
    assert_eq!(percent.decode().unwrap().source, "urn:a%20b:č\"");
}

#[test]
fn every_type_reads_into_its_fact() {
    let event = |topic: &str, kind: &str, subject: &str, data: Value| {
        json!({"specversion": "1.0", "id": "0b5a9f0e-6a55-4d0c-9d5c-1f0d8a6e2b11", "source": topic, "type": kind,
            "subject": subject, "time": "2017-02-17T12:32:41.5+01:00", "data": data})
        .to_string()
    };
    let ledger = |kind: &str, data: Value| Sent::structured(event("l", kind, KEY, data));
    let payment = |kind: &str, data: Value| Sent::structured(event("p", kind, "c-1", data)).of_customer();
    let account = |fact| Fact::Account(AccountId::parse(KEY).unwrap(), fact);
    let customer = |fact| Fact::Customer(CustomerId::parse("c-1").unwrap(), fact);
    let customer_id = Some(CustomerId::parse("c-1").unwrap());
    let entry_id = EntryId::parse("e-1").unwrap();
    let payment_id = PaymentId::parse("p-1").unwrap();
    let entry = Entry {
        entry_id: entry_id.clone(),
        customer_id: None,
        amount: amount("3"),
        currency: czk(),
        indicator: Indicator::Credit,
    };
    let rows = [
        (
            ledger(
                "ledger.account.opened.v1",
                json!({"account_id": KEY, "currencies": ["EUR", "CZK", "EUR"], "customer_id": "c-1"}),
            ),
            account(AccountFact::Opened {
                currencies: vec![Currency::parse("EUR").unwrap(), czk()],
                customer_id: customer_id.clone(),
            }),
        ),
        (
            ledger(
                "ledger.entry.pending.v1",
                json!({"entry_id": "e-1", "account_id": KEY, "amount": 3, "currency": "CZK", "credit_debit_indicator": "CRDT"}),
            ),
            account(AccountFact::Pending(entry.clone())),
        ),
        (
            ledger("ledger.entry.released.v1", json!({"entry_id": "e-1", "account_id": KEY})),
            account(AccountFact::Released { entry_id }),
        ),
        (
            ledger(
                "ledger.entry.booked.v1",
                json!({"entry_id": "e-1", "account_id": KEY, "amount": "3.00", "currency": "CZK",
                    "credit_debit_indicator": "CRDT", "booking_date": "2016-02-29"}),
            ),
            account(AccountFact::Booked { entry, booking_date: Day::parse("2016-02-29").unwrap() }),
        ),
        (
            ledger(
                "ledger.credit_line.set.v1",
                json!({"account_id": KEY, "currency": "CZK", "amount": "0", "included": false}),
            ),
            account(AccountFact::CreditLine { currency: czk(), amount: Amount::ZERO, included: false }),
        ),
        (
            ledger(
                "ledger.balance.stated.v1",
                json!({"account_id": KEY, "customer_id": "c-1", "currency": "CZK", "balance_type": "CLBD", "amount": "30",
                    "credit_debit_indicator": "DBIT", "as_of": "2017-02-16T22:59:59Z"}),
            ),
            account(AccountFact::Stated(Statement {
                customer_id,
                currency: czk(),
                balance_type: BalanceType::Clbd,
                amount: amount("30"),
                indicator: Indicator::Debit,
                as_of: Time::parse_rfc3339("2017-02-16T22:59:59Z").unwrap(),
            })),
        ),
        (ledger("ledger.account.closed.v1", json!({"account_id": KEY})), account(AccountFact::Closed)),
        (
            payment(
                "payment.settled.v1",
                json!({"payment_id": "p-1", "customer_id": "c-1", "amount": "497.7", "currency": "USD", "paid_on": "2014-09-01"}),
            ),
            customer(CustomerFact::Settled {
                payment_id: payment_id.clone(),
                amount: amount("497.7"),
                currency: Currency::parse("USD").unwrap(),
                paid_on: Day::parse("2014-09-01").unwrap(),
            }),
        ),
        (
            payment("payment.reversed.v1", json!({"payment_id": "p-1", "customer_id": "c-1", "reason": ""})),
            customer(CustomerFact::Reversed { payment_id }),
        ),
        (
            payment(
                "customer.profile.set.v1",
                json!({"customer_id": "c-1", "billing_name": " \n😀", "ivr_fee": 0.1234}),
            ),
            customer(CustomerFact::Profile { billing_name: " \n😀".to_owned(), ivr_fee: amount("0.1234") }),
        ),
    ];
    for (sent, fact) in rows {
        let read = sent.decode().unwrap();
        assert_eq!(read.fact, fact);
        assert_eq!(read.time.to_string(), "2017-02-17T11:32:41.5Z");
        assert_eq!(read.sequence, None);
    }
}

#[test]
fn what_nobody_reads_may_hold_half_surrogates() {
    check_booked(vec![
        ("in a value", booked().with(r#""data":"#, r#""note":"\ud800","data":"#)),
        ("in a name", booked().with(r#""data":"#, r#""\udc00":1,"data":"#)),
        ("in a name in data", booked().with(r#""entry_id""#, r#""amount\ud800":1,"entry_id""#)),
        ("deeper", booked().with(r#""entry_id""#, r#""note":[{"\ud800":"\udc00"}],"entry_id""#)),
        (
            "in a member that another type reads",
            booked().with(r#""entry_id""#, r#""reason":"\ud800","entry_id""#),
        ),
    ]);
}

#[test]
fn a_line_to_publish_gets_the_topic_and_key_or_the_records_rejection() {
    let now = Time::parse_rfc3339("2017-02-17T12:33:00Z").unwrap();
    let check_line = |line: &str| wire::check_line(line.as_bytes(), now, &parameters());
    assert_eq!(check_line(BOOKED), Ok((Topic::Ledger, Subject::of_key(Topic::Ledger, "acc-1").unwrap())));
    assert_eq!(check_line(PROFILE), Ok((Topic::Payment, Subject::of_key(Topic::Payment, "c-1").unwrap())));
    let rows = [
        ("{", Class::NotJson),
        ("[]", Class::NotCloudevents),
        ("{}", Class::MissingField),
        (&BOOKED.replace(r#""subject":"acc-1""#, r#""subject":"acc 1""#), Class::BadKey),
        (&BOOKED.replace(r#""subject":"acc-1","#, ""), Class::MissingField),
        (&BOOKED.replace(r#""subject":"acc-1""#, r#""subject":1"#), Class::BadField),
        (&BOOKED.replace(r#""account_id":"acc-1""#, r#""account_id":"acc-2""#), Class::KeyNotSubject),
        (&BOOKED.replace("booked.v1", "booked.v2"), Class::UnknownType),
        (&BOOKED.replace("2017-02-17T12:32:41Z", "2017-02-19T12:32:41Z"), Class::BadField),
        (&BOOKED.replace("10.25", "10.251"), Class::BadAmount),
        (&BOOKED.replace("CZK", "XXX"), Class::UnknownCurrency),
        (&" ".repeat((1 << 20) + 1), Class::TooLarge),
    ];
    for (line, class) in rows {
        assert_eq!(check_line(line).map_err(|rejection| rejection.class), Err(class), "{line:.200}");
    }
    assert_eq!(wire::check_line(b"\xFF", now, &parameters()).unwrap_err().class, Class::NotUtf8);
}

/// Events built from the contract without the code under test: their text, and what they mean.
fn valid_event() -> impl Strategy<Value = (Value, Topic, Fact)> {
    let entry_id = "[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}";
    let subject = "[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}";
    let money = (1_u64..100_000_000_000_000_000, 0_usize..6);
    let day = (2000_i16..2030, 1_i8..=12, 1_i8..=28);
    let parts =
        (subject, entry_id, money, day, any::<bool>(), proptest::option::of("[A-Za-z0-9_-]{1,64}"), 0..4);
    parts.prop_map(|(subject, entry, (cents, zeros), (year, month, dom), flag, owes, kind)| {
        let written = format!("{}.{:02}{}", cents / 100, cents % 100, "0".repeat(zeros));
        let amount = Amount::from_ten_thousandths(i128::from(cents) * 100).unwrap();
        let date = format!("{year:04}-{month:02}-{dom:02}");
        let day = Day(jiff::civil::date(year, month, dom));
        let indicator = if flag { Indicator::Credit } else { Indicator::Debit };
        let side = if flag { "CRDT" } else { "DBIT" };
        let customer_id = owes.as_deref().map(|id| CustomerId::parse(id).unwrap());
        let (kind, data, fact) = match kind {
            0 => (
                "ledger.entry.booked.v1",
                json!({"entry_id": entry, "account_id": subject, "customer_id": owes, "amount": written,
                    "currency": "CZK", "credit_debit_indicator": side, "booking_date": date, "extra": [{}]}),
                Some(AccountFact::Booked {
                    entry: Entry {
                        entry_id: EntryId::parse(&entry).unwrap(),
                        customer_id,
                        amount,
                        currency: czk(),
                        indicator,
                    },
                    booking_date: day,
                }),
            ),
            1 => (
                "ledger.balance.stated.v1",
                json!({"account_id": subject, "customer_id": owes, "amount": written, "currency": "CZK",
                    "balance_type": "PRCD", "credit_debit_indicator": side, "as_of": format!("{date}T00:00:00Z")}),
                Some(AccountFact::Stated(Statement {
                    customer_id,
                    currency: czk(),
                    balance_type: BalanceType::Prcd,
                    amount,
                    indicator,
                    as_of: Time(jiff::tz::Offset::UTC.to_timestamp(day.0.at(0, 0, 0, 0)).unwrap()),
                })),
            ),
            2 => (
                "ledger.credit_line.set.v1",
                json!({"account_id": subject, "amount": written, "currency": "CZK", "included": flag}),
                Some(AccountFact::CreditLine { currency: czk(), amount, included: flag }),
            ),
            _ => (
                "payment.settled.v1",
                json!({"payment_id": entry, "customer_id": subject, "amount": written, "currency": "CZK", "paid_on": date}),
                None,
            ),
        };
        let (topic, fact) = match fact {
            Some(fact) => (Topic::Ledger, Fact::Account(AccountId::parse(&subject).unwrap(), fact)),
            None => {
                let payment_id = PaymentId::parse(&entry).unwrap();
                let fact = CustomerFact::Settled { payment_id, amount, currency: czk(), paid_on: day };
                (Topic::Payment, Fact::Customer(CustomerId::parse(&subject).unwrap(), fact))
            }
        };
        let event = json!({"specversion": "1.0", "type": kind, "subject": subject, "data": data});
        (event, topic, fact)
    })
}

proptest! {
    #[test]
    fn any_bytes_are_an_event_or_a_rejection(
        key in proptest::option::of(prop_oneof![Just(KEY.as_bytes().to_vec()), any::<Vec<u8>>()]),
        value in proptest::option::of(any::<Vec<u8>>()),
        headers in proptest::collection::vec((any::<String>(), proptest::option::of(any::<Vec<u8>>())), 0..4),
        structured in any::<bool>(),
        ledger in any::<bool>(),
    ) {
        let mut sent = Sent::structured("").key(key.as_deref()).value(value.as_deref());
        sent.headers = if structured { sent.headers } else { headers };
        sent.topic = if ledger { Topic::Ledger } else { Topic::Payment };
        if let Ok(event) = sent.decode() {
            let subject = event.fact.subject();
            prop_assert_eq!(subject.as_str().as_bytes(), key.as_deref().unwrap());
        }
    }

    #[test]
    fn an_event_with_some_bytes_changed_is_an_event_or_a_rejection(
        event in prop_oneof![Just(BOOKED), Just(STATED), Just(OPENED), Just(PROFILE)],
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 0..4),
    ) {
        let mut value = event.as_bytes().to_vec();
        for (at, byte, remove) in changes {
            let at = at.index(value.len());
            if remove { value.remove(at); } else { value[at] = byte; }
        }
        let sent = Sent::structured(value);
        let sent = if event == PROFILE { sent.of_customer() } else { sent };
        if let Err(rejection) = sent.decode() {
            prop_assert!(rejection.class <= Class::UnknownCurrency);
        }
    }

    #[test]
    fn a_valid_event_means_the_same_in_both_modes(
        (mut event, topic, fact) in valid_event(),
        bits in any::<u128>(),
        upper in any::<bool>(),
        source in "[ -~é😀]{1,256}",
        (seconds, nanoseconds) in (0_i64..1_487_334_780, 0_i32..1_000_000_000),
        sequence in proptest::option::of(1_u64..1_000_000_000_000_000_000),
        as_number in any::<bool>(),
    ) {
        let id = uuid::Uuid::from_u128(bits);
        let time = Time(jiff::Timestamp::new(seconds, nanoseconds).unwrap());
        event["id"] = json!(if upper { id.to_string().to_uppercase() } else { id.to_string() });
        event["source"] = json!(source);
        event["time"] = json!(time.to_string());
        event["sequence"] = json!(sequence);
        let key = fact.subject();
        let wanted = Event { id, source: source.as_str().into(), time, sequence, fact };

        // A number must be put into the text: a value of the library would pass it through a float.
        let amount = event["data"]["amount"].as_str().unwrap();
        let (string, number) = (format!("\"amount\":\"{amount}\""), format!("\"amount\":{amount}"));
        let numbered = |sent: Sent| if as_number { sent.with(&string, &number) } else { sent };

        let text = event.to_string();
        let structured = numbered(Sent::structured(text.clone())).topic(topic).key(Some(key.as_str().as_bytes()));
        prop_assert_eq!(structured.decode(), Ok(wanted.clone()));

        let binary = numbered(Sent::binary(&text)).topic(topic).key(Some(key.as_str().as_bytes()));
        let binary = if sequence.is_none() { binary.header("ce_sequence", None) } else { binary };
        prop_assert_eq!(binary.decode(), Ok(wanted));

        let line = wire::check_line(structured.value.as_deref().unwrap(), structured.timestamp, &parameters());
        prop_assert_eq!(line, Ok((topic, key)));
    }
}
