//! What a seed decides before anything runs. Each seed has its own mix: swarm testing finds what a mean never would.

use std::time::Duration;

use crate::{dice::Dice, nemesis::Kind};

pub const NODES: [&str; 3] = ["n1", "n2", "n3"];
pub const WORKERS: [&str; 2] = ["w1", "w2"];
pub const JOURNALS: [&str; 2] = ["a", "b"];
pub const JOB: &str = "job";
pub const CLIENT_PORT: u16 = 7420;

/// Everything that is decided beforehand.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    /// How long faults are made.
    pub fault_time: Duration,
    /// The simulation's step: messages arrive at its multiples.
    pub tick: Duration,
    pub latency_max: Duration,
    /// A crash tears unsynced writes at multiples of this; `None`: they are lost whole.
    pub torn_block: Option<u64>,
    pub segment_bytes: u64,
    pub snapshot_log_bytes: u64,
    /// The faults of this seed.
    pub faults: Vec<Kind>,
    /// Between two faults, at most.
    pub fault_pause_max: Duration,
    /// Between two records of a writer, at most.
    pub think_max: Duration,
    pub record_bytes_max: u64,
    /// Whether hosts run in another order in each step.
    pub shuffled: bool,
}

impl Plan {
    pub fn new(seed: u64, fault_time: Duration) -> Self {
        let mut dice = Dice::new(seed, "plan");
        let faults: Vec<Kind> = Kind::ALL.into_iter().filter(|_| dice.percent(65)).collect();
        let segment_bytes = 1024 * *dice.pick(&[16, 64, 256]);
        Self {
            seed,
            fault_time,
            tick: Duration::from_millis(*dice.pick(&[1, 2, 5])),
            latency_max: Duration::from_millis(*dice.pick(&[2, 10, 40])),
            torn_block: *dice.pick(&[None, Some(512), Some(4096)]),
            segment_bytes,
            snapshot_log_bytes: segment_bytes * *dice.pick(&[1, 2, 4]),
            faults: if faults.is_empty() {
                vec![Kind::PowerLoss]
            } else {
                faults
            },
            fault_pause_max: Duration::from_millis(*dice.pick(&[1_000, 3_000])),
            think_max: Duration::from_millis(*dice.pick(&[20, 60, 200])),
            record_bytes_max: *dice.pick(&[100, 1_000, 4_000]),
            shuffled: dice.percent(50),
        }
    }
}

/// A node's client address.
pub fn address(node: &str) -> String {
    format!("{node}:{CLIENT_PORT}")
}
