//! `stentor health`: whether a server is ready, as an exit code, for supervisors of containers that have no curl.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use clap::Args;
use rustls::ClientConfig;
use serde_json::Value as Json;

use super::remote::{RemoteArgs, in_words};
use super::{Failure, output};

/// Longest wait for the answer; supervisors ask every few seconds.
const TIMEOUT: Duration = Duration::from_secs(4);
/// Largest answer that is read.
const ANSWER_BYTES: usize = 64 * 1024;

/// The flags of `stentor health`.
#[derive(Debug, Args)]
pub struct HealthArgs {
    // only the address matters: readiness needs no token
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Asks the server once and prints `ready`.
///
/// # Errors
/// When it is not reached or says that it is not ready; its reasons are repeated.
pub fn run(args: HealthArgs) -> Result<(), Failure> {
    let (server, tls) = (args.remote.server()?, args.remote.tls()?);
    let (status, body) = actix_web::rt::System::new()
        .block_on(async {
            let asked = ask(&server, tls);
            let answer = actix_web::rt::time::timeout(TIMEOUT, asked).await;
            answer.unwrap_or_else(|_| Err(format!("no answer within {} s", TIMEOUT.as_secs())))
        })
        .map_err(|reason| Failure::Failed(format!("cannot talk to {server}: {reason}; check that it runs")))?;
    if status == StatusCode::OK {
        return output::text("ready\n");
    }
    Err(Failure::Failed(format!("the server answered {}: {}", status.as_u16(), reasons(&body))))
}

async fn ask(server: &str, tls: Arc<ClientConfig>) -> Result<(StatusCode, Json), String> {
    let connector = awc::Connector::new().rustls_0_23(tls);
    let client = awc::Client::builder().connector(connector).timeout(TIMEOUT).disable_redirects().finish();
    let mut response = client.get(format!("{server}/health/ready")).send().await.map_err(|e| in_words(&e))?;
    let body = response.body().limit(ANSWER_BYTES).await.map_err(|e| e.to_string())?;
    Ok((response.status(), serde_json::from_slice(&body).unwrap_or_default()))
}

/// What keeps the server from being ready, in words.
pub fn reasons(body: &Json) -> String {
    let mut reasons = Vec::new();
    if body["stopping"] == true {
        reasons.push("it is stopping".to_owned());
    }
    if body["journal_writable"] == false {
        reasons.push("the journal cannot be written; its log says why".to_owned());
    }
    if let (Some(free), Some(floor)) = (body["disk_free_bytes"].as_u64(), body["disk_floor_bytes"].as_u64())
        && free < floor
    {
        reasons.push(format!("{free} bytes of disk are free and {floor} are wanted"));
    }
    if reasons.is_empty() {
        "no reason that Stentor would give; is this a Stentor server?".to_owned()
    } else {
        reasons.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_keeps_a_server_from_being_ready_is_said_in_words() {
        let body = json!({"stopping": true, "journal_writable": true, "disk_free_bytes": 5, "disk_floor_bytes": 9});
        assert_eq!(reasons(&body), "it is stopping, 5 bytes of disk are free and 9 are wanted");
        let body =
            json!({"stopping": false, "journal_writable": false, "disk_free_bytes": null, "disk_floor_bytes": 9});
        assert_eq!(reasons(&body), "the journal cannot be written; its log says why");
        assert!(reasons(&Json::Null).contains("is this a Stentor server?"));
    }
}
