//! Format `feed`: the envelope of the feed, with the headers that a follower of a data store verifies by.
//!
//! `X-AeorDB-Delivery` is the id of the event, or of the delivery where it carries a batch.

use super::{Attempt, Headers, JSON, Rendered, Subject, common_type, events_of};
use crate::model::signature::{Keys, sign_feed};

const DELIVERY: &str = "X-AeorDB-Delivery";

pub(super) fn render(subject: &Subject<'_>) -> Rendered {
    let mut rendered = described(Rendered::new(JSON, subject.envelope.clone()), subject.event.kind.as_str());
    rendered.headers.push((DELIVERY, subject.prefixed_id()));
    rendered
}

pub(super) fn render_batch(subjects: &[Subject<'_>]) -> Rendered {
    let body = events_of(subjects.iter().map(|subject| subject.envelope));
    described(Rendered::new(JSON, body), common_type(subjects))
}

fn described(mut rendered: Rendered, kind: &str) -> Rendered {
    rendered.headers.push(("X-AeorDB-Event", kind.to_owned()));
    rendered
}

/// Adds the headers of an attempt; those of the signature only where there are keys.
pub(super) fn sign(rendered: &Rendered, attempt: &Attempt<'_>, keys: Option<&Keys>, headers: &mut Headers) {
    if !headers.iter().any(|(name, _)| *name == DELIVERY) {
        headers.push((DELIVERY, attempt.delivery.to_owned()));
    }
    let Some(keys) = keys else { return };
    headers.push(("X-AeorDB-Signature", sign_feed(&keys.current, &rendered.body)));
    if let Some(previous) = keys.previous_at(attempt.at_ms) {
        headers.push(("X-AeorDB-Signature-Previous", sign_feed(previous, &rendered.body)));
    }
}
