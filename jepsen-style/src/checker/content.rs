//! What was acknowledged is there, on every node; bytes are those sent by the owner of their offset.
//!
//! Epochs and opens divide a journal: an open fences every earlier writer and answers the exact tail, so the bytes from one
//! open to the next belong to the first of the two, whole and in order.

use super::{
    Rule, Violation,
    index::{Index, Journal, Stream},
};

/// Every node is there, and all hold the same.
pub(super) fn check_nodes(index: &Index<'_>, nodes: &[&str], violations: &mut Vec<Violation>) {
    for node in nodes {
        if !index.finals.iter().any(|held| &*held.node == *node) {
            let what = format!("the final content of {node} is missing");
            violations.push(Violation::new(Rule::Incomplete, what));
        }
    }
    let Some((first, others)) = index.finals.split_first() else {
        return;
    };
    for other in others {
        let names: std::collections::BTreeSet<_> =
            first.journals.keys().chain(other.journals.keys()).collect();
        for name in names {
            let (ours, theirs) = (first.journals.get(name), other.journals.get(name));
            if ours != theirs {
                let bytes = |content: Option<&bytes::Bytes>| content.map_or(0, |bytes| bytes.len());
                let what = format!(
                    "journal {name}: {} holds {} bytes and {} holds {}; they differ from {} on",
                    first.node,
                    bytes(ours),
                    other.node,
                    bytes(theirs),
                    common(ours.map_or(&[], |b| &b[..]), theirs.map_or(&[], |b| &b[..])),
                );
                violations.push(Violation::new(Rule::NodesDiffer, what));
            }
        }
        if first.checkpoints != other.checkpoints {
            let what = format!(
                "{} and {} hold different checkpoints",
                first.node, other.node
            );
            violations.push(Violation::new(Rule::NodesDiffer, what));
        }
    }
}

/// How many bytes two contents have in common at their beginning.
pub(super) fn common(ours: &[u8], theirs: &[u8]) -> usize {
    ours.iter().zip(theirs).take_while(|(a, b)| a == b).count()
}

pub(super) fn check(
    index: &Index<'_>,
    name: &str,
    journal: &Journal<'_>,
    violations: &mut Vec<Violation>,
) {
    if index.finals.is_empty() {
        return;
    }
    let content = index.content(name);
    let tail = content.len() as u64;
    let acknowledged = journal
        .streams
        .iter()
        .filter_map(acknowledged)
        .max()
        .unwrap_or(0);
    if acknowledged > tail {
        let what = format!(
            "journal {name}: {acknowledged} bytes were acknowledged as durable, {tail} are there"
        );
        violations.push(Violation::new(Rule::AcknowledgedLost, what));
    }
    let opened: Vec<_> = journal
        .streams
        .iter()
        .filter_map(|stream| Some((stream.opened?.1, stream)))
        .collect();
    let first = opened.first().map_or(tail, |(at, _)| *at);
    if first > 0 && tail > 0 {
        let what = format!("journal {name}: nobody sent the bytes before {first}");
        violations.push(Violation::new(Rule::ForeignBytes, what));
    }
    for (place, (at, stream)) in opened.iter().enumerate() {
        let end = opened.get(place + 1).map_or(tail, |(next, _)| *next);
        if end < *at && place + 1 < opened.len() {
            let what = format!(
                "journal {name}: a stream opened at {at}, and the next one before it, at {end}"
            );
            violations.push(Violation::new(Rule::AcknowledgedLost, what));
            continue;
        }
        owns(name, content, stream, *at, end.min(tail), violations);
    }
}

/// The most that this stream was told to be durable.
fn acknowledged(stream: &Stream<'_>) -> Option<u64> {
    let (_, at) = stream.opened?;
    stream
        .progress
        .iter()
        .map(|progress| progress.durable)
        .max()
        .map(|durable| durable.max(at))
        .or(Some(at))
}

