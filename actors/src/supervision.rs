//! Supervision: an actor that dies of a panic is started again on its thread, and whoever holds its handle reaches the
//! new one. (actix's own `Supervisor` restarts an actor that has stopped itself. It catches no panic.)
//!
//! [`ActorHandle`] takes the place of an `Addr`: it is cloned and kept, and its address is asked for anew with each
//! message. Everything that the actor owned is lost with it, and so are the messages in its mailbox (their senders get
//! `MailboxError::Closed`); `make` makes the next one from what outlives it.
//!
//! An actor that panics again and again is started at most [`RESTARTS_MAX`] times in [`RESTARTS_WINDOW`]; after that it
//! waits until the window has passed, for ever if need be. What is sent to it in the meantime waits in its new mailbox.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actix::dev::Request;
use actix::dev::channel::{AddressReceiver, channel};
use actix::{Actor, Addr, Context, Handler, MailboxError, Message};
use actix_rt::ArbiterHandle;
use futures_util::FutureExt;
use tokio::sync::watch;

use crate::clock;
use crate::disk::{Faults, Point};

/// Restarts that may follow each other without a pause.
pub const RESTARTS_MAX: usize = 5;
pub const RESTARTS_WINDOW: Duration = Duration::from_secs(10);

/// Messages that may wait for an actor that sets no other bound: actix's default.
const MAILBOX: usize = 16;

/// How an actor that is supervised is reached.
pub struct ActorHandle<A: Actor> {
    /// The supervision writes it and ends with the actor.
    addr: watch::Receiver<Addr<A>>,
    restarts: Arc<AtomicU64>,
}

impl<A: Actor> Clone for ActorHandle<A> {
    fn clone(&self) -> Self {
        ActorHandle { addr: self.addr.clone(), restarts: self.restarts.clone() }
    }
}

impl<A: Actor<Context = Context<A>>> ActorHandle<A> {
    /// Starts the actor on a thread of actors. `make` is called on that thread, also for each restart. `name` is what the
    /// log calls it.
    pub fn start(
        arbiter: &ArbiterHandle,
        name: &'static str,
        faults: &Faults,
        make: impl FnMut(&mut Context<A>) -> A + Send + 'static,
    ) -> ActorHandle<A> {
        let (handle, supervision) = Supervision::new(name, faults);
        let started = arbiter.spawn_fn(move || {
            actix_rt::spawn(supervision.run(make));
        });
        if !started {
            log::error!(actor = name; "an actor was not started, because its thread has ended");
        }
        handle
    }

    /// Starts the actor on this thread.
    pub fn start_here(
        name: &'static str,
        faults: &Faults,
        make: impl FnMut(&mut Context<A>) -> A + 'static,
    ) -> ActorHandle<A> {
        let (handle, supervision) = Supervision::new(name, faults);
        actix_rt::spawn(supervision.run(make));
        handle
    }

    /// The address of the actor that runs now. To be used at once, not to be kept.
    pub fn addr(&self) -> Addr<A> {
        self.addr.borrow().clone()
    }

    /// As `Addr::send`: waits for room in the mailbox, and for the answer.
    pub fn send<M>(&self, message: M) -> Request<A, M>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.addr().send(message)
    }

    /// As [`ActorHandle::send`], and when the actor dies over it, once more to the next one. For messages that do no harm
    /// when they are handled twice.
    ///
    /// # Errors
    /// The second one has died as well, or there is none because the actor has stopped in order.
    pub async fn send_again<M>(&self, message: M) -> Result<M::Result, MailboxError>
    where
        A: Handler<M>,
        M: Message + Clone + Send + 'static,
        M::Result: Send,
    {
        let mut seen = self.addr.clone();
        let addr = seen.borrow_and_update().clone();
        match addr.send(message.clone()).await {
            Err(MailboxError::Closed) if seen.changed().await.is_ok() => self.send(message).await,
            answer => answer,
        }
    }

    /// As `Addr::do_send`: without a bound, and lost when the actor dies before it is handled.
    pub fn do_send<M>(&self, message: M)
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.addr().do_send(message);
    }

    /// Whether the actor runs, or is about to be started again. It is not when it has stopped in order, or its thread has
    /// ended.
    pub fn connected(&self) -> bool {
        self.addr.has_changed().is_ok()
    }

    /// How often the actor was started again.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }
}

