//! The findings on what is in the folder: documents, write-ahead log, secret key, notes and quarantine.

use std::collections::BTreeMap;
use std::path::Path;

use super::log::{events_of, known_damage, losses, segment_line};
use super::{Counts, Finding, SurveyOptions, words};
use crate::backup::BackupError;
use crate::disk::{Disk, Point};
use crate::documents::{self, DecodeError, Documents, GenerationSurvey, Generations, LostGeneration, STATE, Table};
use crate::journal::{self, CHANNEL_NUMBERS, RecoveryError};
use crate::log::{LogLook, LogSurvey, count_events};
use crate::model::channel::Channel;
use crate::wal::{self, Recovered, WalError};

const RESTORE: &str = "restore a backup into a new folder (stentor restore)";
pub const PUT_BACK: &str =
    "put all files of the folder back as they were, together, or restore a backup into a new folder (stentor restore)";

pub struct Found<'a> {
    pub disk: &'a Disk,
    pub data_dir: &'a Path,
    pub options: &'a SurveyOptions,
    pub is_held: bool,
}

/// What the write-ahead log holds beyond segments and generation.
#[derive(Default)]
pub struct Replay {
    found: wal::Found,
    /// Events of each channel that are in no segment yet.
    pub unsealed: Counts,
    /// Places of commits that are damaged.
    damaged: Vec<String>,
    /// What was damaged and costs nothing.
    healed: Vec<String>,
    /// Changes of documents that are lost, and where.
    documents_lost: Option<String>,
    /// A commit that this version cannot read.
    unreadable: Option<String>,
}

