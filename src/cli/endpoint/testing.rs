//! Endpoints for the tests.

use crate::domain::{Addresses, Endpoint, WorkerRef};

/// A worker, and its addresses by role in generation 3.
pub(super) fn endpoint(worker: &str, addresses: &[(&str, &str)]) -> (WorkerRef, Endpoint) {
    let addresses = addresses.iter();
    let addresses = addresses.map(|(role, address)| ((*role).to_owned(), (*address).to_owned()));
    let endpoint = Endpoint {
        generation: 3,
        addresses: Addresses::new(addresses.collect()).unwrap(),
        by: "a test".to_owned(),
        at_unix_ms: 1,
    };
    (worker.parse().unwrap(), endpoint)
}
