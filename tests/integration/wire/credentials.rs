//! Credentials that are judged by more than a look-up: what JWTs say and who has signed them, floods of wrong ones, and
//! whose address counts behind a proxy.

use std::fs;
use std::path::Path;
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::access::{hs256, install_cryptography, now_s};
use crate::support::{Answer, Map, Request, TestServer, within};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const OTHER: &str = "fedcba9876543210fedcba9876543210";
const SECRET_BASE64URL: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY";
const OTHER_BASE64URL: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA";
/// A changed key set counts within this; the rest is for a busy machine.
const REREAD: Duration = Duration::from_secs(20);

fn claims(map: &Map, scopes: &[&str]) -> Value {
    json!({"sub": "bot", "exp": now_s() + 600, "channel": format!("map:{}", map.id), "scopes": scopes})
}

#[test]
fn a_jwt_counts_within_its_time_to_the_fraction_of_a_second() {
    install_cryptography();
    let server = TestServer::start(&[("auth.jwt.key", SECRET), ("auth.jwt.audience", "stentor")]);
    let map = server.new_map("times");
    let status = |change: Value, audience: Value| {
        let mut claims = claims(&map, &["subscribe"]);
        claims["aud"] = audience;
        claims.as_object_mut().expect("claims").extend(change.as_object().expect("an object").clone());
        map.with_token(&hs256(SECRET, &claims)).request("GET", "").send().status
    };
    let (now, ours) = (now_s(), json!("stentor"));
    for (change, good) in [
        (json!({"exp": now as f64 + 60.25, "nbf": now as f64 - 0.5, "iat": now as f64 - 0.5}), true),
        (json!({"exp": now as f64 - 1.5}), false),
        (json!({"nbf": now + 30, "iat": now + 30}), true),
        (json!({"nbf": now + 3600}), false),
        (json!({"iat": now + 3600}), false),
        (json!({"exp": (now + 60).to_string()}), false),
        (json!({"exp": null}), false),
    ] {
        assert_eq!(status(change.clone(), ours.clone()), if good { 200 } else { 401 }, "{change}");
    }
    for (audience, good) in [(json!(["x", "stentor"]), true), (json!(["x"]), false), (json!("x"), false)] {
        assert_eq!(status(json!({}), audience.clone()), if good { 200 } else { 401 }, "{audience}");
    }
    let header = Header { crit: Some(vec!["http://example.com/UNDEFINED".into()]), ..Header::new(Algorithm::HS256) };
    let mut all = claims(&map, &["subscribe"]);
    all["aud"] = ours;
    let critical = jsonwebtoken::encode(&header, &all, &EncodingKey::from_secret(SECRET.as_bytes())).expect("a token");
    assert_eq!(map.with_token(&critical).request("GET", "").send().status, 401);
}

#[test]
fn a_jwt_that_is_meant_for_somebody_is_refused_where_no_audience_is_configured() {
    install_cryptography();
    let server = TestServer::start(&[("auth.jwt.key", SECRET)]);
    let map = server.new_map("meant");
    for (audience, status) in
        [(json!("stentor"), 401), (json!(["stentor"]), 401), (json!([7]), 401), (Value::Null, 200)]
    {
        let mut claims = claims(&map, &["subscribe"]);
        claims["aud"] = audience.clone();
        let answer = map.with_token(&hs256(SECRET, &claims)).request("GET", "").send();
        assert_eq!(answer.status, status, "{audience}");
    }
}

#[test]
fn a_jwt_names_its_channel_by_the_id_and_never_by_a_slug() {
    install_cryptography();
    let server = TestServer::start(&[("auth.jwt.key", SECRET)]);
    let map = server.new_map("home");
    let mut by_slug = claims(&map, &["subscribe"]);
    by_slug["channel"] = "map:home".into();
    assert_eq!(map.request("GET", "").send().json()["data"]["slug"], "home");
    assert_eq!(map.with_token(&hs256(SECRET, &by_slug)).request("GET", "").send().status, 401);
    map.with_token(&hs256(SECRET, &claims(&map, &["subscribe"]))).request("GET", "").send().expect(200);
}

