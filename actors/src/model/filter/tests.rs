//! The filter as a whole: what it lets through, what it refuses and where, and that no text makes it slow or crash.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::model::event::ChannelNo;
use crate::model::id::EventId;
use crate::model::json::Canonical;

pub(super) fn event(kind: &str, payload: &str) -> Event {
    Event {
        id: EventId::at_time(1_750_509_296_789),
        channel: ChannelNo(1),
        kind: EventType::new(kind).expect("a good type"),
        ts_ms: 1_750_509_296_789,
        session: Some("raid".into()),
        origin: Default::default(),
        payload: Canonical::parse(payload).expect("good JSON"),
    }
}

pub(super) fn expression(text: &str) -> Result<Filter, FilterError> {
    Filter::compile(&FilterSpec { filter: Some(text.to_owned()), ..FilterSpec::default() })
}

pub(super) fn judge(text: &str, event: &Event) -> Verdict {
    expression(text).unwrap_or_else(|fault| panic!("{text}: {fault}")).matches(event, &FilterInput::new())
}

pub(super) const KILL: &str = r#"{"killmail_id":12345678,"system_name":"J123456","victim":{"name":"Pilot Näme","ship":"Stratios","alliance":null},
    "value":250000000,"ratio":2.5,"whole":4,"attackers":[{"name":"A","damage":10},{"name":"B","damage":25.5}],
    "tags":["solo","npc"],"path":"/kills/1","entries":[{"path":"/a/1"},{"path":"/b/2"}]}"#;

#[rstest]
#[case(r#"event.type == "map_kill" && event.payload.value > 1000000.0"#)]
#[case(r#"event.payload.value > 1000000"#)]
#[case(r#"event.payload.value == 250000000.0 && event.payload.value == 2.5e8 && event.payload.value in [2.5e8]"#)]
#[case(r#"event.payload.ratio > 2 && event.payload.ratio < 3 && event.payload.ratio * 2 == 5"#)]
#[case(r#"event.payload.whole / 8.0 == 0.5 && event.payload.value / 1000000.0 == 250"#)]
#[case(r#"event.payload.whole % 3 == 1 && -event.payload.whole == -4 && 7 / 2 == 3"#)]
#[case(r#"event.payload.tags[event.payload.whole - 4.0] == "solo" && event.payload["tags"][1] == 'npc'"#)]
#[case(r#"event["type"] == "map_kill" && event.session == "raid" && event.session != null"#)]
#[case(r#"event.ts == "2025-06-21T12:34:56.789Z" && event.timestamp == 1750509296789"#)]
#[case(r#"event.id.size() == 26 && event.id.startsWith("01J")"#)]
#[case(r#"event.text.contains("\"system_name\":\"J") && event.text.lowerAscii().contains("näme") && !event.text.contains("Nobody")"#)]
#[case(r#"has(event.payload.victim.name) && !has(event.payload.victim.corp) && has(event.session)"#)]
#[case(r#"event.payload.victim.alliance == null && has(event.payload.victim.alliance)"#)]
#[case(r#"event.payload.system_name.matches("^J[0-9]{6}$") && matches(event.type, r"^\w+$")"#)]
#[case(r#"event.payload.victim.name.contains("Näme") && size(event.payload.victim.name) == 10"#)]
#[case(r#"event.payload.victim.ship.lowerAscii().endsWith("ios") && event.type.upperAscii() == "MAP_KILL""#)]
#[case(r#"event.payload.attackers.exists(a, a.damage > 25) && !event.payload.attackers.all(a, a.damage > 25)"#)]
#[case(r#"event.payload.attackers.exists_one(a, a.name == "B") && event.payload.tags.existsOne(t, t == "npc")"#)]
#[case(r#"event.payload.attackers.map(a, a.name) == ["A", "B"]"#)]
#[case(r#"event.payload.attackers.filter(a, a.damage < 20).size() == 1"#)]
#[case(r#"event.payload.attackers.map(a, a.damage < 20, a.name) + ["x"] == ["A", "x"]"#)]
#[case(r#"event.payload.victim.exists(key, key == "ship") && "ship" in event.payload.victim && !(1 in event.payload.victim)"#)]
#[case(r#"event.payload.tags.all(t, event.payload.tags.exists(u, t == u)) && "solo" in event.payload.tags"#)]
#[case(r#"event.payload.tags.exists(event, event == "solo")"#)]
#[case(r#"event.payload.none == 1 || true"#)]
#[case(r#"true || event.payload.none == 1"#)]
#[case(r#"!(event.payload.none == 1 && false)"#)]
#[case(r#"event.payload.tags.exists(t, t == "npc" || t.none == 1)"#)]
#[case(r#"(event.payload.whole > 3 ? "a" : "b") == "a""#)]
#[case(r#"int("4") == event.payload.whole && double("2.5") == event.payload.ratio && string(event.payload.value) == "250000000""#)]
#[case(r#"string(2.5) + string(true) == "2.5true" && bool("true") && dyn(1) == 1.0 && 1u == 1"#)]
#[case(r#"timestamp(event.ts).getHours() == 12 && timestamp(event.ts).getDayOfWeek() == 6"#)]
#[case(r#"timestamp(event.ts) - timestamp("2025-06-21T13:34:56+02:00") > duration("59m")"#)]
#[case(r#"timestamp(event.ts) + duration("1h30m") > timestamp("2025-06-21T14:00:00Z") && duration("90s").getMinutes() == 1"#)]
fn an_expression_lets_the_event_through(#[case] text: &str) {
    assert_eq!(judge(text, &event("map_kill", KILL)), Verdict::Match, "{text}");
}

