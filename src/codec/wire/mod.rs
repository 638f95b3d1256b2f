//! Domain types to wire messages and back. What comes from outside is checked here, once: names, kinds, missing fields.
#![deny(clippy::indexing_slicing)]

mod commands;
mod detail;
mod endpoints;
mod names;
mod outcomes;
mod rejected;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;

pub use commands::{decode_command, encode_command};
pub use detail::{attach_detail, detail_of};
pub use endpoints::{
    addresses_from_pb, addresses_to_pb, endpoint_from_pb, endpoint_to_pb, worker_endpoint_from_pb,
    worker_endpoint_to_pb,
};
pub use names::{
    checkpoint_id_from_pb, checkpoint_id_to_pb, job_from_pb, journal_from_pb, journal_name_from_pb,
    journal_to_pb, kind_from_pb, kind_to_pb, succession_from_pb, succession_to_pb, token_from_pb,
    token_to_pb, worker_from_pb, worker_name_from_pb, worker_to_pb, writer_from_pb, writer_to_pb,
};
pub use outcomes::{answers_from_pb, answers_to_pb, outcome_from_pb, outcome_to_pb};

use super::CodecError;

type Wire<T> = Result<T, CodecError>;

fn required<T>(field: &'static str, value: Option<T>) -> Wire<T> {
    value.ok_or_else(|| CodecError::field(field, "it is missing"))
}
