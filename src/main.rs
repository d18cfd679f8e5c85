//! `balance-projector`: the roles and the operator's commands.

use std::{path::PathBuf, process::ExitCode};

use balance_projector::{
    config::Traces,
    ops::{
        self, audit, check_config, dead_letters, demo, drift, explain, generate, generations, hash_password,
        pause, project, publish, rebuild, redrive, run, serve, snapshot, status,
    },
    tls,
};
use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Projects payment and ledger events from Kafka into exact balances in Redis, and serves them over HTTP.
///
/// Exit status: 0 all is well; 1 something needs a person; 2 wrong usage or configuration.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    /// The configuration file; without one, the defaults and the environment's `BALANCE_PROJECTOR__…`.
    #[arg(long, global = true, env = "BALANCE_PROJECTOR_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The write side: folds events into balances.
    Project,
    /// The read side: answers both views.
    Serve,
    /// Both sides in one process.
    Run,
    /// Everything in one process with sample data, on loopback; keeps nothing.
    Demo(demo::Args),
    /// A balance event by event, from the log, and whether the projection agrees.
    Explain(explain::Args),
    /// Checks NDJSON events and sends them to Kafka.
    Publish(publish::Args),
    /// Writes seeded synthetic events as NDJSON.
    Generate(generate::Args),
    /// Where the projection stands, and what needs a person.
    Status(status::Args),
    /// Recomputes every balance from the log, and compares it with what is served.
    Audit(audit::Args),
    /// Records that cannot be applied, and the keys that they hold back.
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    /// Decides about such records: fold again, pass over, replace, accept.
    Redrive(redrive::Args),
    /// Every build of the projection, and what may be done with it.
    Generations(generations::Args),
    /// Another generation beside the one that readers are served; the switch to it, and back.
    #[command(subcommand)]
    Rebuild(rebuild::Command),
    /// Stops folding, whole or one topic, until `resume`.
    Pause(pause::Args),
    /// Lets folding go on.
    Resume(pause::Args),
    /// Where the ledger of record stated another balance than the events add up to.
    #[command(subcommand)]
    Drift(drift::Command),
    /// A whole generation in a file.
    #[command(subcommand)]
    Snapshot(snapshot::Command),
    /// Prints the settings in force with secrets masked, or what is wrong with them.
    CheckConfig,
    /// Hashes a password, or a token, for the configuration.
    HashPassword(hash_password::Args),
}

fn main() -> ExitCode {
    tls::install();
    let Cli { config, command } = Cli::parse();
    let path = config;
    let config = || ops::load(path.as_deref());
    ops::exit(match command {
        Command::Project => config()
            .and_then(|c| ops::role(&c.log.clone(), &c.traces.clone(), c.projector.workers, project::run(c))),
        Command::Serve => config()
            .and_then(|c| ops::role(&c.log.clone(), &c.traces.clone(), 0, serve::run(c, path.clone()))),
        Command::Run => config().and_then(|c| {
            ops::role(&c.log.clone(), &c.traces.clone(), c.projector.workers, run::run(c, path.clone()))
        }),
        Command::Demo(args) => ops::role(&demo::log(), &Traces::default(), 0, demo::run(args)),
        Command::Explain(args) => config().and_then(|c| ops::block_on(explain::run(c, args))),
        Command::Publish(args) => config().and_then(|c| publish::run(&c, &args)),
        Command::Generate(args) => generate::run(&args),
        Command::Status(args) => config().and_then(|c| ops::block_on(status::run(c, args))),
        Command::Audit(args) => config().and_then(|c| audit::run(c, args)),
        Command::DeadLetters(command) => config().and_then(|c| ops::block_on(dead_letters::run(c, command))),
        Command::Redrive(args) => config().and_then(|c| ops::block_on(redrive::run(c, args))),
        Command::Generations(args) => config().and_then(|c| ops::block_on(generations::run(c, args))),
        Command::Rebuild(command) => config().and_then(|c| rebuild::run(c, command)),
        Command::Pause(args) => config().and_then(|c| ops::block_on(pause::pause(c, args))),
        Command::Resume(args) => config().and_then(|c| ops::block_on(pause::resume(c, args))),
        Command::Drift(command) => config().and_then(|c| ops::block_on(drift::run(c, command))),
        Command::Snapshot(command) => snapshot::run(config, command),
        Command::CheckConfig => config().and_then(|c| ops::block_on(check_config::run(c))),
        Command::HashPassword(args) => hash_password::run(&args),
    })
}
