//! Another process takes the place of the running server: another version of the program, or the same with other settings. No
//! connection is refused meanwhile, and nothing that was acknowledged is lost.
//!
//! The running server ("the old one") listens at a Unix socket in its data folder, which only its user may use. What is said
//! there, one JSON object a line:
//!
//! ```text
//! new  {"ask":"takeover", protocol, folder, version}
//! old  {"answer":"listeners", ...}      with the listening sockets (SCM_RIGHTS), or {"answer":"refused", reason}
//!      The new one reads settings, certificates and the format of the folder. Whatever is wrong ends it here.
//! new  {"ask":"go"}
//!      The old one lets attempts of webhooks end while it serves on; then it accepts no connection any more, answers what it has,
//!      ends streams, flushes, and lets go of the folder by replacing itself with a process that only waits (`guard`).
//! old  {"answer":"released"}
//!      The new one opens the folder and accepts the connections that wait in the kernel's queue.
//! new  {"ask":"ready"}
//!      The old one ends.
//! ```
//!
//! - [`giving`]: the old one's side; [`guard`]: how it lets go, and comes back when the new one dies before it is ready
//! - [`taking`]: the new one's side, also where the old one dies on the way
//! - [`passing`]: lines and sockets over a Unix socket, and who is at the other end

pub mod giving;
pub mod guard;
mod passing;
pub mod taking;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::listeners::Role;

/// What is said here, and in which order. Another number is refused.
pub const PROTOCOL: u32 = 1;
/// The socket in the data folder.
pub const SOCKET: &str = "takeover";

/// What the old one is asked or told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase")]
enum Ask {
    Takeover {
        protocol: u32,
        folder: FolderId,
        version: String,
    },
    Go,
    Ready,
    /// By `stentor reload`: to start a new process that takes over.
    Reload,
}

/// What the old one says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "lowercase")]
enum Answer {
    /// The sockets come along, in this order.
    Listeners {
        roles: Vec<Role>,
        is_given: bool,
        version: String,
    },
    Released,
    /// To `stentor reload`: this process is the server now.
    Replaced {
        pid: u32,
    },
    Refused {
        reason: String,
    },
}

/// Which data folder is meant, whatever it is called: its file `lock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FolderId {
    device: u64,
    inode: u64,
}

impl FolderId {
    fn of(data_dir: &Path) -> io::Result<FolderId> {
        let lock = fs::metadata(data_dir.join("lock"))?;
        Ok(FolderId { device: lock.dev(), inode: lock.ino() })
    }
}
