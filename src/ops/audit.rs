//! `audit`: every balance recomputed from the log up to an exact cut, and compared with what is served.

mod continuous;
mod report;

use std::{collections::BTreeMap, io::Write as _, net::SocketAddr, sync::Arc, time::Instant};

use anyhow::Context as _;
use tokio::sync::Semaphore;

use super::{Outcome, console, parts};
use crate::{
    compare::{
        audit::{Audit, Audited},
        difference::Difference,
        refold::Selection,
        tail::Offsets,
    },
    config::{Config, Traces},
    decisions::{self, Birth, Origin},
    domain::PartitionId,
    source::Cluster,
    store::{Generation, redis::RedisStore},
};

use self::report::{Report, SIDES, Verdict};

/// The command line of `audit`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Which generation; without it, the one that readers are served.
    #[arg(long, value_name = "NUMBER")]
    pub generation: Option<u32>,
    /// How many differences to show whole.
    #[arg(long, default_value_t = 20, value_name = "COUNT")]
    pub first: usize,
    /// How many partitions to fold at the same time; without it, as many as there are cores.
    #[arg(long, value_name = "COUNT")]
    pub jobs: Option<usize>,
    /// About how much memory cells may take; where they need more, the log is read several times.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..), value_name = "MIB")]
    pub memory: u32,
    /// Audit parts of the partitions, one after the other, until it is stopped.
    #[arg(long, conflicts_with_all = ["json", "jobs"])]
    pub continuous: bool,
    /// With --continuous: how many records of the log to read in a second, at most.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..), value_name = "RECORDS")]
    pub rate: u32,
    /// With --continuous: where metrics are; without it, on `admin.listen`.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
}

/// Audits, once or for ever.
pub fn run(config: Config, args: Args) -> anyhow::Result<Outcome> {
    if args.continuous {
        super::role(&config.log.clone(), &Traces::default(), 0, continuous::run(config, args))
    } else {
        super::block_on(once(config, args))
    }
}

/// Audits, and tells. What could not be audited never passes.
async fn once(config: Config, args: Args) -> anyhow::Result<Outcome> {
    let begun = Instant::now();
    let (audit, partitions, jobs) = begin(&config, &args).await.context("the audit could not run")?;
    let interrupted = parts::shutdown()?;
    let stop = audit.stop.clone();
    tokio::spawn(async move {
        interrupted.cancelled().await;
        stop.cancel();
    });
    let audit = Arc::new(audit);
    let audited = async {
        let mut verdicts = all(&audit, partitions, jobs).await?;
        walk(&audit, &mut verdicts).await;
        anyhow::Ok(verdicts)
    };
    let verdicts = tokio::select! {
        verdicts = audited => verdicts?,
        () = audit.stop.cancelled() => anyhow::bail!("the audit was stopped before its end: it says nothing"),
    };
    let named = verdicts.into_iter().map(|(id, verdict)| (audit.cluster.display(id), verdict)).collect();
    let report = Report::new(audit.birth.generation, named, begun.elapsed());
    let text = if args.json { report.json()? } else { report.table() };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(if report.passes() { Outcome::Well } else { Outcome::NeedsPerson })
}

async fn begin(config: &Config, args: &Args) -> anyhow::Result<(Audit, Vec<PartitionId>, usize)> {
    let cluster = Cluster::new(config.kafka.clone());
    let store = RedisStore::new(&config.redis).context("redis")?;
    let generation = console::named_or_served(&store, args.generation).await?;
    let birth = birth(&cluster, generation).await?;
    anyhow::ensure!(
        !matches!(birth.origin, Origin::Seed { .. }),
        "generation {} began from a snapshot: the log alone does not tell its balances; compare it with one that folds the whole log (`rebuild compare`)",
        generation.0
    );
    let partitions: Vec<PartitionId> = birth.starts().into_iter().map(|(partition, _)| partition).collect();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let jobs = args.jobs.unwrap_or(cores).clamp(1, partitions.len().max(1));
    let memory = usize::try_from(args.memory).unwrap_or(usize::MAX);
    let bytes = memory.saturating_mul(1 << 20).checked_div(jobs).unwrap_or_default();
    Ok((Audit::new(cluster, store, birth, bytes, args.first), partitions, jobs))
}

/// How a generation began, as the decisions topic says.
pub(super) async fn birth(cluster: &Cluster, generation: Generation) -> anyhow::Result<Birth> {
    let asked = cluster.clone();
    let decisions = tokio::task::spawn_blocking(move || decisions::read(&asked)).await?;
    let mut decisions = decisions.context("the decisions topic cannot be read")?;
    let birth = decisions.births.remove(&generation);
    birth.with_context(|| format!("generation {} does not exist: it was never born", generation.0))
}

async fn all(
    audit: &Arc<Audit>,
    partitions: Vec<PartitionId>,
    jobs: usize,
) -> anyhow::Result<Vec<(PartitionId, Verdict)>> {
    let room = Arc::new(Semaphore::new(jobs));
    let mut tasks = Vec::new();
    for partition in partitions {
        let (audit, room) = (Arc::clone(audit), Arc::clone(&room));
        tasks.push(tokio::spawn(async move {
            let _permit = room.acquire().await;
            let audited = one(&audit, partition).await;
            (partition, audited.map_or_else(|error| Verdict::NotRun(format!("{error:#}")), Verdict::Ran))
        }));
    }
    let mut verdicts = Vec::new();
    for task in tasks {
        verdicts.push(task.await?);
    }
    Ok(verdicts)
}

async fn one(audit: &Audit, partition: PartitionId) -> anyhow::Result<Audited> {
    let law = audit.law().await?;
    audit.partition(&law, partition, Selection::all(), None).await
}

/// What nothing in the log calls for is found by walks over the projection; they say nothing where a partition was
/// not audited, for what lives there would all seem too much.
async fn walk(audit: &Audit, verdicts: &mut [(PartitionId, Verdict)]) {
    let cuts: Option<Offsets> = verdicts
        .iter()
        .map(|(partition, verdict)| match verdict {
            Verdict::Ran(audited) => Some((*partition, audited.cut)),
            Verdict::NotRun(_) => None,
        })
        .collect();
    match beyond(audit, cuts.as_ref()).await {
        Ok(mut found) => {
            for (partition, verdict) in verdicts {
                if let (Verdict::Ran(audited), Some(found)) = (verdict, found.remove(partition)) {
                    for difference in found {
                        audited.tally.add(difference);
                    }
                }
            }
        }
        Err(error) => {
            for (_, verdict) in verdicts {
                *verdict = Verdict::NotRun(format!("{error:#}"));
            }
        }
    }
}

/// Beyond what the records call for: cells and marks too much, and what follows from cells and marks.
async fn beyond(
    audit: &Audit,
    cuts: Option<&Offsets>,
) -> anyhow::Result<BTreeMap<PartitionId, Vec<Difference>>> {
    let mut found = match cuts {
        Some(cuts) => audit.extras(cuts).await?,
        None => BTreeMap::new(),
    };
    for (partition, differences) in audit.derived(cuts.is_some()).await? {
        found.entry(partition).or_default().extend(differences);
    }
    Ok(found)
}
