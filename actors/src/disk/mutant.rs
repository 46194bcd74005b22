//! Promises that are taken out of the engine, to show that the simulation notices when they are not kept. Only for tests of
//! this crate.

use std::cell::Cell;

/// What is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A sync of a file does nothing.
    Sync,
    /// A record of the write-ahead log is good whatever its checksum says, and so is an event in it.
    Checksum,
    /// Changes of what is configured are answered before they are durable.
    Answer,
    /// Webhooks count what was published as delivered.
    Cursor,
}

thread_local! {
    static HERE: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// From now on this is taken out for everything that is done on this thread.
pub fn set_here(mutant: Option<Mutant>) {
    HERE.set(mutant);
}

/// Whether it is.
pub fn is_here(mutant: Mutant) -> bool {
    HERE.get() == Some(mutant)
}
