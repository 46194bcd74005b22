//! Envelopes: the JSON shapes in which events are sent. Every encoding is written here and nowhere else, and each is made at
//! most once per event: see [`crate::feed::frame::Frame`].

use super::channel::{ChannelKind, Owner};
use super::event::Event;
use super::id::EventId;
use super::json::Canonical;
use super::timestamp::write_iso;

/// What stands before an id in every envelope but that of the maps.
const ID_PREFIX: &str = "evt_";

/// A shape of the JSON object around an event. Every event can be written in every one of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Envelope {
    /// `{"id","type","map_id","ts","timestamp","payload"}`; the two times are the same.
    Map,
    /// `{"schema","id","event","session","organization","timestamp","payload"}`
    Gateway,
    /// `{"event_id","event_type","timestamp","payload"}`
    Feed,
    /// The same with `"channel"` before the payload, for those who follow many and ask which.
    FeedWithChannel,
    /// `{"id","timestamp","source","eventType","payload","validated"}`, for those who listen to one source.
    Listener,
}

impl Envelope {
    pub const COUNT: usize = Envelope::Listener as usize + 1;

    /// The envelope of the family that a channel belongs to.
    pub fn of(kind: ChannelKind) -> Envelope {
        match kind {
            ChannelKind::Map => Envelope::Map,
            ChannelKind::Organization => Envelope::Gateway,
        }
    }

    fn id_prefix(self) -> &'static str {
        match self {
            Envelope::Map => "",
            Envelope::Gateway | Envelope::Feed | Envelope::FeedWithChannel | Envelope::Listener => ID_PREFIX,
        }
    }

    /// Writes an id as this envelope shows it.
    pub fn write_id(self, id: EventId, out: &mut Vec<u8>) {
        out.extend_from_slice(self.id_prefix().as_bytes());
        id.write_to(out);
    }

    /// An id as this envelope shows it.
    pub fn shown_id(self, id: EventId) -> String {
        format!("{}{id}", self.id_prefix())
    }

    /// Writes the event as JSON.
    pub fn write(self, event: &Event, owner: &Owner, out: &mut Vec<u8>) {
        // types and ids are made of characters that JSON does not escape
        match self {
            Envelope::Map => {
                out.extend_from_slice(b"{\"id\":\"");
                self.write_id(event.id, out);
                out.extend_from_slice(b"\",\"type\":\"");
                out.extend_from_slice(event.kind.as_str().as_bytes());
                out.extend_from_slice(b"\",\"map_id\":\"");
                out.extend_from_slice(owner.id.as_bytes());
                out.extend_from_slice(b"\",\"ts\":\"");
                write_iso(event.ts_ms, out);
                out.extend_from_slice(b"\",\"timestamp\":\"");
                write_iso(event.ts_ms, out);
                out.push(b'"');
            }
            Envelope::Gateway => {
                out.extend_from_slice(b"{\"schema\":\"v1\",\"id\":\"");
                self.write_id(event.id, out);
                out.extend_from_slice(b"\",\"event\":\"");
                out.extend_from_slice(event.kind.as_str().as_bytes());
                out.extend_from_slice(b"\",\"session\":");
                match event.session.as_deref() {
                    Some(session) => write_string(session, out),
                    None => out.extend_from_slice(b"null"),
                }
                out.extend_from_slice(b",\"organization\":\"");
                out.extend_from_slice(owner.id.as_bytes());
                out.extend_from_slice(b"\",\"timestamp\":");
                out.extend_from_slice(event.ts_ms.to_string().as_bytes());
            }
            Envelope::Feed | Envelope::FeedWithChannel => {
                out.extend_from_slice(b"{\"event_id\":\"");
                self.write_id(event.id, out);
                out.extend_from_slice(b"\",\"event_type\":\"");
                out.extend_from_slice(event.kind.as_str().as_bytes());
                out.extend_from_slice(b"\",\"timestamp\":");
                out.extend_from_slice(event.ts_ms.to_string().as_bytes());
                if self == Envelope::FeedWithChannel {
                    out.extend_from_slice(b",\"channel\":\"");
                    out.extend_from_slice(owner.kind.as_str().as_bytes());
                    out.push(b':');
                    out.extend_from_slice(owner.id.as_bytes());
                    out.push(b'"');
                }
            }
            Envelope::Listener => {
                out.extend_from_slice(b"{\"id\":\"");
                self.write_id(event.id, out);
                out.extend_from_slice(b"\",\"timestamp\":\"");
                write_iso(event.ts_ms, out);
                out.extend_from_slice(b"\",\"source\":");
                write_string(event.origin.source().unwrap_or_default(), out);
                out.extend_from_slice(b",\"eventType\":\"");
                out.extend_from_slice(event.kind.as_str().as_bytes());
                out.push(b'"');
            }
        }
        out.extend_from_slice(b",\"payload\":");
        out.extend_from_slice(event.payload.as_bytes());
        if self == Envelope::Listener {
            let validated = event.origin.validated.unwrap_or(true);
            out.extend_from_slice(if validated { b",\"validated\":true" } else { b",\"validated\":false" });
        }
        out.push(b'}');
    }

    /// Writes the event for SSE (WHATWG HTML 9.2.6: LF, one space after the colon): `id:`, `data:` and, but for
    /// listeners, its type in an `event:` line. Where clients may want the event without its name, the name comes first, so
    /// that the text without it is a slice; the feed has `id:`, `event:`, `data:` in this order, always.
    pub fn write_sse(self, event: &Event, owner: &Owner, out: &mut Vec<u8>) -> SseParts {
        out.reserve(event.payload.as_bytes().len() + 320);
        let write_name = |out: &mut Vec<u8>| {
            out.extend_from_slice(b"event: ");
            out.extend_from_slice(event.kind.as_str().as_bytes());
            out.push(b'\n');
        };
        if matches!(self, Envelope::Map | Envelope::Gateway) {
            write_name(out);
        }
        let unnamed = out.len();
        out.extend_from_slice(b"id: ");
        self.write_id(event.id, out);
        out.push(b'\n');
        if matches!(self, Envelope::Feed | Envelope::FeedWithChannel) {
            write_name(out);
        }
        out.extend_from_slice(b"data: ");
        let json = out.len();
        self.write(event, owner, out);
        let end = out.len();
        out.extend_from_slice(b"\n\n");
        SseParts { unnamed, json, end }
    }
}

