//! `redrive`: decides about records that cannot be applied. It shows what each decision would give, records it, and
//! waits until the partition's owner has applied it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
    ops::ControlFlow,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::{
    Outcome, UsageError,
    consent::Consent,
    console::{Console, born},
    letters::{Case, Desk, Filter},
    money::money,
};
use crate::{
    config::Config,
    decisions::{Act, Amendments, Decision, Patch, Remedy},
    domain::{
        Account, BalanceType, Cell, Class, Currency, CustomerId, Day, LastPayment, Offset, PartitionId,
        RecordAt, Rejection, Rules, Subject, Time, fold,
    },
    projector::{
        TOO_MANY_KEYS,
        lane::{self, Fate, Ground, Lane},
    },
    source::{batch::Stored, scan::Scan},
    store::{Fed, Generation, Quarantine, ReadStore as _, WriteStore as _, redis::beside::SUBJECTS_MAX},
    wire,
};

/// How many keys are shown one by one.
const SHOWN_MAX: usize = 20;

/// The command line.
#[derive(Debug, Clone, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "one per switch of the command line")]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true).args(["key", "class", "all", "at", "halted"]))]
#[command(group = clap::ArgGroup::new("remedy").args(["skip", "replace", "accept"]))]
pub struct Args {
    /// The record that holds this key back.
    #[command(flatten)]
    pub filter: Filter,
    /// Every key on hold.
    #[arg(long, conflicts_with_all = ["key", "class", "at", "halted"])]
    pub all: bool,
    /// The dead letter at this place. One that names nobody is settled so, or with the others of its --class, by --skip.
    #[arg(long, value_name = "TOPIC/PARTITION@OFFSET", conflicts_with_all = ["key", "class", "halted", "topic"])]
    pub at: Option<String>,
    /// Nothing but this: lets a partition go on that halted for too many dead letters in a minute.
    #[arg(long, value_name = "TOPIC/PARTITION", conflicts_with_all = ["key", "class", "skip", "replace", "accept", "preview", "topic"])]
    pub halted: Option<String>,
    /// Pass over the record; its number is used up. Needs --reason.
    #[arg(long)]
    pub skip: bool,
    /// Fold the event in this file instead: one structured `CloudEvents` event of the same key.
    #[arg(long, value_name = "FILE")]
    pub replace: Option<PathBuf>,
    /// Fold it as new: an `unverifiable` event; or one behind a `sequence-gap`, whose missing numbers are given up.
    #[arg(long)]
    pub accept: bool,
    /// Show what would come of it, and change nothing.
    #[arg(long)]
    pub preview: bool,
    /// How long to wait until the owners have applied it.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub wait: u64,
    /// Who decides, and whether to ask.
    #[command(flatten)]
    pub consent: Consent,
}

/// What a decision would give for one key.
struct Preview {
    subject: Subject,
    at: (PartitionId, Offset),
    before: Vec<String>,
    after: Vec<String>,
    /// Records folded or passed over, the decided one included.
    past: u64,
    /// Where the key would wait from then on, and why.
    held: Option<(Offset, Class, String)>,
}

impl Preview {
    /// The decision would get past its record.
    fn helps(&self) -> bool {
        self.held.as_ref().is_none_or(|(offset, ..)| *offset != self.at.1)
    }
}

