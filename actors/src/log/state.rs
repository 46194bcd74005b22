//! The log itself: its parts at one moment ([`LogState`]), how commits are admitted, and what it tells of itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::active::{Active, KeysPlace};
use super::databases::Databases;
use super::dedupe::DedupeTable;
use super::losses::{DamagedRange, LossChange, LossDocument, LossLedger};
use super::manifest::Manifest;
use super::newest::{self, Newest};
use super::sealed::Sealed;
use super::{DedupeKey, LogError, LogOptions, LogStats, Moment, section};
use crate::disk::{Disk, DiskError};
use crate::model::event::ChannelNo;
use crate::model::id::EventId;
use crate::wal::{LogId, Piece};

#[derive(Debug)]
pub struct Log {
    pub(super) disk: Disk,
    /// The folder `log`.
    pub(super) dir: PathBuf,
    /// The folder beside it for damaged segments.
    pub(super) quarantine: PathBuf,
    /// Which log it is.
    pub(super) id: LogId,
    pub(super) options: LogOptions,
    // taken in this order, and none of them over I/O
    pub(super) state: RwLock<LogState>,
    pub(super) dedupe: Mutex<DedupeTable>,
    pub(super) losses: RwLock<LossLedger>,
    pub(super) quarantined: Mutex<Vec<String>>,
    pub(super) databases: Databases,
}

/// The parts of the log at one moment: sealed segments, the part that waits to be sealed, the active part.
#[derive(Debug)]
pub(super) struct LogState {
    /// The newest durable event, or the newest id that may have been given out.
    pub head: EventId,
    /// The newest commit that was admitted.
    pub sequence: u64,
    /// In the order of the log.
    pub sealed: Arc<Vec<Arc<Sealed>>>,
    /// Waits to be sealed.
    pub rolled: Option<Arc<Active>>,
    pub active: Arc<Active>,
    pub next_segment: u64,
    /// Of the segment that is being sealed, when it is whole and that could not be written down durably. It must not go any
    /// more: what is written down may say that it is there.
    pub unnoted: Option<Manifest>,
    /// What is written down of the segment that was sealed last; none when that cannot be read.
    pub newest: Option<Newest>,
    /// The clocks as they were last read.
    pub clock: Moment,
    /// Behind this event commits were damaged, and none was admitted since.
    pub damaged_after: Option<EventId>,
    /// Segments that retention dropped and whose folders are still there.
    pub leftovers: Vec<PathBuf>,
}

/// What a reader sees: it stays as it is while segments are sealed and dropped.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub head: EventId,
    pub sealed: Arc<Vec<Arc<Sealed>>>,
    pub rolled: Option<Arc<Active>>,
    pub active: Arc<Active>,
}

/// A part of a commit: where it stands in the piece, and its bytes.
#[derive(Clone, Copy, Debug)]
pub struct CommitPart<'a> {
    pub offset: u32,
    pub bytes: &'a [u8],
}

/// A durable commit, as far as it concerns the log.
#[derive(Clone, Copy, Debug)]
pub struct Admission<'a> {
    pub sequence: u64,
    /// When it was made, in Unix milliseconds.
    pub time_ms: u64,
    pub piece: &'a Arc<Piece>,
    /// What [`encode_events`](super::encode_events) made.
    pub events: Option<CommitPart<'a>>,
    /// What [`encode_keys`](super::encode_keys) made.
    pub keys: Option<CommitPart<'a>>,
}

impl LogState {
    /// The segments with one more, or with one in the place of its predecessor.
    pub fn add(&mut self, sealed: Arc<Sealed>) {
        let mut all = Vec::clone(&self.sealed);
        match all.binary_search_by_key(&sealed.segment(), |other| other.segment()) {
            Ok(at) => all[at] = sealed,
            Err(at) => all.insert(at, sealed),
        }
        self.sealed = Arc::new(all);
    }

    pub fn roll(&mut self) {
        self.rolled = Some(std::mem::take(&mut self.active));
    }
}

