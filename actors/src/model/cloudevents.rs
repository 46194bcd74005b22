//! CloudEvents 1.0.2 coming in: the structured, batched and binary modes of the HTTP binding.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::draft::{self, DEDUPE_ID_BYTES_MAX, DraftError, DraftLimits, FieldError, check_size, unix_ms};
use super::event::{Draft, EventType};
use super::hex;
use super::json::{self, Canonical, JsonError};
use super::percent;
use super::source::Headers;

/// How the events of a request are laid out in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Structured,
    Batched,
    Binary,
}

impl Mode {
    /// What the headers say; none where this is no CloudEvent.
    pub fn of(headers: &dyn Headers) -> Option<Mode> {
        let kind = headers.get("content-type").unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match kind.as_str() {
            "application/cloudevents+json" => Some(Mode::Structured),
            "application/cloudevents-batch+json" => Some(Mode::Batched),
            _ => headers.get("ce-specversion").is_some().then_some(Mode::Binary),
        }
    }
}

/// A CloudEvent, with its data as JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct CloudEvent {
    pub kind: String,
    pub ts_ms: Option<i64>,
    id: String,
    source: String,
    /// Every attribute but the type and the time: an object.
    pub attributes: Canonical,
    /// The data, an object around whatever is no object itself.
    pub data: Canonical,
    /// The whole as the structured mode writes it, where rules look for its type.
    pub text: String,
}

fn error(index: usize, field: &str, message: impl Into<Box<str>>) -> FieldError {
    FieldError { index, field: field.into(), message: message.into() }
}

/// What of a request is no CloudEvent: why, and its text.
#[derive(Clone, Debug, PartialEq)]
pub struct NoEvent {
    pub error: FieldError,
    pub text: Box<str>,
}

/// Reads the events of a request, each for itself. `each`: one of several that is too large is no CloudEvent, and nothing is
/// wrong with the others.
///
/// # Errors
/// It is no JSON of its mode, or too large.
pub fn read(
    mode: Mode,
    headers: &dyn Headers,
    body: &[u8],
    limits: &DraftLimits,
    each: bool,
) -> Result<Vec<Result<CloudEvent, NoEvent>>, DraftError> {
    if mode == Mode::Binary {
        check_size(0, body.len(), limits)?;
        return Ok(vec![binary(headers, body).map_err(|error| NoEvent { error, text: "".into() })]);
    }
    let text = json::text(body).map_err(malformed)?;
    let text = text.trim_matches([' ', '\t', '\r', '\n']);
    let texts = match mode {
        Mode::Batched => {
            let list: Vec<&RawValue> = serde_json::from_str(text).map_err(|e| malformed(e.into()))?;
            if list.len() > limits.batch_events {
                return Err(DraftError::TooManyEvents { count: list.len(), limit: limits.batch_events });
            }
            list.into_iter().map(RawValue::get).collect()
        }
        _ => vec![text],
    };
    if texts.is_empty() {
        return Err(DraftError::Empty);
    }
    let mut events = Vec::with_capacity(texts.len());
    let leaves_out = each && texts.len() > 1;
    for (index, text) in texts.into_iter().enumerate() {
        if leaves_out && text.len() > limits.event_bytes {
            let error = error(index, "", draft::too_large(text.len(), limits.event_bytes));
            events.push(Err(NoEvent { error, text: text.into() }));
            continue;
        }
        check_size(index, text.len(), limits)?;
        let event = match members(text).map_err(malformed)? {
            Some(members) => structured(index, text, members),
            None => Err(error(index, "", "must be a JSON object")),
        };
        events.push(event.map_err(|error| NoEvent { error, text: text.into() }));
    }
    Ok(events)
}

fn malformed(error: JsonError) -> DraftError {
    let JsonError { line, column, message } = error;
    DraftError::Malformed { line, column, message }
}

/// A member of an object: its name and the text of its value.
type Member<'a> = (Cow<'a, str>, &'a str);

/// The members of an object in their order; none where the text is no object.
fn members(text: &str) -> Result<Option<Vec<Member<'_>>>, JsonError> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Vec<Member<'de>>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a CloudEvent")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut all = Vec::new();
            while let Some(name) = map.next_key::<Cow<'de, str>>()? {
                all.push((name, map.next_value::<&RawValue>()?.get()));
            }
            Ok(all)
        }
    }
    if !text.starts_with('{') {
        serde_json::from_str::<serde::de::IgnoredAny>(text)?;
        return Ok(None);
    }
    let mut source = serde_json::Deserializer::from_str(text);
    let members = source.deserialize_map(Members)?;
    source.end()?;
    Ok(Some(members))
}

