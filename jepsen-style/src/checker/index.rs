//! A history, sorted by journal and worker.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Rule, Violation};
use crate::history::{CheckpointId, Event, FinalNode, Floor, History, Name, OpId};

/// The position of an event in the history.
pub(super) type Time = usize;

#[derive(Debug)]
pub(super) struct Sent<'a> {
    pub(super) time: Time,
    pub(super) at: u64,
    pub(super) bytes: &'a Bytes,
}

impl Sent<'_> {
    pub(super) fn end(&self) -> u64 {
        self.at + self.bytes.len() as u64
    }
}

#[derive(Debug)]
pub(super) struct Progress {
    pub(super) time: Time,
    pub(super) written: u64,
    pub(super) durable: u64,
    pub(super) log_index: u64,
}

/// One append stream that was answered.
#[derive(Debug)]
pub(super) struct Stream<'a> {
    pub(super) id: OpId,
    pub(super) epoch: u64,
    pub(super) began: Time,
    pub(super) opened: Option<(Time, u64)>,
    pub(super) sent: Vec<Sent<'a>>,
    pub(super) progress: Vec<Progress>,
}

#[derive(Debug)]
pub(super) struct Read<'a> {
    pub(super) node: &'a str,
    pub(super) floor: Floor,
    pub(super) began: Time,
    /// When, from where, and what.
    pub(super) ended: Option<(Time, u64, &'a Bytes)>,
}

impl Read<'_> {
    /// When it ended, and one past its last byte.
    pub(super) fn tail(&self) -> Option<(Time, u64)> {
        self.ended
            .map(|(time, from, bytes)| (time, from + bytes.len() as u64))
    }
}

#[derive(Debug, Default)]
pub(super) struct Journal<'a> {
    pub(super) worker: Option<&'a str>,
    /// In the order of epochs, then of openings.
    pub(super) streams: Vec<Stream<'a>>,
    pub(super) reads: Vec<Read<'a>>,
}

#[derive(Debug)]
pub(super) struct Takeover<'a> {
    pub(super) time: Time,
    pub(super) epoch: u64,
    pub(super) tails: &'a BTreeMap<Name, u64>,
}

#[derive(Debug)]
pub(super) struct Commit<'a> {
    pub(super) worker: &'a str,
    pub(super) epoch: u64,
    pub(super) id: CheckpointId,
    pub(super) offsets: &'a BTreeMap<Name, u64>,
    pub(super) began: Time,
    pub(super) committed: Option<Time>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Index<'a> {
    pub(super) journals: BTreeMap<Name, Journal<'a>>,
    pub(super) takeovers: BTreeMap<&'a str, Vec<Takeover<'a>>>,
    pub(super) commits: Vec<Commit<'a>>,
    pub(super) finals: Vec<&'a FinalNode>,
    /// Which journal, and which place in its list, a stream or read has.
    places: BTreeMap<OpId, (Name, usize)>,
    commit_places: BTreeMap<OpId, usize>,
}

impl<'a> Index<'a> {
    /// Sorts a history. An event that does not fit those before is a violation by itself.
    pub(super) fn of(history: &'a History) -> (Self, Vec<Violation>) {
        let mut index = Self::default();
        let mut violations = Vec::new();
        for (time, event) in history.events().iter().enumerate() {
            if let Event::Broken { what } = event {
                violations.push(Violation::new(Rule::Client, what.clone()));
            } else if index.take(time, event).is_none() {
                let what = format!("event {time} does not fit those before: {event:?}");
                violations.push(Violation::new(Rule::Incomplete, what));
            }
        }
        for journal in index.journals.values_mut() {
            journal
                .streams
                .sort_by_key(|stream| (stream.epoch, stream.began));
        }
        (index, violations)
    }

