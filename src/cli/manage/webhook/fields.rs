//! What can be chosen of a webhook, as flags; each family of channels has its own spelling of the fields.

use clap::{Args, ValueEnum};
use serde_json::{Map, Value as Json, json};

use crate::cli::Failure;
use crate::cli::channel::Channel;
use crate::cli::manage::arguments::{self, header, put, switch};

/// The fields of a webhook that may be given when it is made or changed.
#[derive(Debug, Default, Args)]
pub struct WebhookFields {
    /// Name to recognise it by; empty for none
    #[arg(long)]
    name: Option<String>,
    /// Where deliveries are posted
    #[arg(long)]
    url: Option<String>,
    /// Only events of these types; repeat it or separate by commas; * for all
    #[arg(long, value_name = "TYPE", value_delimiter = ',')]
    events: Option<Vec<String>>,
    /// Only events for which this CEL expression is true; empty for all
    #[arg(long, value_name = "CEL")]
    filter: Option<String>,
    /// Only events with a payload.path, or a payload.entries[].path, that begins like this; may be repeated
    #[arg(long, value_name = "PATH")]
    path_prefix: Option<Vec<String>>,
    /// Only events of this session (organizations)
    #[arg(long, value_name = "NAME")]
    session: Option<String>,
    /// Form of what is posted: map, gateway, feed, standard, cloudevents, discord, slack, template ...
    #[arg(long)]
    format: Option<String>,
    /// Template of the format template: the text itself, @FILE, or - for standard input
    #[arg(long, value_name = "TEXT|@FILE|-")]
    template: Option<String>,
    /// What deliveries are signed with (organizations); the text itself, @FILE, or - for standard input
    #[arg(long, value_name = "TEXT|@FILE|-")]
    secret: Option<String>,
    /// Header of your own on each delivery; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Option<Vec<(String, String)>>,
    /// How often and when a delivery is tried again, such as '{"policy":"linear","delaySeconds":5,"attempts":4}'
    #[arg(long, value_name = "JSON|@FILE|-")]
    retry_policy: Option<String>,
    /// Whether it delivers
    #[arg(long, value_name = "on|off", value_parser = switch)]
    active: Option<bool>,
    /// Whether one delivery waits for the other
    #[arg(long, value_name = "on|off", value_parser = switch)]
    ordered: Option<bool>,
    /// Post up to so many events together
    #[arg(long, value_name = "N", requires = "batch_wait_ms")]
    batch_events: Option<u64>,
    /// How long the first event of a batch waits for others, in milliseconds
    #[arg(long, value_name = "MS", requires = "batch_events")]
    batch_wait_ms: Option<u64>,
    /// Attempts a second, in the long run
    #[arg(long, value_name = "N")]
    rate_per_second: Option<u64>,
    /// Attempts at once
    #[arg(long, value_name = "N", requires = "rate_per_second")]
    rate_burst: Option<u64>,
    /// What becomes of events that waited while it was off
    #[arg(long, value_enum)]
    resume: Option<Resume>,
    /// Any fields of the API, as a JSON object: the text itself, @FILE, or - for standard input. Flags win
    #[arg(long, value_name = "JSON|@FILE|-")]
    body: Option<String>,
}

/// What becomes of events that waited while a webhook was off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Resume {
    /// They are passed over
    Skip,
    /// Those whose delivery had begun are sent
    Pending,
    /// All are sent
    All,
}

impl Resume {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Pending => "pending",
            Self::All => "all",
        }
    }
}

impl WebhookFields {
    /// The body of a request about a webhook of this channel.
    ///
    /// # Errors
    /// Wrong usage when a flag is no JSON, or nothing is given; when a file cannot be read.
    pub fn body(self, channel: &Channel) -> Result<Json, Failure> {
        let mut body = arguments::body(self.body.as_deref())?;
        // the names of maps, and those of organizations
        let name = |map: &'static str, organization: &'static str| match channel {
            Channel::Organization(_) => organization,
            Channel::Map(_) | Channel::Feed => map,
        };
        put(&mut body, "name", self.name.map(|name| Some(name).filter(|name| !name.is_empty())));
        put(&mut body, "url", self.url);
        put(&mut body, "events", self.events);
        put(&mut body, "filter", self.filter.map(|filter| Some(filter).filter(|filter| !filter.is_empty())));
        put(&mut body, name("path_prefix", "pathPrefix"), self.path_prefix);
        put(&mut body, name("session_id", "sessionId"), self.session);
        put(&mut body, "format", self.format);
        put(&mut body, "template", self.template.as_deref().map(arguments::text).transpose()?);
        let secret = self.secret.as_deref().map(arguments::text).transpose()?;
        put(&mut body, "secret", secret.map(|text| text.trim_end_matches(['\r', '\n']).to_owned()));
        let headers = self.headers.map(|all| all.into_iter().map(|(name, value)| (name, value.into())));
        put(&mut body, name("custom_headers", "customHeaders"), headers.map(|all| all.collect::<Map<_, _>>()));
        let policy = self.retry_policy.as_deref().map(|flag| arguments::json("--retry-policy", flag)).transpose()?;
        put(&mut body, name("retry_policy", "retryPolicy"), policy);
        put(&mut body, "active", self.active);
        put(&mut body, "ordered", self.ordered);
        let batch = self.batch_events.zip(self.batch_wait_ms).map(|(events, wait)| {
            json!({ (name("max_events", "maxEvents")): events, (name("max_wait_ms", "maxWaitMs")): wait })
        });
        put(&mut body, "batch", batch);
        let rate = self.rate_per_second.map(|per_second| {
            let mut rate = Map::new();
            put(&mut rate, name("per_second", "perSecond"), Some(per_second));
            put(&mut rate, "burst", self.rate_burst);
            rate
        });
        put(&mut body, name("rate_limit", "rateLimit"), rate);
        put(&mut body, "resume", self.resume.map(Resume::as_str));
        arguments::something(body, "--url or another field, or --body")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        fields: WebhookFields,
    }

    #[test]
    fn each_family_gets_its_own_spelling_and_flags_win_over_the_body() {
        let fields = |words: &[&str]| {
            let words = [
                "x",
                "--url",
                "https://a.example",
                "--header",
                "X-A: b",
                "--batch-events",
                "5",
                "--batch-wait-ms",
                "9",
            ]
            .iter()
            .chain(words);
            Line::try_parse_from(words).expect("a valid line").fields
        };
        let more = [
            "--active",
            "off",
            "--rate-per-second",
            "3",
            "--filter",
            "",
            "--body",
            "{\"url\":\"x\",\"format\":\"slack\"}",
        ];
        let map = fields(&more).body(&Channel::Map("m".into())).expect("a body");
        assert_eq!(
            map,
            json!({"url": "https://a.example", "format": "slack", "filter": null, "custom_headers": {"X-A": "b"},
                "active": false, "batch": {"max_events": 5, "max_wait_ms": 9}, "rate_limit": {"per_second": 3}})
        );
        let organization = fields(&[]).body(&Channel::Organization("o".into())).expect("a body");
        assert_eq!(
            organization,
            json!({"url": "https://a.example", "customHeaders": {"X-A": "b"}, "batch": {"maxEvents": 5, "maxWaitMs": 9}})
        );
        assert!(WebhookFields::default().body(&Channel::Map("m".into())).is_err());
        assert!(fields(&["--retry-policy", "x"]).body(&Channel::Map("m".into())).is_err());
    }
}
