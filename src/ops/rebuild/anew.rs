//! Whether the log is still the one that the served generation folded, or was made anew under the same names.

use std::ops::ControlFlow;

use anyhow::Context as _;

use crate::{
    decisions::Birth,
    domain::{FingerprintKey, LastRecord, PartitionId},
    ops::console::Console,
    projector,
    source::{Cluster, scan::Scan},
};

/// How often the topics were made anew by now: a generation of another log cannot be passed, nor compared by offsets.
pub(super) async fn made_anew(console: &Console, served: &Birth) -> anyhow::Result<u32> {
    let positions =
        console.store.positions(served.generation).await.context("the projection cannot be read")?;
    let last = positions.into_iter().filter_map(|(id, position)| Some((id, position.checkpoint.last?)));
    let (cluster, last): (Cluster, Vec<_>) = (console.cluster.clone(), last.collect());
    let key = served.parameters.fingerprint_key;
    let anew = tokio::task::spawn_blocking(move || {
        let scan = Scan::new(&cluster).context("kafka settings")?;
        for (id, last) in last {
            if !is_there(&scan, key, id, last).context("the log cannot be read")? {
                return Ok(true);
            }
        }
        anyhow::Ok(false)
    });
    Ok(served.made_anew.saturating_add(u32::from(anew.await??)))
}

/// Whether the record that was folded last stands where it stood; what retention has removed is believed to have.
fn is_there(scan: &Scan, key: FingerprintKey, id: PartitionId, last: LastRecord) -> anyhow::Result<bool> {
    let (low, end) = scan.bounds(id)?;
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
