//! Where a webhook's deliveries are kept, and how: the state with the cursor, rows and replays by webhook.

use crate::model::delivery::{Change as Kept, DeliveryId, EndpointState, Job, Row};
use crate::store::{Change, State, StoreError, Table};

/// What was kept of a webhook's deliveries.
pub struct Stored {
    pub state: EndpointState,
    pub rows: Vec<Row>,
    pub jobs: Vec<Job>,
}

/// The key of something that belongs to a webhook.
pub fn key(webhook: &str, own: &[u8]) -> Vec<u8> {
    [webhook.as_bytes(), own].concat()
}

pub fn load(state: &State, webhook: &str) -> Result<Option<Stored>, StoreError> {
    let Some(endpoint) = state.get(Table::Endpoints, webhook)? else { return Ok(None) };
    let rows = state.scan(Table::Rows, webhook.as_bytes())?.into_iter().map(|(_, row)| row).collect();
    let jobs = state.scan(Table::Replays, webhook.as_bytes())?.into_iter().map(|(_, job)| job).collect();
    Ok(Some(Stored { state: endpoint, rows, jobs }))
}

/// Applies what the state machine asked to be kept, all or nothing; durable when it returns.
pub fn apply(state: &State, webhook: &str, kept: &[Kept]) -> Result<(), StoreError> {
    let change = |kept: &Kept| match kept {
        Kept::PutState(endpoint) => Change::put(Table::Endpoints, webhook, endpoint),
        Kept::PutRow(row) => Change::put(Table::Rows, key(webhook, &row.delivery.to_bytes()), row),
        Kept::DeleteRow(delivery) => Ok(Change::delete(Table::Rows, key(webhook, &delivery.to_bytes()))),
        Kept::PutJob(job) => Change::put(Table::Replays, key(webhook, &job.id.0.to_be_bytes()), job),
        Kept::DeleteJob(job) => Ok(Change::delete(Table::Replays, key(webhook, &job.0.to_be_bytes()))),
    };
    let changes: Vec<Change> = kept.iter().map(change).collect::<Result<_, StoreError>>()?;
    state.write(&changes)
}

/// The key of a delivery in the log for people.
pub fn delivery_key(webhook: &str, delivery: DeliveryId) -> Vec<u8> {
    key(webhook, &delivery.to_bytes())
}
