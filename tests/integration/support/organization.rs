//! An organization, as its own tokens see it.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::server::ids;
use super::{Request, TestServer};

/// An organization and a token with all scopes for it.
#[derive(Clone, Debug)]
pub struct Organization {
    pub addr: SocketAddr,
    pub id: String,
    pub token: String,
}

impl TestServer {
    pub fn new_organization(&self, name: &str) -> Organization {
        let body = self.admin("POST", "/api/v1/organizations").json(&json!({ "name": name })).send().expect(201);
        let text = |field: &str| body["data"][field].as_str().expect("a text").to_string();
        Organization { addr: self.addr(), id: text("id"), token: text("token") }
    }
}

impl Organization {
    /// A request with the organization's token.
    pub fn request(&self, method: &str, target: &str) -> Request {
        Request::new(self.addr, method, target).bearer(&self.token)
    }

    /// The same organization on a server that was started again.
    pub fn at(&self, server: &TestServer) -> Organization {
        Organization { addr: server.addr(), ..self.clone() }
    }

    /// Publishes and returns the ids.
    #[track_caller]
    pub fn publish(&self, body: &Value) -> Vec<String> {
        ids(&self.request("POST", &format!("/api/v1/organizations/{}/events", self.id)).json(body).send().expect(201))
    }

    /// All of history as lines.
    #[track_caller]
    pub fn export(&self) -> Vec<String> {
        let target = format!("/api/v1/organizations/{}/events", self.id);
        let answer = self.request("GET", &target).header("Accept", "application/x-ndjson").send();
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text().lines().map(String::from).collect()
    }
}
