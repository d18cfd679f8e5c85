//! The roles and the operator's commands, one file each.

use std::{future::Future, path::Path, process::ExitCode};

use anyhow::Context as _;

use crate::{
    api::{SettingsError, StartError},
    config::{Config, ConfigError, Log, Traces},
    telemetry, traces,
};

pub mod audit;
pub mod check_config;
pub mod compared;
pub mod consent;
pub mod console;
pub mod dead_letters;
pub mod demo;
pub mod drift;
pub mod explain;
pub mod generate;
pub mod generations;
pub mod hash_password;
pub mod hold;
pub mod letters;
pub mod money;
mod partitions;
mod parts;
pub mod pause;
pub mod project;
pub mod publish;
pub mod rebuild;
pub mod redrive;
pub mod run;
pub mod serve;
pub mod snapshot;
pub mod status;

/// What a command came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All is well: exit status 0.
    Well,
    /// The command did its work and told of something that needs a person: exit status 1.
    NeedsPerson,
}

/// Wrong usage that the command line's grammar does not tell: exit status 2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// The configuration from this file and this process's environment.
pub fn load(path: Option<&Path>) -> anyhow::Result<Config> {
    let config = Config::load(path, std::env::vars_os())?;
    config.check_files()?;
    Ok(config)
}

/// How long what is still running may take once a command or a role has ended.
const LEFT_MAX: std::time::Duration = std::time::Duration::from_secs(1);

/// Runs a role to its end, with its log and its traces, on so many threads; 0 takes as many as there are processors.
pub fn role(
    log: &Log,
    traces: &Traces,
    threads: usize,
    role: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<Outcome> {
    telemetry::init(log)?;
    block_on_threads(threads, async {
        let traces = traces::start(traces)?;
        let ended = role.await;
        traces.finish().await;
        ended.map(|()| Outcome::Well)
    })
}

/// Runs a command on an asynchronous runtime.
pub fn block_on<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    block_on_threads(0, command)
}

fn block_on_threads<T>(
    threads: usize,
    command: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let runtime = runtime(threads)?;
    let ended = runtime.block_on(command);
    // What still waits for a broker or a disk by then waits for nobody.
    runtime.shutdown_timeout(LEFT_MAX);
    ended
}

/// An asynchronous runtime on so many threads; 0 takes as many as there are processors.
fn runtime(threads: usize) -> anyhow::Result<tokio::runtime::Runtime> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if threads > 0 {
        runtime.worker_threads(threads);
    }
    runtime.enable_all().build().context("the asynchronous runtime does not start")
}

/// The exit status of what a command came to; an error is told on standard error.
pub fn exit(result: anyhow::Result<Outcome>) -> ExitCode {
    match result {
        Ok(Outcome::Well) => ExitCode::SUCCESS,
        Ok(Outcome::NeedsPerson) => ExitCode::from(1),
        Err(e) => {
            eprintln!("balance-projector: {e:#}");
            ExitCode::from(if is_usage(&e) { 2 } else { 1 })
        }
    }
}

/// Whether another start would meet the same, until what the command was given is corrected.
fn is_usage(error: &anyhow::Error) -> bool {
    let unusable = matches!(error.downcast_ref::<StartError>(), Some(StartError::Settings(_)));
    unusable || error.is::<SettingsError>() || error.is::<ConfigError>() || error.is::<UsageError>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_runs_on_as_many_threads_as_it_is_given() {
        let threads = |asked| {
            let count = async { Ok(tokio::runtime::Handle::current().metrics().num_workers()) };
            block_on_threads(asked, count).unwrap()
        };
        assert_eq!(threads(3), 3);
        let processors = std::thread::available_parallelism().unwrap().get();
        assert_eq!(threads(0), processors);
    }
}
