//! Who may do what: scopes, principals and tokens as they are kept.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::channel::Channel;
use super::event::ChannelNo;
use super::record_id::TokenId;
use super::selection::{ChannelSet, Selector};

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

/// The authenticated caller of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Principal {
    /// The token's id, or `jwt:<sub>`; limits count by it.
    pub id: Arc<str>,
    pub reach: Reach,
    /// After this the credential is worth nothing, in Unix milliseconds.
    pub expires_ms: Option<i64>,
}

/// What [`Principal::id`] begins with where a JWT stands behind it; its `sub` follows.
pub const JWT_PREFIX: &str = "jwt:";

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reach {
    /// Everything.
    Admin,
    /// One channel, within the scopes.
    Channel { no: ChannelNo, scopes: Vec<Scope> },
    /// Several channels, within the scopes.
    Several { channels: Arc<ChannelSet>, scopes: Vec<Scope> },
}

/// Why a principal is not allowed to do something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The channel does not belong to it, so it must not learn that the channel exists.
    Foreign,
    /// The channel is its own, the scope is missing.
    Scope(Scope),
}

impl Principal {
    pub fn is_admin(&self) -> bool {
        self.reach == Reach::Admin
    }

    pub fn is_jwt(&self) -> bool {
        self.id.starts_with(JWT_PREFIX)
    }

    /// Whether it may do something of this scope with the channel.
    ///
    /// # Errors
    /// Why it may not.
    pub fn may(&self, channel: &Channel, scope: Scope) -> Result<(), Refusal> {
        if self.reaches(channel) { self.has(scope) } else { Err(Refusal::Foreign) }
    }

    /// Whether it may do something of this scope with every channel of the selector.
    ///
    /// # Errors
    /// Why it may not.
    pub fn may_all(&self, selector: &Selector, scope: Scope) -> Result<(), Refusal> {
        let reaches = match (selector, &self.reach) {
            (Selector::Channel(channel), _) => return self.may(channel, scope),
            (Selector::Kind(_), Reach::Admin) => true,
            (Selector::Kind(_), Reach::Channel { .. }) => false,
            (Selector::Kind(_), Reach::Several { channels, .. }) => channels.includes(selector),
        };
        if reaches { self.has(scope) } else { Err(Refusal::Foreign) }
    }

    /// Whether it has the scope, on whatever it reaches.
    ///
    /// # Errors
    /// [`Refusal::Scope`] when it has not.
    pub fn has(&self, scope: Scope) -> Result<(), Refusal> {
        match &self.reach {
            Reach::Admin => Ok(()),
            Reach::Channel { scopes, .. } | Reach::Several { scopes, .. } if scopes.contains(&scope) => Ok(()),
            Reach::Channel { .. } | Reach::Several { .. } => Err(Refusal::Scope(scope)),
        }
    }

    /// Whether the channel exists for the principal at all, whatever it may do there.
    pub fn reaches(&self, channel: &Channel) -> bool {
        match &self.reach {
            Reach::Admin => true,
            Reach::Channel { no, .. } => *no == channel.no(),
            Reach::Several { channels, .. } => channels.contains(channel.no(), &channel.owner()),
        }
    }

    pub fn expired(&self, now_ms: i64) -> bool {
        self.expires_ms.is_some_and(|at| at <= now_ms)
    }

    /// Whether it is authenticated by a stored token, and not by a JWT or the admin token.
    pub fn is_stored_token(&self) -> bool {
        self.id.starts_with(TOKEN_ID_PREFIX)
    }

    /// The principal as a ticket carries it on. A JWT has to be valid when the ticket is minted and not after that, since a
    /// login is short; a stored token ends by its own expiry what its tickets have opened.
    pub fn carried_by_ticket(self: Arc<Self>) -> Arc<Principal> {
        match self.is_stored_token() || self.expires_ms.is_none() {
            true => self,
            false => Arc::new(Principal { expires_ms: None, ..Principal::clone(&self) }),
        }
    }
}

/// What the ids of stored tokens begin with.
const TOKEN_ID_PREFIX: &str = "tok_";

/// What is kept of a token: never the token itself.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TokenRecord {
    /// `tok_<ULID>`.
    pub id: TokenId,
    pub hash: TokenHash,
    /// 0 of a token of several channels.
    pub channel: u32,
    /// What a token of several channels reaches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<Arc<ChannelSet>>,
    pub scopes: Vec<Scope>,
    pub name: Option<String>,
    pub expires_ms: Option<i64>,
    pub inserted_ms: i64,
    /// The id of the principal that made it; none of tokens that older versions made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
}

