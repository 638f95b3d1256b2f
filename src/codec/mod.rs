//! Bytes on disk and on the wire to types and back. Pure: no I/O, and no length field is ever trusted.

pub mod evlog;
pub mod incremental;
pub mod key;
pub mod legacy;
pub mod ops;
#[cfg(test)]
mod testing;
pub mod value;
pub mod wire;

/// Why bytes were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// A stored value that is too short, does not match its checksum, or does not parse.
    #[error("{what} is damaged: {why}")]
    Damaged {
        /// What it should be.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A message without a field that it must have, or with a value that none may have.
    #[error("bad {field}: {why}")]
    BadField {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl CodecError {
    pub(crate) fn damaged(what: &'static str, why: impl ToString) -> Self {
        Self::Damaged {
            what,
            why: why.to_string(),
        }
    }

    pub(crate) fn field(field: &'static str, why: impl ToString) -> Self {
        Self::BadField {
            field,
            why: why.to_string(),
        }
    }
}
