//! Appends on their way from the wire to the store, without a cluster: for what is counted or timed of each step.

use bytes::Bytes;
use dos_cluster::{
    codec::wire::{decode_command, encode_command},
    domain::{
        Append, AppendBatch, Command, Epoch, FencingToken, JournalId, JournalKind, Offset,
        OpenJournal, OpenWorker, State,
    },
    storage::state::StateBatch,
};

/// Journals that are written to, one append of each after the other.
#[derive(Debug)]
pub struct Appends {
    state: State,
    log_index: u64,
    writers: Vec<(JournalId, FencingToken, Offset)>,
    payload: Bytes,
}

impl Appends {
    /// To so many journals, with appends of so many bytes.
    ///
    /// # Panics
    /// When a journal cannot be opened.
    #[must_use]
    pub fn new(journals: usize, payload_bytes: usize) -> Self {
        let mut appends = Self {
            state: State::default(),
            log_index: 0,
            writers: Vec::new(),
            payload: vec![7; payload_bytes].into(),
        };
        let worker = "job/worker".parse().unwrap();
        appends.apply(&Command::OpenWorker(OpenWorker {
            worker,
            epoch: None,
            at_unix_ms: 1,
        }));
        for number in 0..journals {
            appends.apply(&Command::OpenJournal(OpenJournal {
                journal: format!("job/worker/j{number}").parse().unwrap(),
                kind: JournalKind::Raw,
                epoch: Epoch(1),
                expected: None,
                over: None,
                opener: 0,
            }));
        }
        let journals = appends.state.journals();
        let writers = journals.map(|journal| (journal.id, journal.token, journal.tail));
        appends.writers = writers.collect();
        appends
    }

    /// The next batch of `count` appends.
    #[must_use]
    pub fn batch(&mut self, count: usize) -> Command {
        let payload = &self.payload;
        let journals = self.writers.len();
        let appends = (0..count).map(|number| {
            let (journal, token, at) = &mut self.writers[number % journals];
            let append = Append {
                journal: *journal,
                token: *token,
                at: *at,
                data: payload.clone(),
            };
            *at = Offset(at.0 + payload.len() as u64);
            append
        });
        Command::Append(AppendBatch {
            appends: appends.collect(),
            at_unix_ms: 2,
        })
    }

    /// As the log and the members carry it.
    #[must_use]
    pub fn encode(command: Command) -> Bytes {
        encode_command(command)
    }

    /// Decodes and applies a command; what the store is to write.
    ///
    /// # Panics
    /// When it is refused.
    pub fn apply_encoded(&mut self, encoded: Bytes) -> StateBatch {
        let command = decode_command(encoded).unwrap();
        self.apply(&command)
    }

    fn apply(&mut self, command: &Command) -> StateBatch {
        self.log_index += 1;
        let mut changes = Vec::new();
        let applied = self.state.apply(self.log_index, 7, command, &mut changes);
        applied.unwrap();
        StateBatch::new(&self.state, changes, Bytes::from_static(b"mark"))
    }
}
