//! Clocks and timers. Monotonic time is tokio's, which a simulation drives.

pub use std::time::Duration;
pub use tokio::time::{
    Instant, Interval, MissedTickBehavior, interval, sleep, sleep_until, timeout, timeout_at,
};

/// 2025-01-01T00:00:00Z: what the wall clock of a simulation shows when it begins.
#[cfg(sim)]
const SIMULATION_BEGINS_UNIX_MILLIS: u64 = 1_735_689_600_000;

/// Wall clock time, in milliseconds since 1970. For people and records only: it may jump either way, so nothing that
/// must be safe is decided by it. Before 1970 it is 0.
#[must_use]
pub fn unix_millis() -> u64 {
    #[cfg(not(sim))]
    {
        #[expect(clippy::disallowed_methods, reason = "env is the door to the clock")]
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since_epoch.map_or(0, millis)
    }
    #[cfg(sim)]
    {
        SIMULATION_BEGINS_UNIX_MILLIS + turmoil::sim_elapsed().map_or(0, millis)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
