//! Identity in the log: the event id, which is a cursor as well.
//!
//! An id is a ULID (<https://github.com/ulid/spec>), given out once by the journal and strictly increasing over the
//! whole server, so that the order of ids is the order of the log.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ulid::Ulid;

/// The id of an event, and the cursor of whoever processed that event last.
///
/// Its text form is the bare ULID; [`EventId::from_str`] also takes the form `evt_<ULID>` of other envelopes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EventId(Ulid);

impl EventId {
    /// Lies before every event: the cursor of a consumer that has seen nothing.
    pub const ZERO: EventId = EventId(Ulid::nil());
    /// Lies after every event.
    pub const MAX: EventId = EventId(Ulid::max());

    /// The lowest id that an event appended at `time_ms` (Unix milliseconds) can have.
    pub fn at_time(time_ms: u64) -> EventId {
        EventId(Ulid::from_parts(time_ms, 0))
    }

    /// When the event was appended, in Unix milliseconds.
    pub fn time_ms(self) -> u64 {
        self.0.timestamp_ms()
    }

    /// The big-endian bytes, whose order is the order of the ids.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_bytes()
    }

    pub fn from_bytes(bytes: [u8; 16]) -> EventId {
        EventId(Ulid::from_bytes(bytes))
    }

    /// The id that follows at once; `n` steps further on.
    pub fn plus(self, n: u32) -> EventId {
        EventId(Ulid(self.0.0.saturating_add(u128::from(n))))
    }

    /// The id just before, for turning "from here on" into "after".
    pub fn before(self) -> EventId {
        EventId(Ulid(self.0.0.saturating_sub(1)))
    }

    /// Appends the 26 characters of the text form without an allocation.
    pub fn write_to(self, out: &mut Vec<u8>) {
        let mut text = [0; ulid::ULID_LEN];
        out.extend_from_slice(self.0.array_to_str(&mut text).as_bytes());
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; ulid::ULID_LEN];
        f.write_str(self.0.array_to_str(&mut text))
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Says what a cursor should have looked like; the text that was given is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cursor is the id of an event: 26 characters (a ULID), with or without the prefix evt_")]
pub struct MalformedId;

impl FromStr for EventId {
    type Err = MalformedId;

    fn from_str(text: &str) -> Result<Self, MalformedId> {
        let bare = text.strip_prefix("evt_").unwrap_or(text);
        // 26 characters hold 130 bits: a first one above 7 would overflow (ULID specification, "Overflow Errors")
        if bare.bytes().next().is_none_or(|first| first > b'7') {
            return Err(MalformedId);
        }
        Ulid::from_string(bare).map(EventId).map_err(|_| MalformedId)
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Gives out ids that only ever grow, also when the clock steps back and over restarts.
#[derive(Debug)]
pub struct IdSource {
    last: EventId,
}

impl IdSource {
    /// Starts behind `last`, the newest id that the log has ever held.
    pub fn after(last: EventId) -> Self {
        IdSource { last }
    }

    /// The next id at `now_ms` (Unix milliseconds). `random` fills the low 80 bits, save where the last id was given
    /// out in the same millisecond or later: then the next id is the last one plus one, and `random` is not asked.
    pub fn next(&mut self, now_ms: u64, random: impl FnOnce() -> u128) -> EventId {
        // as an id can hold it
        let now_ms = EventId::at_time(now_ms).time_ms();
        self.last = match now_ms > self.last.time_ms() {
            // the top bit of the random part stays clear, so that counting up within a millisecond has room
            true => EventId(Ulid::from_parts(now_ms, random() >> 1 & (u128::MAX >> 49))),
            false => self.last.plus(1),
        };
        self.last
    }

    pub fn last(&self) -> EventId {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_forms_of_a_cursor_are_taken() {
        let id = EventId::at_time(1_750_509_296_789).plus(7);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(format!("evt_{id}").parse(), Ok(id));
    }

    #[test]
    fn what_is_no_ulid_is_no_cursor() {
        for text in [
            "",
            "0",
            "evt_",
            "evt_evt_01J0000000000000000000000",
            "01J000000000000000000000U!",
            "-1",
            "8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
        ] {
            assert_eq!(text.parse::<EventId>(), Err(MalformedId), "{text}");
        }
    }

    proptest! {
        #[test]
        fn ids_grow_whatever_the_clock_does(steps in proptest::collection::vec((any::<u64>(), any::<u128>()), 1..200)) {
            let mut source = IdSource::after(EventId::ZERO);
            let mut last = EventId::ZERO;
            for (now, random) in steps {
                let id = source.next(now, || random);
                prop_assert!(id > last);
                prop_assert_eq!(EventId::from_bytes(id.to_bytes()), id);
                last = id;
            }
        }
    }
}
