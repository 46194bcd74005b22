//! How deliveries stand that another node makes: by what it has stored, which every node has.

use super::actor::Seen;
use super::handles::Handles;
use super::storage::{self, Kept};
use crate::clock;
use crate::documents::DocumentError;
use crate::model::delivery::{Endpoint, Opened};

/// None: there is no such webhook, or it cannot deliver as it is.
///
/// # Errors
/// A document is damaged.
pub fn observe(handles: &Handles, webhook: &str) -> Result<Option<Seen>, DocumentError> {
    let Some(record) = handles.catalog.webhook(webhook) else { return Ok(None) };
    let Some(channel) = handles.catalog.channel(record.channel_no()) else { return Ok(None) };
    let lost_through = handles.log.expired(record.channel_no());
    let Some(ready) = handles.ready(record, channel) else { return Ok(None) };
    let Some(Kept { state, rows, jobs }) = storage::load(&handles.documents, webhook)? else { return Ok(None) };
    let opened = Opened { config: handles.endpoint_config(&ready), state, rows, jobs, lost_through };
    // what the machine would do is the business of that node
    let mut effects = Vec::new();
    let endpoint = Endpoint::open(clock::now_ms().max(0) as u64, handles.settings.limits(), opened, &mut effects);
    Ok(Some(Seen {
        state: endpoint.state().clone(),
        observed: endpoint.observe(),
        rows: endpoint.rows().cloned().collect(),
        jobs: endpoint.jobs().cloned().collect(),
    }))
}
