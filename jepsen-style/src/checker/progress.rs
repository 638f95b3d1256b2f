//! `durable <= written <= sent`, and `durable` never goes back. `written` does when the only leader that had the bytes is lost.

use super::{Rule, Violation, index::Journal};

pub(super) fn check(name: &str, journal: &Journal<'_>, violations: &mut Vec<Violation>) {
    for stream in &journal.streams {
        let Some((opened, at)) = stream.opened else {
            if !stream.progress.is_empty() || !stream.sent.is_empty() {
                let what = format!(
                    "stream {} of {name} went on without having been opened",
                    stream.id
                );
                violations.push(Violation::new(Rule::Incomplete, what));
            }
            continue;
        };
        let mut sends = stream.sent.iter().peekable();
        let (mut sent, mut durable) = (at, at);
        for progress in &stream.progress {
            while let Some(send) = sends.next_if(|send| send.time < progress.time) {
                sent = sent.max(send.end());
            }
            let ordered = progress.durable <= progress.written && progress.written <= sent;
            let onward = progress.durable >= durable && progress.time > opened;
            if !(ordered && onward) {
                let what = format!(
                    "stream {} of {name}: durable {} and written {} were told, after durable {durable}, when {sent} was sent",
                    stream.id, progress.durable, progress.written
                );
                violations.push(Violation::new(Rule::Progress, what));
                break;
            }
            durable = progress.durable;
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

    fn with_progress(told: (u64, u64)) -> Vec<Rule> {
        let mut healthy = Healthy::new();
        healthy.change(|event| {
            if let Event::Progress {
                stream: 1,
                written,
                durable,
                ..
            } = event
            {
                (*written, *durable) = told;
            }
        });
        rules(&healthy.check())
    }

    #[test]
    fn progress_beyond_what_was_sent_is_found() {
        assert!(with_progress((20, 10)).contains(&Rule::Progress));
    }

    #[test]
    fn durable_beyond_written_is_found() {
        assert!(with_progress((5, 10)).contains(&Rule::Progress));
    }

    #[test]
    fn progress_that_goes_back_is_found() {
        let mut healthy = Healthy::new();
        healthy.insert_after(
            |event| matches!(event, Event::Progress { stream: 1, .. }),
            Event::Progress {
                stream: 1,
                written: 10,
                durable: 5,
                log_index: 9,
            },
        );
        assert_eq!(rules(&healthy.check()), [Rule::Progress]);
    }
}
