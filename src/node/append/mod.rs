//! The append path: admission, one batcher per node, and the way to the leader.
//!
//! ```text
//! stream --admission--> queue --batcher--> leads here?  -> Raft
//!                                          else         -> forwarder -> the leader's Raft
//! ```
//! Group commit without timers: while batches are under way, what arrives gathers in the queue and leaves as one. Order is kept
//! from the queue to the log, and the deterministic core decides each append again, so a batch that is lost on the way makes the
//! later ones of its streams a gap, which is refused, never a hole.

mod admission;
mod batcher;
mod forwarder;
mod stream;
mod writers;

pub(super) use admission::Admission;
pub(super) use batcher::AppendQueue;
pub(super) use stream::serve;
pub(super) use writers::OpenWriters;
