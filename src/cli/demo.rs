//! `stentor demo`: the server on a throw-away data folder, with a map on which something is always going
//! on, and a receiver of its webhook.

use std::sync::Arc;
use std::time::Duration;

use actors::hub::webhooks::{Door, WebhookError, WebhookSpec};
use actors::hub::{Hub, NewMap};
use actors::model::catalogue;
use actors::model::channel::Channel;
use actors::model::event::{Draft, EventType};
use actors::model::signature::Secret;

use super::Failure;
use super::receiver::Receiver;
use super::serve::{DemoArgs, announce, failed, prepare, stopped_by_signal};
use crate::{Server, Start};

/// Between two sample events.
const PACE: Duration = Duration::from_millis(700);

/// Runs the demo until a signal stops it; its data goes with it.
///
/// # Errors
/// As for `stentor serve`.
pub fn run(args: DemoArgs) -> Result<(), Failure> {
    let folder = std::env::temp_dir().join(format!("stentor-demo-{}", std::process::id()));
    let settings = prepare(&crate::settings::Flags { data: Some(folder.clone()), ..args.flags() })?;
    let ended = actix_web::rt::System::new().block_on(async {
        let server = Server::bind(settings, Start { dev: true, ..Start::default() }).await.map_err(failed)?;
        announce(&server);
        let new = NewMap { name: "Demo chain".into(), slug: Some("demo".into()), id: None };
        let made = server.hub().create_map(new).await;
        let (map, token) = made.map_err(|e| Failure::Failed(format!("the demo's map could not be made: {e}")))?;
        let receiver = Receiver::bind().map_err(|e| Failure::Failed(format!("no receiver can listen: {e}")))?;
        let webhook = subscribe(server.hub(), &map, receiver.url()).await?;
        explain(&server.url(), &token, &webhook, receiver.url());
        let receiver = receiver.start(webhook.secret);
        let traffic = actix_web::rt::spawn(traffic(server.hub().clone()));
        let ended = server.run_until_stopped(stopped_by_signal()).await.map_err(failed);
        traffic.abort();
        receiver.stop(false).await;
        ended
    });
    if let Err(e) = std::fs::remove_dir_all(&folder) {
        log::warn!("the demo's data stays in {}: {e}", folder.display());
    }
    ended
}

/// The webhook of the demo.
struct Subscription {
    id: Arc<str>,
    secret: Secret,
}

/// Lets a webhook of the map deliver to the receiver.
async fn subscribe(hub: &Hub, map: &Channel, url: &str) -> Result<Subscription, Failure> {
    let failed = |e: WebhookError| Failure::Failed(format!("the demo's webhook could not be made: {e}"));
    hub.toggle_webhooks(map, true).await.map_err(failed)?;
    let spec = WebhookSpec { url: Some(url.into()), ..WebhookSpec::default() };
    let (webhook, secret) = hub.create_webhook(map, Door::Maps, spec).await.map_err(failed)?;
    let secret = secret.ok_or_else(|| Failure::Failed("the demo's webhook has no secret".into()))?;
    Ok(Subscription { id: webhook.id.clone(), secret })
}

fn explain(url: &str, token: &str, webhook: &Subscription, receiver: &str) {
    println!(
        "\n  open in a browser    {url}/#map=demo&token={token}\n\
         \x20 listen with curl     curl -N -H 'Authorization: Bearer {token}' {url}/api/maps/demo/events/stream\n\
         \x20 publish an event     curl -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' \\\n\
         \x20                           -d '{{\"type\":\"map_kill\",\"payload\":{{\"killmail_id\":1,\"value\":250000000}}}}' \\\n\
         \x20                           {url}/api/maps/demo/events\n\
         \x20 read the history     curl -H 'Authorization: Bearer {token}' '{url}/api/maps/demo/events?order=desc&limit=5'\n\
         \x20 what was delivered   curl -H 'Authorization: Bearer {token}' {url}/api/maps/demo/webhooks/{id}/deliveries\n\n\
         \x20 A receiver at {receiver} verifies each delivery of the map's webhook:\n",
        id = webhook.id
    );
}

/// Publishes every type of the maps family, one after the other, for ever.
async fn traffic(hub: Hub) {
    let types: Vec<_> = catalogue::of_family("maps").collect();
    for (n, info) in types.iter().cycle().enumerate() {
        let Some(map) = hub.find(actors::model::channel::ChannelKind::Map, "demo") else { return };
        // names in the catalogue are event types; a test holds them to it
        let Ok(kind) = EventType::new(info.name) else { continue };
        let payload = catalogue::sample(info.name, n as u64);
        let draft = Draft { kind, ts_ms: None, session: None, payload, dedupe_id: None, validated: None };
        if let Err(e) = hub.publish(map, vec![draft], None, "demo".into()).await {
            log::warn!("the demo pauses: {e}");
        }
        actix_web::rt::time::sleep(PACE).await;
    }
}
