//! Which append streams are open at the other members, as they said last: what holds a lock while a member does not answer.
//!
//! A member that answers is believed. One that does not may be hung, and its clients wait for it or are on their way to another
//! member, so what it said last goes on to count:
//!
//! ```text
//! silent          for SILENT_MAX after its last answer: a host that vanished holds no lock beyond that
//! process gone    for REOPENS after it was found gone: its streams have ended, but clients that live open them again elsewhere
//! ```
//!
//! A stream that was opened again has a newer token, so nothing here has to be taken back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    domain::{FencingToken, JournalId, NodeId},
    env::time::Instant,
};

/// How long the streams of a silent member count, from its last answer on: below the ten seconds in which a vanished host's
/// locks must be free, for whoever waits for one asks once a second.
const SILENT_MAX: Duration = Duration::from_secs(8);
/// How long a client whose stream was ended by its node may take to open it again: an election, and a pause.
pub(in crate::node) const REOPENS: Duration = Duration::from_secs(3);

/// A journal, and who writes it.
pub(in crate::node) type Stream = (JournalId, FencingToken);

/// The streams of all other members. Cheap to clone; bounded by the streams that their admission takes.
#[derive(Debug, Clone, Default)]
pub(in crate::node) struct StreamsElsewhere {
    members: Arc<Mutex<BTreeMap<NodeId, Known>>>,
}

/// What is known of one member.
#[derive(Debug, Default)]
struct Known {
    streams: BTreeSet<Stream>,
    answered: Option<Instant>,
    /// Since when nobody listens there.
    gone: Option<Instant>,
    /// Streams of a process that was gone, and until when they count.
    left: Option<(Instant, BTreeSet<Stream>)>,
}

impl StreamsElsewhere {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Known>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A member has said which streams it has, all of them.
    pub(in crate::node) fn heard(&self, node: NodeId, streams: BTreeSet<Stream>, now: Instant) {
        let mut members = self.lock();
        let known = members.entry(node).or_default();
        let before = std::mem::replace(&mut known.streams, streams);
        if let Some(gone) = known.gone.take() {
            known.left = Some((gone + REOPENS, before));
        }
        known.answered = Some(now);
    }

    /// A member has opened one more.
    pub(in crate::node) fn opened(&self, node: NodeId, stream: Stream) {
        self.lock().entry(node).or_default().streams.insert(stream);
    }

    /// Nobody listens at a member's address any more.
    pub(in crate::node) fn gone(&self, node: NodeId, now: Instant) {
        let mut members = self.lock();
        members.entry(node).or_default().gone.get_or_insert(now);
    }

    /// Forgets everybody but these.
    pub(in crate::node) fn keep(&self, nodes: &[NodeId]) {
        self.lock().retain(|node, _| nodes.contains(node));
    }

    /// Whether a stream counts that this member may have, or that its client may be opening again; `answers`: it said just now
    /// which it has.
    pub(in crate::node) fn perhaps(
        &self,
        node: NodeId,
        stream: Stream,
        answers: bool,
        now: Instant,
    ) -> bool {
        let members = self.lock();
        let Some(known) = members.get(&node) else {
            return false;
        };
        let left = known.left.as_ref();
        if left.is_some_and(|(until, left)| now < *until && left.contains(&stream)) {
            return true;
        }
        let until = match known.gone {
            Some(gone) => Some(gone + REOPENS),
            None => known.answered.map(|answered| answered + SILENT_MAX),
        };
        // One that answers again after it was gone has not been heard with all its streams yet.
        let counts = !answers || known.gone.is_some();
        counts && until.is_some_and(|until| now < until) && known.streams.contains(&stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Epoch, Writer};

    #[tokio::test(start_paused = true)]
    async fn a_stream_counts_while_its_member_may_be_hung_or_its_client_may_reopen_it_and_no_longer()
     {
        let (node, other) = (NodeId(1), NodeId(2));
        let token = FencingToken {
            epoch: Epoch(1),
            writer: Writer(4),
        };
        let (stream, idle) = ((JournalId(7), token), (JournalId(8), token));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let known = StreamsElsewhere::default();
        known.heard(node, BTreeSet::new(), start);
        known.opened(node, stream);
        let perhaps = |answers, seconds| known.perhaps(node, stream, answers, at(seconds));

        assert!(!perhaps(true, 0), "it answers, and did not name it");
        assert!(perhaps(false, 7) && !perhaps(false, 8), "silent");
        assert!(
            !known.perhaps(node, idle, false, at(1)),
            "it never had that"
        );
        assert!(
            !known.perhaps(other, stream, false, at(1)),
            "nor had that one"
        );

        known.gone(node, at(10));
        known.gone(node, at(12));
        assert!(
            perhaps(false, 12) && !perhaps(false, 13),
            "its process is gone"
        );
        known.heard(node, BTreeSet::new(), at(11));
        assert!(perhaps(true, 12), "it is back, but the client is not yet");
        assert!(!perhaps(true, 13));
        known.heard(node, BTreeSet::from([stream]), at(14));
        known.keep(&[other]);
        assert!(!perhaps(false, 14), "no member any more");
    }
}
