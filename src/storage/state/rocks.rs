//! The state store on RocksDB, without RocksDB's write-ahead log: the Raft log is the one that is replayed.
//!
//! ```text
//! state/CURRENT_STATE   names the database that is live; replaced atomically by an install
//! state/db-1/           a database with two column families: chunks, and records (everything else)
//! ```
//! Both column families are flushed together (atomic flush), so that after a crash chunks, records and the applied mark
//! are of the same moment.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use bytes::Bytes;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRawIterator, ErrorKind, FlushOptions, InfoLogger, LogLevel, Options, ReadOptions, WriteBatch,
    WriteOptions, properties,
};

use super::batch::{Entry, chunk_key};
use super::read::{Loader, RangeReader, applied_mark, shortened};
use super::{Chunk, GROUP, StateBatch, StateStore};
use crate::codec::key::{Key, MetaItem};
use crate::codec::value;
use crate::domain::{JournalId, Offset, OffsetRange, State};
use crate::env::fs;
use crate::storage::{StorageError, crashsafe};

const POINTER_NAME: &str = "CURRENT_STATE";
const DATABASE_PREFIX: &str = "db-";
const CHUNKS: &str = "chunks";
const RECORDS: &str = "records";

/// A memtable of this size is written out, in bytes, unless the memory given is too small for it.
const WRITE_BUFFER_BYTES_MAX: usize = 32 << 20;
/// From this many chunks on a cut is one range deletion, which is short to write but slows every later read of the
/// column family until it is compacted away.
const POINT_DELETES_MAX: usize = 1024;
/// Each open file holds a table reader in memory.
const OPEN_FILES_MAX: i32 = 512;

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
        let database = self.current();
        let mut loader = Loader::default();
        let mut records = database.iterator(database.records()?, ReadOptions::default());
        records.seek_to_first();
        while let Some((key, raw)) = records.item() {
            loader.push(&database.path, key, Bytes::copy_from_slice(raw))?;
            records.next();
        }
        records.status().map_err(rocks("read", &database.path))?;
        loader.finish(&database.path)
    }

    fn write(&self, batch: StateBatch) -> Result<(), StorageError> {
        let _writer = self.writer.lock().expect("an earlier writer panicked");
        let database = self.current();
        let (chunks, records) = (database.chunks()?, database.records()?);
        let mut out = WriteBatch::default();
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
        flushed.map_err(rocks("flush", &database.path))
    }

    fn snapshot(&self, dir: &Path) -> Result<(), StorageError> {
        let database = self.current();
        // RocksDB flushes first, links the tables, syncs what it copies and the directory, and gives it its name last.
        Checkpoint::new(&database.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(dir))
            .map_err(rocks("make a snapshot in", dir))?;
        crashsafe::sync_parent(dir)
    }

    fn install(&self, dir: &Path) -> Result<(), StorageError> {
        let _writer = self.writer.lock().expect("an earlier writer panicked");
        let old = self.current();
        let number = old.number + 1;
        let path = database_path(&self.dir, number);
        // Left by an install of this process that failed; at open it would have been removed.
        remove_if_there(&path)?;
        fs::rename(dir, &path).map_err(StorageError::io("rename", dir))?;
        fs::sync_dir(&self.dir).map_err(StorageError::io("sync directory", &self.dir))?;
        let new = match Database::open(&self.dir, number, self.options, false) {
            Ok(new) => new,
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
        Ok(())
    }

    fn snapshot_applied(&self, dir: &Path) -> Result<Option<Bytes>, StorageError> {
        // A small cache: one record is read.
        let memory = RocksOptions {
            memory_bytes: 1 << 20,
        };
        let db = DB::open_cf_descriptors_read_only(
            &database_options(memory, false),
            dir,
            families(memory),
            false,
        );
        let database = Database {
            db: db.map_err(rocks("open", dir))?,
            path: dir.to_owned(),
            number: 0,
            removal: Removal::default(),
        };
        database.applied()
    }

    fn bytes(&self) -> u64 {
        let database = self.current();
        let of = |family: &ColumnFamily| {
            let size = database
                .db
                .property_int_value_cf(family, properties::TOTAL_SST_FILES_SIZE);
            size.ok().flatten().unwrap_or(0)
        };
        [database.chunks(), database.records()]
            .into_iter()
            .flatten()
            .map(of)
            .sum()
    }
}

