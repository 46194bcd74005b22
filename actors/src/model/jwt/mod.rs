//! JWTs (RFC 7519), for callers of the API and for senders alike: one judge of signature, issuer, audience and time. Which
//! algorithm counts is configured, never the token's word; the time is an argument.

mod key;
mod key_set;

use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use key::{BadKey, HS256_KEY_BYTES_MIN, Key};
pub use key_set::{KeySet, NotAKeySet, Skipped};

/// How far the clock of an issuer may be ahead of ours: for `nbf` and `iat` only, so that no token outlives its `exp`.
const LEEWAY_S: f64 = 60.0;

/// The algorithms of RFC 7518 and RFC 8037 that are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JwtAlgorithm {
    #[serde(rename = "HS256")]
    Hs256,
    #[serde(rename = "EdDSA")]
    EdDsa,
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "RS256")]
    Rs256,
}

impl JwtAlgorithm {
    pub fn as_str(self) -> &'static str {
        match self {
            JwtAlgorithm::Hs256 => "HS256",
            JwtAlgorithm::EdDsa => "EdDSA",
            JwtAlgorithm::Es256 => "ES256",
            JwtAlgorithm::Rs256 => "RS256",
        }
    }

    fn of_library(self) -> Algorithm {
        match self {
            JwtAlgorithm::Hs256 => Algorithm::HS256,
            JwtAlgorithm::EdDsa => Algorithm::EdDSA,
            JwtAlgorithm::Es256 => Algorithm::ES256,
            JwtAlgorithm::Rs256 => Algorithm::RS256,
        }
    }
}

/// What a JWT must be and say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JwtRules {
    pub algorithm: JwtAlgorithm,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
}

/// What a token says about its time, in Unix seconds, perhaps with a fraction (RFC 7519, 2).
#[derive(Deserialize)]
struct Times {
    exp: f64,
    nbf: Option<f64>,
    iat: Option<f64>,
}

/// Why a token counts for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is not signed by a key of ours, not meant for us, or says too little.
    Token,
    /// It is signed, but says for whom it is meant, and no audience is configured that could be named there.
    Audience,
    /// It has expired, or its time has not come yet.
    Time,
}

/// A token that counts.
#[derive(Debug)]
pub struct Verified<C> {
    pub claims: C,
    /// Unix milliseconds; from then on it counts for nothing.
    pub expires_ms: i64,
}

/// Judges tokens by rules.
#[derive(Clone)]
pub struct Judge {
    validation: Validation,
    has_audience: bool,
}

impl Judge {
    pub fn new(rules: &JwtRules) -> Judge {
        let mut validation = Validation::new(rules.algorithm.of_library());
        // these would read the clock
        validation.validate_exp = false;
        validation.validate_nbf = false;
        // `exp` is required by its type, see `Times`
        validation.required_spec_claims.clear();
        if let Some(issuer) = &rules.issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".into());
        }
        match &rules.audience {
            // what the library lets pass then is refused in `verify`
            None => validation.validate_aud = false,
            Some(audience) => {
                validation.set_audience(&[audience]);
                validation.required_spec_claims.insert("aud".into());
            }
        }
        Judge { validation, has_audience: rules.audience.is_some() }
    }

    /// What a token says if one of the keys has signed it, it is meant for us, and it counts at `now_ms` (Unix
    /// milliseconds). The key is that which the token names by `kid`; keys without an id may be meant by every token.
    ///
    /// # Errors
    /// The token counts for nothing.
    pub fn verify<C: DeserializeOwned>(&self, token: &str, keys: &[Key], now_ms: i64) -> Result<Verified<C>, Refused> {
        let header = decode_header(token).map_err(|_| Refused::Token)?;
        // what must be understood (RFC 7515, 4.1.11) and is not makes a token void
        if header.crit.is_some() {
            return Err(Refused::Token);
        }
        let decoded = |key: &Key| decode::<serde_json::Value>(token, key.decoding(), &self.validation).ok();
        let named = keys.iter().filter(|key| key.may_be(header.kid.as_deref()));
        let claims = named.filter_map(decoded).next().ok_or(Refused::Token)?.claims;
        // whoever does not find itself among those that a token names must refuse it (RFC 7519, 4.1.3)
        if !self.has_audience && claims.get("aud").is_some_and(|audience| !audience.is_null()) {
            return Err(Refused::Audience);
        }
        let times = Times::deserialize(&claims).map_err(|_| Refused::Token)?;
        let claims = C::deserialize(&claims).map_err(|_| Refused::Token)?;
        let now_s = now_ms as f64 / 1_000.0;
        let has_come = |at: Option<f64>| at.is_none_or(|at| at <= now_s + LEEWAY_S);
        if now_s < times.exp && has_come(times.nbf) && has_come(times.iat) {
            Ok(Verified { claims, expires_ms: (times.exp * 1_000.0) as i64 })
        } else {
            Err(Refused::Time)
        }
    }
}

#[cfg(test)]
mod tests;
