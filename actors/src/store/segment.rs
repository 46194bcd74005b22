//! One segment: a sled database with the events of a stretch of the log.

use std::collections::BTreeMap;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sled::IVec;

use super::{Commit, Dedupe, DedupeKey, Direction, Durability, PageLimit, StoreError, guarded, io, record, sync_dir};
use crate::model::event::{ChannelNo, Event};
use crate::model::id::EventId;

/// sled's unit of allocation. A quarter of it is the size from which sled makes a page a file of its own, which it never
/// syncs; a page holds up to [`PAGE_VALUES`] values.
pub(super) const SLED_SEGMENT_BYTES: usize = 4 * 1024 * 1024;
const PAGE_VALUES: usize = 17;
/// Values stay below this.
const VALUE_BYTES: usize = 48 * 1024;
const _: () = assert!(PAGE_VALUES * (VALUE_BYTES + 1024) < SLED_SEGMENT_BYTES / 4);

const META: &[u8] = b"m";
const BEGUN: &[u8] = b"b";
const BEGUN_FILE: &str = "begun";

/// sled lets go of its file a moment after the last handle is dropped; who opens it again waits for that.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_POLL: Duration = Duration::from_millis(1);

fn is_locked(e: &std::io::Error) -> bool {
    e.to_string().starts_with("could not acquire lock")
}

/// Opens a database. sled may panic on a damaged file; that is an error here.
pub(super) fn open_database(config: &sled::Config, path: &Path) -> Result<sled::Db, StoreError> {
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match catch_unwind(AssertUnwindSafe(|| config.open())) {
            Ok(Err(sled::Error::Io(e))) if is_locked(&e) && Instant::now() < deadline => std::thread::sleep(LOCK_POLL),
            Ok(opened) => return opened.map_err(|source| StoreError::Sled { path: path.to_path_buf(), source }),
            Err(_) => return Err(StoreError::Panicked(format!("{} does not open", path.display()))),
        }
    }
}

/// What a segment holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    pub first: Option<EventId>,
    pub last: Option<EventId>,
    pub events: u64,
    /// Of records, before sled.
    pub bytes: u64,
    pub channels: BTreeMap<u32, Span>,
    /// When its newest dedupe key was used.
    #[serde(default)]
    pub keys_ms: u64,
}

/// What a segment holds of one channel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Span {
    pub first: EventId,
    pub last: EventId,
    pub events: u64,
}

impl Meta {
    pub fn count(&mut self, event: &Event) {
        self.first.get_or_insert(event.id);
        self.last = Some(event.id);
        self.events += 1;
        self.bytes += record_size(event) as u64;
        let span = Span { first: event.id, last: event.id, events: 0 };
        let span = self.channels.entry(event.channel.0).or_insert(span);
        span.last = event.id;
        span.events += 1;
    }
}

pub struct Segment {
    db: sled::Db,
    path: PathBuf,
    /// Our own descriptor of sled's file: sled's flush is no fsync.
    file: File,
    pub corrupt: AtomicU64,
}

impl Segment {
    /// Opens a segment that was begun. sled may make an empty database of a file that is missing or damaged, so what
    /// was written when the segment was begun has to be there.
    pub fn open(path: &Path, cache_bytes: u64) -> Result<Segment, StoreError> {
        let name = path.join("db");
        File::open(&name).map_err(io("open", &name))?;
        let segment = Segment::open_any(path, cache_bytes)?;
        match guarded(|| segment.db.get(BEGUN).map_err(|e| segment.sled(e)))? {
            Some(_) => Ok(segment),
            None => Err(StoreError::Damaged),
        }
    }

    /// Begins a segment, or ends what a crash left of that.
    pub fn begin(path: &Path, cache_bytes: u64) -> Result<Segment, StoreError> {
        let segment = Segment::open_any(path, cache_bytes)?;
        segment.db.insert(BEGUN, &[]).map_err(|e| segment.sled(e))?;
        segment.sync(Durability::Fsync)?;
        let mark = path.join(BEGUN_FILE);
        File::create(&mark).map_err(io("make", &mark))?;
        sync_dir(path)?;
        Ok(segment)
    }

