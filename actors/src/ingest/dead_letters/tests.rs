//! Dead letters on real notes.

use super::*;
use crate::disk::Disk;
use crate::documents::notes::NotesOptions;
use crate::model::source::Content;
use proptest::prelude::*;
use tempfile::TempDir;

const PLENTY: LetterLimits = LetterLimits { letters: 100, bytes: 1 << 20 };

fn letter(bytes: usize, key: Option<&str>) -> Letter {
    Letter {
        n: 0,
        received_ms: 1,
        reason: "no JSON".into(),
        details: Vec::new(),
        content: Content::Json,
        headers: Vec::new(),
        line: None,
        key: key.map(Into::into),
        bytes,
        kept_bytes: 0,
        retries: 0,
    }
}

fn open(folder: &TempDir, is_new_folder: bool) -> Notes {
    let options = NotesOptions { is_new_folder, now_ms: 1_000_000, min_free_bytes: 0 };
    Notes::open(&Disk::real(), folder.path(), options).expect("notes")
}

fn notes() -> (TempDir, Notes) {
    let folder = TempDir::new().expect("a folder");
    let notes = open(&folder, true);
    (folder, notes)
}

fn numbers(notes: &Notes, source: &str) -> Vec<u64> {
    heads(notes, source).expect("heads").iter().map(|letter| letter.n).collect()
}

fn is_empty(notes: &Notes, table: NoteTable) -> bool {
    notes.clear(table, b"").expect("keys").is_empty()
}

#[test]
fn a_body_of_any_bytes_and_size_comes_back_as_it_was() {
    let (_folder, notes) = notes();
    let mut letters = DeadLetters::default();
    for (n, size) in (1..).zip([0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 200_000]) {
        let sent: Vec<u8> = (0..size).map(|n| (n * 7 % 256) as u8).collect();
        assert!(letters.keep(&notes, "wh_1", letter(size, None), &sent, PLENTY).expect("it is kept"));
        let (found, body) = find(&notes, "wh_1", n).expect("a read").expect("the letter");
        assert!(found.is_whole() && found.n == n && body == sent);
    }
    assert_eq!(letters.count(&notes, "wh_1").expect("a count"), 6);
    let after: Vec<_> = page(&notes, "wh_1", 2, 3).expect("a page").iter().map(|letter| letter.n).collect();
    assert_eq!(after, [3, 4, 5]);
    letters.clear(&notes, "wh_1").expect("a write");
    assert!(is_empty(&notes, NoteTable::DeadLetters) && is_empty(&notes, NoteTable::DeadLetterParts));
}

#[test]
fn a_request_that_was_refused_before_makes_no_second_letter() {
    let (_folder, notes) = notes();
    let keep = |key| {
        // as after a restart
        let mut letters = DeadLetters::default();
        letters.keep(&notes, "wh_1", letter(1, key), b"x", PLENTY).expect("a write")
    };
    assert!(keep(Some("a")) && !keep(Some("a")) && keep(Some("b")) && keep(None) && keep(None));
}

#[test]
fn numbers_never_restart_whether_letters_are_removed_or_the_server_starts_again_or_all_notes_are_lost() {
    let (folder, notes) = notes();
    let keep = |notes: &Notes, letters: &mut DeadLetters| {
        letters.keep(notes, "wh_1", letter(1, None), b"x", PLENTY).expect("a write");
        *numbers(notes, "wh_1").last().expect("the letter")
    };
    let mut letters = DeadLetters::default();
    assert_eq!([keep(&notes, &mut letters), keep(&notes, &mut letters)], [1, 2]);
    assert!(letters.remove(&notes, "wh_1", 2).expect("a write"));
    assert!(!letters.remove(&notes, "wh_1", 2).expect("a write"));
    letters.clear(&notes, "wh_1").expect("a write");
    drop(notes);
    let notes = open(&folder, false);
    assert_eq!(keep(&notes, &mut DeadLetters::default()), 3);
    drop(notes);
    std::fs::remove_dir_all(folder.path().join("notes")).expect("it is removed");
    let notes = open(&folder, false);
    assert!(notes.was_lost());
    assert!(keep(&notes, &mut DeadLetters::default()) > 1_000_000);
    // nor do those of whoever knew the letters that are lost
    letters.forget();
    assert!(keep(&notes, &mut letters) > 1_000_001);
}

