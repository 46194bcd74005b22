//! What a server has acknowledged, and the check that a server on the same data folder still has all of it, and nothing else.
//!
//! A test makes it by [`Acknowledged::make`] on a running server, or reads it from a file that lies beside a data folder of an older version.

mod judge;
mod make;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub use self::judge::Verdict;
pub use self::make::{SOURCE_KEY, filler, new_token};
use super::{Request, TestServer};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Acknowledged {
    pub maps: Vec<Owner>,
    pub deleted_maps: Vec<Owner>,
    pub organizations: Vec<Owner>,
    pub tokens: Vec<Token>,
    pub revoked: Vec<Token>,
    pub webhooks: Vec<Webhook>,
    pub sources: Vec<Source>,
    /// The events of each channel (`map:<id>`, `organization:<id>`), in the order of the log.
    pub events: BTreeMap<String, Vec<Row>>,
    /// The ids that one publisher was given at once, so that they were in one commit.
    #[serde(skip)]
    pub commits: Vec<Vec<String>>,
}

/// A map or an organization with the token that came with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Owner {
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
    pub name: String,
    pub token: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Token {
    pub id: String,
    pub token: String,
    pub channel: String,
    pub scopes: Vec<String>,
    pub name: String,
    pub expires_at: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Webhook {
    /// Its address.
    pub at: String,
    pub channel: String,
    pub secret: Option<String>,
    /// What of it changes only when somebody changes it.
    pub object: Value,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Source {
    pub id: String,
    pub channel: String,
    pub token: String,
    pub key: String,
    pub name: String,
    pub dead_letters: Vec<Value>,
}

/// An event: its id, the SHA-256 of its envelope, its payload without a field `filler`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row(pub String, pub String, pub Value);

impl Row {
    fn of(envelope: &str) -> Row {
        let event: Value = serde_json::from_str(envelope).expect("an envelope is JSON");
        let mut payload = event["payload"].clone();
        payload.as_object_mut().expect("a payload is an object").remove("filler");
        let digest = Sha256::digest(envelope.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        // organizations write the same id with a prefix
        let id = event["id"].as_str().expect("an id").trim_start_matches("evt_");
        Row(id.into(), digest, payload)
    }
}

/// The address of a channel's events.
pub fn events_at(channel: &str) -> String {
    match channel.split_once(':') {
        Some(("map", id)) => format!("/api/maps/{id}/events"),
        Some((_, id)) => format!("/api/v1/organizations/{id}/events"),
        None => panic!("{channel} is no channel"),
    }
}

impl Acknowledged {
    /// The channels with the tokens that came with them.
    pub fn channels(&self) -> Vec<(String, String)> {
        let maps = self.maps.iter().map(|map| (format!("map:{}", map.id), map.token.clone()));
        maps.chain(self.organizations.iter().map(|one| (format!("organization:{}", one.id), one.token.clone())))
            .collect()
    }

    /// Reads back what there is now. For that the server must be well.
    pub fn note_events(&mut self, server: &TestServer) {
        let kept = self.channels().into_iter().map(|(channel, _)| {
            let rows = export(server, &channel).iter().map(|line| Row::of(line)).collect();
            (channel, without_markers(rows))
        });
        self.events = kept.collect();
    }
}

/// All of a channel's history as lines.
fn export(server: &TestServer, channel: &str) -> Vec<String> {
    let answer = server.admin("GET", &events_at(channel)).header("Accept", "application/x-ndjson").send();
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    answer.text().lines().map(String::from).collect()
}

fn without_markers(mut rows: Vec<Row>) -> Vec<Row> {
    // the only events with nothing in their payload
    rows.retain(|row| row.2 != json!({}));
    rows
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("no {field} in {value}")).to_owned()
}

/// The dead letters of a source, each with its body.
fn dead_letters(server: &TestServer, source: &str, token: &str) -> Vec<Value> {
    let addr: SocketAddr = server.addr();
    let ask = |rest: &str| {
        Request::new(addr, "GET", &format!("/api/webhooks/{source}/dead-letters{rest}")).bearer(token).send()
    };
    let list = ask("");
    if list.status != 200 {
        return vec![json!(format!("{} {}", list.status, list.text()))];
    }
    let list = list.json()["data"].as_array().expect("a list").clone();
    list.iter().map(|one| ask(&format!("/{}", one["n"])).json()["data"].clone()).collect()
}
