//! The client against nodes in this process.

#![expect(
    clippy::disallowed_methods,
    reason = "the tests look at real files, and need no crash safety"
)]

mod append;
mod calls;
mod directory;
mod endpoints;
mod legacy_restore;
#[cfg(feature = "cli")]
mod mirror_dir;
mod read;
mod restore;

use crate::domain::{Command, RestorePoint, Takeover, WorkerRef};

/// A takeover by someone else.
fn foreign_takeover(worker: &WorkerRef) -> Command {
    Command::Takeover(Takeover {
        worker: worker.clone(),
        expected_epoch: None,
        point: RestorePoint::Latest,
        by: "someone else".into(),
        at_unix_ms: 0,
        endpoint: None,
    })
}

/// Bytes in which a shift or a repetition shows.
fn pattern(bytes: usize) -> Vec<u8> {
    let mut value = 1u32;
    let mut next = || {
        value = value.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        value.to_be_bytes()[0]
    };
    (0..bytes).map(|_| next()).collect()
}
