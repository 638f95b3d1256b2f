//! Fetching journals in ranges, from all healthy members at once. A range that a member cannot give, or whose bytes do not
//! verify, is fetched from another.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures::{FutureExt, TryStreamExt, stream};
use tokio::sync::Mutex as AsyncMutex;

use super::{
    super::{
        Client, ClientError, Effect, Floor, Tried,
        failure::Failure,
        read::{NodeRead, ReadRange},
        retry::Backoff,
    },
    RestoreOptions,
};
use crate::{
    domain::{JournalName, JournalRef, Offset, TakenOver},
    env::{
        fs::{self, File},
        task,
        time::{self, Instant},
    },
    pb,
};

/// Bytes written at once, of what has arrived; about.
const WRITE_BYTES: usize = 1 << 20;

/// Bytes fetched of each journal, by member.
pub(super) type Fetched = BTreeMap<JournalName, BTreeMap<String, u64>>;

/// One range to fetch, into its place in a file that is there.
struct Range {
    journal: JournalRef,
    from: Offset,
    to: Offset,
    path: PathBuf,
    /// One range writes to the file at a time: the file system lets no two in, and those that wait would spin.
    writing: Arc<AsyncMutex<()>>,
    /// Which member is asked first: ranges go round.
    first: usize,
}

/// What the fetches of one restore share.
struct Shared<'a> {
    client: &'a Client,
    members: Vec<String>,
    /// Members whose last answer did not do: asked last.
    failing: Mutex<BTreeSet<String>>,
    fetched: Mutex<Fetched>,
    done: AtomicU64,
    on_bytes: &'a (dyn Fn(u64) + Send + Sync),
    floor: Floor,
}

/// Fetches every journal of the takeover into files of their names in a directory; from one member, if its address is given. As many
/// files are open as ranges are fetched at once.
pub(super) async fn fetch(
    client: &Client,
    options: &RestoreOptions,
    from: Option<String>,
    taken: &TakenOver,
    directory: &Path,
    on_bytes: &(dyn Fn(u64) + Send + Sync),
) -> Result<Fetched, ClientError> {
    let members = match from {
        Some(address) => vec![address],
        None => healthy(client).await,
    };
    let ranges = ranges(options, taken, directory)?;
    let shared = Shared {
        client,
        members,
        failing: Mutex::default(),
        fetched: Mutex::default(),
        done: AtomicU64::new(0),
        on_bytes,
        floor: Floor::LogIndex(taken.log_index),
    };
    on_bytes(0);
    stream::iter(ranges.into_iter().map(Ok))
        .try_for_each_concurrent(options.ranges_at_once.clamp(1, 64), |range| {
            shared.fetch_range(range)
        })
        .await?;
    Ok(shared
        .fetched
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner))
}

/// Whether a node says that it serves reads.
pub(super) fn is_serving(status: &pb::StatusResponse) -> bool {
    use pb::NodeState::{Candidate, Follower, Leader, Learner};
    [Leader, Follower, Learner, Candidate]
        .map(i32::from)
        .contains(&status.state)
}

/// The members that say they serve; every address known when none says so.
async fn healthy(client: &Client) -> Vec<String> {
    let _ = client.status().await; // learns the members, which refresh then asks
    let answers = client.ask_all().await;
    let mut members: Vec<_> = answers
        .into_iter()
        .filter(|(_, answer)| answer.as_ref().is_ok_and(is_serving))
        .map(|(address, _)| address)
        .collect();
    if members.is_empty() {
        members = client.addresses();
    }
    members.sort();
    members
}

/// Cuts the journals into ranges, and makes their files.
fn ranges(
    options: &RestoreOptions,
    taken: &TakenOver,
    directory: &Path,
) -> Result<Vec<Range>, ClientError> {
    let range_bytes = options.range_bytes.max(64 << 10);
    let mut ranges = Vec::new();
    for (name, (_, _, tail)) in &taken.journals {
        let path = directory.join(name.as_str());
        let made = fs::open_or_create(&path).and_then(|file| file.set_len(tail.0));
        made.map_err(|e| ClientError::local("create", &path, e))?;
        let mut from = Offset::ZERO;
        let writing = Arc::new(AsyncMutex::new(()));
        while from < *tail {
            let to = Offset(from.0.saturating_add(range_bytes)).min(*tail);
            ranges.push(Range {
                journal: options.worker.journal(name.clone()),
                from,
                to,
                path: path.clone(),
                writing: writing.clone(),
                first: ranges.len(),
            });
            from = to;
        }
    }
    Ok(ranges)
}