impl Found<'_> {
    /// A folder of a version before the write-ahead log. Blocks.
    ///
    /// # Errors
    /// The disk fails while files are listed or measured. Damage is a finding, not an error.
    pub fn format_1(&self) -> Result<Vec<Finding>, BackupError> {
        let log = LogSurvey::of(self.disk, self.data_dir, LogLook::default())?;
        let bytes = log.segments.iter().map(|segment| segment.bytes).sum();
        let text = format!("{}, {}", words::count(log.segments.len() as u64, "segment"), words::bytes(bytes));
        let state_bytes = self.disk.bytes_below(&self.data_dir.join(STATE))?;
        let each = log.segments.iter().map(segment_line).collect();
        Ok(vec![
            Finding::fine("log", text).with_details(each),
            Finding::fine("documents", words::bytes(state_bytes)),
            self.quarantine()?,
        ])
    }

    /// A folder with a write-ahead log. What a running server holds is left out. Blocks.
    ///
    /// # Errors
    /// The disk fails while files are listed or read. Damage is a finding, not an error.
    pub fn format_2(&self) -> Result<Vec<Finding>, BackupError> {
        let is_deep = self.options.is_deep;
        if self.is_held {
            let log = LogSurvey::of(self.disk, self.data_dir, LogLook { id: None, is_deep })?;
            let nothing = (Documents::default(), Replay::default());
            let segments = self.segments(&log, 0, &nothing.0, &nothing.1, &BTreeMap::new());
            let damage = known_damage(&log, None)?;
            let losses = losses(&damage, &BTreeMap::new());
            let mut findings = segments;
            findings.push(losses);
            findings.extend(self.secret_key(&nothing.0)?);
            findings.extend([self.notes()?, self.quarantine()?]);
            return Ok(findings);
        }
        let wal_dir = self.data_dir.join("wal");
        let begin = wal::begin(self.disk, &wal_dir);
        let id = begin.as_ref().ok().map(|begin| begin.log_id);
        let stored = begin.as_ref().map_or(0, |begin| begin.stored);
        let log = LogSurvey::of(self.disk, self.data_dir, LogLook { id, is_deep })?;
        let begins_at = begin.as_ref().map_or(1, |begin| begin.sequence);
        let has_all = begin.as_ref().is_ok_and(|begin| begin.sequence == 1);
        let log_id = begin.as_ref().ok().map(|begin| &begin.log_id.0);
        let generation = Generations::survey(self.disk, self.data_dir, log_id, begins_at, is_deep)?;
        let none = Documents::default();
        let (documents, documents_from) = match &generation {
            Ok(generation) => (&generation.documents, generation.sequence + 1),
            // no server starts; what the write-ahead log still has is counted
            Err(_) => (&none, begins_at),
        };
        let replay = begin.and_then(|_| self.replay(&log, documents, documents_from, begins_at));
        let names = names(generation.as_ref().map_or_else(|lost| &lost.rest, |generation| &generation.documents))?;
        let nothing = Replay::default();
        let replayed = replay.as_ref().unwrap_or(&nothing);
        let mut counts = events_of(&log.segments);
        for (channel, events) in &replayed.unsealed {
            *counts.entry(*channel).or_default() += events;
        }
        let mut findings =
            vec![self.documents(&generation, replayed, has_all, &counts, &names)?, self.wal(&replay, &names)?];
        findings.extend(self.segments(&log, stored, documents, replayed, &names));
        findings.push(losses(&known_damage(&log, Some(documents))?, &names));
        findings.extend(self.secret_key(documents)?);
        findings.extend([self.notes()?, self.quarantine()?]);
        Ok(findings)
    }

    /// Reads the write-ahead log through, as a start would. What it has of documents is applied to them.
    fn replay(
        &self,
        log: &LogSurvey,
        documents: &Documents,
        documents_from: u64,
        begins_at: u64,
    ) -> Result<Replay, WalError> {
        let sealed_through = log.sealed_through;
        let log_from = if log.newest.is_some() { (sealed_through + 1).max(begins_at) } else { sealed_through + 1 };
        let mut replay = Replay::default();
        // where documents may be lost; the next commit tells whether they are
        let mut in_doubt = None;
        let wal_dir = self.data_dir.join("wal");
        let found = wal::inspect(self.disk, &wal_dir, documents_from.min(log_from), |recovered| match recovered {
            Recovered::Healed { at } => replay.healed.push(at),
            Recovered::Damaged { through, at, .. } => {
                if through >= documents_from {
                    in_doubt.get_or_insert_with(|| at.clone());
                }
                replay.damaged.push(at);
            }
            Recovered::Record { sequence, payload, piece, .. } => {
                let unreadable = |why: String| format!("commit {sequence} in {}: {why}", piece.path().display());
                let sections = match journal::read_commit(payload) {
                    Ok(sections) => sections,
                    Err(e) => {
                        replay.unreadable.get_or_insert_with(|| unreadable(e.to_string()));
                        return;
                    }
                };
                if sequence >= documents_from {
                    if let Some(at) = in_doubt.take()
                        && sections.documents_changed_at > documents.changed_at()
                    {
                        replay.documents_lost.get_or_insert(at);
                    }
                    match sections.documents.map(documents::decode_changes).transpose() {
                        Ok(changes) => documents.apply(&changes.unwrap_or_default(), sequence),
                        Err(DecodeError { why, .. }) => {
                            replay.unreadable.get_or_insert(unreadable(why.into()));
                        }
                    }
                }
                if sequence > sealed_through
                    && let Some((_, section)) = sections.events
                {
                    for (channel, events) in count_events(section).unwrap_or_default() {
                        *replay.unsealed.entry(channel.0).or_default() += events;
                    }
                }
            }
        })?;
        if let Some(at) = in_doubt {
            replay.documents_lost.get_or_insert(at);
        }
        let known = documents_from - 1;
        if found.last < known {
            return Err(WalError::Behind { path: wal_dir, last: found.last, known });
        }
        replay.found = found;
        Ok(replay)
    }

    fn documents(
        &self,
        generation: &Result<GenerationSurvey, LostGeneration>,
        replay: &Replay,
        has_all: bool,
        counts: &Counts,
        names: &BTreeMap<u32, String>,
    ) -> Result<Finding, BackupError> {
        const SUBJECT: &str = "documents";
        let events = words::count(counts.values().sum(), "event");
        let channels = words::count(counts.len() as u64, "channel");
        let concerned = || words::channels(counts, names);
        let path = self.data_dir.join(STATE);
        if let Some(at) = replay.documents_lost.as_ref().filter(|_| has_all || generation.is_ok()) {
            let text = format!(
                "changes of channels, tokens, webhooks or sources are lost in {at}, and no server starts; the log has {events} of \
                 {channels}; {RESTORE}"
            );
            return Ok(Finding::bad(SUBJECT, text).with_details(concerned()));
        }
        let generation = match generation {
            Ok(generation) => generation,
            // nothing was given up yet, so the write-ahead log has all of them
            Err(_) if has_all => {
                return Ok(Finding::fine(SUBJECT, "all of them are in the write-ahead log so far"));
            }
            Err(LostGeneration { why, .. }) => {
                let text = format!(
                    "channels, tokens, webhooks and sources in {} are lost ({why}), and no server starts; the log has {events} of \
                     {channels}; {PUT_BACK}",
                    path.display()
                );
                return Ok(Finding::bad(SUBJECT, text).with_details(concerned()));
            }
        };
        let documents = &generation.documents;
        let known = documents.get::<u32>(Table::Numbers, CHANNEL_NUMBERS)?.unwrap_or(0);
        let unknown: Counts = counts.iter().filter(|(no, _)| **no > known).map(|(no, count)| (*no, *count)).collect();
        if let Some((found, _)) = unknown.last_key_value() {
            let behind = RecoveryError::DocumentsBehind { path, known, found: *found };
            let text = format!("{behind}; no server starts; {PUT_BACK}");
            return Ok(Finding::bad(SUBJECT, text).with_details(words::channels(&unknown, names)));
        }
        let count = documents.freeze().len() as u64;
        let text = format!(
            "{} ({}), in generation {} and the write-ahead log",
            words::count(count, "document"),
            words::count(names.len() as u64, "channel"),
            generation.number
        );
        Ok(match generation.damage.is_empty() {
            true => Finding::fine(SUBJECT, text),
            false => Finding::doubtful(
                SUBJECT,
                format!("{text}; nothing is lost, but {}; the next start writes them anew", generation.damage),
            ),
        })
    }

    fn wal(&self, replay: &Result<Replay, WalError>, names: &BTreeMap<u32, String>) -> Result<Finding, BackupError> {
        const SUBJECT: &str = "wal";
        let replay = match replay {
            Ok(replay) => replay,
            Err(e) => return Ok(Finding::bad(SUBJECT, format!("{e}; no server starts; {}", e.cure()))),
        };
        if let Some(unreadable) = &replay.unreadable {
            let text = format!(
                "{unreadable}; no server of this version starts; start the version that wrote it, or a newer one"
            );
            return Ok(Finding::bad(SUBJECT, text));
        }
        let bytes = self.disk.bytes_below(&self.data_dir.join("wal"))?;
        let events = replay.unsealed.values().sum();
        let text = format!(
            "{} on disk, up to commit {}; {} in no segment yet",
            words::bytes(bytes),
            replay.found.last,
            words::count(events, "event")
        );
        if !replay.damaged.is_empty() {
            let text = format!(
                "{text}; {} damaged: the events in them are lost, and readers are told by a gap; restore a backup if they matter",
                words::count(replay.found.damaged, "commit")
            );
            return Ok(Finding::doubtful(SUBJECT, text).with_details(replay.damaged.clone()));
        }
        if !replay.healed.is_empty() {
            let text = format!("{text}; there is damage that costs nothing; look into the system log (dmesg)");
            return Ok(Finding::doubtful(SUBJECT, text).with_details(replay.healed.clone()));
        }
        Ok(Finding::fine(SUBJECT, text).with_details(words::channels(&replay.unsealed, names)))
    }

    fn secret_key(&self, documents: &Documents) -> Result<Option<Finding>, BackupError> {
        let path = self.data_dir.join("secret-key");
        let (text, whence) = match &self.options.secret_key {
            Some(own) => (own.clone(), "STENTOR_SECRET_KEY".to_owned()),
            None => match self.disk.read(Point::SecretKeyRead, &path) {
                Ok(bytes) => (String::from_utf8_lossy(&bytes).into_owned(), format!("the file {}", path.display())),
                Err(e) if e.is_missing() => {
                    let text = "the file secret-key is missing: the stored secrets of webhooks and sources cannot be read; bring it \
                                back from a backup, or set STENTOR_SECRET_KEY";
                    return Ok(Some(Finding::bad("secrets", text)));
                }
                Err(e) => return Err(e.into()),
            },
        };
        let is_right = documents::is_right_key(&text, documents)?;
        let text = format!(
            "{whence} is not the key that has sealed the stored secrets, and no server starts with it; bring the right one back from \
             a backup, or set STENTOR_SECRET_KEY to it"
        );
        Ok((is_right == Some(false)).then(|| Finding::bad("secrets", text)))
    }

    fn notes(&self) -> Result<Finding, BackupError> {
        let dir = self.data_dir.join("notes");
        let bytes = self.disk.bytes_below(&dir)?;
        Ok(match self.disk.exists(&dir.join("db"))? {
            true => {
                Finding::fine("notes", format!("{} of delivery log, counters and dead letters", words::bytes(bytes)))
            }
            false => Finding::doubtful(
                "notes",
                "the delivery log, counters and dead letters are missing; the next start begins them anew, and everything else is \
                 not concerned",
            ),
        })
    }

    fn quarantine(&self) -> Result<Finding, BackupError> {
        let dir = self.data_dir.join("quarantine");
        let entries = match self.disk.list(&dir) {
            Err(e) if e.is_missing() => Vec::new(),
            entries => entries?,
        };
        let mut details = Vec::new();
        for entry in entries.into_iter().filter(|entry| entry.is_dir) {
            let reason = match self.disk.read(Point::ManifestRead, &dir.join(&entry.name).join("reason")) {
                Ok(reason) => String::from_utf8_lossy(&reason).trim().to_owned(),
                // the note may be missing; the segment counts without it
                Err(e) if e.is_missing() => String::new(),
                Err(e) => return Err(e.into()),
            };
            details.push(format!("{}  {reason}", entry.name));
        }
        if details.is_empty() {
            return Ok(Finding::fine("quarantine", "no segment was put aside"));
        }
        let text = format!(
            "{} put aside because of damage: some of their events are lost; restore a backup if these matter, else remove the \
             folders in {}",
            match details.len() {
                1 => "1 segment was".to_owned(),
                count => format!("{count} segments were"),
            },
            dir.display()
        );
        Ok(Finding::doubtful("quarantine", text).with_details(details))
    }
}

/// The channels by their numbers.
fn names(documents: &Documents) -> Result<BTreeMap<u32, String>, BackupError> {
    let channels = documents.scan::<Channel>(Table::Channels, b"")?;
    let name = |channel: &Channel| match channel.slug == channel.id {
        true => channel.name_on_tokens(),
        false => format!("{}:{}", channel.kind.as_str(), channel.slug),
    };
    Ok(channels.iter().map(|(_, channel)| (channel.no, name(channel))).collect())
}
