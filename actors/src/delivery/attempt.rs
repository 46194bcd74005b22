//! One attempt of a delivery from its events to its record: read what is missing, make the body, sign, post.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::catalog::reader::ReadError;
use crate::catalog::webhook::Ready;
use crate::clock;
use crate::compute::{Ended, Slice, Tenant};
use crate::delivery::handles::Handles;
use crate::delivery::history::AttemptRecord;
use crate::delivery::http::client::{self, DeliveryClient};
use crate::delivery::http::headers::Headers as Shown;
use crate::delivery::{handshake, outcome, pages};
use crate::feed::frame::Frame;
use crate::metrics::Shed;
use crate::model::delivery::{Attempt, FailureCode, Outcome};
use crate::model::format::{self, ChannelLabel, Form, Format, Rendered, Subject, TemplateError};
use crate::model::id::EventId;
use crate::model::target::Target;
use crate::model::trace_context::TraceContext;

/// Shown in place of the value of a custom header, which may be a credential.
const HIDDEN: &str = "(hidden)";
/// Room for the usual headers of an attempt as they are shown.
const SHOWN_BYTES: usize = 768;
/// How often the log is read for an attempt before the attempt counts as failed.
const READS_MAX: u32 = 3;
const READ_AGAIN: Duration = Duration::from_secs(1);
const TOO_MANY_REQUESTS: u16 = 429;
const GONE: u16 = 410;

/// An attempt that ended.
pub struct Done {
    pub outcome: Outcome,
    pub record: AttemptRecord,
    pub event_types: Vec<String>,
    pub took: Duration,
    /// What was posted.
    pub body: Bytes,
}

/// Makes one attempt. `frames`: the events of the attempt as far as they are at hand.
pub async fn make(
    handles: &Arc<Handles>,
    ready: &Arc<Ready>,
    client: &DeliveryClient,
    attempt: &Attempt,
    frames: Vec<Option<Arc<Frame>>>,
) -> Done {
    let (started, started_ms) = (clock::instant(), clock::now_ms());
    let record = |outcome: outcome::Outcome, headers| {
        record_of(attempt, started_ms, clock::instant().duration_since(started), outcome, headers)
    };
    let frames = match complete(handles, ready, attempt, frames).await {
        Ok(frames) => frames,
        Err(reason) => {
            return not_sent(
                record(refused(reason), Shown::default()),
                clock::instant().duration_since(started),
                UNSENT,
            );
        }
    };
    let event_types = frames.iter().map(|frame| frame.event.kind.to_string()).collect();
    let batch = ready.webhook.batch.is_some() && !attempt.events.is_empty() || frames.len() > 1;
    // of a batch, the first's
    let trace = frames.iter().find_map(|frame| frame.event.origin.trace.clone());
    let rendered = match rendered(handles, ready, frames, batch).await {
        Ok(rendered) => rendered,
        Err(Unrendered::Template(e)) => {
            handles.metrics.shed(Shed::Template);
            let code = FailureCode::RenderError;
            let failed = outcome::Outcome { error: Some(code), detail: e.to_string(), ..outcome::Outcome::default() };
            return not_sent(record(failed, Shown::default()), clock::instant().duration_since(started), code);
        }
        Err(Unrendered::Ended(e)) => {
            return not_sent(
                record(refused(e.to_string()), Shown::default()),
                clock::instant().duration_since(started),
                UNSENT,
            );
        }
    };
    let origin = handshake::origin(&handles.settings, ready.webhook.format);
    if let (Some(origin), Ok(target)) = (origin, &ready.target) {
        let id = &ready.webhook.id;
        if let Err(refused) = handles.handshakes.permission(id, target, origin, client, &handles.settings).await {
            let (outcome, took) = (judge(&refused, ready.webhook.format), clock::instant().duration_since(started));
            return Done {
                outcome,
                record: record(*refused, Shown::default()),
                event_types,
                took,
                body: rendered.body,
            };
        }
    }
    let delivery = attempt.delivery.to_string();
    let at_ms = clock::now_ms();
    let signing = format::Attempt { delivery: &delivery, number: attempt.number, at_ms };
    let (headers, shown) = headers(ready, &rendered, &signing, trace.as_deref(), origin);
    let forwarded = match (&rendered.request, &ready.target) {
        (Some(request), Ok(target)) => match request.address(&target.url) {
            Ok(url) => Some(Target { url, ..target.clone() }),
            // no later attempt could send it either
            Err(e) => {
                let code = FailureCode::RenderError;
                let failed =
                    outcome::Outcome { error: Some(code), detail: e.to_string(), ..outcome::Outcome::default() };
                return not_sent(record(failed, Shown::default()), clock::instant().duration_since(started), code);
            }
        },
        _ => None,
    };
    let settings = &handles.settings;
    let answered = match &ready.target {
        Ok(url) => {
            let post = client::Attempt {
                method: rendered.request.as_ref().map_or("POST", |request| request.method.as_str()),
                url: forwarded.as_ref().unwrap_or(url),
                headers,
                body: rendered.body.clone(),
                deadline: settings.attempt_timeout,
                connect_timeout: settings.connect_timeout,
            };
            client.send(post).await
        }
        Err(reason) => refused(reason.clone()),
    };
    let outcome = judge(&answered, ready.webhook.format);
    let took = clock::instant().duration_since(started);
    Done { outcome, record: record(answered, shown), event_types, took, body: rendered.body }
}

