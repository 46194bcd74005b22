//! The part of the log that is not sealed: an index over the pieces of the write-ahead log that hold its blocks.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use super::chunks::Chunks;
use super::losses::DamagedRange;
use super::page::{PageBuilder, Source};
use super::section::SectionBlock;
use super::{LogError, Moment, Span};
use crate::model::event::ChannelNo;
use crate::model::id::EventId;
use crate::wal::Piece;

/// Blocks that are looked up at once, and their bytes. One commit may have more.
const WINDOW_BLOCKS: usize = 1024;
const WINDOW_BYTES: usize = 256 * 1024;
/// Blocks that lie this close together are read at once, up to so many bytes.
const GAP_BYTES: u32 = 4096;
const RUN_BYTES: u32 = 64 * 1024;

/// Where a block stands.
#[derive(Clone, Copy, Debug)]
struct BlockPlace {
    first: EventId,
    last: EventId,
    channel: u32,
    /// Which of the pieces.
    piece: u32,
    offset: u32,
    len: u32,
}

/// Where the dedupe keys of a commit stand, and when it was made.
#[derive(Clone, Debug)]
pub struct KeysPlace {
    pub piece: Arc<Piece>,
    pub offset: u32,
    pub len: u32,
    pub time_ms: u64,
}

#[derive(Debug)]
struct ChannelIndex {
    span: Span,
    /// Numbers of its blocks.
    blocks: Vec<u32>,
}

#[derive(Debug, Default)]
struct Index {
    pieces: Vec<Arc<Piece>>,
    /// In the order of their commits, within a commit in that of their first ids.
    blocks: Chunks<BlockPlace>,
    /// Numbers of the first blocks of the commits.
    commits: Chunks<u32>,
    channels: HashMap<u32, ChannelIndex>,
    keys: Vec<KeysPlace>,
    sums: Sums,
    damaged: Vec<DamagedRange>,
}

/// What an unsealed part of the log holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums {
    /// Commits of the write-ahead log: the first and the last that has events or keys.
    pub sequences: Option<(u64, u64)>,
    pub first: Option<EventId>,
    pub last: Option<EventId>,
    pub events: u64,
    /// Of records and keys.
    pub bytes: u64,
    pub blocks: usize,
    pub keys_ms: u64,
    /// The clocks when the newest event was admitted, as they were last read before.
    pub newest_at: Moment,
}

/// An unsealed part of the log. Once it is rolled it does not change any more.
#[derive(Debug, Default)]
pub struct Active {
    index: RwLock<Index>,
}

/// Blocks that were looked up, and how to read them.
struct Window {
    /// In the order of the log.
    places: Vec<BlockPlace>,
    pieces: Vec<Arc<Piece>>,
    /// For each place its run; for each run (first place, offset, end).
    runs_of: Vec<usize>,
    runs: Vec<Run>,
}

struct Run {
    piece: usize,
    offset: u32,
    end: u32,
    bytes: Option<Bytes>,
}

impl Active {
    /// Adds the blocks of a commit, whose section stands at `offset` of the piece, and its keys.
    pub fn admit(
        &self,
        sequence: u64,
        piece: &Arc<Piece>,
        offset: u32,
        blocks: &[SectionBlock],
        keys: Option<KeysPlace>,
        at: Moment,
    ) {
        let mut index = self.index.write();
        let index = &mut *index;
        let from = index.sums.sequences.map_or(sequence, |(from, _)| from);
        index.sums.sequences = Some((from, sequence));
        if let Some(keys) = keys {
            index.sums.keys_ms = index.sums.keys_ms.max(keys.time_ms);
            index.sums.bytes += u64::from(keys.len);
            index.keys.push(keys);
        }
        if blocks.is_empty() {
            return;
        }
        if index.pieces.last().is_none_or(|last| !Arc::ptr_eq(last, piece)) {
            index.pieces.push(piece.clone());
        }
        index.commits.push(index.blocks.end() as u32);
        for block in blocks {
            let number = index.blocks.push(BlockPlace {
                first: block.first,
                last: block.last,
                channel: block.channel.0,
                piece: index.pieces.len() as u32 - 1,
                offset: offset + block.offset,
                len: block.len,
            });
            let span = Span { first: block.first, last: block.last, events: 0 };
            let channel =
                index.channels.entry(block.channel.0).or_insert_with(|| ChannelIndex { span, blocks: Vec::new() });
            channel.span.last = block.last;
            channel.span.events += u64::from(block.count);
            channel.blocks.push(number as u32);
            index.sums.first.get_or_insert(block.first);
            index.sums.last = index.sums.last.max(Some(block.last));
            index.sums.events += u64::from(block.count);
            index.sums.bytes += u64::from(block.len);
        }
        index.sums.blocks = index.blocks.len();
        index.sums.newest_at = at;
    }

