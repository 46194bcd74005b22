//! The reference of settings, `docs/settings.md`, is made of `settings.toml` and of what the checks allow, so that it cannot
//! say anything else. `STENTOR_REWRITE=1 cargo test reference` writes it anew.

use std::fmt::Write;

use super::{DEFAULTS, check};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/settings.md");
const COMMAND: &str = "STENTOR_REWRITE=1 cargo test reference";

/// Keys that stand together under one comment.
#[derive(Default)]
struct Group {
    comment: String,
    /// Key within its section, and default as TOML.
    keys: Vec<(String, String)>,
}

struct Section {
    name: String,
    /// What stands above it.
    about: String,
    groups: Vec<Group>,
}

/// The paragraphs before the first section, and the sections.
fn sections() -> (Vec<String>, Vec<Section>) {
    let (mut intro, mut sections) = (Vec::new(), Vec::<Section>::new());
    let (mut comment, mut in_keys) = (String::new(), false);
    for line in DEFAULTS.lines() {
        if let Some(text) = line.strip_prefix('#') {
            if in_keys {
                (comment, in_keys) = (String::new(), false);
            }
            if text.is_empty() && sections.is_empty() {
                intro.push(std::mem::take(&mut comment));
            }
            comment.push_str(text);
        } else if let Some(name) = line.strip_prefix('[') {
            let (name, about) = (name.trim_end_matches(']').into(), std::mem::take(&mut comment));
            sections.push(Section { name, about, groups: Vec::new() });
        } else if let Some((key, value)) = line.split_once(" = ") {
            if sections.is_empty() {
                sections.push(Section { name: String::new(), about: String::new(), groups: Vec::new() });
            }
            let Section { groups, .. } = sections.last_mut().expect("there is one");
            if !in_keys {
                groups.push(Group { comment: std::mem::take(&mut comment), keys: Vec::new() });
                in_keys = true;
            }
            groups.last_mut().expect("there is one").keys.push((key.into(), value.into()));
        } else {
            in_keys = false;
            if sections.is_empty() {
                intro.push(std::mem::take(&mut comment));
            }
        }
    }
    (intro, sections)
}

/// What a key allows besides its type.
fn allowed(key: &str) -> String {
    if let Some((_, least, most)) = check::RANGES.iter().find(|(name, ..)| *name == key) {
        return format!(", {least} to {most}");
    }
    match check::CHOICES.iter().find(|(name, _)| *name == key) {
        Some((_, words)) => format!(", one of `{}`", words.join("` `")),
        None => String::new(),
    }
}

fn rendered() -> String {
    let (intro, sections) = sections();
    let mut page = String::from("# Settings\n\n");
    for paragraph in intro.iter().map(|text| text.trim()).filter(|text| !text.is_empty()) {
        let paragraph =
            paragraph.replace("This file", "[settings.toml](../settings.toml)").replace("this file", "`settings.toml`");
        writeln!(page, "{paragraph}\n").expect("a text grows");
    }
    for Section { name, about, groups } in sections {
        if !name.is_empty() {
            writeln!(page, "## {name}\n").expect("a text grows");
        }
        if !about.trim().is_empty() {
            writeln!(page, "{}\n", about.trim()).expect("a text grows");
        }
        for Group { comment, keys } in groups {
            for (key, value) in keys {
                let key = if name.is_empty() { key } else { format!("{name}.{key}") };
                writeln!(page, "- `{key}` = `{value}`{}", allowed(&key)).expect("a text grows");
            }
            writeln!(page, "\n  {}\n", comment.trim()).expect("a text grows");
        }
    }
    page.trim_end().to_owned() + "\n"
}

#[test]
fn the_reference_of_settings_says_what_the_defaults_and_the_checks_say() {
    let rendered = rendered();
    if std::env::var_os("STENTOR_REWRITE").is_some() {
        std::fs::write(PAGE, &rendered).expect("the page can be written");
    }
    let page = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert!(page == rendered, "docs/settings.md is another; write it anew by: {COMMAND}");
}
