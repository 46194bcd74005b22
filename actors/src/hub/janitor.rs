//! Housekeeping once a second: free disk space, jumps of the wall clock, loss of the notes, and the figures of the store for
//! the metrics. What an operator has to know is published in the organization `system`.
//!
//! This is a task and no actor: a panic costs one round, and nobody holds an address of it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::{Value, json};

#[cfg(feature = "nats")]
use super::data_folder::COPY_CURE;
use super::rooms::Rooms;
use crate::budget::{Part, Reservation};
use crate::clock::{Moment, Rounds};
use crate::compute;
use crate::model::event::EventType;
use crate::model::timestamp;

const ROUND: Duration = Duration::from_secs(1);
/// When the wall clock differs by this much from the time that has passed, somebody has set it. In milliseconds.
const CLOCK_JUMP_MS: i64 = 60_000;

pub(super) struct Janitor {
    rooms: Arc<Rooms>,
    /// What is to be published and could not be yet: the newest of each type.
    untold: Vec<(&'static str, Value)>,
    /// The disk was low in the round before.
    is_low: bool,
    /// The node was cut off from its cluster in the round before.
    #[cfg(feature = "nats")]
    is_isolated: bool,
    /// Ranges of the node's copy that were damaged in the round before.
    #[cfg(feature = "nats")]
    damaged_ranges: usize,
    clock: Moment,
    /// What is remembered of dedupe keys, in the budget.
    dedupe: Reservation,
    /// What open databases of the log keep in memory, in the budget.
    caches: Reservation,
}

/// What one look at the disk found.
struct Look {
    free_bytes: Option<u64>,
    notes_were_lost: bool,
    dedupe_bytes: usize,
    cached_bytes: usize,
}

impl Janitor {
    /// Begins the rounds on an arbiter; they end with it.
    pub fn start(rooms: Arc<Rooms>, arbiter: &actix_rt::ArbiterHandle) {
        arbiter.spawn(async move {
            let clock = rooms.clock.moment();
            let dedupe = rooms.budget.hold(Part::Dedupe, 0);
            let caches = rooms.budget.hold(Part::Caches, 0);
            let mut janitor = Janitor {
                rooms,
                untold: Vec::new(),
                is_low: false,
                #[cfg(feature = "nats")]
                is_isolated: false,
                #[cfg(feature = "nats")]
                damaged_ranges: 0,
                clock,
                dedupe,
                caches,
            };
            let mut timer = Rounds::every(ROUND);
            loop {
                timer.due().await;
                if AssertUnwindSafe(janitor.round()).catch_unwind().await.is_err() {
                    log::error!("a round of the janitor panicked; the next one comes all the same");
                }
            }
        });
    }

    async fn round(&mut self) {
        let rooms = self.rooms.clone();
        let now = rooms.clock.moment();
        match compute::blocking(move || look(&rooms, now)).await {
            Ok(look) => {
                self.dedupe.resize(look.dedupe_bytes);
                self.caches.resize(look.cached_bytes);
                self.watch_disk(look.free_bytes, now);
                if look.notes_were_lost {
                    self.tell_loss(now).await;
                }
            }
            Err(e) => log::error!("a look at the disk failed and is tried again: {e}"),
        }
        self.watch_clock(now);
        #[cfg(feature = "nats")]
        self.watch_cluster().await;
        self.publish().await;
    }

    /// Says that the disk is low when it has just become so. Not known, it is not low.
    fn watch_disk(&mut self, free_bytes: Option<u64>, now: Moment) {
        let floor_bytes = self.rooms.limits.min_free_bytes;
        let Some(free_bytes) = free_bytes.filter(|free| *free < floor_bytes) else {
            self.is_low = false;
            return;
        };
        if std::mem::replace(&mut self.is_low, true) {
            return;
        }
        log::warn!(free_bytes, floor_bytes; "the disk is low; publishes and changes are refused until there is room");
        self.tell("storage.low_disk", json!({ "free_bytes": free_bytes, "floor_bytes": floor_bytes, "at": iso(now) }));
    }

