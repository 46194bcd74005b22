//! Clocks that stand until they are moved, and numbers that a seed decides.

use parking_lot::Mutex;

use super::Moment;
use crate::model::splitmix;

/// The time and chance of a simulation.
pub struct SimulatedClock(Mutex<State>);

struct State {
    moment: Moment,
    random: u64,
}

impl SimulatedClock {
    pub fn new(seed: u64, wall_ms: u64) -> SimulatedClock {
        let moment = Moment { wall_ms, boot: 1, elapsed_ms: 1_000 };
        SimulatedClock(Mutex::new(State { moment, random: seed ^ 0x9e37_79b9_7f4a_7c15 }))
    }

    pub fn moment(&self) -> Moment {
        self.0.lock().moment
    }

    /// Both clocks go on.
    pub fn advance(&self, ms: u64) {
        let moment = &mut self.0.lock().moment;
        moment.wall_ms += ms;
        moment.elapsed_ms += ms;
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
