//! Secrets of webhooks and the signatures made with them.
//!
//! Each family has a scheme. That of maps: hex HMAC-SHA256 over `<timestamp>.<body>`, keyed by the text of the secret.
//! Those of organizations and of the feed sign the body alone (`plain`). Beside it, whatever the format, Standard Webhooks
//! 1.0 signs the same delivery: base64 HMAC-SHA256 over `<id>.<timestamp>.<body>`, keyed by the bytes that the text of
//! the secret stands for. After a rotation the old secret signs beside the new one until its time is over.
//! Every comparison of secrets and signatures takes a time that does not depend on where they differ.

mod plain;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::hex;
pub use plain::{sign_feed, sign_gateway, verify_feed, verify_gateway};

/// Random bytes in a secret that we make.
pub const SECRET_BYTES: usize = 32;
/// Characters of base64 that show them.
pub const SECRET_CHARS: usize = 44;
/// Bytes of a key of Standard Webhooks, least and most (its specification, "Signature scheme").
pub const STANDARD_KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// What stands before the base64 text of a secret where Standard Webhooks shows it.
pub const STANDARD_PREFIX: &str = "whsec_";
/// The longest secret that somebody may choose, in bytes.
pub const SECRET_TEXT_BYTES_MAX: usize = 512;
/// The most signatures that one `webhook-signature` is searched for; it comes from outside.
const SIGNATURES_MAX: usize = 16;

/// A secret that signs deliveries. It can be shown by [`Secret::reveal`] only: there is no Debug, Display or Serialize,
/// and its memory is overwritten when it is dropped.
#[derive(Clone)]
pub struct Secret {
    text: Zeroizing<Box<[u8]>>,
    /// What the text stands for where it is base64: the key of Standard Webhooks.
    key: Option<Zeroizing<Vec<u8>>>,
}

/// Why a text is no secret; the text is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSecret {
    #[error("a secret is 1 to 512 bytes long; leave it out to have one made")]
    Length,
    #[error("a secret of Standard Webhooks is base64 of 24 to 64 bytes, with or without whsec_ before it")]
    Standard,
}

impl Secret {
    /// A new secret from 32 random bytes; its text is their 44 characters of base64.
    pub fn from_random(random: [u8; SECRET_BYTES]) -> Secret {
        let random = Zeroizing::new(random);
        let text = STANDARD.encode(random.as_slice()).into_bytes().into_boxed_slice();
        Secret { text: Zeroizing::new(text), key: Some(Zeroizing::new(random.to_vec())) }
    }

    /// A secret by its text, as it was stored or as somebody chose it. Standard Webhooks can be signed with it only if
    /// it has the form of those that [`Secret::from_random`] makes, or is written as `whsec_<base64>`.
    ///
    /// # Errors
    /// [`BadSecret::Length`] when it is empty or longer than [`SECRET_TEXT_BYTES_MAX`].
    pub fn from_text(text: &str) -> Result<Secret, BadSecret> {
        if text.is_empty() || text.len() > SECRET_TEXT_BYTES_MAX {
            return Err(BadSecret::Length);
        }
        let decoded = |base64: &str| STANDARD.decode(base64).ok().map(Zeroizing::new);
        let key = match text.strip_prefix(STANDARD_PREFIX) {
            Some(base64) => decoded(base64).filter(|key| STANDARD_KEY_BYTES.contains(&key.len())),
            None if text.len() == SECRET_CHARS => decoded(text).filter(|key| key.len() == SECRET_BYTES),
            None => None,
        };
        Ok(Secret { text: Zeroizing::new(text.as_bytes().into()), key })
    }

    /// A secret as Standard Webhooks writes it, `whsec_<base64>`; the prefix may be missing and is not part of the text.
    ///
    /// # Errors
    /// [`BadSecret::Standard`] when it is not base64 of 24 to 64 bytes.
    pub fn from_standard(text: &str) -> Result<Secret, BadSecret> {
        let text = text.strip_prefix(STANDARD_PREFIX).unwrap_or(text);
        let key = STANDARD.decode(text).map(Zeroizing::new).map_err(|_| BadSecret::Standard)?;
        match STANDARD_KEY_BYTES.contains(&key.len()) {
            true => Ok(Secret { text: Zeroizing::new(text.as_bytes().into()), key: Some(key) }),
            false => Err(BadSecret::Standard),
        }
    }

