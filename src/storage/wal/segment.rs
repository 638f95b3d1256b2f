//! The files of a log directory: their names and the block each segment begins with.
//!
//! ```text
//! log/
//!   0000000000000004.log   segments, oldest first; the last one is written to
//!   0000000000000005.log
//!   spare-0000000000000003 purged segments, waiting to be the next one: overwriting is cheaper than growing a file
//!   MARKER                 how far the log was synced (see the module `marker`)
//! ```
//!
//! A segment begins with a block of 4 KiB that holds the same header twice, so that one bad sector does not make its
//! records unreadable; records follow.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use super::record::Generation;
use crate::env::fs;
use crate::storage::StorageError;

/// Where the first record of a segment is.
pub(super) const FIRST_RECORD: u32 = 4096;

const MAGIC: [u8; 8] = *b"DOSWAL\r\n";
const FORMAT_VERSION: u32 = 1;
/// Each copy of the header fills half of the block; what it does not need is zero and checksummed too.
const COPY_BYTES: usize = 2048;
const LOG_EXTENSION: &str = "log";
const SPARE_PREFIX: &str = "spare-";

/// One segment that holds records.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) generation: Generation,
    pub(super) path: PathBuf,
    /// Length of the file, in bytes.
    pub(super) file_bytes: AtomicU64,
}

/// The block that a segment begins with.
pub(super) fn encode_header(generation: Generation) -> Vec<u8> {
    let mut copy = vec![0; COPY_BYTES];
    copy[..8].copy_from_slice(&MAGIC);
    copy[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    copy[16..24].copy_from_slice(&generation.sequence.to_le_bytes());
    copy[24..32].copy_from_slice(&generation.secret.to_le_bytes());
    let crc = crc32c::crc32c(&copy);
    copy[12..16].copy_from_slice(&crc.to_le_bytes());
    copy.repeat(2)
}

/// Reads the generation from a segment's bytes: `None` if neither copy of the header is whole and of this sequence.
pub(super) fn decode_header(
    path: &Path,
    bytes: &[u8],
    sequence: u64,
) -> Result<Option<Generation>, StorageError> {
    for start in [0, COPY_BYTES] {
        let Some(copy) = bytes.get(start..start + COPY_BYTES) else {
            continue;
        };
        let Some((&[m0, m1, m2, m3, m4, m5, m6, m7, v0, v1, v2, v3], rest)) =
            copy.split_first_chunk()
        else {
            continue;
        };
        let Some((crc, rest)) = rest.split_first_chunk() else {
            continue;
        };
        let mut expected = crc32c::crc32c(&copy[..12]);
        expected = crc32c::crc32c_append(expected, &[0; 4]);
        expected = crc32c::crc32c_append(expected, rest);
        if [m0, m1, m2, m3, m4, m5, m6, m7] != MAGIC || expected != u32::from_le_bytes(*crc) {
            continue;
        }
        let found = u32::from_le_bytes([v0, v1, v2, v3]);
        if found > FORMAT_VERSION {
            return Err(StorageError::ForeignFormat {
                path: path.to_owned(),
                found,
                supported: FORMAT_VERSION,
            });
        }
        let Some((own, rest)) = rest.split_first_chunk() else {
            continue;
        };
        let Some(secret) = rest.first_chunk() else {
            continue;
        };
        if u64::from_le_bytes(*own) == sequence {
            return Ok(Some(Generation {
                sequence,
                secret: u64::from_le_bytes(*secret),
            }));
        }
    }
    Ok(None)
}

/// The file name of a segment.
pub(super) fn segment_path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:016x}.{LOG_EXTENSION}"))
}

/// The file name of a segment that waits to be used again.
pub(super) fn spare_path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{SPARE_PREFIX}{sequence:016x}"))
}

/// What is in a log directory.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Sequences of the segments, ascending.
    pub(super) segments: Vec<u64>,
    pub(super) spares: Vec<PathBuf>,
    pub(super) has_marker: bool,
}

/// Lists a log directory; empty if it is not there. Other files are left alone.
pub(super) fn list(dir: &Path) -> Result<Listing, StorageError> {
    let mut listing = Listing::default();
    if !fs::exists(dir).map_err(StorageError::io("look at", dir))? {
        return Ok(listing);
    }
    for name in fs::list_dir(dir).map_err(StorageError::io("list", dir))? {
        if let Some(sequence) = segment_sequence(&name) {
            listing.segments.push(sequence);
        } else if name == super::marker::FILE_NAME {
            listing.has_marker = true;
        } else if name
            .to_str()
            .is_some_and(|name| name.starts_with(SPARE_PREFIX))
        {
            listing.spares.push(dir.join(name));
        }
    }
    listing.segments.sort_unstable();
    Ok(listing)
}

fn segment_sequence(name: &OsStr) -> Option<u64> {
    let (stem, extension) = name.to_str()?.split_once('.')?;
    let valid = extension == LOG_EXTENSION && stem.len() == 16;
    valid.then(|| u64::from_str_radix(stem, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GENERATION: Generation = Generation {
        sequence: 5,
        secret: 77,
    };

    #[test]
    fn one_copy_of_the_header_is_enough() {
        let path = Path::new("segment");
        let good = encode_header(GENERATION);
        assert_eq!(good.len(), usize::try_from(FIRST_RECORD).unwrap());
        for position in 0..good.len() {
            let mut bad = good.clone();
            bad[position] ^= 0x10;
            assert_eq!(
                decode_header(path, &bad, 5).unwrap(),
                Some(GENERATION),
                "byte {position}"
            );
            bad[(position + COPY_BYTES) % good.len()] ^= 0x10;
            assert_eq!(
                decode_header(path, &bad, 5).unwrap(),
                None,
                "byte {position} of both"
            );
        }
        assert_eq!(
            decode_header(path, &good, 6).unwrap(),
            None,
            "the header of another sequence"
        );
        assert_eq!(decode_header(path, &good[..100], 5).unwrap(), None);
    }

    #[test]
    fn a_newer_format_is_refused() {
        let mut bytes = encode_header(GENERATION);
        bytes[8] = 2;
        bytes[12..16].fill(0);
        let crc = crc32c::crc32c(&bytes[..COPY_BYTES]).to_le_bytes();
        bytes[12..16].copy_from_slice(&crc);
        let error = decode_header(Path::new("segment"), &bytes, 5).unwrap_err();
        assert!(
            matches!(
                error,
                StorageError::ForeignFormat {
                    found: 2,
                    supported: 1,
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for sequence in [0, 1, 0xfeed, u64::MAX] {
            let path = segment_path(Path::new("log"), sequence);
            assert_eq!(segment_sequence(path.file_name().unwrap()), Some(sequence));
        }
        for name in [
            "MARKER",
            "1.log",
            "spare-0000000000000001",
            "0000000000000001.log.tmp",
        ] {
            assert_eq!(segment_sequence(OsStr::new(name)), None, "{name}");
        }
    }
}
