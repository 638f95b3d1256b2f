//! One open RocksDB database: its settings, and what is looked up in it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRawIterator, ErrorKind, InfoLogger, LogLevel, Options, ReadOptions,
};

use super::super::GROUP;
use super::super::batch::{Entry, chunk_key};
use super::super::read::{ChunkCheck, Loader, applied_mark, shortened};
use super::RocksOptions;
use super::layout::database_path;
use crate::codec::key::{Key, MetaItem};
use crate::domain::{JournalId, Offset, State};
use crate::env::fs;
use crate::storage::StorageError;

const CHUNKS: &str = "chunks";
const RECORDS: &str = "records";

/// A memtable of this size is written out, in bytes, unless the memory given is too small for it.
const WRITE_BUFFER_BYTES_MAX: usize = 32 << 20;
/// From this many chunks on a cut is one range deletion, which is short to write but slows every later read of the
/// column family until it is compacted away.
pub(super) const POINT_DELETES_MAX: usize = 1024;
/// A chunk from this size on is a blob: beside the table of its key.
const BLOB_BYTES_MIN: u64 = 512;
/// Blobs of one file.
const BLOB_FILE_BYTES: u64 = 64 << 20;
/// One part in so many of the blobs may be garbage, of journals that were cut or removed.
const GARBAGE_PART_MAX: u64 = 3;
/// Each open file holds a table reader in memory.
const OPEN_FILES_MAX: i32 = 512;

/// One open database. Fields are dropped in this order: it is closed before its directory may be removed.
pub(super) struct Database {
    pub(super) db: DB,
    pub(super) path: PathBuf,
    /// Its number among the databases of the store.
    pub(super) number: u64,
    /// Whether compactions rewrite blob files.
    collecting: AtomicBool,
    removal: Removal,
}

impl Database {
    /// Opens a database, or makes it, with `create`, where none is.
    pub(super) fn open(
        dir: &Path,
        number: u64,
        options: RocksOptions,
        create: bool,
    ) -> Result<Self, StorageError> {
        let path = database_path(dir, number);
        let mut settings = database_options(options, create);
        // Copying into the page cache was the largest part of a node's work under load, and pushed out what is read.
        settings.set_use_direct_io_for_flush_and_compaction(fs::takes_direct_io(dir));
        let db = DB::open_cf_descriptors(&settings, &path, families(options));
        let db = db.map_err(|error| match create {
            true => rocks("open", &path)(error),
            false => not_opened(&path, error),
        });
        Ok(Self {
            db: db?,
            path,
            number,
            collecting: AtomicBool::new(false),
            removal: Removal::default(),
        })
    }

    /// Opens an image for reading; nothing in it changes.
    pub(super) fn open_image(dir: &Path) -> Result<Self, StorageError> {
        // A small cache: nothing is read twice.
        let memory = RocksOptions {
            memory_bytes: 1 << 20,
        };
        let options = database_options(memory, false);
        let db = DB::open_cf_descriptors_read_only(&options, dir, families(memory), false);
        Ok(Self {
            db: db.map_err(|error| not_opened(dir, error))?,
            path: dir.to_owned(),
            number: 0,
            collecting: AtomicBool::new(false),
            removal: Removal::default(),
        })
    }

    pub(super) fn chunks(&self) -> Result<&ColumnFamily, StorageError> {
        self.family(CHUNKS)
    }

    pub(super) fn records(&self) -> Result<&ColumnFamily, StorageError> {
        self.family(RECORDS)
    }

    fn family(&self, name: &str) -> Result<&ColumnFamily, StorageError> {
        let damaged = || StorageError::StateDamaged {
            path: self.path.clone(),
            what: format!("it has no column family {name}"),
        };
        self.db.cf_handle(name).ok_or_else(damaged)
    }

