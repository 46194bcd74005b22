//! Many who change what is configured at once. Each test is named after what must hold.

use std::time::Duration;

use actors::delivery::http::resolver::Resolver;
use actors::hub::webhooks::{ApiFamily, Entry, Resume, SecretChoice, WebhookError, WebhookSpec};
use actors::hub::{ChannelError, NewMap, NewToken, TokenError};
use actors::model::access::Scope;
use actors::model::signature::Secret;
use futures_util::FutureExt;
use futures_util::future::join_all;

use super::receiver::{Got, Receiver};
use super::world::{World, to};

fn map(slug: String) -> NewMap {
    NewMap { name: "Race".into(), slug: Some(slug), ..NewMap::default() }
}

fn subscriber() -> NewToken {
    NewToken { scopes: vec![Scope::Subscribe], name: None, expires_ms: None, created_by: None }
}

#[actix_web::test]
async fn a_name_whose_server_never_answers_holds_up_nobody_else() {
    let world = World::start_with(|config| {
        config.resolver = Resolver::new(|_| std::future::pending());
        config.delivery.connect_timeout = Duration::from_secs(3600);
    })
    .await;
    let (other, text) = world.hub.create_map(map("other".into())).await.expect("another tenant's map");
    let token = world.hub.principal(&text).expect("its token");
    let mut waiting: Vec<_> = (0..60)
        .map(|n| {
            let (hub, map) = (world.hub.clone(), world.map.clone());
            let spec = to(&format!("https://never.example/{n}"));
            Box::pin(async move { hub.create_webhook(&map, ApiFamily::Maps, spec).await.err() })
        })
        .collect();
    assert!(waiting.iter_mut().all(|creation| creation.now_or_never().is_none()), "all of them ask for the address");
    assert!(world.hub.revoke_token(&token.id).await.expect("revoked"));
    assert!(world.hub.principal(&text).is_none());
    world.hub.create_token(&other, subscriber()).await.expect("a token");
    world.hub.toggle_webhooks(&world.map, false).await.expect("also their own map is changed");
    world.hub.delete_channel(&other).await.expect("deleted");
    assert!(waiting.iter_mut().all(|creation| creation.now_or_never().is_none()), "they still ask");
}

#[actix_web::test]
async fn of_180_maps_that_race_for_60_slugs_60_are_made() {
    let world = World::start().await;
    let made = join_all((0..180).map(|n| world.hub.create_map(map(format!("slug-{}", n % 60))))).await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 60);
    assert!(made.iter().all(|made| matches!(made, Ok(_) | Err(ChannelError::Taken("slug")))));
    // each with the token that was answered
    assert!(made.iter().flatten().all(|(map, text)| world.hub.principal(text).is_some_and(|p| p.reaches(map))));
    // the limit of 100 counts the two organizations and the map of the test
    let more = join_all((60..180).map(|n| world.hub.create_map(map(format!("slug-{n}"))))).await;
    assert_eq!(more.iter().filter(|made| made.is_ok()).count(), 100 - 60 - 3);
    assert!(more.iter().all(|made| matches!(made, Ok(_) | Err(ChannelError::TooMany))));
}

#[actix_web::test]
async fn limits_of_a_map_are_reached_exactly_however_many_ask_at_once() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let create = |n: usize| {
        let spec = to(&format!("{}/{}", receiver.url, n % 8));
        let (hub, map) = (&world.hub, &world.map);
        async move { hub.create_webhook(map, ApiFamily::Maps, spec).await.map(drop) }
    };
    let made = join_all((0..24).map(create)).await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 5);
    let refused = made.iter().filter_map(|made| made.as_ref().err());
    assert!(refused.clone().all(|e| matches!(e, WebhookError::Duplicate | WebhookError::TooMany { most: 5, .. })));
    assert!(
        refused.filter(|e| matches!(e, WebhookError::Duplicate)).count() >= 10,
        "5 urls of 8 are asked for 3 times"
    );
    let tokens = join_all((0..30).map(|_| world.hub.create_token(&world.map, subscriber()))).await;
    assert_eq!(tokens.iter().filter(|made| made.is_ok()).count(), 9, "beside the first one");
    assert!(tokens.iter().all(|made| matches!(made, Ok(_) | Err(TokenError::TooMany))));
    let world = world.restart().await;
    assert_eq!(world.hub.list_webhooks(&world.map).len(), 5);
    assert_eq!(world.hub.tokens(Some(world.map.no())).len(), 10);
}

