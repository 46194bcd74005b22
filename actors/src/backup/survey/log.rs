//! The findings on the event log: its segments, and what is known to be lost.

use std::collections::BTreeMap;

use super::found::{Found, PUT_BACK, Replay};
use super::{Counts, Finding, words};
use crate::backup::BackupError;
use crate::documents::{Documents, Table};
use crate::log::{DamagedRange, LogSurvey, LossDocument, SegmentState, SegmentSurvey};

impl Found<'_> {
    /// The segments together, or what is wrong with each. `stored`: a commit that was sealed when the write-ahead log gave it up.
    pub fn segments(
        &self,
        log: &LogSurvey,
        stored: u64,
        documents: &Documents,
        replay: &Replay,
        names: &BTreeMap<u32, String>,
    ) -> Vec<Finding> {
        const SUBJECT: &str = "log";
        let bytes: u64 = log.segments.iter().map(|segment| segment.bytes).sum();
        let events: u64 = log.segments.iter().map(|segment| segment.events).sum::<u64>();
        let text = format!(
            "{}, {}, {}",
            words::count(log.segments.len() as u64, "segment"),
            words::count(events, "event"),
            words::bytes(bytes)
        );
        let each = || log.segments.iter().map(segment_line).collect::<Vec<_>>();
        let mut findings = Vec::new();
        if let Some(hole) = self.missing(log, stored, documents) {
            findings.push(hole);
        }
        for segment in &log.segments {
            findings.extend(self.segment(segment, log, names));
        }
        let max_bytes = self.options.max_bytes;
        let unsealed: u64 = replay.unsealed.values().sum();
        if findings.is_empty() {
            findings.push(match max_bytes > 0 && bytes > max_bytes.saturating_mul(2) {
                true => {
                    let text = format!("{text}, which is more than twice retention.max_bytes; is the server running?");
                    Finding::doubtful(SUBJECT, text).with_details(each())
                }
                false if unsealed > 0 => {
                    let text = format!("{text}, and {unsealed} more in the write-ahead log");
                    Finding::fine(SUBJECT, text).with_details(each())
                }
                false => Finding::fine(SUBJECT, text).with_details(each()),
            });
        }
        findings
    }

    /// Segments that should be there.
    fn missing(&self, log: &LogSurvey, stored: u64, documents: &Documents) -> Option<Finding> {
        let losses: Vec<(Vec<u8>, LossDocument)> = documents.scan(Table::Losses, b"").unwrap_or_default();
        let dropped = losses.iter().find_map(|(_, loss)| match loss {
            LossDocument::Dropped { segment, .. } => Some(*segment),
            _ => None,
        });
        let there: Vec<u64> = log.segments.iter().map(|segment| segment.number).collect();
        // a running server may have dropped more than is known here
        let first = match self.is_held {
            true => there.first().copied().unwrap_or(1),
            false => dropped.unwrap_or(0) + 1,
        };
        // what has no manifest was not sealed
        let sealed = log.segments.iter().rev().find(|segment| segment.state != SegmentState::Unfinished);
        let known = log.newest.unwrap_or(0).max(sealed.map_or(0, |segment| segment.number));
        // the segments are an older copy, and so is what they say of the newest of them
        let last = if log.sealed_through < stored { known + 1 } else { known };
        let missing: Vec<u64> = (first..=last).filter(|number| there.binary_search(number).is_err()).collect();
        let (one, end) = (*missing.first()?, *missing.last()?);
        let path = |number: u64| self.data_dir.join("log").join(format!("{number:010}"));
        let which = match missing.len() {
            1 => format!("the segment {} is missing", path(one).display()),
            count => format!("{count} segments from {} to {} are missing", path(one).display(), path(end).display()),
        };
        let after = log.segments.iter().rev().filter(|segment| segment.number < one).find_map(|segment| segment.last);
        let before = log.segments.iter().filter(|segment| segment.number > end).find_map(|segment| segment.first);
        let when = match (after, before) {
            (Some(after), Some(before)) => format!("between {} and {}", words::time(after), words::time(before)),
            (Some(after), None) => format!("from {} on", words::time(after)),
            (None, Some(before)) => format!("before {}", words::time(before)),
            (None, None) => "of any time".into(),
        };
        let text = format!("{which}, and with it events of all channels {when}; no server starts; {PUT_BACK}");
        Some(Finding::bad("log", text))
    }

    /// What is wrong with one segment.
    fn segment(&self, segment: &SegmentSurvey, log: &LogSurvey, names: &BTreeMap<u32, String>) -> Option<Finding> {
        let path = self.data_dir.join("log").join(format!("{:010}", segment.number));
        let shown = path.display();
        let events = words::count(segment.events, "event");
        let counts: Counts = segment.channels.iter().copied().collect();
        let concerned = || words::channels(&counts, names);
        let is_last = log.segments.last().is_some_and(|last| last.number == segment.number);
        let finding = match &segment.state {
            SegmentState::Whole => return None,
            // the server was ended while it wrote it, and still has all of it in the write-ahead log
            SegmentState::Unfinished if is_last && log.newest.is_none_or(|newest| newest < segment.number) => {
                return None;
            }
            SegmentState::Unfinished => {
                Finding::bad("log", format!("the manifest of {shown} is missing; no server starts; {PUT_BACK}"))
            }
            SegmentState::Newer(format) => Finding::bad(
                "log",
                format!(
                    "{shown} has format {format}, which this version does not know; use the version that wrote it, or a newer one"
                ),
            ),
            SegmentState::NoDatabase => {
                let text = format!(
                    "{} is missing, and with it {events}; no server starts; {PUT_BACK}",
                    path.join("db").display()
                );
                Finding::bad("log", text).with_details(concerned())
            }
            SegmentState::NoConf => Finding::bad(
                "log",
                format!(
                    "{} is missing, and no server starts; copy that of another segment, which is the same",
                    path.join("conf").display()
                ),
            ),
            SegmentState::Stranger { why } => Finding::bad(
                "log",
                format!("{shown} is not the segment that was written there: {why}; no server starts; {PUT_BACK}"),
            ),
            SegmentState::Flipped { bits } => {
                let which = match bits {
                    1 => format!("one bit in the database of {shown} is flipped"),
                    bits => format!("{bits} bits in the database of {shown} are flipped"),
                };
                Finding::doubtful(
                    "log",
                    format!("{which}; nothing is lost: the server puts that right when it reads the segment"),
                )
            }
            SegmentState::Damaged { missing: Some(missing) } if missing.is_empty() => Finding::doubtful(
                "log",
                format!("the database of {shown} is damaged; nothing is lost: the segment is rebuilt when it is read"),
            ),
            SegmentState::Damaged { missing } => {
                let count: u64 = missing.iter().flatten().map(|(_, events)| events).sum();
                let which = match missing {
                    Some(_) => format!("{} of its {events} cannot be found any more", words::count(count, "event")),
                    None => format!("some of its {events} may be lost"),
                };
                let text = format!(
                    "the database of {shown} is damaged: {which}; it is rebuilt without them when it is read, and readers are told; \
                     restore a backup if they matter"
                );
                let counts: Counts = missing.iter().flatten().copied().collect();
                Finding::doubtful("log", text).with_details(words::channels(&counts, names))
            }
            SegmentState::BadKeys => Finding::doubtful(
                "log",
                format!(
                    "{} is damaged or missing; nothing is lost: the next start reads the keys from the database",
                    path.join("keys").display()
                ),
            ),
            SegmentState::WrongLength { bytes, expected_bytes } => {
                let text = format!(
                    "{shown} is damaged: its database has {bytes} bytes instead of {expected_bytes}; the next start saves what can be \
                     found of its {events} and tells readers of the rest; restore a backup if they matter"
                );
                Finding::doubtful("log", text).with_details(concerned())
            }
            SegmentState::BadManifest { why, is_in_database: true } => Finding::doubtful(
                "log",
                format!("the manifest of {shown} is damaged ({why}); the next start makes it again from the database"),
            ),
            SegmentState::BadManifest { why, is_in_database: false } => {
                let text = format!(
                    "the manifest of {shown} is damaged ({why}), and its database as well; no server starts; {PUT_BACK}"
                );
                Finding::bad("log", text)
            }
        };
        Some(finding)
    }
}

