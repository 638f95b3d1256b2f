//! What an operator may set of a node: defaults, then a TOML file, then the environment, then flags; the last one wins.
//!
//! A setting has one name everywhere: `peer_listen` in the file is `DOS_CLUSTER_PEER_LISTEN` in the environment and
//! `--peer-listen` on the command line. All faults of all sources are reported together, so that one start finds them all.
//! Nothing here reads a file or the environment: whoever starts a node hands in what it read.

use std::{fmt, path::PathBuf, time::Duration};

mod layer;
mod legacy;
mod value;

use layer::Given;
pub use layer::{ConfigFault, ConfigFaults, ConfigLayer, NOT_SETTINGS, Source};
pub use legacy::{LEGACY_LISTEN_DEFAULT, LegacyListen};
#[cfg(feature = "cli")]
pub(crate) use value::bytes as parse_bytes;

use crate::domain::JobName;

/// One thing that can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Its name in the TOML file.
    pub key: &'static str,
    /// What it means, in one line.
    pub meaning: &'static str,
    /// What is allowed, with an example.
    pub allowed: &'static str,
}

impl Setting {
    /// Its name in the environment: `DOS_CLUSTER_PEER_LISTEN`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{}{}", layer::VARIABLE_PREFIX, self.key.to_uppercase())
    }

    /// Its name on the command line: `--peer-listen`.
    #[must_use]
    pub fn flag(&self) -> String {
        format!("--{}", self.key.replace('_', "-"))
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key)
    }
}

const HEARTBEAT_MIN: Duration = Duration::from_millis(10);
const HEARTBEAT_MAX: Duration = Duration::from_secs(10);
const ELECTION_TIMEOUT_MAX: Duration = Duration::from_secs(60);
const REQUEST_TIMEOUT_MIN: Duration = Duration::from_millis(100);
const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(600);
const MIB: u64 = 1024 * 1024;
const SEGMENT_BYTES_MIN: u64 = 4 * MIB;
const SEGMENT_BYTES_MAX: u64 = crate::storage::wal::SEGMENT_BYTES_MAX as u64;
const SNAPSHOT_LOG_BYTES_MIN: u64 = 4 * MIB;
const SNAPSHOT_LOG_BYTES_MAX: u64 = 1024 * 1024 * MIB;
const STATE_MEMORY_BYTES_MIN: u64 = 8 * MIB;
const STATE_MEMORY_BYTES_MAX: u64 = 64 * 1024 * MIB;

macro_rules! settings {
    ($($constant:ident = $key:literal, $meaning:literal, $allowed:literal;)*) => {
        $(const $constant: Setting = Setting { key: $key, meaning: $meaning, allowed: $allowed };)*
        /// Everything that can be set, in the order of the documentation.
        pub const SETTINGS: &[Setting] = &[$($constant),*];
    };
}

settings! {
    DATA_DIR = "data_dir", "directory of this node's log and state", "a path, such as /var/lib/dos-cluster";
    LISTEN = "listen", "address that clients reach", "HOST:PORT, such as 0.0.0.0:7420";
    PEER_LISTEN = "peer_listen", "address that the other members reach", "HOST:PORT, such as 0.0.0.0:7421";
    HTTP_LISTEN = "http_listen", "address of health and metrics", "HOST:PORT, such as 127.0.0.1:7422";
    ADVERTISE = "advertise", "address that clients are told, if it is not the one listened on",
        "HOST:PORT that clients can dial, such as n1.example.org:7420";
    ADVERTISE_PEER = "advertise_peer", "address that members are told, if it is not the one listened on",
        "HOST:PORT that the other members can dial, such as n1.example.org:7421";
    ADVERTISE_HTTP = "advertise_http", "address of health and metrics that is shown, if it is not the one listened on",
        "HOST:PORT that others can dial, such as n1.example.org:7422";
    HEARTBEAT = "heartbeat", "how often a leader reports to its followers", "10ms to 10s, such as 200ms";
    ELECTION_TIMEOUT = "election_timeout", "silence of the leader after which a follower stands for election (up to a fifth longer)",
        "at least twice the heartbeat and at most 60s, such as 1s";
    SNAPSHOT_LOG_BYTES = "snapshot_log_bytes", "bytes of log after which a snapshot is made and old log recycled",
        "4MiB to 1TiB, not less than segment_bytes, such as 256MiB";
    SEGMENT_BYTES = "segment_bytes", "size of one file of the log", "4MiB to 120MiB, such as 64MiB";
    STATE_MEMORY_BYTES = "state_memory_bytes", "memory for state that is not yet flushed", "8MiB to 64GiB, such as 128MiB";
    REQUEST_TIMEOUT = "request_timeout", "how long a request may take before it is answered with what is missing",
        "100ms to 10m, such as 10s";
    LEGACY_LISTEN = "legacy_listen", "address that legacy workers reach, who speak the old protocol, which has no authentication",
        "off or HOST:PORT, such as 127.0.0.1:9999";
    LEGACY_JOB = "legacy_job", "job whose workers the legacy workers are", "a job's name, such as wallaroo";
}

