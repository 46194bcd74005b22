//! The forms in which a webhook sends an event, or several at once: body, content type and headers.
//!
//! [`Form`] is a format made ready, which for `template` means compiled. Its body is made once per delivery by
//! [`Form::render`] or [`Form::render_batch`], its headers once per attempt by [`headers`]. A format that is added gets
//! a variant of [`Format`] and [`Form`], a file, and an arm in `render`, `render_batch` and, if it has headers of its
//! own, in [`headers`]. The envelope of the channel's family is encoded elsewhere, once, and never again in here.

mod card;
mod cloudevents;
mod discord;
mod feed;
mod gateway;
mod map;
mod raw;
mod slack;
mod standard;
mod template;
mod text;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::channel::ChannelKind;
use super::event::Event;
use super::json::Canonical;
use super::signature::Keys;
use super::source::raw::RawRequest;
pub use template::{OUTPUT_BYTES_MAX, TEMPLATE_BYTES_MAX, Template, TemplateError};

/// `User-Agent` of every delivery.
pub const USER_AGENT: &str = concat!("Stentor/", env!("CARGO_PKG_VERSION"));

/// What a webhook is set to send, by its name on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The envelope of the maps family, with its own signature headers.
    Map,
    /// The envelope of the organizations family, with its own signature headers.
    Gateway,
    /// The envelope of the feed, with its own signature headers.
    Feed,
    /// The envelope, with the headers of Standard Webhooks 1.0 only.
    Standard,
    /// CloudEvents 1.0, structured JSON.
    CloudEvents,
    /// A message for an incoming webhook of Discord.
    Discord,
    /// A message for an incoming webhook of Slack.
    Slack,
    /// JSON made by the webhook's own template.
    Template,
    /// CloudEvents 1.0 in the binary mode of its HTTP binding.
    #[serde(rename = "cloudevents_binary")]
    CloudEventsBinary,
    /// Requests that a source kept as they came, sent on as they came.
    Raw,
}

/// Names the formats there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a format is one of map, gateway, feed, standard, cloudevents, discord, slack, template, cloudevents_binary, raw"
)]
pub struct UnknownFormat;

impl Format {
    /// Every format, in the order in which they are listed to people.
    pub const ALL: [Format; 10] = [
        Format::Map,
        Format::Gateway,
        Format::Feed,
        Format::Standard,
        Format::CloudEvents,
        Format::Discord,
        Format::Slack,
        Format::Template,
        Format::CloudEventsBinary,
        Format::Raw,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Format::Map => "map",
            Format::Gateway => "gateway",
            Format::Feed => "feed",
            Format::Standard => "standard",
            Format::CloudEvents => "cloudevents",
            Format::Discord => "discord",
            Format::Slack => "slack",
            Format::Template => "template",
            Format::CloudEventsBinary => "cloudevents_binary",
            Format::Raw => "raw",
        }
    }

    /// How many events one message shows. A batch may hold more where the receiver is a chat: the message then says
    /// how many it leaves out, so a webhook's `batch.max_events` wants to stay within this.
    pub fn events_max(self) -> Option<usize> {
        match self {
            Format::Discord => Some(discord::EMBEDS_MAX),
            Format::Slack => Some(slack::EVENTS_MAX),
            Format::Map
            | Format::Gateway
            | Format::Feed
            | Format::Standard
            | Format::CloudEvents
            | Format::CloudEventsBinary
            | Format::Template => None,
            Format::Raw => Some(1),
        }
    }
}

impl std::str::FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        Format::ALL.into_iter().find(|format| format.as_str() == name).ok_or(UnknownFormat)
    }
}

/// Which family a channel belongs to, as far as the formats tell them apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    Map,
    Organization,
}

impl Family {
    pub fn of(kind: ChannelKind) -> Family {
        match kind {
            ChannelKind::Map => Family::Map,
            ChannelKind::Organization => Family::Organization,
        }
    }
}

