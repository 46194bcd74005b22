//! JWTs of senders: one key, and what a token signed with it must say; see [`crate::model::jwt`].

use serde::Deserialize;

use super::auth::{BadKey, Untrusted};
use crate::model::jwt::{Judge, JwtRules, Key, Refused};

/// Whatever else a sender's token says is the sender's own business.
#[derive(Deserialize)]
struct Anything {}

/// A key and what a token signed with it must say.
#[derive(Clone)]
pub(super) struct SenderJwt {
    judge: Judge,
    key: Key,
}

impl SenderJwt {
    /// `key` is the shared text for HS256, a public key as PEM for the others.
    pub(super) fn new(rules: &JwtRules, key: &str) -> Result<SenderJwt, BadKey> {
        let key = Key::new(rules.algorithm, key).map_err(|_| BadKey::Jwt)?;
        Ok(SenderJwt { judge: Judge::new(rules), key })
    }

    /// Whether a token is signed by the key, meant for us and valid at `now_ms` (Unix milliseconds).
    pub(super) fn verify(&self, token: &str, now_ms: i64) -> Result<(), Untrusted> {
        match self.judge.verify::<Anything>(token, std::slice::from_ref(&self.key), now_ms) {
            Ok(_) => Ok(()),
            Err(Refused::Token | Refused::Audience) => Err(Untrusted::Token),
            Err(Refused::Time) => Err(Untrusted::Expired),
        }
    }
}