    pub fn sums(&self) -> Sums {
        self.index.read().sums
    }

    /// What it holds of a channel, or of all.
    pub fn span(&self, no: ChannelNo) -> Option<Span> {
        let index = self.index.read();
        match no {
            ChannelNo::ALL => {
                Some(Span { first: index.sums.first?, last: index.sums.last?, events: index.sums.events })
            }
            no => index.channels.get(&no.0).map(|channel| channel.span),
        }
    }

    /// All channels it holds, in the order of their numbers.
    pub fn channels(&self) -> Vec<u32> {
        let mut channels: Vec<u32> = self.index.read().channels.keys().copied().collect();
        channels.sort_unstable();
        channels
    }

    pub fn keys(&self) -> Vec<KeysPlace> {
        self.index.read().keys.clone()
    }

    /// Notes damage that the segment will have to tell of.
    pub fn damage(&self, range: DamagedRange) {
        let mut index = self.index.write();
        if !index.damaged.contains(&range) {
            index.damaged.push(range);
        }
    }

    pub fn damaged(&self) -> Vec<DamagedRange> {
        self.index.read().damaged.clone()
    }

    /// Where to cut into stripes of about `bytes`: the first ids of commits.
    pub fn stripes(&self, bytes: u64) -> Vec<EventId> {
        let index = self.index.read();
        let (mut stripes, mut filled) = (Vec::new(), u64::MAX);
        for commit in 0..index.commits.len() {
            let blocks = index.blocks_of_commit(commit);
            if filled >= bytes {
                stripes.extend(index.blocks.get(blocks.start).map(|block| block.first));
                filled = 0;
            }
            filled += blocks.filter_map(|n| index.blocks.get(n)).map(|block| u64::from(block.len)).sum::<u64>();
        }
        stripes
    }

    /// Adds what the page wants from here. Blocks.
    ///
    /// # Errors
    /// What keeps a piece from being read.
    pub fn read(&self, page: &mut PageBuilder) -> Result<(), LogError> {
        while !page.more {
            let mut window = self.index.read().window(page);
            let Some((end, sources)) = window.sources(page) else { break };
            page.merge(&sources, false, |n| window.load(n))?;
            if !page.more {
                page.cursor = end;
                page.reach(end);
            }
        }
        Ok(())
    }

    /// The blocks of a channel behind number `after` in its list: about [`WINDOW_BYTES`] of them, none at the end. Blocks.
    ///
    /// # Errors
    /// What keeps a piece from being read.
    pub fn blocks(&self, no: ChannelNo, from: usize) -> Result<Vec<(Source, Bytes)>, LogError> {
        let mut window = {
            let index = self.index.read();
            let Some(channel) = index.channels.get(&no.0) else { return Ok(Vec::new()) };
            let blocks = channel.blocks.get(from..).unwrap_or_default();
            let places = index.bounded(blocks.iter().map(|n| *n as usize), WINDOW_BLOCKS, WINDOW_BYTES);
            Window::new(places, &index.pieces)
        };
        (0..window.places.len()).map(|n| Ok((window.places[n].source(), window.load(n)?))).collect()
    }
}

impl BlockPlace {
    fn source(&self) -> Source {
        Source { channel: ChannelNo(self.channel), first: self.first, last: self.last }
    }
}

impl Index {
    /// The numbers of the blocks of a commit.
    fn blocks_of_commit(&self, commit: usize) -> std::ops::Range<usize> {
        let start = |commit: usize| self.commits.get(commit).map_or(self.blocks.end(), |n| *n as usize);
        start(commit)..start(commit + 1)
    }

    /// The places of these blocks as long as there is room; at least one.
    fn bounded(&self, blocks: impl Iterator<Item = usize>, count: usize, bytes: usize) -> Vec<BlockPlace> {
        let (mut places, mut filled) = (Vec::new(), 0);
        for place in blocks.filter_map(|n| self.blocks.get(n)) {
            if !places.is_empty() && (places.len() >= count || filled >= bytes) {
                break;
            }
            filled += place.len as usize;
            places.push(*place);
        }
        places
    }

