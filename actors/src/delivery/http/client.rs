//! One attempt of a delivery: a POST, one deadline around all of it, and its outcome.
//!
//! HTTP/1.1 with or without TLS; redirects are answers like any other, and no environment variable names a proxy. A client
//! belongs to one arbiter: it is not `Send`, and its connections are reused by that arbiter only. It sets no limit of its
//! own on attempts in flight; every webhook has its own.

use std::borrow::Cow;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use actix_rt::task::JoinHandle;
use awc::http::{StatusCode, Uri};
use bytes::Bytes;
use rustls::ClientConfig;
use tokio::time::Sleep;

use crate::delivery::http::answer::BadAnswer;
use crate::delivery::http::connection::Connection;
use crate::delivery::http::connector::{Connector, Failure, Progress};
use crate::delivery::http::exchange::{Answer, End, Exchange, READ_BYTES};
use crate::delivery::http::pool::{IDLE, Origin, Pool};
use crate::delivery::http::request;
use crate::delivery::http::target::TargetCheck;
use crate::delivery::http::tls::in_words;
use crate::delivery::outcome::{BODY_READ_BYTES, Outcome, Timings, retry_after};
use crate::model::delivery::FailureCode;
use crate::model::target::Target;

/// Names and values of headers.
pub type Headers = Vec<(Cow<'static, str>, String)>;

/// The bounds on time are up to the caller: `webhooks.attempt_timeout_s` and `webhooks.connect_timeout_s`.
#[derive(Clone, Debug)]
pub struct Attempt<'a> {
    /// `POST`, unless a request is sent on as it came.
    pub method: &'a str,
    pub url: &'a Target,
    /// Names and values as [`header_sendable`](crate::model::target::header_sendable) takes them; others are left out and logged.
    pub headers: Headers,
    /// What is posted.
    pub body: Bytes,
    /// For the whole attempt: DNS, connecting, TLS, sending, the answer with its body, and the second try.
    pub deadline: Duration,
    /// For DNS, connecting and TLS together.
    pub connect_timeout: Duration,
}

/// The client of one arbiter.
pub struct DeliveryClient {
    connector: Connector,
    pool: Rc<RefCell<Pool>>,
    /// Room that every attempt reads into.
    buffer: RefCell<Box<[u8]>>,
    sweep: JoinHandle<()>,
}

impl Drop for DeliveryClient {
    fn drop(&mut self) {
        self.sweep.abort();
    }
}

/// A connection of the pool ended before a byte of the answer.
struct DeadConnection;

/// How a try ended: with no connection, in an exchange, or with its time.
enum Tried {
    NotConnected(Failure),
    NotConnectedInTime,
    Ended(End),
    Elapsed,
}

impl DeliveryClient {
    /// A client whose connections pass the check of targets. To be called on the arbiter that will use it.
    pub fn new(target_check: Arc<TargetCheck>, tls: Arc<ClientConfig>) -> DeliveryClient {
        let pool = Rc::new(RefCell::new(Pool::default()));
        let swept = Rc::clone(&pool);
        let sweep = actix_rt::spawn(async move {
            let mut timer = actix_rt::time::interval(IDLE / 2);
            loop {
                timer.tick().await;
                swept.borrow_mut().close_idle(IDLE);
            }
        });
        let buffer = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
        DeliveryClient { connector: Connector::new(target_check, tls), pool, buffer, sweep }
    }

    /// Closes the connections that nobody has used for so long. It happens by itself after 30 seconds.
    pub fn close_idle(&self, at_least: Duration) {
        self.pool.borrow_mut().close_idle(at_least);
    }

    /// Makes one attempt. It never fails as such: whatever happens is an outcome.
    ///
    /// A receiver may close a resting connection at the moment in which it is used again. If that connection ends before
    /// a byte of the answer, the request is sent once more, over a new connection and within the same deadline.
    pub async fn send(&self, attempt: Attempt<'_>) -> Outcome {
        #[cfg(test)]
        if let Some(receivers) = super::simulated::here() {
            return receivers(attempt.url.url.as_str(), &attempt.body).await;
        }
        let started = Instant::now();
        let deadline = started + attempt.deadline;
        let uri = Uri::try_from(attempt.url.url.as_str());
        let mut outcome = match uri.as_ref().map(|uri| (uri, origin(uri))) {
            Ok((uri, Some(origin))) => match self.attempt(&attempt, uri, &origin, deadline, false).await {
                Ok(outcome) => outcome,
                Err(DeadConnection) => {
                    self.pool.borrow_mut().close(&origin);
                    // The last try has an outcome in any case.
                    self.attempt(&attempt, uri, &origin, deadline, true).await.unwrap_or_default()
                }
            },
            Ok((_, None)) => refused("it has no host"),
            Err(error) => refused(&error.to_string()),
        };
        outcome.timings.total_us = micros(started.elapsed());
        outcome
    }

