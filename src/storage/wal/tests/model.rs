//! The log against a `Vec`.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Append { count: u64, bytes: usize },
    Vote,
    Committed,
    Truncate { keep: u64 },
    Purge { ahead: u64 },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..6u64, 0..900usize).prop_map(|(count, bytes)| Step::Append { count, bytes }),
        2 => Just(Step::Vote),
        2 => Just(Step::Committed),
        2 => (0..8u64).prop_map(|keep| Step::Truncate { keep }),
        2 => (0..20u64).prop_map(|ahead| Step::Purge { ahead }),
        1 => Just(Step::Reopen),
    ]
}

/// The log as a `Vec`.
#[derive(Default)]
struct Model {
    entries: Vec<LogEntry>,
    purged: Option<LogId>,
    vote: Option<Vote>,
    committed: Option<LogId>,
    term: u64,
}

impl Model {
    fn last(&self) -> Option<LogId> {
        self.entries
            .last()
            .map(|entry| entry.log_id)
            .or(self.purged)
    }

    fn step(&mut self, wal: &Wal, step: &Step) {
        let next = self.last().map_or(0, |last| last.index + 1);
        match step {
            Step::Append { count, bytes } => {
                let entries: Vec<_> = (next..next + count)
                    .map(|index| entry(self.term, index, *bytes))
                    .collect();
                wal.append(entries.clone(), Box::new(|synced| synced.unwrap()))
                    .unwrap();
                self.entries.extend(entries);
            }
            Step::Vote => {
                self.term += 1;
                self.vote = Some(vote(self.term));
                drop(wal.save_vote(vote(self.term)));
            }
            Step::Committed => {
                self.committed = self.last();
                wal.save_committed(self.committed).unwrap();
            }
            Step::Truncate { keep } => {
                self.term += 1;
                self.entries.truncate(usize::try_from(*keep).unwrap());
                wal.truncate_after(self.last()).unwrap();
            }
            Step::Purge { ahead } => {
                let from = self.purged.map_or(0, |purged| purged.index + 1);
                let through = from + ahead;
                let held = self
                    .entries
                    .iter()
                    .find(|entry| entry.log_id.index == through);
                let through = held.map_or(id(self.term, through), |entry| entry.log_id);
                self.entries
                    .retain(|entry| entry.log_id.index > through.index);
                self.purged = Some(through);
                wal.purge(through).unwrap();
            }
            Step::Reopen => {}
        }
    }

    fn check(&self, wal: &Wal) {
        assert_eq!(wal.last_log_id(), self.last());
        assert_eq!(wal.last_purged(), self.purged);
        assert_eq!(wal.vote(), self.vote);
        assert_eq!(all(wal), self.entries);
    }
}

#[test]
fn the_log_is_what_a_vec_would_be_through_rolls_recycling_and_reopening() {
    let recycled = Mutex::new(0);
    proptest!(ProptestConfig::with_cases(200), |(steps in proptest::collection::vec(step(), 1..80))| {
        let dir = scratch();
        let mut model = Model::default();
        let (mut wal, _) = open(dir.path());
        for step in &steps {
            model.step(&wal, step);
            model.check(&wal);
            if matches!(step, Step::Reopen) {
                *recycled.lock().unwrap() += wal.stats().spares;
                close(wal);
                let recovered;
                (wal, recovered) = open(dir.path());
                prop_assert_eq!(recovered.committed, model.committed.map(|mark| {
                    let last = model.last().unwrap_or(mark);
                    if mark.index > last.index { last } else { mark }
                }).filter(|_| model.last().is_some()));
                prop_assert_eq!(recovered.report.cut, None);
                model.committed = recovered.committed;
                model.check(&wal);
            }
        }
        close(wal);
    });
    assert!(*recycled.lock().unwrap() > 0, "no case came to recycling");
}
