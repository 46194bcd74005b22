//! Documents in memory, and the changes of a commit as bytes.

use proptest::prelude::*;

use super::*;

fn put(table: Table, own: impl AsRef<[u8]>, text: &str) -> Change {
    Change::put(table, own, &text).expect("a change")
}

fn texts(documents: &Documents, prefix: &str) -> Vec<String> {
    let found = documents.scan(Table::Tokens, prefix.as_bytes()).expect("documents");
    found.into_iter().map(|(_, text)| text).collect()
}

#[test]
fn documents_are_found_by_their_key_and_in_the_order_of_keys() {
    let documents = Documents::default();
    documents.apply(&["b", "a1", "a2"].map(|name| put(Table::Tokens, name, name)), 1);
    documents.apply(&[Change::delete(Table::Tokens, "a1"), put(Table::Tokens, "a0", "a0")], 2);
    documents.apply(&[put(Table::Channels, "a3", "other")], 3);
    assert_eq!(texts(&documents, ""), ["a0", "a2", "b"]);
    assert_eq!(texts(&documents, "a"), ["a0", "a2"]);
    assert_eq!(documents.get::<String>(Table::Tokens, "a1").expect("a read"), None);
    assert_eq!(documents.get::<String>(Table::Tokens, "a2").expect("a read").as_deref(), Some("a2"));
    assert!(documents.contains(Table::Channels, "a3") && !documents.contains(Table::Tokens, "a3"));
    documents.apply(&documents.clear(Table::Tokens, b"a"), 4);
    assert_eq!((texts(&documents, ""), documents.sequence()), (vec!["b".to_owned()], 4));
}

#[test]
fn a_commit_without_documents_moves_the_sequence_and_is_no_change() {
    let documents = Documents::default();
    documents.apply(&[put(Table::Tokens, "a", "a")], 5);
    documents.apply(&[], 9);
    assert_eq!((documents.sequence(), documents.changed_at()), (9, 5));
}

#[test]
fn what_is_frozen_stays_as_it_was() {
    let documents = Documents::default();
    documents.apply(&[put(Table::Tokens, "a", "old"), put(Table::Tokens, "b", "b")], 1);
    let frozen = documents.freeze();
    documents.apply(&[put(Table::Tokens, "a", "new"), Change::delete(Table::Tokens, "b")], 2);
    let entries: Vec<_> = frozen.entries().collect();
    assert_eq!(entries, [(&b"ta"[..], &b"\"old\""[..]), (b"tb", b"\"b\"")]);
    assert_eq!((frozen.sequence(), frozen.len(), frozen.bytes()), (1, 2, 4 + 5 + 3));
    assert_eq!(documents.bytes(), 2 + 5);
    // and comes back from its entries
    let changes = entries.iter().map(|(key, text)| Change::stored(key, text).expect("a document"));
    let restored = Documents::of(changes, 1);
    assert_eq!(texts(&restored, ""), ["old", "b"]);
}

#[test]
fn a_text_that_does_not_parse_names_its_key_and_never_repeats_what_is_in_it() {
    let documents = Documents::default();
    let damaged = Change::stored(b"ttok_1", b"{\"secret\":\"hush-hush\"").expect("a text");
    let wrong = Change::stored(b"c\0\0\0\x07", b"\"hush-hush\"").expect("a text");
    documents.apply(&[damaged.clone(), wrong], 1);
    let errors = [
        documents.get::<serde_json::Value>(Table::Tokens, "tok_1").expect_err("damage").to_string(),
        documents.scan::<u32>(Table::Channels, b"").expect_err("another type").to_string(),
        damaged.document::<u32>().expect_err("damage").to_string(),
    ];
    assert!(errors[0].contains("tokens tok_1") && errors[1].contains("channels 7"), "{errors:?}");
    assert!(errors.iter().all(|error| !error.contains("hush")), "{errors:?}");
    assert!(!format!("{damaged:?}").contains("hush"));
}

