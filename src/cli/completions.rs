//! `stentor completions`: the script that lets a shell complete commands and flags.

use clap::Args;
use clap_complete::Shell;

use super::{Failure, output};

/// The flags of `stentor completions`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stentor completions bash > /etc/bash_completion.d/stentor
  stentor completions zsh > \"${fpath[1]}/_stentor\"
  stentor completions fish > ~/.config/fish/completions/stentor.fish")]
pub struct CompletionsArgs {
    /// Shell that shall complete
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "stentor", &mut script);
    output::bytes(&script)
}
