//! JWTs of senders (RFC 7519). Which algorithm signs them is the source's own, never the token's word; the time is an
//! argument.

use std::collections::HashSet;

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;

use super::auth::{BadKey, JwtAlgorithm, JwtRules, Untrusted};

/// What a token must and may say about its time, in Unix seconds, perhaps with a fraction (RFC 7519, 2).
#[derive(Deserialize)]
struct Claims {
    exp: f64,
    nbf: Option<f64>,
}

/// A key and what a token signed with it must say.
#[derive(Clone)]
pub(super) struct Judge {
    key: DecodingKey,
    validation: Validation,
}

impl Judge {
    /// `key` is the shared text for HS256, a public key as PEM for the others.
    pub(super) fn new(rules: &JwtRules, key: &str) -> Result<Judge, BadKey> {
        let key = match rules.algorithm {
            JwtAlgorithm::Hs256 if key.is_empty() => return Err(BadKey::Jwt),
            JwtAlgorithm::Hs256 => Ok(DecodingKey::from_secret(key.as_bytes())),
            JwtAlgorithm::EdDsa => DecodingKey::from_ed_pem(key.as_bytes()),
            JwtAlgorithm::Es256 => DecodingKey::from_ec_pem(key.as_bytes()),
            JwtAlgorithm::Rs256 => DecodingKey::from_rsa_pem(key.as_bytes()),
        };
        let mut validation = Validation::new(match rules.algorithm {
            JwtAlgorithm::Hs256 => Algorithm::HS256,
            JwtAlgorithm::EdDsa => Algorithm::EdDSA,
            JwtAlgorithm::Es256 => Algorithm::ES256,
            JwtAlgorithm::Rs256 => Algorithm::RS256,
        });
        // these would read the clock
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let mut required = HashSet::from(["exp".to_string()]);
        if let Some(issuer) = &rules.issuer {
            validation.set_issuer(&[issuer]);
            required.insert("iss".into());
        }
        match &rules.audience {
            None => validation.validate_aud = false,
            Some(audience) => {
                validation.set_audience(&[audience]);
                required.insert("aud".into());
            }
        }
        validation.required_spec_claims = required;
        Ok(Judge { key: key.map_err(|_| BadKey::Jwt)?, validation })
    }

    /// Whether a token is signed by the key, meant for us and valid at `now_ms` (Unix milliseconds).
    pub(super) fn verify(&self, token: &str, now_ms: i64) -> Result<(), Untrusted> {
        let header = decode_header(token).map_err(|_| Untrusted::Token)?;
        // what must be understood (RFC 7515, 4.1.11) and is not makes a token void
        if header.crit.is_some() {
            return Err(Untrusted::Token);
        }
        let claims = decode::<Claims>(token, &self.key, &self.validation).map_err(|_| Untrusted::Token)?.claims;
        let now_s = now_ms as f64 / 1_000.0;
        // written so that a number that is none is not within its time either
        let within = now_s < claims.exp && claims.nbf.is_none_or(|nbf| nbf <= now_s);
        if within { Ok(()) } else { Err(Untrusted::Expired) }
    }
}
