//! The shapes in which an event leaves the house. Every encoding is written here and nowhere else, and each is made at
//! most once per event: see [`crate::frame::Frame`].

use super::event::Event;
use super::timestamp::write_iso;

/// Where the parts of the SSE text of an event begin and end, so that its other encodings are slices of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SseParts {
    /// Where the text without an `event:` line starts.
    pub unnamed: usize,
    /// Where the JSON envelope starts.
    pub json: usize,
    /// Where the JSON envelope ends.
    pub end: usize,
}

/// Writes `event:`, `id:` and `data:` lines of an event of a map (WHATWG HTML 9.2.6: LF, one space after the colon).
/// The text from `unnamed` on is the same event without its `event:` line.
pub fn write_map_sse(event: &Event, map_id: &str, out: &mut Vec<u8>) -> SseParts {
    out.reserve(event.payload.as_bytes().len() + 320);
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(event.kind.as_str().as_bytes());
    out.push(b'\n');
    let unnamed = out.len();
    out.extend_from_slice(b"id: ");
    event.id.write_to(out);
    out.extend_from_slice(b"\ndata: ");
    let json = out.len();
    write_map(event, map_id, out);
    let end = out.len();
    out.extend_from_slice(b"\n\n");
    SseParts { unnamed, json, end }
}

/// Writes `{"id","type","map_id","ts","timestamp","payload"}`. The two times are the same.
pub fn write_map(event: &Event, map_id: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"id\":\"");
    event.id.write_to(out);
    // types and ids are made of characters that JSON does not escape
    out.extend_from_slice(b"\",\"type\":\"");
    out.extend_from_slice(event.kind.as_str().as_bytes());
    out.extend_from_slice(b"\",\"map_id\":\"");
    out.extend_from_slice(map_id.as_bytes());
    out.extend_from_slice(b"\",\"ts\":\"");
    write_iso(event.ts_ms, out);
    out.extend_from_slice(b"\",\"timestamp\":\"");
    write_iso(event.ts_ms, out);
    out.extend_from_slice(b"\",\"payload\":");
    out.extend_from_slice(event.payload.as_bytes());
    out.push(b'}');
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
