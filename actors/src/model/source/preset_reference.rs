//! `docs/providers.md`, made of the files of the presets, so that it cannot say anything else. `STENTOR_REWRITE=1 cargo test
//! reference` writes it anew.

use std::fmt::Write;

use super::super::recipe::SignatureScheme;
use super::*;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/providers.md");
const COMMAND: &str = "STENTOR_REWRITE=1 cargo test reference";

const INTRO: &str = "# Providers

A [source](sources.md) takes the webhooks of these providers by name: `\"authentication\": \"stripe\"`, say. Each section says what to enter where, what is
verified, and where the type of an event and the id of a delivery come from. `GET /api/source-presets` answers the same as JSON. For any other provider write a
[recipe](sources.md#any-other-provider).

Where a provider signs its address, `server.public_url` has to be the address that it calls.
";

fn signed(recipe: &Recipe) -> String {
    let place = match (recipe.proof_header(), &recipe.signature_field, &recipe.token_field, &recipe.token_query) {
        (Some(name), ..) => format!("the header `{name}`"),
        (None, Some(pointer), ..) | (None, None, Some(pointer), _) => format!("`{pointer}` in the body"),
        (None, None, None, Some(name)) => format!("the parameter `{name}` of the address"),
        _ => "nothing".into(),
    };
    match recipe.scheme {
        SignatureScheme::Token | SignatureScheme::Basic => format!("the key itself in {place}"),
        _ => {
            let template = recipe.signed.as_deref().unwrap_or("{body}");
            let hash = recipe
                .body_hash_query
                .as_ref()
                .map_or(String::new(), |name| format!(", with the SHA-256 of the body in the parameter `{name}`"));
            format!("{} over `{template}` in {place}{hash}", recipe.scheme_name())
        }
    }
}

fn rule(rule: &Rule) -> String {
    match rule {
        Rule::Header { header } => format!("the header `{header}`"),
        Rule::Pointer { pointer } => format!("`{pointer}`"),
        Rule::Besides { besides } => format!("the name of the member beside `{besides}`"),
        Rule::Fixed(text) => format!("always `{text}`"),
    }
}

fn section(preset: &Preset, page: &mut String) {
    let list = |texts: Vec<String>| texts.join(", else ");
    writeln!(page, "\n## {}\n\n`{}` ([their documentation]({}))\n", preset.title, preset.name, preset.documentation)
        .expect("a text grows");
    writeln!(page, "{}\n", preset.setup).expect("a text grows");
    let made = if preset.makes_key { "made where none is given" } else { "theirs" };
    writeln!(page, "- Key: `{}`, which they call *{}*; {made}.", preset.key_field(), preset.key).expect("a text grows");
    writeln!(page, "- Verified: {}.", list(preset.recipes.iter().map(signed).collect())).expect("a text grows");
    writeln!(page, "- Type: {}.", list(preset.event_type.iter().map(rule).collect())).expect("a text grows");
    let id = &preset.id;
    let headers = id.header.iter().map(|name| format!("the header `{name}`"));
    let fields = id.field.iter().map(|pointer| format!("`{pointer}`"));
    let event = (!id.event.is_empty()).then(|| {
        let parts = id.event.iter().map(|pointer| format!("`{pointer}`")).collect::<Vec<_>>();
        format!("{} of each event", parts.join(" with "))
    });
    let ids = headers.chain(fields).chain(event).collect::<Vec<_>>();
    let ids = if ids.is_empty() { "the signature".into() } else { list(ids) };
    writeln!(page, "- Known again by: {ids}.").expect("a text grows");
    if preset.handshake.is_some() {
        writeln!(page, "- What they ask before they send is answered.").expect("a text grows");
    }
}

#[test]
fn the_reference_of_providers_says_what_the_files_of_the_presets_say() {
    let mut rendered = String::from(INTRO);
    all().iter().for_each(|preset| section(preset, &mut rendered));
    if std::env::var_os("STENTOR_REWRITE").is_some() {
        std::fs::write(PAGE, &rendered).expect("the page can be written");
    }
    let page = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert!(page == rendered, "docs/providers.md is another; write it anew by: {COMMAND}");
}
