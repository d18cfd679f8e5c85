//! Money: the only file that names the decimal crate.

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// The most decimals that a currency has.
const DECIMALS: u32 = 4;
/// 18 integer digits and four decimals.
const STORED_MAX: i128 = 10_i128.pow(22) - 1;
/// 24 integer digits and four decimals: 28 digits, the last length of which every number fits a `Decimal`.
const WIDE_MAX: i128 = 10_i128.pow(28) - 1;

/// An exact signed amount with at most four decimals; its integer part has at most 18 digits where it is
/// stored (figures computed on reading have the digits they need).
///
/// Equal amounts are equal whatever their trailing zeros were. In a cell it is its count of
/// ten-thousandths, as a varint.
// The scale is always four and zero is never negative, so equal amounts are equal in every bit and no
// operation rescales, which is where digits would be lost in silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    pub const ZERO: Amount = Amount(Decimal::from_parts(0, 0, 0, false, DECIMALS));

    /// Reads an unsigned amount by the contract's grammar, digit by digit.
    ///
    /// At most `decimals_max` decimals, of which no more than four are ever allowed; trailing zeros are not
    /// counted, so there may be any number of them.
    pub fn parse(text: &str, decimals_max: u32) -> Result<Self, AmountError> {
        let (integer, fraction) = match text.split_once('.') {
            Some((integer, fraction)) => (integer, Some(fraction)),
            None => (text, None),
        };
        let leading_zero = integer.len() > 1 && integer.starts_with('0');
        if !(1..=15).contains(&integer.len()) || leading_zero || !is_digits(integer) {
            return Err(AmountError::Grammar);
        }
        let fraction = fraction.unwrap_or("0");
        if fraction.is_empty() || !is_digits(fraction) {
            return Err(AmountError::Grammar);
        }
        let fraction = fraction.trim_end_matches('0');
        let decimals_max = decimals_max.min(DECIMALS);
        if fraction.len() > usize::try_from(decimals_max).unwrap_or(usize::MAX) {
            return Err(AmountError::Decimals(decimals_max));
        }
        let missing = (fraction.len()..4).map(|_| b'0');
        let count = integer.bytes().chain(fraction.bytes()).chain(missing).fold(0_i128, |count, digit| {
            count.saturating_mul(10).saturating_add(i128::from(digit.wrapping_sub(b'0')))
        });
        Amount::within(count, STORED_MAX).ok_or(AmountError::Grammar)
    }

    /// The sum; `None` past 18 integer digits.
    #[must_use]
    pub fn checked_add(self, other: Amount) -> Option<Amount> {
        self.add_within(other, STORED_MAX)
    }

    /// The difference; `None` past 18 integer digits.
    #[must_use]
    pub fn checked_sub(self, other: Amount) -> Option<Amount> {
        self.add_within(other.negated(), STORED_MAX)
    }

    /// A sum computed on reading, past 18 integer digits where need be; `None` only past 24.
    #[must_use]
    pub fn wide_add(self, other: Amount) -> Option<Amount> {
        self.add_within(other, WIDE_MAX)
    }

    /// With the other sign.
    #[must_use]
    pub fn negated(self) -> Amount {
        let mut other = self.0;
        other.set_sign_negative(!self.is_zero() && !self.is_negative());
        Amount(other)
    }

    /// Exactly nothing.
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    /// Below zero.
    pub fn is_negative(self) -> bool {
        !self.is_zero() && self.0.is_sign_negative()
    }

    /// View one's form: at least one decimal, no needless zeros, signed: `30.0`, `10.25`, `-4.5`.
    pub fn to_short(self) -> String {
        let sign = if self.is_negative() { "-" } else { "" };
        format!("{sign}{}", self.unsigned(1))
    }

    /// View two's form: unsigned, exactly this many decimals: `4520.15`.
    ///
    /// An amount that needs more than these keeps them: nothing is ever rounded.
    pub fn to_unsigned(self, decimals: u32) -> String {
        self.unsigned(usize::try_from(decimals.min(DECIMALS)).unwrap_or_default())
    }

    /// Its count of ten-thousandths: the form in cells and in fingerprints of facts.
    pub fn ten_thousandths(self) -> i128 {
        self.0.mantissa()
    }

    /// From a count of ten-thousandths; `None` past 24 integer digits.
    pub fn from_ten_thousandths(count: i128) -> Option<Amount> {
        Amount::within(count, WIDE_MAX)
    }

    fn add_within(self, other: Amount, max: i128) -> Option<Amount> {
        // Both have 28 digits at most, so the count neither wraps nor loses a digit before it is bounded.
        Amount::within(self.ten_thousandths().checked_add(other.ten_thousandths())?, max)
    }

    fn within(count: i128, max: i128) -> Option<Amount> {
        if count.unsigned_abs() > max.unsigned_abs() {
            return None;
        }
        Decimal::try_from_i128_with_scale(count, DECIMALS).ok().map(Amount)
    }

    fn unsigned(self, decimals_min: usize) -> String {
        let count = self.ten_thousandths().unsigned_abs();
        let mut text = format!("{}.{:04}", count / 10_000, count % 10_000);
        for _ in decimals_min..4 {
            if text.ends_with('0') {
                text.pop();
            }
        }
        if text.ends_with('.') {
            text.pop();
        }
        text
    }
}

