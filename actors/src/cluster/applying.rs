//! Putting the parts of an entry together again, and reading it.

use bytes::{Bytes, BytesMut};

use super::bytes::Malformed;
use super::entry::{Entry, Kind, Part};
use crate::documents::{Change, decode_changes};
use crate::log::decode_events;
use crate::model::event::Event;
use crate::model::relay::{Body, Nonce, TailMessage};

/// The parts of the entry that is being read.
#[derive(Debug, Default)]
pub struct Assembly {
    parts: Vec<Bytes>,
}

/// An entry that was read.
#[derive(Debug)]
pub struct Whole {
    pub is_events: bool,
    pub time_ms: i64,
    /// As records, and read.
    pub events: Option<(Bytes, Vec<Event>)>,
    pub keys: Bytes,
    pub changes: Vec<Change>,
    /// The last message of an entry of events before it.
    pub before: u64,
    /// The requests that are answered by it.
    pub nonces: Vec<Nonce>,
}

impl Assembly {
    /// Takes the next message of the log; some when an entry is whole by it.
    ///
    /// # Errors
    /// The entry cannot be read: a newer version has written it.
    pub fn add(&mut self, message: TailMessage<Part>) -> Result<Option<Whole>, Malformed> {
        let sequence = message.sequence;
        let Body::Events(message) = message.body else {
            self.clear();
            return Ok(None);
        };
        let Part { kind, part, parts, before, bytes } = &message.content;
        if *kind == Kind::Nothing {
            self.clear();
            return Ok(None);
        }
        if usize::from(*part) != self.parts.len() {
            self.clear();
        }
        if usize::from(*part) != self.parts.len() {
            // its beginning is among what was lost, which was said already
            log::error!(sequence; "an entry of the log is without its beginning");
            return Ok(None);
        }
        self.parts.push(bytes.clone());
        if part + 1 < *parts {
            return Ok(None);
        }
        let bytes = self.join();
        let nonces = message.requests.iter().map(|(nonce, _)| *nonce).collect();
        read(*kind, bytes, *before, nonces).map(Some)
    }

    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// What was begun does not come to an end.
    pub fn clear(&mut self) {
        self.parts.clear();
    }

    fn join(&mut self) -> Bytes {
        if self.parts.len() == 1 {
            return self.parts.pop().unwrap_or_default();
        }
        let mut all = BytesMut::with_capacity(self.parts.iter().map(Bytes::len).sum());
        self.parts.drain(..).for_each(|part| all.extend_from_slice(&part));
        all.freeze()
    }
}

fn read(kind: Kind, bytes: Bytes, before: u64, nonces: Vec<Nonce>) -> Result<Whole, Malformed> {
    Ok(match Entry::decode(kind, bytes)? {
        Entry::Events { time_ms, keys, records } => {
            let events = decode_events(&records).map_err(|_| Malformed)?;
            let events = Some((records, events));
            Whole { is_events: true, time_ms, events, keys, changes: Vec::new(), before, nonces }
        }
        Entry::Changes { time_ms, changes } => {
            let changes = decode_changes(&changes).map_err(|_| Malformed)?;
            Whole { is_events: false, time_ms, events: None, keys: Bytes::new(), changes, before, nonces }
        }
    })
}
