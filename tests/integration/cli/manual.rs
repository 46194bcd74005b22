//! What the program says about itself: help, completions, manual pages, and what it says to those who mistype.

use std::path::Path;
use std::process::Command;

use crate::support::program::{Program, command};
use crate::support::server::stentor;

/// The command with the folder of the program on its path, so that a shell's script finds it.
fn with_path(mut command: Command) -> Command {
    let program = stentor(&[]).get_program().to_owned();
    let folder = Path::new(&program).parent().expect("it lies in a folder").to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder).chain(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(folders).expect("paths"));
    command
}

#[test]
fn completions_are_scripts_that_the_shell_itself_accepts() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = Program::start(command(&["completions", shell])).wait();
        assert!(script.expect(0).contains("COMPLETE"), "{shell}: {}", script.out);
        let mut question = command(&["--", "stentor", "ta"]);
        question.env("COMPLETE", shell).env("_CLAP_COMPLETE_INDEX", "1").env("_CLAP_IFS", "\n");
        let offered = Program::start(question).wait();
        assert!(offered.expect(0).lines().next().is_some_and(|line| line.starts_with("tail")), "{shell}: {offered:?}");
    }
    let script = Program::start(command(&["completions", "bash"])).wait();
    let offered = |words: &str, at: u8| {
        let mut bash = Command::new("bash");
        let asked = format!(
            "{}\nCOMP_WORDS=({words}); COMP_CWORD={at}; COMP_WORDBREAKS=:; _stentor; echo \"${{COMPREPLY[@]}}\"",
            script.out
        );
        bash.arg("-c").arg(asked);
        Program::start(with_path(bash)).wait().expect(0).to_owned()
    };
    // what bash offers behind `stentor ta`
    assert_eq!(offered("stentor ta", 1), "tail\n");
    // bash takes a word apart at its colons, and wants what comes behind the last of them
    assert_eq!(offered("stentor webhook replay map : home x --stat", 7), "--status\n");
}

#[test]
fn there_is_a_manual_page_for_each_command() {
    let page = Program::start(command(&["man"])).wait();
    assert!(page.expect(0).contains(".TH stentor 1"), "{}", page.out);
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("man1");
    let written = Program::start(command(&["man", "--dir", dir.to_str().expect("UTF-8")])).wait();
    assert_eq!(written.expect(0), "");
    for page in ["stentor.1", "stentor-tail.1", "stentor-token-create.1", "stentor-serve.1"] {
        assert!(dir.join(page).is_file(), "{page}");
    }
    let nowhere = Program::start(command(&["man", "--dir", "/dev/null/man"])).wait();
    assert_eq!(nowhere.code, Some(1));
}

#[test]
fn a_slip_is_answered_with_what_was_meant_and_with_2() {
    for (line, meant) in [
        (&["tial", "map:home"][..], "'tail'"),
        (&["tail", "mpa:home"], "did you mean map:home?"),
        (&["tail", "home"], "did you mean map:home?"),
        (&["tail", "map:home", "--sinse", "10m"], "'--since'"),
        (&["tail", "map:home", "--since", "ten"], "how long ago such as 10m"),
        (&["tail", "map:home", "--limit", "0"], "0"),
        (&["tail"], "<CHANNEL>"),
        (&["token", "creat"], "'create'"),
        (&["completions", "bsh"], "'bash'"),
    ] {
        let ended = Program::start(command(line)).wait();
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{line:?}");
        assert!(ended.err.starts_with("stentor: ") && ended.err.contains(meant), "{line:?}: {}", ended.err);
    }
}

#[test]
fn help_is_plain_where_no_terminal_is() {
    for line in [&["--help"][..], &["tail", "--help"], &["help", "token"]] {
        let ended = Program::start(command(line)).wait();
        let help = ended.expect(0);
        assert!(help.contains("Usage: stentor") && !help.contains('\u{1b}'), "{help}");
    }
    assert!(
        Program::start(command(&["--help"])).wait().expect(0).contains("Exit codes: 0 done, 1 failed, 2 wrong usage")
    );
}
