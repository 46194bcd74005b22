//! Secrets at rest: XChaCha20-Poly1305 under the key of the data folder. A sealed text opens only where it was put, since
//! its place is authenticated with it. The random nonce is an argument.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Bytes of the key.
pub const KEY_BYTES: usize = 32;
/// Bytes of a nonce; drawn by chance, which 192 bits allow.
pub const NONCE_BYTES: usize = 24;

/// The key that seals every secret of a data folder. No Debug, Display or Serialize.
pub struct SealKey(XChaCha20Poly1305);

/// A sealed text, as base64 of the nonce and the ciphertext.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(String);

/// Says how a key is written; the text is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the secret key is not base64 of 32 bytes, as openssl rand -base64 32 makes it")]
pub struct BadKey;

/// A sealed text that does not open: another key, another place, or damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a stored secret does not open; was the file secret-key or STENTOR_SECRET_KEY changed?")]
pub struct Unsealable;

impl SealKey {
    /// The key by its text form: base64 of 32 bytes.
    ///
    /// # Errors
    /// The text is not base64 of 32 bytes.
    pub fn from_text(text: &str) -> Result<SealKey, BadKey> {
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| BadKey)?);
        XChaCha20Poly1305::new_from_slice(&bytes).map(SealKey).map_err(|_| BadKey)
    }

    /// The text form of a new key.
    pub fn text_of(random: [u8; KEY_BYTES]) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(Zeroizing::new(random).as_slice()))
    }

    /// Seals a text for `place`, which is what it belongs to. `nonce` must never be the same twice.
    pub fn seal(&self, text: &str, place: &str, nonce: [u8; NONCE_BYTES]) -> Sealed {
        let payload = Payload { msg: text.as_bytes(), aad: place.as_bytes() };
        // the cipher takes up to 256 GiB, and a secret is at most 512 bytes
        let sealed = self.0.encrypt(XNonce::from_slice(&nonce), payload).expect("a secret is short");
        Sealed(STANDARD.encode([nonce.as_slice(), sealed.as_slice()].concat()))
    }

    /// The text that was sealed for `place`.
    ///
    /// # Errors
    /// It was sealed with another key or for another place, or was changed since.
    pub fn open(&self, sealed: &Sealed, place: &str) -> Result<Zeroizing<String>, Unsealable> {
        let bytes = STANDARD.decode(&sealed.0).map_err(|_| Unsealable)?;
        let (nonce, body) = bytes.split_at_checked(NONCE_BYTES).ok_or(Unsealable)?;
        let payload = Payload { msg: body, aad: place.as_bytes() };
        let text = self.0.decrypt(XNonce::from_slice(nonce), payload).map_err(|_| Unsealable)?;
        String::from_utf8(text).map(Zeroizing::new).map_err(|_| Unsealable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SealKey {
        SealKey::from_text(&SealKey::text_of([byte; KEY_BYTES])).expect("a key")
    }

    #[test]
    fn a_secret_opens_with_its_key_in_its_place_and_nowhere_else() {
        let sealed = key(1).seal("the secret", "webhook w", [7; NONCE_BYTES]);
        assert_eq!(key(1).open(&sealed, "webhook w").as_deref().map(String::as_str), Ok("the secret"));
        assert_eq!(key(2).open(&sealed, "webhook w").err(), Some(Unsealable));
        assert_eq!(key(1).open(&sealed, "webhook v").err(), Some(Unsealable));
        assert_eq!(key(1).open(&Sealed("AAAA".into()), "webhook w").err(), Some(Unsealable));
        assert!(!serde_json::to_string(&sealed).expect("JSON").contains("the secret"));
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        for bad in ["", "AAAA", "not base64!", &STANDARD.encode([0; 31])] {
            assert!(SealKey::from_text(bad).is_err(), "{bad}");
        }
    }
}
