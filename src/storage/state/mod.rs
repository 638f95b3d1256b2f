//! The state store: what a node has applied, behind one trait.
//!
//! | file | owns |
//! | --- | --- |
//! | `mod.rs` | [`StateStore`] and its promises |
//! | `batch.rs` | [`StateBatch`]: what applied commands changed, as puts, deletes and cuts |
//! | `read.rs` | bytes of the store to chunks and records, checked |
//! | `mem.rs` | [`MemStore`]: in memory, with explicit flush points, for simulation and tests |
//! | `rocks/` | `RocksStore`: RocksDB without its write-ahead log, for nodes |
//! | `contract/` | the tests that both pass |
//!
//! Writes are not durable by themselves. The Raft log is: after a crash the store is as it was at a flush, its applied
//! mark says which one, and the log is replayed from there. So the log may be purged up to the applied mark that a
//! [`StateStore::flush`] or [`StateStore::snapshot`] has made durable, never further.

mod batch;
#[cfg(test)]
mod contract;
mod mem;
mod read;
#[cfg(feature = "rocksdb")]
mod rocks;

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::StorageError;
use crate::domain::{GroupId, JournalId, Offset, OffsetRange, State};

pub use batch::StateBatch;
pub use mem::MemStore;
#[cfg(feature = "rocksdb")]
pub use rocks::{RocksOptions, RocksStore};

/// The group that keys are written under: the only one yet.
const GROUP: GroupId = GroupId(0);

/// Bytes of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Where they begin.
    pub at: Offset,
    /// The bytes; never empty.
    pub data: Bytes,
}

/// Records and journal bytes on one disk. One writer at a time calls [`write`](Self::write) and
/// [`install`](Self::install); everything else may be called from anywhere at any time. All calls block.
///
/// After an error of `write` or `flush`, or `Io` of `install`, the caller writes no more: what was to be written may be there
/// or not, and opening the store again tells which.
pub trait StateStore: Debug + Send + Sync + 'static {
    /// The applied mark of the last batch, as it was given; `None` when nothing was ever written.
    ///
    /// # Errors
    /// `StateDamaged` or `Io`.
    fn applied(&self) -> Result<Option<Bytes>, StorageError>;

    /// All records, put together. The journals' bytes are not looked at.
    ///
    /// # Errors
    /// `StateDamaged` when any record does not match its checksum, does not parse, or is missing; `Io`.
    fn load(&self) -> Result<State, StorageError>;

    /// Writes a batch: all of it with its applied mark, or nothing. Readable when this returns; durable only after a
    /// later [`flush`](Self::flush). After a crash the store holds a prefix of the batches, in call order.
    ///
    /// # Errors
    /// `JournalDamaged` when a chunk that a cut must shorten is damaged; `Io`.
    fn write(&self, batch: StateBatch) -> Result<(), StorageError>;

    /// Chunks that cover `range`, in order, without holes, the first and the last trimmed to the range. Stops early once
    /// they hold `bytes_max` bytes or more, by less than one chunk, but never before the first; an empty range has none.
    ///
    /// # Errors
    /// `JournalDamaged`, with the journal and the offset, when a byte of the range is not there or a chunk does not match
    /// its checksum: none of the chunks are given then. `Io`.
    fn read(
        &self,
        journal: JournalId,
        range: OffsetRange,
        bytes_max: usize,
    ) -> Result<Vec<Chunk>, StorageError>;

    /// Makes every batch durable that was written before this call: whatever [`applied`](Self::applied) says before it,
    /// it says that or a later mark after a crash.
    ///
    /// # Errors
    /// `Io`, `StateDamaged`.
    fn flush(&self) -> Result<(), StorageError>;

    /// Writes a durable image of everything, applied mark included, into the new directory `dir`. It holds at least the
    /// batches written before the call, and whole batches only. Where the file system can, files are hard-linked, so it
    /// takes little time and room: `dir` must be on the store's file system, and its parent must exist.
    ///
    /// # Errors
    /// `Io`, also when `dir` is there already; `StateDamaged`.
    fn snapshot(&self, dir: &Path) -> Result<(), StorageError>;

    /// The applied mark of an image that [`snapshot`](Self::snapshot) made, here or at another member. Changes nothing.
    ///
    /// # Errors
    /// `StateDamaged` or `Io` when it is no such image.
    fn snapshot_applied(&self, dir: &Path) -> Result<Option<Bytes>, StorageError>;

    /// Reads an image through, however large it is, and gives its applied mark: every record parses, and every journal's
    /// bytes are there up to its tail, as they were written. Changes nothing.
    ///
    /// # Errors
    /// `StateDamaged` or `JournalDamaged` when the image is not what a store made; `Io`.
    fn verify(&self, dir: &Path) -> Result<Option<Bytes>, StorageError>;

    /// Replaces everything by the image in `dir`, which is consumed, and gives the image's records. Durable when this
    /// returns; a crash before that leaves the old content or the new, whole. Reads in progress end on the old one. `dir`
    /// must be on the store's file system. The records are read before the old content goes, the journals' bytes are not:
    /// an image from elsewhere is [verified](Self::verify) first.
    ///
    /// # Errors
    /// `StateDamaged` when the image cannot be opened or a record is damaged: the old content stays and may be written to
    /// as before, and `dir` may be gone. `Io`.
    fn install(&self, dir: &Path) -> Result<State, StorageError>;

    /// Roughly how many bytes the store takes on disk, for metrics.
    fn bytes(&self) -> u64;
}

/// Opens the store of a node in `dir`, with about `memory_bytes` of memory: RocksDB, or, in a build without it, memory.
///
/// # Errors
/// As for opening either.
pub fn open(dir: &Path, memory_bytes: usize) -> Result<Arc<dyn StateStore>, StorageError> {
    #[cfg(feature = "rocksdb")]
    return Ok(Arc::new(RocksStore::open(
        dir,
        RocksOptions { memory_bytes },
    )?));
    #[cfg(not(feature = "rocksdb"))]
    {
        let _ = memory_bytes;
        Ok(Arc::new(MemStore::open(dir)?))
    }
}
