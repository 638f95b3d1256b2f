//! How a node comes by its identity: formed with others by `init`, admitted by `join`; and what it does with it at each start.

use std::{sync::Arc, time::Duration};

use super::{
    Fault,
    router::Router,
    shared::{Running, Shared},
    status::{ALREADY_FORMED, INIT_UNDER_WAY, NodeError},
};
use crate::{
    codec::wire::detail_of,
    domain::{ClusterId, Command, Member, NodeId, Outcome, limits::MEMBERS_MAX},
    env::{
        rng, task,
        time::{self, Instant},
    },
    pb,
    pb::{
        change_members_request::Change, cluster_client::ClusterClient, join_progress::Phase as Step,
    },
    raft::{Group, Identity},
};

/// How long another node is given for each step.
const STEP_WITHIN: Duration = Duration::from_secs(10);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a listener may take to read.
const TOLD_WITHIN: Duration = Duration::from_secs(1);
/// How long a promotion may be refused before that is told.
const REFUSED_FOR: Duration = Duration::from_mins(1);

/// Who watches a join.
pub(super) type JoinListener = tokio::sync::mpsc::Sender<Result<pb::JoinProgress, tonic::Status>>;

/// A node that was asked what it is.
struct Candidate {
    client_address: String,
    peer_address: String,
    incarnation: u64,
}

/// Asks the node at a client address whether it can be given an identity.
async fn candidate(shared: &Shared, address: &str) -> Result<Candidate, NodeError> {
    let peer = |why: String| NodeError::Peer {
        address: address.to_owned(),
        why,
    };
    let channel = crate::env::net::channel(address, Default::default())
        .map_err(|e| peer(format!("no host:port: {e}")))?;
    let mut client = ClusterClient::new(channel);
    let status = match time::timeout(STEP_WITHIN, client.status(pb::StatusRequest {})).await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => {
            return Err(peer(format!(
                "no node answers there ({})",
                status.message()
            )));
        }
        Err(_) => return Err(peer(format!("no answer within {STEP_WITHIN:?}"))),
    };
    let deadline = Instant::now() + STEP_WITHIN;
    let probed = loop {
        let probed = shared.links.probe(&status.peer_address).await;
        let probed = probed.map_err(|why| {
            peer(format!(
                "it answers clients, but at its peer address, {}, there is: {why}",
                status.peer_address
            ))
        })?;
        if !probed.starting || Instant::now() >= deadline {
            break probed;
        }
        time::sleep(PAUSE).await;
    };
    if probed.starting {
        return Err(peer(format!("it is still starting after {STEP_WITHIN:?}")));
    }
    if !probed.waiting {
        return Err(NodeError::AlreadyFormed {
            address: address.to_owned(),
            cluster: status.cluster_id,
        });
    }
    Ok(Candidate {
        client_address: address.to_owned(),
        peer_address: status.peer_address,
        incarnation: probed.incarnation,
    })
}

/// Gives a candidate an identity; waits while another init that may have failed still claims it.
async fn adopt(
    shared: &Arc<Shared>,
    candidate: &Candidate,
    cluster: ClusterId,
    node: NodeId,
) -> Result<Member, NodeError> {
    let deadline = Instant::now() + STEP_WITHIN;
    loop {
        match try_adopt(shared, candidate, cluster, node).await {
            Err(NodeError::InitUnderWay { .. }) if Instant::now() < deadline => {
                time::sleep(PAUSE).await;
            }
            answer => return answer,
        }
    }
}

