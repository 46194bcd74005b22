//! Stores the counters of sources and reports refused requests, once a second. So a crash loses a second of counting and no
//! event. When the notes are lost, counting starts again from what is in memory.
//!
//! This is a task and no actor: a panic costs one round, and nobody holds an address of it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_rt::ArbiterHandle;
use futures_util::FutureExt;
use serde_json::json;

use crate::catalog::Catalog;
use crate::catalog::system::SystemEvents;
use crate::clock::{self, Rounds};
use crate::compute;
use crate::documents::notes::{NoteChange, NoteTable, Notes, NotesError};
use crate::ingest::registry::{ActiveSource, Counts, SourceRegistry};
use crate::model::event::EventType;
use crate::model::timestamp::to_iso;

const ROUND: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 1_000 });
/// Longest reason in a report, in characters.
const REASON_CHARS_MAX: usize = 1000;

pub struct SourceCounters {
    sources: Arc<SourceRegistry>,
    catalog: Arc<Catalog>,
    notes: Arc<Notes>,
    system: SystemEvents,
    /// The counters could not be written.
    is_failing: AtomicBool,
}

/// What a source had counted when it was last written down. Blocks.
///
/// # Errors
/// The notes cannot be read.
pub fn stored(notes: &Notes, source: &str) -> Result<Counts, NotesError> {
    Ok(notes.get(NoteTable::SourceCounts, source)?.unwrap_or_default())
}

impl SourceCounters {
    pub fn new(
        sources: Arc<SourceRegistry>,
        catalog: Arc<Catalog>,
        notes: Arc<Notes>,
        system: SystemEvents,
    ) -> Arc<SourceCounters> {
        Arc::new(SourceCounters { sources, catalog, notes, system, is_failing: AtomicBool::new(false) })
    }

    /// Begins the rounds, on an arbiter; they end with it.
    pub fn start(self: &Arc<Self>, arbiter: &ArbiterHandle) {
        let counters = self.clone();
        arbiter.spawn(async move {
            let mut timer = Rounds::every(ROUND);
            loop {
                timer.due().await;
                let round = async {
                    // first, because a report waits for the journal
                    counters.write_down().await;
                    counters.report().await;
                };
                if AssertUnwindSafe(round).catch_unwind().await.is_err() {
                    log::error!("a round over the counters of sources panicked; the next one comes all the same");
                }
            }
        });
    }

    /// Writes down what has changed, and reads what could not be read at the start.
    pub async fn write_down(self: &Arc<Self>) {
        let is_due = |live: &Arc<ActiveSource>| live.stats.has_changed() || live.stats.is_unread();
        let due: Vec<_> = self.sources.list(None).into_iter().filter(is_due).collect();
        if due.is_empty() {
            return;
        }
        let due = Arc::new(due);
        let (counters, writing) = (self.clone(), due.clone());
        if let Err(e) = compute::blocking(move || counters.write(&writing)).await {
            due.iter().for_each(|live| live.stats.still_changed());
            log::error!("the counters of sources were not written, which is tried again: {e}");
        }
    }

    fn write(&self, due: &[Arc<ActiveSource>]) {
        // one that was deleted meanwhile leaves nothing behind
        let is_there = |live: &&Arc<ActiveSource>| self.sources.get(&live.source.id).is_some();
        let change = |live: &Arc<ActiveSource>| {
            if live.stats.is_unread() {
                live.stats.add_earlier(stored(&self.notes, &live.source.id)?);
            }
            NoteChange::put(NoteTable::SourceCounts, &*live.source.id, &live.stats.counts())
        };
        let changes = due.iter().filter(is_there).map(change).collect::<Result<Vec<_>, _>>();
        match changes.and_then(|changes| self.notes.write(&changes)) {
            Ok(()) => {
                if self.is_failing.swap(false, Ordering::Relaxed) {
                    log::info!("the counters of sources are written again");
                }
            }
            Err(e) => {
                due.iter().for_each(|live| live.stats.still_changed());
                if !self.is_failing.swap(true, Ordering::Relaxed) {
                    log::error!("the counters of sources are not written until they can be: {e}; {}", e.cure());
                }
            }
        }
    }

    /// The notes were lost: what is known is written again, and the letters that there are are looked up again.
    pub async fn notes_were_lost(&self) {
        for live in self.sources.list(None) {
            live.stats.still_changed();
            live.stats.letters.lock().await.forget();
        }
    }

