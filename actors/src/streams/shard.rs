//! The shard: one per HTTP worker thread. It owns the local channels of its thread: for each channel that somebody on this
//! thread reads, a ring of the latest frames and the sessions that read it. A channel sends a batch here once; the shard
//! puts it into the ring and wakes its own sessions, without a lock and without a queue per session.
//!
//! It looks at every session for what time brings: four times a second for heartbeats and for tokens that were revoked or have
//! expired, once a second for stalled readers and for channels that were deleted.
//!
//! Its mailbox holds [`MAILBOX`] batches; a full one costs readers a detour over the log and nothing else. It is supervised:
//! when it dies it is started again on the same local channels, which belong to the thread ([`ShardCore`]) and then join
//! their channels again.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, WrapFuture};

use crate::clock;
use crate::disk::Point;
use crate::feed::frame::Frame;
use crate::model::event::ChannelNo;
use crate::model::id::EventId;
use crate::model::selection::Selection;
use crate::streams::registry::{JoinChannel, LeaveChannel};
use crate::streams::selections::Selections;
use crate::streams::{LocalChannel, SessionEnd, SessionHandle, Streams};
use crate::supervision::ActorHandle;

/// Batches of all channels that may wait for the shard.
pub const MAILBOX: usize = 4096;

const TICK: Duration = Duration::from_secs(1);
/// How often it is looked whose token was revoked or has expired, so that their streams end within a second, the way to the client
/// included, and who is due a heartbeat.
const LOOK: Duration = Duration::from_millis(250);

// ---- messages ----------------------------------------------------------------------------------------------------

/// A committed batch of a channel. Sent by the channel; without frames it only says where the channel is.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Arrived {
    pub no: ChannelNo,
    pub frames: Arc<[Arc<Frame>]>,
    pub previous: EventId,
}

/// The channel's actor died. Sent by the registry.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Rejoin {
    pub no: ChannelNo,
}

/// The registry was started, and knows no channel actors. Sent by the registry.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct RejoinAll;

/// The channel was deleted. Sent by [`Streams::close_channel`].
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct CloseChannel {
    pub no: ChannelNo,
}

/// All sessions are to end, because the server does. Sent by [`Streams::close_all`]; answered when every session was told.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct CloseAll(pub SessionEnd);

/// Somebody wants to know how many sessions an event of this channel was handed to. Sent by [`Streams::settle`]; answered
/// when this thread's sessions are counted.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Settle {
    pub no: ChannelNo,
}

// ---- what belongs to the thread ----------------------------------------------------------------------------------

thread_local! {
    static HERE: RefCell<Option<Rc<ShardCore>>> = const { RefCell::new(None) };
}

/// What this thread had is gone, as with a process that has ended.
#[cfg(test)]
pub fn forget_here() {
    HERE.set(None);
}

/// What the sessions of one thread share. Lives as long as the thread.
pub(super) struct ShardCore {
    streams: Arc<Streams>,
    /// Ordered, so that a simulation repeats itself.
    channels: RefCell<BTreeMap<ChannelNo, Rc<LocalChannel>>>,
    selections: RefCell<Selections>,
    shard: OnceCell<ActorHandle<Shard>>,
}

impl ShardCore {
    /// The core of this thread; the first call starts the shard. To be called on an arbiter's thread.
    pub fn here(streams: &Arc<Streams>) -> Rc<ShardCore> {
        let known = HERE.with_borrow(|here| here.clone().filter(|core| Arc::ptr_eq(&core.streams, streams)));
        known.unwrap_or_else(|| {
            let core = Rc::new(ShardCore {
                streams: streams.clone(),
                channels: RefCell::default(),
                selections: RefCell::default(),
                shard: OnceCell::new(),
            });
            core.shard();
            HERE.set(Some(core.clone()));
            core
        })
    }

    /// The shard of this thread, started by the first call.
    fn shard(self: &Rc<Self>) -> &ActorHandle<Shard> {
        self.shard.get_or_init(|| {
            let core = self.clone();
            let make = move |_: &mut Context<Shard>| Shard { core: core.clone() };
            let shard = ActorHandle::start_here("shard", &self.streams.handles.faults, make);
            self.streams.shards.add(shard.clone());
            shard
        })
    }

