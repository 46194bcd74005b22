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
    pub name: String,
    pub family: &'static str,
    /// One English sentence.
    pub description: String,
    /// A payload.
    #[serde(serialize_with = "as_json")]
    pub example: Canonical,
    /// The JSON Schema of the payload, as it stands in the file.
    pub schema: Box<RawValue>,
}

/// Every type of the catalogue, in the order of the families and of their files.
pub fn types() -> &'static [TypeInfo] {
    &TYPES
}

/// The types of one family (`maps`); none for a family that does not exist.
pub fn family(name: &str) -> impl Iterator<Item = &'static TypeInfo> {
    types().iter().filter(move |info| info.family == name)
}

/// The type called `name`.
pub fn find(name: &str) -> Option<&'static TypeInfo> {
    types().iter().find(|info| info.name == name)
}

/// A payload of the type called `name` that varies with `n` and is always the same for the same `n`; `None` for a type
/// that the catalogue does not have.
pub fn sample(name: &str, n: u64) -> Option<Canonical> {
    find(name).map(|info| sample::vary(info, n))
}

static TYPES: LazyLock<Vec<TypeInfo>> =
    LazyLock::new(|| FILES.iter().flat_map(|(family, files)| files.iter().map(|text| read(family, text))).collect());

macro_rules! files {
    ($($family:literal: [$($name:literal)*])*) => {
        &[$(($family, &[$(include_str!(concat!($family, "/", $name, ".json"))),*])),*]
    };
}

/// The files of each family.
const FILES: &[(&str, &[&str])] = files! {
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
};

/// What a file holds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "type")]
    name: String,
    description: String,
    example: Box<RawValue>,
    schema: Box<RawValue>,
}

fn read(family: &'static str, text: &str) -> TypeInfo {
    // safe: the files are part of the program, and a test reads them all
    let file: File = serde_json::from_str(text).expect("an embedded catalogue file is well-formed");
    // safe: it was just read as JSON
    let example = Canonical::parse(file.example.get()).expect("an example is JSON");
    TypeInfo { name: file.name, family, description: file.description, example, schema: file.schema }
}

fn as_json<S: serde::Serializer>(payload: &Canonical, serializer: S) -> Result<S::Ok, S::Error> {
    let raw: &RawValue = serde_json::from_str(payload.as_str()).map_err(serde::ser::Error::custom)?;
    raw.serialize(serializer)
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
    fn every_type_of_the_maps_family_is_there_once() {
        let names: BTreeSet<&str> = family("maps").map(|info| info.name.as_str()).collect();
        assert_eq!((names.len(), types().len(), family("nothing").count()), (24, 24, 0));
        assert!(names.iter().all(|name| EventType::new(name).is_ok() && find(name).is_some()));
        assert!(types().iter().all(|info| info.description.ends_with('.')));
        assert!(find("poll.vote").is_none() && sample("poll.vote", 0).is_none());
    }

    #[test]
    fn every_example_and_every_sample_is_valid() {
        for info in types() {
            let validator = validator(info);
            for payload in (0..50).filter_map(|n| sample(&info.name, n)).chain([info.example.clone()]) {
                let faults: Vec<_> = validator.iter_errors(&value(payload.as_str())).map(|f| f.to_string()).collect();
                assert!(faults.is_empty(), "{}: {payload:?}: {faults:?}", info.name);
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
                let mut payload = value(info.example.as_str());
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
            let (schema, example) = (value(info.schema.get()), value(info.example.as_str()));
            for name in example.as_object().expect("a payload is an object").keys() {
                assert!(schema["properties"][name].is_object(), "{}: {name}", info.name);
            }
        }
    }

    #[test]
    fn samples_vary_with_the_number_and_only_with_it() {
        for info in types() {
            let samples: BTreeSet<String> =
                (0..50).filter_map(|n| sample(&info.name, n)).map(|payload| payload.as_str().to_owned()).collect();
            assert!(samples.len() > 40, "{}: {} of 50 differ", info.name, samples.len());
            assert_eq!(sample(&info.name, 7), sample(&info.name, 7));
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
