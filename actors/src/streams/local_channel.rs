//! A local channel: a channel, or several in one order, as the sessions of one thread see it. It owns the ring that they read, the list of the
//! sessions to wake, and the chunks that several of them take.
//!
//! It is used by one thread only: the shard puts batches in and wakes, sessions take. Nothing here waits or locks.
//!
//! A session that stands where another one stood takes the same chunk, so that the frames of a batch are joined once per
//! encoding and filter, however many read them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::budget::{Part, Reservation};
use crate::clock;
use crate::feed::frame::{Encoding, Frame};
use crate::model::filter::Filter;
use crate::model::id::EventId;
use crate::model::selection::{ChannelSet, Selection};
use crate::streams::channel::Snapshot;
use crate::streams::limits::RingLimits;
use crate::streams::ring::Ring;
use crate::streams::selections::takes;
use crate::streams::{SessionHandle, Streams};

/// Chunks that sessions may share: one per encoding and filter in use, near enough.
const SHARED_CHUNKS: usize = 8;

/// Time from one round of waking to the next, per session.
const ROUND_PER_SESSION: Duration = Duration::from_micros(16);
/// Most that an event waits for others.
const ROUND_MAX: Duration = Duration::from_millis(20);

pub struct LocalChannel {
    pub(super) selection: Selection,
    streams: Arc<Streams>,
    ring: RefCell<Ring>,
    is_joined: Cell<bool>,
    sessions: RefCell<Sessions>,
    shared: RefCell<Vec<SharedChunk>>,
    empty_since: Cell<Option<Instant>>,
    /// When the sessions were woken last.
    last_round: Cell<Option<Instant>>,
    /// A timer of the shard wakes the sessions next.
    round_planned: Cell<bool>,
    several: Option<Several>,
}

/// What a local channel of several channels has beside its ring.
struct Several {
    /// Frames of the batch that is being handed over.
    batch: RefCell<Vec<Arc<Frame>>>,
    /// Sessions of this thread that read several channels, of whichever set: an event may wake all of them, so rounds are
    /// as long as if they were those of one channel.
    sessions: Rc<Cell<usize>>,
}

/// A slab of sessions: the key of a session is its index.
#[derive(Default)]
struct Sessions {
    entries: Vec<Option<Rc<SessionHandle>>>,
    free: Vec<usize>,
}

impl Sessions {
    fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }
}

/// Several frames written after one another, for all sessions that stand at the same position.
struct SharedChunk {
    from: u64,
    end: u64,
    encoding: Encoding,
    filter: Filter,
    taken: Taken,
    /// The positions of what passed the filter; none: everything did.
    passed: Option<Vec<u64>>,
    /// Sessions that took it and are not counted with the events yet.
    handed: Cell<u32>,
    /// The chunk's own copy of the frames in the memory budget.
    _held: Reservation,
}

impl SharedChunk {
    fn take(&self) -> Taken {
        self.handed.set(self.handed.get() + 1);
        self.taken.clone()
    }

    /// Counts the sessions that took it with each of its events, which must still be in the ring.
    fn settle(&self, ring: &Ring) {
        let sessions = self.handed.replace(0);
        if sessions == 0 {
            return;
        }
        let count = |position| ring.get(position).into_iter().for_each(|frame| frame.handed(sessions));
        match &self.passed {
            None => (self.from..self.taken.next).for_each(count),
            Some(passed) => passed.iter().copied().for_each(count),
        }
    }
}

/// What a session takes from the ring in one go.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    /// Empty when nothing passed the filter.
    pub bytes: Bytes,
    /// Where to go on reading.
    pub next: u64,
    pub cursor: EventId,
    pub events: u32,
    /// The filter takes too long over the frame at `next`, which is to be judged elsewhere.
    pub is_cut: bool,
}

