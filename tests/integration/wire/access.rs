//! Who may do what: tokens, scopes, expiry, revocation, JWTs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::support::server::ADMIN;
use crate::support::{Map, Sse, TestServer};

const NO_TOKEN: &str = "Missing or invalid 'Bearer' token";
const BAD_TOKEN: &str = "Unauthorized (invalid token for map)";
/// A revoked or expired token ends its streams within a second; the rest is for a busy machine.
const ABOUT_A_SECOND: Duration = Duration::from_millis(2500);

pub fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as i64
}

/// Requests below a map with the scope that each needs.
const REQUESTS: [(&str, &str, &str); 8] = [
    ("GET", "", "subscribe"),
    ("GET", "/events", "subscribe"),
    ("GET", "/stats", "subscribe"),
    ("GET", "/events/stream", "subscribe"),
    ("POST", "/events/ticket", "subscribe"),
    ("POST", "/events", "publish"),
    ("PATCH", "", "manage"),
    ("DELETE", "", "manage"),
];

#[test]
fn without_a_credential_and_with_a_bad_one_the_fixed_texts_come() {
    let server = TestServer::start(&[]);
    let map = server.new_map("401");
    for (method, rest, _) in REQUESTS {
        map.anonymous(method, rest).send().expect_error(401, "UNAUTHORIZED", NO_TOKEN);
        let basic = map.anonymous(method, rest).header("Authorization", "Basic dTpw").send();
        basic.expect_error(401, "UNAUTHORIZED", NO_TOKEN);
        map.with_token("st_wrong").request(method, rest).send().expect_error(401, "UNAUTHORIZED", BAD_TOKEN);
    }
}

#[test]
fn what_belongs_to_another_map_does_not_exist() {
    let server = TestServer::start(&[]);
    let (mine, theirs) = (server.new_map("mine"), server.new_map("theirs"));
    let intruder = theirs.with_token(&mine.token);
    for (method, rest, _) in REQUESTS {
        let sentence = format!("Map not found for identifier: {}", theirs.id);
        intruder.request(method, rest).send().expect_error(404, "NOT_FOUND", &sentence);
    }
    let absent = server.admin("GET", "/api/maps/nowhere/events/stream").send();
    absent.expect_error(404, "NOT_FOUND", "Map not found for identifier: nowhere");
}

#[test]
fn a_token_does_what_its_scopes_say_and_nothing_else() {
    let server = TestServer::start(&[]);
    let map = server.new_map("scopes");
    for scope in ["subscribe", "publish", "manage"] {
        let (_, token) = map.new_token(json!({"scopes": [scope]}));
        for (method, rest, needed) in REQUESTS {
            if needed != scope {
                let refused = map.with_token(&token).request(method, rest).json(&json!({})).send().expect(403);
                assert_eq!(refused["code"], "FORBIDDEN", "{scope}: {method} {rest}");
                assert!(refused["error"].as_str().is_some_and(|text| text.contains(needed)), "{refused}");
            }
        }
    }
    let (_, publisher) = map.new_token(json!({"scopes": ["publish"]}));
    map.with_token(&publisher).publish(&json!({"type": "add_system"}));
    let (_, reader) = map.new_token(json!({"scopes": ["subscribe"]}));
    assert_eq!(map.with_token(&reader).history("").len(), 1);
}

#[test]
fn a_token_is_shown_once_listed_without_its_text_and_gone_when_revoked() {
    let server = TestServer::start(&[]);
    let map = server.new_map("tokens");
    let asked = json!({"channel": format!("map:{}", map.id), "scopes": ["subscribe"], "name": "bot",
        "expires_at": "2999-01-01T00:00:00Z"});
    let made = server.request("POST", "/api/v1/tokens").bearer(&map.token).json(&asked).send().expect(201);
    let made = &made["data"];
    for (field, value) in asked.as_object().expect("an object").iter().filter(|(field, _)| *field != "expires_at") {
        assert_eq!(&made[field], value);
    }
    assert_eq!(made["expires_at"], "2999-01-01T00:00:00.000Z");
    let (id, token) = (made["id"].as_str().expect("id"), made["token"].as_str().expect("token"));
    assert!(id.starts_with("tok_"));
    let list = server.request("GET", "/api/v1/tokens").bearer(&map.token).send();
    assert!(list.text().contains(id) && !list.text().contains(token), "{}", list.text());

    let other = server.new_map("other");
    let target = format!("/api/v1/tokens/{id}");
    let foreign = server.request("DELETE", &target).bearer(&other.token).send().expect(404);
    assert_eq!(foreign["error"]["code"], "not_found", "body B below /api/v1/: {foreign}");
    assert_eq!(server.request("DELETE", &target).bearer(token).send().status, 403, "without the scope manage");
    let mut stream = map.with_token(token).stream("");
    assert_eq!(server.request("DELETE", &target).bearer(&map.token).send().status, 204);
    stream.ends_within(ABOUT_A_SECOND);
    map.with_token(token).request("GET", "").send().expect_error(401, "UNAUTHORIZED", BAD_TOKEN);
    assert_eq!(server.request("DELETE", &target).bearer(ADMIN).send().status, 404);
}

