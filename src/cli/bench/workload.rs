//! The named workloads of writers that append.

use clap::ValueEnum;
use serde::Serialize;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
pub(super) enum Name {
    /// 1 writer, 1 append in flight, 1 KiB: latency
    #[value(name = "W1")]
    W1,
    /// 16 writers, 64 appends in flight each, 128 B: appends a second
    #[value(name = "W2")]
    W2,
    /// 16 writers, 32 appends in flight each, 4 KiB: throughput
    #[value(name = "W3")]
    W3,
    /// 4 writers, 8 appends in flight each, 64 KiB: throughput
    #[value(name = "W4")]
    W4,
    /// 256 writers, 4 appends in flight each, 1 KiB
    #[value(name = "W5")]
    W5,
    /// W3 through the legacy port of the nodes, a connection each
    #[value(name = "W6")]
    W6,
    /// 64 workers, two journals each: a checkpoint every 100 ms with 16 KiB behind it
    #[value(name = "C1")]
    C1,
    /// A journal of 1 GiB comes back: from one member and from all, warm and cold
    #[value(name = "R1")]
    R1,
    /// The leading server is killed under W3: time to the next acknowledgement, and what of the acknowledged is there then
    #[value(name = "F1")]
    F1,
    /// W3 with 1, 2, 4, ... 1024 writers, then one at journals of 1 MiB, 64 MiB, 1 GiB, 4 GiB: does the cost of an append stay?
    #[value(name = "S1")]
    S1,
    /// A server is back after `kill -9` with 4 GiB of journals, and after the loss of its disk
    #[value(name = "T1")]
    T1,
}

/// One measurement: a workload, and what is particular to it this time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) name: Name,
    pub(super) shape: Shape,
    /// What the journals have already when appends begin, or what is brought back.
    pub(super) journal_bytes: u64,
}

impl Run {
    /// S1: twice the writers each time, up to `writers_max`, then one writer and larger journals, up to `bytes_max`.
    pub(super) fn growing(shape: Shape, writers_max: usize, bytes_max: u64) -> Vec<Self> {
        let run = |writers, journal_bytes| Self {
            name: Name::S1,
            shape: Shape { writers, ..shape },
            journal_bytes,
        };
        let doubled = (0..).map(|power| 1 << power);
        let doubled = doubled.take_while(|writers| *writers <= writers_max);
        let mut runs: Vec<_> = doubled.map(|writers| run(writers, 0)).collect();
        let sizes = JOURNAL_BYTES.into_iter().filter(|size| *size <= bytes_max);
        runs.extend(sizes.map(|size| run(1, size)));
        runs
    }
}

/// Journals that S1 appends to.
const JOURNAL_BYTES: [u64; 4] = [1 << 20, 64 << 20, 1 << 30, 4 << 30];

/// How the load is shaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// Writers, each with a journal of its own.
    pub(super) writers: usize,
    /// Appends that each keeps in flight.
    pub(super) window: usize,
    /// Bytes of an append.
    pub(super) payload: usize,
}

impl Name {
    /// Whether servers are killed for it.
    pub(super) const fn kills(self) -> bool {
        matches!(self, Self::F1 | Self::T1)
    }

    pub(super) const fn shape(self) -> Shape {
        let (writers, window, payload) = match self {
            Self::W1 => (1, 1, 1 << 10),
            Self::W2 => (16, 64, 128),
            Self::W3 | Self::F1 | Self::S1 => (16, 32, 4 << 10),
            // A worker of the original sends as much as the connection takes. It is told ten times a second at most, so a window as
            // small as W3's would measure that.
            Self::W6 => (16, 256, 4 << 10),
            Self::C1 => (64, 1, 16 << 10),
            // Whose journals are only written, as fast as it goes.
            Self::R1 | Self::T1 => (1, 32, 256 << 10),
            Self::W4 => (4, 8, 64 << 10),
            Self::W5 => (256, 4, 1 << 10),
        };
        Shape {
            writers,
            window,
            payload,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_is_the_number_of_writers_and_then_the_journal() {
        let runs = Run::growing(Name::S1.shape(), 9, 64 << 20);
        let grown: Vec<_> = runs
            .iter()
            .map(|run| (run.shape.writers, run.journal_bytes))
            .collect();
        let (small, large) = (1 << 20, 64 << 20);
        assert_eq!(
            grown,
            [(1, 0), (2, 0), (4, 0), (8, 0), (1, small), (1, large)]
        );
        assert!(runs.iter().all(|run| run.shape.payload == 4096));
    }
}
