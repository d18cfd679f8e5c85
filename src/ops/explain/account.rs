//! An account, from its first record on.

use anyhow::{Context as _, bail};

use super::{
    Ends, Explanation, Figures, Hold, Kind, Log, Question, Stretch, Verdict,
    money::money,
    trace::{Running, Trace},
};
use crate::{
    domain::{
        Account, AccountFact, AccountId, BalanceType, Cell, Day, Fact, Outcome, PartitionId, Subject, Topic,
    },
    projector::replay::{Fate, Replay, Step},
    store::{AccountRead, Quarantine},
};

/// An account folded again.
struct Folded<'a> {
    /// Up to the cut.
    shown: Replay<'a>,
    /// Up to where the store stands, where that is further.
    rest: Option<Replay<'a>>,
    trace: Trace,
    read: Vec<Stretch>,
    records: u64,
    begins_with_opening: bool,
}

impl<'a> Folded<'a> {
    fn now(&self) -> &Replay<'a> {
        self.rest.as_ref().unwrap_or(&self.shown)
    }
}

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
    let stretches = stretches(log, served.as_ref(), &read.quarantines, ends)?;
    let late = match &served {
        Some(Cell::Account(account)) if !question.whole => started_late(log, account, &stretches)?,
        Some(_) | None => None,
    };
    let mut folded = None;
    if let Some(stretches) = late {
        let tried = fold(log, id, question, stretches)?;
        // Else something was missed, or the store is wrong: the whole stretch tells which.
        if tried.begins_with_opening
            && differences(log, &tried, served.as_ref(), &read.quarantines).is_empty()
        {
            folded = Some(tried);
        }
    }
    let folded = match folded {
        Some(folded) => folded,
        None => fold(log, id, question, stretches)?,
    };
    if folded.records == 0 && served.is_none() {
        let topic = log.cluster.topic_name(Topic::Ledger);
        bail!(
            "account {:?} is unknown: no record of {topic} up to where the store stands bears it",
            id.as_str()
        );
    }
    let differences = differences(log, &folded, served.as_ref(), &read.quarantines);
    Ok(told(log, id, folded, differences, question, ends))
}

/// What of the log may hold records of the account: its home and where it is on hold, or all of the topic.
fn stretches(
    log: &Log<'_>,
    served: Option<&Cell>,
    quarantines: &[Quarantine],
    ends: &Ends,
) -> anyhow::Result<Vec<Stretch>> {
    let mut partitions = Vec::new();
    if let Some(cell) = served {
        partitions.push(PartitionId { topic: Topic::Ledger, partition: cell.home() });
        partitions.extend(quarantines.iter().map(|quarantine| quarantine.partition));
    } else {
        partitions.extend(log.partitions(Topic::Ledger));
    }
    let mut seen = std::collections::BTreeSet::new();
    partitions.retain(|partition| seen.insert(*partition));
    partitions.into_iter().map(|id| log.stretch(id, ends)).collect()
}

/// The same stretches, the home's from where the account's opening says that its records begin.
fn started_late(
    log: &Log<'_>,
    account: &Account,
    stretches: &[Stretch],
) -> anyhow::Result<Option<Vec<Stretch>>> {
    let Some((home, others)) = stretches.split_first() else { return Ok(None) };
    let Some(id) = home.id else { return Ok(None) };
    let Some(from) = log.late_start(id, account)? else { return Ok(None) };
    let home = Stretch { from: from.0.min(home.to), late: true, ..home.clone() };
    Ok(Some(std::iter::once(home).chain(others.iter().cloned()).collect()))
}

fn fold<'a>(
    log: &Log<'a>,
    id: &AccountId,
    question: &Question,
    mut stretches: Vec<Stretch>,
) -> anyhow::Result<Folded<'a>> {
    let subject = Subject::Account(id.clone());
    let replay = || Replay::new(subject.clone(), &log.birth.parameters, log.rules, log.decisions);
    let cut_short = stretches.iter().any(|stretch| stretch.shown_to < stretch.to);
    let mut folded = Folded {
        shown: replay(),
        rest: cut_short.then(replay),
        trace: Trace::new(None, question.currency, question.last),
        read: Vec::new(),
        records: 0,
        begins_with_opening: false,
    };
    for stretch in &mut stretches {
        let shown_to = stretch.shown_to;
        log.read(stretch, &subject, |partition, record| {
            let mut first = None;
            if let Some(rest) = &mut folded.rest {
                first = Some(opens(&rest.take(partition, record)));
            }
            if record.offset.0 < shown_to {
                let step = folded.shown.take(partition, record);
                first = first.or_else(|| Some(opens(&step)));
                folded.trace.step(log.cluster, &step, running(folded.shown.cell()));
            }
            if folded.records == 0 {
                folded.begins_with_opening = first == Some(true);
            }
            folded.records = folded.records.saturating_add(1);
        })
        .context("the account cannot be folded again")?;
    }
    folded.read = stretches;
    Ok(folded)
}

