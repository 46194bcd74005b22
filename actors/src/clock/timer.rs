//! Waiting for time to pass. Everything in the engine that waits does it by these, so that a simulation can let time pass
//! as it likes.

use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use actix::fut::{ActorFutureExt, wrap_future};
use actix::{Actor, AsyncContext, Context, SpawnHandle};

/// What was waited for did not come in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it took too long")]
pub struct Elapsed;

/// This moment, to be compared with other moments.
pub fn instant() -> Instant {
    #[cfg(test)]
    if let Some(clock) = super::simulated::here() {
        return clock.instant();
    }
    Instant::now()
}

/// Waits until something is so, which must come to pass.
#[cfg(test)]
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < Duration::from_secs(20), "waited in vain: {what}");
        actix_rt::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits so long.
pub async fn sleep(duration: Duration) {
    #[cfg(test)]
    if let Some(clock) = super::simulated::here() {
        return clock.sleep(duration).await;
    }
    actix_rt::time::sleep(duration).await;
}

/// Waits for something, but no longer than so long.
///
/// # Errors
/// It has not come by then.
pub async fn timeout<F: Future>(duration: Duration, what: F) -> Result<F::Output, Elapsed> {
    let (mut what, mut end) = (pin!(what), pin!(sleep(duration)));
    std::future::poll_fn(|cx| match what.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => end.as_mut().poll(cx).map(|()| Err(Elapsed)),
    })
    .await
}

/// Rounds: the first at once, each other so long after the one before.
pub struct Rounds {
    every: Duration,
    is_first: bool,
}

impl Rounds {
    pub fn every(every: Duration) -> Rounds {
        Rounds { every, is_first: true }
    }

    /// Waits for the next one.
    pub async fn due(&mut self) {
        if !std::mem::take(&mut self.is_first) {
            sleep(self.every).await;
        }
    }
}

/// Lets an actor do something so long from now, unless the handle is cancelled before.
pub fn later<A: Actor<Context = Context<A>>>(
    ctx: &mut Context<A>,
    after: Duration,
    then: impl FnOnce(&mut A, &mut Context<A>) + 'static,
) -> SpawnHandle {
    ctx.spawn(wrap_future::<_, A>(sleep(after)).map(|(), actor, ctx| then(actor, ctx)))
}

/// Lets an actor do something again and again, for the first time so long from now.
pub fn rounds<A: Actor<Context = Context<A>>>(
    ctx: &mut Context<A>,
    every: Duration,
    mut round: impl FnMut(&mut A, &mut Context<A>) + 'static,
) {
    later(ctx, every, move |actor, ctx| {
        round(actor, ctx);
        rounds(ctx, every, round);
    });
}
