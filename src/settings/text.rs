//! Values that are texts in every layer: secrets, what may be left empty, and how each is shown.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize, Serializer};

/// A value that can be used but not shown: it has no Display, and its Debug does not tell it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The value itself. The caller must not print, log or answer with it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(not shown)")
    }
}

/// An empty text stands for nothing.
pub fn unset_when_empty<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: From<Text>,
{
    let text = String::deserialize(deserializer)?;
    Ok(if text.is_empty() { None } else { Some(T::from(Text(text))) })
}

/// A text on its way into a field, so that one function reads texts, paths and secrets.
pub struct Text(String);

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

impl From<Text> for PathBuf {
    fn from(text: Text) -> Self {
        Self::from(text.0)
    }
}

impl From<Text> for Secret {
    fn from(text: Text) -> Self {
        Self(text.0)
    }
}

/// Nothing is written as an empty text.
pub fn empty_when_unset<S: Serializer, T: Serialize>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => value.serialize(serializer),
        None => serializer.serialize_str(""),
    }
}

/// Addresses as they may be shown.
pub fn without_passwords<S: Serializer>(servers: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    let shown = servers.iter().map(|server| match (server.split_once("://"), server.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://(not shown)@{host}"),
        _ => server.clone(),
    });
    serializer.collect_seq(shown)
}

/// Whether a secret is set, and not what it is.
pub fn withheld<S: Serializer>(value: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if value.is_some() { "(set, not shown)" } else { "" })
}
