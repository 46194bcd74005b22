//! The event log: segments in order, one of them active. One thread appends; any number read. `opening` finds what is
//! there when the server starts, `retention` takes away what is too old or too much.

mod opening;
mod retention;
mod snapshot;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use self::opening::{create, put_aside};
pub use self::snapshot::LogView;
use super::dedupe::SeenKeys;
use super::lost::Lost;
use super::segment::{Meta, Segment};
use super::{Commit, DedupeKey, Direction, Durability, Options, Page, PageLimit, Retention, StoreError, guarded};
use crate::model::event::{ChannelNo, Event};
use crate::model::id::EventId;

/// A segment is not sealed before its file has this size, however small retention is: sled's file grows in such steps.
const SEGMENT_BYTES_MIN: u64 = 2 * 1024 * 1024;
/// Nor before it holds this many events, nor before it is this old.
const SEGMENT_EVENTS_MIN: u64 = 64;
const SEGMENT_AGE_MS_MIN: u64 = 1000;
/// Retention works in whole segments; a segment is at most this part of what is kept.
const RETENTION_PARTS: u64 = 4;

pub struct Log {
    options: Options,
    dir: PathBuf,
    writer: Mutex<Writer>,
    shelf: RwLock<Shelf>,
    lost: RwLock<Lost>,
    seen: Mutex<SeenKeys>,
    quarantined: Mutex<Vec<String>>,
    reads: AtomicU64,
}

/// What only the thread that appends changes.
struct Writer {
    meta: Meta,
    segment: Arc<Segment>,
    began_ms: u64,
    last_sync_ms: u64,
    dirty: bool,
    /// It has been sealed, or that was begun: nothing more may be written to it.
    sealed: bool,
    /// A write failed, and sled with it: the next commit begins a new segment.
    broken: bool,
}

/// What readers see.
struct Shelf {
    /// The newest durable event.
    head: EventId,
    /// In the order of the log; the last one is active.
    volumes: Vec<Arc<Volume>>,
    /// Ids (from, to) of commits that failed since the start, newest last.
    abandoned: Vec<(EventId, EventId)>,
}

/// Failed commits that are remembered. A disk that fails more often than this has made the server unready long before.
const ABANDONED_MAX: usize = 1024;

/// A segment on the shelf, open or closed.
struct Volume {
    seq: u64,
    path: PathBuf,
    meta: RwLock<Meta>,
    open: Mutex<Handle>,
    last_read: AtomicU64,
}

/// A segment's database. sled opens a file once, so one that readers still hold is found again by `held`.
#[derive(Default)]
struct Handle {
    kept: Option<Arc<Segment>>,
    held: Weak<Segment>,
}

impl Handle {
    fn new(segment: &Arc<Segment>) -> Handle {
        Handle { kept: Some(segment.clone()), held: Arc::downgrade(segment) }
    }
}

