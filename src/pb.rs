//! The wire types, generated from `proto/dos/v1/*.proto`. Convert with [`crate::codec::wire`].
#![allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::disallowed_methods,
    clippy::large_futures,
    clippy::too_many_lines,
    rustdoc::all,
    reason = "generated code; the documentation is in the proto files"
)]

tonic::include_proto!("dos.v1");

/// The serialised descriptors of every service here, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/dos.v1.bin"));