/// Time from one round of waking to the next. A write costs the kernel 5 to 8 us however little it carries, so a channel
/// whose every event woke everybody would spend all its time on writes of one event and leave none to its publishers.
/// Rounds take at most about a third of the time; what arrives between two of them leaves in one write. An event that
/// comes after a pause is never held.
fn round_pause(sessions: usize) -> Duration {
    (ROUND_PER_SESSION * sessions as u32).min(ROUND_MAX)
}

impl LocalChannel {
    pub(super) fn new(selection: Selection, streams: Arc<Streams>) -> LocalChannel {
        let ring = Ring::new(EventId::ZERO, ring_limits(&selection, &streams), &streams.handles.budget);
        LocalChannel {
            selection,
            streams,
            ring: RefCell::new(ring),
            is_joined: Cell::new(false),
            sessions: RefCell::default(),
            shared: RefCell::default(),
            empty_since: Cell::new(Some(clock::instant())),
            last_round: Cell::new(None),
            round_planned: Cell::new(false),
            several: None,
        }
    }

    /// The local channel of a set. `sessions` counts those of all sets of this thread.
    pub(super) fn of_several(set: Arc<ChannelSet>, streams: Arc<Streams>, sessions: Rc<Cell<usize>>) -> LocalChannel {
        let mut channel = LocalChannel::new(Selection::Several(set), streams);
        channel.several = Some(Several { batch: RefCell::default(), sessions });
        channel
    }

    pub(super) fn streams(&self) -> &Arc<Streams> {
        &self.streams
    }

    // ---- what the shard does -------------------------------------------------------------------------------------

    pub(super) fn is_joined(&self) -> bool {
        self.is_joined.get()
    }

    /// Starts the ring from what the channel holds. Readers that the new ring does not reach go to the log.
    pub(super) fn fill(&self, snapshot: Snapshot) {
        self.drop_chunks();
        let mut fresh = Ring::new(snapshot.floor, self.streams.limits.ring, &self.streams.handles.budget);
        fresh.extend(&snapshot.frames, snapshot.floor);
        // a batch sent after the snapshot was taken may have come in before it
        let old = self.ring.replace(fresh);
        self.ring.borrow_mut().extend(&old.frames(), old.floor());
        self.is_joined.set(true);
        self.each_session(&mut |session: &SessionHandle| session.forget_position());
        self.wake();
    }

    /// Starts the ring of a set from what the local channel of all channels holds.
    pub(super) fn refill(&self, all: &LocalChannel) {
        self.drop_chunks();
        if let Some(several) = &self.several {
            // of a shard that died over it
            several.batch.borrow_mut().clear();
        }
        let all = all.ring.borrow();
        let wanted: Vec<_> = all.frames().into_iter().filter(|frame| takes(&self.selection, frame)).collect();
        let limits = ring_limits(&self.selection, &self.streams);
        let mut fresh = Ring::new(all.floor(), limits, &self.streams.handles.budget);
        fresh.extend(&wanted, all.floor());
        self.ring.replace(fresh);
        self.is_joined.set(true);
        self.each_session(&mut |session: &SessionHandle| session.forget_position());
        self.wake();
    }

    /// Keeps a frame of a set for [`LocalChannel::take_batch`]. True for the first one.
    pub(super) fn put_aside(&self, frame: &Arc<Frame>) -> bool {
        let Some(several) = &self.several else { return false };
        let mut batch = several.batch.borrow_mut();
        batch.push(frame.clone());
        batch.len() == 1
    }

    /// Takes what was put aside, as [`LocalChannel::arrived`].
    #[must_use]
    pub(super) fn take_batch(&self) -> Option<Duration> {
        let batch = self.several.as_ref().map(|several| several.batch.take()).unwrap_or_default();
        // whether something was missed is known of all channels together
        let previous = self.head();
        self.arrived(&batch, previous)
    }

    /// Whether something that came before this batch was missed.
    pub(super) fn has_missed(&self, previous: EventId) -> bool {
        previous > self.head()
    }

