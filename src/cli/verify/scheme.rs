//! What each format signs, in which headers, and what can be wrong about them.

use actors::model::signature::{self, Secret, Unverified};
use actors::model::source::{Authentication, HmacAlgorithm, Incoming, Scheme, Untrusted, Verifier};
use actors::model::timestamp::to_iso;
use clap::ValueEnum;

use super::request::Request;

/// How a request is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// X-Wanderer-Signature: HMAC-SHA256 over timestamp and body
    Map,
    /// webhook-signature (Standard Webhooks): HMAC-SHA256 over id, timestamp and body
    Standard,
    /// X-Webhook-Hmac: HMAC-SHA512 over the body
    Gateway,
    /// X-AeorDB-Signature: HMAC-SHA256 over the body
    Feed,
    /// X-Webhook-Signature, as senders sign for a source: HMAC-SHA256 or HMAC-SHA512 over timestamp and body
    Source,
}

/// A signature that is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The header that holds it.
    pub header: &'static str,
    pub by_previous: bool,
    /// When it was made, in Unix milliseconds, where the format says it.
    pub at_ms: Option<i64>,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("the header {0} is missing")]
    Missing(&'static str),
    #[error("the header {header} is {given:?}, and {expected} is expected")]
    Malformed { header: &'static str, given: String, expected: &'static str },
    #[error("the secret cannot be one of this format: {0}")]
    Secret(String),
    #[error("the signature does not match")]
    Mismatch,
}

const HEX_256: &str = "sha256= and 64 hexadecimal digits";
const HEX_512: &str = "128 hexadecimal digits";
const HEX_EITHER: &str = "sha256= and 64 hexadecimal digits, or sha512= and 128,";
const SECONDS: &str = "a whole number of Unix seconds";
const MILLISECONDS: &str = "a whole number of Unix milliseconds";

impl Format {
    /// Every format; those that only their own requests have before the one that others carry too.
    pub const OWN_FIRST: [Format; 5] = [Format::Map, Format::Gateway, Format::Feed, Format::Source, Format::Standard];

    /// The format whose signature a request has; its own before that of Standard Webhooks, which any format may carry.
    pub fn of(request: &Request) -> Option<Format> {
        Format::OWN_FIRST
            .into_iter()
            .find(|format| format.headers().iter().any(|header| request.header(header).is_some()))
    }

    pub fn name(self) -> &'static str {
        match self {
            Format::Map => "map",
            Format::Standard => "standard",
            Format::Gateway => "gateway",
            Format::Feed => "feed",
            Format::Source => "source",
        }
    }

    pub fn algorithm(self, request: &Request) -> &'static str {
        match self {
            Format::Gateway => "HMAC-SHA512",
            Format::Map | Format::Standard | Format::Feed => "HMAC-SHA256",
            Format::Source => match source_algorithm(request) {
                HmacAlgorithm::Sha256 => "HMAC-SHA256",
                HmacAlgorithm::Sha512 => "HMAC-SHA512",
            },
        }
    }

    /// The headers that may hold the signature: that of the current secret, then that of the one before.
    pub fn headers(self) -> &'static [&'static str] {
        match self {
            Format::Map => &["X-Wanderer-Signature", "X-Wanderer-Signature-Previous"],
            Format::Standard => &["webhook-signature"],
            Format::Gateway => &["X-Webhook-Hmac", "X-Webhook-Hmac-Previous"],
            Format::Feed => &["X-AeorDB-Signature", "X-AeorDB-Signature-Previous"],
            Format::Source => &["X-Webhook-Signature"],
        }
    }

    /// Whether the secret signed the request. How old it is, is for [`judge_age`].
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn verify(self, secret: &str, request: &Request) -> Result<Proof, Fault> {
        let present: Vec<_> = self.headers().iter().filter(|header| request.header(header).is_some()).collect();
        if present.is_empty() {
            return Err(Fault::Missing(self.headers()[0]));
        }
        let at_ms = self.time(request)?;
        let mut fault = Fault::Mismatch;
        for header in present {
            match self.verify_one(secret, request, header) {
                Ok(()) => return Ok(Proof { header, by_previous: *header != self.headers()[0], at_ms }),
                // a header that cannot be read says more than one that does not match
                Err(other) if fault == Fault::Mismatch => fault = other,
                Err(_) => {}
            }
        }
        Err(fault)
    }

    fn verify_one(self, secret: &str, request: &Request, header: &'static str) -> Result<(), Fault> {
        let given = request.header(header).ok_or(Fault::Missing(header))?;
        let key = match self {
            Format::Standard => Secret::from_standard(secret),
            Format::Map | Format::Gateway | Format::Feed | Format::Source => Secret::from_text(secret),
        };
        let key = key.map_err(|e| Fault::Secret(e.to_string()))?;
        let body = &request.body;
        let (verdict, expected) = match self {
            Format::Map => {
                let timestamp = required(request, "X-Wanderer-Timestamp")?;
                (signature::verify_map(&key, timestamp, body, given), HEX_256)
            }
            Format::Standard => {
                let id = required(request, "webhook-id")?;
                let timestamp = required(request, "webhook-timestamp")?;
                // the time is judged apart from the signature: at its own time it is never stale
                let at_s = timestamp.parse().unwrap_or(0);
                let verdict = signature::verify_standard(&key, id, timestamp, given, body, at_s, 0);
                (verdict, "v1, and base64, once or separated by spaces")
            }
            Format::Gateway => (signature::verify_gateway(&key, body, given), HEX_512),
            Format::Feed => (signature::verify_feed(&key, body, given), HEX_256),
            Format::Source => return verify_source(secret, request, header, given),
        };
        verdict.map_err(|unverified| match unverified {
            Unverified::Malformed => Fault::Malformed { header, given: given.to_owned(), expected },
            Unverified::Secret => Fault::Secret(unverified.to_string()),
            // the time was found to be a number before
            Unverified::Timestamp | Unverified::Stale | Unverified::Mismatch => Fault::Mismatch,
        })
    }

    /// When the request was signed, where the format has a header for it.
    fn time(self, request: &Request) -> Result<Option<i64>, Fault> {
        let (header, unit_ms, expected) = match self {
            Format::Map => ("X-Wanderer-Timestamp", 1000, SECONDS),
            Format::Standard => ("webhook-timestamp", 1000, SECONDS),
            Format::Gateway | Format::Source => ("X-Webhook-Timestamp", 1, MILLISECONDS),
            Format::Feed => return Ok(None),
        };
        let given = match (self, request.header(header)) {
            (_, Some(given)) => given,
            // it is not part of what is signed
            (Format::Gateway, None) => return Ok(None),
            (_, None) => return Err(Fault::Missing(header)),
        };
        let number: Option<i64> = given.parse().ok();
        let at_ms = number.and_then(|number| number.checked_mul(unit_ms));
        at_ms.map(Some).ok_or_else(|| Fault::Malformed { header, given: given.to_owned(), expected })
    }
}

