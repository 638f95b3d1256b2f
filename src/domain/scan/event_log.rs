//! The event log: `codec::evlog` describes its entries. Payloads are passed over, not kept.

use super::{Found, LENGTH_MAX, fill, number};
use crate::domain::Offset;

const DATA: u8 = 0;
const CHECKPOINT_ID: u8 = 1;
const RESTART: u8 = 2;
const RESTART_TEXT: &[u8] = b"Reset!!!";
/// Of a data entry, before its payload.
const DATA_HEADER_BYTES: usize = 22;
/// Of the other two.
const SHORT_ENTRY_BYTES: usize = 9;

/// Where the scan of an event log stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventLogScan {
    /// Where the entry at hand begins.
    pub entry: Offset,
    /// What is here of its header; at most 22 bytes.
    pub head: Vec<u8>,
    /// Bytes of its payload that are still to come, once the header is whole.
    pub skip: u64,
    /// The entry at hand is none.
    pub lost: bool,
}

impl EventLogScan {
    /// A scan from `at` on, where an entry begins.
    #[must_use]
    pub fn at(at: Offset) -> Self {
        Self {
            entry: at,
            ..Self::default()
        }
    }

    pub(super) fn push(&mut self, mut bytes: &[u8], found: &mut Vec<Found>) {
        while !bytes.is_empty() && !self.lost {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len() as u64);
                bytes = bytes
                    .get(usize::try_from(skipped).unwrap_or(usize::MAX)..)
                    .unwrap_or_default();
                self.skip -= skipped;
                if self.skip == 0 {
                    self.end();
                }
                continue;
            }
            fill(&mut self.head, 1, &mut bytes);
            let kind = self.head.first().copied();
            let wanted = match kind {
                Some(DATA) => DATA_HEADER_BYTES,
                Some(CHECKPOINT_ID | RESTART) => SHORT_ENTRY_BYTES,
                _ => return self.lost = true,
            };
            let whole = fill(&mut self.head, wanted, &mut bytes);
            if kind == Some(DATA) && self.head.get(1).is_some_and(|last| *last > 1) {
                return self.lost = true;
            }
            if !whole {
                return;
            }
            match kind {
                Some(DATA) => {
                    self.skip = number::<4>(&self.head, DATA_HEADER_BYTES - 4);
                    if self.skip > u64::from(LENGTH_MAX) {
                        self.skip = 0;
                        return self.lost = true;
                    }
                    if self.skip == 0 {
                        self.end();
                    }
                }
                Some(CHECKPOINT_ID) => {
                    let id = number::<8>(&self.head, 1);
                    self.end();
                    found.push(Found::Written {
                        id,
                        end: self.entry,
                    });
                }
                _ if self.head.get(1..) != Some(RESTART_TEXT) => return self.lost = true,
                _ => self.end(),
            }
        }
    }

    /// The entry at hand is whole: the next one begins behind it.
    fn end(&mut self) {
        let payload = match self.head.first() {
            Some(&DATA) => number::<4>(&self.head, DATA_HEADER_BYTES - 4),
            _ => 0,
        };
        let bytes = self.head.len() as u64 + payload;
        self.entry = Offset(self.entry.0.saturating_add(bytes));
        self.head.clear();
    }
}