    /// Publishes `source.rejected` for each source that has something to report.
    async fn report(&self) {
        let now_ms = clock::now_ms();
        for live in self.sources.list(None) {
            let Some(channel) = self.catalog.channel(live.source.channel_no()) else { continue };
            let Some(refusals) = live.stats.report_due(now_ms) else { continue };
            let (source, content, unauthenticated) = (&*live.source.id, refusals.content, refusals.unauthenticated);
            log::warn!(source, content, unauthenticated; "a source refused requests: {}", refusals.reason);
            let payload = json!({
                "source_id": source,
                "name": live.source.name,
                "channel": channel.name_on_tokens(),
                "rejected": content,
                "unauthenticated": unauthenticated,
                "dead_letters": live.count_letters(&self.notes).await,
                "reason": refusals.reason.chars().take(REASON_CHARS_MAX).collect::<String>(),
                "rejected_at": to_iso(now_ms),
            });
            // the name is one of the catalogue, which a test holds to what event types are
            let Ok(kind) = EventType::new("source.rejected") else { return };
            if let Err(e) = self.system.announce(kind, &payload, None).await {
                log::warn!(source; "a report is missing in the organization system: {e}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::catalog::source::Source;
    use crate::clock::until;
    use crate::disk::failure::Fault;
    use crate::disk::{Disk, Point};
    use crate::documents::Documents;
    use crate::documents::notes::NotesOptions;
    use crate::ingest::registry::{SourceLimits, SourceStats};
    use crate::journal::{Journal, JournalLimits};
    use crate::model::access::TokenHash;
    use crate::model::seal::SealKey;
    use crate::model::source::{Authentication, Scheme};

    const LIMITS: JournalLimits = JournalLimits {
        queue_events: 10,
        queue_bytes: 1 << 20,
        batch_events: 10,
        batch_bytes: 1 << 20,
        answer_timeout: Duration::from_secs(1),
        min_free_bytes: 0,
    };

    fn source() -> Source {
        let scheme = Scheme::of(Authentication::None);
        Source {
            id: "wh_01J00000000000000000000001".into(),
            channel: 1,
            name: None,
            scheme,
            keys: None,
            event_type: Vec::new(),
            schema: None,
            rate_limit: None,
            verify_token: None,
            raw: None,
            paused: false,
            inserted_ms: 0,
            updated_ms: 0,
        }
    }

    #[actix::test]
    async fn a_round_that_fails_or_panics_loses_no_counts_and_the_next_one_comes() {
        let (folder, disk) = (tempfile::tempdir().expect("a folder"), Disk::real());
        let options = NotesOptions { is_new_folder: true, now_ms: 1, min_free_bytes: 0 };
        let notes = Arc::new(Notes::open(&disk, folder.path(), options).expect("notes"));
        let (journal, _queue) = Journal::new(&LIMITS);
        let catalog = Catalog::open(journal.clone(), Arc::<Documents>::default(), TokenHash::of("admin"));
        let catalog = Arc::new(catalog.expect("a catalog"));
        let limits = SourceLimits { per_channel: 1, dead_letters: 1, dead_letters_bytes: 1 };
        let sources = Arc::new(SourceRegistry::new(limits));
        let seal = SealKey::from_text(&SealKey::text_of([1; 32])).expect("a key");
        let live = sources.put(ActiveSource::new(source(), Arc::<SourceStats>::default(), &seal));
        let system = SystemEvents::new(journal, catalog.clone());
        let counters = SourceCounters::new(sources, catalog, notes.clone(), system);
        let arbiter = actix_rt::Arbiter::new();
        counters.start(&arbiter.handle());
        for (n, fault) in (1..).zip([Fault::panic().times(2), Fault::errno(libc::EIO).times(1)]) {
            disk.faults().set(Point::DatabaseWrite, fault);
            live.stats.took(3, n);
            let (begun, expected) =
                (Instant::now(), Counts { received: 3 * n as u64, last_ms: n, ..Counts::default() });
            until(&format!("counts number {n}"), async || {
                // as the janitor does, which opens again what has failed
                notes.step(begun.elapsed().as_millis() as u64 + 1_000_000 * n as u64);
                stored(&notes, &live.source.id).unwrap_or_default() == expected
            })
            .await;
        }
        arbiter.stop();
    }
}
