//! Where a node serves legacy workers.

use super::value;
use crate::domain::JobName;

/// The port that legacy workers know, on loopback: their protocol has no authentication.
pub const LEGACY_LISTEN_DEFAULT: &str = "127.0.0.1:9999";
/// Legacy workers name no job: they are the workers of this one.
const LEGACY_JOB_DEFAULT: &str = "wallaroo";

/// Where a node serves legacy workers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LegacyListen {
    /// Nobody said: at [`LEGACY_LISTEN_DEFAULT`] if nobody else listens there, for of several nodes of one machine only one can.
    #[default]
    IfFree,
    /// Here, or the node does not start.
    At(String),
    /// Nowhere.
    Off,
}

impl LegacyListen {
    /// The address that was asked for by name.
    #[must_use]
    pub fn given(&self) -> Option<&str> {
        match self {
            Self::At(address) => Some(address),
            Self::IfFree | Self::Off => None,
        }
    }

    /// The address to listen on; `None`: nowhere.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        match self {
            Self::IfFree => Some(LEGACY_LISTEN_DEFAULT),
            Self::At(address) => Some(address),
            Self::Off => None,
        }
    }
}

/// An address, or `off`, which an empty text means too.
pub(super) fn listen(text: &str) -> Result<LegacyListen, String> {
    match text.trim() {
        "" | "off" => Ok(LegacyListen::Off),
        address => value::address(address).map(LegacyListen::At),
    }
}

/// The default of `legacy_job`.
pub(super) fn default_job() -> JobName {
    JobName::new(LEGACY_JOB_DEFAULT).expect("the default is a name")
}
