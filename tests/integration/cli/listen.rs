//! `stentor listen`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use serde_json::json;

use super::{run, start, with_token};
use crate::support::program::{Program, command};
use crate::support::receiver::Received;
use crate::support::server::ADMIN;
use crate::support::{Map, Receiver, TestServer};

const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// Headers that are the same in every attempt to deliver an event.
const STEADY: [&str; 9] = [
    "Content-Type",
    "User-Agent",
    "X-Wanderer-Version",
    "X-Wanderer-Event",
    "X-Wanderer-Attempt",
    "X-Webhook-Request-Id",
    "X-Webhook-Hmac",
    "X-AeorDB-Signature",
    "X-AeorDB-Event",
];

/// Runs `verify` on what arrived.
fn verified(delivery: &Received, format: &str, secret: &str) -> bool {
    let names =
        ["webhook-id", "webhook-timestamp", "webhook-signature", "X-Wanderer-Timestamp", "X-Wanderer-Signature"];
    let names = names.iter().chain(&["X-Webhook-Hmac", "X-Webhook-Timestamp", "X-AeorDB-Signature"]);
    let headers: Vec<String> = names
        .filter(|name| !delivery.header(name).is_empty())
        .map(|name| format!("{name}: {}", delivery.header(name)))
        .collect();
    let mut line = vec!["verify", "--format", format, "--secret", secret];
    line.extend(headers.iter().flat_map(|header| ["--header", header.as_str()]));
    let mut program = Program::start(command(&line));
    program.type_in(std::str::from_utf8(&delivery.body).expect("text"));
    program.wait().code == Some(0)
}

#[test]
fn what_listen_posts_is_what_a_webhook_posts_in_every_format() {
    let server = TestServer::start(&[
        ("webhooks.allow_http", "true"),
        ("webhooks.allow_networks", "127.0.0.1"),
        ("limits.webhooks_per_map", "20"),
    ]);
    let map = server.new_map("formats");
    map.request("PUT", "/webhooks/toggle").json(&json!({"enabled": true})).send().expect(200);
    let template = "{\"text\": {{ event.type }}, \"of\": {{ event.channel.name }}, \"session\": {{ event.session }}}";
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), template).expect("written");
    let file = file.path().to_str().expect("UTF-8");
    let formats = ["map", "standard", "gateway", "feed", "cloudevents", "discord", "slack", "template"];
    let hooked: Vec<(Receiver, String)> = formats
        .iter()
        .map(|format| {
            let receiver = Receiver::start(&[]);
            let mut webhook = json!({"url": receiver.url(), "events": ["*"], "format": format});
            if *format == "template" {
                webhook["template"] = template.into();
            }
            let made = map.request("POST", "/webhooks").json(&webhook).send().expect(201);
            (receiver, made["data"]["secret"].as_str().expect("a secret").to_owned())
        })
        .collect();
    let event =
        json!({"type": "map_kill", "session": "s1", "payload": {"killmail_id": 1, "value": 1.5, "name": "ä🚀"}});
    map.publish(&event);
    let channel = format!("map:{}", map.id);
    for (format, (hooked, secret)) in formats.iter().zip(&hooked) {
        let receiver = Receiver::start(&[]);
        let url = receiver.url();
        let mut line = vec!["listen", &channel, "--forward-to", &url, "--since", "1h", "--limit", "1"];
        line.extend(["--format", format, "--secret", secret]);
        if *format == "template" {
            line.extend(["--template", file]);
        }
        let ended = run(&map, &line);
        assert!(ended.expect(0).starts_with("map_kill ") && ended.out.contains(" 200 in "), "{ended:?}");
        let (ours, theirs) = (receiver.expect(1).remove(0), hooked.expect(1).remove(0));
        assert_eq!(String::from_utf8_lossy(&ours.body), String::from_utf8_lossy(&theirs.body), "{format}");
        for name in STEADY {
            assert_eq!(ours.header(name), theirs.header(name), "{format}: {name}");
        }
        let scheme = if ["map", "gateway", "feed"].contains(format) { *format } else { "standard" };
        assert!(verified(&ours, scheme, secret) && verified(&theirs, scheme, secret), "{format}");
    }
}

#[test]
fn a_secret_is_made_and_shown_and_each_answer_of_the_receiver_too() {
    let server = TestServer::start(&[]);
    let map = server.new_map("answers");
    map.publish_many(3);
    let channel = format!("map:{}", map.id);
    let receiver = Receiver::start(&[500, 302]);
    let url = receiver.url();
    let ended = run(&map, &["listen", &channel, "--forward-to", &url, "--since", "1h", "--limit", "3"]);
    assert_eq!(ended.code, Some(1), "two were not taken: {ended:?}");
    let lines: Vec<_> = ended.out.lines().collect();
    let secret = lines[0].strip_prefix("secret of this run: ").expect("a secret");
    assert!(lines[1].contains("the receiver answered 500"), "{lines:?}");
    assert!(lines[2].contains("the receiver answered 302"), "redirects are not followed: {lines:?}");
    assert!(lines[3].contains(" 200 in "), "{lines:?}");
    assert!(ended.err.contains("1 delivered, 2 not taken"), "{}", ended.err);
    let received = receiver.received();
    assert_eq!(received.len(), 3, "nothing is tried again");
    assert!(received.iter().all(|delivery| verified(delivery, "map", secret)));
    drop(receiver);
    let gone = run(&map, &["listen", &channel, "--forward-to", &url, "--since", "1h", "--limit", "1"]);
    assert!(gone.code == Some(1) && gone.out.contains("refused"), "{gone:?}");
}

