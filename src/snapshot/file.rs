//! The file: items behind each other, compressed, with a digest at the end.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek as _, SeekFrom, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    compare::tail::Offsets,
    decisions::Birth,
    domain::{Checkpoint, PartitionId, Subject, Time},
    store::Quarantine,
};

/// What a snapshot begins with; the last figure is its version.
const MAGIC: [u8; 8] = *b"BPSNAP-1";
const DIGEST_BYTES: u64 = 32;
/// The longest item: a cell with all its windows full is far below.
const ITEM_BYTES_MAX: u32 = 16 << 20;
/// Fast, and several times smaller than the cells.
const LEVEL: i32 = 3;

/// What a file begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// How the exported generation began: its topics, and everything besides the log on which a cell depends.
    pub birth: Birth,
    /// When it was exported, by the clock of the operator's machine.
    pub at: Time,
}

/// Where the exported generation stood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// The checkpoint of every partition.
    pub checkpoints: Vec<(PartitionId, Checkpoint)>,
    /// How many subjects the file holds.
    pub subjects: u64,
}

/// A piece of a file. Structured parts are JSON, so that later versions read them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Item {
    /// The first: a [`Head`].
    Head(Vec<u8>),
    /// Of a file in the making: where the subjects behind it stand.
    At(Offsets),
    /// A subject.
    Subject {
        subject: Subject,
        /// Its encoded cell.
        cell: Option<Vec<u8>>,
        /// Where its key is on hold.
        marks: Vec<u8>,
    },
    /// The last: a [`Cut`].
    End(Vec<u8>),
}

impl Item {
    pub(super) fn subject(
        subject: Subject,
        cell: Option<&[u8]>,
        quarantines: &[Quarantine],
    ) -> io::Result<Item> {
        let marks = if quarantines.is_empty() { Vec::new() } else { serde_json::to_vec(quarantines)? };
        Ok(Item::Subject { subject, cell: cell.map(<[u8]>::to_vec), marks })
    }
}

pub(super) fn marks(bytes: &[u8]) -> io::Result<Vec<Quarantine>> {
    if bytes.is_empty() { Ok(Vec::new()) } else { Ok(serde_json::from_slice(bytes)?) }
}

/// A file that is of no use; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It is something else.
    #[error("{} is no snapshot that this version reads", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
    },
    /// Its contents do not fit its digest.
    #[error("{} was cut short or altered: its contents do not fit the digest at its end; use another copy", path.display())]
    Altered {
        /// Which file.
        path: PathBuf,
    },
    /// It is not what it was when it was verified.
    #[error("{} was changed or replaced meanwhile: start again", path.display())]
    Replaced {
        /// Which file.
        path: PathBuf,
    },
    /// The digest fits, and yet.
    #[error("{}: {reason}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Counts and digests what goes through.
struct Digested<W> {
    inner: W,
    digest: Sha256,
}

impl<W> Digested<W> {
    fn new(inner: W) -> Self {
        Digested { inner, digest: Sha256::new() }
    }
}

impl<R: Read> Read for Digested<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.digest.update(bytes.get(..read).unwrap_or_default());
        Ok(read)
    }
}

impl<W: Write> Write for Digested<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.digest.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A file under a name that nobody else writes to, and that goes with this unless it got its own.
pub(super) struct Partial(PathBuf);

impl Partial {
    fn create(path: &Path, suffix: &str) -> io::Result<(Self, File)> {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("{suffix}-{:016x}", rand::random::<u64>()));
        let partial = PathBuf::from(name);
        let mut options = File::options();
        options.create_new(true).write(true);
        // Names and balances are nobody else's business.
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&partial)?;
        Ok((Partial(partial), file))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Nothing is left under this name where the file got its own.
        drop(std::fs::remove_file(&self.0));
    }
}

/// A file in the making, under a name of its own until it is whole.
pub(super) struct Writer {
    path: PathBuf,
    partial: Partial,
    stream: zstd::Encoder<'static, Digested<BufWriter<File>>>,
}

impl Writer {
    pub(super) fn create(path: &Path, suffix: &str) -> Result<Self, SnapshotError> {
        let create = || {
            let (partial, file) = Partial::create(path, suffix)?;
            let mut inner = Digested::new(BufWriter::new(file));
            inner.write_all(&MAGIC)?;
            Ok((partial, zstd::Encoder::new(inner, LEVEL)?))
        };
        let (partial, stream) =
            create().map_err(|error| SnapshotError::Io { path: path.to_owned(), error })?;
        Ok(Writer { path: path.to_owned(), partial, stream })
    }

    pub(super) fn put(&mut self, item: &Item) -> io::Result<()> {
        let bytes = postcard::to_allocvec(item).map_err(io::Error::other)?;
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.stream.write_all(&length.to_le_bytes())?;
        self.stream.write_all(&bytes)
    }

    /// Ends the stream of a file that never gets its name.
    pub(super) fn close(self) -> io::Result<Partial> {
        let Digested { mut inner, digest } = self.stream.finish()?;
        inner.write_all(&digest.finalize())?;
        inner.flush()?;
        Ok(self.partial)
    }

