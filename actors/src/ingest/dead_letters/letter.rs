//! What is kept of a request that was refused for its content. Its body lies apart.

use serde::{Deserialize, Serialize};

use crate::model::source::Content;

/// The head of a dead letter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Letter {
    /// Counts the letters of a source from 1. Of the nodes of a cluster each has numbers of its own, see
    /// [`least_number`](super::least_number).
    pub n: u64,
    pub received_ms: i64,
    /// Why it was refused, in a sentence, and which fields were wrong.
    pub reason: String,
    pub details: Vec<Detail>,
    pub content: Content,
    /// The headers as they came, without those that hold a credential; bounded, see [`HEADERS_BYTES_MAX`].
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// Where it was sent, and how, at a source that keeps requests as they come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<RequestLine>,
    /// Under which key the request would have been known again.
    pub key: Option<String>,
    /// Bytes of the body as it was sent, and as it is kept.
    pub bytes: usize,
    pub kept_bytes: usize,
    /// How often it was sent again in vain.
    #[serde(default)]
    pub retries: u32,
}

/// Bytes of the headers of one letter that are kept; what comes after them is left out.
pub const HEADERS_BYTES_MAX: usize = 8 * 1024;

/// What a request says before its headers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestLine {
    pub method: String,
    /// What follows the address of the source.
    pub path: String,
    pub query: String,
}

/// What was wrong with one field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detail {
    pub index: usize,
    pub field: String,
    pub message: String,
}

impl Letter {
    /// Whether the body is there to its end.
    pub fn is_whole(&self) -> bool {
        self.kept_bytes == self.bytes
    }
}
