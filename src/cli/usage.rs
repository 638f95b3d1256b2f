//! A wrong command line, and `dos-cluster help`: what clap says of them, for people or for programs.

use std::ffi::OsString;

use clap::{
    Args,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{
    Context,
    exit::{Exit, Failure},
    help,
    output::{Format, Output},
};

/// Show the help of a command
#[derive(Debug, Args)]
#[command(
    hide = true,
    after_help = "Example:\n  dos-cluster help journal append"
)]
pub(super) struct Help {
    /// The command, such as `journal append`
    #[arg(value_name = "COMMAND")]
    words: Vec<OsString>,
}

impl Help {
    pub(super) fn run(self, context: &Context) -> Result<Exit, Failure> {
        let mut words = vec![OsString::from("dos-cluster")];
        words.extend(self.words);
        words.push("--help".into());
        let Err(error) = help::parse(words) else {
            return Err(Failure::error("the help was not found"));
        };
        if error.kind() != ErrorKind::DisplayHelp {
            return Err(failure(&error));
        }
        let shown = error.render();
        let shown = if context.output.is_json() {
            shown.to_string()
        } else {
            return match error.print() {
                Ok(()) => Ok(Exit::Done),
                Err(error) => Err(super::output::stdout_failure(&error)),
            };
        };
        context.output.raw(shown.as_bytes())?;
        Ok(Exit::Done)
    }
}

/// Says what clap has to say: help and version, or what is wrong with the command line.
pub(super) fn report(words: &[OsString], error: clap::Error) -> Exit {
    let error = without_variables(words, error);
    let exit = Exit::of_usage(error.exit_code());
    let for_programs = exit == Exit::Usage && wants_json(words);
    if for_programs {
        Output::new(Format::Json).failure(&failure(&error));
    } else if error.kind() == ErrorKind::MissingSubcommand {
        // Clap would list all of them, hidden ones too.
        Output::new(Format::Table).failure(&failure(&error));
    } else {
        // Where nobody reads on, there is nothing to say.
        error.print().ok();
    }
    exit
}

/// The same error without what the environment holds: clap's usage lines take what was set there for given, and show it
/// as if it were wanted.
fn without_variables(words: &[OsString], error: clap::Error) -> clap::Error {
    fn strip(command: clap::Command) -> clap::Command {
        command
            .mut_args(|argument| argument.env(None::<&str>))
            .mut_subcommands(strip)
    }
    match strip(help::command()).try_get_matches_from(words) {
        Err(plain) if plain.kind() == error.kind() => plain,
        // The variable itself is wrong.
        _ => error,
    }
}

/// Whether `-o json` is on a command line that does not parse.
fn wants_json(words: &[OsString]) -> bool {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let words = words.iter().skip(1).take_while(|word| *word != "--");
    let mut wants = false;
    let mut expected = false;
    for word in words {
        let value = if expected {
            Some(&**word)
        } else if word.starts_with("--") {
            word.strip_prefix("--output=")
        } else {
            let value = word.strip_prefix("-o");
            value.map(|value| value.strip_prefix('=').unwrap_or(value))
        };
        expected = !expected && (word == "-o" || word == "--output");
        if let Some(value) = value.filter(|_| !expected) {
            wants = value == "json";
        }
    }
    wants
}

/// What is wrong with the command line, in the words that clap has for it.
fn failure(error: &clap::Error) -> Failure {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand
    ) {
        return Failure::usage("a command is missing").try_next("dos-cluster help");
    }
    let rendered = error.render().to_string();
    let message = rendered.strip_prefix("error: ").unwrap_or(&rendered);
    let end = ["\n\nUsage:", "\n\nFor more information", "\n\n  tip:"]
        .iter()
        .filter_map(|mark| message.find(mark))
        .min();
    let message = &message[..end.unwrap_or(message.len())];
    let lines: Vec<_> = message.lines().map(str::trim).collect();
    let mut failure = Failure::usage(lines.join("\n").trim_end());
    let tips = rendered
        .lines()
        .filter_map(|line| line.trim().strip_prefix("tip: "));
    for tip in tips {
        failure = failure.try_next(tip);
    }
    if let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) {
        let usage = usage.to_string();
        failure = failure.try_next(usage.trim_start_matches("Usage: ").trim());
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn json_is_found_on_a_command_line_that_does_not_parse() {
        for line in [
            "x -o json nonsense",
            "x nonsense -ojson",
            "x --output json",
            "x a -o=json b",
            "x --output=json",
            "x -o table -o json",
        ] {
            assert!(wants_json(&words(line)), "{line}");
        }
        for line in [
            "x",
            "json",
            "x json",
            "x -o table",
            "x -- -o json",
            "x --offset json",
            "x -o json -o table",
        ] {
            assert!(!wants_json(&words(line)), "{line}");
        }
    }

    #[test]
    fn a_wrong_command_line_for_programs_has_message_usage_and_tips() {
        let failure_of = |line: &str| failure(&help::parse(words(line)).unwrap_err());
        let wrong = failure_of("dos-cluster journal apend a/b/c");
        assert_eq!(wrong.exit, Exit::Usage);
        assert_eq!(wrong.message, "unrecognized subcommand 'apend'");
        assert!(wrong.tries[0].contains("'append'"), "{:?}", wrong.tries);
        let missing = failure_of("dos-cluster journal append");
        assert!(
            missing.message.contains("<JOB/WORKER/JOURNAL>"),
            "{missing:?}"
        );
        assert!(
            missing.tries[0].starts_with("dos-cluster journal append"),
            "{missing:?}"
        );
        for nothing in ["dos-cluster", "dos-cluster -o json"] {
            assert_eq!(failure_of(nothing).message, "a command is missing");
        }
    }
}
