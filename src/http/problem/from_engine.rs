//! What each error of the engine is to a client: its code, and the sentence where the engine's own is not for clients.

use actors::catalog::reader::ReadError;
use actors::documents::DocumentError;
use actors::hub::sources::{SourceError, SourceRefusal};
use actors::hub::webhooks::{InvalidEntry, InvalidField, Refusal, WebhookError};
use actors::hub::{ChannelError, ScanError, TokenError};
use actors::journal::AppendError;
use actors::model::draft::DraftError;
use actors::model::filter::FilterError;
use actors::model::id::MalformedId;
use actors::model::unpack::UnpackError;
use actors::streams::websocket::UpgradeError;
use serde_json::json;

use super::{Code, Problem};

impl From<ReadError> for Problem {
    fn from(e: ReadError) -> Problem {
        log::error!("a request failed in the store: {e}");
        Problem::new(Code::Internal, "The store did not answer; the server's log says why")
    }
}

impl From<DocumentError> for Problem {
    fn from(e: DocumentError) -> Problem {
        log::error!("a request failed over a stored document: {e}");
        Problem::new(Code::Internal, "What is stored cannot be used; the server's log says why")
    }
}

impl From<MalformedId> for Problem {
    fn from(e: MalformedId) -> Problem {
        Problem::new(Code::InvalidCursor, format!("Malformed cursor: {e}"))
    }
}

impl From<UnpackError> for Problem {
    fn from(e: UnpackError) -> Problem {
        let code = match e {
            UnpackError::Unknown(_) | UnpackError::TooOften => Code::UnsupportedMediaType,
            UnpackError::TooLarge { .. } => Code::PayloadTooLarge,
            UnpackError::Damaged(_) => Code::BadRequest,
        };
        Problem::new(code, format!("Content-Encoding: {e}"))
    }
}

impl From<ScanError> for Problem {
    fn from(e: ScanError) -> Problem {
        let message = e.to_string();
        match e {
            ScanError::TooExpensive { setting, value, .. } => {
                Problem::new(Code::TooExpensive, message).by_setting(setting, value)
            }
            ScanError::TooMany { per_token } => {
                Problem::new(Code::ScanLimit, message).by_setting("limits.scans_per_token", per_token as u64)
            }
            ScanError::Memory => Problem::new(Code::Unavailable, message),
            ScanError::Ended => Problem::new(Code::Stopping, message),
            ScanError::Read(e) => e.into(),
        }
    }
}

impl From<FilterError> for Problem {
    fn from(e: FilterError) -> Problem {
        if e == FilterError::Busy {
            return Problem::new(Code::Unavailable, format!("The filter was not checked: {e}"));
        }
        Problem::new(Code::InvalidFilter, format!("Invalid filter: {e}"))
    }
}

impl From<AppendError> for Problem {
    fn from(e: AppendError) -> Problem {
        match &e {
            AppendError::QueueFull => Problem::new(Code::JournalFull, "The journal is full; try again in a second"),
            AppendError::Stopping => Problem::new(Code::Stopping, "The server is stopping; try again when it is back"),
            AppendError::StorageFull => Problem::new(
                Code::StorageFull,
                "The server's disk is full; nothing was stored. It takes events and changes again when there is room",
            ),
            AppendError::OutcomeUnknown => Problem::new(
                Code::OutcomeUnknown,
                "It is not known whether this was stored; it may appear, once. With an Idempotency-Key it may be sent again",
            ),
            AppendError::Store(_) | AppendError::Failed | AppendError::Conflict => {
                Problem::new(Code::Unavailable, "This could not be made durable; nothing of it was stored")
            }
            AppendError::Gone => Problem::new(Code::NotFound, "What this belongs to was deleted meanwhile"),
        }
    }
}

impl From<UpgradeError> for Problem {
    fn from(e: UpgradeError) -> Problem {
        match e {
            UpgradeError::NotAnUpgrade => Problem::new(Code::UpgradeRequired, format!("No WebSocket handshake: {e}")),
            UpgradeError::Unavailable => Problem::new(Code::Unavailable, e.to_string()),
        }
    }
}

impl From<ChannelError> for Problem {
    fn from(e: ChannelError) -> Problem {
        match e {
            ChannelError::Invalid { field, error } => Problem::invalid(field, error),
            ChannelError::Taken(_) => Problem::new(Code::Conflict, e.to_string()),
            ChannelError::TooMany => Problem::new(Code::Conflict, e.to_string()),
            ChannelError::Gone => Problem::new(Code::NotFound, e.to_string()),
            ChannelError::System => Problem::new(Code::Forbidden, e.to_string()),
            ChannelError::Append(e) => e.into(),
            ChannelError::Document(e) => e.into(),
            ChannelError::Token(e) => e.into(),
        }
    }
}

