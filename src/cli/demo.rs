//! `stentor demo`: the server on a throw-away data folder, with a map and an organization on which something is always
//! going on, a receiver of their webhooks, and a game server that sends events in.

mod game_server;

use std::sync::Arc;
use std::time::Duration;

use actors::hub::webhooks::{ApiFamily, SecretChoice, WebhookError, WebhookSpec};
use actors::hub::{Hub, NewMap, NewOrganization};
use actors::model::catalogue;
use actors::model::channel::Channel;
use actors::model::event::{Draft, EventType};
use actors::model::signature::Secret;

use super::receiver::{Receiver, Secrets};
use super::serve::{DemoArgs, failed, prepare, stopped_by_signal, token_in, warn_in_the_open};
use super::{Failure, output};
use crate::{Origin, Server, Start};
use game_server::GameServer;

/// Between two sample events.
const PACE: Duration = Duration::from_millis(700);
/// Who publishes the samples, as their origin says.
const DEMO: &str = "demo";
/// The sessions to which the organization's samples belong.
const SESSIONS: [&str; 3] = ["sess_front_desk", "sess_support", "sess_sales"];

/// Runs the demo until a signal stops it; its data goes with it.
///
/// # Errors
/// As for `stentor serve`.
pub fn run(args: DemoArgs) -> Result<(), Failure> {
    let folder = std::env::temp_dir().join(format!("stentor-demo-{}", std::process::id()));
    let settings = prepare(&crate::settings::Flags { data: Some(folder.clone()), ..args.flags() })?;
    let ended = actix_web::rt::System::new().block_on(async {
        let server =
            Server::bind(settings, Start { dev: true, ..Start::default() }, Origin::default()).await.map_err(failed)?;
        let stopped = stopped_by_signal();
        // it is thrown away with the data, so it may be printed anywhere
        let admin = server.new_admin_token().map(|path| token_in(&path)).transpose()?;
        if let Some(token) = &admin {
            output::announce(format_args!("admin token: {token}"));
        }
        output::announce(format_args!("listening on {}", server.url()));
        warn_in_the_open(&server);
        let receiver = Receiver::bind().map_err(|e| Failure::Failed(format!("no receiver can listen: {e}")))?;
        let stage = Stage::set(server.hub(), receiver.url()).await?;
        let game_server = GameServer::join(server.hub(), &stage.organization, &server.url()).await?;
        stage.explain(&server.url(), receiver.url(), &game_server, admin.as_deref());
        let game = actix_web::rt::spawn(game_server.play());
        let traffic = actix_web::rt::spawn(traffic(server.hub().clone(), stage.map, stage.organization));
        let receiver = receiver.start(stage.secrets);
        let ended = server.run_until_stopped(stopped).await.map_err(failed);
        traffic.abort();
        game.abort();
        receiver.stop(false).await;
        ended
    });
    if let Err(e) = std::fs::remove_dir_all(&folder) {
        log::warn!("the demo's data stays in {}: {e}", folder.display());
    }
    ended
}

/// What the demo plays on.
struct Stage {
    map: Arc<Channel>,
    map_token: String,
    organization: Arc<Channel>,
    organization_token: String,
    /// The id of the map's webhook.
    webhook: Arc<str>,
    secrets: Secrets,
}

impl Stage {
    /// Makes the channels, and a webhook of each that delivers to the receiver.
    async fn set(hub: &Hub, receiver: &str) -> Result<Stage, Failure> {
        let failed = |e: actors::hub::ChannelError| Failure::Failed(format!("the demo could not be set up: {e}"));
        let map = NewMap { name: "Demo chain".into(), slug: Some("demo".into()), ..NewMap::default() };
        let (map, map_token) = hub.create_map(map).await.map_err(failed)?;
        let organization =
            NewOrganization { name: "Demo organization".into(), id: Some("demo".into()), ..NewOrganization::default() };
        let (organization, organization_token) = hub.create_organization(organization).await.map_err(failed)?;
        hub.toggle_webhooks(&map, true).await.map_err(no_webhook)?;
        let (webhook, of_map) = subscribe(hub, &map, ApiFamily::Maps, receiver).await?;
        let (_, of_organization) = subscribe(hub, &organization, ApiFamily::Organizations, receiver).await?;
        let secrets = Secrets { map: of_map, organization: of_organization };
        Ok(Stage { map, map_token, organization, organization_token, webhook, secrets })
    }

