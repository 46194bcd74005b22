//! Retention: whole segments go, oldest first, when there is too much or what is in them is too old.

use std::sync::{Arc, PoisonError};

use super::{Dropped, Log, Volume, lock};
use crate::model::event::ChannelNo;
use crate::model::id::EventId;
use crate::store::segment::Meta;
use crate::store::{Retention, StoreError, io};

impl Log {
    /// Drops the oldest segments as long as there is too much, or what is in them is too old.
    pub fn retain(&self, now_ms: i64) -> Result<Dropped, StoreError> {
        let now_ms = now_ms.max(0) as u64;
        let Retention { max_age_ms, max_bytes, max_events } = self.options.retention;
        {
            let mut writer = lock(&self.writer);
            let aged = |meta: &Meta| meta.last.is_some_and(|last| too_old(last, max_age_ms, now_ms));
            if aged(&writer.meta) || (max_events > 0 || max_bytes > 0) && self.full(&writer, now_ms) {
                self.rotate(&mut writer, now_ms)?;
            }
        }
        let mut dropped = Dropped::default();
        loop {
            let stats = self.stats();
            let (_, volumes) = self.shelf();
            // never the active one, which is last
            let Some(oldest) = volumes.first().filter(|_| volumes.len() > 1) else { break };
            let newest_with_events = volumes.iter().rev().find(|v| v.last().is_some()).map(|v| v.seq);
            let last = oldest.last();
            let too_much = max_events > 0 && stats.events > max_events || max_bytes > 0 && stats.bytes > max_bytes;
            let is_aged = last.is_none_or(|last| too_old(last, max_age_ms, now_ms));
            if !(is_aged || too_much && newest_with_events != Some(oldest.seq)) {
                break;
            }
            self.drop_oldest(oldest, &mut dropped)?;
        }
        Ok(dropped)
    }

    fn drop_oldest(&self, oldest: &Arc<Volume>, dropped: &mut Dropped) -> Result<(), StoreError> {
        let bytes = oldest.disk_bytes();
        let meta = oldest.meta.read().unwrap_or_else(PoisonError::into_inner).clone();
        let newest = meta.channels.iter().map(|(no, span)| (ChannelNo(*no), span.last));
        self.lost.write().unwrap_or_else(PoisonError::into_inner).expire(newest)?;
        self.shelf.write().unwrap_or_else(PoisonError::into_inner).volumes.retain(|v| v.seq != oldest.seq);
        // readers may still be in it: the name goes now, the bytes when they have left
        // under its lock: a reader that opened it meanwhile would make an empty segment under the old name
        let mut handle = lock(&oldest.open);
        handle.kept = None;
        let gone = self.dir.join(format!("dropped-{:010}", oldest.seq));
        std::fs::rename(&oldest.path, &gone).map_err(io("rename", &oldest.path))?;
        drop(handle);
        std::fs::remove_dir_all(&gone).map_err(io("remove", &gone))?;
        dropped.segments += 1;
        dropped.events += meta.events;
        dropped.bytes += bytes;
        Ok(())
    }
}

fn too_old(last: EventId, max_age_ms: u64, now_ms: u64) -> bool {
    max_age_ms > 0 && last.time_ms().saturating_add(max_age_ms) < now_ms
}