    /// Whether a segment was begun here completely; before that it holds nothing.
    pub fn is_begun(path: &Path) -> bool {
        path.join(BEGUN_FILE).exists()
    }

    /// Opens or creates the database. sled may panic on a damaged file; that is an error here.
    fn open_any(path: &Path, cache_bytes: u64) -> Result<Segment, StoreError> {
        let config = sled::Config::new()
            .path(path)
            .mode(sled::Mode::HighThroughput)
            .segment_size(SLED_SEGMENT_BYTES)
            .flush_every_ms(None)
            .cache_capacity(cache_bytes);
        let db = open_database(&config, path)?;
        let name = path.join("db");
        let file = File::open(&name).map_err(io("open", &name))?;
        Ok(Segment { db, path: path.to_path_buf(), file, corrupt: AtomicU64::new(0) })
    }

    fn sled(&self, source: sled::Error) -> StoreError {
        StoreError::Sled { path: self.path.clone(), source }
    }

    /// Applies a commit as one atomic batch. Not durable before [`Segment::sync`].
    pub fn append(&self, commit: &Commit, now_ms: u64) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        let mut blocks: Vec<Block> = Vec::new();
        let mut open: BTreeMap<ChannelNo, usize> = BTreeMap::new();
        for event in &commit.events {
            let at = match open.get(&event.channel).copied() {
                Some(at) if blocks[at].bytes.len() + record_size(event) <= VALUE_BYTES => at,
                _ => {
                    blocks.push(Block { channel: event.channel, first: event.id, bytes: Vec::new() });
                    open.insert(event.channel, blocks.len() - 1);
                    blocks.len() - 1
                }
            };
            record::write(event, &mut blocks[at].bytes);
        }
        let mut index = Vec::with_capacity(blocks.len() * 20);
        for block in &blocks {
            index.extend_from_slice(&block.channel.0.to_be_bytes());
            index.extend_from_slice(&block.first.to_bytes());
            for (part, bytes) in block.bytes.chunks(VALUE_BYTES).enumerate() {
                batch.insert(&block_key(block.channel, block.first, part as u16)[..], bytes);
            }
        }
        if let Some(first) = commit.events.first() {
            // a commit has at most some two thousand blocks, so its index entry stays below 48 KiB
            batch.insert(&index_key(first.id)[..], index);
        }
        for dedupe in &commit.dedupe {
            let mut value = [0; 28];
            value[..16].copy_from_slice(&dedupe.first.to_bytes());
            value[16..20].copy_from_slice(&dedupe.count.to_be_bytes());
            value[20..].copy_from_slice(&now_ms.to_be_bytes());
            batch.insert(&dedupe_key(dedupe.channel, dedupe.key)[..], &value[..]);
        }
        self.db.apply_batch(batch).map_err(|e| self.sled(e))
    }

    /// Makes everything applied so far durable in the sense of `durability`.
    pub fn sync(&self, durability: Durability) -> Result<(), StoreError> {
        self.db.flush().map_err(|e| self.sled(e))?;
        if durability != Durability::Flush {
            self.file.sync_data().map_err(io("sync", &self.path))?;
        }
        Ok(())
    }

    /// Size of the file.
    pub fn disk_bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |meta| meta.len())
    }

    pub fn seal(&self, meta: &Meta) -> Result<(), StoreError> {
        self.db.insert(META, serde_json::to_vec(meta)?).map_err(|e| self.sled(e))?;
        self.sync(Durability::Fsync)
    }

    /// What a sealed segment wrote down of itself; none when it was never sealed.
    pub fn sealed(&self) -> Result<Option<Meta>, StoreError> {
        let value = self.db.get(META).map_err(|e| self.sled(e))?;
        Ok(value.map(|value| serde_json::from_slice(&value)).transpose()?)
    }

    /// Reads the whole segment to see what it holds.
    pub fn survey(&self) -> Result<Meta, StoreError> {
        let mut channels = Vec::new();
        let mut at = 0u32;
        while let Some(key) = self.next_key(&block_key(ChannelNo(at), EventId::ZERO, 0), b'c')? {
            let no = channel_of(&key);
            channels.push(no);
            let Some(next) = no.0.checked_add(1) else { break };
            at = next;
        }
        let mut meta = Meta::default();
        let (mut first, mut last) = (None::<EventId>, None::<EventId>);
        for no in channels {
            let mut after = EventId::ZERO;
            loop {
                let limit = PageLimit { events: 4096, bytes: 1 << 20 };
                let (events, more) = self.read(no, after, EventId::MAX, limit, Direction::Forward)?;
                for event in &events {
                    meta.count(event);
                    after = event.id;
                }
                first = first.into_iter().chain(events.first().map(|e| e.id)).min();
                last = last.max(events.last().map(|e| e.id));
                if !more {
                    break;
                }
            }
        }
        (meta.first, meta.last) = (first, last);
        Ok(meta)
    }

    fn next_key(&self, from: &[u8], kind: u8) -> Result<Option<IVec>, StoreError> {
        let next = self.db.range(from..).next().transpose().map_err(|e| self.sled(e))?;
        Ok(next.map(|(key, _)| key).filter(|key| key[0] == kind))
    }

    /// Reads one channel, or all, from `cursor` on, not past `head`: the events, and whether the limit ended it.
    pub fn read(
        &self,
        no: ChannelNo,
        cursor: EventId,
        head: EventId,
        limit: PageLimit,
        direction: Direction,
    ) -> Result<(Vec<Event>, bool), StoreError> {
        match direction {
            _ if no == ChannelNo::ALL => self.read_all(cursor, head, limit, direction),
            Direction::Forward => self.read_forward(no, cursor, head, limit),
            Direction::Backward => self.read_backward(no, cursor, head, limit),
        }
    }

    fn read_forward(
        &self,
        no: ChannelNo,
        after: EventId,
        head: EventId,
        limit: PageLimit,
    ) -> Result<(Vec<Event>, bool), StoreError> {
        let low = block_key(no, EventId::ZERO, 0);
        let high = block_key(no, EventId::MAX, u16::MAX);
        // the block that may hold the next event begins at or before the cursor
        let holding = self.db.range(&low[..]..=&block_key(no, after, u16::MAX)[..]).next_back();
        let start = match holding.transpose().map_err(|e| self.sled(e))? {
            Some((key, _)) => block_key(no, first_of(&key), 0),
            None => low,
        };
        let (mut events, mut bytes) = (Vec::new(), 0);
        let mut blocks = self.db.range(&start[..]..=&high[..]);
        while let Some(block) = self.next_block(&mut blocks)? {
            for event in self.events_of(no, block) {
                if event.id <= after {
                    continue;
                }
                if event.id > head {
                    return Ok((events, false));
                }
                if events.len() >= limit.events || bytes >= limit.bytes {
                    return Ok((events, true));
                }
                bytes += record_size(&event);
                events.push(event);
            }
        }
        Ok((events, false))
    }

    fn read_backward(
        &self,
        no: ChannelNo,
        before: EventId,
        head: EventId,
        limit: PageLimit,
    ) -> Result<(Vec<Event>, bool), StoreError> {
        let low = block_key(no, EventId::ZERO, 0);
        let (mut events, mut bytes) = (Vec::new(), 0);
        let mut bound = block_key(no, before, 0);
        loop {
            let previous = self.db.range(&low[..]..&bound[..]).next_back().transpose().map_err(|e| self.sled(e))?;
            let Some((key, _)) = previous else { return Ok((events, false)) };
            bound = block_key(no, first_of(&key), 0);
            // parts without a beginning are damage: there is no record in them
            let Some(block) = self.block(no, first_of(&key))? else { continue };
            for event in self.events_of(no, block).into_iter().rev() {
                if event.id >= before || event.id > head {
                    continue;
                }
                if events.len() >= limit.events || bytes >= limit.bytes {
                    return Ok((events, true));
                }
                bytes += record_size(&event);
                events.push(event);
            }
        }
    }

    /// Reads all channels in one order, strictly beyond the cursor and not past `head`.
    fn read_all(
        &self,
        cursor: EventId,
        head: EventId,
        limit: PageLimit,
        direction: Direction,
    ) -> Result<(Vec<Event>, bool), StoreError> {
        let low = index_key(EventId::ZERO);
        let high = index_key(EventId::MAX);
        let mut commits: Box<dyn Iterator<Item = _>> = match direction {
            Direction::Forward => {
                // the commit that may hold the next event begins at or before the cursor
                let holding = self.db.range(&low[..]..=&index_key(cursor)[..]).next_back();
                let start = match holding.transpose().map_err(|e| self.sled(e))? {
                    Some((key, _)) => key,
                    None => IVec::from(&low[..]),
                };
                Box::new(self.db.range(start.as_ref()..=&high[..]))
            }
            Direction::Backward => Box::new(self.db.range(&low[..]..&index_key(cursor)[..]).rev()),
        };
        let beyond = |event: &Event| match direction {
            Direction::Forward => event.id > cursor,
            Direction::Backward => event.id < cursor,
        };
        let (mut events, mut bytes) = (Vec::new(), 0);
        while let Some((_, places)) = commits.next().transpose().map_err(|e| self.sled(e))? {
            let commit = self.commit(&places, direction)?;
            for event in commit.into_iter().filter(|event| beyond(event) && event.id <= head) {
                if events.len() >= limit.events || bytes >= limit.bytes {
                    return Ok((events, true));
                }
                bytes += record_size(&event);
                events.push(event);
            }
        }
        Ok((events, false))
    }

    /// The events of one commit in the order asked for.
    fn commit(&self, places: &[u8], direction: Direction) -> Result<Vec<Event>, StoreError> {
        let mut commit = Vec::new();
        for place in places.chunks_exact(20) {
            let no = ChannelNo(u32::from_be_bytes([place[0], place[1], place[2], place[3]]));
            if let Some(block) = self.block(no, first_of_slice(&place[4..]))? {
                commit.extend(self.events_of(no, block));
            }
        }
        match direction {
            Direction::Forward => commit.sort_by_key(|event| event.id),
            Direction::Backward => commit.sort_by_key(|event| std::cmp::Reverse(event.id)),
        }
        Ok(commit)
    }

    /// The next block with all its parts.
    fn next_block(&self, entries: &mut sled::Iter) -> Result<Option<Bytes>, StoreError> {
        loop {
            let Some((key, value)) = entries.next().transpose().map_err(|e| self.sled(e))? else { return Ok(None) };
            if part_of(&key) == 0 {
                return self.whole(channel_of(&key), first_of(&key), &value).map(Some);
            }
        }
    }

    fn block(&self, no: ChannelNo, first: EventId) -> Result<Option<Bytes>, StoreError> {
        let value = self.db.get(block_key(no, first, 0)).map_err(|e| self.sled(e))?;
        value.map(|value| self.whole(no, first, &value)).transpose()
    }

    /// A block from its first part on. A length that is damaged takes in no more than the block's own parts.
    fn whole(&self, no: ChannelNo, first: EventId, begin: &[u8]) -> Result<Bytes, StoreError> {
        let Some(whole) = record::missing(begin) else { return Ok(Bytes::copy_from_slice(begin)) };
        let mut bytes = begin.to_vec();
        for part in 1..=u16::MAX {
            if bytes.len() >= whole {
                break;
            }
            // a part that is not there is a record that fails its check
            let Some(more) = self.db.get(block_key(no, first, part)).map_err(|e| self.sled(e))? else { break };
            bytes.extend_from_slice(&more);
        }
        Ok(bytes.into())
    }

    fn events_of(&self, no: ChannelNo, block: Bytes) -> Vec<Event> {
        let mut corrupt = 0;
        let events = record::read(block, no, &mut corrupt);
        if corrupt > 0 {
            self.corrupt.fetch_add(corrupt, Ordering::Relaxed);
            log::error!(segment:display = self.path.display(), channel = no.0, records = corrupt;
                "records fail their check and are skipped");
        }
        events
    }

    /// Entries as they are stored, behind the key `after`: about `bytes` of them, none at the end.
    pub fn entries(&self, after: &[u8], bytes: usize) -> Result<Vec<(IVec, IVec)>, StoreError> {
        let (mut page, mut size) = (Vec::new(), 0);
        let range = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        for entry in self.db.range::<&[u8], _>(range) {
            let (key, value) = entry.map_err(|e| self.sled(e))?;
            size += key.len() + value.len();
            page.push((key, value));
            if size >= bytes {
                break;
            }
        }
        Ok(page)
    }

    /// Writes entries as another segment has stored them. Durable with the next [`Segment::sync`].
    pub fn import(&self, entries: sled::Batch) -> Result<(), StoreError> {
        self.db.apply_batch(entries).map_err(|e| self.sled(e))
    }

    /// A dedupe key: (first id, count, time_ms).
    pub fn dedupe(&self, no: ChannelNo, key: DedupeKey) -> Result<Option<(EventId, u32, u64)>, StoreError> {
        let value = self.db.get(dedupe_key(no, key)).map_err(|e| self.sled(e))?;
        Ok(value.and_then(|value| parse_dedupe(&value)))
    }

    /// All dedupe keys: (fingerprint, time_ms), in no order.
    pub fn dedupe_keys(&self) -> Result<Vec<(u64, u64)>, StoreError> {
        let mut keys = Vec::new();
        for entry in self.db.scan_prefix(b"d") {
            let (key, value) = entry.map_err(|e| self.sled(e))?;
            let mut half = [0; 16];
            if key.len() != 21 {
                continue;
            }
            half.copy_from_slice(&key[5..]);
            if let Some((_, _, time_ms)) = parse_dedupe(&value) {
                keys.push((DedupeKey(half).fingerprint(channel_of(&key)), time_ms));
            }
        }
        Ok(keys)
    }
}