    pub(super) fn iterator(
        &self,
        family: &ColumnFamily,
        options: ReadOptions,
    ) -> DBRawIterator<'_> {
        self.db.raw_iterator_cf_opt(family, options)
    }

    /// The chunks of one journal that begin before `to`.
    pub(super) fn chunks_of(
        &self,
        journal: JournalId,
        to: Offset,
    ) -> Result<DBRawIterator<'_>, StorageError> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(chunk_key(journal, Offset::ZERO));
        options.set_iterate_upper_bound(chunk_key(journal, to));
        Ok(self.iterator(self.chunks()?, options))
    }

    /// What RocksDB found wrong while it looked for the chunk at `at`.
    pub(super) fn check(
        &self,
        chunks: &DBRawIterator<'_>,
        journal: JournalId,
        at: Offset,
    ) -> Result<(), StorageError> {
        chunks.status().map_err(|error| match error.kind() {
            ErrorKind::Corruption => StorageError::JournalDamaged {
                path: self.path.clone(),
                journal,
                at,
                why: error.into_string(),
            },
            _ => rocks("read", &self.path)(error),
        })
    }

    /// All records, put together.
    pub(super) fn load(&self) -> Result<State, StorageError> {
        let mut loader = Loader::default();
        self.scan(self.records()?, |key, raw| {
            loader.push(&self.path, key, raw)
        })?;
        loader.finish(&self.path)
    }

    /// Reads all chunks and compares them with the records.
    pub(super) fn check_chunks(&self, state: &State) -> Result<(), StorageError> {
        let mut check = ChunkCheck::new(&self.path, state);
        self.scan(self.chunks()?, |key, raw| check.push(key, raw))?;
        check.finish()
    }

    /// Reads a whole column family.
    fn scan(
        &self,
        family: &ColumnFamily,
        mut each: impl FnMut(&[u8], Bytes) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        let mut entries = self.iterator(family, options);
        entries.seek_to_first();
        while let Some((key, raw)) = entries.item() {
            each(key, Bytes::copy_from_slice(raw))?;
            entries.next();
        }
        entries.status().map_err(rocks("read", &self.path))
    }

    pub(super) fn applied(&self) -> Result<Option<Bytes>, StorageError> {
        let key = Key::Meta(MetaItem::Applied).encode(GROUP);
        let raw = self.db.get_cf(self.records()?, key);
        let raw = raw.map_err(rocks("read", &self.path))?;
        raw.map(|raw| applied_mark(&self.path, raw.into()))
            .transpose()
    }

    /// What is stored where a journal is cut at `at`.
    pub(super) fn stored_around(
        &self,
        journal: JournalId,
        at: Offset,
    ) -> Result<Around, StorageError> {
        let mut chunks = self.chunks_of(journal, Offset(u64::MAX))?;
        chunks.seek(chunk_key(journal, at));
        let mut gone = Vec::new();
        while gone.len() < POINT_DELETES_MAX
            && let Some(key) = chunks.key()
        {
            gone.push(key.to_vec());
            chunks.next();
        }
        self.check(&chunks, journal, at)?;
        let mut straddling = None;
        let mut before = self.chunks_of(journal, at)?;
        before.seek_to_last();
        if let Some((key, raw)) = before.item() {
            straddling = shortened(&self.path, journal, at, (key, Bytes::copy_from_slice(raw)))?;
        }
        self.check(&before, journal, at)?;
        Ok(Around { gone, straddling })
    }

    /// Has blob files rewritten while much of what they hold is gone. With nothing gone each compaction would copy blobs
    /// nevertheless, for RocksDB goes by the age of the files.
    pub(super) fn collect_garbage(&self) -> Result<(), StorageError> {
        let chunks = self.chunks()?;
        let size = |property: &str| {
            let size = self.db.property_int_value_cf(chunks, property);
            size.map(Option::unwrap_or_default)
                .map_err(rocks("look at", &self.path))
        };
        let garbage = size("rocksdb.live-blob-file-garbage-size")?;
        let collects = garbage > size("rocksdb.live-blob-file-size")? / GARBAGE_PART_MAX;
        if self.collecting.swap(collects, Ordering::Relaxed) != collects {
            let value = if collects { "true" } else { "false" };
            let options = [("enable_blob_garbage_collection", value)];
            let set = self.db.set_options_cf(chunks, &options);
            set.map_err(rocks("set options of", &self.path))?;
        }
        Ok(())
    }

    /// Has the directory removed once nobody reads from it any more.
    pub(super) fn remove_when_dropped(&self) {
        let mut path = self
            .removal
            .path
            .lock()
            .expect("setting a path cannot panic");
        *path = Some(self.path.clone());
    }
}

/// What is stored around a cut.
pub(super) struct Around {
    /// Keys of the chunks that begin at the cut or behind it: all, when fewer than [`POINT_DELETES_MAX`].
    pub(super) gone: Vec<Vec<u8>>,
    /// The chunk that reaches over the cut, as it must be afterwards.
    pub(super) straddling: Option<Entry>,
}

