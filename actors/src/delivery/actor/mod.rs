//! The webhook actor: one per webhook, on a thread of those that deliver. It owns the state machine of the deliveries
//! ([`Endpoint`]) and performs what that asks for: reads pages of the log, posts, writes, wakes itself. It decides nothing.
//!
//! The feed raises its [`WakeSignal`] when the log has grown; what somebody wants comes as [`Ask`]. Its mailbox holds at
//! most one wake, one answer per attempt and read in flight, and rare requests, so it needs no bound of its own. When it
//! dies, by a panic, nothing is lost: it is started again from what was stored
//! ([`WebhookActors`](super::registry::WebhookActors)), and attempts in flight are made again.

mod effects;
mod saving;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message, MessageResult, ResponseFuture, SpawnHandle};
use tokio::sync::oneshot;

use crate::catalog::webhook::Ready;
use crate::clock;
pub use crate::delivery::attempt::Done;
use crate::delivery::delivery_log::LogWriter;
use crate::delivery::gauges::Gauges;
use crate::delivery::handles::Handles;
use crate::delivery::history::History;
use crate::delivery::http::client::DeliveryClient;
use crate::delivery::registry::ActorGuard;
use crate::delivery::unsaved::Unsaved;
use crate::delivery::{pages, storage};
use crate::disk::Point;
use crate::feed::frame::Frame;
use crate::feed::{Wake, WakeSignal};
use crate::journal::Fence;
use crate::model::delivery::{
    Attempt, DeliveryId, Effect, Endpoint, EndpointConfig, EndpointState, Input, Job, JobId, Observed, Refusal,
    ReplayRequest, Resume, Row,
};
use crate::model::id::EventId;

/// How often the delivery log is written and the metrics are brought up to date.
const ROUND: Duration = Duration::from_secs(1);
/// Events that were read and wait for their first attempt, by bytes; beyond it they are read again.
const FRAMES_BYTES: usize = 2 << 20;

/// What somebody wants. Answered when it is durable.
#[derive(Message)]
#[rtype(result = "Result<Option<JobId>, Refusal>")]
pub enum Ask {
    Configure { ready: Arc<Ready>, new_target: bool },
    Enable { ready: Arc<Ready>, resume: Resume, head: EventId },
    Resend { delivery: DeliveryId, events: Vec<EventId>, attempts: u32 },
    Replay(ReplayRequest),
}

impl Ask {
    /// Whether it begins something new, which is refused while nothing can be written.
    pub(super) fn is_new_work(&self) -> bool {
        matches!(self, Ask::Resend { .. } | Ask::Replay(_))
    }
}

/// Send a sample now. Answered with what came of it.
#[derive(Message)]
#[rtype(result = "Result<Done, Refusal>")]
pub struct Test {
    pub delivery: DeliveryId,
    pub frame: Arc<Frame>,
}

/// How the deliveries stand. `rows`: with those in trouble, which may be many.
#[derive(Debug, Message)]
#[rtype(result = "Option<Seen>")]
pub struct Observe {
    pub rows: bool,
}

/// The answer to [`Observe`]; none while the actor starts.
pub struct Seen {
    pub state: EndpointState,
    pub observed: Observed,
    pub rows: Vec<Row>,
    pub jobs: Vec<Job>,
}

/// Write the delivery log now, so that it can be read. Answered with how the deliveries stood when it was taken, with
/// those in trouble: what is shown of them is in the log, also when the server dies the moment after.
#[derive(Debug, Message)]
#[rtype(result = "Option<Seen>")]
pub struct FlushHistory;

/// The webhook is deleted: write nothing more. Answered when no write is under way.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Discard;

/// No new attempts; answered when those in flight have ended and everything is durable.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Shutdown;

/// An attempt has ended. Sent by its task.
#[derive(Message)]
#[rtype(result = "()")]
struct Finished {
    attempt: Attempt,
    done: Done,
}

/// A page was read. Sent by its task.
#[derive(Message)]
#[rtype(result = "()")]
struct Read {
    page: pages::Page,
}

