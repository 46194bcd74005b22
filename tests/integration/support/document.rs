//! The API document as a judge. Every answer that a test gets must be one that the document promises for the request, and
//! what the server took must be what the document says that it takes.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};

use jsonschema::Validator;
use serde_json::{Value, json};

use super::http::Answer;

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| kept("openapi.json"));

/// A document as the repository keeps it.
pub fn kept(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).expect("the document is JSON")
}

/// A request as far as it is judged.
pub struct Asked<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub content_type: Option<&'a str>,
    pub body: &'a [u8],
}

/// Whether this is where the pages and what they load are, of which only the server knows the names.
pub fn is_of_files(template: &str) -> bool {
    template.contains("{file}") || template.contains("{page}")
}

/// Fails the test when the answer is not what the document promises. `whole`: its body was read.
#[track_caller]
pub fn judge(asked: &Asked<'_>, answer: &Answer, whole: bool) {
    let line = format!("{} {}", asked.method, asked.target);
    let (path, query) = asked.target.split_once('?').unwrap_or((asked.target, ""));
    let judged = ["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&asked.method) && path.starts_with('/');
    // what breaks HTTP itself is answered without a body, before anybody has looked at the address
    let broken = answer.status >= 400 && answer.header("content-type").is_none();
    if !judged || broken {
        return;
    }
    let Some((template, item)) = find(path) else {
        assert_eq!(answer.status, 404, "{line}: the document knows no such path");
        return;
    };
    // a source takes requests of any method, and the document describes the one that senders use
    let of_source = || item.get("post").filter(|_| template.starts_with("/webhook"));
    let Some(operation) = item.get(asked.method.to_ascii_lowercase()).or_else(of_source) else {
        // a name at which there is no file is an unknown path
        let missing = answer.status == 404 && is_of_files(template);
        assert!(missing || answer.status == 405, "{line}: the document knows no such method of {template}");
        return;
    };
    let response = resolved(&operation["responses"][answer.status.to_string()]);
    assert!(
        response.is_object(),
        "{line}: {} is not documented: {}",
        answer.status,
        String::from_utf8_lossy(&answer.body)
    );
    judge_body(&line, response, answer, whole);
    if (200..300).contains(&answer.status) {
        // elsewhere the query may hold anything
        if ["/api/", "/events", "/system/", "/engine/"].iter().any(|api| path.starts_with(api)) {
            judge_query(&line, operation, query);
        }
        judge_request(&line, operation, asked);
    }
}

/// What a reference leads to.
fn resolved(value: &'static Value) -> &'static Value {
    let reference = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    reference.map_or(value, |pointer| DOCUMENT.pointer(pointer).expect("the reference leads somewhere"))
}

/// The path of the document that is meant: of those that match the one with the fewest parameters.
fn find(path: &str) -> Option<(&'static str, &'static Value)> {
    let parts: Vec<&str> = path.split('/').collect();
    let matching = |template: &str, item: &Value| {
        let wanted: Vec<&str> = template.split('/').collect();
        let fits = |(want, part): (&&str, &&str)| match want.strip_prefix('{') {
            Some(name) => !part.is_empty() && allowed(item, name.trim_end_matches('}'), part),
            None => want == part,
        };
        wanted.len() == parts.len() && wanted.iter().zip(&parts).all(fits)
    };
    let paths = DOCUMENT["paths"].as_object().expect("paths");
    let all = paths.iter().filter(|(template, item)| matching(template, item));
    all.min_by_key(|(template, _)| template.matches('{').count()).map(|(template, item)| (template.as_str(), item))
}

/// Whether a parameter of a path may have this value, as far as the document lists its values.
fn allowed(item: &Value, name: &str, value: &str) -> bool {
    let parameters =
        item.as_object().into_iter().flat_map(|item| item.values()).filter_map(|one| one["parameters"].as_array());
    let listed = parameters.flatten().find(|one| one["in"] == "path" && one["name"] == name);
    let words = listed.and_then(|one| one["schema"]["enum"].as_array());
    words.is_none_or(|words| words.iter().any(|word| word == value))
}

fn judge_body(line: &str, response: &Value, answer: &Answer, whole: bool) {
    let Some(content) = response["content"].as_object() else {
        assert!(answer.body.is_empty(), "{line}: {} has no body in the document", answer.status);
        return;
    };
    let content_type = answer.header("content-type").unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let documented = content.get(media_type);
    let documented =
        documented.unwrap_or_else(|| panic!("{line}: {media_type} is not documented for {}", answer.status));
    if whole && media_type == "application/json" {
        let key = format!("{line} {} answer", answer.status);
        hold(&key, &documented["schema"], &answer.json());
    }
}

fn judge_query(line: &str, operation: &Value, query: &str) {
    let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    // credentials, and what means nothing
    let by_key = ["ticket", "token", "t", "r", "v", "ts", "cb", "padding", "format"];
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let name = pair.split('=').next().unwrap_or_default().replace("%5B", "[").replace("%5D", "]");
        let known = parameters.iter().any(|one| one["in"] == "query" && one["name"] == name);
        assert!(known || by_key.contains(&&*name) || name.starts_with('_'), "{line}: {name} is not documented");
    }
}

fn judge_request(line: &str, operation: &Value, asked: &Asked<'_>) {
    let Ok(body) = serde_json::from_slice::<Value>(asked.body) else { return };
    let media_type = asked.content_type.unwrap_or("application/json").split(';').next().unwrap_or_default().trim();
    let documented = &operation["requestBody"]["content"][media_type]["schema"];
    if documented.is_object() {
        hold(&format!("{line} request"), documented, &body);
    }
}

/// The schemas that were compiled, by their text.
static KNOWN: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

fn hold(what: &str, schema: &Value, value: &Value) {
    let text = schema.to_string();
    let known = KNOWN.lock().expect("the schemas").get(&text).cloned();
    let judge = known.unwrap_or_else(|| {
        let root = json!({ "allOf": [schema], "components": DOCUMENT["components"] });
        let options = jsonschema::options().with_draft(jsonschema::Draft::Draft202012).should_validate_formats(true);
        let made = Arc::new(options.build(&root).unwrap_or_else(|e| panic!("{what}: {e}")));
        KNOWN.lock().expect("the schemas").insert(text, made.clone());
        made
    });
    let wrong: Vec<_> = judge.iter_errors(value).map(|e| format!("{e} at {}", e.instance_path())).collect();
    assert!(wrong.is_empty(), "{what} is not what the document says: {wrong:?} in {value}");
}

/// Every operation of the document: method and path.
pub fn operations() -> Vec<(String, String)> {
    let paths = DOCUMENT["paths"].as_object().expect("paths");
    let of_path = |(path, item): (&String, &Value)| {
        let methods = item.as_object().expect("an item").keys();
        methods.map(|method| (method.to_ascii_uppercase(), path.clone())).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of_path).collect()
}
