//! Requests that are kept as they came, answered as their owner says, and sent on as they came.

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{Source, ids};
use crate::support::program::{Program, command};
use crate::support::receiver::Received;
use crate::support::{Answer, Map, Receiver, Request, TestServer, eventually};

const SECRET: &str = "It's a Secret to Everybody";

fn signature(body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key of any length");
    mac.update(body);
    format!("sha256={}", mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn raw(map: &Map, more: Value) -> Source {
    let mut asked = json!({"authentication": "none", "mode": "raw"});
    for (name, value) in more.as_object().expect("an object") {
        asked[name] = value.clone();
    }
    Source::new(map, asked).0
}

fn send(source: &Source, method: &str, below: &str) -> Request {
    Request::new(source.addr, method, &format!("/webhooks/{}{below}", source.id)).undescribed()
}

fn payloads(map: &Map) -> Vec<Value> {
    map.history("").iter().map(|event| event["payload"].clone()).collect()
}

/// Headers by name in the list of an event.
fn header<'a>(payload: &'a Value, name: &str) -> Vec<&'a str> {
    let list = payload["headers"].as_array().expect("a list");
    let named = list.iter().filter(|pair| pair[0].as_str().is_some_and(|other| other.eq_ignore_ascii_case(name)));
    named.filter_map(|pair| pair[1].as_str()).collect()
}

fn forwarding(map: &Map, receiver: &Receiver) -> String {
    map.request("PUT", "/webhooks/toggle").json(&json!({"enabled": true})).send().expect(200);
    let webhook = json!({"url": receiver.url(), "format": "raw"});
    let made = map.request("POST", "/webhooks").json(&webhook).send().expect(201);
    made["data"]["id"].as_str().expect("an id").to_owned()
}

fn local() -> TestServer {
    TestServer::start(&[("webhooks.allow_http", "true"), ("webhooks.allow_networks", "127.0.0.1")])
}

#[test]
fn any_method_path_query_type_and_body_is_one_event() {
    let server = TestServer::start(&[]);
    let map = server.new_map("any");
    let source = raw(&map, json!({}));
    ids(&send(&source, "GET", "").send().expect(200));
    ids(&send(&source, "PUT", "/a%2Fb//c/?x=%20&y&x=2")
        .header("Content-Type", "text/html")
        .body("<p>hi</p>")
        .send()
        .expect(200));
    ids(&send(&source, "PURGE", "/z").send().expect(200));
    ids(&send(&source, "OPTIONS", "/o").send().expect(200));
    let bytes: Vec<u8> = (0..=255).collect();
    ids(&send(&source, "POST", "/bin").header("Content-Encoding", "gzip").body(bytes).send().expect(200));
    let history = map.history("");
    assert!(history.iter().all(|event| event["type"] == "http.request"), "{history:?}");
    let payloads = payloads(&map);
    let of = |n: usize| (payloads[n]["method"].as_str(), payloads[n]["path"].as_str(), payloads[n]["query"].as_str());
    assert_eq!(of(0), (Some("GET"), Some(""), Some("")));
    assert_eq!(of(1), (Some("PUT"), Some("/a%2Fb//c/"), Some("x=%20&y&x=2")));
    assert_eq!(of(2), (Some("PURGE"), Some("/z"), Some("")));
    assert_eq!(of(3), (Some("OPTIONS"), Some("/o"), Some("")));
    assert_eq!((&payloads[1]["body"], &payloads[1]["body_encoding"]), (&json!("<p>hi</p>"), &json!("utf8")));
    assert_eq!(header(&payloads[1], "content-type"), ["text/html"]);
    assert_eq!(
        (header(&payloads[4], "content-encoding"), &payloads[4]["body_encoding"]),
        (vec!["gzip"], &json!("base64"))
    );
    for method in ["TRACE", "CONNECT"] {
        let status = send(&source, method, "").send().status;
        assert!((400..500).contains(&status), "{method}: {status}");
    }
    // a preflight is a matter of browsers and their servers
    let preflight =
        send(&source, "OPTIONS", "").header("Origin", "https://a.org").header("Access-Control-Request-Method", "PUT");
    assert!(preflight.send().header("access-control-allow-methods").is_some());
    assert_eq!(map.history("").len(), 5);
    // and no other source takes any of it
    let other = Source::open(&map);
    for method in ["GET", "PUT"] {
        let answer = send(&other, method, "").send();
        assert_eq!((answer.status, answer.header("allow")), (405, Some("OPTIONS, POST")), "{method}");
    }
    send(&other, "POST", "/below").body("{}").send().expect(404);
}

