use std::io::Write as _;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use rstest::rstest;
use serde_json::Value;

use super::*;

fn canonical(text: &str) -> String {
    Canonical::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).as_str().to_owned()
}

#[rstest]
#[case::white_space(" \t\r\n{ \"a\" : [ 1 , 2 ] , \"b\" : { } }\n", r#"{"a":[1,2],"b":{}}"#)]
#[case::scalars("[null,true,false,\"\",[],{}]", r#"[null,true,false,"",[],{}]"#)]
#[case::whole_floats("[1.0,2.5e8,-0,-0.0,0e9,1E+2,1000000.00]", "[1,250000000,0,0,0,100,1000000]")]
#[case::shortest(
    "[0.1,1e21,123456789012345680000,1e-7,0.000001,5e-324]",
    "[0.1,1e+21,123456789012345680000,1e-7,0.000001,5e-324]"
)]
#[case::correctly_rounded(
    "[2.2250738585072011e-308,1.7976931348623157e308]",
    "[2.225073858507201e-308,1.7976931348623157e+308]"
)]
#[case::underflow("[1e-400,-1e-400]", "[0,0]")]
#[case::safe_integers("[9007199254740991,-9007199254740992]", "[9007199254740991,-9007199254740992]")]
#[case::integers_of_64_bits(
    "[9007199254740993,18446744073709551615,-9223372036854775808]",
    "[9007199254740993,18446744073709551615,-9223372036854775808]"
)]
#[case::integers_beyond("[18446744073709551616,-9223372036854775809]", "[18446744073709551616,-9223372036854775809]")]
#[case::integers_among_doubles(
    "[1e20,123456789012345678901234567890,-0,1.0,1E22,10000000000000000000000,\"99999999999999999999\",7]",
    "[100000000000000000000,123456789012345678901234567890,0,1,1e+22,10000000000000000000000,\"99999999999999999999\",7]"
)]
#[case::escapes(r#""\u0008\t\n\f\r\"\\\/\u0000\u001F\u001f""#, r#""\b\t\n\f\r\"\\/\u0000\u001f\u001f""#)]
#[case::raw_where_javascript_is("\"\\u2028\\u2029\\u007f\\u00e9\\ud83d\\ude00\"", "\"\u{2028}\u{2029}\u{7f}é😀\"")]
#[case::keys_as_they_appeared(r#"{"b":1,"a":2,"":3}"#, r#"{"b":1,"a":2,"":3}"#)]
#[case::indices_first(r#"{"b":1,"10":2,"9":3,"a":4,"0":5}"#, r#"{"0":5,"9":3,"10":2,"b":1,"a":4}"#)]
#[case::what_is_no_index(
    r#"{"01":1,"-1":2,"1.0":3,"1e1":4,"4294967295":5,"4294967294":6,"99999999999":7,"00":8,"1+":9}"#,
    r#"{"4294967294":6,"01":1,"-1":2,"1.0":3,"1e1":4,"4294967295":5,"99999999999":7,"00":8,"1+":9}"#
)]
#[case::last_value_at_first_place(r#"{"a":1,"b":2,"a":3}"#, r#"{"a":3,"b":2}"#)]
#[case::same_key_by_escape(r#"{"\u0061":1,"b":2,"a":[3]}"#, r#"{"a":[3],"b":2}"#)]
#[case::keys_with_escapes(r#"{"\n":1,"\"":2,"\u000a":3}"#, r#"{"\n":3,"\"":2}"#)]
#[case::prototype(r#"{"__proto__":{"x":1},"constructor":2}"#, r#"{"__proto__":{"x":1},"constructor":2}"#)]
#[case::nested(
    r#"{"a":{"2":1,"1":{"x":1,"x":2}},"a2":[{"1":0,"0":1}]}"#,
    r#"{"a":{"1":{"x":2},"2":1},"a2":[{"0":1,"1":0}]}"#
)]
#[case::one_index(r#"{"7":1}"#, r#"{"7":1}"#)]
fn a_text_gets_the_form_that_javascript_gives_it(#[case] text: &str, #[case] expected: &str) {
    assert_eq!(canonical(text), expected);
    assert_eq!(canonical(expected), expected);
}

#[rstest]
#[case::nothing("", 1, 0, "EOF while parsing a value")]
#[case::rest("{} x", 1, 4, "trailing characters")]
#[case::second_line("{\"a\":1,\n \"b\" 2}", 2, 6, "expected `:`")]
#[case::overflow("[1e400]", 1, 6, "number out of range")]
#[case::not_a_number("NaN", 1, 1, "expected value")]
#[case::leading_zero("01", 1, 2, "invalid number")]
#[case::lone_low_surrogate(r#""\ude00""#, 1, 7, "lone leading surrogate in hex escape")]
#[case::lone_high_surrogate(r#"{"a":"\ud83d"}"#, 1, 13, "unexpected end of hex escape")]
#[case::lone_surrogate_in_a_key(r#"{"\ud83d":1}"#, 1, 9, "unexpected end of hex escape")]
#[case::raw_control("\"a\nb\"", 2, 0, "control character (\\u0000-\\u001F) found while parsing a string")]
#[case::trailing_comma("[1,]", 1, 4, "trailing comma")]
#[case::number_as_key("{1:2}", 1, 2, "key must be a string")]
#[case::byte_order_mark("\u{feff}{}", 1, 1, "expected value")]
fn what_is_no_json_is_refused_with_its_place(
    #[case] text: &str,
    #[case] line: usize,
    #[case] column: usize,
    #[case] message: &str,
) {
    assert_eq!(Canonical::parse(text), Err(JsonError { line, column, message: message.into() }));
}

