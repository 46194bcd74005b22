//! The overview: figures over time, and what needs attention, of what the caller may know.

use actix_web::{HttpRequest, HttpResponse, web};
use actors::hub::attention::{Attention, AttentionOf, Remedy, Subject};
use actors::hub::figures::{FiguresOf, Plot};
use actors::hub::webhooks::ApiFamily as WebhookFamily;
use actors::hub::webhooks::Webhook;
use actors::model::access::{Principal, Reach, Scope};
use actors::model::channel::{Channel, ChannelKind};
use actors::model::timestamp::to_iso;
use actors::series::Window;
use actors::series::names::Value as Figure;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::Context;
use super::guard::{self, Caller};
use super::problem::{Answer, Problem};
use super::query::Pairs;

/// Something that needs attention.
#[derive(Serialize, ToSchema)]
#[schema(as = Attention)]
pub struct AttentionView {
    /// See the table of kinds.
    kind: &'static str,
    /// `error`: something does not work now. `warning`: something will not, or did not.
    severity: &'static str,
    /// What is wrong, in a sentence without a full stop.
    title: String,
    /// Why.
    cause: String,
    /// Since when; null where that is not known.
    #[schema(format = DateTime)]
    since: Option<String>,
    /// Where the dashboard shows it: a path of this server.
    link: String,
    /// What helps by one request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    action: Option<ActionView>,
    /// `map:<id>` or `organization:<id>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    channel: Option<String>,
    /// The id of a webhook.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    webhook: Option<String>,
    /// The id of a source.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    source: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AttentionAction)]
pub struct ActionView {
    /// For a button.
    label: &'static str,
    method: &'static str,
    /// A path of this server.
    href: String,
    /// What to send; absent: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Object)]
    body: Option<Value>,
}

/// `GET /api/v1/overview`
pub async fn overview(
    context: web::Data<Context>,
    Caller(principal): Caller,
    request: HttpRequest,
    pairs: Pairs,
) -> Answer {
    let window = match pairs.get("window").filter(|text| !text.is_empty()) {
        None => Window::Hour,
        Some(text) => Window::ALL
            .into_iter()
            .find(|window| window.as_str() == text)
            .ok_or_else(|| Problem::parameter("window", "1h, 24h or 7d is expected"))?,
    };
    let (figures_of, attention_of) = asked(&context, &request, &pairs, &principal)?;
    let plot = context.hub.figures(&principal, figures_of, window).await?;
    let (attention, count) = context.hub.attention(&principal, &attention_of).await;
    let prefix = path_prefix(&context.base_url(&request));
    let attention: Vec<_> = attention.iter().map(|one| view(one, &prefix)).collect();
    let data = json!({
        "window": plot.window.as_str(),
        "resolution_s": plot.resolution_s,
        "series": series(&plot),
        "attention": attention,
        "attention_total": count,
    });
    Ok(HttpResponse::Ok().json(json!({ "data": data })))
}

/// Whose figures and troubles are meant.
fn asked(
    context: &Context,
    request: &HttpRequest,
    pairs: &Pairs,
    principal: &Principal,
) -> Result<(FiguresOf, AttentionOf), Problem> {
    let channel = guard::reached_channel(request, principal)?;
    if let Some(id) = pairs.get("webhook").filter(|id| !id.is_empty()) {
        let (owner, webhook) = match &channel {
            Some(channel) => (channel.clone(), context.hub.webhook(channel, id)?),
            None => context.hub.find_webhook(id)?,
        };
        let owner = guard::permitted(Some(owner), principal, Scope::Manage, || Problem::no_channel(None, ""))?;
        debug_assert_eq!(owner.no(), webhook.channel_no());
        return Ok((FiguresOf::Webhook(webhook.clone()), AttentionOf::Webhook(webhook)));
    }
    Ok(match (channel, &principal.reach) {
        (Some(channel), _) => (FiguresOf::Channels(vec![channel.clone()]), AttentionOf::Channel(channel)),
        (None, Reach::Admin) => (FiguresOf::Server, AttentionOf::All),
        (None, _) => (FiguresOf::Channels(context.hub.reached(principal)), AttentionOf::All),
    })
}

/// Each series as a list of points.
fn series(plot: &Plot) -> Map<String, Value> {
    let number = |figure: &Figure| match figure {
        Figure::Whole(number) => json!(number),
        // a thousandth of a millisecond is enough
        Figure::Fraction(number) => json!((number * 1_000.0).round() / 1_000.0),
    };
    let point = |(ms, figure): &(u64, Option<Figure>)| json!([ms, figure.as_ref().map(number)]);
    plot.series.iter().map(|(series, points)| (series.name.to_owned(), points.iter().map(point).collect())).collect()
}

/// What stands before every path of this server: the path of its address.
fn path_prefix(base_url: &str) -> String {
    let rest = base_url.split_once("://").map_or(base_url, |(_, rest)| rest);
    rest.find('/').map_or(String::new(), |at| rest[at..].trim_end_matches('/').to_owned())
}

fn view(attention: &Attention, prefix: &str) -> AttentionView {
    let Attention { kind, title, cause, since_ms, subject, remedy } = attention;
    let (channel, webhook, source) = match subject {
        Subject::Server => (None, None, None),
        Subject::Channel(channel) => (Some(channel), None, None),
        Subject::Webhook(channel, webhook) => (Some(channel), Some(webhook.id.to_string()), None),
        Subject::Source(channel, live) => (Some(channel), None, Some(live.source.id.to_string())),
        Subject::Token(channel, _) => (channel.as_ref(), None, None),
    };
    AttentionView {
        kind: kind.name,
        severity: kind.severity.as_str(),
        title: title.clone(),
        cause: cause.clone(),
        since: since_ms.map(to_iso),
        link: format!("{prefix}/#/{}", place(subject)),
        action: remedy.and_then(|remedy| action(remedy, subject, prefix)),
        channel: channel.map(|channel| channel.name_on_tokens()),
        webhook,
        source,
    }
}

/// The view of the dashboard. Ids are of characters that stand in addresses as they are.
fn place(subject: &Subject) -> String {
    match subject {
        Subject::Server => "system".into(),
        Subject::Channel(channel) => format!("webhooks?channel={}", channel.name_on_tokens()),
        Subject::Webhook(channel, webhook) => {
            format!("webhook/{}/{}/{}", channel.kind.as_str(), channel.id, webhook.id)
        }
        Subject::Source(_, live) => format!("source/{}/refused", live.source.id),
        Subject::Token(_, token) => format!("tokens?find={}", token.id),
    }
}

/// The request that helps.
fn action(remedy: Remedy, subject: &Subject, prefix: &str) -> Option<ActionView> {
    let (label, method, path, body) = match (remedy, subject) {
        (Remedy::Enable, Subject::Webhook(channel, webhook)) => {
            ("Switch on", "PATCH", webhook_path(channel, webhook, ""), Some(json!({ "active": true })))
        }
        (Remedy::Test, Subject::Webhook(channel, webhook)) => {
            ("Send a test", "POST", webhook_path(channel, webhook, "/test"), None)
        }
        (Remedy::Resend, Subject::Webhook(channel, webhook)) => {
            ("Send again", "POST", webhook_path(channel, webhook, "/replay"), Some(json!({ "status": "dead" })))
        }
        (Remedy::SwitchOn, Subject::Channel(channel)) => {
            let path = format!("/api/maps/{}/webhooks/toggle", channel.id);
            ("Switch on", "PUT", path, Some(json!({ "enabled": true })))
        }
        _ => return None,
    };
    Some(ActionView { label, method, href: format!("{prefix}{path}"), body })
}

/// Where a webhook is reached, by the interface that it was made through.
fn webhook_path(channel: &Channel, webhook: &Webhook, below: &str) -> String {
    match webhook.family {
        WebhookFamily::Maps if channel.kind == ChannelKind::Map => {
            format!("/api/maps/{}/webhooks/{}{below}", channel.id, webhook.id)
        }
        _ => {
            let name = channel.name_on_tokens();
            format!("/api/v1/webhooks/{}{below}?channel={name}", webhook.id)
        }
    }
}
