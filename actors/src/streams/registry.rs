//! The registry: starts the actor of a channel when a first shard wants it, and has the shards join again when it died with
//! readers. It owns the addresses of the channel actors and nothing else.
//!
//! Its mailbox is actix's default: a message comes per shard and channel that is joined or left, not per event.
//!
//! It is supervised. When it dies its channel actors end with it, because nobody could find them any more; the next one
//! begins with none and asks all shards to join their channels again. Readers notice a detour over the log at most.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, Recipient, ResponseFuture};

use crate::clock;
use crate::disk::Point;
use crate::metrics::Shed;
use crate::model::event::ChannelNo;
use crate::streams::Handles;
use crate::streams::channel::{ChannelActor, ChannelEnded, ChannelSetup, End, FreeMemory, Join, Leave, Snapshot};
use crate::streams::limits::RingLimits;
use crate::streams::shard::{Arrived, Rejoin, RejoinAll};
use crate::streams::shards::Shards;

/// How often the memory budget is looked at, for channels in which nothing is published.
const BUDGET_EVERY: Duration = Duration::from_secs(1);

// ---- messages ----------------------------------------------------------------------------------------------------

/// A shard wants to be told of a channel's events. The answer fills its ring; none when the channel's actor died at once.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Option<Snapshot>")]
pub struct JoinChannel {
    pub no: ChannelNo,
    pub shard: Recipient<Arrived>,
}

/// A shard has no reader of the channel any more.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct LeaveChannel {
    pub no: ChannelNo,
    pub shard: Recipient<Arrived>,
}

// ---- the actor ---------------------------------------------------------------------------------------------------

pub struct Registry {
    handles: Handles,
    ring: RingLimits,
    idle_after: Duration,
    shards: Arc<Shards>,
    /// Ordered, so that a simulation repeats itself.
    running: BTreeMap<ChannelNo, Running>,
    /// Channel actors that were started.
    starts: u64,
}

struct Running {
    addr: Addr<ChannelActor>,
    start: u64,
}

impl Registry {
    pub(super) fn new(handles: Handles, ring: RingLimits, idle_after: Duration, shards: Arc<Shards>) -> Registry {
        Registry { handles, ring, idle_after, shards, running: BTreeMap::new(), starts: 0 }
    }

    /// The channel's actor, started when there is none.
    fn channel(&mut self, no: ChannelNo, ctx: &mut Context<Self>) -> Addr<ChannelActor> {
        if let Some(running) = self.running.get(&no).filter(|running| running.addr.connected()) {
            return running.addr.clone();
        }
        self.starts += 1;
        let setup = ChannelSetup {
            no,
            start: self.starts,
            view: self.handles.view.clone(),
            limits: self.ring,
            idle_after: self.idle_after,
            budget: self.handles.budget.clone(),
            faults: self.handles.faults.clone(),
            ended: ctx.address().recipient(),
        };
        let addr = ChannelActor::create(|ctx| {
            // known to the feed before it reads where the log ends, so that no batch falls between the two
            self.handles.feed.open(no, ctx.address().recipient());
            ChannelActor::new(setup)
        });
        self.running.insert(no, Running { addr: addr.clone(), start: self.starts });
        addr
    }

    /// Rings shrink when a batch comes. In the others there may be most of the memory.
    fn free_memory(&self) {
        if self.handles.budget.is_under_pressure() && !self.running.is_empty() {
            self.handles.metrics.shed(Shed::Rings);
            for running in self.running.values() {
                // a full mailbox is one of batches, which shrink the ring as well
                let _ = running.addr.try_send(FreeMemory);
            }
        }
    }
}

impl Actor for Registry {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        clock::rounds(ctx, BUDGET_EVERY, |registry, _| registry.free_memory());
        // there are none when the server starts
        self.shards.tell(RejoinAll);
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        for (no, running) in &self.running {
            self.handles.feed.close(*no, &running.addr.clone().recipient());
            running.addr.do_send(End);
        }
    }
}

impl Handler<JoinChannel> for Registry {
    type Result = ResponseFuture<Option<Snapshot>>;

    fn handle(&mut self, msg: JoinChannel, ctx: &mut Self::Context) -> Self::Result {
        if self.handles.faults.check(Point::RegistryMessage).is_err() {
            return Box::pin(std::future::ready(None));
        }
        let channel = self.channel(msg.no, ctx);
        Box::pin(async move { channel.send(Join { shard: msg.shard }).await.ok() })
    }
}

impl Handler<LeaveChannel> for Registry {
    type Result = ();

    fn handle(&mut self, msg: LeaveChannel, _: &mut Self::Context) {
        if let Some(running) = self.running.get(&msg.no) {
            // when the channel has ended in the meantime there is nothing to leave
            running.addr.do_send(Leave { shard: msg.shard });
        }
    }
}

impl Handler<ChannelEnded> for Registry {
    type Result = ();

    fn handle(&mut self, msg: ChannelEnded, _: &mut Self::Context) {
        if let Some(running) = self.running.get(&msg.no).filter(|running| running.start == msg.start) {
            self.handles.feed.close(msg.no, &running.addr.clone().recipient());
            self.running.remove(&msg.no);
        }
        if msg.had_readers {
            log::error!(channel = msg.no.0; "a channel actor died; its readers join again");
            self.shards.tell(Rejoin { no: msg.no });
        }
    }
}
