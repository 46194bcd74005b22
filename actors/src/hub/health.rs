//! The health of the engine.

use std::sync::atomic::Ordering;

use super::Hub;
use crate::compute;
use crate::model::id::EventId;

/// Damaged ranges that readiness lists.
const DAMAGE_SHOWN: usize = 20;

/// The health of the engine, as `/health/ready` shows it.
#[derive(Clone, Debug)]
pub struct Health {
    pub journal_writable: bool,
    /// Publishes and changes are refused because the disk is full, or nearly.
    pub storage_full: bool,
    pub disk_free_bytes: Option<u64>,
    /// Damaged segments of which something could not be recovered.
    pub quarantined: Vec<String>,
    /// Ranges of ids in which events are missing because of damage.
    pub damaged_ranges: usize,
    /// The newest of them, at most [`DAMAGE_SHOWN`]: the ids before the first and of the last event that may be missing.
    pub damage: Vec<(EventId, EventId)>,
    /// The delivery log, counters and dead letters were lost, and nobody was told yet.
    pub notes_lost: bool,
    /// By how much the wall clock was set since the start, in milliseconds; negative: back.
    pub clock_jumped_ms: i64,
    pub queue_events: usize,
}

impl Hub {
    pub async fn health(&self) -> Health {
        let rooms = self.rooms.clone();
        let free = compute::blocking(move || rooms.disk.free_bytes(&rooms.data_dir)).await;
        let stats = self.rooms.log.stats();
        Health {
            journal_writable: self.rooms.journal.writable(),
            storage_full: self.rooms.journal.storage_full(),
            // a system that does not answer is one whose disk is not known
            disk_free_bytes: free.ok().flatten(),
            quarantined: stats.quarantined,
            damaged_ranges: stats.damaged_ranges,
            damage: self
                .rooms
                .log
                .newest_damage(DAMAGE_SHOWN)
                .iter()
                .map(|range| (range.after, range.through))
                .collect(),
            notes_lost: self.rooms.notes.was_lost(),
            clock_jumped_ms: self.rooms.clock_jumped_ms.load(Ordering::Relaxed),
            queue_events: self.rooms.journal.queued(),
        }
    }
}
