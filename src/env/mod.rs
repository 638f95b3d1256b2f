//! The only door to files, sockets, clocks, threads and randomness.
//!
//! A node is built twice from the same source: for real, where this module is the operating system's, and with
//! `--cfg sim`, where it is turmoil's: simulated time, network and a disk that loses what was not synced. Whatever a
//! node does to the outside world goes through here, so that a whole cluster runs in one thread from one seed.
//!
//! | module | owns |
//! | --- | --- |
//! | [`fs`] | files and directories, the lock on a file, syncing a directory |
//! | `limits` | what the system lets the process have |
//! | [`net`] | listeners, connections, gRPC channels over them |
//! | [`time`] | clocks and timers |
//! | [`rng`] | randomness |
//! | [`task`] | spawning, blocking work, the single writer behind a bounded queue |
//! | `watch` | wake-ups when a directory changes; for the command line only, never simulated |

pub mod fs;
#[cfg(feature = "server")]
pub mod limits;
pub mod net;
pub mod rng;
pub mod task;
pub mod time;
#[cfg(feature = "cli")]
pub mod watch;
