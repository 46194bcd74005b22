//! What goes into a [`Relay`](super::Relay) and what comes out: inputs, effects, and its bounds.

use std::sync::Arc;

use super::wire::{Ask, Beat, Claim, Commit, Forward, Load, Message, Nonce, Receipt, Reply, Request, TailMessage};
use crate::model::id::EventId;

/// What time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the process started; never goes back.
    pub elapsed_ms: u64,
    /// Unix milliseconds by the wall clock, which may step.
    pub clock_ms: u64,
}

/// The bounds of a relay.
#[derive(Clone, Debug)]
pub struct RelayLimits {
    /// Events that may wait at a node for their answer, and at the writer for their commit; beyond it publishers are told
    /// to come back.
    pub queue_events: usize,
    /// Their bytes, likewise.
    pub queue_bytes: usize,
    /// Events of one commit, unless one request has more. Each may be a request of its own, and stands in the head of a message.
    pub batch_events: usize,
    /// Bytes of one commit.
    pub batch_bytes: usize,
    /// After this an answer that is not known is given as not known.
    pub answer_timeout_ms: u64,
    /// How often the writer beats.
    pub beat_ms: u64,
    /// A writer that was not heard for so long is replaced, by whoever has something to publish.
    pub silent_ms: u64,
    /// A forward that was not acknowledged for so long is sent again.
    pub forward_ms: u64,
    /// One that was queued and is not in the stream after this is asked for.
    pub ask_ms: u64,
    /// A commit or claim that was not answered for so long is repeated.
    pub commit_ms: u64,
    /// How long after a commit or claim that could not be made it is tried again.
    pub retry_ms: u64,
    /// The same where another conditional write was in the way (NATS error 10164).
    pub busy_ms: u64,
    /// A read of the missing part that was not answered for so long is asked for again.
    pub fetch_ms: u64,
    /// A beat that names a higher sequence than has come makes the node read the missing part after this.
    pub behind_ms: u64,
    /// The same where neither a message nor a beat came.
    pub quiet_ms: u64,
    /// A node whose clock is further than this from the stream's does not write.
    pub clock_off_ms: u64,
    /// A node that is further behind the end of the stream does not claim, in messages.
    pub behind_max: u64,
    /// Messages that are kept until the missing ones before them have come.
    pub ahead_max: usize,
    /// Messages that may be handed out and not be reported as applied.
    pub unapplied_max: usize,
    /// Lives of nodes whose nonces the writer knows.
    pub lives_max: usize,
    /// Nonces that it knows of one life.
    pub nonces_max: usize,
}

impl Default for RelayLimits {
    fn default() -> RelayLimits {
        RelayLimits {
            queue_events: 10_000,
            queue_bytes: 64 << 20,
            batch_events: 1_000,
            batch_bytes: 1 << 20,
            answer_timeout_ms: 15_000,
            beat_ms: 250,
            silent_ms: 1_500,
            forward_ms: 300,
            ask_ms: 1_000,
            commit_ms: 1_000,
            retry_ms: 100,
            busy_ms: 5,
            fetch_ms: 500,
            behind_ms: 100,
            quiet_ms: 1_000,
            clock_off_ms: 30_000,
            behind_max: 1_000,
            ahead_max: 4_096,
            unapplied_max: 4_096,
            lives_max: 1_024,
            nonces_max: 1 << 18,
        }
    }
}

/// What is known when a node starts, for [`Relay::open`](super::Relay::open).
#[derive(Clone, Debug)]
pub struct Opened {
    /// The name of this node, another one for each.
    pub node: Arc<str>,
    /// Any number drawn evenly, a new one for each start of the process.
    pub life: u64,
    /// The sequence of the last message that the copy holds; 0 when it is empty.
    pub applied: u64,
    /// The newest id that the copy has ever held: ids go on behind it.
    pub last_id: EventId,
    /// The newest term in the stream, whether the copy has it or not; none: there is none.
    pub term: Option<super::Term>,
}

/// Something that happened to a node.
#[derive(Clone, Debug)]
pub enum Input<D, R> {
    /// A publisher wants something to be stored. Gets exactly one [`Effect::Answer`] with this ticket.
    Publish { ticket: u64, load: Load, draft: D },
    /// A request of another node came for the writer.
    Forwarded(Forward<D>),
    /// The writer replied to a forward of this node.
    Replied(Reply),
    /// Another node asks what has become of its forward.
    Asked(Ask),
    /// The messaging system says that nobody listens where a forward or an ask was sent.
    NoResponders { term: u64, nonce: Nonce },
    /// A writer's beat. A node may hear its own.
    Beat(Beat),
    /// Messages came as they were appended. Duplicates, holes and any order are allowed.
    Live(Vec<TailMessage<R>>),
    /// The connection was lost and is there again: messages may be missing.
    Reconnected,
    /// The answer to [`Effect::Fetch`]: the messages of the stream from `from` on, in order, as many as is handy. `end`: the
    /// end of the stream as whoever answered knew it, found before the messages were read. A sequence that is left out
    /// before the last message, or up to `end` where there is no message, is taken for missing there.
    Fetched { from: u64, at_leader: bool, messages: Vec<TailMessage<R>>, end: u64 },
    /// [`Effect::Fetch`] could not be answered.
    FetchFailed { from: u64 },
    /// The copy holds everything up to and with this sequence.
    Applied { through: u64 },
    /// The answer to [`Effect::Plan`]. Each request of the plan stands in one message or is settled.
    Planned { number: u64, messages: Vec<Message<R>>, settled: Vec<(Nonce, Settled)> },
    /// The answer to one [`Effect::Commit`]. None may come, and it may come late.
    Committed { number: u64, answer: CommitAnswer },
    /// The answer to [`Effect::Claim`]. None may come, and it may come late.
    Claimed { number: u64, answer: ClaimAnswer },
    /// The time of [`Relay::wake_at_ms`](super::Relay::wake_at_ms) has come. May come at any time.
    Tick,
    /// No new requests. [`Effect::Stopped`] follows when every request has its answer.
    Stop,
}

