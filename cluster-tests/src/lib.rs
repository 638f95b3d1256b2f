//! The harness of the cluster tests: whole clusters of real `dos-cluster` processes on this machine.
//!
//! ```text
//! Appends       an append's way from the wire to the store, without a cluster
//! TestCluster   some nodes in a temporary directory; kills what is left of them when it goes
//! TestNode      one process: start, kill -9, SIGTERM, pause, wipe; keeps its ports over restarts
//! Load          a writer in the background, whose bytes are known at every offset
//! raw           gRPC at one node, without the client library's help
//! legacy        the old workers' protocol, written from its specification alone
//! cli           the command line, with its exit code and its words
//! processes     what a command has started, and that it is gone
//! logs          what the nodes wrote; a panic or an unlisted WARN or ERROR fails the test
//! eventually    wait for a condition with a deadline; nothing here sleeps for an outcome
//! ```

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test harness: a failure is a panic, and nothing here is simulated"
)]

pub mod appends;
pub mod cli;
pub mod cluster;
pub mod http;
pub mod legacy;
pub mod load;
pub mod logs;
pub mod node;
pub mod ports;
pub mod processes;
pub mod raw;
pub mod wait;

pub use cli::{CliOutput, cli, cli_with_stdin};
pub use cluster::{ClusterOptions, TestCluster};
pub use load::{Load, LoadOptions, assert_pattern, pattern};
pub use node::TestNode;
pub use wait::{eventually, phase};
