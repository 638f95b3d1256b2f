//! Where results go: held back by checkpoint, and let out once the recovery line covers it, so that no rollback can call anything
//! back that is out.

use std::collections::VecDeque;

use super::{talk::Emission, validator::Validator};

/// Results that are held back, and the validator of those that are out.
#[derive(Debug, Default)]
pub(super) struct Sink {
    /// Since the last checkpoint.
    open: Vec<Emission>,
    /// Of complete checkpoints, the oldest first.
    held: VecDeque<(u64, Vec<Emission>)>,
    /// The newest checkpoint whose results are out.
    released: u64,
    pub(super) validator: Validator,
}

/// A rollback behind what is out: something acknowledged was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "acknowledged checkpoints were lost: results up to checkpoint {released} are out, but {to} is what is left"
)]
pub(super) struct CalledBack {
    released: u64,
    to: u64,
}

impl Sink {
    /// Results of the checkpoint to come.
    pub(super) fn take(&mut self, emissions: Vec<Emission>) {
        self.open.extend(emissions);
    }

    /// Every worker has written the checkpoint's id.
    pub(super) fn commit(&mut self, id: u64) {
        self.held.push_back((id, std::mem::take(&mut self.open)));
    }

    /// The recovery line is at this checkpoint.
    pub(super) fn release(&mut self, line: u64) {
        while let Some((id, _)) = self.held.front()
            && *id <= line
        {
            if let Some((id, emissions)) = self.held.pop_front() {
                self.validator.take(&emissions);
                self.released = id;
            }
        }
    }

    /// Forgets the results behind a checkpoint; answers how many.
    ///
    /// # Errors
    /// Some of them are out.
    pub(super) fn roll_back(&mut self, to: u64) -> Result<usize, CalledBack> {
        if to < self.released {
            return Err(CalledBack {
                released: self.released,
                to,
            });
        }
        let mut forgotten = std::mem::take(&mut self.open).len();
        let kept = self.held.iter().take_while(|(id, _)| *id <= to).count();
        for (_, emissions) in self.held.drain(kept..) {
            forgotten += emissions.len();
        }
        Ok(forgotten)
    }

    /// The newest checkpoint whose results are out.
    pub(super) fn released(&self) -> u64 {
        self.released
    }

    /// How many checkpoints are held back.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn numbers(range: std::ops::RangeInclusive<u64>) -> Vec<Emission> {
        range.map(|number| Emission { key: 1, number }).collect()
    }

    /// Checkpoints 1 to 3 with two results each, 1 of them out, and one result behind them.
    fn sink() -> Sink {
        let mut sink = Sink::default();
        for id in 1..=3 {
            sink.take(numbers(id * 2 - 1..=id * 2));
            sink.commit(id);
        }
        sink.release(1);
        sink.take(numbers(7..=7));
        sink
    }

    #[test]
    fn a_rollback_forgets_what_is_behind_it_and_the_replay_comes_out_whole() {
        let mut sink = sink();
        assert_eq!((sink.released(), sink.held()), (1, 2));
        assert_eq!(sink.roll_back(2), Ok(3));
        sink.take(numbers(5..=7));
        sink.commit(4);
        sink.release(4);
        let verdict = sink.validator.judge(&BTreeMap::from([(1, 7)])).unwrap();
        assert_eq!(verdict.numbers, 7);
    }

    #[test]
    fn nothing_that_is_out_can_be_called_back() {
        let mut sink = sink();
        let called_back = CalledBack { released: 1, to: 0 };
        assert_eq!(sink.roll_back(0), Err(called_back));
    }
}