#[test]
fn a_token_that_a_jwt_makes_says_so_and_may_no_more_than_the_jwt() {
    install_cryptography();
    let server = TestServer::start(&[("auth.jwt.key", SECRET)]);
    let map = server.new_map("given");
    let jwt = hs256(SECRET, &claims(&map, &["manage", "subscribe"]));
    let ask = |by: &str, scopes: &[&str]| {
        let body = json!({"channel": format!("map:{}", map.id), "scopes": scopes});
        server.request("POST", "/api/v1/tokens").bearer(by).json(&body).send()
    };
    let made = ask(&jwt, &["subscribe"]).expect(201);
    assert_eq!(made["data"]["created_by"], "jwt:bot");
    for scopes in [&["publish"][..], &["subscribe", "publish"], &["subscribe", "publish", "manage"]] {
        let refused = ask(&jwt, scopes).expect(403);
        assert!(refused["error"]["message"].as_str().expect("a sentence").contains("'publish'"), "{refused}");
    }
    let (id, by_token) = map.new_token(json!({"scopes": ["manage"]}));
    assert_eq!(ask(&by_token, &["publish"]).expect(201)["data"]["created_by"], id.as_str());
    let list = server.admin("GET", "/api/v1/tokens").send().expect(200);
    let makers: Vec<_> = list["data"].as_array().expect("a list").iter().map(|token| &token["created_by"]).collect();
    assert_eq!(makers, ["admin", "jwt:bot", makers[2].as_str().expect("the first token's id"), id.as_str()]);
}

/// A set with a key of a kind that nobody here knows, and shared keys by their ids.
fn write_set(path: &Path, keys: &[(&str, &str)]) {
    let encode = |secret: &str| if secret == SECRET { SECRET_BASE64URL } else { OTHER_BASE64URL };
    let mut all = vec![json!({"kty": "AKP", "kid": "new-kind", "alg": "ML-DSA-65", "pub": "AAAA"})];
    all.extend(keys.iter().map(|(kid, secret)| json!({"kty": "oct", "kid": kid, "k": encode(secret)})));
    fs::write(path, json!({ "keys": all }).to_string()).expect("the folder is ours");
}

fn signed(kid: &str, secret: &str, claims: &Value) -> String {
    let header = Header { kid: Some(kid.into()), ..Header::new(Algorithm::HS256) };
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret.as_bytes())).expect("a token")
}

#[test]
fn a_key_set_is_read_again_when_it_changes_and_kept_when_it_cannot_be_read() {
    install_cryptography();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("keys.json");
    write_set(&path, &[("one", SECRET)]);
    let path_text = path.to_str().expect("text");
    // the test itself asks with wrong tokens until a right one counts
    let server = TestServer::start(&[("auth.jwt.jwks_file", path_text), ("limits.failed_logins_per_minute", "0")]);
    let map = server.new_map("keys");
    let status = |kid: &str, secret: &str| {
        let token = signed(kid, secret, &claims(&map, &["subscribe"]));
        map.with_token(&token).request("GET", "").send().status
    };
    let lines_with = |text: &str| server.log_lines().iter().filter(|line| line.contains(text)).count();
    assert_eq!((status("one", SECRET), status("one", OTHER), status("two", SECRET)), (200, 401, 401));
    assert_eq!(lines_with("new-kind"), 1, "the key that is not understood has its line");

    write_set(&path, &[("two", OTHER)]);
    within(REREAD, "the new key counts", || status("two", OTHER) == 200);
    assert_eq!(status("one", SECRET), 401, "a key that is not in the set any more is void");

    fs::write(&path, "{\"keys\": [").expect("the folder is ours");
    within(REREAD, "a broken set is noticed", || lines_with("the keys from before count on") == 1);
    assert_eq!(status("two", OTHER), 200);
    fs::remove_file(&path).expect("the folder is ours");
    within(REREAD, "a missing set is noticed", || lines_with("the keys from before count on") == 2);
    assert_eq!(status("two", OTHER), 200);
    write_set(&path, &[("three", SECRET)]);
    within(REREAD, "the next set counts", || status("three", SECRET) == 200);
    assert_eq!(server.log_lines().iter().find(|line| line.contains(SECRET) || line.contains(OTHER)), None);
}

