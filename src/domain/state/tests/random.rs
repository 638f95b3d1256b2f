//! Random histories: the state and the naive model agree at every step, and what the changes name is all that changed.

use std::cell::RefCell;

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use super::{
    model::Model,
    steps::{Entry, Step, steps},
    *,
};
use crate::codec::value;

/// What a store holds: written by following changes only.
#[derive(Debug, Default)]
struct Store {
    workers: BTreeMap<WorkerId, Vec<u8>>,
    journals: BTreeMap<JournalId, Vec<u8>>,
    checkpoints: BTreeMap<(WorkerId, CheckpointId), Vec<u8>>,
    members: BTreeMap<NodeId, Vec<u8>>,
    bytes: BTreeMap<JournalId, Vec<u8>>,
}

/// Writes the record when there is one, else deletes it.
fn put<K: Ord>(records: &mut BTreeMap<K, Vec<u8>>, key: K, record: Option<Vec<u8>>) {
    match record {
        Some(record) => records.insert(key, record),
        None => records.remove(&key),
    };
}

impl Store {
    fn follow(&mut self, state: &State, change: Change) {
        match change {
            Change::Worker(id) => {
                let record = state.worker_by_id(id).map(value::encode_worker);
                put(&mut self.workers, id, record);
            }
            Change::Journal(id) => {
                let record = state.journal_by_id(id).map(value::encode_journal);
                put(&mut self.journals, id, record);
            }
            Change::Checkpoint(worker, id) => {
                let kept = state.worker_by_id(worker).unwrap().checkpoints.get(&id);
                let record = kept.map(value::encode_checkpoint);
                put(&mut self.checkpoints, (worker, id), record);
            }
            Change::Member(node) => {
                let record = state.member(node).map(value::encode_member);
                put(&mut self.members, node, record);
            }
            Change::Chunk { journal, at, data } => {
                let bytes = self.bytes.entry(journal).or_default();
                assert_eq!(at.0, bytes.len() as u64, "a chunk begins at the tail");
                bytes.extend_from_slice(&data);
            }
            Change::Cut { journal, at } => {
                let bytes = self.bytes.entry(journal).or_default();
                assert!(at.0 < bytes.len() as u64, "a cut takes something");
                bytes.truncate(usize::try_from(at.0).unwrap());
            }
        }
    }

    fn load(&self, counters: Counters) -> State {
        fn all<'a, K, T: 'a>(
            records: &'a BTreeMap<K, Vec<u8>>,
            decode: impl Fn(Bytes) -> Result<T, crate::codec::CodecError> + 'a,
        ) -> impl Iterator<Item = T> + 'a {
            records
                .values()
                .map(move |raw| decode(raw.clone().into()).unwrap())
        }
        let workers = self.checkpoints.keys().map(|(worker, _)| *worker);
        let checkpoints = workers.zip(all(&self.checkpoints, value::decode_checkpoint));
        let counters = value::decode_counters(value::encode_counters(counters).into()).unwrap();
        State::from_records(
            counters,
            all(&self.workers, value::decode_worker),
            all(&self.journals, value::decode_journal),
            checkpoints,
            all(&self.members, value::decode_member),
        )
    }
}

/// The first word of what a value prints: its variant.
fn variant(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    let end = text
        .find(|c: char| !c.is_alphanumeric())
        .unwrap_or(text.len());
    text[..end].to_owned()
}

type Seen = BTreeMap<String, usize>;

/// One history, run on both sides.
#[derive(Debug, Default)]
struct Run {
    state: State,
    model: Model,
    store: Store,
    entries: Vec<Entry>,
    /// How often each outcome and each rejection was seen.
    seen: Seen,
}