/// One open database. Fields are dropped in this order: it is closed before its directory may be removed.
struct Database {
    db: DB,
    path: PathBuf,
    number: u64,
    removal: Removal,
}

impl Database {
    fn open(
        dir: &Path,
        number: u64,
        options: RocksOptions,
        create: bool,
    ) -> Result<Self, StorageError> {
        let path = database_path(dir, number);
        let db =
            DB::open_cf_descriptors(&database_options(options, create), &path, families(options));
        let db = db.map_err(|error| match error.kind() {
            // Something must be there and is not.
            ErrorKind::InvalidArgument | ErrorKind::IOError if !create && lacks_a_file(&error) => {
                StorageError::StateDamaged {
                    path: path.clone(),
                    what: error.into_string(),
                }
            }
            _ => rocks("open", &path)(error),
        });
        Ok(Self {
            db: db?,
            path,
            number,
            removal: Removal::default(),
        })
    }

    fn chunks(&self) -> Result<&ColumnFamily, StorageError> {
        self.family(CHUNKS)
    }

    fn records(&self) -> Result<&ColumnFamily, StorageError> {
        self.family(RECORDS)
    }

    fn family(&self, name: &str) -> Result<&ColumnFamily, StorageError> {
        let damaged = || StorageError::StateDamaged {
            path: self.path.clone(),
            what: format!("it has no column family {name}"),
        };
        self.db.cf_handle(name).ok_or_else(damaged)
    }

    fn iterator(&self, family: &ColumnFamily, options: ReadOptions) -> DBRawIterator<'_> {
        self.db.raw_iterator_cf_opt(family, options)
    }

    /// The chunks of one journal that begin before `to`.
    fn chunks_of(&self, journal: JournalId, to: Offset) -> Result<DBRawIterator<'_>, StorageError> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(chunk_key(journal, Offset::ZERO));
        options.set_iterate_upper_bound(chunk_key(journal, to));
        Ok(self.iterator(self.chunks()?, options))
    }

    /// What RocksDB found wrong while it looked for the chunk at `at`.
    fn check(
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

    fn applied(&self) -> Result<Option<Bytes>, StorageError> {
        let key = Key::Meta(MetaItem::Applied).encode(GROUP);
        let raw = self.db.get_cf(self.records()?, key);
        let raw = raw.map_err(rocks("read", &self.path))?;
        raw.map(|raw| applied_mark(&self.path, raw.into()))
            .transpose()
    }

    /// What is stored where a journal is cut at `at`.
    fn stored_around(&self, journal: JournalId, at: Offset) -> Result<Around, StorageError> {
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

    fn remove_when_dropped(&self) {
        let mut path = self
            .removal
            .path
            .lock()
            .expect("setting a path cannot panic");
        *path = Some(self.path.clone());
    }
}

/// What is stored around a cut.
struct Around {
    /// Keys of the chunks that begin at the cut or behind it: all, when fewer than [`POINT_DELETES_MAX`].
    gone: Vec<Vec<u8>>,
    /// The chunk that reaches over the cut, as it must be afterwards.
    straddling: Option<Entry>,
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

fn database_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{DATABASE_PREFIX}{number}"))
}

/// The number in a name that [`database_path`] gives.
fn database_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix(DATABASE_PREFIX)?.parse().ok()?;
    (name == format!("{DATABASE_PREFIX}{number}")).then_some(number)
}

fn write_pointer(dir: &Path, number: u64) -> Result<(), StorageError> {
    let name = format!("{DATABASE_PREFIX}{number}");
    crashsafe::replace(&dir.join(POINTER_NAME), &value::seal(name.as_bytes()))
}

fn read_pointer(dir: &Path) -> Result<Option<u64>, StorageError> {
    let path = dir.join(POINTER_NAME);
    let Some(raw) = crashsafe::read(&path)? else {
        return Ok(None);
    };
    let damaged = |what: String| StorageError::StateDamaged {
        path: path.clone(),
        what,
    };
    let name = value::open("pointer", raw.into()).map_err(|error| damaged(error.to_string()))?;
    let number = std::str::from_utf8(&name).ok().and_then(database_number);
    let number = number.ok_or_else(|| damaged(format!("it names {name:?}, which is no state")))?;
    let named = database_path(dir, number);
    if fs::exists(&named).map_err(StorageError::io("look at", &named))? {
        Ok(Some(number))
    } else {
        Err(damaged(format!(
            "it names {}, which is gone",
            named.display()
        )))
    }
}

