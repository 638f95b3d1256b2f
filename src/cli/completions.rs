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
    pub(super) fn run(
        self,
        context: &Context,
        command: &mut clap::Command,
    ) -> Result<Exit, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, command, "dos-cluster", &mut script);
        context.output.raw(&script)?;
        Ok(Exit::Done)
    }
}
