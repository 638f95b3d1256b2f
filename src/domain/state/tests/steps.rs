//! Random steps: they say what to aim at, and become commands by looking at where the model is.

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{
    model::{Model, ToldJournal, ToldWorker, World},
    *,
};
use crate::domain::{JournalName, limits::APPEND_BYTES_MAX};

const WORKERS: [&str; 4] = ["j/a", "j/b", "k/a", "nope/never"];
const JOURNALS: [&str; 2] = ["x", "y"];

/// Which epoch, or which token, a caller holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Held {
    Newest,
    OlderEpoch,
    NewerEpoch,
    OlderWriter,
    NewerWriter,
}

/// Which offset, seen from a tail.
#[derive(Debug, Clone, Copy)]
pub(super) enum At {
    Tail,
    Before(u64),
    Behind(u64),
    Largest,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Id {
    /// The worker's newest, plus this.
    AfterNewest(u64),
    Fixed(u64, u64),
}

#[derive(Debug, Clone)]
pub(super) struct AppendStep {
    journal: u64,
    held: Held,
    at: At,
    bytes: usize,
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    OpenWorker(usize, Option<Held>),
    /// The last two: over which writer, and who opens.
    OpenJournal(
        usize,
        usize,
        JournalKind,
        Held,
        Option<At>,
        (Option<Held>, u64),
    ),
    Append(Vec<AppendStep>),
    Close(Vec<(u64, Held)>),
    Commit(usize, Held, Id, Vec<(usize, At)>),
    /// The last says whether it moves the worker, and to which port.
    Takeover(usize, Option<Held>, Option<Option<Id>>, Option<u64>),
    /// Which generation is expected, seen from the one in force, and which port is set.
    SetEndpoint(usize, Option<i64>, u64),
    Truncate(usize, usize, Held, At),
    Delete(usize, usize),
    Allocate,
    Announce(u64, u64),
    Membership(Vec<u64>),
    /// The command of so many steps ago once more.
    Again(usize),
}

fn held() -> impl Strategy<Value = Held> {
    prop_oneof![
        12 => Just(Held::Newest),
        1 => Just(Held::OlderEpoch),
        1 => Just(Held::NewerEpoch),
        1 => Just(Held::OlderWriter),
        1 => Just(Held::NewerWriter),
    ]
}

fn at() -> impl Strategy<Value = At> {
    prop_oneof![
        10 => Just(At::Tail),
        6 => (1..8u64).prop_map(At::Before),
        1 => (1..4u64).prop_map(At::Behind),
        1 => Just(At::Largest),
    ]
}

fn id() -> impl Strategy<Value = Id> {
    prop_oneof![
        4 => (0..3u64).prop_map(Id::AfterNewest),
        2 => (0..2u64, 0..6u64).prop_map(|(epoch, number)| Id::Fixed(epoch, number)),
    ]
}

fn append_step() -> impl Strategy<Value = AppendStep> {
    let bytes = prop_oneof![
        60 => 1..7usize,
        4 => Just(0),
        1 => Just(APPEND_BYTES_MAX + 1),
    ];
    (1..6u64, held(), at(), bytes).prop_map(|(journal, held, at, bytes)| AppendStep {
        journal,
        held,
        at,
        bytes,
    })
}

/// Mostly one that is there.
fn worker() -> impl Strategy<Value = usize> {
    prop_oneof![30 => 0..3usize, 1 => Just(3)]
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop_oneof![6 => Just(JournalKind::Ops), 1 => Just(JournalKind::Raw)];
    let journal = || 0..JOURNALS.len();
    let offsets = vec((journal(), at()), 0..3);
    let point = option::weighted(0.7, option::weighted(0.6, id()));
    let step = prop_oneof![
        4 => (worker(), option::of(held())).prop_map(|(w, h)| Step::OpenWorker(w, h)),
        8 => (worker(), journal(), kind, held(), option::of(at()), (option::weighted(0.3, held()), 0..3u64))
            .prop_map(|(w, j, kind, h, at, over)| Step::OpenJournal(w, j, kind, h, at, over)),
        24 => vec(append_step(), 1..4).prop_map(Step::Append),
        4 => vec((1..6u64, held()), 1..3).prop_map(Step::Close),
        8 => (worker(), held(), id(), offsets).prop_map(|(w, h, id, at)| Step::Commit(w, h, id, at)),
        4 => (worker(), option::of(held()), point, option::of(1..4u64))
            .prop_map(|(w, h, p, port)| Step::Takeover(w, h, p, port)),
        4 => (worker(), option::of(-2..2i64), 1..4u64)
            .prop_map(|(w, g, port)| Step::SetEndpoint(w, g, port)),
        5 => (worker(), journal(), held(), at()).prop_map(|(w, j, h, at)| Step::Truncate(w, j, h, at)),
        1 => (worker(), journal()).prop_map(|(w, j)| Step::Delete(w, j)),
        1 => Just(Step::Allocate),
        2 => (1..5u64, 0..8u64).prop_map(|(node, odd)| Step::Announce(node, odd)),
        2 => vec(1..5u64, 1..4).prop_map(Step::Membership),
        5 => (1..10usize).prop_map(Step::Again),
    ];
    // Most histories begin with something to write to.
    let prologue = select(vec![0, 3, 7]).prop_map(prologue);
    (prologue, vec(step, 1..100)).prop_map(|(mut first, then)| {
        first.extend(then);
        first
    })
}

fn prologue(steps: usize) -> Vec<Step> {
    let open = |worker, journal| {
        Step::OpenJournal(
            worker,
            journal,
            JournalKind::Ops,
            Held::Newest,
            None,
            (None, 0),
        )
    };
    let mut all = vec![
        Step::OpenWorker(0, None),
        open(0, 0),
        open(0, 1),
        Step::OpenWorker(1, None),
        open(1, 0),
        Step::OpenWorker(2, None),
        open(2, 0),
    ];
    all.truncate(steps);
    all
}

fn worker_ref(worker: usize) -> WorkerRef {
    WORKERS[worker].parse().unwrap()
}

fn journal_name(journal: usize) -> JournalName {
    JOURNALS[journal].parse().unwrap()
}

impl World {
    fn epoch(&self, worker: usize, held: Held) -> Epoch {
        let name = worker_ref(worker);
        let told = self.workers.iter().find(|worker| worker.name == name);
        let newest = told.map_or(1, |worker| worker.epoch());
        Epoch(match held {
            Held::OlderEpoch => newest - 1,
            Held::NewerEpoch => newest + 1,
            Held::Newest | Held::OlderWriter | Held::NewerWriter => newest,
        })
    }

