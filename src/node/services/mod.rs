//! One gRPC service per file: convert, call, convert. What a service needs of the node is in [`Shared`].

mod bootstrap;
mod checkpoints;
mod cluster;
mod convert;
mod endpoints;
mod forward;
mod journals;
mod raft;
mod reads;
mod workers;

use std::{sync::Arc, time::Duration};

use tonic::{metadata::MetadataMap, service::Routes};

use super::{links::PROBE_WITHIN, shared::Shared};
use crate::{
    domain::limits::{MESSAGE_BYTES_MAX, REQUEST_BYTES_MAX},
    env::time::Instant,
    pb,
};

/// How much a node answers before its caller's deadline, so that the caller gets an error that says something: enough to find out
/// who is missing.
const ANSWER_EARLY: Duration = Duration::from_millis(700);

const _: () = assert!(
    ANSWER_EARLY.as_millis() > PROBE_WITHIN.as_millis() + 100,
    "who is missing is asked after the deadline"
);

macro_rules! sized {
    ($server:expr, $request_bytes_max:expr) => {
        $server
            .max_decoding_message_size($request_bytes_max)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    };
}

/// Everything on the client port.
pub(super) fn for_clients(shared: &Arc<Shared>) -> Routes {
    let journals =
        pb::journals_server::JournalsServer::new(journals::Journals::new(shared.clone()));
    let workers = pb::workers_server::WorkersServer::new(workers::Workers::new(shared.clone()));
    let checkpoints = pb::checkpoints_server::CheckpointsServer::new(
        checkpoints::Checkpoints::new(shared.clone()),
    );
    let cluster = pb::cluster_server::ClusterServer::new(cluster::Cluster::new(shared.clone()));
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the descriptors come from our own build");
    Routes::new(sized!(journals, REQUEST_BYTES_MAX))
        .add_service(sized!(workers, REQUEST_BYTES_MAX))
        .add_service(sized!(checkpoints, REQUEST_BYTES_MAX))
        .add_service(sized!(cluster, REQUEST_BYTES_MAX))
        .add_service(cluster::health(shared))
        .add_service(reflection)
}

/// Everything on the peer port.
pub(super) fn for_members(shared: &Arc<Shared>) -> Routes {
    let raft = pb::raft_server::RaftServer::new(raft::Raft::new(shared.clone()));
    let forward = pb::forward_server::ForwardServer::new(forward::Forward::new(shared.clone()));
    let bootstrap =
        pb::bootstrap_server::BootstrapServer::new(bootstrap::Bootstrap::new(shared.clone()));
    Routes::new(sized!(raft, MESSAGE_BYTES_MAX))
        .add_service(sized!(forward, MESSAGE_BYTES_MAX))
        .add_service(bootstrap)
}

/// When to answer: a little before the caller gives up, and within the node's own limit.
fn deadline(metadata: &MetadataMap, limit: Duration) -> Instant {
    let asked = metadata
        .get("grpc-timeout")
        .and_then(|value| value.to_str().ok())
        .and_then(grpc_timeout);
    let within = match asked {
        Some(asked) => limit.min(asked.saturating_sub(ANSWER_EARLY).max(asked / 2)),
        None => limit,
    };
    Instant::now() + within
}

/// `1 to 8 digits` and a unit (gRPC over HTTP/2).
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let value: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        assert_eq!(grpc_timeout("3S"), Some(Duration::from_secs(3)));
        assert_eq!(grpc_timeout("250m"), Some(Duration::from_millis(250)));
        for bad in ["", "S", "123456789S", "3x", "-3S", "3€"] {
            assert_eq!(grpc_timeout(bad), None, "{bad}");
        }
    }
}
