//! Reading a generation: from its database and its copy, each checked completely.

use std::collections::BTreeMap;

use super::files::{COPY_HEADER_BYTES, Folder};
use super::{GenerationError, Manifest};
use crate::disk::{Database, DatabaseError, DiskError, DiskFile, Point};
use crate::documents::chunks::{self, CHUNK_BYTES, Entries};
use crate::documents::{Change, Documents};

/// One of the two places where a generation's chunks are.
struct Place<S> {
    name: &'static str,
    /// None once it was found that nothing more can be read there.
    source: Option<S>,
    /// The first thing that was found wrong in it.
    fault: Option<String>,
}

impl<S> Place<S> {
    fn note(&mut self, why: impl FnOnce() -> String) {
        let name = self.name;
        self.fault.get_or_insert_with(|| format!("its {name}: {}", why()));
    }
}

/// The documents of a generation, and what was found damaged in one of its files and could be made good from the other; or
/// why the documents are not all there. Blocks.
///
/// # Errors
/// The disk fails. What is wrong with the generation itself is the inner error.
#[allow(clippy::type_complexity, reason = "the outer error is the disk's, the inner one the generation's")]
pub fn read(folder: &Folder, manifest: &Manifest) -> Result<Result<(Documents, Vec<String>), String>, GenerationError> {
    read_with(folder, manifest, open_database(folder, manifest)?)
}

/// The same without opening the database: only the length of its file is looked at, and its raw bytes where the copy is damaged.
/// Blocks.
///
/// # Errors
/// The disk fails. What is wrong with the generation itself is the inner error.
#[allow(clippy::type_complexity, reason = "the outer error is the disk's, the inner one the generation's")]
pub fn read_without_database(
    folder: &Folder,
    manifest: &Manifest,
) -> Result<Result<(Documents, Vec<String>), String>, GenerationError> {
    let mut database = Place { name: "database", source: None, fault: None };
    match folder.database_bytes()? {
        None => database.note(|| "it is missing".into()),
        Some(bytes) if bytes < manifest.db_bytes => {
            database.note(|| format!("it has {bytes} bytes instead of {}", manifest.db_bytes));
        }
        Some(_) => {}
    }
    read_with(folder, manifest, database)
}

#[allow(clippy::type_complexity, reason = "the outer error is the disk's, the inner one the generation's")]
fn read_with(
    folder: &Folder,
    manifest: &Manifest,
    database: Place<Database>,
) -> Result<Result<(Documents, Vec<String>), String>, GenerationError> {
    let mut places = Places { folder, manifest, database, copy: open_copy(folder, manifest)?, raw: None };
    let mut read = places.read(Take::Either)?;
    // where a whole file is that of another generation, each of its chunks passes its own check
    if read.is_err() {
        for (only, name) in [(Take::Copy, "database"), (Take::Database, "copy")] {
            if let Ok(found) = places.read(only)? {
                let other = || "it is that of another generation".into();
                if name == "copy" {
                    places.copy.note(other)
                } else {
                    places.database.note(other)
                }
                read = Ok(found);
                break;
            }
        }
    }
    let faults: Vec<String> = [places.database.fault.take(), places.copy.fault.take()].into_iter().flatten().collect();
    Ok(match read {
        Ok(found) => Ok((Documents::of(found, manifest.sequence), faults)),
        Err(why) if faults.is_empty() => Err(why),
        Err(_) => Err(faults.join(", ")),
    })
}

/// Where chunks are taken from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Take {
    /// Each from where it passes its check.
    Either,
    Copy,
    Database,
}

/// All places where the chunks of a generation may be.
struct Places<'a> {
    folder: &'a Folder<'a>,
    manifest: &'a Manifest,
    database: Place<Database>,
    copy: Place<DiskFile>,
    /// What can be found in the file of a database that fails, looked for only when a chunk is nowhere else.
    raw: Option<BTreeMap<u32, Vec<u8>>>,
}

