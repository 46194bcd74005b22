//! Another secret key takes the place of the one before: at the start, everything that is stored is sealed anew.
//!
//! The document that proves the key is committed last. So the next start with both keys makes good one that was interrupted, and the key
//! before counts until everything is sealed with the new one.

use super::HubError;
use crate::catalog::Catalog;
use crate::documents::Change;
use crate::journal::{DocumentChanges, Journal, Urgency};
use crate::model::seal::SealKey;

/// What is committed at once, unless a single document is larger. Far below what a piece of the write-ahead log takes.
const PART_BYTES: usize = 1 << 20;

/// Seals everything with `key`, and commits the document that proves it.
///
/// # Errors
/// Not all of it could be stored.
pub(super) async fn reseal(
    catalog: &Catalog,
    journal: &Journal,
    before: &SealKey,
    key: &SealKey,
    check: Option<Change>,
) -> Result<(), HubError> {
    let changes = catalog.resealed(before, key)?;
    log::info!(count = changes.len(); "stored secrets are sealed anew with another secret key");
    let (mut part, mut part_bytes): (Vec<Change>, usize) = (Vec::new(), 0);
    for change in changes {
        if part_bytes + change.encoded_bytes() > PART_BYTES {
            commit(journal, std::mem::take(&mut part)).await?;
            part_bytes = 0;
        }
        part_bytes += change.encoded_bytes();
        part.push(change);
    }
    part.extend(check);
    commit(journal, part).await?;
    log::warn!("the secret key was replaced: STENTOR_PREVIOUS_SECRET_KEY is not needed any more, take it away");
    Ok(())
}

async fn commit(journal: &Journal, changes: Vec<Change>) -> Result<(), HubError> {
    let request = DocumentChanges { changes, urgency: Urgency::Reserve, ..DocumentChanges::default() };
    journal.persist(request).await.map_err(HubError::Reseal)
}
