use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn keeping(rules: &RawRules) -> Keeping<'_> {
    Keeping { rules, secret_headers: &[], secret_parameters: &[], secret_fields: &[] }
}

fn kept(keeping: &Keeping<'_>, headers: Pairs<'_>, path: &str, query: &str, body: &[u8]) -> Value {
    let request = Incoming { method: "PUT", url: "", headers: &headers, body };
    let payload = keeping.payload(&request, path, query).expect("a request that is kept");
    // what is stored is what JavaScript would make of it
    assert_eq!(Canonical::parse(payload.as_str()).expect("JSON"), payload);
    serde_json::from_str(payload.as_str()).expect("JSON")
}

#[test]
fn a_request_is_kept_as_it_came() {
    let rules = RawRules::default();
    let headers = [("x-b", "2"), ("x-a", "1"), ("x-b", "3 \u{fc}")];
    let payload = kept(&keeping(&rules), &headers, "/a%2Fb//c", "x=%20&y&x=2", "{ \"a\": 1.0 }".as_bytes());
    let expected = json!({
        "method": "PUT", "path": "/a%2Fb//c", "query": "x=%20&y&x=2", "headers": [["x-b", "2"], ["x-a", "1"], ["x-b", "3 \u{fc}"]],
        "body": "{ \"a\": 1.0 }", "body_encoding": "utf8",
    });
    assert_eq!(payload, expected);
    assert_eq!(kept(&keeping(&rules), &[], "", "", b"")["body"], "");
}