impl Run {
    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let fill = u8::try_from(self.entries.len()).unwrap();
        let Some(entry) = step.entry(&self.model, fill, &self.entries) else {
            return Ok(());
        };
        self.entries.push(entry.clone());
        let log_index = self.entries.len() as u64;
        let before = self.state.clone();
        let mut changes = Vec::new();
        match &entry {
            Entry::Membership(members) => {
                self.state
                    .follow_membership(log_index, members, &mut changes);
                self.model.follow_membership(log_index, members);
            }
            Entry::Command(command) => {
                let answer = self.state.apply(log_index, 7, command, &mut changes);
                let expected = self.model.apply(log_index, command);
                prop_assert_eq!(&answer, &expected, "{:?}", command);
                self.check_answer(&before, command, &answer, &changes)?;
            }
        }
        for change in changes {
            self.store.follow(&self.state, change);
        }
        prop_assert_eq!(&self.store.load(self.state.counters()), &self.state);
        self.check_against_model()?;
        self.check_invariants(&before)
    }

    fn saw(&mut self, what: String) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn check_answer(
        &mut self,
        before: &State,
        command: &Command,
        answer: &Result<Outcome, Rejected>,
        changes: &[Change],
    ) -> Result<(), TestCaseError> {
        let without_hash = |state: &State| {
            let mut state = state.clone();
            state.counters.hash = 0;
            state
        };
        let mut refused = answer.is_err();
        match (command, answer) {
            (_, Err(rejected)) => self.saw(variant(rejected)),
            (Command::Append(batch), Ok(Outcome::Appended(answers))) => {
                refused = answers.iter().all(Result::is_err);
                for (append, answer) in batch.appends.iter().zip(answers) {
                    match answer {
                        Err(rejected) => self.saw(variant(rejected)),
                        Ok(_) => {
                            let journal = self.state.journal_by_id(append.journal).unwrap();
                            prop_assert_eq!(append.token, journal.token);
                        }
                    }
                }
                if !refused && changes.is_empty() {
                    self.saw("Duplicate".to_owned());
                }
            }
            (_, Ok(outcome)) => self.saw(variant(outcome)),
        }
        if refused {
            prop_assert_eq!(changes, []);
        }
        if changes.is_empty() && *command != Command::AllocateNode {
            prop_assert_eq!(without_hash(&self.state), without_hash(before));
        }
        prop_assert_ne!(self.state.counters.hash, before.counters.hash);
        Ok(())
    }

    fn check_against_model(&self) -> Result<(), TestCaseError> {
        let world = self.model.world();
        prop_assert_eq!(self.state.journals().count(), world.journals.len());
        for told in &world.journals {
            let journal = self.state.journal(&told.name).unwrap();
            prop_assert_eq!(journal.tail.0, told.tail());
            prop_assert_eq!(journal.token, told.token);
            prop_assert_eq!(journal.writer_open, told.writer_open);
            prop_assert_eq!(journal.kind, told.kind);
            prop_assert_eq!(journal.cuts, told.cuts);
            let open = self.state.open_writers();
            let is_open = open
                .into_iter()
                .any(|writer| writer == (told.id, told.token));
            prop_assert_eq!(is_open, told.writer_open);
            let bytes: Vec<_> = told.bytes.iter().map(|(byte, _)| *byte).collect();
            let stored = self.store.bytes.get(&journal.id).cloned();
            prop_assert_eq!(stored.unwrap_or_default(), bytes);
        }
        prop_assert_eq!(self.state.workers().count(), world.workers.len());
        for told in &world.workers {
            let worker = self.state.worker(&told.name).unwrap();
            prop_assert_eq!(worker.epoch.0, told.epoch());
            prop_assert_eq!(Some(&worker.succession), told.succession.last());
            prop_assert_eq!(&worker.endpoint, &told.endpoint());
            let mut ids: Vec<_> = told.checkpoints.iter().map(|kept| kept.id).collect();
            ids.sort_unstable();
            prop_assert!(worker.checkpoints.keys().eq(&ids));
        }
        let mut members = world.members;
        members.sort_by_key(|member| member.node);
        prop_assert!(self.state.members().eq(&members));
        Ok(())
    }

    fn check_invariants(&self, before: &State) -> Result<(), TestCaseError> {
        for worker in self.state.workers() {
            for checkpoint in worker.checkpoints.values() {
                for (journal, offset) in &checkpoint.offsets {
                    prop_assert!(*offset <= self.state.journal_by_id(*journal).unwrap().tail);
                }
            }
            if let Ok(line) = self.state.line(&worker.name.job) {
                prop_assert!(worker.checkpoints.contains_key(&line.id));
            }
        }
        for journal in self.state.journals() {
            let owner = self.state.worker_by_id(journal.owner).unwrap();
            prop_assert_eq!(owner.epoch, journal.token.epoch);
            prop_assert!(journal.writer_from <= journal.tail);
            if let Some(earlier) = before.journal_by_id(journal.id) {
                prop_assert!(earlier.token <= journal.token);
                prop_assert!(earlier.cuts < journal.cuts || earlier.tail <= journal.tail);
            }
        }
        Ok(())
    }

    /// Another member that applies the same entries is in the same state.
    fn check_another_member(&self) -> Result<(), TestCaseError> {
        let mut other = State::default();
        for (position, entry) in self.entries.iter().enumerate() {
            let log_index = position as u64 + 1;
            let mut changes = Vec::new();
            match entry {
                Entry::Membership(members) => {
                    other.follow_membership(log_index, members, &mut changes);
                }
                Entry::Command(command) => {
                    let _ = other.apply(log_index, 7, command, &mut changes);
                }
            }
        }
        prop_assert_eq!(&other, &self.state);
        Ok(())
    }
}

#[test]
fn the_state_agrees_with_a_naive_model() {
    let config = Config {
        cases: 256,
        failure_persistence: None,
        ..Config::default()
    };
    let seen = RefCell::new(Seen::new());
    let run = |steps: Vec<Step>| {
        let mut run = Run::default();
        for step in &steps {
            run.step(step)?;
        }
        run.check_another_member()?;
        for (what, times) in run.seen {
            *seen.borrow_mut().entry(what).or_default() += times;
        }
        Ok(())
    };
    let outcome = TestRunner::new(config).run(&steps(), run);
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    // Everything that can happen did; the bounds have tests of their own.
    let expected = [
        "CheckpointBeyondTail",
        "CheckpointCommitted",
        "CheckpointNotNewer",
        "CutBelowCheckpoint",
        "Duplicate",
        "EmptyAppend",
        "EndpointSet",
        "EpochFenced",
        "ForeignIncarnation",
        "JournalDeleted",
        "JournalOpened",
        "MemberAnnounced",
        "NoRecoveryLine",
        "NodeAllocated",
        "OpenedMeanwhile",
        "StaleEndpoint",
        "TakenOver",
        "TooLarge",
        "Truncated",
        "UnknownCheckpoint",
        "UnknownJob",
        "UnknownJournal",
        "UnknownJournalId",
        "UnknownMember",
        "UnknownWorker",
        "WorkerOpened",
        "WriterFenced",
        "WritersClosed",
        "WrongKind",
        "WrongOffset",
    ];
    assert!(seen.borrow().keys().eq(&expected), "{:?}", seen.borrow());
}
