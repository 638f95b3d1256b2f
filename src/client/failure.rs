//! One failed attempt at one node: what the node said, and whether another attempt may follow.

use std::{error::Error, time::Duration};

use tonic::{Code, Status};

use super::error::{ClientError, Effect, Tried};
use crate::{codec::wire::detail_of, domain::Rejected, env::net, pb};

/// What answers at another port than the clients', or in another version, says nothing that helps.
const NO_SUCH_CALL: &str = "what answers there does not know this call: is it the client port of a node (7420 by default; 7421 is \
                            for members, 7422 for HTTP), and of this version?";

/// What an attempt failed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// The cluster decided to refuse.
    Rejected(Box<Rejected>),
    /// The call is wrong: every node would say so. Of itself it changed nothing, but messages of its stream before it, or an
    /// earlier attempt, may have.
    BadRequest,
    /// The node could not be reached; the call never left.
    Connect,
    /// The node does not serve: starting, waiting, without a leader, stopping.
    NotReady,
    /// The leader did not reach a majority.
    NoQuorum,
    /// The node has too much to do.
    Overloaded,
    /// No answer in time.
    Timeout,
    /// The connection broke before the answer.
    Lost,
    /// The node's own data is damaged.
    Damaged,
    /// The answer breaks the protocol.
    BadAnswer,
    /// The node tried, and says why it did not come to an end; without effect: it refused.
    Failed,
}

/// One failed attempt at one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: FailureKind,
    pub(super) effect: Effect,
    /// In the node's own words where it said any.
    pub(super) reason: String,
}

impl Failure {
    pub(super) fn new(kind: FailureKind, effect: Effect, reason: impl Into<String>) -> Self {
        Self {
            kind,
            effect,
            reason: reason.into(),
        }
    }

    pub(super) fn timeout(after: Duration) -> Self {
        let reason = format!("no answer within {after:?}");
        Self::new(FailureKind::Timeout, Effect::Unknown, reason)
    }

    pub(super) fn lost(reason: impl Into<String>) -> Self {
        Self::new(FailureKind::Lost, Effect::Unknown, reason)
    }

    pub(super) fn bad_answer(reason: impl Into<String>) -> Self {
        Self::new(FailureKind::BadAnswer, Effect::Unknown, reason)
    }

    /// An address that cannot be connected to as it is: the call never left, and other nodes may do.
    pub(super) fn no_channel(error: &ClientError) -> Self {
        Self::new(FailureKind::Connect, Effect::None, error.to_string())
    }

    /// What a gRPC status means. A node's detail is believed over the status code; without a detail only a connection
    /// that never was is known to have had no effect.
    pub(super) fn of(status: &Status) -> Self {
        match detail_of(status) {
            Some(detail) => Self::of_detail(status, detail),
            None => Self::of_bare(status),
        }
    }

    fn of_detail(status: &Status, detail: pb::ErrorDetail) -> Self {
        let effect = match pb::Effect::try_from(detail.effect) {
            Ok(pb::Effect::None) => Effect::None,
            _ => Effect::Unknown,
        };
        let kind = match detail.code.as_str() {
            "rejected" => match detail.rejected.map(Rejected::try_from) {
                Some(Ok(rejected)) => FailureKind::Rejected(Box::new(rejected)),
                // A newer node's reason: its words are still there.
                _ => FailureKind::BadRequest,
            },
            "bad_request" => FailureKind::BadRequest,
            "starting" | "waiting" | "no_leader" | "stopping" | "behind" | "unfit" | "storage" => {
                FailureKind::NotReady
            }
            // Whoever reads on elsewhere sees there that it was cut.
            "cut_meanwhile" => FailureKind::Lost,
            "membership" | "peer" | "refused" | "already_formed" => FailureKind::Failed,
            "no_quorum" => FailureKind::NoQuorum,
            "leader_lost" => FailureKind::Lost,
            "damaged" => FailureKind::Damaged,
            "overloaded" => FailureKind::Overloaded,
            _ if effect == Effect::Unknown => FailureKind::Lost,
            _ if status.code() == Code::Unavailable => FailureKind::NotReady,
            _ => FailureKind::BadRequest,
        };
        Self::new(kind, effect, status.message())
    }