    /// The local channel, filled and kept up to date from now on; none while the channel's actor cannot be reached.
    pub async fn channel(self: &Rc<Self>, selection: &Selection) -> Option<Rc<LocalChannel>> {
        let Selection::Several(set) = selection else { return self.joined(selection).await };
        let all = self.joined(&Selection::All).await?;
        Some(self.selections.borrow_mut().open(set, &all, &self.streams))
    }

    /// The local channel of one channel, or of all.
    async fn joined(self: &Rc<Self>, selection: &Selection) -> Option<Rc<LocalChannel>> {
        let no = selection.no();
        let existing = self.find(no);
        let channel = existing.unwrap_or_else(|| {
            let channel = Rc::new(LocalChannel::new(selection.clone(), self.streams.clone()));
            self.channels.borrow_mut().insert(no, channel.clone());
            channel
        });
        if !channel.is_joined() && !self.join(&channel).await {
            return None;
        }
        Some(channel)
    }

    fn find(&self, no: ChannelNo) -> Option<Rc<LocalChannel>> {
        self.channels.borrow().get(&no).cloned()
    }

    /// The local channels that are joined: of one channel each, and of all.
    fn all(&self) -> Vec<Rc<LocalChannel>> {
        self.channels.borrow().values().cloned().collect()
    }

    /// All that have sessions: those, and those of several channels.
    fn all_read(&self) -> Vec<Rc<LocalChannel>> {
        let mut all = self.all();
        all.extend(self.selections.borrow().all().cloned());
        all
    }

    /// Joins the channel; the local channel starts from what the channel's replay buffer holds.
    async fn join(self: &Rc<Self>, channel: &LocalChannel) -> bool {
        // an actor may end between being found and being asked, so the registry gets a second chance to start one
        for _ in 0..2 {
            let shard = self.shard().addr().recipient();
            match self.streams.registry.send_again(JoinChannel { no: channel.selection.no(), shard }).await {
                Ok(Some(snapshot)) => {
                    channel.fill(snapshot);
                    if channel.selection == Selection::All {
                        self.selections.borrow().refill(channel);
                    }
                    return true;
                }
                Ok(None) => {}
                // two registries died over it
                Err(_) => return false,
            }
        }
        false
    }

    fn each_session(&self, mut visit: impl FnMut(&SessionHandle)) {
        for channel in self.all_read() {
            channel.each_session(&mut visit);
        }
    }

    /// Leaves channels that nobody reads, so that they do not send here for nobody. While memory is short, at once.
    fn leave_idle_channels(&self, me: &Addr<Shard>) {
        let idle_after = match self.streams.handles.budget.is_under_pressure() {
            true => Duration::ZERO,
            false => self.streams.limits.channel_idle,
        };
        self.selections.borrow_mut().leave_idle(idle_after);
        self.channels.borrow_mut().retain(|no, channel| {
            // somebody else who holds it is about to add a session
            let keep = Rc::strong_count(channel) > 1 || !channel.is_idle_for(idle_after);
            if !keep {
                self.streams.registry.do_send(LeaveChannel { no: *no, shard: me.clone().recipient() });
            }
            keep
        });
    }
}

#[cfg(test)]
impl ShardCore {
    pub fn channels_here(&self) -> usize {
        self.all_read().len()
    }

    /// Forgets a channel as if it had been idle for long, without leaving it.
    pub fn forget_idle(&self, no: ChannelNo) {
        assert!(self.channels.borrow_mut().remove(&no).is_some_and(|channel| channel.is_idle_for(Duration::ZERO)));
    }
}

// ---- the actor ---------------------------------------------------------------------------------------------------

pub struct Shard {
    core: Rc<ShardCore>,
}

impl Shard {
    /// The local channels of this thread that have sessions.
    pub(super) fn all_read(&self) -> Vec<Rc<LocalChannel>> {
        self.core.all_read()
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        let streams = &self.core.streams;
        if let Some(end) = streams.stopping() {
            // a session that was placed after all were told
            self.core.each_session(|session| session.end(end));
        }
        let now = clock::instant();
        for channel in self.core.all_read() {
            channel.each_session(&mut |session: &SessionHandle| session.tick(streams, now));
            if !streams.handles.view.has_any(&channel.selection) {
                // the message of the deletion may have been lost with a shard that died
                channel.each_session(&mut |session: &SessionHandle| session.end(SessionEnd::Deleted));
            }
            channel.free_memory();
        }
        self.core.leave_idle_channels(&ctx.address());
    }