#[rstest]
#[case("event.payload.none == 1")]
#[case("event.payload.value.deeper > 1")]
#[case("event.payload.victim > 1")]
#[case("event.payload.value")]
#[case("event.payload.whole / 0 == 1")]
#[case("9223372036854775807 + event.payload.whole > 0")]
#[case("event.payload.tags[2] == 'x'")]
#[case("event.payload.tags[-1] == 'x'")]
#[case("event.payload.tags[0.5] == 'x'")]
#[case("has(event.payload.value.x)")]
#[case("event.payload.tags.all(t, t.none == 1)")]
#[case("timestamp('yesterday') > timestamp(0)")]
#[case("duration('999999999999h') > duration('1s')")]
#[case("!event.payload.value")]
#[case("event.payload.none ? true : true")]
fn what_has_no_value_does_not_match(#[case] text: &str) {
    assert_eq!(judge(text, &event("map_kill", KILL)), Verdict::Error, "{text}");
}

#[rstest]
#[case("", "event.type ==", (1, 14))]
#[case("", "event.type = 'x'", (1, 12))]
#[case("", "event.type == 'x'\n  && evnt.type == 'y'", (2, 6))]
#[case("unknown variable foo", "'ü' == foo", (1, 8))]
#[case("", "'üü' == = 1", (1, 9))]
#[case("event has no field kind", "true && event.kind == 'x'", (1, 14))]
#[case("use one of its fields", "size(event) > 1", (1, 6))]
#[case("unknown function f", "f(event.type)", (1, 2))]
#[case("unknown function g", "event.type.g()", (1, 13))]
#[case("size takes 0 argument", "event.type.size(1) > 0", (1, 16))]
#[case("regular expression", "event.type.matches('(')", (1, 20))]
#[case("written out", "event.type.matches(event.id)", (1, 25))]
#[case("KiB", r"event.type.matches('(\\w{100}){100}')", (1, 20))]
#[case("has takes a field", "has(event)", (1, 5))]
#[case("name of the loop", "event.payload.x.all(1, true)", (1, 21))]
#[case("a variable and an expression", "event.payload.x.all(true)", (1, 20))]
#[case("unknown variable t", "event.payload.x.all(t, true) && t", (1, 33))]
#[case("nested too deeply", &"(".repeat(2000), (1, 42))]
#[case("maps cannot be written", "event.payload == {'a': 1}", (1, 18))]
#[case("bytes cannot be written", "event.type == b'x'", (1, 15))]
fn a_bad_expression_is_refused_with_its_place(#[case] part: &str, #[case] text: &str, #[case] at: (u32, u32)) {
    let fault = expression(text).expect_err(text);
    assert_eq!(fault.position(), Some(at), "{fault}");
    assert!(fault.to_string().contains(part), "{fault}");
    assert!(fault.to_string().len() < 700, "{fault}");
    assert_eq!(fault.parameter(), "filter");
}

