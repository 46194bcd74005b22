//! Holds `docs/errors.md` to the table of errors and to the settings, so that whoever meets a code finds it explained.

use std::collections::BTreeSet;

use super::Code;

const PAGE: &str = include_str!("../../../docs/errors.md");
const SETTINGS: &str = include_str!("../../../settings.toml");

/// The first cells of the rows of a section, without their ticks, and the second ones.
fn rows(section: &str) -> Vec<(&str, &str)> {
    let text = PAGE.split("\n## ").find_map(|part| part.strip_prefix(section)).expect("the page has the section");
    let cells = |line: &'static str| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        Some((cells.next()?.trim_end_matches('`'), cells.next()?))
    };
    text.lines().filter_map(cells).collect()
}

#[test]
fn every_code_is_explained_with_its_status_and_no_other_is() {
    let explained = rows("By code");
    for code in Code::ALL {
        let row = explained.iter().find(|(name, _)| *name == code.upper());
        let (_, status) = row.unwrap_or_else(|| panic!("docs/errors.md does not explain {}", code.upper()));
        assert_eq!(*status, code.status().to_string(), "{}", code.upper());
    }
    let known: BTreeSet<_> = Code::ALL.iter().map(|code| code.upper()).collect();
    let unknown: Vec<_> = explained.iter().filter(|(name, _)| !known.contains(name)).collect();
    assert!(unknown.is_empty(), "docs/errors.md explains codes that do not exist: {unknown:?}");
}

#[test]
fn every_status_is_explained() {
    let section = PAGE.split("\n## By status").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("the section");
    for code in Code::ALL {
        let status = code.status();
        assert!(section.contains(&format!("`{status}`")), "docs/errors.md does not explain {status} by status");
    }
}

fn settings() -> toml::Table {
    SETTINGS.parse().expect("settings.toml is TOML")
}

fn setting<'a>(settings: &'a toml::Table, name: &str) -> Option<&'a toml::Value> {
    let (section, key) = name.rsplit_once('.')?;
    section.split('.').try_fold(settings, |table, part| table.get(part)?.as_table())?.get(key)
}

/// A default as the page writes it.
fn shown(name: &str, value: &toml::Value) -> String {
    let number = value.as_integer().unwrap_or_else(|| panic!("{name} is no number"));
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let unit = units.iter().find(|(_, size)| name.ends_with("_bytes") && number >= *size && number % size == 0);
    if let Some((unit, size)) = unit {
        return format!("{} {unit}", number / size);
    }
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|part| std::str::from_utf8(part).ok()).collect();
    groups.join(",")
}

#[test]
fn every_limit_is_explained_with_its_default() {
    let (settings, section) = (settings(), PAGE.split("\n## Raise a limit").nth(1).expect("the section"));
    let section = section.split("\n## ").next().expect("its text");
    let rows: Vec<Vec<&str>> =
        section.lines().map(|line| line.split(" | ").collect()).filter(|row: &Vec<_>| row.len() == 4).collect();
    for (key, _) in settings["limits"].as_table().expect("a section") {
        let name = format!("`limits.{key}`");
        assert!(rows.iter().any(|row| row[1] == name), "docs/errors.md does not explain {name} by limit");
    }
    for row in rows.iter().filter(|row| row[1].starts_with('`') && !row[1].contains(", ")) {
        let name = row[1].trim_matches('`');
        let value = setting(&settings, name).unwrap_or_else(|| panic!("settings.toml has no {name}"));
        let default = row[2].split(':').next().expect("a default");
        assert_eq!(default, shown(name, value), "the default of {name}");
    }
}

#[test]
fn every_reason_for_which_an_attempt_fails_is_explained() {
    let text = include_str!("../../../actors/src/model/delivery/record.rs");
    let words = text.split("FailureCode::").skip(1).filter_map(|rest| rest.split_once(" => \"")?.1.split('"').next());
    let words: BTreeSet<_> = words.collect();
    assert!(words.len() > 7, "{words:?}");
    for word in words {
        assert!(PAGE.contains(&format!("\n| `{word}` | ")), "docs/errors.md does not explain {word}");
    }
}

#[test]
fn every_setting_that_is_named_exists() {
    let settings = settings();
    let named = PAGE.split('`').skip(1).step_by(2);
    let named = named.filter(|name| name.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'.' | b'_')));
    let mut count = 0;
    for name in named.filter(|name| name.contains('.')) {
        // fields of events and of errors have dots too
        if !name.split('.').next().is_some_and(|first| settings.contains_key(first)) {
            continue;
        }
        assert!(setting(&settings, name).is_some(), "settings.toml has no {name}");
        count += 1;
    }
    assert!(count > 20, "the page names settings: {count}");
}
