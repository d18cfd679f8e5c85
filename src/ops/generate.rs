//! `generate`: seeded synthetic events.

use super::Outcome;

/// The command line of `generate`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {}

/// Writes every event to standard output.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let _ = args;
    anyhow::bail!("not built yet")
}
