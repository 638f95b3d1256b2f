//! When appends are acknowledged, over all writers, from the moment on in which a server was killed.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::env::time::{Duration, Instant};

/// What the writers tell.
#[derive(Debug)]
pub(super) struct Acks {
    state: Mutex<State>,
    all_went_on: Notify,
}

#[derive(Debug)]
struct State {
    killed: Option<Instant>,
    /// The newest acknowledgement since, of anybody; the kill itself before there is one.
    last: Option<Instant>,
    /// The longest time since without any, and when it ended.
    silence: (Duration, Option<Instant>),
    /// Of each writer the first acknowledgement of what it sent since.
    went_on: Vec<Option<Instant>>,
}

/// What was seen since the kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// From the kill to the end of the longest time without an acknowledgement.
    pub(super) next_ack: Option<Duration>,
    /// From the kill to the first acknowledgement of an append that was sent after it.
    pub(super) failover: Option<Duration>,
    /// The same, of the last writer.
    pub(super) all_writers: Option<Duration>,
}

impl Acks {
    pub(super) fn new(writers: usize) -> Self {
        let state = State {
            killed: None,
            last: None,
            silence: (Duration::ZERO, None),
            went_on: vec![None; writers],
        };
        Self {
            state: Mutex::new(state),
            all_went_on: Notify::new(),
        }
    }

    /// A server is killed now.
    pub(super) fn killed(&self) {
        let now = Instant::now();
        let mut state = self.state();
        state.killed = Some(now);
        state.last = Some(now);
    }

    /// Appends of a writer were acknowledged, of which the newest was sent at `sent`.
    pub(super) fn note(&self, writer: usize, sent: Instant, now: Instant) {
        let mut state = self.state();
        let (Some(killed), Some(last)) = (state.killed, state.last) else {
            return;
        };
        let silence = now.saturating_duration_since(last);
        if silence > state.silence.0 {
            state.silence = (silence, Some(now));
        }
        state.last = Some(now.max(last));
        if sent >= killed
            && let Some(first) = state.went_on.get_mut(writer)
        {
            first.get_or_insert(now);
        }
        if state.went_on.iter().all(Option::is_some) {
            self.all_went_on.notify_one();
        }
    }

    /// Waits until every writer had something acknowledged that it sent after the kill.
    pub(super) async fn all_went_on(&self) {
        self.all_went_on.notified().await;
    }

    pub(super) fn seen(&self) -> Seen {
        let state = self.state();
        let since = |at: Option<Instant>| Some(at?.saturating_duration_since(state.killed?));
        let went_on = || state.went_on.iter().copied();
        let all = went_on().collect::<Option<Vec<_>>>();
        Seen {
            next_ack: since(state.silence.1),
            failover: since(went_on().flatten().min()),
            all_writers: since(all.and_then(|all| all.into_iter().max())),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::time;

    #[tokio::test(start_paused = true)]
    async fn what_was_on_its_way_at_the_kill_does_not_end_the_silence() {
        let acks = Acks::new(2);
        let before = Instant::now();
        time::sleep(Duration::from_millis(5)).await;
        let at = |millis: u64| before + Duration::from_millis(5 + millis);
        acks.note(0, before, at(0));
        acks.killed();
        acks.note(0, before, at(2)); // was on its way
        acks.note(1, before, at(702)); // the new leader found it in its log
        acks.note(0, at(3), at(705));
        assert_eq!(acks.seen().all_writers, None);
        acks.note(1, at(703), at(710));
        acks.all_went_on().await;
        let millis = |millis| Some(Duration::from_millis(millis));
        let wanted = Seen {
            next_ack: millis(702),
            failover: millis(705),
            all_writers: millis(710),
        };
        assert_eq!(acks.seen(), wanted);
    }
}