fn required<'a>(request: &'a Request, header: &'static str) -> Result<&'a str, Fault> {
    request.header(header).ok_or(Fault::Missing(header))
}

/// What the sender chose, by the beginning of its signature.
fn source_algorithm(request: &Request) -> HmacAlgorithm {
    let given = request.header("X-Webhook-Signature").unwrap_or_default();
    if given.starts_with("sha512=") { HmacAlgorithm::Sha512 } else { HmacAlgorithm::Sha256 }
}

/// Asks the code that sources ask, at the request's own time.
fn verify_source(secret: &str, request: &Request, header: &'static str, given: &str) -> Result<(), Fault> {
    let timestamp = required(request, "X-Webhook-Timestamp")?;
    let hmac_algorithm = source_algorithm(request);
    let scheme = Scheme { hmac_algorithm, ..Scheme::of(Authentication::Hmac) };
    let verifier = Verifier::new(scheme, Some(secret), None).map_err(|e| Fault::Secret(format!("it {e}")))?;
    let headers = [("X-Webhook-Timestamp", timestamp), (header, given)];
    // that it is a number was found before
    let at_ms = timestamp.parse().unwrap_or(0);
    match verifier.verify(&Incoming::of(&headers.as_slice(), &request.body), at_ms) {
        Ok(_) => Ok(()),
        Err(Untrusted::Mismatch) => Err(Fault::Mismatch),
        Err(_) => Err(Fault::Malformed { header, given: given.to_owned(), expected: HEX_EITHER }),
    }
}

/// How old a signature is, in words; an error when that is more than it may be, in either direction.
///
/// # Errors
/// How old it is, and what may be the reason.
pub fn judge_age(at_ms: i64, now_ms: i64, tolerance_s: u32) -> Result<String, String> {
    let age_s = now_ms.saturating_sub(at_ms).div_euclid(1000);
    let words = match age_s {
        0.. => format!("made {age_s} s ago"),
        _ => format!("made {} s in the future", age_s.unsigned_abs()),
    };
    if age_s.unsigned_abs() <= u64::from(tolerance_s) {
        return Ok(format!(", {words}"));
    }
    let advice = match age_s {
        0.. => "an old request was sent again, or the clock of this machine is ahead",
        _ => "the clock of this machine is behind, or the timestamp has another unit",
    };
    Err(format!(
        "the signature matches, but it was {words} ({}), which is more than {tolerance_s} s: {advice}; \
         --no-age looks at the signature alone",
        to_iso(at_ms)
    ))
}
