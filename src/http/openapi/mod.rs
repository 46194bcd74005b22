//! The API document (OpenAPI 3.1), made from the route table and from the types that handlers read and write.
//!
//! - [`about`]: what is said of each operation, one file per group
//! - [`operation`]: how an operation is put together; answers to those who may not, or ask wrongly, follow from what it takes
//! - [`errors`]: the table of errors as answers
//! - [`parameters`]: what stands in paths and queries
//! - [`schemas`]: the schemas that types have, and those of what is written by hand
//!
//! The file `docs/openapi.json` is the same document; a test holds them together, and the integration tests hold every answer
//! of the server against it.

pub mod about;
pub mod errors;
pub mod events;
mod names;
mod operation;
pub mod parameters;
pub mod schemas;

use std::cell::RefCell;

use actix_web::http::Method;
use serde_json::{Map, Value, json};

pub use operation::{Access, Operation};
use schemas::Schemas;

use super::family::ApiFamily;
use super::table::{Address, Entry, Table};

/// What is said of an operation at an address.
pub type About = fn(&Place<'_>) -> Operation;

/// An address, for whoever describes what is done there.
pub struct Place<'a> {
    /// The path as the document writes it.
    pub path: &'a str,
    pub family: ApiFamily,
    /// Whether its query may hold whatever the client likes.
    pub any_query: bool,
    schemas: &'a RefCell<Schemas>,
}

impl Place<'_> {
    /// The schema of what a handler answers: closed, and with every member that is not marked as optional.
    pub fn answer<T: utoipa::ToSchema>(&self) -> Value {
        self.schemas.borrow_mut().answer::<T>()
    }

    /// The schema of a body that a handler reads.
    pub fn body<T: utoipa::ToSchema>(&self) -> Value {
        self.schemas.borrow_mut().body::<T>()
    }

    /// The same, with second names for members.
    pub fn body_with_aliases<T: utoipa::ToSchema>(&self, aliases: &[(&str, &str)]) -> Value {
        let schema = self.body::<T>();
        for (member, alias) in aliases {
            self.schemas.borrow_mut().alias(&schema, member, alias);
        }
        schema
    }

    /// A schema of what is written by hand, under a name.
    pub fn named(&self, name: &str, schema: impl FnOnce(&Self) -> Value) -> Value {
        if !self.schemas.borrow().knows(name) {
            let schema = schema(self);
            self.schemas.borrow_mut().put(name, schema);
        }
        schemas::reference(name)
    }

    /// An answer that several operations give, under a name.
    pub fn response(&self, name: &str, response: impl FnOnce(&Self) -> Value) -> Value {
        if !self.schemas.borrow().knows_response(name) {
            let response = response(self);
            self.schemas.borrow_mut().put_response(name, response);
        }
        json!({ "$ref": format!("#/components/responses/{name}") })
    }

    /// Whether several channels can be read here in one order.
    pub fn reads_several(&self, method: &str) -> bool {
        match self.path {
            "/events" => method == "get",
            "/events/stream" | "/events/ws" | "/events/stats" | "/events/ticket" => true,
            "/system/events" | "/api/v1/realtime" | "/api/v1/realtime/stream" => true,
            _ => false,
        }
    }

    /// Whether the path says which channel is meant.
    pub fn names_channel(&self) -> bool {
        ["{map}", "{org}", "{source}"].iter().any(|name| self.path.contains(name))
    }
}

/// A pattern of the route table as the document writes it: without the expressions of its parameters.
pub fn path_of(pattern: &str) -> String {
    let mut path = String::with_capacity(pattern.len());
    let mut within = false;
    for character in pattern.chars() {
        match character {
            ':' => within = true,
            '}' => within = false,
            _ => {}
        }
        if !within {
            path.push(character);
        }
    }
    path
}

const INTRODUCTION: &str = "Publish events, and get them by Server-Sent Events, WebSocket and webhooks, each from any point of one \
    durable log. Four families of names stand on the same log: maps, organizations, the feed, and sources.\n\n\
    Ids of events are ULIDs; an id is a cursor, and inputs take it with or without the prefix `evt_`. Times are ISO-8601 in UTC \
    with milliseconds unless said otherwise. Streams are described in `/asyncapi.json`.";

const TAGS: [(&str, &str); 10] = [
    ("Maps", "Channels of the maps family."),
    ("Organizations", "Channels of the organizations family."),
    ("Events", "Publish, read back, count, trace."),
    ("Streams", "Server-Sent Events and WebSocket, and the tickets that open them."),
    ("Webhooks", "Deliveries to receivers."),
    ("Deliveries", "What became of deliveries, and making them again."),
    ("Sources", "Endpoints that take in what others send."),
    ("Tokens", "Credentials of channels."),
    ("Operations", "Health, metrics, documents."),
    ("Pages", "Files for browsers."),
];

/// The document for a route table.
pub fn document(table: &Table) -> Value {
    let schemas = RefCell::new(Schemas::default());
    let mut paths = Map::new();
    for address in &table.addresses {
        let path = path_of(&address.pattern);
        let place =
            Place { path: &path, family: ApiFamily::of_path(&path), any_query: address.any_query, schemas: &schemas };
        let mut item = Map::new();
        for entry in &address.entries {
            let method = entry.method.as_str().to_ascii_lowercase();
            let operation = (entry.about)(&place).document(&place, &method);
            item.insert(method, operation);
        }
        paths.insert(path, item.into());
    }
    let (schemas, responses) = schemas.into_inner().into_maps();
    let tags = TAGS.map(|(name, description)| json!({ "name": name, "description": description }));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Stentor",
            "version": env!("CARGO_PKG_VERSION"),
            "description": INTRODUCTION,
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": servers("/"),
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": responses,
            "securitySchemes": operation::security_schemes(),
        },
    })
}

/// Where the server is reached: an address, or a path at the host from which the document came.
pub fn servers(url: &str) -> Value {
    json!([{ "url": url, "description": "The server that serves this document." }])
}

/// The names that an operation takes in the query, by method.
type NamesByMethod = Vec<(Method, Vec<String>)>;

/// What may stand in the query of each address, as the document says it. Addresses that take any name are left out.
pub fn query_names(table: &Table) -> Vec<(String, NamesByMethod)> {
    let schemas = RefCell::new(Schemas::default());
    let of_address = |address: &Address| {
        let path = path_of(&address.pattern);
        let place = Place { path: &path, family: ApiFamily::of_path(&path), any_query: false, schemas: &schemas };
        let of_entry = |entry: &Entry| {
            let operation = (entry.about)(&place).document(&place, entry.method.as_str());
            let listed = operation["parameters"].as_array().into_iter().flatten();
            let by_name = listed.filter(|one| one["in"] == "query").filter_map(|one| one["name"].as_str());
            let credentials = operation::query_credentials(&operation["security"]);
            let names = by_name.map(str::to_owned).chain(credentials.map(str::to_owned)).collect();
            (entry.method.clone(), names)
        };
        (address.pattern.clone(), address.entries.iter().map(of_entry).collect())
    };
    table.addresses.iter().filter(|address| !address.any_query).map(of_address).collect()
}

#[cfg(test)]
pub mod tests;
