//! The channel actor: one per map that somebody listens to. It owns the list of the shards that have readers of the
//! channel, and the replay buffer from which a shard that joins is filled.
//!
//! The journal sends it every committed batch ([`Committed`]), once; it sends the batch once to each shard, not to each
//! reader. Its mailbox holds [`MAILBOX`] batches. When it is full the batch is not lost, it is in the log: the gap shows in
//! `previous` of the next message, rings start anew and readers fetch the rest from the log.
//!
//! Nothing is lost when it dies: the registry starts it again and the shards join again.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message, dev::SendError};

use crate::feed::Committed;
use crate::feed::frame::Frame;
use crate::model::event::ChannelNo;
use crate::model::id::EventId;
use crate::store::Log;
use crate::streams::registry::{ChannelEnded, Registry};
use crate::streams::ring::{Ring, RingLimits};
use crate::streams::shard::{Arrived, Shard};

/// Batches that may wait for the actor. A batch is up to a whole commit, shared by reference, so this is memory for
/// pointers and a burst of a quarter of a second at the rate the disk can take.
pub const MAILBOX: usize = 1024;

/// A shard whose mailbox was full is told again after this long.
const RETRY: Duration = Duration::from_millis(5);

/// A shard has a first reader of the channel. Sent by the shard; the answer fills its ring.
#[derive(Debug, Message)]
#[rtype(result = "Snapshot")]
pub struct Join {
    pub shard: Addr<Shard>,
}

/// What a joining shard starts from: everything after the floor and up to the head is among the frames.
#[derive(Debug)]
pub struct Snapshot {
    pub floor: EventId,
    pub frames: Vec<Arc<Frame>>,
}

/// A shard has no reader of the channel any more. Sent by the shard.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Leave {
    pub shard: Addr<Shard>,
}

struct Member {
    shard: Addr<Shard>,
    /// Its mailbox was full: it is owed a message.
    behind: bool,
}

pub struct ChannelActor {
    no: ChannelNo,
    ring: Ring,
    members: Vec<Member>,
    log: Arc<Log>,
    registry: Addr<Registry>,
    addr: Option<Addr<ChannelActor>>,
    idle_after: Duration,
    /// Counts joins, so that a stop that was planned before a join does not happen.
    joins: u64,
}

impl ChannelActor {
    pub fn new(
        no: ChannelNo,
        log: Arc<Log>,
        registry: Addr<Registry>,
        limits: RingLimits,
        idle_after: Duration,
    ) -> Self {
        let ring = Ring::new(EventId::ZERO, limits);
        ChannelActor { no, ring, members: Vec::new(), log, registry, addr: None, idle_after, joins: 0 }
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
            // a shard that died joins again when it has been rebuilt
            Err(SendError::Closed(_)) => false,
        });
        if behind {
            ctx.run_later(RETRY, |channel, ctx| {
                if channel.members.iter().any(|member| member.behind) {
                    let here = Arrived { no: channel.no, frames: Arc::new([]), previous: channel.ring.head() };
                    channel.send(&here, ctx);
                }
            });
        }
    }

    fn stop_when_idle(&self, ctx: &mut Context<Self>) {
        let joins = self.joins;
        ctx.run_later(self.idle_after, move |channel, ctx| {
            if channel.members.is_empty() && channel.joins == joins {
                ctx.stop();
            }
        });
    }
}

impl Actor for ChannelActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.addr = Some(ctx.address());
        // The route to this actor was open before it started: whatever is committed after this reading comes as a message.
        self.ring = Ring::new(self.log.head(), self.ring.limits());
        self.stop_when_idle(ctx);
    }
}

impl Drop for ChannelActor {
    fn drop(&mut self) {
        if let Some(addr) = self.addr.take() {
            // also after a panic; when the registry has gone the server is stopping
            self.registry.do_send(ChannelEnded { no: self.no, addr, had_members: !self.members.is_empty() });
        }
    }
}

impl Handler<Committed> for ChannelActor {
    type Result = ();

    fn handle(&mut self, msg: Committed, ctx: &mut Self::Context) {
        self.ring.extend(&msg.frames, msg.previous);
        let arrived = Arrived { no: self.no, frames: msg.frames, previous: msg.previous };
        self.send(&arrived, ctx);
    }
}

impl Handler<Join> for ChannelActor {
    type Result = actix::MessageResult<Join>;

    fn handle(&mut self, msg: Join, _: &mut Self::Context) -> Self::Result {
        self.joins += 1;
        self.members.retain(|member| member.shard != msg.shard);
        self.members.push(Member { shard: msg.shard, behind: false });
        actix::MessageResult(Snapshot { floor: self.ring.floor(), frames: self.ring.frames() })
    }
}

impl Handler<Leave> for ChannelActor {
    type Result = ();

    fn handle(&mut self, msg: Leave, ctx: &mut Self::Context) {
        self.members.retain(|member| member.shard != msg.shard);
        if self.members.is_empty() {
            self.stop_when_idle(ctx);
        }
    }
}
