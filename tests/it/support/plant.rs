//! Faults planted in a store behind the back of its owner: what a comparison must find.

use super::redis::Server;

/// The key of an account's cell.
pub fn account(generation: u32, id: &str) -> String {
    format!("{{bp}}:g{generation}:a:{id}")
}

/// The key of a customer's cell.
pub fn customer(generation: u32, id: &str) -> String {
    format!("{{bp}}:g{generation}:c:{id}")
}

/// Changes an amount in a cell to one of the same length on the wire, given in cents; it must stand there once.
#[track_caller]
pub fn amount(redis: &Server, key: &str, from_cents: u64, to_cents: u64) {
    let mut bytes: Vec<u8> = redis.command(&["GET", key]);
    let (from, to) = (packed(from_cents), packed(to_cents));
    assert_eq!(from.len(), to.len(), "amounts of one length");
    let places: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(&from)).collect();
    let [at] = places.as_slice() else { panic!("{from_cents} cents stand {} times in {key}", places.len()) };
    bytes[*at..at + to.len()].copy_from_slice(&to);
    let mut set = redis::cmd("SET");
    set.arg(key).arg(bytes).query::<()>(&mut redis.connection()).expect("written");
}

/// A cell takes an amount as ten-thousandths: twice its magnitude and the sign in the last bit, seven bits a byte.
fn packed(cents: u64) -> Vec<u8> {
    let mut rest = cents * 100 * 2;
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}