/// Whether an entry belongs to what was committed up to `head`. Of a commit all entries do, or none; what a segment says of
/// itself when it is sealed belongs to its end.
pub(super) fn is_before(key: &[u8], value: &[u8], head: EventId) -> bool {
    match key.first() {
        Some(b'c') if key.len() == 23 => first_of(key) <= head,
        Some(b'i') if key.len() == 17 => first_of_slice(&key[1..]) <= head,
        Some(b'd') => parse_dedupe(value).is_some_and(|(first, ..)| first <= head),
        _ => key == BEGUN,
    }
}

struct Block {
    channel: ChannelNo,
    first: EventId,
    bytes: Vec<u8>,
}

fn record_size(event: &Event) -> usize {
    37 + event.kind.as_str().len()
        + event.session.as_deref().map_or(0, str::len)
        + event.origin.by.len()
        + event.payload.as_bytes().len()
}

fn block_key(no: ChannelNo, first: EventId, part: u16) -> [u8; 23] {
    let mut key = [b'c'; 23];
    key[1..5].copy_from_slice(&no.0.to_be_bytes());
    key[5..21].copy_from_slice(&first.to_bytes());
    key[21..].copy_from_slice(&part.to_be_bytes());
    key
}

fn index_key(first: EventId) -> [u8; 17] {
    let mut key = [b'i'; 17];
    key[1..].copy_from_slice(&first.to_bytes());
    key
}