/// The events with their frames; those that retention took are missing, and it is an error if all of them are.
async fn complete(
    handles: &Arc<Handles>,
    ready: &Ready,
    attempt: &Attempt,
    frames: Vec<Option<Arc<Frame>>>,
) -> Result<Vec<Arc<Frame>>, String> {
    if frames.iter().all(Option::is_some) {
        return Ok(frames.into_iter().flatten().collect());
    }
    let mut tries = 0;
    loop {
        tries += 1;
        let (on_thread, channel) = (handles.clone(), ready.channel.clone());
        let (ids, frames) = (attempt.events.clone(), frames.clone());
        let read = handles.readers.read(Tenant::of_channel(channel.no()), move || {
            let pairs = ids.into_iter().zip(frames);
            let frame = |(id, frame): (EventId, Option<Arc<Frame>>)| match frame {
                Some(frame) => Ok(Some(frame)),
                None => pages::read_one(&on_thread, &channel, id),
            };
            pairs.map(frame).filter_map(Result::transpose).collect::<Result<Vec<_>, ReadError>>()
        });
        match read.await.unwrap_or_else(|e| Err(ReadError::Panicked(e.to_string()))) {
            Ok(found) if found.is_empty() => return Err("retention has taken the events of this delivery".into()),
            Ok(found) => return Ok(found),
            Err(e) if tries == READS_MAX => return Err(format!("the log cannot be read: {e}")),
            Err(e) => {
                log::error!("the events of a delivery cannot be read, which is tried again: {e}");
                clock::sleep(READ_AGAIN).await;
            }
        }
    }
}

/// Why there is no body.
enum Unrendered {
    Template(TemplateError),
    Ended(Ended),
}

/// The body for these events, one or a batch. A template is worked through where it delays no other delivery.
async fn rendered(
    handles: &Handles,
    ready: &Arc<Ready>,
    frames: Vec<Arc<Frame>>,
    batch: bool,
) -> Result<Rendered, Unrendered> {
    let Form::Template(template) = &ready.form else {
        return render(ready, &frames, batch).map_err(Unrendered::Template);
    };
    let (template, ready) = (template.clone(), ready.clone());
    let (mut frames, mut made) = (frames.into_iter(), Vec::new());
    let tenant = Tenant::of_channel(ready.channel.no());
    let step = move |slice: &mut Slice| {
        while let Some(frame) = frames.next() {
            let envelope = frame.json(ready.envelope());
            let channel = ChannelLabel { family: ready.family(), id: &ready.channel.id, name: &ready.channel.name };
            match template.render(&Subject { event: &frame.event, envelope: &envelope, channel }) {
                Ok(json) => made.push(json),
                Err(e) => return Some(Err(Unrendered::Template(e))),
            }
            if slice.is_over() && frames.len() > 0 {
                return None;
            }
        }
        Some(Ok(match &made[..] {
            [only] if !batch => Rendered::of_template(only),
            all => Rendered::of_template_batch(all),
        }))
    };
    handles.compute.slices(tenant, step).await.unwrap_or_else(|e| Err(Unrendered::Ended(e)))
}

/// The body for these events, one or a batch.
///
/// # Errors
/// Only a webhook's own template can fail: see [`TemplateError`].
pub fn render(ready: &Ready, frames: &[Arc<Frame>], batch: bool) -> Result<Rendered, TemplateError> {
    let channel = ChannelLabel { family: ready.family(), id: &ready.channel.id, name: &ready.channel.name };
    let envelopes: Vec<Bytes> = frames.iter().map(|frame| frame.json(ready.envelope())).collect();
    let subject = |(frame, envelope)| {
        let frame: &Arc<Frame> = frame;
        Subject { event: &frame.event, envelope, channel }
    };
    let mut subjects = frames.iter().zip(&envelopes).map(subject);
    match subjects.next() {
        Some(only) if !batch => ready.form.render(&only),
        first => ready.form.render_batch(&first.into_iter().chain(subjects).collect::<Vec<_>>()),
    }
}

