//! A running server as seen from the command line: where it is, who asks, and its JSON answers over HTTP.

use std::time::Duration;

use actix_web::http::{Method, StatusCode, Uri};
use actors::webhook::client::tls_config;
use clap::Args;
use serde_json::Value as Json;

use super::Failure;

/// Longest wait for an answer, its body included.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer that is read.
const ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// The flags of every command that talks to a running server.
#[derive(Debug, Args)]
pub struct RemoteArgs {
    /// Address of the server
    #[arg(
        long,
        value_name = "URL",
        env = "STENTOR_SERVER",
        default_value = "http://127.0.0.1:8080",
        value_parser = address,
        global = true
    )]
    server: String,
    /// Token to ask with; better given by the environment, where other users of the machine do not see it
    #[arg(long, env = "STENTOR_TOKEN", hide_env_values = true, global = true)]
    token: Option<String>,
}

/// Checks the address of a server and takes the `/` from its end.
fn address(text: &str) -> Result<String, String> {
    let base = text.trim_end_matches('/');
    let uri: Uri = base.parse().map_err(|_| "give an address such as https://events.example.org".to_owned())?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() => Ok(base.to_owned()),
        _ => Err("give an address that starts with http:// or https://".to_owned()),
    }
}

/// Asks one server with one token. Not `Send`, like awc's client in it.
pub struct Remote {
    client: awc::Client,
    server: String,
    token: String,
}

impl Remote {
    /// Prepares requests; connects to nothing yet. Must be called inside an actix runtime.
    ///
    /// # Errors
    /// Wrong usage when no token is given.
    pub fn new(args: &RemoteArgs) -> Result<Self, Failure> {
        let Some(token) = args.token.clone().filter(|token| !token.is_empty()) else {
            return Err(Failure::Usage("no token is given; set STENTOR_TOKEN or use --token".to_owned()));
        };
        super::install_cryptography();
        // an error would mean that an extra certificate cannot be read, and there is none
        let tls = tls_config(&[]).map_err(|error| Failure::Failed(format!("TLS cannot be set up: {error}")))?;
        let connector = awc::Connector::new().rustls_0_23(tls);
        let client = awc::Client::builder().connector(connector).timeout(TIMEOUT).disable_redirects().finish();
        Ok(Self { client, server: args.server.clone(), token })
    }

    /// Sends one request and reads the JSON of its answer; an empty answer is `null`.
    ///
    /// # Errors
    /// When the server is not reached, or answers with anything but a 2xx; its own sentence is repeated.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Json>) -> Result<Json, Failure> {
        let url = format!("{}{path}", self.server);
        let request = self.client.request(method, &url).bearer_auth(&self.token);
        let sent = match body {
            Some(body) => request.send_json(body),
            None => request.send(),
        };
        let exchange = async {
            let mut response = sent.await.map_err(|error| self.unreachable(&error.to_string()))?;
            let bytes = response.body().limit(ANSWER_BYTES).await;
            let bytes = bytes.map_err(|error| self.unreachable(&format!("its answer broke off: {error}")))?;
            Ok::<_, Failure>((response.status(), bytes))
        };
        // awc's own timeout ends with the head of the answer.
        let (status, bytes) = actix_web::rt::time::timeout(TIMEOUT, exchange)
            .await
            .map_err(|_| self.unreachable(&format!("no answer within {} s", TIMEOUT.as_secs())))??;
        if status.is_success() && bytes.is_empty() {
            return Ok(Json::Null);
        }
        let json: Option<Json> = serde_json::from_slice(&bytes).ok();
        match json {
            Some(json) if status.is_success() => Ok(json),
            json => Err(refusal(status, json.as_ref())),
        }
    }

    fn unreachable(&self, reason: &str) -> Failure {
        let server = &self.server;
        Failure::Failed(format!("cannot talk to {server}: {reason}; check --server and that the server runs"))
    }
}

/// A refusal in words: the sentence of either error body of the server, and what to do about its status.
fn refusal(status: StatusCode, json: Option<&Json>) -> Failure {
    let sentence = json
        .and_then(|json| json.pointer("/error/message").or_else(|| json.get("error")))
        .and_then(Json::as_str)
        .unwrap_or("no reason that Stentor would give; is this a Stentor server?");
    let advice = match status.as_u16() {
        401 => "check the token",
        403 => "use a token with the scope manage, or the admin token",
        404 => "check the name and that the token may know of it",
        429 | 503 => "try again later",
        _ => "correct the request",
    };
    Failure::Failed(format!("the server answered {}: {sentence}; {advice}", status.as_u16()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_error_bodies_of_the_server_are_understood() {
        let b = json!({"error": {"code": "forbidden", "message": "the scope manage is missing"}});
        let a = json!({"error": "Map not found for identifier: x", "code": "MAP_NOT_FOUND", "status": 404});
        assert_eq!(
            refusal(StatusCode::FORBIDDEN, Some(&b)).to_string(),
            "the server answered 403: the scope manage is missing; \
             use a token with the scope manage, or the admin token"
        );
        assert!(refusal(StatusCode::NOT_FOUND, Some(&a)).to_string().contains("Map not found for identifier: x"));
        assert!(refusal(StatusCode::BAD_GATEWAY, None).to_string().contains("is this a Stentor server?"));
    }

    #[test]
    fn an_address_needs_a_scheme_and_loses_its_last_slash() {
        assert_eq!(address("http://127.0.0.1:8080/").as_deref(), Ok("http://127.0.0.1:8080"));
        for wrong in ["", "127.0.0.1:8080", "ftp://x", "http://", "http:///x", "a b"] {
            assert!(address(wrong).is_err(), "{wrong:?}");
        }
    }
}
