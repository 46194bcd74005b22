//! A data folder as it lies there, for whoever looks after it: what is in it, what is damaged or missing, which channels and how
//! many events that concerns, and what to do. Nothing is changed, no database is opened, and of a folder that a running server
//! holds only that is read which the server does not change in place.

mod access;
mod found;
mod log;
mod words;

use std::collections::BTreeMap;
use std::path::Path;

pub use self::access::unwritable;
use self::found::Found;
use super::{BackupError, MARK};
use crate::disk::{DataFormat, Disk, DiskError, FORMAT, Open, Point};

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Fine,
    /// Something is lost or will be mended; a server starts all the same.
    Doubtful,
    /// No server starts, or it should not.
    Bad,
}

/// What a check found about one subject. The text of one that is not fine says what to do as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub verdict: Verdict,
    pub subject: &'static str,
    pub text: String,
    /// Lines that are shown below it.
    pub details: Vec<String>,
}

impl Finding {
    pub fn new(verdict: Verdict, subject: &'static str, text: impl Into<String>) -> Finding {
        Finding { verdict, subject, text: text.into(), details: Vec::new() }
    }

    pub fn fine(subject: &'static str, text: impl Into<String>) -> Finding {
        Finding::new(Verdict::Fine, subject, text)
    }

    /// `text` says what to do as well.
    pub fn doubtful(subject: &'static str, text: impl Into<String>) -> Finding {
        Finding::new(Verdict::Doubtful, subject, text)
    }

    /// `text` says what to do as well.
    pub fn bad(subject: &'static str, text: impl Into<String>) -> Finding {
        Finding::new(Verdict::Bad, subject, text)
    }

    pub fn with_details(mut self, details: Vec<String>) -> Finding {
        self.details = details;
        self
    }
}

/// What the settings of the server say.
#[derive(Clone, Debug, Default)]
pub struct SurveyOptions {
    /// The operator's own key, which is not in the folder.
    pub secret_key: Option<String>,
    /// `retention.max_bytes`; 0 = no limit.
    pub max_bytes: u64,
    /// Everything that is stored is read through, which takes as long as the disk needs for that.
    pub is_deep: bool,
}

/// Events by the numbers of their channels.
type Counts = BTreeMap<u32, u64>;

/// Looks at a data folder that exists. Blocks.
///
/// # Errors
/// What cannot be read at all.
pub fn survey(disk: &Disk, data_dir: &Path, options: &SurveyOptions) -> Result<Vec<Finding>, BackupError> {
    let mut findings = Vec::new();
    let is_held = match is_held(disk, data_dir) {
        Err(e) => {
            findings.push(Finding::bad("lock", format!("{e}; no server starts; {}", e.cure())));
            false
        }
        Ok(Some(true)) => {
            findings.push(Finding::fine("lock", "a running server holds the folder"));
            true
        }
        Ok(Some(false)) => {
            findings.push(Finding::fine("lock", "no server is running on the folder"));
            false
        }
        Ok(None) => {
            findings.push(Finding::doubtful("lock", "no server has ever run on the folder; check --data"));
            false
        }
    };
    if disk.exists(&data_dir.join(MARK))? {
        let text = "a restore into the folder has not come to its end, and no server starts on it; empty the folder and restore the \
                    backup again";
        findings.push(Finding::bad("restore", text));
        return Ok(findings);
    }
    let found = Found { disk, data_dir, options, is_held };
    let format = DataFormat::read(disk, data_dir)?;
    match format {
        DataFormat::Current => findings.push(Finding::fine("format", FORMAT.to_string())),
        DataFormat::Newer(newer) => {
            let text = format!(
                "the folder has format {newer}, and this version knows format {FORMAT}; use the version that wrote it, or a newer one"
            );
            findings.push(Finding::bad("format", text));
            return Ok(findings);
        }
        DataFormat::Damaged => {
            let text = format!(
                "the file {} is damaged; write the line {FORMAT} into it, if this version was the last one on the folder",
                data_dir.join(crate::disk::FORMAT_FILE).display()
            );
            findings.push(Finding::bad("format", text));
        }
        DataFormat::Missing if disk.exists(&data_dir.join("state/db"))? => {
            let text = "the folder is of an older version; the first start of this version brings it into the new form, so take a \
                        copy before";
            findings.push(Finding::doubtful("format", text));
            findings.extend(found.format_1()?);
            return Ok(findings);
        }
        DataFormat::Missing if !disk.exists(&data_dir.join("wal/manifest"))? && !has_segments(disk, data_dir)? => {
            findings.push(Finding::doubtful("format", "there is no data in the folder; check --data"));
            return Ok(findings);
        }
        DataFormat::Missing => {
            let text = format!(
                "the file {} is missing, and there is data; put the files of the folder back as they were, together, or restore a \
                 backup into a new folder (stentor restore)",
                data_dir.join(crate::disk::FORMAT_FILE).display()
            );
            findings.push(Finding::bad("format", text));
        }
    }
    let refused = access::access(disk, data_dir)?;
    let is_refused = refused.is_some();
    findings.extend(refused);
    match found.format_2() {
        Ok(more) => findings.extend(more),
        // that was told just now
        Err(BackupError::Disk(_) | BackupError::Log(_) | BackupError::Generation(_)) if is_refused => {}
        Err(e) => return Err(e),
    }
    Ok(findings)
}

/// Whether a server holds the folder; none when none ever did. Asks without keeping it, so that a server that starts in this moment
/// may be refused.
fn is_held(disk: &Disk, data_dir: &Path) -> Result<Option<bool>, DiskError> {
    // as a server opens it, which changes nothing
    let file = match disk.open(Point::LockOpen, &data_dir.join("lock"), Open::ReadWrite) {
        Err(e) if e.is_missing() => return Ok(None),
        file => file?,
    };
    let is_free = file.try_lock()?;
    if is_free {
        file.unlock()?;
    }
    Ok(Some(!is_free))
}

fn has_segments(disk: &Disk, data_dir: &Path) -> Result<bool, DiskError> {
    match disk.list(&data_dir.join("log")) {
        Err(e) if e.is_missing() => Ok(false),
        entries => Ok(entries?.iter().any(|entry| entry.is_dir)),
    }
}
