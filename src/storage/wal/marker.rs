//! `MARKER`: how far the log was synced, kept apart from it, so that a log which lost its end is known to have lost it.
//!
//! Two slots of 512 bytes in one file that is written out once; they are written in turn, so that a torn write leaves
//! the other one. Written lazily (idle, every some MiB, before a new segment, at close): what was synced since then is
//! vouched for only by later records.

use std::path::{Path, PathBuf};

use super::LogId;
use super::record::{Payload, put_optional};
use crate::env::fs;
use crate::storage::{StorageError, crashsafe};

pub(super) const FILE_NAME: &str = "MARKER";

const MAGIC: [u8; 8] = *b"DOSMARK\n";
const FORMAT_VERSION: u32 = 1;
const SLOT_BYTES: usize = 512;
/// Magic, format version, checksum.
const SLOT_HEAD_BYTES: usize = 16;

/// A place in the log up to which it was synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Marker {
    /// The segment; 0 if nothing was synced yet.
    pub(super) sequence: u64,
    /// In the segment, in bytes.
    pub(super) offset: u32,
    /// Checksum over the checksums of the segment's records up to here.
    pub(super) chain: u32,
    /// The last entry at this place.
    pub(super) last: Option<LogId>,
}

/// The open file.
#[derive(Debug)]
pub(super) struct MarkerFile {
    path: PathBuf,
    file: fs::File,
    /// Of the newest slot. Odd ones are in the first slot.
    counter: u64,
}

impl MarkerFile {
    /// Makes the file, with a marker that says nothing was synced. Durable on return.
    pub(super) fn create(dir: &Path) -> Result<Self, StorageError> {
        let path = dir.join(FILE_NAME);
        let mut bytes = encode(1, Marker::default());
        bytes.resize(2 * SLOT_BYTES, 0);
        crashsafe::replace(&path, &bytes)?;
        let file = fs::open_or_create(&path).map_err(StorageError::io("open", &path))?;
        Ok(Self {
            path,
            file,
            counter: 1,
        })
    }

    /// Opens the file and reads the newest marker.
    pub(super) fn open(dir: &Path) -> Result<(Self, Marker), StorageError> {
        let path = dir.join(FILE_NAME);
        let bytes = fs::read(&path).map_err(StorageError::io("read", &path))?;
        let slots = bytes.chunks(SLOT_BYTES).take(2);
        let mut newest = None;
        for slot in slots {
            match decode(slot) {
                Some((found, _, _)) if found > FORMAT_VERSION => {
                    return Err(StorageError::ForeignFormat {
                        path,
                        found,
                        supported: FORMAT_VERSION,
                    });
                }
                Some((_, counter, marker)) if newest.is_none_or(|(newest, _)| counter > newest) => {
                    newest = Some((counter, marker));
                }
                _ => {}
            }
        }
        let Some((counter, marker)) = newest else {
            return Err(StorageError::damaged(
                &path,
                0,
                "neither of its two slots is whole",
            ));
        };
        let file = fs::open_or_create(&path).map_err(StorageError::io("open", &path))?;
        Ok((
            Self {
                path,
                file,
                counter,
            },
            marker,
        ))
    }

    /// Writes a marker over the older slot. Durable on return.
    pub(super) fn write(&mut self, marker: Marker) -> Result<(), StorageError> {
        let counter = self.counter + 1;
        let slot = if counter % 2 == 1 {
            0
        } else {
            SLOT_BYTES as u64
        };
        fs::write_all_at(&self.file, &encode(counter, marker), slot)
            .map_err(StorageError::io("write", &self.path))?;
        self.file
            .sync_data()
            .map_err(StorageError::io("sync", &self.path))?;
        self.counter = counter;
        Ok(())
    }
}

