//! A file system in memory that loses at a crash what a disk may lose.
//!
//! - What was written and not synced is, at a crash, there or not, sector by sector; so is the new length.
//! - A sync that fails leaves what it was for as it is until the crash: a later sync that succeeds does not make it
//!   durable, as on Linux.
//! - A name that was made, changed or removed is durable after the sync of its folder; before that a crash may undo it,
//!   each change for itself. A rename is done or not.
//!
//! What a crash keeps is drawn from the seed, so the same calls give the same outcome.

mod contents;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
#[cfg(test)]
use std::path::PathBuf;
use std::path::{Component, Path};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Entry, Open};
pub use contents::SECTOR_BYTES;
use contents::{Contents, Fate, Random};

/// What is free when no capacity is set.
const UNBOUNDED_BYTES: u64 = 1 << 40;

type Inode = u64;
const ROOT: Inode = 0;

/// A simulated file system. Clones are the same one.
#[derive(Clone, Debug)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Debug)]
struct State {
    random: Random,
    /// How much the files may hold; none = no bound.
    capacity_bytes: Option<u64>,
    /// Counts crashes: files that were opened before the last one are dead.
    boots: u64,
    next_inode: Inode,
    folders: BTreeMap<Inode, Folder>,
    files: BTreeMap<Inode, Contents>,
    /// Changes of names that no sync has made durable, in order.
    unsynced_names: Vec<NameChange>,
    locks: BTreeMap<Inode, u64>,
    next_handle: u64,
}

#[derive(Clone, Debug, Default)]
struct Folder {
    names: BTreeMap<String, Inode>,
    durable: BTreeMap<String, Inode>,
}

/// One change, which a crash does or undoes as a whole.
#[derive(Clone, Debug)]
struct NameChange {
    /// Folder, name, and what it stands for from then on.
    names: Vec<(Inode, String, Option<Inode>)>,
}

