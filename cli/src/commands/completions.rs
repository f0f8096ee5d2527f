//! `podplane completions`: the completion script for a shell, from the same definition that reads the command line.

use crate::output::{self, Answer, Failure};
use clap::{Args, CommandFactory, ValueEnum};

/// Shells that podplane completes in.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Shell {
    /// Bourne again shell.
    Bash,
    /// Z shell.
    Zsh,
    /// Friendly interactive shell.
    Fish,
}

/// Arguments of `podplane completions`.
#[derive(Args)]
#[command(after_help = "Examples:
  podplane completions bash > /etc/bash_completion.d/podplane
  podplane completions zsh > ~/.zfunc/_podplane
  podplane completions fish > ~/.config/fish/completions/podplane.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

/// Prints the script.
pub(crate) fn run(args: CompletionsArgs) -> Result<Answer, Failure> {
    let shell = match args.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut crate::Cli::command(), "podplane", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(Answer::Yes)
}
