//! Byte positions in a journal, with checked arithmetic only.

use std::fmt;

/// A byte position in a journal, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(pub u64);

impl Offset {
    /// The first byte.
    pub const ZERO: Self = Self(0);

    /// The position `bytes` later; `None` past the largest position.
    #[must_use]
    pub fn advance(self, bytes: usize) -> Option<Self> {
        self.0.checked_add(u64::try_from(bytes).ok()?).map(Self)
    }

    /// Bytes from `earlier` to here; 0 when `earlier` is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A half-open range of positions: `from` is in it, `to` is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct OffsetRange {
    /// The first position.
    pub from: Offset,
    /// One past the last.
    pub to: Offset,
}

impl OffsetRange {
    /// Number of bytes in the range; 0 when it is empty or turned around.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.to.since(self.from)
    }
}

impl fmt::Display for OffsetRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.from, self.to)
    }
}
