//! Taking a backup.

use std::io::Write;
use std::path::Path;

use super::archive::{Parts, Writer, part_name};
use super::{ABOUT, About, BackupError, FILES, FORMAT, LOSSES, Losses, PART_BYTES, Summary};
use crate::disk::{Disk, Point};
use crate::documents::notes::Notes;
use crate::journal::Snapshot;
use crate::log::{Log, LogView, PageLimit, encode_events, encode_used_keys};
use crate::model::id::EventId;

/// Dedupe keys that are one part.
const PART_KEYS: usize = 16 * 1024;

/// Where the rest is copied from.
pub struct Origin<'a> {
    pub disk: &'a Disk,
    pub data_dir: &'a Path,
    pub log: &'a Log,
    pub notes: &'a Notes,
}

/// Writes a backup of a running server's data into `out`. `version` is the server's. Blocks for as long as that takes, and holds
/// up nobody meanwhile.
///
/// # Errors
/// What the disk or `out` says. What was written is then no whole archive, and does not pass for one.
pub fn take(
    origin: &Origin<'_>,
    snapshot: &Snapshot,
    version: &str,
    now_ms: i64,
    out: impl Write,
) -> Result<Summary, BackupError> {
    let Snapshot { documents, log: view } = snapshot;
    if view.sequence > documents.sequence() {
        return Err(BackupError::NotOneMoment);
    }
    let (head, sequence) = (view.head, documents.sequence());
    let about = About { format: FORMAT, version: version.into(), taken_at_ms: now_ms, head, sequence };
    let mut archive = Writer::new(out, now_ms);
    archive.file(ABOUT, &json(&about))?;
    for name in FILES {
        match origin.disk.read(Point::BackupRead, &origin.data_dir.join(name)) {
            Ok(content) => archive.file(name, &content)?,
            // the operator's own is kept elsewhere
            Err(e) if e.is_missing() => {}
            Err(e) => return Err(e.into()),
        }
    }
    let mut count = documents.len() as u64;
    let mut parts = Parts::new(&mut archive, "documents");
    for (key, text) in documents.entries() {
        parts.entry(key, text)?;
    }
    parts.end()?;
    let notes_lost = copy_notes(origin.notes, &mut archive, &mut count)?;
    let segments = copy_events(origin.log, view, &mut archive)?;
    copy_keys(origin.log, view, &mut archive)?;
    // where notes are missing, their numbers are, too; so numbers go on from the time of the loss
    let lost_from = if notes_lost { now_ms.max(0) as u64 } else { 0 };
    let notes_numbered_from = origin.notes.numbered_from().max(lost_from);
    let notes_lost = notes_lost || origin.notes.was_lost();
    archive.file(LOSSES, &json(&Losses { log: origin.log.losses(), notes_numbered_from, notes_lost }))?;
    let bytes = archive.bytes;
    archive.finish()?;
    Ok(Summary { about, documents: count, segments, bytes })
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    // numbers, ids and texts always have a JSON form
    serde_json::to_vec(value).unwrap_or_default()
}

/// Copies what is only for people, as far as it can be read; true when some of it cannot.
fn copy_notes<W: Write>(notes: &Notes, archive: &mut Writer<W>, count: &mut u64) -> Result<bool, BackupError> {
    let mut parts = Parts::new(archive, "notes");
    let (mut behind, mut damaged) = (Some(Vec::new()), 0);
    while let Some(position) = behind {
        let page = match notes.copies(&position, PART_BYTES) {
            Ok(page) => page,
            Err(e) => {
                log::error!("notes (delivery log, counters, dead letters) are missing in a backup: {e}; {}", e.cure());
                parts.end()?;
                return Ok(true);
            }
        };
        for (key, text) in page.notes {
            *count += 1;
            parts.entry(&key, &text)?;
        }
        damaged += page.damaged;
        behind = page.next;
    }
    parts.end()?;
    if damaged > 0 {
        log::error!(notes = damaged; "damaged notes are missing in a backup");
    }
    Ok(damaged > 0)
}

/// Copies the events of the view; returns how many segments they were in.
fn copy_events<W: Write>(log: &Log, view: &LogView, archive: &mut Writer<W>) -> Result<u64, BackupError> {
    let ends = log.segment_ends();
    let (mut cursor, mut segments, mut current, mut number) = (EventId::ZERO, 0, None, 0);
    loop {
        let page = log.view_events(view, cursor, PageLimit { events: usize::MAX, bytes: PART_BYTES })?;
        let mut rest = &page.events[..];
        while let Some(first) = rest.first() {
            let segment = ends.partition_point(|end| *end < first.id);
            if current != Some(segment) {
                (current, number) = (Some(segment), 0);
                segments += 1;
            }
            // a page may reach over the end of a segment
            let count = ends.get(segment).map_or(rest.len(), |end| rest.partition_point(|event| event.id <= *end));
            let (part, later) = rest.split_at(count);
            archive.file(&part_name(&format!("log/{segments:010}"), number), &encode_events(part))?;
            number += 1;
            rest = later;
        }
        if !page.more {
            return Ok(segments);
        }
        cursor = page.last;
    }
}

fn copy_keys<W: Write>(log: &Log, view: &LogView, archive: &mut Writer<W>) -> Result<(), BackupError> {
    let (mut from, mut number) = (0, 0);
    loop {
        let (keys, next) = log.view_keys(view, from, PART_KEYS);
        if keys.is_empty() {
            return Ok(());
        }
        archive.file(&part_name("keys", number), &encode_used_keys(&keys))?;
        (from, number) = (next, number + 1);
    }
}