#[test]
fn the_length_of_an_expression_is_bounded() {
    let text = format!("event.type == '{}'", "x".repeat(EXPRESSION_BYTES_MAX));
    assert!(matches!(expression(&text), Err(FilterError::TooLong { .. })));
    let text = format!("event.type == '{}'", "x".repeat(EXPRESSION_BYTES_MAX - 20));
    assert!(expression(&text).is_ok());
}

#[test]
fn long_but_flat_expressions_are_taken() {
    let many = (0..60).map(|n| format!("event.payload.id == {n}")).collect::<Vec<_>>().join(" || ");
    assert_eq!(judge(&many, &event("x", r#"{"id":59}"#)), Verdict::Match);
    let list = (0..400).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    assert_eq!(judge(&format!("event.payload.id in [{list}]"), &event("x", r#"{"id":399}"#)), Verdict::Match);
}

fn hostile_texts() -> Vec<String> {
    let fill = |unit: &str, around: (&str, &str)| {
        let room = EXPRESSION_BYTES_MAX - around.0.len() - around.1.len();
        format!("{}{}{}", around.0, unit.repeat(room / unit.len()), around.1)
    };
    let mut texts: Vec<String> =
        ["1+", "a.", "a[0].", "!", "-", "- ", "! ", "1?1:", "true?true:", "1<", "1 in ", "a&&", "a||a&&"]
            .into_iter()
            .map(|unit| fill(unit, ("", "1")))
            .collect();
    for bracket in ["(", "[", "{", "a(", "a[", "{1:", "has(", "a.all(x,", "((", "'(", "\"\\", "//(", "{a:[("] {
        texts.push(fill(bracket, ("", "")));
    }
    texts.push(fill("[0]", ("a", "")));
    texts.push(fill(".a()", ("a", "")));
    texts.push(fill(".?a", ("a", "")));
    texts.push(fill("()", ("a", "")));
    texts.push(fill(")", ("", "")));
    texts.push(fill("{}", ("a", "")));
    texts.push(fill("\"\"\"", ("", "")));
    texts.push(fill("((((((((a)))))))) && ", ("", "a")));
    // as deep as it is let through, and one deeper
    for (open, close) in [("(", ")"), ("[", "]"), ("{1:", "}"), ("f(", ")"), ("a.f(", ")"), ("a[", "]"), ("!(", ")")] {
        for (depth, chain) in [(39, 0), (40, 0), (41, 0), (38, 200), (20, 800), (1000, 0)] {
            let chain = "1+".repeat(chain);
            texts.push(format!("{}{chain}1{}", open.repeat(depth), close.repeat(depth)));
            texts.push(format!("{}{chain}1{}", format!("1+{open}").repeat(depth), close.repeat(depth)));
            texts.push(format!("{}{chain}1{}", format!("1?1:{open}").repeat(depth), close.repeat(depth)));
        }
    }
    for depth in [39, 40, 41, 96, 400] {
        texts.extend([format!("{}1", "1?1:".repeat(depth)), format!("{}1{}", "1?".repeat(depth), ":1".repeat(depth))]);
        texts.extend([
            format!("{}1", "!".repeat(depth)),
            format!("{}1", "- ".repeat(depth)),
            format!("a{}", ".a".repeat(depth)),
        ]);
    }
    texts
}

#[test]
fn no_hostile_text_overflows_the_stack_or_takes_long_to_judge() {
    for text in hostile_texts() {
        let begun = Instant::now();
        let outcome = expression(&text).map(|filter| filter.matches(&event("x", "{}"), &FilterInput::new()));
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?} {:?} {outcome:?}", &text[..20.min(text.len())]);
    }
}

/// A payload of 256 KiB of small nested lists, the most elements that fit.
pub(super) fn largest_payload() -> String {
    let row = format!("[{}]", ["[1,2,3,4,5,6,7,8,9]"; 12].join(","));
    let rows = vec![row; 1080].join(",");
    format!("{{\"rows\":[{rows}],\"text\":\"{}\"}}", "ab".repeat(4000))
}

#[rstest]
#[case("event.payload.rows.all(a, a.all(b, b.all(c, c > 0)))")]
#[case("event.payload.rows.all(a, event.payload.rows.all(b, event.payload.rows.all(c, a == b && b == c)))")]
#[case("event.payload.rows.map(a, event.payload.rows.map(b, a + b)).size() > 0")]
#[case("event.payload.rows.filter(a, a in event.payload.rows.filter(b, b != a)) == event.payload.rows")]
#[case(
    "event.payload.rows == event.payload.rows && event.payload.rows.exists(r, event.payload.rows != event.payload.rows)"
)]
#[case(
    "[1,2,3,4,5,6,7,8,9].all(a,[1,2,3,4,5,6,7,8,9].all(b,[1,2,3,4,5,6,7,8,9].all(c,[1,2,3,4,5,6,7,8,9].all(d,[1,2,3,4,5,6,7,8,9].all(e,[1,2,3,4,5,6,7,8,9].all(f,[1,2,3,4,5,6,7,8,9].all(g,true)))))))"
)]
#[case("event.payload.rows.all(a, a.none == 1 || event.payload.rows.all(b, b.none == 1))")]
#[case("event.payload.rows.all(a, !event.payload.text.contains('aabb'))")]
#[case("event.payload.rows.all(a, !event.payload.text.matches('(a|b|ab|ba){40}c'))")]
#[case("event.payload.rows.map(a, event.payload.text + event.payload.text).map(t, t + t + t + t).all(t, t + t != t)")]
fn the_work_of_one_evaluation_is_bounded(#[case] text: &str) {
    let event = event("x", &largest_payload());
    assert!(event.payload.as_str().len() > 250 << 10);
    let input = FilterInput::new();
    input.tree(&event.payload);
    let filter = expression(text).expect("a good expression");
    let begun = Instant::now();
    let verdict = filter.matches(&event, &input);
    let took = begun.elapsed();
    assert_eq!(verdict, Verdict::Error, "{text}");
    // far above what it takes, because the machine may be busy
    assert!(took < Duration::from_millis(500), "{took:?} {text}");
}

proptest! {
    #[test]
    fn a_path_is_wanted_as_if_each_prefix_was_tried(
        prefixes in prop::collection::vec("[ab/]{1,4}", 1..8),
        path in "[ab/]{0,6}",
    ) {
        let spec = FilterSpec { path_prefix: prefixes.clone(), ..FilterSpec::default() };
        let filter = Filter::compile(&spec).expect("a good filter");
        let event = event("x", &format!("{{\"path\":\"{path}\"}}"));
        let expected = prefixes.iter().any(|prefix| path.starts_with(prefix.as_str()));
        prop_assert_eq!(filter.matches(&event, &FilterInput::new()).is_match(), expected);
    }
}

#[test]
fn spent_work_is_not_swallowed_by_an_or() {
    let all = "event.payload.rows.all(a, event.payload.rows.all(b, a == b && b == a))";
    let event = event("x", &largest_payload());
    assert_eq!(judge(&format!("({all}) || true"), &event), Verdict::Error);
    assert_eq!(judge(&format!("!(false && ({all}))"), &event), Verdict::Match);
}

#[test]
fn a_loop_over_the_elements_of_a_large_payload_is_within_the_bound() {
    let rows = (0..14_000).map(|n| format!("{{\"id\":{n}}}")).collect::<Vec<_>>().join(",");
    let event = event("x", &format!("{{\"rows\":[{rows}]}}"));
    assert_eq!(judge("event.payload.rows.exists(r, r.id == 13999)", &event), Verdict::Match);
}

#[rstest]
#[case(&[], true)]
#[case(&[("events", "*")], true)]
#[case(&[("events", "x,map_kill")], true)]
#[case(&[("events", "x")], false)]
#[case(&[("events", "")], false)]
#[case(&[("path_prefix", "/kills")], true)]
#[case(&[("path_prefix", "/x"), ("path_prefix", "/b")], true)]
#[case(&[("path_prefix", "/c")], false)]
#[case(&[("path_prefix", "")], true)]
#[case(&[("session", "raid")], true)]
#[case(&[("session", "rai")], false)]
#[case(&[("filter", "false")], false)]
#[case(&[("filter", " ")], true)]
#[case(&[("events", "map_kill"), ("path_prefix", "/a"), ("session", "raid"), ("filter", "true")], true)]
#[case(&[("events", "map_kill"), ("path_prefix", "/c"), ("session", "raid"), ("filter", "true")], false)]
fn an_event_meets_all_conditions_or_is_left_out(#[case] query: &[(&str, &str)], #[case] passes: bool) {
    let spec = FilterSpec::from_query(query.iter().copied()).expect("a good query");
    let filter = Filter::compile(&spec).expect("a good filter");
    assert_eq!(filter.matches(&event("map_kill", KILL), &FilterInput::new()).is_match(), passes);
}

#[test]
fn the_payload_is_read_only_when_a_filter_asks() {
    let (event, input) = (event("map_kill", KILL), FilterInput::new());
    assert_eq!(expression("event.type == 'map_kill'").expect("good").matches(&event, &input), Verdict::Match);
    assert_eq!(format!("{input:?}"), "FilterInput { tree: false, paths: None }");
    assert_eq!(expression("event.payload.whole == 4").expect("good").matches(&event, &input), Verdict::Match);
    assert_eq!(format!("{input:?}"), "FilterInput { tree: true, paths: None }");
}

#[test]
fn filters_that_ask_the_same_are_equal() {
    let of = |query: &[(&str, &str)]| {
        Filter::compile(&FilterSpec::from_query(query.iter().copied()).expect("a good query")).expect("a good filter")
    };
    assert_eq!(of(&[("events", "b,a,b")]), of(&[("events", "a, b")]));
    assert_eq!(of(&[("events", "a,*")]), Filter::all());
    assert_eq!(of(&[("path_prefix", "/a"), ("path_prefix", "")]), Filter::all());
    assert!(of(&[("events", "*"), ("filter", "")]).is_all());
    assert!(!of(&[("events", "")]).is_all());
    assert_ne!(of(&[("filter", "true")]), Filter::all());
    let hash = |filter: Filter| {
        std::hash::BuildHasher::hash_one(&std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::default(), filter)
    };
    assert_eq!(hash(of(&[("events", "b,a")])), hash(of(&[("events", "a,b")])));
}

#[test]
fn a_bad_spec_is_refused_with_its_parameter() {
    let fault = |spec: FilterSpec| Filter::compile(&spec).expect_err("a bad spec").parameter();
    let events = |names: Vec<String>| FilterSpec { events: Some(names), ..FilterSpec::default() };
    assert_eq!(fault(events(vec!["a b".into()])), "events");
    assert_eq!(fault(events(vec!["*".into(), String::new()])), "events");
    assert_eq!(fault(events(vec!["a".into(); EVENTS_MAX + 1])), "events");
    let paths = |path_prefix: Vec<String>| FilterSpec { path_prefix, ..FilterSpec::default() };
    assert_eq!(fault(paths(vec!["/".repeat(PATH_PREFIX_BYTES_MAX + 1)])), "path_prefix");
    assert_eq!(fault(paths(vec!["/".into(); PATH_PREFIXES_MAX + 1])), "path_prefix");
    assert_eq!(fault(FilterSpec { session: Some(String::new()), ..FilterSpec::default() }), "session");
}

#[test]
fn filters_and_inputs_are_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Filter>();
    shared::<FilterInput>();
}