    /// The next blocks that the page may want: of all channels whole commits.
    fn window(&self, page: &PageBuilder) -> Window {
        let room = page.room();
        let (count, bytes) = (room.events.min(WINDOW_BLOCKS), room.bytes.min(WINDOW_BYTES));
        let mut places = match page.no {
            ChannelNo::ALL => self.commits_from(page, count, bytes),
            no => {
                let blocks = self.channels.get(&no.0).map_or(&[][..], |channel| &channel.blocks);
                let place = |n: &u32| self.blocks.get(*n as usize);
                if page.is_forward() {
                    let from = blocks.partition_point(|n| place(n).is_some_and(|block| block.last <= page.cursor));
                    self.bounded(blocks[from..].iter().map(|n| *n as usize), count, bytes)
                } else {
                    let end = blocks.partition_point(|n| place(n).is_some_and(|block| block.first < page.cursor));
                    self.bounded(blocks[..end].iter().rev().map(|n| *n as usize), count, bytes)
                }
            }
        };
        if !page.is_forward() {
            places.reverse();
        }
        Window::new(places, &self.pieces)
    }

    fn commits_from(&self, page: &PageBuilder, count: usize, bytes: usize) -> Vec<BlockPlace> {
        // the commit that may hold the next event begins at or before the cursor
        let begins = |commit: &u32| self.blocks.get(*commit as usize).map_or(EventId::MAX, |block| block.first);
        let (mut places, mut filled) = (Vec::new(), 0);
        let mut take = |places: &mut Vec<BlockPlace>, blocks: &mut dyn Iterator<Item = usize>| {
            for place in blocks.filter_map(|n| self.blocks.get(n)) {
                filled += place.len as usize;
                places.push(*place);
            }
            places.len() < count && filled < bytes
        };
        if page.is_forward() {
            let mut commit = self.commits.partition_point(|n| begins(n) <= page.cursor).saturating_sub(1);
            // which may also end there
            while commit < self.commits.len() {
                let blocks = self.blocks_of_commit(commit);
                let is_wanted = blocks.clone().filter_map(|n| self.blocks.get(n)).any(|b| b.last > page.cursor);
                commit += 1;
                if is_wanted && !take(&mut places, &mut { blocks }) {
                    break;
                }
            }
        } else {
            let mut commit = self.commits.partition_point(|n| begins(n) < page.cursor);
            while commit > 0 {
                commit -= 1;
                if !take(&mut places, &mut self.blocks_of_commit(commit).rev()) {
                    break;
                }
            }
        }
        places
    }
}

impl Window {
    fn new(places: Vec<BlockPlace>, pieces: &[Arc<Piece>]) -> Window {
        let mut window = Window { places, pieces: Vec::new(), runs_of: Vec::new(), runs: Vec::new() };
        let mut last = None;
        for place in &window.places {
            if last != Some(place.piece) {
                last = Some(place.piece);
                window.pieces.push(pieces[place.piece as usize].clone());
            }
            let piece = window.pieces.len() - 1;
            let end = place.offset + place.len;
            match window.runs.last_mut() {
                Some(run)
                    if run.piece == piece
                        && place.offset >= run.end
                        && place.offset - run.end <= GAP_BYTES
                        && end - run.offset <= RUN_BYTES =>
                {
                    run.end = end;
                }
                _ => window.runs.push(Run { piece, offset: place.offset, end, bytes: None }),
            }
            window.runs_of.push(window.runs.len() - 1);
        }
        window
    }

    /// The blocks as sources, and how far they reach; none when there are none.
    fn sources(&self, page: &PageBuilder) -> Option<(EventId, Vec<Source>)> {
        let end = match page.is_forward() {
            true => self.places.iter().map(|place| place.last).max(),
            false => self.places.iter().map(|place| place.first).min(),
        };
        Some((end?, self.places.iter().map(BlockPlace::source).collect()))
    }

    /// Reads a block, with those beside it.
    fn load(&mut self, n: usize) -> Result<Bytes, LogError> {
        let run = &mut self.runs[self.runs_of[n]];
        let bytes = match &run.bytes {
            Some(bytes) => bytes,
            None => run.bytes.insert(self.pieces[run.piece].read(run.offset, run.end - run.offset)?),
        };
        let start = (self.places[n].offset - run.offset) as usize;
        Ok(bytes.slice(start..start + self.places[n].len as usize))
    }
}
