//! Which append streams are open at this node: what tells a writer that is somewhere from one that is lost.

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

    /// The open streams. One that was fenced, and has not heard of it yet, is among them.
    pub(in crate::node) fn all(&self) -> BTreeSet<(JournalId, FencingToken)> {
        self.lock().clone()
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
    fn a_stream_counts_until_it_is_dropped() {
        let token = |writer| FencingToken {
            epoch: Epoch(1),
            writer: Writer(writer),
        };
        let writers = OpenWriters::default();
        let first = writers.enter(JournalId(7), token(1));
        let second = writers.enter(JournalId(7), token(2));
        let open = || writers.all().into_iter().collect::<Vec<_>>();
        let at_seven = |writer| (JournalId(7), token(writer));
        assert_eq!(open(), [at_seven(1), at_seven(2)]);
        drop(first);
        assert_eq!(open(), [at_seven(2)]);
        drop(second);
        assert_eq!(open(), []);
    }
}
