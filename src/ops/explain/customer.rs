//! A customer: profile and payments from the payment topic, and what is due on each account from the ledger.
//!
//! Which accounts a customer owes on is looked for in the whole ledger: an account that the store has lost would
//! otherwise be lost here too.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use anyhow::{Context as _, bail};
use memchr::memmem::Finder;

use super::{
    Ends, Explanation, Figures, Hold, Kind, Log, Question, Stretch, Verdict,
    account::owed,
    figures::{Paid, Profile},
    follow::Follow,
    replay::Replay,
    trace::{Balance, Lens, owes},
};
use crate::{
    domain::{
        AccountId, Amount, Cell, Currency, CustomerId, Fact, Offset, PartitionId, Subject, Topic, decode_due,
    },
    ops::money::money,
    source::batch::Stored,
    store::{CustomerRead, Quarantine},
    wire,
};

type Follows<'a> = BTreeMap<AccountId, Follow<'a>>;

pub(super) fn explain(
    log: &Log<'_>,
    id: &CustomerId,
    read: &CustomerRead,
    question: &Question,
    ends: &Ends,
) -> anyhow::Result<Explanation> {
    let served = match &read.cell {
        Some(bytes) => {
            let cell = Cell::decode_customer(bytes).context("the store's cell cannot be read")?;
            Some(Cell::Customer(Box::new(cell)))
        }
        None => None,
    };
    let mut served_dues = BTreeMap::new();
    for (account, bytes) in &read.dues {
        served_dues.insert(account.clone(), decode_due(bytes).context("a due in the store cannot be read")?);
    }

    let home = served.as_ref().map(Cell::home);
    let mut payments = log.stretches(Topic::Payment, home, &read.quarantines, ends)?;
    let mut ledger = log.stretches(Topic::Ledger, None, &[], ends)?;
    let own = fold(log, id, question, &mut payments, &read.quarantines, ends)?;
    let dues = fold_dues(log, id, question, served_dues.keys(), &mut ledger, &read.quarantines, ends)?;

    let known = served.is_some() || !served_dues.is_empty() || own.records > 0;
    if !known && dues.values().all(|follow| due(follow.now(), id).is_none()) {
        let [ledger, payment] = Topic::ALL.map(|topic| log.cluster.topic_name(topic));
        bail!(
            "customer {:?} is unknown: no record of {payment} bears it and none of {ledger} names it, up to where \
             the store stands",
            id.as_str()
        );
    }
    let mut differences = of_profile(own.now().cell(), served.as_ref());
    differences.extend(of_dues(id, &dues, &served_dues));
    let mut held: Vec<Quarantine> = own.now().quarantines().cloned().collect();
    for follow in dues.values().filter(|follow| due(follow.now(), id).is_some()) {
        held.extend(follow.now().quarantines().cloned());
    }
    // The marks of accounts are written once: what waits behind them is counted at the accounts alone.
    let marks = |held: Vec<Quarantine>| held.into_iter().map(|held| Quarantine { waiting: 0, ..held });
    differences.extend(log.holds(marks(held), marks(read.quarantines.clone())));
    payments.extend(ledger);
    Ok(told(log, id, own, dues, payments, differences, question, ends))
}

fn fold<'a>(
    log: &Log<'a>,
    id: &CustomerId,
    question: &Question,
    stretches: &mut [Stretch],
    held: &[Quarantine],
    ends: &Ends,
) -> anyhow::Result<Follow<'a>> {
    let subject = Subject::Customer(id.clone());
    let mut follow = Follow::new(log, &subject, Lens::Customer, question, held, ends);
    let key = subject.as_str().as_bytes();
    for stretch in stretches {
        let shown_to = Offset(stretch.shown_to);
        let own = |of: Option<&[u8]>, _: Option<&[u8]>| of == Some(key);
        log.read(stretch, own, |id: PartitionId, record| follow.take(log, id, record, shown_to))
            .context("the customer cannot be folded again")?;
    }
    follow.settle();
    Ok(follow)
}

