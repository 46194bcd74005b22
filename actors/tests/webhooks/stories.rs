//! What a receiver and an owner see. Each test is named after what must hold.

use actors::hub::webhooks::{
    ApiFamily, Batch, DeliveryStatus, Health, JobState, OffReason, ReplayAnswer, ReplayAsk, Resume, RetryPolicyForm,
    WebhookError, WebhookSpec,
};
use actors::model::id::EventId;
use actors::model::signature::{Secret, verify_map, verify_standard};

use super::receiver::{Got, Receiver};
use super::world::{World, admin, to};

fn verify(got: &Got, secret: &str) {
    let secret = Secret::from_text(secret).expect("a secret");
    let body = got.body.as_bytes();
    let timestamp = got.header("x-wanderer-timestamp");
    verify_map(&secret, timestamp, body, got.header("x-wanderer-signature")).expect("signed as maps do");
    let (id, at, signatures) =
        (got.header("webhook-id"), got.header("webhook-timestamp"), got.header("webhook-signature"));
    let now: i64 = at.parse().expect("seconds");
    verify_standard(&secret, id, at, signatures, body, now, 0).expect("signed as Standard Webhooks do");
}

fn numbers(receiver: &Receiver) -> Vec<i64> {
    receiver.got().iter().map(Got::n).collect()
}

#[actix_web::test]
async fn an_event_arrives_signed_and_shows_in_the_delivery_log() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let custom = vec![("Authorization".to_owned(), "Bearer hush".to_owned())];
    let (webhook, secret) = world.webhook(WebhookSpec { custom_headers: Some(custom), ..to(&receiver.url) }).await;
    let ids = world.publish([1]).await;
    World::until("the delivery", async || receiver.got().len() == 1).await;
    let got = receiver.got().remove(0);
    verify(&got, &secret);
    assert_eq!((got.json()["id"].as_str(), got.n()), (Some(ids[0].to_string().as_str()), 1));
    assert_eq!((got.header("x-wanderer-event"), got.header("x-wanderer-attempt")), ("map_kill", "1"));
    assert_eq!(got.header("authorization"), "Bearer hush");

    let list = async || {
        let page = world.hub.deliveries(&world.map, &webhook.id, None.into(), 10, None).await;
        page.expect("a list").data
    };
    World::until("the log", async || list().await.len() == 1).await;
    let id = list().await[0].id;
    let delivery = world.hub.delivery(&world.map, &webhook.id, id).await.expect("the delivery");
    assert_eq!((delivery.status, delivery.events), (DeliveryStatus::Delivered, ids));
    let attempt = &delivery.attempts[0];
    assert_eq!((attempt.status_code, attempt.response_body.as_str()), (Some(200), "ok"));
    assert_eq!(attempt.request_body.as_deref(), Some(got.body.as_str()));
    assert!(!format!("{attempt:?}").contains("hush"), "{attempt:?}");
    assert_eq!(got.header("x-wanderer-delivery"), id.to_string());
}

#[actix_web::test]
async fn a_failed_delivery_is_retried_over_a_restart_under_the_same_id_and_others_do_not_wait() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let (webhook, secret) = world.webhook(to(&receiver.url)).await;
    receiver.answer(&[500]);
    world.publish([1]).await;
    World::until("the failure", async || receiver.got().len() == 1).await;
    world.publish([2]).await;
    World::until("the next event", async || numbers(&receiver).contains(&2)).await;
    let world = world.restart().await;
    World::until("the retry", async || receiver.got().len() == 3).await;
    let got = receiver.got();
    assert_eq!(numbers(&receiver), [1, 2, 1]);
    assert_eq!(got[0].header("x-wanderer-delivery"), got[2].header("x-wanderer-delivery"));
    assert_eq!(got[2].header("x-wanderer-attempt"), "2");
    verify(&got[2], &secret);
    world.publish([3]).await;
    World::until("an event after the restart", async || numbers(&receiver).contains(&3)).await;
    let status = world.hub.webhook_status(&world.map, &webhook.id).await.expect("a status");
    assert_eq!((status.health, status.last_error.as_deref()), (Health::Healthy, Some("http_status 500")));
    assert_eq!(receiver.got().len(), 4);
}

