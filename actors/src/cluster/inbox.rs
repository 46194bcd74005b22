//! What waits for the worker beside the journal's queue. Messages of the tail and forwards wait up to a bound each; beyond it they are
//! dropped: the tail is read from the stream, and forwards come again.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use super::entry::Part;
use super::request::Packed;
use super::snapshot::Done;
use super::wire;
use crate::journal::Waker;
use crate::model::relay::{Body, Input, TailMessage};

/// Inputs of the worker.
pub type RelayInput = Input<Packed, Part>;

/// What waits for the worker of the tail, at most.
const TAIL_BYTES: usize = 32 << 20;
/// What waits for it of the requests of other nodes, at most.
const FORWARDED_BYTES: usize = 64 << 20;
/// What an input takes beside its bytes, about.
const INPUT_BYTES: usize = 256;

/// What an input takes up in the inbox.
fn weight_of(input: &RelayInput) -> usize {
    match input {
        Input::Live(messages) => messages.iter().map(weight).sum(),
        Input::Forwarded(forward) => INPUT_BYTES + forward.draft.0.len(),
        _ => 0,
    }
}

/// What a message of the tail takes up.
fn weight(message: &TailMessage<Part>) -> usize {
    match &message.body {
        Body::Term(_) => INPUT_BYTES,
        Body::Events(message) => INPUT_BYTES + message.content.bytes.len(),
    }
}

/// Something for the worker that did not come by the journal's queue.
#[derive(Debug)]
pub enum Inbound {
    Relay(RelayInput),
    /// A node is there, or leaves.
    Node(wire::NodeBeat),
    /// A node says how many streams it has open.
    Counts(wire::NodeCounts),
    /// What was done for a slot has ended.
    Released {
        slot: u8,
        claim: u64,
    },
    /// The newest snapshot after one was to be written; none: it was not.
    Snapshot(Option<Done>),
}

/// The worker's inbox, for whoever has something for it.
#[derive(Clone)]
pub struct Inbox {
    sender: mpsc::Sender<Inbound>,
    waker: Waker,
    /// Of the tail.
    tail_bytes: Arc<AtomicUsize>,
    forwarded_bytes: Arc<AtomicUsize>,
    /// By how much the clock of this machine is before that of the leader of the log.
    pub clock_off_ms: Arc<AtomicI64>,
}

impl Inbox {
    pub fn new(waker: Waker) -> (Inbox, mpsc::Receiver<Inbound>) {
        let (sender, receiver) = mpsc::channel();
        let (tail_bytes, forwarded_bytes) = Default::default();
        (Inbox { sender, waker, tail_bytes, forwarded_bytes, clock_off_ms: Arc::default() }, receiver)
    }

    pub fn put(&self, inbound: Inbound) {
        // a worker that has ended wants nothing
        let _ = self.sender.send(inbound);
        self.waker.wake();
    }

    /// The worker looks into it now.
    pub fn opened(&self) {
        self.waker.lower();
    }

    /// Puts what came of the tail or of other nodes, unless too much of it waits.
    pub fn put_bounded(&self, input: RelayInput) {
        let gauge = match &input {
            Input::Live(_) => Some((&self.tail_bytes, TAIL_BYTES)),
            Input::Forwarded(_) => Some((&self.forwarded_bytes, FORWARDED_BYTES)),
            _ => None,
        };
        if let Some((waiting, most)) = gauge {
            if waiting.load(Ordering::Relaxed) > most {
                log::debug!("the worker is behind with messages of NATS; one is dropped and comes again");
                return;
            }
            waiting.fetch_add(weight_of(&input), Ordering::Relaxed);
        }
        self.put(Inbound::Relay(input));
    }

    /// The worker has taken this out.
    pub fn taken(&self, input: &RelayInput) {
        let waiting = match input {
            Input::Live(_) => &self.tail_bytes,
            Input::Forwarded(_) => &self.forwarded_bytes,
            _ => return,
        };
        waiting.fetch_sub(weight_of(input), Ordering::Relaxed);
    }
}
