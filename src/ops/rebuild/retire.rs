//! `rebuild retire`: a generation that nobody reads is fed no more, and deleted behind the readers' backs.

use std::{
    io::{IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use indicatif::ProgressBar;

use crate::{
    config::Config,
    decisions::{Decision, Decisions},
    ops::{
        Outcome,
        consent::Consent,
        console::{Console, born},
    },
    store::{Generation, WriteStore as _},
};

/// How long owners may take to let go: then their commits are refused.
const LET_GO: Duration = Duration::from_secs(10);

/// The command line of `rebuild retire`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Which generation.
    #[arg(value_name = "GENERATION")]
    pub generation: u32,
    /// Who decides, and whether to ask. To go on with a deletion that was stopped nobody is asked.
    #[command(flatten)]
    pub consent: Consent,
}

/// Records it, waits until the owners have let go, and deletes in small steps.
pub async fn run(config: Config, args: Args) -> anyhow::Result<Outcome> {
    let console = Console::open(config)?;
    let generation = Generation(args.generation);
    let decisions = console.decisions().await?;
    not_served(&console, &decisions, generation).await?;
    if decisions.retired.contains_key(&generation) {
        eprintln!("generation {} is retired already: going on with what is left of it", generation.0);
    } else {
        born(&decisions, generation)?;
        let act = args.consent.ask(&preview(&decisions, generation))?;
        // The question may have stood for long.
        not_served(&console, &console.decisions().await?, generation).await?;
        console.record(&Decision::Retired { generation, act }).await?;
    }
    // Whoever switches looks behind the flip whether it is retired, and this looks behind the record whether it is
    // served: of the two at least one sees the other.
    if console.store.active().await? == Some(generation) {
        anyhow::bail!(
            "readers were pointed to generation {0} meanwhile: it is retired, and nothing of it is deleted; promote \
             another one, and `rebuild retire {0}` again",
            generation.0
        );
    }
    let_go(&console, generation).await?;
    console.store.strike(generation).await?;
    console.store.remove_positions(generation).await?;
    let bar = std::io::stderr().is_terminal().then(ProgressBar::new_spinner);
    let removed = console.store.remove(generation, |removed| {
        if let Some(bar) = &bar {
            bar.set_message(format!("{removed} keys deleted"));
            bar.tick();
        }
    });
    let removed = removed.await?;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    writeln!(std::io::stdout(), "generation {} is retired: {removed} keys were deleted", generation.0)?;
    Ok(Outcome::Well)
}

/// Nothing is changed while readers are served it.
async fn not_served(console: &Console, decisions: &Decisions, generation: Generation) -> anyhow::Result<()> {
    let active = console.store.active().await?;
    if active == Some(generation) || decisions.serving() == Some(generation) {
        anyhow::bail!(
            "readers are served generation {}: promote another one first; nothing was changed",
            generation.0
        );
    }
    Ok(())
}

fn preview(decisions: &Decisions, generation: Generation) -> String {
    let serving = decisions.serving().map_or("none".to_owned(), |serving| serving.0.to_string());
    let back = decisions.switched.as_ref().is_some_and(|(from, _, _)| *from == generation);
    let back = if back { "\n! `rebuild rollback` cannot go back to it any more" } else { "" };
    format!(
        "retire generation {}: it is fed no more and deleted, step by step; readers keep generation {serving}{back}",
        generation.0
    )
}

/// Waits until no owner beats any more.
async fn let_go(console: &Console, generation: Generation) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let looked = console.look().await?;
        let beats = looked.beating.iter().filter(|(of, _)| *of == generation).count();
        if beats == 0 {
            return Ok(());
        }
        if begun.elapsed() > LET_GO {
            eprintln!(
                "{beats} partitions of generation {} have owners that do not let go: they are fenced",
                generation.0
            );
            return Ok(());
        }
    }
}
