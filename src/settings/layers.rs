//! The layers: each is collected by `config`, held against the keys and kinds of the defaults, and laid over the ones
//! before it. Values keep their origin, so that every complaint can name it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use config::{Config, ConfigError, Environment, File, FileFormat, Map, Source, Value, ValueKind};

use super::error::Origin;
use super::{DEFAULTS, ENVIRONMENT_PREFIX, Flags, Settings, SettingsError};

/// Keys whose values must not be repeated in an error.
const SECRET_KEYS: [&str; 2] = ["auth.jwt.key", "metrics.token"];
/// How alike (Jaro-Winkler, 0 to 1) a known key must be to be suggested.
const LIKENESS_FLOOR: f64 = 0.8;

/// Keys of earlier versions, each with the one that took its place.
const MOVED: [(&str, &str); 1] = [("sources.body_timeout_s", "server.body_timeout_s")];

/// All values by their dotted key. Every key of the defaults is in it, and no other.
pub(super) struct Stack {
    values: BTreeMap<String, (ValueKind, Origin)>,
}

impl Stack {
    /// The lowest layer.
    ///
    /// # Errors
    /// [`SettingsError::Build`] when `settings.toml` is not TOML, which the tests exclude.
    pub fn defaults() -> Result<Self, SettingsError> {
        let tree = File::from_str(DEFAULTS, FileFormat::Toml).collect().map_err(build_error)?;
        let values = flatten(tree).into_iter().map(|(key, kind)| (key, (kind, Origin::Default))).collect();
        Ok(Self { values })
    }

    /// Lays a TOML file over the defaults. Blocks.
    ///
    /// # Errors
    /// The file cannot be read or is not TOML, or names a setting that does not exist or has a value of the wrong kind.
    pub fn add_file(&mut self, path: &Path) -> Result<(), SettingsError> {
        let text =
            fs::read_to_string(path).map_err(|source| SettingsError::Unreadable { path: path.to_owned(), source })?;
        let tree = File::from_str(&text, FileFormat::Toml)
            .collect()
            .map_err(|error| SettingsError::Syntax { path: path.to_owned(), reason: on_one_line(&error) })?;
        for (key, kind) in flatten(tree) {
            self.set(&key, kind, Origin::File(path.to_owned()))?;
        }
        Ok(())
    }

    /// Lays environment variables over the file; their texts are read as the kind that the default has.
    ///
    /// # Errors
    /// A variable is not UTF-8, or names a setting that does not exist or has a value of the wrong kind.
    pub fn add_environment(&mut self, source: Environment) -> Result<(), SettingsError> {
        // The error of `config` repeats the value, which may be a secret.
        let found = source.collect().map_err(|_| SettingsError::Environment)?;
        let found: BTreeMap<String, Value> = found.into_iter().collect();
        for (key, value) in found {
            let name = format!("{ENVIRONMENT_PREFIX}__{}", key.replace('.', "__").to_uppercase());
            self.set(&key, value.kind, Origin::Environment(name))?;
        }
        Ok(())
    }

    /// Lays the command line over everything.
    ///
    /// # Errors
    /// `--data` is not UTF-8.
    pub fn add_flags(&mut self, flags: &Flags) -> Result<(), SettingsError> {
        if let Some(data) = &flags.data {
            let text = data.to_str().ok_or_else(|| SettingsError::Value {
                key: "storage.data_dir".to_owned(),
                value: format!("{data:?}"),
                origin: Origin::Flag("--data"),
                allowed: "a path that is valid UTF-8".to_owned(),
            })?;
            self.set("storage.data_dir", ValueKind::String(text.to_owned()), Origin::Flag("--data"))?;
        }
        if let Some(listen) = &flags.listen {
            self.set("server.listen", ValueKind::String(listen.clone()), Origin::Flag("--listen"))?;
        }
        Ok(())
    }