fn structured(index: usize, text: &str, members: Vec<Member<'_>>) -> Result<CloudEvent, FieldError> {
    let mut given = Attributes { index, list: Vec::new() };
    let (mut data, mut data_base64) = (None, None);
    for (name, value) in members {
        match &*name {
            "data" if value != "null" => data = Some(value),
            "data_base64" if value != "null" => data_base64 = Some(value),
            "data" | "data_base64" => {}
            _ if given.list.iter().any(|(other, _)| *other == name) => {
                return Err(error(index, &name, "is given twice"));
            }
            _ if value == "null" => {}
            _ => given.list.push((name.into_owned(), value.to_owned())),
        }
    }
    let cannot = |e: JsonError| error(index, "data", format!("cannot be taken: {}", e.message));
    let data = match (data, data_base64) {
        (Some(_), Some(_)) => return Err(error(index, "data_base64", "stands beside data; give one of them")),
        (None, None) => Canonical::EMPTY_OBJECT,
        (Some(data), None) => object(data).map_err(cannot)?,
        (None, Some(text)) => {
            let is_base64 = serde_json::from_str::<String>(text).is_ok_and(|text| STANDARD.decode(text).is_ok());
            if !is_base64 {
                return Err(error(index, "data_base64", "must be base64 in a string"));
            }
            Canonical::parse(&format!("{{\"data_base64\":{text}}}")).map_err(cannot)?
        }
    };
    given.event(data, text.to_owned())
}

/// The data as an object: itself, or around it.
fn object(data: &str) -> Result<Canonical, JsonError> {
    match data.starts_with('{') {
        true => Canonical::parse(data),
        false => Canonical::parse(&format!("{{\"data\":{data}}}")),
    }
}

fn binary(headers: &dyn Headers, body: &[u8]) -> Result<CloudEvent, FieldError> {
    let mut given = Attributes { index: 0, list: Vec::new() };
    for (name, value) in headers.all() {
        let lower = name.to_ascii_lowercase();
        let Some(name) = lower.strip_prefix("ce-") else { continue };
        if given.list.iter().any(|(other, _)| other == name) {
            return Err(error(0, &lower, "was sent more than once"));
        }
        // HTTP binding, 3.1.3.2
        let value = String::from_utf8(percent::decode(value.as_bytes()))
            .map_err(|_| error(0, &lower, "is not percent-encoded UTF-8"))?;
        given.list.push((name.to_owned(), Canonical::of_text(&value).as_str().to_owned()));
    }
    let kind = headers.get("content-type");
    if let Some(kind) = kind {
        given.list.push(("datacontenttype".into(), Canonical::of_text(kind).as_str().to_owned()));
    }
    let media = kind.unwrap_or("application/json").split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let cannot = |e: JsonError| error(0, "data", format!("cannot be taken: {}", e.message));
    let (name, data) = match body {
        [] => ("data", None),
        _ if media == "application/json" || media == "text/json" || media.ends_with("+json") => {
            let text = json::text(body).map_err(cannot)?;
            ("data", Some(text.trim_matches([' ', '\t', '\r', '\n']).to_owned()))
        }
        _ => match std::str::from_utf8(body) {
            Ok(text) if !text.contains('\0') => ("data", Some(Canonical::of_text(text).as_str().to_owned())),
            // bytes that are UTF-8 by chance: no text has a NUL, and sources take none
            Ok(_) | Err(_) => ("data_base64", Some(format!("\"{}\"", STANDARD.encode(body)))),
        },
    };
    let value = match (&data, name) {
        (None, _) => Canonical::EMPTY_OBJECT,
        (Some(data), "data") => object(data).map_err(cannot)?,
        (Some(data), _) => Canonical::parse(&format!("{{\"data_base64\":{data}}}")).map_err(cannot)?,
    };
    let mut text: Vec<_> =
        given.list.iter().map(|(name, value)| format!("{}:{value}", Canonical::of_text(name).as_str())).collect();
    text.extend(data.map(|data| format!("\"{name}\":{data}")));
    given.event(value, format!("{{{}}}", text.join(",")))
}

/// Attributes by name, each with the JSON text of its value.
struct Attributes {
    index: usize,
    list: Vec<(String, String)>,
}

impl Attributes {
    /// The text of an attribute that has to be there.
    fn required(&self, name: &str) -> Result<String, FieldError> {
        let found = self.list.iter().find(|(other, _)| other == name);
        let Some((_, value)) = found else { return Err(error(self.index, name, "is required by CloudEvents 1.0")) };
        match serde_json::from_str::<String>(value) {
            Ok(text) if !text.is_empty() => Ok(text),
            _ => Err(error(self.index, name, "must be a text that is not empty")),
        }
    }

