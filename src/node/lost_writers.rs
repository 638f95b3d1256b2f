//! Writers that ended without a word: the leader gives up those that no member has a stream of any more.
//!
//! A stream that ends in order is closed in the record at once. One that breaks is not: its client may be on the way to another
//! member, for instance because the leader died, and nobody may take its journal for free meanwhile. So the leader asks all
//! members, round by round, and closes a writer that was nowhere for some rounds. While there is no leader, nothing is given up.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};

use super::shared::{Running, Shared};
use crate::{
    codec::wire::writer_from_pb,
    domain::{Command, FencingToken, JournalId, NodeId},
    env::{
        task,
        time::{self, Instant},
    },
    pb,
    raft::Role,
};

const ROUND_EVERY: Duration = Duration::from_secs(1);
/// How long a member may take to say which streams it has.
const MEMBER_WITHIN: Duration = Duration::from_millis(500);
/// So many rounds a writer may be nowhere: a client that lost its member is back in half of that.
const ROUNDS: u32 = 4;
/// A round in which some member did not answer counts so much less: it may be hung and have the stream, and its client finds out
/// after some seconds, and needs a new leader if that was it.
const SILENT_COUNTS_LESS: u32 = 2;
/// Writers closed by one command.
const CLOSED_AT_ONCE: usize = 1024;
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

type Writer = (JournalId, FencingToken);

/// Closes lost writers as long as `running` runs, while it leads.
pub(super) fn watch(shared: Arc<Shared>, running: Arc<Running>) {
    task::spawn(async move {
        let mut missed = Missed::default();
        loop {
            time::sleep(ROUND_EVERY).await;
            if !shared.still_runs(&running) {
                return;
            }
            if running.router.group().status().role != Role::Leader {
                missed = Missed::default();
                continue;
            }
            let lost = round(&shared, &running, &mut missed).await;
            for writers in lost.chunks(CLOSED_AT_ONCE) {
                let close = Command::CloseWriters(writers.to_vec());
                let until = Instant::now() + CLOSE_WITHIN;
                if let Err(error) = running.router.propose(close, until).await {
                    tracing::debug!(%error, "lost writers stay open for now");
                }
            }
        }
    });
}

/// Asks all members once; answers the writers that are lost.
async fn round(shared: &Shared, running: &Running, missed: &mut Missed) -> Vec<Writer> {
    let group = running.router.group();
    let me = running.router.me();
    let (open, others): (Vec<Writer>, Vec<NodeId>) = {
        let state = group.view().read();
        let nodes = state.members().map(|member| member.node);
        let others = nodes.filter(|node| *node != me).collect();
        (state.open_writers().collect(), others)
    };
    if open.is_empty() {
        return missed.round(open, &BTreeSet::new(), false);
    }
    let mut found = shared.writers.all();
    let mut silent = false;
    let mut asked: FuturesUnordered<_> = others.iter().map(|node| ask(running, *node)).collect();
    while let Some(streams) = asked.next().await {
        match streams {
            Some(streams) => found.extend(streams),
            None => silent = true,
        }
    }
    missed.round(open, &found, silent)
}

/// The streams at a member; `None` when it does not answer. One that cannot be reached at all, or does not run, has none.
async fn ask(running: &Running, node: NodeId) -> Option<Vec<Writer>> {
    let group = running.router.group();
    let mut client = running.router.links().forward(group, node)?;
    let header = Some(group.peers().header(node));
    let asked = client.writers(pb::WritersRequest { header });
    let answer = time::timeout(MEMBER_WITHIN, asked).await.ok()?;
    let writers = answer.map_or_else(|_| Vec::new(), |answer| answer.into_inner().writers);
    let writers = writers.into_iter().map(writer_from_pb);
    Some(writers.filter_map(Result::ok).collect())
}

/// For how many rounds in a row each open writer has been nowhere, a round in which all members answered counted
/// [`SILENT_COUNTS_LESS`] times.
#[derive(Debug, Default)]
struct Missed(BTreeMap<Writer, u32>);

impl Missed {
    /// Counts a round; answers the writers that are lost.
    fn round(&mut self, open: Vec<Writer>, found: &BTreeSet<Writer>, silent: bool) -> Vec<Writer> {
        let counts = if silent { 1 } else { SILENT_COUNTS_LESS };
        let before = std::mem::take(&mut self.0);
        for writer in open {
            if !found.contains(&writer) {
                let missed = before.get(&writer).map_or(0, |missed| *missed) + counts;
                self.0.insert(writer, missed);
            }
        }
        let enough = ROUNDS * SILENT_COUNTS_LESS;
        let lost = self.0.iter().filter(|(_, missed)| **missed >= enough);
        lost.map(|(writer, _)| *writer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain;

    fn writer(number: u64) -> Writer {
        let token = FencingToken {
            writer: domain::Writer(number),
            ..FencingToken::default()
        };
        (JournalId(number), token)
    }

    fn rounds(missed: &mut Missed, rounds: u32, found: &[Writer], silent: bool) -> Vec<Writer> {
        let mut lost = Vec::new();
        for _ in 0..rounds {
            lost = missed.round(
                vec![writer(1), writer(2)],
                &found.iter().copied().collect(),
                silent,
            );
        }
        lost
    }

    #[test]
    fn a_writer_is_lost_when_it_was_nowhere_for_rounds_in_a_row() {
        let mut missed = Missed::default();
        assert_eq!(rounds(&mut missed, ROUNDS - 1, &[writer(2)], false), []);
        assert_eq!(
            rounds(&mut missed, 1, &[writer(1)], false),
            [],
            "it is back"
        );
        assert_eq!(rounds(&mut missed, ROUNDS - 1, &[writer(2)], false), []);
        assert_eq!(rounds(&mut missed, 1, &[writer(2)], false), [writer(1)]);
        assert_eq!(
            missed.round(Vec::new(), &BTreeSet::new(), false),
            [],
            "closed"
        );
        assert_eq!(rounds(&mut missed, ROUNDS - 1, &[writer(2)], false), []);
    }

    #[test]
    fn a_member_that_does_not_answer_may_have_it_for_longer() {
        let mut missed = Missed::default();
        let twice = SILENT_COUNTS_LESS * ROUNDS;
        assert_eq!(rounds(&mut missed, twice - 1, &[writer(2)], true), []);
        assert_eq!(rounds(&mut missed, 1, &[writer(2)], true), [writer(1)]);
        assert_eq!(
            rounds(&mut missed, 1, &[writer(2)], false),
            [writer(1)],
            "until it is closed"
        );
        // The member that was silent is heard at last, without the stream: that alone says no more than a round does.
        let mut missed = Missed::default();
        assert_eq!(rounds(&mut missed, ROUNDS, &[writer(2)], true), []);
        assert_eq!(rounds(&mut missed, ROUNDS / 2 - 1, &[writer(2)], false), []);
        assert_eq!(rounds(&mut missed, 1, &[writer(2)], false), [writer(1)]);
    }
}
