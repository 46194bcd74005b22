//! The payload of one commit in the write-ahead log: `version u8, time_ms u64, documents_changed_at u64`, then sections of
//! `kind u8, len u32, bytes`. What is in a section is the business of the room that it belongs to.
//!
//! `documents_changed_at` is the last commit before this one that changed documents. When a commit is damaged, the one after
//! it thus says whether documents were in it.

use std::ops::Range;

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 17;
const SECTION_HEADER_BYTES: usize = 5;

const EVENTS: u8 = 1;
const DOCUMENTS: u8 = 2;
const DEDUPE_KEYS: u8 = 3;

/// A commit that cannot be read: a newer version wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a commit of the write-ahead log cannot be read: {why}")]
pub struct MalformedCommit {
    why: String,
}

/// The payload that is being put together. Its buffer is used again for the next one.
#[derive(Default)]
pub(super) struct Payload {
    bytes: Vec<u8>,
    events: Option<Range<usize>>,
    keys: Option<Range<usize>>,
}

/// A buffer larger than this is given back after its commit.
const BUFFER_KEPT_BYTES: usize = 2 << 20;

impl Payload {
    pub fn begin(&mut self, time_ms: i64, documents_changed_at: u64) {
        self.bytes.clear();
        self.bytes.shrink_to(BUFFER_KEPT_BYTES);
        (self.events, self.keys) = (None, None);
        self.bytes.push(VERSION);
        self.bytes.extend_from_slice(&time_ms.to_be_bytes());
        self.bytes.extend_from_slice(&documents_changed_at.to_be_bytes());
    }

    pub fn add_events(&mut self, section: &[u8]) {
        self.events = Some(self.add(EVENTS, section));
    }

    pub fn add_documents(&mut self, section: &[u8]) {
        self.add(DOCUMENTS, section);
    }

    pub fn add_keys(&mut self, section: &[u8]) {
        self.keys = Some(self.add(DEDUPE_KEYS, section));
    }

    fn add(&mut self, kind: u8, section: &[u8]) -> Range<usize> {
        self.bytes.push(kind);
        // a commit is bounded far below what a u32 holds
        self.bytes.extend_from_slice(&(section.len() as u32).to_be_bytes());
        let at = self.bytes.len();
        self.bytes.extend_from_slice(section);
        at..self.bytes.len()
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where the events are in the payload, and the section itself.
    pub fn events(&self) -> Option<(usize, &[u8])> {
        self.events.clone().map(|range| (range.start, &self.bytes[range]))
    }

    /// Where the dedupe keys are in the payload, and the section itself.
    pub fn keys(&self) -> Option<(usize, &[u8])> {
        self.keys.clone().map(|range| (range.start, &self.bytes[range]))
    }
}

/// A payload that was read back.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sections<'a> {
    pub time_ms: i64,
    pub documents_changed_at: u64,
    /// Each with its place in the payload.
    pub events: Option<(usize, &'a [u8])>,
    pub documents: Option<&'a [u8]>,
    pub keys: Option<(usize, &'a [u8])>,
}

/// # Errors
/// It is not what [`Payload`] makes. Its checksum was right, so it is of a newer version.
pub(crate) fn read(payload: &[u8]) -> Result<Sections<'_>, MalformedCommit> {
    let malformed = |why: &str| MalformedCommit { why: why.into() };
    let (header, _) = payload.split_at_checked(HEADER_BYTES).ok_or_else(|| malformed("it has no header"))?;
    if header[0] != VERSION {
        return Err(malformed(&format!("it has version {}", header[0])));
    }
    let number = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&header[at..at + 8]);
        u64::from_be_bytes(bytes)
    };
    let mut sections = Sections { time_ms: number(1) as i64, documents_changed_at: number(9), ..Sections::default() };
    let mut at = HEADER_BYTES;
    while at < payload.len() {
        let head = payload.get(at..at + SECTION_HEADER_BYTES).ok_or_else(|| malformed("a section has no header"))?;
        let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        at += SECTION_HEADER_BYTES;
        let section = payload.get(at..at + len).ok_or_else(|| malformed("a section is longer than the commit"))?;
        match head[0] {
            EVENTS => sections.events = Some((at, section)),
            DOCUMENTS => sections.documents = Some(section),
            DEDUPE_KEYS => sections.keys = Some((at, section)),
            kind => return Err(malformed(&format!("it has a section of kind {kind}"))),
        }
        at += len;
    }
    Ok(sections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_read_back_with_the_places_of_its_sections() {
        let mut payload = Payload::default();
        for round in 0..2 {
            payload.begin(1_700_000_000_000 + round, 7);
            payload.add_events(b"events");
            payload.add_documents(b"");
            payload.add_keys(b"keys");
            let sections = read(payload.bytes()).expect("it was made a moment ago");
            assert_eq!((sections.time_ms, sections.documents_changed_at), (1_700_000_000_000 + round, 7));
            assert_eq!((sections.events, sections.keys), (payload.events(), payload.keys()));
            assert_eq!(sections.documents, Some(&b""[..]));
            let (at, section) = sections.events.expect("there are events");
            assert_eq!(&payload.bytes()[at..at + section.len()], b"events");
        }
    }

    #[test]
    fn a_payload_of_a_newer_version_is_refused_and_not_read_in_part() {
        let mut payload = Payload::default();
        payload.begin(1, 0);
        payload.add_events(b"events");
        let whole = payload.bytes().to_vec();
        for cut in 0..whole.len() {
            // nothing behind the header is a commit without sections
            assert_eq!(read(&whole[..cut]).is_ok(), cut == HEADER_BYTES, "{cut}");
        }
        let mut newer = whole.clone();
        newer[0] = 2;
        assert!(read(&newer).is_err());
        let mut unknown = whole;
        unknown[HEADER_BYTES] = 9;
        assert!(read(&unknown).is_err());
    }

    #[test]
    fn commits_that_nobody_wrote_are_refused_or_have_sections_within_them() {
        let mut payload = Payload::default();
        payload.begin(1_700_000_000_000, 7);
        payload.add_events(b"some events");
        payload.add_documents(b"documents");
        payload.add_keys(b"keys");
        crate::fuzz::run("commits", [payload.bytes().to_vec()], &[], |bytes| {
            let Ok(sections) = read(bytes) else { return };
            for (at, section) in sections.events.into_iter().chain(sections.keys) {
                assert_eq!(&bytes[at..at + section.len()], section);
            }
        });
    }
}