fn errno(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

impl State {
    fn new(seed: u64) -> State {
        State {
            random: Random(seed),
            capacity_bytes: None,
            boots: 0,
            next_inode: ROOT + 1,
            folders: BTreeMap::from([(ROOT, Folder::default())]),
            files: BTreeMap::new(),
            unsynced_names: Vec::new(),
            locks: BTreeMap::new(),
            next_handle: 0,
        }
    }

    fn find(&self, path: &Path) -> io::Result<Inode> {
        let mut at = ROOT;
        for name in names(path)? {
            let folder = self.folders.get(&at).ok_or_else(|| errno(libc::ENOTDIR))?;
            at = *folder.names.get(&name).ok_or_else(|| errno(libc::ENOENT))?;
        }
        Ok(at)
    }

    /// The folder of a path, and the name in it.
    fn parent(&self, path: &Path) -> io::Result<(Inode, String)> {
        let name = names(path)?.pop().ok_or_else(|| errno(libc::EINVAL))?;
        let parent = self.find(path.parent().unwrap_or(Path::new("")))?;
        if self.folders.contains_key(&parent) { Ok((parent, name)) } else { Err(errno(libc::ENOTDIR)) }
    }

    fn change(&mut self, names: Vec<(Inode, String, Option<Inode>)>) {
        for (folder, name, inode) in &names {
            let Some(folder) = self.folders.get_mut(folder) else { continue };
            match inode {
                Some(inode) => folder.names.insert(name.clone(), *inode),
                None => folder.names.remove(name),
            };
        }
        self.unsynced_names.push(NameChange { names });
    }

    fn make_durable(&mut self, change: NameChange) {
        for (folder, name, inode) in change.names {
            let Some(folder) = self.folders.get_mut(&folder) else { continue };
            match inode {
                Some(inode) => folder.durable.insert(name, inode),
                None => folder.durable.remove(&name),
            };
        }
    }

    fn new_inode(&mut self) -> Inode {
        self.next_inode += 1;
        self.next_inode - 1
    }

    /// Everything below a folder that has a name.
    fn reachable(&self) -> BTreeSet<Inode> {
        let mut found = BTreeSet::new();
        let mut folders = vec![ROOT];
        while let Some(at) = folders.pop() {
            found.insert(at);
            let Some(folder) = self.folders.get(&at) else { continue };
            folders.extend(folder.names.values());
        }
        found
    }

    fn used_bytes(&self) -> u64 {
        let named = self.reachable();
        let files = self.files.iter().filter(|(inode, _)| named.contains(inode));
        files.map(|(_, contents)| contents.allocated_sectors() * SECTOR_BYTES as u64).sum()
    }

    fn free_bytes(&self) -> u64 {
        self.capacity_bytes.map_or(UNBOUNDED_BYTES, |capacity| capacity.saturating_sub(self.used_bytes()))
    }

    fn write(&mut self, inode: Inode, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut room = if self.capacity_bytes.is_some() { self.free_bytes() / SECTOR_BYTES as u64 } else { u64::MAX };
        let contents = self.files.get_mut(&inode).ok_or_else(|| errno(libc::EIO))?;
        let mut written = 0;
        while written < bytes.len() {
            let at = offset + written as u64;
            let (no, within) = (at / SECTOR_BYTES as u64, (at % SECTOR_BYTES as u64) as usize);
            let part = (SECTOR_BYTES - within).min(bytes.len() - written);
            if !contents.is_allocated(no) {
                // what fits before is written, as on a real disk
                room = room.checked_sub(1).ok_or_else(|| errno(libc::ENOSPC))?;
            }
            contents.write(no, within, &bytes[written..written + part]);
            written += part;
            contents.len = contents.len.max(at + part as u64);
        }
        Ok(())
    }

    fn crash(&mut self) {
        let fate = self.random.fate();
        for change in std::mem::take(&mut self.unsynced_names) {
            let is_kept = match fate {
                Fate::Lost => false,
                Fate::Kept => true,
                Fate::Torn => self.random.below(2) == 1,
            };
            if is_kept {
                self.make_durable(change);
            }
        }
        for folder in self.folders.values_mut() {
            folder.names = folder.durable.clone();
        }
        let named = self.reachable();
        self.folders.retain(|inode, _| named.contains(inode));
        self.files.retain(|inode, _| named.contains(inode));
        for contents in self.files.values_mut() {
            contents.crash(&mut self.random);
        }
        self.locks.clear();
        self.boots += 1;
    }
}

fn names(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => names.push(name.to_string_lossy().into_owned()),
            Component::ParentDir | Component::Prefix(_) => return Err(errno(libc::EINVAL)),
        }
    }
    Ok(names)
}

impl SimulatedDisk {
    pub(super) fn new(seed: u64) -> SimulatedDisk {
        SimulatedDisk { state: Arc::new(Mutex::new(State::new(seed))) }
    }

    /// Cuts the power: what was not synced is lost, kept or torn, and every open file is dead.
    pub fn crash(&self) {
        self.state.lock().crash();
    }

    /// The disk as it may be after a power cut now, drawn from a seed of its own; this one goes on.
    pub(super) fn after_crash(&self, seed: u64) -> SimulatedDisk {
        let mut state = self.state.lock().clone();
        state.random = Random(seed);
        state.crash();
        SimulatedDisk { state: Arc::new(Mutex::new(state)) }
    }

    /// A copy with everything that is there, as after the end of the process that had it open.
    #[cfg(test)]
    pub(super) fn copied(&self, seed: u64) -> SimulatedDisk {
        let mut state = self.state.lock().clone();
        (state.random, state.capacity_bytes) = (Random(seed), None);
        state.locks.clear();
        SimulatedDisk { state: Arc::new(Mutex::new(state)) }
    }

