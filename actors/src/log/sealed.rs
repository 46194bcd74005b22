//! A sealed segment, and how its database is read.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::block::{self, Head, Kind, Part};
use super::block_cache::BlockCache;
use super::databases::Databases;
use super::manifest::{FORMAT_1, Manifest};
use super::page::{PageBuilder, Source};
use super::section::{id_at, u32_at};
use super::{LogError, Span, format_1, record};
use crate::disk::DiskError;
use crate::disk::database::{Database, DatabaseError, Range};
use crate::model::event::ChannelNo;
use crate::model::id::EventId;

/// One block in the value of a stripe: channel, first and last id.
pub const STRIPE_ENTRY_BYTES: usize = 36;

/// Why a segment cannot be read.
#[derive(Debug)]
pub enum Trouble {
    /// Its bytes are not what was written.
    Damaged(String),
    Failed(LogError),
}

impl From<DatabaseError> for Trouble {
    fn from(e: DatabaseError) -> Trouble {
        if e.is_damage() { Trouble::Damaged(e.to_string()) } else { Trouble::Failed(e.into()) }
    }
}

impl From<DiskError> for Trouble {
    fn from(e: DiskError) -> Trouble {
        Trouble::Failed(e.into())
    }
}

fn damaged<T>(why: &str) -> Result<T, Trouble> {
    Err(Trouble::Damaged(why.to_owned()))
}

#[derive(Debug)]
pub struct Sealed {
    pub dir: PathBuf,
    pub manifest: Manifest,
    /// Of its database, keys and manifest.
    pub disk_bytes: u64,
    /// Retention has taken it; nothing may open it any more.
    is_dropped: AtomicBool,
}

impl Sealed {
    pub fn new(dir: PathBuf, manifest: Manifest, disk_bytes: u64) -> Sealed {
        Sealed { dir, manifest, disk_bytes, is_dropped: AtomicBool::new(false) }
    }

    pub fn segment(&self) -> u64 {
        self.manifest.segment
    }

    pub fn span(&self, no: ChannelNo) -> Option<Span> {
        self.manifest.span(no)
    }

    pub fn drop_it(&self) {
        self.is_dropped.store(true, Ordering::Release);
    }

    /// Adds what the page wants from here; nothing once retention has taken the segment, which the ledger of losses
    /// knows. Blocks.
    ///
    /// # Errors
    /// [`Trouble::Damaged`] when a block or record is not what was sealed, [`Trouble::Failed`] when the database cannot
    /// be opened or read otherwise.
    pub fn read(&self, databases: &Databases, page: &mut PageBuilder) -> Result<(), Trouble> {
        let lease = databases.lease(&self.dir, &self.manifest);
        if self.is_dropped.load(Ordering::Acquire) {
            return Ok(());
        }
        let database = lease?;
        if self.manifest.format == FORMAT_1 {
            return format_1::read(&database, page);
        }
        let reader = Reader { database: &database, manifest: &self.manifest, blocks: database.blocks() };
        let (known, damage) = (page.events.len(), page.damaged.len());
        match (page.no, page.is_forward()) {
            (ChannelNo::ALL, _) => reader.read_all(page)?,
            (no, true) => reader.read_forward(no, page)?,
            (no, false) => reader.read_backward(no, page)?,
        }
        if page.damaged.len() > damage {
            // checked when it was sealed, so it has changed since
            page.events.truncate(known);
            page.damaged.truncate(damage);
            return damaged("a record fails its check");
        }
        Ok(())
    }
}

/// Reads values with all their parts.
pub struct Values<'a>(Range<'a>);

impl<'a> Values<'a> {
    pub fn new(range: Range<'a>) -> Values<'a> {
        Values(range)
    }

    fn part(&mut self) -> Option<Result<Part, Trouble>> {
        let (key, value) = match self.0.next()? {
            Ok(entry) => entry,
            Err(e) => return Some(Err(e.into())),
        };
        let part = Part::read(value).filter(|part| part.head.key(part.part) == key.as_ref());
        Some(part.ok_or_else(|| Trouble::Damaged("a value fails its check".into())))
    }
}

impl Values<'_> {
    /// The head of the next value.
    fn next_head(&mut self) -> Result<Option<Head>, Trouble> {
        Ok(self.part().transpose()?.map(|part| part.head))
    }
}

