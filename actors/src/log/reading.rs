//! Reading pages: over sealed segments, the one that waits to be sealed, and the active part.

use std::sync::Arc;

use super::active::Active;
use super::page::PageBuilder;
use super::sealed::{Sealed, Trouble};
use super::state::{Log, Snapshot};
use super::{Direction, LogError, LogPage, PageLimit, Span};
use crate::model::event::ChannelNo;
use crate::model::id::EventId;

/// Segments that are rebuilt for one page. Each time a damaged one is replaced, so more than that is no damage of the disk.
const REPAIRS_MAX: usize = 16;

impl Log {
    /// A page of one channel, or of all in one order, strictly beyond the cursor and not past the head. What is damaged is
    /// left out, and [`Log::damaged_between`] tells of it when this returns. Blocks.
    ///
    /// # Errors
    /// What the disk says. Nothing was read then.
    pub fn read(
        &self,
        no: ChannelNo,
        cursor: EventId,
        limit: PageLimit,
        direction: Direction,
    ) -> Result<LogPage, LogError> {
        self.read_with(|head| PageBuilder::new(no, cursor, head, limit, direction))
    }

    /// Fills the page that `begin` makes of where the log ends.
    pub(super) fn read_with(&self, begin: impl Fn(EventId) -> PageBuilder) -> Result<LogPage, LogError> {
        let mut damaged = None;
        for attempt in 0..REPAIRS_MAX {
            let snapshot = self.snapshot();
            let mut page = begin(snapshot.head);
            match self.fill(&snapshot, &mut page) {
                Ok(()) => return Ok(page.finish()),
                Err(Unread::Failed(e)) => return Err(e),
                Err(Unread::Damaged(sealed, why)) => {
                    self.repair(&sealed, &why, attempt)?;
                    damaged = Some((sealed, why));
                }
            }
        }
        let (path, why) = damaged.map(|(sealed, why)| (sealed.dir.clone(), why)).unwrap_or_default();
        Err(LogError::Beyond { path, why })
    }

    fn fill(&self, snapshot: &Snapshot, page: &mut PageBuilder) -> Result<(), Unread> {
        let Snapshot { sealed, rolled, active, .. } = snapshot;
        if page.is_forward() {
            for sealed in sealed.iter() {
                self.take_sealed(sealed, page)?;
            }
            for active in rolled.iter().chain([active]) {
                self.take_active(active, page)?;
            }
        } else {
            for active in [active].into_iter().chain(rolled) {
                self.take_active(active, page)?;
            }
            for sealed in sealed.iter().rev() {
                self.take_sealed(sealed, page)?;
            }
        }
        Ok(())
    }

    fn take_sealed(&self, sealed: &Arc<Sealed>, page: &mut PageBuilder) -> Result<(), Unread> {
        if !is_wanted(page.span(|no| sealed.span(no)), page) {
            return Ok(());
        }
        match sealed.read(&self.databases, page) {
            Ok(()) => {
                // of a segment that is older than the write-ahead log
                self.note_damage(&std::mem::take(&mut page.damaged));
                Ok(())
            }
            Err(Trouble::Damaged(why)) => Err(Unread::Damaged(sealed.clone(), why)),
            Err(Trouble::Failed(e)) => Err(Unread::Failed(e)),
        }
    }

    fn take_active(&self, active: &Active, page: &mut PageBuilder) -> Result<(), Unread> {
        if !is_wanted(page.span(|no| active.span(no)), page) {
            return Ok(());
        }
        active.read(page).map_err(Unread::Failed)?;
        for range in std::mem::take(&mut page.damaged) {
            self.damage_unsealed(active, range);
        }
        Ok(())
    }
}

/// Why a page could not be read.
enum Unread {
    Damaged(Arc<Sealed>, String),
    Failed(LogError),
}

/// Whether the page wants something of what has this span, and has room for it.
fn is_wanted(span: Option<Span>, page: &mut PageBuilder) -> bool {
    let is_wanted = !page.more && span.is_some_and(|span| page.wants(span.first, span.last));
    // a span that the head or the cursor cuts may hold nothing that is wanted; then one more page is empty
    page.more |= is_wanted && !page.has_room();
    is_wanted && !page.more
}
