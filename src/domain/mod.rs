//! The vocabulary and the rules: pure, without I/O, clock or log.
//!
//! A *cell* is one unit of the projection with one writer: an account ([`Account`]) or a customer
//! ([`Customer`]). A cell's next value depends on that cell and the event alone, so cells can be folded
//! again one by one.

mod account;
mod amount;
mod checkpoint;
mod currency;
mod customer;
mod due;
mod event;
mod facet;
mod fold;
mod id;
mod packed;
mod parameters;
mod rejection;
mod seen;
mod time;

pub use account::{Account, BalanceType, CreditLine, Drift, Figure, FigureError};
pub use amount::{Amount, AmountError};
pub use checkpoint::{Checkpoint, LastRecord, Offset, PartitionId, RecordAt, Topic};
pub use currency::Currency;
pub use customer::{Customer, LastPayment, Profile};
pub use due::{decode_due, due_told, encode_due};
pub use event::{AccountFact, CustomerFact, Entry, Event, Fact, Indicator, Statement};
pub use facet::{Aspect, Facet};
pub use fold::{
    Cell, CellError, Compared, Dues, Effect, Ignored, Manner, Outcome, PREFETCHED, Rules, RulesError, fold,
    fold_in, number_due, pass_over, prefetch,
};
pub use id::{AccountId, CustomerId, EntryId, IdError, PaymentId, Subject};
pub use parameters::{FOLD_VERSION, FingerprintKey, Parameters};
pub use rejection::{Class, Rejection};
pub use time::{Day, Time};