    fn generation(&self, worker: usize, seen: i64) -> u64 {
        let name = worker_ref(worker);
        let told = self.workers.iter().find(|worker| worker.name == name);
        let current = told.map_or(0, ToldWorker::generation);
        current.saturating_add_signed(seen)
    }

    fn offset(&self, worker: usize, journal: usize, at: At) -> Offset {
        let name = worker_ref(worker).journal(journal_name(journal));
        let told = self.journals.iter().find(|journal| journal.name == name);
        at.seen_from(told.map_or(0, ToldJournal::tail))
    }

    fn commit(
        &self,
        (worker, held): (usize, Held),
        id: Id,
        offsets: &[(usize, At)],
        at_unix_ms: u64,
    ) -> Command {
        let offset = |(journal, at): &(usize, At)| {
            (journal_name(*journal), self.offset(worker, *journal, *at))
        };
        Command::CommitCheckpoint(CommitCheckpoint {
            worker: worker_ref(worker),
            epoch: self.epoch(worker, held),
            id: self.id(worker, id),
            offsets: offsets.iter().map(offset).collect(),
            at_unix_ms,
        })
    }

    fn writer(&self, worker: usize, journal: usize, held: Held) -> Writer {
        let name = worker_ref(worker).journal(journal_name(journal));
        let told = self.journals.iter().find(|journal| journal.name == name);
        let newest = told.map_or(0, |journal| journal.token.writer.0);
        Writer(match held {
            Held::OlderWriter => newest.saturating_sub(1),
            Held::NewerWriter => newest + 1,
            Held::Newest | Held::OlderEpoch | Held::NewerEpoch => newest,
        })
    }

    fn id(&self, worker: usize, id: Id) -> CheckpointId {
        let name = worker_ref(worker);
        let told = self.workers.iter().find(|worker| worker.name == name);
        let kept = told.into_iter().flat_map(|worker| &worker.checkpoints);
        match id {
            Id::Fixed(rollback_epoch, number) => CheckpointId {
                rollback_epoch,
                number,
            },
            Id::AfterNewest(more) => {
                let newest = kept.map(|kept| kept.id).max().unwrap_or_default();
                CheckpointId {
                    number: newest.number + more,
                    ..newest
                }
            }
        }
    }

