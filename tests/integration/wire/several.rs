//! Several channels by one token and by one stream.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::map::ids;
use crate::support::organization::Organization;
use crate::support::server::ADMIN;
use crate::support::{Answer, Map, Request, Sse, TestServer, Ws, eventually};

const BEGINNING: &str = "evt_00000000000000000000000000";
/// A revoked or expired token ends its streams within a second; the rest is for a busy machine.
const ABOUT_A_SECOND: Duration = Duration::from_millis(2500);

/// Asks for a token of several channels.
fn ask(server: &TestServer, token: &str, body: &Value) -> Answer {
    server.request("POST", "/api/v1/tokens").bearer(token).json(body).send()
}

/// A token of these channels: id and text.
#[track_caller]
fn new_token(server: &TestServer, channels: &Value, scopes: &Value) -> (String, String) {
    let made = ask(server, ADMIN, &json!({"channels": channels, "scopes": scopes})).expect(201);
    let text = |field: &str| made["data"][field].as_str().expect("a text").to_string();
    (text("id"), text("token"))
}

fn of_map(map: &Map) -> String {
    format!("map:{}", map.id)
}

fn of_organization(organization: &Organization) -> String {
    format!("organization:{}", organization.id)
}

fn as_feed(ids: Vec<String>) -> Vec<String> {
    ids.into_iter().map(|id| format!("evt_{}", id.trim_start_matches("evt_"))).collect()
}

/// Publishes one event into a map, and returns its id as the feed shows it.
fn one(map: &Map) -> String {
    as_feed(map.publish_many(1)).remove(0)
}

fn request(server: &TestServer, token: &str, method: &str, target: &str) -> Request {
    server.request(method, target).bearer(token)
}

/// Follows what the query says from the beginning.
#[track_caller]
fn follow(server: &TestServer, token: &str, query: &str) -> Sse {
    Sse::open(request(server, token, "GET", &format!("/events/stream?since={BEGINNING}&{query}")))
}

fn ids_of(stream: &mut Sse, count: usize) -> Vec<String> {
    stream.take(count).into_iter().map(|frame| frame.id.expect("an id")).collect()
}

#[test]
fn a_token_of_several_channels_is_shown_with_them_and_made_by_the_admin_only() {
    let server = TestServer::start(&[]);
    let (map, acme) = (server.new_map("home"), server.new_organization("Acme"));
    let channels = json!(["map:home", of_organization(&acme), "organization:*", of_map(&map)]);
    let made = ask(&server, ADMIN, &json!({"channels": channels, "scopes": ["subscribe"], "name": "wall"})).expect(201);
    let shown = json!([of_map(&map), of_organization(&acme), "organization:*"]);
    assert_eq!((&made["data"]["channel"], &made["data"]["channels"]), (&Value::Null, &shown));
    let (id, token) = (made["data"]["id"].as_str().expect("an id"), made["data"]["token"].as_str().expect("a token"));
    let current = request(&server, token, "GET", "/api/v1/tokens/current").send().expect(200);
    assert_eq!((&current["data"]["channel"], &current["data"]["channels"]), (&Value::Null, &shown));
    let listed = |token: &str, query: &str| {
        let list = request(&server, token, "GET", &format!("/api/v1/tokens{query}")).send().expect(200);
        list["data"].as_array().expect("a list").iter().filter(|one| one["id"] == id).cloned().collect::<Vec<_>>()
    };
    assert_eq!(listed(ADMIN, "")[0]["channels"], shown);
    assert_eq!((listed(&map.token, "").len(), listed(ADMIN, "?channel=map:home").len()), (0, 0));
    let refused = |body: Value, status: u16| ask(&server, ADMIN, &body).expect(status)["error"].clone();
    for scopes in [json!(["manage"]), json!(["subscribe", "manage"])] {
        let error = refused(json!({"channels": ["map:home"], "scopes": scopes}), 400);
        assert_eq!(error["details"]["errors"][0]["field"], "scopes", "{error}");
    }
    let hundred: Vec<_> = (0..100).map(|_| "map:home").collect();
    ask(&server, ADMIN, &json!({"channels": hundred, "scopes": ["publish"]})).expect(201);
    for channels in [json!([]), json!(vec!["map:home"; 101])] {
        let error = refused(json!({"channels": channels, "scopes": ["subscribe"]}), 400);
        assert_eq!(error["details"]["errors"][0]["field"], "channels", "{error}");
    }
    let both = refused(json!({"channel": "map:home", "channels": ["map:home"], "scopes": ["subscribe"]}), 400);
    assert_eq!(both["details"]["errors"][0]["field"], "channels");
    for absent in ["map:nowhere", "organization:nobody", "sphere:*", "home", "*", ""] {
        refused(json!({"channels": ["map:home", absent], "scopes": ["subscribe"]}), 404);
    }
    let own = json!({"channels": [of_map(&map)], "scopes": ["subscribe"]});
    assert_eq!(ask(&server, &map.token, &own).expect(403)["error"]["code"], "forbidden");
    assert_eq!(ask(&server, token, &own).expect(403)["error"]["code"], "forbidden");
    // nobody but the admin has to do with it
    for other in [&map.token, token] {
        request(&server, other, "DELETE", &format!("/api/v1/tokens/{id}")).send().expect(404);
    }
    server.admin("DELETE", &format!("/api/v1/tokens/{id}")).send().expect(204);
    request(&server, token, "GET", "/api/v1/tokens/current").send().expect(401);
}

