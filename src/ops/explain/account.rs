//! An account, from its first record on.

use anyhow::{Context as _, bail};

use super::{
    Ends, Explanation, Figures, Hold, Kind, Log, Question, Stretch, Verdict,
    follow::Follow,
    trace::{Lens, Running},
};
use crate::{
    decisions::Origin,
    domain::{Account, AccountId, Amount, Cell, Currency, Offset, PartitionId, Subject, Topic},
    ops::money::money,
    store::{AccountRead, Quarantine},
};

pub(super) fn explain(
    log: &Log<'_>,
    id: &AccountId,
    read: &AccountRead,
    question: &Question,
    ends: &Ends,
) -> anyhow::Result<Explanation> {
    let served = match &read.cell {
        Some(bytes) => {
            let cell = Cell::decode_account(bytes).context("the store's cell cannot be read")?;
            Some(Cell::Account(Box::new(cell)))
        }
        None => None,
    };
    let home = served.as_ref().map(Cell::home);
    let stretches = log.stretches(Topic::Ledger, home, &read.quarantines, ends)?;
    let late = match &served {
        Some(Cell::Account(account)) if !question.whole => started_late(log, account, &stretches)?,
        Some(_) | None => None,
    };
    let compared = |follow: &Follow<'_>| differences(log, follow, served.as_ref(), &read.quarantines);
    let mut found = None;
    if let Some(stretches) = late {
        let (follow, stretches) = fold(log, id, question, stretches, &read.quarantines, ends)?;
        // Else something was missed, or the store is wrong: the whole stretch tells which.
        if follow.begins_with_opening && compared(&follow).is_empty() {
            found = Some((follow, stretches));
        }
    }
    let (follow, stretches) = match found {
        Some(found) => found,
        None => fold(log, id, question, stretches, &read.quarantines, ends)?,
    };
    if follow.records == 0 && served.is_none() {
        let topic = log.cluster.topic_name(Topic::Ledger);
        bail!(
            "account {:?} is unknown: no record of {topic} up to where the store stands bears it",
            id.as_str()
        );
    }
    let differences = compared(&follow);
    Ok(told(log, id, follow, stretches, differences, question, ends))
}

/// The same stretches, the home's from where the account's opening says that its records begin.
fn started_late(
    log: &Log<'_>,
    account: &Account,
    stretches: &[Stretch],
) -> anyhow::Result<Option<Vec<Stretch>>> {
    let Some((home, others)) = stretches.split_first() else { return Ok(None) };
    let Some(from) = log.late_start(home.id, account)? else { return Ok(None) };
    let home = Stretch { from: from.0.min(home.to), late: true, ..home.clone() };
    Ok(Some(std::iter::once(home).chain(others.iter().cloned()).collect()))
}

fn fold<'a>(
    log: &Log<'a>,
    id: &AccountId,
    question: &Question,
    mut stretches: Vec<Stretch>,
    held: &[Quarantine],
    ends: &Ends,
) -> anyhow::Result<(Follow<'a>, Vec<Stretch>)> {
    let subject = Subject::Account(id.clone());
    let mut follow = Follow::new(log, &subject, Lens::Account, question, held, ends);
    let key = subject.as_str().as_bytes();
    for stretch in &mut stretches {
        let shown_to = Offset(stretch.shown_to);
        let own = |of: Option<&[u8]>, _: Option<&[u8]>| of == Some(key);
        log.read(stretch, own, |id: PartitionId, record| follow.take(log, id, record, shown_to))
            .context("the account cannot be folded again")?;
    }
    follow.settle();
    Ok((follow, stretches))
}

/// Where the log and the store disagree, for a human.
fn differences(
    log: &Log<'_>,
    follow: &Follow<'_>,
    served: Option<&Cell>,
    quarantines: &[Quarantine],
) -> Vec<String> {
    let now = follow.now();
    let mut differences = cells(now.cell(), served);
    differences.extend(log.holds(now.quarantines().cloned(), quarantines.iter().cloned()));
    differences
}