    fn token(&self, journal: u64, held: Held) -> FencingToken {
        let mut journals = self.journals.iter();
        let told = journals.find(|told| told.id == JournalId(journal));
        let newest = told.map_or(token(1, 1), |journal| journal.token);
        let (epoch, writer) = (newest.epoch.0, newest.writer.0);
        match held {
            Held::Newest => newest,
            Held::OlderEpoch => token(epoch - 1, writer),
            Held::NewerEpoch => token(epoch + 1, writer),
            Held::OlderWriter => token(epoch, writer - 1),
            Held::NewerWriter => token(epoch, writer + 1),
        }
    }

    fn close(&self, writers: &[(u64, Held)]) -> Command {
        let writer =
            |(journal, held): &(u64, Held)| (JournalId(*journal), self.token(*journal, *held));
        Command::CloseWriters(writers.iter().map(writer).collect())
    }

    fn append(&self, step: &AppendStep, fill: u8) -> Append {
        let id = JournalId(step.journal);
        let told = self.journals.iter().find(|journal| journal.id == id);
        Append {
            journal: id,
            token: self.token(step.journal, step.held),
            at: step.at.seen_from(told.map_or(0, ToldJournal::tail)),
            data: (0..step.bytes)
                .map(|at| fill ^ at.to_le_bytes()[0])
                .collect(),
        }
    }
}

impl At {
    fn seen_from(self, tail: u64) -> Offset {
        Offset(match self {
            Self::Tail => tail,
            Self::Before(bytes) => tail.saturating_sub(bytes),
            Self::Behind(bytes) => tail + bytes,
            Self::Largest => u64::MAX,
        })
    }
}

/// What is to be applied.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    Command(Command),
    Membership(Vec<Member>),
}

impl Step {
    /// The log entry that the step is, where the model is now. `fill` tells the bytes of one step from another's.
    pub(super) fn entry(&self, model: &Model, fill: u8, earlier: &[Entry]) -> Option<Entry> {
        let world = model.world();
        let at_unix_ms = u64::from(fill);
        let command = match self {
            Self::OpenWorker(worker, held) => Command::OpenWorker(OpenWorker {
                worker: worker_ref(*worker),
                epoch: held.map(|held| world.epoch(*worker, held)),
                at_unix_ms,
            }),
            Self::OpenJournal(worker, journal, kind, held, expected, (over, opener)) => {
                Command::OpenJournal(OpenJournal {
                    journal: worker_ref(*worker).journal(journal_name(*journal)),
                    kind: *kind,
                    epoch: world.epoch(*worker, *held),
                    expected: expected.map(|at| world.offset(*worker, *journal, at)),
                    over: over.map(|over| world.writer(*worker, *journal, over)),
                    opener: *opener,
                })
            }
            Self::Append(steps) => {
                batch(steps.iter().map(|step| world.append(step, fill)).collect())
            }
            Self::Close(writers) => world.close(writers),
            Self::Commit(worker, held, id, offsets) => {
                world.commit((*worker, *held), *id, offsets, at_unix_ms)
            }
            Self::SetEndpoint(worker, seen, port) => Command::SetEndpoint(SetEndpoint {
                worker: worker_ref(*worker),
                expected_generation: seen.map(|seen| world.generation(*worker, seen)),
                addresses: addresses(*port),
                by: format!("step {fill}"),
                at_unix_ms,
            }),
            Self::Takeover(worker, held, point, port) => Command::Takeover(Takeover {
                worker: worker_ref(*worker),
                expected_epoch: held.map(|held| world.epoch(*worker, held)),
                point: match point {
                    None => RestorePoint::Latest,
                    Some(None) => RestorePoint::Line,
                    Some(Some(id)) => RestorePoint::Checkpoint(world.id(*worker, *id)),
                },
                by: format!("step {fill}"),
                at_unix_ms,
                endpoint: port.map(addresses),
            }),
            Self::Truncate(worker, journal, held, at) => Command::Truncate(Truncate {
                journal: worker_ref(*worker).journal(journal_name(*journal)),
                epoch: world.epoch(*worker, *held),
                at: world.offset(*worker, *journal, *at),
            }),
            Self::Delete(worker, journal) => {
                Command::DeleteJournal(worker_ref(*worker).journal(journal_name(*journal)))
            }
            Self::Allocate => Command::AllocateNode,
            Self::Announce(node, odd) => {
                // One in eight comes from another disk.
                let incarnation = if *odd == 0 { 0 } else { *node };
                Command::AnnounceMember(member(*node, incarnation, &format!("moved {odd}")))
            }
            Self::Membership(nodes) => {
                let members = nodes.iter().map(|node| member(*node, *node, "joined"));
                return Some(Entry::Membership(members.collect()));
            }
            Self::Again(steps_ago) => {
                return earlier.iter().rev().nth(*steps_ago - 1).cloned();
            }
        };
        Some(Entry::Command(command))
    }
}
