//! Handshakes: what providers ask before they send, to see whether the address means to receive.
//!
//! Slack, Zoom, Twitch and Discord sign the question, so it is answered after the signature. Meta proves itself by a token of
//! its own; Microsoft Graph and Event Grid ask without any proof, and get nothing but their own text back. An answer that
//! repeats what was sent is `text/plain` and short, so that no browser reads it as a page.

use super::auth::{Headers, Incoming};
use super::pointer;
use super::preset::Handshake;

/// The longest text that is sent back.
pub const ECHO_CHARS_MAX: usize = 256;

/// What a question is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// This text, as `text/plain`.
    Echo(String),
    /// This JSON.
    Json(String),
    /// The text and its HMAC with the key of the source, as Zoom wants them.
    Hashed(String),
    /// 204, nothing else.
    Nothing,
}

/// Why a question is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    #[error("is missing")]
    Missing,
    #[error("is 1 to 256 visible ASCII characters")]
    NotVisible,
}

fn echo(text: Option<String>) -> Result<String, Unanswered> {
    let text = text.ok_or(Unanswered::Missing)?;
    // Microsoft's texts have spaces between their words
    let is_visible = text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') && text.trim() == text;
    match is_visible && (1..=ECHO_CHARS_MAX).contains(&text.len()) {
        true => Ok(text),
        false => Err(Unanswered::NotVisible),
    }
}

/// Whether this one is asked without a signature.
pub fn is_unsigned(handshake: Handshake) -> bool {
    matches!(handshake, Handshake::Meta | Handshake::Msgraph | Handshake::Eventgrid)
}

/// A question that is asked without a signature; none where this is none. With a problem comes what it is about.
///
/// # Errors
/// The text to be sent back is missing, or cannot be sent back: see [`Unanswered`].
pub fn unsigned(
    handshake: Handshake,
    request: &Incoming<'_>,
    is_verify_token: impl Fn(&str) -> bool,
) -> Option<Result<Reply, (&'static str, Unanswered)>> {
    let parameter = |name| request.parameter(name).map(|value| value.into_owned());
    match handshake {
        Handshake::Meta if matches!(request.method, "GET" | "HEAD") => {
            let is_asked = parameter("hub.mode").as_deref() == Some("subscribe");
            let is_known = parameter("hub.verify_token").is_some_and(|token| is_verify_token(&token));
            if !is_asked || !is_known {
                return None;
            }
            Some(echo(parameter("hub.challenge")).map(Reply::Echo).map_err(|e| ("hub.challenge", e)))
        }
        Handshake::Msgraph => {
            let token = parameter("validationToken")?;
            Some(echo(Some(token)).map(Reply::Echo).map_err(|e| ("validationToken", e)))
        }
        Handshake::Eventgrid if request.method == "POST" => {
            let header = request.headers.get("aeg-event-type");
            if header.is_some_and(|kind| kind != "SubscriptionValidation") {
                return None;
            }
            let json = std::str::from_utf8(request.body).ok()?.trim();
            let first = if json.starts_with('[') { pointer::at(json, "/0")? } else { json };
            let text = |pointer| Some(pointer::scalar(pointer::at(first, pointer)?)?.into_owned());
            let kind = text("/eventType").or_else(|| text("/type"))?;
            if kind != "Microsoft.EventGrid.SubscriptionValidationEvent" {
                return None;
            }
            let code = echo(text("/data/validationCode"));
            Some(code.map(|code| Reply::Json(object("validationResponse", &code))).map_err(|e| ("validationCode", e)))
        }
        _ => None,
    }
}

