//! Clocks that stand until they are moved, and numbers that a seed decides.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Moment;
use crate::model::splitmix;

thread_local! {
    static HERE: RefCell<Option<Arc<SimulatedClock>>> = const { RefCell::new(None) };
}

/// The clock of the simulation that runs on this thread: for everything that asks no handle.
pub fn here() -> Option<Arc<SimulatedClock>> {
    // none: the thread is ending
    HERE.try_with(|here| here.borrow().clone()).ok().flatten()
}

/// From now on this thread is in a simulation, or in none.
pub fn set_here(clock: Option<Arc<SimulatedClock>>) {
    HERE.set(clock);
}

/// The time and chance of a simulation.
pub struct SimulatedClock(Mutex<State>);

struct State {
    moment: Moment,
    random: u64,
    /// Milliseconds since the beginning, whatever happens to the machine.
    passed_ms: u64,
    /// What instants are counted from.
    origin: Instant,
    /// Who waits for which `passed_ms`, in the order in which they came.
    timers: BTreeMap<(u64, u64), Waker>,
    next_timer: u64,
}

impl SimulatedClock {
    pub fn new(seed: u64, wall_ms: u64) -> SimulatedClock {
        let moment = Moment { wall_ms, boot: 1, elapsed_ms: 1_000 };
        SimulatedClock(Mutex::new(State {
            moment,
            random: seed ^ 0x9e37_79b9_7f4a_7c15,
            passed_ms: 0,
            origin: Instant::now(),
            timers: BTreeMap::new(),
            next_timer: 0,
        }))
    }

    pub fn moment(&self) -> Moment {
        self.0.lock().moment
    }

    /// Both clocks go on, and whoever waits for a time until then is woken.
    pub fn advance(&self, ms: u64) {
        let mut state = self.0.lock();
        state.moment.wall_ms += ms;
        state.moment.elapsed_ms += ms;
        state.passed_ms += ms;
        let after = (state.passed_ms + 1, 0);
        let later = state.timers.split_off(&after);
        let due = std::mem::replace(&mut state.timers, later);
        drop(state);
        due.into_values().for_each(Waker::wake);
    }

    pub fn instant(&self) -> Instant {
        let state = self.0.lock();
        state.origin + Duration::from_millis(state.passed_ms)
    }

    /// Waits until so much has passed.
    pub async fn sleep(&self, duration: Duration) {
        let (due, number) = {
            let mut state = self.0.lock();
            state.next_timer += 1;
            // a timer fires never before its time
            (state.passed_ms.saturating_add(duration.as_nanos().div_ceil(1_000_000) as u64), state.next_timer)
        };
        poll_fn(|cx| {
            let mut state = self.0.lock();
            if state.passed_ms >= due {
                return Poll::Ready(());
            }
            state.timers.insert((due, number), cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Forgets who waits: they are gone with the process.
    pub fn forget_timers(&self) {
        let timers = std::mem::take(&mut self.0.lock().timers);
        drop(timers);
    }

    /// Somebody sets the wall clock.
    pub fn set_wall(&self, wall_ms: u64) {
        self.0.lock().moment.wall_ms = wall_ms;
    }

    /// The machine is booted anew.
    pub fn reboot(&self) {
        let moment = &mut self.0.lock().moment;
        moment.boot += 1;
        moment.elapsed_ms = 0;
    }

    /// The next random bytes.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let random = &mut self.0.lock().random;
        let mut bytes = [0; N];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&splitmix::next(random).to_le_bytes()[..chunk.len()]);
        }
        bytes
    }
}