    fn look(&self) {
        let streams = &self.core.streams;
        let (now, now_ms) = (clock::instant(), clock::now_ms());
        let revocations = streams.handles.view.revocations();
        self.core.each_session(|session| session.look(streams, now, now_ms, revocations));
    }

    /// Wakes the sessions of a channel after so long; none when that is planned already.
    fn wake_after(channel: Rc<LocalChannel>, wait: Option<Duration>, ctx: &mut Context<Self>) {
        match wait {
            None => {}
            // less than the clock of timers can tell
            Some(wait) if wait < Duration::from_millis(1) => channel.wake(),
            Some(wait) => {
                clock::later(ctx, wait, move |_, _| channel.wake());
            }
        }
    }
}

impl Actor for Shard {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        clock::rounds(ctx, TICK, Shard::tick);
        clock::rounds(ctx, LOOK, |shard, _| shard.look());
        // there are none but when a shard before this one died
        for channel in self.core.all_read() {
            // the timer of a round that was planned has died with that shard
            channel.wake();
        }
        ctx.notify(RejoinAll);
    }
}

impl Handler<Arrived> for Shard {
    type Result = ();

    fn handle(&mut self, msg: Arrived, ctx: &mut Self::Context) {
        if self.core.streams.handles.faults.check(Point::ShardBatch).is_err() {
            return;
        }
        let Some(channel) = self.core.find(msg.no) else { return };
        let has_missed = channel.has_missed(msg.previous);
        let wait = channel.arrived(&msg.frames, msg.previous);
        if channel.selection == Selection::All {
            let selections = self.core.selections.borrow();
            if has_missed {
                selections.refill(&channel);
            } else {
                for concerned in selections.hand_over(&msg.frames) {
                    let wait = concerned.take_batch();
                    Shard::wake_after(concerned, wait, ctx);
                }
            }
        }
        Shard::wake_after(channel, wait, ctx);
    }
}

impl Handler<Rejoin> for Shard {
    type Result = ();

    fn handle(&mut self, msg: Rejoin, ctx: &mut Self::Context) {
        let Some(channel) = self.core.find(msg.no) else { return };
        let core = self.core.clone();
        let joining = async move { core.join(&channel).await }.into_actor(self);
        ctx.spawn(joining.map(move |joined, _, ctx| {
            if !joined {
                // without the channel the readers would go on only from keepalives: try again
                clock::later(ctx, TICK, move |_, ctx| ctx.notify(Rejoin { no: msg.no }));
            }
        }));
    }
}

impl Handler<RejoinAll> for Shard {
    type Result = ();

    fn handle(&mut self, _: RejoinAll, ctx: &mut Self::Context) {
        for channel in self.core.all() {
            ctx.notify(Rejoin { no: channel.selection.no() });
        }
    }
}

impl Handler<CloseChannel> for Shard {
    type Result = ();

    fn handle(&mut self, msg: CloseChannel, _: &mut Self::Context) {
        if let Some(channel) = self.core.find(msg.no) {
            channel.each_session(&mut |session: &SessionHandle| session.end(SessionEnd::Deleted));
        }
        if let Some(all) = self.core.find(ChannelNo::ALL) {
            all.channel_deleted();
        }
        let view = &self.core.streams.handles.view;
        for channel in self.core.selections.borrow().with(msg.no) {
            channel.channel_deleted();
            if !view.has_any(&channel.selection) {
                channel.each_session(&mut |session: &SessionHandle| session.end(SessionEnd::Deleted));
            }
        }
    }
}

impl Handler<Settle> for Shard {
    type Result = ();

    fn handle(&mut self, msg: Settle, _: &mut Self::Context) {
        // an event of a channel is read in the local channels of several channels, too
        [msg.no, ChannelNo::ALL].iter().filter_map(|no| self.core.find(*no)).for_each(|channel| channel.settle());
        self.core.selections.borrow().with(msg.no).for_each(|channel| channel.settle());
    }
}

impl Handler<CloseAll> for Shard {
    type Result = ();

    fn handle(&mut self, msg: CloseAll, _: &mut Self::Context) {
        self.core.each_session(|session| session.end(msg.0));
    }
}
