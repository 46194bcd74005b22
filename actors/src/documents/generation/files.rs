//! The files of one generation.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{GenerationError, Manifest};
use crate::disk::{Database, DatabaseError, Disk, DiskError, DiskFile, Open, Point, database};
use crate::documents::chunks::{self, CHUNK_BYTES};

const MANIFEST: &str = "manifest";
const COPY: &str = "copy";
/// The copy begins with what the manifest says, which is used when that is damaged. Chunks follow.
pub const COPY_HEADER_BYTES: u64 = 4096;
/// What is written of the copy at once.
const WRITE_BYTES: usize = 16 * CHUNK_BYTES;

/// Why a folder without a manifest counts for nothing.
pub const UNFINISHED: &str = "its write was not finished";

/// The numbers of generations in a folder, ascending. Other names in it belong to others. Blocks.
///
/// # Errors
/// The folder cannot be listed, for another reason than that it is missing.
pub fn numbers(disk: &Disk, dir: &Path) -> Result<Vec<u64>, DiskError> {
    let entries = match disk.list(dir) {
        Err(e) if e.is_missing() => return Ok(Vec::new()),
        entries => entries?,
    };
    let is_number = |name: &str| name.len() == 10 && name.bytes().all(|byte| byte.is_ascii_digit());
    let names = entries.into_iter().filter(|entry| entry.is_dir && is_number(&entry.name));
    // the names are sorted, and ten digits are a number
    Ok(names.filter_map(|entry| entry.name.parse().ok()).collect())
}

/// The folder of one generation.
pub struct Folder<'a> {
    disk: &'a Disk,
    path: PathBuf,
    number: u64,
}

