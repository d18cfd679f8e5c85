//! Amounts as operators read them: signed, with the decimals of their currency.

use crate::domain::{Amount, Currency};

/// `-10.00`: more decimals than the currency has are kept.
pub fn money(amount: Amount, currency: Currency) -> String {
    let sign = if amount.is_negative() { "-" } else { "" };
    format!("{sign}{}", amount.to_unsigned(currency.decimals()))
}

/// What was added to come from one figure to the next.
pub fn between(before: Amount, after: Amount) -> Amount {
    // Both have 24 integer digits at most, so the count neither wraps nor leaves what an amount holds.
    after.wide_add(before.negated()).unwrap_or(Amount::ZERO)
}