    /// Takes a batch. Returns how long to wait until [`LocalChannel::wake`]; none when the next round is planned already.
    #[must_use]
    pub(super) fn arrived(&self, frames: &[Arc<Frame>], previous: EventId) -> Option<Duration> {
        self.drop_chunks();
        self.ring.borrow_mut().extend(frames, previous);
        if self.round_planned.replace(true) {
            return None;
        }
        let of_set = || self.sessions.borrow().len();
        let pause = round_pause(self.several.as_ref().map_or_else(of_set, |several| several.sessions.get()));
        Some(
            self.last_round
                .get()
                .map_or(Duration::ZERO, |last| pause.saturating_sub(clock::instant().duration_since(last))),
        )
    }

    /// Wakes all sessions, which then read up to the head. To be called as well when the timer of a planned round is gone.
    pub(super) fn wake(&self) {
        self.round_planned.set(false);
        self.last_round.set(Some(clock::instant()));
        self.each_session(&mut |session: &SessionHandle| session.wake());
    }

    /// Counts with each event the sessions that took it since the last time. Sessions count by the chunk that they share, so
    /// this is asked for before the ring changes, and by whoever wants to know.
    pub(super) fn settle(&self) {
        let ring = self.ring.borrow();
        self.shared.borrow().iter().for_each(|chunk| chunk.settle(&ring));
    }

    /// One of several channels was deleted: chunks that hold its events are made anew.
    pub(super) fn channel_deleted(&self) {
        self.drop_chunks();
    }

    /// Gives back what no session needs: chunks that were taken by those who stood there, and under pressure most of the ring.
    pub(super) fn free_memory(&self) {
        self.drop_chunks();
        self.ring.borrow_mut().shrink_under_pressure();
    }

    fn drop_chunks(&self) {
        self.settle();
        self.shared.borrow_mut().clear();
    }

    /// Whether it has had no session for `long`.
    pub(super) fn is_idle_for(&self, long: Duration) -> bool {
        self.empty_since.get().is_some_and(|since| clock::instant().duration_since(since) >= long)
    }

    // ---- what sessions do ----------------------------------------------------------------------------------------

    /// Adds a session, which is woken from now on. Returns its key.
    pub(super) fn add_session(&self, session: Rc<SessionHandle>) -> usize {
        self.empty_since.set(None);
        if let Some(several) = &self.several {
            several.sessions.update(|sessions| sessions + 1);
        }
        let mut sessions = self.sessions.borrow_mut();
        match sessions.free.pop() {
            Some(key) => {
                sessions.entries[key] = Some(session);
                key
            }
            None => {
                sessions.entries.push(Some(session));
                sessions.entries.len() - 1
            }
        }
    }

    pub(super) fn remove_session(&self, key: usize) {
        if let Some(several) = &self.several {
            several.sessions.update(|sessions| sessions - 1);
        }
        let mut sessions = self.sessions.borrow_mut();
        sessions.entries[key] = None;
        sessions.free.push(key);
        if sessions.free.len() == sessions.entries.len() {
            *sessions = Sessions::default();
            self.empty_since.set(Some(clock::instant()));
        }
    }

    pub(super) fn each_session(&self, visit: &mut dyn FnMut(&SessionHandle)) {
        let sessions = self.sessions.borrow();
        for session in sessions.entries.iter().flatten() {
            visit(session);
        }
    }

    pub(super) fn floor(&self) -> EventId {
        self.ring.borrow().floor()
    }

    pub(super) fn head(&self) -> EventId {
        self.ring.borrow().head()
    }

    /// How many events of the ring a reader has before it that has read up to `cursor`; and, while the ring does not reach
    /// back that far, from where to where the rest is in the log.
    pub(super) fn behind(&self, cursor: EventId) -> (u64, Option<(EventId, EventId)>) {
        let ring = self.ring.borrow();
        match ring.position_after(cursor) {
            Some(position) => (ring.end() - position, None),
            None => (ring.len() as u64, Some((cursor, ring.floor()))),
        }
    }

