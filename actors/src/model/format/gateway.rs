//! Format `gateway`: the envelope of the organizations family, with the headers that its document shows.
//!
//! `X-Webhook-Request-Id` is the id of the event, so that a receiver drops repetitions by it whether they come from a
//! retry or from a replay. A batch has no such id: there it is that of the delivery.

use super::{Attempt, Headers, JSON, Rendered, Subject, events_of};
use crate::model::signature::{Keys, sign_gateway};

const REQUEST_ID: &str = "X-Webhook-Request-Id";

pub(super) fn render(subject: &Subject<'_>) -> Rendered {
    let mut rendered = Rendered::new(JSON, subject.envelope.clone());
    rendered.headers.push((REQUEST_ID, subject.prefixed_id()));
    rendered
}

pub(super) fn render_batch(subjects: &[Subject<'_>]) -> Rendered {
    Rendered::new(JSON, events_of(subjects.iter().map(|subject| subject.envelope)))
}

/// Adds the headers of an attempt; those of the signature only where there are keys.
pub(super) fn sign(rendered: &Rendered, attempt: &Attempt<'_>, keys: Option<&Keys>, headers: &mut Headers) {
    if !headers.iter().any(|(name, _)| *name == REQUEST_ID) {
        headers.push((REQUEST_ID, attempt.delivery.to_owned()));
    }
    headers.push(("X-Webhook-Timestamp", attempt.at_ms.to_string()));
    let Some(keys) = keys else { return };
    headers.push(("X-Webhook-Hmac", sign_gateway(&keys.current, &rendered.body)));
    headers.push(("X-Webhook-Hmac-Algorithm", "sha512".to_owned()));
    if let Some(previous) = keys.previous_at(attempt.at_ms) {
        headers.push(("X-Webhook-Hmac-Previous", sign_gateway(previous, &rendered.body)));
    }
}
