//! Reading segments as they were written before the write-ahead log.
//!
//! Keys of such a database (numbers big-endian):
//!
//! ```text
//! c channel:u32 first:16 part:u16   a block: the events of one channel in one commit, whole records up to 48 KiB; a
//!                                   larger record goes on in the parts after it
//! i first:16                        a commit: its blocks as (channel:u32, first:16)
//! d channel:u32 key:16              a dedupe key: first:16, count:u32, time_ms:u64
//! b, m                              marks: the segment was begun, the segment was sealed
//! ```

use bytes::Bytes;

use super::manifest::{ChannelSpan, Manifest};
use super::page::{self, PageBuilder, Source};
use super::record;
use super::sealed::Trouble;
use super::section::{id_at, u32_at, u64_at};
use super::segment_writer::STRIPE_BYTES;
use super::{Dedupe, DedupeKey, LogError};
use crate::disk::database::Database;
use crate::model::event::ChannelNo;
use crate::model::id::EventId;

const BLOCK_KEY_BYTES: usize = 23;
const INDEX_ENTRY_BYTES: usize = 20;
const KEY_VALUE_BYTES: usize = 28;
/// What is there since a segment was begun, and since it was sealed.
const BEGUN: &[u8] = b"b";
const SEALED: &[u8] = b"m";

fn block_key(no: ChannelNo, first: EventId, part: u16) -> Vec<u8> {
    super::block::block_key(no.0, first, part)
}

fn index_key(first: EventId) -> Vec<u8> {
    [b"i".as_slice(), &first.to_bytes()].concat()
}

fn damaged<T>(why: &str) -> Result<T, Trouble> {
    Err(Trouble::Damaged(why.to_owned()))
}

/// Adds what the page wants. A record that fails its check is noted in the page, as is a block that is missing. Blocks.
///
/// # Errors
/// [`Trouble::Failed`] when the database cannot be read, [`Trouble::Damaged`] when that is for damage.
pub fn read(database: &Database, page: &mut PageBuilder) -> Result<(), Trouble> {
    match (page.no, page.is_forward()) {
        (ChannelNo::ALL, _) => read_all(database, page),
        (no, true) => read_forward(database, no, page),
        (no, false) => read_backward(database, no, page),
    }
}

fn read_forward(database: &Database, no: ChannelNo, page: &mut PageBuilder) -> Result<(), Trouble> {
    let low = block_key(no, EventId::ZERO, 0);
    // the block that may hold the next event begins at or before the cursor
    let holding = last_block(database, low.clone()..block_key(no, page.cursor.plus(1), 0))?;
    let mut next = Some(holding.map_or(low, |first| block_key(no, first, 0)));
    while let Some(start) = next {
        let Some(first) = first_block(database, start..block_key(no, EventId::MAX, u16::MAX))? else { break };
        if first > page.head || is_full(page, first) {
            break;
        }
        take(database, no, first, page)?;
        next = (!page.more).then(|| block_key(no, first.plus(1), 0));
    }
    Ok(())
}

fn read_backward(database: &Database, no: ChannelNo, page: &mut PageBuilder) -> Result<(), Trouble> {
    let low = block_key(no, EventId::ZERO, 0);
    let mut bound = block_key(no, page.cursor, 0);
    while let Some(first) = last_block(database, low.clone()..bound)? {
        if is_full(page, first) {
            break;
        }
        take(database, no, first, page)?;
        if page.more {
            break;
        }
        bound = block_key(no, first, 0);
    }
    Ok(())
}

fn read_all(database: &Database, page: &mut PageBuilder) -> Result<(), Trouble> {
    let low = index_key(EventId::ZERO);
    let key_before = |bound: Vec<u8>| match database.range(low.clone()..bound).next_back() {
        Some(entry) => entry.map(|(key, _)| Some(key)),
        None => Ok(None),
    };
    let mut at = match page.is_forward() {
        // the commit that may hold the next event begins at or before the cursor
        true => key_before(index_key(page.cursor.plus(1)))?.map_or(low.clone(), |key| key.to_vec()),
        false => index_key(page.cursor),
    };
    loop {
        let entry = match page.is_forward() {
            true => database.range(at.clone()..=index_key(EventId::MAX)).next(),
            false => database.range(low.clone()..at.clone()).next_back(),
        };
        let Some(entry) = entry else { return Ok(()) };
        let (key, places) = entry?;
        let (places, []) = places.as_chunks::<INDEX_ENTRY_BYTES>() else { return damaged("a commit's entry is cut") };
        if key.len() != 17 {
            return damaged("a commit's key is too short");
        }
        let first = id_at(&key, 1);
        if page.is_forward() && first > page.head || is_full(page, first) {
            return Ok(());
        }
        let (mut sources, mut blocks) = (Vec::new(), Vec::new());
        for place in places {
            let (source, block) = load(database, ChannelNo(u32_at(place, 0)), id_at(place, 4))?;
            sources.push(source);
            blocks.push(block);
        }
        page.merge(&sources, false, |n| Ok::<_, Trouble>(blocks[n].clone()))?;
        let last = sources.iter().map(|source| source.last).max().unwrap_or(first);
        page.reach(if page.is_forward() { last } else { first });
        if page.more {
            return Ok(());
        }
        at = if page.is_forward() { index_key(first.plus(1)) } else { key.to_vec() };
    }
}

