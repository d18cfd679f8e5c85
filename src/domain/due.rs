//! What a customer owes on an account: it stands in the account's cell, and once more beside the customer's cell.

use super::{
    Amount, CellError, Currency,
    packed::{Kind, Packer, Unpacker},
};

/// The most currencies of an account, and of what is owed on it.
pub(super) const CURRENCIES_MAX: usize = 16;

/// Appends what stands beside a customer's cell: what is owed on one account per currency, signed and never zero.
pub fn encode_due(amounts: &[(Currency, Amount)], out: &mut Vec<u8>) {
    pack(&mut Packer::new(out, Kind::Due), amounts);
}

/// Reads what [`encode_due`] wrote; empty where nothing is owed any more.
pub fn decode_due(bytes: &[u8]) -> Result<Vec<(Currency, Amount)>, CellError> {
    let mut from = Unpacker::new(bytes, Kind::Due)?;
    let amounts = unpack(&mut from)?;
    from.end()?;
    Ok(amounts)
}

/// For people: `CZK 3, USD 12.5`, or `0`.
pub fn due_told(amounts: &[(Currency, Amount)]) -> String {
    let told =
        |(currency, amount): &(Currency, Amount)| format!("{} {}", currency.as_str(), amount.to_short());
    let told: Vec<_> = amounts.iter().map(told).collect();
    if told.is_empty() { "0".to_owned() } else { told.join(", ") }
}

pub(super) fn pack(out: &mut Packer<'_>, amounts: &[(Currency, Amount)]) {
    out.count(amounts.len());
    for (currency, amount) in amounts {
        out.currency(*currency);
        out.amount(*amount);
    }
}

pub(super) fn unpack(from: &mut Unpacker<'_>) -> Result<Vec<(Currency, Amount)>, CellError> {
    let count = from.count()?;
    let mut amounts = Vec::with_capacity(count.min(CURRENCIES_MAX));
    for _ in 0..count {
        amounts.push((from.currency()?, from.amount()?));
    }
    Ok(amounts)
}