    /// The typed settings. What could be wrong was found before, so an error here is one of this build.
    ///
    /// # Errors
    /// [`SettingsError::Build`] when a value does not fit its field.
    pub fn deserialize(self) -> Result<Settings, SettingsError> {
        let mut builder = Config::builder();
        for (key, (kind, _)) in self.values {
            builder = builder.set_override(key, Value::new(None, kind)).map_err(build_error)?;
        }
        builder.build().and_then(Config::try_deserialize).map_err(build_error)
    }

    /// All integers with their keys.
    pub fn integers(&self) -> impl Iterator<Item = (&str, i64)> {
        self.values.iter().filter_map(|(key, (kind, _))| match kind {
            ValueKind::I64(number) => Some((key.as_str(), *number)),
            _ => None,
        })
    }

    /// An integer of the defaults by its key; 0 for a key that is none, which the tests of `check` rule out.
    pub fn integer(&self, key: &str) -> i64 {
        self.integers().find(|(name, _)| *name == key).map_or(0, |(_, number)| number)
    }

    /// A switch by its key.
    pub fn flag(&self, key: &str) -> bool {
        matches!(self.values.get(key), Some((ValueKind::Boolean(true), _)))
    }

    /// A text by its key; empty for a key that is none, which the tests of `check` rule out.
    pub fn text(&self, key: &str) -> &str {
        match self.values.get(key) {
            Some((ValueKind::String(text), _)) => text,
            _ => "",
        }
    }

    /// The texts of a list by its key.
    pub fn list(&self, key: &str) -> Vec<&str> {
        match self.values.get(key) {
            Some((ValueKind::Array(items), _)) => items
                .iter()
                .filter_map(|item| if let ValueKind::String(text) = &item.kind { Some(text.as_str()) } else { None })
                .collect(),
            _ => Vec::new(),
        }
    }

    /// The numbers of a list by its key.
    pub fn numbers(&self, key: &str) -> Vec<i64> {
        let number = |item: &Value| if let ValueKind::I64(number) = item.kind { Some(number) } else { None };
        match self.values.get(key) {
            Some((ValueKind::Array(items), _)) => items.iter().filter_map(number).collect(),
            _ => Vec::new(),
        }
    }

