//! A receiver of webhooks. docs/receivers.md prints this file.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

struct Receiver {
    secret: String,
    seen: Mutex<HashSet<String>>,
}

async fn receive(request: HttpRequest, body: web::Bytes, receiver: web::Data<Receiver>) -> HttpResponse {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (timestamp, signature) = (header("x-wanderer-timestamp"), header("x-wanderer-signature"));
    if !is_genuine(&receiver.secret, timestamp, signature, &body) {
        return HttpResponse::Unauthorized().body("invalid signature");
    }
    let Ok(event) = serde_json::from_slice::<serde_json::Value>(&body) else {
        return HttpResponse::BadRequest().body("not JSON");
    };
    // the same delivery may come twice
    let id = event["id"].as_str().unwrap_or_default().to_owned();
    if receiver.seen.lock().expect("nobody panics with it").insert(id) {
        println!("received {} {}", event["type"], event["payload"]);
    }
    HttpResponse::Ok().finish()
}

fn is_genuine(secret: &str, timestamp: &str, signature: &str, body: &[u8]) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let is_fresh = timestamp.parse::<u64>().is_ok_and(|then| now.abs_diff(then) < 300);
    let digest = signature.strip_prefix("sha256=").and_then(from_hex).unwrap_or_default();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key of any length is taken");
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    // in constant time
    is_fresh && mac.verify_slice(&digest).is_ok()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let secret = std::env::var("WEBHOOK_SECRET").expect("WEBHOOK_SECRET is the secret of the webhook");
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9000".to_owned());
    let receiver = web::Data::new(Receiver { secret, seen: Mutex::default() });
    let server =
        HttpServer::new(move || App::new().app_data(receiver.clone()).route("/webhook", web::post().to(receive)));
    let server = server.bind(address)?;
    println!("waiting for deliveries");
    server.run().await
}