    async fn attempt(
        &self,
        attempt: &Attempt<'_>,
        uri: &Uri,
        origin: &Origin,
        deadline: Instant,
        last: bool,
    ) -> Result<Outcome, DeadConnection> {
        let mut outcome = Outcome::default();
        let mut progress = Progress::default();
        let connect_by = deadline.min(Instant::now() + attempt.connect_timeout);
        let mut timer = pin!(tokio::time::sleep_until(connect_by.into()));

        let resting = poll_fn(|cx| Poll::Ready(self.pool.borrow_mut().take(origin, cx))).await;
        outcome.reused = resting.is_some();
        let connected = match resting {
            Some(connection) => Ok(connection),
            None => self.connect(uri, connect_by, timer.as_mut(), &mut progress).await,
        };
        let mut exchange = Exchange::new(request::post(attempt, uri), attempt.method == "HEAD");
        let began = Instant::now();
        let tried = match connected {
            Ok(mut connection) => {
                progress.address = Some(connection.address);
                timer.as_mut().reset(deadline.into());
                let tried = self.exchange(&mut exchange, &mut connection, timer).await;
                if let Tried::Ended(End::Whole { persists: true }) = tried {
                    self.pool.borrow_mut().put(origin, connection);
                }
                tried
            }
            Err(tried) => tried,
        };
        let mut answer = exchange.answer;
        if let Tried::Ended(end) = &tried
            && !last
            && outcome.reused
            && !answer.began
            && is_dead(end)
        {
            return Err(DeadConnection);
        }
        outcome.address = progress.address;
        outcome.timings = Timings {
            dns_us: progress.dns.map(micros),
            connect_us: progress.connect.map(micros),
            tls_us: progress.tls.map(micros),
            first_byte_us: answer.head.as_ref().map(|(_, at)| micros(*at - began)),
            total_us: 0,
        };
        note_answer(&mut outcome, &mut answer);
        conclude(&mut outcome, tried, &progress);
        Ok(outcome)
    }

    async fn connect(
        &self,
        uri: &Uri,
        by: Instant,
        timer: Pin<&mut Sleep>,
        progress: &mut Progress,
    ) -> Result<Connection, Tried> {
        tokio::select! {
            biased;
            connected = self.connector.connect(uri, by, progress) => connected.map_err(Tried::NotConnected),
            () = timer => Err(Tried::NotConnectedInTime),
        }
    }

    /// Sends the request and reads the answer to its end, within the bounds of bytes and time.
    async fn exchange(
        &self,
        exchange: &mut Exchange,
        connection: &mut Connection,
        mut timer: Pin<&mut Sleep>,
    ) -> Tried {
        poll_fn(|cx| {
            let mut buffer = self.buffer.borrow_mut();
            match exchange.poll(cx, &mut connection.stream, &mut buffer) {
                Poll::Ready(end) => Poll::Ready(Tried::Ended(end)),
                Poll::Pending => timer.as_mut().poll(cx).map(|()| Tried::Elapsed),
            }
        })
        .await
    }
}

fn origin(uri: &Uri) -> Option<Origin> {
    Some(Origin { https: uri.scheme_str() == Some("https"), authority: uri.authority()?.clone() })
}

/// Whether the connection was gone before the request came. Only said when it is sure.
fn is_dead(end: &End) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    match end {
        End::Closed => true,
        End::Failed(error) => {
            [BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof].contains(&error.kind())
        }
        _ => false,
    }
}

fn refused(reason: &str) -> Outcome {
    let detail = format!("the url cannot be requested ({reason}); save the webhook with another one");
    Outcome { error: Some(FailureCode::TargetForbidden), detail, ..Outcome::default() }
}

fn note_answer(outcome: &mut Outcome, answer: &mut Answer) {
    let Some((head, _)) = answer.head.take() else { return };
    outcome.status = Some(head.status);
    outcome.response_headers = head.headers;
    outcome.retry_after = head.retry_after.and_then(|value| retry_after(&value, SystemTime::now()));
    outcome.body_kept = answer.take_body();
}

/// The status decides; the body only adds that it came too late or was too long.
fn conclude(outcome: &mut Outcome, tried: Tried, progress: &Progress) {
    let Some(status) = outcome.status else {
        let (code, detail) = without_answer(tried, progress);
        (outcome.error, outcome.detail) = (Some(code), detail);
        return;
    };
    let about_body = match tried {
        Tried::Ended(End::TooLarge) => {
            outcome.error = Some(FailureCode::ResponseTooLarge);
            format!("the response's body is longer than {BODY_READ_BYTES} bytes")
        }
        Tried::Elapsed => {
            outcome.error = Some(FailureCode::Timeout);
            "the response's body did not end in time".to_owned()
        }
        Tried::Ended(End::BodyBroken(reason)) => format!("the response's body broke off ({reason})"),
        _ => String::new(),
    };
    outcome.detail = about_body;
    if !(200..300).contains(&status) {
        let phrase = StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("unknown status");
        let about_body = if outcome.detail.is_empty() { String::new() } else { format!("; {}", outcome.detail) };
        outcome.error = Some(FailureCode::HttpStatus);
        outcome.detail = format!("the receiver answered {status} ({phrase}){about_body}");
    }
}

/// Why there is no answer.
fn without_answer(tried: Tried, progress: &Progress) -> (FailureCode, String) {
    match tried {
        Tried::NotConnected(failure) => failure,
        Tried::NotConnectedInTime => (FailureCode::Timeout, progress.stage().to_owned()),
        Tried::Elapsed => (FailureCode::Timeout, "no whole response head came in time".to_owned()),
        Tried::Ended(End::Bad(bad)) => {
            let code = match bad {
                BadAnswer::LongHead | BadAnswer::ManyLines => FailureCode::ResponseTooLarge,
                _ => FailureCode::HttpStatus,
            };
            (code, bad.to_string())
        }
        Tried::Ended(End::Failed(error)) if is_tls(&error) => {
            (FailureCode::TlsError, format!("TLS failed: {}", in_words(&error)))
        }
        Tried::Ended(End::Failed(error)) => {
            (FailureCode::ConnectionReset, format!("the connection broke off before an answer: {error}"))
        }
        // the other ends have a head before them
        Tried::Ended(_) => {
            (FailureCode::ConnectionReset, "the receiver closed the connection without an answer".to_owned())
        }
    }
}

fn is_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
