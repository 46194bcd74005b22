//! Where a webhook's deliveries are kept, and how: the state with the cursor, rows and replays as documents under keys
//! that begin with the webhook's id.

use std::collections::HashSet;

#[cfg(test)]
use crate::clock;
use crate::delivery::unsaved::{Batch, Stored};
#[cfg(test)]
use crate::disk::mutant::{self, Mutant};
use crate::documents::{Change, DocumentError, Documents, Table};
use crate::model::delivery::{DeliveryId, EndpointState, Job, JobId, Row};
#[cfg(test)]
use crate::model::id::EventId;

/// What was kept of a webhook's deliveries.
pub struct Kept {
    pub state: EndpointState,
    pub rows: Vec<Row>,
    pub jobs: Vec<Job>,
}

/// The key of a row.
fn row_key(webhook: &str, delivery: DeliveryId) -> Vec<u8> {
    [webhook.as_bytes(), &delivery.to_bytes()].concat()
}

/// The key of a replay.
fn job_key(webhook: &str, job: JobId) -> Vec<u8> {
    [webhook.as_bytes(), &job.0.to_be_bytes()].concat()
}

/// None for a webhook that does not exist (any more): it is stored together with its state.
///
/// # Errors
/// A document is damaged.
pub fn load(documents: &Documents, webhook: &str) -> Result<Option<Kept>, DocumentError> {
    let Some(state) = documents.get(Table::Endpoints, webhook)? else { return Ok(None) };
    let rows = documents.scan(Table::Rows, webhook.as_bytes())?.into_iter().map(|(_, row)| row).collect();
    let jobs = documents.scan(Table::Replays, webhook.as_bytes())?.into_iter().map(|(_, job)| job).collect();
    Ok(Some(Kept { state, rows, jobs }))
}

/// A batch as changes of documents.
///
/// # Errors
/// A document is too large.
pub fn changes(webhook: &str, batch: &Batch) -> Result<Vec<Change>, DocumentError> {
    let state = batch.state.iter().map(|state| {
        #[cfg(test)]
        if mutant::is_here(Mutant::Cursor) {
            let cursor = EventId::at_time(clock::now_ms().max(0) as u64);
            return Change::put(Table::Endpoints, webhook, &EndpointState { cursor, ..EndpointState::clone(state) });
        }
        Change::put(Table::Endpoints, webhook, state)
    });
    let rows = batch.rows.iter().map(|(delivery, row)| {
        let key = row_key(webhook, *delivery);
        row.as_ref().map_or_else(|| Ok(Change::delete(Table::Rows, &key)), |row| Change::put(Table::Rows, &key, row))
    });
    let jobs = batch.jobs.iter().map(|(id, job)| {
        let key = job_key(webhook, *id);
        job.as_ref()
            .map_or_else(|| Ok(Change::delete(Table::Replays, &key)), |job| Change::put(Table::Replays, &key, job))
    });
    state.chain(rows).chain(jobs).collect()
}

/// The documents of one webhook.
pub struct OfWebhook<'a> {
    pub documents: &'a Documents,
    pub webhook: &'a str,
}

impl Stored for OfWebhook<'_> {
    fn has_row(&self, delivery: DeliveryId) -> bool {
        self.documents.contains(Table::Rows, row_key(self.webhook, delivery))
    }

    fn has_job(&self, job: JobId) -> bool {
        self.documents.contains(Table::Replays, job_key(self.webhook, job))
    }
}

impl OfWebhook<'_> {
    /// Stored rows and replays that are not among those that are known.
    pub fn strays<'k>(
        &self,
        rows: impl Iterator<Item = &'k Row>,
        jobs: impl Iterator<Item = &'k Job>,
    ) -> (Vec<DeliveryId>, Vec<JobId>) {
        let rows: HashSet<DeliveryId> = rows.map(|row| row.delivery).collect();
        let jobs: HashSet<JobId> = jobs.map(|job| job.id).collect();
        let keys = |table| {
            let stored = self.documents.clear(table, self.webhook.as_bytes()).into_iter();
            stored.map(|change| change.own_key()[self.webhook.len()..].to_vec()).collect::<Vec<_>>()
        };
        let rows_stored =
            keys(Table::Rows).into_iter().filter_map(|key| Some(DeliveryId::from_bytes(key.try_into().ok()?)));
        let jobs_stored =
            keys(Table::Replays).into_iter().filter_map(|key| Some(JobId(u64::from_be_bytes(key.try_into().ok()?))));
        (
            rows_stored.filter(|delivery| !rows.contains(delivery)).collect(),
            jobs_stored.filter(|job| !jobs.contains(job)).collect(),
        )
    }
}
