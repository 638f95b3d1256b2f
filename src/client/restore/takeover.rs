//! Fencing, exactly once in effect: every command of a restore carries the epoch it starts from, so a late one is refused.

use super::{
    super::{Client, ClientError, Effect, Floor, TakeoverOptions},
    RestoreOptions,
    known::name_known,
};
use crate::domain::{Epoch, JournalRef, Offset, Rejected, RestorePoint, TakenOver, WorkerRef};
use crate::{codec::wire, pb};

/// Takeovers tried, when answers are lost, before the failure is told.
const TAKEOVERS_MAX: u32 = 4;

/// Takes the worker over. When an answer is lost, the epoch tells whether it was carried out; then it is done again from
/// there, for the answer is needed, and an epoch more harms nobody but its own. A failure names the takeover before it that
/// was carried out.
pub(super) async fn take_over(
    client: &Client,
    options: &RestoreOptions,
) -> Result<TakenOver, ClientError> {
    let (worker, by) = (&options.worker, &options.by);
    let (mut epoch, _) = current(client, worker).await?;
    let mut unanswered = None;
    let mut attempts = 0;
    let error = loop {
        let takeover = TakeoverOptions {
            expected_epoch: Some(epoch),
            point: options.point,
            by: by.clone(),
            endpoint: options.endpoint.clone(),
        };
        let error = match client.takeover_with(worker, takeover).await {
            Ok(taken) => return Ok(taken),
            Err(error) => error,
        };
        attempts += 1;
        if error.effect() == Effect::None || attempts >= TAKEOVERS_MAX {
            break error;
        }
        match current(client, worker).await {
            Ok((now, _)) if now == epoch => {}
            Ok((now, successor)) if successor == *by => {
                epoch = now;
                unanswered = Some(now);
            }
            // Someone else was first, or there is no telling: the error says that it may have been carried out.
            _ => break error,
        }
    };
    Err(match unanswered {
        Some(epoch) => after(worker, epoch, error),
        None => error,
    })
}

/// A failure after a takeover that was carried out.
pub(super) fn after(worker: &WorkerRef, epoch: Epoch, error: ClientError) -> ClientError {
    ClientError::AfterTakeover {
        worker: worker.clone(),
        epoch,
        source: Box::new(error),
    }
}

/// The worker's epoch, and who took it.
pub(super) async fn current(
    client: &Client,
    worker: &WorkerRef,
) -> Result<(Epoch, String), ClientError> {
    let listed = client.list_workers(Some(&worker.job), Floor::Linearizable);
    let listed = match listed.await {
        Ok(listed) => listed,
        Err(error) => return Err(name_known(client, worker, error).await),
    };
    let wanted = wire::worker_to_pb(worker);
    let found = listed
        .workers
        .into_iter()
        .find(|stat: &pb::WorkerStat| stat.worker.as_ref() == Some(&wanted));
    let Some(stat) = found else {
        let error = ClientError::Rejected {
            rejected: Box::new(Rejected::UnknownWorker {
                worker: worker.clone(),
            }),
            effect: Effect::None,
        };
        return Err(name_known(client, worker, error).await);
    };
    let by = stat.succession.map(|succession| succession.by);
    Ok((Epoch(stat.epoch), by.unwrap_or_default()))
}

/// Cuts a torn record off in the cluster; false when a checkpoint covers it. When the answer is lost, the epoch is raised
/// first, for a cut that comes late must not cut what the new incarnation has appended by then.
pub(super) async fn cut(
    client: &Client,
    taken: &mut TakenOver,
    journal: &JournalRef,
    at: Offset,
    by: &str,
) -> Result<bool, ClientError> {
    for _ in 0..TAKEOVERS_MAX {
        let error = match client.truncate(journal, taken.epoch, at).await {
            Ok(_) => {
                if let Some((_, _, tail)) = taken.journals.get_mut(&journal.journal) {
                    *tail = (*tail).min(at);
                }
                return Ok(true);
            }
            Err(error) => error,
        };
        if let Some(Rejected::CutBelowCheckpoint { .. }) = error.rejected() {
            return Ok(false);
        }
        if error.effect() == Effect::None {
            return Err(error);
        }
        let (now, successor) = current(client, &journal.owner).await?;
        if now != taken.epoch && successor != by {
            return Err(error);
        }
        let again = client
            .takeover(&journal.owner, Some(now), RestorePoint::Latest, by)
            .await?;
        taken.epoch = again.epoch;
        taken.log_index = again.log_index;
        take_in(taken, again);
    }
    Err(ClientError::BadRequest {
        what: format!("cut journal {journal} at {at}"),
        why: format!("no answer in {TAKEOVERS_MAX} attempts; restore again"),
    })
}

/// Takes in what another takeover has cut, too.
fn take_in(taken: &mut TakenOver, again: TakenOver) {
    for (name, (_, _, tail)) in &mut taken.journals {
        if let Some((_, _, now)) = again.journals.get(name) {
            *tail = (*tail).min(*now);
        }
    }
    for (name, before) in again.cut {
        taken.cut.entry(name).or_insert(before);
    }
}
