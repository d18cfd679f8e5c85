//! The dead-letter topic: records set aside, identified by where they came from.

use crate::{
    domain::{Class, PartitionId, Rejection},
    source::{Cluster, batch::Stored, producer::Outgoing},
};

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
