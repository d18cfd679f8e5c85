//! `redrive`: decides about records that cannot be applied. It shows what each decision would give, records it, and
//! waits until the partition's owner has applied it.

mod trial;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
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
};
use crate::{
    config::Config,
    decisions::{Decision, Patch, Remedy},
    domain::{Class, PartitionId, Subject},
    projector::TOO_MANY_KEYS,
    store::{Fed, Generation, Quarantine, ReadStore as _, WriteStore as _, redis::beside::SUBJECTS_MAX},
};
use trial::{Preview, previews};

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
