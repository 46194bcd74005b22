//! What nodes decide together.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::nats::Nats;
use super::nodes::Nodes;
use crate::support::http::{Answer, Request};
use crate::support::{TestServer, eventually};

/// Sends all of them at once; the answers.
fn raced(requests: Vec<Request>) -> Vec<Answer> {
    thread::scope(|scope| {
        let asked: Vec<_> = requests.into_iter().map(|request| scope.spawn(|| request.send())).collect();
        asked.into_iter().map(|asked| asked.join().expect("an answer")).collect()
    })
}

fn statuses(answers: &[Answer]) -> Vec<u16> {
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    statuses
}

#[test]
fn of_those_who_want_the_same_at_different_nodes_one_gets_it() {
    let nodes = Nodes::start(3, Nats::start(1), &[("webhooks.allow_http", "true")]);
    let nodes = &nodes.nodes;
    let slug = |n: usize| nodes[n % 3].admin("POST", "/api/maps").json(&json!({ "name": "Home", "slug": "home" }));
    let made = raced((0..9).map(slug).collect());
    assert_eq!(statuses(&made), [&[201][..], &[409; 8]].concat());

    let map = nodes[0].new_map("m");
    eventually("all nodes know the map", || {
        nodes.iter().all(|node| map.at(node).request("GET", "").send().status == 200)
    });
    let webhook = |n: usize| {
        let body = json!({ "url": format!("http://hooks.example.com/{n}") });
        map.at(&nodes[n % 3]).request("POST", "/webhooks").json(&body)
    };
    let made = raced((0..9).map(webhook).collect());
    assert_eq!(statuses(&made), [&[201; 5][..], &[409; 4]].concat());

    let acme = nodes[0].new_organization("acme");
    let ticket = acme.ticket(&json!({ "scope": "organization", "events": ["*"] }));
    let target = format!("/api/v1/realtime/stream?ticket={ticket}");
    let opened = thread::scope(|scope| {
        let open = |n: usize| {
            let request = nodes[n % 3].request("GET", &target);
            // the streams stay open until all have an answer
            scope.spawn(|| request.open().expect("an answer"))
        };
        let asked: Vec<_> = (0..12).map(open).collect();
        asked.into_iter().map(|asked| asked.join().expect("an answer")).collect::<Vec<_>>()
    });
    let answers: Vec<Answer> = opened.into_iter().map(|(answer, _)| answer).collect();
    assert_eq!(statuses(&answers), [&[200][..], &[401; 11]].concat());
}

#[test]
fn a_token_that_is_revoked_on_one_node_ends_its_streams_on_the_others() {
    let nodes = Nodes::start(3, Nats::start(1), &[]);
    let [a, b, c] = &nodes.nodes[..] else { panic!("three nodes") };
    let acme = a.new_organization("acme");
    let (id, token) = acme.new_token(json!({ "scopes": ["subscribe"], "name": "reader" }));
    let reader = acme.with_token(&token);
    for node in [b, c] {
        eventually("the node knows the token", || reader.at(node).below("GET", "/events").send().status == 200);
    }
    let mut streams = [reader.at(b).stream(""), reader.at(c).stream("")];
    a.admin("DELETE", &format!("/api/v1/tokens/{id}")).send().expect(204);
    for stream in &mut streams {
        stream.ends_within(Duration::from_secs(3));
    }
    assert_eq!(reader.at(c).below("GET", "/events").send().status, 401);
}

#[test]
fn streams_are_counted_over_all_nodes() {
    let nodes = Nodes::start(2, Nats::start(1), &[("limits.streams_per_token", "2")]);
    let [a, b] = &nodes.nodes[..] else { panic!("two nodes") };
    let acme = a.new_organization("acme");
    eventually("the other node knows the token", || acme.at(b).below("GET", "/events").send().status == 200);
    let (_one, two) = (acme.stream(""), acme.at(b).stream(""));
    eventually("a third one is too many everywhere", || {
        [a, b].iter().all(|node| acme.at(node).below("GET", "/events").send().status == 200 && is_full(&acme.at(node)))
    });
    drop(two);
    eventually("there is room again", || !is_full(&acme));
}

fn is_full(acme: &crate::support::organization::Organization) -> bool {
    let (answer, _) = acme.below("GET", "/events/stream").open().expect("an answer");
    answer.status == 429
}