/// Removes a directory when it is dropped, if it was told which.
#[derive(Default)]
struct Removal {
    path: Mutex<Option<PathBuf>>,
}

impl Drop for Removal {
    fn drop(&mut self) {
        let path = self.path.get_mut().ok().and_then(Option::take);
        if let Some(path) = path
            && let Err(error) = fs::remove_dir_all(&path)
        {
            tracing::info!(path = %path.display(), %error, "a replaced state is removed at the next start");
        }
    }
}

fn database_options(options: RocksOptions, create: bool) -> Options {
    let mut database = Options::default();
    database.create_if_missing(create);
    database.create_missing_column_families(create);
    database.set_error_if_exists(create);
    // IMPORTANT: without it one column family may be durable without the other, for there is no log to replay.
    database.set_atomic_flush(true);
    database.set_paranoid_checks(true);
    database.set_db_write_buffer_size(options.memory_bytes / 2);
    database.set_max_background_jobs(2);
    database.set_max_open_files(OPEN_FILES_MAX);
    // Writes tables back steadily: one big sync at a table's end would hold up the Raft log on the same disk.
    database.set_bytes_per_sync(1 << 20);
    database.set_max_manifest_file_size(16 << 20);
    database.set_stats_dump_period_sec(0);
    database.set_stats_persist_period_sec(0);
    // Instead of a LOG file in each database. Its errors come back from the calls, so here they are for the curious.
    let logger = InfoLogger::new_callback_logger(LogLevel::Warn, |level, text| {
        tracing::debug!(?level, "rocksdb: {text}");
    });
    database.set_info_logger(logger);
    database
}

fn families(options: RocksOptions) -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(options.memory_bytes / 2);
    let family = || {
        let mut tables = BlockBasedOptions::default();
        tables.set_block_cache(&cache);
        tables.set_block_size(16 << 10);
        // So that indexes count against the cache, too, however much data there is.
        tables.set_cache_index_and_filter_blocks(true);
        let mut family = Options::default();
        family.set_block_based_table_factory(&tables);
        family.set_write_buffer_size(WRITE_BUFFER_BYTES_MAX.min(options.memory_bytes / 4));
        family.set_max_write_buffer_number(2);
        family.set_compression_type(DBCompressionType::None);
        family
    };
    let mut chunks = family();
    // Bytes of journals are written once, beside the tables, and not again by each compaction: only keys are compacted.
    chunks.set_enable_blob_files(true);
    chunks.set_min_blob_size(BLOB_BYTES_MIN);
    chunks.set_blob_file_size(BLOB_FILE_BYTES);
    chunks.set_blob_compression_type(DBCompressionType::None);
    // Only what `collect_garbage` allows.
    chunks.set_enable_blob_gc(false);
    chunks.set_blob_gc_age_cutoff(1.0);
    chunks.set_blob_gc_force_threshold(1.0 / GARBAGE_PART_MAX as f64);
    vec![
        ColumnFamilyDescriptor::new(CHUNKS, chunks),
        ColumnFamilyDescriptor::new(RECORDS, family()),
    ]
}

/// Why a database that must be there cannot be opened.
fn not_opened(path: &Path, error: rocksdb::Error) -> StorageError {
    match error.kind() {
        ErrorKind::InvalidArgument | ErrorKind::IOError if lacks_a_file(&error) => {
            StorageError::StateDamaged {
                path: path.to_owned(),
                what: error.into_string(),
            }
        }
        _ => rocks("open", path)(error),
    }
}

/// Whether RocksDB found no database, or not all of its files. Only the text tells.
fn lacks_a_file(error: &rocksdb::Error) -> bool {
    let text: &str = error.as_ref();
    ["No such file", "does not exist"]
        .iter()
        .any(|part| text.contains(part))
}

/// For `map_err`: an error of RocksDB with the verb and the path.
pub(super) fn rocks(
    operation: &'static str,
    path: &Path,
) -> impl FnOnce(rocksdb::Error) -> StorageError {
    let path = path.to_owned();
    move |error| match error.kind() {
        ErrorKind::Corruption => StorageError::StateDamaged {
            path,
            what: error.into_string(),
        },
        _ => StorageError::Io {
            operation,
            path,
            source: io::Error::other(error),
        },
    }
}