#[test]
fn a_token_reaches_its_channels_within_its_scopes_and_nothing_else() {
    let mut server = TestServer::start(&[]);
    let (map, other, acme) = (server.new_map("home"), server.new_map("other"), server.new_organization("Acme"));
    let (_, token) =
        new_token(&server, &json!([of_map(&map), of_organization(&acme)]), &json!(["subscribe", "publish"]));
    let (_, reader) = new_token(&server, &json!(["map:*"]), &json!(["subscribe"]));
    server.restart();
    let post =
        |token: &str, target: &str| request(&server, token, "POST", target).json(&json!({"type": "map_kill"})).send();
    assert_eq!(ids(&post(&token, "/events?channel=map:home").expect(201)).len(), 1);
    post(&token, &format!("/api/v1/organizations/{}/events", acme.id)).expect(201);
    post(&token, "/api/maps/home/events").expect(201);
    let unnamed = post(&token, "/events").expect(400);
    assert!(unnamed["error"].as_str().is_some_and(|text| text.contains("'channel'")), "{unnamed}");
    post(&token, "/events?channel=map:home,map:other").expect(404);
    post(&token, "/events?channel=map:other").expect(404);
    post(&token, "/events?channel=map:*").expect(404);
    post(&token, "/api/maps/other/events").expect(404);
    for target in ["/events", "/events?channel=map:home", "/api/maps/home/events"] {
        assert_eq!(post(&reader, target).expect(403)["code"], "FORBIDDEN", "{target}");
    }
    let get = |token: &str, target: &str| request(&server, token, "GET", target).send();
    let maps = |token: &str| get(token, "/api/maps").expect(200)["data"].as_array().expect("a list").len();
    assert_eq!((maps(&token), maps(&reader)), (1, 2));
    get(&reader, &format!("/api/maps/{}/events", other.id)).expect(200);
    get(&reader, &format!("/api/v1/organizations/{}/events", acme.id)).expect(404);
    get(&reader, "/api/maps/home/webhooks").expect(403);
    get(&reader, "/api/v1/webhooks").expect(403);
    get(&token, "/api/maps/other/webhooks").expect(404);
}

