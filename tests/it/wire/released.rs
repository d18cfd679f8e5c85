//! What a publisher wrote against a released schema stays readable, with the same meaning, for good.

use std::{collections::BTreeSet, fs, path::PathBuf};

use balance_projector::domain::{
    AccountFact, AccountId, BalanceType, CustomerFact, CustomerId, Day, Entry, EntryId, Fact, Indicator,
    PaymentId, Statement, Time,
};
use sha2::{Digest as _, Sha256};

use super::{Sent, amount, czk, schemas};

const ACCOUNT: &str = "D2C8C1DCC51A3738538A40A4863CA288E0225E52";
const CUSTOMER: &str = "000152301242008";

fn released() -> PathBuf {
    schemas::folder("examples/released")
}

/// The examples of a version, by the list that was written when it was released.
fn listed(version: &str) -> Vec<(String, Vec<u8>)> {
    let folder = released().join(version);
    let sums = fs::read_to_string(folder.join("SHA256SUMS")).unwrap();
    let examples = sums.lines().map(|line| {
        let (sum, name) = line.split_once("  ").unwrap();
        let bytes = fs::read(folder.join(name)).unwrap_or_else(|e| panic!("{version}/{name}: {e}"));
        let found =
            Sha256::digest(&bytes).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        assert_eq!(found, sum, "{version}/{name} is not what was released");
        (name.strip_suffix(".json").unwrap().to_owned(), bytes)
    });
    examples.collect()
}

/// What an example of 0.1.0 says: the members that move something. `full` has every member, `least` only
/// those that are required.
fn meant(kind: &str, full: bool) -> Fact {
    let customer = || full.then(|| CustomerId::parse(CUSTOMER).unwrap());
    let entry = || Entry {
        entry_id: EntryId::parse("E-1").unwrap(),
        customer_id: customer(),
        amount: amount("149.90"),
        currency: czk(),
        indicator: Indicator::Debit,
    };
    let payment_id = PaymentId::parse("P-1").unwrap();
    let day = |text| Day::parse(text).unwrap();
    let account = match kind {
        "ledger.account.opened.v1" => AccountFact::Opened {
            currencies: ["CZK", "EUR"].map(super::currency).to_vec(),
            customer_id: customer(),
        },
        "ledger.account.closed.v1" => AccountFact::Closed,
        "ledger.balance.stated.v1" => AccountFact::Stated(Statement {
            customer_id: customer(),
            currency: czk(),
            balance_type: BalanceType::Itbd,
            amount: amount("4520.15"),
            indicator: Indicator::Debit,
            as_of: Time::parse_rfc3339("2017-02-17T12:00:00Z").unwrap(),
        }),
        "ledger.credit_line.set.v1" => {
            AccountFact::CreditLine { currency: czk(), amount: amount("10000"), included: true }
        }
        "ledger.entry.pending.v1" => AccountFact::Pending(entry()),
        "ledger.entry.released.v1" => AccountFact::Released { entry_id: EntryId::parse("E-1").unwrap() },
        "ledger.entry.booked.v1" => AccountFact::Booked { entry: entry(), booking_date: day("2017-02-17") },
        _ => {
            let fact = match kind {
                "customer.profile.set.v1" => CustomerFact::Profile {
                    billing_name: "FAIRPOINT COMMUNICATIONS INC ".to_owned(),
                    ivr_fee: amount("5"),
                },
                "payment.settled.v1" => CustomerFact::Settled {
                    payment_id,
                    amount: amount("497.7"),
                    currency: super::currency("USD"),
                    paid_on: day("2014-09-01"),
                },
                "payment.reversed.v1" => CustomerFact::Reversed { payment_id },
                other => panic!("{other}"),
            };
            return Fact::Customer(CustomerId::parse(CUSTOMER).unwrap(), fact);
        }
    };
    Fact::Account(AccountId::parse(ACCOUNT).unwrap(), account)
}

#[test]
fn what_was_released_is_read_as_it_was_meant_in_both_modes() {
    let examples = listed("0.1.0");
    let kinds: BTreeSet<_> = examples.iter().map(|(name, _)| name.rsplit_once('.').unwrap().0).collect();
    assert_eq!(kinds, BTreeSet::from(schemas::TYPES));
    assert_eq!(examples.len(), 2 * kinds.len());
    for (name, bytes) in &examples {
        let (kind, size) = name.rsplit_once('.').unwrap();
        let full = size == "full";
        let structured = schemas::record(bytes);
        let mut binary = Sent::binary(std::str::from_utf8(bytes).unwrap());
        (binary.topic, binary.key, binary.timestamp) =
            (structured.topic, structured.key.clone(), structured.timestamp);
        for (mode, record) in [("structured", &structured), ("binary", &binary)] {
            let event = record.decode().unwrap_or_else(|rejection| panic!("{name}, {mode}: {rejection}"));
            assert_eq!(event.fact, meant(kind, full), "{name}, {mode}");
            assert_eq!(event.source.as_str(), "urn:example:released", "{name}, {mode}");
            assert_eq!(event.time, Time::parse_rfc3339("2017-02-17T12:32:41.5Z").unwrap(), "{name}, {mode}");
            assert_eq!(event.sequence, full.then_some(18), "{name}, {mode}");
        }
    }
}

/// So that no member becomes required, none is forbidden, and no word is taken back within a version of a type.
#[test]
fn what_was_released_passes_todays_schema() {
    let validators = schemas::validators();
    let mut versions = 0;
    for version in fs::read_dir(released()).unwrap() {
        let version = version.unwrap().file_name().into_string().unwrap();
        for (name, bytes) in listed(&version) {
            let (kind, _) = name.rsplit_once('.').unwrap();
            let (_, validator) =
                validators.iter().find(|(k, _)| *k == kind).unwrap_or_else(|| panic!("{name}"));
            let event = serde_json::from_slice(&bytes).unwrap();
            let faults: Vec<_> = validator.iter_errors(&event).map(|e| e.to_string()).collect();
            assert!(faults.is_empty(), "{version}/{name}: {faults:?}");
        }
        versions += 1;
    }
    assert!(versions > 0);
}
