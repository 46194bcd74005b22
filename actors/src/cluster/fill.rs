//! Filling the streams of a new cluster from a data folder: what a server alone has stored becomes the beginning of the log.
//! Events keep their ids, so cursors and receipts go on; documents keep their numbers, so tokens and webhooks do.

use std::collections::VecDeque;
use std::path::Path;

use bytes::Bytes;

use super::entry::{self, Entry, Part};
use super::inbox::Inbox;
use super::link::Link;
use super::nats::{Conditions, NatsError};
use super::snapshot::{self, Done};
use super::{ClusterError, MESSAGE_HEAD_BYTES, Options, PART_BYTES_MIN, prepare};
use crate::clock::Clock;
use crate::disk::Disk;
use crate::documents::Table;
use crate::journal::{Journal, JournalLimits, RecoveryError, Store, recover};
use crate::log::{Direction, LogOptions, PageLimit, encode_events, encode_keys};
use crate::model::event::ChannelNo;
use crate::model::id::EventId;
use crate::model::relay::Message;
use crate::wal;

/// Events of one message, and their bytes.
const PAGE: PageLimit = PageLimit { events: 1_000, bytes: 1 << 20 };
/// Dedupe keys of one message.
const KEYS: usize = 10_000;

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filled {
    pub events: u64,
    pub documents: u64,
    /// Messages of the log.
    pub messages: u64,
}

/// Why the streams are not filled.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("the streams with the prefix {prefix} are not empty; empty them, or choose another nats.prefix")]
    NotEmpty { prefix: String },
    #[error("the data folder cannot be read: {0}")]
    Folder(#[from] RecoveryError),
    #[error("the log of the data folder cannot be read: {0}")]
    Log(#[from] crate::log::LogError),
}

impl From<NatsError> for FillError {
    fn from(e: NatsError) -> FillError {
        ClusterError::from(e).into()
    }
}

/// The log that is being written.
struct Log<'a> {
    link: &'a Link,
    part_bytes: usize,
    last: u64,
    events_at: u64,
}

impl Log<'_> {
    /// Appends an entry of events, on the condition that nobody else writes.
    fn append(&mut self, time_ms: i64, keys: Vec<u8>, records: Vec<u8>, last_id: EventId) -> Result<(), NatsError> {
        let entry = Entry::Events { time_ms, keys: keys.into(), records: records.into() };
        let message = |content: Part| entry::encode(&Message { term: 0, requests: Vec::new(), last_id, content });
        let subject = self.link.names.of_entry(entry.kind());
        let messages: VecDeque<(String, Bytes)> = entry
            .parts(self.events_at, self.part_bytes)
            .into_iter()
            .map(|part| (subject.to_owned(), message(part)))
            .collect();
        let conditions = Conditions { last: Some(self.last), last_on: None };
        let id = format!("fill-{}", self.last);
        self.last = self.link.wait(self.link.jetstream.publish_all(&id, messages, &conditions))?;
        self.events_at = self.last;
        Ok(())
    }
}

/// Writes what the data folder holds into streams that hold nothing. Blocks; not to be called on a thread with a runtime.
///
/// # Errors
/// The streams are not empty, or what the disk or NATS says; then the streams hold a part of it, and are to be emptied.
pub fn fill(options: &Options, data_dir: &Path, log_options: LogOptions) -> Result<Filled, FillError> {
    let (disk, clock) = (Disk::real(), Clock::system());
    let wal_options = wal::Options::new(u64::from_le_bytes(clock.random()));
    let Store { wal, log, documents, .. } = recover(&disk, data_dir, log_options, wal_options, &clock)?;
    let limits = JournalLimits {
        queue_events: 0,
        queue_bytes: 0,
        batch_events: 0,
        batch_bytes: 0,
        answer_timeout: super::nats::ANSWER,
        min_free_bytes: 0,
    };
    let (journal, _queue) = Journal::new(&limits);
    let (inbox, _inbound) = Inbox::new(journal.waker());
    let link = Link::connect(options, inbox)?;
    let (state, _) = link.wait(prepare(&link.jetstream, &link.names, options))?;
    let is_empty = state.last == 0 && link.wait(snapshot::newest(&link.jetstream, &link.names))?.is_none();
    if !is_empty {
        return Err(FillError::NotEmpty { prefix: options.prefix.clone() });
    }
    let max_payload = link.jetstream.client().server_info().max_payload;
    let part_bytes = max_payload.saturating_sub(MESSAGE_HEAD_BYTES).max(PART_BYTES_MIN);
    let mut filled = Filled::default();
    let mut to = Log { link: &link, part_bytes, last: 0, events_at: 0 };
    let mut cursor = EventId::ZERO;
    loop {
        let page = log.read(ChannelNo::ALL, cursor, PAGE, Direction::Forward)?;
        if let Some(last) = page.events.last() {
            to.append(last.id.time_ms() as i64, Vec::new(), encode_events(&page.events), last.id)?;
            filled.events += page.events.len() as u64;
        }
        if !page.more {
            break;
        }
        cursor = page.last;
    }
    let view = log.view();
    let mut from = 0;
    loop {
        let (keys, next) = log.view_keys(&view, from, KEYS);
        let Some(newest) = keys.last().map(|key| key.time_ms) else { break };
        // those of one message count as used together, by their newest
        let keys: Vec<_> = keys.into_iter().map(|key| key.dedupe).collect();
        to.append(newest as i64, encode_keys(&keys), Vec::new(), EventId::ZERO)?;
        from = next;
    }
    let frozen = documents.freeze();
    let kept = snapshot::shared(&frozen)
        .filter(|change| !matches!(change.table(), Table::Slots | Table::Tickets))
        .collect::<Vec<_>>();
    filled.documents = kept.len() as u64;
    filled.messages = to.last;
    let done = Done { sequence: to.last, configured_at: to.last, events_at: to.events_at, ..Done::default() };
    link.wait(snapshot::write_all(&link.jetstream, &link.names, done, kept.into_iter(), 0))?;
    drop(wal);
    Ok(filled)
}