/// The channel of an event as clients know it.
#[derive(Clone, Copy, Debug)]
pub struct ChannelLabel<'a> {
    pub family: Family,
    /// The UUID of a map, or `org_...`.
    pub id: &'a str,
    /// For people.
    pub name: &'a str,
}

/// An event that is to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub event: &'a Event,
    /// The event in the envelope that is to be sent: one byte sequence, the same everywhere.
    pub envelope: &'a Bytes,
    pub channel: ChannelLabel<'a>,
}

impl Subject<'_> {
    /// The id as the envelope of the family shows it.
    fn shown_id(&self) -> String {
        match self.channel.family {
            Family::Map => self.event.id.to_string(),
            Family::Organization => self.prefixed_id(),
        }
    }

    /// The id as the envelopes of organizations and of the feed show it.
    fn prefixed_id(&self) -> String {
        format!("evt_{}", self.event.id)
    }
}

/// Headers by name, to be sent as they are.
pub type Headers = Vec<(&'static str, String)>;

/// A body, ready to be signed and sent, the same in every attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    pub content_type: &'static str,
    pub body: Bytes,
    /// The headers that depend on what is sent; those of an attempt come from [`headers`].
    pub headers: Headers,
    /// The request that is sent on as it came: method, path, query and headers are its own, and the content type too.
    pub request: Option<Box<RawRequest>>,
}

impl Rendered {
    fn new(content_type: &'static str, body: impl Into<Bytes>) -> Rendered {
        Rendered {
            content_type,
            body: body.into(),
            headers: vec![("User-Agent", USER_AGENT.to_owned())],
            request: None,
        }
    }

    /// The body of what a template made of one event.
    pub fn of_template(made: &Canonical) -> Rendered {
        Rendered::new(JSON, made.as_bytes().clone())
    }

    /// The body of what a template made of each event of a batch.
    pub fn of_template_batch(each: &[Canonical]) -> Rendered {
        Rendered::new(JSON, events_of(each.iter().map(|json| json.as_bytes())))
    }

    /// A body of JSON that is ours and serialises: it holds strings and numbers under string keys only.
    fn of(value: &impl Serialize) -> Rendered {
        Rendered::new(JSON, serde_json::to_vec(value).expect("a message of strings and numbers is JSON"))
    }
}

const JSON: &str = "application/json";

/// A format, ready to make bodies.
#[derive(Clone, Debug)]
pub enum Form {
    Map,
    Gateway,
    Feed,
    Standard,
    CloudEvents,
    Discord,
    Slack,
    Template(Template),
    CloudEventsBinary,
    Raw,
}

impl Form {
    /// The format by itself; none for [`Format::Template`], which needs its template beside.
    pub fn without_template(format: Format) -> Option<Form> {
        Some(match format {
            Format::Map => Form::Map,
            Format::Gateway => Form::Gateway,
            Format::Feed => Form::Feed,
            Format::Standard => Form::Standard,
            Format::CloudEvents => Form::CloudEvents,
            Format::Discord => Form::Discord,
            Format::Slack => Form::Slack,
            Format::Template => return None,
            Format::CloudEventsBinary => Form::CloudEventsBinary,
            Format::Raw => Form::Raw,
        })
    }

    pub fn format(&self) -> Format {
        match self {
            Form::Map => Format::Map,
            Form::Gateway => Format::Gateway,
            Form::Feed => Format::Feed,
            Form::Standard => Format::Standard,
            Form::CloudEvents => Format::CloudEvents,
            Form::Discord => Format::Discord,
            Form::Slack => Format::Slack,
            Form::Template(_) => Format::Template,
            Form::CloudEventsBinary => Format::CloudEventsBinary,
            Form::Raw => Format::Raw,
        }
    }

