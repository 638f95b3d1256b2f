//! `--probe`: what the machine itself can do, measured beside what is measured of the cluster, for figures of different days or
//! machines to be compared.

mod disk;
mod network;

use std::path::Path;

use serde::Serialize;

use super::{
    cluster,
    line::{Line, Printed, round},
    stop::Stop,
};
use crate::{
    cli::exit::{self, Failure},
    env::{fs, time},
};

/// How much each measurement does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    /// How long each goes on.
    pub(super) lasts: time::Duration,
    /// The file that is copied.
    pub(super) copied_bytes: u64,
}

/// Three logs at once.
#[derive(Debug, Clone, Copy, Serialize)]
struct LogRate {
    bytes_per_sync: usize,
    mb_s: f64,
}

/// What the machine can do.
#[derive(Debug, Serialize)]
struct Limits {
    peer: &'static str,
    workload: &'static str,
    t: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    debug_build: bool,
    /// `write` and `fdatasync` of 4 KiB, within a file and at its end.
    sync_overwrite_p50_us: u64,
    sync_grow_p50_us: u64,
    /// A unary call of 1 KiB and its answer, between two tasks of this process.
    grpc_p50_us: u64,
    /// What three logs together write within files that are there.
    three_logs: Vec<LogRate>,
    /// A file that is in memory, read and sent through a connection.
    loopback_copy_mb_s: f64,
}

/// Measures with files in a directory of its own, which is removed: below `dir`, or a temporary one.
pub(super) async fn run(dir: Option<&Path>, effort: Effort, stop: &Stop) -> Result<Line, Failure> {
    let temporary = cluster::temporary();
    let name = temporary.file_name().map(Path::new);
    let dir = match (dir, name) {
        (Some(dir), Some(name)) => dir.join(name),
        _ => temporary,
    };
    fs::create_private_dir_all(&dir).map_err(|error| exit::cannot("create", &dir, &error))?;
    let measured = stop.or(async {
        let measured = measure(&dir, effort).await;
        measured.map_err(|error| exit::cannot("measure with files in", &dir, &error))
    });
    let measured = measured.await;
    let removed = fs::remove_dir_all(&dir);
    let limits = measured?;
    removed.map_err(|error| exit::cannot("remove", &dir, &error))?;
    Line::of(&limits)
}

async fn measure(dir: &Path, effort: Effort) -> std::io::Result<Limits> {
    let mut three_logs = Vec::new();
    let (overwrite, grow) = disk::syncs(dir, effort.lasts).await?;
    for bytes_per_sync in disk::SYNC_BYTES {
        let rate = disk::three_logs(dir, bytes_per_sync, effort.lasts).await?;
        three_logs.push(LogRate {
            bytes_per_sync,
            mb_s: round(rate / 1e6, 1),
        });
    }
    let copied = network::copy(dir, effort.copied_bytes).await?;
    let calls = network::calls(effort.lasts).await?;
    Ok(Limits {
        peer: "limit",
        workload: "probe",
        t: time::unix_millis() / 1000,
        debug_build: cfg!(debug_assertions),
        sync_overwrite_p50_us: overwrite.at(0.5),
        sync_grow_p50_us: grow.at(0.5),
        grpc_p50_us: calls.at(0.5),
        three_logs,
        loopback_copy_mb_s: round(copied / 1e6, 0),
    })
}

impl Printed for Limits {
    const COLUMNS: &'static [&'static str] = &[
        "limits",
        "sync within ms",
        "sync at end ms",
        "call ms",
        "3 logs 4 KiB MB/s",
        "64 KiB",
        "256 KiB",
        "1 MiB",
        "loopback MB/s",
    ];

    fn row(&self) -> Vec<String> {
        let millis = super::line::millis;
        let mut row = vec![
            self.workload.to_owned(),
            millis(self.sync_overwrite_p50_us),
            millis(self.sync_grow_p50_us),
            millis(self.grpc_p50_us),
        ];
        let logs = self.three_logs.iter();
        row.extend(logs.map(|log| format!("{:.1}", log.mb_s)));
        row.push(format!("{:.0}", self.loopback_copy_mb_s));
        row
    }
}
