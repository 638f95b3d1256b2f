//! What processes and the disk have used, from `/proc`. A figure that cannot be read is zero.

use std::{os::unix::fs::MetadataExt, path::Path};

use crate::env::fs;

const SECTOR_BYTES: u64 = 512;

/// What a process has used since it was started.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    /// CPU seconds, user and system.
    pub(super) cpu_s: f64,
    /// Bytes it made the kernel write: pages that became dirty, so a page written twice counts twice.
    pub(super) write_bytes: u64,
    /// Bytes that had to come from the disk for it.
    pub(super) read_bytes: u64,
    /// The most memory it ever had resident, in bytes.
    pub(super) peak_rss: u64,
}

impl Usage {
    pub(super) fn of(pid: u32) -> Self {
        let status = read(&format!("/proc/{pid}/status"));
        let io = read(&format!("/proc/{pid}/io"));
        Self {
            cpu_s: stat_cpu_s(&read(&format!("/proc/{pid}/stat"))),
            write_bytes: number_after(&io, "write_bytes:"),
            read_bytes: number_after(&io, "read_bytes:"),
            peak_rss: number_after(&status, "VmHWM:") * 1024,
        }
    }
}

/// CPU seconds that the whole machine has spent on anything.
pub(super) fn machine_cpu_s() -> f64 {
    let stat = read("/proc/stat");
    let first = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = first
        .split_ascii_whitespace()
        .skip(1)
        .filter_map(|ticks| ticks.parse().ok())
        .collect();
    // User, nice, system; interrupts, hard and soft. Not idle, waiting, stolen.
    let busy = [0, 1, 2, 5, 6].into_iter();
    seconds(busy.filter_map(|at| ticks.get(at)).sum())
}

/// Bytes written to the device that holds a directory, by anybody.
pub(super) fn device_write_bytes(dir: &Path) -> u64 {
    let Ok(found) = fs::metadata(dir) else {
        return 0;
    };
    let device = found.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let lines = read("/proc/diskstats");
    let of = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_it = fields.first()?.parse() == Ok(major) && fields.get(1)?.parse() == Ok(minor);
        is_it.then(|| fields.get(9)?.parse::<u64>().ok()).flatten()
    };
    lines.lines().find_map(of).unwrap_or_default() * SECTOR_BYTES
}

fn stat_cpu_s(stat: &str) -> f64 {
    // The name, in brackets, may hold anything.
    let (_, rest) = stat.rsplit_once(')').unwrap_or_default();
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    seconds(ticks(11).unwrap_or_default() + ticks(12).unwrap_or_default())
}

#[expect(clippy::cast_precision_loss, reason = "hundredths of a second")]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

fn number_after(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.split_ascii_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}

fn read(path: &str) -> String {
    let bytes = fs::read(Path::new(path)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_something() {
        let spent = |usage: Usage| usage.cpu_s + usage.peak_rss as f64;
        assert!(spent(Usage::of(std::process::id())) > 0.0);
        assert!(machine_cpu_s() > 0.0);
        assert!(spent(Usage::of(u32::MAX)) == 0.0);
    }

    #[test]
    fn a_name_with_brackets_is_no_trap() {
        let stat = "7 (a) b) S 1 7 7 0 -1 0 0 0 0 0 200 100 0 0 20";
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert!((stat_cpu_s(stat) - 300.0 / ticks).abs() < 1e-9);
    }
}
