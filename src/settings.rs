//! The settings: every bound, address and switch of the server as typed values, read once at the start.
//!
//! Four layers, the later wins: `settings.toml` in this repository (built in), the file of `--config`, the environment
//! (`STENTOR__SECTION__KEY`), the command line. `settings.toml` names every key and says why its default is what it is;
//! a test holds it and the types in `sections` together. `layers` reads and names where a value came from, `check` knows what
//! each key allows and how the limits relate, and `text` keeps secrets unseen.
//!
//! To add a setting: a line in `settings.toml`, a field in `sections`, and for numbers and words a row in `check`.

mod check;
mod error;
mod layers;
mod sections;
mod text;

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;

use config::Environment;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

pub use error::SettingsError;
pub use sections::*;
pub use text::Secret;

/// The defaults as text: what `settings.toml` in the repository says, comments included.
pub const DEFAULTS: &str = include_str!("../settings.toml");

/// The prefix of environment variables that are settings, without the separator `__` that follows it.
const ENVIRONMENT_PREFIX: &str = "STENTOR";

/// What the command line says about the settings: the last and strongest layer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--config`: a TOML file between the defaults and the environment.
    pub config: Option<PathBuf>,
    /// `--data`: overrides `storage.data_dir`.
    pub data: Option<PathBuf>,
    /// `--listen`: overrides `server.listen`.
    pub listen: Option<String>,
    /// `--dev`: for development on one's own machine; not a setting, so that no file can leave it on.
    pub dev: bool,
}

/// Every setting of the server. Meanings, units and reasons are in `settings.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub engine: Engine,
    pub server: Server,
    pub storage: Storage,
    pub nats: Nats,
    pub cluster: Cluster,
    pub retention: Retention,
    pub journal: Journal,
    pub limits: Limits,
    pub sse: Sse,
    pub streams: Streams,
    pub webhooks: Webhooks,
    pub sources: Sources,
    pub tickets: Tickets,
    pub auth: Auth,
    pub cors: Cors,
    pub metrics: Metrics,
    pub log: Log,
}

impl Settings {
    /// Reads all layers, with the environment of this process.
    ///
    /// # Errors
    /// [`SettingsError`] names the first key that is wrong, where it came from, and what to do.
    pub fn load(flags: &Flags) -> Result<Self, SettingsError> {
        Self::load_from(flags, Environment::with_prefix(ENVIRONMENT_PREFIX))
    }

    /// Reads all layers with the given source of environment variables.
    fn load_from(flags: &Flags, environment: Environment) -> Result<Self, SettingsError> {
        let mut stack = layers::Stack::defaults()?;
        if let Some(path) = &flags.config {
            stack.add_file(path)?;
        }
        stack.add_environment(environment.prefix_separator("__").separator("__"))?;
        stack.add_flags(flags)?;
        check::values(&stack)?;
        check::relations(&mut stack)?;
        stack.deserialize()
    }

    /// The built-in defaults alone.
    ///
    /// # Errors
    /// None in a build whose tests passed: they load these defaults.
    pub fn defaults() -> Result<Self, SettingsError> {
        layers::Stack::defaults()?.deserialize()
    }

    /// Every key in alphabetical order with the value in force. A secret shows only whether it is set.
    pub fn entries(&self) -> Vec<(String, String)> {
        fn walk(prefix: &str, value: &Json, entries: &mut Vec<(String, String)>) {
            match value {
                Json::Object(table) => table.iter().for_each(|(name, inner)| {
                    let dot = if prefix.is_empty() { "" } else { "." };
                    walk(&format!("{prefix}{dot}{name}"), inner, entries);
                }),
                Json::String(text) => entries.push((prefix.to_owned(), text.clone())),
                other => entries.push((prefix.to_owned(), other.to_string())),
            }
        }
        let mut entries = Vec::new();
        // Only a path that is not UTF-8 cannot be written as JSON, and every path here came out of a text.
        let tree = serde_json::to_value(self).unwrap_or_default();
        walk("", &tree, &mut entries);
        entries.sort();
        entries
    }

    /// Tells whether two servers have the same settings: 16 hexadecimal digits of SHA-256 over all keys and values in force. Values
    /// that are secret count only as set or not, so nothing of them can be found out by it.
    pub fn fingerprint(&self) -> String {
        let lines: String = self.entries().iter().map(|(key, value)| format!("{key}={value}\n")).collect();
        Sha256::digest(lines)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Logs what is in force: the keys that differ from the defaults as one event, all of them at level debug.
    pub fn log(&self) {
        let defaults = Self::defaults().map(|settings| settings.entries()).unwrap_or_default();
        let changed: Vec<String> = self
            .entries()
            .into_iter()
            .filter(|entry| !defaults.contains(entry))
            .map(|(key, value)| format!("{key}={value:?}"))
            .collect();
        if changed.is_empty() {
            log::info!("all settings have their defaults");
        } else {
            log::info!("settings other than the defaults: {}", changed.join(" "));
        }
        log::info!("fingerprint of the settings: {}", self.fingerprint());
        log::debug!("settings in force: {self}");
    }
}

/// All keys with their values on one line; secrets are not shown.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in self.entries().iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(f, "{space}{key}={value:?}")?;
        }
        Ok(())
    }
}