fn opens(step: &Step) -> bool {
    let opening = step
        .event
        .as_ref()
        .is_some_and(|event| matches!(event.fact, Fact::Account(_, AccountFact::Opened { .. })));
    let applied = match &step.fate {
        Fate::Folded(effect) => effect.outcome == Outcome::Applied,
        Fate::SetAside(_) | Fate::Waits(_) => false,
    };
    opening && applied
}

fn running(cell: Option<&Cell>) -> Running {
    let Some(Cell::Account(account)) = cell else { return Running::new() };
    // Neither figure depends on the day.
    let day = Day::parse("2000-01-01").unwrap_or(Day(jiff::civil::Date::MIN));
    let of = |currency, balance_type| {
        account.figure(currency, balance_type, day).and_then(Result::ok).map(|figure| figure.amount)
    };
    account
        .currencies()
        .into_iter()
        .filter_map(|currency| {
            let booked = of(currency, BalanceType::Itbd)?;
            Some((currency, (booked, of(currency, BalanceType::Clav))))
        })
        .collect()
}

/// Where the log and the store disagree, for a human.
fn differences(
    log: &Log<'_>,
    folded: &Folded<'_>,
    served: Option<&Cell>,
    quarantines: &[Quarantine],
) -> Vec<String> {
    let now = folded.now();
    let mut differences = cells(now.cell(), served);
    let of_log: Vec<&Quarantine> = now.quarantines().values().collect();
    let mut of_store: Vec<&Quarantine> = quarantines.iter().collect();
    of_store.sort_by_key(|quarantine| quarantine.partition);
    if of_log != of_store {
        let list = |quarantines: &[&Quarantine]| {
            let each = quarantines.iter().map(|quarantine| {
                let at = log.cluster.display(quarantine.partition);
                format!("{at}@{} {} with {} waiting", quarantine.offset, quarantine.class, quarantine.waiting)
            });
            let all: Vec<_> = each.collect();
            if all.is_empty() { "nothing on hold".to_owned() } else { all.join(", ") }
        };
        differences.push(format!("on hold: {} by the log, {} in the store", list(&of_log), list(&of_store)));
    }
    differences
}

fn cells(of_log: Option<&Cell>, served: Option<&Cell>) -> Vec<String> {
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
    let mut currencies = log.currencies();
    currencies.extend(store.currencies());
    currencies.sort_unstable();
    currencies.dedup();
    let (of_log, of_store) = (running(of_log), running(served));
    for currency in currencies {
        let balance = |of: &Running, available: bool| {
            let Some((booked, left)) = of.get(&currency) else { return "none".to_owned() };
            let amount = if available { *left } else { Some(*booked) };
            amount.map_or("none".to_owned(), |amount| money(amount, currency))
        };
        tell(format!("{currency} ITBD"), balance(&of_log, false), balance(&of_store, false));
        tell(format!("{currency} CLAV"), balance(&of_log, true), balance(&of_store, true));
    }
    let mut customers = log.customers();
    customers.extend(store.customers());
    customers.sort_unstable();
    customers.dedup();
    for customer in customers {
        let owed = |account: &Account| match account.due(&customer) {
            None => "none".to_owned(),
            Some([]) => "zero".to_owned(),
            Some(due) => {
                let each =
                    due.iter().map(|(currency, amount)| format!("{} {currency}", money(*amount, *currency)));
                each.collect::<Vec<_>>().join(", ")
            }
        };
        tell(format!("due of customer {}", customer.as_str()), owed(log), owed(store));
    }
    if differences.is_empty() {
        differences.push("the figures are equal; days, statements, pending entries or what is remembered of events are not".to_owned());
    }
    differences
}

fn told(
    log: &Log<'_>,
    id: &AccountId,
    folded: Folded<'_>,
    differences: Vec<String>,
    question: &Question,
    ends: &Ends,
) -> Explanation {
    let instant = ends.time.unwrap_or(question.now);
    let today = instant.day_in(log.rules.zone());
    let mut figures = match folded.shown.cell() {
        Some(Cell::Account(account)) => Figures::of_account(account, question.currency, today),
        Some(Cell::Customer(_)) | None => Figures::default(),
    };
    let holds = folded.shown.quarantines().iter();
    figures.on_hold = holds.map(|(at, held)| Hold::new(log.cluster, id.as_str(), *at, held)).collect();
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
    for held in &figures.on_hold {
        notes.push(format!(
            "on hold since {} behind {}/{}@{} ({}), with {} waiting: decide on it",
            held.since, held.topic, held.partition, held.offset, held.class, held.waiting
        ));
    }
    Explanation {
        kind: Kind::Account,
        id: id.as_str().to_owned(),
        generation: log.birth.generation.0,
        as_of: ends.time.map(|time| time.to_string()),
        today: today.to_string(),
        left_out: folded.trace.left_out,
        opening: folded.trace.opening(),
        read: folded.read,
        records: folded.trace.rows.into(),
        figures,
        verdict: if differences.is_empty() { Verdict::Agrees } else { Verdict::Differs },
        differences,
        notes,
    }
}
