//! Which append streams are open at this node: what tells a journal that is being written from one that is not.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::domain::{FencingToken, JournalId};

/// The open streams. Cheap to clone; bounded by the streams that admission takes.
#[derive(Debug, Clone, Default)]
pub(in crate::node) struct OpenWriters {
    open: Arc<Mutex<BTreeSet<(JournalId, FencingToken)>>>,
}

/// One open stream: it counts until this is dropped.
#[derive(Debug)]
pub(in crate::node) struct OpenWriter {
    writers: OpenWriters,
    /// Each token is given out once, so no two streams share it.
    stream: (JournalId, FencingToken),
}

impl OpenWriters {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<(JournalId, FencingToken)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a stream in.
    pub(in crate::node) fn enter(&self, journal: JournalId, token: FencingToken) -> OpenWriter {
        let stream = (journal, token);
        self.lock().insert(stream);
        OpenWriter {
            writers: self.clone(),
            stream,
        }
    }

    /// The tokens of the streams of a journal. An older one is fenced, and has not heard of it yet.
    pub(in crate::node) fn of(&self, journal: JournalId) -> Vec<FencingToken> {
        let from = (journal, FencingToken::default());
        let open = self.lock();
        let streams = open.range(from..).take_while(|(of, _)| *of == journal);
        streams.map(|(_, token)| *token).collect()
    }
}

impl Drop for OpenWriter {
    fn drop(&mut self) {
        self.writers.lock().remove(&self.stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Epoch, Writer};

    #[test]
    fn a_stream_counts_until_it_is_dropped_and_only_for_its_journal() {
        let token = |writer| FencingToken {
            epoch: Epoch(1),
            writer: Writer(writer),
        };
        let writers = OpenWriters::default();
        let first = writers.enter(JournalId(7), token(1));
        let second = writers.enter(JournalId(7), token(2));
        let _other = writers.enter(JournalId(8), token(9));
        assert_eq!(writers.of(JournalId(7)), [token(1), token(2)]);
        assert_eq!(writers.of(JournalId(6)), []);
        drop(first);
        assert_eq!(writers.of(JournalId(7)), [token(2)]);
        drop(second);
        assert_eq!(writers.of(JournalId(7)), []);
    }
}
