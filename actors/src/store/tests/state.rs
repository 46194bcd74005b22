//! The state database.

use std::collections::HashSet;

use tempfile::TempDir;

use super::{Durability, raw_database};
use crate::store::{Change, State, StoreError, Table};

fn open(dir: &TempDir) -> State {
    State::open(dir.path(), Durability::Flush).unwrap()
}

#[test]
fn documents_come_back_in_the_order_of_their_keys() {
    let dir = TempDir::new().unwrap();
    let state = open(&dir);
    let put = |name: &str| Change::put(Table::Tokens, name, &name).unwrap();
    state.write(&[put("b"), put("a1"), put("a2"), Change::put(Table::Channels, "a3", &3).unwrap()]).unwrap();
    state.write(&[Change::delete(Table::Tokens, "a1"), put("a0")]).unwrap();
    drop(state);
    let state = open(&dir);
    let names = |prefix: &[u8]| -> Vec<String> {
        state.scan(Table::Tokens, prefix).unwrap().into_iter().map(|(_, name)| name).collect()
    };
    assert_eq!(names(b""), ["a0", "a2", "b"]);
    assert_eq!(names(b"a"), ["a0", "a2"]);
    assert_eq!(state.get::<String>(Table::Tokens, "a1").unwrap(), None);
    assert_eq!(state.get::<u32>(Table::Channels, "a3").unwrap(), Some(3));
}

#[test]
fn a_damaged_document_is_an_error() {
    let dir = TempDir::new().unwrap();
    let state = open(&dir);
    state.write(&[Change::put(Table::Tokens, "a", &"text").unwrap()]).unwrap();
    drop(state);
    let db = raw_database(&dir.path().join("state"));
    let mut value = db.get("ta").unwrap().unwrap().to_vec();
    *value.last_mut().unwrap() ^= 1;
    db.insert("ta", value).unwrap();
    db.insert("tb", "abc").unwrap();
    drop(db);
    let state = open(&dir);
    for key in ["a", "b"] {
        assert!(matches!(state.get::<String>(Table::Tokens, key), Err(StoreError::Damaged)));
    }
    assert!(state.scan::<String>(Table::Tokens, b"").is_err());
}

#[test]
fn no_number_is_given_out_twice_by_threads_or_restarts() {
    let dir = TempDir::new().unwrap();
    let mut seen = HashSet::new();
    for _ in 0..3 {
        let state = open(&dir);
        let numbers: Vec<u32> = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..10).map(|_| state.next_number("n").unwrap()).collect::<Vec<_>>()))
                .collect();
            takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect()
        });
        for number in numbers {
            assert!(seen.insert(number), "{number} came twice");
        }
    }
    assert_eq!((seen.len(), seen.iter().max()), (120, Some(&120)));
}

#[test]
fn what_many_writers_wrote_at_once_is_there_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let state = open(&dir);
    std::thread::scope(|scope| {
        for writer in 0..4u8 {
            let state = &state;
            scope.spawn(move || {
                for n in 0..25u8 {
                    state.write(&[Change::put(Table::Tokens, [writer, n], &n).unwrap()]).unwrap();
                }
            });
        }
    });
    drop(state);
    assert_eq!(open(&dir).scan::<u8>(Table::Tokens, b"").unwrap().len(), 100);
}
