//! Who is believed: the schemes by which senders prove that a request is theirs, over its raw bytes.
//!
//! One generic scheme with an HMAC, API keys, JWTs, and the schemes of senders that many people have: Standard Webhooks 1.0,
//! GitHub, Stripe, Slack. Whatever is compared with a secret is compared in constant time. Whoever is not believed learns
//! what is missing, never what would have been right.

use serde::{Deserialize, Serialize};

use super::jwt::SenderJwt;
use super::mac::{Mac, from_hex, to_hex};
use crate::model::access::TokenHash;
use crate::model::jwt::{JwtAlgorithm, JwtRules};
use crate::model::signature::{self, SECRET_TEXT_BYTES_MAX, Secret, Unverified};

/// How far the time of a signed request may be from ours, in either direction.
pub const TOLERANCE_MS: u64 = 300_000;
/// The longest key of a JWT in bytes: room for the PEM of an RSA key of 16,384 bits.
pub const JWT_KEY_BYTES_MAX: usize = 4096;
/// Signatures of one header that are looked at; it comes from outside.
const SIGNATURES_MAX: usize = 16;

/// How a source knows its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Authentication {
    /// Everybody who knows the address.
    None,
    ApiKey,
    Hmac,
    Jwt,
    /// Standard Webhooks 1.0, also under the header names of Svix.
    Standard,
    Github,
    Stripe,
    Slack,
}

impl Authentication {
    pub const ALL: [Authentication; 8] = [
        Authentication::None,
        Authentication::ApiKey,
        Authentication::Hmac,
        Authentication::Jwt,
        Authentication::Standard,
        Authentication::Github,
        Authentication::Stripe,
        Authentication::Slack,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Authentication::None => "none",
            Authentication::ApiKey => "api_key",
            Authentication::Hmac => "hmac",
            Authentication::Jwt => "jwt",
            Authentication::Standard => "standard",
            Authentication::Github => "github",
            Authentication::Stripe => "stripe",
            Authentication::Slack => "slack",
        }
    }

    pub fn from_name(name: &str) -> Option<Authentication> {
        Authentication::ALL.into_iter().find(|one| one.as_str() == name)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HmacAlgorithm {
    #[default]
    Sha256,
    Sha512,
}

impl HmacAlgorithm {
    pub fn as_str(self) -> &'static str {
        match self {
            HmacAlgorithm::Sha256 => "sha256",
            HmacAlgorithm::Sha512 => "sha512",
        }
    }
}

/// Everything about the authentication of a source but its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheme {
    pub authentication: Authentication,
    #[serde(default)]
    pub hmac_algorithm: HmacAlgorithm,
    /// Given exactly where the authentication is by JWT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtRules>,
}

/// Why a text is no key of a scheme; the text is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    #[error("is 1 to 512 bytes long; leave it out to have one made")]
    Length,
    #[error("is 1 to 512 visible ASCII characters, because it is sent in a header; leave it out to have one made")]
    Header,
    #[error("is base64 of 24 to 64 bytes, with or without whsec_ before it; leave it out to have one made")]
    Standard,
    #[error("is required: the provider shows it to you")]
    Provider,
    #[error("is a text for HS256, and the public key as PEM for EdDSA, ES256 and RS256")]
    Jwt,
    #[error("goes with another authentication")]
    NoKey,
}

/// The headers of a request. No value where there is none, and none where a header was sent more than once or is not
/// visible ASCII: what could be read in two ways proves nothing.
pub trait Headers {
    /// By name in any case.
    fn get(&self, name: &str) -> Option<&str>;
}

impl Headers for &[(&str, &str)] {
    fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }
}

/// Why a request is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    #[error("the header {0} is missing, or was sent more than once")]
    Missing(&'static str),
    #[error("the header {0} does not have its form")]
    Malformed(&'static str),
    #[error("the time of the request is too far from now; check the clock of the sender")]
    Stale,
    #[error("the API key is not that of this address")]
    ApiKey,
    #[error("the signature does not match; sign the raw body with the key of this address")]
    Mismatch,
    #[error(
        "the token is no JWT that this address takes; check algorithm, key, issuer, audience, and that it has an exp"
    )]
    Token,
    #[error("the token has expired, or is not valid yet")]
    Expired,
}

