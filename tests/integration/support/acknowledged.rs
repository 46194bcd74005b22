//! What a server has acknowledged, and the check that a server on the same data folder still has all of it, and nothing else.
//!
//! A test makes it by [`Acknowledged::make`] on a running server, or reads it from a file that lies beside a data folder of an older version.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::random::Random;
use super::server::ids;
use super::{Request, SOON, Sse, TestServer};

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

/// How a server stands to what was acknowledged, when nothing is wrong.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All of it is there, as it was.
    Whole,
    /// These events are lost, and that was announced in every place where it has to be.
    Announced { lost: Vec<String> },
}

/// Type of the events by which a reader knows that it has read everything.
const MARKER: &str = "marker";
/// What a webhook shows that changes by itself.
const VOLATILE: [&str; 17] = [
    "unknown_events",
    "unknownEvents",
    "delivering",
    "why",
    "last_delivery_at",
    "last_error",
    "last_error_at",
    "consecutive_failures",
    "health",
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

/// The address of a channel's events.
pub fn events_at(channel: &str) -> String {
    match channel.split_once(':') {
        Some(("map", id)) => format!("/api/maps/{id}/events"),
        Some((_, id)) => format!("/api/v1/organizations/{id}/events"),
        None => panic!("{channel} is no channel"),
    }
}

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

    /// The channels with the tokens that came with them.
    pub fn channels(&self) -> Vec<(String, String)> {
        let maps = self.maps.iter().map(|map| (format!("map:{}", map.id), map.token.clone()));
        maps.chain(self.organizations.iter().map(|one| (format!("organization:{}", one.id), one.token.clone())))
            .collect()
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

    /// Reads back what there is now. For that the server must be well.
    pub fn note_events(&mut self, server: &TestServer) {
        let kept = self.channels().into_iter().map(|(channel, _)| {
            let rows = export(server, &channel).iter().map(|line| Row::of(line)).collect();
            (channel, without_markers(rows))
        });
        self.events = kept.collect();
    }

    /// Compares with what a running server has. An error is everything that is wrong, for people to read.
    ///
    /// # Errors
    /// What is missing, different or too much without having been announced.
    pub fn judge(&self, server: &TestServer) -> Result<Verdict, Vec<String>> {
        let mut wrong = self.judge_configured(server);
        let mut lost = Vec::new();
        for (channel, token) in self.channels() {
            match read(server, &channel, &token) {
                Ok(items) => self.judge_events(server, &channel, &items, &mut lost, &mut wrong),
                Err(why) => wrong.push(format!("{channel} cannot be read: {why}")),
            }
        }
        let letters_lost = self.judge_dead_letters(server, &mut wrong);
        if !lost.is_empty() {
            wrong.extend(unannounced(server));
        }
        if (letters_lost || !lost.is_empty()) && !server.log_lines().iter().any(|line| is_complaint(line)) {
            wrong.push("the log says nothing of what is lost".into());
        }
        match (wrong.is_empty(), lost.is_empty() && !letters_lost) {
            (false, _) => Err(wrong),
            (true, true) => Ok(Verdict::Whole),
            (true, false) => Ok(Verdict::Announced { lost }),
        }
    }

    /// The same of a server that must have everything.
    #[track_caller]
    pub fn expect_whole(&self, server: &TestServer) {
        match self.judge(server) {
            Ok(Verdict::Whole) => {}
            Ok(verdict) => panic!("all of it should be there: {verdict:?}"),
            Err(wrong) => panic!("all of it should be there: {wrong:#?}"),
        }
    }

    fn judge_configured(&self, server: &TestServer) -> Vec<String> {
        let mut wrong = Vec::new();
        let ours: [(&str, &[Owner], &[&str]); 2] =
            [("/api/maps", &self.maps, &[]), ("/api/v1/organizations", &self.organizations, &["default", "system"])];
        for (at, owners, extra) in ours {
            let listed = server.admin("GET", at).send().expect(200)["data"].as_array().cloned().unwrap_or_default();
            let names: BTreeSet<_> = listed
                .iter()
                .map(|one| (text(one, "id"), text(one, "name")))
                .filter(|(id, _)| !extra.contains(&&**id))
                .collect();
            let wanted: BTreeSet<_> = owners.iter().map(|one| (one.id.clone(), one.name.clone())).collect();
            if names != wanted {
                wrong.push(format!("{at} lists {names:?} in place of {wanted:?}"));
            }
        }
        for map in self.maps.iter().filter_map(|map| map.slug.as_ref().map(|slug| (slug, map))) {
            let found = server.admin("GET", &format!("/api/maps/{}", map.0)).send();
            if found.status != 200 || found.json()["data"]["id"] != *map.1.id {
                wrong.push(format!("the slug {} leads to {}", map.0, found.text()));
            }
        }
        let tokens = server.admin("GET", "/api/v1/tokens").send().expect(200)["data"].clone();
        for token in &self.tokens {
            let listed = tokens.as_array().into_iter().flatten().find(|one| one["id"] == *token.id);
            let wanted = json!({
                "channel": token.channel, "scopes": token.scopes, "name": token.name, "expires_at": token.expires_at,
            });
            let differs = |listed: &&Value| {
                wanted.as_object().expect("an object").iter().any(|(key, value)| &listed[key] != value)
            };
            if listed.is_none() || listed.is_some_and(|listed| differs(&listed)) {
                wrong.push(format!("the token {} is listed as {listed:?}", token.id));
            }
        }
        let good = self.tokens.iter().map(|token| (&token.channel, &token.token, true)).collect::<Vec<_>>();
        let own = self.channels();
        let own = own.iter().map(|(channel, token)| (channel, token, true));
        let revoked = self.revoked.iter().map(|token| (&token.channel, &token.token, false));
        for (channel, token, counts) in good.into_iter().chain(own).chain(revoked) {
            let answer = server.request("GET", &format!("{}?limit=1", events_at(channel))).bearer(token).send();
            if (answer.status != 401) != counts {
                wrong.push(format!("a token of {channel} that is good: {counts}, is answered {}", answer.status));
            }
        }
        for map in &self.deleted_maps {
            let answer = server.request("GET", &format!("/api/maps/{}", map.id)).bearer(&map.token).send();
            if answer.status == 200 {
                wrong.push(format!("a map that was deleted is there again: {}", answer.text()));
            }
        }
        for webhook in &self.webhooks {
            let answer = server.admin("GET", &webhook.at).send();
            let found = if answer.status == 200 { answer.json()["data"].clone() } else { Value::Null };
            let wanted = webhook.object.as_object().expect("an object");
            wrong.extend(
                wanted
                    .iter()
                    .filter(|(key, value)| &found[*key] != *value)
                    .map(|(key, value)| format!("{}: {key} is {} in place of {value}", webhook.at, found[key])),
            );
        }
        for source in &self.sources {
            let answer = server.request("GET", &format!("/api/webhooks/{}", source.id)).bearer(&source.token).send();
            if answer.status != 200 || !answer.text().contains(&format!("\"name\":\"{}\"", source.name)) {
                wrong.push(format!("the source {} is {} {}", source.id, answer.status, answer.text()));
            }
        }
        wrong
    }

    fn judge_events(
        &self,
        server: &TestServer,
        channel: &str,
        items: &[Item],
        lost: &mut Vec<String>,
        wrong: &mut Vec<String>,
    ) {
        let none = Vec::new();
        let mut expected = self.events.get(channel).unwrap_or(&none).iter().peekable();
        // since the event before: whether a gap of damage was announced
        let (mut announced, mut silent) = (false, Vec::new());
        let mut skip =
            |rows: &mut std::iter::Peekable<std::slice::Iter<'_, Row>>, until: Option<&str>, announced: bool| {
                while let Some(row) = rows.next_if(|row| until.is_none_or(|until| *row.0 < *until)) {
                    if announced { lost.push(row.0.clone()) } else { silent.push(row.0.clone()) }
                }
            };
        for item in items {
            match item {
                Item::Gap(reason) => announced |= reason == "damaged",
                Item::Event(found) => {
                    skip(&mut expected, Some(&found.0), announced);
                    announced = false;
                    match expected.next_if(|row| row.0 == found.0) {
                        Some(row) if row == found => {}
                        Some(row) => wrong.push(format!("{channel}: {row:?} is {found:?} now")),
                        None => wrong.push(format!("{channel}: an event that nobody published there: {found:?}")),
                    }
                }
                Item::Marker => {
                    skip(&mut expected, None, announced);
                    announced = false;
                }
            }
        }
        skip(&mut expected, None, false);
        if !silent.is_empty() {
            let some = &silent[..silent.len().min(3)];
            wrong.push(format!("{channel}: {} events are gone, and nothing says so: {some:?} ...", silent.len()));
        }
        let streamed: Vec<_> =
            items.iter().filter_map(|item| if let Item::Event(row) = item { Some(row) } else { None }).collect();
        let history = without_markers(export(server, channel).iter().map(|line| Row::of(line)).collect());
        if !history.iter().eq(streamed.iter().copied()) {
            wrong.push(format!("{channel}: history has {} events, the stream {}", history.len(), streamed.len()));
        }
    }

    /// Whether the dead letters are lost, whole, which is allowed when it is said.
    fn judge_dead_letters(&self, server: &TestServer, wrong: &mut Vec<String>) -> bool {
        let mut lost = false;
        for source in &self.sources {
            let found = dead_letters(server, &source.id, &source.token);
            if found.is_empty() && !source.dead_letters.is_empty() {
                lost = true;
            } else if found.len() != source.dead_letters.len()
                || !found.iter().zip(&source.dead_letters).all(|(found, kept)| tells_all_of(found, kept))
            {
                wrong.push(format!("the dead letters of {} are {found:?}", source.id));
            }
        }
        lost
    }
}