#[derive(Debug, Default)]
pub struct OpenReport {
    /// Segments that did not open.
    pub quarantined: Vec<String>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Dropped {
    pub segments: u64,
    pub events: u64,
    pub bytes: u64,
}

#[derive(Debug, Clone)]
pub struct LogStats {
    pub segments: usize,
    pub events: u64,
    /// On disk.
    pub bytes: u64,
    pub quarantined: Vec<String>,
    pub dedupe_forgotten: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log {
    // ---- writing -------------------------------------------------------------------------------------------------

    /// Appends a commit; on return it is durable as the options say, and visible. Only the journal calls this.
    pub fn append(&self, commit: &Commit, now_ms: i64) -> Result<(), StoreError> {
        let now_ms = now_ms.max(0) as u64;
        let mut writer = lock(&self.writer);
        if writer.sealed || writer.broken || self.full(&writer, now_ms) {
            guarded(|| self.rotate(&mut writer, now_ms))?;
        }
        if let Err(e) = self.apply(&mut writer, commit, now_ms) {
            self.abandon(&mut writer, commit);
            return Err(e);
        }
        // counted only now: a commit that failed is not there
        for event in &commit.events {
            writer.meta.count(event);
        }
        if !commit.dedupe.is_empty() {
            writer.meta.keys_ms = writer.meta.keys_ms.max(now_ms);
        }
        let mut shelf = self.shelf.write().unwrap_or_else(PoisonError::into_inner);
        let active = shelf.volumes.last().cloned();
        if let Some(active) = &active {
            active.learn(&writer.meta, commit);
        }
        if let Some(last) = commit.events.last() {
            shelf.head = last.id;
        }
        drop(shelf);
        if let Some(active) = active.filter(|_| !commit.dedupe.is_empty()) {
            let mut seen = lock(&self.seen);
            for dedupe in &commit.dedupe {
                seen.add(now_ms, dedupe.fingerprint(), active.seq);
            }
        }
        Ok(())
    }

    fn apply(&self, writer: &mut Writer, commit: &Commit, now_ms: u64) -> Result<(), StoreError> {
        guarded(|| writer.segment.append(commit, now_ms))?;
        match self.options.durability {
            Durability::Interval { ms } if now_ms < writer.last_sync_ms.saturating_add(ms) => writer.dirty = true,
            durability => {
                guarded(|| writer.segment.sync(durability))?;
                writer.last_sync_ms = now_ms;
                writer.dirty = false;
            }
        }
        Ok(())
    }

    /// A commit failed. It may stand in the segment all the same, so its ids are never shown; and since sled does not
    /// recover from an error, the next commit begins a new segment.
    fn abandon(&self, writer: &mut Writer, commit: &Commit) {
        writer.broken = true;
        if let (Some(first), Some(last)) = (commit.events.first(), commit.events.last()) {
            let mut shelf = self.shelf.write().unwrap_or_else(PoisonError::into_inner);
            shelf.abandoned.push((first.id, last.id));
            if shelf.abandoned.len() > ABANDONED_MAX {
                shelf.abandoned.remove(0);
            }
        }
    }

    /// Flushes what an interval durability still holds back, if its time has come.
    pub fn sync_if_due(&self, now_ms: i64) -> Result<(), StoreError> {
        let mut writer = lock(&self.writer);
        match self.options.durability {
            Durability::Interval { ms } if writer.dirty && now_ms.max(0) as u64 >= writer.last_sync_ms + ms => {
                writer.segment.sync(self.options.durability)?;
                writer.last_sync_ms = now_ms.max(0) as u64;
                writer.dirty = false;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Makes everything durable.
    pub fn sync(&self) -> Result<(), StoreError> {
        lock(&self.writer).segment.sync(Durability::Fsync)
    }

    fn full(&self, writer: &Writer, now_ms: u64) -> bool {
        if writer.meta.events == 0 {
            return false;
        }
        let Retention { max_age_ms, max_bytes, max_events } = self.options.retention;
        let part = |limit: u64, least: u64| if limit == 0 { u64::MAX } else { (limit / RETENTION_PARTS).max(least) };
        let bytes = self.options.segment_max_bytes.max(SEGMENT_BYTES_MIN).min(part(max_bytes, SEGMENT_BYTES_MIN));
        let age = self.options.segment_max_age_ms.max(SEGMENT_AGE_MS_MIN).min(part(max_age_ms, SEGMENT_AGE_MS_MIN));
        writer.segment.disk_bytes() >= bytes
            || writer.meta.events >= part(max_events, SEGMENT_EVENTS_MIN)
            || now_ms.saturating_sub(writer.began_ms) >= age
    }

    /// Seals the active segment and begins the next one.
    fn rotate(&self, writer: &mut Writer, now_ms: u64) -> Result<(), StoreError> {
        writer.sealed = true;
        match writer.segment.seal(&writer.meta) {
            // it is read through when it is opened the next time
            Err(e) if writer.broken => log::warn!("a segment that failed is left as it is: {e}"),
            sealed => sealed?,
        }
        let last = self.shelf.read().unwrap_or_else(PoisonError::into_inner).volumes.last().map_or(0, |v| v.seq);
        let (volume, segment) = create(&self.dir, last + 1, self.options.cache_bytes)?;
        self.shelf.write().unwrap_or_else(PoisonError::into_inner).volumes.push(volume);
        *writer = Writer {
            meta: Meta::default(),
            segment,
            began_ms: now_ms,
            last_sync_ms: now_ms,
            dirty: false,
            sealed: false,
            broken: false,
        };
        self.close_unread();
        Ok(())
    }

    // ---- reading -------------------------------------------------------------------------------------------------

    /// The newest durable event, also when retention has dropped it since.
    pub fn head(&self) -> EventId {
        self.shelf.read().unwrap_or_else(PoisonError::into_inner).head
    }

    /// A page of one channel, or of all in one order, strictly beyond the cursor.
    pub fn read(
        &self,
        no: ChannelNo,
        cursor: EventId,
        limit: PageLimit,
        direction: Direction,
    ) -> Result<Page, StoreError> {
        let (head, mut volumes) = self.shelf();
        let beyond = |v: &Volume| {
            v.span(no).is_some_and(|span| match direction {
                Direction::Forward => span.last > cursor,
                Direction::Backward => span.first < cursor,
            })
        };
        volumes.retain(|v| beyond(v));
        if direction == Direction::Backward {
            volumes.reverse();
        }
        self.gather(&volumes, limit, |segment, limit| segment.read(no, cursor, head, limit, direction))
    }

    fn gather(
        &self,
        volumes: &[Arc<Volume>],
        limit: PageLimit,
        read: impl Fn(&Segment, PageLimit) -> Result<(Vec<Event>, bool), StoreError>,
    ) -> Result<Page, StoreError> {
        let mut page = Page::default();
        let mut bytes = 0;
        for volume in volumes {
            if page.events.len() >= limit.events || bytes >= limit.bytes {
                page.more = true;
                break;
            }
            let left = PageLimit { events: limit.events - page.events.len(), bytes: limit.bytes - bytes };
            let (mut events, more) = match self.borrow(volume).and_then(|segment| match segment {
                Some(segment) => guarded(|| read(&segment, left)),
                None => Ok((Vec::new(), false)),
            }) {
                Ok(read) => read,
                Err(e) if e.is_damage() && self.set_aside(volume, &e)? => continue,
                Err(e) => return Err(e),
            };
            self.strike_abandoned(&mut events);
            bytes += events.iter().map(|event| event.payload.as_bytes().len() + 128).sum::<usize>();
            page.events.extend(events);
            if more {
                page.more = true;
                break;
            }
        }
        Ok(page)
    }

    /// Takes out what a failed commit left behind.
    fn strike_abandoned(&self, events: &mut Vec<Event>) {
        let shelf = self.shelf.read().unwrap_or_else(PoisonError::into_inner);
        if !shelf.abandoned.is_empty() {
            events.retain(|event| !shelf.abandoned.iter().any(|(from, to)| (*from..=*to).contains(&event.id)));
        }
    }

    /// Puts a sealed segment that turned out to be damaged into quarantine, so that readers get past it. False for the
    /// active one, which the journal still writes.
    fn set_aside(&self, damaged: &Arc<Volume>, reason: &StoreError) -> Result<bool, StoreError> {
        let (before, after) = {
            let mut shelf = self.shelf.write().unwrap_or_else(PoisonError::into_inner);
            let Some(at) = shelf.volumes.iter().position(|v| v.seq == damaged.seq) else { return Ok(true) };
            if at + 1 == shelf.volumes.len() {
                return Ok(false);
            }
            shelf.volumes.remove(at);
            let before = shelf.volumes[..at].iter().rev().find_map(|v| v.last()).unwrap_or_default();
            (before, damaged.last().unwrap_or(shelf.head))
        };
        self.lost.write().unwrap_or_else(PoisonError::into_inner).damage(before, after)?;
        let now_ms = after.time_ms();
        let aside = put_aside(&self.options.data_dir, &damaged.path, damaged.seq, now_ms, reason)?;
        lock(&self.quarantined).push(aside);
        Ok(true)
    }

    /// The oldest kept event of a channel, or of all.
    pub fn oldest(&self, no: ChannelNo) -> Option<EventId> {
        let (_, volumes) = self.shelf();
        volumes.iter().find_map(|v| v.span(no).map(|span| span.first))
    }

    /// The newest kept event of a channel, or of all.
    pub fn newest(&self, no: ChannelNo) -> Option<EventId> {
        let (_, volumes) = self.shelf();
        volumes.iter().rev().find_map(|v| v.span(no).map(|span| span.last))
    }

    /// The newest event of the channel (or of all) that retention took; zero while it took none.
    pub fn expired(&self, no: ChannelNo) -> EventId {
        self.lost.read().unwrap_or_else(PoisonError::into_inner).expired(no)
    }

    /// Whether events of the channel (or of any) with ids in (after, through] may be gone.
    pub fn lost_between(&self, no: ChannelNo, after: EventId, through: EventId) -> bool {
        self.lost.read().unwrap_or_else(PoisonError::into_inner).between(no, after, through)
    }

    /// The first range within (after, through] that is damaged: events of any channel may be missing there.
    pub fn damaged_between(&self, after: EventId, through: EventId) -> Option<(EventId, EventId)> {
        self.lost.read().unwrap_or_else(PoisonError::into_inner).damaged_between(after, through)
    }

    /// What a dedupe key stands for, within the window: (first id, count).
    pub fn known(&self, no: ChannelNo, key: DedupeKey, now_ms: i64) -> Result<Option<(EventId, u32)>, StoreError> {
        let Some(seq) = lock(&self.seen).segment(key.fingerprint(no)) else { return Ok(None) };
        let (_, volumes) = self.shelf();
        let Some(volume) = volumes.iter().find(|v| v.seq == seq) else { return Ok(None) };
        let Some(segment) = self.borrow(volume)? else { return Ok(None) };
        let found = guarded(|| segment.dedupe(no, key))?;
        let seen = lock(&self.seen);
        Ok(found.filter(|(_, _, at)| seen.in_window(*at, now_ms.max(0) as u64)).map(|(first, count, _)| (first, count)))
    }

    pub fn stats(&self) -> LogStats {
        let (_, volumes) = self.shelf();
        LogStats {
            segments: volumes.len(),
            events: volumes.iter().map(|v| v.meta.read().unwrap_or_else(PoisonError::into_inner).events).sum(),
            bytes: volumes.iter().map(|v| v.disk_bytes()).sum(),
            quarantined: lock(&self.quarantined).clone(),
            dedupe_forgotten: lock(&self.seen).forgotten,
        }
    }

    fn shelf(&self) -> (EventId, Vec<Arc<Volume>>) {
        let shelf = self.shelf.read().unwrap_or_else(PoisonError::into_inner);
        (shelf.head, shelf.volumes.clone())
    }

    /// The open database of a segment, opened if need be; none when retention has removed it.
    fn borrow(&self, volume: &Volume) -> Result<Option<Arc<Segment>>, StoreError> {
        volume.last_read.store(self.reads.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        let mut open = lock(&volume.open);
        if let Some(segment) = open.held.upgrade() {
            open.kept = Some(segment.clone());
            return Ok(Some(segment));
        }
        if !volume.path.exists() {
            return Ok(None);
        }
        let segment = Arc::new(Segment::open(&volume.path, self.options.cache_bytes)?);
        *open = Handle::new(&segment);
        drop(open);
        self.close_unread();
        Ok(Some(segment))
    }

    /// Closes the sealed segments that were read longest ago, beyond those that may stay open.
    fn close_unread(&self) {
        let (_, volumes) = self.shelf();
        let Some((_, sealed)) = volumes.split_last() else { return };
        // one that is being opened right now is not waited for
        let mut open: Vec<_> =
            sealed.iter().filter(|v| v.open.try_lock().is_ok_and(|handle| handle.kept.is_some())).collect();
        open.sort_by_key(|v| std::cmp::Reverse(v.last_read.load(Ordering::Relaxed)));
        for volume in open.into_iter().skip(self.options.open_segments) {
            // readers that are in it hold it until they are done
            if let Ok(mut handle) = volume.open.try_lock() {
                handle.kept = None;
            }
        }
    }
}

impl Volume {
    fn new(seq: u64, path: PathBuf, meta: Meta, open: Option<Arc<Segment>>) -> Volume {
        let handle = open.as_ref().map(Handle::new).unwrap_or_default();
        Volume { seq, path, meta: RwLock::new(meta), open: Mutex::new(handle), last_read: AtomicU64::new(0) }
    }

    fn last(&self) -> Option<EventId> {
        self.meta.read().unwrap_or_else(PoisonError::into_inner).last
    }

    /// What the segment holds of a channel, or of all.
    fn span(&self, no: ChannelNo) -> Option<super::segment::Span> {
        let meta = self.meta.read().unwrap_or_else(PoisonError::into_inner);
        match no {
            ChannelNo::ALL => Some(super::segment::Span { first: meta.first?, last: meta.last?, events: meta.events }),
            no => meta.channels.get(&no.0).copied(),
        }
    }

    /// Takes over what a commit changed, for readers.
    fn learn(&self, all: &Meta, commit: &Commit) {
        let mut meta = self.meta.write().unwrap_or_else(PoisonError::into_inner);
        (meta.first, meta.last, meta.events, meta.bytes) = (all.first, all.last, all.events, all.bytes);
        meta.keys_ms = all.keys_ms;
        for event in &commit.events {
            if let Some(span) = all.channels.get(&event.channel.0) {
                meta.channels.insert(event.channel.0, *span);
            }
        }
    }

    fn disk_bytes(&self) -> u64 {
        std::fs::metadata(self.path.join("db")).map_or(0, |meta| meta.len())
    }
}

fn folder(seq: u64) -> String {
    format!("{seq:010}")
}
