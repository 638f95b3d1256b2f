//! How much memory the append streams of a gateway may hold together.
//!
//! Every stream has the same window, and pays of the common memory only for what it holds. So a thousand idle streams cost nothing,
//! and each may still take megabytes when its turn comes. A first part is free, so that a stream always goes on, however
//! much the others hold.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The window of one stream, in bytes: what a worker may have sent that is not durable yet. It goes on sending through a change of
/// the leader; a worker that has to wait reconnects.
pub(super) const WINDOW_BYTES: usize = 8 << 20;
/// What a stream may hold without paying.
const FREE_BYTES: usize = 64 << 10;

/// The memory of all windows. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    left: Arc<AtomicUsize>,
}

/// What one stream has taken of it: given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Budget,
    taken: usize,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            left: Arc::new(AtomicUsize::new(bytes)),
        }
    }

    /// The part of one more stream, which holds nothing yet.
    pub(super) fn share(&self) -> Share {
        Share {
            budget: self.clone(),
            taken: 0,
        }
    }
}

impl Share {
    /// Pays for `bytes` held in all, no more and no less; false when there is not enough left, and then what was paid before stays,
    /// unless that was more. Always true for what is free.
    pub(super) fn cover(&mut self, bytes: usize) -> bool {
        let wanted = bytes.saturating_sub(FREE_BYTES);
        let left = &self.budget.left;
        if wanted <= self.taken {
            left.fetch_add(self.taken - wanted, Ordering::Relaxed);
            self.taken = wanted;
            return true;
        }
        let more = wanted - self.taken;
        let paid = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            left.checked_sub(more)
        });
        if paid.is_ok() {
            self.taken = wanted;
        }
        paid.is_ok()
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
    fn idle_streams_cost_nothing_and_any_stream_may_fill_its_window_while_there_is_memory() {
        let budget = Budget::new(16 << 20);
        let mut idle: Vec<_> = (0..5000).map(|_| budget.share()).collect();
        assert!(idle.iter_mut().all(|share| share.cover(FREE_BYTES)));
        let mut busy = [budget.share(), budget.share(), budget.share()];
        assert!(busy[0].cover(WINDOW_BYTES) && busy[1].cover(WINDOW_BYTES));
        assert!(!busy[2].cover(WINDOW_BYTES), "two windows are used up");
        assert!(busy[2].cover(FREE_BYTES), "it goes on nonetheless");
        assert!(busy[0].cover(0), "its bytes are durable");
        assert!(busy[2].cover(WINDOW_BYTES), "so there is room again");
        drop((idle, busy));
        assert_eq!(budget.left.load(Ordering::Relaxed), 16 << 20);
    }
}
