//! The log on standard error: one event is one line, as text for people or as JSON for machines.
//!
//! ```text
//! 2026-11-21T04:00:00.123Z INFO  journal: committed events=12 ms=3
//! {"ts":"2026-11-21T04:00:00.123Z","level":"info","target":"journal","message":"committed","events":12,"ms":3}
//! ```
//!
//! `log.level` of the settings holds for the server's own modules; libraries are heard from `warn` up. `RUST_LOG`
//! replaces both. Control characters are escaped, so that nothing a client sends can make a line of its own.

use std::fmt::{self, Display, Write as _};
use std::io::{self, Write};

use log::kv::{self, Key, Value, VisitSource, VisitValue};
use log::{Level, Record};
use serde::ser::{SerializeMap, Serializer};

use crate::settings::{Log, LogFormat, LogLevel};

/// The crates whose modules follow `log.level`, and whose names are left out of the lines.
const OWN_CRATES: [&str; 2] = ["stentor", "actors"];
/// The fields of each JSON line; keys of an event with these names get a `_` appended.
const JSON_FIELDS: [&str; 4] = ["ts", "level", "target", "message"];

/// Starts logging for the whole process. Later calls change nothing.
pub fn start(settings: &Log) {
    let format = settings.format;
    let mut builder = env_logger::Builder::new();
    match std::env::var(env_logger::DEFAULT_FILTER_ENV) {
        Ok(directives) => builder.parse_filters(&directives),
        Err(_) => builder.parse_filters(&directives(settings.level)),
    };
    builder.format(move |out, record| {
        let ts = out.timestamp_millis().to_string();
        write_line(out, format, &ts, record)
    });
    // An error means that logging has been started already, which is what was asked for.
    let _ = builder.try_init();
}

fn directives(level: LogLevel) -> String {
    let (own, libraries) = match level {
        LogLevel::Off => ("off", "off"),
        LogLevel::Error => ("error", "error"),
        LogLevel::Warn => ("warn", "warn"),
        LogLevel::Info => ("info", "warn"),
        LogLevel::Debug => ("debug", "warn"),
        LogLevel::Trace => ("trace", "warn"),
    };
    let own_crates = OWN_CRATES.map(|name| format!("{name}={own}")).join(",");
    // a peer whose bytes are no HTTP is an error to this module; it gets its 400, and is none of ours
    format!("{libraries},actix_http::h1::dispatcher=off,{own_crates}")
}

fn write_line(out: &mut impl Write, format: LogFormat, ts: &str, record: &Record<'_>) -> io::Result<()> {
    match format {
        LogFormat::Text => write_text(out, ts, record),
        LogFormat::Json => write_json(out, ts, record),
    }
}

fn write_text(out: &mut impl Write, ts: &str, record: &Record<'_>) -> io::Result<()> {
    let target = Escaped(short(record.target()));
    let mut line = format!("{ts} {:<5} {target}: {}", record.level(), Escaped(record.args()));
    record.key_values().visit(&mut TextPairs(&mut line)).map_err(io::Error::other)?;
    line.push('\n');
    out.write_all(line.as_bytes())
}

fn write_json(out: &mut impl Write, ts: &str, record: &Record<'_>) -> io::Result<()> {
    let mut line = Vec::with_capacity(256);
    let mut json = serde_json::Serializer::new(&mut line);
    let mut map = json.serialize_map(None)?;
    map.serialize_entry("ts", ts)?;
    map.serialize_entry("level", level_name(record.level()))?;
    map.serialize_entry("target", short(record.target()))?;
    map.serialize_entry("message", &record.args().to_string())?;
    record.key_values().visit(&mut JsonPairs(&mut map)).map_err(io::Error::other)?;
    map.end()?;
    line.push(b'\n');
    out.write_all(&line)
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

/// The module without the name of our own crate in front.
fn short(target: &str) -> &str {
    OWN_CRATES
        .iter()
        .find_map(|name| target.strip_prefix(name).and_then(|rest| rest.strip_prefix("::")))
        .unwrap_or(target)
}

/// Shows a value with its control characters (and Unicode's line separators) escaped.
struct Escaped<T>(T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Escape<'a, 'b>(&'a mut fmt::Formatter<'b>);
        impl fmt::Write for Escape<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                text.chars().try_for_each(|c| match c {
                    c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                        write!(self.0, "{}", c.escape_default())
                    }
                    c => self.0.write_char(c),
                })
            }
        }
        write!(Escape(f), "{}", self.0)
    }
}

