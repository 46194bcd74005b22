//! `stentor completions`: the script by which a shell completes commands, flags, and the names of channels.
//!
//! The script asks this program at each completion (`COMPLETE=SHELL stentor -- WORDS`), so that it knows what the server has.

use clap::Args;
use clap_complete::Shell;
use clap_complete::env::{Elvish, EnvCompleter, Fish, Powershell, Zsh};

use super::{Failure, output};

const NAME: &str = "stentor";
/// The variable in which a shell says that it asks.
const VARIABLE: &str = "COMPLETE";

/// bash takes words apart at colons, which are part of the names of channels: they are put together again for the question,
/// and what bash has already is taken off the answers.
const BASH: &str = r#"_stentor() {
    local IFS=$'\v' word words=() index=0 at
    for ((at = 0; at < ${#COMP_WORDS[@]}; at++)); do
        word=${COMP_WORDS[at]}
        if ((at > 0)) && [[ $word == :* || ${words[${#words[@]} - 1]} == *: ]]; then
            words[${#words[@]} - 1]+=$word
        else
            words+=("$word")
        fi
        ((at == COMP_CWORD)) && index=$((${#words[@]} - 1))
    done
    COMPREPLY=($(_CLAP_IFS="$IFS" _CLAP_COMPLETE_INDEX="$index" COMPLETE=bash stentor -- "${words[@]}" 2>/dev/null))
    if [[ ${words[index]} == *:* && $COMP_WORDBREAKS == *:* ]]; then
        local there=${words[index]%"${words[index]##*:}"}
        COMPREPLY=("${COMPREPLY[@]#"$there"}")
    fi
    [[ ${COMPREPLY-} == *[=/:] ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -o bashdefault -o default -F _stentor stentor
"#;

/// The flags of `stentor completions`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stentor completions bash > /etc/bash_completion.d/stentor
  stentor completions zsh > \"${fpath[1]}/_stentor\"
  stentor completions fish > ~/.config/fish/completions/stentor.fish

Names of channels are asked from the server of the command line, of the environment or of `stentor login`.")]
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
    let shell: &dyn EnvCompleter = match args.shell {
        Shell::Elvish => &Elvish,
        Shell::Fish => &Fish,
        Shell::PowerShell => &Powershell,
        Shell::Zsh => &Zsh,
        // the enum may grow, and bash is what most others understand
        _ => return output::bytes(BASH.as_bytes()),
    };
    let mut script = Vec::new();
    output::written(shell.write_registration(VARIABLE, NAME, NAME, NAME, &mut script))?;
    output::bytes(&script)
}
