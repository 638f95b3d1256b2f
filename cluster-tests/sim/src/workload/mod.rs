//! What clients do: workers that append, commit checkpoints and take themselves over, and readers that compare.
//!
//! Each worker is a host with the product's own client library. Its incarnations run side by side, for a fenced one does not
//! know it yet.

mod reader;
mod takeover;
mod writer;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::Duration,
};

use dos_cluster::{
    client::{Client, ClientError, ClientOptions},
    domain::{CheckpointId, Epoch, JournalRef, Offset, Rejected, WorkerRef},
};
use dos_jepsen::{Event, Name};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    dice::Dice,
    plan::{JOB, JOURNALS, NODES, Plan, address},
    recorder::{Phase, Shared},
};

pub use reader::NodeClient;

/// What all tasks of one worker share.
#[derive(Clone)]
pub struct Worker {
    pub plan: Plan,
    pub recorder: Shared,
    pub name: &'static str,
    dice: Rc<RefCell<Dice>>,
}

/// One life of a worker, under one epoch.
#[derive(Clone)]
struct Incarnation {
    worker: Worker,
    epoch: u64,
    client: Client,
    fenced: Rc<Cell<bool>>,
    /// How far each journal is durable, as told to this incarnation.
    durable: Rc<RefCell<BTreeMap<Name, u64>>>,
}

/// What a failed call means to its caller.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    /// This incarnation is fenced.
    Fenced,
    /// Try again.
    Again,
}

impl Worker {
    pub fn new(plan: &Plan, recorder: &Shared, name: &'static str) -> Self {
        let dice = Rc::new(RefCell::new(Dice::new(plan.seed, name)));
        Self {
            plan: plan.clone(),
            recorder: recorder.clone(),
            name,
            dice,
        }
    }

    fn dice<T>(&self, throw: impl FnOnce(&mut Dice) -> T) -> T {
        throw(&mut self.dice.borrow_mut())
    }

    fn worker_ref(&self) -> WorkerRef {
        format!("{JOB}/{}", self.name)
            .parse()
            .expect("a worker's name")
    }

    /// A journal's name, as the history has it.
    fn journal(&self, journal: &str) -> Name {
        journal_name(self.name, journal)
    }

    /// A client that knows all nodes, or only one.
    fn client(&self) -> Client {
        let mut endpoints: Vec<String> = NODES.iter().map(|node| address(node)).collect();
        let first = self.dice(|dice| dice.between(0, 2));
        endpoints.rotate_left(usize::try_from(first).unwrap_or_default());
        if self.dice(|dice| dice.percent(30)) {
            endpoints.truncate(1);
        }
        Client::new(ClientOptions::new(endpoints)).expect("the endpoints are addresses")
    }

    fn phase(&self) -> Phase {
        self.recorder.phase.get()
    }

    /// What a failed call means; what must never be is a violation.
    fn meaning(&self, what: &str, error: &ClientError) -> Meaning {
        self.recorder.note(format!("{} {what}: {error}", self.name));
        match error {
            ClientError::Rejected { rejected, .. } => match **rejected {
                Rejected::EpochFenced { .. } => return Meaning::Fenced,
                Rejected::WriterFenced { .. }
                | Rejected::CheckpointNotNewer { .. }
                | Rejected::WrongOffset { .. } => {}
                ref other => self.broken(what, other),
            },
            ClientError::TailMismatch { .. }
            | ClientError::Verification { .. }
            | ClientError::BadAnswer { .. } => {
                self.broken(what, error);
            }
            _ => {}
        }
        Meaning::Again
    }

    fn broken(&self, what: &str, error: &dyn std::fmt::Display) {
        self.recorder.push(Event::Broken {
            what: format!("{} {what}: {error}", self.name),
        });
    }

