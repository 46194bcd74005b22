//! The receiver of `stentor demo`: verifies each delivery as a receiver should, and prints it.

use std::net::TcpListener;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use actix_web::dev::{Server, ServerHandle};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use actors::model::signature::{Secret, Unverified, check_age, verify_gateway, verify_map};
use serde::Deserialize;

use super::output;

/// How far the timestamp of a delivery may be from our clock.
const TOLERANCE_S: u32 = 300;
/// Longest body that is taken; an event has at most 256 KiB by default.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// What the deliveries are signed with.
pub struct Secrets {
    pub map: Secret,
    pub organization: Secret,
}

/// A receiver that accepts connections; it answers 503 until it knows the secrets.
pub struct Receiver {
    secrets: web::Data<OnceLock<Secrets>>,
    running: Server,
    url: String,
}

impl Receiver {
    /// Listens on a free port of the loopback.
    ///
    /// # Errors
    /// The loopback has no free port, or the server's thread cannot be started.
    pub fn bind() -> std::io::Result<Receiver> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let url = format!("http://{}/webhook", listener.local_addr()?);
        let secrets = web::Data::new(OnceLock::new());
        let for_app = secrets.clone();
        let server = HttpServer::new(move || {
            App::new()
                .app_data(for_app.clone())
                .app_data(web::PayloadConfig::new(BODY_BYTES_MAX))
                .route("/webhook", web::post().to(receive))
        });
        let running = server.workers(1).disable_signals().listen(listener)?.run();
        Ok(Receiver { secrets, running, url })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Verifies with these secrets from now on, until the handle that is returned stops it.
    pub fn start(self, secrets: Secrets) -> ServerHandle {
        // they are given once, because this takes the receiver
        let _ = self.secrets.set(secrets);
        let handle = self.running.handle();
        actix_web::rt::spawn(self.running);
        handle
    }
}

/// What a delivery says of itself, once it is verified.
struct Verified<'a> {
    event: String,
    delivery: &'a str,
}

/// The type of the event in a body of the organization, whose headers do not name it.
#[derive(Deserialize)]
struct Named {
    event: String,
}

async fn receive(secrets: web::Data<OnceLock<Secrets>>, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    let Some(secrets) = secrets.get() else { return HttpResponse::ServiceUnavailable().finish() };
    match verify(secrets, &request, &body) {
        Ok(Verified { event, delivery }) => {
            output::announce(format_args!("  verified  {event:<24} {delivery}  {} bytes", body.len()));
            HttpResponse::Ok().body("OK")
        }
        Err(e) => {
            output::announce(format_args!("  refused: {e}"));
            HttpResponse::Unauthorized().body("Invalid signature")
        }
    }
}

/// A delivery of the organization has a signature over its body; one of the map has a time in its signature, too.
fn verify<'a>(secrets: &Secrets, request: &'a HttpRequest, body: &[u8]) -> Result<Verified<'a>, Unverified> {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if let Some(signature) = request.headers().get("X-Webhook-Hmac").and_then(|value| value.to_str().ok()) {
        verify_gateway(&secrets.organization, body, signature)?;
        let event = serde_json::from_slice(body).map_or_else(|_| "(no event)".into(), |Named { event }| event);
        return Ok(Verified { event, delivery: header("X-Webhook-Request-Id") });
    }
    let timestamp = header("X-Wanderer-Timestamp");
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    check_age(timestamp, now_s, TOLERANCE_S)?;
    verify_map(&secrets.map, timestamp, body, header("X-Wanderer-Signature"))?;
    Ok(Verified { event: header("X-Wanderer-Event").into(), delivery: header("X-Wanderer-Delivery") })
}
