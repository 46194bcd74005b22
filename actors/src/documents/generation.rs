//! Generations: all documents of one moment on disk, written whole, checked, and never changed.
//!
//! A write goes: database, its sync; copy, its sync; both are read back and compared; the manifest, durably; then older
//! generations are removed. Whatever a crash leaves is harmless: without a manifest a folder counts for nothing, and the
//! generation before it is there until the new one's manifest is durable.
//!
//! Opening only reads. Damage that is in one of the two files is made good from the other, chunk by chunk, and
//! [`Generations::due`] then asks for a new generation at once. A generation that is damaged beyond that is passed over only
//! where the write-ahead log still has everything after the one before it; else opening fails and changes nothing.

mod files;
mod reading;
mod survey;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use self::files::Folder;
pub use self::survey::{GenerationSurvey, LostGeneration};
use super::chunks::Chunks;
pub use super::manifest::LogId;
use super::manifest::{FORMAT, Manifest, log_id_text};
use super::{Documents, Frozen};
use crate::disk::{Cure, DatabaseError, Disk, DiskError};

/// The folder of generations within the data folder.
pub const STATE: &str = "state";
/// A new generation is due when the log has to keep this much for the documents alone, or as much as they take, if that is
/// more: so that the log stays short, and a write is worth what it costs.
pub const LOG_BYTES: u64 = 16 * 1024 * 1024;
/// A change is at most this long in the log alone.
pub const CHANGE_AGE_MS: u64 = 60 * 60 * 1000;
/// After a write was due it is due again, because it failed, only after this time.
pub const RETRY_MS: u64 = 2_000;

/// Why documents cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum GenerationError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Nothing on disk proves what the documents are.
    #[error("the documents in {path} are lost: {why}", path = path.display())]
    Lost { path: PathBuf, why: String },
    /// What was just written reads back differently.
    #[error("what was written to {path} reads back differently: {why}", path = path.display())]
    Unsound { path: PathBuf, why: String },
}

impl GenerationError {
    /// What the operator can do.
    pub fn cure(&self) -> Cure {
        match self {
            GenerationError::Disk(e) => e.cure(),
            GenerationError::Database(e) => e.cure(),
            GenerationError::Lost { path, .. } => {
                let data = path.parent().unwrap_or(path).display();
                Cure::restore(format!(
                    "restore a backup into a new folder with stentor restore, or see which channels and how many events \
                     are concerned with stentor doctor --data {data}"
                ))
            }
            GenerationError::Unsound { .. } => Cure::adjust("look into the system log (dmesg) and check the disk"),
        }
    }

    pub fn is_full(&self) -> bool {
        match self {
            GenerationError::Disk(e) => e.is_full(),
            GenerationError::Database(e) => e.is_full(),
            GenerationError::Lost { .. } | GenerationError::Unsound { .. } => false,
        }
    }
}

/// What [`Generations::write_step`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Everything was on disk already.
    Nothing,
    /// No document has changed, so the generation only covers further commits now.
    Moved,
    Written {
        number: u64,
        /// On disk.
        bytes: u64,
    },
}

/// The generations of a data folder.
pub struct Generations {
    disk: Disk,
    dir: PathBuf,
    log_id: String,
    /// Held over a write, so that there is one at a time. The highest number that this process has used: sled may let go of
    /// a database only after its folder was removed, so the number of a write that failed is not used again.
    writing: Mutex<u64>,
    latest: Mutex<Latest>,
}

/// The newest usable generation, and what is known of the next one.
#[derive(Default)]
struct Latest {
    manifest: Option<Manifest>,
    /// There is damage on disk: the same documents have to be written anew.
    needs_rewrite: bool,
    /// When it was first seen that a document has changed since.
    changed_since_ms: Option<u64>,
    not_before_ms: u64,
}

impl Latest {
    fn sequence(&self) -> u64 {
        self.manifest.as_ref().map_or(0, |manifest| manifest.sequence)
    }
}

impl Generations {
    /// For a data folder without any: a new one, or one that a migration or a restore fills.
    pub fn new(disk: &Disk, data_dir: &Path, log_id: &LogId) -> Generations {
        Generations {
            disk: disk.clone(),
            dir: data_dir.join(STATE),
            log_id: log_id_text(log_id),
            writing: Mutex::default(),
            latest: Mutex::default(),
        }
    }

