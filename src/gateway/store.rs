//! What the legacy commands need of the cluster, in terms of its client.

use super::budget::WINDOW_BYTES;
use crate::{
    client::{AppendOptions, AppendStream, Client, ClientError, Floor},
    domain::{JobName, JournalRef, Offset, Rejected, WorkerRef, Writer, legacy::kind_by_name},
    pb,
};

/// How often the beginning of an empty file is tried when others begin it at the same time.
const CREATE_TRIES_MAX: usize = 4;

/// A journal as the legacy commands see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Seen {
    /// Its length.
    pub(super) tail: u64,
    /// Somebody appends to it.
    pub(super) appending: bool,
    /// The newest writer; 0 of one that is not there.
    pub(super) writer: Writer,
}

impl Seen {
    fn of(stat: &pb::JournalStat) -> Self {
        Self {
            tail: stat.tail,
            appending: stat.appending,
            writer: Writer(stat.token.map_or(0, |token| token.writer)),
        }
    }
}

/// Whether there is nothing of that name.
fn is_missing(error: &ClientError) -> bool {
    matches!(
        error.rejected(),
        Some(
            Rejected::UnknownJob { .. }
                | Rejected::UnknownWorker { .. }
                | Rejected::UnknownJournal { .. }
        )
    )
}

/// The names of a job's workers.
pub(super) async fn workers(client: &Client, job: &JobName) -> Result<Vec<String>, ClientError> {
    let listed = match client.list_workers(Some(job), Floor::Linearizable).await {
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        listed => listed?,
    };
    let workers = listed.workers.into_iter().filter_map(|stat| stat.worker);
    Ok(workers.map(|worker| worker.worker).collect())
}

/// The journals of a worker by name; none of a worker that is not known.
pub(super) async fn journals(
    client: &Client,
    worker: &WorkerRef,
) -> Result<Vec<(String, Seen)>, ClientError> {
    let listed = match client
        .list_journals(None, Some(worker), Floor::Linearizable)
        .await
    {
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        listed => listed?,
    };
    let named = listed.journals.into_iter().filter_map(|stat| {
        let seen = Seen::of(&stat);
        Some((stat.journal?.journal, seen))
    });
    Ok(named.collect())
}

/// A journal's record and a log index at which every member has all of it; `None` when it is not there.
async fn stat(
    client: &Client,
    journal: &JournalRef,
) -> Result<Option<(pb::JournalStat, u64)>, ClientError> {
    let found = match client.stat(journal, Floor::Linearizable).await {
        Err(error) if is_missing(&error) => return Ok(None),
        found => found?,
    };
    let applied = found.applied_index;
    Ok(found.stat.map(|stat| (stat, applied)))
}

/// What `journal` is now; the default of one that is not there.
pub(super) async fn look(client: &Client, journal: &JournalRef) -> Result<Seen, ClientError> {
    let found = stat(client, journal).await?;
    Ok(found.map_or_else(Seen::default, |(stat, _)| Seen::of(&stat)))
}

/// A journal's length, and a log index at which every member has all of it; `None` when it is not there.
pub(super) async fn length(
    client: &Client,
    journal: &JournalRef,
) -> Result<Option<(u64, u64)>, ClientError> {
    let found = stat(client, journal).await?;
    Ok(found.map(|(stat, applied)| (stat.tail, applied)))
}

/// Opens a journal where it was seen to end, over the writer that was seen; makes the worker and the journal if they are not there.
pub(super) async fn open(
    client: &Client,
    journal: &JournalRef,
    seen: Seen,
    window_bytes: usize,
) -> Result<AppendStream, ClientError> {
    let (epoch, _) = client.open_worker(&journal.owner, None).await?;
    let options = AppendOptions {
        window_bytes,
        // A cluster that is away costs the worker a pause, not its connection.
        give_up_after: None,
        over: Some(seen.writer),
    };
    let kind = kind_by_name(journal.journal.as_str());
    let expected = Some(Offset(seen.tail));
    AppendStream::open(client, journal, kind, epoch, expected, options).await
}

/// A journal's length, all of it durable; made when it is not there.
pub(super) async fn length_or_create(
    client: &Client,
    journal: &JournalRef,
) -> Result<u64, ClientError> {
    let mut tries = 0;
    loop {
        if let Some((tail, _)) = length(client, journal).await? {
            return Ok(tail);
        }
        let created = match open(client, journal, Seen::default(), WINDOW_BYTES).await {
            Ok(stream) => stream.close().await.map(|_| ()),
            Err(error) => Err(error),
        };
        tries += 1;
        match created {
            Err(error) if tries >= CREATE_TRIES_MAX || error.rejected().is_none() => {
                return Err(error);
            }
            // By us, or by somebody else meanwhile.
            _ => {}
        }
    }
}

/// Deletes a journal.
pub(super) async fn delete(client: &Client, journal: &JournalRef) -> Result<(), ClientError> {
    client.delete_journal(journal).await
}