#[test]
fn a_stream_follows_exactly_the_named_channels_in_one_order_by_every_way_in() {
    let server = TestServer::start(&[("streams.ring_events", "64")]);
    let maps: Vec<_> = (0..4).map(|n| server.new_map(&format!("m{n}"))).collect();
    let acme = server.new_organization("Acme");
    let mut wanted = Vec::new();
    for n in 0..120_usize {
        match n % 5 {
            4 => wanted.extend(acme.publish_many(1, "s")),
            no => {
                let ids = as_feed(maps[no].publish_many(1));
                wanted.extend(if no < 2 { ids } else { Vec::new() });
            }
        }
    }
    let (first, second, third) = (of_map(&maps[0]), "map:m1", of_organization(&acme));
    for query in [
        format!("channel={first},{second},{third}"),
        format!("channel={first}&channel={second}&channel={third}"),
        format!("channel={third},{second}&channel={first},map:m0"),
    ] {
        assert_eq!(ids_of(&mut follow(&server, ADMIN, &query), wanted.len()), wanted, "{query}");
        let mut socket = Ws::at(server.addr(), &format!("/events/ws?since={BEGINNING}&{query}"), Some(ADMIN));
        let seen: Vec<_> = (0..wanted.len()).map(|_| socket.json()["event_id"].clone()).collect();
        assert_eq!(json!(seen), json!(wanted));
        for order in ["asc", "desc"] {
            let (mut seen, mut after) = (Vec::new(), String::new());
            loop {
                let page = server.admin("GET", &format!("/events?order={order}&limit=7&after={after}&{query}"));
                let page = page.send().expect(200);
                seen.extend(page["data"].as_array().expect("a list").iter().map(|event| event["event_id"].clone()));
                match page["next"].as_str() {
                    Some(next) => after = next.into(),
                    None => break,
                }
            }
            if order == "desc" {
                seen.reverse();
            }
            assert_eq!(json!(seen), json!(wanted), "{order} {query}");
        }
        let lines = server.admin("GET", &format!("/events?{query}")).header("Accept", "application/x-ndjson").send();
        assert_eq!(lines.text().lines().count(), wanted.len());
        let stats = server.admin("GET", &format!("/events/stats?{query}")).send().expect(200);
        assert_eq!(stats["data"]["total"], wanted.len());
    }
    // live, resumed, filtered
    let query = format!("channel={first},{second},{third}");
    let mut live = Sse::open(server.admin("GET", &format!("/events/stream?{query}")));
    let mut resumed =
        Sse::open(server.admin("GET", &format!("/events/stream?{query}")).header("Last-Event-ID", &wanted[50]));
    assert_eq!(ids_of(&mut resumed, wanted.len() - 51), wanted[51..]);
    let mut kills = Sse::open(server.admin("GET", &format!("/events/stream?{query}&events=map_kill")));
    maps[2].publish_many(3);
    let now = one(&maps[1]);
    let kill = as_feed(maps[0].publish(&json!({"type": "map_kill"}))).remove(0);
    assert_eq!(ids_of(&mut live, 2), [now.clone(), kill.clone()]);
    assert_eq!(ids_of(&mut resumed, 2), [now, kill.clone()]);
    assert_eq!(ids_of(&mut kills, 1), [kill]);
}

#[test]
fn one_channel_that_may_not_be_read_makes_it_a_404_for_all() {
    let server = TestServer::start(&[]);
    let (home, foreign) = (server.new_map("home"), server.new_map("foreign"));
    let (_, token) = new_token(&server, &json!([of_map(&home)]), &json!(["subscribe"]));
    let (_, maps) = new_token(&server, &json!(["map:*"]), &json!(["subscribe"]));
    let status = |token: &str, method: &str, target: &str| request(&server, token, method, target).send().status;
    for (token, names) in [
        (ADMIN, "map:home,map:nowhere"),
        (&home.token, "map:home,map:foreign"),
        (&token, "map:home,map:foreign"),
        (&token, "map:*"),
        (&home.token, "map:*"),
        (&maps, "map:home,organization:default"),
        (&maps, "organization:*"),
        (ADMIN, "map:home,sphere:1"),
    ] {
        for (method, path) in
            [("GET", "/events"), ("GET", "/events/stats"), ("POST", "/events/ticket"), ("GET", "/events/stream")]
        {
            assert_eq!(status(token, method, &format!("{path}?channel={names}")), 404, "{method} {path} {names}");
        }
        let body = json!({"channels": names.split(',').collect::<Vec<_>>()});
        let ticket = request(&server, token, "POST", "/events/ticket").json(&body).send();
        assert_eq!(ticket.status, 404, "{names}");
        let (socket, _) =
            request(&server, token, "GET", &format!("/events/ws?channel={names}")).upgrade().expect("an answer");
        assert_eq!(socket.status, 404, "{names}");
    }
    let names: Vec<_> = (0..101).map(|n| format!("map:{n}")).collect();
    assert_eq!(status(ADMIN, "GET", &format!("/events?channel={}", names.join(","))), 400);
    assert_eq!(status(ADMIN, "GET", "/api/v1/webhooks?channel=map:home&channel=map:foreign"), 400);
    drop(foreign);
}