    /// Reads the newest usable generation of a data folder: one whose documents are all there, and after which the log has
    /// every commit. `log_begins_at` is the first commit that the log can give; when that is 1, no generation at all is
    /// needed. Damage that could be made good is said in the log. Changes nothing, except for what sled writes into its own
    /// files. Blocks.
    ///
    /// # Errors
    /// [`GenerationError::Lost`], or what the disk says.
    pub fn open(
        disk: &Disk,
        data_dir: &Path,
        log_id: &LogId,
        log_begins_at: u64,
    ) -> Result<(Generations, Documents), GenerationError> {
        let generations = Generations::new(disk, data_dir, log_id);
        let mut passed_over = Vec::new();
        let mut numbers = files::numbers(disk, &generations.dir)?;
        while let Some(number) = numbers.pop() {
            match generations.usable(number, log_begins_at)? {
                Err(why) => passed_over.push(format!("generation {number}: {why}")),
                Ok(found) => return Ok(generations.with(found, &passed_over)),
            }
        }
        if log_begins_at > 1 {
            if passed_over.is_empty() {
                passed_over.push("there is no generation".into());
            }
            let why = format!("{}; the log has only what came from commit {log_begins_at} on", passed_over.join("; "));
            return Err(GenerationError::Lost { path: generations.dir, why });
        }
        let damage = damage(&passed_over, &[]);
        if !damage.is_empty() {
            log::warn!(folder:display = generations.dir.display(), reasons = damage.as_str();
                "no generation of the documents can be used; all of them come from the log");
        }
        generations.latest.lock().needs_rewrite = !damage.is_empty();
        Ok((generations, Documents::default()))
    }

    /// A generation with its documents, or why it cannot be used.
    fn usable(&self, number: u64, log_begins_at: u64) -> Result<Result<Found, String>, GenerationError> {
        let folder = Folder::new(&self.disk, &self.dir, number);
        let (manifest, manifest_fault) = match folder.manifest()? {
            Ok(found) => found,
            Err(why) => return Ok(Err(why)),
        };
        if manifest.log_id != self.log_id {
            return Ok(Err("it belongs to another log".into()));
        }
        if manifest.sequence + 1 < log_begins_at {
            return Ok(Err(format!("it goes only up to commit {}", manifest.sequence)));
        }
        let (documents, mut faults) = match reading::read(&folder, &manifest)? {
            Ok(read) => read,
            Err(why) => return Ok(Err(why)),
        };
        faults.extend(manifest_fault);
        Ok(Ok(Found { manifest, documents, faults }))
    }

    fn with(self, found: Found, passed_over: &[String]) -> (Generations, Documents) {
        let Found { manifest, documents, faults } = found;
        let damage = damage(passed_over, &faults);
        if !damage.is_empty() {
            log::warn!(folder:display = self.dir.display(), generation = manifest.number, reasons = damage.as_str();
                "the stored documents are damaged; all of them could be read and they are written anew");
        }
        *self.latest.lock() =
            Latest { needs_rewrite: !damage.is_empty(), manifest: Some(manifest), ..Latest::default() };
        (self, documents)
    }

    /// The first commit that the log has to keep for the documents.
    pub fn needed_from(&self) -> u64 {
        self.latest.lock().sequence() + 1
    }

    /// Whether there is something that a restart would have to take from the log, or damage to mend. To be asked at a clean
    /// stop, before a last [`Generations::write_step`].
    pub fn is_behind(&self, documents: &Documents) -> bool {
        let latest = self.latest.lock();
        latest.needs_rewrite || documents.sequence() > latest.sequence()
    }

    /// Whether [`Generations::write_step`] is to be called now. `log_bytes`: what the log keeps from
    /// [`Generations::needed_from`] on for the documents alone. `now_ms` is time that only goes forward.
    pub fn due(&self, documents: &Documents, log_bytes: u64, now_ms: u64) -> bool {
        let (sequence, changed_at, bytes) = (documents.sequence(), documents.changed_at(), documents.bytes());
        let mut latest = self.latest.lock();
        if changed_at <= latest.sequence() {
            latest.changed_since_ms = None;
        } else {
            latest.changed_since_ms.get_or_insert(now_ms);
        }
        let is_old = latest.changed_since_ms.is_some_and(|since| now_ms.saturating_sub(since) >= CHANGE_AGE_MS);
        let is_long = log_bytes > LOG_BYTES.max(bytes) && sequence > latest.sequence();
        let is_due = (latest.needs_rewrite || is_old || is_long) && now_ms >= latest.not_before_ms;
        if is_due {
            latest.not_before_ms = now_ms.saturating_add(RETRY_MS);
        }
        is_due
    }

