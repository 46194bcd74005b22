//! kill -9 right after an answer. What was answered with 200 is in the log.

use serde_json::json;

use super::{Source, ids, now_ms};
use crate::support::TestServer;

const KILLS: usize = 100;

#[test]
fn what_was_answered_is_there_after_a_kill_a_hundred_times() {
    let mut server = TestServer::start(&[("log.level", "warn"), ("retention.max_events", "0")]);
    let map = server.new_map("kills");
    let source = Source::hmac(&map);
    let mut answered = Vec::new();
    for n in 0..KILLS {
        let source = source.at(&server);
        let body = match n % 3 {
            0 => json!({"event_type": "a", "properties": {"n": n}}),
            _ => {
                json!({"events": [{"event_type": "a", "properties": {"n": n}}, {"event_type": "b", "properties": {"n": n}}]})
            }
        };
        answered.extend(ids(&source.signed(&body.to_string(), now_ms()).send().expect(200)));
        server.kill();
        server.restart();
    }
    let events = map.at(&server).export();
    let stored: Vec<String> = events
        .iter()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .map(|event| format!("evt_{}", event["id"].as_str().expect("an id")))
        .collect();
    assert_eq!(stored, answered, "all of it, once, in order");
    server.stop();
}
