//! What the tests share: a server, other commands of the program, an HTTP client, a receiver of webhooks, a reader of SSE, clients of WebSocket,
//! data folders and what must be found in them, small disks, clocks that jump.

pub mod acknowledged;
pub mod clock;
pub mod dns;
pub mod document;
pub mod folder;
pub mod frames;
pub mod http;
pub mod map;
pub mod organization;
pub mod packed;
pub mod program;
pub mod proxy;
pub mod random;
pub mod receiver;
pub mod recorder;
pub mod secure;
pub mod server;
pub mod small_disk;
pub mod socket;
pub mod sse;
pub mod webhooks;
pub mod websocket;

use std::time::{Duration, Instant};

pub use http::{Answer, Request};
pub use map::Map;
pub use organization::Organization;
pub use receiver::{Received, Receiver, Reply};
pub use server::TestServer;
pub use sse::Sse;
pub use websocket::{Heard, Ws};

/// Longest that a test waits for something that is to happen at once.
pub const SOON: Duration = Duration::from_secs(30);

/// Asks again and again until the answer is yes, and fails with `what` when it stays no.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    within(SOON, what, &mut holds);
}

/// By when a reader that takes nothing is found: over TLS a debug build takes seconds for what fits into the server's own buffers.
pub const STALLED: Duration = Duration::from_secs(60);

/// The same with a time limit of the test's own.
#[track_caller]
pub fn within(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// Asks again and again for so long, and fails with `what` as soon as the answer is no.
#[track_caller]
pub fn throughout(time: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        assert!(holds(), "not all the time: {what}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}