impl Log {
    /// Takes in a durable commit and shows its events. Commits come in their order; one that is sealed already changes
    /// nothing.
    ///
    /// # Errors
    /// When a part of it is not what this version writes.
    pub fn admit(&self, commit: &Admission<'_>) -> Result<(), LogError> {
        let blocks = commit.events.map(|part| section::blocks(part.bytes)).transpose()?.unwrap_or_default();
        let keys: Vec<_> = match commit.keys {
            Some(part) => section::keys(part.bytes)?.collect(),
            None => Vec::new(),
        };
        let mut state = self.state.write();
        if commit.sequence <= state.sequence {
            return Ok(());
        }
        state.sequence = commit.sequence;
        if blocks.is_empty() && keys.is_empty() {
            return Ok(());
        }
        let keys_place = commit.keys.filter(|_| !keys.is_empty()).map(|part| KeysPlace {
            piece: commit.piece.clone(),
            offset: part.offset,
            len: part.bytes.len() as u32,
            time_ms: commit.time_ms,
        });
        if let Some(first) = blocks.first()
            && let Some(after) = state.damaged_after.take()
        {
            self.damage_unsealed(&state.active, DamagedRange::new(ChannelNo::ALL, after, first.first.before()));
        }
        let offset = commit.events.map_or(0, |part| part.offset);
        let clock = state.clock;
        state.active.admit(commit.sequence, commit.piece, offset, &blocks, keys_place, clock);
        let newest = blocks.iter().map(|block| block.last).max();
        state.head = state.head.max(newest.unwrap_or_default());
        let mut dedupe = self.dedupe.lock();
        for key in &keys {
            dedupe.add(key, commit.time_ms);
        }
        Ok(())
    }

    /// Notes that commits behind the newest one that was admitted could not be read: whatever they held is missing.
    pub fn admit_damage(&self) {
        let mut state = self.state.write();
        let head = state.head;
        state.damaged_after.get_or_insert(head);
    }

    /// The newest durable event, also when retention has dropped it since; ids go on behind it.
    pub fn head(&self) -> EventId {
        self.state.read().head
    }

    /// The first commit whose events or keys are in no sealed segment; none when all of them are.
    pub fn needed_from(&self) -> Option<u64> {
        let state = self.state.read();
        let first = |active: &Active| active.sums().sequences.map(|(from, _)| from);
        state.rolled.as_deref().and_then(first).or_else(|| first(&state.active))
    }

    /// The newest commit of which anything is in a sealed segment, or was in one that retention dropped. 0 when nothing was
    /// sealed.
    pub fn sealed_through(&self) -> u64 {
        let state = self.state.read();
        let dropped = state.newest.map_or(0, |newest| newest.through);
        state.sealed.iter().map(|sealed| sealed.manifest.through).max().unwrap_or(0).max(dropped)
    }

    /// The first commit that recovery has to hand to [`Log::admit`]. `begins_at`: the first one that the write-ahead log
    /// still has. `stored`: one that was sealed when it gave up those before. Blocks.
    ///
    /// # Errors
    /// [`LogError::MissingSegment`] when no segment has the commit `stored`: the segments are an older copy. Else what the
    /// disk says.
    pub fn recovers_from(&self, begins_at: u64, stored: u64) -> Result<u64, LogError> {
        let next = self.sealed_through() + 1;
        let (newest, last) = {
            let state = self.state.read();
            (state.newest, state.next_segment - 1)
        };
        if next <= stored {
            return Err(LogError::MissingSegment { path: self.dir_of(last + 1) });
        }
        if newest.is_some() {
            // Commits before it were given up when they were sealed or had nothing for the log. That no segment is missing
            // is checked by `recovered`.
            return Ok(next.max(begins_at));
        }
        // where nothing was given up yet, the segments that are there are all that there were
        if begins_at == 1 {
            let newest = Newest { segment: last, through: next - 1 };
            self.make_dir()?;
            newest::write(&self.disk, &self.dir, newest)?;
            self.state.write().newest = Some(newest);
        }
        Ok(next)
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let state = self.state.read();
        Snapshot {
            head: state.head,
            sealed: state.sealed.clone(),
            rolled: state.rolled.clone(),
            active: state.active.clone(),
        }
    }