#[test]
fn without_a_name_a_token_of_several_follows_all_that_it_may_read_also_what_is_made_later() {
    let server = TestServer::start(&[]);
    let (home, other, acme) = (server.new_map("home"), server.new_map("other"), server.new_organization("Acme"));
    let (_, token) = new_token(&server, &json!([of_map(&home), "organization:*"]), &json!(["subscribe"]));
    let mut live = Sse::open(request(&server, &token, "GET", "/events/stream"));
    let mut named = Sse::open(server.admin("GET", "/events/stream?channel=organization:*,map:home"));
    let mut socket = Ws::at(server.addr(), "/events/ws", Some(&token));
    let mut expected = vec![one(&home)];
    other.publish_many(2);
    expected.extend(acme.publish_many(2, "s"));
    let late = server.new_organization("Late");
    expected.extend(late.publish_many(2, "s"));
    // the server's own organization is named by its name only
    let system = json!({"url": "https://nowhere.invalid/", "events": ["x"]});
    server.admin("POST", "/api/maps/home/webhooks").json(&system).send();
    let later = server.new_map("later");
    later.publish_many(1);
    expected.push(one(&home));
    assert_eq!(ids_of(&mut live, expected.len()), expected);
    assert_eq!(ids_of(&mut named, expected.len()), expected);
    let seen: Vec<_> = (0..expected.len()).map(|_| socket.json()["event_id"].clone()).collect();
    assert_eq!(json!(seen), json!(expected));
    assert_eq!(ids_of(&mut follow(&server, &token, ""), expected.len()), expected);
    let (_, every) = new_token(&server, &json!(["organization:*"]), &json!(["subscribe"]));
    request(&server, &every, "GET", "/api/v1/organizations/system/events").send().expect(404);
    request(&server, &every, "GET", "/events?channel=organization:system").send().expect(404);
    let (_, own) = new_token(&server, &json!(["organization:system", "organization:*"]), &json!(["subscribe"]));
    request(&server, &own, "GET", "/events?channel=organization:system").send().expect(200);
}

#[test]
fn a_ticket_is_for_the_channels_that_were_named_when_it_was_made() {
    let server = TestServer::start(&[]);
    let maps: Vec<_> = (0..3).map(|n| server.new_map(&format!("m{n}"))).collect();
    let published: Vec<_> = maps.iter().map(one).collect();
    let (_, token) = new_token(&server, &json!(["map:*"]), &json!(["subscribe"]));
    let mint = |query: &str, body: Value| {
        let made = request(&server, &token, "POST", &format!("/events/ticket{query}")).json(&body).send().expect(201);
        made["data"]["ticket"].as_str().expect("a ticket").to_string()
    };
    let opened = |ticket: &str, rest: &str| {
        server.request("GET", &format!("/events/stream?ticket={ticket}&since={BEGINNING}{rest}"))
    };
    let two = vec![published[0].clone(), published[2].clone()];
    let by_body = mint("", json!({"channels": ["map:m2", "map:m0"]}));
    let by_query = mint("?channel=map:m2,map:m0", json!({}));
    for ticket in [&by_body, &by_query] {
        // a request that asks for more does not spend it
        assert_eq!(opened(ticket, "&channel=map:m1").send().status, 401);
        assert_eq!(opened(ticket, "&channel=map:*").send().status, 401);
        assert_eq!(opened(ticket, "&channel=map:nowhere").send().status, 404);
    }
    assert_eq!(ids_of(&mut Sse::open(opened(&by_body, "")), 2), two);
    assert_eq!(ids_of(&mut Sse::open(opened(&by_query, "&channel=map:m2")), 1), published[2..]);
    assert_eq!(ids_of(&mut Sse::open(opened(&mint("", json!({})), "")), 3), published);
    assert_eq!(ids_of(&mut Sse::open(opened(&mint("", json!({})), "&channel=map:m0,map:m2")), 2), two);
    let refused = |path: &str, body: Value| {
        let answer = server.admin("POST", path).json(&body).send().expect(400);
        assert_eq!(answer["details"][0]["field"], "channels", "{path} {body}: {answer}");
    };
    refused("/events/ticket", json!({"channels": []}));
    refused("/events/ticket", json!({"channels": vec!["map:m0"; 101]}));
    refused("/events/ticket?channel=map:m0", json!({"channels": ["map:m0"]}));
    refused("/api/maps/m0/events/ticket", json!({"channels": ["map:m0"]}));
}

