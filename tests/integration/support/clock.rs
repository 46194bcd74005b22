//! A wall clock that a test sets, for one server: libfaketime between the program and the C library.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where Debian's package `libfaketime` puts it, by architecture.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
];

/// The time as one server sees it. Clocks that count since the boot stay as they are.
#[derive(Clone, Debug)]
pub struct Clock {
    library: &'static str,
    /// Read by libfaketime each time somebody asks for the time.
    file: PathBuf,
}

impl Clock {
    /// Shows the true time until it is told otherwise. `folder` is where its file goes.
    pub fn new(folder: &Path) -> Clock {
        let library = LIBRARIES.into_iter().find(|path| Path::new(path).exists());
        let library = library.expect("libfaketime is installed; scripts/setup does that");
        let clock = Clock { library, file: folder.join("clock") };
        clock.set("+0");
        clock
    }

    /// Jumps ahead of the true time by so many seconds.
    pub fn jump_s(&self, seconds: i64) {
        self.set(&format!("{seconds:+}"));
    }

    /// Goes on from this moment, each time a program starts.
    pub fn start_at(&self, unix_ms: i64) {
        let at = time::OffsetDateTime::from_unix_timestamp(unix_ms / 1000).expect("a time");
        let format = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
        self.set(&format!("@{}", at.format(&format).expect("it can be written")));
    }

    fn set(&self, text: &str) {
        // renamed into place, so that nobody reads half of it
        let new = self.file.with_extension("new");
        fs::write(&new, text).and_then(|()| fs::rename(&new, &self.file)).expect("the clock can be set");
    }

    /// The command with this clock.
    pub fn on(&self, mut command: Command) -> Command {
        command
            .env("LD_PRELOAD", self.library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            // what start_at says is meant as UTC
            .env("TZ", "UTC");
        command
    }
}
