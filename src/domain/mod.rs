//! The rules: journals, workers, checkpoints, and what is replicated.
//!
//! Everything here is pure and deterministic: state and a command in, an answer and changes out. Every member applies the
//! same commands in the same order and so decides the same; nothing reads a clock, a disk or a random number.

pub mod checkpoint;
pub mod command;
pub mod endpoint;
pub mod ids;
pub mod journal;
pub mod legacy;
pub mod limits;
pub mod member;
pub mod offset;
pub mod recovery_line;
pub mod rejected;
pub mod scan;
pub mod state;
pub mod token;
pub mod worker;

pub use checkpoint::{Checkpoint, CheckpointId};
pub use command::{
    Append, AppendBatch, Appended, Command, CommitCheckpoint, OpenJournal, OpenWorker,
    OpenedJournal, Outcome, RestorePoint, SetEndpoint, TakenOver, Takeover, Truncate,
};
pub use endpoint::{AddressError, Addresses, Endpoint};
pub use ids::{
    ClusterId, GroupId, JobName, JournalId, JournalName, JournalRef, NameError, NodeId, WorkerId,
    WorkerName, WorkerRef,
};
pub use journal::{Journal, JournalKind};
pub use member::Member;
pub use offset::{Offset, OffsetRange};
pub use recovery_line::{Line, LineHeld, recovery_line};
pub use rejected::Rejected;
pub use state::{Change, State};
pub use token::{Epoch, FencingToken, Writer};
pub use worker::{Succession, Worker};
