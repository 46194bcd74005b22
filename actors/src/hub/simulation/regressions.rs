//! What the simulation has found, each as a run of its own.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};

use super::clients::{self, payload_of};
use super::world::World;
use crate::delivery::http::simulated as receivers;
use crate::delivery::outcome::Outcome;
use crate::feed::frame::{Carrier, Encoding};
use crate::hub::NewMap;
use crate::hub::webhooks::{ApiFamily, WebhookSpec};
use crate::log::LossDocument;
use crate::model::delivery::FailureCode;
use crate::model::envelope::Envelope;
use crate::model::event::{Draft, EventType};
use crate::model::filter::Filter;
use crate::model::id::EventId;
use crate::model::json::Canonical;
use crate::streams::connections::ClientInfo;
use crate::streams::session::{Opening, StreamTarget};

/// Longer than it takes to notice, and shorter than all retries of one event together.
const PATIENCE: Duration = Duration::from_secs(40);

fn draft(payload: &str) -> Draft {
    Draft {
        kind: EventType::new("test").expect("a type"),
        ts_ms: None,
        session: None,
        payload: Canonical::parse(payload).expect("JSON"),
        dedupe_id: None,
        validated: None,
    }
}

/// It made every attempt of an event that was not there any more, one after the other, before it went on to the next.
#[test]
fn an_ordered_webhook_goes_on_when_retention_takes_what_it_retries() {
    // of an even seed, so that retention takes something
    let world = World::new(2);
    let taken = Rc::new(RefCell::new(Vec::new()));
    let noted = taken.clone();
    receivers::set_here(Some(Rc::new(move |_: &str, body: &Bytes| {
        let event: serde_json::Value = serde_json::from_slice(body).expect("a delivery is JSON");
        let number = payload_of(&event["payload"]).0;
        let outcome = match number {
            0 => Outcome { status: Some(500), error: Some(FailureCode::HttpStatus), ..Outcome::default() },
            _ => {
                noted.borrow_mut().push(number);
                Outcome { status: Some(200), ..Outcome::default() }
            }
        };
        async move { outcome }.boxed_local()
    })));
    let runner = actix_rt::System::new();
    runner.block_on(async {
        let server = world.start(world.disk()).await.expect("a server");
        let hub = server.hub.clone();
        let map = NewMap { name: "map".into(), slug: None, id: None, token_name: None };
        let (channel, _) = world.wait(&server, hub.create_map(map)).await.expect("a map");
        let channel = world.wait(&server, hub.toggle_webhooks(&channel, true)).await.expect("a switch");
        let url = Some("http://127.0.0.1:9/hook".into());
        let spec = WebhookSpec { url, ordered: Some(true), ..WebhookSpec::default() };
        world.wait(&server, hub.create_webhook(&channel, ApiFamily::Maps, spec)).await.expect("a webhook");
        for number in 0..300 {
            let payload = format!("{{\"n\":{number},\"text\":\"{}\"}}", "x".repeat(700));
            world
                .wait(&server, hub.publish(channel.clone(), vec![draft(&payload)], None, "client".into()))
                .await
                .expect("an event");
        }
        for _ in 0..PATIENCE.as_millis() / 10 {
            world.go_on(&server.store, 10).await;
        }
        assert!(hub.rooms.log.expired(channel.no()) > EventId::ZERO, "retention has taken nothing");
        assert_eq!(taken.borrow().last(), Some(&299), "it waits for what is gone");
    });
    drop(runner);
    super::leave();
}

/// It was known that retention takes events, and they were still there (seed 8784: a power cut had come between). A stream told of
/// them as gone and showed some of them all the same; the others went before its next page, which then told of nothing.
#[test]
fn a_stream_tells_of_what_goes_between_two_of_its_pages() {
    let world = World::new(2);
    let runner = actix_rt::System::new();
    runner.block_on(async {
        let server = world.start(world.disk()).await.expect("a server");
        let hub = server.hub.clone();
        let map = NewMap { name: "map".into(), slug: None, id: None, token_name: None };
        let (channel, token) = world.wait(&server, hub.create_map(map)).await.expect("a map");
        let payload = format!("{{\"n\":1,\"text\":\"{}\"}}", "x".repeat(200));
        let mut ids = Vec::new();
        for _ in 0..50 {
            let drafts = (0..4).map(|_| draft(&payload)).collect();
            let published = hub.publish(channel.clone(), drafts, None, "client".into());
            ids.extend(world.wait_unkept(&server, published).await.expect("events").ids.iter().copied());
        }
        let log = hub.rooms.log.clone();
        let through = log.segment_ends()[0];
        assert!(through > ids[20] && through < ids[150], "a segment is more than a page");
        log.learn_losses([LossDocument::Expired { channel: channel.no().0, through }]);

        let principal = hub.principal(&token).expect("a token");
        let target = StreamTarget::Channel(channel.clone());
        let opening = Opening {
            slot: hub.slot(&target.selection(), &principal).expect("a slot"),
            target,
            principal,
            filter: Filter::all(),
            unknown_events: Vec::new(),
            cursor: Some(ids[0].before()),
            encoding: Encoding { envelope: Envelope::Map, carrier: Carrier::Sse },
            client: ClientInfo::default(),
            socket: None,
        };
        let mut body = Box::pin(world.wait_unkept(&server, hub.stream(opening)).await.expect("a stream"));
        let mut heard = clients::Heard::default();
        while heard.seen.is_empty() {
            heard.hear(&world.wait_unkept(&server, body.next()).await.expect("it goes on").expect("a chunk"));
        }
        assert!(!heard.seen.contains(&through), "there is more on the next page");
        while log.oldest(channel.no()).is_some_and(|oldest| oldest <= through) {
            world.go_on(&server.store, 10).await;
        }
        while !heard.seen.contains(&ids[199]) {
            heard.hear(&world.wait(&server, body.next()).await.expect("it goes on").expect("a chunk"));
        }
        for id in ids {
            let told = heard.gaps.iter().any(|(after, before)| id > *after && before.is_none_or(|before| id < before));
            assert!(heard.seen.contains(&id) || told, "{id} is neither shown nor told of");
        }
    });
    drop(runner);
    super::leave();
}