/// Whether the page has no room for what begins here, which it then knows to be there.
fn is_full(page: &mut PageBuilder, first: EventId) -> bool {
    page.more = !page.has_room() && page.wants(first, first);
    page.more
}

fn take(database: &Database, no: ChannelNo, first: EventId, page: &mut PageBuilder) -> Result<(), Trouble> {
    let (source, block) = load(database, no, first)?;
    page.merge(&[source], false, |_| Ok(block.clone()))
}

fn last_block(database: &Database, range: std::ops::Range<Vec<u8>>) -> Result<Option<EventId>, Trouble> {
    first_of(database.range(range).next_back())
}

fn first_block(database: &Database, range: std::ops::Range<Vec<u8>>) -> Result<Option<EventId>, Trouble> {
    first_of(database.range(range).next())
}

fn first_of(
    entry: Option<Result<(Bytes, Bytes), crate::disk::database::DatabaseError>>,
) -> Result<Option<EventId>, Trouble> {
    let Some(entry) = entry else { return Ok(None) };
    let (key, _) = entry?;
    if key.len() != BLOCK_KEY_BYTES { damaged("a block's key is too short") } else { Ok(Some(id_at(&key, 5))) }
}

/// A block with all its parts, empty when it is missing. Its source reaches to its last record; when that one fails its
/// check, to where its commit ends. Blocks.
fn load(database: &Database, no: ChannelNo, first: EventId) -> Result<(Source, Bytes), Trouble> {
    let mut bytes = database.get(&block_key(no, first, 0))?.map(|begin| begin.to_vec()).unwrap_or_default();
    if let Some(whole) = record::missing(&bytes) {
        for part in 1..=u16::MAX {
            // a length that is damaged takes in no more than the block's own parts
            if bytes.len() >= whole {
                break;
            }
            let Some(more) = database.get(&block_key(no, first, part))? else { break };
            bytes.extend_from_slice(&more);
        }
    }
    let last = match record::scan(&bytes, false).last() {
        Some(Ok(record)) => record.id,
        _ => end_of_commit(database, first)?,
    };
    Ok((Source { channel: no, first, last }, bytes.into()))
}

/// The highest id that an event of the same commit can have.
fn end_of_commit(database: &Database, id: EventId) -> Result<EventId, Trouble> {
    match database.range(index_key(id.plus(1))..=index_key(EventId::MAX)).next() {
        Some(entry) => Ok(id_at(&entry?.0, 1).before()),
        // a commit's events have the time of its making
        None => Ok(EventId::at_time(id.time_ms() + 1).before()),
    }
}

/// All dedupe keys with their times, in no order. Blocks.
///
/// # Errors
/// [`Trouble::Damaged`] when an entry is not one, [`Trouble::Failed`] when the database fails otherwise.
pub fn keys(database: &Database) -> Result<Vec<(Dedupe, u64)>, Trouble> {
    let mut keys = Vec::new();
    collect_keys(database, &mut keys)?;
    Ok(keys)
}

/// The dedupe keys up to where the database is damaged. Blocks.
///
/// # Errors
/// The database fails for another reason than damage.
pub fn keys_as_far_as_possible(database: &Database) -> Result<Vec<(Dedupe, u64)>, LogError> {
    let mut keys = Vec::new();
    match collect_keys(database, &mut keys) {
        Ok(()) | Err(Trouble::Damaged(_)) => Ok(keys),
        Err(Trouble::Failed(e)) => Err(e),
    }
}

fn collect_keys(database: &Database, keys: &mut Vec<(Dedupe, u64)>) -> Result<(), Trouble> {
    for entry in database.range(b"d".to_vec()..b"e".to_vec()) {
        let (key, value) = entry?;
        if key.len() != 21 || value.len() != KEY_VALUE_BYTES {
            return damaged("a dedupe key is cut");
        }
        let mut half = [0; 16];
        half.copy_from_slice(&key[5..]);
        let dedupe = Dedupe {
            channel: ChannelNo(u32_at(&key, 1)),
            key: DedupeKey::from_bytes(half),
            first: id_at(&value, 0),
            count: u32_at(&value, 16),
        };
        keys.push((dedupe, u64_at(&value, 20)));
    }
    Ok(())
}

