//! The ids of operations, of which generators make the names of functions: `list_map_webhooks`, `publish_map_events`.
//!
//! They are made of method and path by rules, so that a new address has a good name by itself.

/// Addresses whose path does not say what they are.
const SPECIAL: [(&str, &str, &str); 16] = [
    ("get", "/", "get_dashboard"),
    ("get", "/{folder}/{file}", "get_file_of_folder"),
    ("get", "/docs", "get_documentation"),
    ("get", "/docs/search", "search_documentation"),
    ("get", "/docs/{page}", "get_documentation_page"),
    ("get", "/docs/{folder}/{page}", "get_documentation_page_of_folder"),
    ("post", "/webhooks/{source}", "send_to_source"),
    ("post", "/webhook/{source}", "send_to_source_by_alias"),
    ("post", "/api/v1/login", "log_in"),
    ("post", "/webhooks/{source}/{below}", "send_below_source"),
    ("post", "/webhook/{source}/{below}", "send_below_source_by_alias"),
    ("get", "/webhooks/{source}", "ask_source"),
    ("get", "/webhook/{source}", "ask_source_by_alias"),
    ("options", "/webhooks/{source}", "ask_source_to_take_cloudevents"),
    ("options", "/webhook/{source}", "ask_source_to_take_cloudevents_by_alias"),
    ("get", "/system/events", "stream_system_events"),
];

/// Beginnings of paths, and the words that stand for them; the first that fits counts.
const BEGINNINGS: [(&str, &[&str]); 6] = [
    ("/api/v1/webhooks", &["organization_webhooks"]),
    ("/api/webhooks", &["sources"]),
    ("/engine/.config/webhooks.json", &["feed_webhooks"]),
    ("/api/v1", &[]),
    ("/api", &[]),
    ("", &[]),
];

/// What is a list of things that can be made.
const COLLECTIONS: [&str; 13] = [
    "maps",
    "organizations",
    "tokens",
    "webhooks",
    "organization_webhooks",
    "sources",
    "events",
    "deliveries",
    "replays",
    "dead_letters",
    "event_types",
    "source_presets",
    "connections",
];

/// The id of the operation of a method (in lower case) at a path. Unique, which a test looks at.
pub fn operation_id(method: &str, path: &str) -> String {
    if let Some((_, _, id)) = SPECIAL.iter().find(|(of, at, _)| (*of, *at) == (method, path)) {
        return (*id).to_owned();
    }
    let fits = |(beginning, _): &&(&str, &[&str])| {
        path.strip_prefix(beginning).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let (beginning, stands_for) = BEGINNINGS.iter().find(fits).copied().unwrap_or(("", &[]));
    let mut words: Vec<String> = stands_for.iter().map(|word| (*word).to_owned()).collect();
    let mut is_one = false;
    for part in path[beginning.len()..].split('/').filter(|part| !part.is_empty()) {
        is_one = part.starts_with('{');
        match words.last_mut() {
            Some(last) if is_one => *last = singular(last),
            _ => words.push(plain(part)),
        }
    }
    let last = words.last().cloned().unwrap_or_default();
    let is_list = !is_one && COLLECTIONS.contains(&last.as_str());
    let verb = match method {
        "get" if last == "stream" || last == "ws" => {
            words.pop();
            if last == "ws" { "connect" } else { "stream" }
        }
        "get" if is_list => "list",
        "post" if is_list && last == "events" => "publish",
        "post" if is_list => {
            if let Some(last) = words.last_mut() {
                *last = singular(last);
            }
            "create"
        }
        // a thing that is made by asking for it, or something that is done to what stands before it
        "post" if last == "ticket" || last == "backup" => "create",
        "post" | "put" if !is_one && words.len() > 1 => {
            words.pop();
            let (verb, object) = last.split_once('_').unwrap_or((&last, ""));
            words.extend((!object.is_empty()).then(|| object.to_owned()));
            return format!("{verb}_{}", words.join("_"));
        }
        "put" => "replace",
        "patch" => "update",
        other => other,
    };
    format!("{verb}_{}", words.join("_"))
}

fn plain(part: &str) -> String {
    let words = part.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("_")
}

fn singular(word: &str) -> String {
    match word.strip_suffix("ies") {
        Some(stem) => format!("{stem}y"),
        None => word.strip_suffix('s').unwrap_or(word).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_names_that_a_person_would_give() {
        for (method, path, id) in [
            ("get", "/api/maps", "list_maps"),
            ("post", "/api/maps", "create_map"),
            ("get", "/api/maps/{map}", "get_map"),
            ("patch", "/api/maps/{map}", "update_map"),
            ("delete", "/api/maps/{map}", "delete_map"),
            ("post", "/api/maps/{map}/events", "publish_map_events"),
            ("get", "/api/maps/{map}/events", "list_map_events"),
            ("get", "/api/maps/{map}/events/stream", "stream_map_events"),
            ("get", "/api/maps/{map}/events/ws", "connect_map_events"),
            ("post", "/api/maps/{map}/events/ticket", "create_map_events_ticket"),
            ("put", "/api/maps/{map}/webhooks/toggle", "toggle_map_webhooks"),
            ("put", "/api/maps/{map}/webhooks/{webhook}", "replace_map_webhook"),
            ("post", "/api/v1/webhooks/{webhook}/rotate-secret", "rotate_organization_webhook_secret"),
            ("post", "/api/maps/{map}/webhooks/{webhook}/deliveries/{delivery}/retry", "retry_map_webhook_delivery"),
            ("get", "/api/maps/{map}/webhooks/{webhook}/replays/{job}", "get_map_webhook_replay"),
            ("post", "/api/webhooks", "create_source"),
            ("delete", "/api/webhooks/{source}/dead-letters/{letter}", "delete_source_dead_letter"),
            ("put", "/engine/.config/webhooks.json", "replace_feed_webhooks"),
            ("post", "/events", "publish_events"),
            ("get", "/api/v1/tokens/current", "get_tokens_current"),
            ("post", "/api/v1/backup", "create_backup"),
            ("get", "/{folder}/{file}", "get_file_of_folder"),
            ("get", "/docs", "get_documentation"),
            ("get", "/docs/search", "search_documentation"),
            ("get", "/docs/{page}", "get_documentation_page"),
            ("get", "/docs/{folder}/{page}", "get_documentation_page_of_folder"),
            ("post", "/webhooks/{source}", "send_to_source"),
            ("get", "/{folder}/{file}", "get_file_of_folder"),
            ("get", "/docs", "get_documentation"),
            ("get", "/docs/search", "search_documentation"),
            ("get", "/docs/{page}", "get_documentation_page"),
            ("get", "/docs/{folder}/{page}", "get_documentation_page_of_folder"),
        ] {
            assert_eq!(operation_id(method, path), id, "{method} {path}");
        }
    }
}
