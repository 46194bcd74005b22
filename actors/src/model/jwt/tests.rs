use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const NOW_MS: i64 = 1_700_000_000_500;
const NOW_S: f64 = 1_700_000_000.5;

#[derive(Debug, Deserialize)]
struct Subject {
    sub: String,
}

fn rules(audience: Option<&str>) -> JwtRules {
    JwtRules { algorithm: JwtAlgorithm::Hs256, issuer: None, audience: audience.map(str::to_owned) }
}

fn signed(secret: &str, kid: Option<&str>, claims: &Value) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::HS256) };
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret.as_bytes())).expect("a token")
}

fn judged(audience: Option<&str>, token: &str) -> Result<Verified<Subject>, Refused> {
    let key = Key::new(JwtAlgorithm::Hs256, SECRET).expect("a key");
    Judge::new(&rules(audience)).verify(token, &[key], NOW_MS)
}

#[test]
fn times_may_have_a_fraction_and_an_issuers_clock_may_be_a_minute_ahead() {
    for (claims, result) in [
        (json!({"exp": NOW_S + 0.25}), Ok(NOW_MS + 250)),
        (json!({"exp": NOW_S}), Err(Refused::Time)),
        (json!({"exp": NOW_S - 0.25}), Err(Refused::Time)),
        (json!({"exp": 1_700_000_001}), Ok(1_700_000_001_000)),
        (json!({"exp": 1e300}), Ok(i64::MAX)),
        (json!({"exp": -1}), Err(Refused::Time)),
        (json!({"exp": "1700000001"}), Err(Refused::Token)),
        (json!({"exp": null}), Err(Refused::Token)),
        (json!({}), Err(Refused::Token)),
        (json!({"exp": NOW_S + 9.5, "nbf": NOW_S + 60.0}), Ok(1_700_000_010_000)),
        (json!({"exp": NOW_S + 999.0, "nbf": NOW_S + 60.5}), Err(Refused::Time)),
        (json!({"exp": NOW_S + 9.5, "nbf": null, "iat": NOW_S - 1e6}), Ok(1_700_000_010_000)),
        (json!({"exp": NOW_S + 9.5, "iat": NOW_S + 60.0}), Ok(1_700_000_010_000)),
        (json!({"exp": NOW_S + 999.0, "iat": NOW_S + 61.0}), Err(Refused::Time)),
        (json!({"exp": NOW_S + 999.0, "nbf": "soon"}), Err(Refused::Token)),
        (json!({"exp": NOW_S + 999.0, "iat": []}), Err(Refused::Token)),
    ] {
        let mut all = claims.clone();
        all["sub"] = "bot".into();
        let expires = judged(None, &signed(SECRET, None, &all)).map(|verified| {
            assert_eq!(verified.claims.sub, "bot");
            verified.expires_ms
        });
        assert_eq!(expires, result, "{claims}");
    }
}

#[test]
fn an_audience_is_a_text_or_a_list_required_where_it_is_configured_and_refused_where_none_is() {
    for (audience, counts) in [
        (json!("stentor"), true),
        (json!(["other", "stentor"]), true),
        (json!("other"), false),
        (json!(["other"]), false),
        (json!([]), false),
        (json!(7), false),
        (Value::Null, false),
    ] {
        let token = signed(SECRET, None, &json!({"sub": "bot", "exp": NOW_S + 9.0, "aud": audience}));
        assert_eq!(judged(Some("stentor"), &token).is_ok(), counts, "{audience}");
        let without = judged(None, &token).map(|_| ());
        let result = if audience.is_null() { Ok(()) } else { Err(Refused::Audience) };
        assert_eq!(without, result, "{audience}");
    }
    assert!(judged(Some("stentor"), &signed(SECRET, None, &json!({"sub": "bot", "exp": NOW_S + 9.0}))).is_err());
}

#[test]
fn what_a_token_calls_critical_is_not_understood() {
    let claims = json!({"sub": "bot", "exp": NOW_S + 9.0});
    for critical in [vec!["exp".to_owned()], vec!["b64".to_owned(), "x".to_owned()], Vec::new()] {
        let header = Header { crit: Some(critical), ..Header::new(Algorithm::HS256) };
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let token = jsonwebtoken::encode(&header, &claims, &key).expect("a token");
        assert_eq!(judged(None, &token).map(|_| ()), Err(Refused::Token), "{header:?}");
    }
}

