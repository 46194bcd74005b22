//! A local: a channel as one thread's sessions see it. The ring they read, and the sessions to wake.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::engine::Engine;
use crate::feed::frame::{Encoding, Frame};
use crate::model::event::ChannelNo;
use crate::model::filter::Filter;
use crate::model::id::EventId;
use crate::streams::SessionHandle;
use crate::streams::channel::Snapshot;
use crate::streams::ring::Ring;

/// Chunks that sessions may share: one per encoding and filter in use, near enough.
const SHARED_CHUNKS: usize = 8;

pub struct LocalChannel {
    pub no: ChannelNo,
    pub engine: Arc<Engine>,
    ring: RefCell<Ring>,
    joined: Cell<bool>,
    sessions: RefCell<Seats>,
    shared: RefCell<Vec<SharedChunk>>,
    empty_since: Cell<Option<Instant>>,
    /// When the sessions were woken last, and whether it is already settled when they are woken next.
    last_round: Cell<Option<Instant>>,
    round_planned: Cell<bool>,
}

/// A slab: a session's key is its place.
#[derive(Default)]
struct Seats {
    places: Vec<Option<Rc<SessionHandle>>>,
    free: Vec<usize>,
}

impl Seats {
    fn taken(&self) -> usize {
        self.places.len() - self.free.len()
    }
}

/// Time from one round of waking to the next. A write costs the kernel 5 to 8 us however little it carries, so a local
/// whose every event woke everybody would spend all its time on writes of one event and leave none to its publishers.
/// Rounds take at most about a third of the time; what arrives between two of them leaves in one write. An event that
/// comes after a pause is never held.
fn round_pause(sessions: usize) -> Duration {
    (ROUND_PER_SEAT * sessions as u32).min(ROUND_MAX)
}

const ROUND_PER_SEAT: Duration = Duration::from_micros(16);
/// Most that an event waits for others.
const ROUND_MAX: Duration = Duration::from_millis(20);

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
pub struct Taken {
    /// Empty when nothing passed the filter.
    pub bytes: Bytes,
    /// Where to go on reading.
    pub next: u64,
    pub cursor: EventId,
    pub events: u32,
}

impl LocalChannel {
    pub fn new(no: ChannelNo, engine: Arc<Engine>) -> LocalChannel {
        let ring = RefCell::new(Ring::new(EventId::ZERO, engine.limits.ring));
        LocalChannel {
            no,
            engine,
            ring,
            joined: Cell::new(false),
            sessions: RefCell::default(),
            shared: RefCell::default(),
            empty_since: Cell::new(Some(Instant::now())),
            last_round: Cell::new(None),
            round_planned: Cell::new(false),
        }
    }

    pub fn joined(&self) -> bool {
        self.joined.get()
    }

    /// Starts the ring from what the channel holds. Readers that the new ring does not reach go to the log.
    pub fn fill(&self, snapshot: Snapshot) {
        self.settle();
        let mut fresh = Ring::new(snapshot.floor, self.engine.limits.ring);
        fresh.extend(&snapshot.frames, snapshot.floor);
        // a batch sent after the snapshot was taken may have come in before it
        let old = self.ring.replace(fresh);
        self.ring.borrow_mut().extend(&old.frames(), old.floor());
        self.shared.borrow_mut().clear();
        self.joined.set(true);
        self.each_session(&mut |session: &SessionHandle| {
            session.forget_position();
            session.wake();
        });
    }

    /// Takes a batch. Returns how long to wait until [`LocalChannel::wake`]; none when the next round is settled already.
    #[must_use]
    pub fn arrived(&self, frames: &[Arc<Frame>], previous: EventId) -> Option<Duration> {
        self.settle();
        self.ring.borrow_mut().extend(frames, previous);
        self.shared.borrow_mut().clear();
        if self.round_planned.replace(true) {
            return None;
        }
        let pause = round_pause(self.sessions.borrow().taken());
        Some(self.last_round.get().map_or(Duration::ZERO, |last| pause.saturating_sub(last.elapsed())))
    }