    /// The oldest kept event of a channel, or of all.
    pub fn oldest(&self, no: ChannelNo) -> Option<EventId> {
        let Snapshot { sealed, rolled, active, .. } = self.snapshot();
        let sealed = sealed.iter().find_map(|sealed| sealed.span(no));
        sealed.or_else(|| rolled.and_then(|rolled| rolled.span(no))).or_else(|| active.span(no)).map(|span| span.first)
    }

    /// The newest kept event of a channel, or of all.
    pub fn newest(&self, no: ChannelNo) -> Option<EventId> {
        let Snapshot { sealed, rolled, active, .. } = self.snapshot();
        let unsealed = active.span(no).or_else(|| rolled.and_then(|rolled| rolled.span(no)));
        unsealed.or_else(|| sealed.iter().rev().find_map(|sealed| sealed.span(no))).map(|span| span.last)
    }

    /// The newest event of the channel (or of all) that retention took; zero while it took none.
    pub fn expired(&self, no: ChannelNo) -> EventId {
        self.losses.read().expired(no)
    }

    /// Whether events of the channel (or of any) with ids in (after, through] may be gone.
    pub fn lost_between(&self, no: ChannelNo, after: EventId, through: EventId) -> bool {
        self.losses.read().between(no, after, through)
    }

    /// The first part of (after, through] in which events of the channel (or of any) may be missing because of damage.
    pub fn damaged_between(&self, no: ChannelNo, after: EventId, through: EventId) -> Option<(EventId, EventId)> {
        self.losses.read().damaged_between(no, after, through)
    }

    /// Adds what another node knows to be gone, and has stored there.
    pub fn learn_losses(&self, documents: impl IntoIterator<Item = LossDocument>) {
        self.losses.write().restore(documents);
    }

    /// Damage that was found and is not stored yet. Who takes it stores it, or gives it back.
    pub fn take_unsaved(&self) -> Vec<LossChange> {
        self.losses.write().take_unsaved()
    }

    /// Takes back what could not be stored.
    pub fn give_back(&self, changes: Vec<LossChange>) {
        self.losses.write().give_back(changes);
    }

    /// Looks at the clocks, so that dedupe keys age by the time that passes. To be called before keys are looked up or admitted.
    pub fn follow_clock(&self, now: Moment) {
        self.dedupe.lock().follow(now);
    }

    /// What a dedupe key stands for, within the window: the first id and the count.
    pub fn known(&self, no: ChannelNo, key: DedupeKey, now_ms: u64) -> Option<(EventId, u32)> {
        self.dedupe.lock().known(no, key, now_ms)
    }

    /// The highest number of a channel of which anything is or was kept; no new channel may have it or a lower one.
    pub fn highest_channel(&self) -> u32 {
        let Snapshot { sealed, rolled, active, .. } = self.snapshot();
        let sealed = sealed.iter().filter_map(|sealed| sealed.manifest.channels.last().map(|span| span.channel));
        let unsealed = rolled.iter().chain([&active]).filter_map(|active| active.channels().last().copied());
        let lost = self.losses.read().highest_channel();
        sealed.chain(unsealed).max().unwrap_or(0).max(lost)
    }

    /// Whether a page from here can be read without opening a database, which may take some ten milliseconds.
    pub fn is_warm(&self, no: ChannelNo, cursor: EventId, direction: super::Direction) -> bool {
        let Snapshot { head, sealed, rolled, active } = self.snapshot();
        let limit = super::PageLimit { events: 1, bytes: 1 };
        let page = super::page::PageBuilder::new(no, cursor, head, limit, direction);
        let wants = |span: Option<super::Span>| span.is_some_and(|span| page.wants(span.first, span.last));
        let is_in = |sealed: &&Arc<Sealed>| wants(sealed.span(no));
        let first = match direction {
            super::Direction::Forward => sealed.iter().find(is_in),
            super::Direction::Backward if wants(active.span(no)) => return true,
            super::Direction::Backward if rolled.is_some_and(|rolled| wants(rolled.span(no))) => return true,
            super::Direction::Backward => sealed.iter().rev().find(is_in),
        };
        first.is_none_or(|sealed| self.databases.is_open(sealed.segment()))
    }

