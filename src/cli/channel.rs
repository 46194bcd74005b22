//! Channels as they are named on the command line, and their addresses on a server.

use std::fmt;
use std::str::FromStr;

use super::suggest;

/// The longest id or slug, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// Where events come from or go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Channel {
    /// By its id or slug.
    Map(String),
    Organization(String),
    /// Everything that the token may read; for publishing, the token's own channel.
    Feed,
}

impl Channel {
    /// The path of its events: publish and history.
    pub fn events(&self) -> String {
        match self {
            Self::Map(name) => format!("/api/maps/{name}/events"),
            Self::Organization(name) => format!("/api/v1/organizations/{name}/events"),
            Self::Feed => "/events".to_owned(),
        }
    }

    /// The path of what the server says about it.
    pub fn resource(&self) -> Option<String> {
        self.listed().map(|(list, name)| format!("{list}/{name}"))
    }

    /// The path of the list that it would be in, and the name that was given.
    pub fn listed(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::Map(name) => Some(("/api/maps", name)),
            Self::Organization(name) => Some(("/api/v1/organizations", name)),
            Self::Feed => None,
        }
    }

    /// The name in the parameter `channel` of addresses that have none in their path; the feed needs none.
    pub fn parameter(&self) -> Option<(&'static str, String)> {
        self.listed().map(|_| ("channel", self.to_string()))
    }

    /// The path of its event stream (SSE).
    pub fn stream(&self) -> String {
        format!("{}/stream", self.events())
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map(name) => write!(f, "map:{name}"),
            Self::Organization(name) => write!(f, "organization:{name}"),
            Self::Feed => f.write_str("feed"),
        }
    }
}

impl FromStr for Channel {
    type Err = String;

    /// Accepts only names that can stand in a path by themselves.
    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "give map:ID, organization:ID or feed";
        let hint = |channel: &str| Err(format!("{EXPECTED}; did you mean {channel}?"));
        let Some((kind, name)) = text.split_once(':') else {
            return match suggest::nearest(text, ["feed"]) {
                Some("feed") if text == "feed" => Ok(Self::Feed),
                Some(feed) => hint(feed),
                None if is_plain(text) => hint(&format!("map:{text}")),
                None => Err(EXPECTED.to_owned()),
            };
        };
        match (kind, is_plain(name)) {
            ("map", true) => Ok(Self::Map(name.to_owned())),
            ("organization", true) => Ok(Self::Organization(name.to_owned())),
            ("map" | "organization", false) => {
                Err(format!("{EXPECTED}; an ID has 1 to {NAME_BYTES_MAX} of the characters A-Z a-z 0-9 _ . -"))
            }
            (kind, true) => match suggest::nearest(kind, ["map", "organization"]) {
                Some(kind) => hint(&format!("{kind}:{name}")),
                None => Err(EXPECTED.to_owned()),
            },
            _ => Err(EXPECTED.to_owned()),
        }
    }
}

/// One of the channels that are read together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    Channel(Channel),
    /// All of a kind, `map:*` or `organization:*`, also those that are made later.
    Kind(&'static str),
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel(channel) => channel.fmt(f),
            Self::Kind(kind) => write!(f, "{kind}:*"),
        }
    }
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_suffix(":*") {
            Some("map") => Ok(Self::Kind("map")),
            Some("organization") => Ok(Self::Kind("organization")),
            _ => text.parse().map(Self::Channel),
        }
    }
}

/// Whether a name can stand in a path by itself.
pub fn is_plain(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed) && !name.bytes().all(|b| b == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_channel_has_its_addresses() {
        for (text, stream) in [
            ("map:home", "/api/maps/home/events/stream"),
            ("organization:org_01J", "/api/v1/organizations/org_01J/events/stream"),
            ("feed", "/events/stream"),
        ] {
            let channel: Channel = text.parse().expect(text);
            assert_eq!((channel.to_string().as_str(), channel.stream().as_str()), (text, stream));
        }
    }

    #[test]
    fn all_of_a_kind_can_be_read_and_no_other_pattern() {
        for text in ["map:*", "organization:*", "map:home", "feed"] {
            assert_eq!(text.parse::<Selector>().expect(text).to_string(), text);
        }
        for text in ["*", ":*", "map:a*", "feed:*", "sphere:*"] {
            assert!(text.parse::<Selector>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_channel_is_answered_with_what_was_probably_meant() {
        for (text, meant) in [
            ("home", Some("map:home")),
            ("mpa:home", Some("map:home")),
            ("org:x", Some("organization:x")),
            ("organisation:x", Some("organization:x")),
            ("feeds", Some("feed")),
            ("sphere:1", None),
            ("map:", None),
            ("map:a/b", None),
            ("map:..", None),
            ("organization:a?b", None),
            ("", None),
        ] {
            let error = text.parse::<Channel>().expect_err(text);
            let hint = error.split_once("; did you mean ").map(|(_, hint)| hint.trim_end_matches('?'));
            assert_eq!(hint, meant, "{text}: {error}");
        }
    }
}