/// Expressions from the grammar, over fields that are there and fields that are not.
fn expressions() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        prop::sample::select(vec![
            "1",
            "2",
            "-3",
            "2.5",
            "4.0",
            "0",
            "'a'",
            "'solo'",
            "\"\"",
            "true",
            "false",
            "null",
            "[1, 'a']",
            "[]",
            "event.payload.whole",
            "event.payload.ratio",
            "event.payload.none",
            "event.payload.tags",
            "event.payload.victim",
            "event.payload.victim.name",
            "event.payload.attackers",
            "event.type",
            "event.session",
            "event.timestamp",
        ])
        .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let operators = ["+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "&&", "||", "in"];
        let loops = ["all", "exists", "exists_one", "filter", "map"];
        let calls = ["contains", "startsWith", "endsWith"];
        prop_oneof![
            4 => (inner.clone(), prop::sample::select(operators.to_vec()), inner.clone()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            1 => inner.clone().prop_map(|a| format!("!({a})")),
            1 => inner.clone().prop_map(|a| format!("size({a})")),
            1 => (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}[{b}]")),
            1 => (inner.clone(), prop::sample::select(calls.to_vec()), inner.clone()).prop_map(|(a, f, b)| format!("{a}.{f}({b})")),
            1 => inner.clone().prop_map(|a| format!("has({a}.name)")),
            2 => (inner.clone(), prop::sample::select(loops.to_vec()), inner).prop_map(|(a, f, b)| format!("{a}.{f}(x, x == {b})")),
        ]
    })
}