#[test]
fn a_flood_of_wrong_credentials_is_refused_for_its_own_address_and_never_costs_a_right_one() {
    const LIMIT: usize = 5;
    let server = TestServer::start(&[("limits.failed_logins_per_minute", "5")]);
    let map = server.new_map("flood");
    let from = |request: Request, address: &str| request.header("X-Forwarded-For", address).send();
    let wrong = |address: &str| from(map.with_token("st_wrong").request("GET", ""), address);
    // a minute may end between them
    let floods = |address: &str| (0..=2 * LIMIT).map(|_| wrong(address)).find(|answer| answer.status == 429);
    let refused = floods("203.0.113.7").expect("too many of one address");
    let body = refused.expect(429);
    assert_eq!(body["code"], "RATE_LIMITED");
    assert_eq!(body["details"], json!({"setting": "limits.failed_logins_per_minute", "value": LIMIT}));
    let seconds: u64 = refused.header("retry-after").expect("when to come back").parse().expect("a number");
    assert!((1..=60).contains(&seconds), "{seconds}");
    // where a client is refused a second time, at another address of the API
    let nested = |answer: Answer| (answer.status == 429).then(|| answer.json()["error"]["details"].clone());
    let list = || from(server.request("GET", "/api/v1/tokens").bearer("st_wrong"), "203.0.113.7");
    let details = (0..=LIMIT).find_map(|_| nested(list())).expect("refused there too");
    assert_eq!(details, json!({"setting": "limits.failed_logins_per_minute", "value": LIMIT}));

    for _ in 0..2 * LIMIT {
        assert_eq!(from(map.request("GET", ""), "203.0.113.7").status, 200, "a right credential");
        assert_eq!(from(map.anonymous("GET", ""), "203.0.113.7").status, 401, "no credential");
    }
    assert_eq!(wrong("203.0.113.8").status, 401, "another address");
    assert!(floods("2001:db8:1:2::1").is_some());
    let neighbour = (0..=LIMIT).map(|_| wrong("2001:db8:1:2:ffff::9")).find(|answer| answer.status == 429);
    assert!(neighbour.is_some(), "another address of the same network");
    assert_eq!(wrong("2001:db8:1:3::1").status, 401, "another network");
    // wrong tickets and tokens in the query are wrong credentials too
    let ticket = || from(map.anonymous("GET", "/events/stream?ticket=x"), "203.0.113.9").status;
    assert!((0..=2 * LIMIT).any(|_| ticket() == 429));
}

/// The address of a new ticket.
fn ticket_url(map: &Map, headers: &[(&str, &str)]) -> String {
    let request = map.request("POST", "/events/ticket");
    let made = headers.iter().fold(request, |request, (name, value)| request.header(name, value)).send().expect(201);
    made["data"]["url"].as_str().expect("an address").to_string()
}

const FORWARDED: [(&str, &str); 4] = [
    ("X-Forwarded-For", "203.0.113.7"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "events.example.org"),
    ("X-Forwarded-Prefix", "/live"),
];

#[test]
fn what_a_proxy_says_of_the_address_counts_from_a_trusted_one_only() {
    let mut server = TestServer::start(&[]);
    let map = server.new_map("proxied");
    let behind = format!("https://events.example.org/live/api/maps/{}/events/stream?ticket=", map.id);
    assert!(ticket_url(&map, &FORWARDED).starts_with(&behind));
    let is_told = |server: &TestServer| server.log_lines().iter().filter(|l| l.contains("trusted_proxies")).count();

    server.restart_with(&[("server.trusted_proxies", "10.0.0.0/8")]);
    let map = map.at(&server);
    let own = format!("{}/api/maps/{}/events/stream?ticket=", server.url(), map.id);
    let before = is_told(&server);
    for _ in 0..3 {
        assert!(ticket_url(&map, &FORWARDED).starts_with(&own));
    }
    assert_eq!(is_told(&server), before + 1, "the operator is told once");

    server.restart_with(&[("server.trusted_proxies", "127.0.0.1"), ("server.public_url", "https://public.example/p")]);
    let map = map.at(&server);
    assert!(ticket_url(&map, &FORWARDED).starts_with("https://public.example/p/api/maps/"), "the setting wins");
}