/// Where two cells of one account disagree.
pub(super) fn cells(of_log: Option<&Cell>, served: Option<&Cell>) -> Vec<String> {
    if of_log == served {
        return Vec::new();
    }
    let (log, store) = match (of_log, served) {
        (Some(Cell::Account(log)), Some(Cell::Account(store))) => (log, store),
        (Some(_), None) => return vec!["the log gives a balance, the store has none".to_owned()],
        (None, Some(_)) => return vec!["the store has a balance, the log gives none".to_owned()],
        _ => return vec!["the log and the store hold different kinds of cell".to_owned()],
    };
    let mut differences = Vec::new();
    let mut tell = |what: String, log: String, store: String| {
        if log != store {
            differences.push(format!("{what}: {log} by the log, {store} in the store"));
        }
    };
    tell("home".to_owned(), log.home().to_string(), store.home().to_string());
    tell("applied up to".to_owned(), log.applied().to_string(), store.applied().to_string());
    let named = |closed| if closed { "closed" } else { "open" }.to_owned();
    tell("account".to_owned(), named(log.is_closed()), named(store.is_closed()));
    let (of_log, of_store) = (Lens::Account.running(of_log), Lens::Account.running(served));
    for currency in union(log.currencies(), store.currencies()) {
        let balance = |of: &Running, available: bool| {
            let Some((booked, left)) = of.get(&currency) else { return "none".to_owned() };
            let amount = if available { *left } else { Some(*booked) };
            amount.map_or("none".to_owned(), |amount| money(amount, currency))
        };
        tell(format!("{currency} ITBD"), balance(&of_log, false), balance(&of_store, false));
        tell(format!("{currency} CLAV"), balance(&of_log, true), balance(&of_store, true));
    }
    for customer in union(log.customers(), store.customers()) {
        let owed = |account: &Account| owed(account.due(&customer));
        tell(format!("due of customer {}", customer.as_str()), owed(log), owed(store));
    }
    if differences.is_empty() {
        differences.push(
            "the figures are equal; days, statements, pending entries or what is remembered of events are not"
                .to_owned(),
        );
    }
    differences
}

/// What a customer owes on an account, if it does or once did.
pub(super) fn owed(due: Option<&[(Currency, Amount)]>) -> String {
    match due {
        None => "none".to_owned(),
        Some([]) => "zero".to_owned(),
        Some(due) => {
            let each =
                due.iter().map(|(currency, amount)| format!("{} {currency}", money(*amount, *currency)));
            each.collect::<Vec<_>>().join(", ")
        }
    }
}

fn union<T: Ord>(mut one: Vec<T>, other: Vec<T>) -> Vec<T> {
    one.extend(other);
    one.sort_unstable();
    one.dedup();
    one
}

fn told(
    log: &Log<'_>,
    id: &AccountId,
    follow: Follow<'_>,
    read: Vec<Stretch>,
    differences: Vec<String>,
    question: &Question,
    ends: &Ends,
) -> Explanation {
    let today = ends.time.unwrap_or(question.now).day_in(log.rules.zone());
    let mut figures = match follow.shown.cell() {
        Some(Cell::Account(account)) => Figures::of_account(account, question.currency, today),
        Some(Cell::Customer(_)) | None => Figures::default(),
    };
    figures.on_hold = follow.holds(log.cluster, id.as_str()).collect();
    let mut notes = Vec::new();
    if figures.balances.is_empty() && !figures.closed && figures.on_hold.is_empty() {
        notes.push(match question.currency {
            Some(currency) => format!("nothing was known of the account in {currency}"),
            None => "nothing was known of the account".to_owned(),
        });
    }
    if figures.closed {
        notes.push("the account is closed: view two answers 404".to_owned());
    }
    if let (Origin::LogStart, Some(Cell::Account(account))) = (&log.birth.origin, follow.shown.cell())
        && !account.has_beginning()
    {
        notes.push(
            "the log's head is gone, and with it this account's beginning: the figures are incomplete"
                .to_owned(),
        );
    }
    notes.extend(figures.on_hold.iter().map(Hold::note));
    Explanation {
        kind: Kind::Account,
        id: id.as_str().to_owned(),
        generation: log.birth.generation.0,
        as_of: ends.time.map(|time| time.to_string()),
        today: today.to_string(),
        left_out: follow.trace.left_out,
        opening: follow.trace.opening(),
        read,
        records: follow.trace.rows.into(),
        figures,
        verdict: if differences.is_empty() { Verdict::Agrees } else { Verdict::Differs },
        differences,
        notes,
    }
}
