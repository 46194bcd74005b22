//! A frame: one committed event and its encodings, each made at most once however many read it.
//!
//! The feed makes a frame when an event is durable; channels, shards, sessions and webhooks share it by `Arc`. What
//! is read back from the log becomes a frame again, with the same bytes.
//!
//! A frame knows how many bytes it holds, which grows as encodings are made, and a frame of the feed counts them in the
//! memory budget until the last one who shares it lets it go.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::budget::{Budget, Part};
use crate::feed::trace::TraceMark;
use crate::model::channel::Owner;
use crate::model::envelope::{self, Envelope, SseParts};
use crate::model::event::Event;
use crate::model::filter::{Filter, FilterInput, Judgement};

/// What shared bytes take up beside their text: the allocation and its count of references.
const BYTES_OVERHEAD: usize = 48;

/// How a stream wants its events written: which JSON, and in what.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Encoding {
    pub envelope: Envelope,
    pub carrier: Carrier,
}

/// What carries an envelope.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Carrier {
    /// SSE without an `event:` line where the envelope can do without, so that `onmessage` fires.
    Sse,
    /// SSE with an `event:` line where the envelope can have one.
    SseNamed,
    /// A WebSocket text frame with its header.
    WebSocket,
    /// Nothing: the envelope alone, as history and webhooks carry it.
    Json,
}

/// One envelope of an event in all carriers.
#[derive(Debug, Default)]
struct Texts {
    sse: OnceLock<(Bytes, SseParts)>,
    websocket: OnceLock<Bytes>,
}

impl Texts {
    fn heap_bytes(&self) -> usize {
        let sse = self.sse.get().map_or(0, |(text, _)| text.len() + BYTES_OVERHEAD);
        sse + self.websocket.get().map_or(0, |text| text.len() + BYTES_OVERHEAD)
    }
}

#[derive(Debug)]
pub struct Frame {
    pub event: Event,
    owner: Owner,
    input: FilterInput,
    /// Of an event that was committed just now. What is read back from the log has none.
    mark: Option<TraceMark>,
    /// In the envelope of the channel's own family, which is nearly always the one that is asked for.
    own: Texts,
    others: OnceLock<Box<[Texts; Envelope::COUNT]>>,
    /// What the frame held when it was weighed last; this much stands in the budget.
    held_bytes: AtomicUsize,
    /// Where the frame's bytes are counted. What is read back from the log is bounded by its page and counts nowhere.
    budget: Option<Arc<Budget>>,
}

impl Frame {
    pub fn new(event: Event, owner: Owner) -> Frame {
        Frame::of(event, owner, None, None)
    }

    /// The frame of an event that was committed just now.
    pub fn committed(event: Event, owner: Owner, mark: Option<TraceMark>, budget: &Arc<Budget>) -> Frame {
        Frame::of(event, owner, mark, Some(budget.clone()))
    }

    fn of(event: Event, owner: Owner, mark: Option<TraceMark>, budget: Option<Arc<Budget>>) -> Frame {
        let frame = Frame {
            event,
            owner,
            input: FilterInput::default(),
            mark,
            own: Texts::default(),
            others: OnceLock::new(),
            held_bytes: AtomicUsize::new(0),
            budget,
        };
        frame.weigh();
        frame
    }

    /// Counts sessions that the event was handed to.
    pub fn handed(&self, sessions: u32) {
        if let Some(mark) = &self.mark {
            mark.handed(sessions);
        }
    }

    pub fn passes(&self, filter: &Filter) -> bool {
        self.judge(filter).verdict.is_match()
    }

    /// What the filter says of the event, and what that took.
    pub fn judge(&self, filter: &Filter) -> Judgement {
        self.weighed(|frame| filter.judge(&frame.event, &frame.input))
    }

    /// As [`Frame::judge`], if it takes at most `steps`. None: ask again where there is more time.
    pub fn judge_within(&self, filter: &Filter, steps: u64) -> Option<Judgement> {
        self.weighed(|frame| filter.judge_within(&frame.event, &frame.input, steps))
    }

    /// Brings the weight up to date after something was read.
    fn weighed<T>(&self, judge: impl FnOnce(&Frame) -> T) -> T {
        let read_before = self.input.heap_bytes();
        let judged = judge(self);
        if self.input.heap_bytes() != read_before {
            self.weigh();
        }
        judged
    }

    /// The event as `encoding` writes it. The first call of each encoding makes it.
    pub fn bytes(&self, Encoding { envelope, carrier }: Encoding) -> Bytes {
        let texts = match envelope == Envelope::of(self.owner.kind) {
            true => &self.own,
            false => &self.others.get_or_init(Box::default)[envelope as usize],
        };
        let mut is_new = false;
        let (sse, parts) = texts.sse.get_or_init(|| {
            is_new = true;
            let mut out = Vec::new();
            let parts = envelope.write_sse(&self.event, &self.owner, &mut out);
            // without slack, because frames stay for long
            (out.into_boxed_slice().into(), parts)
        });
        let bytes = match carrier {
            Carrier::SseNamed => sse.clone(),
            Carrier::Sse => sse.slice(parts.unnamed..),
            Carrier::Json => sse.slice(parts.json..parts.end),
            Carrier::WebSocket => {
                let frame = texts.websocket.get_or_init(|| {
                    is_new = true;
                    let mut out = Vec::new();
                    envelope::write_ws_text(&sse[parts.json..parts.end], &mut out);
                    out.into_boxed_slice().into()
                });
                frame.clone()
            }
        };
        if is_new {
            self.weigh();
        }
        bytes
    }

