//! Makes something of every kind on a running server, and keeps what was answered.

use serde_json::{Value, json};

use super::super::TestServer;
use super::super::map::ids;
use super::super::random::Random;
use super::{Acknowledged, Owner, Source, Token, Webhook, dead_letters, events_at, text};

/// What a webhook shows that changes by itself.
const VOLATILE: [&str; 21] = [
    "unknown_events",
    "unknownEvents",
    "delivering",
    "why",
    "last_delivery_at",
    "last_error",
    "last_error_at",
    "consecutive_failures",
    "health",
    "health_since",
    "healthSince",
    "next_attempt_at",
    "nextAttemptAt",
    "updated_at",
    "lastDeliveryAt",
    "lastError",
    "lastErrorAt",
    "consecutiveFailures",
    "updatedAt",
    "secret",
    "disabled_reason",
];
pub const SOURCE_KEY: &str = "the-key-of-the-source";

/// Text that does not compress to much less than its length.
pub fn filler(random: &mut Random, length: usize) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let letters = |mut bits: u64| {
        std::iter::repeat_with(move || {
            let letter = LETTERS[(bits & 63) as usize];
            bits >>= 6;
            char::from(letter)
        })
        .take(10)
    };
    let mut text: String = (0..length.div_ceil(10)).flat_map(|_| letters(random.next())).collect();
    text.truncate(length);
    text
}

impl Acknowledged {
    /// Makes two maps, two organizations, a map that is deleted again, tokens of which some are revoked, webhooks that deliver
    /// nothing, a source with a dead letter, and so many events of so many bytes.
    ///
    /// The server must have `webhooks.allow_http`, and no limit on requests.
    pub fn make(server: &TestServer, events: usize, event_bytes: usize, random: &mut Random) -> Acknowledged {
        let mut made = Acknowledged::default();
        for (name, slug) in [("One", "one"), ("Two", "two"), ("Gone", "gone")] {
            let body = json!({"name": name, "slug": slug});
            let map = server.admin("POST", "/api/maps").json(&body).send().expect(201)["data"].clone();
            let owner =
                Owner { id: text(&map, "id"), slug: Some(slug.into()), name: name.into(), token: text(&map, "token") };
            if name == "Gone" { made.deleted_maps.push(owner) } else { made.maps.push(owner) }
        }
        for name in ["Acme", "Other"] {
            let body = json!({ "name": name });
            let owner = server.admin("POST", "/api/v1/organizations").json(&body).send().expect(201)["data"].clone();
            let (id, token) = (text(&owner, "id"), text(&owner, "token"));
            made.organizations.push(Owner { id, slug: None, name: name.into(), token });
        }
        let gone = made.deleted_maps[0].clone();
        let event = json!({"type": "add_system", "payload": {"of": "a map that is deleted"}});
        server
            .request("POST", &events_at(&format!("map:{}", gone.id)))
            .bearer(&gone.token)
            .json(&event)
            .send()
            .expect(201);
        server.admin("DELETE", &format!("/api/maps/{}", gone.id)).send().expect(204);
        let channels = made.channels();
        made.make_tokens(server, &channels);
        made.make_webhooks(server, &channels);
        made.make_source(server, &channels[0]);
        made.publish(server, events, event_bytes, random);
        made
    }

    fn make_tokens(&mut self, server: &TestServer, channels: &[(String, String)]) {
        for (n, (channel, _)) in channels.iter().enumerate() {
            let name = format!("reader {n}");
            self.tokens.push(new_token(server, channel, &["subscribe"], &name));
            let token = new_token(server, channel, &["publish", "subscribe"], "leaked");
            self.revoke(server, token);
        }
    }

    /// Revokes a token; from now on it must be refused.
    pub fn revoke(&mut self, server: &TestServer, token: Token) {
        server.admin("DELETE", &format!("/api/v1/tokens/{}", token.id)).send().expect(204);
        self.tokens.retain(|known| known.id != token.id);
        self.revoked.push(token);
    }

    fn make_webhooks(&mut self, server: &TestServer, channels: &[(String, String)]) {
        for (channel, token) in [&channels[0], &channels[2]] {
            let at = match channel.strip_prefix("map:") {
                Some(id) => format!("/api/maps/{id}/webhooks"),
                None => "/api/v1/webhooks".into(),
            };
            // nobody listens on this port, and no event has this type
            let body =
                json!({"url": "http://127.0.0.1:9/hook", "events": ["map_kill"], "filter": "event.payload.n > 7"});
            let made = server.request("POST", &at).bearer(token).json(&body).send().expect(201)["data"].clone();
            let (at, secret) = (format!("{at}/{}", text(&made, "id")), made["secret"].as_str().map(str::to_owned));
            let object = lasting(&made);
            self.webhooks.push(Webhook { at, channel: channel.clone(), secret, object });
        }
    }

    fn make_source(&mut self, server: &TestServer, (channel, token): &(String, String)) {
        let body = json!({"name": "Senders", "authentication": "api_key", "apiKey": SOURCE_KEY});
        let made = server.request("POST", "/api/webhooks").bearer(token).json(&body).send().expect(201);
        let id = text(&made["endpoint"], "id");
        let refused = server.request("POST", &format!("/webhooks/{id}")).header("X-API-Key", SOURCE_KEY);
        refused.header("Content-Type", "application/json").body(r#"{"no":"type"}"#).send().expect(400);
        let dead_letters = dead_letters(server, &id, token);
        assert_eq!(dead_letters.len(), 1);
        let (channel, token) = (channel.clone(), token.clone());
        self.sources.push(Source { id, channel, token, key: SOURCE_KEY.into(), name: "Senders".into(), dead_letters });
    }

    /// Publishes so many more events, over all channels by turns, in batches of one to eight.
    pub fn publish(&mut self, server: &TestServer, events: usize, event_bytes: usize, random: &mut Random) {
        let channels = self.channels();
        let mut n = 0;
        while n < events {
            let (channel, token) = &channels[random.below(channels.len() as u64) as usize];
            let count = (1 + random.below(8) as usize).min(events - n);
            let event = |n: usize, random: &mut Random| json!({"type": "add_system", "payload": {"n": n, "filler": filler(random, event_bytes)}});
            let batch: Vec<_> = (n..n + count).map(|n| event(n, random)).collect();
            let answer = server.request("POST", &events_at(channel)).bearer(token).json(&json!(batch)).send();
            let ids: Vec<_> =
                ids(&answer.expect(201)).iter().map(|id| id.trim_start_matches("evt_").to_owned()).collect();
            self.commits.push(ids);
            n += count;
        }
        self.note_events(server);
    }
}

/// What of a webhook's object lasts.
fn lasting(object: &Value) -> Value {
    let fields = object.as_object().expect("an object").iter().filter(|(key, _)| !VOLATILE.contains(&&***key));
    fields.map(|(key, value)| (key.clone(), value.clone())).collect::<serde_json::Map<_, _>>().into()
}

/// A new token of a channel.
#[track_caller]
pub fn new_token(server: &TestServer, channel: &str, scopes: &[&str], name: &str) -> Token {
    let body = json!({"channel": channel, "scopes": scopes, "name": name});
    let made = server.admin("POST", "/api/v1/tokens").json(&body).send().expect(201)["data"].clone();
    let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    let (channel, name) = (channel.into(), name.into());
    Token { id: text(&made, "id"), token: text(&made, "token"), channel, scopes, name, expires_at: None }
}
