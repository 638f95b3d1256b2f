//! The bytes of an append stream that are not durable yet, and where each session stands in them. Pure.
//!
//! ```text
//! durable <= first unsent <= queued          a re-open sets durable and the first unsent to the tail answered
//! durable <= tail of a re-open <= sent       sent: the end of what ever left, in any session
//! ```

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use crate::domain::Offset;

/// What a piece costs of the window besides its bytes, so that tiny appends are bounded too.
const PIECE_COST: usize = 64;

/// Queued pieces leave as one message up to this many bytes.
const JOINED_BYTES_MAX: usize = 64 << 10;

/// Permits of the window that a piece of `bytes` holds until it is durable.
pub(super) fn cost(bytes: usize) -> usize {
    bytes + PIECE_COST
}

/// One append, as it was cut for the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) at: Offset,
    pub(super) data: Bytes,
    cost: usize,
}

impl Piece {
    fn end(&self) -> Offset {
        Offset(self.at.0.saturating_add(self.data.len() as u64))
    }

    /// Neighbours as one, of which the first begins at `at`.
    fn joined<'a>(at: Offset, pieces: impl Iterator<Item = &'a Self> + Clone) -> Self {
        let bytes = pieces.clone().map(|piece| piece.data.len()).sum();
        let mut data = BytesMut::with_capacity(bytes);
        for piece in pieces {
            data.extend_from_slice(&piece.data);
        }
        Self {
            at,
            cost: cost(bytes),
            data: data.freeze(),
        }
    }
}

/// A tail that cannot come from this writer alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OutOfWindow {
    pub(super) durable: Offset,
    pub(super) sent: Offset,
}

/// The bytes of an append stream that are not durable yet.
#[derive(Debug)]
pub(super) struct Window {
    pieces: VecDeque<Piece>,
    /// Index of the first piece that this session has not sent.
    unsent: usize,
    durable: Offset,
    sent: Offset,
    queued: Offset,
}

impl Window {
    /// An empty window of a journal whose tail is `tail`.
    pub(super) fn new(tail: Offset) -> Self {
        Self {
            pieces: VecDeque::new(),
            unsent: 0,
            durable: tail,
            sent: tail,
            queued: tail,
        }
    }

    /// Everything before this is durable.
    pub(super) fn durable(&self) -> Offset {
        self.durable
    }

    /// The end of what ever left.
    pub(super) fn sent(&self) -> Offset {
        self.sent
    }

    /// Whether everything queued is durable.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether this session has something to send.
    pub(super) fn has_unsent(&self) -> bool {
        self.unsent < self.pieces.len()
    }

    /// Queues the next bytes; whoever appends has paid their [`cost`] from the window before.
    pub(super) fn push(&mut self, data: Bytes) {
        let piece = Piece {
            at: self.queued,
            cost: cost(data.len()),
            data,
        };
        self.queued = piece.end();
        self.pieces.push_back(piece);
    }

    /// The next bytes to send, which count as sent from now on: one piece, or as many as are queued and fit [`JOINED_BYTES_MAX`],
    /// for a message costs more than the bytes of a small one.
    pub(super) fn send(&mut self) -> Option<Piece> {
        let mut unsent = self.pieces.iter().skip(self.unsent);
        let first = unsent.next()?;
        let mut bytes = first.data.len();
        let more = unsent.take_while(|piece| {
            bytes += piece.data.len();
            bytes <= JOINED_BYTES_MAX
        });
        let count = 1 + more.count();
        let run = self.pieces.range(self.unsent..self.unsent + count);
        let piece = match count {
            1 => first.clone(),
            _ => Piece::joined(first.at, run),
        };
        self.unsent += count;
        self.sent = self.sent.max(piece.end());
        Some(piece)
    }

    /// Takes in that everything before `durable` is; answers the cost that is free again. An older number changes nothing.
    pub(super) fn acknowledge(&mut self, durable: Offset) -> Result<usize, OutOfWindow> {
        if durable > self.sent {
            return Err(self.out_of_window());
        }
        self.durable = self.durable.max(durable);
        let mut freed = 0;
        while let Some(piece) = self.pieces.front().filter(|p| p.end() <= self.durable) {
            freed += piece.cost;
            self.pieces.pop_front();
            self.unsent = self.unsent.saturating_sub(1);
        }
        Ok(freed)
    }