    fn event(self, data: Canonical, text: String) -> Result<CloudEvent, FieldError> {
        let index = self.index;
        let version = self.required("specversion")?;
        if version != "1.0" {
            return Err(error(index, "specversion", "must be 1.0"));
        }
        let (id, source, kind) = (self.required("id")?, self.required("source")?, self.required("type")?);
        let ts_ms = match self.list.iter().any(|(name, _)| name == "time") {
            false => None,
            true => {
                let bad = || error(index, "time", "must be a date and time of RFC 3339 with an offset from UTC");
                Some(unix_ms(&self.required("time")?).ok_or_else(bad)?)
            }
        };
        let others = self.list.iter().filter(|(name, _)| name != "type" && name != "time");
        let member = |(name, value): &(String, String)| format!("{}:{value}", Canonical::of_text(name).as_str());
        let attributes = format!("{{{}}}", others.map(member).collect::<Vec<_>>().join(","));
        let attributes = Canonical::parse(&attributes).map_err(|e| error(index, "", e.to_string()))?;
        Ok(CloudEvent { kind, ts_ms, id, source, attributes, data, text })
    }
}

impl CloudEvent {
    /// Under which key the same event is known again: its source and id together.
    pub fn dedupe_id(&self) -> Box<str> {
        let key = format!("cloudevent {} {}", self.source, self.id);
        if key.len() <= DEDUPE_ID_BYTES_MAX {
            return key.into();
        }
        format!("cloudevent {}", hex::encode(&Sha256::digest(key.as_bytes()))).into()
    }

    /// The draft of a publisher: the data with the attributes in its member `cloudevent`.
    ///
    /// # Errors
    /// The type is none of ours, or the data has a member of this name.
    pub fn published(&self, index: usize) -> Result<Draft, FieldError> {
        let kind = EventType::new(&self.kind).map_err(|e| error(index, "type", format!("is not well-formed: {e}")))?;
        let inner = self.data.as_str().strip_suffix('}').unwrap_or("{");
        let text = match inner {
            "{" => format!("{{\"cloudevent\":{}}}", self.attributes.as_str()),
            inner => format!("{inner},\"cloudevent\":{}}}", self.attributes.as_str()),
        };
        if super::source::has_member(self.data.as_str(), "cloudevent") {
            return Err(error(
                index,
                "data",
                "has a member cloudevent, where the attributes stand; give it another name",
            ));
        }
        let payload = Canonical::parse(&text).map_err(|e| error(index, "data", e.to_string()))?;
        let dedupe_id = Some(self.dedupe_id());
        Ok(Draft { kind, ts_ms: self.ts_ms, session: None, payload, dedupe_id, validated: None })
    }
}

