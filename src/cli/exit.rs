//! How a command ends: its exit code, and what is said of a failure.

use std::{io, process::ExitCode};

use crate::client::{ClientError, Effect, ErrorKind};

/// Exit codes; scripts rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Exit {
    Done = 0,
    Error = 1,
    Usage = 2,
    CannotConnect = 3,
    Refused = 4,
    Unhealthy = 5,
    Verification = 6,
    Timeout = 8,
}

impl Exit {
    /// What clap's own exit code means: 0 for help and version.
    pub(super) fn of_usage(code: i32) -> Self {
        if code == 0 { Self::Done } else { Self::Usage }
    }

    /// A word for programs.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Error => "error",
            Self::Usage => "usage",
            Self::CannotConnect => "cannot_connect",
            Self::Refused => "refused",
            Self::Unhealthy => "unhealthy",
            Self::Verification => "verification",
            Self::Timeout => "timeout",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed: object and cause in `message`, next steps in `tries`.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    pub(super) message: String,
    pub(super) tries: Vec<String>,
    /// Whether the cluster may have changed; `None` where nothing was asked of it.
    pub(super) effect: Option<Effect>,
}

impl Failure {
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            tries: Vec::new(),
            effect: None,
        }
    }

    pub(super) fn error(message: impl Into<String>) -> Self {
        Self::new(Exit::Error, message)
    }

    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Refused, and nothing was changed.
    pub(super) fn refused(message: impl Into<String>) -> Self {
        Self {
            effect: Some(Effect::None),
            ..Self::new(Exit::Refused, message)
        }
    }

    /// Whoever read our output has gone: no failure, and nothing to say.
    pub(super) fn output_closed() -> Self {
        Self::new(Exit::Done, "")
    }

    /// With a next step.
    pub(super) fn try_next(mut self, step: impl Into<String>) -> Self {
        self.tries.push(step.into());
        self
    }

    /// With what was tried, where the cause does not name its object.
    pub(super) fn before(mut self, what: &str) -> Self {
        if !self.message.is_empty() && !self.message.starts_with("cannot ") {
            self.message = format!("{what}: {}", self.message);
        }
        self
    }

    /// With what was done before it failed.
    pub(super) fn after(mut self, done: &str) -> Self {
        if !self.message.is_empty() {
            self.message = format!("{}; {done}", self.message);
        }
        self
    }
}

/// Names what was tried with a file: "cannot read x: ...".
pub(super) fn cannot(what: &str, path: &std::path::Path, error: &io::Error) -> Failure {
    Failure::error(format!("cannot {what} {}: {error}", path.display()))
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match error.kind() {
            ErrorKind::Rejected => Exit::Refused,
            ErrorKind::CannotConnect => Exit::CannotConnect,
            ErrorKind::Unhealthy => Exit::Unhealthy,
            ErrorKind::Verification => Exit::Verification,
            ErrorKind::Timeout => Exit::Timeout,
            ErrorKind::Other => Exit::Error,
        };
        let mut failure = Self {
            effect: Some(error.effect()),
            ..Self::new(exit, error.to_string())
        };
        if exit == Exit::CannotConnect {
            let step = "name running nodes with --endpoints HOST:PORT,... or DOS_CLUSTER_ENDPOINTS";
            failure = failure.try_next(step);
        }
        if exit == Exit::Unhealthy {
            failure = failure.try_next("dos-cluster status --all-endpoints");
        }
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        client::Tried,
        domain::{JobName, Rejected},
    };

    #[test]
    fn each_kind_of_error_of_the_client_has_its_exit_code() {
        let what = || "x".to_owned();
        let tried = Tried::default;
        let effect = Effect::Unknown;
        let refused = Rejected::UnknownJob {
            job: JobName::new("j").unwrap(),
        };
        let cases: [(ClientError, u8); 6] = [
            (
                ClientError::Rejected {
                    rejected: Box::new(refused),
                    effect: Effect::None,
                },
                4,
            ),
            (
                ClientError::CannotConnect {
                    what: what(),
                    tried: tried(),
                },
                3,
            ),
            (
                ClientError::NoQuorum {
                    what: what(),
                    reason: "n2 is silent".into(),
                    tried: tried(),
                    effect,
                },
                5,
            ),
            (
                ClientError::Verification {
                    what: what(),
                    tried: tried(),
                },
                6,
            ),
            (
                ClientError::Timeout {
                    what: what(),
                    after: std::time::Duration::from_secs(1),
                    tried: tried(),
                    effect,
                },
                8,
            ),
            (
                ClientError::BadRequest {
                    what: what(),
                    why: "y".into(),
                },
                1,
            ),
        ];
        for (error, code) in cases {
            let effect = error.effect();
            let failure = Failure::from(error);
            assert_eq!(failure.exit as u8, code, "{}", failure.message);
            assert_eq!(failure.effect, Some(effect));
        }
    }
}
