//! Events that come in from outside: sources, who is believed there, and what becomes of what is refused.

mod bodies;
mod cloudevents;
mod crash;
mod hostile;
mod letters;
mod listener;
mod manage;
mod order;
mod presets;
mod providers;
mod raw;
mod wire;

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use actors::model::source::{HmacAlgorithm, sign_hmac};
use serde_json::{Value, json};

use crate::support::{Answer, Map, Request, TestServer};

const KEY: &str = "your-secret-key";

/// An address at which events come in.
#[derive(Clone, Debug)]
struct Source {
    addr: SocketAddr,
    id: String,
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

impl Source {
    /// Makes a source of the map; the answer is what its owner reads.
    #[track_caller]
    fn new(map: &Map, body: Value) -> (Source, Value) {
        let made = Request::new(map.addr, "POST", "/api/webhooks").bearer(&map.token).json(&body).send().expect(201);
        let id = made["endpoint"]["id"].as_str().expect("an id").to_string();
        (Source { addr: map.addr, id }, made)
    }

    #[track_caller]
    fn hmac(map: &Map) -> Source {
        Source::new(map, json!({"name": "Game Server Events", "authentication": "hmac", "secretKey": KEY})).0
    }

    #[track_caller]
    fn open(map: &Map) -> Source {
        Source::new(map, json!({"authentication": "none"})).0
    }

    fn at(&self, server: &TestServer) -> Source {
        Source { addr: server.addr(), ..self.clone() }
    }

    /// A request to the address itself.
    fn request(&self, query: &str) -> Request {
        Request::new(self.addr, "POST", &format!("/webhooks/{}{query}", self.id))
            .header("Content-Type", "application/json")
    }

    /// A request of the owner.
    fn manage(&self, token: &str, method: &str, rest: &str) -> Request {
        Request::new(self.addr, method, &format!("/api/webhooks/{}{rest}", self.id)).bearer(token)
    }

    fn post(&self, body: &Value) -> Answer {
        self.request("").body(body.to_string()).send()
    }

    /// As the snippet of the document signs it.
    fn signed(&self, body: &str, at_ms: i64) -> Request {
        let at = at_ms.to_string();
        let signature = sign_hmac(HmacAlgorithm::Sha256, KEY, &at, body.as_bytes());
        self.request("").header("X-Webhook-Timestamp", &at).header("X-Webhook-Signature", &signature).body(body)
    }
}

/// The ids in the answer to a sender.
#[track_caller]
fn ids(answer: &Value) -> Vec<String> {
    let ids: Vec<_> =
        answer["ids"].as_array().expect("ids").iter().map(|id| id.as_str().expect("a text").into()).collect();
    assert_eq!(answer["accepted"], ids.len(), "{answer}");
    ids
}
