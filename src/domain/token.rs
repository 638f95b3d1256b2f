//! The fencing token: which incarnation of a worker, and which of its append streams, may write.

use std::fmt;

/// A worker's incarnation, from 1; raised by each takeover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u64);

/// One opened append stream of a journal, from 1; raised by each open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Writer(pub u64);

/// What every append carries. Ordered: an older epoch, or an older writer of the same epoch, is fenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FencingToken {
    /// The worker's incarnation.
    pub epoch: Epoch,
    /// The append stream.
    pub writer: Writer,
}

impl FencingToken {
    /// The one comparison that fences: only the newest token given out may write. A token from the future cannot have been
    /// given out, so it is refused too.
    #[must_use]
    pub fn may_write(self, newest: Self) -> bool {
        self == newest
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {}, writer {}", self.epoch, self.writer)
    }
}
