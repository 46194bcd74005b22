//! What a sealed segment holds, written down when it was sealed and checked. A segment counts only with its manifest.
//!
//! The file is `crc32c:8 hex digits, a space, JSON`. The database holds the same document (without its own size), so that a
//! manifest that was damaged is made again.

use serde::{Deserialize, Serialize};

use super::file_check::{self, FileSum};
use super::losses::DamagedRange;
use super::{Moment, Span};
use crate::model::event::ChannelNo;
use crate::model::id::EventId;
use crate::wal::LogId;

/// The format of a segment that was written by the server before the write-ahead log.
pub const FORMAT_1: u32 = 1;
/// The format that is written now.
pub const FORMAT: u32 = 2;

/// The checksum before the JSON.
const PREFIX_BYTES: usize = 9;

/// What a segment holds of one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelSpan {
    pub channel: u32,
    pub first: EventId,
    pub last: EventId,
    pub events: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// The number of the segment.
    pub segment: u64,
    /// Which log it belongs to, so that one of another data folder is never taken for one of this; none where an earlier version
    /// wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogId>,
    /// Commits of the write-ahead log whose events and keys are in it: the first and the last that has any. Both are 0 for
    /// a segment that is older than the write-ahead log.
    pub from: u64,
    pub through: u64,
    pub first: Option<EventId>,
    pub last: Option<EventId>,
    pub events: u64,
    /// Of records, before compression.
    pub bytes: u64,
    /// In the order of their numbers.
    pub channels: Vec<ChannelSpan>,
    /// Dedupe keys, and when the newest was used.
    pub keys: u64,
    pub keys_ms: u64,
    /// CRC-32C of the file beside the database; none where an earlier version wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys_crc: Option<u32>,
    /// The clocks when its newest event was appended; none for a segment that is older than the write-ahead log.
    pub newest_at: Option<Moment>,
    /// It was not sealed when it was taken over from an older server: what was appended to it last may be missing.
    #[serde(default)]
    pub was_unsealed: bool,
    /// Events that were damaged before the segment was written, or that could not be recovered since.
    pub damaged: Vec<DamagedRange>,
    /// Entries of the database before the manifest's own, and the CRC-32C over them in their order.
    pub entries: u64,
    pub checksum: u32,
    /// Length of the database's file; 0 when there is none because nothing of the segment is left.
    pub db_bytes: u64,
    /// Its checksums, see [`FileSum`]. sled leaves the file as it is when it opens it again.
    pub db_crcs: Vec<u32>,
    #[serde(default)]
    pub db_second_crcs: Vec<u32>,
}

/// Why a manifest cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadManifest {
    Damaged(String),
    /// A newer version wrote it.
    Newer(u32),
}

impl Manifest {
    pub fn encode(&self) -> Vec<u8> {
        // a document of numbers and ids always has a JSON form
        let json = serde_json::to_vec(self).unwrap_or_default();
        let mut text = format!("{:08x} ", crc32c::crc32c(&json)).into_bytes();
        text.extend_from_slice(&json);
        text
    }

