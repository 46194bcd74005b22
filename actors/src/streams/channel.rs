//! The channel actor: one per channel that somebody reads. It owns the list of the shards that have readers of the
//! channel, and the replay buffer from which a shard that joins is filled.
//!
//! The feed sends it every committed batch ([`Committed`]), once; it sends the batch once to each shard, not to each
//! reader. Its mailbox holds [`MAILBOX`] batches. When it is full the batch is not lost, it is in the log: the gap shows in
//! `previous` of the next message, rings start anew and readers fetch the rest from the log.
//!
//! Nothing is lost when it dies: it tells the registry, which has the shards join again and so starts the next one. It ends
//! by itself when nobody has read the channel for a while, and with the registry that started it.

use std::sync::Arc;
use std::time::Duration;

use actix::dev::SendError;
use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message, MessageResult, Recipient, SpawnHandle};

use crate::budget::Budget;
use crate::clock;
use crate::disk::{Faults, Point};
use crate::feed::Committed;
use crate::feed::frame::Frame;
use crate::model::event::ChannelNo;
use crate::model::id::EventId;
use crate::streams::View;
use crate::streams::limits::RingLimits;
use crate::streams::ring::Ring;
use crate::streams::shard::Arrived;

/// Batches that may wait for the actor. A batch is up to a whole commit, shared by reference, so this is memory for
/// pointers and a burst of a quarter of a second at the rate the disk can take.
pub const MAILBOX: usize = 1024;

/// A shard whose mailbox was full is told again after this long.
const RETRY: Duration = Duration::from_millis(5);

// ---- messages ----------------------------------------------------------------------------------------------------

/// A shard has a first reader of the channel. Sent by the registry; the answer fills the shard's ring.
#[derive(Debug, Message)]
#[rtype(result = "Snapshot")]
pub struct Join {
    pub shard: Recipient<Arrived>,
}

/// What a joining shard starts from: everything after the floor and up to the head is among the frames.
#[derive(Debug)]
pub struct Snapshot {
    pub floor: EventId,
    pub frames: Vec<Arc<Frame>>,
}

/// A shard has no reader of the channel any more. Sent by the registry.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Leave {
    pub shard: Recipient<Arrived>,
}

/// The memory budget is nearly used up. Sent by the registry while that lasts.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct FreeMemory;

/// The registry that started the actor has ended.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct End;

/// A channel actor has ended, in order or by a panic. Sent by its destructor to the registry that started it.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ChannelEnded {
    pub no: ChannelNo,
    /// Which of the registry's actors it was.
    pub start: u64,
    /// There were shards that have to join again.
    pub had_readers: bool,
}

// ---- the actor ---------------------------------------------------------------------------------------------------

/// What a channel actor is started with.
pub(super) struct ChannelSetup {
    pub no: ChannelNo,
    /// Numbers the actors that the registry has started.
    pub start: u64,
    pub view: View,
    pub limits: RingLimits,
    pub idle_after: Duration,
    pub budget: Arc<Budget>,
    pub faults: Faults,
    /// The registry.
    pub ended: Recipient<ChannelEnded>,
}

pub struct ChannelActor {
    setup: ChannelSetup,
    ring: Ring,
    members: Vec<Member>,
    /// Runs while there are no members, and then ends the actor.
    idle_timer: Option<SpawnHandle>,
}

/// A shard that has readers of the channel.
struct Member {
    shard: Recipient<Arrived>,
    /// Its mailbox was full: it is owed a message.
    behind: bool,
}

impl ChannelActor {
    pub(super) fn new(setup: ChannelSetup) -> Self {
        let ring = Ring::new(EventId::ZERO, setup.limits, &setup.budget);
        ChannelActor { setup, ring, members: Vec::new(), idle_timer: None }
    }

    fn send(&mut self, arrived: &Arrived, ctx: &mut Context<Self>) {
        let mut behind = false;
        self.members.retain_mut(|member| match member.shard.try_send(arrived.clone()) {
            Ok(()) => {
                member.behind = false;
                true
            }
            Err(SendError::Full(_)) => {
                member.behind = true;
                behind = true;
                true
            }
            // a shard that died joins again when it has been started again
            Err(SendError::Closed(_)) => false,
        });
        if behind {
            clock::later(ctx, RETRY, |channel: &mut ChannelActor, ctx| {
                if channel.members.iter().any(|member| member.behind) {
                    let here = Arrived { no: channel.setup.no, frames: Arc::new([]), previous: channel.ring.head() };
                    channel.send(&here, ctx);
                }
            });
        }
        self.stop_when_idle(ctx);
    }

    /// Plans the actor's end if there is nobody to send to.
    fn stop_when_idle(&mut self, ctx: &mut Context<Self>) {
        if self.members.is_empty() && self.idle_timer.is_none() {
            self.idle_timer = Some(clock::later(ctx, self.setup.idle_after, |_, ctx| ctx.stop()));
        }
    }

    fn free_memory(&mut self) {
        if self.ring.shrink_under_pressure() && self.members.is_empty() {
            self.ring.clear();
        }
    }
}

impl Actor for ChannelActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        // The feed knew this actor before it started: whatever is committed after this reading comes as a message.
        self.ring = Ring::new(self.setup.view.head(), self.setup.limits, &self.setup.budget);
        self.stop_when_idle(ctx);
    }
}

impl Drop for ChannelActor {
    fn drop(&mut self) {
        let ChannelSetup { no, start, ended, .. } = &self.setup;
        // also after a panic; when the registry has ended, the next one knows nothing of this actor
        ended.do_send(ChannelEnded { no: *no, start: *start, had_readers: !self.members.is_empty() });
    }
}

impl Handler<Committed> for ChannelActor {
    type Result = ();

    fn handle(&mut self, msg: Committed, ctx: &mut Self::Context) {
        if self.setup.faults.check(Point::ChannelBatch).is_err() {
            return;
        }
        self.ring.extend(&msg.frames, msg.previous);
        let arrived = Arrived { no: self.setup.no, frames: msg.frames, previous: msg.previous };
        self.send(&arrived, ctx);
        if self.members.is_empty() {
            self.free_memory();
        }
    }
}

impl Handler<Join> for ChannelActor {
    type Result = MessageResult<Join>;

    fn handle(&mut self, msg: Join, ctx: &mut Self::Context) -> Self::Result {
        if let Some(timer) = self.idle_timer.take() {
            ctx.cancel_future(timer);
        }
        self.members.retain(|member| member.shard != msg.shard);
        self.members.push(Member { shard: msg.shard, behind: false });
        MessageResult(Snapshot { floor: self.ring.floor(), frames: self.ring.frames() })
    }
}

impl Handler<Leave> for ChannelActor {
    type Result = ();

    fn handle(&mut self, msg: Leave, ctx: &mut Self::Context) {
        self.members.retain(|member| member.shard != msg.shard);
        self.stop_when_idle(ctx);
    }
}

impl Handler<FreeMemory> for ChannelActor {
    type Result = ();

    fn handle(&mut self, _: FreeMemory, _: &mut Self::Context) {
        self.free_memory();
    }
}

impl Handler<End> for ChannelActor {
    type Result = ();

    fn handle(&mut self, _: End, ctx: &mut Self::Context) {
        // they join again by themselves
        self.members.clear();
        ctx.stop();
    }
}