    /// The text. For the answer to whoever made the secret, and for the encrypted store: for nothing else.
    pub fn reveal(&self) -> &str {
        // the bytes come from a `str` or from base64, so they are always UTF-8
        std::str::from_utf8(&self.text).unwrap_or_default()
    }

    /// Whether Standard Webhooks can be signed with this secret.
    pub fn signs_standard(&self) -> bool {
        self.key.is_some()
    }

    fn map_mac(&self, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
        mac(&self.text, &[timestamp.as_bytes(), b".", body])
    }

    fn standard_mac(&self, id: &str, timestamp: &str, body: &[u8]) -> Option<Hmac<Sha256>> {
        let parts = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
        self.key.as_ref().map(|key| mac(key, &parts))
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.text.ct_eq(&other.text).into()
    }
}

impl Eq for Secret {}

fn mac<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> M {
    // HMAC takes keys of every length (RFC 2104, section 2), so this cannot fail
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac
}

/// The secrets of one webhook: one, or two while a rotation overlaps.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    pub current: Secret,
    /// The secret before the last rotation, and when its time is over, in Unix milliseconds.
    pub previous: Option<(Secret, i64)>,
}

impl Keys {
    pub fn new(current: Secret) -> Keys {
        Keys { current, previous: None }
    }

    /// Makes `new` the current secret; the one before it signs as well until `until_ms` (Unix milliseconds). An older
    /// one whose overlap is not over yet ends here: there are never more than two.
    pub fn rotate(&mut self, new: Secret, until_ms: i64) {
        let old = std::mem::replace(&mut self.current, new);
        self.previous = Some((old, until_ms));
    }

    /// Who signs at `now_ms` (Unix milliseconds): the current secret first, then the previous one if its time is not
    /// over. From its last millisecond on it signs nothing.
    pub fn active(&self, now_ms: i64) -> impl Iterator<Item = &Secret> {
        std::iter::once(&self.current).chain(self.previous_at(now_ms))
    }

    /// The previous secret if it still signs at `now_ms`.
    pub fn previous_at(&self, now_ms: i64) -> Option<&Secret> {
        self.previous.as_ref().filter(|(_, until_ms)| now_ms < *until_ms).map(|(secret, _)| secret)
    }

    /// Forgets a previous secret whose time is over, so that a clock that steps back cannot wake it. Returns whether
    /// there was one, in which case the keys want to be stored again.
    pub fn expire(&mut self, now_ms: i64) -> bool {
        let over = self.previous.as_ref().is_some_and(|(_, until_ms)| now_ms >= *until_ms);
        if over {
            self.previous = None;
        }
        over
    }
}

/// `sha256=<hex HMAC-SHA256(secret text, "<timestamp>.<body>")>`, the value of `X-Wanderer-Signature`.
pub fn sign_map(secret: &Secret, timestamp_s: i64, body: &[u8]) -> String {
    let digest = secret.map_mac(&timestamp_s.to_string(), body).finalize().into_bytes();
    format!("sha256={}", hex::encode(&digest))
}

/// `v1,<base64>` of each secret that can sign, separated by spaces: the value of `webhook-signature`. `None` if none of
/// them is a key of Standard Webhooks.
pub fn sign_standard<'a>(
    secrets: impl IntoIterator<Item = &'a Secret>,
    id: &str,
    timestamp_s: i64,
    body: &[u8],
) -> Option<String> {
    let timestamp = timestamp_s.to_string();
    let mut text = String::new();
    for mac in secrets.into_iter().filter_map(|secret| secret.standard_mac(id, &timestamp, body)) {
        text.push_str(if text.is_empty() { "v1," } else { " v1," });
        STANDARD.encode_string(mac.finalize().into_bytes(), &mut text);
    }
    (!text.is_empty()).then_some(text)
}

