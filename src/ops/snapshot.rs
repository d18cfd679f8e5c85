//! `snapshot`: a whole generation in a file, as a backup, and for topics whose history is gone.
//!
//! `rebuild start --seed FILE` goes on from it.

use std::{io::Write as _, path::PathBuf};

use anyhow::Context as _;
use serde_json::json;

use super::{Outcome, UsageError, console, parts};
use crate::{
    compare::subject::Law,
    config::Config,
    decisions,
    domain::{Offset, PartitionId},
    snapshot::{self, Head},
    source::Cluster,
    store::redis::RedisStore,
};

/// The command line of `snapshot`.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Writes a generation to a file, at an exact cut of positions, while it goes on.
    Export(ExportArgs),
    /// Reads a file whole, and tells what it holds; changes nothing.
    Verify(VerifyArgs),
}

/// The command line of `snapshot export`.
#[derive(Debug, Clone, clap::Args)]
pub struct ExportArgs {
    /// Where to; it holds names and balances, and only its owner may read it.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Which generation; without it, the one that readers are served.
    #[arg(long, value_name = "NUMBER")]
    pub generation: Option<u32>,
    /// Replace a file that is there.
    #[arg(long)]
    pub force: bool,
    /// Print JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

/// The command line of `snapshot verify`.
#[derive(Debug, Clone, clap::Args)]
pub struct VerifyArgs {
    /// Which file.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Print JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Runs one of them.
pub fn run(config: impl FnOnce() -> anyhow::Result<Config>, command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::Export(args) => {
            let config = config()?;
            super::block_on(export(config, args))
        }
        Command::Verify(args) => verify(&args),
    }
}

async fn export(config: Config, args: ExportArgs) -> anyhow::Result<Outcome> {
    if args.file.exists() && !args.force {
        let message = format!("{} is there already: name another file, or add --force", args.file.display());
        return Err(UsageError(message).into());
    }
    let cluster = Cluster::new(config.kafka.clone());
    let store = RedisStore::new(&config.redis).context("redis")?;
    let generation = console::named_or_served(&store, args.generation).await?;
    let asked = cluster.clone();
    let decisions = tokio::task::spawn_blocking(move || decisions::read(&asked)).await?;
    let decisions = decisions.context("the decisions topic cannot be read")?;
    let birth = decisions.births.get(&generation).cloned();
    let birth =
        birth.with_context(|| format!("generation {} does not exist: it was never born", generation.0))?;
    let law = Law::new(&birth, &decisions)?;
    let head = Head { birth, at: parts::now() };
    let exported = snapshot::export(&cluster, &store, &law, &head, &args.file).await?;
    let positions: Vec<_> =
        exported.checkpoints.iter().map(|(partition, at)| named(&head, *partition, at.next)).collect();
    let text = if args.json {
        let report = json!({
            "file": args.file.display().to_string(),
            "generation": generation,
            "subjects": exported.subjects,
            "bytes": exported.bytes,
            "digest": exported.digest,
            "positions": positions,
        });
        serde_json::to_string_pretty(&report)? + "\n"
    } else {
        format!(
            "{}: {} subjects of generation {} in {} bytes, up to {}\nsha256 {}\n",
            args.file.display(),
            exported.subjects,
            generation.0,
            exported.bytes,
            positions.join(", "),
            exported.digest
        )
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(Outcome::Well)
}

/// `ledger.events/0@77`: a position, by the topic's name where the snapshot was taken.
fn named(head: &Head, id: PartitionId, next: Offset) -> String {
    let topic = head.birth.topics.get(&id.topic).map_or("?", |born| born.name.as_str());
    format!("{topic}/{}@{next}", id.partition)
}

fn verify(args: &VerifyArgs) -> anyhow::Result<Outcome> {
    let opened = snapshot::open(&args.file)?;
    let positions: Vec<_> =
        opened.starts().into_iter().map(|(id, next)| named(&opened.head, id, next)).collect();
    let text = if args.json {
        let report = json!({
            "file": args.file.display().to_string(),
            "generation": opened.head.birth.generation,
            "at": opened.head.at.to_string(),
            "subjects": opened.subjects,
            "digest": opened.digest,
            "positions": positions,
        });
        serde_json::to_string_pretty(&report)? + "\n"
    } else {
        format!(
            "{}: {} subjects of generation {}, exported {}, up to {}\nsha256 {}\n",
            args.file.display(),
            opened.subjects,
            opened.head.birth.generation.0,
            opened.head.at,
            positions.join(", "),
            opened.digest
        )
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(Outcome::Well)
}
