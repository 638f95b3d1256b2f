//! The workers of one act at work: the source feeds them, their checkpoints are coordinated as the original does it, and the sink
//! lets out what the recovery line covers.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use futures::future::try_join_all;
use tokio::process::Child;

use super::{
    super::{
        super::exit::{Exit, Failure},
        stage::STEP_WITHIN,
    },
    process::{Gateway, Member, Place},
    sink::Sink,
    source,
    talk::{Order, Said},
    validator::Verdict,
};
use crate::{
    client::{Client, Floor},
    domain::JobName,
    env::time::{self, Duration, Instant},
};

/// Items of the source between two checkpoints.
const ITEMS: u64 = 300;
/// Checkpoints whose results wait for the recovery line, at most; then the source waits.
const HELD_MAX: usize = 20;
const ASK_EVERY: Duration = Duration::from_millis(10);

/// Where an act takes place.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    pub(super) client: &'a Client,
    pub(super) endpoints: Vec<String>,
    pub(super) job: JobName,
    /// Hosts and logs are in here.
    pub(super) dir: PathBuf,
    pub(super) children: &'a mut Vec<Child>,
}

/// The workers of a job, the first of them the initializer, with the application's source and sink.
#[derive(Debug)]
pub(super) struct Crew<'a> {
    pub(super) scene: Scene<'a>,
    pub(super) names: Vec<String>,
    pub(super) members: Vec<Member>,
    pub(super) sink: Sink,
    /// Up to where the source was read.
    position: u64,
    /// Where the source was at each checkpoint that may be gone back to.
    positions: BTreeMap<u64, u64>,
    /// The rollback epoch.
    rollback: u64,
    /// The recovery line's checkpoint, as last seen.
    pub(super) line: u64,
}

impl<'a> Crew<'a> {
    /// Starts so many workers, each with a gateway that turns to another node first.
    pub(super) async fn start(scene: Scene<'a>, count: usize) -> Result<Self, Failure> {
        let mut crew = Self {
            scene,
            names: (1..=count)
                .map(|number| format!("worker{number}"))
                .collect(),
            members: Vec::new(),
            sink: Sink::default(),
            position: 0,
            positions: BTreeMap::from([(0, 0)]),
            rollback: 0,
            line: 0,
        };
        for (index, name) in crew.names.clone().iter().enumerate() {
            let host = crew.host(index + 1);
            let gateway = crew.gateway(index).await?;
            let (member, _) = crew.hire(name, &host, gateway, index).await?;
            crew.members.push(member);
        }
        Ok(crew)
    }

    /// A place for a worker.
    pub(super) fn host(&self, number: usize) -> PathBuf {
        self.scene.dir.join(format!("host{number}"))
    }

    /// All endpoints, one node's first.
    pub(super) fn endpoints_from(&self, node: usize) -> Vec<String> {
        let mut endpoints = self.scene.endpoints.clone();
        let count = endpoints.len().max(1);
        endpoints.rotate_left(node % count);
        endpoints
    }

    /// A gateway that turns to a node first.
    pub(super) async fn gateway(&mut self, node: usize) -> Result<Gateway, Failure> {
        let endpoints = self.endpoints_from(node);
        let scene = &mut self.scene;
        Gateway::start(scene.children, &endpoints, scene.job.as_str(), &scene.dir).await
    }

    /// Starts a worker's process; answers the last checkpoint that its files call complete, too.
    pub(super) async fn hire(
        &mut self,
        name: &str,
        host: &Path,
        gateway: Gateway,
        node: usize,
    ) -> Result<(Member, u64), Failure> {
        let place = Place {
            name,
            workers: &self.names,
            host,
            logs: &self.scene.dir,
        };
        let node = node % self.scene.endpoints.len().max(1);
        Member::start(self.scene.children, place, gateway, node).await
    }

    /// Every worker obeys.
    async fn all(&mut self, order: Order) -> Result<Vec<Said>, Failure> {
        let orders = self.members.iter_mut().map(|member| member.order(&order));
        try_join_all(orders).await
    }