/// What comes of an [`Ask`].
type Outcome = Result<Option<JobId>, Refusal>;
type Tested = Result<Done, Refusal>;

pub struct WebhookActor {
    handles: Arc<Handles>,
    ready: Arc<Ready>,
    client: Rc<DeliveryClient>,
    guard: ActorGuard,
    /// By which claim this node delivers for the webhook. All that this actor writes is written in its name, also when the
    /// node has lost the slot and won it again meanwhile: others may have written between the two.
    fence: Option<Fence>,
    signal: Option<Arc<WakeSignal>>,
    /// None until what was stored has been read.
    endpoint: Option<Endpoint>,
    history: History,
    /// Held while the delivery log is written.
    log_writer: Arc<tokio::sync::Mutex<LogWriter>>,
    gauges: Gauges,
    /// Events that were read and wait for their first attempt.
    frames: BTreeMap<EventId, Arc<Frame>>,
    frames_bytes: usize,
    /// What is to be written, and when a write that failed is tried again.
    unsaved: Unsaved,
    save_again: Option<SpawnHandle>,
    asked_seq: u64,
    saved_seq: u64,
    timer: Option<SpawnHandle>,
    /// Who waits for a number to be durable.
    waiting: Vec<(u64, Outcome, oneshot::Sender<Outcome>)>,
    testing: HashMap<DeliveryId, (Arc<Frame>, oneshot::Sender<Tested>)>,
    stopping: Vec<oneshot::Sender<()>>,
    discarded: Option<oneshot::Sender<()>>,
    is_discarded: bool,
}

impl WebhookActor {
    pub fn new(
        handles: Arc<Handles>,
        ready: Arc<Ready>,
        guard: ActorGuard,
        fence: Option<Fence>,
        client: Rc<DeliveryClient>,
    ) -> WebhookActor {
        let history = History::new(handles.settings.log_deliveries, now_ms(), handles.delivery_log.held.clone());
        WebhookActor {
            history,
            log_writer: Arc::new(LogWriter::new(ready.webhook.id.clone().into()).into()),
            gauges: Gauges::new(handles.metrics.clone(), &ready.webhook),
            handles,
            ready,
            client,
            guard,
            fence,
            signal: None,
            endpoint: None,
            frames: BTreeMap::new(),
            frames_bytes: 0,
            unsaved: Unsaved::default(),
            save_again: None,
            asked_seq: 0,
            saved_seq: 0,
            timer: None,
            waiting: Vec::new(),
            testing: HashMap::new(),
            stopping: Vec::new(),
            discarded: None,
            is_discarded: false,
        }
    }

    fn config(&self) -> EndpointConfig {
        self.handles.endpoint_config(&self.ready)
    }

    /// Tells the machine what happened and performs what it says.
    fn tell(&mut self, input: Input, ctx: &mut Context<Self>) {
        let effects = self.turn(input);
        self.perform(effects, None, ctx);
    }

    /// Tells the machine what somebody wants; answers with what it says to that, and with the number that has to be
    /// durable before the answer counts.
    fn ask(&mut self, input: Input, ctx: &mut Context<Self>) -> (Outcome, u64) {
        let effects = self.turn(input);
        let answer = effects.iter().find_map(|effect| match effect {
            Effect::JobStarted(job) => Some(Ok(Some(*job))),
            Effect::Refused(refusal) => Some(Err(*refusal)),
            _ => None,
        });
        self.perform(effects, None, ctx);
        (answer.unwrap_or(Ok(None)), self.asked_seq)
    }

    fn turn(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(endpoint) = &mut self.endpoint {
            endpoint.handle(now_ms(), random(), input, &mut effects);
        }
        effects
    }

