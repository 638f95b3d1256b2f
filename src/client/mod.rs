//! What a worker links, and what the command line is made of.

#![warn(missing_docs)]

pub mod dump;
mod files;
pub mod replay;
