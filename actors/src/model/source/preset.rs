//! Presets: providers of webhooks that many people have, one file each. Adding one is adding a file here and its line in
//! [`FILES`].

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::recipe::Recipe;
use super::rule::Rule;

/// How a provider is found, verified and read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// What a source names in `authentication`.
    pub name: String,
    /// What people call the provider.
    pub title: String,
    /// Where the provider describes how it signs.
    pub documentation: String,
    /// What to enter where at the provider.
    pub setup: String,
    /// What the provider calls the key.
    pub key: String,
    /// Whether we make the key where none is given; else the provider does.
    #[serde(default)]
    pub makes_key: bool,
    /// Any one of them suffices.
    pub recipes: Vec<Recipe>,
    /// Where the type of an event is.
    pub event_type: Vec<Rule>,
    #[serde(default)]
    pub id: DeliveryId,
    /// Whether a form may hold the JSON in its field `payload`.
    #[serde(default)]
    pub wraps_json: bool,
    /// JSON pointer to an array in the body of which each element is an event.
    #[serde(default)]
    pub elements: Option<String>,
    #[serde(default)]
    pub handshake: Option<Handshake>,
    /// Requests that the provider's library or documentation signed. Only tests look at them.
    pub vectors: Vec<Vector>,
}

/// Where the provider's own id of a delivery is, which stays the same when it sends it again.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DeliveryId {
    /// Of the whole delivery, in the first of these headers that is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub header: Vec<String>,
    /// Of the whole delivery, in the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Of each event: all of these together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub event: Vec<String>,
}

/// What a provider asks before it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Handshake {
    Slack,
    Zoom,
    Twitch,
    Discord,
    Meta,
    Msgraph,
    Eventgrid,
}

/// A request that was signed elsewhere.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vector {
    /// What signed it, or where it is documented.
    pub from: String,
    pub key: String,
    /// When it was signed, in Unix milliseconds.
    #[serde(default)]
    pub at_ms: i64,
    #[serde(default)]
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// The type that its event has, and the id under which the delivery or the event is known again.
    #[serde(default)]
    pub event_type: Option<String>,
    #[serde(default)]
    pub id: Option<String>,
}

macro_rules! files {
    ($($name:literal)*) => {
        /// The texts of all presets.
        const FILES: &[&str] = &[$(include_str!(concat!("presets/", $name, ".json"))),*];
    };
}

files! {
    "github" "gitlab" "gitea" "bitbucket" "stripe" "slack" "shopify" "twilio" "standard" "discord" "twitch" "zoom"
    "paddle" "square" "hubspot" "linear" "intercom" "sendgrid" "mailgun" "woocommerce" "telegram" "meta" "msgraph"
    "eventgrid"
}

static ALL: LazyLock<Vec<Preset>> = LazyLock::new(|| {
    let read = |text: &&str| serde_json::from_str(text);
    // the files are part of the program, and a test reads every one of them
    FILES.iter().map(read).collect::<Result<_, _>>().expect("the files of all presets are well-formed")
});

/// All presets in the order in which they are listed to people.
pub fn all() -> &'static [Preset] {
    &ALL
}

pub fn find(name: &str) -> Option<&'static Preset> {
    all().iter().find(|preset| preset.name == name)
}

impl Preset {
    /// The field in which the key is given.
    pub fn key_field(&self) -> &'static str {
        let is_public = self.recipes.first().is_some_and(|recipe| recipe.scheme.has_public_key());
        if is_public { "publicKey" } else { "secretKey" }
    }
}

#[cfg(test)]
#[path = "preset_reference.rs"]
mod reference;
#[cfg(test)]
#[path = "preset_tests.rs"]
mod tests;
