//! Taking a snapshot of the documents over into this node's copy.

use std::collections::HashSet;

use super::ClusterError;
use super::position::Position;
use super::snapshot::{Done, shared};
use crate::documents::{Change, Table};
use crate::journal::{Committer, Content};
use crate::log::LossDocument;
use crate::wal;

/// Makes the documents of the copy what the snapshot holds, in one commit. What only this folder knows stays. Blocks.
///
/// # Errors
/// The commit fails; then nothing has changed.
pub fn take_over(
    committer: &mut Committer,
    position: &mut Position,
    done: &Done,
    snapshot: Vec<Change>,
) -> Result<(), ClusterError> {
    let fresh: HashSet<(Table, Vec<u8>)> =
        snapshot.iter().map(|change| (change.table(), change.own_key().to_vec())).collect();
    let held = committer.documents.freeze();
    // losses are noted by each node itself, and those of others are added to them
    let stale = shared(&held).filter(|change| change.table() != Table::Losses);
    let stale = stale.filter(|change| !fresh.contains(&(change.table(), change.own_key().to_vec())));
    let mut changes: Vec<Change> = stale.map(|change| Change::delete(change.table(), change.own_key())).collect();
    let losses: Vec<LossDocument> = snapshot
        .iter()
        .filter(|change| change.table() == Table::Losses)
        .filter_map(|change| change.document().ok().flatten())
        .collect();
    changes.extend(snapshot);
    let mut taken = position.clone();
    (taken.documents_at, taken.configured_at) = (done.sequence, done.configured_at);
    taken.retained_from = done.retained_from;
    changes.push(taken.change()?);
    let now_ms = committer.clock.now_ms();
    let content = Content { changes: &changes, ..Content::default() };
    let committed = committer.write(&content, wal::Urgency::Reserve, now_ms)?;
    committer.show(&committed, &changes, now_ms);
    committer.log.learn_losses(losses);
    *position = taken;
    ::log::info!(sequence = done.sequence; "the documents of the cluster were taken over");
    Ok(())
}
