//! Snapshots: a whole generation in a file, at an exact cut of positions.
//!
//! A file is eight bytes that name its kind and version, a zstd stream of items ([`mod@file`]), and the SHA-256 of all
//! that. It holds names and balances, and the key of the fingerprints: it is made readable by its owner alone.
//!
//! [`export()`] takes two passes, for the projection goes on meanwhile: the first writes each subject as a page of
//! them was read, with the positions of that page; the second folds what was written forward to the cut, by the
//! records that came in between. [`open`] reads and checks a file whole before anything is taken from it.

mod export;
mod file;
mod import;

pub use export::{Exported, export};
pub use file::{Head, SnapshotError};
pub use import::{Imported, Opened, open};