impl<'a> Folder<'a> {
    pub fn new(disk: &'a Disk, dir: &Path, number: u64) -> Folder<'a> {
        Folder { disk, path: dir.join(format!("{number:010}")), number }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether the generation has no manifest, which is written last. Blocks.
    ///
    /// # Errors
    /// It cannot be told whether there is a manifest.
    pub fn is_unfinished(&self) -> Result<bool, DiskError> {
        Ok(!self.disk.exists(&self.path.join(MANIFEST))?)
    }

    /// What the generation says of itself, with the fault when only its copy says so; or why nothing does. Blocks.
    ///
    /// # Errors
    /// The disk fails. What is wrong with the generation itself is the inner error.
    #[allow(clippy::type_complexity, reason = "the outer error is the disk's, the inner one the generation's")]
    pub fn manifest(&self) -> Result<Result<(Manifest, Option<String>), String>, DiskError> {
        let bytes = match self.disk.read(Point::ManifestRead, &self.path.join(MANIFEST)) {
            Err(e) if e.is_missing() => return Ok(Err(UNFINISHED.into())),
            bytes => bytes?,
        };
        let fault = match Manifest::from_bytes(&bytes) {
            Ok(manifest) => return Ok(self.own(manifest).map(|manifest| (manifest, None))),
            Err(fault) => fault,
        };
        let Some(copy) = self.open_copy()? else { return Ok(Err(fault)) };
        let mut header = [0; COPY_HEADER_BYTES as usize];
        let read = copy.read_at(Point::CopyRead, &mut header, 0)?;
        let text = header[..read].split(|byte| *byte == 0).next().unwrap_or_default();
        let manifest = Manifest::from_bytes(text).and_then(|manifest| self.own(manifest));
        Ok(manifest.map(|manifest| (manifest, Some(fault.clone()))).map_err(|_| fault))
    }

    fn own(&self, manifest: Manifest) -> Result<Manifest, String> {
        if manifest.number == self.number {
            return Ok(manifest);
        }
        Err(format!("its manifest is that of generation {}", manifest.number))
    }

    /// Writes the manifest durably. Blocks.
    ///
    /// # Errors
    /// The manifest cannot be written durably.
    pub fn write_manifest(&self, manifest: &Manifest) -> Result<(), DiskError> {
        self.disk.replace(Point::ManifestWrite, &self.path.join(MANIFEST), &manifest.to_bytes())
    }

    /// Writes the database durably; returns the length of its file. Blocks.
    ///
    /// # Errors
    /// As [`Database::write`].
    pub fn write_database(&self, chunks: impl Iterator<Item = Vec<u8>>) -> Result<u64, DatabaseError> {
        let entries = (0u32..).zip(chunks).map(|(number, chunk)| (number.to_be_bytes().to_vec(), chunk));
        Ok(Database::write(self.disk, &self.path, entries)?.bytes)
    }

    /// The database, if its file has not become shorter. sled lengthens it when it opens it. Blocks.
    ///
    /// # Errors
    /// [`DatabaseError::Damaged`] when the file is shorter than it was, else as [`Database::open`].
    pub fn open_database(&self, manifest: &Manifest) -> Result<Database, DatabaseError> {
        let path = self.path.join("db");
        match self.disk.len(&path)? {
            Some(bytes) if bytes < manifest.db_bytes => {
                let why = format!("it has {bytes} bytes instead of {}", manifest.db_bytes);
                Err(DatabaseError::Damaged { path, why })
            }
            _ => Database::open(self.disk, &self.path, None),
        }
    }

    /// The length of the database's file; none when there is none. Blocks.
    ///
    /// # Errors
    /// The length cannot be told.
    pub fn database_bytes(&self) -> Result<Option<u64>, DiskError> {
        self.disk.len(&self.path.join("db"))
    }

    /// The chunks that can be found in the raw file of the database, without opening it. Blocks.
    ///
    /// # Errors
    /// The file cannot be read. A missing file holds no chunks.
    pub fn salvage(&self) -> Result<BTreeMap<u32, Vec<u8>>, DatabaseError> {
        let mut found = BTreeMap::new();
        let searched = database::salvage(self.disk, &self.path, &chunks::MAGIC, |bytes| {
            let (number, length) = chunks::announced(bytes)?;
            let chunk = bytes.get(..length)?;
            chunks::check(number, chunk)?;
            found.insert(number, chunk.to_vec());
            Some(length)
        });
        match searched {
            Err(DatabaseError::Disk(e)) if e.is_missing() => {}
            searched => searched?,
        }
        Ok(found)
    }

    /// Writes the copy durably. Blocks.
    ///
    /// # Errors
    /// The copy exists already, or cannot be written or synced.
    pub fn write_copy(&self, manifest: &Manifest, chunks: impl Iterator<Item = Vec<u8>>) -> Result<(), DiskError> {
        let file = self.disk.open(Point::CopyWrite, &self.path.join(COPY), Open::CreateNew)?;
        let mut unwritten = header(manifest);
        let mut offset = 0;
        for chunk in chunks {
            unwritten.extend_from_slice(&chunk);
            if unwritten.len() >= WRITE_BYTES {
                file.write_at(Point::CopyWrite, &unwritten, offset)?;
                offset += unwritten.len() as u64;
                unwritten.clear();
            }
        }
        file.write_at(Point::CopyWrite, &unwritten, offset)?;
        file.sync_data(Point::CopyWrite)?;
        self.disk.sync_dir(&self.path)
    }

    /// Lets the copy say what the manifest says. Blocks.
    ///
    /// # Errors
    /// The copy is missing, or cannot be written or synced.
    pub fn write_copy_header(&self, manifest: &Manifest) -> Result<(), DiskError> {
        let file = self.disk.open(Point::CopyWrite, &self.path.join(COPY), Open::ReadWrite)?;
        file.write_at(Point::CopyWrite, &header(manifest), 0)?;
        file.sync_data(Point::CopyWrite)
    }

    /// Opens the copy.
    /// None: there is no such file. Blocks.
    ///
    /// # Errors
    /// The file is there and cannot be opened.
    pub fn open_copy(&self) -> Result<Option<DiskFile>, DiskError> {
        match self.disk.open(Point::CopyRead, &self.path.join(COPY), Open::Read) {
            Err(e) if e.is_missing() => Ok(None),
            file => file.map(Some),
        }
    }

    /// Removes all of it durably. Blocks.
    ///
    /// # Errors
    /// The folder cannot be removed durably; part of it may be gone.
    pub fn remove(&self) -> Result<(), GenerationError> {
        self.disk.remove_dir_all(&self.path)?;
        Ok(self.disk.sync_dir(self.path.parent().unwrap_or(&self.path))?)
    }
}

fn header(manifest: &Manifest) -> Vec<u8> {
    let mut header = manifest.to_bytes();
    // ten numbers and a short text
    assert!(header.len() < COPY_HEADER_BYTES as usize, "a manifest is short");
    header.resize(COPY_HEADER_BYTES as usize, 0);
    header
}
