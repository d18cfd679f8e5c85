//! Whether the log is still the one that the served generation folded, or was made anew under the same names.

use std::{collections::BTreeSet, ops::ControlFlow};

use anyhow::Context as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::{
    decisions::{Birth, Decisions},
    domain::{FingerprintKey, LastRecord, PartitionId, Topic},
    ops::console::Console,
    projector,
    source::{Cluster, scan::Scan},
};

/// How the log stands to the one that the served generation folded.
#[derive(Debug, Clone, Default)]
pub(super) struct Anew {
    /// How often the topics were made anew by now: a generation of another log cannot be passed, nor compared by offsets.
    pub(super) times: u32,
    /// Those that were made anew since.
    pub(super) topics: BTreeSet<Topic>,
}

/// Looks whether the records that were folded last are there still.
pub(super) async fn look(console: &Console, decisions: &Decisions, served: &Birth) -> anyhow::Result<Anew> {
    let positions =
        console.store.positions(served.generation).await.context("the projection cannot be read")?;
    let last = positions.into_iter().filter_map(|(id, position)| Some((id, position.checkpoint.last?)));
    let (cluster, last): (Cluster, Vec<_>) = (console.cluster.clone(), last.collect());
    let key = served.parameters.fingerprint_key;
    let anew = tokio::task::spawn_blocking(move || {
        let scan = Scan::new(&cluster).context("kafka settings")?;
        let mut anew = BTreeSet::new();
        for (id, last) in last {
            if !anew.contains(&id.topic)
                && !is_there(&scan, key, id, last).context("the log cannot be read")?
            {
                anew.insert(id.topic);
            }
        }
        anyhow::Ok(anew)
    });
    let topics = anew.await??;
    if topics.is_empty() {
        return Ok(Anew { times: served.made_anew, topics });
    }
    // One that was begun meanwhile, and is not served, may be of a log between the two.
    let most = decisions.births.values().map(|birth| birth.made_anew).max().unwrap_or_default();
    Ok(Anew { times: most.saturating_add(1), topics })
}

/// Whether the record that was folded last stands where it stood; what retention has removed is believed to have.
fn is_there(scan: &Scan, key: FingerprintKey, id: PartitionId, last: LastRecord) -> anyhow::Result<bool> {
    let (low, end) = match scan.bounds(id) {
        Err(error) if is_unknown(&error) => return Ok(false),
        bounds => bounds?,
    };
    if last.offset < low {
        return Ok(true);
    }
    let mut found = false;
    if last.offset < end {
        scan.read(id, last.offset, last.offset.next(), |record| {
            found = projector::identity(key, record) == last;
            ControlFlow::Break(())
        })?;
    }
    Ok(found)
}

/// Made anew with fewer partitions.
fn is_unknown(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::UnknownPartition | RDKafkaErrorCode::UnknownTopicOrPartition)
    )
}
