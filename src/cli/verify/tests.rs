//! Vectors made by node's crypto and npm's `standardwebhooks`, and what happens to requests on their way.

use super::*;

const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const AT_MS: i64 = 1_750_509_300_000;
const ID: &str = "dlv_01J0YYYYYYYYYYYYYYYYYYYYYY";
const BODY: &str =
    r#"{"id":"01J0YYYYYYYYYYYYYYYYYYYYYY","type":"map_kill","payload":{"value":250000000,"name":"ä🚀"}}"#;
const MAP: &str = "sha256=828d15a910eb9e11592b8bd958160a611ef3c2dfac950ecc49cf4785c35eef31";
const GATEWAY: &str = "1ba857e78a64ba93eaf298c0a43af6e03be1f8d7905715d9b24c8b6d3213d38a\
                       38140637f6051fbfc9ea99150fbf6bf826371f739f6c1973dfd60ec63d399cdf";
const FEED: &str = "sha256=e50ab9ce7780edd178a7cc0fc75316e9ec7f7d6f237b0389993d400226187b10";
const STANDARD: &str = "v1,0bB57HddXwyw3Jw8pWnBvA4HmJH5smdHZdLtxjcOmAA=";

const SOURCE: &str = "sha256=14690bfeb93861ac7501d6ee938ecf1ac423e0e821657560e209c1d9ebe080fe";
const SOURCE_512: &str = "sha512=9b8c37cb4818ac2d97bd878480660c554efa037e7414296123ae9ed1b98f44d4\
                          3c2a9788c93d2b36e3266577a3e6d5d5d02d2a7e3b6983b59b4c90c4ca43298d";

fn request(headers: &[(&str, &str)], body: &str) -> Request {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Request::new(headers.collect(), body.as_bytes().to_vec())
}

/// The request of each format as it was sent.
fn sent(format: Format) -> Request {
    match format {
        Format::Map => request(&[("X-Wanderer-Timestamp", "1750509300"), ("x-wanderer-signature", MAP)], BODY),
        Format::Standard => {
            let headers = [("webhook-id", ID), ("webhook-timestamp", "1750509300"), ("webhook-signature", STANDARD)];
            request(&headers, BODY)
        }
        Format::Gateway => {
            let headers = [
                ("X-Webhook-Hmac", GATEWAY),
                ("X-Webhook-Hmac-Algorithm", "sha512"),
                ("X-Webhook-Timestamp", "1750509300000"),
            ];
            request(&headers, BODY)
        }
        Format::Feed => request(&[("X-AeorDB-Signature", FEED)], BODY),
        Format::Source => request(&[("X-Webhook-Timestamp", "1750509300000"), ("X-Webhook-Signature", SOURCE)], BODY),
    }
}

const ALL: [Format; 5] = Format::OWN_FIRST;

/// What is said about a request that does not match.
fn diagnosed(format: Format, secret: &str, body: &str) -> String {
    let mut tampered = sent(format);
    tampered.body = body.as_bytes().to_vec();
    assert_eq!(format.verify(secret, &tampered), Err(Fault::Mismatch), "{format:?} {secret} {body}");
    diagnosis::of_mismatch(format, secret, &tampered)
}

#[test]
fn what_others_signed_is_valid_and_the_headers_tell_the_format() {
    for format in ALL {
        let request = sent(format);
        assert_eq!(Format::of(&request), Some(format));
        let proof = format.verify(SECRET, &request).expect("it is valid");
        assert_eq!(proof.at_ms, (format != Format::Feed).then_some(AT_MS));
        assert!(!proof.by_previous);
    }
    let long = request(&[("X-Webhook-Timestamp", "1750509300000"), ("X-Webhook-Signature", SOURCE_512)], BODY);
    assert!(Format::Source.verify(SECRET, &long).is_ok());
    assert_eq!(Format::Source.algorithm(&long), "HMAC-SHA512");
    let whsec = format!("whsec_{SECRET}");
    assert!(Format::Standard.verify(&whsec, &sent(Format::Standard)).is_ok(), "with its prefix too");
    assert_eq!(Format::of(&request(&[("Content-Type", "application/json")], BODY)), None);
}

