//! Sections and blocks that nobody wrote.

use bytes::Bytes;

use crate::log::{encode_events, record, section};
use crate::model::event::{ChannelNo, Event, EventType, Origin};
use crate::model::id::EventId;
use crate::model::json::Canonical;

/// One dedupe key of a section.
const KEY_BYTES: usize = 40;

fn event(n: u64) -> Event {
    Event {
        id: EventId::at_time(1_700_000_000_000 + n),
        channel: ChannelNo(1 + (n % 2) as u32),
        kind: EventType::new("test").expect("a type"),
        ts_ms: 5,
        session: n.is_multiple_of(3).then(|| "raid".into()),
        origin: Origin::default(),
        payload: Canonical::parse(&format!("{{\"n\":{n}}}")).expect("JSON"),
    }
}

#[test]
fn sections_that_nobody_wrote_are_refused_or_lie_within_themselves() {
    let events: Vec<_> = (0..6).map(event).collect();
    crate::fuzz::run("sections", [encode_events(&events)], &[], |bytes| {
        let Ok(blocks) = section::blocks(bytes) else { return };
        for block in blocks {
            let inner = Bytes::copy_from_slice(&bytes[block.offset as usize..][..block.len as usize]);
            for is_checked in [true, false] {
                for found in record::scan(&inner, is_checked).flatten() {
                    let _ = record::event(&inner, found, block.channel, None);
                }
            }
        }
    });
    crate::fuzz::run("keys", [vec![7; KEY_BYTES * 3]], &[], |bytes| {
        if let Ok(keys) = section::keys(bytes) {
            assert_eq!(keys.count() * KEY_BYTES, bytes.len());
        }
    });
}
