//! What is gone: the ranges of ids that retention or quarantine took, so that readers can be told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{StoreError, io, sync_dir};
use crate::model::event::ChannelNo;
use crate::model::id::EventId;

/// Ranges kept of damaged segments. A server with more damage than this has other worries; the oldest are merged.
const RANGES_MAX: usize = 64;

#[derive(Debug)]
pub struct Lost {
    path: PathBuf,
    kept: Kept,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Kept {
    /// The newest id of each channel that retention took: everything of the channel up to it is gone.
    expired: BTreeMap<u32, EventId>,
    /// The newest id that retention took at all.
    expired_all: EventId,
    /// Ranges (after, through] in which a damaged segment lay; events of any channel may be missing there.
    damaged: Vec<(EventId, EventId)>,
    /// The newest id that was ever given out, as far as the segments that are gone knew.
    head: EventId,
}

impl Lost {
    /// What is known to be gone, and false when that could not be read.
    pub fn open(log_dir: &Path) -> Result<(Lost, bool), StoreError> {
        let path = log_dir.join("lost.json");
        let kept = match std::fs::read(&path) {
            Ok(text) => match serde_json::from_slice(&text) {
                Ok(kept) => kept,
                Err(e) => {
                    log::error!(file:display = path.display(); "what retention took cannot be read and is taken to be everything before the oldest event: {e}");
                    return Ok((Lost { path, kept: Kept::default() }, false));
                }
            },
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Kept::default(),
            Err(e) => return Err(io("read", &path)(e)),
        };
        Ok((Lost { path, kept }, true))
    }

    pub fn head(&self) -> EventId {
        self.kept.head
    }

    /// Notes durably that a segment with these newest ids per channel is about to go.
    pub fn expire(&mut self, newest: impl Iterator<Item = (ChannelNo, EventId)>) -> Result<(), StoreError> {
        for (no, id) in newest {
            let kept = self.kept.expired.entry(no.0).or_default();
            *kept = id.max(*kept);
            self.kept.expired_all = id.max(self.kept.expired_all);
        }
        self.kept.head = self.kept.head.max(self.kept.expired_all);
        self.write()
    }

    /// Notes durably that a segment between these ids is damaged.
    pub fn damage(&mut self, after: EventId, through: EventId) -> Result<(), StoreError> {
        if self.kept.damaged.iter().any(|(from, to)| *from <= after && through <= *to) {
            return Ok(());
        }
        // what was there may have been the newest, and an id is never given out twice
        self.kept.head = self.kept.head.max(through);
        self.kept.damaged.push((after, through));
        if self.kept.damaged.len() > RANGES_MAX {
            let (first, second) = (self.kept.damaged.remove(0), self.kept.damaged[0]);
            self.kept.damaged[0] = (first.0.min(second.0), first.1.max(second.1));
        }
        self.write()
    }

    /// Whether it is known that something after this id is damaged.
    pub fn damaged_after(&self, id: EventId) -> bool {
        self.kept.damaged.iter().any(|(from, to)| *from <= id && id < *to)
    }

    /// The newest event of the channel (or of all) that retention took; zero while it took none.
    pub fn expired(&self, no: ChannelNo) -> EventId {
        match no {
            ChannelNo::ALL => self.kept.expired_all,
            no => self.kept.expired.get(&no.0).copied().unwrap_or_default(),
        }
    }

    /// Whether events of the channel (or of any) with ids in (after, through] may be gone.
    pub fn between(&self, no: ChannelNo, after: EventId, through: EventId) -> bool {
        self.expired(no) > after || self.kept.damaged.iter().any(|(from, to)| *from < through && *to > after)
    }

    /// The first damaged range within (after, through], as far as it lies in there.
    pub fn damaged_between(&self, after: EventId, through: EventId) -> Option<(EventId, EventId)> {
        let within = |(from, to): &(EventId, EventId)| ((*from).max(after), (*to).min(through));
        self.kept.damaged.iter().map(within).filter(|(from, to)| from < to).min()
    }

    /// What is known, as it is kept.
    pub fn text(&self) -> Result<Vec<u8>, StoreError> {
        Ok(serde_json::to_vec(&self.kept)?)
    }

    fn write(&self) -> Result<(), StoreError> {
        let fresh = self.path.with_extension("json.new");
        let text = self.text()?;
        let written = std::fs::File::create(&fresh).and_then(|mut file| {
            std::io::Write::write_all(&mut file, &text)?;
            file.sync_all()
        });
        written.map_err(io("write", &fresh))?;
        std::fs::rename(&fresh, &self.path).map_err(io("replace", &self.path))?;
        // a file always lies in a folder
        sync_dir(self.path.parent().unwrap_or(Path::new(".")))
    }
}