#[actix_web::test]
async fn the_answer_410_disables_at_once_and_enabling_delivers_what_waited() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let (webhook, _) = world.webhook(to(&receiver.url)).await;
    receiver.answer(&[410]);
    world.publish([1]).await;
    let status = async || world.hub.webhook_status(&world.map, &webhook.id).await.expect("a status");
    World::until("it is off", async || status().await.health == Health::Disabled).await;
    assert_eq!(status().await.reason, Some(OffReason::Gone));
    world.publish([2]).await;
    let world = world.restart().await;
    let pending = world
        .hub
        .deliveries(&world.map, &webhook.id, Some(DeliveryStatus::Pending).into(), 10, None)
        .await
        .expect("a list");
    assert_eq!(pending.data.len(), 1);
    assert_eq!(receiver.got().len(), 1);
    let on = WebhookSpec { active: Some(true), ..WebhookSpec::default() };
    world.hub.change_webhook(&world.map, &webhook.id, on, Some(Resume::Pending)).await.expect("enabled");
    World::until("what waited", async || numbers(&receiver).len() == 3).await;
    let mut rest = numbers(&receiver).split_off(1);
    rest.sort_unstable();
    assert_eq!(rest, [1, 2]);
}

#[actix_web::test]
async fn ordered_deliveries_keep_their_order_while_one_fails() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    world.webhook(WebhookSpec { ordered: Some(true), ..to(&receiver.url) }).await;
    receiver.answer(&[200, 500]);
    world.publish(1..=5).await;
    World::until("all events", async || receiver.got().len() == 6).await;
    assert_eq!(numbers(&receiver), [1, 2, 2, 3, 4, 5]);
}

#[actix_web::test]
async fn a_batch_goes_out_as_one_request() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let batch = Batch { max_events: 3, max_wait_ms: 10_000 };
    world.webhook(WebhookSpec { batch: Some(Some(batch)), ..to(&receiver.url) }).await;
    world.publish(1..=3).await;
    World::until("the batch", async || receiver.got().len() == 1).await;
    let body = receiver.got()[0].json();
    let ns: Vec<_> = body["events"].as_array().expect("events").iter().map(|e| e["payload"]["n"].clone()).collect();
    assert_eq!(ns, [1, 2, 3]);
}

#[actix_web::test]
async fn a_dead_delivery_is_listed_retried_by_hand_and_replayed() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let once = RetryPolicyForm { policy: Some("constant".into()), attempts: Some(1), ..RetryPolicyForm::default() };
    let spec = WebhookSpec { retry_policy: Some(once.into()), ..to(&receiver.url) };
    let (webhook, _) = world.webhook(spec).await;
    receiver.answer_always(Some(503));
    world.publish([1, 2]).await;
    let dead = async || {
        let dead = Some(DeliveryStatus::Dead);
        world.hub.deliveries(&world.map, &webhook.id, dead.into(), 10, None).await.expect("a list").data
    };
    World::until("two dead", async || dead().await.len() == 2).await;
    receiver.answer_always(None);
    let first = dead().await.pop().expect("the older one");
    world.hub.retry_delivery(&world.map, &webhook.id, first.id).await.expect("taken");
    let again = async || {
        let found = world.hub.delivery(&world.map, &webhook.id, first.id).await;
        found.expect("the delivery").status == DeliveryStatus::Delivered
    };
    World::until("it is delivered", again).await;
    assert_eq!(dead().await.len(), 1);
    let ask = ReplayAsk { dead_only: true, ..ReplayAsk::default() };
    let counted = world
        .hub
        .replay(&admin(), &world.map, &webhook.id, ReplayAsk { dry_run: true, ..ask.clone() })
        .await
        .expect("a count");
    assert_eq!(counted, ReplayAnswer::Counted(1));
    let started = world.hub.replay(&admin(), &world.map, &webhook.id, ask).await.expect("a job");
    let ReplayAnswer::Started(job) = started else { panic!("{started:?}") };
    let job = async || world.hub.replay_job(&world.map, &webhook.id, job).await.expect("the job");
    World::until("the replay", async || job().await.state == JobState::Done).await;
    assert_eq!((job().await.delivered, dead().await.len()), (1, 0));
    assert_eq!(numbers(&receiver).iter().filter(|n| **n == 2).count(), 2);

    let all = ReplayAsk { after: EventId::ZERO, ..ReplayAsk::default() };
    let before = receiver.got().len();
    world.hub.replay(&admin(), &world.map, &webhook.id, all).await.expect("a job");
    World::until("everything again", async || receiver.got().len() == before + 2).await;
}

