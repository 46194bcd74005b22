//! The event types that Stentor knows: what each means, an example of its payload and a JSON Schema (draft 2020-12).
//!
//! One JSON file per type, in one folder per family, embedded and read once. A new family is a folder and a block in
//! [`FILES`]. Events of other types are allowed; the catalogue only documents. Its schemas also say how a sample may
//! vary (`sample`), for demo traffic and test pings.

mod sample;

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::json::Canonical;

/// One event type. Serialises as `{"type","family","description","example","schema"}`.
#[derive(Debug, Serialize)]
pub struct TypeInfo {
    #[serde(rename = "type")]
    pub name: &'static str,
    pub family: &'static str,
    /// One English sentence.
    pub description: &'static str,
    /// A payload, in canonical JSON.
    pub example: Box<RawValue>,
    /// The JSON Schema of the payload, in canonical JSON.
    pub schema: Box<RawValue>,
}

/// Every type of the catalogue, in the order of the families and of their files.
pub fn types() -> &'static [TypeInfo] {
    &TYPES
}

/// The names of the families.
pub fn families() -> &'static [&'static str] {
    FAMILIES
}

/// The types of one family.
pub fn of_family(family: &str) -> impl Iterator<Item = &'static TypeInfo> {
    types().iter().filter(move |info| info.family == family)
}

/// The type called `name`.
pub fn find(name: &str) -> Option<&'static TypeInfo> {
    types().iter().find(|info| info.name == name)
}

/// Whether the catalogue has a type called `name`.
pub fn knows(name: &str) -> bool {
    find(name).is_some()
}

/// A payload of the type called `name` that varies with `n` and is always the same for the same `n`; `{}` for a type
/// that the catalogue does not have.
pub fn sample(name: &str, n: u64) -> Canonical {
    find(name).map_or(Canonical::EMPTY_OBJECT, |info| sample::vary(info, n))
}

static TYPES: LazyLock<Vec<TypeInfo>> =
    LazyLock::new(|| FILES.iter().flat_map(|(family, files)| files.iter().map(|text| read(family, text))).collect());

macro_rules! files {
    ($($family:literal: [$($name:literal)*])*) => {
        /// The names of the families, in the order of [`FILES`].
        const FAMILIES: &[&str] = &[$($family),*];
        /// The files of each family.
        const FILES: &[(&str, &[&str])] = &[$(($family, &[$(include_str!(concat!($family, "/", $name, ".json"))),*])),*];
    };
}

files! {
    "maps": [
        "add_system" "deleted_system" "system_renamed" "system_metadata_changed"
        "connection_added" "connection_removed" "connection_updated"
        "signature_added" "signature_removed" "signatures_updated"
        "character_added" "character_removed" "character_updated" "characters_updated"
        "map_kill"
        "acl_member_added" "acl_member_removed" "acl_member_updated"
        "rally_point_added" "rally_point_removed"
        "structure_added" "structure_removed" "structure_updated" "structure_timer"
    ]
    "organizations": [
        "session.status" "auth.qr" "auth.code"
        "message" "message.from_me" "message.status" "message.reaction" "message.edited" "message.revoked"
        "poll.vote" "poll.recap" "presence.update" "group.update" "group.participant"
        "chat.update" "contact.update" "call.incoming" "newsletter.update"
    ]
    "feed": [
        "entries_created" "entries_deleted" "entries_updated"
        "versions_created" "versions_deleted" "versions_promoted" "versions_restored"
        "permissions_changed" "indexes_changed"
    ]
    "system": [
        "webhook.disabled" "webhook.enabled" "webhook.dead_letter" "webhook.gap"
        "source.rejected" "storage.low_disk" "storage.notes_lost" "clock.jumped"
        "token.created" "token.changed" "token.revoked" "login.failed" "login.link_used"
        "channel.changed" "webhook.changed" "source.changed" "backup.taken"
    ]
}

/// What a file holds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "type")]
    name: &'static str,
    description: &'static str,
    #[serde(borrow)]
    example: &'static RawValue,
    #[serde(borrow)]
    schema: &'static RawValue,
}

fn read(family: &'static str, text: &'static str) -> TypeInfo {
    // safe: the files are part of the program, and a test reads them all
    let file: File = serde_json::from_str(text).expect("an embedded catalogue file is well-formed");
    TypeInfo {
        name: file.name,
        family,
        description: file.description,
        example: canonical(file.example),
        schema: canonical(file.schema),
    }
}

