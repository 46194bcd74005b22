//! Vectors of other implementations: what each provider publishes, RFC 7515 (A.2, A.3), the key of RFC 8037 (A), and texts
//! signed by Python's `hmac` and `cryptography`.

use super::*;
use crate::model::source::sign_hmac;
use proptest::prelude::*;

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn preset(name: &str) -> Authentication {
    Authentication::from_name(name).expect("a preset")
}

fn verifier(authentication: Authentication, key: &str) -> Verifier {
    let scheme = Scheme::of(authentication);
    Verifier::new(scheme, Some(key), None).expect("a key")
}

fn check(verifier: &Verifier, headers: Pairs<'_>, body: &str, now_ms: i64) -> Result<Proof, Untrusted> {
    verifier.verify(&Incoming::of(&headers, body.as_bytes()), now_ms)
}

const KEY: &str = "your-secret-key";
const BODY: &str = r#"{"event_type":"purchase","user_id":"user_123"}"#;
const AT: &str = "1705314600000";
const AT_MS: i64 = 1_705_314_600_000;
const HEX: &str = "b4a2cc4b1c1ec71c8b5765c9f8bc8774f37e27525a89edc16d2989998b95b74f";

fn signed<'a>(at: &'a str, signature: &'a str) -> [(&'a str, &'a str); 2] {
    [("X-Webhook-Timestamp", at), ("X-Webhook-Signature", signature)]
}

#[test]
fn the_generic_scheme_takes_what_the_snippet_of_its_document_signs() {
    let signature = format!("sha256={HEX}");
    assert_eq!(sign_hmac(HmacAlgorithm::Sha256, KEY, AT, BODY.as_bytes()), signature);
    let hmac = verifier(Authentication::Hmac, KEY);
    for now in [AT_MS, AT_MS - 300_000, AT_MS + 300_000] {
        assert_eq!(check(&hmac, &signed(AT, &signature), BODY, now).map(|p| p.signature), Ok(Some(HEX.into())));
    }
    let upper = format!("sha256={}", HEX.to_uppercase());
    assert_eq!(check(&hmac, &signed(AT, &upper), BODY, AT_MS).map(|p| p.signature), Ok(Some(HEX.into())));
}

#[test]
fn sha512_is_taken_where_the_source_says_so_and_nowhere_else() {
    const HEX_512: &str = "93f077764bb6f047ac94419e149f9731e396c5318fec135ddcb3d2b565ebe80fde31d49f96c84235c67690bba267acb62d7d1f6a05a46face826649e3146fba6";
    let scheme = Scheme { hmac_algorithm: HmacAlgorithm::Sha512, ..Scheme::of(Authentication::Hmac) };
    let longer = Verifier::new(scheme, Some(KEY), None).expect("a key");
    let signature = format!("sha512={HEX_512}");
    assert!(check(&longer, &signed(AT, &signature), BODY, AT_MS).is_ok());
    assert!(check(&longer, &signed(AT, &format!("sha256={HEX}")), BODY, AT_MS).is_err());
    assert!(check(&verifier(Authentication::Hmac, KEY), &signed(AT, &signature), BODY, AT_MS).is_err());
}