#[test]
fn a_source_that_is_deleted_leaves_nothing_behind() {
    let (_folder, notes) = notes();
    let mut letters = DeadLetters::default();
    let mut others = DeadLetters::default();
    letters.keep(&notes, "wh_1", letter(70_000, None), &[b'x'; 70_000], PLENTY).expect("a write");
    others.keep(&notes, "wh_2", letter(1, None), b"x", PLENTY).expect("a write");
    letters.end(&notes, "wh_1").expect("a write");
    assert!(!letters.keep(&notes, "wh_1", letter(1, None), b"x", PLENTY).expect("nothing is written"));
    assert_eq!((numbers(&notes, "wh_1"), numbers(&notes, "wh_2")), (vec![], vec![1]));
    others.end(&notes, "wh_2").expect("a write");
    assert_eq!(notes.volume().0, 0);
}

#[test]
fn what_is_left_of_sources_that_were_deleted_while_nothing_could_be_written_goes_at_the_next_start() {
    let (_folder, notes) = notes();
    let sources: Vec<String> = (1..=3).map(|n| format!("wh_01J0000000000000000000000{n}")).collect();
    for source in &sources {
        let mut letters = DeadLetters::default();
        letters.keep(&notes, source, letter(70_000, None), &[b'x'; 70_000], PLENTY).expect("a write");
        notes.write(&[NoteChange::put(NoteTable::SourceCounts, source, &7).expect("a note")]).expect("a write");
    }
    sweep(&notes, |source| source == sources[1]).expect("a write");
    assert_eq!(sources.iter().map(|source| numbers(&notes, source).len()).collect::<Vec<_>>(), [0, 1, 0]);
    sweep(&notes, |_| false).expect("a write");
    assert_eq!(notes.volume().0, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_bounds_hold_and_the_newest_stay(
        sizes in proptest::collection::vec(0usize..90_000, 1..20), most in 1usize..6, most_bytes in 1usize..150_000,
    ) {
        let (_folder, notes) = notes();
        let mut letters = DeadLetters::default();
        let limits = LetterLimits { letters: most, bytes: most_bytes };
        for size in &sizes {
            letters.keep(&notes, "wh_1", letter(*size, None), &vec![b'x'; *size], limits).expect("a write");
        }
        let kept = heads(&notes, "wh_1").expect("heads");
        prop_assert!(!kept.is_empty() && kept.len() <= most);
        prop_assert!(kept.iter().map(|letter| letter.kept_bytes).sum::<usize>() <= most_bytes);
        // a run that ends with the newest
        let last = sizes.len() as u64;
        prop_assert_eq!(numbers(&notes, "wh_1"), (last + 1 - kept.len() as u64..=last).collect::<Vec<_>>());
        for letter in &kept {
            prop_assert_eq!(letter.kept_bytes, sizes[letter.n as usize - 1].min(most_bytes));
            let (_, body) = find(&notes, "wh_1", letter.n).expect("a read").expect("the letter");
            prop_assert_eq!(body.len(), letter.kept_bytes);
        }
        // nothing is left of those that went, and a restart knows the same
        let stored = notes.clear(NoteTable::DeadLetterParts, b"").expect("keys").len();
        prop_assert_eq!(stored, kept.iter().map(|letter| parts(letter.kept_bytes)).sum::<usize>());
        prop_assert_eq!(&letters.index, &Some(Index::read(&notes, "wh_1").expect("an index")));
    }
}

#[test]
fn numbers_of_nodes_differ_and_grow_with_time() {
    assert_eq!([next_number(0, 0), next_number(7, 0)], [1, 8], "a server alone counts");
    let (a, b) = (least_number("node-a", 1_800_000_000_000), least_number("node-b", 1_800_000_000_000));
    assert_ne!(a, b);
    assert!(b < 1 << 53 && least_number("node-a", 1_800_000_000_001) > a.max(b));
    let mut last = 0;
    for _ in 0..3 {
        let next = next_number(last, a);
        assert!(next > last && next % NODES == a % NODES);
        last = next;
    }
    assert_eq!(last, a + 2 * NODES, "also several in one millisecond");
    assert_eq!(next_number(last + 5, a), a + 3 * NODES, "and behind a number of another kind");
    assert_eq!(next_number(a + 9 * NODES, a), a + 10 * NODES, "and when the clock goes back");
}
