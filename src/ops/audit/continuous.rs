//! `audit --continuous`: a part of each partition after the other, for ever, at a bounded rate.
//!
//! A part is some of the subjects, drawn anew each time, and some that are drawn from the projection itself, with some
//! of what follows from cells and marks: so what the log does not call for is found as well as what it does. Each part
//! reads its partition's log once.

use std::{io::Write as _, time::Duration};

use anyhow::Context as _;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use rand::{Rng as _, seq::SliceRandom as _};

use super::{Args, Audit, Audited, SIDES, begin};
use crate::{
    compare::refold::{Pace, Selection},
    config::Config,
    domain::{PartitionId, Subject},
    ops::{compared, parts},
    projector::OfPartition,
    store::{Generation, keys::Name, redis::beside::Walk},
    telemetry::{self, metric, register},
};

/// Into how many parts the subjects of a partition are divided.
const PARTS: u64 = 64;
/// How many of a page of the projection are taken.
const DRAWN_MAX: usize = 100;
/// After a part that could not be audited.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Between parts: an empty log must not be asked for in a tight loop.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfResult {
    result: &'static str,
}

const RESULTS: [&str; 3] = ["could-not-run", "agrees", "differs"];

struct Metrics {
    parts: Family<OfResult, Counter>,
    subjects: Counter,
    differences: Counter,
    differing: Family<OfPartition, Gauge>,
}

impl Metrics {
    fn new(registry: &mut Registry) -> Self {
        let metrics = Metrics {
            parts: register(registry, metric::AUDIT_PARTS, Family::default()),
            subjects: register(registry, metric::AUDIT_SUBJECTS, Counter::default()),
            differences: register(registry, metric::AUDIT_DIFFERENCES, Counter::default()),
            differing: register(registry, metric::AUDIT_DIFFERING, Family::default()),
        };
        // Nobody sees an increase from nothing.
        for result in RESULTS {
            drop(metrics.parts.get_or_create(&OfResult { result }));
        }
        metrics
    }

    fn count(&self, partition: PartitionId, audited: Option<&Audited>) {
        let differences = audited.map(|audited| audited.tally.differences());
        let [could_not_run, agrees, differs] = RESULTS;
        let result = match differences {
            None => could_not_run,
            Some(0) => agrees,
            Some(_) => differs,
        };
        self.parts.get_or_create(&OfResult { result }).inc();
        let (Some(audited), Some(differences)) = (audited, differences) else { return };
        self.subjects.inc_by(audited.tally.cells);
        self.differences.inc_by(differences);
        let now = i64::try_from(differences).unwrap_or(i64::MAX);
        self.differing.get_or_create(&partition.into()).set(now);
    }
}

/// Runs until SIGTERM or SIGINT; tells each difference on standard output as it is found.
pub(super) async fn run(config: Config, args: Args) -> anyhow::Result<()> {
    let shutdown = parts::shutdown()?;
    let mut registry = telemetry::registry();
    let metrics = Metrics::new(&mut registry);
    let listen = args.listen.unwrap_or(config.admin.listen);
    let admin = parts::admin(listen, registry, Vec::new()).await?;
    let served = tokio::spawn(admin.run(shutdown.clone()));
    let sampled = async {
        let mut walk: Option<(Generation, Walk)> = None;
        loop {
            // Each time: readers may have been switched to another generation meanwhile.
            match begin(&config, &args).await {
                Ok((mut audit, partitions, _)) => {
                    audit.stop = shutdown.clone();
                    let generation = audit.birth.generation;
                    // It goes on where it was: every key is come by in the end.
                    let (_, walk) = match &mut walk {
                        Some(of) if of.0 == generation => of,
                        other => other.insert((generation, audit.store.walk(&[generation]))),
                    };
                    round(&audit, &partitions, walk, &args, &metrics).await;
                    if shutdown.is_cancelled() {
                        return;
                    }
                }
                Err(error) => {
                    failed(&metrics, None, &error);
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = sampled => {}
    }
    served.await.context("the admin listener panicked")
}

/// A part of every partition.
async fn round(audit: &Audit, partitions: &[PartitionId], walk: &mut Walk, args: &Args, metrics: &Metrics) {
    for partition in partitions {
        let part = rand::rng().random_range(0..PARTS);
        match one(audit, *partition, part, walk, args.rate).await {
            Ok(audited) => {
                metrics.count(*partition, Some(&audited));
                tell(*partition, &audited);
                tokio::time::sleep(PAUSE).await;
            }
            Err(_) if audit.stop.is_cancelled() => return,
            Err(error) => {
                failed(metrics, Some(*partition), &error);
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
}

async fn one(
    audit: &Audit,
    partition: PartitionId,
    part: u64,
    walk: &mut Walk,
    rate: u32,
) -> anyhow::Result<Audited> {
    let law = audit.law().await?;
    let (drawn, derived) = drawn(audit, partition, walk).await?;
    let selection = Selection::part(part, PARTS, drawn.iter().cloned());
    audit.sample(&law, partition, selection, (drawn, &derived), Pace::new(rate)).await
}

/// Some subjects of the projection, and some keys of what follows from others, whichever the walk comes by.
async fn drawn(
    audit: &Audit,
    partition: PartitionId,
    walk: &mut Walk,
) -> anyhow::Result<(Vec<Subject>, Vec<Name>)> {
    let skip = rand::rng().random_range(0..20);
    let mut page = None;
    for _ in 0..=skip {
        page = audit.store.step(walk).await.context("the projection cannot be read")?;
        if page.is_none() {
            *walk = audit.store.walk(&[audit.birth.generation]);
        }
    }
    let (mut subjects, mut derived) = (Vec::new(), Vec::new());
    for (_, name) in page.into_iter().flatten() {
        match name {
            Name::Cell(key) => subjects.push(key),
            name @ (Name::Owing(_) | Name::DueQuarantine(_) | Name::Index(_)) => derived.push(name),
            Name::AccountQuarantine(_) | Name::CustomerQuarantine(_) | Name::Positions | Name::States => {}
        }
    }
    subjects.retain(|subject| subject.topic() == partition.topic);
    let any = &mut rand::rng();
    subjects.shuffle(any);
    derived.shuffle(any);
    subjects.truncate(DRAWN_MAX);
    derived.truncate(DRAWN_MAX);
    Ok((subjects, derived))
}

fn tell(partition: PartitionId, audited: &Audited) {
    let differences = audited.tally.differences();
    if differences == 0 {
        tracing::info!(%partition, cut = audited.cut.0, subjects = audited.tally.cells, "audited");
        return;
    }
    tracing::error!(%partition, cut = audited.cut.0, differences, "the projection differs from the log");
    let text: String = audited.tally.first.iter().map(|difference| SIDES.text(difference)).collect();
    let text = format!("{text}{partition} differs{}\n", compared::kinds_told(&audited.tally));
    // Whoever listened has left: the metrics and the log tell as well.
    drop(std::io::stdout().lock().write_all(text.as_bytes()));
}

fn failed(metrics: &Metrics, partition: Option<PartitionId>, error: &anyhow::Error) {
    metrics.parts.get_or_create(&OfResult { result: "could-not-run" }).inc();
    let partition = partition.map(|partition| partition.to_string());
    tracing::warn!(partition, error = format!("{error:#}"), "could not be audited");
}
