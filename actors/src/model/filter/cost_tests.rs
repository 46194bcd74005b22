//! What a filter costs: by the size of what it touches, never more than it may, and compiled once.

use std::sync::Arc;

use rstest::rstest;

use super::tests::{KILL, event, expression, judge, largest_payload};
use super::*;

/// `n` of everything, in a payload.
fn payload_of(n: usize) -> String {
    let numbers = (0..n).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let fields = (0..n).map(|n| format!("\"k{n:06}\":{n}")).collect::<Vec<_>>().join(",");
    let text = "ab".repeat(n * 16);
    let digits = "1".repeat(n * 16);
    format!(
        "{{\"list\":[{numbers}],\"same\":[{numbers}],\"map\":{{{fields}}},\"other\":{{{fields}}},\"text\":\"{text}\",\
         \"twin\":\"{text}\",\"digits\":\"{digits}\"}}"
    )
}

/// The steps of the evaluation alone, after the payload has been read.
fn steps(text: &str, event: &Event) -> u64 {
    let input = FilterInput::new();
    input.tree(&event.payload);
    expression(text).unwrap_or_else(|fault| panic!("{text}: {fault}")).judge(event, &input).steps
}

#[rstest]
#[case("-1 in event.payload.list")]
#[case("event.payload.text in event.payload.list")]
#[case("event.payload.list == event.payload.same")]
#[case("event.payload.list != event.payload.same")]
#[case("event.payload.map == event.payload.other")]
#[case("[event.payload.map] == [event.payload.other]")]
#[case("event.payload.text == event.payload.twin")]
#[case("event.payload.text <= event.payload.twin")]
#[case("[event.payload.list] != [event.payload.same]")]
#[case("event.payload.list in [event.payload.same]")]
#[case("(event.payload.list + event.payload.same).size() > 0")]
#[case("(event.payload.text + event.payload.twin) != ''")]
#[case("size(event.payload.text) > 0")]
#[case("event.payload.text.contains('ba ')")]
#[case("'ab'.contains(event.payload.text)")]
#[case("event.payload.text.startsWith(event.payload.twin)")]
#[case("event.payload.text.endsWith(event.payload.twin)")]
#[case("event.payload.text.lowerAscii() != ''")]
#[case("event.text.lowerAscii().contains('no such word')")]
#[case("event.payload.text.upperAscii() != ''")]
#[case("event.payload.text.matches('^(ab)*c')")]
#[case("matches(event.payload.text, 'c$')")]
#[case("int(event.payload.digits) > 0")]
#[case("double(event.payload.digits) > 0.0")]
#[case("bool(event.payload.text)")]
#[case("timestamp(event.payload.text) > timestamp(0)")]
#[case("duration(event.payload.text) > duration('1s')")]
#[case("event.payload.map[event.payload.text] == 1")]
#[case("event.payload.text in event.payload.map")]
#[case("event.payload.list.all(x, x >= 0)")]
#[case("event.payload.list.exists(x, x < 0)")]
#[case("event.payload.list.exists_one(x, x < 0)")]
#[case("event.payload.list.map(x, x).size() > 0")]
#[case("event.payload.list.filter(x, true).size() > 0")]
#[case("event.payload.map.all(key, key != '')")]
fn an_operation_costs_by_the_size_of_what_it_touches(#[case] text: &str) {
    let (small, large) = (event("x", &payload_of(100)), event("x", &payload_of(1000)));
    let (few, many) = (steps(text, &small), steps(text, &large));
    assert!(many >= 5 * few && many <= 11 * few, "{text}: {few} steps, ten times as large {many}");
}

#[test]
fn reading_the_payload_for_the_first_time_costs_by_its_size() {
    let filter = expression("event.payload.none == 1").expect("a good filter");
    let reading = |n| {
        let (event, input) = (event("x", &payload_of(n)), FilterInput::new());
        let first = filter.judge(&event, &input).steps;
        let second = filter.judge(&event, &input).steps;
        first - second
    };
    assert!(reading(1000) > 9 * reading(100));
    let of_paths = Filter::compile(&FilterSpec { path_prefix: vec!["/x".into()], ..FilterSpec::default() });
    let of_paths = of_paths.expect("a good filter");
    let paths = |n| of_paths.judge(&event("x", &payload_of(n)), &FilterInput::new()).steps;
    assert!(paths(1000) > 9 * paths(100));
}

