//! Many nodes that write one log on NATS JetStream, as pure state machines.
//!
//! The stream is the truth: its order is the order of the log. One node at a time is the **writer**; the newest message
//! on the term's subject says which (a [`Term`]). Every other node forwards its requests to it. A [`Commit`] names
//! the head of the stream and the writer's term as conditions, which the server checks, so a writer whose term is over
//! cannot append however late it wakes. Every node follows the stream into a copy of its own and answers its
//! publishers when the copy has what they asked for.
//!
//! [`Relay`] is one node: it takes [`Input`]s and gives [`Effect`]s; whoever is around it performs them and decides
//! nothing. Time is an argument ([`Now`]). What a request asks for (`D`) and what a message of the stream holds beside its
//! requests (`R`) are opaque here.
//!
//! What makes a request appear once:
//! - A forward names the term that it is meant for, and is taken in that term only. Within a term the writer knows the nonces
//!   that it has taken.
//! - A newer term in the stream says that nothing of the older one can land any more. Only then is a request sent again
//!   in the newer term, and only if it is not in the stream up to there.
//! - A commit without an answer is repeated with the same conditions; it cannot land twice.

#[cfg(test)]
mod behaviour;
mod clock;
mod edge;
mod machine;
mod protocol;
mod rules;
#[cfg(test)]
mod simulation;
mod tail;
mod terms;
mod wire;
mod writer;

pub use machine::Relay;
pub use protocol::{
    ClaimAnswer, CommitAnswer, Counts, Effect, Input, Now, Observed, Opened, Outcome, Refusal, RelayLimits, Settled,
};
pub use wire::{
    Ask, Beat, Body, Claim, Commit, Forward, Load, Message, Nonce, Receipt, Reply, ReplyKind, Request, Run,
    TailMessage, Term, event_id, sequence_of,
};
