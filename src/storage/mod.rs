//! The write-ahead log, the state store and the identity of a data directory.
