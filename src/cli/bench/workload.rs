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
}

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
    pub(super) const fn shape(self) -> Shape {
        let (writers, window, payload) = match self {
            Self::W1 => (1, 1, 1 << 10),
            Self::W2 => (16, 64, 128),
            Self::W3 | Self::W6 | Self::F1 => (16, 32, 4 << 10),
            Self::C1 => (64, 1, 16 << 10),
            // One worker that is filled and restored.
            Self::R1 => (1, 32, 256 << 10),
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
