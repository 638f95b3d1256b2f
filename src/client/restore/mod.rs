//! Restore: a worker's files from the cluster, fenced, verified, and put into place all at once.
//!
//! ```text
//! 1 check            whatever can be known to fail, fails before anything is fenced
//! 2 take over        fences the old incarnation and fixes what is restored: one replicated command
//! 3 fetch            ranges of every journal from all healthy members at once; refetched elsewhere when one fails
//! 4 replay           ops journals into files, in DIR.restoring-EPOCH/files; nothing outside it is touched
//! 5 cut              a torn last record, here and in the cluster
//! 6 confirm          the epoch is still ours
//! 7 rename           everything synced, then DIR appears with all its content; what it replaces goes after that
//! ```
//!
//! A worker that speaks the legacy protocol is told by its journals' names, and restored by `legacy`.
//!
//! From the takeover on a failure says that the old incarnation is fenced, and by which epoch
//! ([`ClientError::AfterTakeover`]): the restore is repeated then.
//!
//! A torn last record that a checkpoint covers cannot be cut: the checkpoint's bytes are promised. It is left, here and in
//! the cluster, and reported; the files are those of all whole records. Nothing can be appended behind half a record, so
//! the worker goes on in another journal, which a restore replays after it if its name sorts behind. Only a checkpoint that
//! was committed at an offset within a record leads there; [`JournaledDir`](super::JournaledDir) commits none.

mod fetch;
mod known;
mod legacy;
mod owner;
mod plan;
mod replay;
mod report;
mod staging;
mod takeover;

pub use legacy::{CutTail, LegacyReport};
pub use plan::{PlannedJournal, RestorePlan};
pub use report::{RefusalReason, RefusedPath, RestoreReport, RestoredJournal, TornTail};

use std::{future::Future, path::PathBuf};

use tokio::sync::watch;

use super::{Client, ClientError, WorkerIdentity, identity};
use crate::{
    domain::{Addresses, JournalName, NodeId, Offset, RestorePoint, TakenOver, WorkerRef},
    env::{task, time::Instant},
};
use staging::{Staging, Target};

/// Most refused paths that are named.
const REFUSED_MAX: usize = 1000;

/// What to restore, and where to.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// The worker.
    pub worker: WorkerRef,
    /// The directory that the files end up in. Must be empty or missing, unless `force` is given.
    pub to: PathBuf,
    /// What state is wanted.
    pub point: RestorePoint,
    /// Fetch from this member only: its node id, or the `host:port` of its client address. `None`: from all that are healthy.
    pub from: Option<String>,
    /// Replace what is in the directory. The old content is removed once the new one is in place.
    pub force: bool,
    /// Rules for paths of ops, as (old prefix, new prefix): the new one relative to `to`, or an absolute path inside it.
    /// Without a rule an absolute path is refused.
    pub map: Vec<(String, String)>,
    /// Which application's journals of a legacy worker, when it has several: the application, or the whole of what its
    /// files' names begin with. Refused for any other worker.
    pub prefix: Option<String>,
    /// Not to take it for a legacy worker, whatever its journals are called.
    pub native: bool,
    /// Where the new incarnation of a legacy worker is reached, in roles `control` and `data`: its address files are
    /// rewritten, and the takeover makes it known. Refused for any other worker.
    pub endpoint: Option<Addresses>,
    /// Who takes over, for the fenced incarnation to read.
    pub by: String,
    /// How much is fetched in one piece, in bytes; at least 64 KiB are used.
    pub range_bytes: u64,
    /// How many ranges are fetched at a time; 1 to 64 are used.
    pub ranges_at_once: usize,
}

impl RestoreOptions {
    /// Everything durable of `worker`, into `to`: ranges of 4 MiB, 8 at a time, without force.
    #[must_use]
    pub fn new(worker: WorkerRef, to: impl Into<PathBuf>, by: impl Into<String>) -> Self {
        Self {
            worker,
            to: to.into(),
            point: RestorePoint::Latest,
            from: None,
            force: false,
            map: Vec::new(),
            prefix: None,
            native: false,
            endpoint: None,
            by: by.into(),
            range_bytes: 4 << 20,
            ranges_at_once: 8,
        }
    }
}

