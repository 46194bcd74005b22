//! What must hold on a bad day. Each case is one example of its kind that was once found to fail.
//!
//! - [`start`]: starts that cannot succeed end with 1, say why, and touch nothing
//! - [`damage`]: flipped bits, cut, removed and exchanged files are never silent
//! - [`disk_full`]: a full disk refuses writes, serves readers, and is over when there is room
//! - [`clock`]: a wall clock that jumps
//! - [`migration`]: data folders of older versions
//! - [`layout`]: permissions, and the version of the data folder
//! - [`restore`]: backups and restores
//! - [`kill`]: kill -9 again and again, with everything under way at once
//! - [`sync_order`]: no answer before the disk has it, as the kernel sees it

mod clock;
mod damage;
mod disk_full;
mod kill;
mod layout;
mod migration;
mod restore;
mod start;
mod sync_order;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::acknowledged::Acknowledged;
use crate::support::program::Ended;
use crate::support::random::Random;
use crate::support::{TestServer, folder};

/// Small segments, so that there are several; nothing goes by age; webhooks may point to this machine.
const SETTINGS: [(&str, &str); 7] = [
    ("storage.segment_max_bytes", "1048576"),
    ("retention.max_age_s", "0"),
    ("retention.max_events", "0"),
    ("webhooks.allow_http", "true"),
    ("webhooks.allow_networks", "127.0.0.1"),
    ("limits.api_requests_per_minute", "0"),
    ("log.level", "warn"),
];
/// With them some segments of the log are sealed.
const EVENTS: usize = 600;
const EVENT_BYTES: usize = 6_000;

/// Data that a server left when it was stopped, and what it had acknowledged.
struct Stopped {
    /// Holds `data` and the copies of it.
    folder: TempDir,
    data: PathBuf,
    acknowledged: Acknowledged,
}

impl Stopped {
    /// Ended by SIGTERM.
    fn new(random: &mut Random) -> Stopped {
        Stopped::with(random, |_, _, _| {})
    }

    /// The same with something more done before the end.
    fn with(random: &mut Random, more: impl FnOnce(&mut TestServer, &mut Acknowledged, &mut Random)) -> Stopped {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let data = folder.path().join("data");
        let mut server = TestServer::at(&data, &SETTINGS);
        server.launch();
        let mut acknowledged = Acknowledged::make(&server, EVENTS, EVENT_BYTES, random);
        more(&mut server, &mut acknowledged, random);
        server.stop();
        Stopped { folder, data, acknowledged }
    }

    /// A copy to be spoilt.
    fn copy(&self) -> PathBuf {
        folder::copy(&self.data, self.folder.path())
    }
}

/// Starts a server that must refuse: exit 1, one line on standard error with one of each of these groups of words in it (whatever
/// their case), and nothing moved, renamed, made or removed. Returns the line.
#[track_caller]
fn expect_refusal(
    data: &Path,
    prepare: impl Fn(Command) -> Command + Send + Sync + 'static,
    words: &[&[&str]],
) -> String {
    let before = folder::listing(data);
    let Err(ended) = quiet(data, prepare).try_launch() else { panic!("the server must not start: {words:?}") };
    judge_refusal(data, &before, &ended, words)
}

/// A server that logs nothing, so that what it says on standard error is why it ends.
fn quiet(data: &Path, prepare: impl Fn(Command) -> Command + Send + Sync + 'static) -> TestServer {
    TestServer::at(data, &[&SETTINGS[..], &[("log.level", "off")]].concat()).prepared(prepare)
}

#[track_caller]
fn judge_refusal(data: &Path, before: &BTreeMap<String, Option<u64>>, ended: &Ended, words: &[&[&str]]) -> String {
    expect_untouched(data, before);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.err.lines().count(), 1, "one line: {}", ended.err);
    let line = ended.err.trim_end().to_owned();
    let lower = line.to_lowercase();
    for any in words {
        assert!(any.iter().any(|word| lower.contains(&word.to_lowercase())), "one of {any:?} in: {line}");
    }
    line
}

/// Nothing was moved, renamed, made or removed since `before`, nor has any file another size.
#[track_caller]
fn expect_untouched(data: &Path, before: &BTreeMap<String, Option<u64>>) {
    let after = folder::listing(data);
    let differs: Vec<_> = before
        .iter()
        .filter(|(path, size)| after.get(*path) != Some(size))
        .map(|(path, size)| format!("{path}: {size:?} is {:?} now", after.get(path)))
        .chain(after.keys().filter(|path| !before.contains_key(*path)).map(|path| format!("{path} is new")))
        .collect();
    assert!(differs.is_empty(), "{differs:#?}");
}

/// Starts on the folder, which must have everything that was acknowledged, and stops.
#[track_caller]
fn expect_whole_after_start(data: &Path, acknowledged: &Acknowledged) {
    let mut server = TestServer::at(data, &SETTINGS);
    server.launch();
    acknowledged.expect_whole(&server);
    server.stop();
}

fn as_it_is(command: Command) -> Command {
    command
}