    /// The body for one event. Only a template can fail.
    ///
    /// # Errors
    /// See [`TemplateError`]: it took too many steps, its output is too long or no JSON, or it used what the event does
    /// not have.
    pub fn render(&self, subject: &Subject<'_>) -> Result<Rendered, TemplateError> {
        Ok(match self {
            Form::Map => map::render(subject),
            Form::Gateway => gateway::render(subject),
            Form::Feed => feed::render(subject),
            Form::Standard => standard::render(subject),
            Form::CloudEvents => cloudevents::render(subject),
            Form::Discord => discord::render(std::slice::from_ref(subject)),
            Form::Slack => slack::render(std::slice::from_ref(subject)),
            Form::Template(template) => Rendered::of_template(&template.render(subject)?),
            Form::CloudEventsBinary => cloudevents::render_binary(subject),
            Form::Raw => raw::render(subject),
        })
    }

    /// The body for a batch of one or more events in the order of the log. Only a template can fail.
    ///
    /// # Errors
    /// As [`Form::render`].
    pub fn render_batch(&self, subjects: &[Subject<'_>]) -> Result<Rendered, TemplateError> {
        Ok(match self {
            Form::Map => map::render_batch(subjects),
            Form::Gateway => gateway::render_batch(subjects),
            Form::Feed => feed::render_batch(subjects),
            Form::Standard => standard::render_batch(subjects),
            // binary mode has no batches; theirs are those of the JSON format
            Form::CloudEvents | Form::CloudEventsBinary => cloudevents::render_batch(subjects),
            // a webhook of this format has no batches
            Form::Raw => raw::render(&subjects[0]),
            Form::Discord => discord::render(subjects),
            Form::Slack => slack::render(subjects),
            Form::Template(template) => {
                let each = subjects.iter().map(|subject| template.render(subject)).collect::<Result<Vec<_>, _>>()?;
                Rendered::of_template_batch(&each)
            }
        })
    }
}

/// `{"events":[...]}` around bodies that are JSON already.
fn events_of<'a>(bodies: impl Iterator<Item = &'a Bytes> + Clone) -> Vec<u8> {
    let mut out = Vec::with_capacity(13 + bodies.clone().map(|body| body.len() + 1).sum::<usize>());
    out.extend_from_slice(b"{\"events\":[");
    join(&mut out, bodies);
    out.extend_from_slice(b"]}");
    out
}

/// What a header says of a batch that holds several types.
const SEVERAL: &str = "batch";

/// The type of all these events.
fn common_type<'a>(subjects: &[Subject<'a>]) -> &'a str {
    let mut kinds = subjects.iter().map(|subject| subject.event.kind.as_str());
    let first = kinds.next().unwrap_or(SEVERAL);
    if kinds.all(|kind| kind == first) { first } else { SEVERAL }
}

fn join<'a>(out: &mut Vec<u8>, bodies: impl Iterator<Item = &'a Bytes>) {
    for (at, body) in bodies.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(body);
    }
}

/// One attempt to deliver a body.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Names the delivery, the same in each attempt, so that a receiver can tell repetitions.
    pub delivery: &'a str,
    /// Counted from 1.
    pub number: u32,
    /// When it is sent, in Unix milliseconds.
    pub at_ms: i64,
}

/// Every header of an attempt but the content type: those of the body, those that tell the attempt, and the signatures.
/// Whatever the format, a secret that is a key of Standard Webhooks signs in its headers too.
pub fn headers(format: Format, rendered: &Rendered, attempt: &Attempt<'_>, keys: Option<&Keys>) -> Headers {
    let mut headers = rendered.headers.clone();
    match format {
        Format::Map => map::sign(rendered, attempt, keys, &mut headers),
        Format::Gateway => gateway::sign(rendered, attempt, keys, &mut headers),
        Format::Feed => feed::sign(rendered, attempt, keys, &mut headers),
        // the headers of the request are its provider's, whose own signature they may hold
        Format::Raw => {
            raw::sign(rendered, attempt, keys, &mut headers);
            return headers;
        }
        Format::Standard
        | Format::CloudEvents
        | Format::CloudEventsBinary
        | Format::Discord
        | Format::Slack
        | Format::Template => {}
    }
    if let Some(keys) = keys {
        standard::sign(rendered, attempt, keys, &mut headers);
    }
    headers
}
