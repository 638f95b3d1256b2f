//! Every bound of the data model, checked against each other at compile time.

/// Longest job, worker or journal name, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Most payload of one append, in bytes.
pub const APPEND_BYTES_MAX: usize = 1024 * 1024;
/// Most payload of one replicated batch of appends, in bytes.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Most appends in one replicated batch.
pub const BATCH_APPENDS_MAX: usize = 4096;
/// Longest encoded command, in bytes: one log entry.
pub const COMMAND_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Longest message that a node takes from a client, in bytes: one command.
pub const REQUEST_BYTES_MAX: usize = COMMAND_BYTES_MAX;
/// Longest message between two processes, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Longest `host:port` of a member, in bytes: a DNS name and a port.
pub const ADDRESS_BYTES_MAX: usize = 261;
/// Most addresses of one worker, each in another role.
pub const ROLES_PER_WORKER_MAX: usize = 16;
/// Longest name of a role, in bytes.
pub const ROLE_BYTES_MAX: usize = 64;
/// Most workers in one cluster.
pub const WORKERS_MAX: usize = 65_536;
/// Most journals of one worker.
pub const JOURNALS_PER_WORKER_MAX: usize = 1024;
/// Most checkpoints kept of one worker; beyond it the oldest is dropped, but never the recovery line.
pub const CHECKPOINTS_PER_WORKER_MAX: usize = 1024;
/// Most workers that one rejection names: it travels in the header of an answer.
pub const LATE_WORKERS_NAMED_MAX: usize = 16;
/// Most members of one cluster, learners included.
pub const MEMBERS_MAX: usize = 31;

const _: () = assert!(
    APPEND_BYTES_MAX <= BATCH_BYTES_MAX,
    "one append fits a batch"
);
const _: () = assert!(
    BATCH_BYTES_MAX + BATCH_APPENDS_MAX * 64 < COMMAND_BYTES_MAX,
    "a full batch and its headers fit one log entry"
);
const _: () = assert!(
    COMMAND_BYTES_MAX * 2 < MESSAGE_BYTES_MAX,
    "several log entries fit one message"
);
const _: () = assert!(
    JOURNALS_PER_WORKER_MAX * (NAME_BYTES_MAX + 32) < COMMAND_BYTES_MAX,
    "a checkpoint of every journal fits one log entry"
);
const _: () = assert!(
    CHECKPOINTS_PER_WORKER_MAX > 2,
    "beside the newest checkpoint and the recovery line there is one to drop"
);