    /// The envelope alone.
    pub fn json(&self, envelope: Envelope) -> Bytes {
        self.bytes(Encoding { envelope, carrier: Carrier::Json })
    }

    /// Whose channel it is.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// The envelope of the channel's own family.
    pub fn own_envelope(&self) -> Envelope {
        Envelope::of(self.owner.kind)
    }

    /// What the frame is expected to take up with one encoding. Never changes, for whoever adds and subtracts.
    pub fn weight(&self) -> usize {
        512 + 2 * self.event.payload.as_bytes().len()
    }

    /// Bytes that the frame holds now: the event, the encodings that were made, and what filters have read of it.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// Brings `held_bytes` and the budget up to date, after something was made. Nothing that was made goes away again.
    fn weigh(&self) {
        let event = size_of::<Frame>()
            + self.event.kind.as_str().len()
            + self.event.session.as_deref().map_or(0, str::len)
            + self.event.payload.as_bytes().len()
            + BYTES_OVERHEAD;
        let others = self
            .others
            .get()
            .map_or(0, |others| size_of_val(&**others) + others.iter().map(Texts::heap_bytes).sum::<usize>());
        let now = event + self.own.heap_bytes() + others + self.input.heap_bytes();
        // the greatest counts, because two threads may have made something at once
        let more = now.saturating_sub(self.held_bytes.fetch_max(now, Ordering::Relaxed));
        if let Some(budget) = &self.budget {
            budget.add(Part::Frames, more);
        }
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            budget.release(Part::Frames, self.held_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::channel::ChannelKind;
    use crate::model::event::{ChannelNo, EventType};
    use crate::model::filter::FilterSpec;
    use crate::model::id::EventId;
    use crate::model::json::Canonical;

    fn frame(budget: &Arc<Budget>) -> Frame {
        let event = Event {
            id: EventId::ZERO.plus(1),
            channel: ChannelNo(1),
            kind: EventType::new("test").unwrap(),
            ts_ms: 0,
            session: None,
            origin: Default::default(),
            payload: Canonical::parse(&format!("{{\"text\":\"{}\"}}", "x".repeat(10_000))).unwrap(),
        };
        Frame::committed(event, Owner { kind: ChannelKind::Map, id: "map".into() }, None, budget)
    }

    #[test]
    fn a_frame_weighs_its_event_each_encoding_and_what_filters_read() {
        let budget = Arc::default();
        let frame = frame(&budget);
        let grows_by_about = |expected: usize, what: &str, act: &dyn Fn()| {
            let before = frame.held_bytes();
            act();
            let grown = frame.held_bytes() - before;
            assert!((expected..expected + expected / 5 + 1).contains(&grown), "{what}: {grown}");
            assert_eq!(budget.used_bytes_by(Part::Frames), frame.held_bytes(), "{what}");
        };
        assert!((10_000..11_000).contains(&frame.held_bytes()));
        let feeds = [Envelope::Feed, Envelope::FeedWithChannel];
        for envelope in [Envelope::Map, Envelope::Gateway, Envelope::Listener].into_iter().chain(feeds) {
            let encode = |carrier| drop(frame.bytes(Encoding { envelope, carrier }));
            grows_by_about(10_000, "SSE", &|| encode(Carrier::Sse));
            grows_by_about(0, "slices of it", &|| {
                encode(Carrier::SseNamed);
                encode(Carrier::Json);
            });
            grows_by_about(10_000, "WebSocket", &|| encode(Carrier::WebSocket));
            grows_by_about(0, "the same again", &|| encode(Carrier::WebSocket));
        }
        let spec = FilterSpec { filter: Some("event.payload.text == 'y'".into()), ..FilterSpec::default() };
        let filter = Filter::compile(&spec).expect("a filter");
        grows_by_about(10_000, "the tree", &|| assert!(!frame.passes(&filter)));
        grows_by_about(0, "the tree again", &|| assert!(!frame.passes(&filter)));
        drop(frame);
        assert_eq!(budget.used_bytes(), 0, "the frame is gone");
    }

    #[test]
    fn frames_that_threads_encode_at_once_leave_nothing_behind_in_the_budget() {
        let budget = Arc::default();
        let frames: Vec<_> = (0..50).map(|_| frame(&budget)).collect();
        std::thread::scope(|scope| {
            for carrier in [Carrier::Sse, Carrier::WebSocket, Carrier::Json] {
                for envelope in [Envelope::Map, Envelope::Feed] {
                    let frames = &frames;
                    scope.spawn(move || frames.iter().for_each(|f| drop(f.bytes(Encoding { envelope, carrier }))));
                }
            }
        });
        assert_eq!(budget.used_bytes(), frames.iter().map(Frame::held_bytes).sum::<usize>());
        drop(frames);
        assert_eq!(budget.used_bytes(), 0);
    }
}
