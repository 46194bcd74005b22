//! The databases of sealed segments that are open: never more than the options say, so that readers of many segments cost
//! no more memory than readers of one.

use std::path::Path;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::block_cache::BlockCache;
use super::file_check;
use super::manifest::Manifest;
use crate::disk::Disk;
use crate::disk::database::{Database, DatabaseError};

/// A database, and what was unpacked of it.
#[derive(Debug)]
struct Opened {
    database: Database,
    blocks: BlockCache,
}

/// One place for an open database.
#[derive(Debug)]
struct Slot {
    segment: u64,
    /// None while it is being opened or closed, and while it is claimed.
    database: Option<Arc<Opened>>,
    users: usize,
    /// When it was last asked for, as a count.
    asked: u64,
}

#[derive(Debug, Default)]
struct Slots {
    slots: Vec<Slot>,
    /// Segments that nobody may open.
    claimed: Vec<u64>,
    asked: u64,
}

#[derive(Debug)]
pub struct Databases {
    disk: Disk,
    open_max: usize,
    slots: Mutex<Slots>,
    changed: Condvar,
}

/// An open database in use. Who holds one asks for no other.
#[derive(Debug)]
pub struct Lease<'a> {
    databases: &'a Databases,
    segment: u64,
    /// None only while it is dropped.
    database: Option<Arc<Opened>>,
}

/// A segment whose database is closed, and stays so until this is dropped.
#[derive(Debug)]
pub struct Claim<'a> {
    databases: &'a Databases,
    segment: u64,
}

impl Databases {
    pub fn new(disk: Disk, open_max: usize) -> Databases {
        Databases { disk, open_max: open_max.max(1), slots: Mutex::default(), changed: Condvar::new() }
    }

    /// Whether a segment's database is open already.
    pub fn is_open(&self, segment: u64) -> bool {
        self.slots.lock().slots.iter().any(|slot| slot.segment == segment && slot.database.is_some())
    }

    /// Opens the database of a segment, or shares it with others who read it. Waits while as many as may be open are in use
    /// by others. Blocks.
    ///
    /// # Errors
    /// Those of [`open`].
    pub fn lease(&self, dir: &Path, manifest: &Manifest) -> Result<Lease<'_>, DatabaseError> {
        let segment = manifest.segment;
        let mut slots = self.slots.lock();
        loop {
            slots.asked += 1;
            let asked = slots.asked;
            if slots.claimed.contains(&segment) {
                self.changed.wait(&mut slots);
                continue;
            }
            if let Some(slot) = slots.slots.iter_mut().find(|slot| slot.segment == segment) {
                let Some(database) = slot.database.clone() else {
                    self.changed.wait(&mut slots);
                    continue;
                };
                slot.users += 1;
                slot.asked = asked;
                return Ok(Lease { databases: self, segment, database: Some(database) });
            }
            if slots.slots.len() < self.open_max {
                slots.slots.push(Slot { segment, database: None, users: 1, asked });
                drop(slots);
                return self.open(dir, manifest);
            }
            let idle = slots.slots.iter_mut().filter(|slot| slot.users == 0 && slot.database.is_some());
            let Some(idle) = idle.min_by_key(|slot| slot.asked) else {
                self.changed.wait(&mut slots);
                continue;
            };
            let (closing, database) = (idle.segment, idle.database.take());
            drop(slots);
            drop(database);
            slots = self.slots.lock();
            slots.slots.retain(|slot| slot.segment != closing);
            self.changed.notify_all();
        }
    }

    /// What the open databases keep in memory for the next reader.
    pub fn cached_bytes(&self) -> usize {
        let slots = self.slots.lock();
        let opened = slots.slots.iter().filter_map(|slot| slot.database.as_deref());
        opened.map(|opened| opened.blocks.bytes() + opened.database.loaded_bytes()).sum()
    }

    /// Closes the databases that nobody reads, which gives their memory back. Blocks.
    pub fn close_idle(&self) {
        let mut slots = self.slots.lock();
        let idle = slots.slots.iter_mut().filter(|slot| slot.users == 0 && slot.database.is_some());
        let closing: Vec<_> = idle.map(|slot| (slot.segment, slot.database.take())).collect();
        drop(slots);
        let segments: Vec<_> = closing.iter().map(|(segment, _)| *segment).collect();
        drop(closing);
        self.slots.lock().slots.retain(|slot| !segments.contains(&slot.segment));
        self.changed.notify_all();
    }

    fn open(&self, dir: &Path, manifest: &Manifest) -> Result<Lease<'_>, DatabaseError> {
        let segment = manifest.segment;
        let opened = open(&self.disk, dir, manifest);
        let opened = opened.map(|database| Arc::new(Opened { database, blocks: BlockCache::default() }));
        let mut slots = self.slots.lock();
        self.changed.notify_all();
        match opened {
            Ok(database) => {
                if let Some(slot) = slots.slots.iter_mut().find(|slot| slot.segment == segment) {
                    slot.database = Some(database.clone());
                }
                Ok(Lease { databases: self, segment, database: Some(database) })
            }
            Err(e) => {
                slots.slots.retain(|slot| slot.segment != segment);
                Err(e)
            }
        }
    }

    /// Closes the database of a segment when its readers have left it, and lets nobody open it. Waits for another claim.
    /// Blocks.
    pub fn claim(&self, segment: u64) -> Claim<'_> {
        let mut slots = self.slots.lock();
        while slots.claimed.contains(&segment) {
            self.changed.wait(&mut slots);
        }
        slots.claimed.push(segment);
        while let Some(at) = slots.slots.iter().position(|slot| slot.segment == segment) {
            if slots.slots[at].users > 0 || slots.slots[at].database.is_none() {
                self.changed.wait(&mut slots);
                continue;
            }
            let database = slots.slots[at].database.take();
            drop(slots);
            drop(database);
            slots = self.slots.lock();
            slots.slots.retain(|slot| slot.segment != segment);
            break;
        }
        Claim { databases: self, segment }
    }
}

/// Opens the database of a segment when its file is what the manifest says. Blocks.
///
/// # Errors
/// Those of [`Database::open`].
pub fn open(disk: &Disk, dir: &Path, manifest: &Manifest) -> Result<Database, DatabaseError> {
    file_check::check(disk, dir, &manifest.file())?;
    Database::open(disk, dir, Some(manifest.db_bytes))
}

impl Lease<'_> {
    fn opened(&self) -> &Opened {
        self.database.as_deref().expect("it is there until it is dropped")
    }

    pub fn blocks(&self) -> &BlockCache {
        &self.opened().blocks
    }
}

impl std::ops::Deref for Lease<'_> {
    type Target = Database;

    fn deref(&self) -> &Database {
        &self.opened().database
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        // before the slot counts as unused, because who closes it then opens it anew
        self.database = None;
        let mut slots = self.databases.slots.lock();
        if let Some(slot) = slots.slots.iter_mut().find(|slot| slot.segment == self.segment) {
            slot.users -= 1;
            if slot.users == 0 {
                self.databases.changed.notify_all();
            }
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.databases.slots.lock().claimed.retain(|segment| *segment != self.segment);
        self.databases.changed.notify_all();
    }
}