    /// More items, and the first half of a checkpoint: the initializer has begun it, and every worker has written its data.
    pub(super) async fn begin_checkpoint(&mut self) -> Result<u64, Failure> {
        let (from, to) = (self.position, self.position + ITEMS);
        for said in self.all(Order::Feed { from, to }).await? {
            if let Said::Fed { emissions } = said {
                self.sink.take(emissions);
            }
        }
        self.position = to;
        let rollback = self.rollback;
        let Some(initializer) = self.members.first_mut() else {
            return Err(Failure::error("a job without workers"));
        };
        let id = match initializer.order(&Order::Begin { rollback }).await? {
            Said::Begun { id } => id,
            other => return Err(initializer.unexpected(&other)),
        };
        self.all(Order::Data { id }).await?;
        Ok(id)
    }

    /// The second half: the id behind the data everywhere, then the news that the checkpoint is complete.
    pub(super) async fn end_checkpoint(&mut self, id: u64) -> Result<(), Failure> {
        self.all(Order::Id { id }).await?;
        self.sink.commit(id);
        self.positions.insert(id, self.position);
        let rollback = self.rollback;
        let commit = Order::Commit { id, rollback };
        if let Some(initializer) = self.members.first_mut() {
            initializer.order(&commit).await?;
        }
        let others = self.members.iter_mut().skip(1);
        try_join_all(others.map(|member| member.order(&commit))).await?;
        Ok(())
    }

    /// Works on until so many more checkpoints are in the recovery line.
    pub(super) async fn work(&mut self, checkpoints: u64) -> Result<(), Failure> {
        let target = self.line + checkpoints;
        while self.line < target {
            let id = self.begin_checkpoint().await?;
            self.end_checkpoint(id).await?;
            self.look().await?;
            if self.sink.held() >= HELD_MAX {
                self.until_line(id).await?;
            }
        }
        Ok(())
    }

    /// Looks at the recovery line once.
    pub(super) async fn look(&mut self) -> Result<(), Failure> {
        let line = match self
            .scene
            .client
            .line(&self.scene.job, Floor::Linearizable)
            .await
        {
            Ok(answer) => answer.line.map_or(0, |line| line.number),
            // The job is there once the first bytes are.
            Err(error) if error.rejected().is_some() => 0,
            Err(error) => return Err(error.into()),
        };
        self.line = line;
        self.sink.release(line);
        self.positions = self.positions.split_off(&self.sink.released());
        Ok(())
    }

    /// Waits until the recovery line has come to a checkpoint.
    pub(super) async fn until_line(&mut self, id: u64) -> Result<(), Failure> {
        let deadline = Instant::now() + STEP_WITHIN;
        loop {
            self.look().await?;
            if self.line >= id {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let line = self.line;
                let message = format!("the recovery line stays at {line}, behind {id}");
                return Err(Failure::new(Exit::Timeout, message)
                    .try_next(format!("see the logs in {}", self.scene.dir.display())));
            }
            time::sleep(ASK_EVERY).await;
        }
    }

    /// Every worker goes back to a checkpoint, and so do the source and the sink; answers how many results will come again.
    pub(super) async fn roll_back(&mut self, id: u64) -> Result<usize, Failure> {
        let again = self.sink.roll_back(id);
        let again = again.map_err(|error| Failure::new(Exit::Verification, error.to_string()))?;
        let Some(position) = self.positions.get(&id).copied() else {
            let message = format!("the source has no position for checkpoint {id}");
            return Err(Failure::new(Exit::Verification, message));
        };
        self.position = position;
        self.positions.retain(|at, _| *at <= id);
        self.rollback += 1;
        self.all(Order::Rollback { id }).await?;
        Ok(again)
    }

    /// One more checkpoint, everything out, and the verdict.
    pub(super) async fn finish(mut self) -> Result<Verdict, Failure> {
        let id = self.begin_checkpoint().await?;
        self.end_checkpoint(id).await?;
        self.until_line(id).await?;
        let verdict = self.sink.validator.judge(&source::counts(self.position));
        for member in &self.members {
            member.kill(self.scene.children).await;
            member.gateway.kill(self.scene.children).await;
        }
        verdict.map_err(|fault| Failure::new(Exit::Verification, fault.to_string()))
    }
}
