//! The shard: one per HTTP worker thread. It owns the locals of its thread: for each channel that somebody on this thread
//! reads, a ring of the latest frames and the sessions of the sessions that read it. A channel sends a batch here once; the
//! shard puts it into the ring and wakes its own sessions, without a lock and without a queue per session.
//!
//! Once a second it looks at every session for what time brings: heartbeats, stalled readers, revoked or expired tokens.
//!
//! Its mailbox holds [`MAILBOX`] batches; a full one costs readers a detour over the log and nothing else. When it dies
//! it is started anew on the same locals, which then join their channels again.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, WrapFuture};

use crate::clock;
use crate::engine::Engine;
use crate::feed::frame::Frame;
use crate::model::event::ChannelNo;
use crate::model::id::EventId;
use crate::streams::registry::{JoinChannel, LeaveChannel, ShardStarted};
use crate::streams::{End, LocalChannel, SessionHandle};

/// Batches of all channels that may wait for the shard.
pub const MAILBOX: usize = 4096;

const TICK: Duration = Duration::from_secs(1);

/// A committed batch of a channel. Sent by the channel; without frames it only says where the channel is.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Arrived {
    pub no: ChannelNo,
    pub frames: Arc<[Arc<Frame>]>,
    pub previous: EventId,
}

/// The channel's actor died and was started again. Sent by the registry.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Rejoin {
    pub no: ChannelNo,
}

/// The channel was deleted. Sent by the hub.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct CloseStreams {
    pub no: ChannelNo,
}

/// All sessions are to end, because the server stops. Sent by the hub; answered when every session was told.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct CloseAll;

/// Somebody wants to know how many sessions an event of this channel was handed to. Sent by the hub; answered when this
/// thread's sessions are counted.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Settle {
    pub no: ChannelNo,
}

thread_local! {
    static HERE: RefCell<Option<Rc<ShardCore>>> = const { RefCell::new(None) };
}

/// What the sessions of one thread share. Lives as long as the thread.
pub struct ShardCore {
    pub engine: Arc<Engine>,
    locals: RefCell<HashMap<ChannelNo, Rc<LocalChannel>>>,
    addr: RefCell<Option<Addr<Shard>>>,
    stopping: Cell<bool>,
}

impl ShardCore {
    /// The core of this thread; the first call starts the shard. To be called on an arbiter's thread.
    pub fn here(engine: &Arc<Engine>) -> Rc<ShardCore> {
        HERE.with_borrow_mut(|here| {
            here.get_or_insert_with(|| {
                let core = Rc::new(ShardCore {
                    engine: engine.clone(),
                    locals: RefCell::default(),
                    addr: RefCell::new(None),
                    stopping: Cell::new(false),
                });
                Shard::start_on(core.clone());
                core
            })
            .clone()
        })
    }

    /// The local of a channel, filled and kept up to date from now on; none while the channel's actor cannot be reached.
    pub async fn local(self: &Rc<Self>, no: ChannelNo) -> Option<Rc<LocalChannel>> {
        let existing = self.locals.borrow().get(&no).cloned();
        let local = match existing {
            Some(local) => local,
            None => {
                let local = Rc::new(LocalChannel::new(no, self.engine.clone()));
                self.locals.borrow_mut().entry(no).or_insert(local).clone()
            }
        };
        if !local.joined() && !self.join(&local).await {
            return None;
        }
        Some(local)
    }

    /// Joins the channel; the local starts from what the channel's replay buffer holds.
    async fn join(&self, local: &LocalChannel) -> bool {
        // an actor may end between being found and being asked, so the registry gets a second chance to start one
        for _ in 0..2 {
            let Some(shard) = self.addr.borrow().clone() else { return false };
            let asked = self.engine.registry.send(JoinChannel { no: local.no, shard }).await;
            if let Ok(Some(snapshot)) = asked {
                local.fill(snapshot);
                return true;
            }
        }
        false
    }

    pub fn stopping(&self) -> bool {
        self.stopping.get()
    }
}

pub struct Shard {
    core: Rc<ShardCore>,
}

