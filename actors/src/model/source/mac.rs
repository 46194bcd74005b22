//! HMACs in the lengths that senders use, keyed once and compared in constant time.

use hmac::{Hmac, KeyInit};
use sha1::Sha1;
use sha2::{Sha256, Sha512};

use super::auth::HmacAlgorithm;
use super::recipe::HashAlgorithm;
use crate::model::hex;

/// A keyed HMAC, before it has seen a message.
#[derive(Clone)]
pub(super) enum Mac {
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
    Sha512(Hmac<Sha512>),
}

fn signs(mut mac: impl hmac::Mac, parts: &[&[u8]], given: &[u8]) -> bool {
    parts.iter().for_each(|part| mac.update(part));
    mac.verify_slice(given).is_ok()
}

fn hex(mut mac: impl hmac::Mac, parts: &[&[u8]]) -> String {
    parts.iter().for_each(|part| mac.update(part));
    hex::encode(&mac.finalize().into_bytes())
}

impl Mac {
    pub(super) fn new(algorithm: HashAlgorithm, key: &[u8]) -> Mac {
        // HMAC takes keys of every length (RFC 2104, section 2), so none can fail
        let any = "HMAC takes a key of any length";
        match algorithm {
            HashAlgorithm::Sha1 => Mac::Sha1(Hmac::new_from_slice(key).expect(any)),
            HashAlgorithm::Sha256 => Mac::Sha256(Hmac::new_from_slice(key).expect(any)),
            HashAlgorithm::Sha512 => Mac::Sha512(Hmac::new_from_slice(key).expect(any)),
        }
    }

    /// Whether `given` is the HMAC of the parts one after the other.
    pub(super) fn signs(&self, parts: &[&[u8]], given: &[u8]) -> bool {
        match self.clone() {
            Mac::Sha1(mac) => signs(mac, parts, given),
            Mac::Sha256(mac) => signs(mac, parts, given),
            Mac::Sha512(mac) => signs(mac, parts, given),
        }
    }

    pub(super) fn hex(self, parts: &[&[u8]]) -> String {
        match self {
            Mac::Sha1(mac) => hex(mac, parts),
            Mac::Sha256(mac) => hex(mac, parts),
            Mac::Sha512(mac) => hex(mac, parts),
        }
    }
}

/// What a sender puts into `X-Webhook-Signature`: `sha256=<hex HMAC(key, "<timestamp>.<body>")>`, or `sha512=`.
pub fn sign_hmac(algorithm: HmacAlgorithm, key: &str, timestamp_ms: &str, body: &[u8]) -> String {
    let hex = Mac::new(algorithm.hash(), key.as_bytes()).hex(&[timestamp_ms.as_bytes(), b".", body]);
    format!("{}={hex}", algorithm.as_str())
}
