//! The state store on RocksDB, without RocksDB's write-ahead log: the Raft log is the one that is replayed.
//!
//! ```text
//! state/CURRENT_STATE   names the database that is live; replaced atomically by an install
//! state/db-1/           a database with two column families: chunks, and records (everything else)
//! ```
//! Both column families are flushed together (atomic flush), so that after a crash chunks, records and the applied mark
//! are of the same moment.

mod database;
mod layout;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use bytes::Bytes;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{ColumnFamily, FlushOptions, WriteBatch, WriteOptions, properties};

use self::database::{Database, POINT_DELETES_MAX, rocks};
use self::layout::{
    database_path, read_pointer, remove_if_there, remove_left_overs, write_pointer,
};
use super::batch::chunk_key;
use super::read::RangeReader;
use super::{Chunk, StateBatch, StateStore};
use crate::domain::{JournalId, Offset, OffsetRange, State};
use crate::env::fs;
use crate::storage::{StorageError, crashsafe};

/// The property that says how many bytes are in blob files.
const BLOB_BYTES: &str = "rocksdb.total-blob-file-size";

/// Settings of a [`RocksStore`].
#[derive(Debug, Clone, Copy)]
pub struct RocksOptions {
    /// Memory for the block cache and the memtables together, half each, in bytes. RocksDB keeps to it roughly.
    pub memory_bytes: usize,
}

impl Default for RocksOptions {
    fn default() -> Self {
        Self {
            memory_bytes: 128 << 20,
        }
    }
}

/// The store.
pub struct RocksStore {
    dir: PathBuf,
    options: RocksOptions,
    current: RwLock<Arc<Database>>,
    /// Held by writes and installs, so that no batch goes to a database that is being replaced.
    writer: Mutex<()>,
}

impl fmt::Debug for RocksStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksStore")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl RocksStore {
    /// Opens the store in `dir`, or makes it when the directory is empty or not there. What an install or a creation that
    /// a crash ended has left is removed.
    ///
    /// # Errors
    /// `StateDamaged` when `CURRENT_STATE`, or what it names, is missing or not as it was written; `Io`.
    pub fn open(dir: &Path, options: RocksOptions) -> Result<Self, StorageError> {
        fs::create_private_dir_all(dir).map_err(StorageError::io("create", dir))?;
        crashsafe::sync_parent(dir)?;
        let pointer = read_pointer(dir)?;
        remove_left_overs(dir, pointer)?;
        let number = pointer.unwrap_or(1);
        let database = Database::open(dir, number, options, pointer.is_none())?;
        if pointer.is_none() {
            // Nothing was written to it yet, so a database that no pointer names holds nothing that matters.
            fs::sync_dir(dir).map_err(StorageError::io("sync directory", dir))?;
            write_pointer(dir, number)?;
        }
        Ok(Self {
            dir: dir.to_owned(),
            options,
            current: RwLock::new(Arc::new(database)),
            writer: Mutex::new(()),
        })
    }

    /// The live database; whoever holds it reads on from it even when another one is installed.
    fn current(&self) -> Arc<Database> {
        let current = self
            .current
            .read()
            .expect("swapping a pointer cannot panic");
        Arc::clone(&current)
    }
}

impl StateStore for RocksStore {
    fn applied(&self) -> Result<Option<Bytes>, StorageError> {
        self.current().applied()
    }

    fn load(&self) -> Result<State, StorageError> {
        self.current().load()
    }

