//! openraft's log over the write-ahead log: votes, entries, truncations and purges in one ordered stream.
//!
//! openraft awaits all of this in its core loop, so nothing but `save_vote` waits for the disk: an append is readable when
//! it returns and durable when its callback is called (openraft, `docs/protocol/io_ordering.md`).

use std::{fmt::Debug, io, ops::Bound, ops::RangeBounds};

use futures::Stream;
use openraft::{
    OptionalSend, RaftLogReader,
    storage::{IOFlushed, LogState, RaftLogStorage},
};

use super::types::{
    Entry, LogId, TypeConfig, Vote, entry_from_wal, entry_to_wal, log_id_from_wal, log_id_to_wal,
    vote_from_wal, vote_to_wal,
};
use crate::storage::wal::Wal;

/// Most payload of one replication request, in bytes, but for its first entry.
const REPLICATION_BYTES_MAX: usize = 1024 * 1024;

/// The Raft log of this node's group. Cheap to clone; all clones are one log.
#[derive(Debug, Clone)]
pub(super) struct LogStore {
    wal: Wal,
}

impl LogStore {
    /// Over an opened write-ahead log.
    #[must_use]
    pub(super) fn new(wal: Wal) -> Self {
        Self { wal }
    }

    async fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let entries = self.wal.entries(from..to, bytes_max).await?;
        entries
            .into_iter()
            .map(|entry| entry_from_wal(entry).map_err(io::Error::other))
            .collect()
    }

    /// First index that is held.
    fn first(&self) -> u64 {
        self.wal.first_log_id().map_or(u64::MAX, |id| id.index)
    }

    /// A range as openraft gives it, cut at the end of the log.
    fn bounds<R: RangeBounds<u64>>(&self, range: &R) -> (u64, u64) {
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        let end = self.wal.last_log_id().map_or(0, |id| id.index + 1);
        let to = match range.end_bound() {
            Bound::Included(last) => end.min(last + 1),
            Bound::Excluded(to) => end.min(*to),
            Bound::Unbounded => end,
        };
        (from, to)
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> io::Result<Vec<Entry>> {
        let (from, to) = self.bounds(&range);
        // A look-up: what is purged is not there. openraft counts what it gets where all of it must be.
        let mut from = from.max(self.first());
        let mut entries = Vec::new();
        while from < to {
            let part = self.read(from, to, REPLICATION_BYTES_MAX).await?;
            from += part.len() as u64;
            entries.extend(part);
        }
        Ok(entries)
    }

    async fn limited_get_log_entries(&mut self, from: u64, to: u64) -> io::Result<Vec<Entry>> {
        self.read(from, to, REPLICATION_BYTES_MAX).await
    }

    async fn entries_stream<R>(
        &mut self,
        range: R,
    ) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (mut from, to) = self.bounds(&range);
        let store = self.clone();
        // Part by part: a whole range could be any size. What is applied must have no hole, so a purged start is an error.
        Box::pin(async_stream::try_stream! {
            while from < to {
                for entry in store.read(from, to, REPLICATION_BYTES_MAX).await? {
                    from += 1;
                    yield entry;
                }
            }
        })
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.wal.vote().map(vote_from_wal))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let last_purged_log_id = self.wal.last_purged().map(log_id_from_wal);
        let last_log_id = self
            .wal
            .last_log_id()
            .map(log_id_from_wal)
            .or(last_purged_log_id);
        Ok(LogState {
            last_purged_log_id,
            last_log_id,
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        // IMPORTANT: resolves only when all earlier appends are durable too; openraft releases their answers with the vote's.
        self.wal
            .save_vote(vote_to_wal(vote))
            .await
            .map_err(io::Error::from)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.wal
            .save_committed(committed.as_ref().map(log_id_to_wal))
            .map_err(io::Error::from)
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.wal.committed().map(log_id_from_wal))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().map(entry_to_wal).collect();
        self.wal
            .append(
                entries,
                Box::new(move |synced| callback.io_completed(synced)),
            )
            .map_err(io::Error::from)
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.wal
            .truncate_after(last.as_ref().map(log_id_to_wal))
            .map_err(io::Error::from)
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.wal
            .purge(log_id_to_wal(&upto))
            .map_err(io::Error::from)
    }
}
