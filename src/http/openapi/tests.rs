use std::collections::{BTreeSet, HashSet};

use serde_json::{Value, json};

use super::*;
use crate::http::table;

/// Set, the golden files are written instead of compared.
const REWRITE: &str = "STENTOR_WRITE_DOCS";

/// Holds a document against its file in `docs/`.
pub fn golden(name: &str, document: &Value) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    let made = serde_json::to_string_pretty(document).expect("JSON") + "\n";
    if std::env::var_os(REWRITE).is_some() {
        std::fs::write(&path, &made).expect("the file can be written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == made,
        "docs/{name} is not what the code says any more; write it anew: {REWRITE}=1 cargo test golden"
    );
}

fn made() -> Value {
    document(&table())
}

/// Every object in a document, with its place.
fn each<'a>(value: &'a Value, at: &str, visit: &mut dyn FnMut(&str, &'a Value)) {
    visit(at, value);
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| each(value, &format!("{at}/{name}"), visit)),
        Value::Array(items) => items.iter().enumerate().for_each(|(n, value)| each(value, &format!("{at}/{n}"), visit)),
        _ => {}
    }
}

#[test]
fn the_golden_file_of_the_api_is_what_the_code_says() {
    golden("openapi.json", &made());
}

/// The page on figures and troubles, made of the tables that the server works by.
#[test]
fn the_reference_of_the_overview_is_what_the_code_says() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/overview.md");
    let made = about::overview::page();
    if std::env::var_os(REWRITE).is_some() || std::env::var_os("STENTOR_REWRITE").is_some() {
        std::fs::write(&path, &made).expect("the page can be written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == made, "docs/overview.md is another; write it anew by: STENTOR_REWRITE=1 cargo test reference");
}

#[test]
fn the_document_and_the_route_table_name_the_same_operations() {
    let document = made();
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        documented.extend(item.as_object().expect("an item").keys().map(|method| format!("{method} {path}")));
    }
    let mut routed = BTreeSet::new();
    for address in table().addresses {
        for entry in &address.entries {
            let operation = format!("{} {}", entry.method.as_str().to_ascii_lowercase(), path_of(&address.pattern));
            assert!(routed.insert(operation.clone()), "{operation} is routed twice");
        }
    }
    assert_eq!(documented, routed);
}

#[test]
fn every_reference_leads_somewhere_and_every_schema_is_referred_to() {
    let document = made();
    let mut referred = HashSet::new();
    each(&document, "", &mut |at, value| {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            let pointer = reference.strip_prefix('#').expect("references stay within the document");
            assert!(document.pointer(pointer).is_some(), "{reference} at {at}");
            referred.insert(reference.rsplit('/').next().expect("a name").to_owned());
        }
    });
    for name in document["components"]["schemas"].as_object().expect("schemas").keys() {
        assert!(referred.contains(name), "nothing refers to {name}");
    }
}

#[test]
fn operations_have_ids_of_their_own_and_parameters_stand_once() {
    let document = made();
    let mut ids = HashSet::new();
    each(&document["paths"], "", &mut |at, value| {
        if let Some(id) = value.get("operationId") {
            assert!(ids.insert(id.clone()), "{id} stands twice");
            let mut parameters = HashSet::new();
            for parameter in value["parameters"].as_array().into_iter().flatten() {
                let named = (parameter["in"].clone().to_string(), parameter["name"].clone().to_string());
                assert!(parameters.insert(named), "{parameter} stands twice at {at}");
            }
        }
    });
    assert_eq!(ids.len(), table().addresses.iter().map(|address| address.entries.len()).sum::<usize>());
}

#[test]
fn every_example_is_what_its_schema_says() {
    let document = made();
    let components = &document["components"];
    let mut seen = 0;
    each(&document, "", &mut |at, value| {
        let is_parameter = value.get("in").is_some();
        let Some(schema) = value.get("schema").filter(|_| is_content(at) || is_parameter) else { return };
        let named = value.get("examples").and_then(Value::as_object);
        let examples = named.into_iter().flat_map(|examples| examples.values().map(|example| &example["value"]));
        let examples: Vec<_> = value.get("example").into_iter().chain(examples).collect();
        let root = json!({ "$schema": "https://json-schema.org/draft/2020-12/schema", "components": components, "allOf": [schema] });
        let judge = jsonschema::options().build(&root).unwrap_or_else(|e| panic!("{e} at {at}"));
        for example in examples {
            let wrong: Vec<_> = judge.iter_errors(example).map(|e| format!("{e} at {}", e.instance_path())).collect();
            assert!(wrong.is_empty(), "{at}: {wrong:?} in {example}");
            seen += 1;
        }
    });
    assert!(seen > 100, "{seen} examples");
}

/// Whether this is the place of a media type.
fn is_content(at: &str) -> bool {
    at.rsplit_once("/content/").is_some_and(|(_, media_type)| media_type.matches('/').count() == 1)
}

#[test]
fn every_json_body_and_answer_has_an_example() {
    each(&made(), "", &mut |at, value| {
        if is_content(at) && at.ends_with("/application/json") {
            assert!(value.get("example").is_some() || value.get("examples").is_some(), "{at}");
        }
    });
}

#[test]
fn errors_have_the_body_of_their_door() {
    let document = made();
    for (path, item) in document["paths"].as_object().expect("paths") {
        each(item, path, &mut |at, value| {
            let to = value.get("$ref").and_then(Value::as_str).unwrap_or_default();
            if let Some(name) = to.strip_prefix("#/components/responses/") {
                assert_eq!(name.starts_with("Nested"), path.starts_with("/api/v1/"), "{at}");
                let body =
                    &document["components"]["responses"][name]["content"]["application/json"]["schema"]["allOf"][0];
                let expected = if path.starts_with("/api/v1/") { "NestedError" } else { "Error" };
                assert_eq!(body["$ref"], format!("#/components/schemas/{expected}"), "{at}");
            }
        });
    }
}

#[test]
fn a_pattern_loses_its_expressions() {
    assert_eq!(path_of("/{folder:app|vendor}/{file}"), "/{folder}/{file}");
    assert_eq!(path_of("/engine/.config/webhooks.json"), "/engine/.config/webhooks.json");
}