    /// Notes durably that commits up to `sequence` have nothing for the log that is not sealed. Blocks.
    ///
    /// # Errors
    /// What the disk says.
    pub fn skip_through(&self, sequence: u64) -> Result<(), LogError> {
        let newest = {
            let state = self.state.read();
            debug_assert!(state.active.sums().sequences.is_none(), "it was sealed before");
            Newest { segment: state.next_segment - 1, through: sequence }
        };
        newest::write(&self.disk, &self.dir, newest)?;
        self.state.write().newest = Some(newest);
        Ok(())
    }

    /// How many ranges are known in which events are missing because of damage.
    pub fn damaged_ranges(&self) -> usize {
        self.losses.read().damaged().len()
    }

    /// The newest damaged ranges, at most `count`, in the order of the log.
    pub fn newest_damage(&self, count: usize) -> Vec<DamagedRange> {
        let losses = self.losses.read();
        let damaged = losses.damaged();
        damaged[damaged.len().saturating_sub(count)..].to_vec()
    }

    /// Gives the memory back that is kept for the next reader of sealed segments. Blocks.
    pub fn close_idle(&self) {
        self.databases.close_idle();
    }

    pub fn stats(&self) -> LogStats {
        let Snapshot { sealed, rolled, active, .. } = self.snapshot();
        let unsealed: Vec<_> = rolled.iter().chain([&active]).map(|active| active.sums()).collect();
        let unsealed_bytes = unsealed.iter().map(|sums| sums.bytes).sum::<u64>();
        let stats = LogStats {
            segments: sealed.len() + unsealed.len(),
            events: sealed.iter().map(|sealed| sealed.manifest.events).sum::<u64>()
                + unsealed.iter().map(|sums| sums.events).sum::<u64>(),
            bytes: sealed.iter().map(|sealed| sealed.disk_bytes).sum::<u64>() + unsealed_bytes,
            unsealed_bytes,
            quarantined: self.quarantined.lock().clone(),
            damaged_ranges: self.losses.read().damaged().len(),
            cached_bytes: self.databases.cached_bytes(),
            ..LogStats::default()
        };
        let dedupe = self.dedupe.lock();
        LogStats {
            dedupe_keys: dedupe.len(),
            dedupe_bytes: dedupe.bytes(),
            dedupe_forgotten: dedupe.forgotten(),
            ..stats
        }
    }

    /// Notes damage, and says so once.
    pub(super) fn note_damage(&self, ranges: &[DamagedRange]) {
        for range in ranges {
            if self.losses.write().damage(*range) {
                let DamagedRange { after, through, channel } = range;
                ::log::error!(channel, after:% = after, through:% = through; "events of the log are damaged and missing");
            }
        }
    }

    /// Notes damage in a part of the log that is not sealed, for its segment to tell of as well.
    pub(super) fn damage_unsealed(&self, active: &Active, range: DamagedRange) {
        active.damage(range);
        self.note_damage(&[range]);
    }

    pub(super) fn dir_of(&self, segment: u64) -> PathBuf {
        self.dir.join(folder(segment))
    }

    /// What the files of a segment take up. Blocks.
    pub(super) fn disk_bytes(&self, dir: &Path) -> Result<u64, DiskError> {
        let mut bytes = 0;
        for entry in self.disk.list(dir)? {
            if !entry.is_dir {
                bytes += self.disk.len(&dir.join(&entry.name))?.unwrap_or(0);
            }
        }
        Ok(bytes)
    }
}

/// The name of a segment's folder.
pub(super) fn folder(segment: u64) -> String {
    format!("{segment:010}")
}
