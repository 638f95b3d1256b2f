//! dos-cluster: a replicated, fsynced store for the journals of stream-processing workers.
//!
//! Five floors; a module uses its own floor and the floors below it, never one above:
//!
//! | floor | modules | what it owns |
//! | --- | --- | --- |
//! | 0 | [`domain`], [`codec`], [`pb`] | the words and the rules: pure, deterministic, no I/O |
//! | 1 | [`mod@env`], `storage` | the only door to the outside world; the write-ahead log and the state store |
//! | 2 | `raft` | the only place that spells openraft |
//! | 3 | `node` | one server: configuration, append path, services, health |
//! | 4 | `client`, `gateway`, `cli` | what a worker links; what an old worker speaks; what an operator types |
//!
//! The client needs floor 0, [`mod@env`] and [`pb`] only, so a worker links it without RocksDB or Raft
//! (`default-features = false`).

#[cfg(feature = "cli")]
pub mod cli;
pub mod client;
pub mod codec;
pub mod docs;
pub mod domain;
pub mod env;
#[cfg(feature = "server")]
pub mod gateway;
#[cfg(feature = "server")]
pub mod node;
pub mod pb;
#[cfg(feature = "server")]
pub mod raft;
#[cfg(feature = "server")]
pub mod storage;
