//! The start of the store, which is always a recovery: the newest generation of documents, the manifests of sealed
//! segments, and the write-ahead log from there on. Nothing that is neither sealed nor in the log counts.
//!
//! Whatever cannot be read for another reason than damage ends the start; nothing is moved, renamed or removed then. A
//! damaged commit is skipped and announced as a gap, unless documents were in it: those must be proved whole.

use std::path::{Path, PathBuf};

use super::commit::{self, MalformedCommit};
use crate::clock::Clock;
use crate::disk::{Cure, Disk};
use crate::documents::{self, DecodeError, DocumentError, Documents, GenerationError, Generations, Table};
use crate::log::{Admission, CommitPart, Log, LogError, LogOptions, LossDocument};
use crate::wal::{self, Recovered, Wal, WalError};

/// Everything that is stored, as it is after the start.
pub struct Store {
    pub wal: Wal,
    pub log: Log,
    pub documents: Documents,
    pub generations: Generations,
}

/// Why the store does not open. `Display` names the file and the reason; [`RecoveryError::cure`] what to do.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    #[error(transparent)]
    Wal(#[from] WalError),
    #[error(transparent)]
    Generation(#[from] GenerationError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error("commit {sequence} in {path} cannot be read: {source}", path = path.display())]
    Commit { path: PathBuf, sequence: u64, source: MalformedCommit },
    #[error("the documents of commit {sequence} in {path} cannot be read: {source}", path = path.display())]
    Changes { path: PathBuf, sequence: u64, source: DecodeError },
    #[error("{at} is damaged, and with it changes of channels, tokens, webhooks or sources are lost")]
    DocumentsLost { at: String },
    #[error(
        "the documents in {path} are older than the log: they know {known} channel numbers, and the log holds events of \
         channel number {found}", path = path.display()
    )]
    DocumentsBehind { path: PathBuf, known: u32, found: u32 },
}

impl RecoveryError {
    /// What the operator can do.
    pub fn cure(&self) -> Cure {
        match self {
            RecoveryError::Wal(e) => e.cure(),
            RecoveryError::Generation(e) => e.cure(),
            RecoveryError::Log(e) => e.cure(),
            RecoveryError::Commit { .. } | RecoveryError::Changes { .. } | RecoveryError::Document(_) => {
                Cure::adjust("start the version that wrote it, or a newer one")
            }
            RecoveryError::DocumentsLost { .. } | RecoveryError::DocumentsBehind { .. } => Cure::restore(
                "restore a backup into a new folder with stentor restore, or see what is concerned with stentor doctor --data DIR",
            ),
        }
    }
}

/// The counter of channels.
pub const CHANNEL_NUMBERS: &str = "channels";

/// Opens what is stored. Blocks.
///
/// # Errors
/// Whatever keeps it from being read whole and is no damage of single events.
pub fn recover(
    disk: &Disk,
    data_dir: &Path,
    log_options: LogOptions,
    wal_options: wal::Options,
    clock: &Clock,
) -> Result<Store, RecoveryError> {
    let dir = data_dir.join("wal");
    let begin = wal::begin(disk, &dir)?;
    let (generations, documents) = Generations::open(disk, data_dir, &begin.log_id.0, begin.sequence)?;
    let log = Log::open(disk, data_dir, begin.log_id, log_options, clock.moment())?;
    let needed_from = generations.needed_from().min(log.recovers_from(begin.sequence, begin.stored)?);
    let mut replay = Replay {
        documents: &documents,
        log: &log,
        documents_from: generations.needed_from(),
        damaged: None,
        has_hole: false,
        error: None,
    };
    let mut wal = Wal::recover(disk, &dir, wal_options, needed_from, |recovered| replay.take(recovered))?;
    let has_hole = replay.has_hole;
    replay.end()?;
    if generations.needed_from() == 1 && wal.last_sequence() > 0 {
        ::log::info!(folder:display = data_dir.display();
            "there is no generation of the documents, since none was written yet or it is gone; all of them come from the log");
    }
    // both were older, so nothing else shows it
    let (known, last) = (generations.needed_from() - 1, wal.last_sequence());
    if last < known {
        return Err(WalError::Behind { path: dir, last, known }.into());
    }
    let losses: Vec<(Vec<u8>, LossDocument)> = documents.scan(Table::Losses, b"")?;
    log.recovered(losses.into_iter().map(|(_, loss)| loss), clock.moment())?;
    let known = documents.get::<u32>(Table::Numbers, CHANNEL_NUMBERS)?.unwrap_or(0);
    let found = log.highest_channel();
    if found > known {
        return Err(RecoveryError::DocumentsBehind { path: data_dir.join("state"), known, found });
    }
    if has_hole && let Err(e) = leave_behind(&mut wal, &log, &documents, &generations, clock) {
        ::log::error!("what is known of the damage is not durable yet: {e}");
    }
    Ok(Store { wal, log, documents, generations })
}

