//! Another process takes the place of the running server: nobody is refused, nothing is lost, nobody sees anything twice.
//!
//! - [`load`]: under publishers and streams. `scripts/takeover` runs it at full size with a release build
//! - [`faults`]: either process dies on the way, two want to take over at once, folders and versions that do not fit
//! - [`draining`]: exports and backups that are under way
//! - [`supervisor`]: what systemd sees and gives

mod draining;
mod faults;
mod load;
mod supervisor;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{SOON, TestServer};

/// A server that reads its settings from a file, which is empty at first.
fn with_settings_file(data: &Path, settings: &Path) -> TestServer {
    fs::write(settings, "").expect("it can be written");
    let file = settings.to_owned();
    let mut server = TestServer::at(data, &[]).prepared(move |mut command| {
        command.arg("--config").arg(&file);
        command
    });
    server.launch();
    server
}

/// Somebody who speaks at the socket of a server by hand.
struct Speaker(BufReader<UnixStream>);

impl Speaker {
    fn at(folder: &Path) -> Speaker {
        let stream = UnixStream::connect(folder.join("takeover")).expect("a server listens there");
        stream.set_read_timeout(Some(SOON)).expect("a timeout can be set");
        Speaker(BufReader::new(stream))
    }

    fn say(&mut self, message: &Value) {
        self.0.get_mut().write_all(format!("{message}\n").as_bytes()).expect("the server listens");
    }

    /// The next line; none when the server has hung up.
    fn hear(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).expect("the server answers");
        (read > 0).then(|| serde_json::from_str(&line).expect("JSON"))
    }

    /// Asks as a new process does.
    fn ask(&mut self, folder: &Path) -> Value {
        self.ask_with(folder, 1)
    }

    fn ask_with(&mut self, folder: &Path, protocol: u32) -> Value {
        let lock = folder.join("lock").metadata().expect("the lock");
        let id = json!({"device": lock.dev(), "inode": lock.ino()});
        self.say(&json!({"ask": "takeover", "protocol": protocol, "folder": id, "version": "0.0.0"}));
        self.hear().expect("an answer")
    }
}