/// What a restore is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestorePhase {
    /// Fencing the old incarnation.
    TakingOver,
    /// Fetching journals.
    Fetching,
    /// Replaying them into files.
    Replaying,
    /// Syncing and renaming.
    Finishing,
}

/// How far a restore is: bytes of the phase at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestoreProgress {
    /// The phase.
    pub phase: RestorePhase,
    /// Bytes done in it.
    pub bytes_done: u64,
    /// Bytes to do in it.
    pub bytes_total: u64,
}

/// Told about progress, from any task, often: it must be quick.
pub type OnProgress<'a> = &'a (dyn Fn(RestoreProgress) + Send + Sync);

impl Client {
    /// Restores a worker into a directory. Fences its old incarnation first; after that a failed restore may be repeated,
    /// and the worker stays fenced until one succeeds. The directory appears with all its content; as long as the
    /// restore has not come to its last step it is as it was, also when it fails. When the process or the machine ends in
    /// the middle of that step, which replaces an old content, that is put back by the next restore into the directory. What
    /// a failed restore leaves beside the directory is removed by the next one.
    ///
    /// # Errors
    /// `LocalState` when the directory is in the way or in use; `BadRequest` for a rule that leads outside of it, or for no
    /// member to fetch from; `NoSuchWorker`; `Refused` when the options do not go with the worker, or when it is a legacy one
    /// of which the cluster has a part only; `Rejected` by the takeover; or as any call: the worker goes on. `AfterTakeover`
    /// with whatever failed after the takeover: bytes that do not verify, someone else who took over meanwhile, a disk, any
    /// call.
    pub async fn restore(
        &self,
        mut options: RestoreOptions,
        on_progress: OnProgress<'_>,
    ) -> Result<RestoreReport, ClientError> {
        let began = Instant::now();
        let from = match &options.from {
            Some(member) => Some(self.member_address(member).await?),
            None => None,
        };
        let (found, listed) = legacy::Found::look(self, &options).await?;
        let found = match found {
            Some(mut found) => {
                found.check().await?;
                options.endpoint = found.take_endpoint();
                Place::Legacy(found)
            }
            None => {
                let options = options.clone();
                let check = move || Target::check(&options, &listed);
                Place::Native(task::blocking(check).await?)
            }
        };
        on_progress(RestoreProgress {
            phase: RestorePhase::TakingOver,
            bytes_done: 0,
            bytes_total: 0,
        });
        let mut taken = takeover::take_over(self, &options).await?;
        let restore = Restore {
            client: self,
            options: &options,
            from,
            on_progress,
        };
        let taken_over = &mut taken;
        let restored = match found {
            Place::Native(target) => restore.after_takeover(target, taken_over, began).await,
            Place::Legacy(found) => {
                restore
                    .legacy_after_takeover(found, taken_over, began)
                    .await
            }
        };
        restored.map_err(|error| takeover::after(&options.worker, taken.epoch, error))
    }

    /// The client address of a member that serves: by its node id, or as it was given.
    async fn member_address(&self, member: &str) -> Result<String, ClientError> {
        let bad = |why: &str| ClientError::BadRequest {
            what: format!("restore from {member}"),
            why: format!("{why} (`dos-cluster member list` shows the members)"),
        };
        let cluster = self.status().await?;
        let address = match member.parse::<NodeId>() {
            Ok(node) => {
                let members = cluster.members.into_iter();
                let found = members
                    .filter_map(|member| member.member)
                    .find(|member| member.node_id == node.0);
                found.ok_or_else(|| bad("it is no member"))?.client_address
            }
            Err(_) => super::leader::authority(member)?,
        };
        let node = self.status_of(&address).await?;
        if node.cluster_id != cluster.cluster_id {
            return Err(bad("it is a node of another cluster, or of none"));
        }
        if !fetch::is_serving(&node) {
            return Err(bad(&format!("it does not serve: {}", node.problem)));
        }
        Ok(address)
    }
}

/// Where the files go.
enum Place {
    /// A directory of the worker's own.
    Native(Target),
    /// One that legacy workers share.
    Legacy(legacy::Found),
}

