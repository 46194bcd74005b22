//! Those at the other ends: readers that stall, vanish and resume, and receivers that fail in every way.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};

use super::model::Model;
use crate::clock::{self, SimulatedClock};
use crate::delivery::http::simulated::Receivers;
use crate::delivery::outcome::Outcome;
use crate::feed::frame::{Carrier, Encoding};
use crate::hub::Hub;
use crate::model::channel::ChannelKind;
use crate::model::delivery::FailureCode;
use crate::model::envelope::Envelope;
use crate::model::filter::Filter;
use crate::model::id::EventId;
use crate::streams::connections::ClientInfo;
use crate::streams::session::{Opening, StreamTarget};

/// What all of them share.
pub type Shared = Rc<RefCell<Model>>;

/// Of a webhook: the number in the model follows.
pub const HOOKS: &str = "http://127.0.0.1:9/hook/";

pub fn draw(clock: &SimulatedClock, below: u64) -> u64 {
    u64::from_le_bytes(clock.random()) % below
}

/// The number that a client has put into the payload of an event.
fn number(json: &str) -> Option<u64> {
    let digits = &json[json.find("\"n\":")? + 4..];
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

/// The same, and the text beside it. A source puts what came from outside into a member of its own.
pub fn payload_of(payload: &serde_json::Value) -> (u64, &str) {
    let own = if payload["n"].is_u64() { payload } else { &payload["properties"] };
    (own["n"].as_u64().expect("a number"), own["text"].as_str().expect("a text"))
}

fn id(text: &str) -> EventId {
    text.parse().expect("an id")
}

/// The receivers of all webhooks.
pub fn receivers(model: &Shared, clock: &Arc<SimulatedClock>) -> Receivers {
    let (model, clock) = (model.clone(), clock.clone());
    Rc::new(move |url, body| {
        let hook: usize =
            url.strip_prefix(HOOKS).and_then(|hook| hook.parse().ok()).expect("a webhook of the simulation");
        answer(model.clone(), clock.clone(), hook, body.clone()).boxed_local()
    })
}

async fn answer(model: Shared, clock: Arc<SimulatedClock>, hook: usize, body: Bytes) -> Outcome {
    let status = |status| Outcome { status: Some(status), ..Outcome::default() };
    let refused = |status| Outcome { status: Some(status), error: Some(FailureCode::HttpStatus), ..Outcome::default() };
    let failed = |error| Outcome { error: Some(error), ..Outcome::default() };
    let event: serde_json::Value = serde_json::from_slice(&body).expect("a delivery is JSON");
    let delivered = (id(event["id"].as_str().expect("an id")), payload_of(&event["payload"]).0);
    let take = || model.borrow_mut().delivered(hook, delivered.0, delivered.1);
    model.borrow_mut().attempts += 1;
    let kind = if model.borrow().is_healed { 0 } else { draw(&clock, 20) };
    model.borrow_mut().say(format!("receiver {hook} is sent {} and does {kind}", delivered.1));
    match kind {
        0..10 => {
            take();
            status(200)
        }
        10..13 => {
            clock::sleep(Duration::from_millis(draw(&clock, 3_000))).await;
            take();
            status(204)
        }
        13..15 => refused(500),
        15 => Outcome { retry_after: Some(Duration::from_secs(2)), ..refused(429) },
        16 => failed(FailureCode::ConnectionRefused),
        17 => failed(FailureCode::DnsError),
        // it has taken the event, and the answer is lost
        18 => {
            take();
            failed(FailureCode::ConnectionReset)
        }
        _ => {
            clock::sleep(Duration::from_secs(10)).await;
            failed(FailureCode::Timeout)
        }
    }
}

/// Reads a map for as long as the server lives, in one stream after the other.
pub async fn read(hub: Hub, model: Shared, clock: Arc<SimulatedClock>, reader: usize) {
    loop {
        // some stay away until retention has taken what they have not seen
        let away_ms = match draw(&clock, 4) {
            _ if model.borrow().is_healed => 1,
            0 => 20_000,
            _ => 1_500,
        };
        clock::sleep(Duration::from_millis(1 + draw(&clock, away_ms))).await;
        stream(&hub, &model, &clock, reader).await;
    }
}

/// What a stream has said.
#[derive(Default)]
pub struct Heard {
    text: String,
    pub seen: BTreeSet<EventId>,
    /// Each with the event before it and the one behind it.
    pub gaps: Vec<(EventId, Option<EventId>)>,
}

impl Heard {
    pub fn hear(&mut self, chunk: &[u8]) {
        self.text.push_str(std::str::from_utf8(chunk).expect("a stream is text"));
        while let Some(frame) = next_frame(&mut self.text) {
            match said(&frame) {
                Some(Said::Gap { after, before, .. }) => self.gaps.push((after, before)),
                Some(Said::Event { id, .. }) => drop(self.seen.insert(id)),
                Some(Said::Connected(_)) | None => {}
            }
        }
    }
}

/// One stream, to its end or ours.
async fn stream(hub: &Hub, model: &Shared, clock: &SimulatedClock, reader: usize) {
    let (map, token, begin, cursor) = {
        let model = model.borrow();
        let known = &model.readers[reader];
        let map = &model.maps[known.map];
        (map.id.clone(), map.token.clone(), known.begin, known.cursor)
    };
    let (Some(channel), Some(principal)) = (hub.find(ChannelKind::Map, &map), hub.principal(&token)) else { return };
    let target = StreamTarget::Channel(channel);
    let Ok(slot) = hub.slot(&target.selection(), &principal) else { return };
    let opening = Opening {
        slot,
        target,
        principal,
        filter: Filter::all(),
        unknown_events: Vec::new(),
        cursor: begin.map(|_| cursor),
        encoding: Encoding { envelope: Envelope::Map, carrier: Carrier::Sse },
        client: ClientInfo::default(),
        socket: None,
    };
    let Some(body) = hub.stream(opening).await else { return };
    let mut body = Box::pin(body);
    let mut text = String::new();
    while let Some(chunk) = body.next().await {
        let Ok(chunk) = chunk else { return };
        text.push_str(std::str::from_utf8(&chunk).expect("a stream is text"));
        while let Some(frame) = next_frame(&mut text) {
            heard(&mut model.borrow_mut(), reader, &frame);
        }
        match draw(clock, 60) {
            // in the end all read on
            _ if model.borrow().is_healed => {}
            0 => return,
            1..4 => clock::sleep(Duration::from_millis(draw(clock, 3_000))).await,
            // longer than a server has patience
            4 => clock::sleep(Duration::from_secs(60)).await,
            _ => {}
        }
    }
}

fn next_frame(text: &mut String) -> Option<String> {
    let end = text.find("\n\n")?;
    Some(text.drain(..end + 2).collect())
}

enum Said {
    Connected(EventId),
    Gap { after: EventId, before: Option<EventId>, reason: String },
    Event { id: EventId, number: u64 },
}

fn said(frame: &str) -> Option<Said> {
    let field = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let data = field("data")?;
    Some(match field("event") {
        Some("connected") => Said::Connected(id(field("id").expect("an opening frame has an id"))),
        Some("gap") => {
            let gap: serde_json::Value = serde_json::from_str(data).expect("a gap is JSON");
            let of = |name: &str| gap[name].as_str().map(id);
            let reason = gap["reason"].as_str().expect("a reason").to_owned();
            Said::Gap { after: of("requested").expect("a cursor"), before: of("oldest"), reason }
        }
        _ => {
            let id = id(field("id").expect("an event has an id"));
            Said::Event { id, number: number(data).expect("an event of ours") }
        }
    })
}

fn heard(model: &mut Model, reader: usize, frame: &str) {
    match said(frame) {
        Some(Said::Connected(at)) => {
            let known = &mut model.readers[reader];
            if known.begin.is_none() {
                (known.begin, known.cursor) = (Some(at), at);
            }
        }
        Some(Said::Gap { after, before, reason }) => model.told(reader, after, before, &reason),
        Some(Said::Event { id, number }) => model.saw(reader, id, number),
        None => {}
    }
}
