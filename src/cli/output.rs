//! The only place that prints. Data on stdout, talk on stderr.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use super::exit::Failure;
use crate::client::Effect;

/// What goes to stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    /// Text for people
    #[default]
    Table,
    /// JSON for programs
    Json,
}

/// Where a command says what it has to say.
#[derive(Debug, Clone)]
pub(super) struct Output {
    format: Format,
}

impl Output {
    pub(super) fn new(format: Format) -> Self {
        Self { format }
    }

    /// Whether programs read.
    pub(super) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// The answer of a command: as JSON, or as the text that `text` makes of it.
    pub(super) fn show<T: Serialize>(
        &self,
        document: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let mut shown = match self.format {
            Format::Table => text(document),
            Format::Json => serde_json::to_string_pretty(document)
                .map_err(|error| Failure::error(format!("cannot write JSON: {error}")))?,
        };
        if !shown.is_empty() && !shown.ends_with('\n') {
            shown.push('\n');
        }
        self.raw(shown.as_bytes())
    }

    /// Bytes to stdout as they are, at once.
    pub(super) fn raw(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
        written.map_err(|error| stdout_failure(&error))
    }

    /// A line for people; for programs an object of one field, `note`.
    pub(super) fn talk(&self, line: &str) {
        match self.format {
            Format::Table => to_stderr(line),
            Format::Json => to_stderr(&note(line)),
        }
    }

    /// Where the lines of a command go whose answer they are: to stdout; for programs, who get a document there, they are talk.
    pub(super) fn lines(&self) -> Box<dyn Write> {
        match self.format {
            Format::Table => Box::new(io::stdout()),
            Format::Json => Box::new(Notes::default()),
        }
    }

    /// Says why the command failed; nothing if it is that nobody reads.
    pub(super) fn failure(&self, failure: &Failure) {
        if failure.message.is_empty() {
            return;
        }
        let shown = match self.format {
            Format::Table => failure_text(failure),
            Format::Json => failure_json(failure),
        };
        to_stderr(&shown);
    }
}

fn to_stderr(line: &str) {
    // Where stderr is closed nobody listens, which is no reason to stop.
    writeln!(io::stderr().lock(), "{line}").ok();
}

fn note(line: &str) -> String {
    let line = line.trim_end();
    serde_json::json!({ "note": line.strip_prefix("note: ").unwrap_or(line) }).to_string()
}

/// Lines on their way to stderr as notes.
#[derive(Debug, Default)]
struct Notes {
    rest: Vec<u8>,
}

impl Write for Notes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            to_stderr(&note(&String::from_utf8_lossy(&line)));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a failure to write to stdout means: a closed pipe is no error.
pub(super) fn stdout_failure(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::output_closed();
    }
    Failure::error(format!("cannot write to stdout: {error}"))
}

/// Whether stderr is a terminal: where progress can be drawn.
pub(super) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Whether stdout is a terminal.
pub(super) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether stdout goes to a file: neither to a terminal nor to another program.
pub(super) fn stdout_is_a_file() -> bool {
    use rustix::fs::{FileType, fstat};
    let kind = fstat(io::stdout()).map(|stat| FileType::from_raw_mode(stat.st_mode));
    kind == Ok(FileType::RegularFile)
}

fn failure_text(failure: &Failure) -> String {
    let lines = failure.message.lines().map(plain);
    let mut text = format!("error: {}", lines.collect::<Vec<_>>().join("\n"));
    for step in &failure.tries {
        text.push_str("\n  try: ");
        text.push_str(&plain(step));
    }
    text
}

/// Text from elsewhere without control characters: what a journal or a worker holds must not steer a terminal.
fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

fn failure_json(failure: &Failure) -> String {
    let effect = failure.effect.map(|effect| match effect {
        Effect::None => "none",
        Effect::Unknown => "unknown",
    });
    serde_json::json!({
        "error": {
            "kind": failure.exit.as_str(),
            "exit_code": failure.exit as u8,
            "message": failure.message,
            "effect": effect,
            "try": failure.tries,
        }
    })
    .to_string()
}

