//! What an operator is advised whose worker could not start from what was restored.

use super::family::{Family, remove_command};
use crate::{
    client::{Client, ClientError, Floor},
    codec::wire,
    domain::{TakenOver, WorkerRef},
};

/// What there is to try.
#[derive(Debug, Clone)]
pub(super) struct Cure {
    worker: WorkerRef,
    pub(super) family: Family,
    /// Whether the cluster knows of a checkpoint that was not tried.
    has_another: bool,
}

impl Cure {
    /// Looks for it, as it is behind the takeover: newer checkpoints than the one restored are gone.
    pub(super) async fn look(
        client: &Client,
        worker: &WorkerRef,
        family: &Family,
        taken: &TakenOver,
    ) -> Result<Self, ClientError> {
        let floor = Floor::LogIndex(taken.log_index);
        let listed = client.list_checkpoints(&worker.job, Some(worker), floor);
        let listed = listed.await?.checkpoints.into_iter();
        let mut known = listed.filter_map(|found| wire::checkpoint_id_from_pb(found.id).ok());
        Ok(Self {
            worker: worker.clone(),
            family: family.clone(),
            has_another: known.any(|id| Some(id) != taken.checkpoint),
        })
    }

    /// The failure, with the next step. A worker whose files are not there and whose journals are would exit: it must not
    /// be started anew before those are removed.
    pub(super) fn not_startable(&self, why: String) -> ClientError {
        let Family { ops, logs, .. } = &self.family;
        let journals = logs.iter().chain([ops]);
        let removals: Vec<_> = journals
            .map(|journal| remove_command(&self.worker.journal(journal.clone())))
            .collect();
        let anew = format!(
            "remove its journals ({}) and start it anew in a directory without its files",
            removals.join(", ")
        );
        let next = if self.has_another {
            let list = format!("`dos-cluster checkpoint list {}` shows them", self.worker);
            format!("choose a checkpoint of before ({list}), or {anew}")
        } else {
            format!("the cluster knows of no checkpoint of it to go back to: {anew}")
        };
        ClientError::NotStartable {
            worker: self.worker.clone(),
            why,
            next,
        }
    }
}