fn dedupe_key(no: ChannelNo, key: DedupeKey) -> [u8; 21] {
    let mut bytes = [b'd'; 21];
    bytes[1..5].copy_from_slice(&no.0.to_be_bytes());
    bytes[5..].copy_from_slice(&key.0);
    bytes
}

fn channel_of(key: &[u8]) -> ChannelNo {
    ChannelNo(u32::from_be_bytes([key[1], key[2], key[3], key[4]]))
}

fn part_of(key: &[u8]) -> u16 {
    u16::from_be_bytes([key[21], key[22]])
}

fn first_of(key: &[u8]) -> EventId {
    first_of_slice(&key[5..21])
}

fn first_of_slice(bytes: &[u8]) -> EventId {
    let mut id = [0; 16];
    id.copy_from_slice(bytes);
    EventId::from_bytes(id)
}

fn parse_dedupe(value: &[u8]) -> Option<(EventId, u32, u64)> {
    let value: &[u8; 28] = value.try_into().ok()?;
    let count = u32::from_be_bytes([value[16], value[17], value[18], value[19]]);
    let mut time = [0; 8];
    time.copy_from_slice(&value[20..]);
    Some((first_of_slice(&value[..16]), count, u64::from_be_bytes(time)))
}

impl Dedupe {
    pub(super) fn fingerprint(&self) -> u64 {
        self.key.fingerprint(self.channel)
    }
}
