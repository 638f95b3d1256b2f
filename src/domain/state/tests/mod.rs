//! The rules by table and by example here and beside; random histories against a naive model in [`random`].

mod bounds;
mod found;
mod histories;
mod model;
mod random;
mod rejections;
mod runs;
mod steps;

use bytes::Bytes;

use super::*;
use crate::domain::{
    Addresses, Append, AppendBatch, Appended, CheckpointId, CommitCheckpoint, Epoch, FencingToken,
    JournalKind, Offset, OpenJournal, OpenWorker, OpenedJournal, RestorePoint, SetEndpoint,
    TakenOver, Takeover, Truncate, Writer,
};

/// A state, and the log index it is at.
#[derive(Debug, Clone, Default)]
struct Bench {
    state: State,
    index: u64,
}

impl Bench {
    /// Applies a command; a refused one must change nothing but the hash.
    fn apply(&mut self, command: &Command) -> (Result<Outcome, Rejected>, Vec<Change>) {
        self.index += 1;
        let before = self.state.clone();
        let mut changes = Vec::new();
        let answer = self.state.apply(self.index, 7, command, &mut changes);
        assert_ne!(self.state.counters.hash, before.counters.hash);
        if answer.is_err() {
            assert_eq!(changes, [], "{command:?}");
            let mut after = self.state.clone();
            after.counters.hash = before.counters.hash;
            assert_eq!(after, before, "{command:?}");
        }
        (answer, changes)
    }

    fn accept(&mut self, command: &Command) -> Outcome {
        let (answer, _) = self.apply(command);
        answer.unwrap_or_else(|rejected| panic!("{command:?}: {rejected}"))
    }

    fn refuse(&mut self, command: &Command) -> Rejected {
        let (answer, _) = self.apply(command);
        answer.expect_err("a refusal")
    }

    fn open_worker(&mut self, worker: &str) -> Epoch {
        match self.accept(&open_worker(worker, None)) {
            Outcome::WorkerOpened { epoch, .. } => epoch,
            other => panic!("{other:?}"),
        }
    }

    fn open(&mut self, journal: &str, epoch: u64) -> OpenedJournal {
        match self.accept(&open_journal(journal, epoch, None)) {
            Outcome::JournalOpened(opened) => opened,
            other => panic!("{other:?}"),
        }
    }

    fn append(
        &mut self,
        opened: &OpenedJournal,
        at: u64,
        data: &str,
    ) -> Result<Appended, Rejected> {
        match self.accept(&append(opened, at, data)) {
            Outcome::Appended(answers) => answers.into_iter().next().expect("one answer"),
            other => panic!("{other:?}"),
        }
    }

    fn take_over(&mut self, worker: &str, point: RestorePoint) -> TakenOver {
        match self.accept(&take_over(worker, None, point)) {
            Outcome::TakenOver(taken) => taken,
            other => panic!("{other:?}"),
        }
    }

    fn tail(&self, journal: &str) -> u64 {
        self.state
            .journal(&journal.parse().unwrap())
            .unwrap()
            .tail
            .0
    }

    fn checkpoints(&self, worker: &str) -> Vec<u64> {
        let worker = self.state.worker(&worker.parse().unwrap()).unwrap();
        worker.checkpoints.keys().map(|id| id.number).collect()
    }
}

fn open_worker(worker: &str, epoch: Option<u64>) -> Command {
    Command::OpenWorker(OpenWorker {
        worker: worker.parse().unwrap(),
        epoch: epoch.map(Epoch),
        at_unix_ms: 1000,
    })
}

fn open_journal(journal: &str, epoch: u64, expected: Option<u64>) -> Command {
    Command::OpenJournal(OpenJournal {
        journal: journal.parse().unwrap(),
        kind: JournalKind::Ops,
        epoch: Epoch(epoch),
        expected: expected.map(Offset),
        over: None,
        opener: 0,
    })
}

fn append(opened: &OpenedJournal, at: u64, data: &str) -> Command {
    batch(vec![Append {
        journal: opened.journal,
        token: opened.token,
        at: Offset(at),
        data: Bytes::copy_from_slice(data.as_bytes()),
    }])
}

fn batch(appends: Vec<Append>) -> Command {
    Command::Append(AppendBatch {
        appends,
        at_unix_ms: 1500,
    })
}

fn checkpoint(number: u64) -> CheckpointId {
    CheckpointId {
        rollback_epoch: 0,
        number,
    }
}

fn commit(worker: &str, epoch: u64, number: u64, offsets: &[(&str, u64)]) -> Command {
    let offsets = offsets.iter();
    Command::CommitCheckpoint(CommitCheckpoint {
        worker: worker.parse().unwrap(),
        epoch: Epoch(epoch),
        id: checkpoint(number),
        offsets: offsets
            .map(|(name, at)| (name.parse().unwrap(), Offset(*at)))
            .collect(),
        at_unix_ms: 2000,
    })
}

fn take_over(worker: &str, expected: Option<u64>, point: RestorePoint) -> Command {
    Command::Takeover(Takeover {
        worker: worker.parse().unwrap(),
        expected_epoch: expected.map(Epoch),
        point,
        by: "a test".to_owned(),
        at_unix_ms: 3000,
        endpoint: None,
    })
}

fn addresses(port: u64) -> Addresses {
    Addresses::new([("control".to_owned(), format!("h:{port}"))].into()).unwrap()
}

fn set_endpoint(worker: &str, expected: Option<u64>, port: u64) -> Command {
    Command::SetEndpoint(SetEndpoint {
        worker: worker.parse().unwrap(),
        expected_generation: expected,
        addresses: addresses(port),
        by: "a test".to_owned(),
        at_unix_ms: 4000,
    })
}

fn truncate(journal: &str, epoch: u64, at: u64) -> Command {
    Command::Truncate(Truncate {
        journal: journal.parse().unwrap(),
        epoch: Epoch(epoch),
        at: Offset(at),
    })
}

fn token(epoch: u64, writer: u64) -> FencingToken {
    FencingToken {
        epoch: Epoch(epoch),
        writer: Writer(writer),
    }
}

fn member(node: u64, incarnation: u64, address: &str) -> Member {
    Member {
        node: NodeId(node),
        incarnation,
        client_address: address.to_owned(),
        peer_address: address.to_owned(),
        http_address: address.to_owned(),
    }
}
