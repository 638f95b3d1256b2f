//! A read says what it is: what it must have seen before it is served, and what was served.

use crate::{
    env::time::Instant,
    node::{shared::Running, status::NodeError},
    pb::{self, read_floor::Floor},
};

/// What a read was served from.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServedFrom {
    pub(super) applied_index: u64,
    pub(super) stale: bool,
}

/// Waits until this node may serve a read of that floor.
pub(super) async fn reach(
    running: &Running,
    floor: Option<pb::ReadFloor>,
    deadline: Instant,
) -> Result<ServedFrom, NodeError> {
    let group = running.router.group();
    let floor = floor.and_then(|floor| floor.floor);
    let stale = matches!(floor, Some(Floor::Stale(_)));
    let index = match floor {
        Some(Floor::Stale(_)) => 0,
        Some(Floor::LogIndex(index)) => index,
        Some(Floor::Linearizable(_)) | None => read_index(running, deadline).await?,
    };
    let after = deadline.saturating_duration_since(Instant::now());
    if !group.wait_applied(index, after).await {
        return Err(NodeError::Behind {
            index,
            applied: group.view().applied_index(),
            after,
        });
    }
    Ok(ServedFrom {
        applied_index: group.view().applied_index(),
        stale,
    })
}

/// A read that found no majority had no effect, whatever was tried.
async fn read_index(running: &Running, deadline: Instant) -> Result<u64, NodeError> {
    match running.router.read_index(deadline).await {
        Err(NodeError::NoQuorum { after, missing }) => Err(NodeError::NoLeader { after, missing }),
        other => other,
    }
}