#[test]
fn no_number_is_given_out_twice_whether_its_commit_fails_or_comes_late() {
    let documents = Documents::default();
    let (first, change_first) = documents.take_number("channels").expect("a number");
    let (second, change_second) = documents.take_number("channels").expect("a number");
    assert_eq!((first, second), (1, 2));
    // the later one is committed, then the earlier one
    documents.apply(&[change_second], 1);
    documents.apply(&[change_first], 2);
    assert_eq!(documents.get::<u32>(Table::Numbers, "channels").expect("a read"), Some(2));
    // number 3 is taken and its commit fails
    assert_eq!(documents.take_number("channels").expect("a number").0, 3);
    assert_eq!(documents.take_number("channels").expect("a number").0, 4);
    // a restart knows what was committed, and what the log shows
    let restarted = Documents::of(documents.freeze().entries().map(|(k, v)| Change::stored(k, v).expect("one")), 2);
    restarted.use_up_number("channels", 17);
    restarted.use_up_number("channels", 5);
    assert_eq!(restarted.take_number("channels").expect("a number").0, 18);
    assert_eq!(restarted.take_number("others").expect("a number").0, 1);
    restarted.use_up_number("others", u32::MAX);
    assert!(matches!(restarted.take_number("others"), Err(DocumentError::NumbersExhausted { .. })));
}

#[test]
fn what_is_too_large_is_refused_and_not_cut() {
    let long = "x".repeat(DOCUMENT_BYTES_MAX);
    assert!(matches!(Change::put(Table::Tokens, "a", &long), Err(DocumentError::TooLarge { .. })));
    assert!(matches!(Change::put(Table::Tokens, "k".repeat(KEY_BYTES_MAX), &1), Err(DocumentError::TooLarge { .. })));
    assert!(Change::put(Table::Tokens, "k".repeat(KEY_BYTES_MAX - 1), &1).is_ok());
    for (key, text) in [(&b""[..], &b"1"[..]), (b"?a", b"1"), (b"da", b"1")] {
        assert!(Change::stored(key, text).is_err());
    }
}

fn any_change() -> impl Strategy<Value = Change> {
    let table = (0..Table::ALL.len()).prop_map(|n| Table::ALL[n]);
    let own = proptest::collection::vec(any::<u8>(), 0..40);
    (table, own, proptest::option::of(".{0,200}")).prop_map(|(table, own, text)| match text {
        Some(text) => put(table, own, &text),
        None => Change::delete(table, own),
    })
}

proptest! {
    #[test]
    fn changes_come_back_from_their_bytes(changes in proptest::collection::vec(any_change(), 0..20)) {
        let section = encode_changes(&changes);
        prop_assert_eq!(&decode_changes(&section).expect("changes"), &changes);
        // what is cut off or has something behind it is refused
        for end in 0..section.len() {
            prop_assert!(decode_changes(&section[..end]).is_err());
        }
        prop_assert!(decode_changes(&[&section[..], b"x"].concat()).is_err());
    }

    #[test]
    fn bytes_that_are_no_changes_are_an_error_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = decode_changes(&bytes);
        let _ = decode_changes(&[&[0, 0, 0, 1, 0, 2, 0, 0, 0, 3], &bytes[..]].concat());
    }

    #[test]
    fn the_size_is_that_of_what_is_there(changes in proptest::collection::vec(any_change(), 0..40)) {
        let documents = Documents::default();
        documents.apply(&changes, 1);
        let frozen = documents.freeze();
        let bytes: usize = frozen.entries().map(|(key, text)| key.len() + text.len()).sum();
        prop_assert_eq!(documents.bytes(), bytes as u64);
    }
}

#[test]
fn changes_that_nobody_wrote_are_refused_or_read_as_they_would_be_written() {
    let changes = [
        Change::put(Table::Tokens, "one", &1).expect("a document"),
        Change::delete(Table::Channels, 7u32.to_be_bytes()),
        Change::put(Table::Numbers, "channels", &u32::MAX).expect("a document"),
    ];
    crate::fuzz::run("changes", [encode_changes(&changes)], &[], |bytes| {
        if let Ok(read) = decode_changes(bytes) {
            let again = decode_changes(&encode_changes(&read)).expect("what was written can be read");
            assert!(again == read);
        }
    });
}