/// `{"kty": "oct"}` of a secret.
fn octets(kid: &str, secret: &str) -> Value {
    use base64::Engine;
    let value = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(secret);
    json!({"kty": "oct", "kid": kid, "k": value})
}

#[test]
fn the_key_is_the_one_that_the_token_names() {
    let other = "another secret of thirty-two byte";
    let mut unnamed = octets("", "a third secret of thirty-two bytes");
    unnamed.as_object_mut().expect("a key").remove("kid");
    let text = json!({"keys": [octets("a", SECRET), octets("b", other), unnamed]}).to_string();
    let set = KeySet::read(&text, JwtAlgorithm::Hs256).expect("a set");
    assert_eq!((set.keys.len(), set.skipped.len()), (3, 0));
    let claims = json!({"sub": "bot", "exp": NOW_S + 9.0});
    let judge = Judge::new(&rules(None));
    let counts = |token: &str| judge.verify::<Subject>(token, &set.keys, NOW_MS).is_ok();
    assert!(counts(&signed(SECRET, Some("a"), &claims)) && counts(&signed(other, Some("b"), &claims)));
    assert!(!counts(&signed(SECRET, Some("b"), &claims)) && !counts(&signed(other, Some("c"), &claims)));
    assert!(counts(&signed(other, None, &claims)), "a token that names none may be of any key");
    assert!(counts(&signed("a third secret of thirty-two bytes", Some("c"), &claims)));
}

#[test]
fn keys_of_a_set_that_cannot_be_used_are_skipped_with_a_reason_that_shows_no_key() {
    let short = octets("short", "0123456789abcdef");
    let text = json!({"keys": [
        {"kty": "AKP", "kid": "pq", "alg": "ML-DSA-44", "pub": "AAAA"},
        {"kty": "OKP", "kid": "x", "crv": "X25519", "x": "AAAA"},
        {"kty": "RSA", "kid": "enc", "use": "enc", "n": "AQAB", "e": "AQAB"},
        {"kty": "RSA", "kid": "rsa", "n": "AQAB", "e": "AQAB"},
        {"kty": "oct", "kid": "broken", "k": "not base64!"},
        {"kty": "oct", "kid": "none"},
        {"kty": "oct", "kid": "wrapping", "k": "AAAA", "key_ops": ["wrapKey"]},
        {"kty": "oct", "kid": "alg", "alg": "HS512", "k": "AAAA"},
        short,
        "text", 7, null, {},
        octets("good", SECRET),
    ]})
    .to_string();
    let set = KeySet::read(&text, JwtAlgorithm::Hs256).expect("a set");
    assert_eq!((set.keys.len(), set.skipped.len()), (1, 13), "{:?}", set.skipped);
    let lines: Vec<String> = set.skipped.iter().map(Skipped::to_string).collect();
    assert!(lines[0].starts_with("key 1 of the set (kid \"pq\") is not used: "), "{}", lines[0]);
    assert!(lines.iter().all(|line| !line.contains("not base64!") && !line.contains('\n')), "{lines:?}");
    for text in ["", "[]", "{}", "{\"keys\":{}}"] {
        assert!(KeySet::read(text, JwtAlgorithm::Hs256).is_err(), "{text}");
    }
}

#[test]
fn a_set_has_as_many_keys_as_a_token_may_be_tried_with() {
    let keys: Vec<_> = (0..100).map(|n| octets(&n.to_string(), SECRET)).collect();
    let set = KeySet::read(&json!({ "keys": keys }).to_string(), JwtAlgorithm::Hs256).expect("a set");
    assert_eq!((set.keys.len(), set.skipped.len()), (64, 36));
}

#[test]
fn public_keys_of_a_set_verify_what_their_algorithm_signs() {
    // RFC 8037, A.2
    let ed25519 = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    // RFC 7515, A.3
    let p256 = json!({"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
    let mut named = ed25519.clone();
    named["alg"] = "Ed25519".into();
    let text = json!({"keys": [ed25519, p256, named]}).to_string();
    let found = |algorithm| KeySet::read(&text, algorithm).expect("a set").keys.len();
    assert_eq!((found(JwtAlgorithm::EdDsa), found(JwtAlgorithm::Es256), found(JwtAlgorithm::Rs256)), (2, 1, 0));
}
