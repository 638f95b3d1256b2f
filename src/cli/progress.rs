//! Progress on stderr, for a person who watches: nothing is drawn when stderr is no terminal.
//!
//! A line must not be wider than the terminal, or each drawing leaves a piece of the last one behind: the message, which
//! holds names of any length, gets what the numbers leave over.

use std::{io, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const BYTES: &str = "{wide_msg} [{bar:12}] {bytes} of {total_bytes} ({bytes_per_sec}, {eta} left)";
const ENTRIES: &str = "{wide_msg} [{bar:12}] {pos} of {len} log entries";
const SPINNER: &str = "{spinner} {elapsed:>4} {wide_msg}";
const BYTE_COUNTER: &str = "{spinner} {bytes} ({bytes_per_sec}) {wide_msg}";

/// A bar or a spinner; gone when dropped.
#[derive(Debug)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// A bar of bytes.
    pub(super) fn bytes(total: u64, what: impl Into<String>) -> Self {
        Self::drawn(Some(total), BYTES, what)
    }

    /// A bar of log entries.
    pub(super) fn entries(total: u64, what: impl Into<String>) -> Self {
        Self::drawn(Some(total), ENTRIES, what)
    }

    /// Something whose end is not known.
    pub(super) fn spinner(what: impl Into<String>) -> Self {
        let spinner = Self::drawn(None, SPINNER, what);
        spinner.0.enable_steady_tick(Duration::from_millis(100));
        spinner
    }

    /// Bytes of an amount that is not known.
    pub(super) fn byte_counter(what: impl Into<String>) -> Self {
        Self::drawn(None, BYTE_COUNTER, what)
    }

    fn drawn(total: Option<u64>, template: &str, what: impl Into<String>) -> Self {
        Self::drawn_at(ProgressDrawTarget::stderr(), total, template, what)
    }

    fn drawn_at(
        target: ProgressDrawTarget,
        total: Option<u64>,
        template: &str,
        what: impl Into<String>,
    ) -> Self {
        let bar = ProgressBar::with_draw_target(total, target);
        bar.set_style(style(ProgressStyle::with_template(template)).progress_chars("=> "));
        bar.set_message(what.into());
        Self(bar)
    }

    pub(super) fn set(&self, position: u64) {
        self.0.set_position(position);
    }

    pub(super) fn set_total(&self, total: u64) {
        self.0.set_length(total);
    }

    pub(super) fn say(&self, what: impl Into<String>) {
        self.0.set_message(what.into());
    }

    /// Writes to the terminal what is not to be drawn over.
    pub(super) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.0.suspend(write)
    }

    /// Counts what is read.
    pub(super) fn count<R: io::Read>(&self, input: R) -> impl io::Read + use<R> {
        self.0.wrap_read(input)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A template that does not parse is a bug; the plain style does instead, for progress is not worth an end.
fn style<E>(parsed: Result<ProgressStyle, E>) -> ProgressStyle {
    parsed.unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use indicatif::TermLike;

    use super::*;

    const WIDTH: u16 = 80;

    /// A terminal that keeps what is written to it.
    #[derive(Debug, Clone, Default)]
    struct Terminal(Arc<Mutex<Vec<String>>>);

    impl TermLike for Terminal {
        fn width(&self) -> u16 {
            WIDTH
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push(text.to_owned());
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_line_is_wider_than_eighty_columns_whatever_is_named() {
        let long = format!("append to {}", "job/worker/journal".repeat(9));
        for (template, total) in [
            (BYTES, Some(u64::MAX / 3)),
            (BYTES, Some(1000 << 20)),
            (ENTRIES, Some(u64::from(u32::MAX))),
            (SPINNER, None),
            (BYTE_COUNTER, None),
        ] {
            let terminal = Terminal::default();
            let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
            let progress = Progress::drawn_at(target, total, template, long.clone());
            progress.set(total.unwrap_or(1000 << 20) / 2);
            progress.0.tick();
            let lines = terminal.0.lock().unwrap().clone();
            let drawn = lines.iter().filter(|line| line.contains("append"));
            assert!(drawn.count() > 0, "{template}: {lines:?}");
            for line in lines {
                assert!(line.chars().count() <= usize::from(WIDTH), "{line:?}");
            }
        }
    }
}