#[test]
fn the_type_of_a_request_comes_from_the_rule_of_the_source() {
    let server = TestServer::start(&[]);
    let map = server.new_map("rule");
    let rules = json!([{"header": "X-Kind"}, {"pointer": "/kind"}]);
    let source = raw(&map, json!({"eventType": rules}));
    send(&source, "POST", "").header("X-Kind", "by.header").send().expect(200);
    send(&source, "POST", "").body(r#"{"kind":"by.body"}"#).send().expect(200);
    send(&source, "POST", "").body("neither").send().expect(200);
    let types: Vec<_> = map.history("").iter().map(|event| event["type"].clone()).collect();
    assert_eq!(types, ["by.header", "by.body", "http.request"]);
}

#[test]
fn no_credential_is_kept_unless_the_source_lists_it() {
    let server = TestServer::start(&[]);
    let map = server.new_map("credentials");
    let all = |source: &Source| {
        let request = send(source, "POST", "?token=t-secret&a=1&sig=s-secret");
        let request = request.header("Authorization", "Bearer a-secret").header("Proxy-Authorization", "p-secret");
        let request = request.header("Cookie", "c-secret").header("X-Api-Key", "k-secret").header("X-Mine", "m-secret");
        ids(&request.header("X-Other", "kept").body("x").send().expect(200));
    };
    all(&raw(&map, json!({"redact": ["x-mine"], "redact_query": ["sig"]})));
    let payload = payloads(&map).remove(0);
    assert!(!payload.to_string().contains("-secret"), "{payload}");
    assert_eq!((payload["query"].as_str(), header(&payload, "x-other")), (Some("a=1"), vec!["kept"]));
    all(&raw(&map, json!({"keep": ["authorization", "token"]})));
    let payload = payloads(&map).remove(1);
    assert_eq!(
        (header(&payload, "authorization"), payload["query"].as_str()),
        (vec!["Bearer a-secret"], Some("token=t-secret&a=1&sig=s-secret"))
    );
    assert!(header(&payload, "cookie").is_empty() && header(&payload, "x-api-key").is_empty());
    // the header and the field by which a sender proves itself
    let token = json!({"scheme": "token", "header": "X-Token"});
    let source = raw(&map, json!({"authentication": token, "secretKey": "the-token"}));
    send(&source, "POST", "").send().expect(401);
    send(&source, "POST", "").header("X-Token", "the-token").send().expect(200);
    let source =
        raw(&map, json!({"authentication": {"scheme": "token", "token_field": "/state"}, "secretKey": "the-token"}));
    send(&source, "POST", "").body(r#"{"state":"the-token","n":1}"#).send().expect(200);
    let page = map.request("GET", "/events").send();
    assert!(!page.text().contains("the-token"), "{}", page.text());
}

#[test]
fn a_body_over_the_limit_is_refused_and_one_within_it_is_kept_whole() {
    let server = TestServer::start(&[]);
    let map = server.new_map("size");
    let source = raw(&map, json!({}));
    let most = vec![0xfe; 192 * 1024];
    ids(&send(&source, "POST", "").body(most.clone()).send().expect(200));
    assert_eq!(
        send(&source, "POST", "").body([&most[..], b"x"].concat()).send().expect(413)["code"],
        "PAYLOAD_TOO_LARGE"
    );
    assert_eq!(payloads(&map)[0]["body"].as_str().map(str::len), Some(most.len() / 3 * 4));
    // who sent it is known by nothing but the address, so the letter says how large it was
    let letters = source.manage(&map.token, "GET", "/dead-letters").send().expect(200);
    assert_eq!(
        (&letters["data"][0]["bytes"], &letters["data"][0]["truncated"]),
        (&json!(192 * 1024 + 1), &json!(true))
    );
}

#[test]
fn a_source_answers_as_its_owner_says_and_never_as_a_page() {
    let server = TestServer::start(&[]);
    let map = server.new_map("answers");
    let response = json!({"status": 202, "headers": {"Content-Type": "text/xml", "X-Trace": "1", "Cache-Control": "no-store"}, "body": "<Response/>"});
    let source = raw(&map, json!({"response": response}));
    let check = |answer: &Answer| {
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("content-security-policy"), Some("sandbox; default-src 'none'"));
    };
    let answer = send(&source, "POST", "/x").body("b").send();
    assert_eq!((answer.status, answer.text(), answer.header("content-type")), (202, "<Response/>", Some("text/xml")));
    assert_eq!((answer.header("x-trace"), answer.header("cache-control")), (Some("1"), Some("no-store")));
    check(&answer);
    // an error of its own is no error of ours
    let change =
        json!({"response": {"status": 503, "headers": {"Retry-After": "7"}, "body": "<script>alert(1)</script>"}});
    source.manage(&map.token, "PATCH", "").json(&change).send().expect(200);
    let answer = send(&source, "GET", "").send();
    assert_eq!(
        (answer.status, answer.text(), answer.header("retry-after")),
        (503, "<script>alert(1)</script>", Some("7"))
    );
    assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")));
    check(&answer);
    assert_eq!(map.history("").len(), 2, "both are kept");
    source.manage(&map.token, "PATCH", "").json(&json!({"response": null})).send().expect(200);
    ids(&send(&source, "POST", "").send().expect(200));
    for (bad, field) in [
        (json!({"mode": "raw", "response": {"status": 302}}), "response"),
        (json!({"mode": "raw", "response": {"headers": {"Content-Type": "text/html"}}}), "response"),
        (json!({"mode": "raw", "response": {"headers": {"Set-Cookie": "a=b"}}}), "response"),
        (json!({"response": {"status": 200}}), "response"),
        (json!({"keep": ["cookie"]}), "keep"),
        (json!({"mode": "raw", "redact": [""]}), "redact"),
        (json!({"mode": "cooked"}), "mode"),
    ] {
        let mut asked = bad.clone();
        asked["authentication"] = "none".into();
        let answer = Request::new(map.addr, "POST", "/api/webhooks").bearer(&map.token).json(&asked).send();
        assert_eq!(answer.expect(400)["details"][0]["field"], field, "{bad}");
    }
    let other = Source::open(&map);
    other.manage(&map.token, "PATCH", "").json(&json!({"response": {"status": 200}})).send().expect(400);
    other.manage(&map.token, "PATCH", "").json(&json!({"mode": "raw"})).send().expect(400);
}

/// What the receiver at the far end finds when it verifies the provider's own signature.
#[track_caller]
fn verifies(received: &Received, body: &[u8]) {
    assert_eq!(received.body, body);
    assert_eq!(received.header("x-hub-signature-256"), signature(&received.body));
}

#[test]
fn a_request_goes_on_as_it_came_live_on_replay_and_after_a_restart() {
    let mut server = local();
    let map = server.new_map("forward");
    let receiver = Receiver::start(&[]);
    let webhook = forwarding(&map, &receiver);
    let source = raw(&map, json!({"authentication": "github", "secretKey": SECRET}));
    let body = b" {\"a\": 1.0,\n\"b\": \"\xff\"}\r\n";
    let at = |source: &Source, method: &str, below: &str| {
        let request = send(source, method, below)
            .header("X-Hub-Signature-256", &signature(body))
            .header("X-GitHub-Delivery", below);
        let request = request
            .header("Content-Type", "application/json")
            .header("X-Forwarded-For", "1.2.3.4")
            .header("TE", "trailers");
        ids(&request.header("X-B", "2").header("X-B", "3").body(&body[..]).send().expect(200))
    };
    at(&source, "PATCH", "/a%20b/c?x=%2F&y");
    // an event of another shape is none for this webhook
    map.publish(&json!({"type": "a", "payload": {"method": "GET"}}));
    let live = receiver.expect(1).remove(0);
    verifies(&live, body);
    assert_eq!(live.line, "PATCH /webhook/a%20b/c?x=%2F&y HTTP/1.1");
    assert_eq!((live.header("content-type"), live.header("x-stentor-event")), ("application/json", "http.request"));
    for gone in ["x-forwarded-for", "te", "webhook-signature", "x-wanderer-signature"] {
        assert!(!live.has(gone), "{gone}");
    }
    assert!(live.has("x-stentor-delivery") && live.has("x-stentor-signature"));
    let replay = json!({"after": "00000000000000000000000000"});
    map.request("POST", &format!("/webhooks/{webhook}/replay")).json(&replay).send().expect(202);
    let again = receiver.expect(2).remove(1);
    verifies(&again, body);
    assert_eq!(again.line, live.line);
    // in order: after a kill the last request may be sent once more
    server.stop();
    server.restart();
    let (map, source) = (map.at(&server), source.at(&server));
    at(&source, "POST", "");
    let last = receiver.expect(3).remove(2);
    verifies(&last, body);
    assert_eq!(last.line, "POST /webhook HTTP/1.1");
    // the sample of a test is a request as well
    let test = map.request("POST", &format!("/webhooks/{webhook}/test")).json(&json!({})).send().expect(200);
    assert_eq!(test["data"]["status_code"], 200, "{test}");
    verifies(&receiver.expect(3)[2], body);
}

#[test]
fn a_path_with_dot_segments_is_not_sent_on() {
    let server = local();
    let map = server.new_map("dots");
    let receiver = Receiver::start(&[]);
    let webhook = forwarding(&map, &receiver);
    let source = raw(&map, json!({}));
    for path in ["/../admin", "/%2e%2e/admin", "/a/%2E%2e%2fadmin"] {
        send(&source, "POST", path).send().expect(200);
    }
    send(&source, "POST", "/good").send().expect(200);
    let failed = || {
        let page = map.request("GET", &format!("/webhooks/{webhook}/deliveries")).send().expect(200);
        let all = page["data"].as_array().expect("deliveries").clone();
        all.iter().filter(|delivery| delivery["status"] == "dead").count()
    };
    eventually("they are refused", || failed() == 3);
    let lines: Vec<_> = receiver.expect(1).iter().map(|received| received.line.clone()).collect();
    assert_eq!(lines, ["POST /webhook/good HTTP/1.1"]);
}

#[test]
fn listen_sends_requests_on_as_they_came() {
    let server = TestServer::start(&[]);
    let map = server.new_map("listen");
    let source = raw(&map, json!({"authentication": "github", "secretKey": SECRET}));
    let body = b"{ \"n\": 1.0 }";
    let request = send(&source, "PUT", "/x?y=1")
        .header("X-Hub-Signature-256", &signature(body))
        .header("Content-Type", "application/json");
    request.body(&body[..]).send().expect(200);
    map.publish(&json!({"type": "a", "payload": {"n": 1}}));
    let listen = |receiver: &Receiver, more: &[&str], limit: &str| {
        let (server, channel) = (format!("http://{}", server.addr()), format!("map:{}", map.id));
        let url = receiver.url();
        let mut line = vec!["listen", &channel, "--forward-to", &url, "--server", &server, "--token", &map.token];
        line.extend(["--since", "1h", "--limit", limit]);
        line.extend(more);
        let program = Program::start(command(&line));
        assert_eq!(program.wait().code, Some(0));
    };
    let receiver = Receiver::start(&[]);
    listen(&receiver, &[], "2");
    let got = receiver.expect(2);
    verifies(&got[0], body);
    assert_eq!(got[0].line, "PUT /webhook/x?y=1 HTTP/1.1");
    assert!(got[1].line.starts_with("POST /webhook ") && got[1].has("x-wanderer-signature"), "{}", got[1].line);
    // the format that was asked for counts
    let receiver = Receiver::start(&[]);
    listen(&receiver, &["--format", "map"], "2");
    assert!(receiver.expect(2).iter().all(|post| post.has("x-wanderer-signature")));
    let receiver = Receiver::start(&[]);
    listen(&receiver, &["--format", "raw"], "1");
    assert_eq!(receiver.expect(1)[0].line, "PUT /webhook/x?y=1 HTTP/1.1");
}

#[test]
fn a_source_in_raw_mode_outlives_a_restart_as_it_was() {
    let mut server = TestServer::start(&[]);
    let map = server.new_map("restart");
    let source = raw(
        &map,
        json!({"keep": ["cookie"], "redact": ["x-a"], "redact_query": ["q"], "response": {"status": 201, "body": "ok"}}),
    );
    let before = source.manage(&map.token, "GET", "").send().expect(200);
    server.stop();
    server.restart();
    let (map, source) = (map.at(&server), source.at(&server));
    let mut after = source.manage(&map.token, "GET", "").send().expect(200);
    after["endpoint"]["url"] = before["endpoint"]["url"].clone();
    assert_eq!(after, before);
    let answer = send(&source, "DELETE", "/x").header("Cookie", "c").send();
    assert_eq!((answer.status, answer.text()), (201, "ok"));
    assert_eq!(header(&payloads(&map)[0], "cookie"), ["c"]);
}

#[test]
fn requests_that_differ_in_what_their_sender_does_not_sign_are_kept_each_and_once() {
    let server = TestServer::start(&[]);
    let map = server.new_map("unsigned");
    let recipe = json!({"scheme": "hmac", "header": "X-Signature", "prefix": "sha256="});
    let of = |more: Value| raw(&map, json!({"authentication": recipe, "secretKey": SECRET, "eventType": more}));
    let source = of(json!({"header": "X-Kind"}));
    let signed = |method: &str, below: &str, kind: &str| {
        let request = send(&source, method, below).header("X-Signature", &signature(b"")).header("X-Kind", kind);
        ids(&request.send().expect(200))
    };
    // all of them have an empty body, and so the same signature
    let different = [
        ("GET", "/a", "x"),
        ("GET", "/b", "x"),
        ("DELETE", "/b", "x"),
        ("GET", "/b?page=2", "x"),
        ("GET", "/b?page=2", "y"),
        ("GET", "/", "x"),
        ("GET", "", "x"),
    ];
    let first: Vec<_> = different.iter().map(|(method, below, kind)| signed(method, below, kind)).collect();
    let again: Vec<_> = different.iter().map(|(method, below, kind)| signed(method, below, kind)).collect();
    assert_eq!(first, again, "what is sent again is known again");
    let kept = map.history("");
    assert_eq!(kept.len(), different.len());
    for (event, (method, below, kind)) in kept.iter().zip(different) {
        let (path, query) = below.split_once('?').unwrap_or((below, ""));
        let payload = &event["payload"];
        assert_eq!(
            (&payload["method"], &payload["path"], &payload["query"]),
            (&json!(method), &json!(path), &json!(query))
        );
        assert_eq!(event["type"], kind);
    }
}

#[test]
fn a_websocket_that_is_offered_where_there_is_none_changes_nothing() {
    let server = TestServer::start(&[]);
    let map = server.new_map("offers");
    let source = raw(&map, json!({"authentication": "none"}));
    for request in [send(&source, "GET", "/hello"), send(&source, "POST", "").body("a body"), send(&source, "PUT", "")]
    {
        let (answer, mut rest) = request.upgrade().expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        // what was offered is not what is spoken, so nothing may follow
        assert_eq!(std::io::Read::read(&mut rest, &mut [0]).expect("it ends"), 0);
    }
    let bodies: Vec<_> = payloads(&map).iter().map(|payload| payload["body"].clone()).collect();
    assert_eq!(bodies, ["", "a body", ""]);
    let (answer, _) = map.request("POST", "/events").json(&json!({"type": "a"})).upgrade().expect("an answer");
    assert_eq!(answer.status, 201, "{}", answer.text());
    let (answer, _) = map.request("POST", "/events/ticket").upgrade().expect("an answer");
    assert_eq!(answer.status, 201, "{}", answer.text());
}
