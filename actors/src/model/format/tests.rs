//! The formats as a whole: golden bodies.

mod properties;

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::model::event::{ChannelNo, Event, EventType, Origin};
use crate::model::id::EventId;
use crate::model::json::Canonical;
use crate::model::signature::{Secret, verify_feed, verify_gateway, verify_map, verify_standard};

const MAP_ID: &str = "550e8400-e29b-41d4-a716-446655440000";
const AT_MS: i64 = 1_750_509_300_123;

/// Every type of the maps catalogue, and what may come beside it.
const KINDS: [&str; 26] = [
    "add_system",
    "deleted_system",
    "system_renamed",
    "system_metadata_changed",
    "connection_added",
    "connection_removed",
    "connection_updated",
    "signature_added",
    "signature_removed",
    "signatures_updated",
    "character_added",
    "character_removed",
    "character_updated",
    "characters_updated",
    "map_kill",
    "acl_member_added",
    "acl_member_removed",
    "acl_member_updated",
    "rally_point_added",
    "rally_point_removed",
    "structure_added",
    "structure_removed",
    "structure_updated",
    "structure_timer",
    "poll.vote_cast",
    "________________________________________________________________",
];
const CATALOGUE: usize = 24;

pub(super) fn event(kind: &str, payload: &str) -> Event {
    Event {
        id: "01J0YYYYYYYYYYYYYYYYYYYYYY".parse::<EventId>().unwrap(),
        channel: ChannelNo(1),
        kind: EventType::new(kind).unwrap(),
        ts_ms: AT_MS,
        session: None,
        origin: Default::default(),
        payload: Canonical::parse(payload).unwrap(),
    }
}

