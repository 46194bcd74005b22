//! The memory that clients may take before they have shown a credential: heads that are being received, requests of HTTP/2
//! that are being answered. Each connection has a little of its own, which is never refused; what goes beyond comes out of one
//! pool for the whole server, so that many connections together cannot cost more than that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What each connection may hold without asking. Fixed: the usual head and body of a request fit, so that an ordinary client is
/// never refused for what others hold, and `server.max_connections` bounds the sum.
pub const OWN_BYTES: usize = 16 * 1024;

/// The pool of all connections.
#[derive(Debug)]
pub struct SharedMemory {
    free: AtomicUsize,
}

impl SharedMemory {
    /// `shared_bytes`: what all connections together may hold beyond what is their own.
    pub fn new(shared_bytes: usize) -> SharedMemory {
        SharedMemory { free: AtomicUsize::new(shared_bytes) }
    }
}

/// What one connection holds.
#[derive(Debug)]
pub struct Share {
    shared: Arc<SharedMemory>,
    held: usize,
}

impl Share {
    pub fn new(shared: &Arc<SharedMemory>) -> Share {
        Share { shared: shared.clone(), held: 0 }
    }

    /// Holds this many bytes more; false: there is no memory left for them, and nothing changed.
    pub fn take(&mut self, bytes: usize) -> bool {
        let more = beyond(self.held + bytes) - beyond(self.held);
        let taken = |free: usize| free.checked_sub(more);
        let fits = more == 0 || self.shared.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok();
        if fits {
            self.held += bytes;
        }
        fits
    }

    /// Holds this many bytes less. They were taken before.
    pub fn give_back(&mut self, bytes: usize) {
        let less = beyond(self.held) - beyond(self.held - bytes);
        self.held -= bytes;
        self.shared.free.fetch_add(less, Ordering::Relaxed);
    }

    pub fn give_all_back(&mut self) {
        self.give_back(self.held);
    }
}

/// What comes out of the pool when a connection holds so much.
fn beyond(held: usize) -> usize {
    held.saturating_sub(OWN_BYTES)
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_all_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_has_a_little_of_its_own_and_what_goes_beyond_is_shared() {
        let pool = Arc::new(SharedMemory::new(100));
        let (mut one, mut other) = (Share::new(&pool), Share::new(&pool));
        assert!(one.take(OWN_BYTES) && one.take(90));
        assert!(!other.take(OWN_BYTES + 11), "the pool has ten left");
        assert!(other.take(OWN_BYTES), "what is its own is never refused");
        assert!(other.take(10) && !other.take(1));
        one.give_back(50);
        assert!(other.take(50));
        drop(other);
        drop(one);
        assert_eq!(pool.free.load(Ordering::Relaxed), 100);
    }
}
