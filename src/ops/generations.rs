//! `generations`: every build of the projection, and what may be done with it.

use std::io::Write as _;

use serde::Serialize;

use super::{
    Outcome,
    console::{Console, Looked},
};
use crate::{
    config::Config,
    decisions::{Act, Birth, Decisions},
    domain::PartitionId,
    store::Generation,
};

/// The command line of `generations`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// A generation as it is told; the JSON form is stable.
#[derive(Debug, Serialize)]
struct Told {
    generation: u32,
    /// `served`, `complete`, `incomplete`, `retired`.
    state: &'static str,
    /// `beginning`, `log-start`, `seed`.
    from: String,
    begun: Option<ActTold>,
    partitions: usize,
    /// Partitions whose owner lives.
    fed: usize,
    halted: usize,
    paused: Vec<String>,
    /// Records that were folded since its beginning.
    folded: Option<i64>,
    /// Records that were not folded yet, by the ends that the owners know.
    lag: Option<i64>,
    /// The newest comparison with another one, whichever was held still.
    compared: Option<ComparedTold>,
    /// The last switch to it.
    promoted: Option<ActTold>,
    retired: Option<ActTold>,
}

#[derive(Debug, Serialize)]
struct ActTold {
    who: String,
    at: String,
    why: String,
}

#[derive(Debug, Serialize)]
struct ComparedTold {
    with: u32,
    cells: u64,
    differences: u64,
    expected: u64,
    at: String,
}

impl From<&Act> for ActTold {
    fn from(act: &Act) -> Self {
        ActTold { who: act.who.clone(), at: format!("{:.0}", act.at.0), why: act.why.clone() }
    }
}

/// Looks twice, and tells.
pub async fn run(config: Config, args: Args) -> anyhow::Result<Outcome> {
    let console = Console::open(config)?;
    let decisions = console.decisions().await?;
    let looked = console.look().await?;
    let told: Vec<Told> = decisions.births.values().map(|birth| tell(birth, &decisions, &looked)).collect();
    let text = if args.json {
        serde_json::to_string_pretty(&serde_json::json!({ "generations": told }))? + "\n"
    } else {
        table(&told)
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(Outcome::Well)
}

fn tell(birth: &Birth, decisions: &Decisions, looked: &Looked) -> Told {
    let generation = birth.generation;
    let retired = decisions.retired.get(&generation);
    let fed = looked.fed(generation).filter(|_| retired.is_none());
    let starts = birth.starts();
    let position = |id| fed?.snapshot.positions.iter().find(|(of, _)| *of == id).map(|(_, at)| at.checkpoint);
    let complete = starts.iter().all(|(id, _)| position(*id).is_some_and(|checkpoint| checkpoint.complete));
    let mut folded = starts.iter().map(|(id, start)| Some(position(*id)?.next.0.saturating_sub(start.0)));
    let states = || fed.iter().flat_map(|fed| &fed.states).map(|(_, state)| state);
    // Whoever feeds a generation of the same log knows where that ends; where nobody does, nobody knows.
    let alike = |of: &Generation| decisions.births.get(of).is_some_and(|other| other.log() == birth.log());
    let known = looked.live.generations.iter().filter(|fed| alike(&fed.snapshot.generation));
    let end = |id: PartitionId| {
        let beats = |of: Generation| looked.beating.contains(&(of, id));
        let of = known.clone().filter(|fed| beats(fed.snapshot.generation)).flat_map(|fed| &fed.states);
        of.filter(|(of, _)| *of == id).filter_map(|(_, state)| state.high_watermark).max()
    };
    let mut lag = starts.iter().map(|(id, _)| Some(end(*id)?.0.saturating_sub(position(*id)?.next.0).max(0)));
    let paused =
        decisions.paused.iter().filter(|((of, _), pause)| *of == generation && pause.lease_ms.is_none());
    let paused = paused.map(|((_, topic), pause)| {
        let what = topic.map_or("all".to_owned(), |topic| format!("{topic:?}").to_lowercase());
        format!("{what}, by {} since {:.0}", pause.act.who, pause.act.at.0)
    });
    let switched = decisions.switched.as_ref().filter(|(_, to, _)| *to == generation);
    Told {
        generation: generation.0,
        state: match (retired.is_some(), looked.live.active == Some(generation), complete) {
            (true, _, _) => "retired",
            (false, true, _) => "served",
            (false, false, true) => "complete",
            (false, false, false) => "incomplete",
        },
        from: birth.origin.to_string(),
        begun: birth.act.as_ref().map(ActTold::from),
        partitions: starts.len(),
        fed: looked.beating.iter().filter(|(of, _)| *of == generation).count(),
        halted: states().filter(|state| state.halt.is_some()).count(),
        paused: paused.collect(),
        folded: folded.try_fold(0_i64, |sum, next| Some(sum.saturating_add(next?))),
        lag: lag.try_fold(0_i64, |sum, lag| Some(sum.saturating_add(lag?))),
        compared: decisions.compared(generation).map(|(with, comparison)| ComparedTold {
            with: with.0,
            cells: comparison.cells,
            differences: comparison.differences,
            expected: comparison.expected,
            at: format!("{:.0}", comparison.act.at.0),
        }),
        promoted: switched.map(|(_, _, act)| ActTold::from(act)),
        retired: retired.map(ActTold::from),
    }
}

fn table(told: &[Told]) -> String {
    if told.is_empty() {
        return "no generation was begun: `project` begins the first\n".to_owned();
    }
    let header =
        ["GENERATION", "STATE", "FROM", "FOLDED", "LAG", "FED", "COMPARED", "NOTES"].map(str::to_owned);
    let rows = told.iter().map(|told| {
        let number = |number: Option<i64>| number.map_or("-".to_owned(), |number| number.to_string());
        let compared = told.compared.as_ref().map_or("-".to_owned(), |compared| {
            let expected = match compared.expected {
                0 => String::new(),
                expected => format!(", {expected} expected"),
            };
            format!("with {}: {} of {} differ{expected}", compared.with, compared.differences, compared.cells)
        });
        let mut notes = told.paused.iter().map(|paused| format!("paused: {paused}")).collect::<Vec<_>>();
        if told.halted > 0 {
            notes.push(format!("{} partitions halted", told.halted));
        }
        for (word, act) in [("begun", &told.begun), ("promoted", &told.promoted), ("retired", &told.retired)]
        {
            notes.extend(act.as_ref().map(|act| format!("{word} by {} at {}", act.who, act.at)));
        }
        [
            told.generation.to_string(),
            told.state.to_owned(),
            told.from.clone(),
            number(told.folded),
            number(told.lag),
            format!("{}/{}", told.fed, told.partitions),
            compared,
            notes.join("; "),
        ]
    });
    let mut text = String::new();
    super::status::columns(&mut text, std::iter::once(header).chain(rows));
    text
}