impl Shard {
    fn start_on(core: Rc<ShardCore>) {
        let addr = Shard { core: core.clone() }.start();
        *core.addr.borrow_mut() = Some(addr);
    }

    /// Rooms without sessions are left, so that the channel does not send here for nobody.
    fn leave_idle_locals(&self, me: &Addr<Shard>) {
        let idle_after = self.core.engine.limits.channel_idle;
        self.core.locals.borrow_mut().retain(|no, local| {
            let keep = !local.idle_for(idle_after);
            if !keep {
                // without a registry the server is stopping
                self.core.engine.registry.do_send(LeaveChannel { no: *no, shard: me.clone() });
            }
            keep
        });
    }

    fn each_session(&self, mut visit: impl FnMut(&SessionHandle)) {
        let locals: Vec<_> = self.core.locals.borrow().values().cloned().collect();
        for local in locals {
            local.each_session(&mut visit);
        }
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        let (now, now_ms) = (Instant::now(), clock::now_ms());
        let engine = self.core.engine.clone();
        let revoked = engine.catalog.revocations();
        self.each_session(|session| session.tick(&engine, now, now_ms, revoked));
        self.leave_idle_locals(&ctx.address());
    }
}

impl Actor for Shard {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.run_interval(TICK, |shard, ctx| shard.tick(ctx));
        self.core.engine.registry.do_send(ShardStarted { shard: ctx.address() });
        let locals: Vec<_> = self.core.locals.borrow().keys().copied().collect();
        for no in locals {
            ctx.notify(Rejoin { no });
        }
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        // a panic in a handler ends the actor, not the thread
        if std::thread::panicking() {
            log::error!("a shard died; it is started again");
            Shard::start_on(self.core.clone());
        }
    }
}

impl Handler<Arrived> for Shard {
    type Result = ();

    fn handle(&mut self, msg: Arrived, ctx: &mut Self::Context) {
        let local = self.core.locals.borrow().get(&msg.no).cloned();
        let Some(local) = local else { return };
        match local.arrived(&msg.frames, msg.previous) {
            None => {}
            // less than the clock of timers can tell
            Some(wait) if wait < Duration::from_millis(1) => local.wake(),
            Some(wait) => {
                ctx.run_later(wait, move |_, _| local.wake());
            }
        }
    }
}

impl Handler<Rejoin> for Shard {
    type Result = ();

    fn handle(&mut self, msg: Rejoin, ctx: &mut Self::Context) {
        let local = self.core.locals.borrow().get(&msg.no).cloned();
        if let Some(local) = local {
            let core = self.core.clone();
            let joining = async move { core.join(&local).await }.into_actor(self);
            ctx.spawn(joining.map(move |joined, _, ctx| {
                if !joined {
                    // without the channel the readers would go on only from keepalives: try again
                    ctx.run_later(TICK, move |_, ctx| ctx.notify(Rejoin { no: msg.no }));
                }
            }));
        }
    }
}

impl Handler<CloseStreams> for Shard {
    type Result = ();

    fn handle(&mut self, msg: CloseStreams, _: &mut Self::Context) {
        let find = |no| self.core.locals.borrow().get(&no).cloned();
        if let Some(local) = find(msg.no) {
            local.each_session(&mut |session: &SessionHandle| session.end(End::Deleted));
        }
        if let Some(all) = find(ChannelNo::ALL) {
            all.channel_deleted();
        }
    }
}

impl Handler<Settle> for Shard {
    type Result = ();

    fn handle(&mut self, msg: Settle, _: &mut Self::Context) {
        let locals = self.core.locals.borrow();
        // an event of a channel is read in the local of all channels, too
        [msg.no, ChannelNo::ALL].iter().filter_map(|no| locals.get(no)).for_each(|local| local.settle());
    }
}

impl Handler<CloseAll> for Shard {
    type Result = ();

    fn handle(&mut self, _: CloseAll, _: &mut Self::Context) {
        self.core.stopping.set(true);
        self.each_session(|session| session.end(End::Shutdown));
    }
}
