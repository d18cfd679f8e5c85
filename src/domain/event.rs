//! The events, as facts: what `wire` reads and the fold applies.

use compact_str::CompactString;
use uuid::Uuid;

use super::{AccountId, Amount, Currency, CustomerId, Day, EntryId, PaymentId, Subject, Time};

/// One event that passed every check of its own record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// With `source` the identity of the event.
    pub id: Uuid,
    /// 1 to 256 characters.
    pub source: CompactString,
    /// When it happened upstream.
    pub time: Time,
    /// 1, 2, 3 … per source and subject, where the publisher numbers its events.
    pub sequence: Option<u64>,
    /// What happened, and to whom.
    pub fact: Fact,
}

/// What happened, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// An event of the ledger topic.
    Account(AccountId, AccountFact),
    /// An event of the payment topic.
    Customer(CustomerId, CustomerFact),
}

impl Fact {
    /// The subject, equal to the record's key.
    pub fn subject(&self) -> Subject {
        match self {
            Fact::Account(id, _) => Subject::Account(id.clone()),
            Fact::Customer(id, _) => Subject::Customer(id.clone()),
        }
    }
}

/// Which side of the account an entry is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Indicator {
    /// `CRDT`: adds to the balance.
    Credit,
    /// `DBIT`: reduces it.
    Debit,
}

/// One leg on one account, as pending and booked events tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The entry's id.
    pub entry_id: EntryId,
    /// Who owes because of it, where somebody does.
    pub customer_id: Option<CustomerId>,
    /// Above zero, unsigned.
    pub amount: Amount,
    /// The currency of the amount.
    pub currency: Currency,
    /// The side.
    pub indicator: Indicator,
}

/// What the ledger of record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Who owes the opening balance, where somebody does.
    pub customer_id: Option<CustomerId>,
    /// The currency of the amount.
    pub currency: Currency,
    /// Which balance is stated.
    pub balance_type: super::BalanceType,
    /// Zero or above, unsigned.
    pub amount: Amount,
    /// The side.
    pub indicator: Indicator,
    /// The instant for which it is stated.
    pub as_of: Time,
}

/// The events of the ledger topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountFact {
    /// `ledger.account.opened.v1`
    Opened {
        /// At least one; each once.
        currencies: Vec<Currency>,
        /// Opens a due of zero.
        customer_id: Option<CustomerId>,
    },
    /// `ledger.entry.pending.v1`
    Pending(Entry),
    /// `ledger.entry.released.v1`
    Released {
        /// The pending entry that ends without being booked.
        entry_id: EntryId,
    },
    /// `ledger.entry.booked.v1`; `value_date` and `reversal_of` are checked by `wire` and move nothing.
    Booked {
        /// The entry.
        entry: Entry,
        /// The day to which it belongs.
        booking_date: Day,
    },
    /// `ledger.credit_line.set.v1`
    CreditLine {
        /// The line's currency.
        currency: Currency,
        /// Zero or above.
        amount: Amount,
        /// Whether available balances include it.
        included: bool,
    },
    /// `ledger.balance.stated.v1`
    Stated(Statement),
    /// `ledger.account.closed.v1`
    Closed,
    /// Of a type that the generation ignores: it uses up its number, where it has one.
    Ignored,
}

/// The events of the payment topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CustomerFact {
    /// `payment.settled.v1`
    Settled {
        /// The payment's id.
        payment_id: PaymentId,
        /// Above zero.
        amount: Amount,
        /// The currency of the amount.
        currency: Currency,
        /// The day on which it was paid.
        paid_on: Day,
    },
    /// `payment.reversed.v1`
    Reversed {
        /// The payment that was returned.
        payment_id: PaymentId,
    },
    /// `customer.profile.set.v1`
    Profile {
        /// 1 to 256 characters, served as they are.
        billing_name: String,
        /// Zero or above, at most four decimals.
        ivr_fee: Amount,
    },
    /// Of a type that the generation ignores: it uses up its number, where it has one.
    Ignored,
}
