//! How many files this process may open, and how many of them are for connections: whoever takes connections must leave what
//! the log and the documents need.

use std::io;

/// Open files without which a server cannot run: its threads, the write-ahead log, segments, the documents.
pub const MIN: u64 = 128;
/// The part of all that is kept from connections, where it is more than [`MIN`]: segments are opened as they are read, and
/// deliveries have connections of their own.
const KEPT_PART: u64 = 10;

/// The limit that counts, and the one up to which it may be raised.
fn limits() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct is ours to write to
    match unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } {
        0 => Ok(limit),
        _ => Err(io::Error::last_os_error()),
    }
}

/// How many files a process that is started like this one may open once it has [raised](raise) its limit.
///
/// # Errors
/// The system does not say.
pub fn most() -> io::Result<u64> {
    limits().map(|limit| limit.rlim_max)
}

/// Takes as many as the system gives without asking for more rights. Returns how many that are.
pub fn raise() -> u64 {
    let Ok(limit) = limits() else {
        log::warn!("the system does not tell how many files may be open; many streams may need more");
        return MIN;
    };
    let all = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: the struct is ours to read from
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &all) } == 0 {
        return all.rlim_cur;
    }
    log::warn!("the limit on open files stays as it is; many streams may need a higher one");
    limit.rlim_cur
}

/// How many of `wanted` connections there may be, so that other files can still be opened. The log says when it is less.
pub fn connections(wanted: usize) -> usize {
    let Ok(limit) = limits() else { return wanted };
    let room = usize::try_from(of_connections(limit.rlim_cur)).unwrap_or(usize::MAX);
    if room < wanted {
        log::warn!(
            "server.max_connections is {wanted}, and with {} open files there can be {room} connections, so that the log keeps its own; \
             raise the limit (ulimit -n, or LimitNOFILE of systemd), or lower the setting",
            limit.rlim_cur
        );
    }
    wanted.min(room)
}

/// How many open files so many connections take, beside what they leave.
pub fn needed(connections: u64) -> u64 {
    (connections + MIN).max((connections * KEPT_PART).div_ceil(KEPT_PART - 1))
}

fn of_connections(limit: u64) -> u64 {
    limit.saturating_sub(MIN.max(limit / KEPT_PART)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_what_storage_needs() {
        for (limit, connections) in [(0, 1), (128, 1), (180, 52), (1024, 896), (20_000, 18_000)] {
            assert_eq!(of_connections(limit), connections, "{limit}");
        }
        assert_eq!(connections(1), 1);
        for connections in [1, 52, 896, 1_152, 1_153, 18_000, 50_000, 10_000_000] {
            let needed = needed(connections);
            // enough, and because of what is rounded one more at most
            assert!(of_connections(needed) >= connections, "{needed}");
            assert!(of_connections(needed - 2) < connections.max(2), "{needed}");
        }
    }
}