/// What the evaluator of the crate `cel` says; `None` for an error or a value that is no boolean.
fn oracle(text: &str) -> Option<bool> {
    let program = cel::Program::compile(text).ok()?;
    let payload: serde_json::Value = serde_json::from_str(KILL).expect("good JSON");
    let event = serde_json::json!({"type": "map_kill", "session": "raid", "timestamp": 1_750_509_296_789_i64, "payload": payload});
    let mut context = cel::Context::default();
    context.add_variable("event", event).expect("a good value");
    match program.execute(&context) {
        Ok(cel::Value::Bool(value)) => Some(value),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn where_the_reference_evaluator_has_an_answer_ours_is_the_same(text in expressions()) {
        if let (Some(expected), Ok(filter)) = (oracle(&text), expression(&text)) {
            let verdict = filter.matches(&event("map_kill", KILL), &FilterInput::new());
            prop_assert_eq!(verdict, if expected { Verdict::Match } else { Verdict::NoMatch }, "{}", text);
        }
    }

    #[test]
    fn no_text_makes_the_compiler_panic(text in "\\PC{0,60}") {
        let _ = expression(&text);
    }

    #[test]
    fn no_sequence_of_tokens_makes_the_compiler_panic(
        tokens in prop::collection::vec(
            prop::sample::select(vec![
                "event", ".", "payload", "(", ")", "[", "]", "{", "}", "'a'", "\"", "'", "1", "1u", "0x", "1e999", "9223372036854775808",
                "&&", "||", "!", "-", "+", "?", ":", ",", "in", "has", "all", "x", "==", "<", " ", "\n", "//", "\\", "r'", "b'", "\"\"\"",
                "`a`", "true", "null", "matches", "ü", "\u{0}", ".?", "[?", "@",
            ]),
            0..30,
        )
    ) {
        if let Ok(filter) = expression(&tokens.concat()) {
            filter.matches(&event("x", "{}"), &FilterInput::new());
        }
    }
}

#[rstest]
#[case("event.payload.value >", "line 1, column 22: the expression ends here, and something is missing")]
#[case("event.type = 'a'", "= by itself means nothing; compare with ==")]
#[case("event.type == 'a", "check the quotes")]
#[case("event.type == 'a' event", "event does not fit here")]
#[case("event.", "does not fit here")]
#[case("(event.type == 'a'", ") is missing here")]
#[case("event.type == 'a' and true", "and is written &&")]
fn what_cannot_be_read_is_told_without_the_words_of_the_parser(#[case] text: &str, #[case] told: &str) {
    let fault = expression(text).expect_err(text).to_string();
    assert!(fault.contains(told), "{fault}");
    for word in ["EOF", "token", "mismatched", "viable", "extraneous"] {
        assert!(!fault.contains(word), "{fault}");
    }
}

#[test]
fn expressions_that_nobody_meant_are_refused_or_judged_within_their_budget() {
    let seeds = [
        r#"event.type == "map_kill" && event.payload.value > 1000000.0"#,
        "event.payload.attackers.all(a, a.damage > 5 || a.name.startsWith('B'))",
        "event.payload.tags.exists(t, t.matches('^n.*c$')) ? size(event.payload) > 2 : !has(event.payload.x)",
        "[1, 2u, 3.0, b'x', {'a': null}][0] + -1 * 2 % 3 / 4",
    ];
    let words = [
        "event.payload.",
        ".all(x, ",
        ".map(x, ",
        "matches('(a+)+')",
        " in ",
        " ? ",
        "9223372036854775807",
        "has(",
        "size(",
        "[",
        "{",
        "!",
        "- ",
    ];
    let event = event("map_kill", KILL);
    crate::fuzz::run("cel", seeds, &words, |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        if let Ok(filter) = expression(text) {
            filter.matches(&event, &FilterInput::new());
        }
    });
}