/// Bytes `at..end` are what the stream sent.
fn owns(
    name: &str,
    content: &[u8],
    stream: &Stream<'_>,
    at: u64,
    end: u64,
    violations: &mut Vec<Violation>,
) {
    let mut next = at;
    for sent in &stream.sent {
        if next >= end {
            return;
        }
        if sent.at != next {
            let what = format!(
                "stream {} of {name} sent bytes at {} where {next} follows",
                stream.id, sent.at
            );
            violations.push(Violation::new(Rule::Incomplete, what));
            return;
        }
        let until = sent.end().min(end);
        let held = slice(content, next, until);
        let ours = slice(sent.bytes, 0, until - next);
        if held != ours {
            let wrong = next + common(held, ours) as u64;
            let what = format!(
                "journal {name}: at {wrong} are {:?}, but the owner of that offset (stream {}, epoch {}) sent {:?}",
                show(slice(content, wrong, wrong + 40)),
                stream.id,
                stream.epoch,
                show(slice(sent.bytes, wrong - next, wrong - next + 40)),
            );
            violations.push(Violation::new(Rule::ForeignBytes, what));
            return;
        }
        next = until;
    }
    if next < end {
        let what = format!(
            "journal {name}: from {next} to {end} are bytes that their owner (stream {}, epoch {}) never sent: {:?}",
            stream.id,
            stream.epoch,
            show(slice(content, next, (next + 40).min(end))),
        );
        violations.push(Violation::new(Rule::ForeignBytes, what));
    }
}

/// A part of the bytes, cut to what is there.
pub(super) fn slice(bytes: &[u8], from: u64, to: u64) -> &[u8] {
    let place = |offset: u64| {
        usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(bytes.len())
    };
    &bytes[place(from)..place(to.max(from))]
}

fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
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
    fn a_node_with_other_bytes_is_found() {
        let mut healthy = Healthy::new();
        healthy
            .final_node("n2")
            .journals
            .insert("a".into(), "e1-1 e1-2 e2-2 e2-1 ".into());
        assert_eq!(rules(&healthy.check()), [Rule::NodesDiffer]);
    }

    #[test]
    fn a_lost_acknowledged_byte_is_found() {
        let found = rules(&Healthy::new().with_content("e1-1 e1-2 e2-1 e2-").check());
        assert!(found.contains(&Rule::AcknowledgedLost), "{found:?}");
    }

    #[test]
    fn a_duplicate_a_gap_and_a_reordering_are_found() {
        for content in [
            "e1-1 e1-2 e2-1 e2-1 e2-2 ",
            "e1-1 e1-2 e2-2 e2-2 ",
            "e1-2 e1-1 e2-1 e2-2 ",
        ] {
            let found = rules(&Healthy::new().with_content(content).check());
            assert!(found.contains(&Rule::ForeignBytes), "{content}: {found:?}");
        }
    }

    #[test]
    fn bytes_that_were_sent_but_never_acknowledged_may_be_there_or_not() {
        for content in [
            "e1-1 e1-2 e2-1 e2-2 ",
            "e1-1 e1-2 e2-1 e2-2 e2-3",
            "e1-1 e1-2 e2-1 e2-2 e2-3 ",
        ] {
            assert_eq!(
                Healthy::new().with_content(content).check(),
                [],
                "{content}"
            );
        }
        let found = rules(
            &Healthy::new()
                .with_content("e1-1 e1-2 e2-1 e2-2 e2-3 e2-4 ")
                .check(),
        );
        assert_eq!(found, [Rule::ForeignBytes]);
    }

    #[test]
    fn an_open_that_goes_back_is_found() {
        let mut healthy = Healthy::new();
        healthy.change(|event| match event {
            Event::Opened { stream: 2, at } => *at = 5,
            Event::Sent { stream: 2, at, .. } => *at -= 5,
            _ => {}
        });
        let found = rules(&healthy.check());
        assert!(
            found.contains(&Rule::ForeignBytes) || found.contains(&Rule::AcknowledgedLost),
            "{found:?}"
        );
        assert!(found.contains(&Rule::Stale), "{found:?}");
    }
}
