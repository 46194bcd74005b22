//! A game server that knows nothing of the demo but an address and a key, and sends what happens in its game.

use std::time::Duration;

use actors::hub::Hub;
use actors::hub::sources::{NewSource, SourceError, Zeroizing};
use actors::model::channel::Channel;
use actors::model::source::{Authentication, Scheme};
use serde_json::{Value as Json, json};

use crate::cli::Failure;

/// Between two of its events.
const PACE: Duration = Duration::from_secs(5);
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct GameServer {
    address: String,
    key: Zeroizing<String>,
}

impl GameServer {
    /// Makes the source to which it sends, on a server at `url`.
    ///
    /// # Errors
    /// The source cannot be made.
    pub async fn join(hub: &Hub, channel: &Channel, url: &str) -> Result<GameServer, Failure> {
        let failed = |e: SourceError| Failure::Failed(format!("the demo's source could not be made: {e}"));
        let new = NewSource {
            name: Some("Demo game server".into()),
            scheme: Scheme::of(Authentication::ApiKey),
            key: None,
            event_type: None,
            schema: None,
            rate_limit: None,
            verify_token: None,
            raw: None,
        };
        let (live, made) = hub.create_source(channel, new).await.map_err(failed)?;
        let key = made.key.ok_or_else(|| Failure::Failed("the demo's source has no key".into()))?;
        Ok(GameServer { address: format!("{url}/webhooks/{}", live.source.id), key })
    }

    /// The command that sends an event as it does.
    pub fn curl(&self) -> String {
        let body = event(0);
        format!("curl -H 'X-API-Key: {}' -H 'Content-Type: application/json' -d '{body}' {}", *self.key, self.address)
    }

    /// Plays for ever.
    pub async fn play(self) {
        let client = awc::Client::builder().timeout(PATIENCE).finish();
        for n in 0_u64.. {
            let request = client.post(&self.address).insert_header(("X-API-Key", self.key.as_str()));
            match request.send_json(&event(n)).await {
                Ok(answer) if answer.status().is_success() => {}
                Ok(answer) => log::warn!("the demo's game server was answered {}", answer.status()),
                Err(e) => log::warn!("the demo's game server was not answered: {e}"),
            }
            actix_web::rt::time::sleep(PACE).await;
        }
    }
}

/// The `n`th thing that happens in the game.
fn event(n: u64) -> Json {
    let user_id = format!("user_{}", 100 + n % 7);
    match n % 3 {
        0 => {
            let properties = json!({ "item_id": "sword_001", "amount": 9.99, "currency": "USD" });
            json!({ "event_type": "purchase", "user_id": user_id, "properties": properties })
        }
        1 => json!({ "event_type": "level_start", "user_id": user_id, "properties": { "level": n % 10 + 1 } }),
        _ => json!({ "event_type": "level_complete", "user_id": user_id, "properties": { "level": n % 10 + 1 } }),
    }
}
