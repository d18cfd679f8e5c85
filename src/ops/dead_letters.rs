//! `dead-letters list` and `show`: what cannot be applied, why, how many wait behind it, and how long it is kept.

use std::fmt::Write as _;

use super::{
    Outcome,
    console::Console,
    letters::{self, Case, Desk, Filter},
    status::columns,
};
use crate::config::Config;

/// What to look at.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Every key on hold, and every dead letter that names nobody and is not settled.
    List(List),
    /// One of them, with its record and what was decided.
    Show(Show),
}

/// The command line of `list`.
#[derive(Debug, Clone, clap::Args)]
pub struct List {
    /// Which ones.
    #[command(flatten)]
    pub filter: Filter,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// The command line of `show`.
#[derive(Debug, Clone, clap::Args)]
pub struct Show {
    /// The account's or customer's id, or TOPIC/PARTITION@OFFSET.
    #[arg(value_name = "KEY|PLACE")]
    pub what: String,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// How much of a value is shown in a text.
const SHOWN_CHARS_MAX: usize = 4_000;

/// Looks, and tells.
pub async fn run(config: Config, command: Command) -> anyhow::Result<Outcome> {
    let desk = Desk::look(Console::open(config)?).await?;
    match command {
        Command::List(args) => {
            let cases = desk.select(&args.filter)?;
            if args.json {
                println!("{}", serde_json::to_string_pretty(&cases)?);
            } else {
                print!("{}", table(&cases, desk.cases.len().saturating_sub(cases.len())));
            }
        }
        Command::Show(args) => {
            let cases: Vec<&Case> = if args.what.contains('@') {
                let at = desk.place(&args.what)?;
                desk.cases.iter().filter(|case| case.at == at).collect()
            } else {
                desk.select(&Filter { key: Some(args.what.clone()), ..Filter::default() })?
            };
            if cases.is_empty() {
                anyhow::bail!("{} is not on hold, and no dead letter that waits for a decision", args.what);
            }
            let shown = cases.iter().map(|case| show(&desk, case)).collect::<anyhow::Result<Vec<_>>>()?;
            if args.json {
                println!("{}", serde_json::to_string_pretty(&shown)?);
            } else {
                for value in &shown {
                    print!("{}", text(value));
                }
            }
        }
    }
    Ok(Outcome::Well)
}

fn table(cases: &[&Case], others: usize) -> String {
    if cases.is_empty() {
        return match others {
            0 => "nothing is on hold, and no dead letter waits for a decision\n".to_owned(),
            others => format!("none of these; {others} of others: `dead-letters list`\n"),
        };
    }
    let header =
        ["KEY", "RECORD", "CLASS", "WAITING", "SINCE", "FOR", "KEPT UNTIL", "WHY"].map(str::to_owned);
    let rows = cases.iter().map(|case| {
        let kept = match (&case.kept_until, case.gone) {
            (_, true) => "gone".to_owned(),
            (Some(until), false) => until.clone(),
            (None, false) => "for ever".to_owned(),
        };
        [
            case.key.clone().unwrap_or_else(|| "(none)".to_owned()),
            format!("{}/{}@{}", case.topic, case.partition, case.offset),
            case.class.name().to_owned(),
            case.waiting.to_string(),
            case.since.clone(),
            duration(case.held_for_s),
            kept,
            case.message.clone().unwrap_or_default(),
        ]
    });
    let mut text = String::new();
    columns(&mut text, std::iter::once(header).chain(rows));
    text
}

fn duration(seconds: u64) -> String {
    match (seconds.div_euclid(86_400), seconds.div_euclid(3_600), seconds.div_euclid(60)) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, _) => format!("{hours} h"),
        (days, ..) => format!("{days} d"),
    }
}

fn show(desk: &Desk, case: &Case) -> anyhow::Result<serde_json::Value> {
    let mut shown = serde_json::to_value(case)?;
    let record = letters::record(&desk.console.cluster, case.at)?;
    let letter = desk.letters.get(&case.at);
    let value = match &record {
        Some(kept) => kept.stored().value.map(<[u8]>::to_vec),
        None => letter.and_then(|letter| letter.value.clone()),
    };
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if let Some(object) = shown.as_object_mut() {
        object.insert("value".to_owned(), value.as_deref().map(lossy).into());
        let headers = record.as_ref().map(|kept| {
            let headers = kept.stored().headers.into_iter();
            headers.map(|(name, value)| (name.to_owned(), value.map(lossy).into())).collect()
        });
        object
            .insert("headers".to_owned(), headers.map_or(serde_json::Value::Null, serde_json::Value::Object));
        object.insert("set_aside".to_owned(), letter.map(|letter| letter.written.to_string()).into());
    }
    Ok(shown)
}

fn text(shown: &serde_json::Value) -> String {
    let mut text = String::new();
    for (name, value) in shown.as_object().into_iter().flatten() {
        let value = match value {
            serde_json::Value::String(value) => value.chars().take(SHOWN_CHARS_MAX).collect(),
            serde_json::Value::Null => "-".to_owned(),
            other @ (serde_json::Value::Bool(_)
            | serde_json::Value::Number(_)
            | serde_json::Value::Array(_)
            | serde_json::Value::Object(_)) => other.to_string(),
        };
        writeln!(text, "{name:<12}  {value}").unwrap_or_default();
    }
    text.push('\n');
    text
}