/// The drafts of a publish request.
///
/// # Errors
/// Something of it is no CloudEvent, or cannot be an event.
pub fn published(
    mode: Mode,
    headers: &dyn Headers,
    body: &[u8],
    limits: &DraftLimits,
) -> Result<Vec<Draft>, DraftError> {
    let events = read(mode, headers, body, limits, false)?;
    let (mut drafts, mut errors) = (Vec::with_capacity(events.len()), Vec::new());
    for (index, event) in events.into_iter().enumerate() {
        match event.map_err(|bad| bad.error).and_then(|event| event.published(index)) {
            Ok(draft) => drafts.push(draft),
            Err(error) if errors.len() < draft::FIELD_ERRORS_MAX => errors.push(error),
            Err(_) => {}
        }
    }
    if errors.is_empty() { Ok(drafts) } else { Err(DraftError::Invalid(errors)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const LIMITS: DraftLimits = DraftLimits { event_bytes: 1_000, batch_events: 3 };

    fn publish(headers: &[(&str, &str)], body: &str) -> Result<Vec<Draft>, DraftError> {
        let mode = Mode::of(&headers).expect("a CloudEvent");
        published(mode, &headers, body.as_bytes(), &LIMITS)
    }

    fn payload(draft: &Draft) -> Value {
        serde_json::from_str(draft.payload.as_str()).expect("JSON")
    }

    const STRUCTURED: (&str, &str) = ("Content-Type", "application/cloudevents+json; charset=utf-8");
    const BATCHED: (&str, &str) = ("Content-Type", "application/cloudevents-batch+json");

    fn event(data: Value) -> Value {
        json!({"specversion": "1.0", "type": "com.example.created", "source": "/shop", "id": "A-1", "time": "2024-01-15T10:30:00.5Z",
            "subject": "order", "ext": 7, "data": data})
    }

    #[test]
    fn each_mode_means_the_same_event() {
        let structured = publish(&[STRUCTURED], &event(json!({"n": 1.0})).to_string()).expect("drafts");
        let batched = publish(&[BATCHED], &json!([event(json!({"n": 1}))]).to_string()).expect("drafts");
        assert_eq!(structured, batched);
        assert_eq!(
            (structured[0].kind.as_str(), structured[0].ts_ms),
            ("com.example.created", Some(1_705_314_600_500))
        );
        let attributes = json!({"specversion": "1.0", "source": "/shop", "id": "A-1", "subject": "order", "ext": 7});
        assert_eq!(payload(&structured[0]), json!({"n": 1, "cloudevent": attributes}));
        let headers = [
            ("Content-Type", "application/json"),
            ("ce-specversion", "1.0"),
            ("CE-Type", "com.example.created"),
            ("ce-source", "/shop"),
            ("ce-id", "A-1"),
            ("ce-time", "2024-01-15T10:30:00.5Z"),
            ("ce-subject", "caf%C3%A9"),
        ];
        let binary = publish(&headers, r#"{"n":1}"#).expect("drafts");
        assert_eq!(
            (&binary[0].kind, binary[0].ts_ms, &binary[0].dedupe_id),
            (&structured[0].kind, structured[0].ts_ms, &structured[0].dedupe_id)
        );
        let read = payload(&binary[0]);
        assert_eq!(
            (&read["n"], &read["cloudevent"]["subject"], &read["cloudevent"]["datacontenttype"]),
            (&json!(1), &json!("caf\u{e9}"), &json!("application/json"))
        );
    }

    #[test]
    fn data_that_is_no_object_is_wrapped() {
        let of = |event: Value| payload(&publish(&[STRUCTURED], &event.to_string()).expect("drafts")[0]);
        assert_eq!(of(event(json!([1, 2])))["data"], json!([1, 2]));
        assert_eq!(of(event(json!("text")))["data"], "text");
        assert_eq!(of(event(json!(null))).as_object().map(|members| members.len()), Some(1));
        let mut bytes = event(json!(null));
        bytes["data_base64"] = "AAH/".into();
        assert_eq!(of(bytes)["data_base64"], "AAH/");
        let headers = [
            ("ce-specversion", "1.0"),
            ("ce-type", "a"),
            ("ce-source", "s"),
            ("ce-id", "1"),
            ("content-type", "text/plain"),
        ];
        assert_eq!(payload(&publish(&headers, "<a>").expect("drafts")[0])["data"], "<a>");
    }

    #[test]
    fn what_is_no_cloud_event_is_refused_with_what_is_wrong() {
        let without = |name: &str| {
            let mut event = event(json!({}));
            event.as_object_mut().expect("an object").remove(name);
            event
        };
        let with = |name: &str, value: Value| {
            let mut event = event(json!({}));
            event[name] = value;
            event
        };
        for (field, event) in [
            ("specversion", without("specversion")),
            ("id", without("id")),
            ("source", without("source")),
            ("type", without("type")),
            ("specversion", with("specversion", json!("0.3"))),
            ("id", with("id", json!(""))),
            ("id", with("id", json!(7))),
            ("type", with("type", json!("com/example"))),
            ("type", with("type", json!("x".repeat(65)))),
            ("time", with("time", json!("yesterday"))),
            ("data_base64", with("data_base64", json!("AAA="))),
            ("data", with("data", json!({"cloudevent": 1}))),
        ] {
            let Err(DraftError::Invalid(errors)) = publish(&[STRUCTURED], &event.to_string()) else {
                panic!("{event}")
            };
            assert_eq!(&*errors[0].field, field, "{event}");
        }
        assert!(matches!(publish(&[BATCHED], "[]"), Err(DraftError::Empty)));
        assert!(matches!(publish(&[BATCHED], "{}"), Err(DraftError::Malformed { .. })));
        assert!(matches!(publish(&[STRUCTURED], "{"), Err(DraftError::Malformed { .. })));
        assert!(matches!(publish(&[STRUCTURED], "7"), Err(DraftError::Invalid(_))));
        let many = json!([event(json!({})), event(json!({})), event(json!({})), event(json!({}))]);
        assert!(matches!(
            publish(&[BATCHED], &many.to_string()),
            Err(DraftError::TooManyEvents { count: 4, limit: 3 })
        ));
        let large = event(json!({"x": "y".repeat(1_000)}));
        assert!(matches!(publish(&[STRUCTURED], &large.to_string()), Err(DraftError::EventTooLarge { .. })));
    }

    #[test]
    fn an_event_is_known_again_by_its_source_and_id_however_long_they_are() {
        let of = |source: &str, id: &str| {
            let mut event = event(json!({}));
            (event["source"], event["id"]) = (source.into(), id.into());
            publish(&[STRUCTURED], &event.to_string()).expect("drafts")[0].dedupe_id.clone().expect("a key")
        };
        assert_eq!(of("/shop", "A-1"), of("/shop", "A-1"));
        assert_ne!(of("/shop", "A-1"), of("/shop", "A-2"));
        let long = "x".repeat(300);
        assert!(of(&long, "1").len() <= DEDUPE_ID_BYTES_MAX);
        assert_ne!(of(&long, "1"), of(&long, "2"));
    }
}
