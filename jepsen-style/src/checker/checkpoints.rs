//! An acknowledged checkpoint is there, as it was committed.

use super::{
    Rule, Violation,
    index::{Commit, Index},
};
use crate::history::FinalNode;

pub(super) fn check(index: &Index<'_>, violations: &mut Vec<Violation>) {
    for commit in &index.commits {
        let Some(_) = commit.committed else { continue };
        for node in &index.finals {
            if let Err(why) = is_held(commit, node) {
                let what = format!(
                    "checkpoint {:?} of {} was acknowledged, but {why}",
                    commit.id, commit.worker
                );
                violations.push(Violation::new(Rule::Checkpoint, what));
            }
        }
        let mut newer = index.takeovers.get(commit.worker).into_iter().flatten();
        if newer.any(|takeover| takeover.epoch > commit.epoch && takeover.time < commit.began) {
            let what = format!(
                "checkpoint {:?} of {} was committed by epoch {} after it was taken over",
                commit.id, commit.worker, commit.epoch
            );
            violations.push(Violation::new(Rule::Fencing, what));
        }
    }
}

fn is_held(commit: &Commit<'_>, node: &FinalNode) -> Result<(), String> {
    let held = node
        .checkpoints
        .get(commit.worker)
        .and_then(|held| held.get(&commit.id));
    let Some(held) = held else {
        return Err(format!("{} does not have it", node.node));
    };
    if held != commit.offsets {
        return Err(format!(
            "{} has it with {held:?}, not {:?}",
            node.node, commit.offsets
        ));
    }
    for (journal, offset) in held {
        let tail = node
            .journals
            .get(journal)
            .map_or(0, |bytes| bytes.len() as u64);
        if *offset > tail {
            return Err(format!(
                "it covers {journal} up to {offset}, and {} has {tail} bytes of it",
                node.node
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::{
        checker::{
            Rule,
            testing::{Healthy, rules},
        },
        history::Event,
    };

    #[test]
    fn a_lost_checkpoint_is_found() {
        let mut healthy = Healthy::new();
        for node in ["n1", "n2"] {
            healthy.final_node(node).checkpoints.clear();
        }
        assert_eq!(
            rules(&healthy.check()),
            [Rule::Checkpoint, Rule::Checkpoint]
        );
    }

    #[test]
    fn a_checkpoint_with_other_offsets_is_found() {
        let mut healthy = Healthy::new();
        healthy.change(|event| {
            if let Event::CheckpointBegan { offsets, .. } = event {
                offsets.insert("a".into(), 4);
            }
        });
        assert_eq!(
            rules(&healthy.check()),
            [Rule::Checkpoint, Rule::Checkpoint]
        );
    }

    #[test]
    fn a_checkpoint_by_a_fenced_incarnation_is_found() {
        let mut healthy = Healthy::new();
        let commit = healthy.take(|event| matches!(event, Event::CheckpointBegan { .. }));
        let committed = healthy.take(|event| matches!(event, Event::CheckpointCommitted { .. }));
        healthy.insert_after(|event| matches!(event, Event::TakenOver { .. }), committed);
        healthy.insert_after(|event| matches!(event, Event::TakenOver { .. }), commit);
        assert_eq!(rules(&healthy.check()), [Rule::Fencing]);
    }

    #[test]
    fn a_checkpoint_of_bytes_that_are_not_there_is_found() {
        let mut healthy = Healthy::new();
        healthy.change(|event| {
            if let Event::CheckpointBegan { offsets, .. } = event {
                offsets.insert("a".into(), 99);
            }
        });
        for node in ["n1", "n2"] {
            let checkpoints = healthy.final_node(node).checkpoints.values_mut();
            for offsets in checkpoints.flat_map(|held| held.values_mut()) {
                offsets.insert("a".into(), 99);
            }
        }
        assert_eq!(
            rules(&healthy.check()),
            [Rule::Checkpoint, Rule::Checkpoint]
        );
    }
}
