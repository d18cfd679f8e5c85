//! The dead-letter topic: records set aside, identified by where they came from.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::{
    domain::{Class, PartitionId, Rejection},
    source::{
        Cluster,
        batch::Stored,
        producer::{Outgoing, Producer},
    },
};

/// How many headers are our own; the message is the last of them.
const OWN: usize = 5;

/// The record for the dead-letter topic: key, value (left out where too large), headers, and five of our own.
pub fn outgoing(cluster: &Cluster, id: PartitionId, record: &Stored<'_>, why: &Rejection) -> Outgoing {
    let mut headers: Vec<(String, Option<Vec<u8>>)> =
        record.headers.iter().map(|(name, value)| ((*name).to_owned(), value.map(<[u8]>::to_vec))).collect();
    let own = [
        ("dead-letter-topic", cluster.topic_name(id.topic).to_owned()),
        ("dead-letter-partition", id.partition.to_string()),
        ("dead-letter-offset", record.offset.to_string()),
        ("dead-letter-class", why.class.name().to_owned()),
        ("dead-letter-message", why.message.clone()),
    ];
    headers.extend(own.map(|(name, value)| (name.to_owned(), Some(value.into_bytes()))));
    Outgoing {
        topic: cluster.settings().dead_letter_topic.clone(),
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.filter(|_| why.class != Class::TooLarge).map(<[u8]>::to_vec),
        headers,
    }
}

/// Writes it and waits until it is acknowledged. A record that only just fitted its own topic may not fit this
/// one with five headers more: what is largest by nature is left out first, and the message says so.
pub async fn write(producer: &Producer, mut record: Outgoing) -> Result<(), KafkaError> {
    loop {
        match producer.write(&record).await {
            Err(KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge))
                if leave_out(&mut record) => {}
            other => return other,
        }
    }
}

/// Leaves out the value, then the record's own headers, then the key; tells whether anything was left.
fn leave_out(record: &mut Outgoing) -> bool {
    let theirs = record.headers.len().saturating_sub(OWN);
    let what = if record.value.take().is_some() {
        "value"
    } else if theirs > 0 {
        record.headers.drain(..theirs);
        "headers"
    } else if record.key.take().is_some() {
        "key"
    } else {
        return false;
    };
    if let Some((_, Some(message))) = record.headers.last_mut() {
        message.extend_from_slice(format!(" (left out: {what})").as_bytes());
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_goes_first_and_our_own_headers_never() {
        let header = |name: &str| (name.to_owned(), Some(name.as_bytes().to_vec()));
        let names = ["theirs", "topic", "partition", "offset", "class", "message"];
        let mut record = Outgoing {
            topic: "dead-letters".to_owned(),
            key: Some(vec![1]),
            value: Some(vec![2]),
            headers: names.map(header).to_vec(),
        };
        assert!(leave_out(&mut record));
        assert_eq!((&record.value, record.headers.len(), &record.key), (&None, 6, &Some(vec![1])));
        assert!(leave_out(&mut record));
        assert_eq!((record.headers.len(), &record.key), (5, &Some(vec![1])));
        assert!(leave_out(&mut record));
        assert_eq!(record.key, None);
        assert!(!leave_out(&mut record));
        let message = record.headers.pop().and_then(|(_, value)| String::from_utf8(value?).ok());
        assert_eq!(message.as_deref(), Some("message (left out: value) (left out: headers) (left out: key)"));
    }
}
