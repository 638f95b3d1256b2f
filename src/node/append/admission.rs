//! How many payload bytes are under way at once: per stream and on the node. What does not fit stays in the socket.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes under way of one stream.
const STREAM_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// Bytes under way of all streams of a node.
const NODE_BYTES_MAX: u32 = 128 * 1024 * 1024;
/// Append streams open at a node at once: each may hold one append that is not admitted yet.
pub(in crate::node) const STREAMS_MAX: usize = 4096;

/// The node's budget. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::node) struct Admission {
    node: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

/// One stream's budget within the node's.
#[derive(Debug, Clone)]
pub(in crate::node) struct StreamAdmission {
    stream: Arc<Semaphore>,
    node: Arc<Semaphore>,
    _place: Arc<OwnedSemaphorePermit>,
}

/// Bytes admitted; given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    _stream: OwnedSemaphorePermit,
    _node: OwnedSemaphorePermit,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            node: Arc::new(Semaphore::new(NODE_BYTES_MAX as usize)),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        }
    }
}

impl Admission {
    /// A budget for a new stream; `None` when too many are open.
    pub(in crate::node) fn stream(&self) -> Option<StreamAdmission> {
        let place = self.streams.clone().try_acquire_owned().ok()?;
        Some(StreamAdmission {
            stream: Arc::new(Semaphore::new(STREAM_BYTES_MAX as usize)),
            node: self.node.clone(),
            _place: Arc::new(place),
        })
    }
}

impl StreamAdmission {
    /// Waits until `bytes`, at most one append, fit into both budgets.
    pub(super) async fn admit(self, bytes: usize) -> Permit {
        // Small appends cost memory beside their payload.
        let bytes = u32::try_from(bytes)
            .unwrap_or(u32::MAX)
            .saturating_add(128)
            .min(STREAM_BYTES_MAX);
        let closed = "the budget is never closed";
        let stream = self.stream.acquire_many_owned(bytes).await.expect(closed);
        let node = self.node.acquire_many_owned(bytes).await.expect(closed);
        Permit {
            _stream: stream,
            _node: node,
        }
    }
}