#[test]
fn a_channel_without_a_name_is_none() {
    let server = TestServer::start(&[]);
    let map = server.new_map("m0");
    for token in [ADMIN, &map.token] {
        for (method, target) in [
            ("POST", "/events?channel="),
            ("POST", "/api/v1/tokens?channel="),
            ("POST", "/api/v1/realtime/ticket?channel="),
            ("GET", "/api/v1/webhooks?channel="),
            ("GET", "/api/v1/connections?channel="),
        ] {
            let body = json!({"type": "a", "scopes": ["subscribe"]});
            let asked = request(&server, token, method, target);
            let asked = if method == "POST" && !target.contains("realtime") { asked.json(&body) } else { asked };
            let answer = asked.send();
            assert!(matches!(answer.status, 400 | 404), "{target}: {}", answer.text());
            assert!(!answer.text().contains("does not exist any more"), "{target}: {}", answer.text());
        }
    }
}

#[test]
fn a_stream_over_several_channels_counts_once_for_its_token_and_in_no_channel() {
    let server = TestServer::start(&[("limits.streams_per_channel", "1"), ("limits.streams_per_token", "2")]);
    let (a, b) = (server.new_map("a"), server.new_map("b"));
    let (_, token) = new_token(&server, &json!([of_map(&a), of_map(&b)]), &json!(["subscribe"]));
    let own = [a.stream(""), b.stream("")];
    let open = || request(&server, &token, "GET", "/events/stream");
    let first = Sse::open(open());
    let _second = Sse::open(request(&server, &token, "GET", "/events/stream?channel=map:a,map:b"));
    assert_eq!(server.metric("stentor_streams"), 4);
    assert_eq!(open().send().expect(429)["code"], "API_KEY_CONNECTION_LIMIT");
    let full = request(&server, &token, "GET", "/events/stream?channel=map:a").send().expect(429);
    assert_eq!(full["code"], "CHANNEL_CONNECTION_LIMIT", "a stream of one channel counts in it");
    drop(first);
    eventually("the slot is free", || Sse::try_open(open()).is_ok());
    drop(own);
}

#[test]
fn revoking_one_token_closes_only_its_own_streams() {
    let server = TestServer::start(&[]);
    let (a, b) = (server.new_map("a"), server.new_map("b"));
    let channels = json!([of_map(&a), of_map(&b)]);
    let (id, revoked) = new_token(&server, &channels, &json!(["subscribe"]));
    let (_, kept) = new_token(&server, &channels, &json!(["subscribe"]));
    let open = |token: &str| Sse::open(request(&server, token, "GET", "/events/stream"));
    let (mut gone, mut stays) = (open(&revoked), open(&kept));
    let mut socket = Ws::at(server.addr(), "/events/ws", Some(&revoked));
    server.admin("DELETE", &format!("/api/v1/tokens/{id}")).send().expect(204);
    gone.ends_within(ABOUT_A_SECOND);
    assert_eq!(socket.end().0, 4401);
    let expected = [one(&a), one(&b)];
    assert_eq!(ids_of(&mut stays, 2), expected);
    // a channel that is deleted leaves the others
    server.admin("DELETE", "/api/maps/a").send().expect(204);
    let after = one(&b);
    assert_eq!(ids_of(&mut stays, 1), [after]);
    server.admin("DELETE", "/api/maps/b").send().expect(204);
    stays.ends_within(ABOUT_A_SECOND);
}

