//! How far this node's copy of the log goes: a document that every commit of the copy brings up to date, so that it is
//! exact whatever happens to the process.

use serde::{Deserialize, Serialize};

use crate::documents::{Change, DocumentError, Documents, Table};

const KEY: &str = "position";

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Which cluster's log this is a copy of.
    pub cluster: String,
    /// The last message of the stream that is in the copy, or needs not to be.
    pub sequence: u64,
    /// The last message of an entry of events among them.
    pub events_at: u64,
    /// The last message that changed what is configured: channels, tokens, webhooks, sources and numbers.
    pub configured_at: u64,
    /// The documents are as they were after this message, which may be behind `sequence`: changes up to it are in them.
    pub documents_at: u64,
    /// Retention has taken messages with events before this one.
    #[serde(default)]
    pub retained_from: u64,
}

impl Position {
    /// None: the folder is not a copy of any cluster's log.
    ///
    /// # Errors
    /// The document is damaged.
    pub fn load(documents: &Documents) -> Result<Option<Position>, DocumentError> {
        documents.get(Table::Copy, KEY)
    }

    /// # Errors
    /// None that can be: it has a JSON form.
    pub fn change(&self) -> Result<Change, DocumentError> {
        Change::put(Table::Copy, KEY, self)
    }
}

/// Whether a change concerns what is configured.
pub fn is_configuration(change: &Change) -> bool {
    match change.table() {
        Table::Channels | Table::Tokens | Table::Webhooks | Table::Sources | Table::Numbers => true,
        Table::Endpoints
        | Table::Rows
        | Table::Replays
        | Table::Losses
        | Table::Slots
        | Table::Tickets
        | Table::Copy => false,
    }
}

/// Whether a change concerns this folder alone and no other node.
pub fn is_of_this_folder(change: &Change) -> bool {
    matches!(change.table(), Table::Losses | Table::Copy)
}
