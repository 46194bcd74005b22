//! Schemas under their names: derived from the types that handlers read and write.

use serde_json::{Map, Value, json};
use utoipa::openapi::{RefOr, Schema};

/// The schemas and answers that the document refers to.
#[derive(Default)]
pub struct Schemas {
    known: Map<String, Value>,
    responses: Map<String, Value>,
}

pub fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

impl Schemas {
    /// The schema of what a handler answers, see [`closed`].
    pub fn answer<T: utoipa::ToSchema>(&mut self) -> Value {
        self.derived::<T>(closed)
    }

    /// The schema of a body that a handler reads, as it is derived.
    pub fn body<T: utoipa::ToSchema>(&mut self) -> Value {
        self.derived::<T>(|schema| schema)
    }

    fn derived<T: utoipa::ToSchema>(&mut self, finish: fn(Value) -> Value) -> Value {
        let mut all = vec![(T::name().into_owned(), T::schema())];
        T::schemas(&mut all);
        for (name, schema) in all {
            if !self.known.contains_key(&name) {
                self.known.insert(name, finish(value(&schema)));
            }
        }
        reference(&T::name())
    }

    /// Lets a member of an object also be called `alias`, as `#[serde(alias)]` does.
    pub fn alias(&mut self, schema: &Value, member: &str, alias: &str) {
        let name = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()).unwrap_or_default();
        if let Some(properties) = self.known.get_mut(name).and_then(|schema| schema["properties"].as_object_mut())
            && let Some(same) = properties.get(member).cloned()
        {
            properties.insert(alias.into(), same);
        }
    }

    pub fn knows(&self, name: &str) -> bool {
        self.known.contains_key(name)
    }

    pub fn put(&mut self, name: &str, schema: Value) {
        self.known.insert(name.into(), schema);
    }

    pub fn knows_response(&self, name: &str) -> bool {
        self.responses.contains_key(name)
    }

    pub fn put_response(&mut self, name: &str, response: Value) {
        self.responses.insert(name.into(), response);
    }

    /// Schemas and answers by name, so that the document does not depend on the order of the table.
    pub fn into_maps(self) -> (Map<String, Value>, Map<String, Value>) {
        (sorted(self.known), sorted(self.responses))
    }
}

fn sorted(map: Map<String, Value>) -> Map<String, Value> {
    let mut all: Vec<_> = map.into_iter().collect();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    all.into_iter().collect()
}

fn value(schema: &RefOr<Schema>) -> Value {
    // schemas have string keys only
    serde_json::to_value(schema).expect("a schema is JSON")
}

/// What we answer holds no member that is not described, and every member that may be null is there. A member that may be
/// absent is marked by `#[schema(nullable = false)]` beside `skip_serializing_if`.
fn closed(mut schema: Value) -> Value {
    let Some(object) = schema.as_object_mut() else { return schema };
    if let Some(properties) = object.get("properties").and_then(Value::as_object) {
        let mut required: Vec<Value> = object.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
        for (name, property) in properties {
            if is_nullable(property) && !required.iter().any(|known| known == name) {
                required.push(name.as_str().into());
            }
        }
        object.insert("required".into(), required.into());
        object.insert("additionalProperties".into(), false.into());
    }
    schema
}

fn is_nullable(schema: &Value) -> bool {
    let has_null = |list: &Value| list.as_array().is_some_and(|types| types.iter().any(|one| one == "null"));
    let is_null = |one: &Value| one["type"] == "null" || has_null(&one["type"]);
    is_null(schema) || schema["oneOf"].as_array().is_some_and(|kinds| kinds.iter().any(is_null))
}

/// A closed object with these members, all of them required but those whose name ends in `?`.
pub fn object(members: Value) -> Value {
    let Value::Object(members) = members else { return json!({ "type": "object" }) };
    let mut required = Vec::new();
    let mut properties = Map::new();
    for (name, schema) in members {
        match name.strip_suffix('?') {
            Some(optional) => drop(properties.insert(optional.into(), schema)),
            None => {
                required.push(name.clone());
                properties.insert(name, schema);
            }
        }
    }
    let mut object = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        object["required"] = required.into();
    }
    object
}

/// The object that most answers are wrapped in.
pub fn data(schema: Value) -> Value {
    object(json!({ "data": schema }))
}

pub fn list(schema: Value) -> Value {
    json!({ "type": "array", "items": schema })
}

pub fn text(description: &str) -> Value {
    json!({ "type": "string", "description": description })
}

pub fn text_or_null(description: &str) -> Value {
    json!({ "type": ["string", "null"], "description": description })
}

pub fn flag(description: &str) -> Value {
    json!({ "type": "boolean", "description": description })
}

pub fn count(description: &str) -> Value {
    json!({ "type": "integer", "minimum": 0, "description": description })
}

pub fn time(description: &str) -> Value {
    json!({ "type": "string", "format": "date-time", "description": description })
}

pub fn time_or_null(description: &str) -> Value {
    json!({ "type": ["string", "null"], "format": "date-time", "description": description })
}

pub fn one_of(words: &[&str], description: &str) -> Value {
    json!({ "type": "string", "enum": words, "description": description })
}
