//! The outcome of one attempt, as the delivery log shows it.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::delivery::http::headers::Headers;
use crate::model::delivery::FailureCode;

/// The response body that is kept, in bytes.
pub const BODY_KEPT_BYTES: usize = 4 * 1024;
/// The response body that is read, in bytes: so much is drained to keep the connection.
pub const BODY_READ_BYTES: usize = 64 * 1024;
/// Response headers that are kept: how many, and how many bytes of names and values together.
pub const HEADERS_KEPT: usize = 64;
/// See [`HEADERS_KEPT`].
pub const HEADERS_KEPT_BYTES: usize = 8 * 1024;

/// How long the parts of an attempt took, in microseconds. A part that did not happen (a reused connection needs no
/// DNS, a plain one no TLS) or did not end has no time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_us: Option<u64>,
    /// From the start of the request, the connection standing, to the head of the response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_us: Option<u64>,
    pub total_us: u64,
}

/// The outcome of one attempt.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The status, if an answer came.
    pub status: Option<u16>,
    /// Why the attempt failed; with a 2xx also [`FailureCode::ResponseTooLarge`], which is no failure.
    pub error: Option<FailureCode>,
    /// For people: what went wrong. Empty when nothing did.
    pub detail: String,
    /// The first headers of the response, at most [`HEADERS_KEPT`].
    pub response_headers: Headers,
    /// The first bytes of the response's body, at most [`BODY_KEPT_BYTES`].
    pub body_kept: Bytes,
    /// What the receiver asked for by `Retry-After`, from now on.
    pub retry_after: Option<Duration>,
    pub timings: Timings,
    /// The request went over a connection that an earlier one had opened.
    pub reused: bool,
    /// Where the request went.
    pub address: Option<SocketAddr>,
}

impl Outcome {
    /// Whether the delivery is done: the receiver answered 2xx in time. A body beyond [`BODY_READ_BYTES`] does not
    /// change that, since the receiver has said that it took the event.
    pub fn succeeded(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
            && matches!(self.error, None | Some(FailureCode::ResponseTooLarge))
    }
}

/// Reads `Retry-After` (RFC 9110, 10.2.3): seconds or a date. Fractions, as Discord sends them, are rounded up; a date
/// in the past is zero.
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    if value.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        let seconds = value.parse::<f64>().ok()?.ceil();
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 60);
        for (value, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("0.65", Some(1)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(60)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("99999999999999999999999", None),
            ("-1", None),
            ("1e9", None),
            (".", None),
            ("", None),
            ("soon", None),
        ] {
            assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value}");
        }
    }

    #[test]
    fn a_2xx_succeeds_unless_it_came_too_late() {
        let outcome = |status, error| Outcome { status, error, ..Outcome::default() };
        assert!(outcome(Some(204), None).succeeded());
        assert!(outcome(Some(200), Some(FailureCode::ResponseTooLarge)).succeeded());
        assert!(!outcome(Some(200), Some(FailureCode::Timeout)).succeeded());
        for status in [100, 199, 300, 302, 400, 410, 500] {
            assert!(!outcome(Some(status), Some(FailureCode::HttpStatus)).succeeded());
        }
        assert!(!outcome(None, Some(FailureCode::ResponseTooLarge)).succeeded());
    }
}