#[test]
fn the_secret_before_a_rotation_is_recognised() {
    let wrong = format!("sha256={}", "0".repeat(64));
    let headers = [
        ("X-Wanderer-Timestamp", "1750509300"),
        ("X-Wanderer-Signature", wrong.as_str()),
        ("X-Wanderer-Signature-Previous", MAP),
    ];
    let proof = Format::Map.verify(SECRET, &request(&headers, BODY)).expect("the old secret signs too");
    assert_eq!((proof.header, proof.by_previous), ("X-Wanderer-Signature-Previous", true));
}

#[test]
fn what_often_happens_to_a_body_is_recognised() {
    let pretty = BODY.replace(':', ": ").replace(',', ", ");
    let escaped = BODY.replace("ä🚀", "\\u00e4\\ud83d\\ude80").replace("250000000", "2.5e8");
    for format in ALL {
        for (body, said) in [
            (format!("{BODY}\n"), "a line break at its end that was not sent"),
            (format!("{BODY}\r\n"), "a line break at its end that was not sent"),
            (format!("\u{feff}{BODY}"), "byte order mark"),
            (pretty.clone(), "parsed and serialised again"),
            (escaped.clone(), "parsed and serialised again"),
        ] {
            let diagnosis = diagnosed(format, SECRET, &body);
            assert!(diagnosis.contains(said), "{format:?} {body:?}: {diagnosis}");
        }
    }
}

#[test]
fn what_often_happens_to_a_secret_is_recognised() {
    for (secret, said) in [
        (format!("{SECRET}\n"), "white space around it"),
        (format!("\"{SECRET}\""), "quotes around it"),
        (format!("whsec_{SECRET}"), "whsec_ before it"),
        (SECRET.trim_end_matches('=').to_owned(), "lacks the = at its end"),
    ] {
        for format in [Format::Map, Format::Gateway, Format::Feed, Format::Source] {
            let diagnosis = diagnosed(format, &secret, BODY);
            assert!(diagnosis.contains(said), "{format:?} {secret:?}: {diagnosis}");
        }
    }
    let both = diagnosed(Format::Map, &format!("whsec_{SECRET}"), &format!("{BODY}\n"));
    assert!(both.contains("whsec_") && both.contains("line break"), "{both}");
}