/// Decides.
pub async fn run(config: Config, args: Args) -> anyhow::Result<Outcome> {
    if args.skip && args.consent.reason.as_deref().unwrap_or_default().trim().is_empty() {
        return Err(
            UsageError("--skip leaves an event out for good: say why with --reason TEXT".to_owned()).into()
        );
    }
    let replacement = match &args.replace {
        None => None,
        Some(file) => Some(
            std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?,
        ),
    };
    let remedy = match (&replacement, args.skip, args.accept) {
        (Some(text), ..) => Remedy::Replace(text.trim().to_owned()),
        (None, true, _) => Remedy::Skip,
        (None, false, true) => Remedy::Accept,
        (None, false, false) => Remedy::Retry,
    };
    let desk = Desk::look(Console::open(config)?).await?;
    if let Some(partition) = &args.halted {
        return let_go_on(&desk, &args, desk.partition(partition)?).await;
    }
    let cases = chosen(&desk, &args, &remedy)?;
    let (gone, cases) = gone(cases)?;
    let previews = previews(&desk, &cases, &remedy).await?;
    let (help, vain): (Vec<&Preview>, Vec<&Preview>) = previews.iter().partition(|preview| preview.helps());
    let keyless: Vec<&&Case> = cases.iter().filter(|case| case.subject.is_none()).collect();
    if help.is_empty() && keyless.is_empty() {
        anyhow::bail!("nothing was changed:{}", in_vain(&desk, &vain));
    }
    let text = describe(&desk, &remedy, &help, &vain, keyless.len()) + &left_out(&gone);
    if args.preview {
        print!("{text}");
        return Ok(Outcome::Well);
    }
    let act = args.consent.ask(&text)?;
    let help = still_held(&desk, help, keyless.is_empty()).await?;
    let decided: Vec<_> = help
        .iter()
        .map(|preview| (preview.at, Some(preview.subject.as_str().to_owned())))
        .chain(keyless.iter().map(|case| (case.at, None)))
        .collect();
    for (at, key) in decided {
        desk.console.record(&Decision::Patch(desk.patch(at, key, &remedy, &act))).await?;
    }
    println!("recorded: {} decided", count(help.len().saturating_add(keyless.len()), "record"));
    let applied = wait(&desk, &help, Duration::from_secs(args.wait)).await?;
    let later = help.iter().filter(|preview| preview.held.is_some()).count();
    if applied < help.len() {
        println!(
            "{} not applied yet: the partition's owner does it once it runs",
            count(help.len().saturating_sub(applied), "key")
        );
    } else if later > 0 {
        println!("{} on hold again at a later record", count(later, "key"));
    }
    let well = applied == help.len() && later == 0 && vain.is_empty() && gone.is_empty();
    Ok(if well { Outcome::Well } else { Outcome::NeedsPerson })
}

/// Those that are on hold still. A key may have been let go meanwhile: a gap may have closed, or another operator decided.
/// To decide then would be to say of the log what the projection did not do.
async fn still_held<'p>(
    desk: &Desk,
    previews: Vec<&'p Preview>,
    alone: bool,
) -> anyhow::Result<Vec<&'p Preview>> {
    let store = &desk.console.store;
    let generation = store.active().await?.context("no generation is served any more")?;
    let mut held_still = Vec::with_capacity(previews.len());
    let mut let_go = Vec::new();
    for page in previews.chunks(SUBJECTS_MAX) {
        let keys: Vec<Subject> = page.iter().map(|preview| preview.subject.clone()).collect();
        let beside = store.beside([generation], &keys).await.context("the projection cannot be read")?;
        for (preview, [held]) in page.iter().zip(beside.subjects) {
            let on_hold = |mark: &Quarantine| (mark.partition, mark.offset) == preview.at;
            if held.quarantines.iter().any(on_hold) {
                held_still.push(*preview);
            } else {
                let (partition, offset) = preview.at;
                let partition = desk.console.cluster.display(partition);
                let_go.push(format!(
                    "{} is not on hold at {partition}@{offset} any more",
                    preview.subject.as_str()
                ));
            }
        }
    }
    if let Some(first) = let_go.first() {
        anyhow::ensure!(!(alone && held_still.is_empty()), "nothing was changed: {first}; look again");
        for line in let_go.iter().take(SHOWN_MAX) {
            println!("left out: {line}");
        }
        if let_go.len() > SHOWN_MAX {
            println!("left out: {} more", let_go.len().saturating_sub(SHOWN_MAX));
        }
    }
    Ok(held_still)
}

/// Those whose record retention has removed, and the others. Where nobody is on hold, nothing has to be read again.
fn gone(cases: Vec<&Case>) -> anyhow::Result<(Vec<&Case>, Vec<&Case>)> {
    let (gone, rest): (Vec<&Case>, Vec<&Case>) =
        cases.into_iter().partition(|case| case.gone && case.subject.is_some());
    if rest.is_empty() && !gone.is_empty() {
        anyhow::bail!("nothing was changed: {}", left_out(&gone).trim_end());
    }
    Ok((gone, rest))
}

