//! The bytes of the next write to a segment, which go to disk past the page cache where the file system lets them.
//!
//! Through the page cache every byte of the log is copied once more, and takes the place of something that is read; nobody reads
//! the log from disk but for a member that is behind. Past it only whole blocks can be written, from memory that begins at a block:
//! the last block is kept, and written again along with what comes behind it. That is what the page cache would do, too, and as
//! safe: the bytes that are there already are written over with themselves. Files that are not written past it are written in the
//! same way, so that there is one.

use std::io;

use crate::env::fs::{self, BLOCK_BYTES};

/// What is put behind the bytes of a file that are written already, and then written.
#[derive(Debug, Default)]
pub(super) struct BlockBuffer {
    room: Vec<u8>,
    /// Where the first block begins in `room`.
    start: usize,
    /// Bytes of the first block that are written already.
    kept: usize,
}

impl BlockBuffer {
    /// Begins at the beginning of another file.
    pub(super) fn restart(&mut self) {
        self.room.truncate(self.start);
        self.kept = 0;
    }

    /// Goes on behind the first `written` bytes of a file.
    pub(super) fn resume(&mut self, file: &fs::File, written: u32) -> io::Result<()> {
        self.restart();
        self.kept = written as usize % BLOCK_BYTES;
        self.room.resize(self.start + self.kept, 0);
        let begin = u64::from(written) - self.kept as u64;
        fs::read_exact_at(file, &mut self.room[self.start..], begin)
    }

    /// Bytes that are not written yet.
    pub(super) fn len(&self) -> usize {
        self.room.len() - self.start - self.kept
    }

    /// Drops what is not written, and the memory.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Where more is put: behind what is there.
    pub(super) fn end(&mut self) -> &mut Vec<u8> {
        &mut self.room
    }

    /// Writes what is there behind the first `written` bytes of the file, and zeros behind it: `ahead` bytes, and as many as make
    /// a block whole. Gives how long the file is at least. Durable after a sync; after an error the file is not to be written again.
    pub(super) fn write(&mut self, file: &fs::File, written: u32, ahead: usize) -> io::Result<u64> {
        debug_assert_eq!(written as usize % BLOCK_BYTES, self.kept);
        let used = self.room.len() - self.start;
        let bytes = (used + ahead).next_multiple_of(BLOCK_BYTES);
        self.room.resize(self.start + bytes, 0);
        self.align();
        let begin = u64::from(written) - self.kept as u64;
        fs::write_all_at(file, &self.room[self.start..], begin)?;
        self.kept = used % BLOCK_BYTES;
        let end = self.start + used;
        self.room.copy_within(end - self.kept..end, self.start);
        self.room.truncate(self.start + self.kept);
        Ok(begin + bytes as u64)
    }

    /// Moves the bytes to where a block begins in memory, if they came away from there because the room grew.
    fn align(&mut self) {
        if self.room[self.start..].as_ptr().align_offset(BLOCK_BYTES) == 0 {
            return;
        }
        let bytes = &self.room[self.start..];
        let mut room: Vec<u8> =
            Vec::with_capacity(bytes.len().next_power_of_two() + 2 * BLOCK_BYTES);
        let start = room.as_ptr().align_offset(BLOCK_BYTES);
        room.resize(start, 0);
        room.extend_from_slice(bytes);
        (self.room, self.start) = (room, start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is in a file that was written piece by piece, with a buffer that is made anew in between if `reopened`, and past the
    /// page cache, which refuses what does not begin at a block, if `direct`.
    fn written(pieces: &[Vec<u8>], reopened: bool, direct: bool) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("segment");
        let file = if direct && fs::takes_direct_io(dir.path()) {
            fs::open_or_create_direct(&path).unwrap()
        } else {
            fs::open_or_create(&path).unwrap()
        };
        let mut buffer = BlockBuffer::default();
        let mut end = 0;
        for piece in pieces {
            buffer.end().extend_from_slice(piece);
            assert_eq!(buffer.len(), piece.len());
            let file_bytes = buffer.write(&file, end, 0).unwrap();
            assert_eq!(buffer.len(), 0);
            end += u32::try_from(piece.len()).unwrap();
            assert_eq!(
                file_bytes,
                u64::from(end).next_multiple_of(BLOCK_BYTES as u64)
            );
            if reopened {
                buffer = BlockBuffer::default();
                buffer.resume(&fs::open(&path).unwrap(), end).unwrap();
            }
        }
        fs::read(&path).unwrap()
    }

    #[test]
    fn what_is_written_is_what_was_put_there_and_zeros_behind_it() {
        let lengths = [1, 4095, 1, 5000, 4096, 7, 70_000, 3, 0, 300_000, 12];
        let pieces: Vec<_> = lengths
            .iter()
            .enumerate()
            .map(|(nth, bytes)| vec![u8::try_from(nth + 1).unwrap(); *bytes])
            .collect();
        let whole = pieces.concat();
        for (reopened, direct) in [(false, false), (false, true), (true, false), (true, true)] {
            let found = written(&pieces, reopened, direct);
            assert_eq!(found.len(), whole.len().next_multiple_of(BLOCK_BYTES));
            assert!(found[..whole.len()] == whole);
            assert!(found[whole.len()..].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn what_is_written_begins_at_a_block_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let file = fs::open_or_create(&dir.path().join("segment")).unwrap();
        let mut buffer = BlockBuffer::default();
        let mut end = 0;
        for bytes in [10, 100_000, 3, 1_000_000] {
            buffer.end().extend_from_slice(&vec![1; bytes]);
            buffer.write(&file, end, 0).unwrap();
            end += u32::try_from(bytes).unwrap();
            let begins = buffer.room[buffer.start..].as_ptr();
            assert_eq!(begins.align_offset(BLOCK_BYTES), 0);
        }
    }

    #[test]
    fn zeros_go_ahead_of_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("segment");
        let file = fs::open_or_create(&path).unwrap();
        let mut buffer = BlockBuffer::default();
        buffer.end().extend_from_slice(b"abc");
        assert_eq!(buffer.write(&file, 0, 10_000).unwrap(), 12_288);
        buffer.end().extend_from_slice(b"def");
        assert_eq!(buffer.write(&file, 3, 0).unwrap(), 4096);
        let found = fs::read(&path).unwrap();
        assert_eq!(found.len(), 12_288);
        assert_eq!(&found[..7], b"abcdef\0");
    }
}