/// Notes durably what was found to be lost, and moves everything that a start needs behind it: the pieces around the damage may
/// be used again from now on.
fn leave_behind(
    wal: &mut Wal,
    log: &Log,
    documents: &Documents,
    generations: &Generations,
    clock: &Clock,
) -> Result<(), Box<dyn std::error::Error>> {
    let losses = log.take_unsaved();
    let noted = losses.iter().map(super::loss_document).collect::<Result<Vec<_>, _>>().map_err(Into::into).and_then(
        |changes| -> Result<u64, Box<dyn std::error::Error>> {
            let payload = super::documents_payload(&changes, clock.now_ms(), documents.changed_at());
            let sequence = wal.commit(&[&payload], wal::Urgency::Reserve)?.sequence;
            documents.apply(&changes, sequence);
            Ok(sequence)
        },
    );
    let sequence = match noted {
        Ok(sequence) => sequence,
        Err(e) => {
            log.give_back(losses);
            return Err(e);
        }
    };
    wal.sync()?;
    generations.write_step(&documents.freeze())?;
    if log.roll() {
        log.seal_step()?;
    }
    Ok(log.skip_through(sequence)?)
}

/// Takes over what the log tells.
struct Replay<'a> {
    documents: &'a Documents,
    log: &'a Log,
    /// The first commit whose documents are in no generation.
    documents_from: u64,
    /// Where commits are damaged that may have held documents; the next commit tells whether they did.
    damaged: Option<String>,
    /// Commits are damaged that were needed.
    has_hole: bool,
    error: Option<RecoveryError>,
}

impl Replay<'_> {
    fn take(&mut self, recovered: Recovered<'_>) {
        if self.error.is_some() {
            return;
        }
        match recovered {
            Recovered::Record { sequence, payload, piece, offset } => {
                let path = piece.path();
                let read = self.record(sequence, payload, path, |time_ms, events, keys| Admission {
                    sequence,
                    time_ms,
                    piece,
                    events: events.map(|(at, bytes)| CommitPart { offset: offset + at as u32, bytes }),
                    keys: keys.map(|(at, bytes)| CommitPart { offset: offset + at as u32, bytes }),
                });
                self.error = read.err();
            }
            Recovered::Damaged { from, through, at } => {
                ::log::error!(from, through, place = at.as_str(); "commits are damaged; their events are lost, and readers are told");
                self.has_hole = true;
                if through > self.log.sealed_through() {
                    self.log.admit_damage();
                }
                if through >= self.documents_from {
                    self.damaged.get_or_insert(at);
                }
            }
            Recovered::Healed { at } => ::log::warn!(place = at.as_str(); "damage that cost nothing was found"),
        }
    }

    fn record<'r>(
        &mut self,
        sequence: u64,
        payload: &'r [u8],
        path: &Path,
        admission: impl FnOnce(u64, Option<(usize, &'r [u8])>, Option<(usize, &'r [u8])>) -> Admission<'r>,
    ) -> Result<(), RecoveryError> {
        let sections =
            commit::read(payload).map_err(|source| RecoveryError::Commit { path: path.into(), sequence, source })?;
        if sequence >= self.documents_from {
            if let Some(at) = self.damaged.take()
                && sections.documents_changed_at > self.documents.changed_at()
            {
                return Err(RecoveryError::DocumentsLost { at });
            }
            let changes = sections.documents.map(documents::decode_changes).transpose();
            let changes = changes.map_err(|source| RecoveryError::Changes { path: path.into(), sequence, source })?;
            self.documents.apply(&changes.unwrap_or_default(), sequence);
        }
        self.log.admit(&admission(sections.time_ms.max(0) as u64, sections.events, sections.keys))?;
        Ok(())
    }

    fn end(self) -> Result<(), RecoveryError> {
        match (self.error, self.damaged) {
            (Some(e), _) => Err(e),
            // the newest commits are known to have been there, and nothing tells what was in them
            (None, Some(at)) => Err(RecoveryError::DocumentsLost { at }),
            (None, None) => Ok(()),
        }
    }
}
