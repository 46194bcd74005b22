//! One attempt of a delivery: a POST, one deadline around all of it, and what came of it in the words of the log.
//!
//! awc carries it, over HTTP/1.1 with or without TLS; redirects are answers like any other, and no environment variable
//! names a proxy. A client belongs to one arbiter: it is not `Send`, and its connections are reused by that arbiter only.
//! It sets no limit of its own on attempts in flight; every webhook has its own.

use std::borrow::Cow;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use actix_rt::task::JoinHandle;
use actix_web::body::{BodySize, MessageBody};
use actix_web::error::ParseError;
use awc::ClientResponse;
use awc::error::{ConnectError, SendRequestError};
use awc::http::header::{HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use awc::http::{StatusCode, Uri};
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::Sleep;

use crate::delivery::http::connection::{TRACE, Trace};
use crate::delivery::http::connector::Connector;
use crate::delivery::http::headers::Headers as Kept;
use crate::delivery::http::target::TargetCheck;
use crate::delivery::outcome::{
    BODY_KEPT_BYTES, BODY_READ_BYTES, HEADERS_KEPT, HEADERS_KEPT_BYTES, Outcome, Timings, retry_after,
};
use crate::model::delivery::FailureCode;
use crate::model::target::{Target, header_allowed};

/// A connection that nobody used for so long is closed.
const IDLE: Duration = Duration::from_secs(30);
/// No connection is used longer than this, so that changes of a name's addresses are followed.
const LIFETIME: Duration = Duration::from_secs(120);
/// awc's own bounds on connecting are out of the way: the attempt's timer rules.
const NO_BOUND: Duration = Duration::from_secs(24 * 3600);

/// Names and values of headers.
pub type Headers = Vec<(Cow<'static, str>, String)>;

/// The bounds on time are up to the caller: `webhooks.attempt_timeout_s` and `webhooks.connect_timeout_s`.
#[derive(Clone, Debug)]
pub struct Attempt<'a> {
    pub url: &'a Target,
    /// Names and values as [`header_allowed`] takes them; others are left out and logged.
    pub headers: Headers,
    /// What is posted. With an empty body the bound on connecting covers the answer as well.
    pub body: Bytes,
    /// For the whole attempt: DNS, connecting, TLS, sending, the answer with its body, and the second try.
    pub deadline: Duration,
    /// For DNS, connecting and TLS together.
    pub connect_timeout: Duration,
}

/// What TLS trusts and speaks: the roots of Mozilla and `extra_roots` (tests, private authorities), HTTP/1.1 by ALPN.
/// To be made once and shared: it also holds the sessions to resume.
///
/// An error means that one of the extra certificates cannot be read.
pub fn tls_config(extra_roots: &[CertificateDer<'static>]) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for root in extra_roots {
        roots.add(root.clone())?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The client of one arbiter.
pub struct DeliveryClient {
    http: awc::Client,
    connector: Connector,
    sweep: JoinHandle<()>,
}

impl Drop for DeliveryClient {
    fn drop(&mut self) {
        self.sweep.abort();
    }
}

/// How a try ended that brought no response head.
enum NoAnswer {
    Elapsed,
    Failed(SendRequestError),
}

impl DeliveryClient {
    /// A client whose connections pass the check of targets. To be called on the arbiter that will use it.
    pub fn new(target_check: Arc<TargetCheck>, tls: Arc<ClientConfig>) -> DeliveryClient {
        let connector = Connector::new(target_check);
        let pool = awc::Connector::new()
            .connector(connector.clone())
            .rustls_0_23(tls)
            .timeout(NO_BOUND)
            .handshake_timeout(NO_BOUND)
            .conn_keep_alive(IDLE)
            .conn_lifetime(LIFETIME)
            .limit(0);
        let builder = awc::Client::builder().connector(pool).disable_timeout().disable_redirects();
        let sweeper = connector.clone();
        let sweep = actix_rt::spawn(async move {
            let mut timer = actix_rt::time::interval(IDLE / 2);
            loop {
                timer.tick().await;
                sweeper.close_idle(None, IDLE);
            }
        });
        DeliveryClient { http: builder.no_default_headers().finish(), connector, sweep }
    }

    /// Closes the connections that nobody has used for so long. It happens by itself after 30 seconds.
    pub fn close_idle(&self, at_least: Duration) {
        self.connector.close_idle(None, at_least);
    }

    /// Makes one attempt. It never fails as such: whatever happens is an outcome.
    ///
    /// A receiver may close a resting connection at the moment in which it is used again. If that connection ends before
    /// a byte of the answer, the request is sent once more, over a new connection and within the same deadline.
    pub async fn send(&self, attempt: Attempt<'_>) -> Outcome {
        let started = Instant::now();
        let deadline = started + attempt.deadline;
        let mut outcome = match Uri::try_from(attempt.url.url.as_str()) {
            Ok(uri) => match self.attempt(&attempt, &uri, deadline, false).await {
                Ok(outcome) => outcome,
                Err(DeadConnection) => {
                    self.connector.close_idle(uri.authority(), Duration::ZERO);
                    // The last try has an outcome in any case.
                    self.attempt(&attempt, &uri, deadline, true).await.unwrap_or_default()
                }
            },
            Err(error) => {
                let detail = format!("the url cannot be requested ({error}); save the webhook with another one");
                Outcome { error: Some(FailureCode::TargetForbidden), detail, ..Outcome::default() }
            }
        };
        outcome.timings.total_us = micros(started.elapsed());
        outcome
    }

    async fn attempt(
        &self,
        attempt: &Attempt<'_>,
        uri: &Uri,
        deadline: Instant,
        last: bool,
    ) -> Result<Outcome, DeadConnection> {
        let connect_by = deadline.min(Instant::now() + attempt.connect_timeout);
        let trace = Rc::new(Trace::new(connect_by));
        let mut timer = pin!(tokio::time::sleep_until(connect_by.into()));
        let request = TRACE.scope(Rc::clone(&trace), self.request(attempt, uri, &trace));
        let answer = head_or_elapsed(request, timer.as_mut(), deadline, &trace).await;

        let answered = Instant::now();
        let mut outcome = Outcome { reused: !trace.fresh.get(), ..Outcome::default() };
        match answer {
            Ok(mut response) => {
                note_head(&mut outcome, &response);
                timer.as_mut().reset(deadline.into());
                let end = read_body(&mut response, timer, &mut outcome).await;
                conclude(&mut outcome, end);
            }
            Err(NoAnswer::Failed(error)) => {
                if !last && outcome.reused && died_unanswered(&error, &trace) {
                    return Err(DeadConnection);
                }
                let (code, detail) = diagnose(error, &trace);
                (outcome.error, outcome.detail) = (Some(code), detail);
            }
            Err(NoAnswer::Elapsed) => {
                (outcome.error, outcome.detail) = (Some(FailureCode::Timeout), stage(&trace).to_owned());
            }
        }
        outcome.timings = timings(&trace, outcome.status.map(|_| answered));
        if let Some(connection) = trace.connection.borrow_mut().take() {
            outcome.address = Some(connection.address);
            connection.rest();
        }
        Ok(outcome)
    }

    fn request(&self, attempt: &Attempt<'_>, uri: &Uri, trace: &Rc<Trace>) -> awc::SendClientRequest {
        let mut request = self.http.post(uri).no_decompress();
        let headers = request.headers_mut();
        if let Ok(host) = HeaderValue::from_str(&attempt.url.authority) {
            headers.insert(HOST, host);
        }
        for (name, value) in &attempt.headers {
            let pair = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value));
            match (header_allowed(name, value), pair) {
                (Ok(()), (Ok(name), Ok(value))) => headers.append(name, value),
                _ => log::warn!("a header of a webhook was left out: {name:?} cannot be sent"),
            }
        }
        request.send_body(Posted { body: Some(attempt.body.clone()), trace: Rc::clone(trace) })
    }
}

/// A connection of the pool ended before a byte of the answer.
struct DeadConnection;

/// The request's body. awc takes it when the connection stands, TLS included: that moment is noted.
struct Posted {
    body: Option<Bytes>,
    trace: Rc<Trace>,
}

impl MessageBody for Posted {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.body.as_ref().map_or(0, |body| body.len() as u64))
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        if self.trace.established.get().is_none() {
            self.trace.established.set(Some(Instant::now()));
        }
        Poll::Ready(self.body.take().map(Ok))
    }
}

