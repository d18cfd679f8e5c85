//! Consent: before a command changes something it shows what it will do, and asks.
//!
//! Flatten [`Consent`] into the command's arguments, describe the change, and call [`Consent::ask`]: the [`Act`]
//! that comes back goes into the decision that is recorded.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use super::{UsageError, parts};
use crate::decisions::Act;

/// The longest name and the longest reason that are recorded.
const NAME_CHARS_MAX: usize = 128;
const REASON_CHARS_MAX: usize = 2_000;

/// The arguments of every command that changes something.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Consent {
    /// Do it without asking; needed where standard input is no terminal.
    #[arg(long)]
    pub yes: bool,
    /// Record it in this name; without it, in that of the user who runs the command.
    #[arg(long = "as", value_name = "NAME")]
    pub name: Option<String>,
    /// Why, in your words; recorded with the change.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// Asked on a terminal, the operator said no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not done: the answer was no; nothing was changed")]
pub struct Declined;

impl Consent {
    /// Shows on standard error what will be done, and returns who decided it, when and why.
    ///
    /// With `--yes` it does not ask. Without it, it asks on a terminal, and is a [`UsageError`] elsewhere. An answer
    /// other than `y` or `yes` is [`Declined`].
    pub fn ask(&self, what_will_be_done: &str) -> anyhow::Result<Act> {
        let asked = self.act()?;
        eprintln!("{}", what_will_be_done.trim_end());
        if !self.yes {
            if !std::io::stdin().is_terminal() {
                let message = "nobody can be asked, for standard input is no terminal: nothing was changed; repeat with --yes to do it";
                return Err(UsageError(message.to_owned()).into());
            }
            eprint!("Do it, as {}? [y/N] ", asked.who);
            std::io::stderr().flush()?;
            let mut answer = String::new();
            std::io::stdin().lock().read_line(&mut answer)?;
            if !is_yes(&answer) {
                return Err(Declined.into());
            }
        }
        // When it was answered: the question may have stood for long.
        Ok(Act { at: parts::now(), ..asked })
    }

    /// Who, when and why, without asking: for a change that has been agreed to already.
    pub fn act(&self) -> anyhow::Result<Act> {
        let of_system = || {
            let told = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
            told.or_else(|| name_of(rustix::process::getuid().as_raw(), "/etc/passwd"))
        };
        let who = bounded("--as", &self.name.clone().or_else(of_system).unwrap_or_default(), NAME_CHARS_MAX)?;
        if who.is_empty() {
            return Err(UsageError("who decides is not known: say so with --as NAME".to_owned()).into());
        }
        let why = bounded("--reason", self.reason.as_deref().unwrap_or_default(), REASON_CHARS_MAX)?;
        Ok(Act { who, at: parts::now(), why })
    }
}

/// A user's name. Containers set none of the variables.
fn name_of(uid: u32, file: &str) -> Option<String> {
    let users = std::fs::read_to_string(file).ok()?;
    let is_it = |user: &&str| user.split(':').nth(2) == Some(uid.to_string().as_str());
    users.lines().find(is_it)?.split(':').next().map(str::to_owned)
}

fn bounded(argument: &str, text: &str, chars_max: usize) -> Result<String, UsageError> {
    let text = text.trim();
    if text.chars().count() > chars_max {
        return Err(UsageError(format!("{argument} is longer than {chars_max} characters")));
    }
    Ok(text.to_owned())
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consent(name: &str, reason: Option<&str>) -> Consent {
        Consent { yes: true, name: Some(name.to_owned()), reason: reason.map(str::to_owned) }
    }

    #[test]
    fn what_is_agreed_to_is_recorded_with_name_and_reason() {
        let act = consent(" jana ", Some("  release 7 counted twice ")).ask("it counts again").unwrap();
        assert_eq!((act.who.as_str(), act.why.as_str()), ("jana", "release 7 counted twice"));
        assert_eq!(consent("jana", None).ask("it counts again").unwrap().why, "");
    }

    #[test]
    fn a_change_without_a_name_is_refused() {
        let error = consent(" ", None).ask("it counts again").unwrap_err();
        assert!(error.is::<UsageError>(), "{error}");
        assert!(error.to_string().contains("--as NAME"), "{error}");
    }

    #[test]
    fn a_reason_without_end_is_refused() {
        let error = consent("jana", Some(&"x".repeat(2_001))).act().unwrap_err();
        assert_eq!(error.to_string(), "--reason is longer than 2000 characters");
    }

    #[test]
    fn only_a_plain_yes_is_consent() {
        for (answer, agreed) in
            [("y\n", true), (" YES \n", true), ("\n", false), ("n\n", false), ("yep\n", false), ("", false)]
        {
            assert_eq!(is_yes(answer), agreed, "{answer:?}");
        }
    }
}