    /// Performs effects in their order. `done`: the attempt that they are about, for the delivery log.
    fn perform(&mut self, effects: Vec<Effect>, mut done: Option<Done>, ctx: &mut Context<Self>) {
        for effect in effects {
            match effect {
                Effect::Read { ticket, job, after, until, want } => {
                    let events = job.and_then(|job| self.job_events(job));
                    self.read(pages::Wanted { ticket, job, events, after, until, want }, ctx);
                }
                Effect::Attempt(attempt) => self.attempt(attempt, ctx),
                Effect::Persist { seq, changes } => {
                    self.asked_seq = seq;
                    self.keep(seq, changes);
                }
                Effect::WakeAt { at_ms } => self.wake_at(at_ms, ctx),
                Effect::Emit { key, notice } => self.announce(key, &notice, ctx),
                Effect::Log(entry) => self.note(entry, &mut done),
                // `ask` has seen them
                Effect::JobStarted(_) | Effect::Refused(_) => {}
                Effect::Stopped => self.stopped(ctx),
            }
        }
        self.save(ctx);
    }

    fn job_events(&self, job: JobId) -> Option<Vec<String>> {
        self.endpoint.as_ref()?.jobs().find(|known| known.id == job)?.events.clone()
    }

    fn seen(&self, rows: bool) -> Option<Seen> {
        self.endpoint.as_ref().map(|endpoint| Seen {
            state: endpoint.state().clone(),
            observed: endpoint.observe(),
            rows: if rows { endpoint.rows().cloned().collect() } else { Vec::new() },
            jobs: endpoint.jobs().cloned().collect(),
        })
    }

    fn forget_frames(&mut self) {
        self.frames.clear();
        self.frames_bytes = 0;
    }
}

fn now_ms() -> u64 {
    clock::now_ms().max(0) as u64
}

/// A number drawn evenly.
fn random() -> u64 {
    u64::from_le_bytes(clock::random())
}

impl Actor for WebhookActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let webhook = &*self.ready.webhook.id;
        if let Err(e) = self.handles.faults.check(Point::StartActor) {
            log::error!(webhook; "the actor of a webhook does not start, which is tried again: {e}");
            return ctx.stop();
        }
        let signal = Arc::new(WakeSignal::new(ctx.address().recipient()));
        self.signal = Some(signal.clone());
        // open before the log is read, so that no batch falls between the two
        self.handles.feed.add_signal(self.ready.webhook.channel_no(), signal);
        match storage::load(&self.handles.documents, webhook) {
            Ok(Some(kept)) => self.open(kept, ctx),
            Ok(None) => return self.end(ctx),
            Err(e) => {
                log::error!(webhook; "what was stored of a webhook cannot be read, which is tried again: {e}");
                return ctx.stop();
            }
        }
        clock::rounds(ctx, ROUND, WebhookActor::round);
    }
}

impl Drop for WebhookActor {
    fn drop(&mut self) {
        if let Some(signal) = self.signal.take() {
            self.handles.feed.remove_signal(self.ready.webhook.channel_no(), &signal);
        }
        if self.is_late() {
            self.handles.late_writes.leave();
        }
    }
}

impl Handler<Wake> for WebhookActor {
    type Result = ();

    fn handle(&mut self, _: Wake, ctx: &mut Self::Context) {
        if let Some(signal) = &self.signal {
            signal.lower();
        }
        self.tell(Input::Appended, ctx);
    }
}

impl Handler<Read> for WebhookActor {
    type Result = ();

    fn handle(&mut self, msg: Read, ctx: &mut Self::Context) {
        let pages::Page { ticket, job, offers, through, more, lost_through, damaged, frames } = msg.page;
        let known = self.endpoint.as_ref().map(|endpoint| endpoint.state().lost_through);
        if known.is_some_and(|known| lost_through > known) {
            self.tell(Input::Lost { through: lost_through }, ctx);
        }
        if let Some((after, through)) = damaged {
            self.tell(Input::Damaged { job, after, through }, ctx);
        }
        for frame in frames {
            if self.frames_bytes < FRAMES_BYTES && !self.frames.contains_key(&frame.event.id) {
                self.frames_bytes += frame.weight();
                self.frames.insert(frame.event.id, frame);
            }
        }
        self.tell(Input::Offered { ticket, events: offers, through, more }, ctx);
        let idle = self.endpoint.as_ref().is_some_and(|endpoint| endpoint.observe().ready == 0);
        if idle {
            // what is left was read for nobody
            self.forget_frames();
        }
    }
}

