//! The texts at the end of a command's help. In the source a paragraph has lines as the source has them; shown, it has
//! those of the screen: were both broken, each second line would be a short one.

use clap::{CommandFactory, FromArgMatches};

use super::Cli;

/// The command tree, as it parses and as its help is shown.
pub(super) fn command() -> clap::Command {
    flowing(Cli::command())
}

/// What the command line says.
pub(super) fn parse<I, T>(words: I) -> Result<Cli, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<std::ffi::OsString> + Clone,
{
    let mut command = command();
    let mut matches = command.try_get_matches_from_mut(words)?;
    Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

fn flowing(command: clap::Command) -> clap::Command {
    let help = command.get_after_help().map(ToString::to_string);
    let command = command.mut_subcommands(flowing);
    match help {
        Some(help) => command.after_help(in_one_line_each(&help)),
        None => command,
    }
}

/// Whether a line belongs to a paragraph.
fn flows(line: &str) -> bool {
    !line.is_empty() && !line.starts_with(' ')
}

/// Each paragraph as one line, which clap breaks where the screen ends. Lines that begin with a blank are examples and
/// tables, and stay as they are.
fn in_one_line_each(help: &str) -> String {
    let mut text = String::new();
    let mut before = "";
    for (index, line) in help.lines().enumerate() {
        if index > 0 {
            text.push(if flows(before) && flows(line) {
                ' '
            } else {
                '\n'
            });
        }
        text.push_str(line);
        before = line;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a help is shown with where there is no terminal.
    const WIDTH: usize = 100;

    fn walk(command: &clap::Command, path: &str, check: &mut impl FnMut(&clap::Command, &str)) {
        check(command, path);
        for child in command.get_subcommands() {
            walk(child, &format!("{path} {}", child.get_name()), check);
        }
    }

    fn after_help(command: &clap::Command) -> String {
        let help = command.get_after_help().map(ToString::to_string);
        help.unwrap_or_default()
    }

    #[test]
    fn a_paragraph_is_one_line_and_an_example_stays_as_it_is() {
        let help = "Examples:\n  a\n  b\n\nOne\ntwo, then\n  c\nthree\nfour.";
        let wanted = "Examples:\n  a\n  b\n\nOne two, then\n  c\nthree four.";
        assert_eq!(in_one_line_each(help), wanted);
    }

    #[test]
    fn an_example_is_no_longer_than_a_help_is_wide() {
        walk(&command(), "dos-cluster", &mut |command, path| {
            let help = after_help(command);
            let long = help
                .lines()
                .find(|line| line.starts_with(' ') && line.chars().count() > WIDTH);
            assert_eq!(long, None, "{path}");
        });
    }

    /// Each line of the help of `dev`, for one, was followed by a line of a word or two.
    #[test]
    fn a_line_of_a_help_ends_where_the_next_word_has_no_room() {
        for width in [80, WIDTH] {
            walk(&command(), "dos-cluster", &mut |command, path| {
                let mut command = command.clone().term_width(width);
                let shown = command.render_long_help().to_string();
                let words = after_help(&command);
                let first = words.split([' ', '\n']).next().unwrap_or_default();
                let begin = shown.rfind(&format!("\n{first}")).unwrap();
                let lines: Vec<_> = shown[begin..].lines().collect();
                for (line, next) in lines.iter().zip(&lines[1..]) {
                    if !flows(line) || !flows(next) {
                        continue;
                    }
                    let word = next.split(' ').next().unwrap();
                    let with = line.chars().count() + 1 + word.chars().count();
                    assert!(with > width, "{path}: {line:?}, then {next:?}");
                }
            });
        }
    }
}
