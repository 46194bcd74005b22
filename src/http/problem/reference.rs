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
fn every_setting_that_is_named_exists() {
    let settings: toml::Table = SETTINGS.parse().expect("settings.toml is TOML");
    let named = PAGE.split('`').skip(1).step_by(2);
    let named = named.filter(|name| name.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'.' | b'_')));
    let mut count = 0;
    for name in named.filter(|name| name.contains('.')) {
        let Some((section, key)) = name.rsplit_once('.') else { continue };
        // fields of events and of errors have dots too
        if !section.split('.').next().is_some_and(|first| settings.contains_key(first)) {
            continue;
        }
        let table = section.split('.').try_fold(&settings, |table, part| table.get(part)?.as_table());
        assert!(table.is_some_and(|table| table.contains_key(key)), "settings.toml has no {name}");
        count += 1;
    }
    assert!(count > 20, "the page names settings: {count}");
}