/// What is said of keys whose record is gone.
fn left_out(gone: &[&Case]) -> String {
    let Some(first) = gone.first() else { return String::new() };
    let more = match gone.len().saturating_sub(1) {
        0 => String::new(),
        more => format!(" and {}", count(more, "other record")),
    };
    format!(
        "retention has removed {}/{}@{}{more}, so the key cannot be folded again; rebuild from a snapshot or from the log's start\n",
        first.topic, first.partition, first.offset
    )
}

/// The cases that the command line names, or why there is nothing to decide.
fn chosen<'a>(desk: &'a Desk, args: &Args, remedy: &Remedy) -> anyhow::Result<Vec<&'a Case>> {
    let cases: Vec<&Case> = if let Some(place) = &args.at {
        let at = desk.place(place)?;
        desk.cases.iter().filter(|case| case.at == at).collect()
    } else {
        // Those that name nobody can only be settled, and only where they are meant: by their place or their class.
        let settles = matches!(remedy, Remedy::Skip) && args.filter.class.is_some();
        desk.select(&args.filter)?.into_iter().filter(|case| settles || case.subject.is_some()).collect()
    };
    if cases.is_empty() {
        let what = match (&args.at, &args.filter.key, args.filter.class) {
            (Some(place), ..) => format!("the record {place} is not on hold"),
            (None, Some(key), _) => format!("{key} is not on hold"),
            (None, None, Some(class)) => format!("no key is on hold with class {class}"),
            (None, None, None) => "no key is on hold".to_owned(),
        };
        let Generation(served) = desk.birth.generation;
        anyhow::bail!(
            "nothing was changed: {what} in generation {served}, which readers are served; `dead-letters list` tells what is"
        );
    }
    if matches!(remedy, Remedy::Replace(_)) && cases.len() > 1 {
        anyhow::bail!(
            "nothing was changed: a replacement is for one record, and {} are meant; choose one with --at",
            cases.len()
        );
    }
    let acceptable = |case: &&&Case| matches!(case.class, Class::Unverifiable | Class::SequenceGap);
    if let (Remedy::Accept, Some(other)) = (remedy, cases.iter().find(|case| !acceptable(case))) {
        anyhow::bail!(
            "nothing was changed: {}/{}@{} is set aside as {}; only an unverifiable event, or one behind a sequence-gap, can be accepted as new",
            other.topic,
            other.partition,
            other.offset,
            other.class
        );
    }
    let settles = matches!(remedy, Remedy::Skip);
    if let Some(nobody) = cases.iter().find(|case| case.subject.is_none()).filter(|_| !settles) {
        anyhow::bail!(
            "nothing was changed: {}/{}@{} names nobody, so nothing can be folded; --skip settles it",
            nobody.topic,
            nobody.partition,
            nobody.offset
        );
    }
    Ok(cases)
}

