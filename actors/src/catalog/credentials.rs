//! Tokens in memory: hashes to principals, read by every request, changed by few. The state database keeps the records.

use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::access::{Principal, Reach, TokenHash, TokenRecord};
use crate::model::event::ChannelNo;
use crate::model::record_id::TokenId;

/// The id under which the admin token's requests and streams are counted.
pub const ADMIN: &str = "admin";

#[derive(Default)]
pub struct Credentials {
    admin: RwLock<Option<TokenHash>>,
    tokens: RwLock<Tokens>,
    revocations: AtomicU64,
}

#[derive(Default)]
struct Tokens {
    by_hash: HashMap<TokenHash, Arc<Principal>>,
    by_id: HashMap<TokenId, TokenRecord>,
}

impl Credentials {
    pub fn set_admin(&self, token: &str) {
        *self.admin.write() = Some(TokenHash::of(token));
    }

    pub fn add(&self, record: TokenRecord) {
        let mut tokens = self.tokens.write();
        tokens.by_hash.insert(record.hash, Arc::new(record.principal()));
        tokens.by_id.insert(record.id.clone(), record);
    }

    /// Forgets a token; its streams end within a second.
    pub fn remove(&self, id: &str) -> Option<TokenRecord> {
        let mut tokens = self.tokens.write();
        let record = tokens.by_id.remove(id)?;
        tokens.by_hash.remove(&record.hash);
        self.revocations.fetch_add(1, Ordering::Release);
        Some(record)
    }

    /// Whose token this is. The text is hashed first, so what is compared tells nothing about tokens that exist.
    pub fn principal(&self, token: &str) -> Option<Arc<Principal>> {
        let hash = TokenHash::of(token);
        let admin = self.admin.read();
        if admin.is_some_and(|admin| admin.is(&hash)) {
            return Some(Arc::new(Principal { id: ADMIN.into(), reach: Reach::Admin, expires_ms: None }));
        }
        drop(admin);
        self.tokens.read().by_hash.get(&hash).cloned()
    }

    /// Whether a principal that was let in before would be let in now.
    pub fn holds(&self, principal: &Principal) -> bool {
        // the admin token and JWTs cannot be revoked one by one
        !principal.id.starts_with("tok_") || self.tokens.read().by_id.contains_key(&*principal.id)
    }

    /// Grows with every revocation, so that sessions look again only when there was one.
    pub fn revocations(&self) -> u64 {
        self.revocations.load(Ordering::Acquire)
    }

    pub fn get(&self, id: &str) -> Option<TokenRecord> {
        self.tokens.read().by_id.get(id).cloned()
    }

    /// The tokens of one channel, or of all, oldest first.
    pub fn list(&self, channel: Option<ChannelNo>) -> Vec<TokenRecord> {
        let tokens = self.tokens.read();
        let mut list: Vec<_> =
            tokens.by_id.values().filter(|t| channel.is_none_or(|no| no.0 == t.channel)).cloned().collect();
        list.sort_by(|a, b| a.id.cmp(&b.id));
        list
    }
}
