//! `dos-cluster completions`: for shells.

use clap::Args;
use clap_complete::Shell;

use super::{
    Context,
    exit::{Exit, Failure},
};

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dos-cluster completions bash > ~/.local/share/bash-completion/completions/dos-cluster")]
pub(super) struct Completions {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self, context: &Context, command: clap::Command) -> Result<Exit, Failure> {
        let mut script = Vec::new();
        let mut command = visible(&command);
        clap_complete::generate(self.shell, &mut command, "dos-cluster", &mut script);
        context.output.raw(&script)?;
        Ok(Exit::Done)
    }
}

/// The command without what the help does not show either. Its words are leaked: clap wants them for ever, which is until
/// the script is printed.
fn visible(command: &clap::Command) -> clap::Command {
    let arguments = command.get_arguments();
    let commands = command.get_subcommands();
    let mut shown = clap::Command::new(&*command.get_name().to_owned().leak())
        .disable_help_subcommand(true)
        .allow_missing_positional(command.is_allow_missing_positional_set())
        .args(
            arguments
                .filter(|argument| !argument.is_hide_set())
                .cloned(),
        )
        .subcommands(commands.filter(|child| !child.is_hide_set()).map(visible));
    if let Some(about) = command.get_about() {
        shown = shown.about(about.clone());
    }
    if let Some(version) = command.get_version() {
        shown = shown.version(&*version.to_owned().leak());
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn hidden_commands_are_not_completed_and_the_others_are() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            let mut command = visible(&super::super::Cli::command());
            clap_complete::generate(shell, &mut command, "dos-cluster", &mut script);
            let script = String::from_utf8(script).unwrap();
            for there in ["checkpoint", "takeover", "endpoints"] {
                assert!(script.contains(there), "{shell}: {there}");
            }
            for hidden in ["demo-worker", "demo-legacy-worker", "until-stdin-closes"] {
                assert!(!script.contains(hidden), "{shell}: {hidden}");
            }
        }
    }
}