    /// Puts documents on disk, all or nothing; they must be durable in the log. What an earlier write has left unfinished
    /// is removed, and with success every older generation. Blocks.
    ///
    /// # Errors
    /// What the disk says. The generation before counts until a write succeeds.
    pub fn write_step(&self, frozen: &Frozen) -> Result<Step, GenerationError> {
        let mut highest = self.writing.lock();
        let (latest, needs_rewrite) = {
            let latest = self.latest.lock();
            (latest.manifest.clone(), latest.needs_rewrite)
        };
        match latest {
            Some(manifest) if !needs_rewrite && frozen.changed_at <= manifest.sequence => {
                self.advance(manifest, frozen)
            }
            latest => self.write(latest.map(|manifest| manifest.number), &mut highest, frozen),
        }
    }

    /// Lets a generation whose documents are still the same cover further commits.
    fn advance(&self, manifest: Manifest, frozen: &Frozen) -> Result<Step, GenerationError> {
        if frozen.sequence <= manifest.sequence {
            return Ok(Step::Nothing);
        }
        let folder = Folder::new(&self.disk, &self.dir, manifest.number);
        let manifest = Manifest { sequence: frozen.sequence, ..manifest };
        folder.write_manifest(&manifest)?;
        self.latest.lock().manifest = Some(manifest.clone());
        folder.write_copy_header(&manifest)?;
        Ok(Step::Moved)
    }

    fn write(&self, latest: Option<u64>, highest: &mut u64, frozen: &Frozen) -> Result<Step, GenerationError> {
        self.disk.create_dir_all(&self.dir)?;
        if let Some(data_dir) = self.dir.parent() {
            self.disk.sync_dir(data_dir)?;
        }
        let mut others = files::numbers(&self.disk, &self.dir)?;
        let mut unfinished = Vec::new();
        for number in &others {
            let folder = Folder::new(&self.disk, &self.dir, *number);
            if Some(*number) != latest && folder.is_unfinished()? {
                folder.remove()?;
                unfinished.push(*number);
            }
        }
        others.retain(|number| !unfinished.contains(number));
        let number = others.last().copied().unwrap_or(0).max(*highest) + 1;
        *highest = number;
        let folder = Folder::new(&self.disk, &self.dir, number);
        let written = self.fill(&folder, frozen);
        if let Err(e) = written {
            // a full disk gets its room back
            if let Err(e) = folder.remove() {
                log::warn!(folder:display = folder.path().display(); "an unfinished generation stays for now: {e}");
            }
            return Err(e);
        }
        let manifest = written?;
        let bytes = manifest.db_bytes + files::COPY_HEADER_BYTES + manifest.bytes;
        *self.latest.lock() = Latest { manifest: Some(manifest), ..Latest::default() };
        for number in others {
            let older = Folder::new(&self.disk, &self.dir, number);
            if let Err(e) = older.remove() {
                log::warn!(folder:display = older.path().display(); "an old generation stays for now: {e}");
            }
        }
        Ok(Step::Written { number, bytes })
    }

    /// Writes and checks all files of a generation, the manifest last.
    fn fill(&self, folder: &Folder, frozen: &Frozen) -> Result<Manifest, GenerationError> {
        let chunks = || Chunks::of(frozen.entries());
        let mut manifest = Manifest {
            format: FORMAT,
            number: folder.number(),
            log_id: self.log_id.clone(),
            sequence: frozen.sequence,
            documents: frozen.len() as u64,
            chunks: 0,
            bytes: 0,
            checksum: 0,
            db_bytes: 0,
        };
        let counted = chunks().inspect(|chunk| {
            manifest.chunks += 1;
            manifest.bytes += chunk.len() as u64;
            manifest.checksum = crc32c::crc32c_append(manifest.checksum, chunk);
        });
        let db_bytes = folder.write_database(counted)?;
        manifest.db_bytes = db_bytes;
        folder.write_copy(&manifest, chunks())?;
        if let Some(why) = reading::difference(folder, &manifest, chunks())? {
            return Err(GenerationError::Unsound { path: folder.path().into(), why });
        }
        folder.write_manifest(&manifest)?;
        Ok(manifest)
    }
}

/// What is damaged, in words; empty when nothing is. An unfinished write is no damage and is removed by the next one.
fn damage(passed_over: &[String], faults: &[String]) -> String {
    let is_damaged = |why: &&String| !why.ends_with(files::UNFINISHED);
    passed_over.iter().filter(is_damaged).chain(faults).map(String::as_str).collect::<Vec<_>>().join("; ")
}

/// A usable generation that was read.
struct Found {
    manifest: Manifest,
    documents: Documents,
    /// What was damaged and could be made good.
    faults: Vec<String>,
}