#[test]
fn what_was_stored_and_is_not_utf8_is_none() {
    assert_eq!(Canonical::from_log(Bytes::from_static(b"\xff")), None);
}

#[test]
fn nesting_is_taken_up_to_the_limit_and_no_deeper() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let nested = |depth: usize| format!("{}{}{}", open.repeat(depth), "1", close.repeat(depth));
        assert_eq!(canonical(&nested(DEPTH_MAX)), nested(DEPTH_MAX));
        for depth in [DEPTH_MAX + 1, 128, 100_000] {
            let error = Canonical::parse(&nested(depth)).unwrap_err();
            assert_eq!(&*error.message, "nested deeper than 120 levels");
            assert_eq!(error.line, 1);
        }
    }
}

#[test]
fn depth_counts_levels_and_not_brackets() {
    let wide = format!("[{}0]", "[{}],".repeat(1000));
    assert_eq!(canonical(&wide), wide);
}

#[test]
fn a_large_object_keeps_the_last_of_each_key_in_order() {
    let members = |value: usize| (0..5_000).map(move |i| format!("\"k{i}\":{value}"));
    let twice: Vec<String> = members(1).chain(members(2)).collect();
    let once: Vec<String> = members(2).collect();
    assert_eq!(canonical(&format!("{{{}}}", twice.join(","))), format!("{{{}}}", once.join(",")));
}

#[rstest]
#[case(r#"{}"#, r#"{"user_id":"u"}"#)]
#[case(r#"{"a":1}"#, r#"{"user_id":"u","a":1}"#)]
#[case(r#"{"a":1,"7":2}"#, r#"{"7":2,"user_id":"u","a":1}"#)]
#[case(r#"{"a":1,"user_id":2}"#, r#"{"a":1,"user_id":2}"#)]
#[case(r#"{"user_id":1,"a":1,"user_id":2}"#, r#"{"user_id":2,"a":1}"#)]
#[case(r#"{"a":{"user_id":1},"b":{}}"#, r#"{"user_id":"u","a":{"user_id":1},"b":{}}"#)]
#[case(r#"[{}]"#, r#"[{}]"#)]
fn a_member_is_put_first_where_the_object_has_none_of_its_name(#[case] text: &str, #[case] expected: &str) {
    let value = Canonical::parse("\"u\"").unwrap();
    assert_eq!(Canonical::parse_with_member(text, "user_id", &value).unwrap().as_str(), expected);
}

#[test]
fn only_an_object_says_that_it_is_one() {
    assert!(Canonical::EMPTY_OBJECT.is_object());
    assert!(Canonical::parse(" {\"a\":1}").unwrap().is_object());
    for text in ["[]", "\"{}\"", "1", "null"] {
        assert!(!Canonical::parse(text).unwrap().is_object(), "{text}");
    }
}

