//! What deliveries go through: actors that die, events that are gone, errors of our own.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use actors::delivery::http::resolver::Resolver;
use actors::hub::webhooks::{
    ApiFamily, DeliveryId, DeliveryStatus, RetryPolicyForm, Webhook, WebhookError, WebhookSpec,
};
use actors::hub::{HistoryQuery, NewToken, Order};
use actors::log::Retention;
use actors::model::access::Scope;
use actors::model::channel::{Channel, ChannelKind};
use actors::model::envelope::Envelope;
use actors::model::filter::Filter;
use actors::model::selection::Selection;
use log::{Log, Metadata, Record};
use serde_json::{Value, json};

use super::receiver::{Got, Receiver};
use super::world::{World, admin, to};

fn once() -> Option<actors::hub::webhooks::PolicyChange> {
    Some(RetryPolicyForm { policy: Some("constant".into()), attempts: Some(1), ..RetryPolicyForm::default() }.into())
}

/// The oldest events of a channel, in its envelope.
async fn oldest(world: &World, channel: &Channel) -> Vec<Value> {
    let query = HistoryQuery {
        filter: Filter::all(),
        since_ms: None,
        until_ms: None,
        after: None,
        limit: 100,
        order: Order::OldestFirst,
    };
    let page = world
        .hub
        .history(&admin(), Selection::One(channel.no()), Envelope::of(channel.kind), query)
        .await
        .expect("a page");
    serde_json::from_slice(&[b"[", &*page.events, b"]"].concat()).expect("JSON")
}

/// The events of the organization `system`: types with payloads, the oldest first.
async fn said(world: &World) -> Vec<(String, Value)> {
    let system = world.hub.find(ChannelKind::Organization, "system").expect("it is there from the first start");
    let said = |event: Value| (event["event"].as_str().expect("a type").to_owned(), event["payload"].clone());
    oldest(world, &system).await.into_iter().map(said).collect()
}

async fn kinds(world: &World) -> Vec<String> {
    said(world).await.into_iter().map(|(kind, _)| kind).collect()
}

/// A log of the process that panics once over a line about this host: whoever writes the line dies of it.
struct Mine(Mutex<Option<String>>);

static MINE: Mine = Mine(Mutex::new(None));

impl Log for Mine {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let host = record.key_values().get(log::kv::Key::from_str("host")).map(|host| host.to_string());
        let mut armed = MINE.0.lock().expect("nobody panics while it is held");
        if host.is_some() && host == *armed {
            *armed = None;
            drop(armed);
            panic!("an actor was to die here");
        }
    }

    fn flush(&self) {}
}

#[actix_web::test]
async fn a_webhook_whose_actor_panicked_is_started_again_and_goes_on() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let (webhook, _) = world.webhook(WebhookSpec { retry_policy: once(), ..to(&receiver.url) }).await;
    let host = receiver.url.split('/').nth(2).expect("a host").to_owned();
    log::set_logger(&MINE).expect("no other test has a logger");
    log::set_max_level(log::LevelFilter::Warn);
    *MINE.0.lock().expect("no panic") = Some(host);
    // the actor dies when it says that the delivery was given up
    receiver.answer(&[500]);
    world.publish([1]).await;
    World::until("its death", async || MINE.0.lock().expect("no panic").is_none()).await;
    world.publish([2, 3]).await;
    World::until("what came after its death", async || receiver.got().len() == 3).await;
    let mut later: Vec<_> = receiver.got()[1..].iter().map(Got::n).collect();
    later.sort_unstable();
    assert_eq!(later, [2, 3]);
    let dead = world.hub.deliveries(&world.map, &webhook.id, Some(DeliveryStatus::Dead).into(), 10, None).await;
    assert_eq!(dead.expect("a list").data.len(), 1);
    World::until("what it was about to say", async || kinds(&world).await == ["webhook.dead_letter"]).await;
}