/// A segment with its size and what it holds, for a list.
pub fn segment_line(segment: &SegmentSurvey) -> String {
    let SegmentSurvey { number, bytes, events, channels, first, last, .. } = segment;
    let size = format!("{number:010}  {}", words::bytes(*bytes));
    match (first, last) {
        (Some(first), Some(last)) => format!(
            "{size}  {} of {}, {} to {}",
            words::count(*events, "event"),
            words::count(channels.len() as u64, "channel"),
            words::time(*first),
            words::time(*last)
        ),
        _ => size,
    }
}

/// How many events of each channel the segments hold.
pub fn events_of(segments: &[SegmentSurvey]) -> Counts {
    let mut counts = Counts::new();
    for (channel, events) in segments.iter().flat_map(|segment| &segment.channels) {
        *counts.entry(*channel).or_default() += events;
    }
    counts
}

/// Damage that is stored in documents or in manifests.
///
/// # Errors
/// A document cannot be read.
pub fn known_damage(log: &LogSurvey, documents: Option<&Documents>) -> Result<Vec<DamagedRange>, BackupError> {
    let mut ranges: Vec<DamagedRange> = log.segments.iter().flat_map(|segment| segment.damaged.clone()).collect();
    if let Some(documents) = documents {
        for (_, loss) in documents.scan::<LossDocument>(Table::Losses, b"")? {
            if let LossDocument::Damaged(range) = loss {
                ranges.push(range);
            }
        }
    }
    ranges.sort_unstable();
    ranges.dedup();
    Ok(ranges)
}

/// Whether events are known to be lost, and which.
pub fn losses(damage: &[DamagedRange], names: &BTreeMap<u32, String>) -> Finding {
    if damage.is_empty() {
        return Finding::fine("losses", "no events are known to be lost by damage");
    }
    let line = |range: &DamagedRange| {
        let (after, through) = (words::time(range.after), words::time(range.through));
        format!("{}: events from {after} to {through}", words::channel(range.channel, names))
    };
    let text = "events were lost by damage, and readers are told of them by a gap; restore a backup if they matter";
    Finding::doubtful("losses", text).with_details(damage.iter().map(line).collect())
}
