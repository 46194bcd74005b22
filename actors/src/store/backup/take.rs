//! Taking a backup.

use std::fs::File;
use std::io::{BufWriter, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::archive::{Writer, write_entry};
use super::{ABOUT, About, BackupError, FILES, FORMAT, LOST, STATE, Summary};
use crate::store::{Log, State, StoreError, io};

/// About this much of a segment is one file of the archive.
const PART_BYTES: usize = 1024 * 1024;

/// Writes a backup of a running server's data into `out`. Blocks for as long as that takes; documents cannot be written while
/// they are copied to a file beside them, which has no name and goes with this call.
pub fn take(
    log: &Log,
    state: &State,
    data_dir: &Path,
    version: &str,
    now_ms: i64,
    out: impl Write,
) -> Result<Summary, BackupError> {
    let mut spool = BufWriter::new(spool(data_dir)?);
    let mut documents = 0;
    let view = state.freeze(|entries| {
        for entry in entries {
            let (key, value) = entry?;
            write_entry(&mut spool, &key, &value).map_err(BackupError::Write)?;
            documents += 1;
        }
        Ok::<_, BackupError>(log.view())
    })?;
    let mut spool = spool.into_inner().map_err(|e| BackupError::Write(e.into_error()))?;
    let size = spool.stream_position().and_then(|size| spool.rewind().map(|()| size)).map_err(BackupError::Write)?;

    let about = About { format: FORMAT, version: version.into(), taken_at_ms: now_ms, head: view.head() };
    let mut archive = Writer::new(out, now_ms);
    archive.file(ABOUT, &serde_json::to_vec(&about).map_err(StoreError::from)?)?;
    for name in FILES {
        let path = data_dir.join(name);
        match std::fs::read(&path) {
            Ok(content) => archive.file(name, &content)?,
            // the operator's own is kept elsewhere
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(io("read", &path)(e).into()),
        }
    }
    archive.stream(STATE, size, spool)?;
    let segments = segments(log, &view, &mut archive)?;
    archive.file(LOST, &log.lost_text()?)?;
    let bytes = archive.bytes;
    archive.finish()?;
    Ok(Summary { about, documents, segments, bytes })
}

/// A file for the documents that nobody else sees.
fn spool(data_dir: &Path) -> Result<File, StoreError> {
    let path = data_dir.join("backup-spool");
    let mut options = File::options();
    let file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&path);
    let file = file.map_err(io("make", &path))?;
    std::fs::remove_file(&path).map_err(io("remove", &path))?;
    Ok(file)
}

fn segments<W: Write>(log: &Log, view: &crate::store::LogView, archive: &mut Writer<W>) -> Result<u64, BackupError> {
    let mut segments = 0;
    for n in 0..view.segments() {
        let (mut part, mut number) = (Vec::new(), 0);
        let name = |number: u32| format!("log/{}/{number:06}", view.name(n));
        let is_there = log.dump(view, n, |key, value| {
            write_entry(&mut part, key, value).map_err(BackupError::Write)?;
            if part.len() >= PART_BYTES {
                archive.file(&name(number), &part)?;
                number += 1;
                part.clear();
            }
            Ok::<_, BackupError>(())
        })?;
        if !part.is_empty() {
            archive.file(&name(number), &part)?;
        }
        segments += u64::from(is_there);
    }
    Ok(segments)
}
