//! The detail that travels with every failed call, in the metadata of its gRPC status.

use prost::Message;
use tonic::{Status, metadata::MetadataValue};

use crate::pb;

/// The metadata key, as the guarantees and the proto files name it.
const KEY: &str = "dos-error-bin";

/// Puts `detail` into `status`, in the place of one that is there.
pub fn attach_detail(status: &mut Status, detail: &pb::ErrorDetail) {
    let value = MetadataValue::from_bytes(&detail.encode_to_vec());
    status.metadata_mut().insert_bin(KEY, value);
}

/// The detail of a failed call; `None` when there is none, or none that can be read: an answer of a proxy, or of gRPC itself.
pub fn detail_of(status: &Status) -> Option<pb::ErrorDetail> {
    let raw = status.metadata().get_bin(KEY)?.to_bytes().ok()?;
    pb::ErrorDetail::decode(raw).ok()
}
