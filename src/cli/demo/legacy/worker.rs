//! A legacy worker's process: its files, its two DOS clients, and the orders that come on stdin. It ends when stdin does.

use std::{path::PathBuf, sync::Arc};

use bytes::{BufMut, BytesMut};
use clap::Args;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    sync::mpsc,
};

use super::{
    super::super::{
        Context,
        exit::{Exit, Failure},
    },
    dos_client::DosClient,
    files::{self, Files, Found},
    journal::Journal,
    source,
    state::State,
    talk::{Order, Said},
};
use crate::{codec::evlog::Event, env::task};

/// Bytes of an entry of `.checkpoint_ids`.
const IDS_BYTES: usize = 24;
/// Stands for what only the original's binary can read.
const OPAQUE: &[u8] = b"serialised by the worker's runtime";

/// What a worker is started with, as the original's command line has it.
#[derive(Debug, Args)]
pub(super) struct Task {
    /// The application's name
    #[arg(long)]
    app: String,
    /// The worker's name
    #[arg(long)]
    name: String,
    /// All workers; the first is the initializer
    #[arg(long, value_delimiter = ',')]
    workers: Vec<String>,
    /// Where the resilience files go
    #[arg(long)]
    resilience_dir: PathBuf,
    /// The DOS server, one address
    #[arg(long)]
    resilience_dos_server: String,
    /// Address for other workers' control messages
    #[arg(long)]
    my_control: String,
    /// Address for other workers' data
    #[arg(long)]
    my_data: String,
}

/// Entry of `.checkpoint_ids`.
#[derive(Debug, Clone, Copy, Default)]
struct Ids {
    current: u64,
    complete: u64,
}

#[derive(Debug)]
struct Worker {
    task: Task,
    files: Files,
    state: State,
    ids: Ids,
}

/// Works until stdin ends; a DOS client that dies takes the worker with it.
pub(super) async fn run(task: Task, context: &Context) -> Result<Exit, Failure> {
    let prefix = task
        .resilience_dir
        .join(format!("{}-{}", task.app, task.name));
    let found = files::look(&prefix, task.workers.first() == Some(&task.name))?;
    let files = Files::open(&prefix)?;
    let mut worker = Worker {
        task,
        files,
        state: State::default(),
        ids: Ids::default(),
    };
    match found {
        Found::Fresh => worker.begin()?,
        Found::Recovering => worker.recover(context)?,
    }
    let (die, mut death) = mpsc::channel(1);
    for journal in [&worker.files.ops_journal, &worker.files.evlog_journal] {
        worker.replicate(journal, &die, context);
    }
    say(
        context,
        &Said::Started {
            recovering: found == Found::Recovering,
            complete: worker.ids.complete,
        },
    )?;
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    loop {
        let line = tokio::select! {
            Some(why) = death.recv() => return Err(Failure::error(why)),
            line = orders.next_line() => line,
        };
        let line = line.map_err(|error| Failure::error(format!("cannot read orders: {error}")))?;
        let Some(line) = line else {
            return Ok(Exit::Done);
        };
        let order = serde_json::from_str(&line)
            .map_err(|error| Failure::usage(format!("no order: {line:?}: {error}")))?;
        say(context, &worker.obey(order)?)?;
    }
}

fn say(context: &Context, said: &Said) -> Result<(), Failure> {
    let mut line = serde_json::to_vec(said).map_err(|error| Failure::error(error.to_string()))?;
    line.push(b'\n');
    context.output.raw(&line)
}

/// `host LF port LF`
fn lines(address: &str) -> Vec<u8> {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    format!("{host}\n{port}\n").into_bytes()
}

impl Worker {
    /// Connects a journal to the DOS server, for good.
    fn replicate(&self, journal: &Arc<Journal>, die: &mpsc::Sender<String>, context: &Context) {
        let client = DosClient {
            server: self.task.resilience_dos_server.clone(),
            worker: self.task.name.clone(),
            journal: journal.clone(),
        };
        let (output, die) = (context.output.clone(), die.clone());
        task::spawn(async move {
            let why = client.run(|line| output.talk(line)).await;
            die.send(why).await.ok();
        });
    }

