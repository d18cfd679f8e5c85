//! `status`: where the projection stands, and what needs a person.

use super::Outcome;
use crate::config::Config;

/// The command line of `status`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// Looks for a little over a second, and tells.
pub async fn run(config: Config, args: Args) -> anyhow::Result<Outcome> {
    let _ = (config, args);
    anyhow::bail!("not built yet")
}
