//! `Projection-Min-Position`: read your own writes, up to a bound.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName};

use crate::domain::{Offset, PartitionId, Topic};

/// The header's name.
pub const MIN_POSITION: HeaderName = HeaderName::from_static("projection-min-position");

/// The configured names of the topics, by which callers name partitions.
#[derive(Debug, Clone)]
pub struct TopicNames {
    /// The ledger topic.
    pub ledger: String,
    /// The payment topic.
    pub payment: String,
}

/// The header is not a list of `topic/partition@offset`, or names a topic that is not folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Reads the header: the furthest record of each partition that must be in the projection. Empty where the header is
/// absent; several headers are one list.
pub fn parse(headers: &HeaderMap, topics: &TopicNames) -> Result<Vec<(PartitionId, Offset)>, Malformed> {
    let mut wanted = BTreeMap::new();
    for value in headers.get_all(MIN_POSITION) {
        for element in value.to_str().map_err(|_| Malformed)?.split(',') {
            let (partition, offset) = record(element.trim_matches([' ', '\t']), topics).ok_or(Malformed)?;
            let furthest = wanted.entry(partition).or_insert(offset);
            *furthest = offset.max(*furthest);
        }
    }
    Ok(wanted.into_iter().collect())
}

fn record(text: &str, topics: &TopicNames) -> Option<(PartitionId, Offset)> {
    let (topic, rest) = text.split_once('/')?;
    let (partition, offset) = rest.split_once('@')?;
    let topic = match topic {
        name if name == topics.ledger => Topic::Ledger,
        name if name == topics.payment => Topic::Payment,
        _ => return None,
    };
    let partition = i32::try_from(number(partition)?).ok()?;
    Some((PartitionId { topic, partition }, Offset(number(offset)?)))
}

/// Digits alone, without leading zeros: `parse` would take a sign.
fn number(text: &str) -> Option<i64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    type Wanted = Result<Vec<(PartitionId, Offset)>, Malformed>;

    fn parsed(values: &[&[u8]]) -> Wanted {
        let topics = TopicNames { ledger: "ledger.events".to_owned(), payment: "payment.events".to_owned() };
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(MIN_POSITION, HeaderValue::from_bytes(value).unwrap());
        }
        parse(&headers, &topics)
    }

    #[test]
    fn records_are_named_by_topic_partition_and_offset() {
        let ledger = |partition, offset| (PartitionId { topic: Topic::Ledger, partition }, Offset(offset));
        let payment = |partition, offset| (PartitionId { topic: Topic::Payment, partition }, Offset(offset));
        let rows: &[(&[&[u8]], Wanted)] = &[
            (&[], Ok(vec![])),
            (&[b"ledger.events/1@77"], Ok(vec![ledger(1, 77)])),
            (&[b"ledger.events/1@77, payment.events/3@1042"], Ok(vec![ledger(1, 77), payment(3, 1042)])),
            (&[b"ledger.events/1@77\t,payment.events/0@0"], Ok(vec![ledger(1, 77), payment(0, 0)])),
            (&[b"ledger.events/0@0", b"ledger.events/1@1"], Ok(vec![ledger(0, 0), ledger(1, 1)])),
            (&[b"ledger.events/0@9223372036854775807"], Ok(vec![ledger(0, i64::MAX)])),
            (&[b""], Err(Malformed)),
            (&[b"ledger.events/1@77,"], Err(Malformed)),
            (&[b"ledger.events/1"], Err(Malformed)),
            (&[b"ledger.events@1/77"], Err(Malformed)),
            (&[b"ledger.events/1@"], Err(Malformed)),
            (&[b"ledger.events/@1"], Err(Malformed)),
            (&[b"other/1@77"], Err(Malformed)),
            (&[b"Ledger.Events/1@77"], Err(Malformed)),
            (&[b"ledger.events/-1@77"], Err(Malformed)),
            (&[b"ledger.events/+1@77"], Err(Malformed)),
            (&[b"ledger.events/01@77"], Err(Malformed)),
            (&[b"ledger.events/1@7x"], Err(Malformed)),
            (&[b"ledger.events/1 @7"], Err(Malformed)),
            (&[b"ledger.events/2147483648@7"], Err(Malformed)),
            (&[b"ledger.events/0@9223372036854775808"], Err(Malformed)),
            (&[b"ledger.events/1@\xd9\xa1"], Err(Malformed)),
        ];
        for (values, expected) in rows {
            assert_eq!(parsed(values), *expected, "{values:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(0x20_u8..=0x7e, 0..60)) {
            let wanted = parsed(&[&bytes]).unwrap_or_default();
            prop_assert!(wanted.iter().all(|(partition, offset)| partition.partition >= 0 && offset.0 >= 0));
        }

        #[test]
        fn what_is_written_is_read(partition in 0..=i32::MAX, offset in 0..=i64::MAX) {
            let text = format!("payment.events/{partition}@{offset}");
            let wanted = (PartitionId { topic: Topic::Payment, partition }, Offset(offset));
            prop_assert_eq!(parsed(&[text.as_bytes()]), Ok(vec![wanted]));
        }
    }
}
