//! From a file to a generation.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::file::{Cut, Head, Item, Reader, SnapshotError, marks, verify};
use crate::{
    domain::{Cell, Checkpoint, Offset, PartitionId},
    store::{
        Generation,
        redis::{
            RedisStore,
            seed::{Import, ImportError, Planted},
        },
    },
};

/// How many subjects go to the store at once: Redis is held for about a millisecond.
const PAGE: usize = 200;

/// A file that was read whole, and found to be a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    path: PathBuf,
    /// What it is a snapshot of: its parameters and topics are those of whatever goes on from it.
    pub head: Head,
    /// Where folding goes on.
    pub checkpoints: Vec<(PartitionId, Checkpoint)>,
    /// How many subjects it holds.
    pub subjects: u64,
    /// The SHA-256 at its end.
    pub digest: String,
}

/// What became of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Imported {
    /// The generation holds what the file does.
    Done,
    /// Another process fills it, or did until a moment ago: look again whether it has positions.
    Elsewhere,
}

/// Reads a file whole: its digest, every item, every cell. Nothing is changed.
pub fn open(path: &Path) -> Result<Opened, SnapshotError> {
    let digest = verify(path)?;
    let mut reader = Reader::open(path)?;
    let broken = |reader: &Reader, error: serde_json::Error| reader.unreadable(error.to_string());
    let head = match reader.next()? {
        Item::Head(json) => serde_json::from_slice(&json).map_err(|error| broken(&reader, error))?,
        Item::At(_) | Item::Subject { .. } | Item::End(_) => return Err(reader.unreadable("no head")),
    };
    let mut found = 0_u64;
    let cut: Cut = loop {
        match reader.next()? {
            Item::Subject { subject, cell, marks: bytes } => {
                let cell = cell.map(|cell| Cell::decode(&subject, &cell)).transpose();
                cell.map_err(|error| reader.unreadable(error.to_string()))?;
                marks(&bytes).map_err(|error| reader.unreadable(error.to_string()))?;
                found = found.saturating_add(1);
            }
            Item::End(json) => {
                break serde_json::from_slice(&json).map_err(|error| broken(&reader, error))?;
            }
            Item::Head(_) | Item::At(_) => return Err(reader.unreadable("a second head")),
        }
    };
    if found != cut.subjects {
        return Err(reader.unreadable(format!("{} subjects are told of, {found} are there", cut.subjects)));
    }
    reader.demand(&digest)?;
    Ok(Opened { path: path.to_owned(), head, checkpoints: cut.checkpoints, subjects: found, digest })
}

impl Opened {
    /// Where folding goes on, per partition.
    pub fn starts(&self) -> Vec<(PartitionId, Offset)> {
        self.checkpoints.iter().map(|(partition, checkpoint)| (*partition, checkpoint.next)).collect()
    }

    /// Fills a generation that has no positions, so that nobody feeds it: what it held before is deleted, the positions
    /// are written last. So whatever was begun and not finished has none, and is begun again; what has them is left
    /// as it is.
    pub async fn import(&self, store: &RedisStore, generation: Generation) -> anyhow::Result<Imported> {
        let begun = store.import(generation).await.context("the projection cannot be read")?;
        let Some(import) = begun else { return Ok(Imported::Elsewhere) };
        // Looked at when nobody else can write them any more.
        let positions = store.positions(generation).await.context("the projection cannot be read")?;
        let filled = async {
            if positions.is_empty() { self.fill(import).await } else { Ok(import.place(&[]).await?) }
        };
        match filled.await {
            Ok(()) => Ok(Imported::Done),
            Err(error) => match error.downcast_ref() {
                Some(ImportError::TakenOver) => Ok(Imported::Elsewhere),
                Some(ImportError::Store(_)) | None => Err(error),
            },
        }
    }

    async fn fill(&self, import: Import<'_>) -> anyhow::Result<()> {
        import.clear().await.context("what the generation held before cannot be deleted")?;
        let mut reader = Reader::open(&self.path)?;
        let mut page = Vec::with_capacity(PAGE);
        loop {
            let item = tokio::task::block_in_place(|| reader.next())?;
            match item {
                Item::Subject { subject, cell, marks: bytes } => {
                    let quarantines = marks(&bytes)?;
                    let dues = match cell.as_ref().map(|cell| Cell::decode(&subject, cell)).transpose() {
                        Ok(Some(Cell::Account(account))) => account.encoded_dues(),
                        Ok(Some(Cell::Customer(_)) | None) => Vec::new(),
                        Err(error) => return Err(reader.unreadable(error.to_string()).into()),
                    };
                    page.push(Planted { subject, cell, quarantines, dues });
                }
                Item::End(_) => break,
                Item::Head(_) | Item::At(_) => {}
            }
            if page.len() >= PAGE {
                import.plant(&page).await.context("the store does not take the snapshot")?;
                page.clear();
            }
        }
        import.plant(&page).await.context("the store does not take the snapshot")?;
        // Without positions nobody folds onto what was planted from another file than the one that was verified.
        tokio::task::block_in_place(|| reader.demand(&self.digest))?;
        let positions: Vec<_> = self
            .checkpoints
            .iter()
            .map(|(partition, at)| (*partition, Checkpoint { complete: false, ..*at }))
            .collect();
        import.place(&positions).await.context("the store does not take the positions")
    }
}