/// Follows the accounts that the store names, and those that turn out to name the customer.
fn fold_dues<'a, 'b>(
    log: &Log<'a>,
    id: &CustomerId,
    question: &Question,
    known: impl Iterator<Item = &'b AccountId>,
    stretches: &mut [Stretch],
    held: &[Quarantine],
    ends: &Ends,
) -> anyhow::Result<Follows<'a>> {
    let quoted = format!("\"{}\"", id.as_str());
    let names = Finder::new(&quoted);
    let mut wanted: BTreeSet<AccountId> = known.cloned().collect();
    loop {
        let mut follows: Follows<'a> = BTreeMap::new();
        let mut found = BTreeSet::new();
        let keys: HashSet<&[u8]> = wanted.iter().map(|account| account.as_str().as_bytes()).collect();
        let may_matter = |key: Option<&[u8]>, value: Option<&[u8]>| {
            key.is_some_and(|key| keys.contains(key)) || value.is_some_and(|value| may_name(&names, value))
        };
        for stretch in &mut *stretches {
            let shown_to = Offset(stretch.shown_to);
            log.read(stretch, may_matter, |partition, record| {
                let account = record.key.and_then(|key| std::str::from_utf8(key).ok());
                let Some(account) = account.and_then(|key| AccountId::parse(key).ok()) else { return };
                if wanted.contains(&account) {
                    let follow = follows.entry(account.clone()).or_insert_with(|| {
                        let lens = Lens::Due(account.as_str().to_owned(), id.clone());
                        Follow::new(log, &Subject::Account(account), lens, question, held, ends)
                    });
                    follow.take(log, partition, record, shown_to);
                } else if found.contains(&account) || makes_owe(log, id, partition, record) {
                    found.insert(account);
                }
            })
            .context("the accounts on which the customer owes cannot be folded again")?;
        }
        if found.is_empty() {
            follows.values_mut().for_each(Follow::settle);
            return Ok(follows);
        }
        wanted.extend(found);
    }
}

/// Whether a customer's quoted id may stand in a value: an id may be written with escapes.
fn may_name(names: &Finder<'_>, value: &[u8]) -> bool {
    names.find(value).is_some() || memchr::memmem::find(value, b"\\u").is_some()
}

/// Whether a record of an account makes the customer owe.
fn makes_owe(log: &Log<'_>, id: &CustomerId, partition: PartitionId, record: &Stored<'_>) -> bool {
    let event = wire::decode(&record.record(partition.topic), &log.birth.parameters);
    event.is_ok_and(|event| match &event.fact {
        Fact::Account(_, fact) => owes(fact) == Some(id),
        Fact::Customer(..) => false,
    })
}

fn due<'c>(replay: &'c Replay<'_>, id: &CustomerId) -> Option<&'c [(Currency, Amount)]> {
    match replay.cell() {
        Some(Cell::Account(account)) => account.due(id),
        Some(Cell::Customer(_)) | None => None,
    }
}

/// Where profile and payments disagree.
fn of_profile(of_log: Option<&Cell>, served: Option<&Cell>) -> Vec<String> {
    if of_log == served {
        return Vec::new();
    }
    let (log, store) = match (of_log, served) {
        (Some(Cell::Customer(log)), Some(Cell::Customer(store))) => (log, store),
        (Some(_), None) => return vec!["the log gives profile or payments, the store has none".to_owned()],
        (None, Some(_)) => return vec!["the store has profile or payments, the log gives none".to_owned()],
        _ => return vec!["the log and the store hold different kinds of cell".to_owned()],
    };
    let mut differences = Vec::new();
    let mut tell = |what: &str, log: String, store: String| {
        if log != store {
            differences.push(format!("{what}: {log} by the log, {store} in the store"));
        }
    };
    let paid = |customer: &crate::domain::Customer| match Paid::of(&customer.last_payment()) {
        None => "none".to_owned(),
        Some(Paid { amount: Some(amount), date }) => format!("{amount} of {}", date.unwrap_or_default()),
        Some(Paid { amount: None, .. }) => "forgotten".to_owned(),
    };
    tell("home", log.home().to_string(), store.home().to_string());
    tell("applied up to", log.applied().to_string(), store.applied().to_string());
    tell("last payment", paid(log), paid(store));
    let profile = |customer| format!("{:?}", Profile::of(customer));
    tell("profile", profile(log), profile(store));
    if differences.is_empty() {
        differences.push("the figures are equal; what is remembered of payments or events is not".to_owned());
    }
    differences
}