    /// Reads the text of a manifest.
    ///
    /// # Errors
    /// [`BadManifest::Damaged`] when the checksum or the form is wrong, [`BadManifest::Newer`] when a newer version
    /// wrote it.
    pub fn decode(text: &[u8]) -> Result<Manifest, BadManifest> {
        let damaged = |why: &str| BadManifest::Damaged(why.to_owned());
        let (crc, json) = text.split_at_checked(PREFIX_BYTES).ok_or_else(|| damaged("it is too short"))?;
        if crc != format!("{:08x} ", crc32c::crc32c(json)).as_bytes() {
            return Err(damaged("its checksum is another"));
        }
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format } = serde_json::from_slice(json).map_err(|e| BadManifest::Damaged(e.to_string()))?;
        if format > FORMAT {
            return Err(BadManifest::Newer(format));
        }
        serde_json::from_slice(json).map_err(|e| BadManifest::Damaged(e.to_string()))
    }

    /// Reads a manifest in which a single bit was flipped; none when more is wrong with it.
    pub fn heal(text: &[u8]) -> Option<Manifest> {
        let (prefix, json) = text.split_at_checked(PREFIX_BYTES)?;
        let crc = crc32c::crc32c(json);
        let right = format!("{crc:08x} ");
        let wrong_bits: u32 = prefix.iter().zip(right.as_bytes()).map(|(a, b)| (a ^ b).count_ones()).sum();
        if wrong_bits <= 1 {
            return Manifest::decode(&[right.as_bytes(), json].concat()).ok();
        }
        let stored = u32::from_str_radix(std::str::from_utf8(&prefix[..8]).ok()?, 16).ok()?;
        let (byte, bit) = file_check::flipped(crc ^ stored, json.len())?;
        let mut healed = text.to_vec();
        healed[PREFIX_BYTES + byte] ^= 1 << bit;
        Manifest::decode(&healed).ok()
    }

    /// Why it is not that of a segment of a log; none when it is.
    pub fn stranger(&self, log: &LogId, segment: u64) -> Option<String> {
        if self.segment != segment {
            return Some(format!("it is segment {}", self.segment));
        }
        self.log.is_some_and(|own| own != *log).then(|| "it belongs to another data folder".into())
    }

    /// Why a manifest that was found in a database is of another segment than `known`; none when it is not.
    pub fn is_not(&self, known: &Manifest) -> Option<String> {
        match known.log {
            Some(_) if self.log.is_none() => Some("it is an older one".into()),
            Some(log) => self.stranger(&log, known.segment),
            None => (self.segment != known.segment).then(|| format!("it is segment {}", self.segment)),
        }
    }

    /// The file of the database as it should be.
    pub fn file(&self) -> FileSum {
        FileSum { bytes: self.db_bytes, crcs: self.db_crcs.clone(), second_crcs: self.db_second_crcs.clone() }
    }

    /// Takes over what the file of the database is.
    pub fn set_file(&mut self, file: FileSum) {
        (self.db_bytes, self.db_crcs, self.db_second_crcs) = (file.bytes, file.crcs, file.second_crcs);
    }

    /// What the segment holds of a channel, or of all.
    pub fn span(&self, no: ChannelNo) -> Option<Span> {
        if no == ChannelNo::ALL {
            return Some(Span { first: self.first?, last: self.last?, events: self.events });
        }
        let at = self.channels.binary_search_by_key(&no.0, |span| span.channel).ok()?;
        let ChannelSpan { first, last, events, .. } = self.channels[at];
        Some(Span { first, last, events })
    }

    /// Fills in what follows from the spans of the channels.
    pub fn sum_up(&mut self) {
        self.channels.sort_unstable_by_key(|span| span.channel);
        self.first = self.channels.iter().map(|span| span.first).min();
        self.last = self.channels.iter().map(|span| span.last).max();
        self.events = self.channels.iter().map(|span| span.events).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tests::id;

    fn manifest() -> Manifest {
        let span = |channel, first, last| ChannelSpan { channel, first: id(first), last: id(last), events: 3 };
        let mut manifest = Manifest {
            format: FORMAT,
            segment: 7,
            from: 3,
            through: 9,
            channels: vec![span(4, 2, 9), span(1, 1, 8)],
            newest_at: Some(Moment { wall_ms: 1, boot: u64::MAX, elapsed_ms: 3 }),
            damaged: vec![DamagedRange::new(ChannelNo(1), id(1), id(2))],
            checksum: u32::MAX,
            ..Manifest::default()
        };
        manifest.sum_up();
        manifest
    }

    #[test]
    fn it_is_read_as_it_was_written_and_knows_its_spans() {
        let manifest = manifest();
        assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest.clone()));
        assert_eq!(manifest.span(ChannelNo(4)), Some(Span { first: id(2), last: id(9), events: 3 }));
        assert_eq!(manifest.span(ChannelNo::ALL), Some(Span { first: id(1), last: id(9), events: 6 }));
        assert_eq!(manifest.span(ChannelNo(2)), None);
    }

    #[test]
    fn one_of_another_log_or_another_place_is_a_stranger_and_one_that_does_not_say_is_not() {
        let (own, other) = (LogId([1; 16]), LogId([2; 16]));
        let manifest = Manifest { log: Some(own), ..manifest() };
        assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest.clone()));
        assert_eq!(manifest.stranger(&own, 7), None);
        assert!(manifest.stranger(&own, 8).is_some_and(|why| why.contains("segment 7")));
        assert!(manifest.stranger(&other, 7).is_some_and(|why| why.contains("another data folder")));
        assert_eq!(Manifest { log: None, ..manifest }.stranger(&other, 7), None);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let text = manifest().encode();
        for bit in 0..text.len() * 8 {
            let mut bad = text.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(Manifest::decode(&bad), Err(BadManifest::Damaged(_))), "bit {bit}");
            assert_eq!(Manifest::heal(&bad), Some(manifest()), "bit {bit}");
        }
        for len in 0..text.len() {
            assert!(matches!(Manifest::decode(&text[..len]), Err(BadManifest::Damaged(_))));
        }
    }

    #[test]
    fn one_of_a_newer_version_is_refused_by_its_number() {
        let json = br#"{"format":3,"something":"else"}"#;
        let text = [format!("{:08x} ", crc32c::crc32c(json)).as_bytes(), json].concat();
        assert_eq!(Manifest::decode(&text), Err(BadManifest::Newer(3)));
    }
}
