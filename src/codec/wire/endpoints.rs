//! Where workers are reached.

use std::collections::BTreeMap;

use super::{Wire, required, worker_from_pb, worker_to_pb};
use crate::{
    codec::CodecError,
    domain::{Addresses, Endpoint, WorkerRef},
    pb,
};

/// A worker's addresses.
#[must_use]
pub fn addresses_to_pb(addresses: &Addresses) -> pb::Addresses {
    let one = |(role, address): (&str, &str)| pb::Address {
        role: role.to_owned(),
        address: address.to_owned(),
    };
    pb::Addresses {
        addresses: addresses.iter().map(one).collect(),
    }
}

/// Checks a worker's addresses.
///
/// # Errors
/// When they are missing, one is malformed, a role is there twice, or they are too many.
pub fn addresses_from_pb(addresses: Option<pb::Addresses>) -> Wire<Addresses> {
    let mut by_role = BTreeMap::new();
    for pb::Address { role, address } in required("addresses", addresses)?.addresses {
        if by_role.contains_key(&role) {
            return Err(CodecError::field(
                "addresses",
                format!("role {role:?} is named twice"),
            ));
        }
        by_role.insert(role, address);
    }
    Addresses::new(by_role).map_err(|e| CodecError::field("addresses", e))
}

/// The addresses in force.
#[must_use]
pub fn endpoint_to_pb(endpoint: &Endpoint) -> pb::Endpoint {
    pb::Endpoint {
        generation: endpoint.generation,
        addresses: Some(addresses_to_pb(&endpoint.addresses)),
        by: endpoint.by.clone(),
        at_unix_ms: endpoint.at_unix_ms,
    }
}

/// The addresses in force.
///
/// # Errors
/// When they are missing or malformed.
pub fn endpoint_from_pb(endpoint: Option<pb::Endpoint>) -> Wire<Endpoint> {
    let endpoint = required("endpoint", endpoint)?;
    Ok(Endpoint {
        generation: endpoint.generation,
        addresses: addresses_from_pb(endpoint.addresses)?,
        by: endpoint.by,
        at_unix_ms: endpoint.at_unix_ms,
    })
}

/// A worker, and where it is reached.
#[must_use]
pub fn worker_endpoint_to_pb(worker: &WorkerRef, endpoint: &Endpoint) -> pb::WorkerEndpoint {
    pb::WorkerEndpoint {
        worker: Some(worker_to_pb(worker)),
        endpoint: Some(endpoint_to_pb(endpoint)),
    }
}

/// A worker, and where it is reached.
///
/// # Errors
/// When a part is missing or malformed.
pub fn worker_endpoint_from_pb(found: pb::WorkerEndpoint) -> Wire<(WorkerRef, Endpoint)> {
    Ok((
        worker_from_pb(found.worker)?,
        endpoint_from_pb(found.endpoint)?,
    ))
}
