//! `check-config`: the settings in force, secrets masked.

use std::io::Write as _;

use super::{Outcome, parts};
use crate::{api::Settings, config::Config, telemetry};

/// Prints a configuration that passed every check, as TOML.
pub async fn run(config: Config) -> anyhow::Result<Outcome> {
    telemetry::check(&config.log)?;
    // What only the read side looks at: the certificate and its key, and the issuer's keys.
    let settings = Settings::of(&config)?;
    settings.check_keys().await?;
    if let Some(untimely) = settings.untimely(parts::now()) {
        eprintln!("balance-projector: warning: {untimely}");
    }
    let text = toml::to_string(&config.masked())?;
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(Outcome::Well)
}
