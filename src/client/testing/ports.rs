//! Ports that stay a fake node's own over restarts.

use std::{
    collections::BTreeSet,
    net::TcpListener,
    ops::Range,
    sync::{Mutex, PoisonError},
};

/// Below the range that the system takes ports of outgoing connections from: while a node is down nobody gets its port.
const PORTS: Range<u16> = 12_000..32_000;

static PORTS_TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A loopback address that nobody listens on, given to nobody else in this process.
pub(super) fn free_address() -> String {
    let mut taken = PORTS_TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let span = PORTS.end - PORTS.start;
    // Test processes that run at once begin at different places.
    let first = std::process::id().wrapping_mul(7919);
    for attempt in 0..u32::from(span) {
        let place = first.wrapping_add(attempt) % u32::from(span);
        let port = PORTS.start + u16::try_from(place).unwrap();
        if !taken.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            taken.insert(port);
            return format!("127.0.0.1:{port}");
        }
    }
    panic!("no free port in {PORTS:?}");
}