#[actix_web::test]
async fn a_token_is_revoked_at_once_while_nobody_answers_for_the_names_of_sixty_new_webhooks() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let lookup = |_: String| {
        ASKED.fetch_add(1, Ordering::Relaxed);
        std::future::pending()
    };
    let world = World::start_with(|config| {
        config.resolver = Resolver::new(lookup);
        config.limits.webhooks.per_map = 100;
        config.delivery.connect_timeout = Duration::from_secs(600);
    })
    .await;
    let new = NewToken { scopes: vec![Scope::Publish], name: None, expires_ms: None, created_by: None };
    let (token, text) = world.hub.create_token(&world.map, new).await.expect("a token");
    let create = |n: usize| {
        let (hub, map) = (world.hub.clone(), world.map.clone());
        let spec = to(&format!("http://host-{n}.test/"));
        actix_web::rt::spawn(async move { hub.create_webhook(&map, ApiFamily::Maps, spec).await.map(drop) })
    };
    let creating: Vec<_> = (0..60).map(create).collect();
    World::until("all names are asked for", async || ASKED.load(Ordering::Relaxed) == 60).await;
    let second = Duration::from_secs(1);
    let revoked = tokio::time::timeout(second, world.hub.revoke_token(&token.id)).await;
    assert!(matches!(revoked, Ok(Ok(true))), "{revoked:?}");
    assert!(world.hub.principal(&text).is_none());
    assert!(tokio::time::timeout(second, world.publish([1])).await.is_ok(), "others go on");
    creating.iter().for_each(|task| task.abort());
}

#[actix_web::test]
async fn an_attempt_that_panics_counts_as_failed_and_holds_nothing_up() {
    static SAVED: AtomicBool = AtomicBool::new(false);
    let lookup = |_: String| async {
        assert!(!SAVED.load(Ordering::Relaxed), "a bug in the resolver");
        Ok(vec![[127, 0, 0, 1].into()])
    };
    let world = World::start_with(|config| config.resolver = Resolver::new(lookup)).await;
    let (webhook, _) = world.webhook(WebhookSpec { retry_policy: once(), ..to("http://receiver.test/") }).await;
    SAVED.store(true, Ordering::Relaxed);
    world.publish(1..=40).await;
    let dead = async || {
        let dead = Some(DeliveryStatus::Dead);
        world.hub.deliveries(&world.map, &webhook.id, dead.into(), 100, None).await.expect("a list").data
    };
    World::until("all are given up", async || dead().await.len() == 40).await;
    let one = world.hub.delivery(&world.map, &webhook.id, dead().await[0].id).await.expect("the delivery");
    assert!(one.attempts[0].detail.contains("the server failed over this attempt"), "{one:?}");
}

#[actix_web::test]
async fn events_that_retention_took_from_a_webhook_are_announced_and_what_is_kept_is_delivered() {
    let world = World::start_with(|config| {
        config.log.retention = Retention { max_events: 20, ..Retention::default() };
        config.log.segment_max_bytes = 1 << 16;
    })
    .await;
    let receiver = Receiver::start().await;
    let (webhook, _) = world.webhook(to(&receiver.url)).await;
    world.hub.toggle_webhooks(&world.map, false).await.expect("off");
    let mut ids = world.publish([1]).await;
    let first = json!(ids[0].to_string());
    // a segment goes when a later one has events
    World::until("retention", async || {
        ids.extend(world.publish([ids.len() as i64 + 1]).await);
        oldest(&world, &world.map).await[0]["id"] != first
    })
    .await;
    let world = world.restart().await;
    world.hub.toggle_webhooks(&world.map, true).await.expect("on");
    let newest = ids.len() as i64 + 1;
    world.publish([newest]).await;
    World::until("the newest", async || receiver.got().iter().any(|got| got.n() == newest)).await;
    World::until("the gap", async || kinds(&world).await.contains(&"webhook.gap".to_owned())).await;
    World::until("the rest", async || {
        receiver.got().len() as i64 == newest - receiver.got().iter().map(Got::n).min().unwrap_or(0) + 1
    })
    .await;
    let mut got: Vec<_> = receiver.got().iter().map(Got::n).collect();
    got.sort_unstable();
    assert!(got[0] > 1, "{got:?}");
    assert!(got.windows(2).all(|pair| pair[0] + 1 == pair[1]), "what is kept comes whole and once: {got:?}");
    let gap = said(&world).await.into_iter().find(|(kind, _)| kind == "webhook.gap").expect("it").1;
    assert_eq!(gap["webhook_id"], &*webhook.id);
    let missing = ids[got[0] as usize - 2];
    assert_eq!(gap["through"], format!("evt_{missing}"), "the last that is missing comes before the first that came");
    assert!(gap["after"].as_str().expect("an id") < format!("evt_{}", ids[0]).as_str());
}