    /// Ends the stream with its digest, makes sure that the disk has it, and gives the file its name.
    pub(super) fn finish(self) -> Result<(String, u64), SnapshotError> {
        let Writer { path, partial, stream } = self;
        let finish = || {
            let Digested { mut inner, digest } = stream.finish()?;
            let digest = digest.finalize();
            inner.write_all(&digest)?;
            let file = inner.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()?;
            let bytes = file.metadata()?.len();
            std::fs::rename(partial.path(), &path)?;
            Ok((hex(&digest), bytes))
        };
        finish().map_err(|error| SnapshotError::Io { path: path.clone(), error })
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// Reads a file whole and compares it with its digest, which is returned.
pub(super) fn verify(path: &Path) -> Result<String, SnapshotError> {
    let failed = |error| SnapshotError::Io { path: path.to_owned(), error };
    let mut file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    let magic = u64::try_from(MAGIC.len()).unwrap_or_default();
    let mut first = [0; MAGIC.len()];
    if file.read_exact(&mut first).is_err() || first != MAGIC {
        return Err(SnapshotError::Foreign { path: path.to_owned() });
    }
    let body = bytes.checked_sub(DIGEST_BYTES).filter(|body| *body >= magic);
    let body = body.ok_or_else(|| SnapshotError::Altered { path: path.to_owned() })?;
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    let mut file = BufReader::with_capacity(1 << 20, file);
    let mut digest = Sha256::new();
    io::copy(&mut (&mut file).take(body), &mut digest).map_err(failed)?;
    let mut stated = Vec::new();
    file.read_to_end(&mut stated).map_err(failed)?;
    let digest = digest.finalize();
    if digest.as_slice() != stated.as_slice() {
        return Err(SnapshotError::Altered { path: path.to_owned() });
    }
    Ok(hex(&digest))
}

/// Reads the items of a file, which was verified before.
pub(super) struct Reader {
    path: PathBuf,
    stream: zstd::Decoder<'static, BufReader<Digested<io::Take<File>>>>,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self, SnapshotError> {
        let open = || {
            let mut file = File::open(path)?;
            let bytes = file.metadata()?.len();
            let magic = u64::try_from(MAGIC.len()).unwrap_or_default();
            file.seek(SeekFrom::Start(magic))?;
            let body = bytes.saturating_sub(DIGEST_BYTES).saturating_sub(magic);
            let mut body = Digested::new(file.take(body));
            body.digest.update(MAGIC);
            zstd::Decoder::new(body)
        };
        let stream = open().map_err(|error| SnapshotError::Io { path: path.to_owned(), error })?;
        Ok(Reader { path: path.to_owned(), stream })
    }

    /// The next item; an error also where the stream ends without its [`Item::End`].
    pub(super) fn next(&mut self) -> Result<Item, SnapshotError> {
        let mut read = || {
            let mut length = [0; 4];
            self.stream.read_exact(&mut length)?;
            let length = u32::from_le_bytes(length);
            if length > ITEM_BYTES_MAX {
                return Err(io::Error::other("an item is longer than any that is written"));
            }
            let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            self.stream.read_exact(&mut bytes)?;
            postcard::from_bytes(&bytes).map_err(io::Error::other)
        };
        read().map_err(|error| self.unreadable(error.to_string()))
    }

    /// Demands that what was read has this digest: it may be another file than the one that was verified.
    pub(super) fn demand(self, digest: &str) -> Result<(), SnapshotError> {
        let Reader { path, stream } = self;
        let mut rest = stream.finish();
        if let Err(error) = io::copy(&mut rest, &mut io::sink()) {
            return Err(SnapshotError::Io { path, error });
        }
        let read = rest.into_inner().digest.finalize();
        if hex(&read) == digest { Ok(()) } else { Err(SnapshotError::Replaced { path }) }
    }

    pub(super) fn unreadable(&self, reason: impl Into<String>) -> SnapshotError {
        SnapshotError::Unreadable { path: self.path.clone(), reason: reason.into() }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, ffi::OsString};

    use super::*;

    fn names(folder: &Path) -> BTreeSet<OsString> {
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn writers_of_one_path_do_not_spoil_each_other_and_leave_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut writers = [(); 3].map(|()| Writer::create(&path, ".partial").unwrap());
        assert_eq!(names(folder.path()).len(), 3);
        for (number, writer) in (0_u8..).zip(&mut writers) {
            writer.put(&Item::End(vec![number])).unwrap();
        }
        let [one, two, three] = writers;
        let raw = one.close().unwrap();
        assert_eq!(Reader::open(raw.path()).unwrap().next().unwrap(), Item::End(vec![0]));
        let (digest, bytes) = two.finish().unwrap();
        drop((raw, three));
        assert_eq!(names(folder.path()), [OsString::from("file")].into());
        let metadata = std::fs::metadata(&path).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions());
        assert_eq!((metadata.len(), mode & 0o777), (bytes, 0o600));
        assert_eq!(verify(&path).unwrap(), digest);
        let mut reader = Reader::open(&path).unwrap();
        assert_eq!(reader.next().unwrap(), Item::End(vec![1]));
        reader.demand(&digest).unwrap();
    }

    #[test]
    fn a_file_that_is_another_than_the_one_that_was_verified_is_refused_at_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let write = |number| {
            let mut writer = Writer::create(&path, ".partial").unwrap();
            writer.put(&Item::End(vec![number])).unwrap();
            writer.finish().unwrap().0
        };
        let verified = write(1);
        write(2);
        let mut reader = Reader::open(&path).unwrap();
        assert_eq!(reader.next().unwrap(), Item::End(vec![2]));
        let refused = reader.demand(&verified);
        assert!(matches!(refused, Err(SnapshotError::Replaced { .. })), "{refused:?}");
    }
}
