//! Storage conformance and contract tests of the Raft floor.