impl Places<'_> {
    /// All documents; or why they are not those of the manifest.
    fn read(&mut self, take: Take) -> Result<Result<Vec<Change>, String>, GenerationError> {
        let Places { folder, manifest, database, copy, raw } = self;
        let (mut entries, mut found) = (Entries::default(), Vec::new());
        let mut checksum = 0;
        let mut buffer = vec![0; CHUNK_BYTES];
        for number in 0..manifest.chunks {
            let stored = if take == Take::Copy { None } else { database.chunk(number)? };
            let copied = match take {
                Take::Database => None,
                Take::Either | Take::Copy => copy.chunk(number, chunk_bytes(manifest.bytes, number), &mut buffer)?,
            };
            let is_searched = take != Take::Copy && stored.is_none() && copied.is_none();
            if is_searched && raw.is_none() {
                *raw = Some(folder.salvage()?);
            }
            let salvaged = raw.as_ref().filter(|_| is_searched).and_then(|raw| raw.get(&number)).map(Vec::as_slice);
            let Some(bytes) = stored.as_deref().or(copied).or(salvaged) else { break };
            checksum = crc32c::crc32c_append(checksum, bytes);
            // every place hands on only what passes its check
            let Some(chunk) = chunks::check(number, bytes) else { break };
            if let Err(why) = entries.push(chunk, |change| found.push(change)) {
                return Ok(Err(why.into()));
            }
        }
        let is_whole =
            entries.is_complete() && checksum == manifest.checksum && found.len() as u64 == manifest.documents;
        Ok(if is_whole { Ok(found) } else { Err("its files are not those of its manifest".into()) })
    }
}

fn chunk_bytes(all: u64, number: u32) -> usize {
    // all but the last are full
    let before = u64::from(number) * CHUNK_BYTES as u64;
    all.saturating_sub(before).min(CHUNK_BYTES as u64) as usize
}

/// What is wrong with the bytes, as far as that can be told apart from a disk that does not answer.
fn damage(e: DatabaseError) -> Result<String, GenerationError> {
    match e {
        DatabaseError::Damaged { why, .. } => Ok(why),
        DatabaseError::Disk(e) if e.is_missing() => Ok("it is missing".into()),
        e => Err(e.into()),
    }
}

fn open_database(folder: &Folder, manifest: &Manifest) -> Result<Place<Database>, GenerationError> {
    let mut place = Place { name: "database", source: None, fault: None };
    match folder.open_database(manifest) {
        Ok(database) => place.source = Some(database),
        Err(e) => {
            let why = damage(e)?;
            place.note(|| why);
        }
    }
    Ok(place)
}

impl Place<Database> {
    /// A chunk that passes its check.
    fn chunk(&mut self, number: u32) -> Result<Option<bytes::Bytes>, GenerationError> {
        let Some(database) = &self.source else { return Ok(None) };
        match database.get(&number.to_be_bytes()) {
            Ok(Some(bytes)) if chunks::check(number, &bytes).is_some() => return Ok(Some(bytes)),
            Ok(_) => self.note(|| format!("chunk {number} is damaged")),
            Err(e) => {
                let why = damage(e)?;
                self.note(|| why);
                self.source = None;
            }
        }
        Ok(None)
    }
}

fn open_copy(folder: &Folder, manifest: &Manifest) -> Result<Place<DiskFile>, DiskError> {
    let mut place = Place { name: "copy", source: folder.open_copy()?, fault: None };
    match &place.source {
        None => place.note(|| "it is missing".into()),
        Some(file) => {
            let (bytes, expected) = (file.len()?, COPY_HEADER_BYTES + manifest.bytes);
            let header = header_fault(file, manifest)?;
            if bytes != expected {
                place.note(|| format!("it has {bytes} bytes instead of {expected}"));
            } else if header {
                place.note(|| "its header is damaged".into());
            }
        }
    }
    Ok(place)
}

/// Whether the header is damaged. One that speaks of an earlier commit is not: it is written after the manifest.
fn header_fault(file: &DiskFile, manifest: &Manifest) -> Result<bool, DiskError> {
    let mut header = [0; COPY_HEADER_BYTES as usize];
    let read = file.read_at(Point::CopyRead, &mut header, 0)?;
    let end = header[..read].iter().position(|byte| *byte == 0).unwrap_or(read);
    let own = Manifest::from_bytes(&header[..end]).map(|own| Manifest { sequence: manifest.sequence, ..own });
    Ok(own.as_ref() != Ok(manifest) || header[end..].iter().any(|byte| *byte != 0))
}

