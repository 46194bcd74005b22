//! The bytes of one request (RFC 9112, 3): its head and behind it the body.

use std::fmt::Write;
use std::time::SystemTime;

use awc::http::Uri;
use bytes::buf::Chain;
use bytes::{Buf, Bytes};

use crate::delivery::http::client::Attempt;
use crate::model::target::header_sendable;

/// Room for the usual head.
const HEAD_BYTES: usize = 1024;

pub(super) type Request = Chain<Bytes, Bytes>;

/// The request of an attempt, most often a POST. Headers keep their order and their names as they are given; one that cannot be sent is left
/// out and logged.
pub(super) fn post(attempt: &Attempt<'_>, uri: &Uri) -> Request {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let (method, host, length) = (attempt.method, &attempt.url.authority, attempt.body.len());
    let mut head = String::with_capacity(HEAD_BYTES);
    // writing into a String cannot fail
    let _ = write!(head, "{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
    // where a method expects no content, none is not mentioned (RFC 9110, 8.6)
    if length > 0 || ["POST", "PUT", "PATCH"].contains(&method) {
        let _ = write!(head, "Content-Length: {length}\r\n");
    }
    // a request that goes on as it came has the date of its sender, which may be signed
    if !attempt.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("date")) {
        let _ = write!(head, "Date: {}\r\n", httpdate::HttpDate::from(SystemTime::now()));
    }
    for (name, value) in &attempt.headers {
        match header_sendable(name, value) {
            Ok(()) => head.extend([name, ": ", value.trim_matches([' ', '\t']), "\r\n"]),
            Err(reason) => log::warn!("a header of a webhook was left out: {name:?}: {reason}"),
        }
    }
    head.push_str("\r\n");
    Bytes::from(head).chain(attempt.body.clone())
}