    /// Works until the run drains.
    pub async fn run(self) -> turmoil::Result {
        while self.phase() == Phase::Forming {
            sleep(Duration::from_millis(50)).await;
        }
        let client = self.client();
        let mut epoch = loop {
            match client.open_worker(&self.worker_ref(), None).await {
                Ok((epoch, _)) => break epoch.0,
                Err(error) => {
                    self.meaning("open worker", &error);
                    sleep(Duration::from_millis(100)).await;
                }
            }
        };
        let mut lives = JoinSet::new();
        lives.spawn_local(Incarnation::new(&self, epoch).run());
        lives.spawn_local(reader::run(self.clone()));
        while self.phase() != Phase::Drain {
            let pause = self.dice(|dice| dice.millis(3_000, 12_000));
            if self.stays_for(pause).await {
                epoch = self.take_over(&client, epoch).await;
                lives.spawn_local(Incarnation::new(&self, epoch).run());
            }
        }
        while let Some(ended) = lives.join_next().await {
            ended?;
        }
        Ok(())
    }

    /// Waits; true when the faults still go on then.
    async fn stays_for(&self, pause: Duration) -> bool {
        let until = self.recorder.elapsed() + pause;
        while self.phase() != Phase::Drain && self.recorder.elapsed() < until {
            sleep(Duration::from_millis(100)).await;
        }
        self.phase() == Phase::Faults
    }
}

pub fn journal_name(worker: &str, journal: &str) -> Name {
    format!("{worker}/{journal}").into()
}

impl Incarnation {
    fn new(worker: &Worker, epoch: u64) -> Self {
        worker
            .recorder
            .writers
            .set(worker.recorder.writers.get() + 1);
        Self {
            worker: worker.clone(),
            epoch,
            client: worker.client(),
            fenced: Rc::default(),
            durable: Rc::default(),
        }
    }

    async fn run(self) {
        let mut tasks = JoinSet::new();
        for journal in JOURNALS {
            tasks.spawn_local(writer::run(self.clone(), journal));
        }
        tasks.spawn_local(self.clone().commit_checkpoints());
        while let Some(ended) = tasks.join_next().await {
            ended.expect("a writer does not panic");
        }
        let recorder = &self.worker.recorder;
        recorder.note(format!("{} epoch {} ends", self.worker.name, self.epoch));
        recorder.writers.set(recorder.writers.get() - 1);
    }

    fn ends(&self) -> bool {
        self.fenced.get() || self.worker.phase() == Phase::Drain
    }

    fn journal_ref(&self, journal: &str) -> JournalRef {
        format!("{JOB}/{}/{journal}", self.worker.name)
            .parse()
            .expect("a journal's name")
    }

    async fn commit_checkpoints(self) {
        let (worker, recorder) = (&self.worker, &self.worker.recorder);
        for number in 1.. {
            sleep(worker.dice(|dice| dice.millis(300, 3_000))).await;
            if self.ends() {
                return;
            }
            let covered = self.durable.borrow().clone();
            let commit = recorder.next_op();
            let id = CheckpointId {
                rollback_epoch: self.epoch,
                number,
            };
            recorder.push(Event::CheckpointBegan {
                commit,
                worker: worker.name.into(),
                epoch: self.epoch,
                id: (self.epoch, number),
                offsets: covered.clone(),
            });
            let of = |(name, offset): (&Name, &u64)| {
                let name = name.rsplit('/').next().unwrap_or_default();
                (name.parse().expect("a journal's name"), Offset(*offset))
            };
            let offsets = covered.iter().map(of).collect();
            match self
                .client
                .commit_checkpoint(&worker.worker_ref(), Epoch(self.epoch), id, offsets)
                .await
            {
                Ok(_) => {
                    recorder.report.borrow_mut().checkpoints += 1;
                    recorder.push(Event::CheckpointCommitted { commit });
                }
                Err(error) => {
                    recorder.unknown();
                    if worker.meaning("commit", &error) == Meaning::Fenced {
                        self.fenced.set(true);
                    }
                }
            }
        }
    }
}
