//! `hash-password`: a secret's hash, for the configuration.

use std::{
    fmt::Write as _,
    io::{BufRead as _, IsTerminal as _, Write as _},
};

use anyhow::{Context as _, ensure};
use argon2::{Argon2, password_hash::PasswordHasher as _};
use sha2::{Digest as _, Sha256};

use super::Outcome;

/// The command line of `hash-password`. The secret is asked for, or is the one line of standard input.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Print the SHA-256 of a token or API key in hexadecimal instead of a password's argon2id hash.
    #[arg(long)]
    pub token: bool,
}

/// Reads one line from standard input, without showing it on a terminal, and prints its hash.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let what = if args.token { "token" } else { "password" };
    let secret = secret(what)?;
    ensure!(!secret.is_empty(), "the {what} is empty");
    let hash = if args.token { sha256(&secret) } else { argon2id(&secret)? };
    writeln!(std::io::stdout(), "{hash}")?;
    Ok(Outcome::Well)
}

/// The argon2id hash of a password in PHC form, with a random salt: `api.users[].password_hash`.
pub fn argon2id(password: &str) -> anyhow::Result<String> {
    let hash = Argon2::default().hash_password(password.as_bytes());
    Ok(hash.map_err(|e| anyhow::anyhow!("argon2: {e}"))?.to_string())
}

/// The SHA-256 of a token in hexadecimal: `api.tokens[].token_sha256` and `api_key_sha256`.
pub fn sha256(token: &str) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(token.as_bytes()) {
        // Writing to a string cannot fail.
        let _ignored = write!(hex, "{byte:02x}");
    }
    hex
}

/// One line, without the line's end; a terminal does not show it.
fn secret(what: &str) -> anyhow::Result<String> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        eprint!("{what}: ");
        return console::Term::stderr()
            .read_secure_line()
            .with_context(|| format!("the {what} cannot be read"));
    }
    let (mut line, mut more) = (String::new(), String::new());
    let mut lines = stdin.lock();
    let mut read =
        |to: &mut String| lines.read_line(to).with_context(|| format!("the {what} cannot be read"));
    read(&mut line)?;
    ensure!(read(&mut more)? == 0, "the {what} is to be one line, and standard input has more");
    let length = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(length);
    Ok(line)
}
