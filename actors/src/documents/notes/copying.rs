//! Notes in a backup: read all of them, and written into a folder that is restored.

use std::ops::Bound;

use super::entry::{self, NoteChange, NoteTable, PART_LETTER};
use super::{Notes, NotesError};
use crate::disk::database::Batch;

/// Some notes on their way into a backup.
#[derive(Debug, Default)]
pub struct NotesPage {
    /// Keys with their table's letter, and JSON texts. [`NoteChange::copied`] takes them back.
    pub notes: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the next page begins; none at the end.
    pub next: Option<Vec<u8>>,
    /// Notes that are damaged and left out.
    pub damaged: u64,
}

impl Notes {
    /// Notes of all tables behind a position, about so many bytes of them; the first page is behind an empty one. Blocks.
    ///
    /// # Errors
    /// The database does not answer.
    pub fn copies(&self, behind: &[u8], bytes: usize) -> Result<NotesPage, NotesError> {
        // further parts of notes stand between those of other letters, and are read with the first
        let (before, after) = ([PART_LETTER], entry::after_prefix(&[PART_LETTER]));
        let later = match behind >= &after[..] {
            true => Bound::Excluded(behind.to_vec()),
            false => Bound::Included(after),
        };
        let ranges = [
            (Bound::Excluded(behind.to_vec()), Bound::Excluded(before.to_vec())),
            (later, Bound::Excluded(b"~".to_vec())),
        ];
        self.with(|db| {
            let (mut page, mut taken) = (NotesPage::default(), 0);
            for entry in ranges.iter().flat_map(|range| db.range(range.clone())) {
                let (key, value) = entry?;
                match entry::whole(db, &key, &value)? {
                    Some(text) => {
                        taken += key.len() + text.len();
                        page.notes.push((key.to_vec(), text));
                    }
                    None => page.damaged += 1,
                }
                if taken >= bytes {
                    page.next = Some(key.to_vec());
                    break;
                }
            }
            Ok(page)
        })
    }

    /// Dead letters have higher numbers than this, also where none was counted.
    pub fn numbered_from(&self) -> u64 {
        self.integrity.lock().about.numbered_from
    }

    /// Takes over what the notes of a backup were said to be: from where dead letters are numbered, and whether some of the
    /// notes are lost, which is then announced. Blocks.
    ///
    /// # Errors
    /// The database does not answer.
    pub fn adopt(&self, numbered_from: u64, are_lost: bool) -> Result<(), NotesError> {
        let mut integrity = self.integrity.lock();
        integrity.about.numbered_from = numbered_from;
        integrity.about.is_loss_unannounced = are_lost;
        let mut batch = Batch::default();
        integrity.write_into(&mut batch);
        self.with(|db| db.apply(batch))
    }
}

impl NoteChange {
    /// A note as [`Notes::copies`] gave it.
    ///
    /// # Errors
    /// Why it is none.
    pub fn copied(key: Vec<u8>, text: Vec<u8>) -> Result<NoteChange, String> {
        if !key.first().is_some_and(|letter| NoteTable::ALL.iter().any(|table| *table as u8 == *letter)) {
            return Err("a note is of a table that this version does not know".into());
        }
        NoteChange::stored(key, text).map_err(|bytes| format!("a note of {bytes} bytes is too large"))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::disk::Disk;
    use crate::documents::notes::NotesOptions;

    fn open(disk: &Disk, dir: &str) -> Notes {
        disk.create_dir_all(Path::new(dir)).expect("a folder");
        let options = NotesOptions { is_new_folder: true, now_ms: 1, min_free_bytes: 0 };
        Notes::open(disk, Path::new(dir), options).expect("notes")
    }

    #[test]
    fn a_copy_has_all_notes_whatever_their_size_and_the_size_of_pages() {
        let disk = Disk::simulated(1);
        let notes = open(&disk, "/a");
        notes.adopt(77, false).expect("a write");
        for (table, n, len) in [
            (NoteTable::Deliveries, 1, 10),
            (NoteTable::DeadLetterParts, 2, 200_000),
            (NoteTable::SourceCounts, 3, 60_000),
        ] {
            let note = NoteChange::put(table, [n], &"x".repeat(len)).expect("a note");
            notes.write(&[note, NoteChange::last_number("s", n.into()).expect("a note")]).expect("a write");
        }
        for bytes in [1, 100_000, usize::MAX] {
            let copy = open(&disk, &format!("/copy-{bytes}"));
            let mut behind = Some(Vec::new());
            while let Some(position) = behind {
                let page = notes.copies(&position, bytes).expect("a page");
                assert_eq!(page.damaged, 0);
                for (key, text) in page.notes {
                    copy.write(&[NoteChange::copied(key, text).expect("a note")]).expect("a write");
                }
                behind = page.next;
            }
            copy.adopt(notes.numbered_from(), true).expect("a write");
            assert_eq!(copy.volume(), notes.volume());
            assert_eq!((copy.last_number("s").expect("a number"), copy.last_number("t").expect("a number")), (77, 77));
            let part: Option<String> = copy.get(NoteTable::DeadLetterParts, [2]).expect("a look");
            assert_eq!(part.map(|text| text.len()), Some(200_000));
        }
    }

    #[test]
    fn a_note_of_an_unknown_table_is_refused() {
        for key in [b"".as_slice(), b"o1", b"~about", b"c1"] {
            assert!(NoteChange::copied(key.to_vec(), b"1".to_vec()).is_err());
        }
    }
}
