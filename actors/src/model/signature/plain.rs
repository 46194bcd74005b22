//! Signatures over the raw body alone, keyed by the text of the secret: those of organizations and of the feed.
//!
//! They hold no time, so they do not tell a delivery from its repetition: receivers drop what they have seen by the id of
//! the event.

use hmac::{Hmac, Mac};
use sha2::{Sha256, Sha512};

use super::{Secret, Unverified, mac};
use crate::model::hex;

/// Lower-case hex HMAC-SHA512 of the body: the value of `X-Webhook-Hmac`.
pub fn sign_gateway(secret: &Secret, body: &[u8]) -> String {
    hex::encode(&gateway_mac(secret, body).finalize().into_bytes())
}

/// Checks `X-Webhook-Hmac` (or `-Previous`) against the raw body.
///
/// # Errors
/// [`Unverified::Malformed`] when the header is not 128 hexadecimal digits, [`Unverified::Mismatch`] when the signature
/// is another.
pub fn verify_gateway(secret: &Secret, body: &[u8], header: &str) -> Result<(), Unverified> {
    let given: [u8; 64] = hex::decode_array(header).ok_or(Unverified::Malformed)?;
    gateway_mac(secret, body).verify_slice(&given).map_err(|_| Unverified::Mismatch)
}

/// `sha256=` and the lower-case hex HMAC-SHA256 of the body: the value of `X-AeorDB-Signature`.
pub fn sign_feed(secret: &Secret, body: &[u8]) -> String {
    format!("sha256={}", hex::encode(&feed_mac(secret, body).finalize().into_bytes()))
}

/// Checks `X-AeorDB-Signature` (or `-Previous`) against the raw body.
///
/// # Errors
/// [`Unverified::Malformed`] when the header has another form, [`Unverified::Mismatch`] when the signature is another.
pub fn verify_feed(secret: &Secret, body: &[u8], header: &str) -> Result<(), Unverified> {
    let given: [u8; 32] = header.strip_prefix("sha256=").and_then(hex::decode_array).ok_or(Unverified::Malformed)?;
    feed_mac(secret, body).verify_slice(&given).map_err(|_| Unverified::Mismatch)
}

fn gateway_mac(secret: &Secret, body: &[u8]) -> Hmac<Sha512> {
    mac(&secret.text, &[body])
}

fn feed_mac(secret: &Secret, body: &[u8]) -> Hmac<Sha256> {
    mac(&secret.text, &[body])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::from_text(text).expect("a text is a secret")
    }

    /// The vector that every description of HMAC shows, and one made by Python's hmac.
    const FOX: &str = "b42af09057bac1e2d41708e48a902e09b5ff7f12ab428a4fe86653c73dd248fb82f948a549f7b791a5b41915ee4d1ec3935357e4e2317250d0372afa2ebeeb3a";
    const PAYLOAD: &str = "sha256=b82fcb791acec57859b989b430a826488ce2e479fdf92326bd0a2e8375a42ba4";

    #[test]
    fn signatures_are_those_of_other_implementations() {
        let (key, body) = (secret("key"), b"The quick brown fox jumps over the lazy dog");
        assert_eq!(sign_gateway(&key, body), FOX);
        assert_eq!(verify_gateway(&key, body, FOX), Ok(()));
        assert_eq!(sign_feed(&secret("secret"), b"payload"), PAYLOAD);
        assert_eq!(verify_feed(&secret("secret"), b"payload", PAYLOAD), Ok(()));
    }

    #[test]
    fn a_header_of_another_form_is_told_from_a_wrong_signature() {
        let key = secret("key");
        for bad in ["", "zz", &FOX[1..], &format!("sha512={FOX}"), &"é".repeat(64)] {
            assert_eq!(verify_gateway(&key, b"x", bad), Err(Unverified::Malformed), "{bad}");
        }
        for bad in ["", "sha256=", &PAYLOAD[7..], &PAYLOAD[..70], &format!("sha256={}", "é".repeat(32))] {
            assert_eq!(verify_feed(&key, b"x", bad), Err(Unverified::Malformed), "{bad}");
        }
        assert_eq!(verify_gateway(&key, b"x", FOX), Err(Unverified::Mismatch));
        assert_eq!(verify_feed(&key, b"payload", PAYLOAD), Err(Unverified::Mismatch));
    }

    proptest! {
        #[test]
        fn every_signature_verifies_with_its_own_secret_and_body_only(
            text in "\\PC{1,80}",
            body in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let (own, other) = (secret(&text), secret("another one"));
            let (gateway, feed) = (sign_gateway(&own, &body), sign_feed(&own, &body));
            prop_assert_eq!(verify_gateway(&own, &body, &gateway), Ok(()));
            prop_assert_eq!(verify_feed(&own, &body, &feed), Ok(()));
            let longer = [&body[..], b"."].concat();
            prop_assert_eq!(verify_gateway(&own, &longer, &gateway), Err(Unverified::Mismatch));
            prop_assert_eq!(verify_feed(&own, &longer, &feed), Err(Unverified::Mismatch));
            if text != "another one" {
                prop_assert_eq!(verify_gateway(&other, &body, &gateway), Err(Unverified::Mismatch));
                prop_assert_eq!(verify_feed(&other, &body, &feed), Err(Unverified::Mismatch));
            }
        }
    }
}
