//! What nodes say to each other and to the stream: forwards and their replies, beats, claims, commits, messages.

use std::sync::Arc;

use crate::model::id::EventId;

/// Names a request, once and for all: the life of the node that got it, and a number that counts up within that life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce {
    /// Drawn by chance when the process starts.
    pub life: u64,
    pub number: u64,
}

/// How much room a request takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    pub events: usize,
    pub bytes: usize,
}

/// Ids that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub first: EventId,
    pub count: u32,
}

/// The ids of a request's events, in the order of its drafts.
pub type Receipt = Vec<Run>;

/// The id of an event: milliseconds (48 bits), the sequence of its message in the stream (64), its place in it (16). Such
/// ids grow over messages of a stream as long as the milliseconds do not fall.
pub fn event_id(ms: u64, sequence: u64, place: u16) -> EventId {
    let id = u128::from(ms) << 80 | u128::from(sequence) << 16 | u128::from(place);
    EventId::from_bytes(id.to_be_bytes())
}

/// The sequence in an id that [`event_id`] has made. Imported ids hold none: there it is any number.
pub fn sequence_of(id: EventId) -> u64 {
    (u128::from_be_bytes(id.to_bytes()) >> 16) as u64
}

/// Who writes: a message on the term's subject that has got its place in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// Its sequence in the stream. A later term has a higher number.
    pub number: u64,
    pub claim: Claim,
}

/// The wish to be the writer: the content of a message on the term's subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The name of the node, which is where forwards go.
    pub node: Arc<str>,
    /// A node that was started again is not the writer of its former life.
    pub life: u64,
    /// Counts the claims of a life.
    pub number: u64,
}

/// A request as the writer gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward<D> {
    /// The term that it is meant for. It is taken in no other.
    pub term: u64,
    /// The life whose term that is.
    pub writer: u64,
    pub nonce: Nonce,
    /// Every request of that life with a lower number has its answer: the writer may forget their nonces, and takes
    /// them no more.
    pub settled_below: u64,
    /// The name of the node that got the request, which is where replies go.
    pub from: Arc<str>,
    /// What is left of the time in which it wants to be stored.
    pub left_ms: u64,
    pub load: Load,
    pub draft: D,
}

/// A question about a forward that was queued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// As in the forward.
    pub term: u64,
    pub writer: u64,
    pub nonce: Nonce,
    pub from: Arc<str>,
}

/// What the writer says about a forward, to the node that sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// As in the forward.
    pub term: u64,
    pub nonce: Nonce,
    pub kind: ReplyKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyKind {
    /// It is queued. What becomes of it is seen in the stream.
    Queued,
    /// Nothing was stored because everything in it is known: the receipt of the first time. `through`: the end of the stream
    /// when that was found; these events are before it.
    Known { receipt: Receipt, through: u64 },
    /// Nothing was stored, nor will be.
    Refused(super::Refusal),
    /// The node is not the writer of this term, or stops. `newest`: the newest term that it knows.
    NotWriter { newest: u64 },
}

/// Said by the writer to all nodes, several times a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    pub node: Arc<str>,
    pub term: u64,
    /// The end of the stream, as far as the writer has seen it.
    pub head: u64,
}

/// One message of the stream that holds an entry of a commit, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<R> {
    /// The term in which it was committed.
    pub term: u64,
    /// The requests that are answered by it. One that is cut over several messages stands in the last of them.
    pub requests: Vec<(Nonce, Receipt)>,
    /// The last id in the entry; zero where it has none.
    pub last_id: EventId,
    /// The part of the entry.
    pub content: R,
}

/// Messages that are appended together or not at all.
#[derive(Debug, PartialEq, Eq)]
pub struct Commit<R> {
    /// Names it in [`super::Input::Committed`].
    pub number: u64,
    /// Condition: the last message on the term's subject has this sequence
    /// (`Nats-Expected-Last-Subject-Sequence`).
    pub term: u64,
    /// Condition: the last message of the stream has this sequence (`Nats-Expected-Last-Sequence`).
    pub head: u64,
    /// The first gets the sequence after `head`.
    pub messages: Arc<[Arc<Message<R>>]>,
}

/// Shares the messages.
impl<R> Clone for Commit<R> {
    fn clone(&self) -> Commit<R> {
        Commit { number: self.number, term: self.term, head: self.head, messages: Arc::clone(&self.messages) }
    }
}

/// A message as it was read from the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailMessage<R> {
    pub sequence: u64,
    /// The server's clock when it was stored (`Nats-Time-Stamp`), in Unix milliseconds.
    pub time_ms: u64,
    pub body: Body<R>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<R> {
    Term(Claim),
    Events(Arc<Message<R>>),
}

/// A request in the writer's queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<D> {
    pub nonce: Nonce,
    pub load: Load,
    pub draft: D,
}