async fn try_adopt(
    shared: &Arc<Shared>,
    candidate: &Candidate,
    cluster: ClusterId,
    node: NodeId,
) -> Result<Member, NodeError> {
    if candidate.incarnation == shared.incarnation() {
        return shared.adopt(cluster, node).await;
    }
    let address = candidate.client_address.clone();
    let peer = |why: String| NodeError::Peer {
        address: address.clone(),
        why,
    };
    let mut client = shared
        .links
        .bootstrap(&candidate.peer_address)
        .ok_or_else(|| {
            peer(format!(
                "its peer address, {:?}, is no host:port",
                candidate.peer_address
            ))
        })?;
    let request = pb::AdoptRequest {
        cluster_id: cluster.0.to_be_bytes().to_vec().into(),
        node_id: node.0,
        incarnation: candidate.incarnation,
    };
    match time::timeout(STEP_WITHIN, client.adopt(request)).await {
        Ok(Ok(response)) => {
            let member = response
                .into_inner()
                .member
                .ok_or_else(|| peer("an empty answer".to_owned()))?;
            let member = Member::from(member);
            member.check()?;
            Ok(member)
        }
        Ok(Err(status)) => Err(
            match detail_of(&status).map(|detail| detail.code).as_deref() {
                Some(code @ (INIT_UNDER_WAY | ALREADY_FORMED)) => {
                    let found = shared.links.probe(&candidate.peer_address).await;
                    let cluster = found.map_or_else(|_| "another one".to_owned(), cluster_of);
                    if code == ALREADY_FORMED {
                        NodeError::AlreadyFormed { address, cluster }
                    } else {
                        NodeError::InitUnderWay { address, cluster }
                    }
                }
                _ => peer(status.message().to_owned()),
            },
        ),
        Err(_) => Err(peer(format!("no answer within {STEP_WITHIN:?}"))),
    }
}

/// The cluster that a node belongs to, for people.
fn cluster_of(found: pb::ProbeResponse) -> String {
    <[u8; 16]>::try_from(&found.cluster_id[..]).map_or_else(
        |_| "another one".to_owned(),
        |id| ClusterId(u128::from_be_bytes(id)).to_string(),
    )
}

/// Another init may have given a node away again while this one was at work.
async fn check_still_ours(
    shared: &Shared,
    candidate: &Candidate,
    cluster: ClusterId,
    node: NodeId,
) -> Result<(), NodeError> {
    if candidate.incarnation == shared.incarnation() {
        return Ok(()); // its own group checks that
    }
    let address = candidate.client_address.clone();
    match shared.links.probe(&candidate.peer_address).await {
        Ok(found) if found.cluster_id[..] == cluster.0.to_be_bytes() && found.node_id == node.0 => {
            Ok(())
        }
        Ok(found) => Err(NodeError::InitUnderWay {
            address,
            cluster: cluster_of(found),
        }),
        Err(why) => Err(NodeError::Peer { address, why }),
    }
}

/// Forms a cluster from waiting nodes, this one among them. Every node is asked before any is changed; a node that was given
/// an identity by an attempt that failed half way can be given another, for it has never voted.
pub(super) async fn init(
    shared: &Arc<Shared>,
    addresses: &[String],
) -> Result<(ClusterId, Vec<Member>), NodeError> {
    let bad =
        |why: String| NodeError::BadRequest(crate::codec::CodecError::field("addresses", why));
    if addresses.is_empty() || addresses.len() > MEMBERS_MAX {
        return Err(bad(format!(
            "{} nodes given: 1 to {MEMBERS_MAX} form a cluster, 3 or 5 are usual",
            addresses.len()
        )));
    }
    shared.check_adoptable()?;
    let mut candidates: Vec<Candidate> = Vec::new();
    for address in addresses {
        let next = candidate(shared, address).await?;
        if let Some(twin) = candidates
            .iter()
            .find(|other| other.incarnation == next.incarnation)
        {
            return Err(bad(format!(
                "{address} and {} are the same node",
                twin.client_address
            )));
        }
        candidates.push(next);
    }
    if !candidates
        .iter()
        .any(|candidate| candidate.incarnation == shared.incarnation())
    {
        return Err(bad(format!(
            "the node asked, {}, is not among them",
            shared.addresses.client
        )));
    }
    let cluster = ClusterId(rng::u128());
    let mut numbered: Vec<(NodeId, &Candidate)> = (1..).map(NodeId).zip(&candidates).collect();
    // Two inits at once meet at the same node first, and one of them waits there.
    numbered.sort_by_key(|(_, candidate)| candidate.incarnation);
    let mut members = Vec::new();
    for (node, candidate) in &numbered {
        members.push(adopt(shared, candidate, cluster, *node).await?);
    }
    for (node, candidate) in &numbered {
        check_still_ours(shared, candidate, cluster, *node).await?;
    }
    members.sort_by_key(|member| member.node);
    let mine = members
        .iter()
        .find(|member| member.incarnation == shared.incarnation())
        .map_or(NodeId(0), |member| member.node);
    let running = shared.form(cluster, mine, members.clone()).await?;
    let mut leader = running.router.group().watch_leader();
    let elected = time::timeout(STEP_WITHIN, leader.wait_for(Option::is_some))
        .await
        .is_ok_and(|led| led.is_ok());
    if !elected {
        let missing = shared.links.who_is_missing(running.router.group()).await;
        return Err(NodeError::NoQuorum {
            after: STEP_WITHIN,
            missing,
        });
    }
    tracing::info!(%cluster, nodes = members.len(), "formed a cluster");
    Ok((cluster, members))
}