/// The headers to send, and the same as people may see them. Custom headers come last and replace others.
fn headers(
    ready: &Ready,
    rendered: &Rendered,
    attempt: &format::Attempt<'_>,
    trace: Option<&TraceContext>,
    origin: Option<&str>,
) -> (client::Headers, Shown) {
    let ours = format::headers(ready.webhook.format, rendered, attempt, ready.keys.as_ref());
    let custom = &ready.webhook.custom_headers;
    let mut sent = Vec::with_capacity(3 + ours.len() + custom.len());
    match &rendered.request {
        None => sent.push((Cow::Borrowed("Content-Type"), rendered.content_type.to_owned())),
        Some(request) => {
            let own = |(name, _): &&(String, String)| trace.is_none() || !is_trace(name);
            let kept = request.forwarded_headers().filter(own);
            sent.extend(kept.map(|(name, value)| (Cow::Owned(name.clone()), value.clone())));
        }
    }
    if let Some(trace) = trace {
        sent.push((Cow::Borrowed("traceparent"), trace.child(clock::random())));
        sent.extend(trace.state().map(|state| (Cow::Borrowed("tracestate"), state.to_owned())));
    }
    // as whom the receiver has permitted it (HTTP 1.1 Web Hooks for Event Delivery 1.0.1, 4.1.1)
    sent.extend(origin.map(|origin| (Cow::Borrowed("Origin"), origin.to_owned())));
    sent.extend(ours.into_iter().map(|(name, value)| (Cow::Borrowed(name), value)));
    sent.retain(|(name, _)| !custom.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)));
    let mut shown = Shown::with_capacity(SHOWN_BYTES);
    sent.iter().for_each(|(name, value)| shown.push(name, value));
    custom.iter().for_each(|(name, _)| shown.push(name, HIDDEN));
    shown.shrink();
    sent.extend(custom.iter().map(|(name, value)| (Cow::Owned(name.clone()), value.clone())));
    (sent, shown)
}

fn is_trace(name: &str) -> bool {
    ["traceparent", "tracestate"].iter().any(|other| other.eq_ignore_ascii_case(name))
}

/// What the state machine is told of the client's outcome.
fn judge(answered: &outcome::Outcome, format: Format) -> Outcome {
    if answered.succeeded() {
        return Outcome::Success;
    }
    if answered.status == Some(GONE) {
        return Outcome::Gone;
    }
    let asked = answered.retry_after.or_else(|| match (format, answered.status) {
        (Format::Discord, Some(TOO_MANY_REQUESTS)) => discord_retry_after(&answered.body_kept),
        _ => None,
    });
    let retry_after_ms = asked.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    let code = answered.error.unwrap_or(FailureCode::HttpStatus);
    Outcome::Failed { status: answered.status, code, retry_after_ms }
}

/// Discord says in the body how long to wait, in seconds with a fraction.
fn discord_retry_after(body: &[u8]) -> Option<Duration> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    Duration::try_from_secs_f64(body.get("retry_after")?.as_f64()?).ok()
}

/// The word of the wire for what we refuse ourselves.
const UNSENT: FailureCode = FailureCode::TargetForbidden;

/// An attempt for which nothing could be sent.
fn refused(detail: String) -> outcome::Outcome {
    outcome::Outcome { error: Some(UNSENT), detail, ..outcome::Outcome::default() }
}

fn not_sent(record: AttemptRecord, took: Duration, code: FailureCode) -> Done {
    let outcome = Outcome::Failed { status: None, code, retry_after_ms: None };
    Done { outcome, record, event_types: Vec::new(), took, body: Bytes::new() }
}

/// An attempt that an error of ours ended; the log has the details.
pub fn panicked(attempt: &Attempt, started_ms: i64) -> Done {
    let took = Duration::from_millis(clock::now_ms().saturating_sub(started_ms).max(0) as u64);
    let outcome = refused("the server failed over this attempt; its log says more".to_owned());
    not_sent(record_of(attempt, started_ms, took, outcome, Shown::default()), took, UNSENT)
}

fn record_of(
    attempt: &Attempt,
    started_ms: i64,
    took: Duration,
    outcome: outcome::Outcome,
    request_headers: Shown,
) -> AttemptRecord {
    let failed = !outcome.succeeded();
    AttemptRecord {
        number: attempt.number,
        trigger: attempt.trigger,
        started_ms,
        duration_ms: took.as_millis() as u64,
        status_code: outcome.status,
        error_code: outcome.error.filter(|_| failed).map(|code| code.as_str().to_owned()),
        detail: outcome.detail,
        timings: outcome.timings,
        reused: outcome.reused,
        address: outcome.address.map(|address| address.to_string()),
        request_headers,
        request_body: None,
        response_headers: outcome.response_headers,
        response_body: String::from_utf8_lossy(&outcome.body_kept).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discord_is_obeyed_by_its_body_where_it_sends_no_header() {
        let answered = outcome::Outcome {
            status: Some(429),
            error: Some(FailureCode::HttpStatus),
            body_kept: Bytes::from_static(br#"{"message":"slow","retry_after":1.5}"#),
            ..outcome::Outcome::default()
        };
        let wait = |format| match judge(&answered, format) {
            Outcome::Failed { retry_after_ms, .. } => retry_after_ms,
            other => panic!("{other:?}"),
        };
        assert_eq!((wait(Format::Discord), wait(Format::Map)), (Some(1_500), None));
    }
}
