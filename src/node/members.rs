//! Membership changes at the leader, and which voter to hand leadership to.

use std::time::Duration;

use crate::{
    domain::{Member, NodeId},
    env::time::{self, Instant},
    pb,
    pb::change_members_request::Change,
    raft::{Group, GroupStatus, MemberProgress, ProposeError, Role},
};

/// A voter that has not answered for this long is not handed leadership.
const FRESH_MS: u64 = 2_000;
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Carries out a change on this node, which must lead.
///
/// # Errors
/// `NotLeader`, `UnknownMember` and `Refused` without effect; `Membership` when Raft refuses.
pub(super) async fn change_here(
    group: &Group,
    change: Change,
) -> Result<pb::ChangeMembersResponse, ProposeError> {
    let status = group.status();
    if status.role != Role::Leader {
        return Err(ProposeError::NotLeader {
            leader: status.leader,
        });
    }
    let mut matched_index = 0;
    match change {
        Change::AddLearner(member) => {
            let member = Member::from(member);
            member
                .check()
                .map_err(|rejected| ProposeError::Refused(rejected.to_string()))?;
            group.add_learner(member).await?;
        }
        Change::Promote(node) => {
            let progress = status
                .member(NodeId(node))
                .ok_or(ProposeError::UnknownMember(NodeId(node)))?;
            matched_index = progress.matched_index.unwrap_or_default();
            if status.joint {
                group.finish_change().await?;
            }
            // Voting before it has the log would cost the cluster a vote until it has.
            if !progress.voter
                && matched_index > 0
                && caught_up(matched_index, status.last_log_index)
            {
                group.promote(NodeId(node)).await?;
            }
        }
        Change::Remove(node) => remove(group, &status, NodeId(node)).await?,
        Change::TransferLeader(0) => {
            let to = successor(&status, group.peers().identity().node).ok_or_else(|| {
                ProposeError::Refused(
                    "no other voter is up to date and answering: nobody to hand over to".to_owned(),
                )
            })?;
            group.transfer_leader(to).await?;
        }
        Change::TransferLeader(node) => {
            let voter = status.voters().any(|voter| voter.0 == node);
            if !voter {
                return Err(ProposeError::Refused(format!(
                    "{} is not a voter",
                    NodeId(node)
                )));
            }
            if NodeId(node) != group.peers().identity().node {
                group.transfer_leader(NodeId(node)).await?;
            }
        }
    }
    let status = group.status();
    Ok(pb::ChangeMembersResponse {
        leader_id: status.leader.map_or(0, |leader| leader.0),
        matched_index,
        last_index: status.last_log_index,
    })
}

async fn remove(group: &Group, status: &GroupStatus, gone: NodeId) -> Result<(), ProposeError> {
    let progress = status
        .member(gone)
        .ok_or(ProposeError::UnknownMember(gone))?;
    let me = group.peers().identity().node;
    if progress.voter {
        // A leader that was elected just now has not heard everybody yet.
        let until = Instant::now() + Duration::from_millis(FRESH_MS);
        while let Err(refused) = check_majority_without(&group.status(), me, gone) {
            if Instant::now() >= until {
                return Err(refused);
            }
            time::sleep(LOOK_AGAIN).await;
        }
    }
    if let Some(to) = successor(status, me).filter(|_| gone == me) {
        // A leader that is no member would go on leading for a while: another one carries it out.
        group.transfer_leader(to).await?;
        return Err(ProposeError::NotLeader { leader: Some(to) });
    }
    group.remove(gone).await
}

/// Without `gone`, a majority of the voters must be there: else the change could never be finished, nor anything else be written.
fn check_majority_without(
    status: &GroupStatus,
    me: NodeId,
    gone: NodeId,
) -> Result<(), ProposeError> {
    let stay = |member: &&MemberProgress| member.voter && member.member.node != gone;
    let answers = |member: &&MemberProgress| {
        member.member.node == me || member.last_answer_ms.is_some_and(|age| age < FRESH_MS)
    };
    let staying = status.members.iter().filter(stay);
    let silent: Vec<String> = staying
        .clone()
        .filter(|member| !answers(member))
        .map(|member| member.member.node.to_string())
        .collect();
    let staying = staying.count();
    if staying == 0 {
        let why = format!("{gone} is the only voter: add another one first");
        return Err(ProposeError::Refused(why));
    }
    if (staying - silent.len()) * 2 > staying {
        return Ok(());
    }
    Err(ProposeError::Refused(format!(
        "without {gone} there would be no majority: of the {staying} voters that stay, {} not answering; bring it back, or \
         remove it first",
        match silent.as_slice() {
            [one] => format!("{one} is"),
            several => format!("{} are", several.join(" and ")),
        }
    )))
}

/// Near enough to the end of the log to vote soon: a vote that lags costs the cluster nothing as long as the others have a majority.
fn caught_up(matched: u64, last: u64) -> bool {
    matched + 1_000 >= last
}

/// The most caught-up other voter that answers.
pub(super) fn successor(status: &GroupStatus, me: NodeId) -> Option<NodeId> {
    let candidates = status.members.iter().filter(|member| {
        member.voter
            && member.member.node != me
            && member.last_answer_ms.is_some_and(|age| age < FRESH_MS)
    });
    candidates
        .max_by_key(|member| member.matched_index)
        .map(|member| member.member.node)
}
