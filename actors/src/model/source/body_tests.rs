use super::*;
use crate::model::source::Authentication;
use crate::model::source::Schema;
use proptest::prelude::*;
use serde_json::{Value, json};

const LIMITS: DraftLimits = DraftLimits { event_bytes: 1_000, batch_events: 5 };

fn preset(name: &str) -> Authentication {
    Authentication::from_name(name).expect("a preset")
}

fn config(authentication: Authentication, rules: &[Rule]) -> Config<'_> {
    let preset = authentication.preset();
    Config { id: "wh_1", preset, recipe: None, secrets: &[], rules, schema: None, limits: LIMITS, partial: false }
}

fn generic() -> Config<'static> {
    config(Authentication::Hmac, &[])
}

fn taken(config: Config<'_>, headers: &[(&str, &str)], body: &str) -> Taken {
    match config.read(&headers, body.as_bytes(), Content::Json).expect("a body that is taken") {
        Read::Events(taken) => taken,
        Read::Question(reply) => panic!("a question: {reply:?}"),
    }
}

fn payload(draft: &Draft) -> Value {
    serde_json::from_str(draft.payload.as_str()).expect("JSON")
}

fn refused(body: &str) -> String {
    generic().read(&[].as_slice(), body.as_bytes(), Content::Json).expect_err(body).to_string()
}

#[test]
fn an_event_becomes_a_payload_of_user_properties_and_source() {
    let body = r#"{"event_type":"purchase","timestamp":"2024-01-15T10:30:00Z","user_id":"user_123",
        "properties":{"item_id":"sword_001","amount":9.99,"currency":"USD"}}"#;
    let drafts = taken(generic(), &[], body).drafts;
    assert_eq!((drafts[0].kind.as_str(), drafts[0].ts_ms), ("purchase", Some(1_705_314_600_000)));
    assert_eq!(drafts[0].validated, Some(true));
    let expected =
        r#"{"user_id":"user_123","properties":{"item_id":"sword_001","amount":9.99,"currency":"USD"},"source":"wh_1"}"#;
    assert_eq!(drafts[0].payload.as_str(), expected);
}

