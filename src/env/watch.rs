//! Wake-ups when something in a directory changes.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::inotify::{self, CreateFlags, WatchFlags},
    io::{Errno, read},
};
use tokio::io::{Interest, unix::AsyncFd};

/// Bytes of events taken from the system at a time.
const EVENTS_BYTES: usize = 4096;
/// Reads of one wake-up: what a busy writer adds meanwhile is the next one.
const READS_MAX: u32 = 64;

/// Watches the files in one directory, not below it. Only that there were events counts, not which: whoever is woken looks
/// for itself, so that a queue of events that overflowed loses nothing.
#[derive(Debug)]
pub struct DirWatch {
    events: AsyncFd<OwnedFd>,
}

impl DirWatch {
    /// Begins to watch: what happens from now on wakes.
    ///
    /// # Errors
    /// The operating system's: no such directory, or its limit of watches is reached.
    pub fn new(directory: &Path) -> io::Result<Self> {
        let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let flags = WatchFlags::CREATE
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::MOVE
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        inotify::add_watch(events.as_fd(), directory, flags)?;
        #[expect(
            deprecated,
            reason = "the newer one is unsafe, for descriptors that are not owned: this one is"
        )]
        let events = AsyncFd::with_interest(events, Interest::READABLE)?;
        Ok(Self { events })
    }

    /// Waits until something has happened since the last call. Cancelling it loses nothing.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.events.readable().await?;
            match ready.try_io(|events| drain(events.get_ref())) {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(_nothing_there) => {}
            }
        }
    }
}

/// Takes the events that are there; `WouldBlock` when there are none.
fn drain(events: &OwnedFd) -> io::Result<()> {
    let mut buffer = [0; EVENTS_BYTES];
    for taken in 0..READS_MAX {
        match read(events, &mut buffer) {
            Ok(_) => {}
            Err(Errno::WOULDBLOCK) if taken > 0 => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "the tests write real files")]

    use std::{io::Write, time::Duration};

    use super::*;

    async fn wakes(watch: &DirWatch) -> bool {
        let changed = tokio::time::timeout(Duration::from_secs(20), watch.changed());
        matches!(changed.await, Ok(Ok(())))
    }

    #[tokio::test]
    async fn new_files_growth_and_removals_wake_and_quiet_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let watch = DirWatch::new(dir.path()).unwrap();
        let path = dir.path().join("f");
        let mut file = std::fs::File::create(&path).unwrap();
        assert!(wakes(&watch).await);
        for _ in 0..3 {
            file.write_all(b"more").unwrap();
            assert!(wakes(&watch).await);
        }
        let quiet = tokio::time::timeout(Duration::from_millis(50), watch.changed());
        assert!(quiet.await.is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(wakes(&watch).await);
        assert!(DirWatch::new(&path).is_err());
    }
}