#[test]
fn a_request_that_is_not_signed_as_it_has_to_be_is_not_believed() {
    let hmac = verifier(Authentication::Hmac, KEY);
    let good = format!("sha256={HEX}");
    let malformed = || Untrusted::Malformed("X-Webhook-Signature".into());
    for (at, signature, refusal) in [
        (AT, HEX, malformed()),
        (AT, "", malformed()),
        (AT, "sha256=", Untrusted::Mismatch),
        (AT, &format!("sha1={}", &HEX[..40]), malformed()),
        (AT, &format!("SHA256={HEX}"), malformed()),
        (AT, &format!("sha256={}", &HEX[..62]), Untrusted::Mismatch),
        (AT, &format!("sha256={}", &HEX[..63]), malformed()),
        (AT, &format!("sha256={HEX}00"), Untrusted::Mismatch),
        (AT, &format!("sha256= {HEX}"), malformed()),
        (AT, &format!("sha256={}", "é".repeat(32)), malformed()),
        (AT, &sign_hmac(HmacAlgorithm::Sha256, "another key", AT, BODY.as_bytes()), Untrusted::Mismatch),
        ("1705314600001", &good, Untrusted::Mismatch),
        // seconds are not milliseconds
        ("1705314600", &good, Untrusted::Stale),
        ("+1705314600000", &good, Untrusted::Malformed("X-Webhook-Timestamp".into())),
        ("1.7053146e12", &good, Untrusted::Malformed("X-Webhook-Timestamp".into())),
        ("99999999999999999999", &good, Untrusted::Malformed("X-Webhook-Timestamp".into())),
        ("", &good, Untrusted::Malformed("X-Webhook-Timestamp".into())),
    ] {
        assert_eq!(check(&hmac, &signed(at, signature), BODY, AT_MS), Err(refusal), "{at} {signature}");
    }
    for now in [AT_MS - 300_001, AT_MS + 300_001] {
        assert_eq!(check(&hmac, &signed(AT, &good), BODY, now), Err(Untrusted::Stale));
    }
    for body in ["", "{}", r#"{"event_type": "purchase", "user_id": "user_123"}"#, &BODY[..BODY.len() - 1]] {
        assert_eq!(check(&hmac, &signed(AT, &good), body, AT_MS), Err(Untrusted::Mismatch), "{body}");
    }
    let [at, signature] = signed(AT, &good);
    assert_eq!(check(&hmac, &[at], BODY, AT_MS), Err(Untrusted::Missing("X-Webhook-Signature".into())));
    assert_eq!(check(&hmac, &[signature], BODY, AT_MS), Err(Untrusted::Missing("X-Webhook-Timestamp".into())));
    // which of two signatures would count must not matter
    assert_eq!(
        check(&hmac, &[at, signature, signature], BODY, AT_MS),
        Err(Untrusted::Missing("X-Webhook-Signature".into()))
    );
}

#[test]
fn the_key_before_a_rotation_counts_until_its_time_is_over() {
    let scheme = Scheme::of(Authentication::ApiKey);
    let verifier = Verifier::new(scheme, Some("new"), Some(("old", 100))).expect("keys");
    let with = |key, now| check(&verifier, &[("x-api-key", key)], "", now).is_ok();
    assert!(with("new", 0) && with("new", 100) && with("old", 99));
    assert!(!with("old", 100) && !with("older", 0));
}

#[test]
fn an_api_key_is_the_whole_key() {
    let verifier = verifier(Authentication::ApiKey, "your-api-key");
    assert!(check(&verifier, &[("X-API-Key", "your-api-key")], "", 0).is_ok());
    for wrong in ["", "your-api-ke", "your-api-key ", "Your-api-key", "your-api-key,your-api-key"] {
        assert_eq!(check(&verifier, &[("X-API-Key", wrong)], "", 0), Err(Untrusted::ApiKey), "{wrong}");
    }
    assert_eq!(check(&verifier, &[], "", 0), Err(Untrusted::Missing("X-API-Key".into())));
}

#[test]
fn github_as_its_documentation_shows_it() {
    let github = verifier(preset("github"), "It's a Secret to Everybody");
    let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let headers = [("X-Hub-Signature-256", signature)];
    assert!(check(&github, &headers, "Hello, World!", 0).is_ok());
    assert_eq!(check(&github, &headers, "Hello, World", 0), Err(Untrusted::Mismatch));
    // the older header with SHA-1 proves nothing
    let old = [("X-Hub-Signature", "sha1=0000000000000000000000000000000000000000")];
    assert_eq!(check(&github, &old, "Hello, World!", 0), Err(Untrusted::Missing("X-Hub-Signature-256".into())));
}