/// Folds the keys in memory as their owners would; each partition is read once.
async fn previews(desk: &Desk, cases: &[&Case], remedy: &Remedy) -> anyhow::Result<Vec<Preview>> {
    let act = Act { who: String::new(), at: super::parts::now(), why: String::new() };
    let mut amendments = Amendments::clone(&desk.amendments());
    let mut keys: BTreeMap<PartitionId, HashMap<Subject, Trial>> = BTreeMap::new();
    for page in cases.chunks(SUBJECTS_MAX) {
        let subjects: Vec<Subject> = page.iter().filter_map(|case| case.subject.clone()).collect();
        let beside = desk.console.store.beside([desk.birth.generation], &subjects).await;
        let beside = beside.context("the projection cannot be read")?;
        let [positions] = &beside.positions;
        let page = page.iter().filter(|case| case.subject.is_some());
        for ((case, subject), [held]) in page.zip(subjects).zip(beside.subjects) {
            amendments.patch(desk.patch(case.at, case.key.clone(), remedy, &act));
            let cell = held.cell.map(|bytes| Cell::decode(&subject, &bytes)).transpose()?;
            let (partition, offset) = case.at;
            let position = positions.get(&partition).context("the partition has no position")?;
            let trial = Trial::new(cell, offset, position.checkpoint.next);
            keys.entry(partition).or_default().insert(subject, trial);
        }
    }
    let (cluster, birth, remedy) = (desk.console.cluster.clone(), desk.birth.clone(), remedy.clone());
    let tried = tokio::task::spawn_blocking(move || {
        let rules = Rules::new(&birth.parameters)?;
        let scan = Scan::new(&cluster).context("kafka settings")?;
        for (partition, keys) in &mut keys {
            let from = keys.values().map(|trial| trial.offset).min().unwrap_or_default();
            let until = keys.values().map(|trial| trial.until).max().unwrap_or_default();
            scan.read(*partition, from, until, |record| {
                let subject = wire::subject(&record.record(partition.topic));
                if let Some(subject) = subject
                    && let Some(trial) = keys.get_mut(&subject)
                {
                    let (partition, subject, parameters) = (*partition, &subject, &birth.parameters);
                    let (rules, amendments) = (&rules, &amendments);
                    trial.take(
                        &Ground { partition, subject, parameters, rules, amendments },
                        record,
                        &remedy,
                    );
                }
                ControlFlow::Continue(())
            })
            .context("the keys' records cannot be read")?;
        }
        anyhow::Ok(keys)
    });
    let mut previews = Vec::new();
    for (partition, keys) in tried.await?? {
        for (subject, trial) in keys {
            previews.push(trial.preview(partition, subject)?);
        }
    }
    previews.sort_by_key(|preview| preview.at);
    Ok(previews)
}

/// A key that is folded to see what a decision would give.
struct Trial {
    /// Where it is on hold.
    offset: Offset,
    /// Up to where its owner had come.
    until: Offset,
    before: Vec<String>,
    lane: Lane,
    past: u64,
    why: Option<Rejection>,
    /// What is wrong with the replacement.
    unfit: Option<Rejection>,
}

impl Trial {
    fn new(cell: Option<Cell>, offset: Offset, until: Offset) -> Self {
        let before = figures(cell.as_ref());
        Trial { offset, until, before, lane: Lane::new(cell), past: 0, why: None, unfit: None }
    }

    fn take(&mut self, ground: &Ground<'_>, record: &Stored<'_>, remedy: &Remedy) {
        if record.offset < self.offset || record.offset >= self.until {
            return;
        }
        if let (Remedy::Replace(text), true) = (remedy, record.offset == self.offset) {
            self.unfit = self.does_not_fit(ground, record, text);
        }
        let Trial { lane, past, why, .. } = self;
        lane.take(ground, record, &mut |step| match step.fate {
            Fate::SetAside(rejection) => *why = Some(rejection),
            Fate::Folded(_) | Fate::Skipped => *past = past.saturating_add(1),
            Fate::Early(_) | Fate::Waits(_) => {}
        });
    }

    /// Where a replacement does not get past the record, it is the replacement's own fault that helps.
    fn does_not_fit(&self, ground: &Ground<'_>, record: &Stored<'_>, text: &str) -> Option<Rejection> {
        let event = match lane::replacement(ground, record, text) {
            Ok(event) => event,
            Err(rejection) => return Some(rejection),
        };
        let timestamp = Time::from_millis(record.timestamp_ms);
        let at = RecordAt { partition: ground.partition, offset: record.offset, timestamp };
        fold(&mut self.lane.cell().cloned(), &event, &at, ground.home(), ground.rules).err()
    }

    fn preview(self, partition: PartitionId, subject: Subject) -> anyhow::Result<Preview> {
        let Trial { offset, before, lane, past, why, unfit, .. } = self;
        if let Some(rejection) = unfit {
            anyhow::bail!("nothing was changed: the replacement cannot be folded: {rejection}");
        }
        let held = lane.quarantine().map(|held| {
            let message = why.map(|why| why.message).unwrap_or_default();
            (held.offset, held.class, message)
        });
        Ok(Preview { subject, at: (partition, offset), before, after: figures(lane.cell()), past, held })
    }
}

