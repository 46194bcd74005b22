//! The clocks and the random source of the machine, as a handle, so that a simulation can put its own in their place. The
//! model gets times and random numbers as arguments.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::model::id::{EventId, IdSource};

#[cfg(test)]
mod simulated;
mod timer;

#[cfg(test)]
pub use self::simulated::{SimulatedClock, here as simulated, set_here};
#[cfg(test)]
pub use self::timer::until;
pub use self::timer::{Elapsed, Rounds, instant, later, rounds, sleep, timeout};

/// A reading of both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Unix milliseconds.
    pub wall_ms: u64,
    /// Which boot of the machine it is, as a number that no other boot has.
    pub boot: u64,
    /// Milliseconds since that boot, whatever happens to the wall clock.
    pub elapsed_ms: u64,
}

/// Where time and chance come from.
#[derive(Clone, Default)]
pub struct Clock(Kind);

#[derive(Clone, Default)]
enum Kind {
    #[default]
    System,
    #[cfg(test)]
    Simulated(std::sync::Arc<SimulatedClock>),
}

impl Clock {
    /// The machine's own.
    pub fn system() -> Clock {
        Clock(Kind::System)
    }

    #[cfg(test)]
    pub fn simulated(clock: std::sync::Arc<SimulatedClock>) -> Clock {
        Clock(Kind::Simulated(clock))
    }

    /// Unix milliseconds of the wall clock, which may be set forward and back.
    pub fn now_ms(&self) -> i64 {
        match &self.0 {
            Kind::System => now_ms(),
            #[cfg(test)]
            Kind::Simulated(clock) => clock.moment().wall_ms as i64,
        }
    }

    /// Both clocks: the wall's, and the one that nobody can set.
    pub fn moment(&self) -> Moment {
        match &self.0 {
            Kind::System => Moment { wall_ms: now_ms().max(0) as u64, boot: boot(), elapsed_ms: elapsed_ms() },
            #[cfg(test)]
            Kind::Simulated(clock) => clock.moment(),
        }
    }

    pub fn random<const N: usize>(&self) -> [u8; N] {
        match &self.0 {
            Kind::System => random(),
            #[cfg(test)]
            Kind::Simulated(clock) => clock.random(),
        }
    }

    /// Holds the thread up for so long. Blocks.
    pub fn pause(&self, duration: Duration) {
        match &self.0 {
            Kind::System => std::thread::sleep(duration),
            #[cfg(test)]
            Kind::Simulated(clock) => clock.advance(duration.as_millis() as u64),
        }
    }
}

/// Unix milliseconds.
pub fn now_ms() -> i64 {
    #[cfg(test)]
    if let Some(clock) = simulated::here() {
        return clock.moment().wall_ms as i64;
    }
    // a clock before 1970 counts as 1970: ids grow all the same
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Milliseconds since the machine was booted, suspended or not. Asked of the kernel directly: libraries that fake the time
/// of a process stand between it and the C library.
fn elapsed_ms() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the struct is ours to write
    let failed = unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_BOOTTIME, &raw mut time) } != 0;
    assert!(!failed, "Linux has a boot clock");
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

/// Which boot of the machine this is, as a number that no other boot has; 0 where the kernel does not tell.
fn boot() -> u64 {
    static BOOT: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *BOOT.get_or_init(|| {
        // without it two boots cannot be told apart, and then only the wall clock counts
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).take(16).collect();
        u64::from_str_radix(&digits, 16).unwrap_or(0)
    })
}

/// Random bytes of the operating system.
///
/// # Panics
/// When the operating system has none, which on Linux does not happen once it has booted.
pub fn random<const N: usize>() -> [u8; N] {
    #[cfg(test)]
    if let Some(clock) = simulated::here() {
        return clock.random();
    }
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has random bytes");
    bytes
}

/// A new ULID, in the order of time to the millisecond.
pub fn fresh_ulid() -> EventId {
    IdSource::after(EventId::ZERO).next(now_ms() as u64, || u128::from_le_bytes(random()))
}
