//! Append streams of the fake cluster.

use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::{Node, bad_request, broken, faults::fires, rejected};
use crate::{
    codec::{CodecError, wire},
    domain::{
        Append, AppendBatch, Command, Epoch, FencingToken, JournalId, Offset, OpenJournal, Outcome,
        Writer,
    },
    env::time,
    pb::{self, append_request, append_response},
};

impl Node {
    fn open_append(&self, open: pb::OpenAppend) -> Result<pb::AppendOpened, Status> {
        let command = Command::OpenJournal(OpenJournal {
            journal: wire::journal_from_pb(open.journal).map_err(bad_request)?,
            kind: wire::kind_from_pb(open.kind).map_err(bad_request)?,
            epoch: Epoch(open.epoch),
            expected: open.expected_offset.map(Offset),
            over: open.over.map(Writer),
            opener: open.opener,
        });
        let mut shared = self.shared();
        shared.led(self.node)?;
        shared.append_opens[self.node] += 1;
        let (faults, fired) = shared.faults(self.node);
        if fires(&mut faults.late_opens, &mut fired.late_opens) {
            shared.late.push(command);
            return Err(broken());
        }
        let Outcome::JournalOpened(opened) = shared.apply(&command).map_err(rejected)? else {
            panic!("an open answers with what it opened");
        };
        let (faults, fired) = shared.faults(self.node);
        if fires(&mut faults.lost_answers, &mut fired.lost_answers) {
            return Err(broken());
        }
        let leads = shared.leader == self.node;
        Ok(pb::AppendOpened {
            journal: opened.journal.0,
            token: Some(wire::token_to_pb(opened.token)),
            tail: opened.tail.0,
            leader_address: if leads {
                String::new()
            } else {
                shared.addresses[shared.leader].clone()
            },
            log_index: shared.log_index,
        })
    }

    pub(super) async fn run_append(
        &self,
        mut requests: Streaming<pb::AppendRequest>,
        answers: &mpsc::Sender<Result<pb::AppendResponse, Status>>,
    ) -> Result<(), Status> {
        use append_request::Request as Wire;
        let first = requests.message().await?.and_then(|first| first.request);
        let Some(Wire::Open(open)) = first else {
            return Err(Status::invalid_argument("no open"));
        };
        let opened = self.open_append(open)?;
        let mut stream = FakeAppend {
            journal: JournalId(opened.journal),
            token: wire::token_from_pb(opened.token).expect("the fake opened it"),
            tail: opened.tail,
            messages: 0,
        };
        let writer = (stream.journal, stream.token);
        let _ = answers
            .send(append_answer(append_response::Response::Opened(opened)))
            .await;
        let ended = self.take_appends(&mut stream, requests, answers).await;
        self.shared()
            .apply(&Command::CloseWriters(vec![writer]))
            .unwrap();
        ended
    }

    async fn take_appends(
        &self,
        stream: &mut FakeAppend,
        mut requests: Streaming<pb::AppendRequest>,
        answers: &mpsc::Sender<Result<pb::AppendResponse, Status>>,
    ) -> Result<(), Status> {
        use append_request::Request as Wire;
        self.go_on()?;
        while let Some(request) = requests.message().await? {
            let Some(Wire::Data(data)) = request.request else {
                return Err(Status::invalid_argument("no data"));
            };
            if let Some(progress) = self.append(stream, data)? {
                let progress = append_response::Response::Progress(progress);
                let _ = answers.send(append_answer(progress)).await;
            }
        }
        let progress = stream.progress(stream.tail, self.shared().log_index);
        let _ = answers
            .send(append_answer(append_response::Response::Progress(progress)))
            .await;
        Ok(())
    }

    /// Whether an append stream that was opened goes on.
    fn go_on(&self) -> Result<(), Status> {
        let mut shared = self.shared();
        let (faults, fired) = shared.faults(self.node);
        if faults.break_opened {
            fired.broken_opened += 1;
            return Err(broken());
        }
        Ok(())
    }

    /// Takes one message of an append stream; answers what is to be told.
    fn append(
        &self,
        stream: &mut FakeAppend,
        data: pb::AppendData,
    ) -> Result<Option<pb::AppendProgress>, Status> {
        assert_eq!(crc32c::crc32c(&data.data), data.crc32c);
        let mut shared = self.shared();
        let (faults, fired) = shared.faults(self.node);
        if fires(&mut faults.damaged_appends, &mut fired.damaged_appends) {
            return Err(bad_request(CodecError::field("data", "it was damaged")));
        }
        if faults.swallow_appends {
            fired.swallowed_appends += 1;
            return Ok(None);
        }
        if faults.only_write_appends {
            fired.only_written_appends += 1;
            let written = data.at + data.data.len() as u64;
            return Ok(Some(stream.progress(written, shared.log_index)));
        }
        let append = Append {
            journal: stream.journal,
            token: stream.token,
            at: Offset(data.at),
            data: data.data,
        };
        let batch = AppendBatch {
            appends: vec![append],
            at_unix_ms: time::unix_millis(),
        };
        let Ok(Outcome::Appended(mut done)) = shared.apply(&Command::Append(batch)) else {
            panic!("an append answers for each");
        };
        stream.tail = done.remove(0).map_err(rejected)?.tail.0;
        stream.messages += 1;
        let log_index = shared.log_index;
        let (faults, fired) = shared.faults(self.node);
        let after = faults.break_appends_after;
        if after.is_some_and(|after| stream.messages >= after) {
            fired.broken_appends += 1;
            return Err(broken());
        }
        Ok(Some(stream.progress(stream.tail, log_index)))
    }
}

fn append_answer(response: append_response::Response) -> Result<pb::AppendResponse, Status> {
    Ok(pb::AppendResponse {
        response: Some(response),
    })
}

/// An append stream at a node.
struct FakeAppend {
    journal: JournalId,
    token: FencingToken,
    tail: u64,
    /// Data messages carried out.
    messages: u32,
}

impl FakeAppend {
    fn progress(&self, written: u64, log_index: u64) -> pb::AppendProgress {
        pb::AppendProgress {
            written,
            durable: self.tail,
            log_index,
        }
    }
}
