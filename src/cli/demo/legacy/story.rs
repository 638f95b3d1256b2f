//! The acts of the story: what the original's own demos do to their workers, and more.

use std::path::{Path, PathBuf};

use tokio::process::Child;

use super::{
    super::{
        super::{
            Context,
            dev::{self, DevNode, Layout},
            exit::{self, Exit, Failure},
        },
        stage::{self, bytes, millis},
    },
    crew::{Crew, Scene},
    process::{self, Restored},
};
use crate::{
    client::Client,
    domain::{CheckpointId, NodeId},
    env::{fs, time::Instant},
};

const SERVERS: u16 = 3;
/// Checkpoints in the recovery line before a blow, and after it.
const CHECKPOINTS: u64 = 15;
/// The worker that things happen to, counted from 0; the first one is the initializer.
const VICTIM: usize = 1;

/// What happens to the victim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    /// Its process is killed.
    Process,
    /// Its process is killed and its files are gone.
    Host,
    /// The same, and the leading server is killed with it.
    HostAndLeader,
}

#[derive(Debug)]
struct Act {
    job: &'static str,
    title: &'static str,
    workers: usize,
    blow: Blow,
    /// The hosts that the victim moves to, one blow each.
    hosts: &'static [usize],
}

const ACTS: [Act; 5] = [
    Act {
        job: "restart-in-place",
        title: "2 workers, one restarted in place",
        workers: 2,
        blow: Blow::Process,
        hosts: &[2],
    },
    Act {
        job: "two-workers",
        title: "2 workers, one moves to another host",
        workers: 2,
        blow: Blow::Host,
        hosts: &[4],
    },
    Act {
        job: "three-workers",
        title: "3 workers, one moves to another host",
        workers: 3,
        blow: Blow::Host,
        hosts: &[4],
    },
    Act {
        job: "worker-and-server",
        title: "a worker and the leading server are lost together",
        workers: 2,
        blow: Blow::HostAndLeader,
        hosts: &[4],
    },
    Act {
        job: "moved-again",
        title: "a worker moves again and again: from host 2 to 4, to 2, to 3",
        workers: 2,
        blow: Blow::Host,
        hosts: &[4, 2, 3],
    },
];

/// The theatre: what lasts longer than an act.
struct Theatre<'a> {
    context: &'a Context,
    client: Client,
    layout: Layout,
    dir: PathBuf,
    began: Instant,
}

/// When a blow fell, and the leader it hit, if any: its number.
struct Fallen {
    at: Instant,
    leader: Option<usize>,
}

/// Tells it, and cleans up behind it.
pub(super) async fn tell(dir: Option<&Path>, context: &Context) -> Result<Exit, Failure> {
    stage::play(dir, context, async |dir, servers, children| {
        run(context, dir, servers, children).await
    })
    .await
}

async fn run(
    context: &Context,
    dir: &Path,
    servers: &mut Vec<DevNode>,
    children: &mut Vec<Child>,
) -> Result<(), Failure> {
    let began = Instant::now();
    let layout = Layout::open(&dir.join("servers"), Some(SERVERS), None)?;
    dev::start_cluster(context, &layout, servers).await?;
    let theatre = Theatre {
        context,
        client: context.client_of(&layout.endpoints())?,
        layout,
        dir: dir.to_owned(),
        began,
    };
    theatre.tell(&format!(
        "{SERVERS} servers form a cluster; the workers keep the original's files and speak its protocol, each to a gateway beside it"
    ))?;
    for (act, number) in ACTS.iter().zip(1..) {
        theatre.play(act, number, servers, children).await?;
    }
    theatre.tell(&format!(
        "all {} acts: no sequence lost, doubled or reordered",
        ACTS.len()
    ))
}

