//! Requests that no honest sender makes. None is accepted, each has the status that it has to have, and nothing of a secret
//! reaches the log.

use std::io::{Read, Write};
use std::net::TcpStream;

use actors::model::source::{HmacAlgorithm, sign_hmac};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::{KEY, Source, now_ms};
use crate::support::packed::gzip;
use crate::support::{Answer, Request, SOON, TestServer, eventually};

const API_KEY: &str = "an-api-key-that-must-not-be-logged";
const SHARED: &str = "a-shared-key-that-must-not-be-logged";
const GOOD: &str = r#"{"event_type":"purchase","user_id":"user_123"}"#;

fn token(algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, key).expect("a token")
}

fn claims(seconds: i64) -> Value {
    json!({"iss": "game", "aud": "stentor", "exp": now_ms() / 1000 + seconds})
}

fn signature(key: &str, at: &str, body: &str) -> String {
    sign_hmac(HmacAlgorithm::Sha256, key, at, body.as_bytes())
}

/// Whether a file below the folder holds these bytes.
fn on_disk(folder: &std::path::Path, bytes: &[u8]) -> bool {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.into_iter().any(|path| match path.is_dir() {
        true => on_disk(&path, bytes),
        false => memchr::memmem::find(&std::fs::read(&path).expect("a file"), bytes).is_some(),
    })
}