struct TextPairs<'a>(&'a mut String);

impl<'kvs> VisitSource<'kvs> for TextPairs<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let text = value.to_string();
        let is_plain = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == '"' || c == '=');
        if is_plain {
            write!(self.0, " {}={}", Escaped(key), Escaped(text))?;
        } else {
            write!(self.0, " {}={}", Escaped(key), Escaped(format!("{text:?}")))?;
        }
        Ok(())
    }
}

struct JsonPairs<'a, M>(&'a mut M);

impl<'kvs, M: SerializeMap> VisitSource<'kvs> for JsonPairs<'_, M> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let taken = if JSON_FIELDS.contains(&key.as_str()) { "_" } else { "" };
        self.0
            .serialize_key(&format!("{key}{taken}"))
            .map_err(|_| kv::Error::msg("a pair cannot be written as JSON"))?;
        value.visit(JsonValue(self.0))
    }
}

struct JsonValue<'a, M>(&'a mut M);

impl<M: SerializeMap> JsonValue<'_, M> {
    fn write<T: serde::Serialize>(&mut self, value: T) -> Result<(), kv::Error> {
        self.0.serialize_value(&value).map_err(|_| kv::Error::msg("a pair cannot be written as JSON"))
    }
}

impl<'v, M: SerializeMap> VisitValue<'v> for JsonValue<'_, M> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), kv::Error> {
        self.write(value.to_string())
    }
    fn visit_null(&mut self) -> Result<(), kv::Error> {
        self.write(())
    }
    fn visit_u64(&mut self, value: u64) -> Result<(), kv::Error> {
        self.write(value)
    }
    fn visit_i64(&mut self, value: i64) -> Result<(), kv::Error> {
        self.write(value)
    }
    fn visit_f64(&mut self, value: f64) -> Result<(), kv::Error> {
        self.write(value)
    }
    fn visit_bool(&mut self, value: bool) -> Result<(), kv::Error> {
        self.write(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TS: &str = "2026-11-21T04:00:00.123Z";

    fn line(format: LogFormat, target: &str, message: &str, pairs: &[(&str, Value<'_>)]) -> String {
        let mut out = Vec::new();
        let args = format_args!("{message}");
        let record = Record::builder().level(Level::Info).target(target).key_values(&pairs).args(args).build();
        write_line(&mut out, format, TS, &record).expect("a Vec takes every write");
        String::from_utf8(out).expect("lines are UTF-8")
    }

    #[test]
    fn a_text_line_has_the_time_the_level_the_module_the_message_and_the_pairs() {
        let pairs = [("events", Value::from(12)), ("path", Value::from("/a b")), ("empty", Value::from(""))];
        assert_eq!(
            line(LogFormat::Text, "actors::journal", "committed", &pairs),
            "2026-11-21T04:00:00.123Z INFO  journal: committed events=12 path=\"/a b\" empty=\"\"\n"
        );
    }

    #[test]
    fn a_json_line_keeps_numbers_and_renames_pairs_that_would_hide_its_own_fields() {
        let pairs = [("events", Value::from(12)), ("ok", Value::from(true)), ("level", Value::from("high"))];
        assert_eq!(
            line(LogFormat::Json, "stentor::http::maps", "say \"hi\"", &pairs),
            "{\"ts\":\"2026-11-21T04:00:00.123Z\",\"level\":\"info\",\"target\":\"http::maps\",\
             \"message\":\"say \\\"hi\\\"\",\"events\":12,\"ok\":true,\"level_\":\"high\"}\n"
        );
    }

    #[test]
    fn nothing_in_an_event_starts_a_second_line() {
        let hostile = "a\nb\r\n\u{1b}[31mc\u{2028}d\u{85}";
        for format in [LogFormat::Text, LogFormat::Json] {
            let line = line(format, "x\ny", hostile, &[("value", Value::from(hostile)), ("k\ney", Value::from(1))]);
            assert_eq!(line.matches('\n').count(), 1, "{line:?}");
            assert!(!line.contains(['\r', '\u{1b}']), "{line:?}");
        }
    }

    #[test]
    fn libraries_are_never_more_talkative_than_warn() {
        assert_eq!(directives(LogLevel::Trace), "warn,actix_http::h1::dispatcher=off,stentor=trace,actors=trace");
        assert_eq!(directives(LogLevel::Error), "error,actix_http::h1::dispatcher=off,stentor=error,actors=error");
        assert_eq!(directives(LogLevel::Off), "off,actix_http::h1::dispatcher=off,stentor=off,actors=off");
    }
}