/// Waits for the response's head. The timer is set to the end of connecting; it is set again to the deadline when it
/// fires with the connection standing. So an attempt that is quick sets a single timer.
async fn head_or_elapsed(
    request: impl Future<Output = Result<ClientResponse, SendRequestError>>,
    mut timer: Pin<&mut Sleep>,
    deadline: Instant,
    trace: &Trace,
) -> Result<ClientResponse, NoAnswer> {
    let mut request = pin!(request);
    poll_fn(|cx| {
        if let Poll::Ready(answer) = request.as_mut().poll(cx) {
            return Poll::Ready(answer.map_err(NoAnswer::Failed));
        }
        while timer.as_mut().poll(cx).is_ready() {
            if trace.established.get().is_none() || Instant::now() >= deadline {
                return Poll::Ready(Err(NoAnswer::Elapsed));
            }
            timer.as_mut().reset(deadline.into());
        }
        Poll::Pending
    })
    .await
}

/// How the reading of a response's body ended.
enum BodyEnd {
    Whole,
    TooLarge,
    Elapsed,
    Broken(String),
}

/// Reads the body to its end, so that the connection can be used again, within the bounds of bytes and time.
async fn read_body(response: &mut ClientResponse, mut timer: Pin<&mut Sleep>, outcome: &mut Outcome) -> BodyEnd {
    let mut kept = BytesMut::new();
    let mut read_bytes = 0;
    let end = poll_fn(|cx| {
        loop {
            match Pin::new(&mut *response).poll_next(cx) {
                Poll::Ready(Some(Ok(chunk))) => {
                    let room = BODY_KEPT_BYTES - kept.len();
                    kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
                    read_bytes += chunk.len();
                    if read_bytes > BODY_READ_BYTES {
                        return Poll::Ready(BodyEnd::TooLarge);
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(BodyEnd::Broken(error.to_string())),
                Poll::Ready(None) => return Poll::Ready(BodyEnd::Whole),
                Poll::Pending => return timer.as_mut().poll(cx).map(|()| BodyEnd::Elapsed),
            }
        }
    })
    .await;
    outcome.body_kept = kept.freeze();
    end
}

fn note_head(outcome: &mut Outcome, response: &ClientResponse) {
    outcome.status = Some(response.status().as_u16());
    outcome.response_headers = bounded_headers(response.headers());
    let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    outcome.retry_after = asked.and_then(|value| retry_after(value, SystemTime::now()));
}

fn bounded_headers(headers: &HeaderMap) -> Kept {
    let mut room = HEADERS_KEPT_BYTES;
    let mut kept = Kept::default();
    for (name, value) in headers.iter().take(HEADERS_KEPT) {
        let value = String::from_utf8_lossy(value.as_bytes());
        let Some(left) = room.checked_sub(name.as_str().len() + value.len()) else { break };
        room = left;
        kept.push(name.as_str(), &value);
    }
    kept.shrink();
    kept
}

/// The status decides; the body only adds that it came too late or was too long.
fn conclude(outcome: &mut Outcome, end: BodyEnd) {
    let success = outcome.status.is_some_and(|status| (200..300).contains(&status));
    let about_body = match end {
        BodyEnd::Whole => String::new(),
        BodyEnd::TooLarge => {
            outcome.error = Some(FailureCode::ResponseTooLarge);
            format!("the response's body is longer than {BODY_READ_BYTES} bytes")
        }
        BodyEnd::Elapsed => {
            outcome.error = Some(FailureCode::Timeout);
            "the response's body did not end in time".to_owned()
        }
        BodyEnd::Broken(reason) => format!("the response's body broke off ({reason})"),
    };
    outcome.detail = about_body;
    if let (false, Some(status)) = (success, outcome.status) {
        let phrase = StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("unknown status");
        let about_body = if outcome.detail.is_empty() { String::new() } else { format!("; {}", outcome.detail) };
        outcome.error = Some(FailureCode::HttpStatus);
        outcome.detail = format!("the receiver answered {status} ({phrase}){about_body}");
    }
}

/// Whether the connection ended before a byte of the answer. Only said when it is sure.
fn died_unanswered(error: &SendRequestError, trace: &Trace) -> bool {
    let ended = |error: &io::Error| {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
        let kinds = [BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof];
        kinds.contains(&error.kind()) && trace.read_bytes.get() == 0
    };
    match error {
        SendRequestError::Connect(ConnectError::Disconnected) => true,
        SendRequestError::Send(error) | SendRequestError::Response(ParseError::Io(error)) => ended(error),
        _ => false,
    }
}

/// What awc's error means in the delivery log.
fn diagnose(error: SendRequestError, trace: &Trace) -> (FailureCode, String) {
    if let Some(failure) = trace.failure.borrow_mut().take() {
        return failure;
    }
    let broken = |error: &io::Error| match is_tls(error) {
        true => (FailureCode::TlsError, format!("TLS failed: {error}")),
        false => (FailureCode::ConnectionReset, format!("the connection broke off before an answer: {error}")),
    };
    match &error {
        SendRequestError::Connect(ConnectError::Io(error)) => handshake_failure(error),
        SendRequestError::Connect(ConnectError::Timeout) | SendRequestError::Timeout => {
            (FailureCode::Timeout, stage(trace).to_owned())
        }
        SendRequestError::Connect(ConnectError::Disconnected) => {
            (FailureCode::ConnectionReset, "the receiver closed the connection without an answer".to_owned())
        }
        SendRequestError::Send(error) | SendRequestError::Response(ParseError::Io(error)) => broken(error),
        SendRequestError::Response(ParseError::TooLarge) => {
            (FailureCode::ResponseTooLarge, "the response's head is too long".to_owned())
        }
        SendRequestError::Response(error) => (FailureCode::HttpStatus, format!("the answer is not HTTP/1.1: {error}")),
        error => (FailureCode::ConnectionReset, format!("the request could not be sent: {error}")),
    }
}

/// TCP stood, the request did not begin: what failed is the handshake, or the network under it.
fn handshake_failure(error: &io::Error) -> (FailureCode, String) {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    match error.kind() {
        BrokenPipe | ConnectionAborted | ConnectionReset => {
            (FailureCode::ConnectionReset, format!("the connection broke off in the TLS handshake: {error}"))
        }
        _ => (FailureCode::TlsError, format!("the TLS handshake failed: {error}")),
    }
}

fn is_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

/// Where an attempt stood when its time was up.
fn stage(trace: &Trace) -> &'static str {
    match (trace.established.get(), trace.dialled.get(), trace.dns.get()) {
        (Some(_), _, _) => "no whole response head came in time",
        (None, Some(_), _) => "the TLS handshake did not end in time",
        (None, None, Some(_)) => "the connection did not stand in time",
        (None, None, None) => "the name was not resolved, or the connection did not stand, in time",
    }
}

fn timings(trace: &Trace, answered: Option<Instant>) -> Timings {
    let established = trace.established.get();
    let tls = trace.dialled.get().zip(established).map(|(dialled, stood)| stood - dialled);
    let https = trace.connection.borrow().as_ref().is_some_and(|connection| connection.https);
    Timings {
        dns_us: trace.dns.get().map(micros),
        connect_us: trace.connect.get().map(micros),
        tls_us: tls.filter(|_| https).map(micros),
        first_byte_us: established.zip(answered).map(|(stood, answered)| micros(answered - stood)),
        total_us: 0,
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
