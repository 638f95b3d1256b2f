//! What must hold for any bytes: one module for each fuzz target, each with one `check`.
//!
//! ```text
//! legacy     requests of old workers: frames, commands, numbers, replies, listings
//! ops        records of an ops journal
//! event_log  entries of an event log
//! scan       what a scan finds in either, against the readers
//! input      how a fuzzer's input is cut into slices
//! memory     what a reader holds, measured at the allocator
//! ```
//!
//! No panic is the least of it: slices must make no difference, what is read must be written back the same, and nothing
//! may hold more than was pushed. The corpus of a target is in `corpus/TARGET`: what the legacy protocol's test vectors say,
//! and what fuzzing found, minimised.

pub mod event_log;
pub mod input;
pub mod legacy;
pub mod memory;
pub mod ops;
pub mod scan;