/// How a node is to run. Made by [`from_layers`](Self::from_layers), which validates; the default is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// Directory of the log, the state and the identity.
    pub data_dir: PathBuf,
    /// `host:port` to listen on for clients.
    pub client_listen: String,
    /// `host:port` to listen on for the other members.
    pub peer_listen: String,
    /// `host:port` to listen on for health and metrics.
    pub http_listen: String,
    /// `host:port` that clients dial; unset: the one listened on.
    pub client_advertise: Option<String>,
    /// `host:port` that the other members dial; unset: the one listened on.
    pub peer_advertise: Option<String>,
    /// `host:port` of health and metrics as others dial it; unset: the one listened on.
    pub http_advertise: Option<String>,
    /// How often a leader reports to its followers.
    pub heartbeat: Duration,
    /// A follower that hears nothing for this, and up to a fifth longer, stands for election.
    pub election_timeout: Duration,
    /// Bytes of log after which a snapshot is made.
    pub snapshot_log_bytes: u64,
    /// Size of one log segment, in bytes.
    pub segment_bytes: u64,
    /// Bytes of state held in memory before they are flushed.
    pub state_memory_bytes: u64,
    /// How long a request may take before it is answered with what is missing.
    pub request_timeout: Duration,
    /// Where legacy workers are served.
    pub legacy_listen: LegacyListen,
    /// The job whose workers they are.
    pub legacy_job: JobName,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            data_dir: "./dos-data".into(),
            client_listen: "127.0.0.1:7420".into(),
            peer_listen: "127.0.0.1:7421".into(),
            http_listen: "127.0.0.1:7422".into(),
            client_advertise: None,
            peer_advertise: None,
            http_advertise: None,
            heartbeat: Duration::from_millis(150),
            election_timeout: Duration::from_millis(900),
            snapshot_log_bytes: 256 * MIB,
            segment_bytes: 64 * MIB,
            state_memory_bytes: 128 * MIB,
            request_timeout: Duration::from_secs(10),
            legacy_listen: LegacyListen::IfFree,
            legacy_job: legacy::default_job(),
        }
    }
}

impl NodeConfig {
    /// The configuration that the layers come to, the later ones over the earlier ones, over the defaults.
    ///
    /// # Errors
    /// Every fault of every layer: unknown keys, values that do not parse or are out of bounds, also those that a later
    /// layer replaces, and values that do not go together.
    pub fn from_layers(
        layers: impl IntoIterator<Item = ConfigLayer>,
    ) -> Result<Self, ConfigFaults> {
        let mut build = Build::default();
        let mut is_whole = true;
        for layer in layers {
            is_whole &= !layer.is_broken;
            build.faults.extend(layer.faults);
            for (setting, given) in layer.values {
                build.set(setting, given);
            }
        }
        // What does not go together may be put right by what could not be read.
        if is_whole {
            build.check();
        }
        if build.faults.is_empty() {
            Ok(build.config)
        } else {
            Err(ConfigFaults(build.faults))
        }
    }

    /// `host:port` that clients dial.
    #[must_use]
    pub fn client_address(&self) -> &str {
        self.client_advertise
            .as_deref()
            .unwrap_or(&self.client_listen)
    }

    /// `host:port` that the other members dial.
    #[must_use]
    pub fn peer_address(&self) -> &str {
        self.peer_advertise.as_deref().unwrap_or(&self.peer_listen)
    }

    /// `host:port` of health and metrics, as others dial it.
    #[must_use]
    pub fn http_address(&self) -> &str {
        self.http_advertise.as_deref().unwrap_or(&self.http_listen)
    }
}

/// A configuration under way.
#[derive(Debug, Default)]
struct Build {
    config: NodeConfig,
    /// Where each value that is not a default came from; the last one of a setting is the one in force.
    given: Vec<(Setting, Given)>,
    faults: Vec<ConfigFault>,
}

