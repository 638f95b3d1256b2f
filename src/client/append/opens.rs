//! Whose open drew which writer number. Pure.
//!
//! Each open of a journal that is carried out draws the next writer number and fences the writer before, whether or not its
//! answer arrives; it may be carried out long after it was sent. So a number that was drawn since the last open that
//! answered is this stream's own as long as there are unanswered opens to explain it, and else someone else's.
//!
//! ```text
//! held 4 | unanswered 2 | an open answers 7: 5 and 6 may be own opens     an open answers 8: 5, 6 or 7 is someone else's
//! ```
//!
//! An open that went unanswered may have come to nothing, and then someone else's open passes for it. Numbers cannot tell
//! these apart: see the driver's `verify`, which compares bytes.

use crate::domain::{FencingToken, Writer};

/// A writer number that no open of this stream explains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Foreign {
    /// The token that this stream held.
    pub(super) held: FencingToken,
    /// The newest token that may be someone else's.
    pub(super) newest: FencingToken,
}

/// The opens of one stream.
#[derive(Debug, Default)]
pub(super) struct Opens {
    /// The token of the newest open that answered.
    held: Option<FencingToken>,
    /// Opens that may have been carried out, or may yet be, and are not known to have drawn a number.
    unanswered: u64,
}

impl Opens {
    /// The token of the newest open that answered.
    pub(super) fn held(&self) -> FencingToken {
        self.held.unwrap_or_default()
    }

    /// Whether an open has answered.
    pub(super) fn any_answered(&self) -> bool {
        self.held.is_some()
    }

    /// Whether an open may yet be carried out, or was without a word of it.
    pub(super) fn any_unanswered(&self) -> bool {
        self.unanswered > 0
    }

    /// An open may have been carried out, or may yet be.
    pub(super) fn went_unanswered(&mut self) {
        self.unanswered = self.unanswered.saturating_add(1);
    }

    /// An open answered with `token`: `Some` when numbers were drawn since the one before, which unanswered opens explain.
    ///
    /// # Errors
    /// Someone else opened the journal since.
    pub(super) fn answered(&mut self, token: FencingToken) -> Result<Option<Foreign>, Foreign> {
        let Some(held) = self.held.replace(token) else {
            // Which numbers were drawn before is not known; an open that is carried out late draws one behind this.
            return Ok(None);
        };
        let between = token.writer.0.saturating_sub(held.writer.0);
        let between = between.saturating_sub(1); // one is this open's own
        let newest = FencingToken {
            writer: Writer(token.writer.0.saturating_sub(1)),
            ..token
        };
        let foreign = Foreign { held, newest };
        if held.epoch != token.epoch || between > self.unanswered {
            return Err(foreign);
        }
        self.unanswered -= between;
        Ok((between > 0).then_some(foreign))
    }

    /// Whether unanswered opens explain that `newest` fences the token held.
    pub(super) fn explain(&self, newest: FencingToken) -> bool {
        let held = self.held();
        newest.epoch == held.epoch
            && newest.writer.0 <= held.writer.0.saturating_add(self.unanswered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Epoch;

    fn token(writer: u64) -> FencingToken {
        FencingToken {
            epoch: Epoch(3),
            writer: Writer(writer),
        }
    }

    fn opened(unanswered: u64) -> Opens {
        let mut opens = Opens::default();
        assert_eq!(opens.answered(token(4)), Ok(None));
        (0..unanswered).for_each(|_| opens.went_unanswered());
        opens
    }

    #[test]
    fn numbers_are_explained_by_unanswered_opens_and_each_explains_one() {
        let gap = |newest| Foreign {
            held: token(4),
            newest: token(newest),
        };
        for (unanswered, answered, wanted) in [
            (0, 5, Ok(None)),
            (0, 6, Err(gap(5))),
            (1, 5, Ok(None)),
            (1, 6, Ok(Some(gap(5)))),
            (1, 7, Err(gap(6))),
            (2, 7, Ok(Some(gap(6)))),
        ] {
            let mut opens = opened(unanswered);
            assert_eq!(
                opens.answered(token(answered)),
                wanted,
                "{unanswered} {answered}"
            );
        }
        let mut opens = opened(2);
        opens.answered(token(6)).unwrap();
        assert!(opens.any_unanswered(), "one of two is not explained yet");
        assert!(opens.explain(token(7)) && !opens.explain(token(8)));
        opens.answered(token(8)).unwrap();
        assert!(!opens.any_unanswered());
        assert!(!opens.explain(token(9)));
    }

    #[test]
    fn opens_that_went_unanswered_before_the_first_that_answers_may_come_late() {
        let mut opens = Opens::default();
        opens.went_unanswered();
        assert_eq!(opens.answered(token(4)), Ok(None));
        assert!(opens.any_unanswered());
        assert!(opens.explain(token(5)) && !opens.explain(token(6)));
        assert!(opens.answered(token(6)).is_ok());
    }

    #[test]
    fn another_epoch_is_someone_elses() {
        let mut opens = opened(5);
        let newer = FencingToken {
            epoch: Epoch(4),
            writer: Writer(5),
        };
        assert!(!opens.explain(newer));
        assert!(opens.answered(newer).is_err());
    }
}
