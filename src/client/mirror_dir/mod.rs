//! Follows the journal files that a worker writes by itself, and streams them to the cluster.
//!
//! ```text
//! follow    scans the directory when something in it changes, and every few seconds; one task per file
//! names     which files, and of what kind their journals are
//! file      one file: wait for a turn -> look who writes -> compare -> stream what is there and what comes
//! claim     under which epoch the directory is mirrored: one of an incarnation that was taken over stays out
//! compare   whether the file continues what the cluster has
//! slots     how many streams are open at a time
//! fault     why a file has stopped, while the others go on; and why all of it has
//! status    what is shown of all this
//! ```
//!
//! Nothing but the claim is kept on this side: where to go on is the cluster's tail, which is compared with the file at every open. So an
//! outage of either side, a kill included, loses and doubles nothing. Memory stays within about a megabyte and a half per
//! open stream, however far behind the cluster is.
//!
//! Nobody is fenced by mistake: a journal is opened only over the writer that was seen not to be writing any more, and a
//! file whose stream was fenced is not opened again.

mod claim;
mod compare;
mod fault;
mod file;
mod follow;
mod names;
mod slots;
mod status;

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::watch;

pub use claim::forget;
pub use fault::{MirrorError, MirrorFault};
pub use names::{NamePattern, PatternError};
pub use status::{FilePhase, FileStatus, MirrorSnapshot};

use super::Client;
use crate::{
    domain::WorkerRef,
    env::task::{self, JoinHandle},
};
use follow::Follower;
use status::Board;

/// How long a journal is looked at again that someone else seems to write: the stream of a process that was killed, or
/// whose host has vanished, counts until a node has noticed.
pub const IN_USE_PATIENCE: Duration = Duration::from_secs(15);

/// What is mirrored, and how.
#[derive(Debug, Clone)]
pub struct MirrorOptions {
    /// Whose journals the files are.
    pub worker: WorkerRef,
    /// Where they are; not below it.
    pub directory: PathBuf,
    /// Which of the files there.
    pub pattern: NamePattern,
    /// Copy what is there now, and end. Then an outage is waited out as long as the client's timeout only.
    pub once: bool,
    /// Open journals also while someone else writes them, who is fenced.
    pub steal: bool,
    /// Go on under the epoch in force also when the directory was mirrored under an earlier one, or to another cluster.
    pub adopt: bool,
    /// How long a journal is looked at again that someone else writes, before its file is refused.
    pub patience: Duration,
}

/// A mirror that runs in the background until it is stopped, dropped, or through. Memory and open files are bounded.
#[derive(Debug)]
pub struct DirMirror {
    board: Arc<Board>,
    news: watch::Receiver<u64>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), MirrorError>>,
}

impl Drop for DirMirror {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a mirror shows of itself, to be kept elsewhere. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DirMirrorView {
    board: Arc<Board>,
}

impl DirMirrorView {
    /// How far the mirror is.
    #[must_use]
    pub fn snapshot(&self) -> MirrorSnapshot {
        self.board.snapshot()
    }
}

impl DirMirror {
    /// Begins; the worker is registered if it is not there, once there is a first file.
    #[must_use]
    pub fn start(client: &Client, options: MirrorOptions) -> Self {
        let board = Arc::new(Board::default());
        let (stop, stopped) = watch::channel(false);
        let follower = Follower::new(client.clone(), options, board.clone(), stopped);
        Self {
            news: board.news(),
            board,
            stop,
            task: task::spawn(follower.run()),
        }
    }

    /// How far it is, for elsewhere.
    #[must_use]
    pub fn view(&self) -> DirMirrorView {
        DirMirrorView {
            board: self.board.clone(),
        }
    }

    /// Stops reading. What was sent is waited for: see [`DirMirror::ended`].
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until a file does something else, or for the end; answers that once. Cancelling it loses nothing.
    ///
    /// # Errors
    /// What stopped the mirror as a whole: a takeover of the worker, or the directory itself. That files have stopped is
    /// told by the snapshot; once all of them have, it has ended.
    pub async fn next(&mut self) -> Result<Step, MirrorError> {
        tokio::select! {
            biased;
            Ok(()) = self.news.changed() => Ok(Step::News),
            ended = &mut self.task => match ended {
                Ok(ended) => ended.map(|()| Step::Ended),
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => Ok(Step::Ended), // the runtime goes down
                },
            },
        }
    }

    /// Waits for the end: with `once`, until what was there is durable; else until it was stopped and what was sent is, or
    /// until every file has stopped by itself.
    ///
    /// # Errors
    /// As [`DirMirror::next`].
    pub async fn ended(&mut self) -> Result<(), MirrorError> {
        while self.next().await? == Step::News {}
        Ok(())
    }
}

/// What [`DirMirror::next`] waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Something is worth a look at the snapshot.
    News,
    /// It is through.
    Ended,
}

/// Waits until a mirror is stopped, or gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // That the sender is gone means the same.
    let _ = stop.wait_for(|stopped| *stopped).await;
}
