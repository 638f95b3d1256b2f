//! One node.

pub mod config;
