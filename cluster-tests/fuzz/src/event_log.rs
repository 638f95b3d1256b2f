//! `codec::evlog`.

use bytes::{Bytes, BytesMut};
use dos_cluster::codec::evlog::{Entry, EventError, EventReader, Tail, encode};

use crate::{input, memory};

/// All entries, how reading ended, and how the log did.
pub(crate) type Read = (Vec<Entry>, Option<EventError>, Tail, u64);

/// Reads slices to their end or to the first malformed entry.
pub(crate) fn read(
    slices: &[Bytes],
    mut take: impl FnMut(Entry),
) -> (Option<EventError>, EventReader) {
    let mut reader = EventReader::new(0);
    let mut failed = None;
    for slice in slices {
        reader.push(slice.clone());
        loop {
            match reader.next_entry() {
                Ok(Some(entry)) => take(entry),
                Ok(None) => break,
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
    }
    (failed, reader)
}

pub(crate) fn read_all(slices: &[Bytes]) -> Read {
    let mut entries = Vec::new();
    let (failed, reader) = read(slices, |entry| entries.push(entry));
    let offset = reader.offset();
    (entries, failed, reader.finish(), offset)
}

/// What must hold for any bytes.
///
/// # Panics
/// When it does not.
pub fn check(data: &[u8]) {
    let Some((whole, slices)) = input::cut(data) else {
        return;
    };
    let (entries, failed, tail, offset) = read_all(std::slice::from_ref(&whole));
    let cut = read_all(&slices);
    assert_eq!(entries, cut.0, "slices make a difference");
    assert_eq!((&failed, offset), (&cut.1, cut.3));
    if failed.is_none() {
        assert_eq!(tail, cut.2, "slices make a difference to the tail");
    }

    // Every byte before the end of the last entry belongs to one entry, which is written back the same.
    let mut written = BytesMut::new();
    for entry in &entries {
        assert_eq!(entry.offset, written.len() as u64);
        encode(&entry.event, &mut written).expect("it was read");
        let end = entry.offset + entry.event.encoded_bytes();
        assert_eq!(end, written.len() as u64, "encoded_bytes");
    }
    assert_eq!(written[..], whole[..written.len()], "written back");
    assert_eq!(offset, written.len() as u64);
    if let Some(error) = failed {
        assert_eq!(error.offset, offset);
    } else {
        let left = whole.len() as u64 - offset;
        match tail {
            Tail::Clean => assert_eq!(left, 0),
            Tail::Torn {
                offset: at,
                have,
                wanted,
            } => {
                assert_eq!((at, have), (offset, left));
                assert!(wanted > have, "a whole entry was left: {tail:?}");
            }
        }
    }
    memory::bounded_by(whole.len(), || {
        read(&slices, drop);
    });
}