/// Whether every field of what was kept is there as it was. A newer version may tell more.
fn tells_all_of(found: &Value, kept: &Value) -> bool {
    kept.as_object().is_some_and(|kept| kept.iter().all(|(name, value)| found.get(name) == Some(value)))
}

/// What a stream shows.
#[derive(Debug)]
enum Item {
    Event(Row),
    Marker,
    /// With its reason.
    Gap(String),
}

/// Everything that a stream from the beginning of time shows.
fn read(server: &TestServer, channel: &str, token: &str) -> Result<Vec<Item>, String> {
    let at = events_at(channel);
    let marker = json!({"type": MARKER, "payload": {}});
    let answer = server.request("POST", &at).bearer(token).json(&marker).send();
    if answer.status != 201 {
        return Err(format!("publishing is answered {} {}", answer.status, answer.text()));
    }
    let last = ids(&answer.json()).pop().expect("one id");
    let request = server.admin("GET", &format!("{at}/stream")).header("Last-Event-ID", "00000000000000000000000000");
    let mut stream = Sse::try_open(request).map_err(|e| e.to_string())?;
    stream.patience(SOON);
    let mut items = Vec::new();
    loop {
        let frame = stream.frame().map_err(|e| e.to_string())?.ok_or("the stream ended")?;
        if frame.comment.is_some() {
            continue;
        }
        if frame.is("gap") {
            items.push(Item::Gap(frame.json()["reason"].as_str().unwrap_or_default().to_owned()));
            continue;
        }
        let event = frame.json();
        let is_marker = [&event["type"], &event["event"]].iter().any(|kind| **kind == MARKER);
        items.push(if is_marker { Item::Marker } else { Item::Event(Row::of(&frame.data)) });
        if frame.id.as_deref() == Some(&*last) {
            return Ok(items);
        }
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

/// In which of the places where it has to be a loss is not announced; streams are judged where they are read.
fn unannounced(server: &TestServer) -> Vec<String> {
    let mut missing = Vec::new();
    let ready = server.request("GET", "/health/ready").send().json();
    let lists = |value: &Value| value.as_array().is_some_and(|list| !list.is_empty());
    if !ready.as_object().expect("an object").values().any(lists) {
        missing.push(format!("/health/ready lists no damage: {ready}"));
    }
    let metrics = server.request("GET", "/metrics").send();
    let counts = |line: &&str| {
        let (name, value) = line.rsplit_once(' ').unwrap_or_default();
        (name.contains("damage") || name.contains("quarantine")) && value.parse::<f64>().is_ok_and(|value| value > 0.0)
    };
    if !metrics.text().lines().filter(|line| !line.starts_with('#')).any(|line| counts(&line)) {
        missing.push("no metric counts the damage".into());
    }
    missing
}

/// Whether a line of the log says that something is not as it should be.
fn is_complaint(line: &str) -> bool {
    line.contains(" WARN ") || line.contains(" ERROR ")
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("no {field} in {value}")).to_owned()
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
