//! Publishing: the forms of a body, the canonical bytes, keys that make a repetition harmless.

use serde_json::json;

use crate::support::TestServer;

#[test]
fn one_event_a_list_an_array_and_ndjson_are_all_understood() {
    let server = TestServer::start(&[]);
    let map = server.new_map("forms");
    let event = |n: u32| json!({"type": "add_system", "payload": {"n": n}});
    let mut ids = map.publish(&event(0));
    ids.extend(map.publish(&json!({"events": [event(1), event(2)]})));
    ids.extend(map.publish(&json!([event(3), event(4)])));
    let lines = format!("{}\n\n{}\r\n", event(5), event(6));
    let answer = map.request("POST", "/events").header("Content-Type", "application/x-ndjson").body(lines).send();
    ids.extend(crate::support::map::ids(&answer.expect(201)));
    assert!(ids.is_sorted() && ids.iter().all(|id| id.len() == 26), "{ids:?}");
    let history = map.history("");
    let shown: Vec<_> = history.iter().map(|e| (e["id"].as_str(), e["payload"]["n"].as_u64())).collect();
    let expected: Vec<_> = ids.iter().map(|id| Some(id.as_str())).zip((0..7).map(Some)).collect();
    assert_eq!(shown, expected);
}

#[test]
fn field_names_of_every_family_are_understood() {
    let server = TestServer::start(&[]);
    let map = server.new_map("names");
    for body in [
        json!({"type": "map_kill", "ts": "2025-06-21T14:34:56.789+02:00", "payload": {"a": 1}}),
        json!({"event": "map_kill", "timestamp": "2025-06-21T12:34:56.789Z", "payload": {"a": 1}}),
        json!({"event_type": "map_kill", "timestamp": "2025-06-21T12:34:56.789Z", "properties": {"a": 1}}),
    ] {
        map.publish(&body);
    }
    for event in map.history("") {
        assert_eq!((&event["type"], &event["payload"]), (&"map_kill".into(), &json!({"a": 1})));
        assert_eq!((&event["ts"], &event["timestamp"]), (&"2025-06-21T12:34:56.789Z".into(), &event["ts"]));
    }
}

#[test]
fn bodies_are_what_javascript_would_make_of_them() {
    let server = TestServer::start(&[]);
    let map = server.new_map("bytes");
    let body =
        r#"{"type":"add_system","payload":{"b":1.0,"10":2.5e8,"2":"\u00e9\/","x":-0.0,"big":1e21,"small":1e-7}}"#;
    let answer = map.request("POST", "/events").header("Content-Type", "application/json").body(body).send();
    assert_eq!(answer.status, 201);
    let line = map.export().remove(0);
    let payload = line.split_once("\"payload\":").expect("a payload").1;
    assert_eq!(payload, "{\"2\":\"é/\",\"10\":250000000,\"b\":1,\"x\":0,\"big\":1e+21,\"small\":1e-7}}");
}

#[test]
fn a_batch_with_one_bad_event_stores_nothing() {
    let server = TestServer::start(&[]);
    let map = server.new_map("atomic");
    let good = json!({"type": "add_system", "payload": {}});
    let refused = map.post(&json!({"events": [good, {"type": "no spaces here"}, good]})).expect(400);
    assert_eq!((&refused["error"], &refused["code"]), (&"Validation failed".into(), &"VALIDATION_FAILED".into()));
    assert_eq!((&refused["details"][0]["index"], &refused["details"][0]["field"]), (&1.into(), &"type".into()));
    assert_eq!(map.history(""), Vec::<serde_json::Value>::new());
}

#[test]
fn a_repeated_idempotency_key_gets_the_first_answer_also_after_a_kill() {
    let mut server = TestServer::start(&[]);
    let map = server.new_map("idempotent");
    let other = server.new_map("other");
    let body = json!({"events": [{"type": "add_system"}, {"type": "add_system"}]});
    let send =
        |map: &crate::support::Map| map.request("POST", "/events").header("Idempotency-Key", "k-1").json(&body).send();
    let first = send(&map);
    assert_eq!((first.status, first.header("idempotency-replayed")), (201, None));
    let second = send(&map);
    assert_eq!((second.status, second.header("idempotency-replayed")), (201, Some("true")));
    assert_eq!(first.body, second.body);
    assert_ne!(send(&other).body, first.body, "a key belongs to one channel");
    server.restart();
    let map = map.at(&server);
    assert_eq!(send(&map).body, first.body);
    assert_eq!(map.history("").len(), 2);
}

#[test]
fn a_repeated_dedupe_id_gets_the_first_id_also_after_a_kill() {
    let mut server = TestServer::start(&[]);
    let map = server.new_map("dedupe");
    let known = json!({"type": "add_system", "dedupe_id": "d-1"});
    let first = map.publish(&known);
    let mixed = map.publish(&json!({"events": [known, {"type": "add_system", "dedupe_id": "d-2"}]}));
    assert_eq!((&mixed[0], mixed.len()), (&first[0], 2));
    server.restart();
    let map = map.at(&server);
    assert_eq!(map.publish(&known), first);
    assert_eq!(map.history("").len(), 2);
}

#[test]
fn racing_repetitions_of_one_key_store_one_event() {
    let server = TestServer::start(&[]);
    let map = server.new_map("race");
    let answers: Vec<_> = std::thread::scope(|scope| {
        let send = || {
            let event = json!({"type": "add_system"});
            map.request("POST", "/events").header("Idempotency-Key", "race").json(&event).send().expect(201)
        };
        let threads: Vec<_> = (0..20).map(|_| scope.spawn(send)).collect();
        threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    });
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    assert_eq!(map.history("").len(), 1);
}

#[test]
fn a_full_journal_refuses_with_503_and_stores_all_of_a_batch_or_none() {
    let server = TestServer::start(&[("journal.queue_events", "100"), ("limits.batch_events", "100")]);
    let map = server.new_map("full");
    let batch: Vec<_> = (0..90).map(|n| json!({"type": "add_system", "payload": {"n": n}})).collect();
    let statuses: Vec<_> = std::thread::scope(|scope| {
        let send = || (0..10).map(|_| map.post(&json!(batch))).collect::<Vec<_>>();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(send)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("answers")).collect()
    });
    let mut taken = 0;
    for answer in &statuses {
        match answer.status {
            201 => taken += 1,
            503 => {
                assert!(answer.header("retry-after").is_some());
                assert_eq!(answer.json()["code"], "JOURNAL_FULL");
            }
            status => panic!("{status}"),
        }
    }
    assert_eq!(map.export().len(), taken * 90);
}