/// JSON text as clients may write it: white space, escapes, odd numbers, keys that repeat or look like indices.
fn json_text() -> impl Strategy<Value = String> {
    let space = || prop::sample::select(vec!["", "", "", " ", "\n", "\t \r\n"]);
    let number = prop_oneof![
        (-(1i64 << 53)..=1 << 53).prop_map(|n| n.to_string()),
        (-1000i64..1000).prop_map(|n| n.to_string()),
        prop::num::f64::NORMAL.prop_map(|n| format!("{n:e}")),
        prop::num::f64::SUBNORMAL.prop_map(|n| format!("{n:e}")),
        (-1e9..1e9).prop_map(|n: f64| n.to_string()),
        "-?(0|[1-9][0-9]{0,14})\\.[0-9]{1,25}",
        "-?(0|[1-9][0-9]{0,8})(\\.[0-9]{1,4})?[eE][+-]?[0-9]{1,2}",
    ];
    let character = prop_oneof![
        4 => any::<char>().prop_map(|c| if c < ' ' || c == '"' || c == '\\' { format!("\\u{:04X}", c as u32) } else { c.into() }),
        4 => "[ -!#-\\[\\]-~]",
        1 => (0u32..0xd800).prop_map(|c| format!("\\u{c:04x}")),
        1 => (0xd800u32..0xdc00, 0xdc00u32..0xe000).prop_map(|(a, b)| format!("\\u{a:04x}\\u{b:04X}")),
        1 => prop::sample::select(vec!["\\b", "\\t", "\\n", "\\f", "\\r", "\\\"", "\\\\", "\\/"]).prop_map(String::from),
    ];
    let string = prop::collection::vec(character, 0..12).prop_map(|parts| format!("\"{}\"", parts.concat()));
    let key = prop_oneof![
        3 => "\"[a-d]{0,2}\"",
        2 => "\"(0|[1-9][0-9]{0,10})\"",
        1 => prop::sample::select(vec!["\"__proto__\"", "\"\\u0061\"", "\"01\"", "\"4294967294\"", "\"4294967295\"", "\"-1\""])
            .prop_map(String::from),
        1 => string.clone(),
    ];
    let leaf = prop_oneof![prop::sample::select(vec!["null", "true", "false"]).prop_map(String::from), number, string];
    leaf.prop_recursive(5, 60, 12, move |inner| {
        let element = (space(), inner.clone()).prop_map(|(s, v)| format!("{s}{v}{s}"));
        let member = (space(), key.clone(), inner).prop_map(|(s, k, v)| format!("{s}{k}{s}:{s}{v}"));
        prop_oneof![
            prop::collection::vec(element, 0..6).prop_map(|all| format!("[{}]", all.join(","))),
            prop::collection::vec(member.clone(), 0..8).prop_map(|all| format!("{{{}}}", all.join(","))),
            prop::collection::vec(member, 16..24).prop_map(|all| format!("{{{}}}", all.join(","))),
        ]
    })
}

/// Equal as JavaScript sees it: 1.0 is 1.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

proptest! {
    #[test]
    fn the_canonical_form_is_its_own_canonical_form_and_has_the_same_value(text in json_text()) {
        let once = canonical(&text);
        prop_assert_eq!(&canonical(&once), &once);
        let values: [Value; 2] = [serde_json::from_str(&text).unwrap(), serde_json::from_str(&once).unwrap()];
        prop_assert!(same(&values[0], &values[1]), "{}\n{}", text, once);
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), text in "[\\[\\]{}\":,0-9eE.+\\\\u -]{0,40}") {
        let _ = super::text(&bytes).map(|text| Canonical::parse(&text));
        let _ = Canonical::parse(&text);
    }
}

#[test]
fn node_writes_the_same_bytes() {
    const SCRIPT: &str = "const texts = JSON.parse(require('fs').readFileSync(0, 'utf8'));\
        process.stdout.write(JSON.stringify(texts.map(t => JSON.stringify(JSON.parse(t)))));";
    let node = Command::new("node").args(["-e", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut node = match node {
        Ok(node) => node,
        Err(error) => {
            assert!(std::env::var("CI").is_err(), "CI must have node: {error}");
            eprintln!("NOT CHECKED: there is no node on the PATH ({error})");
            return;
        }
    };
    let mut runner = TestRunner::deterministic();
    let strategy = json_text();
    let texts: Vec<String> = (0..600).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();

    let mut input = node.stdin.take().expect("stdin is piped");
    input.write_all(&serde_json::to_vec(&texts).unwrap()).unwrap();
    drop(input);
    let output = node.wait_with_output().unwrap();
    assert!(output.status.success());
    let theirs: Vec<String> = serde_json::from_slice(&output.stdout).unwrap();
    for (text, theirs) in texts.iter().zip(&theirs) {
        assert_eq!(&canonical(text), theirs, "{text}");
    }
    assert_eq!(texts.len(), theirs.len());
}

proptest! {
    /// The digits of a long integer stay, whatever numbers stand around it.
    #[test]
    fn an_integer_of_any_length_keeps_its_digits(before in json_text(), digits in "-?[1-9][0-9]{15,60}", after in json_text()) {
        let text = format!("[{before},{digits},{{\"a\":{digits}}},{after}]");
        let expected = format!("[{},{digits},{{\"a\":{digits}}},{}]", canonical(&before), canonical(&after));
        prop_assert_eq!(&canonical(&text), &expected);
        prop_assert_eq!(&canonical(&expected), &expected);
    }
}

#[test]
fn json_that_nobody_meant_is_refused_or_has_one_form() {
    let seeds = [
        r#"{"a":[1,-2.5e10,"\u00e9\ud83d\ude00",null,true],"b":{"c":{}}}"#,
        "[0.1,1e21,1e-7,123456789012345678901234567890]",
        "\"\"",
    ];
    let words = ["\\ud800", "\\u0000", "1e999", "-0", "{\"a\":", "[[[[", "null", "\u{feff}"];
    crate::fuzz::run("json", seeds, &words, |bytes| {
        let Ok(text) = text(bytes) else { return };
        let Ok(once) = Canonical::parse(&text) else { return };
        let twice = Canonical::parse(once.as_str()).expect("what was written can be read");
        assert_eq!(once.as_str(), twice.as_str());
        serde_json::from_str::<Value>(once.as_str()).expect("others can read it");
    });
}