impl From<TokenError> for Problem {
    fn from(e: TokenError) -> Problem {
        match e {
            TokenError::NoScope => Problem::invalid("scopes", e),
            TokenError::Name(e) => Problem::invalid("name", e),
            TokenError::Expired => Problem::invalid("expires_at", e),
            TokenError::ManagesSeveral => Problem::invalid("scopes", e),
            TokenError::Channels => Problem::invalid("channels", e),
            TokenError::TooMany | TokenError::TooManyOfSeveral => Problem::new(Code::Conflict, e.to_string()),
            TokenError::Gone => Problem::new(Code::NotFound, e.to_string()),
            TokenError::Append(e) => e.into(),
            TokenError::Document(e) => e.into(),
        }
    }
}

impl From<WebhookError> for Problem {
    fn from(e: WebhookError) -> Problem {
        match e {
            WebhookError::Invalid(fields) => {
                let detail = |f: &InvalidField| json!({ "field": f.field, "message": f.message });
                Problem::validation(fields.iter().map(detail).collect())
            }
            WebhookError::Duplicate => Problem::new(Code::Conflict, e.to_string()),
            WebhookError::InvalidEntries(entries) => {
                let detail =
                    |e: InvalidEntry| json!({ "index": e.index, "id": e.id, "field": e.field, "message": e.message });
                Problem::validation(entries.into_iter().map(detail).collect())
            }
            WebhookError::TooMany { .. } => Problem::new(Code::WebhookLimit, e.to_string()),
            WebhookError::NotFound => Problem::new(Code::NotFound, "Webhook not found"),
            WebhookError::DeliveryNotFound => Problem::new(Code::NotFound, "Delivery not found"),
            WebhookError::ReplayNotFound => Problem::new(Code::NotFound, "Replay not found"),
            WebhookError::Append(e) => e.into(),
            WebhookError::Document(e) => e.into(),
            WebhookError::Store(e) => e.into(),
            WebhookError::Scan(e) => e.into(),
            WebhookError::Refused(refusal) => refusal.into(),
            WebhookError::Unavailable => Problem::new(Code::Unavailable, e.to_string()),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(e: Refusal) -> Problem {
        let message = e.to_string();
        let code = match e {
            Refusal::Off | Refusal::InFlight | Refusal::Expired | Refusal::TestRunning | Refusal::Test => {
                Code::Conflict
            }
            Refusal::TooManyRequests { most } => {
                return Problem::new(Code::RateLimited, message).by_setting("webhooks.manual_attempts", most as u64);
            }
            Refusal::TooManyJobs { most } => {
                return Problem::new(Code::RateLimited, message).by_setting("webhooks.replays", most as u64);
            }
            Refusal::Stopping => Code::Stopping,
        };
        Problem::new(code, message)
    }
}

impl From<SourceRefusal> for Problem {
    fn from(e: SourceRefusal) -> Problem {
        match e {
            SourceRefusal::Rate { wait_ms, requests } => {
                let seconds = wait_ms.div_ceil(1_000).max(1);
                let message = format!("More requests than this address takes; wait {seconds} s");
                Problem::new(Code::RateLimited, message).retry_after(seconds).by_setting("rateLimit.requests", requests)
            }
            SourceRefusal::Untrusted(e) => Problem::new(Code::Unauthorized, format!("Unauthorized: {e}")),
            SourceRefusal::Paused => Problem::new(Code::SourcePaused, e.to_string()),
            SourceRefusal::Unusable => Problem::new(Code::Unavailable, e.to_string()),
        }
    }
}

impl From<SourceError> for Problem {
    fn from(e: SourceError) -> Problem {
        match e {
            SourceError::Invalid { field, message } => Problem::invalid(field, message),
            SourceError::System => Problem::new(Code::Forbidden, e.to_string()),
            SourceError::TooMany(_) => Problem::new(Code::SourceLimit, e.to_string()),
            SourceError::NotFound => Problem::no_source(),
            SourceError::LetterNotFound => Problem::new(Code::NotFound, "Dead letter not found"),
            SourceError::LetterCut => Problem::new(Code::Conflict, e.to_string()),
            SourceError::Refused(e) => e.into(),
            SourceError::Unreadable(e) => Problem::new(Code::UnsupportedMediaType, e.to_string()),
            SourceError::Append(e) => e.into(),
            SourceError::Document(e) => e.into(),
            SourceError::Store(e) => e.into(),
        }
    }
}

impl From<DraftError> for Problem {
    fn from(e: DraftError) -> Problem {
        match e {
            DraftError::Malformed { .. } => Problem::new(Code::InvalidJson, e.to_string()),
            DraftError::Invalid(fields) => {
                let details = fields
                    .iter()
                    .map(|f| json!({ "index": f.index, "field": f.field, "message": f.message }))
                    .collect();
                Problem::new(Code::ValidationFailed, "Validation failed").with_details(details)
            }
            DraftError::EventTooLarge { .. } | DraftError::TooManyEvents { .. } => {
                Problem::new(Code::PayloadTooLarge, e.to_string())
            }
            DraftError::Empty => Problem::new(Code::ValidationFailed, e.to_string()),
        }
    }
}
