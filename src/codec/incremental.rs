//! What the incremental readers of this folder share: bytes arrive in slices of any size, whole records leave.
//!
//! Memory is bounded by what was received: a record that lies inside one slice is handed out without a copy, and only
//! a record cut by a slice's end is collected. No buffer is ever sized by a length that was read.

#![deny(clippy::indexing_slicing)]

use bytes::{Bytes, BytesMut};

/// How a stream of records ended. All numbers are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// Behind a whole record, or before the first one.
    Clean,
    /// Inside a record: the journal may be cut at `offset`, and everything before it stands.
    Torn {
        /// Where the unfinished record begins.
        offset: u64,
        /// How much of it there is, its header included.
        have: u64,
        /// How much is needed, as far as the part that is there can tell: the header, or the whole record.
        wanted: u64,
    },
}

/// Bytes received and not yet handed out, in order: first `carry`, then `chunk`.
#[derive(Debug)]
pub(super) struct Slices {
    /// The start of what an earlier slice left unfinished.
    carry: BytesMut,
    /// The newest slice, as it came.
    chunk: Bytes,
    /// Where the first byte that is not yet handed out lies in the journal.
    offset: u64,
}

impl Slices {
    pub(super) fn new(offset: u64) -> Self {
        Self {
            carry: BytesMut::new(),
            chunk: Bytes::new(),
            offset,
        }
    }

    pub(super) fn push(&mut self, chunk: Bytes) {
        if !self.chunk.is_empty() {
            self.carry.extend_from_slice(&self.chunk);
        }
        self.chunk = chunk;
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn available(&self) -> usize {
        self.carry.len() + self.chunk.len()
    }

    /// The next `N` bytes, left where they are; `None` while they are not all here.
    pub(super) fn peek<const N: usize>(&self) -> Option<[u8; N]> {
        if self.available() < N {
            return None;
        }
        let mut found = [0; N];
        for (to, from) in found
            .iter_mut()
            .zip(self.carry.iter().chain(self.chunk.iter()))
        {
            *to = *from;
        }
        Some(found)
    }

    /// Hands out the next `wanted` bytes; `None`, and nothing is changed, while they are not all here.
    pub(super) fn take(&mut self, wanted: usize) -> Option<Bytes> {
        if self.available() < wanted {
            return None;
        }
        let taken = if self.carry.is_empty() {
            self.chunk.split_to(wanted)
        } else if self.carry.len() >= wanted {
            self.carry.split_to(wanted).freeze()
        } else {
            let missing = wanted - self.carry.len();
            self.carry.extend_from_slice(&self.chunk.split_to(missing));
            self.carry.split().freeze()
        };
        // 2^64 bytes cannot have been pushed; only an absurd starting offset gets here, and it must not panic.
        self.offset = self.offset.saturating_add(wanted as u64);
        Some(taken)
    }

    /// The tail when the stream ends here and the record at hand needs `wanted` bytes.
    pub(super) fn tail(&self, wanted: u64) -> Tail {
        match self.available() {
            0 => Tail::Clean,
            have => Tail::Torn {
                offset: self.offset,
                have: have as u64,
                wanted,
            },
        }
    }

    /// Bytes of memory that an unfinished record holds.
    #[cfg(test)]
    pub(super) fn carried(&self) -> usize {
        self.carry.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_inside_one_slice_is_not_copied() {
        let slice = Bytes::from(vec![7; 100]);
        let mut slices = Slices::new(0);
        slices.push(slice.clone());
        let taken = slices.take(60).expect("they are all here");
        assert_eq!(taken.as_ptr(), slice.as_ptr());
        assert_eq!(slices.offset(), 60);
    }

    #[test]
    fn bytes_come_out_in_the_order_they_went_in_even_when_pushed_ahead() {
        let mut slices = Slices::new(5);
        for part in [&b"ab"[..], b"", b"cde", b"f"] {
            slices.push(Bytes::from_static(part));
        }
        assert_eq!(slices.peek::<4>(), Some(*b"abcd"));
        assert_eq!(slices.take(7), None);
        assert_eq!(slices.take(1).as_deref(), Some(&b"a"[..]));
        assert_eq!(slices.take(5).as_deref(), Some(&b"bcdef"[..]));
        assert_eq!(slices.offset(), 11);
        assert_eq!(slices.tail(4), Tail::Clean);
    }
}
