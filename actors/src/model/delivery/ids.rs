//! The id of a delivery: computed, never drawn, so that a delivery that is made again after a crash carries the same id.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use ulid::Ulid;

use crate::model::id::EventId;

/// What stands before the ULID in the text form.
const PREFIX: &str = "dlv_";

/// The id of a delivery: a function of the webhook and of the events that the delivery carries.
///
/// It has the form of a ULID: its time is that of the first event, so that ids sort by the age of what they carry, and
/// its 80 other bits are a hash of the webhook and of every event. A batch that is cut differently after a crash thus
/// gets another id, and no receiver that drops known ids can drop an event that it has not seen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(Ulid);

impl DeliveryId {
    /// The lowest and the highest id, for ranges.
    pub const MIN: DeliveryId = DeliveryId(Ulid::nil());
    pub const MAX: DeliveryId = DeliveryId(Ulid::max());

    /// The id of the delivery of `events`, in log order, to `webhook`. Without events: the id of nothing in particular.
    pub fn of(webhook: &str, events: &[EventId]) -> DeliveryId {
        let mut hash = Sha256::new();
        hash.update((webhook.len() as u64).to_be_bytes());
        hash.update(webhook.as_bytes());
        for event in events {
            hash.update(event.to_bytes());
        }
        let digest = hash.finalize();
        let random = digest[..10].iter().fold(0u128, |bits, byte| bits << 8 | u128::from(*byte));
        DeliveryId(Ulid::from_parts(events.first().map_or(0, |event| event.time_ms()), random))
    }

    /// The id of a delivery that carries no event of the log, such as a test: made at `now_ms`, told apart by `random`.
    pub fn fresh(now_ms: u64, random: u128) -> DeliveryId {
        DeliveryId(Ulid::from_parts(now_ms, random & (u128::MAX >> 48)))
    }

    /// When the first event of the delivery was appended, in Unix milliseconds.
    pub fn time_ms(self) -> u64 {
        self.0.timestamp_ms()
    }

    pub fn from_bytes(bytes: [u8; 16]) -> DeliveryId {
        DeliveryId(Ulid::from_bytes(bytes))
    }

    /// The big-endian bytes, whose order is the order of the ids.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_bytes()
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; ulid::ULID_LEN];
        write!(f, "{PREFIX}{}", self.0.array_to_str(&mut text))
    }
}

impl fmt::Debug for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Says what the id should have looked like; the text that was given is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the id of a delivery is dlv_ and 26 characters (a ULID): take it from the list of deliveries")]
pub struct MalformedDeliveryId;

impl FromStr for DeliveryId {
    type Err = MalformedDeliveryId;

    fn from_str(text: &str) -> Result<Self, MalformedDeliveryId> {
        let bare = text.strip_prefix(PREFIX).ok_or(MalformedDeliveryId)?;
        // 26 characters hold 130 bits and an id has 128: the parser would let the two on top go unseen
        let fits = bare.as_bytes().first().is_some_and(|first| (b'0'..=b'7').contains(first));
        let id = Ulid::from_string(bare).map_err(|_| MalformedDeliveryId)?;
        if fits { Ok(DeliveryId(id)) } else { Err(MalformedDeliveryId) }
    }
}

impl Serialize for DeliveryId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeliveryId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_made_again_has_the_same_id_and_any_other_has_another() {
        let at = EventId::at_time(1_750_509_296_789);
        let id = DeliveryId::of("wh_1", &[at, at.plus(1)]);
        assert_eq!(id, DeliveryId::of("wh_1", &[at, at.plus(1)]));
        assert_eq!(id.time_ms(), at.time_ms());
        for other in [
            DeliveryId::of("wh_2", &[at, at.plus(1)]),
            DeliveryId::of("wh_1", &[at]),
            DeliveryId::of("wh_1", &[at, at.plus(2)]),
            DeliveryId::of("wh_1", &[at, at.plus(1), at.plus(2)]),
        ] {
            assert_ne!(id, other);
        }
    }

    #[test]
    fn the_text_form_reads_back_and_nothing_else_does() {
        let id = DeliveryId::of("wh_1", &[EventId::at_time(1_750_509_296_789)]);
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in [
            "",
            "dlv_",
            "evt_01J00000000000000000000000",
            "01J00000000000000000000000",
            "dlv_8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
        ] {
            assert_eq!(bad.parse::<DeliveryId>(), Err(MalformedDeliveryId), "{bad}");
        }
    }
}
