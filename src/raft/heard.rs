//! When this node last heard its leader: Raft remembers whom it follows for as long as nobody else is elected, which without a
//! quorum is for ever.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::env::time::Instant;

/// Election timeouts of silence after which a leader is not called one any more.
const ELECTION_TIMEOUTS: u32 = 2;

/// Shared between the group and its service. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    last: Arc<Mutex<Option<Instant>>>,
    silence_max: Duration,
}

impl Heard {
    pub(super) fn new(election_timeout: Duration) -> Self {
        Self {
            last: Arc::default(),
            silence_max: election_timeout * ELECTION_TIMEOUTS,
        }
    }

    /// The leader in force has spoken.
    pub(super) fn now(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// For how long it has not; `None` when it never has.
    pub(super) fn silent_for(&self) -> Option<Duration> {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.map(|last| last.elapsed())
    }

    /// Whether it has lately.
    pub(super) fn lately(&self) -> bool {
        let silent = self.silent_for();
        silent.is_some_and(|silent| silent <= self.silence_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_is_silent_for_two_election_timeouts_was_not_heard_lately() {
        let heard = Heard::new(Duration::from_secs(1));
        assert!(!heard.lately());
        heard.clone().now();
        crate::env::time::sleep(Duration::from_millis(1_999)).await;
        assert!(heard.lately());
        crate::env::time::sleep(Duration::from_millis(2)).await;
        assert!(!heard.lately());
    }
}
