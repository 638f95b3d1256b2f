//! What a restore would do, found out without fencing or changing anything.

use std::path::PathBuf;

use super::{
    super::{Client, ClientError, Effect, Floor},
    RestoreOptions,
    legacy::{self, ListedJournal},
    staging::Target,
    takeover,
};
use crate::{
    codec::wire,
    domain::{
        Addresses, CheckpointId, Epoch, JournalKind, JournalName, Offset, Rejected, RestorePoint,
        WorkerName, WorkerRef,
    },
    env::task,
    pb,
};

/// What a restore would do, were nothing to change until then.
#[derive(Debug, Clone)]
pub struct RestorePlan {
    /// Where the files would go.
    pub directory: PathBuf,
    /// What the names of a legacy worker's files begin with; `None` for any other worker.
    pub prefix: Option<String>,
    /// The epoch in force, which would be fenced.
    pub epoch: Epoch,
    /// Who took the worker over last, in its own words; empty if nobody did.
    pub by: String,
    /// The checkpoint that the wanted point is now; `None` for the latest bytes.
    pub checkpoint: Option<CheckpointId>,
    /// What would be fetched.
    pub journals: Vec<PlannedJournal>,
    /// What is there and would be replaced or removed; with `needs_force` it would be refused because of that.
    pub replaces: Vec<PathBuf>,
    /// Whether a restore would be refused because of what is there.
    pub needs_force: bool,
    /// Where the new incarnation would be reached; `None` when nothing is changed about that.
    pub endpoint: Option<Addresses>,
    /// What an operator should know before it is done.
    pub warnings: Vec<String>,
}

/// A journal that would be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedJournal {
    /// Its name.
    pub name: JournalName,
    /// What is done with it.
    pub kind: JournalKind,
    /// Its length now.
    pub bytes: u64,
    /// Where it would be cut, if it would.
    pub cut_at: Option<Offset>,
}

impl PlannedJournal {
    /// At the latest bytes.
    pub(super) fn of(name: &JournalName, listed: &ListedJournal) -> Self {
        Self {
            name: name.clone(),
            kind: listed.kind,
            bytes: listed.bytes,
            cut_at: listed.restart_cut,
        }
    }
}

/// The part of a plan that hangs on the directory.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) directory: PathBuf,
    pub(super) prefix: Option<String>,
    pub(super) journals: Vec<PlannedJournal>,
    pub(super) replaces: Vec<PathBuf>,
    pub(super) endpoint: Option<Addresses>,
    pub(super) warnings: Vec<String>,
}

impl Client {
    /// What [`Client::restore`] would do with these options. Nothing is fenced, and nothing is changed, here or in the cluster;
    /// that a directory can be made where the files would go is found out by one that is removed at once.
    ///
    /// # Errors
    /// Whatever would be refused before the takeover, but for what is there and wants `force`, which the plan tells.
    /// `Rejected` for an unknown checkpoint, or when there is no recovery line; or as any call.
    pub async fn plan_restore(&self, options: RestoreOptions) -> Result<RestorePlan, ClientError> {
        let (epoch, by) = takeover::current(self, &options.worker).await?;
        if let Some(member) = &options.from {
            self.member_address(member).await?;
        }
        let (found, listed) = legacy::Found::look(self, &options).await?;
        let mut planned = match found {
            Some(found) => found.plan().await?,
            None => {
                let (wanted, known) = (options.clone(), listed.clone());
                let look = move || Target::look(&wanted, &known);
                let (directory, replaces) = task::blocking(look).await?;
                Planned {
                    directory,
                    prefix: None,
                    journals: listed
                        .iter()
                        .map(|(name, listed)| PlannedJournal::of(name, listed))
                        .collect(),
                    replaces,
                    endpoint: None,
                    warnings: Vec::new(),
                }
            }
        };
        let checkpoint = self.checkpoint_now(&options).await?;
        if let Some(checkpoint) = &checkpoint {
            cut_at(checkpoint, &mut planned.journals);
        }
        let id = |checkpoint: pb::CheckpointStat| wire::checkpoint_id_from_pb(checkpoint.id).ok();
        Ok(RestorePlan {
            directory: planned.directory,
            prefix: planned.prefix,
            epoch,
            by,
            checkpoint: checkpoint.and_then(id),
            journals: planned.journals,
            needs_force: !planned.replaces.is_empty() && !options.force,
            replaces: planned.replaces,
            endpoint: planned.endpoint,
            warnings: planned.warnings,
        })
    }

    /// The worker's checkpoint at the wanted point.
    async fn checkpoint_now(
        &self,
        options: &RestoreOptions,
    ) -> Result<Option<pb::CheckpointStat>, ClientError> {
        let worker = &options.worker;
        let id = match options.point {
            RestorePoint::Latest => return Ok(None),
            RestorePoint::Checkpoint(id) => id,
            RestorePoint::Line => self.line_now(worker).await?,
        };
        let listed = self
            .list_checkpoints(&worker.job, Some(worker), Floor::Linearizable)
            .await?;
        let wanted = wire::checkpoint_id_to_pb(id);
        let mut checkpoints = listed.checkpoints.into_iter();
        let found = checkpoints.find(|checkpoint| checkpoint.id == Some(wanted));
        found.map(Some).ok_or_else(|| {
            rejected(Rejected::UnknownCheckpoint {
                worker: worker.clone(),
                id,
            })
        })
    }

    async fn line_now(&self, worker: &WorkerRef) -> Result<CheckpointId, ClientError> {
        let answer = self.line(&worker.job, Floor::Linearizable).await?;
        if let Ok(line) = wire::checkpoint_id_from_pb(answer.line) {
            return Ok(line);
        }
        let all = answer.workers.iter().all(|worker| worker.newest.is_some());
        let late = answer
            .workers
            .iter()
            .filter(|worker| all || worker.newest.is_none());
        Err(rejected(Rejected::NoRecoveryLine {
            job: worker.job.clone(),
            late: late
                .filter_map(|late| WorkerName::new(&late.worker).ok())
                .collect(),
        }))
    }
}

fn rejected(rejected: Rejected) -> ClientError {
    ClientError::Rejected {
        rejected: Box::new(rejected),
        effect: Effect::None,
    }
}

/// What a checkpoint does not cover would go.
fn cut_at(checkpoint: &pb::CheckpointStat, journals: &mut [PlannedJournal]) {
    for journal in journals {
        let mut offsets = checkpoint.offsets.iter();
        let covered = offsets.find(|covered| covered.journal == journal.name.as_str());
        let covered = covered.map_or(0, |covered| covered.offset);
        journal.cut_at = (covered < journal.bytes).then_some(Offset(covered));
    }
}
