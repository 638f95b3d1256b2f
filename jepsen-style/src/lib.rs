//! Checks a cluster from outside: what its clients asked and were told, against what it promises.
//!
//! A [`History`] holds what clients did and heard, in one order, and at its end what each node says it holds. [`check`] finds
//! every promise that it breaks, in linear time: bytes are unique, so the final content fixes the order of everything.
//! Nothing here knows how the cluster works; simulation and real processes use it alike.

#![warn(missing_docs)]

pub mod checker;
pub mod history;

pub use checker::{Rule, Violation, check};
pub use history::{CheckpointId, Event, FinalCheckpoint, FinalNode, Floor, History, Name, OpId};