/// Removes the databases that the pointer does not name.
fn remove_left_overs(dir: &Path, pointer: Option<u64>) -> Result<(), StorageError> {
    for name in fs::list_dir(dir).map_err(StorageError::io("list", dir))? {
        let number = name.to_str().and_then(database_number);
        let Some(number) = number.filter(|number| Some(*number) != pointer) else {
            continue;
        };
        let path = database_path(dir, number);
        if pointer.is_none() && holds_tables(&path)? {
            // Not what a crash leaves: a first database has no tables before the pointer is there.
            return Err(StorageError::StateDamaged {
                path: dir.join(POINTER_NAME),
                what: format!("it is gone, but {} holds data", path.display()),
            });
        }
        remove_if_there(&path)?;
    }
    Ok(())
}

fn holds_tables(path: &Path) -> Result<bool, StorageError> {
    let names = fs::list_dir(path).map_err(StorageError::io("list", path))?;
    let is_table = |name: &std::ffi::OsString| Path::new(name).extension() == Some("sst".as_ref());
    Ok(names.iter().any(is_table))
}

fn remove_if_there(path: &Path) -> Result<(), StorageError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StorageError::io("remove", path)(error))
        }
        _ => Ok(()),
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
    let family = |name| {
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
        ColumnFamilyDescriptor::new(name, family)
    };
    vec![family(CHUNKS), family(RECORDS)]
}

/// Whether RocksDB found no database, or not all of its files. Only the text tells.
fn lacks_a_file(error: &rocksdb::Error) -> bool {
    let text: &str = error.as_ref();
    ["No such file", "does not exist"]
        .iter()
        .any(|part| text.contains(part))
}