    /// Begins a new session at `tail`: what lies before it is durable, what lies behind is sent again.
    pub(super) fn reopen(&mut self, tail: Offset) -> Result<usize, OutOfWindow> {
        if tail < self.durable {
            return Err(self.out_of_window());
        }
        let freed = self.acknowledge(tail)?;
        if let Some(first) = self.pieces.front_mut().filter(|piece| piece.at < tail) {
            // Part of it is in: appends may be cut anywhere on their way.
            let part = usize::try_from(tail.since(first.at)).unwrap_or(usize::MAX);
            first.data.advance(part.min(first.data.len()));
            first.at = tail;
        }
        self.unsent = 0;
        Ok(freed)
    }

    fn out_of_window(&self) -> OutOfWindow {
        OutOfWindow {
            durable: self.durable,
            sent: self.sent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What happens to a stream.
    #[derive(Debug, Clone)]
    enum Step {
        Push(usize),
        Send,
        /// The cluster takes this share (of 256) of what was sent and not taken; then the node dies.
        Lose(u8),
        Acknowledge(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1usize..20).prop_map(Step::Push),
            Just(Step::Send),
            any::<u8>().prop_map(Step::Lose),
            any::<u8>().prop_map(Step::Acknowledge),
        ]
    }

    proptest! {
        /// Whatever is lost, the journal ends up with exactly the bytes pushed, and every permit is given back once.
        #[test]
        fn bytes_arrive_once_and_in_order_whatever_is_lost(steps in prop::collection::vec(step(), 0..80)) {
            let mut window = Window::new(Offset(100));
            let mut pushed: Vec<u8> = Vec::new();
            let mut journal: Vec<u8> = Vec::new();
            let mut flight: Vec<u8> = Vec::new();
            let (mut paid, mut freed) = (0, 0);
            for step in steps {
                match step {
                    Step::Push(bytes) => {
                        let data: Vec<u8> = (0..bytes).map(|_| rand_byte(pushed.len())).collect();
                        pushed.extend(&data);
                        paid += cost(bytes);
                        window.push(data.into());
                    }
                    Step::Send => if let Some(piece) = window.send() {
                        prop_assert_eq!(piece.at, Offset(100 + (journal.len() + flight.len()) as u64));
                        flight.extend(&piece.data);
                    },
                    Step::Acknowledge(share) => {
                        take(&mut flight, &mut journal, share);
                        freed += window.acknowledge(Offset(100 + journal.len() as u64)).unwrap();
                    }
                    Step::Lose(share) => {
                        take(&mut flight, &mut journal, share);
                        flight.clear();
                        freed += window.reopen(Offset(100 + journal.len() as u64)).unwrap();
                    }
                }
            }
            while let Some(piece) = window.send() {
                flight.extend(&piece.data);
            }
            journal.extend(&flight);
            freed += window.acknowledge(Offset(100 + journal.len() as u64)).unwrap();
            prop_assert_eq!(journal, pushed);
            prop_assert_eq!(freed, paid);
            prop_assert!(window.is_empty());
        }
    }

    fn rand_byte(seed: usize) -> u8 {
        u8::try_from(seed.wrapping_mul(31) % 251).unwrap()
    }

    fn take(flight: &mut Vec<u8>, journal: &mut Vec<u8>, share: u8) {
        let taken = flight.len() * usize::from(share) / 255;
        journal.extend(flight.drain(..taken));
    }

    #[test]
    fn a_tail_below_what_was_durable_or_above_what_was_sent_is_refused() {
        let mut window = Window::new(Offset(10));
        window.push(Bytes::from_static(b"abcd"));
        window.send();
        window.push(Bytes::from_static(b"efgh"));
        window.acknowledge(Offset(12)).unwrap();
        let refused = OutOfWindow {
            durable: Offset(12),
            sent: Offset(14),
        };
        assert_eq!(window.reopen(Offset(11)), Err(refused));
        assert_eq!(window.reopen(Offset(15)), Err(refused));
        assert_eq!(window.acknowledge(Offset(15)), Err(refused));
        window.reopen(Offset(13)).unwrap();
        assert_eq!(window.send().unwrap().data, "defgh");
    }

    #[test]
    fn what_is_queued_leaves_together_as_far_as_it_fits_a_message() {
        let mut window = Window::new(Offset(0));
        let half = Bytes::from(vec![1; JOINED_BYTES_MAX / 2]);
        for data in [half.clone(), half.clone(), half.clone()] {
            window.push(data);
        }
        window.push(Bytes::from(vec![2; 2 * JOINED_BYTES_MAX]));
        let sent = std::iter::from_fn(|| window.send());
        let sent: Vec<_> = sent.map(|piece| (piece.at.0, piece.data.len())).collect();
        let half = half.len() as u64;
        let full = JOINED_BYTES_MAX;
        assert_eq!(
            sent,
            [(0, full), (2 * half, full / 2), (3 * half, 2 * full)]
        );
    }
}
