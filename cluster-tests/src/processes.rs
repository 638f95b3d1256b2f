//! What a command has started, and whether it is gone.

use std::{path::Path, process::Child};

use crate::{cluster::SETTLE_WITHIN, eventually, wait::check};

/// Processes that have a directory in their command line.
///
/// # Panics
/// Where there is no `/proc`.
#[must_use]
pub fn processes_in(dir: &Path) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap();
    let lines = processes.filter_map(|process| {
        let line = std::fs::read(process.ok()?.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    let place = dir.to_str().unwrap();
    lines.filter(|line| line.contains(place)).collect()
}

/// Waits until a command that was told to stop has ended, and all that it started with `dir` in its command line; answers its
/// exit code.
///
/// # Panics
/// When one of them stays.
pub async fn ends_with_all_in(child: &mut Child, dir: &Path) -> Option<i32> {
    let ended = eventually("it ends", SETTLE_WITHIN, async || {
        child
            .try_wait()
            .unwrap()
            .ok_or_else(|| "it runs".to_owned())
    })
    .await;
    eventually("so does what it started", SETTLE_WITHIN, async || {
        let left = processes_in(dir);
        check(left.is_empty(), || format!("{left:?}"))
    })
    .await;
    ended.code()
}
