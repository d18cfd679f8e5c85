//! An account's cell: balances per currency, pending entries, dues, drift.

use jiff::tz::TimeZone;

use super::{Amount, CellError, Currency, CustomerId, Day, Offset, Time};

/// ISO 20022's balance types, as far as they are known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum BalanceType {
    /// Previously closed booked: every booking date before today.
    Prcd,
    /// Closing booked: equals `PRCD`.
    Clbd,
    /// Interim booked: the opening balance and every booked entry.
    Itbd,
    /// Closing available: `ITBD` less pending debits, plus the credit line where included.
    Clav,
}

/// A credit line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreditLine {
    /// Zero or above.
    pub amount: Amount,
    /// Whether available balances include it.
    pub included: bool,
}

/// A balance as it is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figure {
    /// Signed: below zero is a debit balance.
    pub amount: Amount,
    /// The newest `time` among the events that the figure rests on.
    pub time: Time,
    /// The currency's credit line, where one is set.
    pub credit_line: Option<CreditLine>,
}

/// A figure that cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FigureError {
    /// Merged booking dates are not all before the day asked for.
    #[error("more than 64 booking dates lie ahead: days are no longer told apart")]
    DaysMerged,
}

/// A statement that disagreed, and none since that agreed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// In which currency.
    pub currency: Currency,
    /// Of which type.
    pub balance_type: BalanceType,
    /// The `as_of` of the first statement that disagreed.
    pub as_of: Time,
}

/// An account's cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {}

impl Account {
    /// The partition that the account lives in.
    pub fn home(&self) -> i32 {
        unimplemented!()
    }
    /// The offset after its last folded record.
    pub fn applied(&self) -> Offset {
        unimplemented!()
    }
    /// Whether it is closed, and was not opened again since.
    pub fn is_closed(&self) -> bool {
        unimplemented!()
    }
    /// The currencies that it holds, in alphabetical order.
    pub fn currencies(&self) -> Vec<Currency> {
        unimplemented!()
    }
    /// A balance; `None` for a currency that it does not hold.
    pub fn figure(
        &self,
        currency: Currency,
        balance_type: BalanceType,
        today: Day,
    ) -> Option<Result<Figure, FigureError>> {
        let _ = (currency, balance_type, today, TimeZone::UTC);
        unimplemented!()
    }
    /// Where it drifts.
    pub fn drifts(&self) -> Vec<Drift> {
        unimplemented!()
    }
    /// Who has a due on it, zero included.
    pub fn customers(&self) -> Vec<CustomerId> {
        unimplemented!()
    }
    /// The image of a customer's due on it.
    pub fn due(&self, customer: &CustomerId) -> Option<Due> {
        let _ = customer;
        unimplemented!()
    }
}

/// What a customer owes on one account: the image that the customer's view reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The account's home partition.
    pub home: i32,
    /// The account's `applied` when the image was taken.
    pub applied: Offset,
    /// What is owed per currency, signed; empty for a due opened without an entry.
    pub amounts: Vec<(Currency, Amount)>,
}

impl Due {
    /// The packed, versioned form.
    pub fn encode(&self) -> Vec<u8> {
        unimplemented!()
    }
    /// Reads the packed form.
    pub fn decode(bytes: &[u8]) -> Result<Self, CellError> {
        let _ = bytes;
        unimplemented!()
    }
}
