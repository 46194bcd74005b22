//! The same commands on organizations and on the feed, in the envelopes of these families.

use serde_json::{Value, json};

use super::{run, run_with_input, start, with_token};
use crate::support::program::Program;
use crate::support::server::ADMIN;
use crate::support::{Map, TestServer};

/// An organization, in the form in which the helpers of these tests take whom they act for.
fn new_organization(server: &TestServer, id: &str) -> Map {
    let made = server.admin("POST", "/api/v1/organizations").json(&json!({"id": id, "name": id})).send().expect(201);
    let text = |name: &str| made["data"][name].as_str().expect("a text").to_owned();
    Map { addr: server.addr(), id: text("id"), token: text("token") }
}

fn envelopes(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn an_organization_is_published_to_tailed_exported_and_imported_with_its_sessions() {
    let server = TestServer::start(&[]);
    let (from, to) = (new_organization(&server, "org_from"), new_organization(&server, "org_to"));
    let publish =
        ["publish", "organization:org_from", "--type", "poll.vote", "--session", "s1", "--payload", "{\"n\":1}"];
    let id = run(&from, &publish).expect(0).trim_end().to_owned();
    run_with_input(
        &from,
        &["publish", "organization:org_from", "--ndjson"],
        "{\"event\":\"poll.closed\",\"payload\":{}}\n",
    )
    .expect(0);
    let tail = run(&from, &["tail", "organization:org_from", "--since", "1h", "--limit", "1"]);
    assert!(tail.expect(0).ends_with(&format!(" poll.vote {id} s1 {{\"n\":1}}\n")), "{}", tail.out);
    let only =
        run(&from, &["tail", "organization:org_from", "--since", "1h", "--session", "s1", "--json", "--limit", "1"]);
    assert_eq!(envelopes(only.expect(0))[0]["session"], "s1");
    let exported = run(&from, &["export", "organization:org_from"]);
    let imported = run_with_input(&to, &["import", "organization:org_to", "-"], exported.expect(0));
    imported.expect(0);
    let again = run_with_input(&to, &["import", "organization:org_to", "-"], &exported.out);
    assert!(again.err.contains("imported 0 events into organization:org_to, 2 were there already"), "{}", again.err);
    let substance = |event: &Value| ["event", "session", "timestamp", "payload"].map(|name| event[name].clone());
    let arrived = run(&to, &["export", "organization:org_to"]);
    let [sent, arrived] =
        [&exported, &arrived].map(|ended| envelopes(&ended.out).iter().map(substance).collect::<Vec<_>>());
    assert_eq!(sent, arrived);
    assert_eq!(sent.len(), 2);
}

#[test]
fn the_words_of_organizations_are_understood_when_they_refuse() {
    let server = TestServer::start(&[("limits.event_bytes", "1000")]);
    let org = new_organization(&server, "org_words");
    let lost = run(&org, &["tail", "organization:org_wrods"]);
    assert_eq!(lost.code, Some(1));
    assert!(
        lost.err.contains("the server answered 404: ") && lost.err.contains("did you mean org_words?"),
        "{}",
        lost.err
    );
    let large = format!("{{\"event\":\"a\"}}\n{{\"event\":\"a\",\"payload\":{{\"x\":\"{}\"}}}}\n", "x".repeat(1000));
    let refused = run_with_input(&org, &["publish", "organization:org_words", "--ndjson"], &large);
    assert_eq!((refused.code, refused.out.lines().count()), (Some(1), 1), "{refused:?}");
    assert!(refused.err.contains("line 2 is no event: "), "{}", refused.err);
}

#[test]
fn the_feed_has_the_events_of_every_channel_in_one_order_and_takes_events_for_the_tokens_own() {
    let server = TestServer::start(&[]);
    let (map, org) = (server.new_map("one"), new_organization(&server, "org_two"));
    let admin = Map { token: ADMIN.into(), ..map.clone() };
    let tail = start(&admin, &["tail", "feed", "--json", "--events", "a,b"]);
    // its own event shows that it listens
    let first = loop {
        let id = run(&map, &["publish", "feed", "--type", "a"]).expect(0).trim_end().to_owned();
        if !tail.out().is_empty() {
            break id;
        }
    };
    let second = run(&org, &["publish", "organization:org_two", "--type", "b"]).expect(0).trim_end().to_owned();
    crate::support::eventually("both come", || tail.out().iter().any(|line| line.contains(&second)));
    let lines = tail.out();
    let place = |id: &str| lines.iter().position(|line| line.contains(id)).expect("it came");
    assert!(place(&first) < place(&second));
    let last: Value = serde_json::from_str(lines.last().expect("a line")).expect("JSON");
    assert_eq!((&last["event_id"], &last["event_type"]), (&json!(format!("evt_{second}")), &json!("b")));
    tail.interrupt();
    tail.wait().expect(0);
    let all = Program::start(with_token(&map, ADMIN, &["export", "feed", "--events", "a,b"])).wait();
    let all: Vec<_> = all.expect(0).lines().collect();
    assert!(all.ends_with(&lines.iter().map(String::as_str).collect::<Vec<_>>()), "{all:?} {lines:?}");
    let third = run(&map, &["publish", "feed", "--type", "a"]).expect(0).trim_end().to_owned();
    let of_both = start(&admin, &["tail", &format!("map:{}", map.id), "organization:*", "--since", "1h", "--json"]);
    let of_maps = start(&admin, &["tail", "map:*", "--since", "1h", "--json"]);
    let has = |tail: &Program, id: &str| tail.out().iter().any(|line| line.contains(id));
    crate::support::eventually("both have the last one", || has(&of_both, &third) && has(&of_maps, &third));
    assert!(has(&of_both, &first) && has(&of_both, &second) && has(&of_maps, &first) && !has(&of_maps, &second));
    for tail in [of_both, of_maps] {
        tail.interrupt();
        tail.wait().expect(0);
    }
    let mixed = run(&admin, &["tail", "map:home", "feed"]);
    assert!(mixed.code == Some(2) && mixed.err.contains("give it alone"), "{mixed:?}");
}
