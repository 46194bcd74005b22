use proptest::prelude::*;
use rstest::rstest;

use super::*;

const LIMITS: DraftLimits = DraftLimits { event_bytes: 1024, batch_events: 3 };

fn json(body: &str) -> Result<Drafts, DraftError> {
    parse(body.as_bytes(), BodyForm::Json, &LIMITS)
}

fn ndjson(body: &str) -> Result<Drafts, DraftError> {
    parse(body.as_bytes(), BodyForm::NdJson, &LIMITS)
}

fn one(body: &str) -> Draft {
    let read = json(body).unwrap_or_else(|error| panic!("{body}: {error}"));
    assert!(read.single);
    read.drafts.into_iter().next().expect("never empty")
}

/// Index, field and message of each complaint.
fn complaints(result: Result<Drafts, DraftError>) -> Vec<(usize, String, String)> {
    match result {
        Err(DraftError::Invalid(errors)) => {
            errors.into_iter().map(|e| (e.index, e.field.into(), e.message.into())).collect()
        }
        other => panic!("expected wrong fields, got {other:?}"),
    }
}

#[rstest]
#[case(r#"{"type":"a","ts":1700000000000,"payload":{"b":1}}"#)]
#[case(r#"{"event":"a","timestamp":"2023-11-14T22:13:20Z","properties":{"b":1.0}}"#)]
#[case(r#" { "event_type" : "\u0061" , "timestamp" : "2023-11-15T00:13:20.000+02:00" , "payload" : { "b" : 1 } } "#)]
#[case(r#"{"type":"a","event":"a","ts":1.7e12,"timestamp":"2023-11-14T22:13:20Z","payload":{"b":1},"properties":{"b":1e0}}"#)]
#[case(
    r#"{"id":"01X","event_id":1,"map_id":{},"schema":[],"organization":"o","source":"s","validated":true,
    "session":null,"dedupe_id":null,"user_id":null,"event":null,"type":"a","ts":1700000000000,"payload":{"b":1}}"#
)]
fn every_family_is_understood(#[case] body: &str) {
    let draft = one(body);
    assert_eq!(draft.kind.as_str(), "a");
    assert_eq!(draft.ts_ms, Some(1_700_000_000_000));
    assert_eq!(draft.payload.as_str(), r#"{"b":1}"#);
    assert_eq!((draft.session, draft.dedupe_id), (None, None));
}

#[rstest]
#[case(r#"{"type":"a"}"#, "{}")]
#[case(r#"{"type":"a","payload":null}"#, "{}")]
#[case(r#"{"type":"a","user_id":"u"}"#, r#"{"user_id":"u"}"#)]
#[case(r#"{"type":"a","properties":{"x":1,"y":{}},"user_id":7.0}"#, r#"{"user_id":7,"x":1,"y":{}}"#)]
#[case(r#"{"type":"a","user_id":7,"payload":{"x":1,"user_id":8}}"#, r#"{"x":1,"user_id":8}"#)]
fn the_user_becomes_the_first_member_of_the_payload(#[case] body: &str, #[case] payload: &str) {
    assert_eq!(one(body).payload.as_str(), payload);
}

#[test]
fn session_and_dedupe_id_are_kept() {
    let draft = one(r#"{"type":"a","session":"r\u00e9union","dedupe_id":"k\n1"}"#);
    assert_eq!(draft.session.as_deref(), Some("réunion"));
    assert_eq!(draft.dedupe_id.as_deref(), Some("k\n1"));
}

#[rstest]
#[case(r#"{"type":"a"}"#, 1, true)]
#[case(r#"[{"type":"a"}]"#, 1, false)]
#[case(r#"[{"type":"a"},{"event":"b"},{"event_type":"c"}]"#, 3, false)]
#[case(r#" {"events" : [ {"type":"a"} , {"event":"b"} ], "source": "x"} "#, 2, false)]
fn each_shape_gives_its_events_in_order(#[case] body: &str, #[case] count: usize, #[case] single: bool) {
    let read = json(body).unwrap();
    let kinds: String = read.drafts.iter().map(|draft| draft.kind.as_str()).collect();
    assert_eq!((kinds.as_str(), read.single), (&"abc"[..count], single));
}

#[test]
fn ndjson_has_an_event_on_each_line_that_is_not_empty() {
    let read = ndjson("\n{\"type\":\"a\"}\r\n\r\n  \n {\"type\":\"b\"} ").unwrap();
    assert_eq!((read.drafts.len(), read.single), (2, false));
    assert_eq!(ndjson(" \r\n\n"), Err(DraftError::Empty));
}

#[rstest]
#[case::no_type(r#"{}"#, "type", "is required")]
#[case::type_is_null(r#"{"type":null}"#, "type", "is required")]
#[case::type_is_a_number(r#"{"event":5}"#, "event", "must be a string")]
#[case::type_with_space(r#"{"event_type":"a b"}"#, "event_type", "1 to 64 of the characters")]
#[case::type_with_nul(r#"{"type":"a\u0000"}"#, "type", "1 to 64 of the characters")]
#[case::type_with_lone_surrogate(r#"{"type":"\ud800"}"#, "type", "1 to 64 of the characters")]
#[case::two_types(r#"{"type":"a","event":"b"}"#, "event", "not the same as type")]
#[case::type_twice(r#"{"type":"a","type":"b"}"#, "type", "not the same as type")]
#[case::two_times(r#"{"type":"a","ts":1700000000000,"timestamp":1700000000001}"#, "timestamp", "not the same as ts")]
#[case::two_payloads(r#"{"type":"a","payload":{},"properties":{"a":1}}"#, "properties", "not the same as payload")]
#[case::misspelt(r#"{"type":"a","payloads":{}}"#, "payloads", "is no field of an event")]
#[case::payload_is_a_list(r#"{"type":"a","payload":[]}"#, "payload", "must be a JSON object")]
#[case::payload_is_a_text(r#"{"type":"a","properties":"{}"}"#, "properties", "must be a JSON object")]
#[case::payload_overflows("{\"type\":\"a\",\n\"payload\":{\"x\":1e999}}", "payload", "number out of range at line 2")]
#[case::time_without_offset(r#"{"type":"a","ts":"2026-01-31T12:00:00"}"#, "ts", "offset")]
#[case::time_is_a_word(r#"{"type":"a","ts":"now"}"#, "ts", "ISO-8601")]
#[case::time_with_a_fraction(r#"{"type":"a","ts":1.5}"#, "ts", "integer")]
#[case::time_in_seconds(r#"{"type":"a","ts":1700000000}"#, "ts", "milliseconds")]
#[case::time_in_seconds_too(r#"{"type":"a","timestamp":99999999999}"#, "timestamp", "ISO-8601")]
#[case::time_of_nothing(r#"{"type":"a","ts":0}"#, "ts", "milliseconds")]
#[case::time_before_1970(r#"{"type":"a","ts":-1700000000000}"#, "ts", "ISO-8601")]
#[case::time_is_a_bool(r#"{"type":"a","ts":true}"#, "ts", "integer")]
#[case::time_too_late(r#"{"type":"a","ts":253402300800000}"#, "ts", "years 0 to 9999")]
#[case::time_far_too_early(r#"{"type":"a","ts":-1e300}"#, "ts", "years 0 to 9999")]
#[case::session_is_empty(r#"{"type":"a","session":""}"#, "session", "must not be empty")]
#[case::session_with_control(r#"{"type":"a","session":"a\u0085"}"#, "session", "control character")]
#[case::session_is_a_number(r#"{"type":"a","session":1}"#, "session", "must be a string")]
#[case::dedupe_id_is_empty(r#"{"type":"a","dedupe_id":""}"#, "dedupe_id", "must not be empty")]
#[case::user_is_a_bool(r#"{"type":"a","user_id":true}"#, "user_id", "string or a number")]
#[case::not_an_object(r#"[5]"#, "", "must be a JSON object")]
#[case::a_scalar(r#""event""#, "", "must be a JSON object")]
#[case::events_is_no_list(r#"{"events":{}}"#, "events", "must be an array")]
#[case::events_beside_a_type(r#"{"type":"a","events":[]}"#, "events", "no field of an event")]
#[case::field_beside_events(r#"{"events":[{"type":"a"}],"session":"s"}"#, "session", "stands beside events")]
#[case::unknown_beside_events(r#"{"events":[{"type":"a"}],"evnts":1}"#, "evnts", "is no field")]
#[case::nested_events(r#"[{"events":[]},{"type":"a"}]"#, "events", "no field of an event")]
fn a_wrong_field_is_named_with_what_to_do(#[case] body: &str, #[case] field: &str, #[case] message: &str) {
    let found = complaints(json(body));
    assert_eq!((found[0].0, found[0].1.as_str()), (0, field));
    assert!(found[0].2.contains(message), "{}", found[0].2);
}

#[test]
fn lengths_are_checked_to_the_byte() {
    let with = |field: &str, bytes: usize| json(&format!(r#"{{"type":"a","{field}":"{}"}}"#, "x".repeat(bytes)));
    for (field, max) in [("session", 128), ("dedupe_id", 256)] {
        assert!(with(field, max).is_ok());
        assert!(complaints(with(field, max + 1))[0].2.contains("make it"));
    }
}

#[test]
fn a_batch_says_what_is_wrong_with_each_event_up_to_a_number() {
    let found = complaints(json(r#"[{"type":"a"},{"type":""},{"type":"c","ts":"x","oops":1}]"#));
    let places: Vec<_> = found.iter().map(|(index, field, _)| (*index, field.as_str())).collect();
    assert_eq!(places, [(1, "type"), (2, "oops"), (2, "ts")]);

    let limits = DraftLimits { event_bytes: 10, batch_events: 1000 };
    let many = parse("{}\n".repeat(50).as_bytes(), BodyForm::NdJson, &limits);
    assert_eq!(complaints(many).len(), FIELD_ERRORS_MAX);
}

#[test]
fn an_event_is_measured_by_its_own_text() {
    let limits = DraftLimits { event_bytes: 12, batch_events: 9 };
    let read = |body: &str, form| parse(body.as_bytes(), form, &limits);
    let too_large = |index| Err(DraftError::EventTooLarge { index, bytes: 13, limit: 12 });
    assert!(read("   {\"type\":\"a\"}\n", BodyForm::Json).is_ok());
    assert_eq!(read(r#"{"type":"ab"}"#, BodyForm::Json), too_large(0));
    assert_eq!(read(r#"[{"type":"a"}, {"type":"ab"}]"#, BodyForm::Json), too_large(1));
    assert_eq!(read(r#"{"events":[{"type":"ab"}]}"#, BodyForm::Json), too_large(0));
    assert_eq!(read("{\"type\":\"a\"}\n\n{\"type\":\"ab\"}", BodyForm::NdJson), too_large(1));
}

#[rstest]
#[case(json("[1,2,3,4,5]"), DraftError::TooManyEvents { count: 5, limit: 3 })]
#[case(ndjson("1\n2\n3\n4"), DraftError::TooManyEvents { count: 4, limit: 3 })]
#[case(json(""), DraftError::Empty)]
#[case(json("[ ]"), DraftError::Empty)]
#[case(json(r#"{"events":[]}"#), DraftError::Empty)]
#[case(json("{\"type\":\n \"a\""), malformed_at(2, 4, "EOF while parsing an object"))]
#[case(json("[{\"type\":\"a\"},\n {\"type\" \"b\"}]"), malformed_at(2, 10, "expected `:`"))]
#[case(json("[{\"\\ud80x\":1}]"), malformed_at(1, 9, "invalid escape"))]
#[case(ndjson("{\"type\":\"a\"}\n {\"type\":}\n"), malformed_at(2, 10, "expected value"))]
#[case(ndjson("{\"type\":\"a\"} {\"type\":\"b\"}"), malformed_at(1, 14, "trailing characters"))]
#[case(json("nope"), malformed_at(1, 2, "expected ident"))]
#[case(parse(b"{\"type\":\"\xc3\"}", BodyForm::Json, &LIMITS), malformed_at(1, 10, "invalid UTF-8"))]
fn a_body_as_a_whole_is_refused(#[case] result: Result<Drafts, DraftError>, #[case] expected: DraftError) {
    assert_eq!(result, Err(expected));
}

fn malformed_at(line: usize, column: usize, message: &str) -> DraftError {
    DraftError::Malformed { line, column, message: message.into() }
}

#[rstest]
#[case("1970-01-01T00:00:00Z", Some(0))]
#[case("1970-01-01T01:00:00.9999+01:00", Some(999))]
#[case("1969-12-31T23:59:59.9999Z", Some(-1))]
#[case("1970-01-01 00:00:01z", Some(1000))]
#[case("1970-01-01T02:00:00+0200", Some(0))]
#[case("9999-12-31T23:59:59.999Z", Some(253_402_300_799_999))]
#[case("0000-01-01T00:00:00Z", Some(-62_167_219_200_000))]
#[case("0000-01-01T00:00:00+01:00", None)]
#[case("9999-12-31T23:59:59-01:00", None)]
#[case("2026-02-30T00:00:00Z", None)]
#[case("2026-01-31", None)]
#[case("2026-01-31T00:00:00", None)]
#[case("", None)]
fn a_moment_is_read_with_its_offset(#[case] text: &str, #[case] ms: Option<i64>) {
    assert_eq!(unix_ms(text), ms);
}

proptest! {
    #[test]
    fn no_body_makes_the_reader_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        text in "(\\[|\\{|\\}|\\]|,|:|\n|\"(type|ts|payload|events|session|user_id|x|\\\\u0000|\\\\ud800)\"|\"[0-9T:Z+é-]{0,25}\"|-?[0-9.e]{1,5}|null){0,25}",
    ) {
        for body in [&bytes[..], text.as_bytes()] {
            for form in [BodyForm::Json, BodyForm::NdJson] {
                let _ = parse(body, form, &LIMITS);
            }
        }
    }

    #[test]
    fn no_text_makes_the_reader_of_moments_panic(text in "\\PC{0,40}", near in "[0-9W+:.,TZ-]{0,35}") {
        let _ = (unix_ms(&text), unix_ms(&near));
    }
}

#[test]
fn an_error_of_an_event_as_a_whole_names_no_field() {
    let error = |field: &str| FieldError { index: 2, field: field.into(), message: "is wrong".into() }.to_string();
    assert_eq!((error("ts"), error("")), ("event 2: ts is wrong".into(), "event 2: is wrong".into()));
}

#[test]
fn bodies_that_nobody_meant_are_refused_or_taken_within_the_limits() {
    let seeds = [
        r#"{"type":"map_kill","ts":"2023-11-14T22:13:20Z","payload":{"a":1},"dedupe_id":"x","session":"s","user_id":7}"#,
        r#"{"events":[{"event":"a","timestamp":1700000000000,"properties":{}},{"event_type":"b"}]}"#,
        "{\"type\":\"a\"}\n{\"type\":\"b\",\"payload\":{\"c\":[]}}\n",
    ];
    let words = [
        "\"type\":",
        "\"payload\":",
        "\"events\":[",
        "\"dedupe_id\":",
        "1e400",
        "9999-12-31T23:59:60Z",
        "null",
        "\n",
        "[{",
    ];
    crate::fuzz::run("drafts", seeds, &words, |bytes| {
        for form in [BodyForm::Json, BodyForm::NdJson] {
            if let Ok(read) = parse(bytes, form, &LIMITS) {
                assert!((1..=LIMITS.batch_events).contains(&read.drafts.len()));
                assert!(read.drafts.iter().all(|draft| draft.payload.is_object()));
            }
        }
        let _ = sort(bytes, &LIMITS, Shape::Published);
    });
}
