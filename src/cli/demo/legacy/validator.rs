//! The sink's judge: for every key the numbers 1, 2, 3 and so on, none lost, none doubled, none out of order.

use std::collections::{BTreeMap, BTreeSet};

use super::talk::Emission;

/// Everything that the sink has let out, in order, by key.
#[derive(Debug, Default)]
pub(super) struct Validator {
    seen: BTreeMap<u32, Vec<u64>>,
}

/// What was found to be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) keys: usize,
    pub(super) numbers: usize,
}

/// What is wrong with a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// A number never came.
    #[error("number {number} of key {key} was lost")]
    Lost { key: u32, number: u64 },
    /// A number came more than once.
    #[error("number {number} of key {key} came twice")]
    Doubled { key: u32, number: u64 },
    /// All came, but not one after the other.
    #[error("number {number} of key {key} came behind {behind}")]
    Reordered { key: u32, number: u64, behind: u64 },
    /// The source has no such item.
    #[error("number {number} of key {key} came, and the source never had it")]
    Invented { key: u32, number: u64 },
}

impl Validator {
    /// Takes in what the sink lets out.
    pub(super) fn take(&mut self, emissions: &[Emission]) {
        for emission in emissions {
            self.seen
                .entry(emission.key)
                .or_default()
                .push(emission.number);
        }
    }

    /// Judges everything, given how often the source had each key.
    ///
    /// # Errors
    /// The first fault.
    pub(super) fn judge(&self, source: &BTreeMap<u32, u64>) -> Result<Verdict, Fault> {
        let keys: BTreeSet<u32> = source.keys().chain(self.seen.keys()).copied().collect();
        for key in &keys {
            let numbers = self.seen.get(key).map_or(&[][..], Vec::as_slice);
            judge_one(*key, numbers, source.get(key).copied().unwrap_or_default())?;
        }
        Ok(Verdict {
            keys: keys.len(),
            numbers: self.seen.values().map(Vec::len).sum(),
        })
    }
}

fn judge_one(key: u32, numbers: &[u64], last: u64) -> Result<(), Fault> {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Fault::Doubled {
            key,
            number: twice[0],
        });
    }
    let missing = (1..=last).find(|number| sorted.binary_search(number).is_err());
    if let Some(number) = missing {
        return Err(Fault::Lost { key, number });
    }
    if let Some(number) = sorted.iter().find(|number| !(1..=last).contains(*number)) {
        return Err(Fault::Invented {
            key,
            number: *number,
        });
    }
    match numbers.windows(2).find(|pair| pair[0] > pair[1]) {
        Some(pair) => Err(Fault::Reordered {
            key,
            number: pair[1],
            behind: pair[0],
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(numbers: &[(u32, u64)]) -> Result<Verdict, Fault> {
        let mut validator = Validator::default();
        for (key, number) in numbers {
            validator.take(&[Emission {
                key: *key,
                number: *number,
            }]);
        }
        validator.judge(&BTreeMap::from([(1, 3), (2, 1)]))
    }

    #[test]
    fn whole_sequences_are_right_however_the_keys_are_mixed() {
        let verdict = judged(&[(1, 1), (2, 1), (1, 2), (1, 3)]).unwrap();
        assert_eq!((verdict.keys, verdict.numbers), (2, 4));
    }

    #[test]
    fn a_number_that_is_lost_in_the_middle_or_at_the_end_is_found() {
        for (numbers, key, number) in [
            (&[(1, 1), (2, 1), (1, 3)][..], 1, 2),
            (&[(1, 1), (2, 1), (1, 2)], 1, 3),
            (&[(1, 1), (1, 2), (1, 3)], 2, 1),
        ] {
            assert_eq!(judged(numbers), Err(Fault::Lost { key, number }));
        }
    }

    #[test]
    fn a_number_that_comes_twice_is_found_also_far_apart() {
        let doubled = Err(Fault::Doubled { key: 1, number: 2 });
        assert_eq!(judged(&[(1, 1), (1, 2), (1, 2), (1, 3), (2, 1)]), doubled);
        assert_eq!(judged(&[(1, 1), (1, 2), (1, 3), (2, 1), (1, 2)]), doubled);
    }

    #[test]
    fn numbers_out_of_order_are_found() {
        let found = judged(&[(1, 1), (1, 3), (1, 2), (2, 1)]);
        assert_eq!(
            found,
            Err(Fault::Reordered {
                key: 1,
                number: 2,
                behind: 3
            })
        );
    }

    #[test]
    fn what_the_source_never_had_is_found() {
        let one = judged(&[(1, 1), (1, 2), (1, 3), (1, 4), (2, 1)]);
        assert_eq!(one, Err(Fault::Invented { key: 1, number: 4 }));
        let other = judged(&[(1, 1), (1, 2), (1, 3), (2, 1), (3, 1)]);
        assert_eq!(other, Err(Fault::Invented { key: 3, number: 1 }));
    }
}
