//! `status`: where the projection stands, and what needs a person.
//!
//! It looks twice, a little over two heartbeats apart: only a beat that rises between the looks tells that a
//! partition's owner lives.

mod log;
mod report;

use std::{io::Write as _, time::Duration};

use anyhow::Context as _;

use super::Outcome;
use crate::{
    config::Config,
    source::Cluster,
    store::{ReadStore, redis::RedisStore},
};

use self::{
    log::LogView,
    report::{Looks, Report},
};

/// The command line of `status`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
    /// How many keys on hold to name.
    #[arg(long, default_value_t = 10, value_name = "KEYS")]
    pub keys: usize,
}

/// Looks, and tells.
pub async fn run(config: Config, args: Args) -> anyhow::Result<Outcome> {
    let store = RedisStore::new(&config.redis).context("redis")?;
    let report = look(&config, &store, args.keys).await?;
    let text = if args.json { report.json()? } else { report.table() };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(if report.needs_person.is_empty() { Outcome::Well } else { Outcome::NeedsPerson })
}

async fn look(config: &Config, store: &impl ReadStore, keys_max: usize) -> anyhow::Result<Report> {
    let unhealthy = store.healthy().await.err();
    let first = store.states().await.context("the store's partitions cannot be read")?;
    let beats = config.projector.heartbeat_ms.saturating_mul(2).saturating_add(200);
    tokio::time::sleep(Duration::from_millis(beats.max(1_200))).await;
    let second = store.states().await.context("the store's partitions cannot be read")?;

    let mut keys = Vec::new();
    let mut next = Vec::new();
    if let Some((snapshot, _)) = &second {
        for (partition, position) in &snapshot.positions {
            next.push((*partition, position.checkpoint.next));
            if keys.len() < keys_max {
                let quarantined = store.quarantined(*partition).await;
                keys.extend(quarantined.context("the keys on hold cannot be read")?);
            }
        }
    }
    keys.truncate(keys_max);

    let cluster = Cluster::new(config.kafka.clone());
    let asked = cluster.clone();
    let log = tokio::task::spawn_blocking(move || LogView::look(&asked, &next));
    let log = log.await.context("the log cannot be read")?;
    let looks = Looks { cluster, first, second, unhealthy, log, keys };
    Ok(Report::new(&looks, config.api.max_staleness_ms))
}