#[test]
fn slack_as_its_documentation_shows_it() {
    const BODY: &str = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V\
        &channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=\
        &response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN\
        &trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    let slack = verifier(preset("slack"), "8f742231b10e8888abcd99yyyzzz85a5");
    let signature = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
    let headers = [("X-Slack-Request-Timestamp", "1531420618"), ("X-Slack-Signature", signature)];
    let now = 1_531_420_618_000;
    assert!(check(&slack, &headers, BODY, now + 300_000).is_ok());
    assert_eq!(check(&slack, &headers, BODY, now + 300_001), Err(Untrusted::Stale));
    assert_eq!(check(&slack, &headers, &BODY[1..], now), Err(Untrusted::Mismatch));
    let bare = [headers[0], ("X-Slack-Signature", &signature[3..])];
    assert_eq!(check(&slack, &bare, BODY, now), Err(Untrusted::Malformed("X-Slack-Signature".into())));
}

#[test]
fn standard_webhooks_as_its_libraries_test_it_under_both_names() {
    let standard = verifier(preset("standard"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let (body, now) = (r#"{"test": 2432232314}"#, 1_614_265_330_000);
    for names in
        [["webhook-id", "webhook-timestamp", "webhook-signature"], ["svix-id", "svix-timestamp", "svix-signature"]]
    {
        let values =
            ["msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", "v1,AAAA v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="];
        let headers = [0, 1, 2].map(|n| (names[n], values[n]));
        assert!(check(&standard, &headers, body, now).is_ok());
        assert_eq!(check(&standard, &headers, body, now + 301_000), Err(Untrusted::Stale));
        assert_eq!(check(&standard, &headers, "{}", now), Err(Untrusted::Mismatch));
        let other_id = [(names[0], "msg_other"), headers[1], headers[2]];
        assert_eq!(check(&standard, &other_id, body, now), Err(Untrusted::Mismatch));
        let plain = [headers[0], headers[1], (names[2], "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")];
        assert_eq!(check(&standard, &plain, body, now), Err(Untrusted::Malformed(names[2].into())));
    }
}

#[test]
fn stripe_with_one_signature_for_each_secret() {
    let stripe = verifier(preset("stripe"), "whsec_test_secret");
    let (body, now) = (r#"{"id":"evt_1","object":"event","type":"charge.succeeded"}"#, 1_492_774_577_000);
    let hex = "91110bb4292e56d95b06660f55b3f65c0157840684729f1271e6da44c1ed57eb";
    let with = |header: &str, now| check(&stripe, &[("Stripe-Signature", header)], body, now);
    let other = "0".repeat(64);
    assert!(with(&format!("t=1492774577,v1={hex}"), now + 300_000).is_ok());
    assert!(with(&format!("t=1492774577,v1={other},v1={hex},v0={other}"), now).is_ok());
    assert_eq!(with(&format!("t=1492774577,v1={hex}"), now + 300_001), Err(Untrusted::Stale));
    assert_eq!(with(&format!("t=1492774577,v1={other}"), now), Err(Untrusted::Mismatch));
    let malformed = || Err(Untrusted::Malformed("Stripe-Signature".into()));
    // v0 is only there for tests of Stripe's own
    for header in [
        &format!("t=1492774577,v0={hex}"),
        &format!("v1={hex}"),
        &format!("t=1492774577,t=1492774578,v1={hex}"),
        hex,
        "",
    ] {
        assert_eq!(with(header, now), malformed(), "{header}");
    }
}

const RS256_PEM: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAofgWCuLjybRlzo0tZWJj
NiuSfb4p4fAkd/wWJcyQoTbji9k0l8W26mPddxHmfHQp+Vaw+4qPCJrcS2mJPMEz
P1Pt0Bm4d4QlL+yRT+SFd2lZS+pCgNMsD1W/YpRPEwOWvG6b32690r2jZ47soMZo
9wGzjb/7OMg0LOL+bSf63kpaSHSXndS5z5rexMdbBYUsLA9e+KXBdQOS+UTo7WTB
EMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6/I5IhlJH7aGhyxX
FvUK+DWNmoudF8NAco9/h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXp
oQIDAQAB
-----END PUBLIC KEY-----
";
const RS256: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
const ES256_PEM: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV7
6e8Tus9uPHvRVEXH8UTNG72bfocs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==
-----END PUBLIC KEY-----
";
const ES256: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
const EDDSA_PEM: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
-----END PUBLIC KEY-----
";
const EDDSA: &str = "eyJhbGciOiJFZERTQSJ9.eyJpc3MiOiJqb2UiLCJleHAiOjEzMDA4MTkzODB9.QJzJecKs27DYlOI8iOIpZ_lPlRkanJJe0StuTJhUjPpobhtnPThTlvGHvXUdOeaPneTDsJPj3RI_aCGkC_4tCg";
const SHARED: &str = "a-shared-key";
/// For the audience `stentor`.
const HS256: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJqb2UiLCJhdWQiOiJzdGVudG9yIiwiZXhwIjoxMzAwODE5MzgwfQ.Gc5ueztMZVTirEHxP5cFL92-V7hPV3g8nlfHpumnyyE";
/// For the audiences `x` and `stentor`.
const HS256_TWO: &str = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLCJhdWQiOlsieCIsInN0ZW50b3IiXSwiZXhwIjoxMzAwODE5MzgwfQ.lDexpwaGOiW1ap5HIVn3KKXJH_pjZQgnq0_OyWqeWfY";
/// Signed by the public key of RS256 as if that were a shared one.
const CONFUSED: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJqb2UiLCJleHAiOjEzMDA4MTkzODB9.i3n0vFZ-BREGPwI9nrESHRb5aA8mZmHYxTu3rzhwqmY";
const UNSIGNED: &str = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJqb2UiLCJleHAiOjEzMDA4MTkzODB9.";
const WITHOUT_EXPIRY: &str = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UifQ.sV0Qy9nwr_KWkAHsBkVaOEhh54IREwqsGh8SP0jr4Wk";
const EXPIRY_AS_TEXT: &str =
    "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLCJleHAiOiIxMzAwODE5MzgwIn0.zHlgwaz1cm0F8TLCPdY0fo6VqTEUAjWt7nD0R_deKe8";
const CRITICAL: &str = "eyJhbGciOiJIUzI1NiIsImNyaXQiOlsiYjY0Il0sImI2NCI6ZmFsc2V9.eyJleHAiOjEzMDA4MTkzODB9.mVNPC4b9zf3ZMUiLOIjMCUTcIuJ5_i2FMVpBy-g8hRk";
/// Valid from 1300819000 on.
const NOT_BEFORE: &str =
    "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjEzMDA4MTkzODAsIm5iZiI6MTMwMDgxOTAwMH0.cbq6iqz_9Hpt0rgC7Iox2lAOZx4ArDa-qVYK2dnHVDg";
const HS384: &str =
    "eyJhbGciOiJIUzM4NCJ9.eyJleHAiOjEzMDA4MTkzODB9.L86DsEsAV2VexZYJ5KNM4Gkm0FAB6mrujb8QsIZPgqy3skkyoSZ4veNTXmX_CiP9";
/// A second before the tokens above expire.
const IN_TIME_MS: i64 = 1_300_819_379_000;

fn jwt(algorithm: JwtAlgorithm, key: &str, issuer: Option<&str>, audience: Option<&str>) -> Verifier {
    let rules = JwtRules { algorithm, issuer: issuer.map(str::to_owned), audience: audience.map(str::to_owned) };
    let scheme = Scheme { jwt: Some(rules), ..Scheme::of(Authentication::Jwt) };
    Verifier::new(scheme, Some(key), None).expect("a key")
}

fn bearing(verifier: &Verifier, token: &str, now_ms: i64) -> Result<(), Untrusted> {
    check(verifier, &[("Authorization", &format!("Bearer {token}"))], BODY, now_ms).map(|_| ())
}

#[test]
fn a_token_of_each_algorithm_is_believed_until_it_expires() {
    for (algorithm, key, token, audience) in [
        (JwtAlgorithm::Rs256, RS256_PEM, RS256, None),
        (JwtAlgorithm::Es256, ES256_PEM, ES256, None),
        (JwtAlgorithm::EdDsa, EDDSA_PEM, EDDSA, None),
        (JwtAlgorithm::Hs256, SHARED, HS256, Some("stentor")),
    ] {
        let verifier = jwt(algorithm, key, Some("joe"), audience);
        assert_eq!(bearing(&verifier, token, IN_TIME_MS), Ok(()), "{algorithm:?}");
        assert_eq!(bearing(&verifier, token, IN_TIME_MS + 1_000), Err(Untrusted::Expired), "{algorithm:?}");
        let other = jwt(algorithm, key, Some("jane"), audience);
        assert_eq!(bearing(&other, token, IN_TIME_MS), Err(Untrusted::Token), "{algorithm:?}");
    }
}

#[test]
fn a_token_cannot_choose_its_algorithm() {
    for token in [CONFUSED, UNSIGNED, HS256, ES256, EDDSA] {
        let verifier = jwt(JwtAlgorithm::Rs256, RS256_PEM, None, None);
        assert_eq!(bearing(&verifier, token, IN_TIME_MS), Err(Untrusted::Token), "{token}");
    }
    for token in [UNSIGNED, HS384, RS256] {
        let verifier = jwt(JwtAlgorithm::Hs256, SHARED, None, None);
        assert_eq!(bearing(&verifier, token, IN_TIME_MS), Err(Untrusted::Token), "{token}");
    }
}

#[test]
fn a_token_has_to_say_when_it_expires_and_whom_it_is_for() {
    let any = jwt(JwtAlgorithm::Hs256, SHARED, None, None);
    for token in [WITHOUT_EXPIRY, EXPIRY_AS_TEXT, CRITICAL, "", "a.b.c", "...", &HS256[..HS256.len() - 4]] {
        assert_eq!(bearing(&any, token, IN_TIME_MS), Err(Untrusted::Token), "{token}");
    }
    assert_eq!(bearing(&any, NOT_BEFORE, IN_TIME_MS), Ok(()));
    // the clock of whoever signed it may be a minute ahead
    assert_eq!(bearing(&any, NOT_BEFORE, 1_300_818_940_000), Ok(()));
    assert_eq!(bearing(&any, NOT_BEFORE, 1_300_818_939_999), Err(Untrusted::Expired));
    let ours = jwt(JwtAlgorithm::Hs256, SHARED, None, Some("stentor"));
    assert_eq!(bearing(&ours, HS256, IN_TIME_MS), Ok(()));
    assert_eq!(bearing(&ours, HS256_TWO, IN_TIME_MS), Ok(()));
    assert_eq!(bearing(&ours, NOT_BEFORE, IN_TIME_MS), Err(Untrusted::Token));
    let theirs = jwt(JwtAlgorithm::Hs256, SHARED, None, Some("another"));
    assert_eq!(bearing(&theirs, HS256, IN_TIME_MS), Err(Untrusted::Token));
    // it is meant for somebody, and nothing says that this is us (RFC 7519, 4.1.3)
    assert_eq!(bearing(&any, HS256, IN_TIME_MS), Err(Untrusted::Token));
    for header in ["", "Bearer", "Basic abc", HS256] {
        let refusal = check(&any, &[("Authorization", header)], BODY, IN_TIME_MS);
        assert_eq!(refusal, Err(Untrusted::Malformed("Authorization".into())), "{header}");
    }
}

#[test]
fn a_key_fits_its_scheme_or_is_refused() {
    let scheme = |authentication| Scheme::of(authentication);
    for (authentication, key, refusal) in [
        (Authentication::None, "x", BadKey::NoKey),
        (Authentication::Hmac, "", BadKey::Length),
        (preset("github"), &"x".repeat(513), BadKey::Length),
        (Authentication::ApiKey, "", BadKey::Header),
        (Authentication::ApiKey, "a b", BadKey::Header),
        (Authentication::ApiKey, "ä", BadKey::Header),
        (preset("standard"), "whsec_AAAA", BadKey::Standard),
        (Authentication::Jwt, "x", BadKey::Jwt),
    ] {
        assert_eq!(scheme(authentication).check_key(key), Err(refusal), "{authentication:?} {key}");
    }
    for authentication in [Authentication::ApiKey, Authentication::Hmac, preset("stripe"), Authentication::Jwt] {
        assert!(Verifier::new(scheme(authentication), None, None).is_err(), "{authentication:?} without a key");
    }
    let rules = |algorithm| JwtRules { algorithm, issuer: None, audience: None };
    for (algorithm, key) in [
        (JwtAlgorithm::Hs256, ""),
        (JwtAlgorithm::Rs256, "a-shared-key"),
        (JwtAlgorithm::Es256, RS256_PEM),
        (JwtAlgorithm::EdDsa, ES256_PEM),
    ] {
        let scheme = Scheme { jwt: Some(rules(algorithm)), ..scheme(Authentication::Jwt) };
        assert_eq!(scheme.check_key(key), Err(BadKey::Jwt), "{algorithm:?}");
    }
}

#[test]
fn a_key_that_is_made_fits_its_scheme() {
    let all = Authentication::names().into_iter().filter_map(Authentication::from_name);
    for authentication in all {
        let rules = JwtRules { algorithm: JwtAlgorithm::Hs256, issuer: None, audience: None };
        let jwt = (authentication == Authentication::Jwt).then_some(rules);
        let scheme = Scheme { jwt, ..Scheme::of(authentication) };
        match scheme.make_key([7; 32]) {
            Some(key) => assert_eq!(scheme.check_key(&key), Ok(()), "{authentication:?}"),
            None => {
                assert!(matches!(authentication, Authentication::None | Authentication::Preset(_)))
            }
        }
    }
}

proptest! {
    #[test]
    fn only_the_very_bytes_that_were_signed_are_believed(
        key in "[ -~]{1,40}", body in proptest::collection::vec(any::<u8>(), 0..80), flip in any::<prop::sample::Index>(),
    ) {
        let hmac = verifier(Authentication::Hmac, &key);
        let signature = sign_hmac(HmacAlgorithm::Sha256, &key, AT, &body);
        let headers: Pairs<'_> = &signed(AT, &signature);
        prop_assert!(hmac.verify(&Incoming::of(&headers, &body), AT_MS).is_ok());
        let mut other = body.clone();
        match other.is_empty() {
            true => other.push(0),
            false => other[flip.index(body.len())] ^= 1,
        }
        prop_assert_eq!(hmac.verify(&Incoming::of(&headers, &other), AT_MS), Err(Untrusted::Mismatch));
    }

    #[test]
    fn no_header_makes_a_check_do_anything_but_say_no(a: String, b: String, c: String) {
        for name in Authentication::names() {
            let authentication = preset(name);
            let key = match name {
                "none" | "jwt" => continue,
                "standard" => "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                "discord" => "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
                "sendgrid" => ES256_PEM,
                _ => KEY,
            };
            let headers: Pairs<'_> = &[
                ("x-webhook-timestamp", &a), ("x-webhook-signature", &b), ("x-hub-signature-256", &b), ("x-api-key", &b),
                ("x-slack-request-timestamp", &a), ("x-slack-signature", &b), ("stripe-signature", &c),
                ("webhook-id", &c), ("webhook-timestamp", &a), ("webhook-signature", &b),
            ];
            let verdict = verifier(authentication, key).verify(&Incoming::of(&headers, b"{}"), 0);
            prop_assert!(verdict.is_err());
        }
        prop_assert!(bearing(&jwt(JwtAlgorithm::Hs256, SHARED, None, None), &a, IN_TIME_MS).is_err());
    }
}