    /// Where the value in force came from.
    pub fn origin(&self, key: &str) -> Origin {
        self.values.get(key).map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    /// Puts another default in place of one that must give way to what someone set.
    pub fn lower_default(&mut self, key: &str, number: i64) {
        self.values.insert(key.to_owned(), (ValueKind::I64(number), Origin::Default));
    }

    /// The complaint about the value in force.
    pub fn refuse(&self, key: &str, allowed: impl Into<String>) -> SettingsError {
        match self.values.get(key) {
            Some((kind, origin)) => refuse(key, kind, origin.clone(), allowed.into()),
            None => refuse(key, &ValueKind::Nil, Origin::Default, allowed.into()),
        }
    }

    fn set(&mut self, key: &str, kind: ValueKind, origin: Origin) -> Result<(), SettingsError> {
        let Some((default, _)) = self.values.get(key) else {
            return Err(SettingsError::UnknownKey { key: key.to_owned(), origin, hint: self.hint(key) });
        };
        let kind = match cast(kind, default, matches!(origin, Origin::Environment(_))) {
            Ok(kind) => kind,
            Err(kind) => return Err(refuse(key, &kind, origin, allowed_kind(default).to_owned())),
        };
        self.values.insert(key.to_owned(), (kind, origin));
        Ok(())
    }

    fn hint(&self, key: &str) -> String {
        if let Some((_, now)) = MOVED.iter().find(|(before, _)| *before == key) {
            return format!("it is {now} now; set that instead");
        }
        let section = format!("{key}.");
        if let Some(inner) = self.values.keys().find(|known| known.starts_with(&section)) {
            return format!("it is a section: set keys in it, for example {inner}");
        }
        let name = last_part(key);
        let likeness = |known: &str| {
            // The right name in the wrong section is likelier meant than a similar name in the right one.
            let moved = if last_part(known) == name { 0.99 } else { 0.0 };
            strsim::jaro_winkler(known, key).max(moved)
        };
        let nearest = self.values.keys().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        match nearest.filter(|known| likeness(known) >= LIKENESS_FLOOR) {
            Some(known) => format!("did you mean {known}?"),
            None => "settings.toml in the repository lists them all".to_owned(),
        }
    }
}

fn last_part(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

fn flatten(tree: Map<String, Value>) -> BTreeMap<String, ValueKind> {
    fn walk(prefix: &str, table: Map<String, Value>, flat: &mut BTreeMap<String, ValueKind>) {
        for (name, value) in table {
            let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
            match value.kind {
                ValueKind::Table(inner) => walk(&key, inner, flat),
                kind => drop(flat.insert(key, kind)),
            }
        }
    }
    let mut flat = BTreeMap::new();
    walk("", tree, &mut flat);
    flat
}

/// The value in the kind of the default, or the value itself as the error. Only texts of the environment are converted:
/// in a file, where kinds can be written, `"5"` for a number is a mistake.
fn cast(given: ValueKind, default: &ValueKind, from_environment: bool) -> Result<ValueKind, ValueKind> {
    match (default, given) {
        (ValueKind::Boolean(_), kind @ ValueKind::Boolean(_))
        | (ValueKind::I64(_), kind @ ValueKind::I64(_))
        | (ValueKind::String(_), kind @ ValueKind::String(_)) => Ok(kind),
        (ValueKind::Array(of), ValueKind::Array(items)) if items.iter().all(|item| fits(of, &item.kind)) => {
            Ok(ValueKind::Array(items))
        }
        (default, ValueKind::String(text)) if from_environment => match default {
            ValueKind::Boolean(_) => text.trim().to_lowercase().parse().map(ValueKind::Boolean).ok(),
            ValueKind::I64(_) => text.trim().parse().map(ValueKind::I64).ok(),
            ValueKind::Array(of) => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                let item = |item: &str| match of_numbers(of) {
                    true => item.parse().ok().map(|number| Value::new(None, ValueKind::I64(number))),
                    false => Some(Value::new(None, item)),
                };
                items.map(item).collect::<Option<_>>().map(ValueKind::Array)
            }
            _ => None,
        }
        .ok_or(ValueKind::String(text)),
        (_, kind) => Err(kind),
    }
}

/// Whether a list holds numbers, as its default shows; else it holds texts.
fn of_numbers(default: &[Value]) -> bool {
    default.iter().any(|item| matches!(item.kind, ValueKind::I64(_)))
}

fn fits(default: &[Value], item: &ValueKind) -> bool {
    match item {
        ValueKind::I64(_) => of_numbers(default),
        ValueKind::String(_) => !of_numbers(default),
        _ => false,
    }
}

fn allowed_kind(default: &ValueKind) -> &'static str {
    match default {
        ValueKind::Boolean(_) => "true or false",
        ValueKind::I64(_) => "a whole number",
        ValueKind::Array(of) if of_numbers(of) => "a list of whole numbers",
        ValueKind::Array(_) => "a list of texts",
        _ => "a text",
    }
}

fn refuse(key: &str, kind: &ValueKind, origin: Origin, allowed: String) -> SettingsError {
    let value = match kind {
        _ if SECRET_KEYS.contains(&key) => "a value that is not shown".to_owned(),
        ValueKind::String(text) => format!("{text:?}"),
        ValueKind::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| format!("{:?}", item.kind.to_string())).collect();
            format!("[{}]", items.join(", "))
        }
        other => other.to_string(),
    };
    SettingsError::Value { key: key.to_owned(), value, origin, allowed }
}

/// A parser's complaint without the drawing around it: the place and the sentence.
fn on_one_line(error: &ConfigError) -> String {
    let text = match error {
        ConfigError::FileParse { cause, .. } => cause.to_string(),
        other => other.to_string(),
    };
    let is_drawing = |line: &&str| {
        let line = line.trim_start();
        line.is_empty() || line.starts_with('|') || line.starts_with(|c: char| c.is_ascii_digit())
    };
    text.lines().filter(|line| !is_drawing(line)).map(str::trim).collect::<Vec<_>>().join(": ")
}

fn build_error(error: ConfigError) -> SettingsError {
    SettingsError::Build { reason: on_one_line(&error) }
}
