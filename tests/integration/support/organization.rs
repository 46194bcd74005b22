//! An organization, as its clients use it.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::http::{Answer, Request};
use super::map::ids;
use super::{Sse, TestServer, Ws};

/// An organization and a token for it.
#[derive(Clone, Debug)]
pub struct Organization {
    pub addr: SocketAddr,
    pub id: String,
    pub token: String,
}

impl TestServer {
    /// An organization with an id made by the server, and a token with all scopes.
    #[track_caller]
    pub fn new_organization(&self, name: &str) -> Organization {
        let body = self.admin("POST", "/api/v1/organizations").json(&json!({ "name": name })).send().expect(201);
        let text = |field: &str| body["data"][field].as_str().expect("a text").to_string();
        Organization { addr: self.addr(), id: text("id"), token: text("token") }
    }
}

impl Organization {
    /// A request with the organization's token to an address below the organization.
    pub fn below(&self, method: &str, rest: &str) -> Request {
        self.anonymous(method, rest).bearer(&self.token)
    }

    /// The same without a credential.
    pub fn anonymous(&self, method: &str, rest: &str) -> Request {
        self.plain(method, &format!("/api/v1/organizations/{}{rest}", self.id))
    }

    /// A request with the organization's token to any address.
    pub fn request(&self, method: &str, target: &str) -> Request {
        self.plain(method, target).bearer(&self.token)
    }

    /// A request without a credential to any address.
    pub fn plain(&self, method: &str, target: &str) -> Request {
        Request::new(self.addr, method, target)
    }

    pub fn with_token(&self, token: &str) -> Organization {
        Organization { token: token.into(), ..self.clone() }
    }

    /// The same organization on a server that was started again.
    pub fn at(&self, server: &TestServer) -> Organization {
        Organization { addr: server.addr(), ..self.clone() }
    }

    /// Publishes and returns the ids.
    #[track_caller]
    pub fn publish(&self, body: &Value) -> Vec<String> {
        ids(&self.below("POST", "/events").json(body).send().expect(201))
    }

    /// Publishes this many messages of a session with `payload.n` from 0 on.
    #[track_caller]
    pub fn publish_many(&self, count: usize, session: &str) -> Vec<String> {
        let numbers: Vec<usize> = (0..count).collect();
        let batches = numbers.chunks(1000).flat_map(|numbers| {
            let event = |n: &usize| json!({"event": "message", "session": session, "payload": {"n": n}});
            self.publish(&numbers.iter().map(event).collect::<Value>())
        });
        batches.collect()
    }

    /// All of history as lines.
    #[track_caller]
    pub fn export(&self) -> Vec<String> {
        let answer = self.below("GET", "/events").header("Accept", "application/x-ndjson").send();
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text().lines().map(String::from).collect()
    }

    /// The data of a page of history.
    #[track_caller]
    pub fn history(&self, query: &str) -> Vec<Value> {
        let body = self.below("GET", &format!("/events?{query}")).send().expect(200);
        body["data"].as_array().expect("a list").clone()
    }

    #[track_caller]
    pub fn stream(&self, query: &str) -> Sse {
        Sse::open(self.below("GET", &format!("/events/stream?{query}")))
    }

    /// A token of the organization: (id, token).
    #[track_caller]
    pub fn new_token(&self, mut body: Value) -> (String, String) {
        body["channel"] = format!("organization:{}", self.id).into();
        let made = self.request("POST", "/api/v1/tokens").json(&body).send().expect(201);
        let text = |field: &str| made["data"][field].as_str().expect("a text").to_string();
        (text("id"), text("token"))
    }

    /// Asks for a realtime ticket.
    pub fn ask_ticket(&self, body: &Value) -> Answer {
        self.request("POST", "/api/v1/realtime/ticket").json(body).send()
    }

    /// The text of a realtime ticket.
    #[track_caller]
    pub fn ticket(&self, body: &Value) -> String {
        self.ask_ticket(body).expect(201)["ticket"].as_str().expect("a ticket").to_string()
    }

    /// A realtime WebSocket of the ticket that is minted with this body.
    #[track_caller]
    pub fn realtime(&self, body: &Value) -> Ws {
        Ws::at(self.addr, &format!("/api/v1/realtime?ticket={}", self.ticket(body)), None)
    }
}