/// A node whose disk was wiped is no member any more, but its old number still counts as a voter: were it admitted under another
/// one, the cluster would need one vote more than it has nodes.
fn check_address_is_free(group: &Group, waiting: &Candidate) -> Result<(), NodeError> {
    let state = group.view().read();
    let holder = state.members().find(|member| {
        member.client_address == waiting.client_address
            || member.peer_address == waiting.peer_address
    });
    match holder {
        None => Ok(()),
        Some(Member { node, .. }) => Err(NodeError::Refused(format!(
            "{} is the address of member {node}, but the node there is another one with an empty data directory; if {node}'s disk \
             was wiped or replaced, remove it first: dos-cluster member remove {node}",
            waiting.client_address
        ))),
    }
}

/// Admits the waiting node at a client address; tells each step to `progress`, and goes on when nobody listens any more. A node
/// that was admitted as a learner before, and has no vote yet, is taken further from there.
pub(super) async fn join(
    shared: &Arc<Shared>,
    address: &str,
    progress: &JoinListener,
) -> Result<(), NodeError> {
    let running = shared.running()?;
    let router = &running.router;
    let deadline = || Instant::now() + STEP_WITHIN;
    if let Some(learner) = learner_at(shared, &running, address).await {
        return promote(router, &learner, progress).await;
    }
    if router.group().view().read().members().count() >= MEMBERS_MAX {
        return Err(NodeError::Refused(format!(
            "the cluster has {MEMBERS_MAX} members, which is the limit"
        )));
    }
    let waiting = candidate(shared, address).await?;
    check_address_is_free(router.group(), &waiting)?;
    let allocated = router.propose(Command::AllocateNode, deadline()).await?;
    let Outcome::NodeAllocated(node) = allocated.answer? else {
        return Err(NodeError::LeaderLost {
            why: "an answer to another command".to_owned(),
        });
    };
    let member = adopt(shared, &waiting, running.identity.cluster, node).await?;
    tell(progress, &member, Step::Adopted, None).await;
    router
        .change_members(Change::AddLearner((&member).into()), deadline())
        .await?;
    promote(router, &member, progress).await
}

/// The learner of this cluster that is at a client address, if there is one.
async fn learner_at(shared: &Shared, running: &Running, address: &str) -> Option<Member> {
    let group = running.router.group();
    let member = {
        let state = group.view().read();
        let mut members = state.members();
        members
            .find(|member| member.client_address == address)
            .cloned()
    }?;
    let learner = group
        .status()
        .member(member.node)
        .is_some_and(|progress| !progress.voter);
    let found = shared.links.probe(&member.peer_address).await.ok()?;
    let same = found.incarnation == member.incarnation && found.node_id == member.node.0;
    (learner && same).then_some(member)
}

