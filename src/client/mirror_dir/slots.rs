//! How many streams are open at a time, and whether someone waits for one.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// The right to have streams open. Who waits gets it in order.
#[derive(Debug)]
pub(super) struct Slots {
    permits: Arc<Semaphore>,
    waiting: watch::Sender<usize>,
}

/// Somebody who waits, counted as long as it does.
struct Waits<'a>(&'a watch::Sender<usize>);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0
            .send_modify(|waiting| *waiting = waiting.saturating_sub(1));
    }
}

impl Slots {
    pub(super) fn new(count: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(count)),
            waiting: watch::channel(0).0,
        }
    }

    /// Waits for a slot, which is given back when the answer is dropped; `None` never comes while the slots are there.
    pub(super) async fn take(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(slot) = self.permits.clone().try_acquire_owned() {
            return Some(slot);
        }
        self.waiting.send_modify(|waiting| *waiting += 1);
        let _waits = Waits(&self.waiting);
        self.permits.clone().acquire_owned().await.ok()
    }

    /// Whether someone waits for a slot.
    pub(super) fn are_wanted(&self) -> bool {
        *self.waiting.borrow() > 0
    }

    /// Waits until someone waits for a slot.
    pub(super) async fn wanted(&self) {
        let mut waiting = self.waiting.subscribe();
        // The sender is in `self`.
        let _ = waiting.wait_for(|waiting| *waiting > 0).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_is_seen_and_gets_the_slot_that_is_given_back() {
        let slots = Slots::new(1);
        let first = slots.take().await;
        assert!(first.is_some() && !slots.are_wanted());
        let second = slots.take();
        tokio::pin!(second);
        tokio::select! {
            biased;
            _ = &mut second => panic!("there is one slot only"),
            () = slots.wanted() => {}
        }
        assert!(slots.are_wanted());
        drop(first);
        assert!(second.await.is_some());
        assert!(!slots.are_wanted());
    }

    #[tokio::test]
    async fn who_waits_no_more_is_not_counted() {
        let slots = Slots::new(0);
        let wait = tokio::time::timeout(std::time::Duration::from_millis(1), slots.take());
        assert!(wait.await.is_err());
        assert!(!slots.are_wanted());
    }
}