fn describe(desk: &Desk, remedy: &Remedy, help: &[&Preview], vain: &[&Preview], keyless: usize) -> String {
    let what = match remedy {
        Remedy::Retry => "fold again as it stands",
        Remedy::Skip => "pass over, for good",
        Remedy::Replace(_) => "fold the event of the file instead of",
        Remedy::Accept => "fold as new",
    };
    let mut text = format!("{what} {}\n", count(help.len().saturating_add(keyless), "record"));
    let mut line = |line: String| writeln!(text, "{line}").unwrap_or_default();
    for preview in help.iter().take(SHOWN_MAX) {
        let (id, offset) = preview.at;
        let key = preview.subject.as_str();
        line(format!(
            "{key}  {}@{offset}, {} folded",
            desk.console.cluster.display(id),
            count(usize::try_from(preview.past).unwrap_or(usize::MAX), "record")
        ));
        line(format!("  before  {}", join(&preview.before)));
        line(format!("  after   {}", join(&preview.after)));
        match &preview.held {
            None => line("  then on hold no more".to_owned()),
            Some((offset, class, message)) => line(format!("  then on hold at {offset}: {class}: {message}")),
        }
    }
    if help.len() > SHOWN_MAX {
        line(format!("and {} more", help.len().saturating_sub(SHOWN_MAX)));
    }
    for preview in vain.iter().take(SHOWN_MAX) {
        let (class, message) =
            preview.held.as_ref().map_or(("", ""), |(_, class, message)| (class.name(), message.as_str()));
        line(format!("left as it is: {}: {class}: {message}", preview.subject.as_str()));
    }
    text
}

/// Why a decision would get past no record, and what could be decided instead.
fn in_vain(desk: &Desk, vain: &[&Preview]) -> String {
    let told = vain.iter().take(SHOWN_MAX).filter_map(|preview| {
        let (_, class, message) = preview.held.as_ref()?;
        let (subject, (partition, offset)) = (preview.subject.as_str(), preview.at);
        let place = format!("{}@{offset}", desk.console.cluster.display(partition));
        let instead = instead(*class);
        Some(format!("\n  {subject} would not get past {place}: {class}: {message}\n    {instead}"))
    });
    let rest = vain.len().saturating_sub(SHOWN_MAX);
    let rest = if rest > 0 { format!("\n  and {rest} more") } else { String::new() };
    told.collect::<String>() + &rest
}

/// What may be decided about a record of a class, if not to fold it as it stands.
fn instead(class: Class) -> &'static str {
    match class {
        Class::SequenceGap => {
            "publish the missing event, and it goes on by itself; `--accept` gives the missing numbers up"
        }
        Class::Unverifiable => "`--accept` folds it as new; `--skip` passes it over as a repeat",
        Class::Moved => {
            "publish it with the partitioner of the subject's other events, then `--skip` passes this one over"
        }
        Class::Tombstone
        | Class::TooLarge
        | Class::NoKey
        | Class::BadKey
        | Class::BadHeader
        | Class::NotUtf8
        | Class::TooDeep
        | Class::NotJson
        | Class::DuplicateMember
        | Class::NotCloudevents
        | Class::UnknownType
        | Class::WrongTopic
        | Class::KeyNotSubject
        | Class::MissingField
        | Class::BadField
        | Class::BadAmount
        | Class::UnknownCurrency
        | Class::Conflict
        | Class::Overflow
        | Class::CellFull => "`--replace FILE` puts a corrected event in its place; `--skip` passes it over",
    }
}

/// The figures of a cell, as an operator compares them.
fn figures(cell: Option<&Cell>) -> Vec<String> {
    match cell {
        None => Vec::new(),
        Some(Cell::Account(account)) => {
            let booked = account.currencies().into_iter().map(|currency| booked(account, currency));
            let dues = account.customers().into_iter().flat_map(|customer| owed(account, &customer));
            booked.chain(dues).collect()
        }
        Some(Cell::Customer(customer)) => match customer.last_payment() {
            LastPayment::None => vec!["no payment".to_owned()],
            LastPayment::Paid { amount, paid_on } => {
                vec![format!("last paid {} on {paid_on}", amount.to_short())]
            }
            LastPayment::Forgotten { .. } => vec!["the last payment is no longer known".to_owned()],
        },
    }
}

