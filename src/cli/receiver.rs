//! The receiver of `stentor demo`: verifies each delivery as a receiver should, and prints it.

use std::net::TcpListener;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use actix_web::dev::{Server, ServerHandle};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use actors::model::signature::{Secret, check_age, verify_map};

/// How far the timestamp of a delivery may be from our clock.
const TOLERANCE_S: u32 = 300;
/// Longest body that is taken; an event has at most 256 KiB by default.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// A receiver that accepts connections; it answers 503 until it knows the secret.
pub struct Receiver {
    secret: web::Data<OnceLock<Secret>>,
    running: Server,
    url: String,
}

impl Receiver {
    /// Listens on a free port of the loopback.
    pub fn bind() -> std::io::Result<Receiver> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let url = format!("http://{}/webhook", listener.local_addr()?);
        let secret = web::Data::new(OnceLock::new());
        let for_app = secret.clone();
        let server = HttpServer::new(move || {
            App::new()
                .app_data(for_app.clone())
                .app_data(web::PayloadConfig::new(BODY_BYTES_MAX))
                .route("/webhook", web::post().to(receive))
        });
        let running = server.workers(1).disable_signals().listen(listener)?.run();
        Ok(Receiver { secret, running, url })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Verifies with this secret from now on, until the handle that is returned stops it.
    pub fn start(self, secret: Secret) -> ServerHandle {
        // it is given once, because this takes the receiver
        let _ = self.secret.set(secret);
        let handle = self.running.handle();
        actix_web::rt::spawn(self.running);
        handle
    }
}

async fn receive(secret: web::Data<OnceLock<Secret>>, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Some(secret) = secret.get() else { return HttpResponse::ServiceUnavailable().finish() };
    let timestamp = header("X-Wanderer-Timestamp");
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    let verified = check_age(timestamp, now_s, TOLERANCE_S)
        .and_then(|()| verify_map(secret, timestamp, &body, header("X-Wanderer-Signature")));
    if let Err(e) = verified {
        println!("  refused: {e}");
        return HttpResponse::Unauthorized().body("Invalid signature");
    }
    println!(
        "  verified  {:<24} {}  attempt {}, {} bytes",
        header("X-Wanderer-Event"),
        header("X-Wanderer-Delivery"),
        header("X-Wanderer-Attempt"),
        body.len()
    );
    HttpResponse::Ok().body("OK")
}
