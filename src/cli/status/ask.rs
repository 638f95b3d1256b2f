//! One node, asked once: whoever wants to know how the nodes are does not want to wait for one that is not there.

use std::{error::Error, fmt, time::Duration};

use tonic::{Code, Request, Status};

use super::super::exit::Failure;
use crate::{
    client::{ClientError, Effect, Tried},
    env::{
        net::{self, ChannelOptions},
        time,
    },
    pb::{self, cluster_client::ClusterClient},
};

/// Why the node at an address says nothing, in as few words as a list of nodes has room for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Silence {
    /// There was no connection.
    Unreachable(String),
    /// There was one, and no answer.
    NoAnswer(Duration),
    /// An answer that is no status.
    Other(String),
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) | Self::Other(why) => f.write_str(why),
            Self::NoAnswer(after) => {
                let after = humantime::format_duration(*after);
                write!(f, "no answer within {after}")
            }
        }
    }
}

impl Silence {
    fn of(status: &Status, limit: Duration) -> Self {
        if net::never_connected(status) {
            return Self::Unreachable(innermost(status));
        }
        match status.code() {
            Code::DeadlineExceeded | Code::Cancelled => Self::NoAnswer(limit),
            Code::Unimplemented => Self::Other("no node of dos-cluster answers there".to_owned()),
            _ if status.source().is_some() => Self::Other(innermost(status)),
            _ => Self::Other(status.message().to_owned()),
        }
    }

    /// The failure of whoever asked this node only.
    pub(super) fn into_failure(self, address: &str) -> Failure {
        let what = format!("read the status of {address}");
        let mut tried = Tried::default();
        tried.record(address, &self.to_string());
        let error = match self {
            Self::Unreachable(_) => ClientError::CannotConnect { what, tried },
            Self::NoAnswer(after) => ClientError::Timeout {
                what,
                after,
                tried,
                effect: Effect::None,
            },
            Self::Other(why) => ClientError::BadRequest { what, why },
        };
        error.into()
    }
}

/// The word of the node at `address` on itself: one attempt, within `limit`.
pub(super) async fn status(
    address: &str,
    connect_timeout: Duration,
    limit: Duration,
) -> Result<pb::StatusResponse, Silence> {
    let options = ChannelOptions {
        connect_timeout: connect_timeout.min(limit),
        ..ChannelOptions::default()
    };
    let channel = net::channel(address, options);
    let channel = channel.map_err(|error| Silence::Other(error.to_string()))?;
    let mut request = Request::new(pb::StatusRequest {});
    request.set_timeout(limit);
    let mut client = ClusterClient::new(channel);
    match time::timeout(limit, client.status(request)).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(Silence::of(&status, limit)),
        Err(_) => Err(Silence::NoAnswer(limit)),
    }
}

/// The innermost cause, without the number that the system has for it.
fn innermost(status: &Status) -> String {
    let mut reason = status.message().to_owned();
    let mut source = status.source();
    while let Some(error) = source {
        reason = error.to_string();
        source = error.source();
    }
    match reason.find(" (os error ") {
        Some(at) => reason[..at].to_owned(),
        None => reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;

    #[tokio::test]
    async fn a_node_that_is_not_there_is_asked_once_and_named_with_the_cause() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        drop(taken);
        let limit = Duration::from_secs(60);
        let asked = time::timeout(limit / 6, status(&address, limit, limit)).await;
        let silence = asked.unwrap().unwrap_err();
        assert_eq!(silence, Silence::Unreachable("Connection refused".into()));
        let failure = silence.into_failure(&address);
        assert_eq!(failure.exit, Exit::CannotConnect);
        assert!(failure.message.contains(&address), "{}", failure.message);
    }

    #[tokio::test]
    async fn a_node_that_says_nothing_is_waited_for_no_longer_than_allowed() {
        let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = mute.local_addr().unwrap().to_string();
        let limit = Duration::from_millis(50);
        let silence = status(&address, limit, limit).await.unwrap_err();
        assert_eq!(silence.to_string(), "no answer within 50ms");
        assert_eq!(silence.into_failure(&address).exit, Exit::Timeout);
    }
}