#[test]
fn what_nothing_explains_is_another_secret_or_another_body() {
    for format in ALL {
        let other = SECRET.replace("AAEC", "BBEC");
        assert!(diagnosed(format, &other, BODY).contains("the secret is another one, or the body is not"));
        assert!(diagnosed(format, SECRET, &BODY.replace("250000000", "1")).contains("the secret is another one, or"));
    }
    let mut cut = sent(Format::Map);
    cut = Request::new(
        [("X-Wanderer-Timestamp", "1750509300"), ("X-Wanderer-Signature", MAP), ("Content-Length", "104")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        cut.body[..50].to_vec(),
    );
    assert!(
        diagnosis::of_mismatch(Format::Map, SECRET, &cut)
            .contains("the body has 50 bytes, and Content-Length says 104")
    );
    let mut headers = vec![("X-Wanderer-Timestamp", "1750509301"), ("X-Wanderer-Signature", MAP)];
    headers.extend([("webhook-id", ID), ("webhook-timestamp", "1750509300"), ("webhook-signature", STANDARD)]);
    let said = diagnosis::of_mismatch(Format::Map, SECRET, &request(&headers, BODY));
    assert!(said.contains("its signature of format standard does match"), "{said}");
}

#[test]
fn a_header_that_is_missing_or_of_another_form_is_named() {
    let fault = |format: Format, headers: &[(&str, &str)]| {
        let request = request(headers, BODY);
        let fault = format.verify(SECRET, &request).expect_err("it is not valid");
        format!("{fault}{}", diagnosis::of_headers(format, &fault, &request))
    };
    assert_eq!(
        fault(Format::Map, &[("X-Wanderer-Signature", MAP)]),
        "the header X-Wanderer-Timestamp is missing; give all headers of the request"
    );
    assert_eq!(
        fault(Format::Map, &[("X-Wanderer-Signatur", MAP)]),
        "the header X-Wanderer-Signature is missing; there is a header X-Wanderer-Signatur"
    );
    assert_eq!(
        fault(Format::Map, &[("X-AeorDB-Signature", FEED)]),
        "the header X-Wanderer-Signature is missing; the request has the headers of format feed: use --format feed"
    );
    let hex = MAP.trim_start_matches("sha256=");
    for (format, headers, said) in [
        (Format::Map, vec![("X-Wanderer-Timestamp", "1"), ("X-Wanderer-Signature", hex)], "sha256= and 64"),
        (Format::Map, vec![("X-Wanderer-Timestamp", "today"), ("X-Wanderer-Signature", MAP)], "Unix seconds"),
        (Format::Gateway, vec![("X-Webhook-Hmac", MAP)], "128 hexadecimal digits"),
        (Format::Source, vec![("X-Webhook-Timestamp", "1"), ("X-Webhook-Signature", hex)], "or sha512= and 128"),
        (Format::Source, vec![("X-Webhook-Timestamp", "now"), ("X-Webhook-Signature", SOURCE)], "milliseconds"),
        (
            Format::Standard,
            vec![("webhook-id", ID), ("webhook-timestamp", "1"), ("webhook-signature", hex)],
            "v1, and base64",
        ),
    ] {
        let fault = fault(format, &headers);
        assert!(fault.contains(said) && fault.contains("is expected"), "{fault}");
    }
    let fault = Format::Standard.verify("not a key", &sent(Format::Standard)).expect_err("no key");
    assert!(matches!(fault, Fault::Secret(_)), "{fault}");
}

#[test]
fn a_signature_that_is_too_old_or_from_the_future_is_told_with_its_age() {
    use scheme::judge_age;
    assert_eq!(judge_age(AT_MS, AT_MS + 300_999, 300), Ok(", made 300 s ago".into()));
    assert_eq!(judge_age(AT_MS, AT_MS - 60_000, 300), Ok(", made 60 s in the future".into()));
    let old = judge_age(AT_MS, AT_MS + 301_000, 300).expect_err("too old");
    assert!(old.contains("made 301 s ago (2025-06-21T12:35:00.000Z), which is more than 300 s"), "{old}");
    assert!(judge_age(AT_MS, AT_MS - 301_000, 300).expect_err("too early").contains("in the future"));
}

#[test]
fn a_delivery_as_the_api_shows_it_is_a_request() {
    let json = serde_json::json!({"data": {"id": ID, "attempts": [
        {"number": 1, "request_headers": {"X-Wanderer-Timestamp": "1"}, "request_body": "early"},
        {"number": 2, "request_headers": {"X-Wanderer-Timestamp": "1750509300", "X-Wanderer-Signature": MAP}, "request_body": BODY},
        {"number": 3, "request_headers": {}, "request_body": BODY},
    ]}});
    let request = Request::of_delivery(json.to_string().as_bytes()).expect("a delivery");
    assert!(Format::Map.verify(SECRET, &request).is_ok());
    let tested = serde_json::json!({"data": {"request_headers": {"X-AeorDB-Signature": FEED}, "request_body": BODY}});
    let request = Request::of_delivery(tested.to_string().as_bytes()).expect("a test");
    assert!(Format::Feed.verify(SECRET, &request).is_ok());
    for wrong in
        ["", "[]", "{}", r#"{"data":{"attempts":[]}}"#, r#"{"data":{"attempts":[{"request_headers":{"a":"b"}}]}}"#]
    {
        assert!(matches!(Request::of_delivery(wrong.as_bytes()), Err(Failure::Usage(_))), "{wrong}");
    }
}

#[test]
fn headers_are_typed_as_they_are_shown() {
    assert_eq!(request::header("X-A: b: c "), Ok(("X-A".into(), "b: c".into())));
    assert_eq!(request::header("X-A:"), Ok(("X-A".into(), String::new())));
    for wrong in ["X-A", ": b", "X A: b", ""] {
        assert!(request::header(wrong).is_err(), "{wrong}");
    }
}
