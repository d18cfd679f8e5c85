//! From a generation to a file.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
    sync::Arc,
};

use anyhow::Context as _;

use super::file::{Cut, Head, Item, Reader, Writer, marks};
use crate::{
    compare::{
        engine::offsets,
        subject::{Law, State},
        tail::{Offsets, Tail},
    },
    domain::{Checkpoint, Class, PartitionId, Subject},
    source::Cluster,
    store::{
        Generation,
        keys::Name,
        redis::{
            RedisStore,
            beside::{Held, SUBJECTS_MAX},
        },
    },
};

/// What was exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// How many subjects.
    pub subjects: u64,
    /// How long the file is.
    pub bytes: u64,
    /// The SHA-256 at its end.
    pub digest: String,
    /// Where the generation stood: the cut.
    pub checkpoints: Vec<(PartitionId, Checkpoint)>,
}

/// Writes a whole generation to a file, at an exact cut of positions, while it goes on.
///
/// The file gets its name when it is whole; whatever stood there before is replaced then.
pub async fn export(
    cluster: &Cluster,
    store: &RedisStore,
    law: &Law,
    head: &Head,
    path: &Path,
) -> anyhow::Result<Exported> {
    let generation = law.generation;
    let started = offsets(&positions(store, generation, head).await?);
    let mut raw = Writer::create(path, ".raw")?;
    let raw_path = raw.partial().to_owned();
    let exported = async {
        copy(store, generation, &mut raw).await?;
        let checkpoints = positions(store, generation, head).await?;
        let checkpoints: BTreeMap<PartitionId, Checkpoint> =
            checkpoints.into_iter().map(|(partition, position)| (partition, position.checkpoint)).collect();
        raw.put(&Item::End(Vec::new()))?;
        raw.close()?;
        let mut tail = Tail::new(cluster, started).context("kafka settings")?;
        tokio::task::block_in_place(|| {
            let cut = checkpoints.iter().map(|(partition, at)| (*partition, at.next)).collect();
            tail.advance(&cut)?;
            let checkpoints = checkpoints.into_iter().collect();
            Forward { law, tail: &tail, cut: &cut }.write(&raw_path, path, head, checkpoints)
        })
    }
    .await;
    // A copy for the second pass: of no use to anybody else.
    drop(std::fs::remove_file(&raw_path));
    exported
}

async fn positions(
    store: &RedisStore,
    generation: Generation,
    head: &Head,
) -> anyhow::Result<BTreeMap<PartitionId, crate::store::Position>> {
    let positions = store.positions(generation).await.context("the projection cannot be read")?;
    for (partition, _) in head.birth.starts() {
        let position = positions.get(&partition).with_context(|| {
            format!("the store holds no position of {partition} in generation {}", generation.0)
        })?;
        anyhow::ensure!(
            position.checkpoint.complete,
            "generation {} is not complete: {partition} has not reached the log's end yet",
            generation.0
        );
    }
    Ok(positions)
}

/// The first pass: every subject as it is read, behind the positions of its page.
async fn copy(store: &RedisStore, generation: Generation, raw: &mut Writer) -> anyhow::Result<()> {
    let mut walk = store.walk(&[generation]);
    let mut keys: Vec<Subject> = Vec::new();
    while let Some(names) = store.step(&mut walk).await.context("the projection cannot be read")? {
        let mut marked = Vec::new();
        for (_, name) in names {
            match name {
                Name::Cell(key) => keys.push(key),
                Name::AccountQuarantine(id) => marked.push(Subject::Account(id)),
                Name::CustomerQuarantine(id) => marked.push(Subject::Customer(id)),
                Name::Owing(_) | Name::DueQuarantine(_) | Name::Index(_) | Name::Positions | Name::States => {
                }
            }
        }
        // Whatever has a cell comes up by that.
        let known = store.exist(generation, &marked).await?;
        keys.extend(marked.into_iter().zip(known).filter(|(_, known)| !known).map(|(key, _)| key));
        while keys.len() >= SUBJECTS_MAX {
            let page = keys.split_off(keys.len().saturating_sub(SUBJECTS_MAX));
            copy_page(store, generation, &page, raw).await?;
        }
    }
    copy_page(store, generation, &keys, raw).await
}

async fn copy_page(
    store: &RedisStore,
    generation: Generation,
    keys: &[Subject],
    raw: &mut Writer,
) -> anyhow::Result<()> {
    let beside = store.beside([generation], keys).await.context("the projection cannot be read")?;
    let [at] = beside.positions;
    raw.put(&Item::At(offsets(&at)))?;
    for (key, [held]) in keys.iter().zip(beside.subjects) {
        raw.put(&Item::subject(key.clone(), held.cell.as_deref(), &held.quarantines)?)?;
    }
    Ok(())
}

/// The second pass.
struct Forward<'a> {
    law: &'a Law,
    tail: &'a Tail,
    cut: &'a Offsets,
}

impl Forward<'_> {
    fn write(
        &self,
        raw: &Path,
        path: &Path,
        head: &Head,
        checkpoints: Vec<(PartitionId, Checkpoint)>,
    ) -> anyhow::Result<Exported> {
        let mut from = Reader::open(raw)?;
        let mut to = Writer::create(path, ".partial")?;
        to.put(&Item::Head(serde_json::to_vec(head)?))?;
        // Of subjects with records since the first pass began: whatever of them did not come up was born since.
        let mut moved: HashSet<&Subject> = self.tail.subjects().collect();
        let (mut at, mut subjects) = (Arc::new(Offsets::new()), 0_u64);
        loop {
            match from.next()? {
                Item::At(offsets) => at = Arc::new(offsets),
                Item::Subject { subject, cell, marks: bytes } => {
                    let mut copied = Held { cell: cell.map(Into::into), quarantines: marks(&bytes)? };
                    if moved.remove(&subject) || self.tail.holds(&subject) {
                        copied = self.forward(&subject, &copied, &at)?;
                    }
                    to.put(&Item::subject(subject, copied.cell.as_deref(), &copied.quarantines)?)?;
                    subjects = subjects.saturating_add(1);
                }
                Item::End(_) => break,
                Item::Head(_) => {}
            }
        }
        for subject in moved {
            let born = self.forward(subject, &Held::default(), self.tail.from())?;
            if born != Held::default() {
                to.put(&Item::subject(subject.clone(), born.cell.as_deref(), &born.quarantines)?)?;
                subjects = subjects.saturating_add(1);
            }
        }
        let cut = Cut { checkpoints, subjects };
        to.put(&Item::End(serde_json::to_vec(&cut)?))?;
        let (digest, bytes) = to.finish()?;
        Ok(Exported { subjects, bytes, digest, checkpoints: cut.checkpoints })
    }

    fn forward(&self, subject: &Subject, held: &Held, at: &Offsets) -> anyhow::Result<Held> {
        let mut state = State::decode(subject, held).context("a cell cannot be read")?;
        self.tail.forward(self.law, subject, &mut state, (at, self.cut));
        // Whether a gap is about to close its owner knows, or whoever imports this reads the log again for.
        for mark in state.quarantines.values_mut() {
            let before = held.quarantines.iter().find(|held| held.partition == mark.partition);
            let waits_for_more = mark.waiting > before.map_or(0, |before| before.waiting);
            mark.heals = before.is_some_and(|before| before.heals)
                || mark.class == Class::SequenceGap && waits_for_more;
        }
        Ok(state.encode())
    }
}