#[actix_web::test]
async fn a_map_that_is_deleted_while_others_add_to_it_takes_everything_with_it() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    for round in 0..10 {
        let (doomed, _) = world.hub.create_map(map(format!("doomed-{round}"))).await.expect("a map");
        let (hub, doomed) = (&world.hub, &doomed);
        let adding = join_all((0..5).map(async |n| {
            let spec = to(&format!("{}/{n}", receiver.url));
            let webhook = hub.create_webhook(doomed, ApiFamily::Maps, spec).await.map(drop);
            let token = hub.create_token(doomed, subscriber()).await.map(drop);
            (webhook, token)
        }));
        let deleting = async {
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            hub.delete_channel(doomed).await
        };
        let (added, deleted) = futures_util::future::join(adding, deleting).await;
        deleted.expect("deleted");
        for (webhook, token) in added {
            assert!(matches!(webhook, Ok(()) | Err(WebhookError::NotFound)), "{webhook:?}");
            assert!(matches!(token, Ok(()) | Err(TokenError::Gone)), "{token:?}");
        }
        assert!(hub.tokens(Some(doomed.no())).is_empty() && hub.list_webhooks(doomed).is_empty());
        assert!(matches!(hub.delete_channel(doomed).await, Err(ChannelError::Gone)));
    }
    let world = world.restart().await;
    assert_eq!(world.hub.tokens(None).len(), 1, "that of the map of the test");
}

#[actix_web::test]
async fn of_two_documents_that_are_put_at_once_one_is_there_whole() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let entries = |name: &str, count: usize| -> Vec<Entry> {
        let entry = |n| {
            let secret = SecretChoice::Given(Secret::from_text("a-secret-of-sixteen-bytes").expect("a secret"));
            let spec = WebhookSpec {
                url: Some(format!("{}/{name}", receiver.url)),
                secret: Some(secret),
                ..WebhookSpec::default()
            };
            Entry { id: Some(format!("entry {n}")), spec: Some(spec), ..Entry::default() }
        };
        (0..count).map(entry).collect()
    };
    for round in 0..10 {
        let first = world.hub.replace_document(&world.map, entries("first", 3 + round % 3));
        let second = world.hub.replace_document(&world.map, entries("second", 5 - round % 3));
        let (first, second) = futures_util::future::join(first, second).await;
        let (first, second) = (first.expect("put"), second.expect("put"));
        let urls: Vec<_> = world.hub.document(&world.map).iter().map(|webhook| webhook.url.clone()).collect();
        let is = |name: &str, count: usize| {
            urls.len() == count && urls.iter().all(|url| *url == format!("{}/{name}", receiver.url))
        };
        assert!(is("first", 3 + round % 3) || is("second", 5 - round % 3), "{urls:?}");
        assert!(!first.is_empty() && !second.is_empty());
    }
}

#[actix_web::test]
async fn changes_of_one_webhook_at_once_are_all_made() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let (webhook, _) = world.webhook(to(&receiver.url)).await;
    let ordered = WebhookSpec { ordered: Some(true), ..WebhookSpec::default() };
    let filtered = WebhookSpec { filter: Some(Some("event.type == 'map_kill'".into())), ..WebhookSpec::default() };
    let headed = WebhookSpec { custom_headers: Some(vec![("X-A".into(), "a".into())]), ..WebhookSpec::default() };
    let changes = [ordered, filtered, headed].map(|spec| world.hub.change_webhook(&world.map, &webhook.id, spec, None));
    let rotation = world.hub.rotate_secret(&world.map, &webhook.id, 60, None);
    let (changed, rotated) = futures_util::future::join(join_all(changes), rotation).await;
    changed.into_iter().for_each(|changed| drop(changed.expect("changed")));
    let secret = rotated.expect("rotated");
    let now = world.hub.webhook(&world.map, &webhook.id).expect("it is there");
    assert!(now.ordered && now.filter.filter.is_some() && now.custom_headers.len() == 1);
    // and the actor delivers by the newest
    world.publish([1]).await;
    World::until("the delivery", async || receiver.got().len() == 1).await;
    let got = receiver.got().remove(0);
    assert_eq!(got.header("x-a"), "a");
    let signed = actors::model::signature::verify_map(
        &secret,
        got.header("x-wanderer-timestamp"),
        got.body.as_bytes(),
        got.header("x-wanderer-signature"),
    );
    signed.expect("with the new secret");
}

#[actix_web::test]
async fn what_waited_is_skipped_and_not_sent_when_a_webhook_is_switched_on_that_way() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let (webhook, _) = world.webhook(to(&receiver.url)).await;
    let active = |on: bool| WebhookSpec { active: Some(on), ..WebhookSpec::default() };
    for round in 0..10 {
        world.hub.change_webhook(&world.map, &webhook.id, active(false), None).await.expect("off");
        world.publish((0..5).map(|n| 100 * round + n)).await;
        let on = world.hub.change_webhook(&world.map, &webhook.id, active(true), Some(Resume::Skip));
        on.await.expect("on");
        world.publish([100 * round + 50]).await;
        World::until("the one after", async || receiver.got().len() == round as usize + 1).await;
    }
    let numbers: Vec<_> = receiver.got().iter().map(Got::n).collect();
    assert_eq!(numbers, (0..10).map(|round| 100 * round + 50).collect::<Vec<_>>());
}
