//! The table of error codes: how a client reads each of them, in both bodies, and its status.

/// Makes [`Code`] of the table below.
macro_rules! codes {
    ($($name:ident $upper:literal $lower:literal $status:literal;)*) => {
        /// Why a request fails, as programs read it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code { $($name),* }

        impl Code {
            pub const ALL: [Code; [$(Code::$name),*].len()] = [$(Code::$name),*];

            /// In the flat body: `{"error": sentence, "code", "status"}`.
            pub fn upper(self) -> &'static str {
                match self { $(Code::$name => $upper),* }
            }

            /// In the nested body: `{"error": {"code", "message"}}`.
            pub fn lower(self) -> &'static str {
                match self { $(Code::$name => $lower),* }
            }

            /// The status of HTTP.
            pub fn status(self) -> u16 {
                match self { $(Code::$name => $status),* }
            }
        }
    };
}

codes! {
    BadRequest "BAD_REQUEST" "bad_request" 400;
    InvalidJson "INVALID_JSON" "invalid_json" 400;
    ValidationFailed "VALIDATION_FAILED" "validation_failed" 400;
    InvalidCursor "INVALID_CURSOR" "invalid_cursor" 400;
    InvalidFilter "INVALID_FILTER" "invalid_filter" 400;
    InvalidParameter "INVALID_PARAMETER" "invalid_parameter" 400;
    UnknownParameter "UNKNOWN_PARAMETER" "unknown_parameter" 400;
    Unauthorized "UNAUTHORIZED" "unauthorized" 401;
    Forbidden "FORBIDDEN" "forbidden" 403;
    OriginForbidden "ORIGIN_FORBIDDEN" "origin_forbidden" 403;
    NotFound "NOT_FOUND" "not_found" 404;
    MethodNotAllowed "METHOD_NOT_ALLOWED" "method_not_allowed" 405;
    RequestTimeout "REQUEST_TIMEOUT" "request_timeout" 408;
    Conflict "CONFLICT" "conflict" 409;
    WebhookLimit "WEBHOOK_LIMIT" "webhook_limit" 409;
    SourceLimit "SOURCE_LIMIT" "source_limit" 409;
    PayloadTooLarge "PAYLOAD_TOO_LARGE" "payload_too_large" 413;
    UnsupportedMediaType "UNSUPPORTED_MEDIA_TYPE" "unsupported_media_type" 415;
    UpgradeRequired "UPGRADE_REQUIRED" "upgrade_required" 426;
    RateLimited "RATE_LIMITED" "rate_limited" 429;
    ServerConnectionLimit "SERVER_CONNECTION_LIMIT" "server_connection_limit" 429;
    MapConnectionLimit "MAP_CONNECTION_LIMIT" "map_connection_limit" 429;
    ChannelConnectionLimit "CHANNEL_CONNECTION_LIMIT" "channel_connection_limit" 429;
    ApiKeyConnectionLimit "API_KEY_CONNECTION_LIMIT" "api_key_connection_limit" 429;
    TicketLimit "TICKET_LIMIT" "ticket_limit" 429;
    ScanLimit "SCAN_LIMIT" "scan_limit" 429;
    TooExpensive "TOO_EXPENSIVE" "too_expensive" 422;
    JournalFull "JOURNAL_FULL" "journal_full" 503;
    StorageFull "STORAGE_FULL" "storage_full" 503;
    OutcomeUnknown "OUTCOME_UNKNOWN" "outcome_unknown" 503;
    SourcePaused "SOURCE_PAUSED" "source_paused" 503;
    Unavailable "UNAVAILABLE" "unavailable" 503;
    Stopping "STOPPING" "stopping" 503;
    Internal "INTERNAL" "internal" 500;
}
