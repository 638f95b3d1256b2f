//! The write-ahead log, the state store and the identity of a data directory.
//!
//! | module | owns |
//! | --- | --- |
//! | [`identity`] | whose directory this is: `IDENTITY`, `LOCK`, the format version |
//! | [`wal`] | `log/`: the Raft log, votes and marks as one ordered stream |
//! | [`state`] | `state/`: what was applied, on RocksDB or in memory |
//! | [`gate`] | the first failed write or sync ends all writing, for good |
//! | [`crashsafe`] | replacing a small file so that a crash leaves the old or the new one |

pub mod crashsafe;
pub mod error;
pub mod gate;
pub mod identity;
pub mod state;
pub mod wal;

pub use error::StorageError;
pub use gate::WriteGate;
pub use identity::{DataDir, Identity};
pub use state::{StateBatch, StateStore};
