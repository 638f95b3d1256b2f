//! Ports that stay a node's own over restarts.

use std::{
    collections::BTreeSet,
    net::TcpListener,
    sync::{Mutex, PoisonError},
};

/// Below the range that the system takes ports of outgoing connections from: while a node is down nobody gets its port.
const RANGE: std::ops::Range<u16> = 12_000..32_000;

static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A loopback address that nobody listens on, given to nobody else in this process.
///
/// # Panics
/// When a thousand tries find none.
#[must_use]
pub fn free_address() -> String {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    for attempt in 0..1000_u64 {
        // Test processes that run at once begin at different places.
        let seed = u64::from(std::process::id()) * 7919 + taken.len() as u64 * 13 + attempt;
        let span = u64::from(RANGE.end - RANGE.start);
        let port = RANGE.start + u16::try_from(crate::load::scramble(seed) % span).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && taken.insert(port) {
            return format!("127.0.0.1:{port}");
        }
    }
    panic!("no free port in {RANGE:?}");
}

/// The first of `count` ports in a row that nobody listens on, given to nobody else in this process.
///
/// # Panics
/// When a thousand tries find none.
#[must_use]
pub fn free_run(count: u16) -> u16 {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    for attempt in 0..1000_u64 {
        let seed = u64::from(std::process::id()) * 7919 + 5_000_011 + attempt;
        let span = u64::from(RANGE.end - RANGE.start - count);
        let first = RANGE.start + u16::try_from(crate::load::scramble(seed) % span).unwrap();
        let run = first..first + count;
        let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if run
            .clone()
            .all(|port| !taken.contains(&port) && is_free(port))
        {
            taken.extend(run);
            return first;
        }
    }
    panic!("no {count} free ports in a row in {RANGE:?}");
}