impl Iterator for Values<'_> {
    type Item = Result<Value, Trouble>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = match self.part()? {
            Ok(first) => first,
            Err(e) => return Some(Err(e)),
        };
        let head = first.head;
        let mut parts = vec![first];
        while parts.len() < usize::from(parts[0].parts) {
            match self.part() {
                Some(Ok(part)) => parts.push(part),
                Some(Err(e)) => return Some(Err(e)),
                None => break,
            }
        }
        Some(Ok(Value { head, parts }))
    }
}

/// A value as it is stored.
pub struct Value {
    pub head: Head,
    parts: Vec<Part>,
}

impl Value {
    /// The value, joined from its parts.
    ///
    /// # Errors
    /// [`Trouble::Damaged`] when a part is missing.
    pub fn content(&self) -> Result<Bytes, Trouble> {
        block::join(&self.parts).ok_or_else(|| Trouble::Damaged("a value lacks a part".into()))
    }
}

struct Reader<'a> {
    database: &'a Database,
    manifest: &'a Manifest,
    blocks: &'a BlockCache,
}

impl Reader<'_> {
    /// The records of a block that was looked up.
    fn records(&self, block: &Value) -> Result<Bytes, Trouble> {
        let Head { number, first, .. } = block.head;
        if let Some(records) = self.blocks.get(number, first) {
            return Ok(records);
        }
        let records = block.content()?;
        self.blocks.put(number, first, &records);
        Ok(records)
    }

    fn values(&self, range: impl std::ops::RangeBounds<Vec<u8>>) -> Values<'_> {
        Values(self.database.range(range))
    }

    /// The value with this head's key.
    fn value(&self, head: Head) -> Result<Value, Trouble> {
        match self.values(head.key(0)..=head.key(u16::MAX)).next() {
            Some(value) => value,
            None => damaged("a value is missing"),
        }
    }

    fn block(&self, no: ChannelNo, first: EventId) -> Result<Value, Trouble> {
        self.value(Head { kind: Kind::Block, number: no.0, first, before: EventId::ZERO })
    }

    /// The first id of the last block or stripe in a range of keys.
    fn last_first(&self, range: std::ops::Range<Vec<u8>>) -> Result<Option<EventId>, Trouble> {
        let Some(entry) = self.database.range(range).next_back() else { return Ok(None) };
        let (key, _) = entry?;
        if key.len() < 18 {
            return damaged("a key is too short");
        }
        Ok(Some(id_at(&key, key.len() - 18)))
    }

    fn read_forward(&self, no: ChannelNo, page: &mut PageBuilder) -> Result<(), Trouble> {
        let Some(span) = self.manifest.span(no) else { return Ok(()) };
        let low = block::block_key(no.0, EventId::ZERO, 0);
        // the block that may hold the next event begins at or before the cursor
        let holding = self.last_first(low.clone()..block::block_key(no.0, page.cursor.plus(1), 0))?;
        let start = holding.map_or(low, |first| block::block_key(no.0, first, 0));
        let (mut before, mut last) = (holding.is_none().then_some(EventId::ZERO), EventId::ZERO);
        for value in self.values(start..=block::block_key(no.0, EventId::MAX, u16::MAX)) {
            let value = value?;
            let head = value.head;
            if before.is_some_and(|before| before != head.before) {
                return damaged("a block is missing");
            }
            before = Some(head.first);
            if head.first > page.head || is_full(page, head.first) {
                return Ok(());
            }
            let records = self.records(&value)?;
            last = last_id(&records)?;
            take(page, no, head.first, last, records)?;
            if page.more {
                return Ok(());
            }
        }
        if last != span.last { damaged("the last block of a channel is missing") } else { Ok(()) }
    }

    fn read_backward(&self, no: ChannelNo, page: &mut PageBuilder) -> Result<(), Trouble> {
        let Some(span) = self.manifest.span(no) else { return Ok(()) };
        let low = block::block_key(no.0, EventId::ZERO, 0);
        let cursor = block::block_key(no.0, page.cursor, 0);
        // what the block behind the cursor says of the one before it
        let mut behind = self
            .values(cursor.clone()..=block::block_key(no.0, EventId::MAX, u16::MAX))
            .next_head()?
            .map(|head| head.before);
        let mut bound = cursor;
        loop {
            let first = self.last_first(low.clone()..bound)?;
            let expected = behind.or_else(|| (first.is_none()).then_some(EventId::MAX));
            if expected.is_some_and(|expected| expected != first.unwrap_or(EventId::ZERO)) {
                return damaged("a block is missing");
            }
            let Some(first) = first else { return Ok(()) };
            if is_full(page, first) {
                return Ok(());
            }
            let block = self.block(no, first)?;
            let records = self.records(&block)?;
            let last = last_id(&records)?;
            if behind.is_none() && last != span.last {
                return damaged("the last block of a channel is missing");
            }
            take(page, no, first, last, records)?;
            if page.more {
                return Ok(());
            }
            behind = Some(block.head.before);
            bound = block::block_key(no.0, first, 0);
        }
    }

    fn read_all(&self, page: &mut PageBuilder) -> Result<(), Trouble> {
        let Some(span) = self.manifest.span(ChannelNo::ALL) else { return Ok(()) };
        let low = block::stripe_key(EventId::ZERO, 0);
        let end = block::stripe_key(EventId::MAX, u16::MAX);
        if page.is_forward() {
            // the stripe that may hold the next event begins at or before the cursor
            let holding = self.last_first(low.clone()..block::stripe_key(page.cursor.plus(1), 0))?;
            let start = holding.map_or(low, |first| block::stripe_key(first, 0));
            let (mut before, mut last) = (holding.is_none().then_some(EventId::ZERO), EventId::ZERO);
            for value in self.values(start..=end) {
                let value = value?;
                let head = value.head;
                if before.is_some_and(|before| before != head.before) {
                    return damaged("a stripe is missing");
                }
                before = Some(head.first);
                if head.first > page.head || is_full(page, head.first) {
                    return Ok(());
                }
                last = self.stripe(&value.content()?, page)?;
                page.reach(last);
                if page.more {
                    return Ok(());
                }
            }
            return if last != span.last { damaged("the last stripe is missing") } else { Ok(()) };
        }
        let cursor = block::stripe_key(page.cursor, 0);
        let mut behind = self.values(cursor.clone()..=end).next_head()?.map(|head| head.before);
        let mut bound = cursor;
        loop {
            let first = self.last_first(low.clone()..bound)?;
            let expected = behind.or_else(|| (first.is_none()).then_some(EventId::MAX));
            if expected.is_some_and(|expected| expected != first.unwrap_or(EventId::ZERO)) {
                return damaged("a stripe is missing");
            }
            let Some(first) = first else { return Ok(()) };
            if is_full(page, first) {
                return Ok(());
            }
            let value = self.value(Head { kind: Kind::Stripe, number: 0, first, before: EventId::ZERO })?;
            let last = self.stripe(&value.content()?, page)?;
            if behind.is_none() && last != span.last {
                return damaged("the last stripe is missing");
            }
            page.reach(first);
            if page.more {
                return Ok(());
            }
            behind = Some(value.head.before);
            bound = block::stripe_key(first, 0);
        }
    }

    /// Takes what the page wants of a stripe; returns the last id in it.
    fn stripe(&self, stripe: &[u8], page: &mut PageBuilder) -> Result<EventId, Trouble> {
        let (entries, []) = stripe.as_chunks::<STRIPE_ENTRY_BYTES>() else { return damaged("a stripe is cut") };
        let source = |entry: &[u8; STRIPE_ENTRY_BYTES]| Source {
            channel: ChannelNo(u32_at(entry, 0)),
            first: id_at(entry, 4),
            last: id_at(entry, 20),
        };
        let sources: Vec<Source> = entries.iter().map(source).collect();
        page.merge(&sources, true, |n| {
            let Source { channel, first, .. } = sources[n];
            match self.blocks.get(channel.0, first) {
                Some(records) => Ok(records),
                None => self.records(&self.block(channel, first)?),
            }
        })?;
        Ok(sources.iter().map(|source| source.last).max().unwrap_or_default())
    }
}

/// Whether the page has no room for what begins here, which it then knows to be there.
fn is_full(page: &mut PageBuilder, first: EventId) -> bool {
    page.more = !page.has_room() && page.wants(first, first);
    page.more
}

fn take(
    page: &mut PageBuilder,
    channel: ChannelNo,
    first: EventId,
    last: EventId,
    records: Bytes,
) -> Result<(), Trouble> {
    page.merge(&[Source { channel, first, last }], true, |_| Ok(records.clone()))
}

/// The id of the last record of a checked block.
///
/// # Errors
/// [`Trouble::Damaged`] when the block ends within a record, or holds none.
pub fn last_id(records: &[u8]) -> Result<EventId, Trouble> {
    match record::scan(records, true).last() {
        Some(Ok(record)) => Ok(record.id),
        _ => damaged("a block ends within a record"),
    }
}