#[test]
fn a_token_is_renamed_by_who_manages_its_channel_and_by_nobody_else() {
    let mut server = TestServer::start(&[]);
    let (map, other) = (server.new_map("renamed"), server.new_map("other"));
    let (id, token) = map.new_token(json!({"scopes": ["subscribe"], "name": "bot"}));
    let target = format!("/api/v1/tokens/{id}");
    let send = |server: &TestServer, token: &str, body: &Value| {
        server.request("PATCH", &target).bearer(token).json(body).send()
    };
    let renamed = send(&server, &map.token, &json!({"name": "the bot"})).expect(200);
    assert_eq!(renamed["data"]["name"], "the bot");
    assert!(!renamed.to_string().contains(&token), "its text is not shown");
    assert_eq!(send(&server, &map.token, &json!({})).expect(200)["data"]["name"], "the bot", "nothing was named");
    send(&server, &other.token, &json!({"name": "mine"})).expect(404);
    send(&server, &token, &json!({"name": "me"})).expect(403);
    let long = send(&server, &map.token, &json!({"name": "x".repeat(1000)})).expect(400);
    assert_eq!(long["error"]["details"]["errors"][0]["field"], "name", "{long}");
    map.with_token(&token).request("GET", "").send().expect(200);
    server.restart();
    let kept = server.request("GET", &target).bearer(ADMIN).send().expect(200);
    assert_eq!(kept["data"]["name"], "the bot");
    server.request("GET", &target).bearer(&other.token).send().expect(404);
    let unnamed = send(&server, ADMIN, &json!({"name": null})).expect(200);
    assert_eq!(unnamed["data"]["name"], Value::Null);
    assert_eq!(map.at(&server).with_token(&token).request("GET", "").send().status, 200);
}

#[test]
fn a_token_that_manages_a_channel_need_not_name_it() {
    let server = TestServer::start(&[]);
    let map = server.new_map("own");
    let create = |token: &str| {
        map.with_token(token).of_server("POST", "/api/v1/tokens").json(&json!({"scopes": ["subscribe"]})).send()
    };
    let made = create(&map.token).expect(201);
    assert_eq!(made["data"]["channel"], format!("map:{}", map.id));
    let (_, reader) = map.new_token(json!({"scopes": ["subscribe", "publish"]}));
    assert_eq!(create(&reader).expect(403)["error"]["code"], "forbidden");
    let unnamed = create(ADMIN).expect(400);
    assert_eq!(unnamed["error"]["details"]["errors"][0]["field"], "channel", "{unnamed}");
}

#[test]
fn a_token_stays_valid_over_a_restart_and_a_revoked_one_does_not_come_back() {
    let mut server = TestServer::start(&[]);
    let map = server.new_map("restart");
    let (id, token) = map.new_token(json!({"scopes": ["subscribe"]}));
    assert_eq!(server.admin("DELETE", &format!("/api/v1/tokens/{id}")).send().status, 204);
    server.restart();
    let map = map.at(&server);
    map.request("GET", "").send().expect(200);
    map.with_token(&token).request("GET", "").send().expect(401);
}

#[test]
fn an_expired_token_ends_its_streams_and_opens_nothing_more() {
    let server = TestServer::start(&[]);
    let map = server.new_map("expiry");
    let past =
        json!({"channel": format!("map:{}", map.id), "scopes": ["subscribe"], "expires_at": "2020-01-01T00:00:00Z"});
    assert_eq!(server.admin("POST", "/api/v1/tokens").json(&past).send().status, 400);
    let at = time::OffsetDateTime::from_unix_timestamp(now_s() + 2).expect("a time");
    let at = at.format(&time::format_description::well_known::Rfc3339).expect("a text");
    let (_, token) = map.new_token(json!({"scopes": ["subscribe"], "expires_at": at}));
    let short = map.with_token(&token);
    short.stream("").ends_within(Duration::from_secs(2) + ABOUT_A_SECOND);
    short.request("GET", "").send().expect_error(401, "UNAUTHORIZED", BAD_TOKEN);
}