fn canonical(json: &RawValue) -> Box<RawValue> {
    let text = Canonical::parse(json.get()).map_or_else(|_| json.get().to_owned(), |text| text.as_str().to_owned());
    // safe: canonical JSON is JSON, and so is what it was made from
    RawValue::from_string(text).expect("JSON")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;
    use crate::model::event::EventType;

    fn value(text: &str) -> Value {
        serde_json::from_str(text).expect("JSON")
    }

    fn validator(info: &TypeInfo) -> jsonschema::Validator {
        let schema = value(info.schema.get());
        assert!(jsonschema::meta::is_valid(&schema), "{}: the schema is no schema", info.name);
        jsonschema::draft202012::options().should_validate_formats(true).build(&schema).expect("a good schema")
    }

    #[test]
    fn every_type_of_every_family_is_there_once() {
        let names: BTreeSet<&str> = types().iter().map(|info| info.name).collect();
        assert_eq!(names.len(), types().len());
        let sizes: Vec<_> = families().iter().map(|family| (*family, of_family(family).count())).collect();
        assert_eq!(sizes, [("maps", 24), ("organizations", 18), ("feed", 9), ("system", 17)]);
        assert!(names.iter().all(|name| EventType::new(name).is_ok() && knows(name)));
        assert!(types().iter().all(|info| info.description.ends_with('.')));
        assert!(!knows("poll.lost") && sample("poll.lost", 0) == Canonical::EMPTY_OBJECT);
    }

    #[test]
    fn every_example_and_every_sample_is_valid() {
        for info in types() {
            let validator = validator(info);
            let samples = (0..50).map(|n| sample(info.name, n).as_str().to_owned());
            for payload in samples.chain([info.example.get().to_owned()]) {
                let faults: Vec<_> = validator.iter_errors(&value(&payload)).map(|f| f.to_string()).collect();
                assert!(faults.is_empty(), "{}: {payload}: {faults:?}", info.name);
            }
        }
    }

    #[test]
    fn a_schema_refuses_what_is_missing_and_what_has_the_wrong_type() {
        for info in types() {
            let (validator, schema) = (validator(info), value(info.schema.get()));
            let required = schema["required"].as_array().expect("every schema requires something");
            assert!(!required.is_empty() && !validator.is_valid(&json!([])) && !validator.is_valid(&json!({})));
            for name in required.iter().filter_map(Value::as_str) {
                let mut payload = value(info.example.get());
                payload[name] = json!({ "wrong": true });
                assert!(!validator.is_valid(&payload), "{}: {name} may be an object", info.name);
                payload.as_object_mut().expect("a payload is an object").remove(name);
                assert!(!validator.is_valid(&payload), "{}: {name} may be missing", info.name);
            }
        }
    }

    #[test]
    fn every_field_of_an_example_is_described() {
        for info in types() {
            let (schema, example) = (value(info.schema.get()), value(info.example.get()));
            for name in example.as_object().expect("a payload is an object").keys() {
                assert!(schema["properties"][name].is_object(), "{}: {name}", info.name);
            }
        }
    }

    #[test]
    fn samples_vary_with_the_number_and_only_with_it() {
        for info in types() {
            let samples: BTreeSet<String> = (0..50).map(|n| sample(info.name, n).as_str().to_owned()).collect();
            assert!(samples.len() > 40, "{}: {} of 50 differ", info.name, samples.len());
            assert_eq!(sample(info.name, 7), sample(info.name, 7));
        }
    }

    #[test]
    fn an_attachment_is_told_of_and_never_there() {
        for n in 0..50 {
            let payload = value(sample("message", n).as_str());
            assert_eq!((&payload["hasMedia"], &payload["media"]), (&json!(true), &Value::Null));
            assert!(payload["mimeType"].as_str().is_some_and(|kind| kind.starts_with("image/")), "{payload}");
        }
    }

    #[test]
    fn every_type_of_the_feed_has_a_path_to_filter_by_or_a_version() {
        for info in of_family("feed") {
            let payload = value(info.example.get());
            let path = payload["path"].as_str().or_else(|| payload["entries"][0]["path"].as_str());
            let version = info.name.starts_with("versions_") && payload["name"].is_string();
            assert!(path.is_some_and(|path| path.starts_with('/')) || version, "{}", info.name);
        }
    }

    #[test]
    fn a_type_serialises_as_the_interface_shows_it() {
        let shown = value(&serde_json::to_string(find("map_kill").expect("a known type")).expect("it serialises"));
        assert_eq!((&shown["type"], &shown["family"]), (&json!("map_kill"), &json!("maps")));
        assert_eq!(shown["example"]["victim"]["ship"], "Stratios");
        assert_eq!(shown["schema"]["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert_eq!(shown.as_object().map(|fields| fields.len()), Some(5));
    }
}
