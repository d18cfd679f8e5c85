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
        subject::{Law, State},
        tail::{Offsets, Tail},
    },
    domain::{Checkpoint, Class, PartitionId, Subject},
    source::Cluster,
    store::{
        Generation, Position,
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
    let partitions = head.birth.starts().into_iter().map(|(partition, _)| partition).collect();
    let mut source =
        Source { cluster, store, generation: law.generation, partitions, reached: Offsets::new() };
    source.stands().await?;
    let started = source.reached.clone();
    let mut raw = Writer::create(path, ".raw")?;
    source.copy(&mut raw).await?;
    let checkpoints = source.stands().await?;
    raw.put(&Item::End(Vec::new()))?;
    // A copy for the second pass: of no use to anybody else, it goes with this.
    let raw = raw.close()?;
    let mut tail = Tail::new(cluster, started).context("kafka settings")?;
    let cut = source.reached;
    tokio::task::block_in_place(|| {
        tail.advance(&cut)?;
        Forward { law, tail: &tail, cut: &cut }.write(raw.path(), path, head, checkpoints)
    })
}

/// The generation, as it is read page by page. It goes on meanwhile, and may not go back.
struct Source<'a> {
    cluster: &'a Cluster,
    store: &'a RedisStore,
    generation: Generation,
    partitions: Vec<PartitionId>,
    /// Where it stood when it was last looked at.
    reached: Offsets,
}

impl Source<'_> {
    /// Where it stands by now.
    async fn stands(&mut self) -> anyhow::Result<Vec<(PartitionId, Checkpoint)>> {
        let positions =
            self.store.positions(self.generation).await.context("the projection cannot be read")?;
        self.reaches(&positions)?;
        Ok(positions.into_iter().map(|(partition, position)| (partition, position.checkpoint)).collect())
    }

    /// Takes note of where it stands: nowhere may that be before where it stood, for the tail folds forward alone.
    fn reaches(&mut self, positions: &BTreeMap<PartitionId, Position>) -> anyhow::Result<()> {
        let Generation(number) = self.generation;
        for partition in &self.partitions {
            let named = self.cluster.display(*partition);
            let at = positions.get(partition).map(|position| position.checkpoint);
            if let Some(reached) = self.reached.get(partition) {
                anyhow::ensure!(
                    at.is_some_and(|at| at.complete && at.next >= *reached),
                    "generation {number} went back behind {named}@{reached} meanwhile: it lost writes; export again"
                );
            }
            let at =
                at.with_context(|| format!("the store holds no position of {named} in generation {number}"))?;
            anyhow::ensure!(
                at.complete,
                "generation {number} is not complete: {named} has not reached the log's end yet"
            );
            self.reached.insert(*partition, at.next);
        }
        Ok(())
    }

    /// The first pass: every subject as it is read, behind the positions of its page.
    async fn copy(&mut self, raw: &mut Writer) -> anyhow::Result<()> {
        // Keys on hold are copied when the walk is over. It may come by one without a cell twice, by its mark and, once that
        // is let go, by its cell; or never.
        let mut late = self.store.on_hold(self.generation, &self.partitions).await?;
        let mut walk = self.store.walk(&[self.generation]);
        let mut keys: Vec<Subject> = Vec::new();
        while let Some(names) = self.store.step(&mut walk).await.context("the projection cannot be read")? {
            let mut marked = Vec::new();
            for (_, name) in names {
                match name {
                    Name::Cell(key) => keys.push(key),
                    Name::AccountQuarantine(id) => marked.push(Subject::Account(id)),
                    Name::CustomerQuarantine(id) => marked.push(Subject::Customer(id)),
                    Name::Owing(_)
                    | Name::DueQuarantine(_)
                    | Name::Index(_)
                    | Name::Positions
                    | Name::States => {}
                }
            }
            // Whatever has a cell comes up by that.
            let known = self.store.exist(self.generation, &marked).await?;
            late.extend(marked.into_iter().zip(known).filter(|(_, known)| !known).map(|(key, _)| key));
            keys.retain(|key| !late.contains(key));
            while keys.len() >= SUBJECTS_MAX {
                let page = keys.split_off(keys.len().saturating_sub(SUBJECTS_MAX));
                self.copy_page(&page, raw).await?;
            }
        }
        keys.extend(late);
        for page in keys.chunks(SUBJECTS_MAX) {
            self.copy_page(page, raw).await?;
        }
        Ok(())
    }

    async fn copy_page(&mut self, keys: &[Subject], raw: &mut Writer) -> anyhow::Result<()> {
        let beside = self.store.beside([self.generation], keys).await;
        let beside = beside.context("the projection cannot be read")?;
        let [at] = beside.positions;
        self.reaches(&at)?;
        raw.put(&Item::At(self.reached.clone()))?;
        for (key, [held]) in keys.iter().zip(beside.subjects) {
            raw.put(&Item::subject(key.clone(), held.cell.as_deref(), &held.quarantines)?)?;
        }
        Ok(())
    }
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
                    // Let go without ever having had a cell.
                    if copied == Held::default() {
                        continue;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config,
        domain::{Offset, Topic},
        store::Token,
    };

    #[test]
    fn a_generation_that_goes_back_or_loses_a_position_is_not_exported() {
        let [ledger, payment] = Topic::ALL.map(|topic| PartitionId { topic, partition: 0 });
        let cluster = Cluster::new(config::Kafka::default());
        let store = RedisStore::new(&config::Redis::default()).unwrap();
        let mut source = Source {
            cluster: &cluster,
            store: &store,
            generation: Generation(3),
            partitions: vec![ledger, payment],
            reached: Offsets::new(),
        };
        let at = |next: i64, complete: bool| {
            let checkpoint = Checkpoint { complete, ..Checkpoint::born(Offset(next)) };
            Position { token: Token([0; 16]), checkpoint }
        };
        let mut reaches = |of_payment: Option<Position>| {
            let mut positions = BTreeMap::from([(ledger, at(7, true))]);
            positions.extend(of_payment.map(|position| (payment, position)));
            source.reaches(&positions).map_err(|error| error.to_string())
        };
        assert!(reaches(None).unwrap_err().contains("holds no position"));
        assert!(reaches(Some(at(10, false))).unwrap_err().contains("is not complete"));
        for next in [10, 10, 12] {
            reaches(Some(at(next, true))).unwrap();
        }
        for back in [None, Some(at(11, true)), Some(at(12, false))] {
            let error = reaches(back).unwrap_err();
            assert!(error.contains("went back behind payment.events/0@12 meanwhile"), "{error}");
        }
        reaches(Some(at(12, true))).unwrap();
    }
}
