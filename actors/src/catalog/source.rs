//! A source as it is stored, and how its keys are sealed and opened.

use serde::{Deserialize, Serialize};

use super::sealed_keys::SealedKeys;
use crate::clock;
use crate::model::access::TokenHash;
use crate::model::event::ChannelNo;
use crate::model::record_id::SourceId;
use crate::model::seal::{SealKey, Sealed, Unsealable};
use crate::model::source::preset::Handshake;
use crate::model::source::raw::RawRules;
use crate::model::source::{Rate, Rule, Schema, Scheme, Verifier};

/// A source as the state database keeps it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// `wh_<ULID>`.
    pub id: SourceId,
    pub channel: u32,
    pub name: Option<String>,
    pub scheme: Scheme,
    /// None exactly if the scheme has no key.
    pub keys: Option<SealedKeys>,
    /// Where the type of an event is; none: bodies are in our own form.
    #[serde(default)]
    pub event_type: Vec<Rule>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Schema>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<Rate>,
    /// What a provider shows that asks before it sends, where it proves itself so (Meta).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify_token: Option<Sealed>,
    /// Whether requests are kept as they came, and what of them; absent: their bodies are read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<RawRules>,
    /// Whether its owner lets nothing in.
    #[serde(default)]
    pub paused: bool,
    pub inserted_ms: i64,
    pub updated_ms: i64,
}

/// Why a stored source cannot verify anybody.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error(transparent)]
    Sealed(#[from] Unsealable),
    #[error("its key is not one of its scheme any more")]
    Key,
}

/// What a sealed token is bound to that a provider shows when it asks.
fn token_place(source: &str) -> String {
    format!("source {source} verify token")
}

/// Seals the token that a provider shows when it asks.
pub fn seal_verify_token(seal: &SealKey, source: &str, token: &str) -> Sealed {
    seal.seal(token, &token_place(source), clock::random())
}

/// What a sealed key is bound to.
pub(super) fn place(source: &str) -> String {
    format!("source {source}")
}

/// Seals the first key of a source.
pub fn seal_key(seal: &SealKey, source: &str, key: &str) -> SealedKeys {
    SealedKeys::seal(seal, &place(source), key, None)
}

/// Puts another key in front; the one before it counts until `until_ms`, unless that is over at `now_ms`.
pub fn rotate_key(seal: &SealKey, source: &str, old: &SealedKeys, key: &str, until_ms: i64, now_ms: i64) -> SealedKeys {
    old.rotated(seal, &place(source), key, until_ms, now_ms)
}

impl Source {
    pub fn channel_no(&self) -> ChannelNo {
        ChannelNo(self.channel)
    }

    /// Whether its provider asks by GET whether somebody is there.
    pub fn asks_by_get(&self) -> bool {
        let preset = self.scheme.authentication.preset();
        preset.is_some_and(|preset| preset.handshake == Some(Handshake::Meta))
    }

    /// The same source with what it keeps sealed with another key; none when that one opens all of it already.
    ///
    /// # Errors
    /// Something opens with neither.
    pub(super) fn resealed(&self, before: &SealKey, key: &SealKey) -> Result<Option<Source>, Unsealable> {
        let mut source = self.clone();
        let keys = self.keys.as_ref().map(|keys| keys.resealed(before, key, &place(&self.id))).transpose()?.flatten();
        let token_place = token_place(&self.id);
        let token = self.verify_token.as_ref().filter(|token| key.open(token, &token_place).is_err());
        if keys.is_none() && token.is_none() {
            return Ok(None);
        }
        if let Some(token) = token {
            let text = before.open(token, &token_place)?;
            source.verify_token = Some(seal_verify_token(key, &self.id, &text));
        }
        source.keys = keys.or(source.keys);
        Ok(Some(source))
    }

