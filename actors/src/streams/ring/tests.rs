//! The ring against the whole sequence of events.

use proptest::prelude::*;

use super::*;
use crate::feed::frame::{Carrier, Encoding};
use crate::model::channel::{ChannelKind, Owner};
use crate::model::envelope::Envelope;
use crate::model::event::{ChannelNo, Event, EventType};
use crate::model::json::Canonical;

fn frame(n: u32, budget: &Arc<Budget>) -> Arc<Frame> {
    let payload = format!("{{\"x\":\"{}\"}}", "x".repeat(n as usize % 7 * 40));
    let event = Event {
        id: id(n),
        channel: ChannelNo(1),
        kind: EventType::new("test").unwrap(),
        ts_ms: 0,
        session: None,
        origin: Default::default(),
        payload: Canonical::parse(&payload).unwrap(),
    };
    Arc::new(Frame::committed(event, Owner { kind: ChannelKind::Map, id: "map".into() }, None, budget))
}

fn id(n: u32) -> EventId {
    EventId::ZERO.plus(n)
}

fn frames(numbers: std::ops::Range<u32>) -> Vec<Arc<Frame>> {
    numbers.map(|n| frame(n, &Arc::default())).collect()
}

/// What becomes of a batch on its way to the ring.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Arrives,
    Twice,
    /// Its place is taken by a message that only says where the channel is.
    Empty,
    Missed,
}

fn batches() -> impl Strategy<Value = Vec<(u32, Fate)>> {
    let fate =
        prop_oneof![6 => Just(Fate::Arrives), 1 => Just(Fate::Twice), 1 => Just(Fate::Empty), 2 => Just(Fate::Missed)];
    proptest::collection::vec((1u32..12, fate), 1..40)
}

proptest! {
    #[test]
    fn a_reader_gets_everything_after_its_cursor_or_is_told_that_the_ring_has_it_not(
        batches in batches(),
        start in 0u32..5,
        events in 1usize..40,
        bytes in 600usize..40_000,
        lags in proptest::collection::vec(1usize..6, 4),
    ) {
        let mut ring = Ring::new(id(start), RingLimits { events, bytes }, &Arc::default());
        // each reader: the cursor, and the position that it keeps for the next reading
        let mut readers = vec![(start, None::<u64>); lags.len()];
        let (mut last, mut told) = (0, start);
        for (round, (count, fate)) in batches.into_iter().enumerate() {
            let previous = last;
            last += count;
            let batch = frames(previous + 1..last + 1);
            match fate {
                Fate::Missed => continue,
                Fate::Empty => drop(ring.extend(&[], id(last))),
                Fate::Arrives => drop(ring.extend(&batch, id(previous))),
                Fate::Twice => {
                    ring.extend(&batch, id(previous));
                    prop_assert!(!ring.extend(&batch, id(previous)));
                }
            }
            told = told.max(last);
            prop_assert!(ring.frames().len() <= events);
            prop_assert_eq!(ring.head(), id(told));
            for (reader, lag) in readers.iter_mut().zip(&lags) {
                if round % lag != 0 {
                    continue;
                }
                let (cursor, kept) = *reader;
                let held = kept.filter(|position| ring.frames_from(*position).is_some());
                let Some(position) = held.or_else(|| ring.position_after(id(cursor))) else {
                    // the log has it
                    *reader = (told, None);
                    continue;
                };
                let found: Vec<EventId> = ring.frames_from(position).unwrap().map(|frame| frame.event.id).collect();
                let expected: Vec<EventId> = (cursor + 1..told + 1).map(id).collect();
                prop_assert_eq!(found, expected);
                *reader = (told.max(cursor), Some(ring.end()));
            }
        }
    }
}

#[test]
fn a_reader_at_the_end_learns_that_a_batch_was_missed() {
    let mut ring = Ring::new(id(0), RingLimits { events: 10, bytes: 100_000 }, &Arc::default());
    ring.extend(&frames(1..3), id(0));
    let end = ring.end();
    assert!(ring.extend(&frames(5..6), id(4)));
    assert!(ring.frames_from(end).is_none() && ring.position_after(id(2)).is_none());
    assert!(ring.position_after(id(4)).is_some());
}

const LARGE: RingLimits = RingLimits { events: 10_000, bytes: 100 << 20 };

#[test]
fn encodings_that_are_made_later_count_towards_the_bytes_of_the_ring() {
    let limits = RingLimits { events: 10_000, bytes: 200_000 };
    let mut ring = Ring::new(id(0), limits, &Arc::default());
    ring.extend(&frames(1..301), id(0));
    assert_eq!(ring.frames().len(), 300);
    for frame in ring.frames() {
        for envelope in [Envelope::Map, Envelope::Gateway, Envelope::Feed] {
            frame.bytes(Encoding { envelope, carrier: Carrier::WebSocket });
        }
    }
    for n in 301..331 {
        ring.extend(&frames(n..n + 1), id(n - 1));
    }
    let held: usize = ring.frames().iter().map(|frame| frame.held_bytes()).sum();
    assert_eq!(ring.bytes(), held, "every frame was weighed again");
    assert!(held <= limits.bytes && ring.frames().len() < 330);
}

#[test]
fn a_ring_shrinks_while_the_budget_is_nearly_used_up_and_grows_again_after() {
    let budget = Arc::new(Budget::new(2 << 20));
    let mut ring = Ring::new(id(0), LARGE, &budget);
    let mut last = 0;
    let mut extend = |ring: &mut Ring, count: u32| {
        let batch: Vec<_> = (last + 1..last + count + 1).map(|n| frame(n, &budget)).collect();
        ring.extend(&batch, id(last));
        last += count;
        assert_eq!(ring.head(), id(last));
    };
    extend(&mut ring, 1000);
    assert_eq!(ring.frames().len(), 1000);
    let others = budget.hold(Part::Bodies, 2 << 20);
    let end = ring.end();
    extend(&mut ring, 1);
    assert!(ring.bytes() <= RingLimits::UNDER_PRESSURE.bytes && !ring.is_empty());
    assert!(ring.frames_from(end).is_some_and(|frames| frames.count() == 1), "who kept up has no detour");
    assert!(budget.used_bytes_by(Part::Frames) <= RingLimits::UNDER_PRESSURE.bytes);
    drop(others);
    extend(&mut ring, 1000);
    assert!(ring.frames().len() > 1000);
    drop(ring);
    assert_eq!(budget.used_bytes(), 0);
}

#[test]
fn a_ring_that_is_cleared_holds_nothing_and_readers_at_its_head_go_on() {
    let budget = Arc::default();
    let mut ring = Ring::new(id(0), LARGE, &budget);
    ring.extend(&(1..101).map(|n| frame(n, &budget)).collect::<Vec<_>>(), id(0));
    let end = ring.end();
    ring.clear();
    assert_eq!((ring.floor(), ring.head(), budget.used_bytes()), (id(100), id(100), 0));
    assert!(ring.position_after(id(99)).is_none());
    assert!(!ring.extend(&[frame(101, &budget)], id(100)));
    assert!(ring.frames_from(end).is_some_and(|frames| frames.count() == 1));
}
