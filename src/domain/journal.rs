//! One journal: its tail, its newest writer, and how an append is decided.

use super::{
    ids::{JournalId, JournalName, WorkerId},
    limits::APPEND_BYTES_MAX,
    offset::{Offset, OffsetRange},
    rejected::{Rejected, what},
    scan::JournalScan,
    token::{FencingToken, Writer},
};

/// What the bytes of a journal mean to a restore; the cluster itself never interprets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JournalKind {
    /// Length-prefixed file operations: replayed into files.
    Ops,
    /// Opaque bytes: written as one file.
    Raw,
}

impl JournalKind {
    /// `ops` or `raw`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ops => "ops",
            Self::Raw => "raw",
        }
    }
}

/// The replicated record of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    /// Its number.
    pub id: JournalId,
    /// The worker that owns it.
    pub owner: WorkerId,
    /// Its name at that worker.
    pub name: JournalName,
    /// What a restore does with it.
    pub kind: JournalKind,
    /// The newest token given out: the only one that may write.
    pub token: FencingToken,
    /// Where the newest writer began; bytes before it are not its own.
    pub writer_from: Offset,
    /// The newest writer is appending, as far as is known: opened, and neither closed nor given up for lost.
    pub writer_open: bool,
    /// What the newest writer's opener drew; 0: nothing, or nobody opened it.
    pub opener: u64,
    /// The newest writer before those that this opener has opened without another in between; 0 if it made the journal.
    pub opened_over: Writer,
    /// First offset not yet written.
    pub tail: Offset,
    /// How often a takeover or truncation cut the journal's end off. A reader that saw another number starts again.
    pub cuts: u64,
    /// Of a legacy worker's journal: the scan of its bytes for checkpoints.
    pub scan: Option<JournalScan>,
}

/// What an accepted append did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendDecision {
    /// New bytes at this range.
    Write(OffsetRange),
    /// Already here, from a first try of the same writer; nothing to write.
    Duplicate(OffsetRange),
}

impl Journal {
    /// Gives the next writer its token, which fences the one before: `newest`, which is 0 for a journal that was not there.
    pub fn open(&mut self, token: FencingToken, opener: u64, newest: Writer) {
        let goes_on = opener != 0 && self.opener == opener;
        let opened_over = if goes_on { self.opened_over } else { newest };
        self.fence(token);
        self.writer_open = true;
        self.opener = opener;
        self.opened_over = opened_over;
    }

    /// Whether all writers since `over` are the caller's own, from opens whose answers were lost or came late.
    #[must_use]
    pub fn was_opened_by(&self, opener: u64, over: Writer) -> bool {
        opener != 0 && self.opener == opener && self.opened_over <= over
    }

    /// Fences the writer, with a token that nobody writes under.
    pub fn fence(&mut self, token: FencingToken) {
        self.token = token;
        self.writer_from = self.tail;
        self.writer_open = false;
        self.opener = 0;
        self.opened_over = Writer(0);
    }

    /// The writer of that token has ended; true when it was the newest and had not before. It may still write, if it has not
    /// ended in fact, and is open again then.
    pub fn close(&mut self, token: FencingToken) -> bool {
        token == self.token && std::mem::take(&mut self.writer_open)
    }

    /// The token that the next open under the worker's `epoch` gets.
    #[must_use]
    pub fn next_token(&self, epoch: super::Epoch) -> FencingToken {
        FencingToken {
            epoch,
            writer: Writer(self.token.writer.0 + 1),
        }
    }

    /// Decides an append of `bytes` at `at`, and moves the tail when it is new.
    ///
    /// In this order: a token that is not the newest is fenced; an append without bytes, or with too many, is refused;
    /// bytes that end at or before the tail and begin where this writer could have written them are a retry and answered
    /// as done; anything else must begin at the tail.
    ///
    /// # Errors
    /// `WriterFenced`, `EmptyAppend`, `TooLarge`, `WrongOffset`: nothing has changed.
    pub fn append(
        &mut self,
        token: FencingToken,
        at: Offset,
        bytes: usize,
    ) -> Result<AppendDecision, Rejected> {
        if !token.may_write(self.token) {
            return Err(Rejected::WriterFenced {
                journal: self.id,
                held: token,
                newest: self.token,
            });
        }
        if bytes == 0 {
            return Err(Rejected::EmptyAppend { journal: self.id });
        }
        if bytes > APPEND_BYTES_MAX {
            return Err(Rejected::TooLarge {
                what: what::APPEND,
                bytes: bytes as u64,
                bytes_max: APPEND_BYTES_MAX as u64,
            });
        }
        let wrong = Rejected::WrongOffset {
            journal: self.id,
            at,
            tail: self.tail,
        };
        let to = at.advance(bytes).ok_or_else(|| wrong.clone())?;
        let range = OffsetRange { from: at, to };
        if at == self.tail {
            self.tail = to;
            self.writer_open = true;
            return Ok(AppendDecision::Write(range));
        }
        if to <= self.tail && at >= self.writer_from {
            return Ok(AppendDecision::Duplicate(range));
        }
        Err(wrong)
    }

    /// Cuts the journal's end off; a no-op when it is not longer.
    pub fn cut(&mut self, at: Offset) -> bool {
        if at >= self.tail {
            return false;
        }
        self.tail = at;
        self.writer_from = self.writer_from.min(at);
        self.cuts += 1;
        if let Some(scan) = &mut self.scan {
            scan.cut(at);
        }
        true
    }
}