#[test]
fn no_hostile_request_is_accepted_and_none_is_logged_with_its_secret() {
    let mut server = TestServer::start(&[
        ("log.level", "debug"),
        ("limits.batch_bytes", "100000"),
        ("limits.event_bytes", "50000"),
        ("limits.batch_events", "100"),
    ]);
    let map = server.new_map("hostile");
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key pair");
    let (public, private) = (pair.public_key_pem(), pair.serialize_pem());
    let hmac = Source::hmac(&map);
    let (api_key, _) = Source::new(&map, json!({"authentication": "api_key", "apiKey": API_KEY}));
    let rules = |algorithm: &str, key: &str| json!({"algorithm": algorithm, "key": key, "issuer": "game", "audience": "stentor"});
    let (shared, _) = Source::new(&map, json!({"authentication": "jwt", "jwt": rules("HS256", SHARED)}));
    let (rsa, _) = Source::new(&map, json!({"authentication": "jwt", "jwt": rules("RS256", &public)}));

    let now = now_ms();
    let at = now.to_string();
    let mut cases: Vec<(&str, u16, Answer)> = Vec::new();
    let mut case = |what, status, request: Request| cases.push((what, status, request.send()));
    let with = |at: &str, signature: &str, body: &[u8]| {
        hmac.request("").header("X-Webhook-Timestamp", at).header("X-Webhook-Signature", signature).body(body)
    };
    let good = signature(KEY, &at, GOOD);

    case("no signature at all", 401, hmac.request("").body(GOOD));
    case("no timestamp", 401, hmac.request("").header("X-Webhook-Signature", &good).body(GOOD));
    case("no signature", 401, hmac.request("").header("X-Webhook-Timestamp", &at).body(GOOD));
    case("an empty signature", 401, with(&at, "", GOOD.as_bytes()));
    case("a stale request", 401, hmac.signed(GOOD, now - 301_000));
    case("a request from the future", 401, hmac.signed(GOOD, now + 301_000 + 60_000));
    case("a wrong key", 401, with(&at, &signature("another-key", &at, GOOD), GOOD.as_bytes()));
    case("a changed body", 401, with(&at, &good, br#"{"event_type":"purchase","user_id":"user_124"}"#));
    case("a re-encoded body", 401, with(&at, &good, br#"{"event_type": "purchase", "user_id": "user_123"}"#));
    case("a truncated body", 401, with(&at, &good, &GOOD.as_bytes()[..GOOD.len() - 1]));
    case("a truncated signature", 401, with(&at, &good[..good.len() - 2], GOOD.as_bytes()));
    case("a signature without its algorithm", 401, with(&at, &good["sha256=".len()..], GOOD.as_bytes()));
    case("a weaker algorithm", 401, with(&at, &format!("sha1={}", "0".repeat(40)), GOOD.as_bytes()));
    let other = sign_hmac(HmacAlgorithm::Sha512, KEY, &at, GOOD.as_bytes());
    case("another algorithm", 401, with(&at, &other, GOOD.as_bytes()));
    case("another timestamp", 401, with(&(now + 1).to_string(), &good, GOOD.as_bytes()));
    case("a timestamp in seconds", 401, hmac.signed(GOOD, now / 1000));
    case("two signatures", 401, with(&at, &good, GOOD.as_bytes()).header("X-Webhook-Signature", &good));
    case("the key instead of a signature", 401, with(&at, KEY, GOOD.as_bytes()));
    case("an API key where a signature is due", 401, hmac.request("").header("X-API-Key", KEY).body(GOOD));

    case("no API key", 401, api_key.request("").body(GOOD));
    case("a part of the API key", 401, api_key.request("").header("X-API-Key", &API_KEY[..10]).body(GOOD));
    case("the API key in the query", 401, api_key.request(&format!("?apiKey={API_KEY}")).body(GOOD));
    case("the admin's token", 401, api_key.request("").bearer(crate::support::server::ADMIN).body(GOOD));

    let hs = EncodingKey::from_secret(SHARED.as_bytes());
    let rs = EncodingKey::from_rsa_pem(private.as_bytes()).expect("a key");
    let unsigned = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJnYW1lIiwiYXVkIjoic3RlbnRvciIsImV4cCI6OTk5OTk5OTk5OX0.";
    case("alg none", 401, shared.request("").bearer(unsigned).body(GOOD));
    case("alg none for RS256", 401, rsa.request("").bearer(unsigned).body(GOOD));
    let confused = token(Algorithm::HS256, &EncodingKey::from_secret(public.as_bytes()), &claims(60));
    case("the public key as a shared one", 401, rsa.request("").bearer(&confused).body(GOOD));
    let longer = token(Algorithm::HS512, &hs, &claims(60));
    case("another algorithm with the right key", 401, shared.request("").bearer(&longer).body(GOOD));
    case("an expired token", 401, shared.request("").bearer(&token(Algorithm::HS256, &hs, &claims(-1))).body(GOOD));
    let mut endless = claims(60);
    endless.as_object_mut().expect("an object").remove("exp");
    case("a token without an end", 401, shared.request("").bearer(&token(Algorithm::HS256, &hs, &endless)).body(GOOD));
    let mut elsewhere = claims(60);
    elsewhere["aud"] = "another".into();
    case(
        "a token for somebody else",
        401,
        shared.request("").bearer(&token(Algorithm::HS256, &hs, &elsewhere)).body(GOOD),
    );
    let mut stranger = claims(60);
    stranger["iss"] = "another".into();
    case("a token of somebody else", 401, rsa.request("").bearer(&token(Algorithm::RS256, &rs, &stranger)).body(GOOD));

    let signed = |body: &str| hmac.signed(body, now_ms());
    case(
        "a huge body",
        413,
        signed(&format!(r#"{{"event_type":"a","properties":{{"x":"{}"}}}}"#, "x".repeat(200_000))),
    );
    case(
        "a large event",
        413,
        signed(&format!(r#"{{"event_type":"a","properties":{{"x":"{}"}}}}"#, "x".repeat(60_000))),
    );
    let many = format!(r#"{{"events":[{}]}}"#, [r#"{"event_type":"a"}"#; 101].join(","));
    case("too many events", 413, signed(&many));
    let bomb = gzip(&vec![b' '; 20_000_000]);
    let bombed = sign_hmac(HmacAlgorithm::Sha256, KEY, &at, &bomb);
    case("a compressed bomb", 413, with(&at, &bombed, &bomb).header("Content-Encoding", "gzip"));
    case("a compressed bomb that does not say so", 400, with(&at, &bombed, &bomb));
    case(
        "another type",
        415,
        Request::new(server.addr(), "POST", &format!("/webhooks/{}", hmac.id))
            .header("Content-Type", "text/xml")
            .header("X-Webhook-Timestamp", &at)
            .header("X-Webhook-Signature", &good)
            .body(GOOD),
    );
    case(
        "JSON that is said to be a form",
        400,
        Request::new(server.addr(), "POST", &format!("/webhooks/{}", hmac.id))
            .header("Content-Type", "application/x-www-form-urlencoded")
            .header("X-Webhook-Timestamp", &at)
            .header("X-Webhook-Signature", &good)
            .body(GOOD),
    );
    case("a name twice", 400, signed(r#"{"event_type":"a","event_type":"b"}"#));
    case("a name twice within", 400, signed(r#"{"event_type":"a","properties":{"x":1,"\u0078":2}}"#));
    case("NUL in a text", 400, signed(r#"{"event_type":"a","properties":{"x":"a\u0000b"}}"#));
    case("NUL in the type", 400, signed(r#"{"event_type":"a\u0000"}"#));
    let broken = b"{\"event_type\":\"\xff\"}";
    case("no UTF-8", 400, with(&at, &sign_hmac(HmacAlgorithm::Sha256, KEY, &at, broken), broken));
    case("no JSON", 400, signed("event_type=a"));
    case("no object", 400, signed("[]"));
    case("no type", 400, signed(r#"{"user_id":"u"}"#));
    case("a type with a line break", 400, signed(r#"{"event_type":"a\nevent: b"}"#));
    case(
        "nesting without end",
        400,
        signed(&format!(r#"{{"event_type":"a","properties":{{"x":{}{}}}}}"#, "[".repeat(5_000), "]".repeat(5_000))),
    );
    case("a number without end", 400, signed(r#"{"event_type":"a","properties":{"x":1e999}}"#));
    case("a batch within a batch", 400, signed(r#"{"events":[{"events":[{"event_type":"a"}]}]}"#));
    case("one bad event among good ones", 400, signed(r#"{"events":[{"event_type":"a"},{"event_type":""}]}"#));
    case(
        "an unknown address",
        404,
        Request::new(server.addr(), "POST", "/webhooks/wh_01J0000000000000000000000").body(GOOD),
    );
    case(
        "a path in the address",
        404,
        Request::new(server.addr(), "POST", "/webhooks/..%2f..%2fadmin-token").body(GOOD),
    );
    case("another method", 405, Request::new(server.addr(), "GET", &format!("/webhooks/{}", hmac.id)));

    assert!(cases.len() >= 30);
    for (what, status, answer) in &cases {
        let body = answer.expect(*status);
        assert_eq!(body["status"], *status, "{what}: {body}");
        assert!(body["error"].as_str().is_some_and(|text| !text.is_empty()), "{what}: {body}");
        for secret in [KEY, API_KEY, SHARED] {
            assert!(!answer.text().contains(secret), "{what}: {body}");
        }
    }
    assert!(map.with_token(crate::support::server::ADMIN).export().is_empty(), "nothing is stored");

    // the family is not simply shut
    hmac.signed(GOOD, now_ms()).send().expect(200);
    api_key.request("").header("X-API-Key", API_KEY).body(GOOD).send().expect(200);
    shared.request("").bearer(&token(Algorithm::HS256, &hs, &claims(60))).body(GOOD).send().expect(200);
    rsa.request("").bearer(&token(Algorithm::RS256, &rs, &claims(60))).body(GOOD).send().expect(200);
    assert_eq!(map.export().len(), 4);
    server.stop();
    for secret in [KEY, API_KEY, SHARED] {
        assert!(!on_disk(server.folder(), secret.as_bytes()), "a secret lies open on the disk");
    }
    let log = server.log_lines();
    for secret in [KEY, API_KEY, SHARED, good.as_str(), confused.as_str()] {
        assert_eq!(log.iter().find(|line| line.contains(secret)), None, "a secret is in the log");
    }
    let ours = |line: &&String| line.contains(" ERROR ") || line.contains("panicked");
    assert_eq!(log.iter().find(ours), None, "nothing is an error of ours");
}

/// The head of a request to the source whose body is `length` bytes long, and as much of the body as is given.
fn begun(source: &Source, length: usize, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(source.addr).expect("the server listens");
    let head = format!(
        "POST /webhooks/{} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n",
        source.id
    );
    stream.set_read_timeout(Some(SOON)).expect("a timeout can be set");
    stream.write_all(&[head.as_bytes(), body].concat()).expect("the server takes it");
    stream
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for_for_ever() {
    let server = TestServer::start(&[("server.body_timeout_s", "1")]);
    let map = server.new_map("slow");
    let mut stream = begun(&Source::open(&map), 100, b"{");
    let mut answer = String::new();
    // the server may keep the connection or close it; its answer counts
    let mut bytes = [0; 1024];
    while !answer.contains("REQUEST_TIMEOUT") {
        let read = stream.read(&mut bytes).expect("an answer");
        assert!(read > 0, "{answer}");
        answer.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[test]
fn bodies_of_nobody_in_particular_take_no_more_memory_than_they_may() {
    let server = TestServer::start(&[
        ("limits.batch_bytes", "1000"),
        ("limits.event_bytes", "1000"),
        ("sources.bodies_bytes", "1024"),
    ]);
    let map = server.new_map("room");
    let source = Source::open(&map);
    let event = json!({"event_type": "a", "properties": {"text": "x".repeat(400)}});
    source.post(&event).expect(200);
    // whoever comes second is refused, and that may be the one that does not end: then another one takes its place
    let mut held = None;
    eventually("there is no room beside a body that does not end", || {
        held = Some(begun(&source, 1000, &[b' '; 900]));
        let refused = source.post(&event);
        refused.status == 503 && refused.header("retry-after").is_some()
    });
    drop(held);
    eventually("there is room again", || source.post(&event).status == 200);
}
