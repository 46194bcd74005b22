//! Backups: taken from a running engine as a stream, restored into a folder without one.

use std::io::{self, Write};
use std::time::Duration;

use actix_web::web::Bytes;
use futures_util::Stream;
use tokio::sync::mpsc;

use super::Hub;
use crate::clock;
pub use crate::store::backup::{About, BackupError, Summary, check, restore};

/// Bytes that are handed on at once, and how many such pieces wait for a client.
const PIECE_BYTES: usize = 64 * 1024;
const PIECES: usize = 16;
/// Longest time that a client may take nothing.
const STALL: Duration = Duration::from_secs(60);

impl Hub {
    /// A backup as the bytes of its archive, written as the client takes them. None while another one is under way. A stream that
    /// fails ends with an error; what came before is then not a whole archive, and does not pass for one. `version` is the
    /// server's.
    pub fn backup(&self, version: &'static str) -> Option<impl Stream<Item = io::Result<Bytes>> + use<>> {
        let only_one = self.backups.clone().try_acquire_owned().ok()?;
        let (pieces, taken) = mpsc::channel(PIECES);
        let engine = self.engine.clone();
        let runtime = tokio::runtime::Handle::current();
        actix_rt::task::spawn_blocking(move || {
            let _only_one = only_one;
            let mut out = Pieces { pieces, runtime, piece: Vec::with_capacity(PIECE_BYTES) };
            let (log, state) = (&engine.log, &engine.state);
            match crate::store::backup::take(log, state, &engine.data_dir, version, clock::now_ms(), &mut out) {
                Ok(summary) => log::info!(documents = summary.documents, segments = summary.segments,
                    bytes = summary.bytes, head:display = summary.about.head; "a backup was taken"),
                Err(e) => {
                    log::error!("a backup failed: {e}");
                    out.fail(io::Error::other(e.to_string()));
                }
            }
        });
        Some(futures_util::stream::unfold(taken, async |mut taken| taken.recv().await.map(|piece| (piece, taken))))
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
