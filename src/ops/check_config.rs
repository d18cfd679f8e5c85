//! `check-config`: the settings in force, secrets masked.

use std::io::Write as _;

use super::Outcome;
use crate::{api::Settings, config::Config};

/// Prints a configuration that passed every check, as TOML.
pub fn run(config: &Config) -> anyhow::Result<Outcome> {
    // What only the read side looks at: the certificate and its key.
    Settings::of(config)?;
    let text = toml::to_string(&config.masked())?;
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(Outcome::Well)
}
