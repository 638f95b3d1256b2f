//! Every read is a prefix of the final content, at least as far as its floor, never of bytes not sent yet.

use super::{
    Rule, Violation,
    content::{common, slice},
    index::{Index, Journal, Read, Time},
};
use crate::history::Floor;

pub(super) fn check(
    index: &Index<'_>,
    name: &str,
    journal: &Journal<'_>,
    violations: &mut Vec<Violation>,
) {
    let known = Known::of(index, name, journal);
    for stream in &journal.streams {
        if let Some((_, at)) = stream.opened
            && let Some(missed) = known
                .acknowledged_before(stream.began)
                .filter(|known| *known > at)
        {
            let what = format!(
                "stream {} of {name} was opened at {at}, but {missed} was acknowledged before it asked",
                stream.id
            );
            violations.push(Violation::new(Rule::Stale, what));
        }
    }
    let sent_by = sent_by(journal);
    for read in &journal.reads {
        let Some((ended, tail)) = read.tail() else {
            continue;
        };
        let floor = match read.floor {
            Floor::Linearizable => known.acknowledged_before(read.began),
            Floor::LogIndex(applied) => known.acknowledged_at(applied, read.began),
            Floor::Stale => None,
        };
        if let Some(missed) = floor.filter(|floor| *floor > tail) {
            let what = format!(
                "a read of {name} from {} ({:?}) ended at {tail}, but {missed} was acknowledged before it began",
                read.node, read.floor
            );
            violations.push(Violation::new(Rule::Stale, what));
        }
        is_prefix(index, name, read, violations);
        if sent_by
            .iter()
            .take_while(|(time, _)| *time < ended)
            .map(|(_, end)| *end)
            .max()
            .unwrap_or(0)
            < tail
        {
            let what = format!(
                "a read of {name} from {} ended at {tail} before all of it was sent",
                read.node
            );
            violations.push(Violation::new(Rule::FromTheFuture, what));
        }
    }
}

fn is_prefix(index: &Index<'_>, name: &str, read: &Read<'_>, violations: &mut Vec<Violation>) {
    let Some((_, from, bytes)) = read.ended else {
        return;
    };
    if index.finals.is_empty() {
        return;
    }
    let held = slice(index.content(name), from, from + bytes.len() as u64);
    if held != &bytes[..] {
        let what = format!(
            "a read of {name} from {}, of {} bytes from {from} on, differs from the final content at {}",
            read.node,
            bytes.len(),
            from + common(held, bytes) as u64,
        );
        violations.push(Violation::new(Rule::ReadNotPrefix, what));
    }
}

/// When which offsets had been sent up to, in the order of time.
fn sent_by(journal: &Journal<'_>) -> Vec<(Time, u64)> {
    let sent = journal.streams.iter().flat_map(|stream| &stream.sent);
    let mut sent: Vec<_> = sent.map(|sent| (sent.time, sent.end())).collect();
    sent.sort_unstable();
    let mut most = 0;
    for (_, end) in &mut sent {
        most = most.max(*end);
        *end = most;
    }
    sent
}

/// What was known to be durable, when.
struct Known {
    /// In the order of time, with the most known until then.
    by_time: Vec<(Time, u64)>,
    /// Acknowledged log indexes, in the order of index.
    by_index: Vec<(u64, Time, u64)>,
}

impl Known {
    fn of(index: &Index<'_>, name: &str, journal: &Journal<'_>) -> Self {
        let mut by_time = Vec::new();
        let mut by_index = Vec::new();
        for stream in &journal.streams {
            by_time.extend(stream.opened);
            by_time.extend(
                stream
                    .progress
                    .iter()
                    .map(|progress| (progress.time, progress.durable)),
            );
            let indexed = stream
                .progress
                .iter()
                .filter(|progress| progress.log_index > 0);
            by_index.extend(
                indexed.map(|progress| (progress.log_index, progress.time, progress.durable)),
            );
        }
        by_time.extend(journal.reads.iter().filter_map(Read::tail));
        let takeovers = journal
            .worker
            .and_then(|worker| index.takeovers.get(worker));
        let tails = takeovers.into_iter().flatten();
        by_time
            .extend(tails.filter_map(|takeover| Some((takeover.time, *takeover.tails.get(name)?))));
        by_time.sort_unstable();
        let mut most = 0;
        for (_, known) in &mut by_time {
            most = most.max(*known);
            *known = most;
        }
        by_index.sort_unstable();
        Self { by_time, by_index }
    }

    fn acknowledged_before(&self, time: Time) -> Option<u64> {
        let before = self.by_time.partition_point(|(known, _)| *known < time);
        Some(self.by_time.get(before.checked_sub(1)?)?.1)
    }

    /// The most that an acknowledgement with this log index, or an earlier one, had said before `time`.
    fn acknowledged_at(&self, applied: u64, time: Time) -> Option<u64> {
        let until = self
            .by_index
            .partition_point(|(index, ..)| *index <= applied);
        let known = self.by_index[..until].iter().rev();
        known
            .filter(|(_, told, _)| *told < time)
            .map(|(.., durable)| *durable)
            .max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checker::testing::{Healthy, rules},
        history::Event,
    };

    fn with_read(floor: Floor, bytes: &'static str) -> Vec<Rule> {
        let mut healthy = Healthy::new();
        healthy.change(|event| match event {
            Event::ReadBegan { floor: asked, .. } => *asked = floor,
            Event::ReadEnded { bytes: read, .. } => *read = bytes.into(),
            _ => {}
        });
        rules(&healthy.check())
    }

    #[test]
    fn a_read_of_less_than_was_acknowledged_is_found_unless_it_asked_for_that() {
        assert_eq!(with_read(Floor::Linearizable, "e1-1 "), [Rule::Stale]);
        assert_eq!(with_read(Floor::LogIndex(9), "e1-1 "), [Rule::Stale]);
        assert_eq!(with_read(Floor::LogIndex(8), "e1-1 "), []);
        assert_eq!(with_read(Floor::Stale, "e1-1 "), []);
    }

    #[test]
    fn a_read_of_other_bytes_is_found() {
        assert_eq!(
            with_read(Floor::Linearizable, "e1-1 e1-X "),
            [Rule::ReadNotPrefix]
        );
    }

    #[test]
    fn a_read_of_bytes_that_were_cut_off_later_is_found() {
        assert!(with_read(Floor::Linearizable, "e1-1 e1-2 e1-3 ").contains(&Rule::ReadNotPrefix));
    }

    #[test]
    fn a_read_from_the_future_is_found() {
        let found = with_read(Floor::Linearizable, "e1-1 e1-2 e2-1 e2-2 ");
        assert!(found.contains(&Rule::FromTheFuture), "{found:?}");
    }

    #[test]
    fn an_open_that_misses_acknowledged_bytes_is_found() {
        let mut healthy = Healthy::new();
        healthy.change(|event| {
            if let Event::Opened { stream: 2, at } = event {
                *at = 5;
            }
        });
        assert!(rules(&healthy.check()).contains(&Rule::Stale));
    }
}