/// Where the dues disagree.
fn of_dues(
    id: &CustomerId,
    dues: &Follows<'_>,
    served: &BTreeMap<AccountId, Vec<(Currency, Amount)>>,
) -> Vec<String> {
    let mut differences = Vec::new();
    let every: BTreeSet<&AccountId> = dues.keys().chain(served.keys()).collect();
    for account in every {
        let of_log = dues.get(account).and_then(|follow| due(follow.now(), id));
        let in_store = served.get(account).map(Vec::as_slice);
        if of_log != in_store {
            let (of_log, in_store) = (owed(of_log), owed(in_store));
            differences.push(format!(
                "account {}: due of the customer: {of_log} by the log, {in_store} in the store",
                account.as_str()
            ));
        }
    }
    differences
}

#[allow(clippy::too_many_arguments, reason = "the parts of one answer, told once")]
fn told(
    log: &Log<'_>,
    id: &CustomerId,
    own: Follow<'_>,
    dues: Follows<'_>,
    read: Vec<Stretch>,
    differences: Vec<String>,
    question: &Question,
    ends: &Ends,
) -> Explanation {
    let today = ends.time.unwrap_or(question.now).day_in(log.rules.zone());
    let mut figures = Figures::default();
    if let Some(Cell::Customer(customer)) = own.shown.cell() {
        figures.last_payment = Paid::of(&customer.last_payment());
        figures.profile = Profile::of(customer);
    }
    figures.on_hold = own.holds(log.cluster, id.as_str()).collect();
    let mut owes = false;
    let mut sums: BTreeMap<Currency, Amount> = BTreeMap::new();
    let mut sum_is_told = true;
    let mut left_out = own.trace.left_out;
    let mut opening = own.trace.opening();
    let mut records: Vec<_> = own.trace.rows.into();
    for (account, follow) in dues {
        left_out = left_out.saturating_add(follow.trace.left_out);
        opening.extend(follow.trace.opening());
        if let Some(due) = due(&follow.shown, id) {
            owes = true;
            for (currency, amount) in due {
                let sum = sums.entry(*currency).or_insert(Amount::ZERO);
                match sum.wide_add(*amount) {
                    Some(wider) => *sum = wider,
                    None => sum_is_told = false,
                }
                if question.currency.is_none_or(|wanted| wanted == *currency) {
                    let (account, balance) = (Some(account.as_str().to_owned()), money(*amount, *currency));
                    figures.dues.push(Balance { account, currency: *currency, balance, available: None });
                }
            }
            figures.on_hold.extend(follow.holds(log.cluster, account.as_str()));
        }
        records.extend(follow.trace.rows);
    }
    let mut notes = Vec::new();
    if sums.len() > 1 {
        notes.push("dues in several currencies are not added: view one leaves the balance out".to_owned());
    } else if owes
        && sum_is_told
        && sums.keys().all(|currency| question.currency.is_none_or(|wanted| wanted == *currency))
    {
        let total = sums.first_key_value().map_or(Amount::ZERO, |(_, sum)| *sum);
        figures.total = Some(total.to_short());
    }
    if !owes && figures.profile.is_none() && figures.last_payment.is_none() && figures.on_hold.is_empty() {
        notes.push("nothing was known of the customer".to_owned());
    }
    notes.extend(figures.on_hold.iter().map(Hold::note));
    Explanation {
        kind: Kind::Customer,
        id: id.as_str().to_owned(),
        generation: log.birth.generation.0,
        as_of: ends.time.map(|time| time.to_string()),
        today: today.to_string(),
        left_out,
        opening,
        read,
        records,
        figures,
        verdict: if differences.is_empty() { Verdict::Agrees } else { Verdict::Differs },
        differences,
        notes,
    }
}
