//! What the tests share: a server, other commands of the program, an HTTP client, a receiver of webhooks, a reader of SSE, clients of WebSocket.

pub mod dns;
pub mod document;
pub mod frames;
pub mod http;
pub mod organization;
pub mod program;
pub mod proxy;
pub mod random;
pub mod receiver;
pub mod server;
pub mod sse;
pub mod webhooks;
pub mod websocket;

use std::time::{Duration, Instant};

pub use http::{Answer, Request};
pub use organization::Organization;
pub use receiver::{Received, Receiver, Reply};
pub use server::{Map, TestServer};
pub use sse::Sse;
pub use websocket::{Heard, Ws};

/// Longest that a test waits for something that is to happen at once.
pub const SOON: Duration = Duration::from_secs(10);

/// Asks again and again until the answer is yes, and fails with `what` when it stays no.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
