//! A key that verifies JWTs: a shared text, or somebody's public key.

use std::fmt;

use jsonwebtoken::DecodingKey;

use super::JwtAlgorithm;

/// The shortest shared key that signs for the whole API: as long as its hash (RFC 7518, 3.2).
pub const HS256_KEY_BYTES_MIN: usize = 32;

/// Why a text is no key; the text is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is a text for HS256, and the public key as PEM for EdDSA, ES256 and RS256")]
pub struct BadKey;

/// It can be used and not shown.
#[derive(Clone)]
pub struct Key {
    id: Option<String>,
    key: DecodingKey,
}

impl Key {
    /// `key` is the shared text for HS256, a public key as PEM for the others.
    ///
    /// # Errors
    /// It is empty, or no PEM of that kind of key.
    pub fn new(algorithm: JwtAlgorithm, key: &str) -> Result<Key, BadKey> {
        let key = match algorithm {
            JwtAlgorithm::Hs256 if key.is_empty() => return Err(BadKey),
            JwtAlgorithm::Hs256 => Ok(DecodingKey::from_secret(key.as_bytes())),
            JwtAlgorithm::EdDsa => DecodingKey::from_ed_pem(key.as_bytes()),
            JwtAlgorithm::Es256 => DecodingKey::from_ec_pem(key.as_bytes()),
            JwtAlgorithm::Rs256 => DecodingKey::from_rsa_pem(key.as_bytes()),
        };
        Ok(Key { id: None, key: key.map_err(|_| BadKey)? })
    }

    pub(super) fn of_set(id: Option<String>, key: DecodingKey) -> Key {
        Key { id, key }
    }

    pub(super) fn decoding(&self) -> &DecodingKey {
        &self.key
    }

    /// Whether a token that names this `kid`, or none, may be signed by it.
    pub(super) fn may_be(&self, kid: Option<&str>) -> bool {
        match (self.id.as_deref(), kid) {
            (Some(id), Some(kid)) => id == kid,
            _ => true,
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}