    /// `None` when the event does not fit those before.
    fn take(&mut self, time: Time, event: &'a Event) -> Option<()> {
        match event {
            Event::Opening { .. }
            | Event::Opened { .. }
            | Event::Sent { .. }
            | Event::Progress { .. } => self.take_append(time, event),
            Event::ReadBegan { .. } | Event::ReadEnded { .. } => self.take_read(time, event),
            Event::TakenOver {
                worker,
                epoch,
                tails,
                ..
            } => {
                let epoch = *epoch;
                let of = self.takeovers.entry(worker).or_default();
                of.push(Takeover { time, epoch, tails });
                Some(())
            }
            Event::CheckpointBegan { .. } | Event::CheckpointCommitted { .. } => {
                self.take_checkpoint(time, event)
            }
            Event::Final(node) => {
                self.finals.push(node);
                Some(())
            }
            Event::TakeoverBegan { .. } | Event::Broken { .. } => Some(()),
        }
    }

    fn take_append(&mut self, time: Time, event: &'a Event) -> Option<()> {
        match event {
            Event::Opening {
                stream,
                worker,
                journal,
                epoch,
            } => {
                let of = self.journals.entry(journal.clone()).or_default();
                of.worker = Some(worker);
                let place = (journal.clone(), of.streams.len());
                self.places.insert(*stream, place);
                of.streams.push(Stream {
                    id: *stream,
                    epoch: *epoch,
                    began: time,
                    opened: None,
                    sent: Vec::new(),
                    progress: Vec::new(),
                });
            }
            Event::Opened { stream, at } => self.stream(*stream)?.opened = Some((time, *at)),
            Event::Sent { stream, at, bytes } => {
                let at = *at;
                let sent = &mut self.stream(*stream)?.sent;
                sent.push(Sent { time, at, bytes });
            }
            Event::Progress {
                stream,
                written,
                durable,
                log_index,
            } => self.stream(*stream)?.progress.push(Progress {
                time,
                written: *written,
                durable: *durable,
                log_index: *log_index,
            }),
            _ => return None,
        }
        Some(())
    }

    fn take_read(&mut self, time: Time, event: &'a Event) -> Option<()> {
        match event {
            Event::ReadBegan {
                read,
                journal,
                node,
                floor,
            } => {
                let of = self.journals.entry(journal.clone()).or_default();
                self.places.insert(*read, (journal.clone(), of.reads.len()));
                of.reads.push(Read {
                    node,
                    floor: *floor,
                    began: time,
                    ended: None,
                });
            }
            Event::ReadEnded { read, from, bytes } => {
                let (journal, place) = self.places.get(read)?;
                let read = self.journals.get_mut(journal)?.reads.get_mut(*place)?;
                read.ended = Some((time, *from, bytes));
            }
            _ => return None,
        }
        Some(())
    }

    fn take_checkpoint(&mut self, time: Time, event: &'a Event) -> Option<()> {
        match event {
            Event::CheckpointBegan {
                commit,
                worker,
                epoch,
                id,
                offsets,
            } => {
                self.commit_places.insert(*commit, self.commits.len());
                self.commits.push(Commit {
                    worker,
                    epoch: *epoch,
                    id: *id,
                    offsets,
                    began: time,
                    committed: None,
                });
            }
            Event::CheckpointCommitted { commit } => {
                let place = *self.commit_places.get(commit)?;
                self.commits.get_mut(place)?.committed = Some(time);
            }
            _ => return None,
        }
        Some(())
    }

    fn stream(&mut self, id: OpId) -> Option<&mut Stream<'a>> {
        let (journal, place) = self.places.get(&id)?;
        self.journals.get_mut(journal)?.streams.get_mut(*place)
    }

    /// The final content of a journal, as the first node has it; empty if it has none.
    pub(super) fn content(&self, journal: &str) -> &'a [u8] {
        let first = self
            .finals
            .first()
            .and_then(|node| node.journals.get(journal));
        first.map_or(&[], |bytes| &bytes[..])
    }
}