    /// All files with their lengths.
    #[cfg(test)]
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.state.lock();
        let (mut found, mut open) = (Vec::new(), vec![(PathBuf::from("/"), ROOT)]);
        while let Some((path, inode)) = open.pop() {
            for (name, below) in state.folders.get(&inode).into_iter().flat_map(|folder| &folder.names) {
                match state.files.get(below) {
                    Some(contents) => found.push((path.join(name), contents.len)),
                    None => open.push((path.join(name), *below)),
                }
            }
        }
        found.sort();
        found
    }

    /// Cuts a file, in what is durable as well as in what is not.
    ///
    /// # Errors
    /// When there is no such file.
    #[cfg(test)]
    pub fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let inode = state.find(path)?;
        let contents = state.files.get_mut(&inode).ok_or_else(|| errno(libc::EISDIR))?;
        contents.set_len(len);
        contents.sync();
        Ok(())
    }

    /// Bounds what all files together may hold; none = no bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity_bytes = bytes;
    }

    /// What all files together hold, in whole sectors.
    pub fn used_bytes(&self) -> u64 {
        self.state.lock().used_bytes()
    }

    /// Flips bits of a file, in what is durable as well as in what is not.
    ///
    /// # Errors
    /// When there is no such file or it is too short.
    pub fn damage(&self, path: &Path, offset: u64, mask: u8) -> io::Result<()> {
        let mut state = self.state.lock();
        let inode = state.find(path)?;
        let contents = state.files.get_mut(&inode).ok_or_else(|| errno(libc::EISDIR))?;
        if offset >= contents.len {
            return Err(errno(libc::EINVAL));
        }
        contents.damage(offset, mask);
        Ok(())
    }

    pub(super) fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let mut at = ROOT;
        for name in names(path)? {
            let folder = state.folders.get(&at).ok_or_else(|| errno(libc::ENOTDIR))?;
            at = match folder.names.get(&name) {
                Some(inode) => *inode,
                None => {
                    let inode = state.new_inode();
                    state.folders.insert(inode, Folder::default());
                    state.change(vec![(at, name, Some(inode))]);
                    inode
                }
            };
        }
        if state.folders.contains_key(&at) { Ok(()) } else { Err(errno(libc::EEXIST)) }
    }

    pub(super) fn open(&self, path: &Path, how: Open) -> io::Result<SimulatedFile> {
        let mut state = self.state.lock();
        let inode = match state.find(path) {
            Ok(_) if how == Open::CreateNew => return Err(errno(libc::EEXIST)),
            Ok(inode) if state.folders.contains_key(&inode) => return Err(errno(libc::EISDIR)),
            Ok(inode) => inode,
            Err(e) if e.kind() == io::ErrorKind::NotFound && matches!(how, Open::CreateNew | Open::CreateOrOpen) => {
                let (folder, name) = state.parent(path)?;
                let inode = state.new_inode();
                state.files.insert(inode, Contents::default());
                state.change(vec![(folder, name, Some(inode))]);
                inode
            }
            Err(e) => return Err(e),
        };
        state.next_handle += 1;
        let (boot, handle) = (state.boots, state.next_handle);
        Ok(SimulatedFile { disk: self.clone(), inode, boot, handle, is_writable: how != Open::Read })
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let state = self.state.lock();
        let folder = state.folders.get(&state.find(path)?).ok_or_else(|| errno(libc::ENOTDIR))?;
        let entry =
            |(name, inode): (&String, &Inode)| Entry { name: name.clone(), is_dir: state.folders.contains_key(inode) };
        Ok(folder.names.iter().map(entry).collect())
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let inode = state.find(from)?;
        let (from_folder, from_name) = state.parent(from)?;
        let (to_folder, to_name) = state.parent(to)?;
        if let Ok(there) = state.find(to) {
            let is_file = |inode| state.files.contains_key(&inode);
            match state.folders.get(&there) {
                Some(_) if is_file(inode) => return Err(errno(libc::EISDIR)),
                Some(folder) if !folder.names.is_empty() => return Err(errno(libc::ENOTEMPTY)),
                None if !is_file(inode) => return Err(errno(libc::ENOTDIR)),
                _ => {}
            }
        }
        state.change(vec![(from_folder, from_name, None), (to_folder, to_name, Some(inode))]);
        Ok(())
    }

    pub(super) fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let inode = state.find(path)?;
        if state.folders.contains_key(&inode) {
            return Err(errno(libc::EISDIR));
        }
        let (folder, name) = state.parent(path)?;
        state.change(vec![(folder, name, None)]);
        Ok(())
    }

    /// Each name below goes for itself, so that a crash may keep any of them.
    pub(super) fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        for entry in self.list(path)? {
            let below = path.join(&entry.name);
            if entry.is_dir { self.remove_dir_all(&below)? } else { self.remove_file(&below)? }
        }
        let mut state = self.state.lock();
        let (folder, name) = state.parent(path)?;
        state.change(vec![(folder, name, None)]);
        Ok(())
    }

    /// A change that concerns two folders is durable with the sync of either, as in a file system with a journal.
    pub(super) fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let inode = state.find(path)?;
        if !state.folders.contains_key(&inode) {
            return Err(errno(libc::ENOTDIR));
        }
        let concerns = |change: &NameChange| change.names.iter().any(|(folder, ..)| *folder == inode);
        let (durable, unsynced) = std::mem::take(&mut state.unsynced_names).into_iter().partition(concerns);
        state.unsynced_names = unsynced;
        let durable: Vec<NameChange> = durable;
        for change in durable {
            state.make_durable(change);
        }
        Ok(())
    }

    pub(super) fn len(&self, path: &Path) -> io::Result<u64> {
        let state = self.state.lock();
        let inode = state.find(path)?;
        Ok(state.files.get(&inode).map_or(0, |contents| contents.len))
    }

    pub(super) fn free_bytes(&self) -> u64 {
        self.state.lock().free_bytes()
    }
}

