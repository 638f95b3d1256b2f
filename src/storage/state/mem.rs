//! A state store in memory with explicit flush points: what a flush has not written, a crash loses.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard};

use bytes::{Buf, Bytes};

use super::batch::chunk_key;
use super::read::{ChunkCheck, Loader, RangeReader, applied_mark, shortened};
use super::{Chunk, GROUP, StateBatch, StateStore};
use crate::codec::key::{Key, KeyKind, MetaItem};
use crate::codec::value;
use crate::domain::{JournalId, Offset, OffsetRange, State};
use crate::env::fs;
use crate::storage::{StorageError, crashsafe};

/// The one file of the store, and of an image.
const IMAGE_NAME: &str = "mem.image";

/// Sealed values by encoded key, as RocksDB would hold them.
type Entries = BTreeMap<Vec<u8>, Bytes>;

/// The store. A flush replaces one file by everything there is, so it is for simulation and tests, not for much data.
#[derive(Debug)]
pub struct MemStore {
    image: PathBuf,
    live: RwLock<Entries>,
    /// Held while the file is replaced, so that an older image never lands on a newer one.
    image_writer: Mutex<()>,
}

impl MemStore {
    /// Opens the store in `dir`, as the last flush left it; makes the directory when it is not there.
    ///
    /// # Errors
    /// `StateDamaged` when the file is not what a flush wrote; `Io`.
    pub fn open(dir: &Path) -> Result<Self, StorageError> {
        fs::create_private_dir_all(dir).map_err(StorageError::io("create", dir))?;
        crashsafe::sync_parent(dir)?;
        let image = dir.join(IMAGE_NAME);
        let live = match crashsafe::read(&image)? {
            Some(raw) => decode(&image, raw.into())?,
            None => Entries::new(),
        };
        Ok(Self {
            image,
            live: RwLock::new(live),
            image_writer: Mutex::new(()),
        })
    }

    fn live(&self) -> RwLockReadGuard<'_, Entries> {
        self.live
            .read()
            .expect("a writer panicked: the entries are not to be trusted")
    }

    fn image_writer(&self) -> MutexGuard<'_, ()> {
        self.image_writer
            .lock()
            .expect("a writer of the image panicked")
    }
}

impl StateStore for MemStore {
    fn applied(&self) -> Result<Option<Bytes>, StorageError> {
        applied_in(&self.image, &self.live())
    }

    fn load(&self) -> Result<State, StorageError> {
        load(&self.image, &self.live())
    }

    fn write(&self, batch: StateBatch) -> Result<(), StorageError> {
        let mut live = self
            .live
            .write()
            .expect("a writer panicked: the entries are not to be trusted");
        let mut kept = Vec::new();
        for (journal, at) in batch.cuts() {
            let before = chunk_key(journal, Offset::ZERO)..chunk_key(journal, at);
            if let Some((key, raw)) = live.range(before).next_back() {
                kept.extend(shortened(&self.image, journal, at, (key, raw.clone()))?);
            }
        }
        // From here on nothing fails: the batch is written whole.
        for (journal, at) in batch.cuts() {
            let gone = chunk_key(journal, at)..=chunk_key(journal, Offset(u64::MAX));
            let gone: Vec<_> = live.range(gone).map(|(key, _)| key.clone()).collect();
            for key in gone {
                live.remove(&key);
            }
        }
        for (key, raw) in kept.into_iter().chain(batch.chunk_puts()) {
            live.insert(key, raw.into());
        }
        for (key, raw) in batch.records {
            match raw {
                Some(raw) => live.insert(key, raw.into()),
                None => live.remove(&key),
            };
        }
        Ok(())
    }

    fn read(
        &self,
        journal: JournalId,
        range: OffsetRange,
        bytes_max: usize,
    ) -> Result<Vec<Chunk>, StorageError> {
        let mut reader = RangeReader::new(&self.image, journal, range, bytes_max);
        let live = self.live();
        let zero = chunk_key(journal, Offset::ZERO);
        let first = live
            .range(zero..=chunk_key(journal, range.from))
            .next_back()
            .map_or_else(|| chunk_key(journal, range.from), |(key, _)| key.clone());
        let bounds = (
            Bound::Included(first),
            Bound::Excluded(chunk_key(journal, range.to)),
        );
        if range.from < range.to {
            for (key, raw) in live.range::<Vec<u8>, _>(bounds) {
                if !reader.wants_more() {
                    break;
                }
                reader.push(key, raw.clone())?;
            }
        }
        reader.finish()
    }

    fn flush(&self) -> Result<(), StorageError> {
        let _writer = self.image_writer();
        let raw = encode(&self.live());
        crashsafe::replace(&self.image, &raw)
    }

    fn snapshot(&self, dir: &Path) -> Result<(), StorageError> {
        let raw = encode(&self.live());
        if fs::exists(dir).map_err(StorageError::io("look at", dir))? {
            let there = std::io::ErrorKind::AlreadyExists.into();
            return Err(StorageError::io("create", dir)(there));
        }
        fs::create_private_dir_all(dir).map_err(StorageError::io("create", dir))?;
        crashsafe::replace(&dir.join(IMAGE_NAME), &raw)?;
        crashsafe::sync_parent(dir)
    }

