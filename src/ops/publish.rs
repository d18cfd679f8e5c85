//! `publish`: NDJSON events → Kafka, checked first.

use std::path::PathBuf;

use super::Outcome;
use crate::config::Config;

/// The command line of `publish`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The file of events, one a line; standard input where left out.
    pub file: Option<PathBuf>,
}

/// Sends every line.
pub fn run(config: &Config, args: &Args) -> anyhow::Result<Outcome> {
    let _ = (config, args);
    anyhow::bail!("not built yet")
}
