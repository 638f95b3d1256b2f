//! How much memory the append streams of a gateway may hold together.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The window of one stream, in bytes: what a worker may have sent that is not durable yet. It goes on sending through a change of
/// the leader; a worker that has to wait reconnects.
const WINDOW_BYTES_MAX: usize = 8 << 20;
/// The window of a stream when there are too many.
const WINDOW_BYTES_MIN: usize = 64 << 10;
/// A stream gets at most this share of what is left, so that there is something left for the next one.
const SHARE: usize = 16;

/// The memory of all windows, of which each stream takes its part when it begins.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    left: Arc<AtomicUsize>,
}

/// A stream's window: given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Budget,
    bytes: usize,
    /// What was taken of the budget: nothing, when it was used up.
    taken: usize,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            left: Arc::new(AtomicUsize::new(bytes)),
        }
    }

    /// The window of one more stream: never below 64 KiB, so all of them together hold at most the budget and 64 KiB for each
    /// stream.
    pub(super) fn share(&self) -> Share {
        let window = |left: usize| (left / SHARE).clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX);
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(window(left))
            });
        let (bytes, taken) = match taken {
            Ok(left) => (window(left), window(left)),
            Err(_) => (WINDOW_BYTES_MIN, 0),
        };
        Share {
            budget: self.clone(),
            bytes,
            taken,
        }
    }
}

impl Share {
    /// The window in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_shrink_as_memory_is_used_up_and_all_of_it_comes_back() {
        let budget = Budget::new(256 << 20);
        let shares: Vec<_> = (0..5000).map(|_| budget.share()).collect();
        assert_eq!(shares[0].bytes(), WINDOW_BYTES_MAX);
        assert!(
            shares
                .windows(2)
                .all(|two| two[0].bytes() >= two[1].bytes())
        );
        assert_eq!(shares[4999].bytes(), WINDOW_BYTES_MIN);
        let taken: usize = shares.iter().map(|share| share.taken).sum();
        assert!(taken <= 256 << 20);
        drop(shares);
        assert_eq!(budget.left.load(Ordering::Relaxed), 256 << 20);
    }
}