/// Why the signature of a delivery is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    #[error("the signature header has no signature of the expected form; check which format the webhook has")]
    Malformed,
    #[error("the timestamp is not a whole number of Unix seconds")]
    Timestamp,
    #[error("the timestamp is too far from now; check the clocks, or this is a replay")]
    Stale,
    #[error("the secret is no key of Standard Webhooks; it has to be base64 of 24 to 64 bytes")]
    Secret,
    #[error("the signature does not match; check the secret and that the body is the raw one")]
    Mismatch,
}

/// Checks `X-Wanderer-Signature` (or `-Previous`) against `X-Wanderer-Timestamp` and the raw body. How old the
/// timestamp may be is for [`check_age`].
///
/// # Errors
/// [`Unverified::Malformed`] when the header has another form, [`Unverified::Mismatch`] when the signature is another.
pub fn verify_map(secret: &Secret, timestamp: &str, body: &[u8], header: &str) -> Result<(), Unverified> {
    let given: [u8; 32] = header.strip_prefix("sha256=").and_then(hex::decode_array).ok_or(Unverified::Malformed)?;
    secret.map_mac(timestamp, body).verify_slice(&given).map_err(|_| Unverified::Mismatch)
}

/// Checks the three headers of Standard Webhooks 1.0: one of the `v1` signatures has to match, and the timestamp may be
/// at most `tolerance_s` seconds away from `now_s`, in either direction.
///
/// # Errors
/// [`Unverified::Timestamp`] or [`Unverified::Stale`] for the timestamp, [`Unverified::Secret`] when the secret is none
/// of this format, [`Unverified::Malformed`] when no signature of version `v1` is there, [`Unverified::Mismatch`] when
/// none matches.
pub fn verify_standard(
    secret: &Secret,
    id: &str,
    timestamp: &str,
    signatures: &str,
    body: &[u8],
    now_s: i64,
    tolerance_s: u32,
) -> Result<(), Unverified> {
    check_age(timestamp, now_s, tolerance_s)?;
    let mac = secret.standard_mac(id, timestamp, body).ok_or(Unverified::Secret)?;
    let mut outcome = Unverified::Malformed;
    for text in signatures.split_ascii_whitespace().filter_map(|s| s.strip_prefix("v1,")).take(SIGNATURES_MAX) {
        let Ok(given) = STANDARD.decode(text) else { continue };
        if mac.clone().verify_slice(&given).is_ok() {
            return Ok(());
        }
        outcome = Unverified::Mismatch;
    }
    Err(outcome)
}