    fn explain(&self, url: &str, receiver: &str, game_server: &GameServer, admin: Option<&str>) {
        let Stage { map_token: token, organization_token, webhook, .. } = self;
        if let Some(admin) = admin {
            output::announce(format_args!("\n  the whole server     {url}/#token={admin}"));
        }
        output::announce(format_args!(
            "\n  open in a browser    {url}/#map=demo&token={token}\n\
             \x20 listen with curl     curl -N -H 'Authorization: Bearer {token}' {url}/api/maps/demo/events/stream\n\
             \x20 publish an event     curl -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' \\\n\
             \x20                           -d '{{\"type\":\"map_kill\",\"payload\":{{\"killmail_id\":1,\"value\":250000000}}}}' \\\n\
             \x20                           {url}/api/maps/demo/events\n\
             \x20 read the history     curl -H 'Authorization: Bearer {token}' '{url}/api/maps/demo/events?order=desc&limit=5'\n\
             \x20 what was delivered   curl -H 'Authorization: Bearer {token}' {url}/api/maps/demo/webhooks/{webhook}/deliveries\n\
             \x20 an organization      curl -N -H 'Authorization: Bearer {organization_token}' {url}/api/v1/realtime/stream\n\
             \x20 its files            curl -N -H 'Authorization: Bearer {organization_token}' '{url}/events/stream?path_prefix=/data'\n\
             \x20 send to it           {}\n\n\
             \x20 A receiver at {receiver} verifies each delivery of their webhooks:\n",
            game_server.curl(),
        ));
    }
}

fn no_webhook(e: WebhookError) -> Failure {
    Failure::Failed(format!("the demo's webhook could not be made: {e}"))
}

/// Lets a webhook of the channel deliver to the receiver: its id and its secret.
async fn subscribe(hub: &Hub, channel: &Channel, family: ApiFamily, url: &str) -> Result<(Arc<str>, Secret), Failure> {
    let spec = WebhookSpec { url: Some(url.into()), secret: Some(SecretChoice::Made), ..WebhookSpec::default() };
    let (webhook, secret) = hub.create_webhook(channel, family, spec).await.map_err(no_webhook)?;
    let secret = secret.ok_or_else(|| Failure::Failed("the demo's webhook has no secret".into()))?;
    Ok((webhook.id.clone().into(), secret))
}

/// Publishes every type of the catalogue that clients publish, a family after the other and for ever: those of maps on
/// the map, the others in the organization.
async fn traffic(hub: Hub, map: Arc<Channel>, organization: Arc<Channel>) {
    let families = ["maps", "organizations", "feed"];
    let types = families.map(|family| catalogue::of_family(family).collect::<Vec<_>>());
    for n in 0_usize.. {
        let family = n % families.len();
        let round = n / families.len();
        let info = types[family][round % types[family].len()];
        // names in the catalogue are event types; a test holds them to it
        let Ok(kind) = EventType::new(info.name) else { continue };
        let (channel, session) = match families[family] {
            "maps" => (&map, None),
            "organizations" => (&organization, Some(SESSIONS[round % SESSIONS.len()].into())),
            _ => (&organization, None),
        };
        let payload = catalogue::sample(info.name, n as u64);
        let draft = Draft { kind, ts_ms: None, session, payload, dedupe_id: None, validated: None };
        if let Err(e) = hub.publish(channel.clone(), vec![draft], None, DEMO.into()).await {
            log::warn!("the demo pauses: {e}");
        }
        actix_web::rt::time::sleep(PACE).await;
    }
}
