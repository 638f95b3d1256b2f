//! Records of the state as answers.

use crate::{
    codec::wire::{
        checkpoint_id_to_pb, journal_to_pb, kind_to_pb, succession_to_pb, token_to_pb, worker_to_pb,
    },
    domain::{Checkpoint, Journal, Member, NodeId, State, Worker, recovery_line::Pace},
    pb,
    raft::{GroupStatus, MemberProgress},
};

pub(super) fn journal_stat(state: &State, journal: &Journal) -> pb::JournalStat {
    pb::JournalStat {
        journal: state.journal_ref(journal).as_ref().map(journal_to_pb),
        kind: kind_to_pb(journal.kind).into(),
        id: journal.id.0,
        tail: journal.tail.0,
        token: Some(token_to_pb(journal.token)),
        cuts: journal.cuts,
        appending: journal.writer_open,
        restart_cut: None,
    }
}

pub(super) fn worker_stat(state: &State, worker: &Worker) -> pb::WorkerStat {
    let tails = worker
        .journals
        .values()
        .filter_map(|id| state.journal_by_id(*id))
        .map(|journal| journal.tail.0);
    pb::WorkerStat {
        worker: Some(worker_to_pb(&worker.name)),
        epoch: worker.epoch.0,
        succession: Some(succession_to_pb(&worker.succession)),
        journals: u32::try_from(worker.journals.len()).unwrap_or(u32::MAX),
        bytes: tails.sum(),
        newest_checkpoint: worker
            .newest_checkpoint()
            .map(|checkpoint| checkpoint_id_to_pb(checkpoint.id)),
    }
}

pub(super) fn checkpoint_stat(
    state: &State,
    worker: &Worker,
    checkpoint: &Checkpoint,
) -> pb::CheckpointStat {
    let offsets = checkpoint.offsets.iter().filter_map(|(id, offset)| {
        let journal = state.journal_by_id(*id)?;
        Some(pb::NamedOffset {
            journal: journal.name.to_string(),
            offset: offset.0,
        })
    });
    pb::CheckpointStat {
        worker: Some(worker_to_pb(&worker.name)),
        id: Some(checkpoint_id_to_pb(checkpoint.id)),
        offsets: offsets.collect(),
        log_index: checkpoint.log_index,
        at_unix_ms: checkpoint.at_unix_ms,
    }
}

pub(super) fn worker_checkpoint(pace: &Pace, worker: &Worker) -> pb::WorkerCheckpoint {
    let newest = worker.newest_checkpoint();
    pb::WorkerCheckpoint {
        worker: worker.name.worker.to_string(),
        newest: newest.map(|checkpoint| checkpoint_id_to_pb(checkpoint.id)),
        at_unix_ms: newest.map_or(0, |checkpoint| checkpoint.at_unix_ms),
        behind_since_unix_ms: pace.behind_since(worker),
    }
}

/// The members, each with the addresses that it announced last.
pub(super) fn member_statuses(
    status: &GroupStatus,
    state: &State,
    me: NodeId,
) -> Vec<pb::MemberStatus> {
    let one = |progress: &MemberProgress| {
        let node = progress.member.node;
        let member: &Member = state.member(node).unwrap_or(&progress.member);
        let leads = status.leader == Some(me);
        pb::MemberStatus {
            member: Some(member.into()),
            voter: progress.voter,
            leader: status.leader == Some(node),
            matched_index: if leads && node == me {
                Some(status.last_log_index)
            } else {
                progress.matched_index
            },
            last_answer_ms: if leads && node == me {
                Some(0)
            } else {
                progress.last_answer_ms
            },
        }
    };
    status.members.iter().map(one).collect()
}
