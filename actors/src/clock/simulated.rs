//! Clocks that stand until they are moved, and numbers that a seed decides.

use parking_lot::Mutex;

use super::Moment;

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

    /// The next random bytes (SplitMix64).
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let random = &mut self.0.lock().random;
        let mut bytes = [0; N];
        for chunk in bytes.chunks_mut(8) {
            *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = *random;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes()[..chunk.len()]);
        }
        bytes
    }
}
