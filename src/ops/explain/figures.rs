//! The figures at the end of an explanation, as the views would tell them.

use serde::Serialize;

use super::trace::{Balance, Decided};
use crate::{
    decisions::Patch,
    domain::{Account, BalanceType, Currency, Customer, Day, LastPayment},
    ops::money::money,
    source::Cluster,
    store::Quarantine,
};

/// The figures at the cut.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Figures {
    /// Of an account, per currency and type.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub balances: Vec<FigureRow>,
    /// Of a customer, per account and currency; none of them zero.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dues: Vec<Balance>,
    /// Of a customer: the sum of the dues, where they are in one currency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<String>,
    /// Of a customer: the last payment that counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_payment: Option<Paid>,
    /// Of a customer: its profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// Of an account: closed, and not opened again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub closed: bool,
    /// Why the subject is on hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub on_hold: Vec<Hold>,
}

/// One balance of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FigureRow {
    /// The currency.
    pub currency: Currency,
    /// The type.
    #[serde(rename = "type")]
    pub balance_type: BalanceType,
    /// Signed; absent where days are no longer told apart.
    pub amount: Option<String>,
    /// The newest `time` among the events on which it rests.
    pub date_time: Option<String>,
}

/// A customer's last payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Paid {
    /// Absent where all that are remembered are reversed, and more are forgotten.
    pub amount: Option<String>,
    /// The day.
    pub date: Option<String>,
}

/// A customer's profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Profile {
    /// As it is served.
    pub billing_name: String,
    /// As it is served.
    pub ivr_fee: String,
}

/// A key on hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hold {
    /// The key: the subject's own, or an account's on which the customer owes.
    pub key: String,
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The record that was set aside.
    pub offset: i64,
    /// Why.
    pub class: &'static str,
    /// The Kafka timestamp of that record.
    pub since: String,
    /// How many later records wait behind it.
    pub waiting: u64,
    /// The event for which it waits may have come: the partition's owner is about to fold the key again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub heals: bool,
    /// What gets past it, once the partition's owner comes to that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decided>,
}

impl Figures {
    /// An account's, for a day.
    pub(super) fn of_account(account: &Account, wanted: Option<Currency>, today: Day) -> Figures {
        let mut balances = Vec::new();
        for currency in account.currencies() {
            if wanted.is_some_and(|wanted| wanted != currency) {
                continue;
            }
            for balance_type in [BalanceType::Prcd, BalanceType::Clbd, BalanceType::Itbd, BalanceType::Clav] {
                let figure = account.figure(currency, balance_type, today).and_then(Result::ok);
                balances.push(FigureRow {
                    currency,
                    balance_type,
                    amount: figure.map(|figure| money(figure.amount, currency)),
                    date_time: figure.map(|figure| figure.time.to_string()),
                });
            }
        }
        Figures { balances, closed: account.is_closed(), ..Figures::default() }
    }
}

impl Paid {
    pub(super) fn of(paid: &LastPayment) -> Option<Paid> {
        match paid {
            LastPayment::None => None,
            LastPayment::Paid { amount, paid_on } => {
                Some(Paid { amount: Some(amount.to_short()), date: Some(paid_on.to_string()) })
            }
            LastPayment::Forgotten { .. } => Some(Paid { amount: None, date: None }),
        }
    }
}

impl Profile {
    pub(super) fn of(customer: &Customer) -> Option<Profile> {
        let profile = customer.profile()?;
        Some(Profile { billing_name: profile.billing_name.clone(), ivr_fee: profile.ivr_fee.to_short() })
    }
}

impl Hold {
    /// With what is decided about it, where its owner has not come to that.
    pub(super) fn new(
        cluster: &Cluster,
        key: &str,
        quarantine: &Quarantine,
        decided: Option<&Patch>,
    ) -> Hold {
        let id = quarantine.partition;
        Hold {
            key: key.to_owned(),
            topic: cluster.topic_name(id.topic).to_owned(),
            partition: id.partition,
            offset: quarantine.offset.0,
            class: quarantine.class.name(),
            since: quarantine.since.to_string(),
            waiting: quarantine.waiting,
            heals: quarantine.heals,
            decision: decided.map(Decided::of),
        }
    }

    pub(super) fn note(&self) -> String {
        let Hold { key, topic, partition, offset, class, since, waiting, heals, decision } = self;
        let then = match decision {
            Some(Decided { remedy, who, .. }) => format!(
                "a decision of {who} about it is recorded ({remedy}); the owner of the partition has not come to it"
            ),
            None if *heals => {
                "what it waits for may have come; the owner of the partition has not folded it again"
                    .to_owned()
            }
            None => "decide on it".to_owned(),
        };
        format!(
            "{key} is on hold since {since} behind {topic}/{partition}@{offset} ({class}), with {waiting} waiting: {then}"
        )
    }
}
