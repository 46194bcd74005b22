//! The handshake before the first delivery of CloudEvents to an address: whether its owner wants them (HTTP 1.1 Web Hooks for
//! Event Delivery 1.0.1, section 4). It is an OPTIONS with `WebHook-Request-Origin`, made like every attempt, so through the same
//! check of targets. What was granted counts until the address changes or the process ends; what was not is asked again by the
//! next attempt.
//!
//! Attempts that come together ask once: the others wait for the answer, whatever it is. No lock is held meanwhile.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::clock;
use crate::delivery::handles::Settings;
use crate::delivery::http::client::{Attempt, DeliveryClient};
use crate::delivery::outcome::Outcome;
use crate::model::delivery::FailureCode;
use crate::model::format::Format;
use crate::model::record_id::WebhookId;
use crate::model::target::Target;

/// The longest rate that is shown, in bytes.
const RATE_BYTES_MAX: usize = 32;

/// How an address has answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Nothing was to be delivered yet.
    #[default]
    NotAsked,
    /// `rate`: requests a minute, as the receiver has said, or `*`.
    Granted { at_ms: i64, rate: Option<String> },
    /// `reason` says what the receiver did and what it has to do.
    Refused { at_ms: i64, reason: String },
}

/// One address that was asked, or is being asked.
struct Asked {
    url: Box<str>,
    granted: OnceCell<()>,
    standing: Mutex<Standing>,
    /// What came of it when it was asked last, for those who waited meanwhile.
    refused: Mutex<Option<(Instant, Box<Outcome>)>>,
}

/// How the addresses of webhooks have answered; one for each webhook.
#[derive(Default)]
pub struct Handshakes(Mutex<HashMap<WebhookId, Arc<Asked>>>);

impl Handshakes {
    fn of(&self, webhook: &WebhookId, url: &str) -> Arc<Asked> {
        let new = || {
            let (granted, standing, refused) = (OnceCell::new(), Mutex::default(), Mutex::default());
            Arc::new(Asked { url: url.into(), granted, standing, refused })
        };
        let mut all = self.0.lock();
        let asked = all.entry(webhook.clone()).or_insert_with(new);
        if &*asked.url != url {
            *asked = new();
        }
        asked.clone()
    }

    /// How the address of a webhook has answered.
    pub fn standing(&self, webhook: &str, url: &str) -> Standing {
        let asked = self.0.lock().get(webhook).filter(|asked| &*asked.url == url).cloned();
        asked.map_or(Standing::NotAsked, |asked| asked.standing.lock().clone())
    }

    /// The webhook is deleted.
    pub fn forget(&self, webhook: &str) {
        self.0.lock().remove(webhook);
    }

    /// Asks whether `origin` may deliver to this address, unless that is known.
    ///
    /// # Errors
    /// It may not, or nobody answered: the outcome of the attempt for which it was asked.
    pub async fn permission(
        &self,
        webhook: &WebhookId,
        target: &Target,
        origin: &str,
        client: &DeliveryClient,
        settings: &Settings,
    ) -> Result<(), Box<Outcome>> {
        let asked = self.of(webhook, &target.url);
        let began = clock::instant();
        let ask = || async {
            // somebody else has asked while this one waited
            let refused = asked.refused.lock().clone().filter(|(at, _)| *at >= began);
            if let Some((_, outcome)) = refused {
                return Err(outcome);
            }
            let headers = vec![
                (Cow::Borrowed("User-Agent"), crate::model::format::USER_AGENT.to_owned()),
                (Cow::Borrowed("WebHook-Request-Origin"), origin.to_owned()),
            ];
            let question = Attempt {
                method: "OPTIONS",
                url: target,
                headers,
                body: Bytes::new(),
                deadline: settings.attempt_timeout,
                connect_timeout: settings.connect_timeout,
            };
            let judged = judged(client.send(question).await, origin);
            let at_ms = clock::now_ms();
            *asked.standing.lock() = match &judged {
                Ok(rate) => Standing::Granted { at_ms, rate: rate.clone() },
                Err(outcome) => Standing::Refused { at_ms, reason: outcome.detail.clone() },
            };
            *asked.refused.lock() = judged.as_ref().err().map(|outcome| (clock::instant(), outcome.clone()));
            judged.map(drop)
        };
        asked.granted.get_or_try_init(ask).await.copied()
    }
}

/// Who delivers CloudEvents, where receivers are asked first.
pub fn origin(settings: &Settings, format: Format) -> Option<&str> {
    let is_asked = matches!(format, Format::CloudEvents | Format::CloudEventsBinary);
    settings.handshake_origin.as_deref().filter(|_| is_asked)
}

/// The rate that was granted, or the outcome of an attempt that was not permitted.
fn judged(answer: Outcome, origin: &str) -> Result<Option<String>, Box<Outcome>> {
    let header = |name: &str| answer.response_headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
    let allowed = header("webhook-allowed-origin").map(|(_, value)| value.trim().to_owned());
    let what = match (&allowed, answer.status) {
        (_, None) => {
            let detail = format!("the handshake (OPTIONS) got no answer: {}", answer.detail);
            return Err(Box::new(Outcome { detail, ..answer }));
        }
        (Some(allowed), Some(200..=299)) if allowed == "*" || allowed.eq_ignore_ascii_case(origin) => {
            let rate =
                header("webhook-allowed-rate").map(|(_, rate)| rate.trim().chars().take(RATE_BYTES_MAX).collect());
            return Ok(rate);
        }
        (Some(_), Some(200..=299)) => "allows another origin".to_owned(),
        (None, Some(200..=299)) => "answered without WebHook-Allowed-Origin".to_owned(),
        (_, Some(status)) => format!("answered {status}"),
    };
    let detail = format!(
        "the receiver did not permit CloudEvents: to OPTIONS with WebHook-Request-Origin: {origin} it {what}; it has to answer \
         200 with WebHook-Allowed-Origin: {origin} (or *)"
    );
    Err(Box::new(Outcome { error: Some(FailureCode::HandshakeRefused), detail, ..answer }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: Option<u16>, headers: &[(&str, &str)]) -> Outcome {
        let mut answer = Outcome { status, ..Outcome::default() };
        headers.iter().for_each(|(name, value)| answer.response_headers.push(name, value));
        answer
    }

    #[test]
    fn only_an_answer_that_names_us_or_everybody_is_a_permission() {
        let rate = |headers: &[(&str, &str)]| judged(answer(Some(200), headers), "events.example.org");
        assert_eq!(
            rate(&[("webhook-allowed-origin", "*"), ("webhook-allowed-rate", "120")]).unwrap(),
            Some("120".into())
        );
        assert_eq!(rate(&[("webhook-allowed-origin", "Events.Example.org")]).unwrap(), None);
        for (status, headers) in [
            (200, &[][..]),
            (200, &[("webhook-allowed-origin", "example.org")]),
            (405, &[("webhook-allowed-origin", "*")]),
            (301, &[("webhook-allowed-origin", "*")]),
        ] {
            let refused = judged(answer(Some(status), headers), "events.example.org").unwrap_err();
            assert_eq!(refused.error, Some(FailureCode::HandshakeRefused), "{status} {headers:?}");
            assert!(refused.detail.contains("WebHook-Allowed-Origin: events.example.org (or *)"), "{}", refused.detail);
            assert!(!refused.succeeded());
        }
        let silent = Outcome { error: Some(FailureCode::Timeout), ..Outcome::default() };
        assert_eq!(judged(silent, "a").unwrap_err().error, Some(FailureCode::Timeout));
    }
}