#[test]
fn only_the_type_is_required() {
    let taken = taken(
        generic(),
        &[],
        r#"{"events":[{"event_type":"a"},{"event_type":"b","timestamp":1705314600000,"user_id":7}]}"#,
    );
    let payloads: Vec<_> = taken.drafts.iter().map(|draft| draft.payload.as_str().to_owned()).collect();
    assert_eq!(payloads[0], r#"{"user_id":null,"properties":{},"source":"wh_1"}"#);
    assert_eq!(payloads[1], r#"{"user_id":7,"properties":{},"source":"wh_1"}"#);
    assert_eq!(taken.drafts[1].ts_ms, Some(1_705_314_600_000));
}

#[test]
fn what_is_wrong_is_said_of_each_field_by_its_place() {
    let body =
        r#"{"events":[{"event_type":"a"},{"user_id":"u"},{"event_type":"a b","timestamp":"soon","properties":[]}]}"#;
    let refusal = generic().read(&[].as_slice(), body.as_bytes(), Content::Json);
    let Err(DraftError::Invalid(errors)) = refusal else { panic!("{refusal:?}") };
    let places: Vec<_> = errors.iter().map(|error| (error.index, &*error.field)).collect();
    assert_eq!(places, [(1, "event_type"), (2, "event_type"), (2, "timestamp"), (2, "properties")]);
}

#[test]
fn json_that_means_two_things_or_nothing_is_refused() {
    for bad in [
        "",
        " ",
        "{",
        "[]",
        "7",
        "null",
        r#""text""#,
        r#"{"events":[]}"#,
        r#"{"events":{}}"#,
        r#"{"events":[{"event_type":"a"}],"event":"x"}"#,
        r#"{"event_type":"a","event_type":"b"}"#,
        r#"{"event_type":"a","event_type":"a"}"#,
        r#"{"event_type":"a","properties":{"x":1,"x":2}}"#,
        r#"{"event_type":"a","properties":{"x":"\u0000"}}"#,
        r#"{"event_type":"a\u0000"}"#,
        r#"{"event_type":"a","properties":{"n":1e999}}"#,
        r#"{"event_type":"a\ud800"}"#,
        r#"{"event_type":"a"}{"event_type":"b"}"#,
    ] {
        assert!(!refused(bad).is_empty());
    }
    assert!(generic().read(&[].as_slice(), b"{\"event_type\":\"\xff\"}", Content::Json).is_err());
    let deep = format!(r#"{{"event_type":"a","properties":{{"x":{}1{}}}}}"#, "[".repeat(130), "]".repeat(130));
    assert!(refused(&deep).contains("deeper") || refused(&deep).contains("recursion"), "{}", refused(&deep));
    let six = format!(r#"{{"events":[{}]}}"#, [r#"{"event_type":"a"}"#; 6].join(","));
    assert!(refused(&six).contains("5 at most"));
    assert!(
        refused(&format!(r#"{{"event_type":"a","properties":{{"x":"{}"}}}}"#, "x".repeat(1_000)))
            .contains("1000 bytes")
    );
}

#[test]
fn a_partial_batch_keeps_the_good_and_gives_back_the_bad() {
    let body = r#"{"events":[{"event_type":"a"},{"user_id":"u"},7,{"event_type":"b"}]}"#;
    let partial = Config { partial: true, ..generic() };
    let Taken { drafts, errors, refused, .. } = taken(partial, &[], body);
    let kinds: Vec<_> = drafts.iter().map(|draft| draft.kind.as_str().to_owned()).collect();
    assert_eq!(kinds, ["a", "b"]);
    assert_eq!(errors.iter().map(|error| error.index).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(refused.iter().map(|text| &**text).collect::<Vec<_>>(), [r#"{"user_id":"u"}"#, "7"]);
    // when nothing is good, the body is refused as a whole
    let none = partial.read(&[].as_slice(), br#"{"events":[{},{}]}"#, Content::Json);
    assert!(matches!(none, Err(DraftError::Invalid(errors)) if errors.len() == 2));
    assert!(partial.read(&[].as_slice(), b"{}", Content::Json).is_err());
    // and what cannot be taken apart as well
    assert!(partial.read(&[].as_slice(), br#"{"events":[{"event_type":"a"},{]}"#, Content::Json).is_err());
}

#[test]
fn a_schema_marks_events_and_refuses_none() {
    let schema = Schema::read(json!({"amount": "number", "user_id": "string"})).expect("a schema");
    let config = Config { schema: Some(&schema), ..generic() };
    let marks = |body: &str| taken(config, &[], body).drafts.iter().map(|draft| draft.validated).collect::<Vec<_>>();
    let body = r#"{"events":[{"event_type":"a","user_id":"u","properties":{"amount":1}},
        {"event_type":"a","user_id":"u","properties":{"amount":"1"}},{"event_type":"a","properties":{}}]}"#;
    assert_eq!(marks(body), [Some(true), Some(false), Some(true)]);
}

#[test]
fn the_whole_body_of_a_provider_is_one_event() {
    let github = Rule::defaults(preset("github"));
    let headers = [("X-GitHub-Event", "pull_request"), ("X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958")];
    let body = r#" {"action":"opened","number":2} "#;
    let of_github = taken(config(preset("github"), &github), &headers, body);
    assert_eq!(of_github.drafts[0].kind.as_str(), "pull_request");
    assert_eq!(
        payload(&of_github.drafts[0]),
        json!({"user_id": null, "properties": {"action": "opened", "number": 2}, "source": "wh_1"})
    );
    assert_eq!(of_github.delivery.as_deref(), Some("72d3162e-cc78-11e3-81ab-4c9367dc0958"));

    let stripe = Rule::defaults(preset("stripe"));
    let body = r#"{"id":"evt_1","type":"charge.succeeded","data":{}}"#;
    let of_stripe = taken(config(preset("stripe"), &stripe), &[], body);
    assert_eq!(of_stripe.drafts[0].kind.as_str(), "charge.succeeded");
    assert_eq!(of_stripe.delivery.as_deref(), Some("evt_1"));

    let slack = Rule::defaults(preset("slack"));
    let body = r#"{"type":"event_callback","event_id":"Ev1","event":{"type":"app_mention"}}"#;
    let of_slack = taken(config(preset("slack"), &slack), &[], body);
    assert_eq!((of_slack.drafts[0].kind.as_str(), of_slack.delivery.as_deref()), ("app_mention", Some("Ev1")));
}

#[test]
fn the_challenge_of_slack_is_answered_and_that_of_nobody_else() {
    let body = br#"{"token":"t","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P","type":"url_verification"}"#;
    let slack = Rule::defaults(preset("slack"));
    let read = config(preset("slack"), &slack).read(&[].as_slice(), body, Content::Json);
    assert_eq!(read, Ok(Read::Question(Reply::Echo("3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P".into()))));
    let stripe = Rule::defaults(preset("stripe"));
    let read = config(preset("stripe"), &stripe).read(&[].as_slice(), body, Content::Json);
    assert!(matches!(read, Ok(Read::Events(_))));
}

#[test]
fn a_form_is_its_payload_or_an_object_of_its_fields() {
    let slack = Rule::defaults(preset("slack"));
    let config = config(preset("slack"), &slack);
    let form = |body: &[u8]| match config.read(&[].as_slice(), body, Content::Form)? {
        Read::Events(taken) => Ok(taken.drafts[0].clone()),
        Read::Question(_) => unreachable!("a form is no question"),
    };
    let command = form(b"command=%2Fdeploy&text=a%20b+c&user_name=%22x%22").expect("a command");
    assert_eq!(command.kind.as_str(), "_deploy");
    assert_eq!(payload(&command)["properties"], json!({"command": "/deploy", "text": "a b c", "user_name": "\"x\""}));
    let action = form(b"payload=%7B%22type%22%3A%22block_actions%22%7D").expect("an interaction");
    assert_eq!(action.kind.as_str(), "block_actions");
    for bad in [
        &b"payload=%7B"[..],
        b"payload=%7B%7D&payload=%7B%7D",
        b"command=%ff",
        b"",
        b"payload=%7B%22type%22%3A1%2C%22type%22%3A2%7D",
    ] {
        let refusal: Result<Draft, Refused> = form(bad);
        assert!(refusal.is_err(), "{}", String::from_utf8_lossy(bad));
    }
}

#[test]
fn what_a_sender_adds_to_an_event_is_kept_in_extra() {
    let of = |body: &str| -> Vec<Value> { taken(generic(), &[], body).drafts.iter().map(payload).collect() };
    let body = r#"{"event_type":"a","id":7,"source":"shop","extra":{"x":1},"trace":null,"properties":{"p":1}}"#;
    let expected = json!({"id": 7, "source": "shop", "extra": {"x": 1}, "trace": null});
    assert_eq!(of(body), [json!({"user_id": null, "properties": {"p": 1}, "source": "wh_1", "extra": expected})]);
    // of two names of one field that of the family counts, and the other is something else
    let body = r#"{"event":{"n":1},"event_type":"a","ts":"noon","timestamp":1705314600000,"type":"b"}"#;
    let taken_in = taken(generic(), &[], body).drafts;
    assert_eq!((taken_in[0].kind.as_str(), taken_in[0].ts_ms), ("a", Some(1_705_314_600_000)));
    assert_eq!(payload(&taken_in[0])["extra"], json!({"event": {"n": 1}, "ts": "noon", "type": "b"}));
    // what is sent around a list belongs to each of its events, unless they have it themselves
    let body = r#"{"batch":9,"user_id":"all","events":[{"event_type":"a"},{"event_type":"b","batch":10}]}"#;
    let extras: Vec<_> = of(body).iter().map(|payload| payload["extra"].clone()).collect();
    assert_eq!(extras, [json!({"batch": 9, "user_id": "all"}), json!({"batch": 10, "user_id": "all"})]);
    assert_eq!(of(r#"[{"event_type":"a","x":1},{"event_type":"b"}]"#)[0]["extra"], json!({"x": 1}));
}

#[test]
fn what_stands_around_many_events_is_bounded() {
    let around = "x".repeat(400_000);
    let body = json!({"around": around, "events": [{"event_type": "a"}, {"event_type": "a"}, {"event_type": "a"}]});
    assert!(refused(&body.to_string()).contains("too long to be kept with each"));
}

#[test]
fn an_array_is_one_event_per_element_in_each_form() {
    let rules = [Rule::Pointer { pointer: "/kind".into() }, Rule::Fixed("other".into())];
    let config = config(Authentication::None, &rules);
    let drafts = taken(config, &[], r#"[{"kind":"a","n":1},7,"text",[1]]"#).drafts;
    let of: Vec<_> = drafts.iter().map(|draft| (draft.kind.as_str(), payload(draft)["properties"].clone())).collect();
    assert_eq!(
        of,
        [
            ("a", json!({"kind": "a", "n": 1})),
            ("other", json!({"value": 7})),
            ("other", json!({"value": "text"})),
            ("other", json!({"value": [1]})),
        ]
    );
    let read = |body: &str| config.read(&[].as_slice(), body.as_bytes(), Content::Json);
    assert!(matches!(read("[]"), Err(DraftError::Empty)) && read("").is_err());
    assert!(matches!(read("[1,2,3,4,5,6]"), Err(DraftError::TooManyEvents { count: 6, limit: 5 })));
    assert!(matches!(read("7"), Err(DraftError::Invalid(_))));
    let long = format!(r#"[{{"kind":"a"}},{{"kind":"{}"}}]"#, "x".repeat(65));
    let Err(DraftError::Invalid(errors)) = read(&long) else { panic!("a long type") };
    assert_eq!((errors[0].index, errors[0].message.contains("65 characters")), (1, true));
    // where each event is judged by itself, the good ones are taken
    let partial = Config { partial: true, rules: &rules[..1], ..config };
    let taken = taken(partial, &[], r#"[{"kind":"a"},{"n":1},{"kind":"b"}]"#);
    assert_eq!((taken.drafts.len(), taken.errors[0].index, &*taken.refused[0]), (2, 1, r#"{"n":1}"#));
}

#[test]
fn a_form_of_our_own_fields_is_an_event_and_everything_else_its_properties() {
    let form = |body: &str| match generic().read(&[].as_slice(), body.as_bytes(), Content::Form) {
        Ok(Read::Events(taken)) => Ok(taken.drafts[0].clone()),
        other => Err(format!("{other:?}")),
    };
    let draft =
        form("event_type=signup&tag=x&email=a%40b.org&tag=y&user_id=7&timestamp=1705314600000").expect("an event");
    assert_eq!((draft.kind.as_str(), draft.ts_ms), ("signup", Some(1_705_314_600_000)));
    let expected = json!({"user_id": "7", "properties": {"tag": ["x", "y"], "email": "a@b.org"}, "source": "wh_1"});
    assert_eq!(payload(&draft), expected);
    for bad in ["email=a", "event_type=a&event_type=b", "event_type=a&x=%ff", "event_type=a&x=%00", ""] {
        assert!(form(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_content_type_says_how_a_body_is_read() {
    let of = |kind: &str, is_verified| Content::of(&[("Content-Type", kind)].as_slice(), is_verified);
    for json in ["application/json", "Application/JSON; charset=utf-8", "application/vnd.x+json"] {
        assert_eq!((of(json, true), of(json, false)), (Ok(Content::Json), Ok(Content::Json)), "{json}");
    }
    for text in ["text/plain", "text/json; charset=utf-8"] {
        assert_eq!((of(text, true), of(text, false)), (Ok(Content::Json), Err(Unreadable::Type)), "{text}");
    }
    assert_eq!(of("application/x-www-form-urlencoded; charset=utf-8", false), Ok(Content::Form));
    for other in ["text/html", "application/xml", "multipart/form-data; boundary=x", "json", ""] {
        assert_eq!(of(other, true), Err(Unreadable::Type), "{other}");
    }
    assert_eq!(Content::of(&[].as_slice(), false), Ok(Content::Json));
}

#[test]
fn a_body_in_which_the_rules_find_no_type_is_refused_with_what_they_look_at() {
    let standard = Rule::defaults(preset("standard"));
    let refusal = config(preset("standard"), &standard).read(&[].as_slice(), br#"{"kind":"x"}"#, Content::Json);
    let Err(DraftError::Invalid(errors)) = refusal else { panic!("{refusal:?}") };
    assert_eq!(&*errors[0].field, "/type");
}

proptest! {
    #[test]
    fn whatever_comes_in_is_taken_or_refused_and_never_half(body in proptest::collection::vec(any::<u8>(), 0..200), partial: bool) {
        let config = Config { partial, ..generic() };
        if let Ok(Read::Events(taken)) = config.read(&[].as_slice(), &body, Content::Json) {
            prop_assert!(!taken.drafts.is_empty());
        }
    }

    #[test]
    fn properties_arrive_as_they_were_sent_whatever_they_are(
        names in proptest::collection::btree_set("[a-zA-Z0-9_ä\"]{0,8}", 0..8), text: String, number: f64, user in "[a-z]{1,8}",
    ) {
        prop_assume!(!text.contains('\0') && number.is_finite());
        let value = |n: usize| match n % 4 {
            0 => json!(text),
            1 => json!(number),
            2 => json!([null, true, {"a": text}]),
            _ => json!({"b": number}),
        };
        let properties: serde_json::Map<_, _> = names.iter().enumerate().map(|(n, name)| (name.clone(), value(n))).collect();
        let body = json!({"event_type": "a", "user_id": user, "properties": properties}).to_string();
        let drafts = taken(Config { limits: DraftLimits { event_bytes: 1 << 20, batch_events: 5 }, ..generic() }, &[], &body).drafts;
        let expected = json!({"user_id": user, "properties": properties, "source": "wh_1"});
        // what is stored is what JavaScript would make of it
        let once = Canonical::parse(&expected.to_string()).expect("JSON");
        prop_assert_eq!(drafts[0].payload.as_str(), once.as_str());
    }
}
