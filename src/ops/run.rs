//! Both sides in one process.

use crate::config::Config;

/// Runs until SIGTERM or SIGINT, or until only a person can help.
pub async fn run(config: Config) -> anyhow::Result<()> {
    drop(config);
    anyhow::bail!("not built yet")
}