/// Where the parts of the SSE text of an event begin and end, so that its other encodings are slices of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SseParts {
    /// Where the text without an `event:` line starts, for the envelopes that can do without one.
    pub unnamed: usize,
    /// Where the JSON envelope starts.
    pub json: usize,
    /// Where the JSON envelope ends.
    pub end: usize,
}

/// Writes a text as a JSON string.
fn write_string(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(Canonical::of_text(text).as_str().as_bytes());
}

/// Writes a WebSocket text frame, unmasked and unfragmented as a server sends it (RFC 6455, 5.2).
pub fn write_ws_text(text: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len() + 10);
    out.push(0x81);
    match text.len() {
        len @ 0..=125 => out.push(len as u8),
        len @ 126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::{ChannelNo, EventType, Origin};
    use crate::model::json::Canonical;

    fn event(session: Option<&str>, by: &str) -> Event {
        Event {
            id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().expect("an id"),
            channel: ChannelNo(1),
            kind: EventType::new("poll.vote").expect("a type"),
            ts_ms: 1_719_400_000_000,
            session: session.map(Into::into),
            origin: Origin { by: by.into(), validated: Some(false), trace: None },
            payload: Canonical::parse(r#"{"a":"\u2028é"}"#).expect("JSON"),
        }
    }

    fn sse(envelope: Envelope, event: &Event) -> (String, SseParts) {
        let owner = Owner { kind: ChannelKind::Organization, id: "org_1".into() };
        let mut out = Vec::new();
        let parts = envelope.write_sse(event, &owner, &mut out);
        (String::from_utf8(out).expect("UTF-8"), parts)
    }

    #[test]
    fn a_gateway_event_is_named_before_its_id_and_may_do_without_the_name() {
        let (text, parts) = sse(Envelope::Gateway, &event(Some("a \"b\\c\" ü"), ""));
        assert_eq!(&text[..parts.unnamed], "event: poll.vote\n");
        assert_eq!(
            &text[parts.unnamed..],
            "id: evt_01ARZ3NDEKTSV4RRFFQ69G5FAV\ndata: {\"schema\":\"v1\",\"id\":\"evt_01ARZ3NDEKTSV4RRFFQ69G5FAV\",\
             \"event\":\"poll.vote\",\"session\":\"a \\\"b\\\\c\\\" ü\",\"organization\":\"org_1\",\
             \"timestamp\":1719400000000,\"payload\":{\"a\":\"\u{2028}é\"}}\n\n"
        );
    }

    #[test]
    fn a_feed_event_has_id_event_and_data_in_this_order() {
        let (text, parts) = sse(Envelope::Feed, &event(None, ""));
        assert_eq!(parts.unnamed, 0);
        assert_eq!(
            text,
            "id: evt_01ARZ3NDEKTSV4RRFFQ69G5FAV\nevent: poll.vote\ndata: {\"event_id\":\"evt_01ARZ3NDEKTSV4RRFFQ69G5FAV\",\
             \"event_type\":\"poll.vote\",\"timestamp\":1719400000000,\"payload\":{\"a\":\"\u{2028}é\"}}\n\n"
        );
    }

    #[test]
    fn a_feed_event_names_its_channel_where_that_is_asked_for_and_is_else_the_same() {
        let ((named, _), (plain, _)) =
            (sse(Envelope::FeedWithChannel, &event(None, "")), sse(Envelope::Feed, &event(None, "")));
        assert_eq!(named.replace(",\"channel\":\"organization:org_1\"", ""), plain);
        assert_ne!(named, plain);
    }

    #[test]
    fn a_listener_gets_unnamed_events_with_their_source_and_the_word_of_its_schema() {
        let (text, _) = sse(Envelope::Listener, &event(None, "source:wh_1"));
        assert_eq!(
            text,
            "id: evt_01ARZ3NDEKTSV4RRFFQ69G5FAV\ndata: {\"id\":\"evt_01ARZ3NDEKTSV4RRFFQ69G5FAV\",\
             \"timestamp\":\"2024-06-26T11:06:40.000Z\",\"source\":\"wh_1\",\"eventType\":\"poll.vote\",\
             \"payload\":{\"a\":\"\u{2028}é\"},\"validated\":false}\n\n"
        );
    }

    #[test]
    fn every_envelope_is_json_between_its_marks() {
        for envelope in
            [Envelope::Map, Envelope::Gateway, Envelope::Feed, Envelope::FeedWithChannel, Envelope::Listener]
        {
            let (text, parts) = sse(envelope, &event(None, "tok_1"));
            let json: serde_json::Value = serde_json::from_str(&text[parts.json..parts.end]).expect("JSON");
            assert_eq!(json["payload"]["a"], "\u{2028}é", "{envelope:?}");
        }
    }
}
