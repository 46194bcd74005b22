//! Every preset against what its provider's library or documentation signed, and against everything that is a little else.

use std::collections::BTreeSet;

use super::*;
use crate::model::draft::DraftLimits;
use crate::model::source::{Authentication, Config, Content, Incoming, Read, Scheme, Taken, Verifier};

type Pairs<'a> = Vec<(&'a str, &'a str)>;

fn pairs(vector: &Vector) -> Pairs<'_> {
    vector.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

fn believed(
    preset: &'static Preset,
    vector: &Vector,
    url: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    at_ms: i64,
) -> bool {
    let scheme = Scheme::of(Authentication::Preset(preset));
    let verifier = Verifier::new(scheme, Some(&vector.key), None).expect("a key");
    verifier.verify(&Incoming { method: "POST", url, headers: &headers, body }, at_ms).is_ok()
}

/// The text with one of its letters or digits changed, at `n` of `of` through it.
fn changed(text: &str, n: usize, of: usize) -> String {
    let places: Vec<_> = text.char_indices().filter(|(_, c)| c.is_ascii_alphanumeric()).collect();
    let Some((at, old)) = places.get(n * places.len() / of).copied() else { return format!("{text}x") };
    let new = if old == 'a' { 'b' } else { 'a' };
    format!("{}{new}{}", &text[..at], &text[at + 1..])
}

#[test]
fn there_is_a_preset_for_each_provider_and_its_recipes_are_sound() {
    let names: BTreeSet<_> = all().iter().map(|preset| preset.name.as_str()).collect();
    assert_eq!((names.len(), all().len()), (24, 24));
    for preset in all() {
        assert!(!preset.recipes.is_empty() && !preset.event_type.is_empty(), "{}", preset.name);
        for recipe in preset.recipes.iter().filter(|recipe| recipe.body_hash_query.is_none()) {
            assert_eq!(recipe.check(), Ok(()), "{}", preset.name);
        }
        for text in [&preset.title, &preset.setup, &preset.key] {
            assert!(!text.is_empty(), "{}", preset.name);
        }
        assert!(preset.documentation.starts_with("https://"), "{}", preset.name);
        let rules = serde_json::to_value(&preset.event_type).expect("JSON");
        assert!(Rule::list(rules).is_ok(), "{}", preset.name);
        let scheme = Scheme::of(Authentication::Preset(preset));
        match scheme.make_key([7; 32]) {
            Some(key) => assert_eq!(scheme.check_key(&key), Ok(()), "{}", preset.name),
            None => assert!(!preset.makes_key, "{}", preset.name),
        }
    }
}

