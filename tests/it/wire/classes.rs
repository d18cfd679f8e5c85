//! Every dead-letter class of the wire with its faces, and which comes first where two apply.

use balance_projector::domain::{AccountFact, Class, Fact, Topic};
use serde_json::Value;

use super::{
    BOOKED, STRUCTURED, Sent, booked, booked_binary, check_booked, opened, parameters, profile, stated,
};

/// Every row is of this class.
fn check(class: Class, rows: Vec<(&str, Sent)>) {
    for (name, sent) in rows {
        match sent.decode() {
            Err(rejection) => {
                assert_eq!(rejection.class, class, "{name}: {rejection}");
                assert!(!rejection.message.is_empty(), "{name}");
            }
            Ok(event) => panic!("{name}: {event:?}"),
        }
    }
}

#[test]
fn a_record_without_a_value_is_a_tombstone() {
    check(
        Class::Tombstone,
        vec![
            ("null", booked().value(None)),
            ("null in binary mode", booked_binary().value(None)),
            ("null, and no key either", booked().value(None).key(None)),
        ],
    );
}

#[test]
fn a_value_past_the_limit_is_too_large_whatever_it_holds() {
    let limit = parameters().value_bytes_max;
    let padded = |length: usize| {
        let padding = " ".repeat(length - BOOKED.len());
        Sent::structured(format!("{BOOKED}{padding}"))
    };
    check_booked(vec![("just fits", padded(limit))]);
    check(
        Class::TooLarge,
        vec![
            ("a byte too long", padded(limit + 1)),
            ("5 MiB", padded(5 << 20)),
            ("5 MiB of brackets", booked().value(Some(&[b'['; 5 << 20]))),
            ("5 MiB of no UTF-8, without a key", booked().value(Some(&[0xFF; 5 << 20])).key(None)),
        ],
    );
}

#[test]
fn a_record_without_a_key_is_no_key() {
    check(
        Class::NoKey,
        vec![
            ("null", booked().key(None)),
            ("null in binary mode", booked_binary().key(None)),
            ("null, and no UTF-8 either", booked().key(None).value(Some(&[0xFF]))),
        ],
    );
}

#[test]
fn a_key_that_is_no_id_is_bad() {
    let long = [b'a'; 65];
    let rows: Vec<(&str, &[u8])> = vec![
        ("empty", b""),
        ("one dot", b"."),
        ("two dots", b".."),
        ("a space", b"acc 1"),
        ("a slash", b"acc/1"),
        ("a colon", b"acc:1"),
        ("65 characters", &long),
        ("no UTF-8", &[0xC3, 0x28]),
        ("letters past ASCII", "účet".as_bytes()),
        ("a byte of zero", b"acc-1\0"),
        ("a serialised string", b"\"acc-1\""),
    ];
    check(Class::BadKey, rows.iter().map(|&(name, key)| (name, booked().key(Some(key)))).collect());
    check(
        Class::BadKey,
        vec![("before the header", booked_binary().key(Some(b"")).also("ce_x", Some(&[0xFF])))],
    );
}

#[test]
fn headers_that_matter_must_be_utf_8_in_both_modes() {
    check(
        Class::BadHeader,
        vec![
            ("content type", booked().header("content-type", Some(&[0xFF]))),
            ("second content type", booked().also("content-type", Some(&[0xFF]))),
            ("attribute beside a structured event", booked().also("ce_id", Some(&[0xFF]))),
            ("attribute", booked_binary().header("ce_source", Some(&[0xE2, 0x82]))),
            ("extension", booked_binary().also("ce_extension", Some(&[0x80]))),
            ("before the value", booked().also("ce_id", Some(&[0xFF])).value(Some(&[0xFF]))),
        ],
    );
    check_booked(vec![
        ("any other header", booked().also("traceparent", Some(&[0xFF])).also("", Some(&[0xFF]))),
        (
            "any other header of a binary event",
            booked_binary().also("schema", Some(&[0, 0xFF])).also("CE_ID", None),
        ),
    ]);
}