    /// The hash of the token that a provider shows when it asks; none where there is none, or it does not open.
    pub fn verify_token(&self, seal: &SealKey) -> Option<TokenHash> {
        let sealed = self.verify_token.as_ref()?;
        seal.open(sealed, &token_place(&self.id)).ok().map(|token| TokenHash::of(&token))
    }

    /// The keys made ready.
    ///
    /// # Errors
    /// [`Unusable::Sealed`] when the keys were sealed with another secret key, [`Unusable::Key`] when a key does not
    /// suit the scheme.
    pub fn verifier(&self, seal: &SealKey) -> Result<Verifier, Unusable> {
        let keys = self.keys.as_ref().map(|keys| keys.open(seal, &place(&self.id))).transpose()?;
        let current = keys.as_ref().map(|keys| keys.current.as_str());
        let previous = keys.as_ref().and_then(|keys| keys.previous.as_ref());
        let previous = previous.map(|(key, until_ms)| (key.as_str(), *until_ms));
        Verifier::new(self.scheme.clone(), current, previous).map_err(|_| Unusable::Key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::source::{Authentication, Headers, Incoming};
    use serde_json::json;

    fn seal() -> SealKey {
        SealKey::from_text(&SealKey::text_of([1; 32])).expect("a key")
    }

    fn source(id: &str, keys: SealedKeys) -> Source {
        let scheme = Scheme::of(Authentication::ApiKey);
        Source {
            id: id.into(),
            channel: 1,
            name: None,
            scheme,
            keys: Some(keys),
            event_type: Vec::new(),
            schema: None,
            rate_limit: None,
            verify_token: None,
            raw: None,
            paused: false,
            inserted_ms: 0,
            updated_ms: 0,
        }
    }

    fn takes(source: &Source, key: &str, now_ms: i64) -> bool {
        let pairs = [("x-api-key", key)];
        let headers: &dyn Headers = &pairs.as_slice();
        source.verifier(&seal()).expect("keys that open").verify(&Incoming::of(headers, b""), now_ms).is_ok()
    }

    #[test]
    fn a_stored_source_does_not_show_its_key_and_verifies_with_it() {
        let stored = source("wh_1", seal_key(&seal(), "wh_1", "the-key"));
        let text = serde_json::to_string(&stored).expect("JSON");
        assert!(!text.contains("the-key"));
        let read: Source = serde_json::from_str(&text).expect("a source");
        assert!(takes(&read, "the-key", 0) && !takes(&read, "another", 0));
        // a key that was moved to another source opens nothing there
        let moved = Source { id: "wh_2".into(), ..read };
        assert!(moved.verifier(&seal()).is_err());
    }

    #[test]
    fn a_source_that_was_stored_before_there_were_recipes_opens() {
        let stored = json!({
            "id": "wh_1", "channel": 1, "name": null, "keys": null, "event_type": [{"header": "X-GitHub-Event"}],
            "scheme": {"authentication": "github", "hmac_algorithm": "sha256"}, "inserted_ms": 0, "updated_ms": 0,
        });
        let read: Source = serde_json::from_value(stored).expect("a source");
        assert_eq!(read.scheme.authentication.as_str(), "github");
        for name in ["none", "api_key", "hmac", "jwt", "standard", "stripe", "slack"] {
            let scheme: Scheme = serde_json::from_value(json!({ "authentication": name })).expect(name);
            assert_eq!(serde_json::to_value(&scheme).expect("JSON")["authentication"], name);
        }
    }

    #[test]
    fn a_rotated_key_counts_for_as_long_as_it_was_given() {
        let old = seal_key(&seal(), "wh_1", "old");
        let overlapping = source("wh_1", rotate_key(&seal(), "wh_1", &old, "new", 100, 50));
        assert!(takes(&overlapping, "old", 99) && takes(&overlapping, "new", 99));
        assert!(!takes(&overlapping, "old", 100));
        let at_once = source("wh_1", rotate_key(&seal(), "wh_1", &old, "new", 50, 50));
        assert!(!takes(&at_once, "old", 0) && takes(&at_once, "new", 0));
    }
}