/// Gives a learner its vote once it has caught up, however long that takes and whoever leads meanwhile.
async fn promote(
    router: &Router,
    member: &Member,
    progress: &JoinListener,
) -> Result<(), NodeError> {
    let node = member.node;
    tell(progress, member, Step::Learner, None).await;
    let mut refused_since: Option<Instant> = None;
    loop {
        let within = Instant::now() + STEP_WITHIN;
        let answer = match router.change_members(Change::Promote(node.0), within).await {
            Ok(answer) => {
                refused_since = None;
                Some(answer)
            }
            // Promoting twice is as promoting once.
            Err(
                NodeError::LeaderLost { .. }
                | NodeError::NoLeader { .. }
                | NodeError::NoQuorum { .. },
            ) => None,
            // As a rule, another change is under way.
            Err(NodeError::Membership(why)) => {
                let since = *refused_since.get_or_insert_with(Instant::now);
                if since.elapsed() > REFUSED_FOR {
                    return Err(NodeError::Membership(why));
                }
                None
            }
            Err(error) => return Err(error),
        };
        let status = router.group().status();
        let voter = status.member(node).is_some_and(|known| known.voter) && !status.joint;
        let step = if voter { Step::Voter } else { Step::Learner };
        tell(progress, member, step, answer).await;
        if voter {
            tracing::info!(%node, address = %member.client_address, "admitted a member");
            return Ok(());
        }
        time::sleep(PAUSE).await;
    }
}

/// A listener that has gone is no reason to leave a learner behind.
async fn tell(
    progress: &JoinListener,
    member: &Member,
    phase: Step,
    answer: Option<pb::ChangeMembersResponse>,
) {
    let answer = answer.unwrap_or_default();
    let step = pb::JoinProgress {
        member: Some(member.into()),
        phase: phase.into(),
        matched_index: answer.matched_index,
        last_index: answer.last_index,
    };
    let _ = time::timeout(TOLD_WITHIN, progress.send(Ok(step))).await;
}

/// A data directory copied from a running node would make two of one: ask at the address where this node was last.
pub(super) async fn refuse_a_copy(
    shared: &Shared,
    identity: Identity,
    group: &Group,
) -> Result<(), Fault> {
    let known = group.peers().peer_address(identity.node);
    let Some(address) = known.filter(|address| *address != shared.addresses.peer) else {
        return Ok(());
    };
    match shared.links.probe(&address).await {
        Ok(there)
            if there.node_id == identity.node.0
                && there.cluster_id[..] == identity.cluster.0.to_be_bytes() =>
        {
            Err(Fault::Copy(format!(
                "{} of cluster {} is running at {address} already: the data directory {} is a copy of another node's; \
                 start this node with an empty one and admit it with `dos-cluster join`",
                identity.node,
                identity.cluster,
                shared.config.data_dir.display()
            )))
        }
        _ => Ok(()),
    }
}

/// Tells the cluster where this node is now, whenever what the cluster knows is something else.
pub(super) fn announce(shared: Arc<Shared>, running: Arc<Running>) {
    task::spawn(async move {
        let me = shared.as_member(running.identity.node);
        loop {
            let known = running
                .router
                .group()
                .view()
                .read()
                .member(me.node)
                .cloned();
            if known.as_ref() == Some(&me) {
                return;
            }
            if known.is_some() {
                let deadline = Instant::now() + STEP_WITHIN;
                match running
                    .router
                    .propose(Command::AnnounceMember(me.clone()), deadline)
                    .await
                {
                    Ok(decided) => match decided.answer {
                        Ok(_) => return,
                        Err(rejected) => return tracing::error!("{rejected}"),
                    },
                    Err(error) => {
                        tracing::info!(%error, "could not announce this node's addresses; trying again")
                    }
                }
            }
            time::sleep(Duration::from_millis(500)).await;
            if !shared.still_runs(&running) {
                return;
            }
        }
    });
}