/// Whether a timestamp header is within `tolerance_s` seconds of `now_s` (Unix seconds).
///
/// # Errors
/// [`Unverified::Timestamp`] when it is not a whole number, [`Unverified::Stale`] when it is too old or too far ahead.
pub fn check_age(timestamp: &str, now_s: i64, tolerance_s: u32) -> Result<(), Unverified> {
    let at_s: i64 = timestamp.parse().map_err(|_| Unverified::Timestamp)?;
    if at_s.abs_diff(now_s) <= u64::from(tolerance_s) { Ok(()) } else { Err(Unverified::Stale) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "evt_01J0YYYYYYYYYYYYYYYYYYYYYY";
    const AT_S: i64 = 1_750_509_300;
    const PLAIN: &str = r#"{"id":"01J0YYYYYYYYYYYYYYYYYYYYYY","type":"map_kill","map_id":"550e8400-e29b-41d4-a716-446655440000","ts":"2025-06-21T12:35:00.123Z","timestamp":"2025-06-21T12:35:00.123Z","payload":{"value":250000000}}"#;
    const UNICODE: &str = "{\"type\":\"x\",\"payload\":{\"2\":\"🚀\u{2028}ä\",\"10\":1}}";

    fn one() -> Secret {
        Secret::from_random(std::array::from_fn(|i| i as u8))
    }

    fn two() -> Secret {
        Secret::from_random(std::array::from_fn(|i| 255 - i as u8))
    }

    /// Secret, body, hex of the maps family, signature of Standard Webhooks.
    type Golden = (fn() -> Secret, &'static str, &'static str, &'static str);

    /// Made by node's crypto with npm's `standardwebhooks`, and again by Python's hmac with PyPI's `standardwebhooks`.
    const GOLDEN: [Golden; 6] = [
        (
            one,
            PLAIN,
            "a64d4d99ce36bb5d3474758054ffceeecf2d94440428378e8ea3f7ae905bac84",
            "v1,/XnMJTLI27IQD42P4XjVSf4RUS3qvvPTNELqdL1J3u0=",
        ),
        (
            one,
            UNICODE,
            "466d78cdb4c1b13b7e1c5c26942fcdb42551c8222ccca7cd3c6b7d987fdd16ed",
            "v1,jXYRdwNeKBzYzVt1tFfhj+S7RtYyH+lMZB5cMMfOflY=",
        ),
        (
            one,
            "",
            "10891da8abef5a4df540b7d584d39042ef35ceb005015effd367ec2a899f157b",
            "v1,63ax587p29PMt/kSjMeYiMxGbQF5cz3/lYoIXhdb6IU=",
        ),
        (
            two,
            PLAIN,
            "89d314f016f6badfb17510626e68f5e45be85c8f39b7d33c6525e6e6659e6669",
            "v1,2HkqPBDCCDVjmF40Vkk8Ay0mW9VDZKftMGEmS39+pLg=",
        ),
        (
            two,
            UNICODE,
            "951edd3d97014ec2deb1865cbfe82fc30453d6d9eb27f179fadfeb7df8bf73e3",
            "v1,DCnZch6WO2B4FUk+Pjp6cEupBCmybCMsUHXut0W86kI=",
        ),
        (
            two,
            "",
            "326cca14dec288047cebdcb26218c9792ce2a60289b9bb5a04cbbe84e8137be3",
            "v1,k+SPG4BPLAdXwUkRlyETC5OSy0rUFSNu+QVUAFLNNcs=",
        ),
    ];

    #[test]
    fn signatures_are_those_of_node_and_python() {
        assert_eq!(one().reveal(), "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
        assert_eq!(two().reveal(), "//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA=");
        for (secret, body, hex, standard) in GOLDEN {
            let header = format!("sha256={hex}");
            assert_eq!(sign_map(&secret(), AT_S, body.as_bytes()), header);
            assert_eq!(sign_standard([&secret()], ID, AT_S, body.as_bytes()).as_deref(), Some(standard));
            assert_eq!(verify_map(&secret(), "1750509300", body.as_bytes(), &header), Ok(()));
        }
    }

    #[test]
    fn during_a_rotation_both_sign_and_after_it_the_old_one_never() {
        let mut keys = Keys::new(one());
        assert_eq!(keys.active(0).count(), 1);
        keys.rotate(two(), 1000);
        let both = sign_standard(keys.active(999), ID, AT_S, PLAIN.as_bytes()).unwrap();
        assert_eq!(both, format!("{} {}", GOLDEN[3].3, GOLDEN[0].3));
        for secret in [one(), two()] {
            assert_eq!(verify_standard(&secret, ID, "1750509300", &both, PLAIN.as_bytes(), AT_S, 0), Ok(()));
        }
        let after = sign_standard(keys.active(1000), ID, AT_S, PLAIN.as_bytes()).unwrap();
        assert_eq!(after, GOLDEN[3].3);
        assert!(!keys.expire(999));
        assert!(keys.expire(1000));
        assert_eq!(keys.active(0).count(), 1, "also when the clock steps back");
    }

    #[test]
    fn a_second_rotation_ends_the_overlap_of_the_first() {
        let mut keys = Keys::new(one());
        keys.rotate(two(), 1000);
        keys.rotate(Secret::from_random([7; 32]), 2000);
        assert!(keys.active(500).all(|secret| *secret != one()));
        assert_eq!(keys.active(500).count(), 2);
    }

    #[test]
    fn what_was_changed_or_comes_late_is_not_verified() {
        let (secret, body) = (one(), PLAIN.as_bytes());
        let signature = GOLDEN[0].3;
        let check = |id: &str, at: &str, signature: &str, body: &[u8], now_s| {
            verify_standard(&one(), id, at, signature, body, now_s, 300)
        };
        assert_eq!(check(ID, "1750509300", signature, body, AT_S + 300), Ok(()));
        assert_eq!(check(ID, "1750509300", signature, body, AT_S - 300), Ok(()));
        assert_eq!(check(ID, "1750509300", &format!("v1a,xx v2,yy v1,!!! {signature}"), body, AT_S), Ok(()));
        assert_eq!(check(ID, "1750509300", signature, body, AT_S + 301), Err(Unverified::Stale));
        assert_eq!(check(ID, "1750509300", signature, body, i64::MIN), Err(Unverified::Stale));
        assert_eq!(check(ID, "soon", signature, body, AT_S), Err(Unverified::Timestamp));
        assert_eq!(check("evt_2", "1750509300", signature, body, AT_S), Err(Unverified::Mismatch));
        assert_eq!(check(ID, "1750509301", signature, body, AT_S), Err(Unverified::Mismatch));
        assert_eq!(check(ID, "1750509300", signature, b"{}", AT_S), Err(Unverified::Mismatch));
        for bad in ["", "v1", "v1,", "v2,abc", &signature[3..]] {
            assert!(check(ID, "1750509300", bad, body, AT_S).is_err(), "{bad}");
        }
        for bad in ["", "sha256=", "sha256=zz", GOLDEN[0].2, &format!("sha256={}", "g".repeat(64))] {
            assert_eq!(verify_map(&secret, "1750509300", body, bad), Err(Unverified::Malformed), "{bad}");
        }
        let wrong = format!("sha256={}", "0".repeat(64));
        assert_eq!(verify_map(&secret, "1750509300", body, &wrong), Err(Unverified::Mismatch));
    }

    #[test]
    fn a_secret_is_read_in_each_of_its_forms() {
        let text = one().reveal().to_string();
        for same in
            [Secret::from_text(&text), Secret::from_standard(&text), Secret::from_standard(&format!("whsec_{text}"))]
        {
            assert!(same.as_ref().is_ok_and(|same| *same == one() && same.signs_standard()));
        }
        let prefixed = Secret::from_text(&format!("whsec_{text}")).ok().unwrap();
        let signed = sign_standard([&prefixed], ID, AT_S, PLAIN.as_bytes());
        assert_eq!((signed.as_deref(), prefixed.reveal().len()), (Some(GOLDEN[0].3), 50), "its text stays as it is");
        assert!(!Secret::from_text("whsec_short").ok().unwrap().signs_standard());
        let chosen = Secret::from_text("correct horse").ok().unwrap();
        assert!(!chosen.signs_standard());
        assert_eq!(sign_standard([&chosen], ID, AT_S, b""), None);
        assert_eq!(verify_standard(&chosen, ID, "1", "v1,AAAA", b"", 1, 0), Err(Unverified::Secret));
        for bad in ["", &"x".repeat(513)] {
            assert_eq!(Secret::from_text(bad).err(), Some(BadSecret::Length));
        }
        for bad in ["", "whsec_", "whsec_AAAA", "not base64", &"A".repeat(88)] {
            assert_eq!(Secret::from_standard(bad).err(), Some(BadSecret::Standard), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_signature_verifies_with_its_own_secret_only(
            random: [u8; 32],
            body in proptest::collection::vec(any::<u8>(), 0..200),
            at_s: i64,
        ) {
            let (secret, at) = (Secret::from_random(random), at_s.to_string());
            prop_assert_eq!(secret.reveal().len(), SECRET_CHARS);
            let map = sign_map(&secret, at_s, &body);
            let standard = sign_standard([&secret], ID, at_s, &body).unwrap();
            prop_assert_eq!(verify_map(&secret, &at, &body, &map), Ok(()));
            prop_assert_eq!(verify_standard(&secret, ID, &at, &standard, &body, at_s, 0), Ok(()));
            if secret != one() {
                prop_assert_eq!(verify_map(&one(), &at, &body, &map), Err(Unverified::Mismatch));
            }
        }

        #[test]
        fn no_header_can_make_the_check_fail_otherwise_than_by_saying_no(header: String, timestamp: String) {
            let body = PLAIN.as_bytes();
            prop_assert!(verify_map(&one(), &timestamp, body, &header).is_err());
            prop_assert!(verify_standard(&one(), ID, &timestamp, &header, body, 0, u32::MAX).is_err());
        }
    }
}
