//! Format `map`: the envelope as it is, signed as the document of the maps family shows.

use super::{Attempt, Headers, JSON, Rendered, Subject, common_type, events_of};
use crate::model::signature::{Keys, sign_map};

pub(super) fn render(subject: &Subject<'_>) -> Rendered {
    described(Rendered::new(JSON, subject.envelope.clone()), subject.event.kind.as_str())
}

pub(super) fn render_batch(subjects: &[Subject<'_>]) -> Rendered {
    let body = events_of(subjects.iter().map(|subject| subject.envelope));
    described(Rendered::new(JSON, body), common_type(subjects))
}

fn described(mut rendered: Rendered, kind: &str) -> Rendered {
    rendered.headers.push(("X-Wanderer-Version", "1".to_owned()));
    rendered.headers.push(("X-Wanderer-Event", kind.to_owned()));
    rendered
}

/// Adds the headers of an attempt; those of the signature only where there are keys.
pub(super) fn sign(rendered: &Rendered, attempt: &Attempt<'_>, keys: Option<&Keys>, headers: &mut Headers) {
    let at_s = attempt.at_ms.div_euclid(1000);
    headers.push(("X-Wanderer-Delivery", attempt.delivery.to_owned()));
    headers.push(("X-Wanderer-Attempt", attempt.number.to_string()));
    headers.push(("X-Wanderer-Timestamp", at_s.to_string()));
    let Some(keys) = keys else { return };
    headers.push(("X-Wanderer-Signature", sign_map(&keys.current, at_s, &rendered.body)));
    if let Some(previous) = keys.previous_at(attempt.at_ms) {
        headers.push(("X-Wanderer-Signature-Previous", sign_map(previous, at_s, &rendered.body)));
    }
}