#[test]
fn events_are_delivered_as_they_come_until_ctrl_c() {
    let server = TestServer::start(&[]);
    let map = server.new_map("live");
    let receiver = Receiver::start(&[]);
    let line = ["listen", &format!("map:{}", map.id), "--forward-to", &receiver.url(), "--events", "a"];
    let listen = start(&map, &line);
    crate::support::eventually("it listens", || {
        map.publish(&json!([{"type": "a", "payload": {}}, {"type": "b", "payload": {}}]));
        !receiver.received().is_empty()
    });
    listen.interrupt();
    let ended = listen.wait();
    assert!(ended.expect(0).lines().count() > 1 && ended.err.contains("delivered, 0 not taken"), "{ended:?}");
    assert!(receiver.received().iter().all(|delivery| delivery.json()["type"] == "a"));
}

#[test]
fn with_a_name_to_resume_by_a_receiver_that_is_not_there_is_waited_for() {
    let server = TestServer::start(&[]);
    let map = server.new_map("waiting");
    let state = tempfile::tempdir().expect("a folder");
    map.publish_many(2);
    // nobody listens there from here on
    let addr = TcpListener::bind("127.0.0.1:0").and_then(|held| held.local_addr()).expect("a port");
    let (channel, port) = (format!("map:{}", map.id), addr.port().to_string());
    let line = ["listen", &channel, "--forward-to", &port, "--resume", "desk", "--since", "1h", "--limit", "2"];
    let mut listen = with_token(&map, &map.token, &line);
    listen.env("XDG_STATE_HOME", state.path());
    let listen = Program::start(listen);
    listen.expect_notice("waiting for a receiver");
    let receiver = TcpListener::bind(addr).expect("the port is still free");
    let posted: Vec<String> =
        receiver.incoming().take(2).map(|stream| answered(stream.expect("a connection"))).collect();
    let ended = listen.wait();
    assert!(ended.code == Some(0) && ended.err.contains("2 delivered, 0 not taken"), "{ended:?}");
    for (n, body) in posted.iter().enumerate() {
        assert!(body.contains(&format!("\"n\":{n}")), "{body}");
    }
}

/// Reads a request with a body, answers 200 and closes; the body.
fn answered(mut stream: TcpStream) -> String {
    let mut reader = BufReader::new(stream.try_clone().expect("the same connection"));
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().expect("a length");
            }
            _ if line.trim_end().is_empty() => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("the body");
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").expect("it listens");
    String::from_utf8(body).expect("UTF-8")
}

#[test]
fn organizations_and_the_feed_are_posted_in_their_own_formats() {
    let server = TestServer::start(&[]);
    let made =
        server.admin("POST", "/api/v1/organizations").json(&json!({"id": "org_x", "name": "X"})).send().expect(201);
    let org =
        Map { addr: server.addr(), id: "org_x".into(), token: made["data"]["token"].as_str().expect("a token").into() };
    run(&org, &["publish", "organization:org_x", "--type", "poll.vote", "--session", "s1"]).expect(0);
    let receiver = Receiver::start(&[]);
    let url = receiver.url();
    let common = ["--forward-to", &url, "--since", "1h", "--limit", "1", "--events", "poll.vote", "--secret", SECRET];
    run(&org, &[&["listen", "organization:org_x"], &common[..]].concat()).expect(0);
    Program::start(with_token(&org, ADMIN, &[&["listen", "feed"], &common[..]].concat())).wait().expect(0);
    let received = receiver.expect(2);
    let (gateway, feed) = (received[0].json(), received[1].json());
    assert_eq!((&gateway["schema"], &gateway["session"]), (&json!("v1"), &json!("s1")));
    assert_eq!(received[0].header("X-Webhook-Request-Id"), gateway["id"]);
    assert_eq!(feed["event_id"], gateway["id"]);
    assert!(verified(&received[0], "gateway", SECRET) && verified(&received[1], "feed", SECRET));
}

#[test]
fn what_cannot_be_delivered_is_wrong_usage_and_a_refusal_is_told() {
    let server = TestServer::start(&[]);
    let map = server.new_map("usage");
    let forward = ["--forward-to", "http://127.0.0.1:9/x"];
    for (channel, flags, said) in [
        ("map:x", &["--format", "gatewya"][..], "did you mean gateway?"),
        ("map:x", &["--format", "template"], "needs --template FILE"),
        ("map:x", &["--template", "/nowhere"], "goes with --format template only"),
        ("organization:x", &["--format", "map"], "is for maps"),
        ("feed", &["--format", "discord"], "feed, gateway or standard"),
        ("map:x", &["--secret", ""], "1 to 512 bytes"),
        ("map:x", &["--filter", "1 +"], "--filter"),
    ] {
        let ended = run(&map, &[&["listen", channel], &forward[..], flags].concat());
        assert!(ended.code == Some(2) && ended.err.contains(said), "{flags:?}: {ended:?}");
    }
    let ended = run(&map, &["listen", "map:x", "--forward-to", "ftp://127.0.0.1:9"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let ended = run(&map, &[&["listen", "map:x"], &forward[..], &["--secret", "s"]].concat());
    assert!(ended.code == Some(1) && ended.err.contains("Map not found for identifier: x"), "{ended:?}");
}
