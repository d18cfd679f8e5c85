//! Money: the only file that names the decimal crate.

use rust_decimal::Decimal;

/// An exact signed amount with at most four decimals; its integer part has at most 18 digits where it is
/// stored (figures computed on reading have the digits they need).
///
/// Equal amounts are equal whatever their trailing zeros were. In a cell it is its count of
/// ten-thousandths, as a varint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(Decimal);

/// The text is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not `(0|[1-9]\d{0,14})(\.\d+)?`.
    #[error("is not a decimal of up to 15 integer digits, such as 10.25")]
    Grammar,
    /// More decimals than allowed, trailing zeros not counted.
    #[error("has more than {0} decimals")]
    Decimals(u32),
}

impl Amount {
    /// Nothing owed, nothing owned.
    pub const ZERO: Amount = Amount(Decimal::ZERO);

    /// Reads an unsigned amount by the contract's grammar, digit by digit.
    pub fn parse(text: &str, decimals_max: u32) -> Result<Self, AmountError> {
        let _ = (text, decimals_max);
        unimplemented!()
    }
    /// The sum; `None` past 18 integer digits.
    #[must_use]
    pub fn checked_add(self, other: Amount) -> Option<Amount> {
        let _ = other;
        unimplemented!()
    }
    /// The difference; `None` past 18 integer digits.
    #[must_use]
    pub fn checked_sub(self, other: Amount) -> Option<Amount> {
        let _ = other;
        unimplemented!()
    }
    /// A sum computed on reading, past 18 integer digits where need be; `None` only past 24.
    #[must_use]
    pub fn wide_add(self, other: Amount) -> Option<Amount> {
        let _ = other;
        unimplemented!()
    }
    /// With the other sign.
    #[must_use]
    pub fn negated(self) -> Amount {
        unimplemented!()
    }
    /// Exactly nothing.
    pub fn is_zero(self) -> bool {
        unimplemented!()
    }
    /// Below zero.
    pub fn is_negative(self) -> bool {
        unimplemented!()
    }
    /// View one's form: at least one decimal, no needless zeros, signed: `30.0`, `10.25`, `-4.5`.
    pub fn to_short(self) -> String {
        unimplemented!()
    }
    /// View two's form: unsigned, exactly this many decimals: `4520.15`.
    pub fn to_unsigned(self, decimals: u32) -> String {
        let _ = decimals;
        unimplemented!()
    }
    /// Its count of ten-thousandths: the form in cells and in fingerprints of facts.
    pub fn ten_thousandths(self) -> i128 {
        unimplemented!()
    }
    /// From a count of ten-thousandths; `None` past 24 integer digits.
    pub fn from_ten_thousandths(count: i128) -> Option<Amount> {
        let _ = count;
        unimplemented!()
    }
}