impl Handler<Finished> for WebhookActor {
    type Result = ();

    fn handle(&mut self, msg: Finished, ctx: &mut Self::Context) {
        let Finished { attempt, done } = msg;
        self.gauges.attempted(done.outcome, done.record.status_code, done.took);
        let input = Input::Finished { delivery: attempt.delivery, outcome: done.outcome };
        let effects = self.turn(input);
        self.perform(effects, Some(done), ctx);
    }
}

impl Handler<Ask> for WebhookActor {
    type Result = ResponseFuture<Outcome>;

    fn handle(&mut self, msg: Ask, ctx: &mut Self::Context) -> Self::Result {
        let (answer, seq) = match msg {
            Ask::Configure { ready, new_target } => {
                self.ready = ready;
                self.forget_frames();
                let config = self.config();
                self.ask(Input::Configure { config, new_target }, ctx)
            }
            Ask::Enable { ready, resume, head } => {
                self.ready = ready;
                self.forget_frames();
                let config = self.config();
                // first, so that what is skipped is not attempted by the change
                self.tell(Input::Enable { resume, head }, ctx);
                self.ask(Input::Configure { config, new_target: false }, ctx)
            }
            Ask::Resend { delivery, events, attempts } => self.ask(Input::Resend { delivery, events, attempts }, ctx),
            Ask::Replay(request) => self.ask(Input::Replay(request), ctx),
        };
        if answer.is_err() || seq <= self.saved_seq {
            return Box::pin(std::future::ready(answer));
        }
        let (tell, told) = oneshot::channel();
        self.waiting.push((seq, answer, tell));
        Box::pin(async move { told.await.unwrap_or(Err(Refusal::Stopping)) })
    }
}

impl Handler<Test> for WebhookActor {
    type Result = ResponseFuture<Result<Done, Refusal>>;

    fn handle(&mut self, msg: Test, ctx: &mut Self::Context) -> Self::Result {
        let (tell, told) = oneshot::channel();
        self.testing.insert(msg.delivery, (msg.frame, tell));
        if let (Err(refusal), _) = self.ask(Input::Test { delivery: msg.delivery }, ctx) {
            self.testing.remove(&msg.delivery);
            return Box::pin(std::future::ready(Err(refusal)));
        }
        Box::pin(async move { told.await.unwrap_or(Err(Refusal::Stopping)) })
    }
}

impl Handler<Observe> for WebhookActor {
    type Result = MessageResult<Observe>;

    fn handle(&mut self, msg: Observe, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.seen(msg.rows))
    }
}

impl Handler<FlushHistory> for WebhookActor {
    type Result = ResponseFuture<Option<Seen>>;

    fn handle(&mut self, _: FlushHistory, _: &mut Self::Context) -> Self::Result {
        let (seen, fresh) = (self.seen(true), self.history.take_all(now_ms()));
        let written = self.write_history(fresh);
        Box::pin(async move {
            written.await;
            seen
        })
    }
}

impl Handler<Discard> for WebhookActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Discard, ctx: &mut Self::Context) -> Self::Result {
        self.is_discarded = true;
        self.unsaved.clear();
        let (tell, told) = oneshot::channel();
        self.discarded = Some(tell);
        if !self.unsaved.is_under_way() {
            self.end(ctx);
        }
        let log_writer = self.log_writer.clone();
        Box::pin(async move {
            // the actor's end drops the other side
            drop(told.await);
            log_writer.lock().await.end();
        })
    }
}

impl Handler<Shutdown> for WebhookActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Shutdown, ctx: &mut Self::Context) -> Self::Result {
        let (tell, told) = oneshot::channel();
        self.stopping.push(tell);
        self.tell(Input::Shutdown, ctx);
        // the actor's end drops the other side
        Box::pin(async move { drop(told.await) })
    }
}