#[test]
fn every_node_says_who_writes_and_who_delivers() {
    let nodes = Nodes::start(2, Nats::start(1), &[]);
    nodes.nodes[0].new_organization("acme");
    eventually("all slots are owned, and both nodes agree on who writes", || {
        let ready = |n: usize| nodes.nodes[n].request("GET", "/health/ready").send().expect(200)["cluster"].clone();
        let (a, b): (Value, Value) = (ready(0), ready(1));
        let owned = a["slots_owned"].as_u64().zip(b["slots_owned"].as_u64()).map(|(a, b)| (a, a + b));
        owned.is_some_and(|(of_a, all)| all == 64 && of_a > 0 && of_a < 64)
            && a["writer"].is_string()
            && a["writer"] == b["writer"]
            && a["nodes"] == json!(["node-0", "node-1"])
            && a["term"] == b["term"]
    });
}

#[test]
fn dead_letters_are_shown_corrected_and_thrown_away_at_any_node() {
    let mut nodes = Nodes::start(2, Nats::start(1), &[]);
    let map = nodes.nodes[0].new_map("letters");
    let body = json!({ "authentication": "none", "eventType": { "pointer": "/kind" } });
    let made = Request::new(map.addr, "POST", "/api/webhooks").bearer(&map.token).json(&body).send().expect(201);
    let id = made["endpoint"]["id"].as_str().expect("an id").to_owned();
    let owner = |node: &TestServer, method: &str, rest: &str| {
        node.request(method, &format!("/api/webhooks/{id}{rest}")).bearer(&map.token)
    };
    let [a, b] = &nodes.nodes[..] else { panic!("two nodes") };
    eventually("the other node knows the source", || owner(b, "GET", "").send().status == 200);
    let post = |node: &TestServer, n: usize| {
        node.request("POST", &format!("/webhooks/{id}")).json(&json!({ "type": "deploy", "n": n })).send()
    };
    for n in 0..6 {
        post([a, b][n % 2], n).expect(400);
    }

    // all of them, in the order of their time, page by page, wherever one asks
    let page = |node: &TestServer, query: &str| {
        let page = owner(node, "GET", &format!("/dead-letters{query}")).send().expect(200);
        let numbers: Vec<u64> =
            page["data"].as_array().expect("letters").iter().filter_map(|l| l["n"].as_u64()).collect();
        (numbers, page["next"].as_u64())
    };
    let (all, next) = page(a, "");
    assert_eq!((all.len(), next), (6, None));
    assert!(all.is_sorted());
    assert_eq!(page(b, ""), (all.clone(), None));
    assert_eq!(page(b, "?limit=4"), (all[..4].to_vec(), Some(all[3])));
    assert_eq!(page(a, &format!("?limit=4&after={}", all[3])), (all[4..].to_vec(), None));
    let sent =
        |n: usize| owner(a, "GET", &format!("/dead-letters/{}", all[n])).send().expect(200)["data"]["body"].clone();
    assert_eq!([sent(0), sent(1)], [0, 1].map(|n| json!({ "type": "deploy", "n": n }).to_string()).map(Value::String));
    assert_eq!(owner(b, "GET", "/status").send().expect(200)["deadLetters"], 6);

    // one of each node, both asked of the other one
    for (node, n) in [(b, 0), (a, 1)] {
        let retry = owner(node, "POST", &format!("/dead-letters/{}/retry", all[n]));
        let edited = json!({ "body": json!({ "kind": "mended", "n": n }).to_string() });
        assert_eq!(retry.json(&edited).send().expect(200)["accepted"], 1);
    }
    for (node, n) in [(b, 2), (a, 3)] {
        owner(node, "DELETE", &format!("/dead-letters/{}", all[n])).send().expect(204);
    }
    owner(a, "GET", "/dead-letters/7").send().expect_error(404, "NOT_FOUND", "Dead letter not found");
    assert_eq!(page(a, ""), (all[4..].to_vec(), None));
    eventually("the corrected ones are events", || map.at(b).history("events=mended").len() == 2);

    // those of a node that is down come back with it
    nodes.nodes[1].stop();
    eventually("those of the node that runs are left", || page(&nodes.nodes[0], "").0 == all[4..5]);
    nodes.nodes[1].restart();
    let [a, b] = &nodes.nodes[..] else { panic!("two nodes") };
    eventually("all are there again", || page(a, "").0 == all[4..]);
    owner(b, "DELETE", "/dead-letters").send().expect(204);
    assert_eq!(page(a, ""), (Vec::new(), None));
}