impl Build {
    /// Takes one value over, or notes why not.
    fn set(&mut self, setting: Setting, given: Given) {
        let text = given.text.as_str();
        let config = &mut self.config;
        let taken = match setting {
            DATA_DIR => put(&mut config.data_dir, value::path(text)),
            LISTEN => put(&mut config.client_listen, value::address(text)),
            PEER_LISTEN => put(&mut config.peer_listen, value::address(text)),
            HTTP_LISTEN => put(&mut config.http_listen, value::address(text)),
            ADVERTISE => put(
                &mut config.client_advertise,
                value::dialable(text).map(Some),
            ),
            ADVERTISE_PEER => put(&mut config.peer_advertise, value::dialable(text).map(Some)),
            ADVERTISE_HTTP => put(&mut config.http_advertise, value::dialable(text).map(Some)),
            HEARTBEAT => put(
                &mut config.heartbeat,
                value::duration(text, HEARTBEAT_MIN..=HEARTBEAT_MAX),
            ),
            ELECTION_TIMEOUT => put(
                &mut config.election_timeout,
                value::duration(text, HEARTBEAT_MIN * 2..=ELECTION_TIMEOUT_MAX),
            ),
            SNAPSHOT_LOG_BYTES => put(
                &mut config.snapshot_log_bytes,
                value::bytes(text, SNAPSHOT_LOG_BYTES_MIN..=SNAPSHOT_LOG_BYTES_MAX),
            ),
            SEGMENT_BYTES => put(
                &mut config.segment_bytes,
                value::bytes(text, SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX),
            ),
            STATE_MEMORY_BYTES => put(
                &mut config.state_memory_bytes,
                value::bytes(text, STATE_MEMORY_BYTES_MIN..=STATE_MEMORY_BYTES_MAX),
            ),
            REQUEST_TIMEOUT => put(
                &mut config.request_timeout,
                value::duration(text, REQUEST_TIMEOUT_MIN..=REQUEST_TIMEOUT_MAX),
            ),
            LEGACY_LISTEN => put(&mut config.legacy_listen, legacy::listen(text)),
            LEGACY_JOB => put(
                &mut config.legacy_job,
                JobName::new(text).map_err(|error| error.to_string()),
            ),
            Setting { key, .. } => Err(format!("{key} is not a setting")),
        };
        match taken {
            Ok(()) => self.given.push((setting, given)),
            Err(why) => self
                .faults
                .push(ConfigFault::bad_value(setting, &given, why)),
        }
    }

    /// Notes what does not go together.
    fn check(&mut self) {
        let config = self.config.clone();
        if config.election_timeout < config.heartbeat * 2 {
            let heartbeat = humantime::format_duration(config.heartbeat);
            let value = humantime::format_duration(config.election_timeout).to_string();
            let why = format!("it is less than twice the heartbeat, which is {heartbeat}");
            self.together(ELECTION_TIMEOUT, HEARTBEAT, value, why);
        }
        if config.snapshot_log_bytes < config.segment_bytes {
            let segment = value::show_bytes(config.segment_bytes);
            let why = format!("it is less than segment_bytes, which is {segment}");
            let value = value::show_bytes(config.snapshot_log_bytes);
            self.together(SNAPSHOT_LOG_BYTES, SEGMENT_BYTES, value, why);
        }
        let listens = [
            (
                LISTEN,
                &config.client_listen,
                ADVERTISE,
                &config.client_advertise,
            ),
            (
                PEER_LISTEN,
                &config.peer_listen,
                ADVERTISE_PEER,
                &config.peer_advertise,
            ),
            (
                HTTP_LISTEN,
                &config.http_listen,
                ADVERTISE_HTTP,
                &config.http_advertise,
            ),
        ];
        for (index, (setting, listen, advertise, advertised)) in listens.into_iter().enumerate() {
            if value::is_wildcard(listen) && advertised.is_none() {
                let why = format!(
                    "it means every address of this machine, which others cannot dial: set {advertise} too ({})",
                    advertise.allowed
                );
                self.together(setting, advertise, listen.clone(), why);
            }
            let twin = listens[..index]
                .iter()
                .find(|(_, other, ..)| value::collide(other, listen));
            if let Some((other, ..)) = twin {
                let why = format!("{other} has the same port: give each its own");
                self.together(setting, *other, listen.clone(), why);
            }
        }
        let legacy = config.legacy_listen.given().unwrap_or_default();
        for (other, listen, ..) in listens {
            if value::collide(listen, legacy) {
                let why = format!("{other} has the same port: give each its own");
                self.together(LEGACY_LISTEN, other, legacy.to_owned(), why);
            }
        }
    }

    /// Notes a fault of `setting` beside `other`; the source is that of whichever was set, `setting` first.
    fn together(&mut self, setting: Setting, other: Setting, value: String, why: String) {
        let source_of = |wanted: Setting| {
            let newest = self
                .given
                .iter()
                .rev()
                .find(|(setting, _)| *setting == wanted);
            newest.map(|(_, given)| given.source.clone())
        };
        let source = source_of(setting).or_else(|| {
            let other = source_of(other)?;
            Some(Source::Beside(Box::new(other)))
        });
        self.faults.push(ConfigFault {
            key: setting.key.to_owned(),
            value: Some(value),
            source: source.unwrap_or(Source::Default),
            why,
            allowed: Some(setting.allowed),
        });
    }
}

fn put<T>(place: &mut T, value: Result<T, String>) -> Result<(), String> {
    *place = value?;
    Ok(())
}

#[cfg(test)]
mod tests;
