//! Format `standard`: the envelope as it is, with the headers of Standard Webhooks 1.0. Other formats carry them too.

use super::{Attempt, Headers, JSON, Rendered, Subject, events_of};
use crate::model::signature::{Keys, sign_standard};

pub(super) fn render(subject: &Subject<'_>) -> Rendered {
    Rendered::new(JSON, subject.envelope.clone())
}

pub(super) fn render_batch(subjects: &[Subject<'_>]) -> Rendered {
    Rendered::new(JSON, events_of(subjects.iter().map(|subject| subject.envelope)))
}

/// Adds the three headers, or none if no active secret is a key of Standard Webhooks.
pub(super) fn sign(rendered: &Rendered, attempt: &Attempt<'_>, keys: &Keys, headers: &mut Headers) {
    let at_s = attempt.at_ms.div_euclid(1000);
    if let Some(signature) = sign_standard(keys.active(attempt.at_ms), attempt.delivery, at_s, &rendered.body) {
        headers.push(("webhook-id", attempt.delivery.to_owned()));
        headers.push(("webhook-timestamp", at_s.to_string()));
        headers.push(("webhook-signature", signature));
    }
}
