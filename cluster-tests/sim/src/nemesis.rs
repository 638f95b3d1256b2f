//! Breaks things, by the seed's plan, between two steps of the simulation, and repairs them.

use std::time::Duration;

use turmoil::Sim;

use crate::{
    dice::Dice,
    plan::{NODES, Plan, WORKERS},
    recorder::Shared,
};

/// What can be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// One node loses its power and comes back: what was not synced is lost or torn.
    Crash,
    /// All nodes lose their power at once.
    PowerLoss,
    /// Nothing passes between two nodes.
    Partition,
    /// Nothing passes from one node to another.
    OneWay,
    /// Messages between two nodes wait, and arrive late, all at once.
    Hold,
    /// The leader is cut off from the other nodes.
    IsolateLeader,
    /// A client is cut off from one node.
    CutClient,
}

impl Kind {
    pub const ALL: [Self; 7] = [
        Self::Crash,
        Self::PowerLoss,
        Self::Partition,
        Self::OneWay,
        Self::Hold,
        Self::IsolateLeader,
        Self::CutClient,
    ];
}

type Pair = (&'static str, &'static str);

#[derive(Debug, PartialEq, Eq)]
enum Broken {
    Down(&'static str),
    Cut(Pair),
    CutOneWay(Pair),
    Held(Pair),
}

/// See the module.
pub struct Nemesis {
    plan: Plan,
    dice: Dice,
    recorder: Shared,
    next_at: Duration,
    /// What is broken, and when it is repaired. No pair is broken twice at a time.
    broken: Vec<(Duration, Broken)>,
}

impl Nemesis {
    pub fn new(plan: &Plan, recorder: &Shared) -> Self {
        Self {
            plan: plan.clone(),
            dice: Dice::new(plan.seed, "nemesis"),
            recorder: recorder.clone(),
            next_at: Duration::ZERO,
            broken: Vec::new(),
        }
    }

    /// To be called after each step of the fault phase.
    pub fn step(&mut self, sim: &mut Sim<'_>) {
        let now = sim.elapsed();
        let due: Vec<_> = self
            .broken
            .extract_if(.., |(until, _)| *until <= now)
            .collect();
        for (_, broken) in due {
            self.repair(sim, &broken);
        }
        if now >= self.next_at {
            self.next_at = now
                + self
                    .dice
                    .millis(200, self.plan.fault_pause_max.as_millis() as u64);
            let kind = *self.dice.pick(&self.plan.faults.clone());
            self.inflict(sim, kind);
        }
    }

    /// Repairs everything.
    pub fn heal(&mut self, sim: &mut Sim<'_>) {
        for (_, broken) in std::mem::take(&mut self.broken) {
            self.repair(sim, &broken);
        }
    }

    fn inflict(&mut self, sim: &mut Sim<'_>, kind: Kind) {
        // Mostly short, for much to happen; sometimes longer than timeouts and keep-alives.
        let longest = if self.dice.percent(15) { 8_000 } else { 2_000 };
        let until = sim.elapsed() + self.dice.millis(50, longest);
        let node = *self.dice.pick(&NODES);
        let others: Vec<_> = NODES.into_iter().filter(|other| *other != node).collect();
        let other = *self.dice.pick(&others);
        let done = match kind {
            Kind::Crash => self.crash(sim, node, until),
            Kind::PowerLoss => {
                let mut any = false;
                for node in NODES {
                    // Each comes back in its own time.
                    let until = sim.elapsed() + self.dice.millis(20, 1_000);
                    any |= self.crash(sim, node, until);
                }
                any
            }
            Kind::Partition => self.cut(sim, (node, other), until),
            Kind::OneWay => self.cut_one_way(sim, (node, other), until),
            Kind::Hold => self.hold(sim, (node, other), until),
            Kind::IsolateLeader => {
                let leader = self
                    .recorder
                    .leader
                    .borrow()
                    .as_ref()
                    .map(|(_, leader)| leader.clone());
                let Some(leader) = NODES
                    .into_iter()
                    .find(|node| leader.as_deref() == Some(node))
                else {
                    return;
                };
                // With one link broken otherwise it would be no isolation, but another partition.
                let links = NODES.into_iter().filter(|other| *other != leader);
                let links: Vec<Pair> = links.map(|other| (leader, other)).collect();
                let free = links.iter().all(|link| !self.is_broken(*link));
                free && links.iter().all(|link| self.cut(sim, *link, until))
            }
            Kind::CutClient => {
                let client = *self.dice.pick(&WORKERS);
                self.cut(sim, (client, node), until)
            }
        };
        if done {
            let kind = format!("{kind:?}");
            self.recorder
                .note(format!("fault {kind} {node} {other} until {until:?}"));
            *self
                .recorder
                .report
                .borrow_mut()
                .faults
                .entry(kind)
                .or_default() += 1;
        }
    }

    fn is_broken(&self, pair: Pair) -> bool {
        self.broken.iter().any(|(_, broken)| match broken {
            Broken::Cut(other) | Broken::CutOneWay(other) | Broken::Held(other) => {
                *other == pair || *other == (pair.1, pair.0)
            }
            Broken::Down(_) => false,
        })
    }

    fn crash(&mut self, sim: &mut Sim<'_>, node: &'static str, until: Duration) -> bool {
        if self
            .broken
            .iter()
            .any(|(_, broken)| *broken == Broken::Down(node))
        {
            return false;
        }
        sim.crash(node);
        self.broken.push((until, Broken::Down(node)));
        true
    }

    fn cut(&mut self, sim: &mut Sim<'_>, pair: Pair, until: Duration) -> bool {
        let free = !self.is_broken(pair);
        if free {
            sim.partition(pair.0, pair.1);
            self.broken.push((until, Broken::Cut(pair)));
        }
        free
    }

    fn cut_one_way(&mut self, sim: &mut Sim<'_>, pair: Pair, until: Duration) -> bool {
        let free = !self.is_broken(pair);
        if free {
            sim.partition_oneway(pair.0, pair.1);
            self.broken.push((until, Broken::CutOneWay(pair)));
        }
        free
    }

    fn hold(&mut self, sim: &mut Sim<'_>, pair: Pair, until: Duration) -> bool {
        let free = !self.is_broken(pair);
        if free {
            sim.hold(pair.0, pair.1);
            self.broken.push((until, Broken::Held(pair)));
        }
        free
    }

    fn repair(&mut self, sim: &mut Sim<'_>, broken: &Broken) {
        self.recorder.note(format!("repair {broken:?}"));
        match *broken {
            Broken::Down(node) => sim.bounce(node),
            Broken::Cut((a, b)) => sim.repair(a, b),
            Broken::CutOneWay((from, to)) => sim.repair_oneway(from, to),
            Broken::Held((a, b)) => sim.release(a, b),
        }
    }
}