impl Theatre<'_> {
    /// A line of the story, with its time.
    fn tell(&self, line: &str) -> Result<(), Failure> {
        let at = self.began.elapsed().as_secs_f64();
        let output = &self.context.output;
        output.raw(format!("{at:7.2} s  {line}\n").as_bytes())
    }

    async fn play(
        &self,
        act: &Act,
        number: usize,
        servers: &mut [DevNode],
        children: &mut Vec<Child>,
    ) -> Result<(), Failure> {
        self.tell(&format!("act {number}: {}", act.title))?;
        let dir = self.dir.join(act.job);
        fs::create_dir_all(&dir).map_err(|error| exit::cannot("create", &dir, &error))?;
        let job = act.job.parse();
        let scene = Scene {
            client: &self.client,
            endpoints: self.layout.endpoints(),
            job: job.map_err(|error| Failure::error(format!("{error}")))?,
            dir,
            children,
        };
        let mut crew = Crew::start(scene, act.workers).await?;
        crew.work(CHECKPOINTS).await?;
        for host in act.hosts {
            let fallen = self.strike(act.blow, &mut crew, servers).await?;
            let to = match act.blow {
                Blow::Process => self.restart(&mut crew).await?,
                Blow::Host | Blow::HostAndLeader => {
                    self.migrate(&mut crew, *host, fallen.leader).await?
                }
            };
            self.go_on(&mut crew, to, &fallen).await?;
            if let Some(leader) = fallen.leader {
                stage::bring_back(&self.client, &self.layout, servers, leader).await?;
                let leader = NodeId(leader as u64);
                self.tell(&format!("{leader} is started again and has caught up"))?;
            }
            crew.work(CHECKPOINTS).await?;
        }
        let verdict = crew.finish().await?;
        self.tell(&format!(
            "verdict: {} numbers of {} keys, none lost, none doubled, none out of order",
            verdict.numbers, verdict.keys
        ))
    }

    /// Kills the victim in the middle of a checkpoint: its data is written, its id is not.
    async fn strike(
        &self,
        blow: Blow,
        crew: &mut Crew<'_>,
        servers: &mut [DevNode],
    ) -> Result<Fallen, Failure> {
        let leader = match blow {
            Blow::HostAndLeader => {
                let status = self.client.status().await?;
                Some(usize::try_from(status.leader_id).unwrap_or_default())
            }
            Blow::Process | Blow::Host => None,
        };
        let id = crew.begin_checkpoint().await?;
        let at = Instant::now();
        let leading = leader.and_then(|leader| servers.get_mut(leader.checked_sub(1)?));
        if let Some(node) = leading {
            node.kill_9().await;
        }
        let victim = &crew.members[VICTIM];
        victim.kill(crew.scene.children).await;
        let mut lost = format!("kill -9: {}", victim.name);
        if let Some(leader) = leader {
            lost.push_str(&format!(
                " and the leading server, {}",
                NodeId(leader as u64)
            ));
        }
        lost.push_str(&format!(", while checkpoint {id} is under way"));
        if blow != Blow::Process {
            victim.gateway.kill(crew.scene.children).await;
            let host = &victim.host;
            fs::remove_dir_all(host).map_err(|error| exit::cannot("remove", host, &error))?;
            lost.push_str("; its host is lost, with its files and its gateway");
        }
        let released = crew.sink.released();
        lost.push_str(&format!("; results up to checkpoint {released} are out"));
        self.tell(&lost)?;
        Ok(Fallen { at, leader })
    }

    /// Starts the victim again where it was; answers the checkpoint that its own files know.
    async fn restart(&self, crew: &mut Crew<'_>) -> Result<u64, Failure> {
        let victim = crew.members.remove(VICTIM);
        let (member, to) = crew
            .hire(&victim.name, &victim.host, victim.gateway, victim.node)
            .await?;
        let line = format!("{} starts on its own files: checkpoint {to}", member.name);
        crew.members.insert(VICTIM, member);
        self.tell(&line)?;
        Ok(to)
    }

    /// Restores the victim on another host, through another node than it wrote to, and starts it there with a gateway that
    /// turns to yet another one.
    async fn migrate(
        &self,
        crew: &mut Crew<'_>,
        number: usize,
        dead: Option<usize>,
    ) -> Result<u64, Failure> {
        let victim = crew.members.remove(VICTIM);
        let asked = Instant::now();
        let host = crew.host(number);
        let count = crew.scene.endpoints.len();
        let is_dead = |node: usize| dead == Some(node % count + 1);
        let mut others = (1..count).map(|step| (victim.node + step) % count);
        let node = others.find(|node| !is_dead(*node)).unwrap_or(victim.node);
        let endpoints = crew.endpoints_from(node);
        // With a server lost the survivors share the work.
        let from = dead.is_none().then(|| endpoints[0].as_str());
        let job = crew.scene.job.as_str();
        let restored = process::restore(&endpoints, from, job, &victim.name, &host).await?;
        let to = restored_to(&restored)?;
        self.tell(&format!(
            "dos-cluster restore --job {job} --worker {} --at line --to host{number}: checkpoint {to}, epoch {}, {}, in {}",
            victim.name,
            restored.epoch,
            origins(&restored),
            millis(asked.elapsed())
        ))?;
        let gateway = crew.gateway(node + 1).await?;
        let (member, known) = crew.hire(&victim.name, &host, gateway, node + 1).await?;
        crew.members.insert(VICTIM, member);
        if known != to {
            let message = format!("checkpoint {to} was restored, the files say {known}");
            return Err(Failure::new(Exit::Verification, message));
        }
        Ok(to)
    }

    /// Rolls everybody back, and waits for the first new checkpoint in the recovery line.
    async fn go_on(&self, crew: &mut Crew<'_>, to: u64, fallen: &Fallen) -> Result<(), Failure> {
        let again = crew.roll_back(to).await?;
        let id = crew.begin_checkpoint().await?;
        crew.end_checkpoint(id).await?;
        crew.until_line(id).await?;
        self.tell(&format!(
            "all {} workers went back to checkpoint {to}, {again} results came again; checkpoint {id} is in the recovery line {} after the blow",
            crew.members.len(),
            millis(fallen.at.elapsed())
        ))
    }
}

/// The number of the checkpoint that was restored.
fn restored_to(restored: &Restored) -> Result<u64, Failure> {
    let id = restored
        .checkpoint
        .as_deref()
        .map(str::parse::<CheckpointId>);
    match id {
        Some(Ok(id)) => Ok(id.number),
        _ => Err(Failure::new(
            Exit::Verification,
            "a restore at the recovery line restored no checkpoint",
        )),
    }
}

/// How much came from which members.
fn origins(restored: &Restored) -> String {
    let mut members = std::collections::BTreeMap::<&str, u64>::new();
    for journal in &restored.journals {
        for (member, bytes) in &journal.members {
            *members.entry(member).or_default() += bytes;
        }
    }
    let total: u64 = restored.journals.iter().map(|journal| journal.bytes).sum();
    let parts = members
        .iter()
        .map(|(member, count)| format!("{} from {member}", bytes(*count)));
    let parts: Vec<String> = parts.collect();
    format!("{} of journal ({})", bytes(total), parts.join(", "))
}