#[rstest]
#[case("event.payload.rows.all(a, a.all(b, b.all(c, c > 0)))")]
#[case("event.payload.rows.all(a, event.payload.text.matches('(a|b|ab|ba){40}c') || event.payload.rows != a)")]
#[case("event.payload.rows.map(a, event.payload.text + event.payload.text).size() > 0")]
#[case("event.payload.rows.all(a, !(event.payload.text in event.payload.rows))")]
fn a_judgement_never_takes_more_than_it_may(#[case] text: &str) {
    let event = event("x", &largest_payload());
    let filter = expression(text).expect("a good filter");
    let input = FilterInput::new();
    let whole = filter.judge(&event, &input);
    let reading = input.tree_cost(&event.payload) + event.payload.as_str().len() as u64;
    assert!(whole.is_spent && whole.steps <= EVALUATION_STEPS_MAX + reading, "{text}: {whole:?}");
    for steps in [0, 1, 10, 1000, EVALUATION_STEPS_MAX / 2] {
        assert_eq!(filter.judge_within(&event, &FilterInput::new(), steps), None, "nothing is read for it");
        assert_eq!(filter.judge_within(&event, &input, steps), None, "{text}");
    }
    let within = filter.judge_within(&event, &input, 2 * EVALUATION_STEPS_MAX).expect("it is enough");
    assert!(within.is_spent && within.steps <= EVALUATION_STEPS_MAX + 1);
}

#[test]
fn a_cheap_judgement_is_the_same_with_few_steps() {
    let event = event("map_kill", KILL);
    for (text, verdict) in
        [("event.type == 'map_kill'", Verdict::Match), ("event.payload.whole == 5", Verdict::NoMatch)]
    {
        let filter = expression(text).expect("a good filter");
        let judged = filter.judge_within(&event, &FilterInput::new(), 500).expect("it is enough");
        assert_eq!((judged.verdict, judged.is_spent), (verdict, false));
        assert!(judged.steps < 500);
    }
}

#[test]
fn equal_filters_are_compiled_once() {
    let compile = |text: &str| expression(text).expect("a good filter");
    let (one, two) = (compile("event.payload.once == 1"), compile("event.payload.once == 1"));
    assert!(Arc::ptr_eq(&one.0, &two.0));
    assert!(!Arc::ptr_eq(&one.0, &compile("event.payload.once == 2").0));
    let spec = |text: &str| FilterSpec { filter: Some(text.into()), ..FilterSpec::default() };
    assert_eq!(Filter::ready(&spec("event.payload.never_seen_before == 1")), Ok(None));
    assert_eq!(Filter::ready(&spec("event.payload.once == 1")), Ok(Some(one)));
    assert_eq!(Filter::ready(&FilterSpec::default()), Ok(Some(Filter::all())));
    assert!(Filter::ready(&FilterSpec { session: Some(String::new()), ..FilterSpec::default() }).is_err());
}

#[test]
fn compiling_on_many_threads_at_once_gives_each_its_own() {
    let threads: Vec<_> = (0..8)
        .map(|n| {
            std::thread::spawn(move || {
                if n % 2 == 0 {
                    assert!(judge(&format!("event.payload.whole + {n} == 4 + {n}"), &event("x", KILL)).is_match());
                } else {
                    assert!(expression(&format!("event.payload.{n} ==")).is_err());
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("none panics"));
}

#[test]
fn the_patterns_of_one_expression_are_bounded_together() {
    let one = r"event.type.matches('\\w{3}')";
    assert!(expression(one).is_ok());
    let many = (0..60).map(|n| format!(r"event.type.matches('\\w{{3}}{n}')")).collect::<Vec<_>>().join(" || ");
    let fault = expression(&many).expect_err("too much");
    assert!(fault.to_string().contains("together"), "{fault}");
}
