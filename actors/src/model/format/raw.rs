//! Format `raw`: a request that a source kept as it came, sent on with its method, path, query, headers and bytes, so that the
//! receiver can verify the provider's own signature. What we add is called `X-Stentor-...`.

use super::{Attempt, Headers, Rendered, Subject};
use crate::model::signature::{Keys, sign_map};
use crate::model::source::raw::RawRequest;

/// What is said of the body where nobody knows it; the request has its own header.
const UNKNOWN: &str = "application/octet-stream";

/// The webhook's filter lets nothing else pass; should it all the same, an empty POST says so little that nothing comes of it.
pub(super) fn render(subject: &Subject<'_>) -> Rendered {
    let request = RawRequest::of(subject.event.payload.as_str()).unwrap_or_default();
    let headers =
        vec![("X-Stentor-Event", subject.event.kind.to_string()), ("X-Stentor-Event-Id", subject.prefixed_id())];
    Rendered { content_type: UNKNOWN, body: request.body.clone().into(), headers, request: Some(Box::new(request)) }
}

/// Adds what tells the attempt, and with a secret `X-Stentor-Signature: sha256=<hex HMAC-SHA256(secret text,
/// "<timestamp>.<raw body>")>`, in Unix seconds.
pub(super) fn sign(rendered: &Rendered, attempt: &Attempt<'_>, keys: Option<&Keys>, headers: &mut Headers) {
    headers.push(("X-Stentor-Delivery", attempt.delivery.to_owned()));
    headers.push(("X-Stentor-Attempt", attempt.number.to_string()));
    let at_s = attempt.at_ms.div_euclid(1000);
    let Some(keys) = keys else { return };
    headers.push(("X-Stentor-Timestamp", at_s.to_string()));
    headers.push(("X-Stentor-Signature", sign_map(&keys.current, at_s, &rendered.body)));
    if let Some(previous) = keys.previous_at(attempt.at_ms) {
        headers.push(("X-Stentor-Signature-Previous", sign_map(previous, at_s, &rendered.body)));
    }
}