impl Place<DiskFile> {
    /// A chunk that passes its check.
    fn chunk<'b>(&mut self, number: u32, bytes: usize, buffer: &'b mut [u8]) -> Result<Option<&'b [u8]>, DiskError> {
        let Some(file) = &self.source else { return Ok(None) };
        let offset = COPY_HEADER_BYTES + u64::from(number) * CHUNK_BYTES as u64;
        let read = file.read_at(Point::CopyRead, &mut buffer[..bytes], offset)?;
        let chunk = &buffer[..read];
        if chunks::check(number, chunk).is_some() {
            return Ok(Some(chunk));
        }
        self.note(|| format!("chunk {number} is damaged"));
        Ok(None)
    }
}

/// What can be read of a generation, whatever is damaged. The database is not opened, only its file is searched. Blocks.
///
/// # Errors
/// The disk fails. What is damaged is left out.
pub fn salvage(folder: &Folder, manifest: Option<&Manifest>) -> Result<Vec<Change>, GenerationError> {
    let raw = folder.salvage()?;
    let mut copy = Place { name: "copy", source: folder.open_copy()?, fault: None };
    let copied_bytes = copy.source.as_ref().map_or(Ok(0), DiskFile::len)?.saturating_sub(COPY_HEADER_BYTES);
    // without a manifest there are as many chunks as can be found
    let copied = u32::try_from(copied_bytes.div_ceil(CHUNK_BYTES as u64)).unwrap_or(u32::MAX);
    let in_raw = raw.keys().next_back().map_or(0, |number| number.saturating_add(1));
    let count = manifest.map_or(copied.max(in_raw), |manifest| manifest.chunks);
    let bytes = manifest.map_or(copied_bytes, |manifest| manifest.bytes);
    let (mut entries, mut found) = (Entries::default(), Vec::new());
    let mut buffer = vec![0; CHUNK_BYTES];
    for number in 0..count {
        let copied = copy.chunk(number, chunk_bytes(bytes, number), &mut buffer)?;
        let chunk = copied.or(raw.get(&number).map(Vec::as_slice)).and_then(|bytes| chunks::check(number, bytes));
        let is_read = chunk.is_some_and(|chunk| entries.push(chunk, |change| found.push(change)).is_ok());
        if !is_read {
            entries.skip();
        }
    }
    Ok(found)
}

/// What is wrong with the chunks in the file of the database, which is not opened for that; none when nothing is. Blocks.
///
/// # Errors
/// The file cannot be read.
pub fn database_fault(folder: &Folder, manifest: &Manifest) -> Result<Option<String>, GenerationError> {
    let found = folder.salvage()?;
    let damaged = (0..manifest.chunks).find(|number| !found.contains_key(number));
    let checksum = found.range(..manifest.chunks).fold(0, |crc, (_, chunk)| crc32c::crc32c_append(crc, chunk));
    Ok(match damaged {
        Some(number) => Some(format!("its database: chunk {number} is damaged")),
        None if checksum != manifest.checksum => Some("its database: it is that of another generation".into()),
        None => None,
    })
}

/// Where the files of a generation differ from the chunks that were to be written. Blocks.
///
/// # Errors
/// One of the files cannot be read.
pub fn difference(
    folder: &Folder,
    manifest: &Manifest,
    chunks: impl Iterator<Item = Vec<u8>>,
) -> Result<Option<String>, GenerationError> {
    let database = folder.open_database(manifest)?;
    let mut copy = open_copy(folder, manifest)?;
    let mut stored = database.range::<&[u8]>(..);
    let mut buffer = vec![0; CHUNK_BYTES];
    for (number, chunk) in (0u32..).zip(chunks) {
        let entry = stored.next().transpose()?;
        if entry.is_none_or(|(key, value)| key[..] != number.to_be_bytes() || value[..] != chunk[..]) {
            return Ok(Some(format!("chunk {number} of the database")));
        }
        if copy.chunk(number, chunk.len(), &mut buffer)? != Some(&chunk[..]) {
            return Ok(Some(format!("chunk {number} of the copy")));
        }
    }
    if stored.next().transpose()?.is_some() {
        return Ok(Some("there is more in the database".into()));
    }
    Ok(copy.fault)
}
