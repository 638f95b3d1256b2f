use super::*;

type Answer = Result<pb::StatusResponse, String>;

fn member(id: u64, answered_ms: Option<u64>) -> pb::MemberStatus {
    pb::MemberStatus {
        member: Some(pb::Member {
            node_id: id,
            client_address: format!("n{id}:7420"),
            ..pb::Member::default()
        }),
        voter: true,
        leader: id == 1,
        matched_index: Some(90),
        last_answer_ms: answered_ms,
    }
}

fn node(id: u64, state: pb::NodeState) -> (String, Answer) {
    let leads = state == pb::NodeState::Leader;
    let status = pb::StatusResponse {
        state: state.into(),
        cluster_id: "c".repeat(32),
        node_id: id,
        term: 3,
        last_log_index: 100,
        applied_index: if leads { 100 } else { 95 },
        members: (1..=3)
            .map(|member_id| member(member_id, leads.then_some(40)))
            .collect(),
        quorum_acknowledged_ms: leads.then_some(10),
        ..pb::StatusResponse::default()
    };
    (format!("n{id}:7420"), Ok(status))
}

fn silent(id: u64) -> (String, Answer) {
    (format!("n{id}:7420"), Err("connection refused".into()))
}

fn waiting(id: u64) -> (String, Answer) {
    let status = pb::StatusResponse {
        state: pb::NodeState::Waiting.into(),
        ..pb::StatusResponse::default()
    };
    (format!("n{id}:7420"), Ok(status))
}

#[test]
fn a_cluster_with_a_leader_and_one_silent_voter_serves_and_names_it() {
    use pb::NodeState::{Follower, Leader};
    let report = Report::of(&[node(2, Follower), node(1, Leader), silent(3)]);
    assert!(report.healthy && verdict(&report).is_none(), "{report:?}");
    assert_eq!(report.leader.as_deref(), Some("n1"));
    assert_eq!(report.missing, ["n3 (n3:7420)"]);
    let lags: Vec<_> = report.nodes.iter().map(|row| row.lag).collect();
    assert_eq!(lags, [Some(0), Some(5), Some(10)]);
    assert_eq!(
        report.nodes[0].last_answer_ms, None,
        "a leader does not answer itself"
    );
    assert_eq!(report.nodes[1].last_answer_ms, Some(40));
    assert_eq!(report.nodes[2].state, "unreachable");
    assert!(
        text(&report).ends_with("\n\nn3 (n3:7420): connection refused\n"),
        "{}",
        text(&report)
    );
}

#[test]
fn without_a_majority_it_exits_with_5_and_names_who_is_missing() {
    let report = Report::of(&[silent(1), node(2, pb::NodeState::Candidate), silent(3)]);
    let failure = verdict(&report).unwrap();
    assert_eq!(failure.exit, Exit::Unhealthy);
    assert_eq!(
        failure.message,
        "the cluster has no quorum: 1 of 3 voters answers; missing: n1 (n1:7420), n3 (n3:7420)"
            .replace("answers", "answer")
    );
    assert_eq!(failure.tries, ["start n1 (n1:7420) and n3 (n3:7420)"]);
}

#[test]
fn a_leader_that_no_majority_hears_is_not_believed() {
    let (address, answer) = node(1, pb::NodeState::Leader);
    let status = pb::StatusResponse {
        quorum_acknowledged_ms: Some(5_000),
        ..answer.unwrap()
    };
    let report = Report::of(&[(address, Ok(status)), silent(2), silent(3)]);
    assert!(!report.healthy);
    assert_eq!(report.leader, None);
    assert!(report.problem.unwrap().contains("5000 ms; missing: n2"));
}

#[test]
fn an_election_under_way_is_no_leader() {
    use pb::NodeState::{Candidate, Follower};
    let report = Report::of(&[node(1, Candidate), node(2, Follower), node(3, Follower)]);
    let failure = verdict(&report).unwrap();
    assert_eq!(
        failure.message,
        "the cluster has no leader: 3 of 3 voters answer"
    );
}

#[test]
fn waiting_nodes_are_told_how_to_form_a_cluster() {
    let report = Report::of(&[waiting(1), waiting(2), silent(3)]);
    let failure = verdict(&report).unwrap();
    assert_eq!(
        failure.message,
        "there is no cluster yet: 2 nodes wait for init"
    );
    assert_eq!(failure.tries, ["dos-cluster init --nodes n1:7420,n2:7420"]);
    assert_eq!(report.shown(false).len(), 3);
}

#[test]
fn a_node_of_another_cluster_is_named_and_nodes_that_are_no_members_are_shown_on_demand_only() {
    let (_, foreign) = node(1, pb::NodeState::Follower);
    let foreign = pb::StatusResponse {
        cluster_id: "d".repeat(32),
        ..foreign.unwrap()
    };
    let mut asked = vec![
        node(1, pb::NodeState::Leader),
        node(2, pb::NodeState::Follower),
        node(3, pb::NodeState::Follower),
        waiting(4),
    ];
    assert!(
        verdict(&Report::of(&asked)).is_none(),
        "a node that waits is no fault"
    );
    asked.push(("x:1".to_owned(), Ok(foreign)));
    let report = Report::of(&asked);
    let failure = verdict(&report).unwrap();
    assert_eq!(failure.exit, Exit::Unhealthy);
    assert_eq!(
        failure.message,
        format!("x:1 belongs to another cluster, {}", "d".repeat(32))
    );
    assert_eq!(failure.tries, ["--endpoints without x:1"]);
    assert_eq!(report.leader.as_deref(), Some("n1"));
    assert_eq!(report.shown(false).len(), 3);
    let all = report.shown(true);
    assert_eq!(all.len(), 5);
    assert_eq!(all[3].state, "waiting");
    assert!(all[4].problem.as_ref().unwrap().contains("another cluster"));
}

#[test]
fn a_node_of_another_cluster_with_a_members_number_is_not_that_member() {
    let (address, foreign) = node(3, pb::NodeState::Follower);
    let foreign = pb::StatusResponse {
        cluster_id: "d".repeat(32),
        ..foreign.unwrap()
    };
    let asked = [
        node(1, pb::NodeState::Leader),
        node(2, pb::NodeState::Follower),
        (address, Ok(foreign)),
    ];
    let report = Report::of(&asked);
    assert_eq!(report.missing, ["n3 (n3:7420)"]);
    assert!(!report.healthy);
}

#[test]
fn a_wiped_node_is_shown_with_its_own_cure() {
    let (address, wiped) = waiting(3);
    let wiped = pb::StatusResponse {
        problem: "its disk was wiped; cure: dos-cluster member remove n3".into(),
        ..wiped.unwrap()
    };
    let asked = [
        node(1, pb::NodeState::Leader),
        node(2, pb::NodeState::Follower),
        (address, Ok(wiped)),
    ];
    let report = Report::of(&asked);
    assert!(report.healthy);
    let shown = Report {
        nodes: report.shown(false),
        ..report
    };
    let shown = text(&shown);
    let cure = "n3 (n3:7420): its disk was wiped; cure: dos-cluster member remove n3\n";
    assert!(shown.ends_with(cure), "{shown}");
}