#[test]
fn a_value_that_is_no_utf_8_is_told_as_that() {
    let torn = BOOKED.replace("e-1", "\u{e9}").into_bytes();
    let torn: Vec<u8> = torn.into_iter().filter(|&b| b != 0xC3).collect();
    check(
        Class::NotUtf8,
        vec![
            ("a torn character in an event", booked().value(Some(&torn))),
            ("bytes", booked().value(Some(&[0xFF, 0xFE, 0x00]))),
            ("UTF-16", booked().value(Some(&[0xFF, 0xFE, b'{', 0, b'}', 0]))),
            ("a surrogate in bytes", booked().value(Some(b"\"\xED\xA0\x80\""))),
            ("an overlong form", booked().value(Some(b"\"\xC0\xAF\""))),
            ("in binary mode", booked_binary().value(Some(b"\xFF"))),
            ("no JSON either", booked().value(Some(b"{\xFF"))),
            ("neither mode", booked().without("content-type").value(Some(b"\xFF"))),
        ],
    );
}

#[test]
fn nesting_past_the_limit_is_too_deep_without_recursion() {
    let nest = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let objects = |levels: usize| format!("{}0{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
    let noted = |note: &str| booked().with(r#""data":{"#, &format!(r#""note":{note},"data":{{"#));
    check_booked(vec![
        // The envelope is the first level.
        ("64 levels", noted(&nest(63))),
        ("64 levels of objects", noted(&objects(63))),
        ("64 levels in data", booked().with(r#""entry_id""#, &format!(r#""note":{},"entry_id""#, nest(62)))),
        ("brackets in a string", noted(&format!("\"{}\"", "[".repeat(100)))),
        (
            "64 levels of a binary event",
            booked_binary().with(r#""entry_id""#, &format!(r#""note":{},"entry_id""#, nest(63))),
        ),
    ]);
    check(
        Class::TooDeep,
        vec![
            ("65 levels", noted(&nest(64))),
            ("65 levels of objects", noted(&objects(64))),
            (
                "65 levels in data",
                booked().with(r#""entry_id""#, &format!(r#""note":{},"entry_id""#, nest(63))),
            ),
            ("100,000 arrays", Sent::structured(nest(100_000))),
            ("100,000 arrays inside", noted(&nest(100_000))),
            ("100,000 arrays never closed", Sent::structured("[".repeat(100_000))),
            ("100,000 objects never closed", Sent::structured(r#"{"a":"#.repeat(100_000))),
            ("100,000 arrays in binary mode", booked_binary().value(Some(nest(100_000).as_bytes()))),
            ("no JSON before the brackets", Sent::structured(format!("?{}", "[".repeat(65)))),
            ("a member twice as well", noted(&format!(r#"0,"id":"","note":{}"#, nest(64)))),
        ],
    );
}

#[test]
fn a_value_that_is_not_json_is_told_as_that() {
    let cut = &BOOKED.as_bytes()[..BOOKED.len() / 2];
    let bom = format!("\u{feff}{BOOKED}");
    let twice = format!("{BOOKED}{BOOKED}");
    check(
        Class::NotJson,
        vec![
            ("empty", booked().value(Some(b""))),
            ("empty in binary mode", booked_binary().value(Some(b""))),
            ("space", booked().value(Some(b" \n"))),
            ("truncated", booked().value(Some(cut))),
            ("a byte order mark", booked().value(Some(bom.as_bytes()))),
            ("two events", booked().value(Some(twice.as_bytes()))),
            ("text", booked().value(Some(b"hello"))),
            ("NaN", booked().with(r#""10.25""#, "NaN")),
            ("Infinity", booked().with(r#""10.25""#, "Infinity")),
            ("hexadecimal", booked().with(r#""10.25""#, "0x10")),
            ("a leading zero", booked().with(r#""10.25""#, "010.25")),
            ("other scripts' digits", booked().with(r#""10.25""#, "١٠")),
            ("a trailing comma", booked().with(r#""reversal_of":"e-0""#, r#""reversal_of":"e-0","#)),
            ("single quotes", booked().with(r#""e-1""#, "'e-1'")),
            ("a comment", booked().with(r#""data":"#, r#""data": /* here */ "#)),
            ("a control character in a string", booked().with("e-1", "e\n1")),
            ("an unknown escape", booked().with("e-1", r"e\x31")),
            ("in binary mode", booked_binary().with("}", "")),
            ("XML", booked_binary().value(Some(b"<event/>"))),
            ("neither mode", booked().without("content-type").value(Some(b"hello"))),
            ("a member twice before it goes wrong", booked().with(r#""data":"#, r#""id":"","data":!"#)),
        ],
    );
}

#[test]
fn a_known_member_twice_is_refused_however_it_is_spelt() {
    check(
        Class::DuplicateMember,
        vec![
            ("an attribute", booked().with(r#""data":"#, r#""source":"urn:test:ledger","data":"#)),
            (
                "an attribute by escapes",
                booked().with(r#""data":"#, r#""sourc\u0065":"urn:test:ledger","data":"#),
            ),
            ("an attribute, once null", booked().with(r#""data":"#, r#""sequence":null,"data":"#)),
            ("data", booked().with(r#""data":"#, r#""data":{},"data":"#)),
            ("data, once null", booked().with(r#""data":"#, r#""data":null,"data":"#)),
            ("three times", booked().with(r#""data":"#, r#""id":1,"id":2,"data":"#)),
            ("a member of data", booked().with(r#""entry_id""#, r#""amount":"10.25","entry_id""#)),
            (
                "a member of data by escapes",
                booked().with(r#""entry_id""#, r#""\u0061mount":"10.25","entry_id""#),
            ),
            (
                "an optional member of data",
                booked().with(r#""entry_id""#, r#""reversal_of":null,"entry_id""#),
            ),
            ("the id in data", booked().with(r#""entry_id""#, r#""account_id":"acc-1","entry_id""#)),
            ("currencies", opened().with(r#""currencies""#, r#""currencies":[],"currencies""#)),
            (
                "included",
                Sent::structured(BOOKED.replace("entry.booked", "credit_line.set"))
                    .with(r#""entry_id""#, r#""included":true,"included":true,"entry_id""#),
            ),
            ("in a binary event's data", booked_binary().with(r#""amount""#, r#""amount":"1","amount""#)),
            (
                "an attribute's header",
                booked_binary().also("ce_id", Some(b"0b5a9f0e-6a55-4d0c-9d5c-1f0d8a6e2b11")),
            ),
            ("an attribute's header, once without a value", booked_binary().also("ce_sequence", None)),
            ("an extension's header", booked_binary().also("ce_x", Some(b"1")).also("ce_x", Some(b"1"))),
            ("another specversion as well", booked().with(r#""1.0""#, r#""0.3","id":"""#)),
        ],
    );
    check_booked(vec![
        ("an unknown member", booked().with(r#""data":"#, r#""note":1,"note":2,"data":"#)),
        ("an unknown member of data", booked().with(r#""entry_id""#, r#""note":1,"note":2,"entry_id""#)),
        (
            "a member that another type knows",
            booked().with(r#""entry_id""#, r#""reason":1,"reason":2,"entry_id""#),
        ),
        ("a known name deeper", booked().with(r#""entry_id""#, r#""note":{"id":1,"id":2},"entry_id""#)),
        ("a name in another case", booked().with(r#""entry_id""#, r#""Amount":1,"AMOUNT":2,"entry_id""#)),
        (
            "data_base64 is unknown",
            booked().with(r#""data":"#, r#""data_base64":"","data_base64":"","data":"#),
        ),
        (
            "attributes beside a structured event",
            booked().also("ce_id", Some(b"x")).also("ce_id", Some(b"y")),
        ),
        ("other headers", booked_binary().also("trace", Some(b"1")).also("trace", Some(b"2"))),
    ]);
}

#[test]
fn what_is_no_cloud_event_is_told_as_that() {
    let content_type = |value: &[u8]| booked().header("content-type", Some(value));
    check(
        Class::NotCloudevents,
        vec![
            ("no headers", booked().without("content-type")),
            ("a content type without a value", booked().header("content-type", None)),
            ("plain JSON", content_type(b"application/json")),
            ("a batch", content_type(b"application/cloudevents-batch+json")),
            ("another format", content_type(b"application/cloudevents+avro")),
            (
                "the media type inside another",
                content_type(b"application/json; x=application/cloudevents+json"),
            ),
            (
                "of two the first counts",
                content_type(b"application/json").also("content-type", Some(STRUCTURED.as_bytes())),
            ),
            ("an array", Sent::structured(format!("[{BOOKED}]"))),
            ("a string", Sent::structured("\"event\"")),
            ("a number", Sent::structured("1")),
            ("null", Sent::structured("null")),
            ("specversion 0.3", booked().with(r#""1.0""#, r#""0.3""#)),
            ("specversion 1.0.2", booked().with(r#""1.0""#, r#""1.0.2""#)),
            ("specversion 1", booked().with(r#""1.0""#, r#""1""#)),
            ("specversion as a number", booked().with(r#""1.0""#, "1.0")),
            ("specversion as a boolean", booked().with(r#""1.0""#, "true")),
            ("specversion of a binary event", booked_binary().header("ce_specversion", Some(b"0.3"))),
            ("an unknown type as well", booked().with(r#""1.0""#, r#""2.0""#).with("booked.v1", "booked.v9")),
        ],
    );
}

#[test]
fn types_are_known_by_their_whole_name_and_only_in_their_own_topic() {
    check(
        Class::UnknownType,
        vec![
            ("another version", booked().with("booked.v1", "booked.v2")),
            ("no version", booked().with("booked.v1", "booked")),
            ("another case", booked().with("ledger.entry", "Ledger.entry")),
            ("empty", booked().with("ledger.entry.booked.v1", "")),
            ("space around", booked().with("booked.v1", "booked.v1 ")),
            ("a number", booked().with(r#""ledger.entry.booked.v1""#, "1")),
            ("half a surrogate pair", booked().with("booked.v1", r"booked.v1\ud800")),
            ("of a binary event", booked_binary().header("ce_type", Some(b"ledger.entry.moved.v1"))),
            ("another subject as well", booked().with("booked.v1", "booked.v2").key(Some(b"acc-2"))),
        ],
    );
    check(
        Class::WrongTopic,
        vec![
            ("a ledger event among payments", booked().topic(Topic::Payment)),
            ("a profile among ledger events", profile().topic(Topic::Ledger)),
            ("of a binary event", booked_binary().topic(Topic::Payment)),
            ("another subject as well", booked().topic(Topic::Payment).key(Some(b"acc-2"))),
        ],
    );
}

#[test]
fn key_subject_and_the_id_in_the_data_are_one_text() {
    check(
        Class::KeyNotSubject,
        vec![
            ("another key", booked().key(Some(b"acc-2"))),
            ("a key in another case", booked().key(Some(b"ACC-1"))),
            ("another subject", booked().with(r#""subject":"acc-1""#, r#""subject":"acc-2""#)),
            ("an empty subject", booked().with(r#""subject":"acc-1""#, r#""subject":"""#)),
            ("a subject with space", booked().with(r#""subject":"acc-1""#, r#""subject":"acc-1 ""#)),
            ("a number as subject", booked().with(r#""subject":"acc-1""#, r#""subject":1"#)),
            ("half a surrogate pair", booked().with(r#""subject":"acc-1""#, r#""subject":"acc-1\ud800""#)),
            ("another id in data", booked().with(r#""account_id":"acc-1""#, r#""account_id":"acc-2""#)),
            ("another subject of a binary event", booked_binary().header("ce_subject", Some(b"acc-2"))),
            ("another id of a customer", profile().with(r#""customer_id":"c-1""#, r#""customer_id":"c-2""#)),
            (
                "a missing field as well",
                booked().with(r#""subject":"acc-1""#, r#""subject":"acc-2""#).with(r#""entry_id""#, r#""e""#),
            ),
        ],
    );
    check_booked(vec![(
        "an escaped subject",
        booked().with(r#""subject":"acc-1""#, r#""subject":"\u0061cc-1""#),
    )]);
}

#[test]
fn a_required_member_absent_or_null_is_missing() {
    let mut rows = Vec::new();
    let events = [
        (booked(), vec!["specversion", "id", "source", "type", "subject", "time", "data"]),
        (
            booked(),
            vec!["entry_id", "account_id", "amount", "currency", "credit_debit_indicator", "booking_date"],
        ),
        (
            stated(),
            vec!["account_id", "currency", "balance_type", "amount", "credit_debit_indicator", "as_of"],
        ),
        (opened(), vec!["account_id", "currencies"]),
        (profile(), vec!["customer_id", "billing_name", "ivr_fee"]),
    ];
    for (sent, members) in events {
        for member in members {
            let event: Value = serde_json::from_slice(sent.value.as_deref().unwrap()).unwrap();
            let path = if event.get(member).is_some() { member.to_owned() } else { format!("data/{member}") };
            let (inside, name) = path.rsplit_once('/').unwrap_or(("", &path));
            let pointer = if inside.is_empty() { String::new() } else { format!("/{inside}") };
            let mut absent = event.clone();
            absent.pointer_mut(&pointer).unwrap().as_object_mut().unwrap().remove(name).unwrap();
            let mut null = event.clone();
            null.pointer_mut(&pointer).unwrap()[name] = Value::Null;
            rows.push((member, sent.clone().value(Some(absent.to_string().as_bytes()))));
            rows.push((member, sent.clone().value(Some(null.to_string().as_bytes()))));
        }
    }
    assert_eq!(rows.len(), 2 * (7 + 6 + 6 + 2 + 3));
    check(Class::MissingField, rows);
    check(
        Class::MissingField,
        vec![
            ("an empty object", Sent::structured("{}")),
            ("data_base64 for data", booked().with(r#""data":"#, r#""data_base64":"e30=","dat":"#)),
            ("a header that is absent", booked_binary().without("ce_specversion")),
            ("a header without a value", booked_binary().header("ce_id", None)),
            ("null as a binary event's data", booked_binary().value(Some(b"null"))),
            (
                "a bad field as well",
                booked().with(r#""entry_id""#, r#""e""#).with(r#""2017-02-17T12:32:41Z""#, "1"),
            ),
        ],
    );
    let without_optional = booked()
        .with(r#""sequence":"7","#, "")
        .with(r#""customer_id":"c-1","#, "")
        .with(r#","value_date":"2017-02-18","reversal_of":"e-0""#, "");
    let null_optional = booked()
        .with(r#""sequence":"7","#, r#""sequence":null,"#)
        .with(r#""customer_id":"c-1","#, r#""customer_id":null,"#)
        .with(r#""value_date":"2017-02-18","reversal_of":"e-0""#, r#""value_date":null,"reversal_of":null"#);
    assert_eq!(without_optional.decode().unwrap().sequence, None);
    assert_eq!(null_optional.decode(), without_optional.decode());
    assert_eq!(booked_binary().header("ce_sequence", None).decode().unwrap().sequence, None);
}

#[test]
fn a_member_of_another_type_or_grammar_is_a_bad_field() {
    let attribute = |name: &str, value: &str| {
        let event: Value = serde_json::from_str(BOOKED).unwrap();
        let before = format!("\"{name}\":{}", event[name]);
        booked().with(&before, &format!("\"{name}\":{value}"))
    };
    let long_source = format!("\"{}\"", "s".repeat(257));
    let sequences = [
        "0",
        "-1",
        "1.0",
        "1e0",
        "1000000000000000000",
        "true",
        "[]",
        "\"0\"",
        "\"\"",
        "\"01\"",
        "\"+1\"",
        "\" 1\"",
        "\"1000000000000000000\"",
        "\"١\"",
        "\"7\\ud800\"",
    ];
    check(Class::BadField, sequences.iter().map(|&text| (text, attribute("sequence", text))).collect());
    let ids = [
        "1",
        "\"\"",
        "\"x\"",
        "\"0b5a9f0e6a554d0c9d5c1f0d8a6e2b11\"",
        "\"{0b5a9f0e-6a55-4d0c-9d5c-1f0d8a6e2b11}\"",
        "\"urn:uuid:0b5a9f0e-6a55-4d0c-9d5c-1f0d8a6e2b11\"",
        "\"0b5a9f0e-6a55-4d0c-9d5c-1f0d8a6e2b1g\"",
        "\"0b5a9f0e-6a55-4d0c-9d5c-1f0d8a6e2b1\"",
        "\"0b5a9f0e-6a554-d0c-9d5c-1f0d8a6e2b11\"",
        "\" 0b5a9f0e-6a55-4d0c-9d5c-1f0d8a6e2b11\"",
    ];
    check(Class::BadField, ids.iter().map(|&text| (text, attribute("id", text))).collect());
    let times = [
        "1487334761",
        "\"\"",
        "\"2017-02-17\"",
        "\"2017-02-17T12:32:41\"",
        "\"2017-02-30T12:32:41Z\"",
        "\"2016-12-31T23:59:60Z\"",
        "\"2017-02-17 12:32:41Z\"",
        "\"17.02.2017\"",
        "{}",
    ];
    check(Class::BadField, times.iter().map(|&text| (text, attribute("time", text))).collect());
    check(
        Class::BadField,
        vec![
            ("a day and a nanosecond ahead", attribute("time", r#""2017-02-18T12:33:00.000000001Z""#)),
            ("the year 9999", attribute("time", r#""9999-12-31T23:59:59Z""#)),
            ("an empty source", attribute("source", r#""""#)),
            ("a source of 257 characters", attribute("source", &long_source)),
            ("a source that is a number", attribute("source", "7")),
            ("half a surrogate pair in a source", attribute("source", r#""urn:\udc00""#)),
            ("a surrogate pair the wrong way round", attribute("source", r#""\ude00\ud83d""#)),
            ("an array as data", Sent::structured(BOOKED.replace(r#""data":{"#, r#""data":[],"d":{"#))),
            ("text as data", Sent::structured(BOOKED.replace(r#""data":{"#, r#""data":"{}","d":{"#))),
            ("a binary event's data is an array", booked_binary().value(Some(b"[]"))),
            ("a binary event's data is text", booked_binary().value(Some(b"\"{}\""))),
            ("a binary event's time", booked_binary().header("ce_time", Some(b"yesterday"))),
            ("a binary event's empty sequence", booked_binary().header("ce_sequence", Some(b""))),
            ("a number as entry id", booked().with(r#""e-1""#, "1")),
            ("an empty entry id", booked().with(r#""e-1""#, r#""""#)),
            ("an entry id with a slash", booked().with("e-1", "e/1")),
            ("an entry id of 129 characters", booked().with("e-1", &"e".repeat(129))),
            ("an entry id of one dot", booked().with(r#""e-1""#, r#"".""#)),
            ("half a surrogate pair in an entry id", booked().with("e-1", r"e-1\ud800")),
            ("half a surrogate pair in an amount", booked().with("10.25", r"10.25\ud800")),
            ("half a surrogate pair in a currency", booked().with("CZK", r"CZ\ud800")),
            ("a customer id with a space", booked().with(r#""c-1""#, r#""c 1""#)),
            ("a customer id of 65 characters", booked().with(r#""c-1""#, &format!("{:?}", "c".repeat(65)))),
            ("a customer id that is false", booked().with(r#""c-1""#, "false")),
            ("a number as currency", booked().with(r#""CZK""#, "203")),
            ("a side in small letters", booked().with("DBIT", "dbit")),
            ("another side", booked().with("DBIT", "DEBIT")),
            (
                "30 February",
                booked().with(r#""booking_date":"2017-02-17""#, r#""booking_date":"2017-02-30""#),
            ),
            (
                "29 February of no leap year",
                booked().with(r#""booking_date":"2017-02-17""#, r#""booking_date":"2017-02-29""#),
            ),
            (
                "an instant for a day",
                booked().with(r#""booking_date":"2017-02-17""#, r#""booking_date":"2017-02-17T00:00:00Z""#),
            ),
            (
                "a day without a zero",
                booked().with(r#""booking_date":"2017-02-17""#, r#""booking_date":"2017-2-17""#),
            ),
            (
                "a number for a day",
                booked().with(r#""booking_date":"2017-02-17""#, r#""booking_date":20170217"#),
            ),
            ("a value date that only informs", booked().with("2017-02-18", "2017-02-31")),
            ("a reversal that only informs", booked().with(r#""e-0""#, r#""e 0""#)),
            ("an unknown balance type", stated().with("ITBD", "OPBD")),
            ("a balance type in small letters", stated().with("ITBD", "itbd")),
            ("a day for an instant", stated().with("2017-02-17T12:00:00Z", "2017-02-17")),
            ("currencies as text", opened().with(r#"["CZK","EUR"]"#, r#""CZK""#)),
            ("no currency at all", opened().with(r#"["CZK","EUR"]"#, "[]")),
            ("a number among currencies", opened().with(r#"["CZK","EUR"]"#, r#"["CZK",978]"#)),
            ("null among currencies", opened().with(r#"["CZK","EUR"]"#, r#"["CZK",null]"#)),
            (
                "half a surrogate pair among currencies",
                opened().with(r#"["CZK","EUR"]"#, r#"["CZK","\ud800"]"#),
            ),
            ("an empty name", profile().with("A name ", "")),
            ("a name of 257 characters", profile().with("A name ", &"é".repeat(257))),
            ("a name that is an object", profile().with(r#""A name ""#, "{}")),
            ("half a surrogate pair in a name", profile().with("A name ", r"A \ud83d name")),
            ("a bad amount as well", booked().with("10.25", "1e2").with("DBIT", "dbit")),
            ("an unknown currency as well", booked().with("CZK", "XXX").with("DBIT", "dbit")),
        ],
    );
    assert!(attribute("time", r#""2017-02-18T12:33:00Z""#).decode().is_ok(), "a day ahead to the nanosecond");
    assert!(attribute("sequence", "999999999999999999").decode().is_ok(), "18 digits");
    assert!(booked().with("e-1", &"e".repeat(128)).decode().is_ok(), "an entry id of 128 characters");
    assert!(profile().with("A name ", &"é".repeat(256)).decode().is_ok(), "a name of 256 characters");
}

#[test]
fn an_amount_of_another_grammar_is_a_bad_amount() {
    let texts = [
        "1e2",
        "1E2",
        "-10.25",
        "+10.25",
        "010.25",
        ".25",
        "10.",
        "10,25",
        "10.25 ",
        " 10.25",
        "0x10",
        "NaN",
        "Infinity",
        "10.251",
        "10.2500001",
        "0",
        "0.00",
        "",
        "١٠",
        "１０",
        "१०",
        "10.٢",
        "1 000",
        "1_000",
        "1000000000000000",
        "123456789012345678901234567890",
        "10.25.1",
        "10-25",
    ];
    check(Class::BadAmount, texts.iter().map(|&text| (text, booked().with("10.25", text))).collect());
    let numbers = [
        "1e2",
        "1E+2",
        "10.25e0",
        "-10.25",
        "-0",
        "0",
        "0.0",
        "10.251",
        "1000000000000000",
        "123456789012345678901234567890",
        "true",
        "false",
        "{}",
        "[]",
        "[10.25]",
    ];
    check(Class::BadAmount, numbers.iter().map(|&text| (text, booked().with(r#""10.25""#, text))).collect());
    check(
        Class::BadAmount,
        vec![
            ("a million decimals", booked().with("10.25", &format!("0.{}", "3".repeat(1_000_000)))),
            ("a million digits", booked().with(r#""10.25""#, &"9".repeat(1_000_000))),
            ("decimals of a currency without", booked().with("CZK", "JPY")),
            ("four decimals of a currency with three", booked().with("CZK", "KWD").with("10.25", "10.2525")),
            ("a fee with five decimals", profile().with("5.0", "5.00001")),
            ("a fee below zero", profile().with("5.0", "-5.0")),
            ("of an unknown currency", booked().with("CZK", "XXX").with("10.25", "1e2")),
            ("zero of an unknown currency", booked().with("CZK", "XXX").with("10.25", "0")),
        ],
    );
    check_booked(vec![
        ("trailing zeros", booked().with("10.25", "10.250000000000000000000000000000000")),
        ("a million trailing zeros", booked().with("10.25", &format!("10.25{}", "0".repeat(1_000_000)))),
        ("a number with trailing zeros", booked().with(r#""10.25""#, "10.2500")),
    ]);
    // A float would make …789 of it.
    let digits = booked().with(r#""10.25""#, "123456789012345.67").decode().unwrap();
    let Fact::Account(_, AccountFact::Booked { entry, .. }) = digits.fact else { panic!("{digits:?}") };
    assert_eq!(entry.amount.to_unsigned(2), "123456789012345.67");
}

#[test]
fn a_code_that_is_no_currency_is_told_last() {
    let codes = ["czk", "XXX", "XAU", "DEM", "ABC", "", "CZKK", " CZK", "₿"];
    check(Class::UnknownCurrency, codes.iter().map(|&code| (code, booked().with("CZK", code))).collect());
    check(
        Class::UnknownCurrency,
        vec![
            ("among currencies", opened().with(r#"["CZK","EUR"]"#, r#"["CZK","BTC"]"#)),
            ("alone among currencies", opened().with(r#"["CZK","EUR"]"#, r#"["BTC"]"#)),
            // How many decimals it may have, nobody knows.
            ("with many decimals", booked().with("CZK", "XXX").with("10.25", "10.2567891")),
        ],
    );
}

#[test]
fn a_rejection_tells_the_place_and_no_amount_name_or_id() {
    let colon = format!("byte {}", BOOKED.find(r#""data":"#).unwrap() + r#""data" "#.len());
    // Record, words that the message holds.
    let rows = [
        (booked().with("10.25", "777.125"), vec!["`data.amount`", "more than 2 decimals"]),
        (booked().with(r#""e-1""#, r#""secret id""#), vec!["`data.entry_id`", "1 to 128 characters"]),
        (booked().with(r#""entry_id""#, r#""e""#), vec!["`data.entry_id`", "missing"]),
        (profile().with("A name ", &"secret".repeat(50)), vec!["`data.billing_name`", "1 to 256 characters"]),
        (booked().key(Some(b"secret")), vec!["`subject`", "the record's key"]),
        (booked().key(Some(b"secret key")), vec!["key", "account id"]),
        (booked().with(r#""data":"#, r#""data" "#), vec![&*colon, "`:`"]),
        (booked().also("ce_secret", Some(&[0xFF])), vec!["ce_", "UTF-8"]),
        (booked().with("CZK", "secret"), vec!["`data.currency`", "ISO 4217"]),
        (booked().with("ledger.entry.booked.v1", "secret"), vec!["`type`", "ledger.entry.booked.v1"]),
    ];
    for (sent, words) in rows {
        let message = sent.decode().unwrap_err().message;
        assert!(words.iter().all(|word| message.contains(word)), "{message}: {words:?}");
        assert!(!message.contains("secret") && !message.contains("777"), "{message}");
    }
}