    /// Ends the streams of a node that cannot know of revocations any more, and deletes tickets whose time is over.
    #[cfg(feature = "nats")]
    async fn watch_cluster(&mut self) {
        let Some(status) = &self.rooms.cluster else { return };
        let (observed, metrics) = (status.observed(), &self.rooms.metrics);
        metrics.cluster_writer.set(observed.is_writer.into());
        metrics.cluster_term.set(observed.term as i64);
        metrics.cluster_tail_lag_seconds.set(status.behind().1.as_secs_f64());
        metrics.cluster_slots_owned.set(status.ownership().owned() as i64);
        metrics.cluster_nodes.set(status.nodes().len() as i64);
        let damaged = self.rooms.log.damaged_ranges();
        if damaged > std::mem::replace(&mut self.damaged_ranges, damaged) {
            log::error!(damaged; "this node's copy of the log is damaged, and readers are told; {COPY_CURE}");
        }
        let is_isolated = status.is_isolated();
        if is_isolated != std::mem::replace(&mut self.is_isolated, is_isolated) {
            match is_isolated {
                true => log::error!("the node is cut off from NATS and cannot know of revocations: its streams end"),
                false => log::info!("the node reaches NATS again"),
            }
        }
        if is_isolated {
            self.rooms.streams.close_open().await;
        } else if observed.is_writer {
            super::shared_tickets::sweep(&self.rooms).await;
        }
    }

    /// Says that somebody has set the wall clock.
    fn watch_clock(&mut self, now: Moment) {
        let before = std::mem::replace(&mut self.clock, now);
        let passed = |from: u64, to: u64| to as i64 - from as i64;
        let by_ms = passed(before.wall_ms, now.wall_ms) - passed(before.elapsed_ms, now.elapsed_ms);
        if before.boot != now.boot || by_ms.abs() < CLOCK_JUMP_MS {
            return;
        }
        self.rooms.clock_jumped_ms.fetch_add(by_ms, Ordering::Relaxed);
        log::warn!(by_ms; "the wall clock was set; what is kept is judged by the time that has really passed");
        self.tell("clock.jumped", json!({ "by_ms": by_ms, "at": iso(now) }));
    }

    /// The delivery log, counters and dead letters are gone.
    async fn tell_loss(&mut self, now: Moment) {
        self.rooms.counters.notes_were_lost().await;
        self.tell("storage.notes_lost", json!({ "at": iso(now) }));
        if let Err(e) = self.rooms.notes.announced() {
            log::warn!("that the notes were lost is told again after the next start: {e}");
        }
    }

    fn tell(&mut self, kind: &'static str, payload: Value) {
        self.untold.retain(|(other, _)| *other != kind);
        self.untold.push((kind, payload));
    }

    async fn publish(&mut self) {
        for (kind, payload) in std::mem::take(&mut self.untold) {
            // the name is one of the catalogue, which a test holds to what event types are
            let Ok(event_type) = EventType::new(kind) else { continue };
            if let Err(e) = self.rooms.system.announce_urgently(event_type, &payload).await {
                log::warn!("{kind} could not be published, which is tried again: {e}");
                self.tell(kind, payload);
            }
        }
    }
}

fn iso(now: Moment) -> String {
    timestamp::to_iso(now.wall_ms as i64)
}

/// Measures. Blocks.
fn look(rooms: &Rooms, now: Moment) -> Look {
    rooms.notes.step(now.wall_ms);
    if rooms.budget.is_under_pressure() {
        rooms.log.close_idle();
    }
    let (stats, metrics) = (rooms.log.stats(), &rooms.metrics);
    metrics.log_bytes.set(stats.bytes as i64);
    metrics.log_events.set(stats.events as i64);
    metrics.log_segments.set(stats.segments as i64);
    metrics.log_quarantined.set(stats.quarantined.len() as i64);
    metrics.log_damaged_ranges.set(stats.damaged_ranges as i64);
    metrics.queue_events.set(rooms.journal.queued() as i64);
    metrics.channels_running.set(rooms.feed.open_channels() as i64);
    metrics.resident_bytes.set(resident_bytes().unwrap_or(0) as i64);
    let free_bytes = rooms.disk.free_bytes(&rooms.data_dir);
    if let Some(free) = free_bytes {
        metrics.disk_free_bytes.set(free as i64);
    }
    Look {
        free_bytes,
        notes_were_lost: rooms.notes.was_lost(),
        dedupe_bytes: stats.dedupe_bytes,
        cached_bytes: stats.cached_bytes,
    }
}

/// The memory of this process, as Linux says it; none elsewhere. Blocks.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?;
    kib.trim().parse::<u64>().ok()?.checked_mul(1024)
}