    /// A fresh start: checkpoint 0 is the empty state.
    fn begin(&mut self) -> Result<(), Failure> {
        let workers: String = self.task.workers.iter().map(|w| format!("{w}\n")).collect();
        self.files.replace(files::WORKERS, workers.as_bytes())?;
        self.files.replace(files::LOCAL_TOPOLOGY, OPAQUE)?;
        self.files.replace(files::CONNECTION_ADDRESSES, OPAQUE)?;
        self.files.replace(files::LOCAL_KEYS, b"")?;
        self.listen()?;
        self.files.log(&Event::CheckpointId(0))?;
        self.save_ids(Ids::default(), 0)
    }

    /// Recovery: the last ids, and addresses that must be its own. The state comes with the order to roll back.
    fn recover(&mut self, context: &Context) -> Result<(), Failure> {
        context.output.talk("Recovering from recovery files!");
        for (ending, own) in [
            (files::TCP_CONTROL, &self.task.my_control),
            (files::TCP_DATA, &self.task.my_data),
        ] {
            if self.files.read(ending)? != lines(own) {
                let message = format!("cannot listen: .{ending} does not hold {own}");
                return Err(Failure::error(message));
            }
        }
        let ids = self.files.read(files::CHECKPOINT_IDS)?;
        let whole = ids.len() - ids.len() % IDS_BYTES;
        let last = whole
            .checked_sub(IDS_BYTES)
            .and_then(|at| ids.get(at..whole));
        let number = |at: usize| {
            let bytes = last.and_then(|last| last.get(at..at + 8)?.try_into().ok());
            bytes.map_or(0, u64::from_be_bytes)
        };
        self.ids = Ids {
            current: number(0),
            complete: number(8),
        };
        self.listen()
    }

    fn listen(&mut self) -> Result<(), Failure> {
        let (control, data) = (lines(&self.task.my_control), lines(&self.task.my_data));
        self.files.replace(files::TCP_CONTROL, &control)?;
        self.files.replace(files::TCP_DATA, &data)
    }

    fn save_ids(&mut self, ids: Ids, rollback: u64) -> Result<(), Failure> {
        self.ids = ids;
        let mut entry = BytesMut::with_capacity(IDS_BYTES);
        entry.put_u64(ids.current);
        entry.put_u64(ids.complete);
        entry.put_u64(rollback);
        self.files.append(files::CHECKPOINT_IDS, &entry)
    }

    fn obey(&mut self, order: Order) -> Result<Said, Failure> {
        match order {
            Order::Feed { from, to } => Ok(self.feed(from, to)),
            Order::Begin { rollback } => {
                let id = self.ids.current + 1;
                let ids = Ids {
                    current: id,
                    ..self.ids
                };
                self.save_ids(ids, rollback)?;
                Ok(Said::Begun { id })
            }
            Order::Data { id } => {
                let keys = self.state.take_fresh_keys(id);
                if !keys.is_empty() {
                    self.files.append(files::LOCAL_KEYS, &keys)?;
                }
                for event in self.state.events() {
                    self.files.log(&event)?;
                }
                Ok(Said::Done)
            }
            Order::Id { id } => {
                self.files.log(&Event::CheckpointId(id))?;
                Ok(Said::Done)
            }
            Order::Commit { id, rollback } => {
                let ids = Ids {
                    current: id,
                    complete: id,
                };
                self.save_ids(ids, rollback)?;
                Ok(Said::Done)
            }
            Order::Rollback { id } => self.roll_back(id),
        }
    }

    /// Works on the positions whose keys are this worker's.
    fn feed(&mut self, from: u64, to: u64) -> Said {
        let of = self.task.workers.len().max(1);
        let own = self.task.workers.iter().position(|w| *w == self.task.name);
        let keys = (from..to).map(source::key);
        let keys = keys.filter(|key| Some(*key as usize % of) == own);
        Said::Fed {
            emissions: keys.map(|key| self.state.item(key)).collect(),
        }
    }

    /// Back to checkpoint `id`, of which everything behind it is void.
    fn roll_back(&mut self, id: u64) -> Result<Said, Failure> {
        self.files.forget_events();
        self.files.log(&Event::RestartMarker)?;
        let (log, keys) = (self.files.event_log()?, self.files.read(files::LOCAL_KEYS)?);
        let state = State::replay(&log, &keys, id);
        self.state = state.map_err(|error| Failure::error(format!("cannot roll back: {error}")))?;
        self.ids.complete = id;
        Ok(Said::Done)
    }
}
