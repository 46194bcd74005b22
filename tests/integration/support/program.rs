//! The program as people run it: with arguments, standard input, and what it says meanwhile.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::eventually;
use super::server::stentor;

/// By when a program ends that does what it was asked: a backup of many segments takes seconds, and more where the machine has other work.
const PATIENCE: Duration = Duration::from_secs(60);

/// A command that runs.
pub struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    out: Lines,
    err: Lines,
}

/// What a program that ended has said.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    reading: Option<JoinHandle<()>>,
}

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Lines {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let shared = lines.clone();
        let reading = std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                shared.lock().expect("the lines").push(line);
            }
        });
        Lines { lines, reading: Some(reading) }
    }

    fn all(&self) -> Vec<String> {
        self.lines.lock().expect("the lines").clone()
    }

    fn text(&mut self) -> String {
        if let Some(reading) = self.reading.take() {
            reading.join().expect("it reads to the end");
        }
        self.all().iter().map(|line| format!("{line}\n")).collect()
    }
}

/// The command of the program with these arguments and nothing of the environment's.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = stentor(&[]);
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    // nobody's login and nobody's bookmarks
    command.env("XDG_CONFIG_HOME", "/nonexistent").env("XDG_STATE_HOME", "/nonexistent");
    command.args(arguments);
    command
}

impl Program {
    pub fn start(mut command: Command) -> Program {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        Program {
            stdin: child.stdin.take(),
            out: Lines::of(child.stdout.take().expect("standard output is ours")),
            err: Lines::of(child.stderr.take().expect("standard error is ours")),
            child,
        }
    }

    /// Writes to its standard input and leaves that open.
    pub fn type_in(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("it is open");
        stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()).expect("the program reads");
    }

    /// Its lines on standard output so far.
    pub fn out(&self) -> Vec<String> {
        self.out.all()
    }

    /// Its lines on standard error so far.
    pub fn err(&self) -> Vec<String> {
        self.err.all()
    }

    /// Waits until standard output has this many lines.
    #[track_caller]
    pub fn expect_lines(&self, count: usize) -> Vec<String> {
        let what = format!("{count} lines come");
        eventually(&what, || self.out().len() >= count);
        self.out()
    }

    /// Waits until standard error has a line with this in it.
    #[track_caller]
    pub fn expect_notice(&self, part: &str) {
        eventually(&format!("standard error says {part:?}: {:?}", self.err()), || {
            self.err().iter().any(|line| line.contains(part))
        });
    }

    /// SIGINT, as Ctrl-C sends it.
    pub fn interrupt(&self) {
        // SAFETY: the child was not waited for, so the id is still its own
        assert_eq!(unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGINT) }, 0);
    }

    /// SIGKILL.
    pub fn kill(mut self) -> Ended {
        self.child.kill().expect("it can be killed");
        self.wait()
    }

    /// Ends its standard input and waits for its own end.
    #[track_caller]
    pub fn wait(mut self) -> Ended {
        drop(self.stdin.take());
        let status = self.status();
        Ended { code: status.code(), out: self.out.text(), err: self.err.text() }
    }

    #[track_caller]
    fn status(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is a child of ours") {
                return status;
            }
            if Instant::now() > deadline {
                self.child.kill().expect("it can be killed");
                panic!("the program did not end: {:?} {:?}", self.out(), self.err());
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // it may have ended
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Standard output of a program that must have ended with this code.
    #[track_caller]
    pub fn expect(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{self:?}");
        &self.out
    }
}
