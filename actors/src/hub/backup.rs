//! Backups: taken from a running server as a stream, restored into a folder without one.

use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use actix_web::web::Bytes;
use futures_util::Stream;
use tokio::sync::mpsc;

use super::Hub;
pub use crate::backup::survey::{Finding, SurveyOptions, Verdict};
use crate::backup::{self, Origin};
pub use crate::backup::{About, BackupError, Summary, check};
use crate::clock::Clock;
use crate::compute;
use crate::disk::Disk;
use crate::journal::AppendError;

/// Bytes that are handed on at once, and how many such pieces wait for a client.
const PIECE_BYTES: usize = 64 * 1024;
const PIECES: usize = 16;
/// Longest time that a client may take nothing.
const STALL: Duration = Duration::from_secs(60);

/// Restores a backup into a folder that is missing or empty. Blocks.
///
/// # Errors
/// As [`backup::restore`].
pub fn restore(archive: impl Read, data_dir: &Path) -> Result<Summary, BackupError> {
    backup::restore(&Disk::real(), archive, data_dir, &Clock::system())
}

/// Looks at a data folder, which a server may hold. Blocks.
///
/// # Errors
/// What cannot be read at all.
pub fn survey(data_dir: &Path, options: &SurveyOptions) -> Result<Vec<Finding>, BackupError> {
    backup::survey::survey(&Disk::real(), data_dir, options)
}

impl Hub {
    /// A backup as the bytes of its archive, written as the client takes them. None while another one is under way. A stream that
    /// fails ends with an error; what came before is then not a whole archive, and does not pass for one. `version` is the
    /// server's.
    ///
    /// # Errors
    /// The journal is stopping, or does not answer in time.
    pub async fn backup(
        &self,
        version: &'static str,
    ) -> Result<Option<impl Stream<Item = io::Result<Bytes>> + use<>>, AppendError> {
        let Ok(only_one) = self.backups.clone().try_acquire_owned() else { return Ok(None) };
        let snapshot = self.rooms.journal.snapshot().await?;
        let (pieces, taken) = mpsc::channel(PIECES);
        let rooms = self.rooms.clone();
        let runtime = tokio::runtime::Handle::current();
        compute::blocking(move || {
            let _only_one = only_one;
            let mut out = Pieces { pieces, runtime, piece: Vec::with_capacity(PIECE_BYTES) };
            let origin = Origin { disk: &rooms.disk, data_dir: &rooms.data_dir, log: &rooms.log, notes: &rooms.notes };
            match backup::take(&origin, &snapshot, version, rooms.clock.now_ms(), &mut out) {
                Ok(summary) => log::info!(documents = summary.documents, segments = summary.segments,
                    bytes = summary.bytes, head:display = summary.about.head; "a backup was taken"),
                Err(e) => {
                    log::error!("a backup failed: {e}");
                    out.fail(io::Error::other(e.to_string()));
                }
            }
        });
        Ok(Some(futures_util::stream::unfold(taken, async |mut taken| taken.recv().await.map(|piece| (piece, taken)))))
    }
}

/// A writer whose bytes a client takes elsewhere.
struct Pieces {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    runtime: tokio::runtime::Handle,
    piece: Vec<u8>,
}

impl Pieces {
    fn send(&self, piece: io::Result<Bytes>) -> io::Result<()> {
        match self.runtime.block_on(self.pieces.send_timeout(piece, STALL)) {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                Err(io::Error::other("the client took nothing for a minute"))
            }
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(io::Error::other("the client has left")),
        }
    }

    /// Lets the stream end with an error, if anybody still takes it.
    fn fail(&self, error: io::Error) {
        // a client that has left sees no error, and needs none
        let _ = self.send(Err(error));
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        self.send(Ok(piece.into()))
    }
}
