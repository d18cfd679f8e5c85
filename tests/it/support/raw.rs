//! A record as no client library would write it: the protocol's bytes by hand.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use super::{kafka::Broker, produce::Outgoing};

/// Sends one record whose first header has this name, which need not be text; returns its offset.
pub fn put(broker: &Broker, record: &Outgoing, header_name: &[u8]) -> i64 {
    let mut inner = vec![0, 0, 0];
    for part in [record.key.as_deref(), record.value.as_deref()] {
        varint(&mut inner, part.map_or(-1, |bytes| bytes.len() as i64));
        inner.extend_from_slice(part.unwrap_or_default());
    }
    varint(&mut inner, record.headers.len() as i64 + 1);
    let others = record.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_deref()));
    for (name, value) in std::iter::once((header_name, Some(&b"value"[..]))).chain(others) {
        varint(&mut inner, name.len() as i64);
        inner.extend_from_slice(name);
        varint(&mut inner, value.map_or(-1, |bytes| bytes.len() as i64));
        inner.extend_from_slice(value.unwrap_or_default());
    }

    let timestamp = record.timestamp_ms.expect("a timestamp").to_be_bytes();
    // Attributes, last offset's delta, both timestamps, no producer id, epoch and sequence, one record.
    let mut checked = [&[0; 6][..], &timestamp, &timestamp, &[0xff; 14], &1_i32.to_be_bytes()].concat();
    varint(&mut checked, inner.len() as i64);
    checked.extend_from_slice(&inner);
    let length = (checked.len() as i32 + 9).to_be_bytes();
    // Base offset, length, leader epoch, magic.
    let mut batch = [&[0; 8][..], &length, &[0; 4], &[2]].concat();
    batch.extend_from_slice(&crc32c(&checked).to_be_bytes());
    batch.extend_from_slice(&checked);

    // Produce, version 3; correlation 0, no client id; no transaction, all replicas, 10 s, one topic.
    let mut request =
        vec![0, 0, 0, 3, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0x27, 0x10, 0, 0, 0, 1];
    request.extend_from_slice(&(record.topic.len() as i16).to_be_bytes());
    request.extend_from_slice(record.topic.as_bytes());
    request.extend_from_slice(&1_i32.to_be_bytes());
    request.extend_from_slice(&record.partition.expect("a partition").to_be_bytes());
    request.extend_from_slice(&(batch.len() as i32).to_be_bytes());
    request.extend_from_slice(&batch);

    let mut socket = TcpStream::connect(broker.address()).expect("a connection");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    socket.write_all(&(request.len() as i32).to_be_bytes()).expect("sent");
    socket.write_all(&request).expect("sent");
    let mut length = [0; 4];
    socket.read_exact(&mut length).expect("an answer");
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    socket.read_exact(&mut answer).expect("an answer");
    // Correlation, one topic, its name, one partition, its number; then the error and the offset.
    let at = 4 + 4 + 2 + record.topic.len() + 4 + 4;
    assert_eq!(answer[at..at + 2], [0, 0], "the broker refused the record: {answer:?}");
    i64::from_be_bytes(answer[at + 2..at + 10].try_into().expect("eight bytes"))
}

fn varint(into: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        into.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    into.push(rest as u8);
}

fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}
