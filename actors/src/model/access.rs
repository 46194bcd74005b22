//! Who may do what: scopes, principals and tokens as they are kept.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::event::ChannelNo;
use super::record_id::TokenId;

/// What a channel token allows on its channel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    Subscribe,
    Publish,
    Manage,
}

impl Scope {
    pub const ALL: [Scope; 3] = [Scope::Subscribe, Scope::Publish, Scope::Manage];

    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Subscribe => "subscribe",
            Scope::Publish => "publish",
            Scope::Manage => "manage",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whoever stands behind a request whose credential was good.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Principal {
    /// The token's id, or `jwt:<sub>`; limits count by it.
    pub id: Arc<str>,
    pub reach: Reach,
    /// After this the credential is worth nothing, in Unix milliseconds.
    pub expires_ms: Option<i64>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reach {
    /// Everything.
    Admin,
    /// One channel, within the scopes.
    Channel { no: ChannelNo, scopes: Vec<Scope> },
}

/// Why a principal may not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The channel is somebody else's.
    Foreign,
    /// The channel is its own, the scope is missing.
    Scope(Scope),
}

impl Principal {
    pub fn is_admin(&self) -> bool {
        self.reach == Reach::Admin
    }

    pub fn may(&self, channel: ChannelNo, scope: Scope) -> Result<(), Refusal> {
        match &self.reach {
            Reach::Admin => Ok(()),
            Reach::Channel { no, .. } if *no != channel => Err(Refusal::Foreign),
            Reach::Channel { scopes, .. } if scopes.contains(&scope) => Ok(()),
            Reach::Channel { .. } => Err(Refusal::Scope(scope)),
        }
    }

    /// Whether the channel exists for the principal at all, whatever it may do there.
    pub fn reaches(&self, channel: ChannelNo) -> bool {
        match &self.reach {
            Reach::Admin => true,
            Reach::Channel { no, .. } => *no == channel,
        }
    }

    pub fn expired(&self, now_ms: i64) -> bool {
        self.expires_ms.is_some_and(|at| at <= now_ms)
    }
}

/// What is kept of a token: never the token itself.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TokenRecord {
    /// `tok_<ULID>`.
    pub id: TokenId,
    pub hash: TokenHash,
    pub channel: u32,
    pub scopes: Vec<Scope>,
    pub name: Option<String>,
    pub expires_ms: Option<i64>,
    pub inserted_ms: i64,
}

impl TokenRecord {
    pub fn principal(&self) -> Principal {
        let reach = Reach::Channel { no: ChannelNo(self.channel), scopes: self.scopes.clone() };
        Principal { id: self.id.clone().into(), reach, expires_ms: self.expires_ms }
    }
}

/// SHA-256 of a token's text. A token has 256 random bits, so a slow hash would add nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    pub fn of(token: &str) -> TokenHash {
        TokenHash(Sha256::digest(token.as_bytes()).into())
    }

    /// Compares in constant time.
    pub fn is(&self, other: &TokenHash) -> bool {
        subtle::ConstantTimeEq::ct_eq(&self.0[..], &other.0[..]).into()
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

impl From<TokenHash> for String {
    fn from(hash: TokenHash) -> String {
        URL_SAFE_NO_PAD.encode(hash.0)
    }
}

impl TryFrom<String> for TokenHash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<TokenHash, &'static str> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| "a token hash is base64url")?;
        Ok(TokenHash(bytes.try_into().map_err(|_| "a token hash has 32 bytes")?))
    }
}

/// A new secret text of a kind: a prefix that tells people what they hold, and 256 random bits.
pub fn secret_text(prefix: &str, random: [u8; 32]) -> String {
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(random))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(scopes: &[Scope]) -> Principal {
        Principal {
            id: "tok_1".into(),
            reach: Reach::Channel { no: ChannelNo(1), scopes: scopes.to_vec() },
            expires_ms: Some(100),
        }
    }

    #[test]
    fn a_foreign_channel_is_refused_before_the_scope_is_looked_at() {
        let holder = holder(&[Scope::Publish]);
        assert_eq!(holder.may(ChannelNo(2), Scope::Publish), Err(Refusal::Foreign));
        assert_eq!(holder.may(ChannelNo(1), Scope::Manage), Err(Refusal::Scope(Scope::Manage)));
        assert_eq!(holder.may(ChannelNo(1), Scope::Publish), Ok(()));
    }

    #[test]
    fn a_credential_is_worth_nothing_from_its_expiry_on() {
        assert!(!holder(&[]).expired(99));
        assert!(holder(&[]).expired(100));
    }

    #[test]
    fn a_hash_reads_back_and_is_not_shown() {
        let hash = TokenHash::of("st_x");
        let text = serde_json::to_string(&hash).expect("JSON");
        assert_eq!(serde_json::from_str::<TokenHash>(&text).expect("JSON"), hash);
        assert!(hash.is(&TokenHash::of("st_x")) && !hash.is(&TokenHash::of("st_y")));
        assert_eq!(format!("{hash:?}"), "TokenHash(..)");
    }
}
