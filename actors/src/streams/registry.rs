//! The registry: starts the actor of a channel when a first shard wants it, and again when it died with readers.
//!
//! It owns nothing else. Its mailbox is actix's default: a message comes per shard and channel that is joined or ends,
//! not per event. When it dies, the supervisor of the engine's thread restarts it; routes to running channels stay open.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, ResponseFuture, Supervised};

use crate::feed::Feed;
use crate::model::event::ChannelNo;
use crate::store::Log;
use crate::streams::channel::{ChannelActor, Join, Leave, Snapshot};
use crate::streams::ring::RingLimits;
use crate::streams::shard::{CloseAll, CloseStreams, Rejoin, Settle, Shard};

/// A shard wants to be told of a channel's events. The answer fills its ring; none when the channel's actor died at
/// once, or the server stops.
#[derive(Debug, Message)]
#[rtype(result = "Option<Snapshot>")]
pub struct JoinChannel {
    pub no: ChannelNo,
    pub shard: Addr<Shard>,
}

/// A shard has no reader of the channel any more.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct LeaveChannel {
    pub no: ChannelNo,
    pub shard: Addr<Shard>,
}

/// A channel actor has ended, in order or by a panic. Sent by its destructor.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ChannelEnded {
    pub no: ChannelNo,
    pub addr: Addr<ChannelActor>,
    pub had_members: bool,
}

/// A worker's shard runs. Sent when it starts, also when it starts again.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ShardStarted {
    pub shard: Addr<Shard>,
}

pub struct Registry {
    feed: Arc<Feed>,
    running: HashMap<ChannelNo, Addr<ChannelActor>>,
    log: Arc<Log>,
    ring: RingLimits,
    idle_after: Duration,
    shards: Vec<Addr<Shard>>,
    /// All sessions were told to end: no channel is joined any more.
    stopping: bool,
}

impl Registry {
    pub fn new(feed: Arc<Feed>, log: Arc<Log>, ring: RingLimits, idle_after: Duration) -> Registry {
        Registry { feed, running: HashMap::new(), log, ring, idle_after, shards: Vec::new(), stopping: false }
    }

    /// A shard must be known before its first session opens, or that session would not hear of a deletion or a stop.
    fn know(&mut self, shard: Addr<Shard>) {
        self.shards.retain(Addr::connected);
        if !self.shards.contains(&shard) {
            self.shards.push(shard);
        }
    }

    fn channel(&mut self, no: ChannelNo, me: Addr<Registry>) -> Addr<ChannelActor> {
        if let Some(running) = self.running.get(&no).filter(|addr| addr.connected()).cloned() {
            return running;
        }
        let (log, feed, ring, idle_after) = (self.log.clone(), self.feed.clone(), self.ring, self.idle_after);
        let addr = ChannelActor::create(|ctx| {
            // open before it reads where the log ends, so that no batch falls between the two
            feed.open(no, ctx.address().recipient());
            ChannelActor::new(no, log, me, ring, idle_after)
        });
        self.running.insert(no, addr.clone());
        addr
    }
}

impl Actor for Registry {
    type Context = Context<Self>;
}

impl Supervised for Registry {}

impl Handler<JoinChannel> for Registry {
    type Result = ResponseFuture<Option<Snapshot>>;

    fn handle(&mut self, msg: JoinChannel, ctx: &mut Self::Context) -> Self::Result {
        if self.stopping {
            return Box::pin(std::future::ready(None));
        }
        // a shard joins for its first session, which may be before the shard itself has begun to run
        self.know(msg.shard.clone());
        let channel = self.channel(msg.no, ctx.address());
        Box::pin(async move { channel.send(Join { shard: msg.shard }).await.ok() })
    }
}

impl Handler<LeaveChannel> for Registry {
    type Result = ();

    fn handle(&mut self, msg: LeaveChannel, _: &mut Self::Context) {
        if let Some(channel) = self.running.get(&msg.no) {
            // when the channel has ended in the meantime there is nothing to leave
            channel.do_send(Leave { shard: msg.shard });
        }
    }
}

impl Handler<ChannelEnded> for Registry {
    type Result = ();

    fn handle(&mut self, msg: ChannelEnded, _: &mut Self::Context) {
        self.feed.close(msg.no, &msg.addr.clone().recipient());
        if self.running.get(&msg.no) == Some(&msg.addr) {
            self.running.remove(&msg.no);
        }
        if msg.had_members {
            log::error!(channel = msg.no.0; "a channel actor died; its readers join again");
            for shard in &self.shards {
                // a shard that is gone has no readers
                shard.do_send(Rejoin { no: msg.no });
            }
        }
    }
}

impl Handler<ShardStarted> for Registry {
    type Result = ();

    fn handle(&mut self, msg: ShardStarted, _: &mut Self::Context) {
        self.know(msg.shard);
    }
}

impl Handler<CloseStreams> for Registry {
    type Result = ();

    fn handle(&mut self, msg: CloseStreams, _: &mut Self::Context) {
        for shard in &self.shards {
            // a deletion is rare, and a shard that is gone has no readers
            shard.do_send(CloseStreams { no: msg.no });
        }
    }
}

impl Handler<Settle> for Registry {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, msg: Settle, _: &mut Self::Context) -> Self::Result {
        let asked: Vec<_> = self.shards.iter().map(|shard| shard.send(msg)).collect();
        Box::pin(async move {
            // a shard that is gone has counted when its locals went
            futures_util::future::join_all(asked).await;
        })
    }
}

impl Handler<CloseAll> for Registry {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: CloseAll, _: &mut Self::Context) -> Self::Result {
        self.stopping = true;
        let told: Vec<_> = self.shards.iter().map(|shard| shard.send(CloseAll)).collect();
        Box::pin(async move {
            // a shard that is gone has no sessions to end
            futures_util::future::join_all(told).await;
        })
    }
}