impl TokenRecord {
    /// The channel of a token of one channel; else the number that no channel has.
    pub fn channel_no(&self) -> ChannelNo {
        ChannelNo(self.channel)
    }

    pub fn principal(&self) -> Principal {
        let scopes = self.scopes.clone();
        let reach = match &self.channels {
            None => Reach::Channel { no: ChannelNo(self.channel), scopes },
            Some(channels) => Reach::Several { channels: channels.clone(), scopes },
        };
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
    use crate::model::channel::ChannelKind;

    fn holder(scopes: &[Scope]) -> Principal {
        Principal {
            id: "tok_1".into(),
            reach: Reach::Channel { no: ChannelNo(1), scopes: scopes.to_vec() },
            expires_ms: Some(100),
        }
    }

    fn channel(no: u32) -> Channel {
        Channel {
            no,
            kind: ChannelKind::Map,
            id: "m".into(),
            slug: "m".into(),
            name: "m".into(),
            inserted_ms: 0,
            updated_ms: 0,
            event_names: None,
            webhooks_enabled: false,
        }
    }

    #[test]
    fn a_foreign_channel_is_refused_before_the_scope_is_looked_at() {
        let holder = holder(&[Scope::Publish]);
        assert_eq!(holder.may(&channel(2), Scope::Publish), Err(Refusal::Foreign));
        assert_eq!(holder.may(&channel(1), Scope::Manage), Err(Refusal::Scope(Scope::Manage)));
        assert_eq!(holder.may(&channel(1), Scope::Publish), Ok(()));
        assert_eq!(holder.may_all(&Selector::Kind(ChannelKind::Map), Scope::Publish), Err(Refusal::Foreign));
    }

    #[test]
    fn a_token_of_several_channels_reaches_those_and_no_others() {
        let maps = Selector::Kind(ChannelKind::Map);
        let record = |selectors: &[Selector]| TokenRecord {
            id: "tok_1".into(),
            hash: TokenHash::of("st_x"),
            channel: 0,
            channels: Some(Arc::new(ChannelSet::of(selectors))),
            scopes: vec![Scope::Subscribe],
            name: None,
            expires_ms: None,
            inserted_ms: 0,
            created_by: None,
        };
        let one = record(&[Selector::Channel(Arc::new(channel(1)))]).principal();
        assert_eq!(one.may(&channel(1), Scope::Subscribe), Ok(()));
        assert_eq!(one.may(&channel(1), Scope::Publish), Err(Refusal::Scope(Scope::Publish)));
        assert_eq!(one.may(&channel(2), Scope::Subscribe), Err(Refusal::Foreign));
        assert_eq!(one.may_all(&maps, Scope::Subscribe), Err(Refusal::Foreign));
        let all = record(std::slice::from_ref(&maps)).principal();
        assert_eq!((all.may(&channel(2), Scope::Subscribe), all.may_all(&maps, Scope::Subscribe)), (Ok(()), Ok(())));
        assert_eq!(all.may_all(&Selector::Kind(ChannelKind::Organization), Scope::Subscribe), Err(Refusal::Foreign));
    }

    #[test]
    fn a_token_that_was_stored_before_there_were_several_channels_reads_as_it_was() {
        let hash = String::from(TokenHash::of("st_x"));
        let text = format!(
            r#"{{"id":"tok_1","hash":"{hash}","channel":7,"scopes":["publish"],"name":null,"expires_ms":null,"inserted_ms":0}}"#
        );
        let record: TokenRecord = serde_json::from_str(&text).expect("a record");
        assert_eq!(record.principal().reach, Reach::Channel { no: ChannelNo(7), scopes: vec![Scope::Publish] });
        assert_eq!(serde_json::to_string(&record).expect("JSON"), text);
    }

    #[test]
    fn a_credential_is_worth_nothing_from_its_expiry_on() {
        assert!(!holder(&[]).expired(99));
        assert!(holder(&[]).expired(100));
    }

    #[test]
    fn a_ticket_carries_a_login_beyond_its_time_and_a_stored_token_up_to_it() {
        let stored = Arc::new(holder(&[]));
        assert_eq!(stored.clone().carried_by_ticket(), stored);
        let login = Arc::new(Principal { id: "jwt:tok_1".into(), ..holder(&[Scope::Subscribe]) });
        let carried = login.clone().carried_by_ticket();
        assert!(!carried.expired(i64::MAX));
        assert_eq!((&carried.id, &carried.reach), (&login.id, &login.reach));
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
