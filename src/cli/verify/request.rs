//! The request to be judged: from flags, or from a delivery as the server's API shows it.

use std::io::Read;
use std::path::Path;

use serde_json::Value as Json;

use crate::cli::Failure;

/// The largest body; an event has at most 256 KiB by default, a batch more.
const BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Headers and body, as they arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn new(headers: Vec<(String, String)>, body: Vec<u8>) -> Request {
        Request { headers, body }
    }

    /// The value of a header, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.headers.iter().map(|(name, _)| name.as_str())
    }

    /// The request of the latest attempt of a delivery, or of a test, as the server's API answers with it.
    ///
    /// # Errors
    /// Wrong usage for anything else.
    pub fn of_delivery(text: &[u8]) -> Result<Request, Failure> {
        let usage = |reason: String| Failure::Usage(format!("--delivery: {reason}"));
        let expected = "give the answer of GET .../deliveries/{id} or of POST .../test";
        let json: Json =
            serde_json::from_slice(text).map_err(|e| usage(format!("this is no JSON: {e}; {expected}")))?;
        let delivery = json.get("data").unwrap_or(&json);
        let attempts = delivery["attempts"].as_array().map_or(&[][..], Vec::as_slice);
        let attempt = attempts.iter().rev().find(|attempt| has_headers(attempt));
        let Some(attempt) = attempt.or_else(|| has_headers(delivery).then_some(delivery)) else {
            return Err(usage(format!("there is no attempt with request_headers in it; {expected}")));
        };
        let Some(body) = attempt["request_body"].as_str() else {
            return Err(usage("the attempt has no request_body: retention has taken its events".to_owned()));
        };
        let headers = attempt["request_headers"].as_object().into_iter().flatten();
        let headers = headers.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()));
        Ok(Request { headers: headers.collect(), body: body.as_bytes().to_vec() })
    }
}

fn has_headers(attempt: &Json) -> bool {
    attempt["request_headers"].as_object().is_some_and(|headers| !headers.is_empty())
}

/// `Name: value`.
///
/// # Errors
/// What to give instead.
pub fn header(text: &str) -> Result<(String, String), String> {
    let expected = || "give it as 'Name: value'".to_owned();
    let (name, value) = text.split_once(':').ok_or_else(expected)?;
    let (name, value) = (name.trim(), value.trim());
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic());
    if is_name { Ok((name.to_owned(), value.to_owned())) } else { Err(expected()) }
}

/// The bytes of a file, or of standard input for `-`. Blocks.
///
/// # Errors
/// The file cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = match path == Path::new("-") {
        true => std::io::stdin().take(BODY_BYTES_MAX).read_to_end(&mut bytes),
        false => std::fs::File::open(path).and_then(|file| file.take(BODY_BYTES_MAX).read_to_end(&mut bytes)),
    };
    read.map_err(|e| Failure::Usage(format!("cannot read {}: {e}; check its name", path.display())))?;
    Ok(bytes)
}