/// A restore behind its takeover.
struct Restore<'a> {
    client: &'a Client,
    options: &'a RestoreOptions,
    /// The only member to fetch from, by its address.
    from: Option<String>,
    on_progress: OnProgress<'a>,
}

impl Restore<'_> {
    fn report(&self, phase: RestorePhase, bytes_done: u64, bytes_total: u64) {
        (self.on_progress)(RestoreProgress {
            phase,
            bytes_done,
            bytes_total,
        });
    }

    /// Everything behind the takeover, whose epoch may have to be raised on the way.
    async fn after_takeover(
        self,
        target: Target,
        taken: &mut TakenOver,
        began: Instant,
    ) -> Result<RestoreReport, ClientError> {
        let (client, options) = (self.client, self.options);
        let mut refused = remove_reserved(taken);
        let total = taken.journals.values().map(|(_, _, tail)| tail.0).sum();
        let staging = {
            let epoch = taken.epoch;
            task::blocking(move || Staging::make(target, epoch)).await?
        };

        let fetched_bytes = |done| self.report(RestorePhase::Fetching, done, total);
        let from = self.from.clone();
        let fetched = fetch::fetch(
            client,
            options,
            from,
            taken,
            &staging.journals(),
            &fetched_bytes,
        )
        .await?;

        let mut replayed = {
            let (map, staging) = (staging.path_map(&options.map), staging.clone());
            let journals = taken.journals.clone();
            let (done, watched) = watch::channel(0);
            let replaying = task::blocking(move || replay::replay(map, &journals, &staging, &done));
            let replayed_bytes = |done| self.report(RestorePhase::Replaying, done, total);
            watching(replaying, watched, replayed_bytes).await?
        };
        self.report(RestorePhase::Replaying, total, total);

        for torn in &mut replayed.torn {
            let journal = options.worker.journal(torn.journal.clone());
            torn.cut = takeover::cut(client, taken, &journal, torn.at, &options.by).await?;
            if torn.cut {
                staging.cut_journal(&torn.journal, torn.at)?;
            }
        }

        self.report(RestorePhase::Finishing, 0, total);
        // Someone else may have taken over meanwhile; then this directory must not appear.
        client
            .open_worker(&options.worker, Some(taken.epoch))
            .await?;
        let identity = self.identity(taken);
        let journals = replayed.journals(taken, fetched);
        let left = task::blocking(move || staging.put_in_place(&identity)).await?;
        self.report(RestorePhase::Finishing, total, total);
        refused.append(&mut replayed.refused);
        Ok(RestoreReport {
            directory: options.to.clone(),
            epoch: taken.epoch,
            checkpoint: taken.checkpoint,
            log_index: taken.log_index,
            journals,
            files: replayed.files,
            refused,
            torn: replayed.torn,
            left,
            elapsed: began.elapsed(),
            legacy: None,
        })
    }

    fn identity(&self, taken: &TakenOver) -> WorkerIdentity {
        let journals = taken.journals.iter();
        WorkerIdentity {
            worker: self.options.worker.clone(),
            epoch: taken.epoch,
            in_use: None,
            journals: journals
                .map(|(name, (_, kind, _))| (name.clone(), *kind))
                .collect(),
        }
    }
}

/// Takes out the journals whose files could not be in the directory. No worker of ours makes such; they stay in the cluster.
fn remove_reserved(taken: &mut TakenOver) -> Vec<RefusedPath> {
    let is_reserved = |name: &JournalName| identity::is_identity_name(name.as_str().as_bytes());
    let reserved = taken.journals.extract_if(.., |name, _| is_reserved(name));
    let refused = reserved.map(|(journal, _)| RefusedPath {
        path: journal.to_string(),
        journal,
        offset: Offset::ZERO,
        why: RefusalReason::ReservedJournal,
        records: 0,
    });
    refused.collect()
}

/// Waits for work on another thread, and tells how far it is meanwhile.
async fn watching<T>(
    work: impl Future<Output = T>,
    mut watched: watch::Receiver<u64>,
    tell: impl Fn(u64),
) -> T {
    tokio::pin!(work);
    loop {
        let done = *watched.borrow_and_update();
        tell(done);
        tokio::select! {
            finished = &mut work => return finished,
            Ok(()) = watched.changed() => {}
        }
    }
}
