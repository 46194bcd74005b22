use serde_json::{Value, json};

use super::*;
use crate::http::openapi::tests::golden;

#[test]
fn the_golden_file_of_the_streams_is_what_the_code_says() {
    golden("asyncapi.json", &document());
}

#[test]
fn every_example_of_a_message_is_what_its_schema_says() {
    let document = document();
    let messages = document["components"]["messages"].as_object().expect("messages");
    for (name, message) in messages {
        for part in ["payload", "headers"] {
            let Some(schema) = message.get(part) else { continue };
            let root = json!({
                "$schema": "https://json-schema.org/draft/2020-12/schema", "components": document["components"], "allOf": [schema],
            });
            let judge = jsonschema::options().build(&root).unwrap_or_else(|e| panic!("{name}: {e}"));
            let example = &message["examples"][0][part];
            let wrong: Vec<_> = judge.iter_errors(example).map(|e| format!("{e} at {}", e.instance_path())).collect();
            assert!(wrong.is_empty(), "{name} {part}: {wrong:?} in {example}");
        }
    }
}

#[test]
fn every_type_of_the_catalogue_and_every_format_is_a_message() {
    let document = document();
    let messages = document["components"]["messages"].as_object().expect("messages");
    for info in catalogue::types() {
        assert!(messages.values().any(|message| message["name"] == info.name), "{}", info.name);
    }
    for format in actors::model::format::Format::ALL {
        assert!(messages.contains_key(&format!("delivery.{}", format.as_str())), "{}", format.as_str());
    }
}

#[test]
fn every_stream_of_the_route_table_is_a_channel() {
    let document = document();
    let addresses: Vec<&str> = document["channels"]
        .as_object()
        .expect("channels")
        .values()
        .filter_map(|channel| channel["address"].as_str())
        .collect();
    let openapi = crate::http::openapi::document(&crate::http::table());
    for (path, item) in openapi["paths"].as_object().expect("paths") {
        let is_stream = item["get"]["responses"]["200"]["content"].get("text/event-stream").is_some();
        let is_socket = item["get"]["responses"].get("101").is_some();
        // other addresses of the same streams
        let alias = ["/system/events", "/api/webhooks/{source}/events"].contains(&path.as_str());
        if (is_stream || is_socket) && !alias {
            assert!(addresses.contains(&path.as_str()), "{path}");
        }
    }
    assert_eq!(Value::from(addresses.len()), Value::from(10));
}