    fn write(&self, batch: StateBatch) -> Result<(), StorageError> {
        let _writer = self.writer.lock().expect("an earlier writer panicked");
        let database = self.current();
        let (chunks, records) = (database.chunks()?, database.records()?);
        let mut out = WriteBatch::with_capacity_bytes(batch.bytes());
        for (journal, at) in batch.cuts() {
            let stored = database.stored_around(journal, at)?;
            if stored.gone.len() == POINT_DELETES_MAX {
                // A chunk is never empty, so none begins at the last offset, which this range leaves out.
                let to = chunk_key(journal, Offset(u64::MAX));
                out.delete_range_cf(chunks, chunk_key(journal, at), to);
            } else {
                for key in stored.gone {
                    out.delete_cf(chunks, key);
                }
            }
            if let Some((key, raw)) = stored.straddling {
                out.put_cf(chunks, key, raw);
            }
        }
        for (key, raw) in batch.chunk_puts() {
            out.put_cf(chunks, key, raw);
        }
        for (key, raw) in batch.records {
            match raw {
                Some(raw) => out.put_cf(records, key, raw),
                None => out.delete_cf(records, key),
            }
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        let written = database.db.write_opt(out, &options);
        written.map_err(rocks("write to", &database.path))
    }

    fn read(
        &self,
        journal: JournalId,
        range: OffsetRange,
        bytes_max: usize,
    ) -> Result<Vec<Chunk>, StorageError> {
        let database = self.current();
        let mut reader = RangeReader::new(&database.path, journal, range, bytes_max);
        if !reader.wants_more() {
            return reader.finish();
        }
        let mut chunks = database.chunks_of(journal, range.to)?;
        chunks.seek_for_prev(chunk_key(journal, range.from));
        while reader.wants_more()
            && let Some((key, raw)) = chunks.item()
        {
            reader.push(key, Bytes::copy_from_slice(raw))?;
            chunks.next();
        }
        database.check(&chunks, journal, reader.next())?;
        reader.finish()
    }

    fn flush(&self) -> Result<(), StorageError> {
        let database = self.current();
        let families = [database.chunks()?, database.records()?];
        let mut options = FlushOptions::default();
        options.set_wait(true);
        let flushed = database.db.flush_cfs_opt(&families, &options);
        flushed.map_err(rocks("flush", &database.path))?;
        database.collect_garbage()
    }

    fn snapshot(&self, dir: &Path) -> Result<(), StorageError> {
        let database = self.current();
        // RocksDB flushes first, links the tables, syncs what it copies and the directory, and gives it its name last.
        Checkpoint::new(&database.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(dir))
            .map_err(rocks("make a snapshot in", dir))?;
        crashsafe::sync_parent(dir)?;
        database.collect_garbage()
    }

    fn snapshot_applied(&self, dir: &Path) -> Result<Option<Bytes>, StorageError> {
        Database::open_image(dir)?.applied()
    }

    fn verify(&self, dir: &Path) -> Result<Option<Bytes>, StorageError> {
        let image = Database::open_image(dir)?;
        image.check_chunks(&image.load()?)?;
        image.applied()
    }

    fn install(&self, dir: &Path) -> Result<State, StorageError> {
        let _writer = self.writer.lock().expect("an earlier writer panicked");
        let old = self.current();
        let number = old.number + 1;
        let path = database_path(&self.dir, number);
        // Left by an install of this process that failed; at open it would have been removed.
        remove_if_there(&path)?;
        fs::rename(dir, &path).map_err(StorageError::io("rename", dir))?;
        fs::sync_dir(&self.dir).map_err(StorageError::io("sync directory", &self.dir))?;
        let opened = Database::open(&self.dir, number, self.options, false)
            .and_then(|new| Ok((new.load()?, new)));
        let (state, new) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                remove_if_there(&path)?;
                return Err(error);
            }
        };
        // IMPORTANT: the pointer is what decides after a crash; the old database goes only when it names the new one.
        write_pointer(&self.dir, number)?;
        let mut current = self
            .current
            .write()
            .expect("swapping a pointer cannot panic");
        *current = Arc::new(new);
        drop(current);
        old.remove_when_dropped();
        Ok(state)
    }

    fn bytes(&self) -> u64 {
        let database = self.current();
        let of = |family: &ColumnFamily| -> u64 {
            let tables = properties::TOTAL_SST_FILES_SIZE;
            let tables = database.db.property_int_value_cf(family, tables);
            let blobs = database.db.property_int_value_cf(family, BLOB_BYTES);
            let sizes = [tables, blobs];
            sizes
                .into_iter()
                .filter_map(|size| size.ok().flatten())
                .sum()
        };
        [database.chunks(), database.records()]
            .into_iter()
            .flatten()
            .map(of)
            .sum()
    }
}

#[cfg(test)]
mod tests;