#[actix_web::test]
async fn a_rotated_secret_signs_beside_the_old_one_and_secrets_are_sealed_on_disk() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let (webhook, old) = world.webhook(to(&receiver.url)).await;
    let new = world.hub.rotate_secret(&world.map, &webhook.id, 60, None).await.expect("rotated").reveal().to_owned();
    world.publish([1]).await;
    World::until("the delivery", async || receiver.got().len() == 1).await;
    let got = receiver.got().remove(0);
    verify(&got, &new);
    let previous = Secret::from_text(&old).expect("a secret");
    let signature = got.header("x-wanderer-signature-previous");
    verify_map(&previous, got.header("x-wanderer-timestamp"), got.body.as_bytes(), signature).expect("the old one");
    let stored = serde_json::to_string(&*world.hub.webhook(&world.map, &webhook.id).expect("it")).expect("JSON");
    assert!(!stored.contains(&old) && !stored.contains(&new));

    let newest = world.hub.rotate_secret(&world.map, &webhook.id, 0, None).await.expect("rotated").reveal().to_owned();
    world.publish([2]).await;
    World::until("the delivery", async || receiver.got().len() == 2).await;
    let got = receiver.got().remove(1);
    verify(&got, &newest);
    assert_eq!(got.header("x-wanderer-signature-previous"), "");
}

#[actix_web::test]
async fn a_test_says_what_came_of_it_and_nothing_is_sent_while_the_channel_is_off() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let (webhook, secret) = world.webhook(to(&receiver.url)).await;
    world.hub.toggle_webhooks(&world.map, false).await.expect("off");
    world.publish([1]).await;
    receiver.answer(&[204, 500]);
    let tested = world.hub.test_webhook(&world.map, &webhook.id, None).await.expect("tested");
    assert!(tested.delivered, "{tested:?}");
    verify(&receiver.got()[0], &secret);
    let tested = world.hub.test_webhook(&world.map, &webhook.id, None).await.expect("tested");
    assert_eq!((tested.delivered, tested.status_code), (false, Some(500)));
    assert_eq!(tested.error_code.as_deref(), Some("http_status"));
    assert_eq!(receiver.got().len(), 2);
    world.hub.toggle_webhooks(&world.map, true).await.expect("on");
    World::until("what waited", async || receiver.got().len() == 3).await;
}

#[actix_web::test]
async fn what_cannot_be_a_webhook_is_refused_field_by_field() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let spec = WebhookSpec {
        filter: Some(Some("event.".into())),
        custom_headers: Some(vec![("X-Wanderer-Signature".into(), "me".into())]),
        batch: Some(Some(Batch { max_events: 0, max_wait_ms: 0 })),
        ..to("https://10.0.0.1/")
    };
    let refused = world.hub.create_webhook(&world.map, ApiFamily::Maps, spec).await.err();
    let Some(WebhookError::Invalid(bad)) = refused else { panic!("{refused:?}") };
    let fields: Vec<_> = bad.iter().map(|bad| bad.field.as_str()).collect();
    assert_eq!(fields, ["url", "filter", "batch.max_events", "custom_headers.X-Wanderer-Signature"]);

    let (webhook, _) = world.webhook(to(&receiver.url)).await;
    let again = world.hub.create_webhook(&world.map, ApiFamily::Maps, to(&receiver.url)).await.err();
    assert!(matches!(again, Some(WebhookError::Duplicate)), "{again:?}");
    for n in 0..4 {
        world.webhook(to(&format!("{}/{n}", receiver.url))).await;
    }
    let sixth = world.hub.create_webhook(&world.map, ApiFamily::Maps, to(&format!("{}/6", receiver.url))).await.err();
    assert!(matches!(sixth, Some(WebhookError::TooMany { most: 5, .. })), "{sixth:?}");
    world.hub.delete_webhook(&world.map, &webhook.id).await.expect("deleted");
    assert!(matches!(world.hub.webhook(&world.map, &webhook.id).err(), Some(WebhookError::NotFound)));
    let world = world.restart().await;
    assert_eq!(world.hub.list_webhooks(&world.map).len(), 4);
}