#[test]
fn a_token_in_the_query_opens_streams_only_and_only_when_allowed() {
    let mut server = TestServer::start(&[]);
    let map = server.new_map("query");
    let query = format!("/events/stream?token={}", map.token);
    drop(Sse::open(map.anonymous("GET", &query)));
    map.anonymous("GET", &format!("/events?token={}", map.token)).send().expect_error(401, "UNAUTHORIZED", NO_TOKEN);
    server.restart_with(&[("auth.allow_query_token", "false"), ("log.level", "trace")]);
    let map = map.at(&server);
    map.anonymous("GET", &query).send().expect_error(401, "UNAUTHORIZED", NO_TOKEN);
    server.stop();
    let leaks = |line: &String| line.contains(&map.token) || line.contains(ADMIN);
    assert_eq!(server.log_lines().into_iter().find(leaks), None, "no token in the log");
}

fn jwt(algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, key).expect("a token")
}

/// A JWT of HS256.
pub fn hs256(secret: &str, claims: &Value) -> String {
    jwt(Algorithm::HS256, &EncodingKey::from_secret(secret.as_bytes()), claims)
}

pub fn install_cryptography() {
    stentor::cli::install_cryptography();
}

#[test]
fn a_jwt_with_hs256_carries_channel_and_scopes() {
    install_cryptography();
    let secret = "0123456789abcdef0123456789abcdef";
    let server = TestServer::start(&[
        ("auth.jwt.key", secret),
        ("auth.jwt.issuer", "https://id.example"),
        ("auth.jwt.audience", "stentor"),
    ]);
    let map = server.new_map("jwt");
    let key = EncodingKey::from_secret(secret.as_bytes());
    let claims = json!({"sub": "bot", "exp": now_s() + 60, "iss": "https://id.example", "aud": "stentor",
        "channel": format!("map:{}", map.id), "scopes": ["subscribe"]});
    let status = |token: &str, method: &str, rest: &str| map.with_token(token).request(method, rest).send().status;
    let good = jwt(Algorithm::HS256, &key, &claims);
    assert_eq!((status(&good, "GET", ""), status(&good, "PATCH", "")), (200, 403));
    for (field, value) in [
        ("exp", json!(now_s() - 5)),
        ("iss", json!("https://other.example")),
        ("aud", json!("other")),
        ("sub", Value::Null),
        ("channel", json!("map:nowhere")),
        ("scopes", json!(["everything"])),
    ] {
        let mut bad = claims.clone();
        bad[field] = value;
        assert_eq!(status(&jwt(Algorithm::HS256, &key, &bad), "GET", ""), 401, "{field}");
    }
    let mut admin = claims.clone();
    admin["channel"] = "*".into();
    assert_eq!(server.request("GET", "/api/maps").bearer(&jwt(Algorithm::HS256, &key, &admin)).send().status, 200);
    let forged = jwt(Algorithm::HS256, &EncodingKey::from_secret(b"another secret of thirty-two byte"), &claims);
    let other_algorithm = jwt(Algorithm::HS512, &key, &claims);
    let unsigned = format!("eyJhbGciOiJub25lIn0.{}.", good.split('.').nth(1).expect("claims"));
    for bad in [forged, other_algorithm, unsigned, format!("{good}x"), "a.b.c".into()] {
        assert_eq!(status(&bad, "GET", ""), 401, "{bad}");
    }
    let mut short = claims;
    short["exp"] = json!(now_s() + 2);
    let short: Map = map.with_token(&jwt(Algorithm::HS256, &key, &short));
    short.stream("").ends_within(Duration::from_secs(2) + ABOUT_A_SECOND);
}

/// Made for this test and of no other use.
const ED25519_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIIh26hIjTDxAvburnKUZEVuT0smja01gafKSK0WWEUOI
-----END PRIVATE KEY-----
";
const ED25519_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAkdF0cblPq+wLp9prX2mv9qXO/ETHPOJ3ve8NQxSmg78=
-----END PUBLIC KEY-----
";

#[test]
fn a_jwt_with_eddsa_is_verified_by_the_public_key_and_by_nothing_else() {
    install_cryptography();
    let server = TestServer::start(&[("auth.jwt.algorithm", "EdDSA"), ("auth.jwt.key", ED25519_PUBLIC)]);
    let map = server.new_map("jwt");
    let key = EncodingKey::from_ed_pem(ED25519_PRIVATE.as_bytes()).expect("a key");
    let claims =
        json!({"sub": "bot", "exp": now_s() + 60, "channel": format!("map:{}", map.id), "scopes": ["subscribe"]});
    drop(map.with_token(&jwt(Algorithm::EdDSA, &key, &claims)).stream(""));
    // the public key is known to everyone and must not pass as a shared secret
    let confused = jwt(Algorithm::HS256, &EncodingKey::from_secret(ED25519_PUBLIC.as_bytes()), &claims);
    assert_eq!(map.with_token(&confused).request("GET", "").send().status, 401);
}
