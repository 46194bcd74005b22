//! The link that `stentor serve` prints on a terminal: it opens the dashboard as the admin, once. Its secret stands in the
//! fragment of the address, which browsers send nowhere, and the page exchanges it by POST for the admin token.

use std::time::{Duration, Instant};

use actors::model::access::{TokenHash, secret_text};
use parking_lot::Mutex;
use zeroize::Zeroizing;

/// How long the link is good for.
pub const LIFETIME: Duration = Duration::from_secs(600);

pub struct LoginLink {
    admin_token: Zeroizing<String>,
    /// The secret that is good now, and until when.
    open: Mutex<Option<(TokenHash, Instant)>>,
}

impl LoginLink {
    pub fn new(admin_token: Zeroizing<String>) -> LoginLink {
        LoginLink { admin_token, open: Mutex::new(None) }
    }

    /// A new secret, in place of the one before.
    pub fn make(&self, random: [u8; 32], now: Instant) -> String {
        let secret = secret_text("stl_", random);
        *self.open.lock() = Some((TokenHash::of(&secret), now + LIFETIME));
        secret
    }

    /// The admin token, once for the right secret within its time.
    pub fn exchange(&self, secret: &str, now: Instant) -> Option<&str> {
        let given = TokenHash::of(secret);
        let mut open = self.open.lock();
        let is_good = open.as_ref().is_some_and(|(hash, end)| hash.is(&given) && now < *end);
        is_good.then(|| {
            *open = None;
            self.admin_token.as_str()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_good_once_within_its_time_and_a_wrong_one_does_not_spend_it() {
        let (link, now) = (LoginLink::new("the admin token".to_owned().into()), Instant::now());
        assert_eq!(link.exchange("", now), None, "no link was made");
        let secret = link.make([7; 32], now);
        assert_eq!(link.exchange("stl_wrong", now), None);
        assert_eq!(link.exchange(&secret, now), Some("the admin token"));
        assert_eq!(link.exchange(&secret, now), None, "it is spent");
        let late = link.make([8; 32], now);
        assert_eq!(link.exchange(&secret, now), None);
        assert_eq!(link.exchange(&late, now + LIFETIME), None, "its time is over");
        assert_eq!(link.exchange(&late, now + LIFETIME - Duration::from_millis(1)), Some("the admin token"));
    }
}