/// A question in the JSON of a request whose sender is verified; none where this is none.
pub(super) fn signed(
    handshake: Handshake,
    headers: &dyn Headers,
    json: &str,
) -> Option<Result<Reply, (&'static str, Unanswered)>> {
    let found = |pointer: &str| Some(pointer::scalar(pointer::at(json, pointer)?)?.into_owned());
    let is = |pointer: &str, text: &str| found(pointer).as_deref() == Some(text);
    match handshake {
        Handshake::Slack if is("/type", "url_verification") => {
            Some(echo(found("/challenge")).map(Reply::Echo).map_err(|e| ("challenge", e)))
        }
        Handshake::Zoom if is("/event", "endpoint.url_validation") => {
            Some(echo(found("/payload/plainToken")).map(Reply::Hashed).map_err(|e| ("payload.plainToken", e)))
        }
        Handshake::Twitch => {
            let kind = headers.get("Twitch-Eventsub-Message-Type");
            let asks = kind == Some("webhook_callback_verification");
            asks.then(|| echo(found("/challenge")).map(Reply::Echo).map_err(|e| ("challenge", e)))
        }
        // an interaction has a token; the events of an application have a type of their own for the question
        Handshake::Discord if is("/type", "1") && pointer::at(json, "/event").is_none() => {
            Some(Ok(Reply::Json("{\"type\":1}".into())))
        }
        Handshake::Discord if is("/type", "0") => Some(Ok(Reply::Nothing)),
        _ => None,
    }
}

/// `{"name":"text"}` of a text that [`echo`] took.
fn object(name: &str, text: &str) -> String {
    serde_json::json!({ name: text }).to_string()
}

/// What Zoom wants: the text and its HMAC-SHA256 in hexadecimal digits.
pub fn hashed(plain: &str, hex: &str) -> String {
    serde_json::json!({ "plainToken": plain, "encryptedToken": hex }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask<'a>(url: &'a str, method: &'a str, body: &'a str, headers: &'a dyn Headers) -> Incoming<'a> {
        Incoming { method, url, headers, body: body.as_bytes() }
    }

    #[test]
    fn meta_gets_its_challenge_back_for_its_token_only() {
        let none: &[(&str, &str)] = &[];
        let url = "https://a.org/webhooks/w?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=mine";
        let asked =
            |url, method, token: &str| unsigned(Handshake::Meta, &ask(url, method, "", &none), |given| given == token);
        assert_eq!(asked(url, "GET", "mine"), Some(Ok(Reply::Echo("1158201444".into()))));
        assert_eq!(asked(url, "GET", "other"), None);
        assert_eq!(asked(url, "POST", "mine"), None);
        assert_eq!(asked("https://a.org/w?hub.challenge=1&hub.verify_token=mine", "GET", "mine"), None);
        let twice = "https://a.org/w?hub.mode=subscribe&hub.challenge=1&hub.verify_token=mine&hub.verify_token=x";
        assert_eq!(asked(twice, "GET", "mine"), None);
    }

    #[test]
    fn nothing_but_short_visible_text_is_sent_back() {
        let none: &[(&str, &str)] = &[];
        let asked = |token: &str| {
            let url = format!("https://a.org/w?validationToken={token}");
            unsigned(Handshake::Msgraph, &ask(&url, "POST", "", &none), |_| false).expect("a question")
        };
        let real = "Validation%3a+Testing+client+application+reachability+for+subscription+Request-Id%3a+522a8e7e";
        let text = "Validation: Testing client application reachability for subscription Request-Id: 522a8e7e";
        assert_eq!(asked(real), Ok(Reply::Echo(text.into())));
        for bad in ["", "a%0d%0aSet-Cookie:x", "%C3%A4", "a%00", &"x".repeat(257), "+a"] {
            assert_eq!(asked(bad), Err(("validationToken", Unanswered::NotVisible)), "{bad}");
        }
        assert_eq!(asked(&"x".repeat(256)), Ok(Reply::Echo("x".repeat(256))));
    }

    #[test]
    fn event_grid_gets_its_code_in_json() {
        let kind: &[(&str, &str)] = &[("aeg-event-type", "SubscriptionValidation")];
        let body = r#"[{"id":"1","eventType":"Microsoft.EventGrid.SubscriptionValidationEvent","data":{"validationCode":"512d38b6"}}]"#;
        let asked =
            |body, headers| unsigned(Handshake::Eventgrid, &ask("https://a.org/w", "POST", body, headers), |_| false);
        assert_eq!(asked(body, &kind), Some(Ok(Reply::Json(r#"{"validationResponse":"512d38b6"}"#.into()))));
        let event: &[(&str, &str)] = &[("aeg-event-type", "Notification")];
        assert_eq!(asked(body, &event), None);
        assert_eq!(asked(r#"[{"eventType":"Other"}]"#, &kind), None);
    }
}
