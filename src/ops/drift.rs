//! `drift`: where the ledger of record stated another balance than the events add up to.

use std::io::Write as _;

use anyhow::Context as _;
use serde_json::json;

use super::{Outcome, console, money::money};
use crate::{
    compare::engine::offsets,
    config::Config,
    domain::{Cell, Drift, PartitionId, Subject, Topic},
    source::Cluster,
    store::{
        Generation,
        keys::Name,
        redis::{RedisStore, beside::SUBJECTS_MAX},
    },
};

/// The command line of `drift`.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Lists every account with a statement that disagreed, and none since that agreed.
    List(ListArgs),
}

/// The command line of `drift list`.
#[derive(Debug, Clone, clap::Args)]
pub struct ListArgs {
    /// Print JSON instead of text.
    #[arg(long)]
    pub json: bool,
    /// Which generation; without it, the one that readers are served.
    #[arg(long, value_name = "NUMBER")]
    pub generation: Option<u32>,
}

/// An account that drifts, in one currency and type.
struct Found {
    account: String,
    partition: PartitionId,
    /// The next offset of the account now.
    applied: crate::domain::Offset,
    drift: Drift,
}

/// Runs one of them.
pub async fn run(config: Config, command: Command) -> anyhow::Result<Outcome> {
    let Command::List(args) = command;
    let cluster = Cluster::new(config.kafka.clone());
    let store = RedisStore::new(&config.redis).context("redis")?;
    let generation = console::named_or_served(&store, args.generation).await?;
    let positions = offsets(&store.positions(generation).await.context("the projection cannot be read")?);
    anyhow::ensure!(!positions.is_empty(), "generation {} does not exist: it has no position", generation.0);
    let mut found = all(&store, generation).await?;
    found.sort_by(|a, b| (a.drift.as_of, &a.account).cmp(&(b.drift.as_of, &b.account)));
    let text = if args.json { as_json(&cluster, &found)? } else { as_text(&cluster, &found) };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(if found.is_empty() { Outcome::Well } else { Outcome::NeedsPerson })
}

async fn all(store: &RedisStore, generation: Generation) -> anyhow::Result<Vec<Found>> {
    let mut found = std::collections::BTreeMap::new();
    let mut walk = store.walk(&[generation]);
    while let Some(names) = store.step(&mut walk).await.context("the projection cannot be read")? {
        let accounts: Vec<Subject> = names
            .into_iter()
            .filter_map(
                |(_, name)| {
                    if let Name::Cell(key @ Subject::Account(_)) = name { Some(key) } else { None }
                },
            )
            .collect();
        for keys in accounts.chunks(SUBJECTS_MAX) {
            let beside = store.beside([generation], keys).await.context("the projection cannot be read")?;
            for (key, [held]) in keys.iter().zip(beside.subjects) {
                let Some(bytes) = held.cell else { continue };
                let Cell::Account(account) = Cell::decode(key, &bytes)? else { continue };
                for drift in account.drifts() {
                    let id = key.as_str().to_owned();
                    let partition = PartitionId { topic: Topic::Ledger, partition: account.home() };
                    let name = (id.clone(), drift.currency, drift.balance_type);
                    // A walk may come by a key twice.
                    found.insert(name, Found { account: id, partition, applied: account.applied(), drift });
                }
            }
        }
    }
    Ok(found.into_values().collect())
}

fn as_json(cluster: &Cluster, found: &[Found]) -> anyhow::Result<String> {
    let drifts: Vec<_> = found
        .iter()
        .map(|Found { account, partition, applied, drift }| {
            let partition = cluster.display(*partition);
            json!({
                "account": account,
                "currency": drift.currency.as_str(),
                "type": drift.balance_type,
                "since": drift.as_of.to_string(),
                "stated": {
                    "amount": drift.stated.to_short(),
                    "record": format!("{partition}@{}", drift.offset),
                },
                // Every record of the account before the statement, and none after it.
                "projected": {
                    "amount": drift.ours.to_short(),
                    "next": format!("{partition}@{}", drift.offset),
                },
                "applied": format!("{partition}@{applied}"),
            })
        })
        .collect();
    Ok(serde_json::to_string_pretty(&json!({ "drifts": drifts }))? + "\n")
}

fn as_text(cluster: &Cluster, found: &[Found]) -> String {
    let mut text = String::new();
    for Found { account, partition, applied, drift } in found {
        let display = cluster.display(*partition);
        let currency = drift.currency.as_str();
        let (stated, ours) = (money(drift.stated, drift.currency), money(drift.ours, drift.currency));
        super::compared::told(
            &mut text,
            format_args!(
                "account {account}: {} since {}\n  stated    {stated} {currency}, by record {display}@{}\n  \
             projected {ours} {currency}, from the records before it; the account is now at {display}@{applied}\n",
                drift.balance_type.code(),
                drift.as_of,
                drift.offset
            ),
        );
    }

    let disagree = if found.len() == 1 { "balance disagrees" } else { "balances disagree" };
    text + &format!("{} control {disagree}\n", found.len())
}
