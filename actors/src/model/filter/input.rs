//! What filters read of one event's payload: made on first use, at most once, and shared by every filter.
//!
//! Two readings, because their prices differ: the paths (for `path_prefix`) are picked out of the text without building
//! anything else, the tree (for CEL expressions) costs a few times the text in memory.

use std::fmt;
use std::sync::OnceLock;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::model::json::{Canonical, pass_over_scalars};

/// Of a payload of small numbers, which is the slowest to read.
const TREE_BYTES_PER_STEP: u64 = 2;
const PATHS_BYTES_PER_STEP: u64 = 8;

/// The lazily made readings of one event's payload. It belongs to that event and lives as long as its frame; `Send` and
/// `Sync`, so all threads share one.
#[derive(Default)]
pub struct FilterInput {
    /// With the bytes that it takes up.
    tree: OnceLock<(Option<Node>, usize)>,
    /// With the bytes that they take up.
    paths: OnceLock<(Box<[Box<str>]>, usize)>,
}

impl FilterInput {
    pub fn new() -> Self {
        Self::default()
    }

    /// Steps that reading the tree takes now.
    pub(super) fn tree_cost(&self, payload: &Canonical) -> u64 {
        if self.tree.get().is_some() { 0 } else { payload.as_str().len() as u64 / TREE_BYTES_PER_STEP }
    }

    /// Steps that reading the paths takes now.
    pub(super) fn paths_cost(&self, payload: &Canonical) -> u64 {
        if self.paths.get().is_some() { 0 } else { payload.as_str().len() as u64 / PATHS_BYTES_PER_STEP }
    }

    /// The payload as a tree; `None` if the text is no JSON, which the log rules out.
    pub(super) fn tree(&self, payload: &Canonical) -> Option<&Node> {
        let read = || {
            let tree: Option<Node> = serde_json::from_str(payload.as_str()).ok();
            let bytes = tree.as_ref().map_or(0, Node::heap_bytes);
            (tree, bytes)
        };
        self.tree.get_or_init(read).0.as_ref()
    }

    /// `payload.path` and every `payload.entries[].path` that is a string.
    pub(super) fn paths(&self, payload: &Canonical) -> &[Box<str>] {
        let read = || {
            let paths = read_paths(payload.as_str());
            let bytes = paths.iter().map(|path| size_of_val(path) + path.len()).sum();
            (paths, bytes)
        };
        &self.paths.get_or_init(read).0
    }

    /// Bytes of memory that what was read so far takes up, beside the input itself.
    pub fn heap_bytes(&self) -> usize {
        self.tree.get().map_or(0, |(_, bytes)| *bytes) + self.paths.get().map_or(0, |(_, bytes)| *bytes)
    }
}

impl fmt::Debug for FilterInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilterInput")
            .field("tree", &self.tree.get().is_some())
            .field("paths", &self.paths.get().map(|(paths, _)| paths))
            .finish()
    }
}

/// JSON as expressions see it. A number is an `Int` where it was written as an integer of 64 bits, else a `Double`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(Box<str>),
    List(Box<[Node]>),
    /// Sorted by key.
    Map(Box<[(Box<str>, Node)]>),
}

impl Node {
    /// Bytes of memory that hang on the node.
    fn heap_bytes(&self) -> usize {
        match self {
            Node::Null | Node::Bool(_) | Node::Int(_) | Node::Double(_) => 0,
            Node::Text(text) => text.len(),
            Node::List(nodes) => nodes.iter().map(|node| size_of_val(node) + node.heap_bytes()).sum(),
            Node::Map(fields) => {
                fields.iter().map(|field| size_of_val(field) + field.0.len() + field.1.heap_bytes()).sum()
            }
        }
    }
}

/// The value under `key` in the fields of a [`Node::Map`].
pub(super) fn field<'a>(fields: &'a [(Box<str>, Node)], key: &str) -> Option<&'a Node> {
    let at = fields.binary_search_by(|(name, _)| (**name).cmp(key)).ok()?;
    Some(&fields[at].1)
}