impl Default for Amount {
    fn default() -> Self {
        Amount::ZERO
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.ten_thousandths().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Amount::from_ten_thousandths(i128::deserialize(deserializer)?)
            .ok_or_else(|| D::Error::custom("an amount past 24 integer digits"))
    }
}

/// ASCII digits alone: `٣` and its like are no digits here.
fn is_digits(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "expected values of tests")]

    use proptest::prelude::*;

    use super::*;

    fn amount(text: &str) -> Amount {
        Amount::parse(text, 4).unwrap()
    }

    #[test]
    fn amounts_of_the_grammar_read_exactly() {
        // Text, decimals allowed, ten-thousandths.
        let table: &[(&str, u32, i128)] = &[
            ("0", 2, 0),
            ("0.0", 0, 0),
            ("0.01", 2, 100),
            ("1", 0, 10_000),
            ("10.25", 2, 102_500),
            ("4520.15", 2, 45_201_500),
            ("0.0001", 4, 1),
            ("497.70000000000000000000000000000000", 1, 4_977_000),
            ("5.000", 0, 50_000),
            ("123456789012345.6789", 4, 1_234_567_890_123_456_789),
            ("999999999999999", 0, 9_999_999_999_999_990_000),
            // No currency has more than four, whatever the caller allows.
            ("1.2345", 9, 12_345),
        ];
        for &(text, decimals, count) in table {
            assert_eq!(Amount::parse(text, decimals).unwrap().ten_thousandths(), count, "{text}");
        }
    }

    #[test]
    fn no_other_text_is_an_amount() {
        let table = [
            "",
            " ",
            ".",
            "1.",
            ".5",
            "-1",
            "+1",
            "-0",
            "00",
            "01",
            "00.5",
            "1e2",
            "1E2",
            "1.5e1",
            "0x10",
            "NaN",
            "inf",
            "Infinity",
            "1,5",
            "1 000",
            "1_000",
            " 1",
            "1 ",
            "1\n",
            "1.2.3",
            "1..2",
            "٣",
            "１",
            "१",
            "1.٣",
            "½",
            "−1",
            "1.-5",
            "1.5-",
            "1/2",
            "$1",
            "1.0f",
            "1000000000000000",
            "123456789012345678901234567890",
            "\u{feff}1",
            "1\0",
        ];
        for text in table {
            assert_eq!(Amount::parse(text, 4), Err(AmountError::Grammar), "{text:?}");
        }
    }

    #[test]
    fn decimals_past_the_limit_are_told_apart_from_the_grammar() {
        let table = [("0.1", 0), ("0.01", 1), ("1.005", 2), ("1.2345", 3), ("1.00001", 4)];
        for (text, decimals) in table {
            assert_eq!(Amount::parse(text, decimals), Err(AmountError::Decimals(decimals)), "{text}");
        }
        // The grammar is judged over the whole text first.
        assert_eq!(Amount::parse("0.123456x", 2), Err(AmountError::Grammar));
        assert_eq!(Amount::parse("0.12345", 9), Err(AmountError::Decimals(4)));
    }

    #[test]
    fn a_million_decimals_are_read_without_a_big_number() {
        let zeros = format!("1.5{}", "0".repeat(1_000_000));
        assert_eq!(Amount::parse(&zeros, 2), Ok(amount("1.5")));
        let digits = format!("1.{}", "9".repeat(1_000_000));
        assert_eq!(Amount::parse(&digits, 2), Err(AmountError::Decimals(2)));
        assert_eq!(Amount::parse(&"9".repeat(1_000_000), 2), Err(AmountError::Grammar));
    }

    #[test]
    fn stored_sums_end_at_18_integer_digits_and_wide_ones_at_24() {
        let stored = Amount::from_ten_thousandths(STORED_MAX).unwrap();
        let unit = amount("0.0001");
        assert_eq!(stored.to_short(), "999999999999999999.9999");
        assert_eq!(stored.checked_add(unit), None);
        assert_eq!(stored.negated().checked_sub(unit), None);
        assert_eq!(stored.checked_sub(unit).unwrap().ten_thousandths(), STORED_MAX - 1);
        assert_eq!(stored.wide_add(unit).unwrap().to_short(), "1000000000000000000.0");

        let wide = Amount::from_ten_thousandths(WIDE_MAX).unwrap();
        assert_eq!(wide.to_short(), "999999999999999999999999.9999");
        assert_eq!(wide.wide_add(unit), None);
        assert_eq!(wide.wide_add(wide), None);
        assert_eq!(wide.wide_add(wide.negated()), Some(Amount::ZERO));
        assert_eq!(Amount::from_ten_thousandths(WIDE_MAX + 1), None);
        assert_eq!(Amount::from_ten_thousandths(i128::MIN), None);
    }

    #[test]
    fn the_short_form_has_at_least_one_decimal_and_no_needless_zeros() {
        let table = [
            (0, "0.0"),
            (300_000, "30.0"),
            (4_977_000, "497.7"),
            (102_500, "10.25"),
            (-45_000, "-4.5"),
            (-1, "-0.0001"),
            (50_000, "5.0"),
            (1_000_000, "100.0"),
            (12_340, "1.234"),
            (-100_000_000, "-10000.0"),
        ];
        for (count, text) in table {
            assert_eq!(Amount::from_ten_thousandths(count).unwrap().to_short(), text);
        }
    }

    #[test]
    fn the_unsigned_form_has_exactly_the_currencys_decimals() {
        let table = [
            (45_201_500, 2, "4520.15"),
            (-45_201_500, 2, "4520.15"),
            (100_000_000, 2, "10000.00"),
            (0, 2, "0.00"),
            (0, 0, "0"),
            (50_000, 0, "5"),
            (1_000_000, 0, "100"),
            (50_000, 3, "5.000"),
            (12_345, 4, "1.2345"),
            (10_000, 4, "1.0000"),
            (500, 2, "0.05"),
            // Never rounded.
            (12_345, 2, "1.2345"),
            (-5_000, 0, "0.5"),
        ];
        for (count, decimals, text) in table {
            assert_eq!(Amount::from_ten_thousandths(count).unwrap().to_unsigned(decimals), text);
        }
    }

    #[test]
    fn zero_has_one_form_and_no_sign() {
        let zeros = [
            Amount::ZERO,
            Amount::default(),
            amount("0"),
            amount("0.00"),
            Amount::ZERO.negated(),
            amount("1.5").checked_sub(amount("1.50")).unwrap(),
            amount("1.5").negated().checked_add(amount("1.5")).unwrap(),
        ];
        for zero in zeros {
            assert_eq!(zero, Amount::ZERO);
            assert!(zero.is_zero() && !zero.is_negative());
            assert_eq!(zero.to_short(), "0.0");
            assert_eq!(postcard::to_stdvec(&zero).unwrap(), [0]);
        }
        assert!(amount("0.01").negated().is_negative());
    }

    #[test]
    fn a_cell_keeps_an_amount_as_a_varint() {
        // 4520.15 in zigzag: 90,403,000 takes four groups of seven bits.
        assert_eq!(postcard::to_stdvec(&amount("4520.15")).unwrap().len(), 4);
        let past = postcard::to_stdvec(&(WIDE_MAX + 1)).unwrap();
        assert!(postcard::from_bytes::<Amount>(&past).is_err());
    }

    proptest! {
        #[test]
        fn sums_are_those_of_the_counts(a in -STORED_MAX..=STORED_MAX, b in -STORED_MAX..=STORED_MAX) {
            let (x, y) = (Amount::from_ten_thousandths(a).unwrap(), Amount::from_ten_thousandths(b).unwrap());
            let stored = |sum: i128| (sum.abs() <= STORED_MAX).then_some(sum);
            prop_assert_eq!(x.checked_add(y).map(Amount::ten_thousandths), stored(a + b));
            prop_assert_eq!(x.checked_sub(y).map(Amount::ten_thousandths), stored(a - b));
            prop_assert_eq!(x.wide_add(y).map(Amount::ten_thousandths), Some(a + b));
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            let packed = postcard::to_stdvec(&x).unwrap();
            prop_assert_eq!(postcard::from_bytes::<Amount>(&packed).unwrap(), x);
        }

        #[test]
        fn what_is_written_short_reads_as_itself(count in 0_i128..10_i128.pow(19)) {
            let amount = Amount::from_ten_thousandths(count).unwrap();
            prop_assert_eq!(Amount::parse(&amount.to_short(), 4), Ok(amount));
        }
    }
}
