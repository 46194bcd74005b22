//! Holds the layout: a room uses only rooms on floors below its own, so there is no circle and no arrow that points up.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms, the top floor first. Rooms on one floor do not know each other.
const FLOORS: [&[&str]; 9] = [
    &["hub"],
    &["backup", "cluster"],
    &["delivery", "streams", "ingest"],
    &["catalog"],
    &["journal", "series"],
    &["log", "documents", "feed"],
    &["wal"],
    &["disk", "clock", "metrics", "budget", "compute", "supervision"],
    &["model"],
];
/// Rooms on the floor of `disk` that stand beside each other and may use one another.
const BESIDE: [&str; 6] = ["disk", "clock", "metrics", "budget", "compute", "supervision"];

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the source folder can be read") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The code of a file without its tests and comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let until =
        text.find("#[cfg(test)]\nmod ").filter(|at| text[*at..].lines().nth(1).is_some_and(|l| l.ends_with('{')));
    text[..until.unwrap_or(text.len())].lines().filter(|line| !line.trim_start().starts_with("//"))
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| {
        let name = part.as_os_str().to_string_lossy();
        matches!(&*name, "tests" | "simulation") || name.ends_with("tests.rs") || name == "simulated.rs"
    })
}

/// The rooms that a line names by `crate::room`.
fn named(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    })
}

#[test]
fn arrows_point_down_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut wrong: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut seen = 0;
    for path in files.iter().filter(|path| !is_test(path)) {
        let inner = path.strip_prefix(&root).expect("below the folder");
        let first = inner.components().next().expect("a name").as_os_str().to_string_lossy();
        let room = first.trim_end_matches(".rs").to_owned();
        if matches!(&*room, "lib" | "floors" | "fuzz" | "seeds") {
            continue;
        }
        let from = floor(&room).unwrap_or_else(|| panic!("{room} stands on no floor; add it to FLOORS"));
        let text = fs::read_to_string(path).expect("a source file");
        for line in code(&text) {
            for other in named(line).filter(|other| **other != *room) {
                let Some(to) = floor(other) else { continue };
                seen += 1;
                let is_beside = BESIDE.contains(&&*room) && BESIDE.contains(&other);
                if to <= from && !is_beside {
                    wrong.entry(format!("{room} -> {other}")).or_default().push(inner.display().to_string());
                }
            }
        }
    }
    assert!(seen > 100, "the arrows were not found: {seen}");
    assert!(wrong.is_empty(), "arrows that point up, or to a neighbour: {wrong:#?}");
}

#[test]
fn the_edge_knows_no_database() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let uses_sled =
        |path: &&PathBuf| fs::read_to_string(path).is_ok_and(|text| code(&text).any(|line| line.contains("sled::")));
    let found: Vec<_> = files.iter().filter(uses_sled).collect();
    assert!(found.is_empty(), "{found:?}");
    let engine = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&engine, &mut files);
    let outside: Vec<_> = files
        .iter()
        .filter(|path| !path.starts_with(engine.join("disk")) && !path.ends_with("floors.rs"))
        .filter(uses_sled)
        .collect();
    assert!(outside.is_empty(), "only the disk knows sled: {outside:?}");
}
