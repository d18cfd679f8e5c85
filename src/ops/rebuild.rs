//! `rebuild`: another generation beside the one that readers are served; the switch to it, and back.
//!
//! | command | what it does |
//! |---|---|
//! | [`start`] | begins the next generation, or goes on with the unfinished one, and feeds it |
//! | [`compare`] | compares it with the served one, cell by cell |
//! | [`promote`](switch::promote) | points readers to it |
//! | [`rollback`](switch::rollback) | points them back |
//! | [`retire`] | deletes a generation that nobody reads |

mod anew;
pub mod compare;
mod gently;
pub mod preflight;
pub mod progress;
pub mod retire;
pub mod start;
pub mod switch;

use super::Outcome;
use crate::config::{Config, Traces};

/// The command line of `rebuild`.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Begins the next generation, or goes on with the unfinished one, and feeds it until it is stopped.
    ///
    /// Readers keep what they have. Several processes that run this share the work; killed, it goes on where it was.
    Start(start::Args),
    /// Compares every cell of a generation with the served one, exactly, while events keep flowing.
    Compare(compare::Args),
    /// Points readers to a generation that is complete and was compared.
    Promote(switch::PromoteArgs),
    /// Points readers back to the generation that they were served before the last switch.
    Rollback(switch::RollbackArgs),
    /// Stops feeding a generation that readers are not served, and deletes it.
    Retire(retire::Args),
}

/// Runs one of them.
pub fn run(config: Config, command: Command) -> anyhow::Result<Outcome> {
    match command {
        // What is folded again was followed when it came in: its traces are long over.
        Command::Start(args) => super::role(
            &config.log.clone(),
            &Traces::default(),
            config.projector.workers,
            start::run(config, args),
        ),
        Command::Compare(args) => super::block_on(compare::run(config, args)),
        Command::Promote(args) => super::block_on(switch::promote(config, args)),
        Command::Rollback(args) => super::block_on(switch::rollback(config, args)),
        Command::Retire(args) => super::block_on(retire::run(config, args)),
    }
}