/// What outlives the lives of one actor, on its thread.
struct Supervision<A: Actor> {
    name: &'static str,
    faults: Faults,
    addr: watch::Sender<Addr<A>>,
    restarts: Arc<AtomicU64>,
    /// The mailbox of the next life.
    receiver: AddressReceiver<A>,
}

impl<A: Actor<Context = Context<A>>> Supervision<A> {
    fn new(name: &'static str, faults: &Faults) -> (ActorHandle<A>, Supervision<A>) {
        let (sender, receiver) = channel(MAILBOX);
        let (addr, seen) = watch::channel(Addr::new(sender));
        let handle = ActorHandle { addr: seen, restarts: Arc::default() };
        let restarts = handle.restarts.clone();
        (handle, Supervision { name, faults: faults.clone(), addr, restarts, receiver })
    }

    /// Runs the actor until it stops in order.
    async fn run(self, mut make: impl FnMut(&mut Context<A>) -> A) {
        let Supervision { name, faults, addr, restarts, mut receiver } = self;
        let mut pace = Pace::default();
        while let Err(reason) = live(receiver, &faults, &mut make).await {
            let (sender, next) = channel(MAILBOX);
            receiver = next;
            restarts.fetch_add(1, Ordering::Relaxed);
            addr.send_replace(Addr::new(sender));
            let pause = pace.pause(clock::instant());
            let pause_ms = pause.as_millis() as u64;
            log::error!(actor = name, reason = reason.as_str(), pause_ms; "an actor died and is started again");
            if !pause.is_zero() {
                clock::sleep(pause).await;
            }
        }
    }
}

/// Runs one life of the actor. The error says of what it died.
async fn live<A: Actor<Context = Context<A>>>(
    receiver: AddressReceiver<A>,
    faults: &Faults,
    make: &mut impl FnMut(&mut Context<A>) -> A,
) -> Result<(), String> {
    // unwind safe: what the panic may have left half changed is dropped, but for what `make` has captured, and that is
    // only ever handed on
    let started = catch_unwind(AssertUnwindSafe(|| -> io::Result<_> {
        faults.check(Point::StartActor)?;
        let mut ctx = Context::with_receiver(receiver);
        let actor = make(&mut ctx);
        Ok(Box::pin(ctx.into_future(actor)))
    }));
    let mut life = match started {
        Ok(Ok(life)) => life,
        Ok(Err(e)) => return Err(e.to_string()),
        Err(panic) => return Err(text_of(&*panic)),
    };
    let ended = AssertUnwindSafe(&mut life).catch_unwind().await;
    // The context tells the actor that it stops. What panics over that has ended as well.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(life)));
    ended.map_err(|panic| text_of(&*panic))
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a text").to_owned()
}

/// Bounds how often an actor is started again.
#[derive(Default)]
struct Pace {
    /// The last restarts.
    recent: VecDeque<Instant>,
}