fn booked(account: &Account, currency: Currency) -> String {
    // Neither type depends on the day.
    let day =
        Day::parse("2000-01-01").unwrap_or_else(|| super::parts::now().day_in(&jiff::tz::TimeZone::UTC));
    let figure = |balance_type| match account.figure(currency, balance_type, day) {
        Some(Ok(figure)) => money(figure.amount, currency),
        Some(Err(_)) | None => "unknown".to_owned(),
    };
    format!("{currency} booked {}, available {}", figure(BalanceType::Itbd), figure(BalanceType::Clav))
}

fn owed(account: &Account, customer: &CustomerId) -> Vec<String> {
    let owed = account.due(customer).into_iter().flatten();
    owed.map(|(currency, amount)| {
        format!("{} owes {} {currency}", customer.as_str(), money(*amount, *currency))
    })
    .collect()
}

fn join(figures: &[String]) -> String {
    if figures.is_empty() { "nothing".to_owned() } else { figures.join("; ") }
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Waits until the owners have applied the decisions; how many keys are past their records.
async fn wait(desk: &Desk, decided: &[&Preview], within: Duration) -> anyhow::Result<usize> {
    let partitions: BTreeSet<PartitionId> = decided.iter().map(|preview| preview.at.0).collect();
    let started = Instant::now();
    loop {
        let mut held = BTreeMap::new();
        for partition in &partitions {
            for (subject, quarantine) in desk.console.store.quarantined(*partition).await? {
                held.insert((subject, *partition), quarantine.offset);
            }
        }
        let waits = |preview: &&&Preview| {
            held.get(&(preview.subject.clone(), preview.at.0)).is_some_and(|offset| *offset == preview.at.1)
        };
        let left = decided.iter().filter(waits).count();
        if left == 0 || started.elapsed() >= within {
            return Ok(decided.len().saturating_sub(left));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Lets a partition go on that halted for too many dead letters.
async fn let_go_on(desk: &Desk, args: &Args, partition: PartitionId) -> anyhow::Result<Outcome> {
    let live = desk.console.live().await?;
    let mut halted = Vec::new();
    let is_fed = |fed: &&Fed| !desk.decisions.retired.contains_key(&fed.snapshot.generation);
    for fed in live.generations.iter().filter(is_fed) {
        for (id, state) in fed.states.iter().filter(|(id, _)| *id == partition) {
            if let Some(halt) = state.halt.as_ref().filter(|halt| halt.reason.contains(TOO_MANY_KEYS)) {
                halted.push((fed.snapshot.generation, (*id, state.next), halt.reason.clone()));
            }
        }
    }
    let name = desk.console.cluster.display(partition);
    let Some((_, _, reason)) = halted.first() else {
        anyhow::bail!(
            "nothing was changed: {name} has not halted for too many dead letters; `status` tells how it stands"
        );
    };
    let act = args.consent.ask(&format!(
        "let {name} go on: {reason}\nthe records that cannot be applied are set aside, and counted anew"
    ))?;
    for (generation, at, _) in halted {
        let birth = born(&desk.decisions, generation)?;
        let patch = Patch { log: Some(birth.log()), ..desk.patch(at, None, &Remedy::Retry, &act) };
        desk.console.record(&Decision::Patch(patch)).await?;
    }
    let store = Arc::clone(&desk.console.store);
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(args.wait) {
        let live = store.live().await?;
        let fed = live.generations.iter().filter(is_fed);
        let mut states = fed.flat_map(|fed| &fed.states).filter(|(id, _)| *id == partition);
        if states.all(|(_, state)| state.halt.is_none()) {
            println!("{name} goes on");
            return Ok(Outcome::Well);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("recorded; {name} goes on once its owner runs, or has halted again: see `status`");
    Ok(Outcome::NeedsPerson)
}
