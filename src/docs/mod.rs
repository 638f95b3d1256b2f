//! Pages that explain what no single module can: promises, formats, the recovery line.

#[doc = include_str!("guarantees.md")]
pub mod guarantees {}

#[doc = include_str!("disk_format.md")]
pub mod disk_format {}

#[doc = include_str!("performance.md")]
pub mod performance {}

#[doc = include_str!("recovery_line.md")]
pub mod recovery_line {}