#[test]
fn what_a_provider_signed_is_believed_and_ten_changes_of_it_are_not() {
    for preset in all() {
        for vector in &preset.vectors {
            let headers = pairs(vector);
            let body = vector.body.as_bytes();
            let name = format!("{} ({})", preset.name, vector.from);
            assert!(believed(preset, vector, &vector.url, &headers, body, vector.at_ms), "{name}");
            let used = |recipe: &&Recipe| {
                let by_header = recipe
                    .proof_header()
                    .is_none_or(|name| headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)));
                let parameter = recipe.body_hash_query.as_deref().or(recipe.token_query.as_deref());
                by_header && parameter.is_none_or(|name| vector.url.contains(&format!("{name}=")))
            };
            let recipe = preset.recipes.iter().find(used).expect("the recipe of the vector");
            let mut tried = 0;
            let mut refused = |what: &str, url: &str, headers: &[(&str, &str)], body: &[u8], at_ms: i64| {
                tried += 1;
                assert!(!believed(preset, vector, url, headers, body, at_ms), "{name}: {what} {headers:?}");
            };
            let names = [recipe.proof_header(), recipe.timestamp_header.as_deref(), recipe.id_header.as_deref()];
            let used: BTreeSet<String> = names.into_iter().flatten().map(str::to_lowercase).collect();
            for (n, (header, value)) in headers.iter().enumerate().filter(|(_, (name, _))| used.contains(*name)) {
                for part in 0..4 {
                    let value = changed(value, part, 4);
                    let mut other = headers.clone();
                    other[n].1 = &value;
                    refused("a header is another", &vector.url, &other, body, vector.at_ms);
                }
                let without: Pairs<'_> = headers.iter().filter(|(name, _)| name != header).copied().collect();
                refused("a header is missing", &vector.url, &without, body, vector.at_ms);
                let twice = [headers.as_slice(), &[headers[n]]].concat();
                refused("a header is there twice", &vector.url, &twice, body, vector.at_ms);
            }
            let signs = |part: &str| recipe.signed.as_deref().is_some_and(|signed| signed.contains(part));
            let signs_body = signs("{body}") || signs("{form_sorted}") || recipe.body_hash_query.is_some();
            if signs_body {
                for part in 0..6 {
                    let other = changed(&vector.body, part, 6);
                    refused("the body is another", &vector.url, &headers, other.as_bytes(), vector.at_ms);
                }
                refused("the body is empty", &vector.url, &headers, b"", vector.at_ms);
            }
            if !vector.url.is_empty() {
                for part in 0..6 {
                    // the last parts of an address are its path and query
                    let other = format!("{}{}", &vector.url[..8], changed(&vector.url[8..], part, 6));
                    if signs("{url}") {
                        refused("the address is another", &other, &headers, body, vector.at_ms);
                    }
                }
                refused("there is no address", "", &headers, body, vector.at_ms);
                let token = recipe.token_query.as_deref();
                for part in (0..10).filter(|_| token.is_some()) {
                    let other = vector.url.replace(&vector.key, &changed(&vector.key, part, 10));
                    refused("a parameter is another", &other, &headers, body, vector.at_ms);
                }
            }
            let fields = [&recipe.signature_field, &recipe.timestamp_field, &recipe.id_field, &recipe.token_field];
            for field in fields.into_iter().flatten() {
                if signs_body {
                    continue;
                }
                let found = super::super::pointer::each(&vector.body, field);
                let value = found.first().copied().flatten().expect("the field of the recipe");
                for part in 0..10 {
                    let other = vector.body.replace(value, &changed(value, part, 10));
                    refused("a field is another", &vector.url, &headers, other.as_bytes(), vector.at_ms);
                }
            }
            if recipe.has_timestamp() {
                for away_ms in [-1, 1].map(|sign| sign * 86_400_000) {
                    refused("the time is another", &vector.url, &headers, body, vector.at_ms + away_ms);
                }
            }
            let by_token = recipe.secret_header().is_some();
            assert!(tried >= 10 || by_token && tried >= 5, "{name}: {tried}");
        }
    }
}

#[test]
fn what_a_provider_sent_has_its_type_and_the_id_by_which_it_is_known_again() {
    let limits = DraftLimits { event_bytes: 1 << 16, batch_events: 10 };
    for preset in all() {
        let scheme = Scheme::of(Authentication::Preset(preset));
        let secrets: Vec<_> = scheme.recipes().iter().filter_map(|recipe| recipe.token_field.clone()).collect();
        let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
        for vector in preset.vectors.iter().filter(|vector| vector.event_type.is_some()) {
            let config = Config {
                id: "wh_1",
                preset: Some(preset),
                recipe: None,
                secrets: &secrets,
                rules: &preset.event_type,
                schema: None,
                limits,
                partial: false,
            };
            let headers = pairs(vector);
            let headers = headers.as_slice();
            let content = Content::of(&headers, true).expect("a content that is read");
            let read = config.read(&headers, vector.body.as_bytes(), content).expect(&preset.name);
            let Read::Events(Taken { drafts, delivery, .. }) = read else { panic!("{}: {read:?}", preset.name) };
            assert_eq!(drafts.len(), 1, "{}", preset.name);
            assert_eq!(Some(drafts[0].kind.as_str()), vector.event_type.as_deref(), "{}", preset.name);
            let id = delivery.or_else(|| drafts[0].dedupe_id.as_deref().map(str::to_owned));
            assert_eq!(id, vector.id, "{}", preset.name);
            if preset.recipes[0].token_field.is_some() {
                assert!(!drafts[0].payload.as_str().contains(&vector.key), "a token in the body stays between the two");
            }
        }
    }
}
