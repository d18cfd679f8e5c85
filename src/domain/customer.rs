//! A customer's cell: profile and payments.

use super::{Amount, Day, Offset, Time};

/// What the profile says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// 1 to 256 characters.
    pub billing_name: String,
    /// Zero or above, at most four decimals.
    pub ivr_fee: Amount,
}

/// The last payment, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LastPayment {
    /// No payment that counts.
    None,
    /// The latest that is not reversed.
    Paid {
        /// Above zero.
        amount: Amount,
        /// The day.
        paid_on: Day,
    },
    /// All that are remembered are reversed, and more are forgotten: not known.
    Forgotten {
        /// The Kafka timestamp of the record since which it is so.
        since: Time,
    },
}

/// A customer's cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Customer {}

impl Customer {
    /// The partition that the customer lives in.
    pub fn home(&self) -> i32 {
        unimplemented!()
    }
    /// The offset after its last folded record.
    pub fn applied(&self) -> Offset {
        unimplemented!()
    }
    /// Whether a profile or a settled payment was folded: a customer with neither, and without a due, does
    /// not exist for readers.
    pub fn exists(&self) -> bool {
        unimplemented!()
    }
    /// The profile, where one was set.
    pub fn profile(&self) -> Option<&Profile> {
        unimplemented!()
    }
    /// The last payment.
    pub fn last_payment(&self) -> LastPayment {
        unimplemented!()
    }
}
