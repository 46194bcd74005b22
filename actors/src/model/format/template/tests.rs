use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::tests::{event, with_subjects};
use super::*;

fn render(text: &str, payload: &str) -> Result<String, TemplateError> {
    let template = Template::compile(text)?;
    with_subjects(&[event("map_kill", payload)], "Home", |subjects| template.render(&subjects[0]))
        .map(|json| json.as_str().to_owned())
}

const KILL: &str = r#"{"name":"a \"b\"\n\\","value":250000000.5,"tags":["x","y"],"who":{"n":1},"on":true}"#;

#[test]
fn integers_beyond_64_bits_keep_their_digits() {
    let digits = "9".repeat(45);
    let payload = format!(
        r#"{{"a":18446744073709551616,"b":{{"n":-9223372036854775809,"0#":"0#1"}},"c":[340282366920938463463374607431768211455],"d":{digits}}}"#
    );
    for (text, output) in [
        (r#"{"v":{{ event.payload.a }}}"#, r#"{"v":18446744073709551616}"#.to_owned()),
        (r#"{"v":"{{ event.payload.a }}"}"#, r#"{"v":"18446744073709551616"}"#.to_owned()),
        (r#"{"v":{{ event.payload.b | tojson }}}"#, r#"{"v":{"n":-9223372036854775809,"0#":"0#1"}}"#.to_owned()),
        (r#"{"v":{{ event.payload.c }}}"#, r#"{"v":[340282366920938463463374607431768211455]}"#.to_owned()),
        (r#"{"v":"{{ event.payload.d }}"}"#, format!(r#"{{"v":"{digits}"}}"#)),
    ] {
        assert_eq!(render(text, &payload), Ok(output), "{text}");
    }
}

#[test]
fn values_are_escaped_by_where_they_stand() {
    for (text, output) in [
        (r#"{"a":"{{ event.payload.name }}"}"#, r#"{"a":"a \"b\"\n\\"}"#),
        (r#"{"a":{{ event.payload.name }}}"#, r#"{"a":"a \"b\"\n\\"}"#),
        (r#"{"a":{{ event.payload.name | tojson }}}"#, r#"{"a":"a \"b\"\n\\"}"#),
        (r#"{"a":"{{ event.payload.who }}"}"#, r#"{"a":"{\"n\":1}"}"#),
        (r#"{"a":"{{ event.payload.who | tojson }}"}"#, r#"{"a":"{\"n\":1}"}"#),
        (r#"{"a":"{{ "x" | tojson }}"}"#, r#"{"a":"\"x\""}"#),
        (r#"{"a":{{ event.payload.value }},"b":"{{ event.payload.on }}"}"#, r#"{"a":250000000.5,"b":"true"}"#),
        (r#"{"a":{{ event.payload.nothing }},"b":"{{ event.payload.nothing.at.all }}"}"#, r#"{"a":null,"b":""}"#),
        (r#"{"a":"{{ (event.payload.value / 1000000) | round(1) }}M"}"#, r#"{"a":"250M"}"#),
        (r#"[{% for t in event.payload.tags %}"{{ t }}"{{ "," if not loop.last else "" }}{% endfor %}]"#, ""),
        (r#"[{% for t in event.payload.tags %}{{ t }}{% if not loop.last %},{% endif %}{% endfor %}]"#, r#"["x","y"]"#),
        (r#""{{ event.payload.tags | join(", ") | upper }}""#, r#""X, Y""#),
        (r#"{% set who = event.payload.who %}{{ who.n }}"#, "1"),
        (r#"{% if event.type in ["map_kill", "x"] and event.payload.on %}1{% else %}2{% endif %}"#, "1"),
        (
            r#"["{{ event.id }}","{{ event.ts }}","{{ event.map_id }}","{{ event.channel.name }}",{{ event.session }}]"#,
            r#"["01J0YYYYYYYYYYYYYYYYYYYYYY","2025-06-21T12:35:00.123Z","550e8400-e29b-41d4-a716-446655440000","Home",null]"#,
        ),
        (r#"{"10":1, "2":1.0}"#, r#"{"2":1,"10":1}"#),
        (r#"{"a":"\"{{ event.payload.tags[0] }}\\"}"#, r#"{"a":"\"x\\"}"#),
    ] {
        match render(text, KILL) {
            Ok(json) => assert_eq!(json, output, "{text}"),
            Err(error) => assert!(output.is_empty(), "{text}: {error}"),
        }
    }
}

#[test]
fn the_payload_goes_through_a_template_unchanged() {
    let payload = r#"{"2":"🚀\u2028","10":[1,2.5,-0.001,1e21],"deep":[[[{}]]],"big":9007199254740991}"#;
    let canonical = Canonical::parse(payload).unwrap();
    assert_eq!(render("{{ event.payload | tojson }}", payload).as_deref(), Ok(canonical.as_str()));
    assert_eq!(render("{{ event.payload }}", payload).as_deref(), Ok(canonical.as_str()));
}

#[test]
fn what_is_wrong_is_said_with_its_line_and_what_to_do() {
    for (text, expected) in [
        (
            "{\n{{ event. }}}",
            "line 2: syntax error: unexpected end of variable block, expected identifier or integer; correct the template",
        ),
        ("{\n{% if x %}", "line 2: syntax error"),
        ("{{ 'a' | shout }}", "line 1: unknown filter"),
        ("\n\n{{ event.payload.value - 'x' }}", "line 3: invalid operation"),
        ("\n{{ event.nothing / 2 }}", "line 2: invalid operation"),
        ("\u{1}", "line 1: a control character"),
        ("{\"a\": {{ event.id }}, }", "the output is not JSON: "),
        ("", "the output is not JSON: "),
        ("\"\\{{ event.id }}\"", "line 1 of the output: a backslash stands before a value"),
        ("{% macro x() %}{% endmacro %}", "line 1: `macro` cannot be used in a template; there are"),
        ("{{ 'a' * 1000000 }}", "line 1: multiplication cannot be used"),
        ("{{ event.id ~ 'a' }}", "line 1: `~` cannot be used in a template; write the parts one after another"),
        ("{{ event.id + 'a' }}", "line 1: `+`"),
        ("{{ event.id[1:2] }}", "line 1: `:`"),
        ("{{ {'a': 1} }}", "line 1: a mapping"),
        ("{% set x = [1, 2] %}", "line 1: a list under a name"),
        ("{% set x = (1, 2) %}", "line 1: a list under a name"),
        ("{% for x in event.payload|default([1, 2]) %}{% endfor %}", "line 1: a list under a name"),
        ("{% for x in event.payload recursive %}{% endfor %}", "line 1: `recursive`"),
        ("{% set x %}1{% endset %}", "line 1: `endset`"),
        ("{{ range(10) }}", "line 1: unknown function"),
        ("{% include 'x' %}", "line 1: `include`"),
    ] {
        let error = render(text, KILL).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{text}: {error}");
    }
    assert_eq!(Template::compile(&" ".repeat(TEMPLATE_BYTES_MAX + 1)).err(), Some(TemplateError::TooLong));
}

#[test]
fn a_template_is_checked_with_samples_and_an_odd_event() {
    let check = |text: &str, samples: &[Event]| {
        let template = Template::compile(text)?;
        with_subjects(samples, "Home", |subjects| template.check(subjects.iter().copied()))
    };
    assert_eq!(check(r#"{"a":{{ event.payload.value }}}"#, &[event("x", KILL)]), Ok(()));
    assert!(matches!(check("{{ event.payload.value / 2 }}", &[]), Err(TemplateError::Failed { line: 1, .. })));
    assert_eq!(check("{{ event.payload.value | default(0) / 2 }}", &[event("x", KILL)]), Ok(()));
    let only_kills = r#"{% if event.type == "map_kill" %}x{% else %}1{% endif %}"#;
    assert!(matches!(check(only_kills, &[event("map_kill", "{}")]), Err(TemplateError::NotJson(_))));
}

#[test]
fn no_template_takes_much_time_or_memory() {
    let big = format!(r#"{{"big":"{}","list":[{}1]}}"#, "a".repeat(200_000), "1,".repeat(20_000));
    let doubling = "{% set x = x | replace('a', 'aa') %}";
    let started = Instant::now();
    for (text, expected) in [
        (format!("{{% set x = 'a' %}}{}[]", doubling.repeat(400)), "filters"),
        ("{% for x in event.payload.list %}{% for y in event.payload.list %}{% endfor %}{% endfor %}1".into(), "steps"),
        (
            "[{% for x in event.payload.list %}{% if event.payload.big | upper == 'x' %}{% endif %}{% endfor %}]"
                .into(),
            "filters",
        ),
        (format!("[{}]", "{{ event.payload.big }}".repeat(3)), "the output has more"),
        (format!("{{{{ [{}] | tojson }}}}", "event.payload.big,".repeat(40)), "filters"),
        (format!("{{% set x = event.payload.big %}}{{% if [{}] == 1 %}}{{% endif %}}[]", "x,".repeat(120)), ""),
        (format!("{}1{}", "{% if 1 %}".repeat(500), "{% endif %}".repeat(500)), "nesting"),
        (format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000)), "nesting"),
        (format!("{{{{ {}1 }}}}", "-".repeat(15_000)), "this long"),
        (format!("{{{{ {}1 }}}}", "not ".repeat(4000)), "this long"),
        (format!("{{{{ 1{} }}}}", " - 1".repeat(4000)), "this long"),
        (format!("{{{{ 1{} }}}}", " if 1 else 1".repeat(1300)), "this long"),
        (format!("{{{{ x{} }}}}", "|trim".repeat(3000)), "this long"),
        (format!("{{{{ x{} }}}}", ".a".repeat(8000)), "this long"),
        (format!("{}{{% endif %}}", "{% if 1 %}1{% elif 0 %}".repeat(700)), "nesting"),
    ] {
        let outcome = render(&text, &big);
        match outcome {
            Err(error) => assert!(!expected.is_empty() && error.to_string().contains(expected), "{text:.60}: {error}"),
            Ok(_) => assert_eq!(expected, "", "{text:.60}"),
        }
    }
    // debug builds on a busy machine; each of these would run for minutes or out of memory without its bound
    assert!(started.elapsed() < Duration::from_secs(60));
}

/// `n` of everything, in a payload.
fn payload_of(n: usize) -> String {
    let list = (0..n).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let map = (0..n).map(|n| format!("\"k{n:06}\":{n}")).collect::<Vec<_>>().join(",");
    let (text, digits) = ("ab".repeat(n * 8), "1".repeat(n * 16));
    format!(
        r#"{{"list":[{list}],"same":[{list}],"map":{{{map}}},"other":{{{map}}},"text":"{text}","twin":"{text}","digits":"{digits}"}}"#
    )
}

/// The bytes that a condition works through.
fn worked(condition: &str, payload: &str) -> usize {
    let template = Template::compile(&format!("[{{% if {condition} %}}{{% endif %}}]")).expect(condition);
    let counted = with_subjects(&[event("x", payload)], "Home", |subjects| template.render_counted(&subjects[0]));
    counted.unwrap_or_else(|e| panic!("{condition}: {e}")).1
}

#[test]
fn every_operation_costs_by_the_size_of_what_it_touches() {
    let (small, large) = (payload_of(100), payload_of(1000));
    for condition in [
        "-1 in event.payload.list",
        "-1 not in event.payload.list",
        "event.payload.text in event.payload.twin",
        "'x' in event.payload.text",
        "event.payload.text in event.payload.map",
        "event.payload.list in [event.payload.same]",
        "event.payload.list == event.payload.same",
        "event.payload.list != event.payload.same",
        "event.payload.list < event.payload.same",
        "event.payload.map == event.payload.other",
        "event.payload.text == event.payload.twin",
        "event.payload.text <= event.payload.twin",
        "event.payload.text > event.payload.twin",
        "'' < event.payload.text <= event.payload.twin",
        "[event.payload.list] == [event.payload.same]",
        "event.payload.map[event.payload.text]",
        "event.payload.text[event.id]",
        "event.payload.text is startingwith(event.payload.twin)",
        "event.payload.text is endingwith(event.payload.twin)",
        "event.payload.list | tojson",
        "event.payload.map | items",
        "event.payload.map | tojson",
        "event.payload.text | upper",
        "event.payload.text | lower",
        "event.payload.text | trim",
        "event.payload.text | length",
        "event.payload.text | truncate(3)",
        "event.payload.text | replace('a', 'bb')",
        "event.payload.text | replace('', 'b')",
        "event.payload.list | join",
        "event.payload.list | join(', ')",
        "event.payload.text | join",
        "event.payload.digits | int(0)",
        "event.payload.digits | float",
    ] {
        let (few, many) = (worked(condition, &small), worked(condition, &large));
        assert!(many >= 5 * few && many <= 15 * few, "{condition}: {few} bytes, ten times as large {many}");
    }
    // however large the rest is, a look at one part of it costs what that part does
    for condition in ["event.payload.list[0] == 0", "'k000001' in event.payload.map", "event.payload.text == 1"] {
        let (few, many) = (worked(condition, &small), worked(condition, &large));
        assert!(few == many && many < 100, "{condition}: {few} and {many}");
    }
}

#[test]
fn a_comparison_within_loops_ends_the_rendering_before_it_takes_long() {
    let numbers = |n: usize| (0..n).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let payload =
        format!(r#"{{"few":[{}],"many":[{}],"text":"{}"}}"#, numbers(3300), numbers(20_000), "ab".repeat(50_000));
    for condition in [
        "-1 in event.payload.many",
        "event.payload.many == event.payload.many",
        "event.payload.text == event.payload.text",
        "'c' in event.payload.text",
        "loop.changed(event.payload.many)",
        "event.payload[event.payload.text]",
        "event.payload.text is startingwith(event.payload.text)",
    ] {
        let text = format!("[{{% for x in event.payload.few %}}{{% if {condition} %}}{{% endif %}}{{% endfor %}}]");
        match render(&text, &payload) {
            Err(TemplateError::Work { line: 1 }) => {}
            other => panic!("{condition}: {other:?}"),
        }
    }
    let long_name = format!("{{{{ event.{} }}}}", "a".repeat(300));
    assert!(render(&long_name, KILL).unwrap_err().to_string().contains("a name this long"));
}

#[test]
fn comparisons_are_those_of_the_engine() {
    for (condition, holds) in [
        ("event.payload.value > 1", true),
        ("1 < event.payload.who.n", false),
        ("1 <= event.payload.who.n <= 1", true),
        ("1 < 2 < 2", false),
        ("1 == 1.0", true),
        ("event.payload.tags == ['x', 'y']", true),
        ("event.payload.tags < ['x', 'z']", true),
        ("event.payload.who == event.payload.who", true),
        ("event.payload.nothing == none", false),
        ("event.payload.nothing is undefined", true),
        ("event.payload.nothing in event.payload.tags", false),
        ("'x' in event.payload.nothing", false),
        ("'x' in event.payload.tags", true),
        ("'z' not in event.payload.tags", true),
        ("'n' in event.payload.who", true),
        ("'kill' in event.type", true),
        ("1 in 'a1'", true),
        ("event.payload.tags[1] == 'y'", true),
        ("event.payload.tags[-1] == 'y'", true),
        ("event.payload['tags'][event.payload.who.n] == 'y'", true),
        ("event.payload[event.payload.tags[0]] is undefined", true),
        ("not event.payload.tags == ['x']", true),
        ("event.payload.on and event.payload.value >= 250000000.5", true),
        ("('12' | int) == 12 and ('1.5' | float) == 1.5 and ('z' | int(7)) == 7", true),
    ] {
        let text = format!("{{% if {condition} %}}true{{% else %}}false{{% endif %}}");
        assert_eq!(render(&text, KILL).as_deref(), Ok(if holds { "true" } else { "false" }), "{condition}");
    }
    assert!(render("{{ 1 in 2 }}", KILL).unwrap_err().to_string().contains("containment check"));
}

#[test]
fn a_template_is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Template>();
}

/// Templates put together from pieces that mean something, in any order.
fn soup() -> impl Strategy<Value = String> {
    const PIECES: [&str; 30] = [
        "{{ ",
        " }}",
        "{% ",
        " %}",
        "{#",
        "#}",
        "if ",
        "endif",
        "for x in ",
        "endfor",
        "set x = ",
        "event",
        ".payload",
        ".name",
        "[0]",
        "|tojson",
        "|upper",
        "|replace('a','aa')",
        "|join(',')",
        "x",
        "\"",
        "\\",
        "(",
        ")",
        "1",
        " - ",
        "/",
        "{\"a\":",
        "}",
        "{% raw %}",
    ];
    proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn every_template_makes_json_or_a_clean_error(text in prop_oneof![soup(), any::<String>()]) {
        if let Ok(json) = render(&text, KILL) {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
        }
    }
}