    fn of_bare(status: &Status) -> Self {
        if net::never_connected(status) {
            return Self::new(FailureKind::Connect, Effect::None, deepest(status));
        }
        match status.code() {
            Code::DeadlineExceeded | Code::Cancelled => {
                Self::new(FailureKind::Timeout, Effect::Unknown, status.message())
            }
            // No service took the call.
            Code::Unimplemented => Self::new(FailureKind::BadRequest, Effect::None, NO_SUCH_CALL),
            // Not a node's own words: it may be the answer that was too large, say.
            Code::InvalidArgument | Code::NotFound | Code::OutOfRange => {
                Self::new(FailureKind::BadRequest, Effect::Unknown, status.message())
            }
            Code::DataLoss => Self::new(FailureKind::Damaged, Effect::Unknown, status.message()),
            _ => Self::lost(deepest(status)),
        }
    }

    /// Whether another attempt, here or elsewhere, may do better and can do no harm. `repeatable`: doing it twice is as
    /// doing it once.
    pub(super) fn may_retry(&self, repeatable: bool) -> bool {
        match self.kind {
            FailureKind::Rejected(_) | FailureKind::BadRequest => false,
            // Refused, with a reason that another attempt meets again.
            FailureKind::Failed if self.effect == Effect::None => false,
            _ => repeatable || self.effect == Effect::None,
        }
    }

    /// Whether the writer was fenced by another one of the same worker's epoch, or of a later.
    pub(super) fn is_fenced(&self) -> bool {
        matches!(&self.kind, FailureKind::Rejected(rejected) if matches!(**rejected, Rejected::WriterFenced { .. }))
    }

    /// The error of a call at one node that is not tried again.
    pub(super) fn into_error_at(self, what: &str, node: &str, after: Duration) -> ClientError {
        let mut tried = Tried::default();
        tried.record(node, &self.reason);
        let effect = match self.kind {
            // The refusal changed nothing, and there was no other attempt.
            FailureKind::Rejected(_) => Effect::None,
            _ => self.effect,
        };
        self.into_error(what.to_owned(), tried, after, effect)
    }

    /// The error of a call whose last or most telling failure this is. `effect` is that of all its attempts together.
    pub(super) fn into_error(
        self,
        what: String,
        tried: Tried,
        after: Duration,
        effect: Effect,
    ) -> ClientError {
        let reason = self.reason;
        match self.kind {
            FailureKind::Rejected(rejected) => ClientError::Rejected { rejected, effect },
            FailureKind::BadRequest if effect == Effect::None => {
                ClientError::BadRequest { what, why: reason }
            }
            FailureKind::Connect if effect == Effect::None => {
                ClientError::CannotConnect { what, tried }
            }
            FailureKind::NotReady => ClientError::NotReady {
                what,
                reason,
                tried,
                effect,
            },
            FailureKind::NoQuorum => ClientError::NoQuorum {
                what,
                reason,
                tried,
                effect,
            },
            FailureKind::Overloaded if effect == Effect::None => {
                ClientError::Overloaded { what, reason }
            }
            FailureKind::Damaged if effect == Effect::None => {
                ClientError::Verification { what, tried }
            }
            // The node's words stand, but not that nothing was changed.
            FailureKind::Failed | FailureKind::BadRequest | FailureKind::Damaged => {
                ClientError::Failed {
                    what,
                    reason,
                    effect,
                }
            }
            FailureKind::Connect
            | FailureKind::Timeout
            | FailureKind::Lost
            | FailureKind::BadAnswer
            | FailureKind::Overloaded => ClientError::Timeout {
                what,
                after,
                tried,
                effect,
            },
        }
    }

    /// Which of several failures tells most: the higher.
    pub(super) fn weight(&self) -> u8 {
        match self.kind {
            FailureKind::Connect => 0,
            FailureKind::Lost => 1,
            FailureKind::Timeout => 2,
            FailureKind::BadAnswer | FailureKind::Failed => 3,
            FailureKind::Overloaded => 4,
            FailureKind::NotReady => 5,
            FailureKind::Damaged => 6,
            FailureKind::NoQuorum => 7,
            FailureKind::Rejected(_) | FailureKind::BadRequest => 8,
        }
    }
}

