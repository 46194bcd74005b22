//! The event, and the draft that becomes one when the journal has given it an id.

use std::fmt;
use std::sync::Arc;

use super::id::EventId;
use super::json::Canonical;
use super::trace_context::TraceContext;

/// The number under which the log keeps a channel. Never given to another channel, also after a deletion.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ChannelNo(pub u32);

impl ChannelNo {
    /// All channels at once, where something is read. No channel has this number.
    pub const ALL: ChannelNo = ChannelNo(0);
}

/// The longest type in bytes.
pub const TYPE_BYTES_MAX: usize = 64;
/// The longest session name in bytes.
pub const SESSION_BYTES_MAX: usize = 128;
/// The longest name of a publisher in bytes.
pub const BY_BYTES_MAX: usize = 200;

/// An event type: 1 to 64 of the characters `A-Z a-z 0-9 _ . : -`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType(Arc<str>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event type is 1 to 64 of the characters A-Z a-z 0-9 _ . : -")]
pub struct BadType;

impl EventType {
    /// Checks the text of an event type.
    ///
    /// # Errors
    /// The text is empty, longer than [`TYPE_BYTES_MAX`], or has a character that is not allowed.
    pub fn new(text: &str) -> Result<Self, BadType> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b':' | b'-');
        match (1..=TYPE_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed) {
            true => Ok(EventType(text.into())),
            false => Err(BadType),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// An event that a publisher asks for. It has no id and is not durable.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    pub kind: EventType,
    /// When it happened, in Unix milliseconds; absent: when it is appended.
    pub ts_ms: Option<i64>,
    /// Which session of an organization it belongs to: a name that publishers choose.
    pub session: Option<Box<str>>,
    /// Always a JSON object.
    pub payload: Canonical,
    /// The publisher's own key: within the dedupe window a second draft with it is answered with the first id.
    pub dedupe_id: Option<Box<str>>,
    /// What the schema of a source said about it; absent: nobody asked.
    pub validated: Option<bool>,
}

impl Draft {
    /// What the draft takes up in the log, near enough for limits: text bytes and a fixed overhead.
    pub fn bytes(&self) -> usize {
        let optional = |text: &Option<Box<str>>| text.as_deref().map_or(0, str::len);
        64 + self.kind.as_str().len()
            + optional(&self.session)
            + optional(&self.dedupe_id)
            + self.payload.as_str().len()
    }
}

/// Where an event came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// Who published it: the id of a token, `jwt:<sub>`, `admin`, `source:<id>`, or `server`. Empty for events of a log
    /// that did not keep it.
    pub by: Arc<str>,
    /// What the schema of a source said about it; absent: nobody asked.
    pub validated: Option<bool>,
    /// The trace in which it was published. Envelopes do not show it; attempts to deliver it go on with it.
    pub trace: Option<Arc<TraceContext>>,
}

/// Who publishes, and in which trace.
#[derive(Clone, Debug)]
pub struct PublishedBy {
    pub by: Arc<str>,
    pub trace: Option<Arc<TraceContext>>,
}

impl From<&str> for PublishedBy {
    fn from(by: &str) -> PublishedBy {
        PublishedBy { by: by.into(), trace: None }
    }
}

impl From<Arc<str>> for PublishedBy {
    fn from(by: Arc<str>) -> PublishedBy {
        PublishedBy { by, trace: None }
    }
}

impl Origin {
    /// Before the id of the source that took an event in.
    pub const SOURCE: &str = "source:";
    /// The publisher of the server's own events.
    pub const SERVER: &str = "server";

    /// The source that took the event in, if one did.
    pub fn source(&self) -> Option<&str> {
        self.by.strip_prefix(Origin::SOURCE)
    }
}

impl Default for Origin {
    fn default() -> Origin {
        Origin { by: "".into(), validated: None, trace: None }
    }
}

/// An event of the log. Immutable.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub id: EventId,
    pub channel: ChannelNo,
    pub kind: EventType,
    pub ts_ms: i64,
    pub session: Option<Box<str>>,
    pub origin: Origin,
    /// Always a JSON object.
    pub payload: Canonical,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_has_its_characters_and_its_length() {
        for good in ["map_kill", "poll.vote", "a:b-c", "X", &"x".repeat(64)] {
            assert!(EventType::new(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a\nb", "a\0", "ä", "a,b", "*", "a/b", &"x".repeat(65)] {
            assert_eq!(EventType::new(bad), Err(BadType), "{bad}");
        }
    }
}
