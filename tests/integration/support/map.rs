//! A map as the tests use it: its addresses with its token, what is published and what is read.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{Answer, Request, Sse, TestServer};

/// A map and a token with all scopes for it.
#[derive(Clone, Debug)]
pub struct Map {
    pub addr: SocketAddr,
    pub id: String,
    pub token: String,
}

impl Map {
    /// A request with the map's token to an address below the map.
    pub fn request(&self, method: &str, rest: &str) -> Request {
        self.anonymous(method, rest).bearer(&self.token)
    }

    /// A request with the map's token to any address.
    pub fn of_server(&self, method: &str, target: &str) -> Request {
        Request::new(self.addr, method, target).bearer(&self.token)
    }

    /// The same without a credential.
    pub fn anonymous(&self, method: &str, rest: &str) -> Request {
        Request::new(self.addr, method, &format!("/api/maps/{}{rest}", self.id))
    }

    /// The same map on a server that was started again.
    pub fn at(&self, server: &TestServer) -> Map {
        Map { addr: server.addr(), ..self.clone() }
    }

    pub fn post(&self, body: &Value) -> Answer {
        self.request("POST", "/events").json(body).send()
    }

    /// Publishes and returns the ids.
    #[track_caller]
    pub fn publish(&self, body: &Value) -> Vec<String> {
        ids(&self.post(body).expect(201))
    }

    /// Publishes this many events with `payload.n` from 0 on.
    #[track_caller]
    pub fn publish_many(&self, count: usize) -> Vec<String> {
        let numbers: Vec<usize> = (0..count).collect();
        let batches = numbers.chunks(1000).flat_map(|numbers| {
            let events: Vec<_> = numbers.iter().map(|n| json!({"type": "add_system", "payload": {"n": n}})).collect();
            self.publish(&json!({ "events": events }))
        });
        batches.collect()
    }

    /// The stream with the query given.
    #[track_caller]
    pub fn stream(&self, query: &str) -> Sse {
        Sse::open(self.request("GET", &format!("/events/stream?{query}")))
    }

    /// The data of a page of history.
    #[track_caller]
    pub fn history(&self, query: &str) -> Vec<Value> {
        let body = self.request("GET", &format!("/events?{query}")).send().expect(200);
        body["data"].as_array().expect("a list").clone()
    }

    /// All of history as lines.
    #[track_caller]
    pub fn export(&self) -> Vec<String> {
        let answer = self.request("GET", "/events").header("Accept", "application/x-ndjson").send();
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        answer.text().lines().map(String::from).collect()
    }

    /// A token of the map with these scopes: (id, token).
    #[track_caller]
    pub fn new_token(&self, body: Value) -> (String, String) {
        let mut asked = json!({ "channel": format!("map:{}", self.id) });
        asked.as_object_mut().expect("an object").extend(body.as_object().expect("an object").clone());
        let made = Request::new(self.addr, "POST", "/api/v1/tokens").bearer(&self.token).json(&asked).send();
        let made = made.expect(201);
        let text = |field: &str| made["data"][field].as_str().expect("a text").to_string();
        (text("id"), text("token"))
    }

    pub fn with_token(&self, token: &str) -> Map {
        Map { token: token.into(), ..self.clone() }
    }
}

/// The ids in the answer to a publisher.
pub fn ids(answer: &Value) -> Vec<String> {
    let ids = answer["data"]["ids"].as_array().expect("a list of ids");
    ids.iter().map(|id| id.as_str().expect("a text").to_string()).collect()
}