/// The innermost cause: "transport error" says nothing.
fn deepest(status: &Status) -> String {
    let mut reason = None;
    let mut source = status.source();
    while let Some(error) = source {
        reason = Some(error.to_string());
        source = error.source();
    }
    reason.unwrap_or_else(|| format!("{} ({:?})", status.message(), status.code()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        codec::wire::attach_detail,
        domain::{JournalId, Offset},
    };
    use tonic::metadata::{MetadataMap, MetadataValue};

    fn with_detail(code: Code, detail: &pb::ErrorDetail) -> Status {
        let mut status = Status::new(code, "as the node said");
        attach_detail(&mut status, detail);
        status
    }

    #[test]
    fn a_rejection_is_final_and_had_no_effect() {
        let rejected = Rejected::WrongOffset {
            journal: JournalId(3),
            at: Offset(5),
            tail: Offset(4),
        };
        let detail = pb::ErrorDetail {
            effect: pb::Effect::None.into(),
            code: "rejected".into(),
            rejected: Some((&rejected).into()),
            leader_address: String::new(),
        };
        let failure = Failure::of(&with_detail(Code::FailedPrecondition, &detail));
        assert_eq!(failure.kind, FailureKind::Rejected(Box::new(rejected)));
        assert_eq!(failure.effect, Effect::None);
        assert!(!failure.may_retry(true));
    }

    #[test]
    fn a_lost_leader_may_have_done_it_and_a_missing_one_has_not() {
        let detail = |effect: pb::Effect, code: &str| pb::ErrorDetail {
            effect: effect.into(),
            code: code.into(),
            rejected: None,
            leader_address: String::new(),
        };
        let lost = detail(pb::Effect::Unknown, "leader_lost");
        let lost = Failure::of(&with_detail(Code::Unavailable, &lost));
        assert_eq!(
            (lost.effect, lost.may_retry(false)),
            (Effect::Unknown, false)
        );
        assert!(lost.may_retry(true));
        let missing = detail(pb::Effect::None, "no_leader");
        let missing = Failure::of(&with_detail(Code::Unavailable, &missing));
        assert_eq!(missing.kind, FailureKind::NotReady);
        assert!(missing.may_retry(false));
    }

    #[test]
    fn a_broken_connection_without_detail_may_have_done_it() {
        let failure = Failure::of(&Status::unavailable("connection reset"));
        assert_eq!(
            (failure.kind, failure.effect),
            (FailureKind::Lost, Effect::Unknown)
        );
    }

    #[test]
    fn a_refusal_that_is_no_nodes_own_may_have_done_it() {
        for code in [Code::InvalidArgument, Code::OutOfRange, Code::NotFound] {
            let failure = Failure::of(&Status::new(code, "from somewhere on the way"));
            assert_eq!(failure.kind, FailureKind::BadRequest);
            assert_eq!(failure.effect, Effect::Unknown, "{code:?}");
            let error = failure.into_error_at("open", "n1", Duration::ZERO);
            assert_eq!(error.effect(), Effect::Unknown, "{error}");
        }
    }

    #[test]
    fn no_failure_forgets_that_an_earlier_attempt_may_have_done_it() {
        for kind in [
            FailureKind::Rejected(Box::new(Rejected::EmptyAppend {
                journal: JournalId(1),
            })),
            FailureKind::BadRequest,
            FailureKind::Connect,
            FailureKind::NotReady,
            FailureKind::NoQuorum,
            FailureKind::Overloaded,
            FailureKind::Timeout,
            FailureKind::Lost,
            FailureKind::Damaged,
            FailureKind::BadAnswer,
            FailureKind::Failed,
        ] {
            for effect in [Effect::None, Effect::Unknown] {
                let last = Failure::new(kind.clone(), Effect::None, "why");
                let tried = Tried::default();
                let error = last.into_error("open".into(), tried, Duration::ZERO, effect);
                assert_eq!(error.effect(), effect, "{kind:?}");
            }
        }
    }

    #[test]
    fn garbage_as_detail_is_no_detail() {
        let mut metadata = MetadataMap::new();
        metadata.insert_bin("dos-error-bin", MetadataValue::from_bytes(&[0xff; 9]));
        let failure = Failure::of(&Status::with_metadata(Code::Unavailable, "x", metadata));
        assert_eq!(failure.effect, Effect::Unknown);
    }
}
