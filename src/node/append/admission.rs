//! How many payload bytes are under way at once: per stream and on the node. What does not fit stays in the socket.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes under way of one stream.
const STREAM_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// Bytes under way of all streams of a node.
const NODE_BYTES_MAX: u32 = 128 * 1024 * 1024;

/// The node's budget. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::node) struct Admission {
    node: Arc<Semaphore>,
}

/// One stream's budget within the node's.
#[derive(Debug, Clone)]
pub(super) struct StreamAdmission {
    stream: Arc<Semaphore>,
    node: Arc<Semaphore>,
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
        }
    }
}

impl Admission {
    /// A budget for a new stream.
    pub(super) fn stream(&self) -> StreamAdmission {
        StreamAdmission {
            stream: Arc::new(Semaphore::new(STREAM_BYTES_MAX as usize)),
            node: self.node.clone(),
        }
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
