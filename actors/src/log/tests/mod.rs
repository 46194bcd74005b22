//! tmp
mod probe;
use super::*;
use crate::model::event::{ChannelNo, Event, EventType};
use crate::model::id::EventId;
use crate::model::json::Canonical;
pub const START_MS: u64 = 1_750_000_000_000;

pub fn id(n: u32) -> EventId {
    EventId::at_time(START_MS).plus(n)
}

pub fn event(id: EventId, no: u32, bytes: usize) -> Event {
    let payload = format!("{{\"id\":\"{id}\",\"x\":\"{}\"}}", "x".repeat(bytes));
    Event {
        id,
        channel: ChannelNo(no),
        kind: EventType::new("test").unwrap(),
        ts_ms: START_MS as i64,
        session: no.is_multiple_of(2).then(|| "s".into()),
        origin: Default::default(),
        payload: Canonical::parse(&payload).unwrap(),
    }
}