    pub(super) fn position_after(&self, cursor: EventId) -> Option<u64> {
        self.ring.borrow().position_after(cursor)
    }

    /// Frames from `from` on, at most so many; none when the ring no longer reaches back to `from`.
    pub(super) fn frames_from(&self, from: u64, most: usize) -> Option<Vec<Arc<Frame>>> {
        Some(self.ring.borrow().frames_from(from)?.take(most).cloned().collect())
    }

    /// Takes what is ready from `from` on, up to `bytes_max` and at least one frame, as far as the filter takes no more than
    /// `steps`; none when the ring no longer reaches back to `from`.
    pub(super) fn take(
        &self,
        from: u64,
        encoding: Encoding,
        filter: &Filter,
        bytes_max: usize,
        mut steps: u64,
    ) -> Option<Taken> {
        let ring = self.ring.borrow();
        let mut ready = ring.frames_from(from)?;
        let end = ring.end();
        let alike = |c: &&SharedChunk| (c.from, c.end, c.encoding) == (from, end, encoding) && c.filter == *filter;
        if let Some(chunk) = self.shared.borrow().iter().find(alike) {
            return Some(chunk.take());
        }
        // a ring of several channels still holds what was published before one of them was deleted
        let view = &self.streams.handles.view;
        let is_one = matches!(self.selection, Selection::One(_));
        let is_gone = |no| !is_one && !view.has_channel(no);
        let mut passed = (!filter.is_all() || !is_one).then(Vec::new);
        let mut taken = Taken { bytes: Bytes::new(), next: from, cursor: EventId::ZERO, events: 0, is_cut: false };
        let mut gathered = BytesMut::new();
        for frame in ready.by_ref() {
            let judged = match filter.is_all() {
                true => None,
                false => match frame.judge_within(filter, steps) {
                    Some(judged) => Some(judged),
                    None => {
                        taken.is_cut = true;
                        break;
                    }
                },
            };
            taken.next += 1;
            taken.cursor = frame.event.id;
            if let Some(passed) = &mut passed {
                steps = steps.saturating_sub(judged.map_or(0, |judged| judged.steps));
                if judged.is_some_and(|judged| !judged.verdict.is_match()) || is_gone(frame.event.channel) {
                    continue;
                }
                passed.push(taken.next - 1);
            }
            let bytes = frame.bytes(encoding);
            taken.events += 1;
            match taken.events {
                // one frame needs no copy
                1 => taken.bytes = bytes,
                2 => {
                    gathered.reserve(taken.bytes.len() + bytes.len());
                    gathered.extend_from_slice(&taken.bytes);
                    gathered.extend_from_slice(&bytes);
                }
                _ => gathered.extend_from_slice(&bytes),
            }
            if taken.bytes.len().max(gathered.len()) >= bytes_max {
                break;
            }
        }
        if taken.is_cut && taken.events == 0 {
            // there is nothing to share
            return Some(taken);
        }
        let copied_bytes = gathered.capacity();
        if taken.events > 1 {
            taken.bytes = gathered.freeze();
        }
        let mut shared = self.shared.borrow_mut();
        if shared.len() == SHARED_CHUNKS {
            shared.remove(0).settle(&ring);
        }
        let (filter, handed) = (filter.clone(), Cell::new(0));
        let _held = self.streams.handles.budget.hold(Part::Rings, copied_bytes);
        let chunk = SharedChunk { from, end, encoding, filter, taken, passed, handed, _held };
        let taken = chunk.take();
        shared.push(chunk);
        Some(taken)
    }
}

fn ring_limits(selection: &Selection, streams: &Streams) -> RingLimits {
    match selection {
        Selection::Several(_) => streams.limits.ring.and(RingLimits::OF_SET),
        Selection::One(_) | Selection::All => streams.limits.ring,
    }
}

impl Drop for LocalChannel {
    fn drop(&mut self) {
        self.settle();
    }
}
