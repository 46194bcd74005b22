//! Compares a running server with what was acknowledged: nothing less, nothing more, and every loss announced.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::map::ids;
use super::super::{SOON, Sse, TestServer};
use super::{Acknowledged, Owner, Row, dead_letters, events_at, export, text, without_markers};

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

impl Acknowledged {
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