/// What became of a request without a message of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// All of it is known by its keys: the ids of the first time. Not for what is known by a message of the same plan: such a
    /// request stands in that message as well, with the same ids.
    Known(Receipt),
    Refused(Refusal),
}

/// What the stream said to a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitAnswer {
    /// It landed; the sequence of its last message.
    Stored { last: u64 },
    /// A condition did not hold (NATS error 10071): it landed before, or the term is over.
    Conflict,
    /// Another conditional write is under way (10164).
    Busy,
    /// The stream is full (10077).
    Full,
    /// It was not stored and cannot be, whatever is tried: too large, not allowed.
    Refused,
    /// No leader, no quorum, too many batches, a time-out: it may have landed or not.
    Failed,
}

/// What the stream said to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimAnswer {
    /// It landed; its sequence, which is the number of the term.
    Stored { sequence: u64 },
    /// There is another term than the claim has named (10071). `last`: its number where the server says it; 0: there is
    /// none at all.
    Conflict { last: Option<u64> },
    /// As [`CommitAnswer::Failed`] and the others.
    Failed,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its events are in the log and in the copy of this node. `repeated`: they were before.
    Stored { receipt: Receipt, repeated: bool },
    /// Nothing was stored, nor will be.
    Refused(Refusal),
    /// It is not known in time. Its events may appear, once.
    Unknown,
}

/// Why nothing was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too much waits already, here or at the writer.
    QueueFull,
    /// The stream takes no more.
    StorageFull,
    /// The node stops.
    Stopping,
    /// What it belongs to was deleted.
    Gone,
    /// What it was computed on is not so any more.
    Conflict,
    /// It cannot be stored.
    Failed,
}

/// What is done for a relay, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect<D, R> {
    /// Tell the publisher.
    Answer { ticket: u64, outcome: Outcome },
    /// Send a request to the writer, the node `to`, and report it when nobody listens there.
    Forward { to: Arc<str>, forward: Forward<D> },
    /// Ask the writer, the node `to`, what has become of a forward that it has queued; report it when nobody listens.
    Ask { to: Arc<str>, ask: Ask },
    /// Send a reply to the node `to`.
    Reply { to: Arc<str>, reply: Reply },
    /// Send a beat to all nodes.
    Beat(Beat),
    /// Read the stream from this sequence on, as much as is handy, and answer with [`Input::Fetched`]. `at_leader`: ask the
    /// leader of the stream, whose word is the last; otherwise any replica.
    Fetch { from: u64, at_leader: bool },
    /// Append it to the copy, behind what was handed out before, show it, and answer with [`Input::Applied`].
    Apply(TailMessage<R>),
    /// Sequences from `from` up to and with `through` are not in the stream any more. Retention took them, or
    /// damage. Counts as applied with what follows, and when [`Input::Applied`] says so.
    Lost { from: u64, through: u64 },
    /// Turn requests into messages, by a copy that holds everything up to the sequence before `sequence`; answer with
    /// [`Input::Planned`]. The n-th message (from 0) gets the sequence `sequence + n`; ids in it are
    /// [`event_id`](super::event_id) of `ms`, that sequence and the place. `term` goes into each.
    Plan { number: u64, term: u64, sequence: u64, ms: u64, requests: Vec<Request<D>> },
    /// Append messages to the stream under conditions; answer with [`Input::Committed`].
    Commit(Commit<R>),
    /// Append a message to the term's subject on the condition that the last one there has the sequence `previous` (0:
    /// there is none); answer with [`Input::Claimed`].
    Claim { previous: u64, claim: Claim },
    /// The stream ends before what it has acknowledged: it has lost something. The node must not go on.
    WentBack { expected: u64, found: u64 },
    /// Every request has its answer, and no more will be taken.
    Stopped,
}

/// What a relay shows: for tests, metrics and the dashboard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The number of the newest term that is known; 0: none.
    pub term: u64,
    /// Who writes by that term.
    pub writer: Option<Arc<str>>,
    /// Whether it is this node.
    pub is_writer: bool,
    /// Whether the copy has been complete since the start.
    pub complete: bool,
    /// Whether the clock is too far from the stream's.
    pub clock_off: bool,
    pub applied: u64,
    /// The highest sequence that was heard of.
    pub heard: u64,
    /// Requests of this node without an answer.
    pub pending: usize,
    /// What waits in the writer's queue, the commit under way included.
    pub queued: Load,
    pub counts: Counts,
}

/// Since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Terms that came with another writer than before.
    pub changes: u64,
    pub commits: u64,
    /// Forwards sent again because no acknowledgement came.
    pub forwarded_again: u64,
    /// Requests sent to a new writer.
    pub resent: u64,
    /// Commits whose condition did not hold.
    pub conflicts: u64,
    /// Parts of the stream that were read because they had not come.
    pub fetches: u64,
    /// Times at which the node found that it had been away.
    pub away: u64,
}