impl Shared<'_> {
    /// Fetches a range from whichever member gives it, going on where the one before failed.
    async fn fetch_range(&self, mut range: Range) -> Result<(), ClientError> {
        let file = fs::open_or_create(&range.path);
        let file = file.map_err(|e| ClientError::local("open", &range.path, e))?;
        let file = Arc::new(file);
        let mut tried = Tried::default();
        let mut worst: Option<Failure> = None;
        let mut backoff = Backoff::of_calls();
        let mut progressed = Instant::now();
        loop {
            for address in self.order(range.first) {
                let before = range.from;
                let result = self.fetch_from(&address, &mut range, &file).await?;
                if range.from > before {
                    progressed = Instant::now();
                }
                let Err(failure) = result else {
                    self.failing().remove(&address);
                    return Ok(());
                };
                self.failing().insert(address.clone());
                tried.record(&address, &failure.reason);
                let is_final = !failure.may_retry(true);
                if worst
                    .as_ref()
                    .is_none_or(|w| failure.weight() >= w.weight())
                {
                    worst = Some(failure);
                }
                if is_final {
                    break;
                }
            }
            let patience = self.client.options().timeout;
            let give_up = progressed.elapsed() >= patience
                || worst.as_ref().is_some_and(|worst| !worst.may_retry(true));
            if give_up {
                let what = format!(
                    "restore journal {} from {} to {}",
                    range.journal, range.from, range.to
                );
                let after = progressed.elapsed();
                return Err(match worst {
                    Some(worst) => worst.into_error(what, tried, after, Effect::None),
                    None => ClientError::CannotConnect { what, tried },
                });
            }
            time::sleep(backoff.pause()).await;
        }
    }

    /// Fetches a range from one member, as far as it goes.
    async fn fetch_from(
        &self,
        address: &str,
        range: &mut Range,
        file: &Arc<File>,
    ) -> Result<Result<(), Failure>, ClientError> {
        let wanted = ReadRange {
            journal: range.journal.clone(),
            from: range.from,
            to: Some(range.to),
            floor: self.floor,
        };
        let within = self.client.options().attempt_timeout;
        let mut read = match NodeRead::open(self.client, address, &wanted, within).await {
            Ok(read) => read,
            Err(failure) => return Ok(Err(failure)),
        };
        loop {
            let (pieces, end) = arrived(&mut read).await;
            let bytes = pieces.iter().map(|(_, data)| data.len() as u64).sum();
            if bytes > 0 {
                let turn = range.writing.clone().lock_owned().await;
                let file = file.clone();
                let written = task::blocking(move || {
                    let written = write(&file, &pieces);
                    drop(turn);
                    written
                });
                let written = written.await;
                written.map_err(|e| ClientError::local("write", &range.path, e))?;
                range.from = read.at;
                self.count(&range.journal.journal, address, bytes);
            }
            if let Some(end) = end {
                return Ok(end);
            }
        }
    }

    fn count(&self, journal: &JournalName, address: &str, bytes: u64) {
        let mut fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        let members = fetched.entry(journal.clone()).or_default();
        *members.entry(address.to_owned()).or_default() += bytes;
        drop(fetched);
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (self.on_bytes)(done);
    }

    /// Every member, from `first` on round the list; those that fail come last.
    fn order(&self, first: usize) -> Vec<String> {
        let failing = self.failing();
        let count = self.members.len();
        let mut order: Vec<_> = (0..count)
            .map(|step| self.members[(first + step) % count].clone())
            .collect();
        order.sort_by_key(|address| failing.contains(address));
        order
    }

    fn failing(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The next piece, and what has arrived behind it: to be written together, for each write takes a thread's turn. With the end
/// of the read, if it has come to it.
async fn arrived(read: &mut NodeRead) -> (Vec<(Offset, Bytes)>, Option<Result<(), Failure>>) {
    let mut pieces = Vec::new();
    let mut bytes = 0;
    let mut next = Some(read.next().await);
    loop {
        match next {
            Some(Ok(Some((at, data)))) => {
                bytes += data.len();
                pieces.push((at, data));
            }
            Some(Ok(None)) => return (pieces, Some(Ok(()))),
            Some(Err(failure)) => return (pieces, Some(Err(failure))),
            None => return (pieces, None),
        }
        next = if bytes < WRITE_BYTES {
            read.next().now_or_never()
        } else {
            None
        };
    }
}

fn write(file: &File, pieces: &[(Offset, Bytes)]) -> io::Result<()> {
    pieces
        .iter()
        .try_for_each(|(at, data)| fs::write_all_at(file, data, at.0))
}
