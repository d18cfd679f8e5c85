//! Everything in one process with sample data, on loopback; keeps nothing.

use crate::config::{Log, LogFormat};

/// The command line of `demo`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Where both views listen, on 127.0.0.1; 0 takes a free port.
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// No live events: figures stand still, for scripts.
    #[arg(long)]
    pub quiet_trickle: bool,
}

/// The demo's log: what needs a person.
pub fn log() -> Log {
    Log { level: "warn".to_owned(), format: LogFormat::Text, file: None }
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let _ = args;
    anyhow::bail!("not built yet")
}