    /// Counts with each event the sessions that took it since the last time. Sessions count by the chunk that they share, so
    /// this is asked for before the ring changes, and by whoever wants to know.
    pub fn settle(&self) {
        let ring = self.ring.borrow();
        self.shared.borrow().iter().for_each(|chunk| chunk.settle(&ring));
    }

    /// Wakes all sessions, which then read up to the head.
    pub fn wake(&self) {
        self.round_planned.set(false);
        self.last_round.set(Some(Instant::now()));
        self.each_session(&mut |session: &SessionHandle| session.wake());
    }

    pub fn floor(&self) -> EventId {
        self.ring.borrow().floor()
    }

    pub fn head(&self) -> EventId {
        self.ring.borrow().head()
    }

    pub fn position_after(&self, cursor: EventId) -> Option<u64> {
        self.ring.borrow().position_after(cursor)
    }

    /// Takes what is ready from `from` on, up to `bytes_max` and at least one frame; none when the ring no longer
    /// reaches back to `from`.
    pub fn take(&self, from: u64, encoding: Encoding, filter: &Filter, bytes_max: usize) -> Option<Taken> {
        let ring = self.ring.borrow();
        let mut ready = ring.from(from)?;
        let end = ring.end();
        let alike = |c: &&SharedChunk| (c.from, c.end, c.encoding) == (from, end, encoding) && c.filter == *filter;
        if let Some(chunk) = self.shared.borrow().iter().find(alike) {
            return Some(chunk.take());
        }
        // the ring of all channels still holds what was published before one of them was deleted
        let is_gone = |no| self.no == ChannelNo::ALL && self.engine.catalog.channel(no).is_none();
        let mut passed = (!filter.is_all() || self.no == ChannelNo::ALL).then(Vec::new);
        let mut taken = Taken { bytes: Bytes::new(), next: from, cursor: EventId::ZERO, events: 0 };
        let mut gathered = BytesMut::new();
        for frame in ready.by_ref() {
            taken.next += 1;
            taken.cursor = frame.event.id;
            if let Some(passed) = &mut passed {
                if !frame.passes(filter) || is_gone(frame.event.channel) {
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
        if taken.events > 1 {
            taken.bytes = gathered.freeze();
        }
        let mut shared = self.shared.borrow_mut();
        if shared.len() == SHARED_CHUNKS {
            shared.remove(0).settle(&ring);
        }
        let (filter, handed) = (filter.clone(), Cell::new(0));
        let chunk = SharedChunk { from, end, encoding, filter, taken, passed, handed };
        let taken = chunk.take();
        shared.push(chunk);
        Some(taken)
    }

    /// A channel was deleted: chunks that hold its events are made anew.
    pub fn channel_deleted(&self) {
        self.settle();
        self.shared.borrow_mut().clear();
    }

    pub fn sit(&self, session: Rc<SessionHandle>) -> usize {
        self.empty_since.set(None);
        let mut sessions = self.sessions.borrow_mut();
        match sessions.free.pop() {
            Some(place) => {
                sessions.places[place] = Some(session);
                place
            }
            None => {
                sessions.places.push(Some(session));
                sessions.places.len() - 1
            }
        }
    }

    pub fn stand_up(&self, place: usize) {
        let mut sessions = self.sessions.borrow_mut();
        sessions.places[place] = None;
        sessions.free.push(place);
        if sessions.free.len() == sessions.places.len() {
            *sessions = Seats::default();
            self.empty_since.set(Some(Instant::now()));
        }
    }

    pub fn each_session(&self, visit: &mut dyn FnMut(&SessionHandle)) {
        let sessions = self.sessions.borrow();
        for session in sessions.places.iter().flatten() {
            visit(session);
        }
    }

    /// Whether nobody has sat here for `long`.
    pub fn idle_for(&self, long: Duration) -> bool {
        self.empty_since.get().is_some_and(|since| since.elapsed() >= long)
    }
}

impl Drop for LocalChannel {
    fn drop(&mut self) {
        self.settle();
    }
}