/// Where to cut into stripes: the first ids of commits, about so far apart as stripes are. Blocks.
///
/// # Errors
/// The database fails for another reason than damage.
pub fn stripes(database: &Database, manifest: &Manifest) -> Result<Vec<EventId>, LogError> {
    let mut commits = Vec::new();
    for entry in database.range(index_key(EventId::ZERO)..=index_key(EventId::MAX)) {
        match entry {
            Ok((key, _)) if key.len() == 17 => commits.push(id_at(&key, 1)),
            Ok(_) => {}
            // what comes behind it is one large stripe
            Err(e) if e.is_damage() => break,
            Err(e) => return Err(e.into()),
        }
    }
    let stripes = (manifest.bytes / STRIPE_BYTES).max(1) as usize;
    let step = commits.len().div_ceil(stripes).max(1);
    Ok(commits.into_iter().step_by(step).collect())
}

/// Whether the database has what every segment of this format begins with. Blocks.
///
/// # Errors
/// The database cannot be read.
pub fn is_begun(database: &Database) -> Result<bool, Trouble> {
    Ok(database.get(BEGUN)?.is_some())
}

/// Whether the segment was sealed. Blocks.
///
/// # Errors
/// The database cannot be read.
pub fn is_sealed(database: &Database) -> Result<bool, Trouble> {
    Ok(database.get(SEALED)?.is_some())
}

/// Reads a segment through to see what it holds. Blocks.
///
/// # Errors
/// [`Trouble::Damaged`] when the beginning or a block is not there, [`Trouble::Failed`] when the database fails
/// otherwise. A damaged record is noted in the manifest.
pub fn survey(database: &Database, manifest: &mut Manifest) -> Result<(), Trouble> {
    // sled may make an empty database of a damaged one
    if !is_begun(database)? {
        return damaged("it lacks what every segment begins with");
    }
    let mut no = 0;
    while let Some(first) = next_channel(database, no)? {
        no = first;
        let mut span = ChannelSpan { channel: no, first: EventId::MAX, last: EventId::ZERO, events: 0 };
        let end = block_key(ChannelNo(no), EventId::MAX, u16::MAX);
        let mut at = block_key(ChannelNo(no), EventId::ZERO, 0);
        while let Some(first) = first_block(database, at..end.clone())? {
            let (source, block) = load(database, ChannelNo(no), first)?;
            let mut take = |record: record::Record| {
                span.events += 1;
                manifest.bytes += (record.end - record.start) as u64;
            };
            page::check(&source, &block, false, &mut take, &mut manifest.damaged);
            span.first = span.first.min(source.first);
            span.last = source.last;
            at = block_key(ChannelNo(no), first.plus(1), 0);
        }
        if span.events > 0 {
            manifest.channels.push(span);
        }
        let Some(next) = no.checked_add(1) else { break };
        no = next;
    }
    manifest.sum_up();
    for (_, time_ms) in keys(database)? {
        manifest.keys += 1;
        manifest.keys_ms = manifest.keys_ms.max(time_ms);
    }
    Ok(())
}

fn next_channel(database: &Database, from: u32) -> Result<Option<u32>, Trouble> {
    let range = block_key(ChannelNo(from), EventId::ZERO, 0)..b"d".to_vec();
    match database.range(range).next() {
        Some(entry) => Ok(Some(entry.map(|(key, _)| u32_at(&key, 1))?)),
        None => Ok(None),
    }
}

/// Goes through all blocks of a channel from one end as far as that is possible; false when it ended by damage. Errors that are
/// no damage end it.
///
/// # Errors
/// The database fails for another reason than damage.
pub fn walk(
    database: &Database,
    no: ChannelNo,
    is_forward: bool,
    mut take: impl FnMut(Source, Bytes),
) -> Result<bool, Trouble> {
    let (mut low, mut high) = (block_key(no, EventId::ZERO, 0), block_key(no, EventId::MAX, u16::MAX));
    loop {
        let step = (|| {
            let range = low.clone()..high.clone();
            let first = if is_forward { first_block(database, range)? } else { last_block(database, range)? };
            first.map(|first| load(database, no, first)).transpose()
        })();
        match step {
            Ok(None) => return Ok(true),
            Ok(Some((source, block))) => {
                match is_forward {
                    true => low = block_key(no, source.first.plus(1), 0),
                    false => high = block_key(no, source.first, 0),
                }
                take(source, block);
            }
            Err(Trouble::Damaged(_)) => return Ok(false),
            Err(failed) => return Err(failed),
        }
    }
}
