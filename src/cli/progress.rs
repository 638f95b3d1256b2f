//! Progress on stderr, for a person who watches: nothing is drawn when stderr is no terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar or a spinner; gone when dropped.
#[derive(Debug)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// A bar of bytes.
    pub(super) fn bytes(total: u64, what: impl Into<String>) -> Self {
        let template = "{msg} [{bar:30}] {bytes} of {total_bytes} ({bytes_per_sec}, {eta} left)";
        Self::bar(total, template, what)
    }

    /// A bar of log entries.
    pub(super) fn entries(total: u64, what: impl Into<String>) -> Self {
        Self::bar(total, "{msg} [{bar:30}] {pos} of {len} log entries", what)
    }

    /// Something whose end is not known.
    pub(super) fn spinner(what: impl Into<String>) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(style(ProgressStyle::with_template(
            "{spinner} {msg} ({elapsed})",
        )));
        bar.set_message(what.into());
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }

    /// Bytes of an amount that is not known.
    pub(super) fn byte_counter(what: impl Into<String>) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(style(ProgressStyle::with_template(
            "{spinner} {msg} {bytes} ({bytes_per_sec})",
        )));
        bar.set_message(what.into());
        Self(bar)
    }

    fn bar(total: u64, template: &str, what: impl Into<String>) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
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
