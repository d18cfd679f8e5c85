//! `pause` and `resume`: the fold stands still, whole or by topic, until it is told to go on.
//!
//! Nothing is lost and nothing is wrong meanwhile: owners keep their partitions and beat on. Answers grow older, and
//! past `api.max_staleness_ms` readers get 503.

use std::fmt::Write as _;

use super::{
    Outcome, UsageError,
    consent::Consent,
    console::{Console, because, born},
};
use crate::{
    config::Config,
    decisions::{Act, Decision, Decisions},
    domain::Topic,
    store::Generation,
};

/// The command line of both.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// One topic only, by its name on the broker, or `ledger` or `payment`.
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,
    /// Which generation; without it, the one that readers are served.
    #[arg(long, value_name = "NUMBER")]
    pub generation: Option<u32>,
    /// Who decides, and whether to ask.
    #[command(flatten)]
    pub consent: Consent,
}

/// `pause`.
pub async fn pause(config: Config, args: Args) -> anyhow::Result<Outcome> {
    let console = Console::open(config)?;
    let (decisions, generation, topic) = target(&console, &args).await?;
    let what = what(&console, generation, topic);
    if let Some(pause) = decisions.paused.get(&(generation, topic)).filter(|pause| pause.lease_ms.is_none()) {
        anyhow::bail!("{what} is paused already, by {} since {:.0}", pause.act.who, pause.act.at.0);
    }
    let seconds = console.config.api.max_staleness_ms.div_euclid(1_000);
    let act = args.consent.ask(&format!(
        "pause {what}: nothing is folded until `resume`; readers get 503 once records wait for more than {seconds} s"
    ))?;
    console.record(&Decision::Paused { generation, topic, lease_ms: None, act }).await?;
    println!("{what} is paused");
    Ok(Outcome::Well)
}

/// `resume`.
pub async fn resume(config: Config, args: Args) -> anyhow::Result<Outcome> {
    let console = Console::open(config)?;
    let (decisions, generation, topic) = target(&console, &args).await?;
    let what = what(&console, generation, topic);
    let topics = decisions.paused.keys().filter(|(paused, _)| *paused == generation).map(|(_, topic)| *topic);
    let topics: Vec<_> = topics.collect();
    let resumes = match topic {
        None => !topics.is_empty(),
        Some(_) if topics.contains(&None) => {
            anyhow::bail!(
                "generation {} is paused as a whole: resume it as a whole, without --topic",
                generation.0
            )
        }
        Some(_) => topics.contains(&topic),
    };
    if !resumes {
        anyhow::bail!("{what} is not paused; nothing was changed");
    }
    let mut preview = format!("resume {what}: it is folded on from where it stands");
    for ((_, part), pause) in decisions
        .paused
        .iter()
        .filter(|((paused, part), _)| *paused == generation && (topic.is_none() || *part == topic))
    {
        let part = self::what(&console, generation, *part);
        let Act { who, at, .. } = &pause.act;
        let _infallible =
            write!(preview, "\n  {part} was paused by {who} at {:.0}{}", at.0, because(&pause.act));
    }
    let act = args.consent.ask(&preview)?;
    console.record(&Decision::Resumed { generation, topic, of: None, act }).await?;
    println!("{what} goes on");
    Ok(Outcome::Well)
}

async fn target(console: &Console, args: &Args) -> anyhow::Result<(Decisions, Generation, Option<Topic>)> {
    let topic = args.topic.as_deref().map(|name| {
        let kafka = console.cluster.settings();
        let known =
            format!("--topic: {name:?} is neither {} nor {}", kafka.ledger_topic, kafka.payment_topic);
        console.cluster.topic_meant(name).ok_or(UsageError(known))
    });
    let topic = topic.transpose()?;
    let decisions = console.decisions().await?;
    let generation = args.generation.map(Generation).or(decisions.serving());
    let generation =
        generation.ok_or_else(|| anyhow::anyhow!("there is nothing to pause: no `project` has begun"))?;
    born(&decisions, generation)?;
    Ok((decisions, generation, topic))
}

fn what(console: &Console, generation: Generation, topic: Option<Topic>) -> String {
    match topic {
        None => format!("generation {}", generation.0),
        Some(topic) => format!("{} of generation {}", console.cluster.topic_name(topic), generation.0),
    }
}