/// An open file of a simulated disk.
#[derive(Debug)]
pub struct SimulatedFile {
    disk: SimulatedDisk,
    inode: Inode,
    boot: u64,
    handle: u64,
    is_writable: bool,
}

impl SimulatedFile {
    /// Works on the file, unless the machine has crashed since it was opened.
    fn with<T>(&self, work: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.state.lock();
        if state.boots == self.boot { work(&mut state) } else { Err(errno(libc::EIO)) }
    }

    fn with_contents<T>(&self, work: impl FnOnce(&mut Contents) -> T) -> io::Result<T> {
        self.with(|state| state.files.get_mut(&self.inode).map(work).ok_or_else(|| errno(libc::EIO)))
    }

    fn writable(&self) -> io::Result<()> {
        if self.is_writable { Ok(()) } else { Err(errno(libc::EBADF)) }
    }

    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with_contents(|contents| contents.read(buffer, offset))
    }

    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.writable()?;
        self.with(|state| state.write(self.inode, bytes, offset))
    }

    /// A write that fails has written some of its bytes.
    pub(super) fn fail_write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.with(|state| {
            let written = state.random.below(bytes.len() as u64 + 1) as usize;
            state.write(self.inode, &bytes[..written], offset)
        })
    }

    pub(super) fn sync_data(&self) -> io::Result<()> {
        #[cfg(test)]
        if super::mutant::is_here(super::mutant::Mutant::Sync) {
            return Ok(());
        }
        self.with_contents(Contents::sync)
    }

    /// A sync that fails: what it was for is not tried again by the next one.
    pub(super) fn fail_sync(&self) -> io::Result<()> {
        self.with_contents(Contents::fail_sync)
    }

    pub(super) fn set_len(&self, len: u64) -> io::Result<()> {
        self.writable()?;
        self.with_contents(|contents| contents.set_len(len))
    }

    pub(super) fn len(&self) -> io::Result<u64> {
        self.with_contents(|contents| contents.len)
    }

    pub(super) fn try_lock(&self) -> io::Result<bool> {
        self.with(|state| Ok(*state.locks.entry(self.inode).or_insert(self.handle) == self.handle))
    }

    pub(super) fn unlock(&self) -> io::Result<()> {
        self.with(|state| {
            if state.locks.get(&self.inode) == Some(&self.handle) {
                state.locks.remove(&self.inode);
            }
            Ok(())
        })
    }
}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        // after a crash there is no lock to let go of
        let _ = self.unlock();
    }
}
