//! The check before every connection: which addresses of a target may be dialled.
//!
//! A webhook's URL passes the same check when it is saved, when it is tested and when it is delivered to. The check asks
//! the resolver once and hands out the very addresses that it judged, so a name server that answers otherwise a moment
//! later (DNS rebinding) gains nothing. One closed address closes the whole target: else a name with a public and a
//! private address would be a matter of luck.

use std::net::SocketAddr;

use crate::delivery::http::resolver::Resolver;
use crate::model::target::{Policy, Target, TargetError};

/// Most addresses of one name that are handed out; all of them are judged.
pub const ADDRESSES_MAX: usize = 8;

/// The policy of the server and the resolver it is asked with. Shareable between threads.
#[derive(Clone)]
pub struct TargetCheck {
    pub policy: Policy,
    pub resolver: Resolver,
}

/// Why nothing may, or can, be dialled.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("{host}: {reason}")]
    Forbidden { host: String, reason: TargetError },
    #[error("{host} cannot be resolved ({reason}); check the name and its DNS records")]
    Unresolved { host: String, reason: String },
}

impl TargetCheck {
    pub fn new(policy: Policy, resolver: Resolver) -> TargetCheck {
        TargetCheck { policy, resolver }
    }

    /// Judges a URL as it is saved. Says nothing about the addresses behind a name; [`TargetCheck::admit`] does.
    ///
    /// # Errors
    /// [`TargetError`] says which rule of the URL or of its address is broken.
    pub fn judge_url(&self, url: &str) -> Result<Target, TargetError> {
        self.policy.judge_url(url)
    }

    /// The addresses to dial for a target, each of them judged; at least one, at most [`ADDRESSES_MAX`].
    ///
    /// It waits for the resolver as long as that takes: the caller bounds the time.
    ///
    /// # Errors
    /// [`Refusal::Unresolved`] when the name has no address or the resolver fails, [`Refusal::Forbidden`] when one of
    /// its addresses may not be dialled.
    pub async fn admit(&self, target: &Target) -> Result<Vec<SocketAddr>, Refusal> {
        self.admit_host(&target.host, target.port).await
    }

    /// As [`TargetCheck::admit`], for a host as it stands in a URL: a name, or an address with or without brackets.
    pub(super) async fn admit_host(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Refusal> {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let found = match bare.parse() {
            Ok(address) => vec![address],
            Err(_) => self.resolver.lookup(bare).await.map_err(|e| self.unresolved(host, e.to_string()))?,
        };
        if found.is_empty() {
            return Err(self.unresolved(host, "the name has no address".to_owned()));
        }
        for address in &found {
            let judged = self.policy.judge_address(*address);
            judged.map_err(|reason| Refusal::Forbidden { host: host.to_owned(), reason })?;
        }
        Ok(found.into_iter().take(ADDRESSES_MAX).map(|ip| SocketAddr::new(ip, port)).collect())
    }

    fn unresolved(&self, host: &str, reason: String) -> Refusal {
        Refusal::Unresolved { host: host.to_owned(), reason }
    }
}

#[cfg(test)]
mod tests {
    use awc::http::Uri;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_check_can_be_asked_from_any_thread() {
        fn shareable(_: &(impl Send + Sync)) {}
        let target_check = TargetCheck::new(Policy::default(), Resolver::system());
        let target = target_check.judge_url("https://example.com/").expect("a plain url");
        shareable(&target_check);
        fn movable(_: impl Send) {}
        movable(target_check.admit(&target));
    }

    #[test]
    fn a_host_is_read_the_same_by_the_judge_and_by_the_client() {
        for url in [
            "https://[2606:4700::1111]:8443/a?b",
            "https://0x08.8.8.8/",
            "https://b\u{fc}cher.example/\u{fc}|^`{}\"'<>",
        ] {
            let target = Policy::default().judge_url(url).expect(url);
            let uri = Uri::try_from(target.url.as_str()).expect(url);
            let host = uri.host().expect(url).trim_matches(['[', ']']);
            assert_eq!((host, uri.port_u16().unwrap_or(443)), (target.host.as_str(), target.port), "{url}");
        }
    }

    proptest! {
        #[test]
        fn every_url_that_passes_can_be_requested(rest in "[!-~\\p{L}]{0,40}") {
            if let Ok(target) = Policy::default().judge_url(&format!("https://example.com/{rest}")) {
                let uri = Uri::try_from(target.url.as_str());
                prop_assert!(uri.is_ok_and(|uri| uri.host() == Some("example.com")), "{}", target.url);
            }
        }
    }
}