impl<'de> serde::Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(i64::try_from(value).map_or(Node::Double(value as f64), Node::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Double(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = seq.next_element()? {
            nodes.push(node);
        }
        Ok(Node::List(nodes.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut fields: Vec<(Box<str>, Node)> = Vec::new();
        while let Some(entry) = map.next_entry()? {
            fields.push(entry);
        }
        fields.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Node::Map(fields.into()))
    }
}

fn read_paths(text: &str) -> Box<[Box<str>]> {
    let mut paths = Vec::new();
    // canonical JSON never escapes a letter, so a payload with a path holds exactly these bytes
    if text.contains("\"path\"") {
        let walk = PathWalk { at: Place::Payload, paths: &mut paths };
        // a payload that is not JSON has no paths; what was found before the fault does not count either
        if walk.deserialize(&mut serde_json::Deserializer::from_str(text)).is_err() {
            paths.clear();
        }
    }
    paths.into()
}

/// Where in the payload the walk stands.
#[derive(Clone, Copy)]
enum Place {
    Payload,
    Entries,
    Entry,
    Path,
    Elsewhere,
}

struct PathWalk<'p> {
    at: Place,
    paths: &'p mut Vec<Box<str>>,
}

impl<'de> DeserializeSeed<'de> for PathWalk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.at {
            Place::Elsewhere => deserializer.deserialize_ignored_any(IgnoredAny).map(drop),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for PathWalk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    pass_over_scalars!();

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        if let Place::Path = self.at {
            self.paths.push(value.into());
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let inside = if let Place::Entries = self.at { Place::Entry } else { Place::Elsewhere };
        while seq.next_element_seed(PathWalk { at: inside, paths: self.paths })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            let at = match (self.at, &*key) {
                (Place::Payload | Place::Entry, "path") => Place::Path,
                (Place::Payload, "entries") => Place::Entries,
                _ => Place::Elsewhere,
            };
            map.next_value_seed(PathWalk { at, paths: self.paths })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(r#"{"path":"/a"}"#, &["/a"])]
    #[case(r#"{"entries":[{"path":"/a","size":1},{"name":"x"},{"path":"/b"}],"path":"/c"}"#, &["/a", "/b", "/c"])]
    #[case(r#"{"path":7,"entries":"path"}"#, &[])]
    #[case(r#"{"deep":{"path":"/a"},"entries":{"path":"/b"}}"#, &[])]
    #[case(r#"{"entries":[["path"],{"path":["/a"]},{"path":{"path":"/b"}},null]}"#, &[])]
    #[case(r#"{"path":"a\"\n\\ü"}"#, &["a\"\n\\ü"])]
    #[case(r#"["path"]"#, &[])]
    #[case(r#"{"path":"/a""#, &[])]
    fn only_the_paths_of_the_payload_and_of_its_entries_are_read(#[case] text: &str, #[case] expected: &[&str]) {
        assert_eq!(read_paths(text).iter().map(|path| &**path).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_was_read_is_weighed() {
        let payload = Canonical::parse(r#"{"path":"/abc","list":[1,"four"],"map":{}}"#).unwrap();
        let input = FilterInput::new();
        assert_eq!(input.heap_bytes(), 0, "nothing was read");
        input.paths(&payload);
        assert_eq!(input.heap_bytes(), size_of::<Box<str>>() + 4);
        input.tree(&payload);
        let fields = 3 * size_of::<(Box<str>, Node)>() + "path".len() + "list".len() + "map".len();
        let values = 2 * size_of::<Node>() + "four".len() + "/abc".len();
        assert_eq!(input.heap_bytes(), size_of::<Box<str>>() + 4 + fields + values);
    }

    #[test]
    fn a_tree_finds_its_fields_in_whatever_order_they_came() {
        let Ok(Node::Map(fields)) = serde_json::from_str(r#"{"z":1,"a":2.5,"m":18446744073709551615}"#) else {
            panic!("a map was expected");
        };
        assert_eq!(field(&fields, "z"), Some(&Node::Int(1)));
        assert_eq!(field(&fields, "a"), Some(&Node::Double(2.5)));
        assert_eq!(field(&fields, "m"), Some(&Node::Double(18446744073709551615.0)));
        assert_eq!(field(&fields, "b"), None);
    }
}