impl Pace {
    /// How long to wait before the restart that is due now.
    fn pause(&mut self, now: Instant) -> Duration {
        while self.recent.front().is_some_and(|at| now.saturating_duration_since(*at) >= RESTARTS_WINDOW) {
            self.recent.pop_front();
        }
        let oldest = match self.recent.len() < RESTARTS_MAX {
            true => None,
            false => self.recent.pop_front(),
        };
        let pause = oldest.map_or(Duration::ZERO, |at| RESTARTS_WINDOW - now.saturating_duration_since(at));
        self.recent.push_back(now + pause);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::failure::Fault;

    #[derive(Default)]
    struct Adder(u32);

    #[derive(Clone, Message)]
    #[rtype(result = "u32")]
    struct Add(u32);

    #[derive(Clone, Message)]
    #[rtype(result = "()")]
    struct Panic;

    #[derive(Message)]
    #[rtype(result = "()")]
    struct Stop;

    impl Actor for Adder {
        type Context = Context<Self>;
    }

    impl Handler<Add> for Adder {
        type Result = u32;

        fn handle(&mut self, Add(number): Add, _: &mut Self::Context) -> u32 {
            self.0 += number;
            self.0
        }
    }

    impl Handler<Panic> for Adder {
        type Result = ();

        fn handle(&mut self, _: Panic, _: &mut Self::Context) {
            panic!("the test asked for it");
        }
    }

    impl Handler<Stop> for Adder {
        type Result = ();

        fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
            actix::ActorContext::stop(ctx);
        }
    }

    fn start(faults: &Faults) -> ActorHandle<Adder> {
        ActorHandle::start_here("adder", faults, |_| Adder(100))
    }

    #[actix::test]
    async fn an_actor_that_panicked_is_reached_again_by_the_same_handle() {
        let handle = start(&Faults::default());
        assert_eq!(handle.send(Add(1)).await, Ok(101));
        let (lost, after) = (handle.send(Panic), handle.send(Add(1)));
        assert_eq!(lost.await, Err(MailboxError::Closed));
        // it had been sent to the one that died
        assert_eq!(after.await, Err(MailboxError::Closed));
        assert_eq!(handle.send(Add(2)).await, Ok(102), "it starts from the beginning");
        assert_eq!(handle.restarts(), 1);
    }

    #[actix::test]
    async fn an_actor_of_another_thread_is_started_again_there() {
        let arbiter = actix_rt::Arbiter::new();
        let handle = ActorHandle::start(&arbiter.handle(), "adder", &Faults::default(), |_| Adder(100));
        for round in 0..RESTARTS_MAX as u64 / 2 {
            assert_eq!(handle.send_again(Add(1)).await, Ok(101));
            assert_eq!(handle.send_again(Panic).await, Err(MailboxError::Closed), "it is fatal to two of them");
            assert_eq!(handle.send_again(Add(1)).await, Ok(101));
            assert_eq!(handle.restarts(), 3 * round + 2);
            assert_eq!(handle.send(Panic).await, Err(MailboxError::Closed));
        }
        arbiter.stop();
    }

    #[actix::test]
    async fn an_actor_that_stops_in_order_stays_away() {
        let handle = start(&Faults::default());
        assert_eq!(handle.send(Stop).await, Ok(()));
        assert_eq!(handle.send(Add(1)).await, Err(MailboxError::Closed));
        assert_eq!(handle.send_again(Add(1)).await, Err(MailboxError::Closed));
        assert!(!handle.connected() && handle.restarts() == 0);
    }

    #[actix::test]
    async fn a_start_that_fails_is_tried_again_and_messages_wait_for_it() {
        let faults = Faults::default();
        faults.set(Point::StartActor, Fault::panic().times(2));
        assert_eq!(start(&faults).send(Add(1)).await, Err(MailboxError::Closed));
        faults.set(Point::StartActor, Fault::errno(libc::EAGAIN).times(2));
        let handle = start(&faults);
        while handle.restarts() < 2 {
            actix_rt::task::yield_now().await;
        }
        assert_eq!(handle.send(Add(1)).await, Ok(101));
    }

    #[test]
    fn restarts_are_paced_by_the_window() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        for n in 0..RESTARTS_MAX as u64 {
            assert_eq!(pace.pause(at(n)), Duration::ZERO);
        }
        assert_eq!(pace.pause(at(100)), RESTARTS_WINDOW - Duration::from_millis(100));
        // that restart was at 10 s; the next one may be at 10.001 s
        assert_eq!(pace.pause(at(10_000)), Duration::from_millis(1));
        assert_eq!(pace.pause(at(30_000)), Duration::ZERO, "after a quiet time nothing is held against it");
    }
}