/// Calls `look` with each event as it would be sent.
pub(super) fn with_subjects<T>(events: &[Event], name: &str, look: impl FnOnce(&[Subject<'_>]) -> T) -> T {
    let envelopes: Vec<Bytes> = events
        .iter()
        .map(|event| format!(r#"{{"id":"{}","payload":{}}}"#, event.id, event.payload.as_str()).into())
        .collect();
    let channel = ChannelLabel { family: Family::Map, id: MAP_ID, name };
    let subjects: Vec<_> =
        events.iter().zip(&envelopes).map(|(event, envelope)| Subject { event, envelope, channel }).collect();
    look(&subjects)
}

fn rendered(form: &Form, events: &[Event]) -> Rendered {
    with_subjects(events, "Home", |subjects| form.render_batch(subjects)).unwrap()
}

fn body(form: &Form, event: &Event) -> Value {
    let one = with_subjects(std::slice::from_ref(event), "Home", |subjects| form.render(&subjects[0])).unwrap();
    serde_json::from_slice(&one.body).unwrap()
}

fn kill() -> Event {
    event(
        "map_kill",
        r#"{"killmail_id":12345678,"system_name":"J123456","victim":{"name":"Pilot Name","ship":"Stratios","corporation":"Corp Name"},"value":250000000}"#,
    )
}

fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(header, _)| *header == name).map(|(_, value)| value.as_str())
}

#[test]
fn the_body_of_a_format_that_only_signs_is_the_envelope_itself() {
    let events = [kill(), event("add_system", "{}")];
    with_subjects(&events, "Home", |subjects| {
        for form in [Form::Map, Form::Gateway, Form::Feed, Form::Standard] {
            let one = form.render(&subjects[0]).unwrap();
            assert_eq!(one.body.as_ptr(), subjects[0].envelope.as_ptr(), "not even copied");
            let two = form.render_batch(subjects).unwrap();
            let expected =
                [b"{\"events\":[", &subjects[0].envelope[..], b",", &subjects[1].envelope[..], b"]}"].concat();
            assert_eq!(two.body, expected);
            assert_eq!(form.render_batch(&subjects[..1]).unwrap().body.len(), subjects[0].envelope.len() + 13);
        }
    });
}

#[test]
fn headers_of_map_tell_the_attempt_and_both_signatures_of_a_rotation() {
    let mut keys = Keys::new(Secret::from_random([1; 32]));
    keys.rotate(Secret::from_random([2; 32]), AT_MS + 1);
    let rendered = rendered(&Form::Map, &[kill()]);
    let attempt = Attempt { delivery: "01J0YYYYYYYYYYYYYYYYYYYYYY", number: 3, at_ms: AT_MS };
    let sent = headers(Format::Map, &rendered, &attempt, Some(&keys));
    for (name, value) in [
        ("User-Agent", concat!("Stentor/", env!("CARGO_PKG_VERSION"))),
        ("X-Wanderer-Version", "1"),
        ("X-Wanderer-Event", "map_kill"),
        ("X-Wanderer-Delivery", attempt.delivery),
        ("X-Wanderer-Attempt", "3"),
        ("X-Wanderer-Timestamp", "1750509300"),
        ("webhook-id", attempt.delivery),
        ("webhook-timestamp", "1750509300"),
    ] {
        assert_eq!(header(&sent, name), Some(value), "{name}");
    }
    let both = header(&sent, "webhook-signature").unwrap();
    for (byte, name) in [(2, "X-Wanderer-Signature"), (1, "X-Wanderer-Signature-Previous")] {
        let secret = Secret::from_random([byte; 32]);
        let signature = header(&sent, name).unwrap();
        assert_eq!(verify_map(&secret, "1750509300", &rendered.body, signature), Ok(()));
        let standard = verify_standard(&secret, attempt.delivery, "1750509300", both, &rendered.body, 1_750_509_300, 0);
        assert_eq!(standard, Ok(()));
    }
    let later = Attempt { at_ms: AT_MS + 1, ..attempt };
    let sent = headers(Format::Map, &rendered, &later, Some(&keys));
    assert_eq!(header(&sent, "X-Wanderer-Signature-Previous"), None);
    assert!(!header(&sent, "webhook-signature").unwrap().contains(' '));
}

#[test]
fn headers_of_gateway_are_those_of_its_document_and_sign_twice_during_a_rotation() {
    let mut keys = Keys::new(Secret::from_text("old and chosen").ok().unwrap());
    keys.rotate(Secret::from_text("new and chosen").ok().unwrap(), AT_MS + 1);
    let attempt = Attempt { delivery: "dlv_01J0ZZZZZZZZZZZZZZZZZZZZZZ", number: 2, at_ms: AT_MS };
    let one = with_subjects(&[kill()], "Home", |subjects| Form::Gateway.render(&subjects[0])).unwrap();
    let sent = headers(Format::Gateway, &one, &attempt, Some(&keys));
    let names: Vec<_> = sent.iter().map(|(name, _)| *name).collect();
    let hmac = ["X-Webhook-Hmac", "X-Webhook-Hmac-Algorithm", "X-Webhook-Hmac-Previous"];
    assert_eq!(names, [&["User-Agent", "X-Webhook-Request-Id", "X-Webhook-Timestamp"], &hmac[..]].concat());
    assert_eq!(header(&sent, "X-Webhook-Request-Id"), Some("evt_01J0YYYYYYYYYYYYYYYYYYYYYY"));
    assert_eq!(header(&sent, "X-Webhook-Timestamp"), Some("1750509300123"));
    assert_eq!(header(&sent, "X-Webhook-Hmac-Algorithm"), Some("sha512"));
    let previous = keys.previous_at(AT_MS).unwrap();
    for (name, secret) in [("X-Webhook-Hmac", &keys.current), ("X-Webhook-Hmac-Previous", previous)] {
        assert_eq!(verify_gateway(secret, &one.body, header(&sent, name).unwrap()), Ok(()));
    }
    let after = headers(Format::Gateway, &one, &Attempt { at_ms: AT_MS + 1, ..attempt }, Some(&keys));
    assert_eq!(header(&after, "X-Webhook-Hmac-Previous"), None);
    let batch = headers(Format::Gateway, &rendered(&Form::Gateway, &[kill()]), &attempt, None);
    assert_eq!(header(&batch, "X-Webhook-Request-Id"), Some(attempt.delivery), "a batch has no event of its own");
    assert!(batch.iter().all(|(name, _)| !hmac.contains(name)), "without a secret there is nothing to verify by");
}

#[test]
fn headers_of_the_feed_name_the_event_and_sign_the_body() {
    let mut keys = Keys::new(Secret::from_text("old and chosen").ok().unwrap());
    keys.rotate(Secret::from_random([2; 32]), AT_MS + 1);
    let attempt = Attempt { delivery: "dlv_01J0ZZZZZZZZZZZZZZZZZZZZZZ", number: 1, at_ms: AT_MS };
    let created = event("entries_created", r#"{"entries":[{"path":"/data/a"}]}"#);
    let one = with_subjects(&[created], "Home", |subjects| Form::Feed.render(&subjects[0])).unwrap();
    let sent = headers(Format::Feed, &one, &attempt, Some(&keys));
    assert_eq!(header(&sent, "X-AeorDB-Event"), Some("entries_created"));
    assert_eq!(header(&sent, "X-AeorDB-Delivery"), Some("evt_01J0YYYYYYYYYYYYYYYYYYYYYY"));
    let previous = keys.previous_at(AT_MS).unwrap();
    for (name, secret) in [("X-AeorDB-Signature", &keys.current), ("X-AeorDB-Signature-Previous", previous)] {
        assert_eq!(verify_feed(secret, &one.body, header(&sent, name).unwrap()), Ok(()));
    }
    assert_eq!(header(&sent, "webhook-id"), Some(attempt.delivery), "the new secret is a key of Standard Webhooks");
    let batch = rendered(&Form::Feed, &[event("entries_created", "{}"), event("entries_deleted", "{}")]);
    let sent = headers(Format::Feed, &batch, &attempt, None);
    assert_eq!(header(&sent, "X-AeorDB-Event"), Some("batch"));
    assert_eq!(header(&sent, "X-AeorDB-Delivery"), Some(attempt.delivery));
    assert!(sent.iter().all(|(name, _)| !name.to_lowercase().contains("signature")));
}

#[test]
fn only_map_has_the_headers_of_the_maps_family_and_without_keys_nothing_is_signed() {
    let attempt = Attempt { delivery: "d", number: 1, at_ms: AT_MS };
    let keys = Keys::new(Secret::from_random([1; 32]));
    for form in [Form::Standard, Form::CloudEvents, Form::Discord, Form::Slack] {
        let sent = headers(form.format(), &rendered(&form, &[kill()]), &attempt, Some(&keys));
        let names: Vec<_> = sent.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["User-Agent", "webhook-id", "webhook-timestamp", "webhook-signature"]);
    }
    let chosen = Keys::new(Secret::from_text("chosen by hand").ok().unwrap());
    let unsigned = rendered(&Form::Map, &[kill()]);
    assert!(header(&headers(Format::Map, &unsigned, &attempt, Some(&chosen)), "webhook-id").is_none());
    assert!(header(&headers(Format::Map, &unsigned, &attempt, Some(&chosen)), "X-Wanderer-Signature").is_some());
    let sent = headers(Format::Map, &unsigned, &attempt, None);
    assert!(sent.iter().all(|(name, _)| !name.to_lowercase().contains("signature")));
}

#[test]
fn a_batch_of_several_types_is_called_a_batch() {
    let kind = |events: &[Event]| header(&rendered(&Form::Map, events).headers, "X-Wanderer-Event").map(str::to_owned);
    assert_eq!(kind(&[kill(), kill()]).as_deref(), Some("map_kill"));
    assert_eq!(kind(&[kill(), event("add_system", "{}")]).as_deref(), Some("batch"));
}

#[test]
fn a_cloud_event_has_the_attributes_of_the_specification() {
    let mut event = event("map_kill", r#"{"10":1,"2":"é","value":2.5e8}"#);
    let one = with_subjects(std::slice::from_ref(&event), "Home", |s| Form::CloudEvents.render(&s[0])).unwrap();
    assert_eq!(one.content_type, "application/cloudevents+json");
    assert_eq!(
        std::str::from_utf8(&one.body).unwrap(),
        r#"{"specversion":"1.0","id":"01J0YYYYYYYYYYYYYYYYYYYYYY","source":"/maps/550e8400-e29b-41d4-a716-446655440000","type":"map_kill","time":"2025-06-21T12:35:00.123Z","datacontenttype":"application/json","data":{"2":"é","10":1,"value":250000000}}"#
    );
    event.session = Some("round \"1\"".into());
    let channel = ChannelLabel { family: Family::Organization, id: "org_a b", name: "" };
    let envelope = Bytes::new();
    let subject = Subject { event: &event, envelope: &envelope, channel };
    let value: Value = serde_json::from_slice(&Form::CloudEvents.render(&subject).unwrap().body).unwrap();
    assert_eq!(value["id"], "evt_01J0YYYYYYYYYYYYYYYYYYYYYY");
    assert_eq!(value["source"], "/organizations/org_a%20b");
    assert_eq!(value["subject"], "round \"1\"");
    let batch = rendered(&Form::CloudEvents, &[event.clone(), kill()]);
    assert_eq!(batch.content_type, "application/cloudevents-batch+json");
    assert_eq!(serde_json::from_slice::<Value>(&batch.body).unwrap().as_array().map(Vec::len), Some(2));
}

#[test]
fn discord_shows_a_kill_as_its_users_know_it() {
    let expected = json!({
        "embeds": [{
            "title": "Kill Detected",
            "description": "**Stratios** lost in **J123456**",
            "url": "https://zkillboard.com/kill/12345678/",
            "color": 0xff0000,
            "fields": [
                {"name": "Victim", "value": "Pilot Name", "inline": true},
                {"name": "Ship", "value": "Stratios", "inline": true},
                {"name": "Value", "value": "250.0M ISK", "inline": true},
                {"name": "Corporation", "value": "Corp Name", "inline": true},
            ],
            "footer": {"text": "Home"},
            "timestamp": "2025-06-21T12:35:00.123Z",
        }],
        "allowed_mentions": {"parse": []},
    });
    assert_eq!(body(&Form::Discord, &kill()), expected);
}

#[test]
fn slack_shows_a_kill_with_its_link_and_time() {
    let field =
        |name: &str, value: &str| json!({"type": "mrkdwn", "text": format!("*{name}*\n{value}"), "verbatim": true});
    let link = "<https://zkillboard.com/kill/12345678/|https://zkillboard.com/kill/12345678/>";
    let expected = json!({
        "text": "Kill Detected",
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": "Kill Detected", "emoji": false}},
            {
                "type": "section",
                "text": {"type": "mrkdwn", "text": format!("*Stratios* lost in *J123456*\n{link}"), "verbatim": true},
                "fields": [
                    field("Victim", "Pilot Name"),
                    field("Ship", "Stratios"),
                    field("Value", "250.0M ISK"),
                    field("Corporation", "Corp Name"),
                ],
            },
            {"type": "context", "elements": [
                {"type": "mrkdwn", "text": "Home · 2025-06-21T12:35:00.123Z", "verbatim": true},
            ]},
        ],
    });
    assert_eq!(body(&Form::Slack, &kill()), expected);
}

#[test]
fn every_type_of_the_catalogue_has_an_embed_of_its_own_and_other_types_a_code_block() {
    let mut titles = std::collections::BTreeSet::new();
    for (at, kind) in KINDS.into_iter().enumerate() {
        let embed = &body(&Form::Discord, &event(kind, "{}"))["embeds"][0];
        let (title, description) = (embed["title"].as_str().unwrap(), embed["description"].as_str().unwrap());
        assert!(titles.insert(title.to_owned()), "{title} is the title of two types");
        let of_its_own = at < CATALOGUE;
        assert_eq!(embed["fields"].is_array(), of_its_own, "{kind}");
        assert_eq!(description.starts_with("```json\n{}"), !of_its_own, "{kind}");
        if of_its_own && kind != "characters_updated" {
            assert!(description.contains("Unknown"), "{kind}: {description}");
        }
        let slack = body(&Form::Slack, &event(kind, "{}"));
        assert_eq!(slack["blocks"][1]["text"]["text"].as_str().unwrap().starts_with("```"), !of_its_own, "{kind}");
    }
}

#[test]
fn no_payload_can_mention_or_break_the_layout() {
    let nasty = r#"{"name":"**<@1>** @everyone `x` [a](http://b) <!channel>","type":"a\n# b","class":"```"}"#;
    let discord = body(&Form::Discord, &event("add_system", nasty));
    assert_eq!(discord["allowed_mentions"], json!({"parse": []}));
    let embed = &discord["embeds"][0];
    assert_eq!(
        embed["description"],
        "System **\\*\\*\\<@1\\>\\*\\* @everyone \\`x\\` \\[a\\](http://b) \\<!channel\\>** is on the map now"
    );
    assert_eq!(embed["fields"][1]["value"], "a \\# b");
    let slack = body(&Form::Slack, &event("add_system", nasty)).to_string();
    assert!(!slack.contains("<@1>") && !slack.contains("<!channel>"), "{slack}");
    for form in [Form::Discord, Form::Slack] {
        let other = body(&form, &event("other", r#"{"a":"``` <!here> ```"}"#)).to_string();
        assert_eq!(other.matches("```").count(), 2, "only our own fence: {other}");
    }
}

#[test]
fn chats_show_every_digit_of_a_long_integer() {
    let long = r#"{"name":18446744073709551616,"type":[-9223372036854775809],"class":"x"}"#;
    for form in [Form::Discord, Form::Slack] {
        let message = body(&form, &event("add_system", long)).to_string();
        assert!(message.contains("18446744073709551616") && message.contains("9223372036854775809"), "{message}");
    }
}

#[test]
fn more_events_than_a_message_shows_are_counted_in_it() {
    let many: Vec<_> = std::iter::repeat_n(kill(), 20).collect();
    let discord: Value = serde_json::from_slice(&rendered(&Form::Discord, &many).body).unwrap();
    assert_eq!(discord["content"], "… and 10 more events");
    let slack: Value = serde_json::from_slice(&rendered(&Form::Slack, &many).body).unwrap();
    assert_eq!(slack["blocks"].as_array().unwrap().last().unwrap()["elements"][0]["text"], "… and 4 more events");
}

#[test]
fn formats_are_read_by_the_names_that_they_are_written_with() {
    for format in Format::ALL {
        assert_eq!(format.as_str().parse(), Ok(format));
        assert_eq!(serde_json::to_value(format).unwrap(), format.as_str());
    }
    assert_eq!("Map".parse::<Format>(), Err(UnknownFormat));
    assert!(Format::ALL.iter().all(|format| UnknownFormat.to_string().contains(format.as_str())));
}

#[test]
fn what_a_source_took_in_is_shown_by_its_properties() {
    let taken_in = |kind: &str, properties: &str| Event {
        origin: Origin { by: "source:wh_1".into(), validated: Some(true), trace: None },
        ..event(kind, &format!(r#"{{"user_id":null,"properties":{properties},"source":"wh_1"}}"#))
    };
    let push = r#"{"ref":"refs/heads/main","commits":[{}],"head_commit":{"message":"Fix *it*"},"repository":{"full_name":"octo/hello","html_url":"https://github.com/octo/hello"},"sender":{"login":"octocat"}}"#;
    let embed = &body(&Form::Discord, &taken_in("push", push))["embeds"][0];
    assert_eq!(
        (&embed["title"], &embed["url"]),
        (&"push in octo/hello".into(), &"https://github.com/octo/hello".into())
    );
    assert_eq!(embed["description"], r"**octocat**: **Fix \*it\***");
    let kill =
        &body(&Form::Discord, &taken_in("map_kill", r#"{"killmail_id":7,"victim":{"name":"Pilot"}}"#))["embeds"][0];
    assert_eq!(kill["url"], "https://zkillboard.com/kill/7/");
    let other = &body(&Form::Discord, &taken_in("purchase", r#"{"amount":9.99}"#))["embeds"][0];
    assert_eq!(other["description"], "```json\n{\n  \"amount\": 9.99\n}\n```");
    // the same payload that nobody took in is a payload like any other
    let plain = event("purchase", r#"{"properties":{"amount":9.99}}"#);
    assert!(body(&Form::Discord, &plain)["embeds"][0]["description"].as_str().unwrap().contains("properties"));
}