#[test]
fn credentials_are_never_kept_unless_the_source_lists_them() {
    let headers = [
        ("Authorization", "a"),
        ("Proxy-Authorization", "b"),
        ("Cookie", "c"),
        ("X-API-Key", "d"),
        ("X-Token", "e"),
        ("X-Other", "f"),
        ("X-Mine", "g"),
    ];
    let rules = RawRules { redact: vec!["x-other".into()], redact_query: vec!["sig".into()], ..RawRules::default() };
    let secret = Keeping {
        rules: &rules,
        secret_headers: &["x-token".into()],
        secret_parameters: &["code".into()],
        secret_fields: &["/state", "/list/*/state"],
    };
    let body = br#" {"state":"s","list":[{"state":"s","n":1}]}"#;
    let payload = kept(&secret, &headers, "", "a=1&token=t&sig=x&code=c&%74oken=t&ticket=k&b", body);
    assert_eq!((&payload["headers"], &payload["query"]), (&json!([["X-Mine", "g"]]), &json!("a=1&b")));
    assert_eq!(payload["body"], r#" {"state":"[removed]","list":[{"state":"[removed]","n":1}]}"#);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(kept(&secret, &form, "", "", b"a=1&state=s&b=2")["body"], "a=1&b=2");
    let rules = RawRules {
        keep: vec!["authorization".into(), "X-Token".into(), "token".into(), "/state".into()],
        ..rules.clone()
    };
    let payload = kept(&Keeping { rules: &rules, ..secret }, &headers, "", "token=t&ticket=k", br#"{"state":"s"}"#);
    assert_eq!(payload["headers"], json!([["Authorization", "a"], ["X-Token", "e"], ["X-Mine", "g"]]));
    assert_eq!((&payload["query"], &payload["body"]), (&json!("token=t"), &json!(r#"{"state":"s"}"#)));
}

#[test]
fn what_is_redacted_is_not_kept_although_it_is_listed() {
    let rules = RawRules { keep: vec!["cookie".into()], redact: vec!["Cookie".into()], ..RawRules::default() };
    assert_eq!(kept(&keeping(&rules), &[("cookie", "c")], "", "", b"")["headers"], json!([]));
}

#[test]
fn a_request_that_is_too_large_is_not_kept() {
    let rules = RawRules::default();
    let of = |headers: Pairs<'_>, path: &str, body: &[u8]| {
        keeping(&rules).payload(&Incoming { method: "POST", url: "", headers: &headers, body }, path, "").map(|_| ())
    };
    let long = "x".repeat(RAW_HEADERS_BYTES_MAX + 1);
    assert_eq!(of(&[], "", &vec![0xff; RAW_BODY_BYTES_MAX]), Ok(()));
    assert_eq!(of(&[], "", &vec![0xff; RAW_BODY_BYTES_MAX + 1]), Err(TooMuch::Body));
    assert_eq!(of(&[], &long[..RAW_TARGET_BYTES_MAX + 1], b""), Err(TooMuch::Target));
    assert_eq!(of(&[("a", &long)], "", b""), Err(TooMuch::Headers));
    assert_eq!(of(&[("cookie", &long)], "", b""), Ok(()), "what is not kept does not count");
    // however many escapes a text would need, the event stays within what base64 makes of it
    let payload = keeping(&rules).payload(
        &Incoming { method: "POST", url: "", headers: &[].as_slice(), body: &vec![1; RAW_BODY_BYTES_MAX] },
        "",
        "",
    );
    assert!(payload.is_ok_and(|payload| payload.as_str().len() < 270_000));
}

#[test]
fn what_a_source_answers_can_be_no_page() {
    let answer = |value: Value| {
        serde_json::from_value::<RawResponse>(value)
            .map_err(|e| e.to_string())
            .and_then(|answer| answer.check().map_err(|e| e.to_string()))
    };
    for good in [
        json!({}),
        json!({"status": 202, "headers": {"Content-Type": "application/json; charset=utf-8", "X-Trace": "1"}, "body": "{}"}),
        json!({"status": 503, "headers": [["Retry-After", "60"], ["Cache-Control", "no-store"]], "body": "later"}),
        json!({"status": 204}),
        json!({"headers": {"content-type": "text/xml"}, "body": "<Response/>"}),
    ] {
        assert_eq!(answer(good.clone()), Ok(()), "{good}");
    }
    for bad in [
        json!({"status": 199}),
        json!({"status": 302}),
        json!({"status": 600}),
        json!({"headers": {"Content-Type": "text/html"}}),
        json!({"headers": {"Content-Type": "image/svg+xml"}}),
        json!({"headers": {"Content-Type": "application/xhtml+xml"}}),
        json!({"headers": {"Set-Cookie": "a=b"}}),
        json!({"headers": {"Location": "https://a.org"}}),
        json!({"headers": {"Refresh": "0"}}),
        json!({"headers": {"Access-Control-Allow-Origin": "*"}}),
        json!({"headers": {"Content-Security-Policy": "x"}}),
        json!({"headers": {"X-Content-Type-Options": "sniff"}}),
        json!({"headers": {"X-A": "a\r\nSet-Cookie: b"}}),
        json!({"headers": {"X-A": ""}}),
        json!({"headers": [["X-A", "1"], ["x-a", "2"]]}),
        json!({"headers": {"X-A b": "1"}}),
        json!({"headers": {"X-Accel-Redirect": "/private/file"}}),
        json!({"headers": {"x-sendfile": "/etc/passwd"}}),
        json!({"headers": {"X-LIGHTTPD-send-file": "/etc/passwd"}}),
        json!({"headers": {"X-LiteSpeed-Location": "/private"}}),
        json!({"headers": {"X-Reproxy-URL": "http://10.0.0.1/"}}),
        json!({"status": 204, "body": "x"}),
        json!({"body": "x".repeat(RESPONSE_BODY_BYTES_MAX + 1)}),
        json!({"colour": "red"}),
    ] {
        assert!(answer(bad.clone()).is_err(), "{bad}");
    }
}

fn request(path: &str, query: &str) -> RawRequest {
    RawRequest { method: "POST".into(), path: path.into(), query: query.into(), headers: Vec::new(), body: Vec::new() }
}

#[test]
fn path_and_query_stand_behind_those_of_the_url() {
    for (url, path, query, expected) in [
        ("https://a.org", "", "", "https://a.org"),
        ("https://a.org/", "", "x=1", "https://a.org/?x=1"),
        ("https://a.org/in", "/a%20b", "", "https://a.org/in/a%20b"),
        ("https://a.org/in/", "/a/", "x", "https://a.org/in/a/?x"),
        ("https://a.org/in?own=1", "/a", "x=%2F", "https://a.org/in/a?own=1&x=%2F"),
    ] {
        assert_eq!(request(path, query).address(url).as_deref(), Ok(expected));
    }
}

#[test]
fn dot_segments_are_refused_encoded_or_not() {
    for path in [
        "/..",
        "/a/../b",
        "/.",
        "/a/./b",
        "/%2e%2e",
        "/%2E/b",
        "/.%2e/x",
        "/a/%2e%2e%2fb",
        "/%252e%252e/x",
        "/..%5cb",
        "/a\\..\\b",
        "/..;x/b",
    ] {
        assert_eq!(request(path, "").address("https://a.org/in"), Err(NotSentOn::DotSegment), "{path}");
    }
    for path in ["/...", "/a..b", "/.well-known/x", "/a.", "/%2f", "/a/..b"] {
        assert!(request(path, "").address("https://a.org/in").is_ok(), "{path}");
    }
    for (path, query) in
        [("a", ""), ("/a?b", ""), ("/a#b", ""), ("/a b", ""), ("", "x#y"), ("", "x y"), ("@evil.org", "")]
    {
        assert_eq!(request(path, query).address("https://a.org"), Err(NotSentOn::Malformed), "{path} {query}");
    }
    for method in ["TRACE", "CONNECT", "", "GET /x", "get"] {
        let request = RawRequest { method: method.into(), ..request("", "") };
        assert_eq!(request.address("https://a.org"), Err(NotSentOn::Malformed), "{method}");
    }
}

#[test]
fn headers_of_the_connection_and_of_proxies_are_not_sent_on() {
    let pair = |name: &str| (name.to_owned(), "v".to_owned());
    let mut headers: Vec<_> = [
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Keep-Alive",
        "Proxy-Connection",
        "TE",
        "Trailer",
        "Upgrade",
        "Expect",
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Anything",
        "X-Real-IP",
        "X-Stentor-Event",
        "X-Hop",
    ]
    .map(pair)
    .into();
    headers.push(("Connection".into(), "close, x-hop".into()));
    headers.extend(["X-B", "Content-Type", "X-A", "X-B"].map(pair));
    let request = RawRequest { headers, ..request("", "") };
    let names: Vec<_> = request.forwarded_headers().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["X-B", "Content-Type", "X-A", "X-B"]);
}

#[test]
fn only_a_request_is_taken_for_one() {
    let good = json!({"method": "GET", "path": "", "query": "", "headers": [], "body": "", "body_encoding": "utf8"});
    assert!(RawRequest::is_one(&good.to_string()) && RawRequest::of(&good.to_string()).is_some());
    for (name, value) in [
        ("method", json!(1)),
        ("path", json!(null)),
        ("headers", json!({})),
        ("body", json!(null)),
        ("body_encoding", json!("hex")),
    ] {
        let mut bad = good.clone();
        bad[name] = value;
        assert!(!RawRequest::is_one(&bad.to_string()), "{bad}");
    }
    assert!(!RawRequest::is_one("{}") && !RawRequest::is_one(r#"{"value":1}"#));
}

proptest! {
    #[test]
    fn every_body_survives_byte_for_byte(body in proptest::collection::vec(any::<u8>(), 0..300), text: String) {
        let rules = RawRules::default();
        for body in [body.as_slice(), text.as_bytes()] {
            let request = Incoming { method: "POST", url: "", headers: &[("a", "b")].as_slice(), body };
            let payload = keeping(&rules).payload(&request, "/p", "q").expect("a payload");
            let read = RawRequest::of(payload.as_str()).expect("a request");
            prop_assert_eq!(&read.body, body);
            prop_assert_eq!((read.method.as_str(), read.path.as_str(), read.query.as_str()), ("POST", "/p", "q"));
            prop_assert_eq!(read.headers, vec![("a".to_owned(), "b".to_owned())]);
        }
    }
}
