//! Reading some of the channels is reading all of them without the others.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::disk::Disk;
use crate::log::{DamagedRange, Direction, PageLimit, SomeChannels};
use crate::model::event::ChannelNo;
use crate::model::id::EventId;

const CHANNELS: u32 = 9;

/// What becomes of a commit after it was made.
#[derive(Clone, Copy, Debug)]
enum Then {
    Stay,
    Roll,
    Seal,
}

/// The channels of each commit's events, and what comes then.
fn commits() -> impl Strategy<Value = Vec<(Vec<u32>, Then)>> {
    let then = prop_oneof![12 => Just(Then::Stay), 1 => Just(Then::Roll), 2 => Just(Then::Seal)];
    proptest::collection::vec((proptest::collection::vec(1..=CHANNELS, 1..20), then), 1..40)
}

fn rig(commits: &[(Vec<u32>, Then)]) -> (Rig, Vec<(u32, EventId)>) {
    let mut rig = Rig::new(&Disk::simulated(1), Path::new("/data"), options());
    let mut written = Vec::new();
    for (channels, then) in commits {
        let from = written.len() as u32;
        let events: Vec<_> = channels.iter().zip(from..).map(|(no, n)| event(id(n), *no, 100)).collect();
        written.extend(events.iter().map(|event| (event.channel.0, event.id)));
        rig.append(&events);
        match then {
            Then::Stay => {}
            Then::Roll => drop(rig.log.roll()),
            Then::Seal => rig.seal(),
        }
    }
    (rig, written)
}

/// The listed channels, and with `above` those with greater numbers.
fn some(listed: &[u32], above: Option<u32>) -> SomeChannels {
    let some = SomeChannels::listed(listed.iter().copied().map(ChannelNo));
    match above {
        None => some,
        Some(above) => some.and(move |no| no.0 > above),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn pages_of_some_channels_are_those_of_all_without_the_others(
        commits in commits(),
        listed in proptest::collection::vec(1..=CHANNELS + 1, 0..4),
        above in proptest::option::of(0..=CHANNELS),
        cursor in 0usize..400,
        events in 1usize..30,
        backward in any::<bool>(),
    ) {
        let (rig, written) = rig(&commits);
        let channels = some(&listed, above);
        let is_wanted = |no: &u32| listed.contains(no) || above.is_some_and(|above| *no > above);
        let direction = if backward { Direction::Backward } else { Direction::Forward };
        let cursor = match written.get(cursor) {
            Some((_, id)) => *id,
            None if backward => EventId::MAX,
            None => EventId::ZERO,
        };
        let beyond = |id: &EventId| if backward { *id < cursor } else { *id > cursor };
        let mut expected: Vec<EventId> =
            written.iter().filter(|(no, id)| is_wanted(no) && beyond(id)).map(|(_, id)| *id).collect();
        if backward {
            expected.reverse();
        }
        let (mut found, mut at) = (Vec::new(), cursor);
        loop {
            let page = rig.log.read_some(&channels, at, PageLimit { events, bytes: usize::MAX }, direction).unwrap();
            prop_assert!(page.events.len() <= events);
            prop_assert!(!page.more || if backward { page.last < at } else { page.last > at }, "it goes on");
            found.extend(ids(&page.events));
            at = page.last;
            if !page.more {
                break;
            }
        }
        prop_assert_eq!(found, expected);
        if !backward {
            prop_assert_eq!(at, rig.log.head());
        }
        let oldest = written.iter().find(|(no, _)| is_wanted(no)).map(|(_, id)| *id);
        prop_assert_eq!(rig.log.oldest_of_some(&channels), oldest);
    }
}

#[test]
fn a_page_that_finds_nothing_for_long_ends_and_says_where_to_go_on() {
    let commits: Vec<_> = (0..1200).map(|_| (vec![1, 2], Then::Stay)).collect();
    let (rig, _) = rig(&commits);
    let channels = some(&[7], None);
    let page = rig.log.read_some(&some(&[], Some(5)), EventId::ZERO, ALL, Direction::Forward).unwrap();
    assert_eq!((page.events.len(), page.more), (0, true));
    assert!(page.last > EventId::ZERO && page.last < rig.log.head());
    let page = rig.log.read_some(&channels, EventId::ZERO, ALL, Direction::Forward).unwrap();
    assert_eq!(
        (page.more, page.last),
        (false, rig.log.head()),
        "what has none of the listed channels is not looked at"
    );
}

#[test]
fn what_is_lost_of_other_channels_does_not_concern_some() {
    let mut rig = Rig::new(
        &Disk::simulated(1),
        Path::new("/data"),
        crate::log::LogOptions {
            retention: crate::log::Retention { max_events: 1, ..Default::default() },
            ..options()
        },
    );
    rig.append(&[event(id(0), 1, 10), event(id(1), 2, 10)]);
    rig.seal();
    rig.append(&[event(id(2), 3, 10), event(id(3), 4, 10)]);
    rig.seal();
    rig.append(&[event(id(4), 1, 10)]);
    assert!(rig.retain() > 0);
    let expired = |listed: &[u32], above| rig.log.expired_of_some(&some(listed, above), EventId::ZERO);
    assert_eq!(expired(&[1], None), id(0));
    assert_eq!((expired(&[1, 2], None), expired(&[9], None)), (id(1), EventId::ZERO));
    assert!(expired(&[9], Some(1)) >= id(1));
    assert_eq!(rig.log.expired_of_some(&some(&[1, 2], None), id(1)), EventId::ZERO, "the cursor is behind it");
    rig.log
        .note_damage(&[DamagedRange::new(ChannelNo(1), id(10), id(12)), DamagedRange::new(ChannelNo(2), id(5), id(6))]);
    let damaged = |listed: &[u32], above| rig.log.damaged_of_some(&some(listed, above), EventId::ZERO, EventId::MAX);
    assert_eq!(damaged(&[1, 3], None), Some((id(10), id(12))));
    assert_eq!((damaged(&[1], Some(1)), damaged(&[3], None)), (Some((id(5), id(6))), None));
    rig.log.note_damage(&[DamagedRange::new(ChannelNo::ALL, id(20), id(21))]);
    assert_eq!(damaged(&[3], None), Some((id(20), id(21))), "what concerns any channel concerns these");
}