/// What is known of a request that is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// The signature in one form. A second request with it is the same one sent again; none where nothing is signed.
    pub signature: Option<String>,
}

/// One key, ready to judge who has it.
#[derive(Clone)]
enum Lock {
    /// Kept as a hash, so that comparing takes the same time for every length.
    ApiKey(TokenHash),
    Mac(Box<Mac>),
    Standard(Secret),
    Jwt(Box<SenderJwt>),
}

/// The keys of a source, made ready: one, two while a rotation overlaps, none where nobody has to prove anything. No
/// Debug, Display or Serialize.
#[derive(Clone)]
pub struct Verifier {
    scheme: Scheme,
    current: Option<Lock>,
    /// The key before the last rotation, and until when it counts, in Unix milliseconds.
    previous: Option<(Lock, i64)>,
}

impl Scheme {
    /// Whether the source has a key.
    pub fn has_key(&self) -> bool {
        self.authentication != Authentication::None
    }

    /// A new key made of random bytes; none where only somebody else can make it.
    pub fn make_key(&self, random: [u8; 32]) -> Option<String> {
        let shared = || Secret::from_random(random).reveal().to_owned();
        match self.authentication {
            Authentication::ApiKey => Some(crate::model::access::secret_text("key_", random)),
            Authentication::Standard => Some(format!("{}{}", signature::STANDARD_PREFIX, shared())),
            Authentication::Hmac | Authentication::Github => Some(shared()),
            Authentication::Jwt => {
                let shares = self.jwt.as_ref().is_some_and(|rules| rules.algorithm == JwtAlgorithm::Hs256);
                shares.then(shared)
            }
            Authentication::None | Authentication::Stripe | Authentication::Slack => None,
        }
    }

    /// Whether a text can be the key of this scheme.
    pub fn check_key(&self, text: &str) -> Result<(), BadKey> {
        self.key(text).map(|_| ())
    }

    /// What is missing where no key is given and none can be made.
    pub fn missing_key(&self) -> BadKey {
        if self.authentication == Authentication::Jwt { BadKey::Jwt } else { BadKey::Provider }
    }

    fn key(&self, text: &str) -> Result<Lock, BadKey> {
        let most = if self.authentication == Authentication::Jwt { JWT_KEY_BYTES_MAX } else { SECRET_TEXT_BYTES_MAX };
        let mac = |algorithm| Lock::Mac(Box::new(Mac::new(algorithm, text.as_bytes())));
        let fits = (1..=most).contains(&text.len());
        Ok(match (self.authentication, &self.jwt) {
            (Authentication::None, _) => return Err(BadKey::NoKey),
            (Authentication::ApiKey, _) if !fits || !text.bytes().all(|b| b.is_ascii_graphic()) => {
                return Err(BadKey::Header);
            }
            (Authentication::ApiKey, _) => Lock::ApiKey(TokenHash::of(text)),
            (Authentication::Standard, _) => Lock::Standard(Secret::from_standard(text).map_err(|_| BadKey::Standard)?),
            (Authentication::Jwt, Some(rules)) if fits => Lock::Jwt(Box::new(SenderJwt::new(rules, text)?)),
            (Authentication::Jwt, _) => return Err(BadKey::Jwt),
            _ if !fits => return Err(BadKey::Length),
            (Authentication::Hmac, _) => mac(self.hmac_algorithm),
            (Authentication::Github | Authentication::Stripe | Authentication::Slack, _) => mac(HmacAlgorithm::Sha256),
        })
    }
}

impl Verifier {
    /// `current` and `previous` are the texts of the keys; there is a current one exactly if the scheme has keys.
    pub fn new(scheme: Scheme, current: Option<&str>, previous: Option<(&str, i64)>) -> Result<Verifier, BadKey> {
        let current = match current {
            None if scheme.has_key() => return Err(scheme.missing_key()),
            None => None,
            Some(text) => Some(scheme.key(text)?),
        };
        let previous = previous.map(|(text, until_ms)| scheme.key(text).map(|key| (key, until_ms))).transpose()?;
        Ok(Verifier { scheme, current, previous })
    }

