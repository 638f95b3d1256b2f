//! A leader whose disk hangs: the others commit without it for a while, but it must not lead on.

use std::{sync::Arc, time::Duration};

use super::{
    members,
    shared::{Running, Shared},
};
use crate::{
    env::{task, time},
    raft::Role,
};

/// A sync that takes longer is a stall: slow disks take less, and every stream waits for it.
const STALL: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Hands leadership over when this node leads and its log has not been synced for too long; as long as it runs.
pub(super) fn watch(shared: Arc<Shared>, running: Arc<Running>) {
    task::spawn(async move {
        loop {
            time::sleep(LOOK_EVERY).await;
            if !shared.still_runs(&running) {
                return;
            }
            let group = running.router.group();
            let stalled_for = group.wal().stalled_for();
            let status = group.status();
            if stalled_for < STALL || status.role != Role::Leader {
                continue;
            }
            let Some(to) = members::successor(&status, running.router.me()) else {
                continue;
            };
            tracing::warn!(?stalled_for, %to, "the disk under the log hangs; handing leadership over");
            if group.transfer_leader(to).await.is_err() {
                return;
            }
        }
    });
}