#[actix_web::test]
async fn a_damaged_part_of_the_log_is_announced_and_what_lies_around_it_is_delivered() {
    // a segment holds a quarter of what is kept
    let kept = Retention { max_events: 400, ..Retention::default() };
    let world = World::start_with(|config| config.log.retention = kept).await;
    let receiver = Receiver::start().await;
    let (webhook, _) = world.webhook(to(&receiver.url)).await;
    world.hub.toggle_webhooks(&world.map, false).await.expect("off");
    for n in 0..3 {
        world.publish_together(n * 100 + 1..=n * 100 + 100).await;
        let manifest = world.folder().join("log").join(format!("{:010}", n + 1)).join("manifest");
        World::until("the segment is sealed", async || manifest.exists()).await;
    }
    world.publish([301]).await;
    let world = world
        .restart_after(|folder| {
            let db = folder.join("log").join(format!("{:010}", 2)).join("db");
            let length = std::fs::metadata(&db).expect("the second segment").len();
            std::fs::write(&db, vec![0x5a; length as usize]).expect("it can be overwritten");
        })
        .await;
    world.hub.toggle_webhooks(&world.map, true).await.expect("on");
    World::until("the newest", async || receiver.got().iter().any(|got| got.n() == 301)).await;
    World::until("the gap", async || kinds(&world).await.contains(&"webhook.gap".to_owned())).await;
    let gap = said(&world).await.into_iter().find(|(kind, _)| kind == "webhook.gap").expect("it").1;
    assert_eq!(gap["webhook_id"], &*webhook.id);
    let got: Vec<_> = receiver.got().iter().map(Got::n).collect();
    assert!(got.contains(&1) && !got.contains(&150), "what lies before it came, and what was in it did not: {got:?}");
}

#[actix_web::test]
async fn a_webhook_on_the_organization_system_does_not_feed_itself_with_its_own_failures() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let system = world.hub.find(ChannelKind::Organization, "system").expect("it is there");
    let spec = WebhookSpec { retry_policy: once(), ..to(&format!("{}/system", receiver.url)) };
    let made = world.hub.create_webhook(&system, ApiFamily::Organizations, spec).await;
    let watcher: std::sync::Arc<Webhook> = made.expect("a webhook").0;
    receiver.answer_always(Some(500));
    // something to be said: a dead letter of another webhook
    world.webhook(WebhookSpec { retry_policy: once(), ..to(&receiver.url) }).await;
    world.publish([1]).await;
    let dead = async || {
        let dead = Some(DeliveryStatus::Dead);
        world.hub.deliveries(&system, &watcher.id, dead.into(), 10, None).await.expect("a list").data.len()
    };
    World::until("it failed too", async || dead().await == 1).await;
    assert_eq!(kinds(&world).await, ["webhook.dead_letter"]);
    assert_eq!(dead().await, 1);
}

#[actix_web::test]
async fn a_delivery_that_waits_for_its_first_attempt_is_found_by_its_id_and_listed_page_by_page() {
    let world = World::start().await;
    let (webhook, _) = world.webhook(to("http://127.0.0.1:9/")).await;
    world.hub.toggle_webhooks(&world.map, false).await.expect("off");
    // many within a millisecond, in which ids follow no order
    let ids = world.publish_together(1..=250).await;
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let pending = Some(DeliveryStatus::Pending);
        let page = world.hub.deliveries(&world.map, &webhook.id, pending.into(), 40, after).await.expect("a page");
        all.extend(page.data);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let mut events: Vec<_> = all.iter().flat_map(|delivery| delivery.events.clone()).collect();
    events.sort_unstable();
    assert_eq!(events, ids);
    for delivery in [&all[0], &all[100], &all[249]] {
        let found = world.hub.delivery(&world.map, &webhook.id, delivery.id).await.expect("it is found");
        assert_eq!((found.status, &found.events), (DeliveryStatus::Pending, &delivery.events));
    }
    let other = DeliveryId::of("another", &ids[..1]);
    let missing = world.hub.delivery(&world.map, &webhook.id, other).await.err();
    assert!(matches!(missing, Some(WebhookError::DeliveryNotFound)), "{missing:?}");
}
