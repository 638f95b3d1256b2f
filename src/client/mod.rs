//! What a worker links, and what the command line is made of: calls, append streams, reads, restores, and a directory
//! that mirrors itself.
//!
//! Any member takes any call and forwards it to the leader, so a client needs no more than one reachable endpoint; it
//! learns the others from it. A failed call says whether it may have happened ([`ClientError::effect`]); what is safe to
//! repeat is repeated until [`ClientOptions::timeout`].
//!
//! ```text
//! Client          one per process, cheap to clone: unary calls, each retried within its deadline
//! AppendStream    one writer of one journal; survives the loss of nodes, ends for good when fenced
//! EndpointWatch   where the workers of a job are reached, and each change of it
//! read            a range of a journal, verified; goes on at another node when one fails
//! restore         fence, fetch from all members, verify, replay, rename into place
//! JournaledDir    ordinary files whose every change is streamed to the cluster
//! mirror_dir      follows journal files that a worker writes by itself (with the command line only)
//! ```

#![warn(missing_docs)]

mod admin;
mod append;
mod call;
mod calls;
pub mod dump;
mod endpoints;
mod error;
mod failure;
mod files;
mod identity;
mod journaled_dir;
mod leader;
mod local_journal;
mod mirror;
#[cfg(feature = "cli")]
pub mod mirror_dir;
mod read;
pub mod replay;
pub mod restore;
mod retry;
mod small_file;
#[cfg(test)]
#[cfg(feature = "server")]
mod testing;
#[cfg(test)]
#[cfg(feature = "server")]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tonic::transport::Channel;

pub use append::{AppendOptions, AppendPhase, AppendProgress, AppendStream, AppendWatch};
pub use calls::TakeoverOptions;
pub use endpoints::{EndpointWatch, ListedEndpoints};
pub use error::{ClientError, Effect, ErrorKind, Tried};
pub use identity::{IDENTITY_FILE, WorkerIdentity};
pub use journaled_dir::{JournaledDir, JournaledDirOptions, Receipt};
pub use leader::DEFAULT_PORT;
pub use mirror::{JournalMirror, MirrorHandle, MirrorStatus};
pub use read::{Floor, JournalReader};

use crate::env::net::{self, ChannelOptions};
use leader::Directory;

/// Most connections kept open at a time.
const CHANNELS_MAX: usize = 64;

/// How a [`Client`] behaves.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Where to begin: `host:port` of any members, at least one. The others are learned from them.
    pub endpoints: Vec<String>,
    /// How long one call is tried before it fails.
    pub timeout: Duration,
    /// How long one node may take for one attempt of a call that is safe to repeat, before another node is tried.
    pub attempt_timeout: Duration,
    /// How long one attempt to connect may take.
    pub connect_timeout: Duration,
}

impl ClientOptions {
    /// The defaults for these endpoints: 10 s for a call, 3 s for an attempt, 1 s to connect.
    #[must_use]
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            timeout: Duration::from_secs(10),
            attempt_timeout: Duration::from_secs(3),
            connect_timeout: Duration::from_secs(1),
        }
    }
}

/// A cluster, seen from outside. Cheap to clone; clones share connections and what is known of the leader.
///
/// Connects at the first call, so it may be made while no node runs. Its methods must be called inside a tokio runtime.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    options: ClientOptions,
    directory: Mutex<Directory>,
    channels: Mutex<BTreeMap<String, Channel>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("endpoints", &self.shared.options.endpoints)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the cluster behind `options.endpoints`.
    ///
    /// # Errors
    /// `BadRequest` when there is no endpoint, or one is no address.
    pub fn new(options: ClientOptions) -> Result<Self, ClientError> {
        let endpoints: Vec<String> = options
            .endpoints
            .iter()
            .map(|endpoint| leader::authority(endpoint))
            .collect::<Result<_, _>>()?;
        if endpoints.is_empty() {
            return Err(ClientError::BadRequest {
                what: "make a client".into(),
                why: "no endpoint is given: name at least one node, as HOST:PORT".into(),
            });
        }
        let shared = Shared {
            options,
            directory: Mutex::new(Directory::new(endpoints)),
            channels: Mutex::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The options it was made with.
    #[must_use]
    pub fn options(&self) -> &ClientOptions {
        &self.shared.options
    }

    /// Every address known now: the endpoints given, then the members learned from them.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.directory().addresses()
    }

    fn directory(&self) -> MutexGuard<'_, Directory> {
        let directory = &self.shared.directory;
        directory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn channels(&self) -> MutexGuard<'_, BTreeMap<String, Channel>> {
        let channels = &self.shared.channels;
        channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The kept channel to `address`, or a new one, which connects at its first call.
    fn channel(&self, address: &str) -> Result<Channel, ClientError> {
        if let Some(channel) = self.channels().get(address) {
            return Ok(channel.clone());
        }
        let options = ChannelOptions {
            connect_timeout: self.shared.options.connect_timeout,
            ..ChannelOptions::default()
        };
        let channel = net::channel(address, options).map_err(|e| ClientError::BadRequest {
            what: format!("use endpoint {address:?}"),
            why: e.to_string(),
        })?;
        let mut channels = self.channels();
        if channels.len() >= CHANNELS_MAX {
            // Whoever uses it keeps it until done; the next use connects again.
            channels.pop_first();
        }
        channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }

    /// Forgets the channel to `address`, whose connection may hang.
    fn drop_channel(&self, address: &str) {
        self.channels().remove(address);
    }
}