    /// Whether the sender of these raw bytes is who it has to be, at `now_ms` (Unix milliseconds).
    pub fn verify(&self, headers: &dyn Headers, body: &[u8], now_ms: i64) -> Result<Proof, Untrusted> {
        let Some(current) = &self.current else { return Ok(Proof::default()) };
        let refusal = match self.with(current, headers, body, now_ms) {
            Ok(proof) => return Ok(proof),
            Err(refusal) => refusal,
        };
        match &self.previous {
            Some((previous, until_ms)) if now_ms < *until_ms => {
                self.with(previous, headers, body, now_ms).map_err(|_| refusal)
            }
            _ => Err(refusal),
        }
    }

    /// What the headers alone tell, before there is a body: a credential that has to be there, has to have its form and must
    /// not be too old. A signature over the body is not judged.
    pub fn foresee(&self, headers: &dyn Headers, now_ms: i64) -> Result<(), Untrusted> {
        match self.verify(headers, b"", now_ms) {
            // the only thing that another body can put right
            Ok(_) | Err(Untrusted::Mismatch) => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    fn with(&self, key: &Lock, headers: &dyn Headers, body: &[u8], now_ms: i64) -> Result<Proof, Untrusted> {
        match (key, self.scheme.authentication) {
            (Lock::ApiKey(expected), _) => {
                let given = required(headers, "X-API-Key")?;
                if TokenHash::of(given).is(expected) { Ok(Proof::default()) } else { Err(Untrusted::ApiKey) }
            }
            (Lock::Jwt(sender), _) => {
                let given = required(headers, "Authorization")?;
                let bearer = given.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
                let (_, token) = bearer.ok_or(Untrusted::Malformed("Authorization"))?;
                sender.verify(token.trim(), now_ms).map(|()| Proof::default())
            }
            (Lock::Standard(secret), _) => standard(secret, headers, body, now_ms),
            (Lock::Mac(mac), Authentication::Github) => github(mac, headers, body),
            (Lock::Mac(mac), Authentication::Stripe) => stripe(mac, headers, body, now_ms),
            (Lock::Mac(mac), Authentication::Slack) => slack(mac, headers, body, now_ms),
            (Lock::Mac(mac), _) => self.generic(mac, headers, body, now_ms),
        }
    }

    /// `X-Webhook-Signature: sha256=<hex HMAC(key, "<timestamp>.<body>")>` and `X-Webhook-Timestamp` in milliseconds.
    fn generic(&self, mac: &Mac, headers: &dyn Headers, body: &[u8], now_ms: i64) -> Result<Proof, Untrusted> {
        const TIMESTAMP: &str = "X-Webhook-Timestamp";
        const SIGNATURE: &str = "X-Webhook-Signature";
        let timestamp = required(headers, TIMESTAMP)?;
        let given = required(headers, SIGNATURE)?;
        let at_ms = digits(timestamp).ok_or(Untrusted::Malformed(TIMESTAMP))?;
        fresh(at_ms, now_ms)?;
        // the algorithm is the source's, so that nobody chooses a weaker one
        let hex = given.strip_prefix(self.scheme.hmac_algorithm.as_str()).and_then(|rest| rest.strip_prefix('='));
        let given = hex.and_then(from_hex).ok_or(Untrusted::Malformed(SIGNATURE))?;
        proven(mac, &[timestamp.as_bytes(), b".", body], &given)
    }
}

/// Standard Webhooks 1.0, whose headers Svix sends under names of its own.
fn standard(secret: &Secret, headers: &dyn Headers, body: &[u8], now_ms: i64) -> Result<Proof, Untrusted> {
    let either = |name, other| headers.get(name).or_else(|| headers.get(other)).ok_or(Untrusted::Missing(name));
    let id = either("webhook-id", "svix-id")?;
    let timestamp = either("webhook-timestamp", "svix-timestamp")?;
    let signatures = either("webhook-signature", "svix-signature")?;
    digits(timestamp).ok_or(Untrusted::Malformed("webhook-timestamp"))?;
    let tolerance_s = (TOLERANCE_MS / 1_000) as u32;
    let verdict =
        signature::verify_standard(secret, id, timestamp, signatures, body, now_ms.div_euclid(1_000), tolerance_s);
    match verdict {
        Ok(()) => Ok(Proof { signature: Some(format!("{timestamp}.{id}")) }),
        Err(Unverified::Malformed) => Err(Untrusted::Malformed("webhook-signature")),
        Err(Unverified::Timestamp) => Err(Untrusted::Malformed("webhook-timestamp")),
        Err(Unverified::Stale) => Err(Untrusted::Stale),
        Err(Unverified::Secret | Unverified::Mismatch) => Err(Untrusted::Mismatch),
    }
}

/// GitHub: the HMAC of the body alone. There is no time in it, so only the id of the delivery tells a repetition.
fn github(mac: &Mac, headers: &dyn Headers, body: &[u8]) -> Result<Proof, Untrusted> {
    const SIGNATURE: &str = "X-Hub-Signature-256";
    let given = required(headers, SIGNATURE)?.strip_prefix("sha256=").and_then(from_hex);
    proven(mac, &[body], &given.ok_or(Untrusted::Malformed(SIGNATURE))?)
}

/// Stripe: `t=<seconds>,v1=<hex>` over `<t>.<body>`, with a `v1` for each secret while one is being replaced.
fn stripe(mac: &Mac, headers: &dyn Headers, body: &[u8], now_ms: i64) -> Result<Proof, Untrusted> {
    const SIGNATURE: &str = "Stripe-Signature";
    let header = required(headers, SIGNATURE)?;
    let pairs = || header.split(',').filter_map(|pair| pair.trim().split_once('='));
    let mut times = pairs().filter(|(name, _)| *name == "t");
    let timestamp = match (times.next(), times.next()) {
        (Some((_, timestamp)), None) => timestamp,
        _ => return Err(Untrusted::Malformed(SIGNATURE)),
    };
    let at_s = digits(timestamp).ok_or(Untrusted::Malformed(SIGNATURE))?;
    fresh(at_s.saturating_mul(1_000), now_ms)?;
    let mut refusal = Untrusted::Malformed(SIGNATURE);
    for (_, hex) in pairs().filter(|(name, _)| *name == "v1").take(SIGNATURES_MAX) {
        let Some(given) = from_hex(hex) else { continue };
        match proven(mac, &[timestamp.as_bytes(), b".", body], &given) {
            Ok(proof) => return Ok(proof),
            Err(other) => refusal = other,
        }
    }
    Err(refusal)
}

/// Slack: `v0=<hex>` over `v0:<seconds>:<body>`.
fn slack(mac: &Mac, headers: &dyn Headers, body: &[u8], now_ms: i64) -> Result<Proof, Untrusted> {
    const TIMESTAMP: &str = "X-Slack-Request-Timestamp";
    const SIGNATURE: &str = "X-Slack-Signature";
    let timestamp = required(headers, TIMESTAMP)?;
    let given = required(headers, SIGNATURE)?;
    let at_s = digits(timestamp).ok_or(Untrusted::Malformed(TIMESTAMP))?;
    fresh(at_s.saturating_mul(1_000), now_ms)?;
    let given = given.strip_prefix("v0=").and_then(from_hex).ok_or(Untrusted::Malformed(SIGNATURE))?;
    proven(mac, &[b"v0:", timestamp.as_bytes(), b":", body], &given)
}

fn required<'h>(headers: &'h dyn Headers, name: &'static str) -> Result<&'h str, Untrusted> {
    headers.get(name).ok_or(Untrusted::Missing(name))
}

/// A whole number without a sign. A signed text has one form only.
fn digits(text: &str) -> Option<i64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn fresh(at_ms: i64, now_ms: i64) -> Result<(), Untrusted> {
    if at_ms.abs_diff(now_ms) <= TOLERANCE_MS { Ok(()) } else { Err(Untrusted::Stale) }
}

fn proven(mac: &Mac, parts: &[&[u8]], given: &[u8]) -> Result<Proof, Untrusted> {
    match mac.signs(parts, given) {
        true => Ok(Proof { signature: Some(to_hex(given)) }),
        false => Err(Untrusted::Mismatch),
    }
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