/// For `map_err`: an error of RocksDB with the verb and the path.
fn rocks(operation: &'static str, path: &Path) -> impl FnOnce(rocksdb::Error) -> StorageError {
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

#[cfg(test)]
mod tests {
    use super::super::contract::{self, Driver};
    use super::*;

    fn open(dir: &Path) -> Result<Box<dyn StateStore>, StorageError> {
        let small = RocksOptions {
            memory_bytes: 1 << 20,
        };
        Ok(Box::new(RocksStore::open(dir, small)?))
    }

    #[test]
    fn the_rocksdb_store_keeps_the_contract() {
        contract::run_all(open);
    }

    /// Memtables that fill up are written out in the background, at a moment of RocksDB's choosing.
    #[test]
    fn a_crash_after_flushes_that_nobody_asked_for_leaves_a_moment_of_the_past() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let store = RocksStore::open(
            &state,
            RocksOptions {
                memory_bytes: 1 << 20,
            },
        )
        .unwrap();
        let database = store.current();
        let mut driver = Driver::new(Box::new(store));
        let journals = [driver.open_journal("a"), driver.open_journal("b")];
        let mut moments = Vec::new();
        for round in 0..60u8 {
            driver.append(journals[usize::from(round % 2)], &vec![round; 30_000]);
            driver.write();
            if round % 10 == 9 {
                wait_until_quiet(&database);
                let crashed = dir.path().join(format!("crashed-{round}"));
                contract::crash(&state, &crashed);
                let found = open(&crashed).unwrap();
                moments.push(contract::check_is_a_moment_of(&*found, &driver.history));
            }
        }
        assert!(
            moments.last() > Some(&30),
            "nothing was written out: {moments:?}"
        );
        assert!(moments.is_sorted());
        assert!(
            moments.last() < driver.history.keys().last(),
            "nothing was lost"
        );
    }

    fn wait_until_quiet(database: &Database) {
        let count = |name| {
            let families = [database.chunks().unwrap(), database.records().unwrap()];
            let values = families.map(|family| {
                let value = database.db.property_int_value_cf(family, name);
                value.unwrap().unwrap()
            });
            values.iter().sum::<u64>()
        };
        while count(properties::MEM_TABLE_FLUSH_PENDING)
            + count(properties::NUM_RUNNING_FLUSHES)
            + count(properties::COMPACTION_PENDING)
            + count(properties::NUM_RUNNING_COMPACTIONS)
            > 0
        {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_crash_in_an_install_leaves_the_old_state() {
        let dir = tempfile::tempdir().unwrap();
        let (state, image) = (dir.path().join("state"), dir.path().join("image"));
        let mut driver = Driver::new(open(&state).unwrap());
        let journal = driver.open_journal("a");
        driver.append(journal, b"old");
        driver.write();
        driver.store.snapshot(&image).unwrap();
        // As far as an install gets before it moves the pointer.
        let crashed = dir.path().join("crashed");
        contract::crash(&state, &crashed);
        contract::crash(&image, &crashed.join("db-2"));
        let found = open(&crashed).unwrap();
        contract::check_is_a_moment_of(&*found, &driver.history);
        assert_eq!(fs::list_dir(&crashed).unwrap(), [POINTER_NAME, "db-1"]);
    }

    #[test]
    fn readers_in_progress_end_on_the_old_state_which_then_goes() {
        let dir = tempfile::tempdir().unwrap();
        let (state, image) = (dir.path().join("state"), dir.path().join("image"));
        let store = RocksStore::open(&state, RocksOptions::default()).unwrap();
        store.snapshot(&image).unwrap();
        let reader = store.current();
        store.install(&image).unwrap();
        assert_eq!(reader.applied().unwrap(), None);
        assert_eq!(
            fs::list_dir(&state).unwrap(),
            [POINTER_NAME, "db-1", "db-2"]
        );
        drop(reader);
        assert_eq!(fs::list_dir(&state).unwrap(), [POINTER_NAME, "db-2"]);
    }

    #[test]
    fn a_lost_pointer_is_not_taken_for_an_empty_store() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let mut driver = Driver::new(open(&state).unwrap());
        driver.open_journal("a");
        driver.write();
        driver.store.flush().unwrap();
        let crashed = dir.path().join("crashed");
        contract::crash(&state, &crashed);
        fs::remove_file(crashed.join(POINTER_NAME)).unwrap();
        let error = open(&crashed).unwrap_err().to_string();
        assert!(error.contains("it is gone, but"), "{error}");
        // And the other way round.
        let crashed = dir.path().join("crashed-database");
        contract::crash(&state, &crashed);
        fs::remove_dir_all(crashed.join("db-1")).unwrap();
        let error = open(&crashed).unwrap_err().to_string();
        assert!(error.contains("db-1, which is gone"), "{error}");
    }

    #[test]
    fn a_lost_file_of_the_database_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let mut driver = Driver::new(open(&state).unwrap());
        driver.open_journal("a");
        driver.write();
        driver.store.flush().unwrap();
        for (nth, part) in ["CURRENT", "MANIFEST", ".sst"].into_iter().enumerate() {
            let crashed = dir.path().join(format!("crashed-{nth}"));
            contract::crash(&state, &crashed);
            let database = crashed.join("db-1");
            let names = fs::list_dir(&database).unwrap();
            let lost = names
                .iter()
                .find(|name| name.to_str().unwrap().contains(part));
            fs::remove_file(database.join(lost.unwrap())).unwrap();
            let error = open(&crashed).unwrap_err();
            assert!(
                matches!(error, StorageError::StateDamaged { .. }),
                "{error}"
            );
        }
    }

    #[test]
    fn a_creation_that_a_crash_ended_is_begun_again() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        fs::create_dir_all(&state.join("db-1")).unwrap();
        crashsafe::replace(&state.join("db-1/CURRENT"), b"torn").unwrap();
        assert_eq!(open(&state).unwrap().applied().unwrap(), None);
    }

    #[test]
    fn reading_an_images_mark_changes_nothing_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        let mut driver = Driver::new(open(&dir.path().join("state")).unwrap());
        driver.open_journal("a");
        driver.write();
        driver.store.snapshot(&image).unwrap();
        let before = fs::list_dir(&image).unwrap();
        assert!(driver.store.snapshot_applied(&image).unwrap().is_some());
        assert_eq!(fs::list_dir(&image).unwrap(), before);
    }
}
