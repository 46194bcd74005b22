//! What one file of a simulated disk holds, and what a crash leaves of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::splitmix;

/// What a disk writes whole or not at all.
pub const SECTOR_BYTES: usize = 512;
/// Contents of a sector that are remembered since the last sync; a crash may keep any of them.
const VERSIONS: usize = 4;

type Sector = Arc<[u8; SECTOR_BYTES]>;

#[derive(Clone, Debug, Default)]
pub struct Contents {
    pub len: u64,
    durable_len: u64,
    /// What is on the disk; a sector that is missing holds zeros and takes no room.
    durable: BTreeMap<u64, Sector>,
    unsynced: BTreeMap<u64, Unsynced>,
}

/// What was written to a sector since it was synced.
#[derive(Clone, Debug)]
struct Unsynced {
    /// The newest last.
    versions: Vec<Sector>,
    /// A sync of it has failed, so the next one leaves it out.
    is_failed: bool,
}

impl Contents {
    fn sector(&self, no: u64) -> Option<&Sector> {
        match self.unsynced.get(&no) {
            Some(unsynced) => unsynced.versions.last(),
            None => self.durable.get(&no),
        }
    }

    pub fn is_allocated(&self, no: u64) -> bool {
        self.unsynced.contains_key(&no) || self.durable.contains_key(&no)
    }

    pub fn allocated_sectors(&self) -> u64 {
        let fresh = self.unsynced.keys().filter(|no| !self.durable.contains_key(no)).count();
        (self.durable.len() + fresh) as u64
    }

    pub fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let end = self.len.min(offset.saturating_add(buffer.len() as u64));
        let mut at = offset;
        while at < end {
            let (no, within) = (at / SECTOR_BYTES as u64, (at % SECTOR_BYTES as u64) as usize);
            let part = (SECTOR_BYTES - within).min((end - at) as usize);
            let to = &mut buffer[(at - offset) as usize..][..part];
            match self.sector(no) {
                Some(sector) => to.copy_from_slice(&sector[within..within + part]),
                None => to.fill(0),
            }
            at += part as u64;
        }
        end.saturating_sub(offset) as usize
    }

    /// Changes a part of one sector.
    pub fn write(&mut self, no: u64, within: usize, bytes: &[u8]) {
        let mut sector = self.sector(no).map_or([0; SECTOR_BYTES], |sector| **sector);
        sector[within..within + bytes.len()].copy_from_slice(bytes);
        let unsynced = self.unsynced.entry(no).or_insert_with(|| Unsynced { versions: Vec::new(), is_failed: false });
        if unsynced.versions.len() == VERSIONS {
            unsynced.versions.remove(0);
        }
        unsynced.versions.push(Arc::new(sector));
        unsynced.is_failed = false;
    }

    pub fn set_len(&mut self, len: u64) {
        // bytes beyond the end read as zeros when the file grows again
        let first = len / SECTOR_BYTES as u64;
        let beyond: BTreeSet<u64> = self
            .durable
            .range(first..)
            .map(|(no, _)| *no)
            .chain(self.unsynced.range(first..).map(|(no, _)| *no))
            .collect();
        for no in beyond {
            let within = len.saturating_sub(no * SECTOR_BYTES as u64) as usize;
            self.write(no, within, &[0; SECTOR_BYTES][within..]);
        }
        self.len = len;
    }

    pub fn sync(&mut self) {
        let synced = self.unsynced.extract_if(.., |_, unsynced| !unsynced.is_failed);
        for (no, unsynced) in synced {
            if let Some(newest) = unsynced.versions.into_iter().next_back() {
                self.durable.insert(no, newest);
            }
        }
        self.durable_len = self.len;
        self.drop_beyond_end();
    }

    /// Gives back the room of sectors that lie beyond the end.
    fn drop_beyond_end(&mut self) {
        let end = self.durable_len.div_ceil(SECTOR_BYTES as u64);
        self.durable.split_off(&end);
    }

    pub fn fail_sync(&mut self) {
        for unsynced in self.unsynced.values_mut() {
            unsynced.is_failed = true;
        }
    }

    /// Flips bits of one byte, in what is durable as well as in what is not.
    pub fn damage(&mut self, offset: u64, mask: u8) {
        let (no, within) = (offset / SECTOR_BYTES as u64, (offset % SECTOR_BYTES as u64) as usize);
        if let Some(unsynced) = self.unsynced.get_mut(&no) {
            for sector in &mut unsynced.versions {
                Arc::make_mut(sector)[within] ^= mask;
            }
        }
        let is_zeros = !self.unsynced.contains_key(&no);
        if let Some(sector) = self.durable.get_mut(&no) {
            Arc::make_mut(sector)[within] ^= mask;
        } else if is_zeros {
            let mut sector = [0; SECTOR_BYTES];
            sector[within] = mask;
            self.durable.insert(no, Arc::new(sector));
        }
    }

    pub fn crash(&mut self, random: &mut Random) {
        let fate = random.fate();
        let (low, high) = (self.len.min(self.durable_len), self.len.max(self.durable_len));
        let is_cut = self.len < self.durable_len;
        let len = match fate {
            Fate::Lost => self.durable_len,
            Fate::Kept => self.len,
            // a length that grew may have been written on the way; one that was cut is cut or not
            Fate::Torn => match random.below(3) {
                0 => low,
                1 => high,
                _ if is_cut => low,
                _ => (low + random.below(high - low + 1)).next_multiple_of(SECTOR_BYTES as u64).min(high),
            },
        };
        for (no, unsynced) in std::mem::take(&mut self.unsynced) {
            if is_cut && len == high && no >= low / SECTOR_BYTES as u64 {
                // it was not cut, so what the cut took is still there
                continue;
            }
            // 0 is what was durable before
            let versions = unsynced.versions.len();
            let kept = match fate {
                Fate::Lost => 0,
                Fate::Kept => versions,
                Fate::Torn => random.below(versions as u64 + 1) as usize,
            };
            if kept > 0 {
                self.durable.insert(no, unsynced.versions[kept - 1].clone());
            }
        }
        self.len = len;
        self.durable_len = self.len;
        self.drop_beyond_end();
        // what lies behind the end in its sector is nobody's
        let within = (self.len % SECTOR_BYTES as u64) as usize;
        if within > 0
            && let Some(sector) = self.durable.get_mut(&(self.len / SECTOR_BYTES as u64))
        {
            Arc::make_mut(sector)[within..].fill(0);
        }
    }
}

/// What a crash does to what was not synced.
#[derive(Clone, Copy)]
pub enum Fate {
    Lost,
    Kept,
    /// Each sector, or each name, has its own.
    Torn,
}

/// What a crash draws; see [`splitmix`].
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        splitmix::next(&mut self.0)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn fate(&mut self) -> Fate {
        match self.below(4) {
            0 => Fate::Lost,
            1 => Fate::Kept,
            _ => Fate::Torn,
        }
    }
}