    fn snapshot_applied(&self, dir: &Path) -> Result<Option<Bytes>, StorageError> {
        let (_, entries) = read_image(dir)?;
        applied_in(&dir.join(IMAGE_NAME), &entries)
    }

    fn verify(&self, dir: &Path) -> Result<Option<Bytes>, StorageError> {
        let (_, entries) = read_image(dir)?;
        let image = dir.join(IMAGE_NAME);
        let state = load(&image, &entries)?;
        let mut check = ChunkCheck::new(&image, &state);
        let chunks = Key::prefix(KeyKind::Chunk, GROUP);
        for (key, raw) in &entries {
            if key.starts_with(&chunks) {
                check.push(key, raw.clone())?;
            }
        }
        check.finish()?;
        applied_in(&image, &entries)
    }

    fn install(&self, dir: &Path) -> Result<State, StorageError> {
        let (raw, entries) = read_image(dir)?;
        let state = load(&dir.join(IMAGE_NAME), &entries)?;
        {
            let _writer = self.image_writer();
            crashsafe::replace(&self.image, &raw)?;
            *self
                .live
                .write()
                .expect("a writer panicked: the entries are not to be trusted") = entries;
        }
        fs::remove_dir_all(dir).map_err(StorageError::io("remove", dir))?;
        Ok(state)
    }

    fn bytes(&self) -> u64 {
        let live = self.live();
        let bytes = live.iter().map(|(key, raw)| key.len() + raw.len());
        bytes.map(|bytes| bytes as u64).sum()
    }
}

/// The records among all entries.
fn load(path: &Path, entries: &Entries) -> Result<State, StorageError> {
    let mut loader = Loader::default();
    let chunks = Key::prefix(KeyKind::Chunk, GROUP);
    for (key, raw) in entries {
        if !key.starts_with(&chunks) {
            loader.push(path, key, raw.clone())?;
        }
    }
    loader.finish(path)
}

fn applied_in(path: &Path, entries: &Entries) -> Result<Option<Bytes>, StorageError> {
    let raw = entries.get(&Key::Meta(MetaItem::Applied).encode(GROUP));
    raw.map(|raw| applied_mark(path, raw.clone())).transpose()
}

fn read_image(dir: &Path) -> Result<(Bytes, Entries), StorageError> {
    let path = dir.join(IMAGE_NAME);
    let raw = Bytes::from(fs::read(&path).map_err(StorageError::io("read", &path))?);
    let entries = decode(&path, raw.clone())?;
    Ok((raw, entries))
}

/// One frame around all entries: key length u32, value length u32 (little-endian), key, value.
fn encode(entries: &Entries) -> Vec<u8> {
    let length = |part: &[u8]| {
        u32::try_from(part.len())
            .expect("keys are short and chunks bounded")
            .to_le_bytes()
    };
    let mut body = Vec::new();
    for (key, raw) in entries {
        body.extend_from_slice(&length(key));
        body.extend_from_slice(&length(raw));
        body.extend_from_slice(key);
        body.extend_from_slice(raw);
    }
    value::seal(&body)
}

fn decode(path: &Path, raw: Bytes) -> Result<Entries, StorageError> {
    let damaged = |what: String| StorageError::StateDamaged {
        path: path.to_owned(),
        what,
    };
    let mut body = value::open("image", raw).map_err(|error| damaged(error.to_string()))?;
    let mut entries = Entries::new();
    while !body.is_empty() {
        let entry = take_entry(&mut body);
        let (key, raw) = entry.ok_or_else(|| damaged("an entry is cut off".to_owned()))?;
        entries.insert(key.to_vec(), raw);
    }
    Ok(entries)
}

fn take_entry(body: &mut Bytes) -> Option<(Bytes, Bytes)> {
    let key_len = usize::try_from(body.try_get_u32_le().ok()?).ok()?;
    let raw_len = usize::try_from(body.try_get_u32_le().ok()?).ok()?;
    if body.len() < key_len.checked_add(raw_len)? {
        return None;
    }
    Some((body.split_to(key_len), body.split_to(raw_len)))
}

#[cfg(test)]
mod tests {
    use super::super::contract;
    use super::*;

    #[test]
    fn the_memory_store_keeps_the_contract() {
        contract::run_all(|dir| Ok(Box::new(MemStore::open(dir)?)));
    }

    #[test]
    fn a_cut_off_image_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join(IMAGE_NAME);
        let body = [&8u32.to_le_bytes()[..], &u32::MAX.to_le_bytes(), b"key"].concat();
        crashsafe::replace(&image, &value::seal(&body)).unwrap();
        let error = MemStore::open(dir.path()).unwrap_err();
        assert!(
            matches!(error, StorageError::StateDamaged { .. }),
            "{error}"
        );
    }
}