fn encode(counter: u64, marker: Marker) -> Vec<u8> {
    let mut slot = Vec::with_capacity(2 * SLOT_BYTES);
    slot.extend_from_slice(&MAGIC);
    slot.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    slot.extend_from_slice(&[0; 4]);
    slot.extend_from_slice(&counter.to_le_bytes());
    slot.extend_from_slice(&marker.sequence.to_le_bytes());
    slot.extend_from_slice(&marker.offset.to_le_bytes());
    slot.extend_from_slice(&marker.chain.to_le_bytes());
    put_optional(marker.last, &mut slot);
    slot.resize(SLOT_BYTES, 0);
    let crc = crc32c::crc32c(&slot).to_le_bytes();
    slot[12..SLOT_HEAD_BYTES].copy_from_slice(&crc);
    slot
}

/// Format version, counter and marker; of a newer version the last two are meaningless.
fn decode(slot: &[u8]) -> Option<(u32, u64, Marker)> {
    if slot.len() != SLOT_BYTES {
        return None;
    }
    let mut payload = Payload(slot);
    let magic: [u8; 8] = payload.take()?;
    let version = u32::from_le_bytes(payload.take()?);
    let crc = u32::from_le_bytes(payload.take()?);
    let mut expected = crc32c::crc32c(&slot[..12]);
    expected = crc32c::crc32c_append(expected, &[0; 4]);
    expected = crc32c::crc32c_append(expected, &slot[SLOT_HEAD_BYTES..]);
    if magic != MAGIC || crc != expected {
        return None;
    }
    if version > FORMAT_VERSION {
        return Some((version, 0, Marker::default()));
    }
    let counter = payload.number()?;
    let marker = Marker {
        sequence: payload.number()?,
        offset: u32::from_le_bytes(payload.take()?),
        chain: u32::from_le_bytes(payload.take()?),
        last: payload.optional()?,
    };
    Some((version, counter, marker))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn marker(offset: u32) -> Marker {
        Marker {
            sequence: 3,
            offset,
            chain: 9,
            last: Some(LogId {
                term: 1,
                node_id: 2,
                index: u64::from(offset),
            }),
        }
    }

    #[test]
    fn the_newest_marker_is_read_and_a_torn_one_gives_way_to_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = MarkerFile::create(dir.path()).unwrap();
        assert_eq!(MarkerFile::open(dir.path()).unwrap().1, Marker::default());
        for offset in 1..6 {
            file.write(marker(offset)).unwrap();
            let (again, newest) = MarkerFile::open(dir.path()).unwrap();
            assert_eq!((newest, again.counter), (marker(offset), file.counter));
        }
        let path = dir.path().join(FILE_NAME);
        let good = fs::read(&path).unwrap();
        let newest_slot = if file.counter % 2 == 1 { 0 } else { SLOT_BYTES };
        for position in 0..SLOT_BYTES {
            let mut bad = good.clone();
            bad[newest_slot + position] ^= 1;
            crashsafe::replace(&path, &bad).unwrap();
            assert_eq!(
                MarkerFile::open(dir.path()).unwrap().1,
                marker(4),
                "byte {position}"
            );
        }
    }

    #[test]
    fn a_marker_is_read_as_it_was_written() {
        let last = proptest::option::of((any::<u64>(), any::<u64>(), any::<u64>()));
        let numbers = (any::<u64>(), any::<u64>(), any::<u32>(), any::<u32>());
        proptest!(|((counter, sequence, offset, chain) in numbers, last in last)| {
            let marker = Marker {
                sequence,
                offset,
                chain,
                last: last.map(|(term, node_id, index)| LogId { term, node_id, index }),
            };
            let mut slot = encode(counter, marker);
            slot.truncate(SLOT_BYTES);
            prop_assert_eq!(decode(&slot), Some((FORMAT_VERSION, counter, marker)));
        });
    }

    #[test]
    fn a_file_without_a_whole_slot_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        for content in [&[][..], &[0; 1024], b"short"] {
            crashsafe::replace(&dir.path().join(FILE_NAME), content).unwrap();
            assert!(matches!(
                MarkerFile::open(dir.path()),
                Err(StorageError::Damaged { .. })
            ));
        }
    }
}
