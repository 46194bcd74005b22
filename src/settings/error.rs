//! What can be wrong with the settings, said so that the person who set them can put it right.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// `settings.toml`, built in.
    Default,
    /// The file of `--config`.
    File(PathBuf),
    /// The named variable.
    Environment(String),
    /// The named flag.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the defaults"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "the environment variable {name}"),
            Self::Flag(name) => write!(f, "the flag {name}"),
        }
    }
}

/// Why the settings cannot be used. Each message ends with what to do.
#[derive(Debug, Error)]
pub enum SettingsError {
    #[error("cannot read the settings file {}; check the path given by --config", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{} is not valid TOML: {reason}; correct it there", path.display())]
    Syntax { path: PathBuf, reason: String },
    #[error("a variable that starts with STENTOR__ is not valid UTF-8; unset or correct it")]
    Environment,
    #[error("unknown setting {key} from {origin}; {hint}")]
    UnknownKey { key: String, origin: Origin, hint: String },
    #[error("{key} is {value} from {origin}; give {allowed}")]
    Value { key: String, value: String, origin: Origin, allowed: String },
    #[error("{small} is {small_value} from {origin}, more than {large}, which is {large_value}; {advice}")]
    Relation {
        small: &'static str,
        small_value: i64,
        origin: Origin,
        large: &'static str,
        large_value: i64,
        advice: String,
    },
    #[error("{reason}; {advice}")]
    Together { reason: String, advice: &'static str },
    #[error("the settings do not fit together with this build: {reason}; report this as a bug")]
    Build { reason: String },
}
