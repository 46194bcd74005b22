//! What the engine runs on: the machine with threads of its own, or a simulation with everything on the thread that starts it.

use actix_rt::ArbiterHandle;

use super::engine::Engine;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::journal::Upkeep;
#[cfg(test)]
use crate::journal::Worker;

/// The threads of the store, in the order in which they end.
pub struct StoreThreads {
    pub journal: std::thread::JoinHandle<()>,
    pub upkeep: std::thread::JoinHandle<()>,
}

/// What the engine runs on: the machine, or a simulation of one.
pub struct Ground {
    pub disk: Disk,
    pub clock: Clock,
    /// Of a piece of the write-ahead log; none: as ever.
    pub piece_bytes: Option<u32>,
    pub threads: Threads,
}

/// Where the engine does its work.
pub enum Threads {
    /// On threads that it starts.
    Own,
    /// All on the thread that starts it. The worker and upkeep of the store are handed to whoever lets them go on.
    #[cfg(test)]
    Here(Box<dyn FnOnce(Worker, Upkeep)>),
}

impl Ground {
    pub fn system() -> Ground {
        Ground { disk: Disk::real(), clock: Clock::system(), piece_bytes: None, threads: Threads::Own }
    }
}

impl Threads {
    /// A thread of actors.
    pub fn arbiter(&self) -> ArbiterHandle {
        match self {
            Threads::Own => actix_rt::Arbiter::new().handle(),
            #[cfg(test)]
            Threads::Here(_) => actix_rt::Arbiter::current(),
        }
    }

    /// Lets upkeep run.
    pub fn keep_up(self, upkeep: Upkeep) -> std::io::Result<KeptUp> {
        match self {
            Threads::Own => Ok(KeptUp::Own(upkeep.spawn()?)),
            #[cfg(test)]
            Threads::Here(take) => Ok(KeptUp::Here(take, Box::new(upkeep))),
        }
    }
}

/// The store, whose worker does not run yet.
pub enum KeptUp {
    Own(std::thread::JoinHandle<()>),
    #[cfg(test)]
    Here(Box<dyn FnOnce(Worker, Upkeep)>, Box<Upkeep>),
}

impl KeptUp {
    /// Lets the worker run as well.
    pub fn run(self, engine: Engine) -> std::io::Result<Option<StoreThreads>> {
        match self {
            KeptUp::Own(upkeep) => Ok(Some(StoreThreads { upkeep, journal: engine.spawn()? })),
            #[cfg(test)]
            KeptUp::Here(take, upkeep) => {
                take(engine.into_local(), *upkeep);
                Ok(None)
            }
        }
    }
}