#[test]
fn a_gap_is_told_of_the_channels_that_are_followed_and_of_no_others() {
    let server = TestServer::start(&[
        ("storage.segment_max_bytes", "1048576"),
        ("retention.max_events", "1000"),
        ("streams.ring_events", "16"),
    ]);
    let (busy, quiet, still) = (server.new_map("busy"), server.new_map("quiet"), server.new_map("still"));
    let first = one(&busy);
    let filler = "x".repeat(2000);
    let batch: Value = (0..500).map(|_| json!({"type": "add_system", "payload": {"filler": filler}})).collect();
    for _ in 0..6 {
        busy.publish(&batch);
    }
    let mut oldest = Value::Null;
    eventually("retention has dropped all that is too much", || {
        let kept = server.admin("GET", "/events?channel=map:busy&limit=1000").send().expect(200);
        oldest = kept["data"][0]["event_id"].clone();
        kept["next"].is_null() && oldest != first.as_str()
    });
    let open = |names: &str| Sse::open(server.admin("GET", &format!("/events/stream?since={first}&channel={names}")));
    let gap = open("map:busy,map:quiet").next();
    assert_eq!((gap.event.as_deref(), &gap.id), (Some("gap"), &None), "{}", gap.raw);
    assert_eq!(gap.json(), json!({"requested": first, "oldest": oldest, "reason": "expired"}));
    let gap = open("map:*").next();
    assert_eq!(gap.json(), json!({"requested": first, "oldest": oldest, "reason": "expired"}));
    let mut whole = open("map:quiet,map:still");
    let mut ahead = Sse::open(
        server.admin("GET", "/events/stream?channel=map:quiet,map:still&since=evt_7ZZZZZZZZZZZZZZZZZZZZZZZZZ"),
    );
    let next = [one(&quiet), one(&still)];
    assert_eq!(ids_of(&mut whole, 2), next);
    assert_eq!(ahead.next().json()["reason"], "ahead");
    assert_eq!(ids_of(&mut ahead, 2), next);
}

#[test]
fn a_follower_of_a_hundred_channels_that_reconnects_misses_nothing_while_others_publish() {
    let server = TestServer::start(&[("limits.streams_per_token", "0"), ("streams.ring_events", "128")]);
    let maps: Vec<_> = (0..120).map(|n| server.new_map(&format!("m{n}"))).collect();
    let names: Vec<_> = (0..100).map(|n| format!("map:m{n}")).collect();
    let query = format!("/events/stream?channel={}", names.join(","));
    let (published, seen) = std::thread::scope(|scope| {
        let publish = |part: usize| {
            let mut ids = Vec::new();
            for round in 0..10 {
                for n in (part..120).step_by(3) {
                    let batch = as_feed(maps[n].publish_many(1 + (n + round) % 3));
                    ids.extend(if n < 100 { batch } else { Vec::new() });
                }
            }
            ids
        };
        let publishers: Vec<_> = (0..3).map(|part| scope.spawn(move || publish(part))).collect();
        let (mut seen, mut cursor) = (Vec::new(), BEGINNING.to_string());
        for _ in 0..10 {
            let mut stream = Sse::open(server.admin("GET", &query).header("Last-Event-ID", &cursor));
            seen.extend(ids_of(&mut stream, 97));
            cursor = seen[seen.len() - 1].clone();
        }
        let mut published: Vec<_> = publishers.into_iter().flat_map(|one| one.join().expect("ids")).collect();
        published.sort();
        let mut stream = Sse::open(server.admin("GET", &query).header("Last-Event-ID", &cursor));
        seen.extend(ids_of(&mut stream, published.len() - seen.len()));
        (published, seen)
    });
    assert!(seen == published, "{} of {}", seen.len(), published.len());
}
