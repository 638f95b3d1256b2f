//! When to try again: exponential backoff with jitter, so that many clients of a leader that just died do not return as one.

use std::time::Duration;

use crate::env::rng;

/// The pauses between attempts: each is random between half and all of a bound that doubles up to a maximum.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    next: Duration,
    first: Duration,
    longest: Duration,
}

impl Backoff {
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self {
            next: first,
            first,
            longest,
        }
    }

    /// Pauses of a call: a leader is elected within about a second, so waiting longer than that gains nothing.
    pub(super) fn of_calls() -> Self {
        Self::new(Duration::from_millis(25), Duration::from_secs(1))
    }

    /// Pauses of a stream that reconnects for ever.
    pub(super) fn of_streams() -> Self {
        Self::new(Duration::from_millis(25), Duration::from_secs(2))
    }

    /// How long to pause now; the next pause is longer.
    pub(super) fn pause(&mut self) -> Duration {
        let bound = self.next;
        self.next = (bound * 2).min(self.longest);
        let half = bound / 2;
        let micros = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_micros(rng::u64() % micros)
    }

    /// Begins anew, after a success.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_never_pass_it() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(80));
        let bounds = [10, 20, 40, 80, 80, 80].map(Duration::from_millis);
        for bound in bounds {
            let pause = backoff.pause();
            assert!(
                pause >= bound / 2 && pause <= bound,
                "{pause:?} of {bound:?}"
            );
        }
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_millis(10));
    }
}
