//! The ring against the whole sequence of events.

use proptest::prelude::*;

use super::*;
use crate::model::channel::{ChannelKind, Owner};
use crate::model::event::{ChannelNo, Event, EventType};
use crate::model::json::Canonical;

fn frame(n: u32) -> Arc<Frame> {
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
    Arc::new(Frame::new(event, Owner { kind: ChannelKind::Map, id: "map".into() }))
}

fn id(n: u32) -> EventId {
    EventId::ZERO.plus(n)
}

fn frames(numbers: std::ops::Range<u32>) -> Vec<Arc<Frame>> {
    numbers.map(frame).collect()
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
        let mut ring = Ring::new(id(start), RingLimits { events, bytes });
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
                let held = kept.filter(|position| ring.from(*position).is_some());
                let Some(position) = held.or_else(|| ring.position_after(id(cursor))) else {
                    // the log has it
                    *reader = (told, None);
                    continue;
                };
                let found: Vec<EventId> = ring.from(position).unwrap().map(|frame| frame.event.id).collect();
                let expected: Vec<EventId> = (cursor + 1..told + 1).map(id).collect();
                prop_assert_eq!(found, expected);
                *reader = (told.max(cursor), Some(ring.end()));
            }
        }
    }
}

#[test]
fn a_reader_at_the_end_learns_that_a_batch_was_missed() {
    let mut ring = Ring::new(id(0), RingLimits { events: 10, bytes: 100_000 });
    ring.extend(&frames(1..3), id(0));
    let end = ring.end();
    assert!(ring.extend(&frames(5..6), id(4)));
    assert!(ring.from(end).is_none() && ring.position_after(id(2)).is_none());
    assert!(ring.position_after(id(4)).is_some());
}
