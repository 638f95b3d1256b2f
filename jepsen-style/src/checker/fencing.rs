//! After a takeover the older incarnation writes nothing, and is told nothing else.

use super::{
    Rule, Violation,
    index::{Index, Journal, Takeover},
};

pub(super) fn check(
    index: &Index<'_>,
    name: &str,
    journal: &Journal<'_>,
    violations: &mut Vec<Violation>,
) {
    let takeovers = journal
        .worker
        .and_then(|worker| index.takeovers.get(worker));
    for takeover in takeovers.into_iter().flatten() {
        // A journal that the takeover does not name was not there.
        let tail = takeover.tails.get(name).copied().unwrap_or(0);
        older(name, journal, takeover, tail, violations);
        let next = journal
            .streams
            .iter()
            .filter(|stream| stream.epoch >= takeover.epoch);
        let next = next.filter_map(|stream| Some(stream.opened?.1)).next();
        let later = takeovers
            .into_iter()
            .flatten()
            .find(|other| other.epoch > takeover.epoch);
        let later = later.map(|other| other.tails.get(name).copied().unwrap_or(0));
        let content = (!index.finals.is_empty()).then(|| index.content(name).len() as u64);
        // Nobody but the new epoch writes behind its tail: where its first stream begins, or else where all ended.
        if let Some(begins) = next.or(later).or(content)
            && begins != tail
        {
            let what = format!(
                "journal {name}: the takeover to epoch {} answered the tail {tail}, but what comes next begins at {begins}",
                takeover.epoch
            );
            violations.push(Violation::new(Rule::Fencing, what));
        }
    }
}

/// What was told to streams of older epochs.
fn older(
    name: &str,
    journal: &Journal<'_>,
    takeover: &Takeover<'_>,
    tail: u64,
    violations: &mut Vec<Violation>,
) {
    let mut found = |what: String| violations.push(Violation::new(Rule::Fencing, what));
    for stream in journal
        .streams
        .iter()
        .filter(|stream| stream.epoch < takeover.epoch)
    {
        let Some((_, at)) = stream.opened else {
            continue;
        };
        let who = format!("stream {} of {name}, epoch {}", stream.id, stream.epoch);
        if stream.began > takeover.time {
            found(format!(
                "{who}, was opened after epoch {} had taken over",
                takeover.epoch
            ));
        }
        let durable = stream
            .progress
            .iter()
            .map(|progress| progress.durable)
            .max()
            .unwrap_or(at)
            .max(at);
        if durable > tail {
            let taken = takeover.epoch;
            found(format!(
                "{who}, was told durable {durable}, but epoch {taken} took over at {tail}"
            ));
        }
    }
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
    fn an_acknowledgement_of_the_older_epoch_beyond_the_takeover_is_found() {
        let mut healthy = Healthy::new();
        healthy.change(|event| {
            if let Event::Progress {
                stream: 1,
                written,
                durable,
                ..
            } = event
            {
                (*written, *durable) = (15, 15);
            }
        });
        assert!(rules(&healthy.check()).contains(&Rule::Fencing));
    }

    #[test]
    fn bytes_of_the_older_epoch_behind_the_takeover_are_found() {
        // The zombie's third record, which was on its way, got in after the takeover at 10.
        let mut healthy = Healthy::new();
        healthy.change(|event| match event {
            Event::Opened { stream: 2, at } => *at += 5,
            Event::Sent { stream: 2, at, .. } => *at += 5,
            Event::Progress {
                stream: 2,
                written,
                durable,
                ..
            } => (*written, *durable) = (*written + 5, *durable + 5),
            _ => {}
        });
        let found = rules(&healthy.with_content("e1-1 e1-2 e1-3 e2-1 e2-2 ").check());
        assert_eq!(found, [Rule::Fencing]);
    }

    #[test]
    fn an_open_of_the_older_epoch_after_the_takeover_is_found() {
        let mut healthy = Healthy::new();
        let journal: crate::history::Name = "a".into();
        let opening = Event::Opening {
            stream: 3,
            worker: "w".into(),
            journal,
            epoch: 1,
        };
        healthy.insert_after(|event| matches!(event, Event::TakenOver { .. }), opening);
        let is_opening = |event: &Event| matches!(event, Event::Opening { stream: 3, .. });
        healthy.insert_after(is_opening, Event::Opened { stream: 3, at: 10 });
        assert_eq!(rules(&healthy.check()), [Rule::Fencing]);
    }
}
