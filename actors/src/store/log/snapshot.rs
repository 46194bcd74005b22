//! What the log holds at one moment, to be copied while it goes on.

use std::sync::Arc;

use super::{Log, Volume, folder};
use crate::model::id::EventId;
use crate::store::{StoreError, guarded};

/// Bytes of entries that are taken out of a segment at once.
const PAGE_BYTES: usize = 1024 * 1024;

/// The segments of a moment, and the newest event then.
pub struct LogView {
    head: EventId,
    volumes: Vec<Arc<Volume>>,
}

impl LogView {
    pub fn head(&self) -> EventId {
        self.head
    }

    pub fn segments(&self) -> usize {
        self.volumes.len()
    }

    /// The name of the `n`th segment.
    pub fn name(&self, n: usize) -> String {
        folder(self.volumes[n].seq)
    }
}

impl Log {
    pub fn view(&self) -> LogView {
        let (head, volumes) = self.shelf();
        LogView { head, volumes }
    }

    /// Hands every entry that the `n`th segment had at the moment of the view to `take`, in the order of keys. False when
    /// retention has taken the segment meanwhile, or it turned out to be damaged and is in quarantine; both are noted as lost.
    pub fn dump<E: From<StoreError>>(
        &self,
        view: &LogView,
        n: usize,
        mut take: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        let volume = &view.volumes[n];
        // what was active then may be sealed by now, with more in it
        let until = (n + 1 == view.volumes.len()).then_some(view.head);
        let mut after = Vec::new();
        loop {
            let page = match self.borrow(volume).and_then(|segment| match segment {
                Some(segment) => guarded(|| segment.entries(&after, PAGE_BYTES)).map(Some),
                None => Ok(None),
            }) {
                Ok(Some(page)) => page,
                Ok(None) => return Ok(false),
                Err(e) if e.is_damage() && self.set_aside(volume, &e)? => return Ok(false),
                Err(e) => return Err(e.into()),
            };
            let Some((last, _)) = page.last() else { return Ok(true) };
            after = last.to_vec();
            for (key, value) in page {
                if until.is_none_or(|head| crate::store::segment::is_before(&key, &value, head)) {
                    take(&key, &value)?;
                }
            }
        }
    }

    /// What retention and quarantine took, as it is kept.
    pub fn lost_text(&self) -> Result<Vec<u8>, StoreError> {
        self.lost.read().unwrap_or_else(std::sync::PoisonError::into_inner).text()
    }
}
