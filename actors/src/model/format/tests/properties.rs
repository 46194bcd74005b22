//! What holds for every payload: the limits of Discord and Slack, and that a body is the JSON which receivers make of it.

use proptest::prelude::*;

use super::*;

/// Counts as Discord's client does.
fn units(value: &Value) -> usize {
    value.as_str().unwrap().encode_utf16().count()
}

/// Panics where Discord would answer 400.
fn check_discord(body: &[u8]) {
    let message: Value = serde_json::from_slice(body).unwrap();
    assert_eq!(message["allowed_mentions"], json!({"parse": []}));
    assert!(message["content"].is_null() || units(&message["content"]) <= 2_000);
    let embeds = message["embeds"].as_array().unwrap();
    assert!((1..=10).contains(&embeds.len()));
    let text = |value: &Value, max| {
        assert!(!value.as_str().unwrap().trim().is_empty());
        assert!((1..=max).contains(&units(value)), "{value}");
        units(value)
    };
    let mut total = 0;
    for embed in embeds {
        total += text(&embed["title"], 256) + text(&embed["description"], 4_096);
        if let Some(footer) = embed.get("footer") {
            total += text(&footer["text"], 2_048);
        }
        let fields = embed.get("fields").map_or(&[][..], |fields| fields.as_array().unwrap());
        assert!(fields.len() <= 25);
        for field in fields {
            total += text(&field["name"], 256) + text(&field["value"], 1_024);
        }
    }
    assert!(total <= 6_000, "{total}");
}

/// Panics where Slack would answer `invalid_blocks`.
fn check_slack(body: &[u8]) {
    let message: Value = serde_json::from_slice(body).unwrap();
    let text = |value: &Value, max| {
        assert!(!value.as_str().unwrap().trim().is_empty());
        assert!((1..=max).contains(&units(value)), "{value}");
        // the only angle brackets are those of the kill's link
        let bare = value.as_str().unwrap().replace("<https://zkillboard.com/kill/", "");
        assert!(!bare.contains('<'), "{value}");
    };
    text(&message["text"], 3_000);
    let blocks = message["blocks"].as_array().unwrap();
    assert!((1..=50).contains(&blocks.len()));
    for block in blocks {
        match block["type"].as_str().unwrap() {
            "header" => text(&block["text"]["text"], 150),
            "section" => {
                text(&block["text"]["text"], 3_000);
                let fields = block.get("fields").map_or(&[][..], |fields| fields.as_array().unwrap());
                assert!(fields.len() <= 10);
                fields.iter().for_each(|field| text(&field["text"], 2_000));
            }
            "context" => block["elements"].as_array().unwrap().iter().for_each(|e| text(&e["text"], 3_000)),
            other => panic!("{other}"),
        }
    }
}

/// The keys that the formats look for, so that random values stand where they hurt.
const KEYS: [&str; 26] = [
    "name",
    "type",
    "class",
    "statics",
    "solar_system_id",
    "system_name",
    "victim",
    "ship",
    "value",
    "killmail_id",
    "from_name",
    "to_name",
    "mass_status",
    "member_name",
    "member_type",
    "role",
    "acl_id",
    "old_name",
    "eve_id",
    "message",
    "structure_type",
    "end_time",
    "characters",
    "description",
    "10",
    "\u{2028}\"\\",
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => any::<String>(),
        2 => "[`*_~|<>@#\\\\ \\[\\]{}%\"-]{0,40}",
        2 => Just("```\n{{ event }} {% raw %} <@&1> @everyone".to_owned()),
        1 => Just(" \u{200b}\t".to_owned()),
        1 => (1usize..1_500).prop_map(|n| "🚀".repeat(n)),
        1 => (1usize..9_000).prop_map(|n| "`".repeat(n)),
        1 => (1usize..1_500).prop_map(|n| "&<*".repeat(n)),
    ]
}

fn payload() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    let key = || prop_oneof![6 => proptest::sample::select(&KEYS[..]).prop_map(str::to_owned), 1 => text()];
    let value = leaf.prop_recursive(6, 60, 8, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            proptest::collection::hash_map(key(), inner, 0..8).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    proptest::collection::hash_map(key(), value, 0..20)
        .prop_map(|map| Value::Object(map.into_iter().collect()).to_string())
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let one = (proptest::sample::select(&KINDS[..]), payload()).prop_map(|(kind, payload)| event(kind, &payload));
    proptest::collection::vec(one, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn discord_and_slack_take_what_is_made_of_every_payload(events in events(), name in text()) {
        with_subjects(&events, &name, |subjects| {
            for form in [Form::Discord, Form::Slack] {
                let check = if form.format() == Format::Discord { check_discord } else { check_slack };
                check(&form.render(&subjects[0]).unwrap().body);
                check(&form.render_batch(subjects).unwrap().body);
            }
        });
    }

    #[test]
    fn every_body_is_a_fixed_point_of_javascript(events in events()) {
        let template = Template::compile(r#"{"t":"{{ event.type }}","p":{{ event.payload }}}"#).unwrap();
        for form in [Form::Gateway, Form::Feed, Form::Standard, Form::CloudEvents, Form::Discord, Form::Slack, Form::Template(template)] {
            let rendered = rendered(&form, &events);
            let text = std::str::from_utf8(&rendered.body).unwrap();
            let canonical = Canonical::parse(text).unwrap();
            prop_assert_eq!(canonical.as_str(), text);
        }
    }

    #[test]
    fn a_template_makes_json_of_every_payload_wherever_the_values_stand(payload in payload()) {
        let text = r#"{"in":"{{ event.payload.name }} of {{ event.payload }} {{ event.payload | tojson }}",
            "out":{{ event.payload.name }},"json":{{ event.payload | tojson }},"missing":{{ event.payload.no.such }},
            "list":[{% for key, value in event.payload | items %}["{{ key }}",{{ value }}]{% if not loop.last %},{% endif %}{% endfor %}],
            "cut":"{{ event.payload.name | truncate(10) | upper }}","victim":"{{ event.payload.victim.name | default("-") }}"}"#;
        let template = Template::compile(text).unwrap();
        let event = event("map_kill", &payload);
        let json = match with_subjects(std::slice::from_ref(&event), "Home", |subjects| template.render(&subjects[0])) {
            // the template shows the payload five times
            Err(TemplateError::OutputTooLong) if payload.len() > OUTPUT_BYTES_MAX / 12 => return Ok(()),
            outcome => outcome.map_err(|error| TestCaseError::fail(error.to_string()))?,
        };
        let value: Value = serde_json::from_str(json.as_str()).unwrap();
        let expected: Value = serde_json::from_str(event.payload.as_str()).unwrap();
        prop_assert_eq!(&value["json"], &expected);
        prop_assert_eq!(&value["out"], &expected["name"]);
        prop_assert_eq!(&value["missing"], &Value::Null);
        prop_assert_eq!(value["list"].as_array().unwrap().len(), expected.as_object().unwrap().len());
        if let Some(name) = expected["name"].as_str() {
            let start = format!("{name} of ");
            prop_assert!(value["in"].as_str().unwrap().starts_with(&start));
        }
    }
}