/// A table without lines: what numbers there are stand on the right.
pub(super) fn table(headers: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(headers.iter().map(|header| header.to_uppercase()));
    table.add_rows(rows.iter().map(|row| row.iter().map(|cell| plain(cell))));
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        let cells = || rows.iter().filter_map(|row| row.get(index));
        if cells().any(|cell| cell != "-") && cells().all(|cell| is_number(cell)) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// `NAME  value` lines.
pub(super) fn fields(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = fields.iter().map(|(name, value)| {
        let name = name.to_uppercase();
        format!("{name:width$}  {}\n", plain(value))
    });
    lines.collect()
}

fn is_number(cell: &str) -> bool {
    cell == "-" || (!cell.is_empty() && cell.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A value, or `-` for none.
pub(super) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A moment for people, in UTC; `-` for 0.
pub(super) fn moment(unix_ms: u64) -> String {
    // The last second that has a year of four digits; what is beyond is no moment.
    const LAST: u64 = 253_402_300_799_000;
    match unix_ms {
        0 => "-".to_owned(),
        1..=LAST => {
            let since = std::time::Duration::from_millis(unix_ms);
            humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since).to_string()
        }
        _ => unix_ms.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;

    #[test]
    fn a_table_has_a_header_and_numbers_on_the_right() {
        let rows = [
            ["a", "5", "x", "-"].map(str::to_owned).to_vec(),
            ["bcd", "1234", "", "-"].map(str::to_owned).to_vec(),
        ];
        let shown = table(&["name", "tail", "by", "taken over"], &rows);
        let wanted = "NAME  TAIL  BY  TAKEN OVER\na        5  x   -\nbcd   1234      -";
        assert_eq!(shown, wanted);
    }

    #[test]
    fn text_from_elsewhere_cannot_steer_the_terminal() {
        let rows = [vec!["\u{1b}[2Jx\ny".to_owned()]];
        assert_eq!(table(&["by"], &rows), "BY\n\\u{1b}[2Jx\\ny");
        assert_eq!(fields(&[("by", "\r".to_owned())]), "BY  \\r\n");
    }

    #[test]
    fn a_failure_says_what_to_try_and_json_says_the_same() {
        let failure = Failure {
            effect: Some(Effect::Unknown),
            ..Failure::new(Exit::Timeout, "cannot add n4: no answer").try_next("dos-cluster status")
        };
        assert_eq!(
            failure_text(&failure),
            "error: cannot add n4: no answer\n  try: dos-cluster status"
        );
        let json: serde_json::Value = serde_json::from_str(&failure_json(&failure)).unwrap();
        assert_eq!(json["error"]["exit_code"], 8);
        assert_eq!(json["error"]["effect"], "unknown");
        assert_eq!(json["error"]["try"][0], "dos-cluster status");
    }

    #[test]
    fn a_note_for_programs_is_one_object_a_line() {
        let json: serde_json::Value = serde_json::from_str(&note("note: a \"b\"\n")).unwrap();
        assert_eq!(json, serde_json::json!({ "note": "a \"b\"" }));
        assert!(!note("two\nlines").contains('\n'));
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        let closed = stdout_failure(&io::ErrorKind::BrokenPipe.into());
        assert_eq!((closed.exit, closed.message.as_str()), (Exit::Done, ""));
        let full = stdout_failure(&io::ErrorKind::StorageFull.into());
        assert_eq!(full.exit, Exit::Error);
    }

    #[test]
    fn moments_beyond_all_calendars_do_not_panic() {
        assert_eq!(moment(0), "-");
        assert_eq!(moment(1_735_689_600_123), "2025-01-01T00:00:00Z");
        assert_eq!(moment(u64::MAX), u64::MAX.to_string());
    }
}
