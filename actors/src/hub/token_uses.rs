//! When each stored token was last used, over restarts: what requests note in the catalog ([`LastUse`]) is written twice a minute,
//! beside the figures. A crash costs the uses of the last half minute, and so may the loss of the notes all of them.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::catalog::last_use::LastUse;
use crate::documents::notes::{NoteChange, NoteTable, Notes, NotesError};
use crate::model::record_id::TokenId;

/// Uses that are written together.
const BATCH: usize = 256;

pub(super) struct TokenUses {
    notes: Arc<Notes>,
    /// The tokens of which a use is written: at most all there are, and those revoked since the last write. Only the one
    /// writer and the start take the lock.
    noted: Mutex<HashSet<TokenId>>,
}

impl TokenUses {
    /// Gives the tokens back what was written of them; nothing where that cannot be read. Blocks.
    pub fn restore(notes: Arc<Notes>, of: impl Fn(&str) -> Option<Arc<LastUse>>) -> TokenUses {
        let kept = notes.scan::<i64>(NoteTable::TokenUses, b"").unwrap_or_else(|e| {
            log::error!("when tokens were last used is not known any more: {e}; {}", e.cure());
            Vec::new()
        });
        let mut noted = HashSet::new();
        for (key, at_s) in kept {
            let Ok(id) = String::from_utf8(key) else { continue };
            if let Some(last_use) = of(&id) {
                last_use.restore(at_s);
            }
            noted.insert(TokenId::from(id));
        }
        TokenUses { notes, noted: Mutex::new(noted) }
    }

    /// Writes these uses, and forgets tokens that do not exist any more. One caller at a time. Blocks.
    pub fn write(&self, uses: &[(TokenId, Arc<LastUse>)], exists: impl Fn(&str) -> bool) {
        let gone: HashSet<TokenId> = self.noted.lock().iter().filter(|id| !exists(id)).cloned().collect();
        let new: Vec<_> = uses.iter().filter_map(|(id, last)| Some((id, last, last.unwritten_s()?))).collect();
        let deletions = gone.iter().map(|id| Ok(NoteChange::delete(NoteTable::TokenUses, id.as_bytes())));
        let puts = new.iter().map(|(id, _, at_s)| NoteChange::put(NoteTable::TokenUses, id.as_bytes(), at_s));
        let changes = deletions.chain(puts).collect::<Result<Vec<_>, NotesError>>();
        let write = |changes: Vec<NoteChange>| changes.chunks(BATCH).try_for_each(|batch| self.notes.write(batch));
        if let Err(e) = changes.and_then(write) {
            log::debug!("when tokens were last used is written later: {e}");
            return;
        }
        let mut noted = self.noted.lock();
        noted.retain(|id| !gone.contains(id));
        for (id, last_use, at_s) in new {
            last_use.written(at_s);
            if !noted.contains(id) {
                noted.insert(id.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::disk::Disk;
    use crate::documents::notes::NotesOptions;

    /// Tokens of those names that nobody has used.
    fn tokens(names: &[&str]) -> HashMap<String, Arc<LastUse>> {
        names.iter().map(|name| (name.to_string(), Arc::default())).collect()
    }

    fn all(tokens: &HashMap<String, Arc<LastUse>>) -> Vec<(TokenId, Arc<LastUse>)> {
        tokens.iter().map(|(id, last_use)| (TokenId::from(id.as_str()), last_use.clone())).collect()
    }

    #[test]
    fn the_last_use_of_a_token_outlasts_a_restart_and_goes_with_the_token() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = NotesOptions { is_new_folder: true, now_ms: 1, min_free_bytes: 0 };
        let notes = Arc::new(Notes::open(&Disk::real(), folder.path(), options).expect("notes"));
        let old = tokens(&["tok_a", "tok_b", "tok_unused"]);
        let uses = TokenUses::restore(notes.clone(), |id| old.get(id).cloned());
        old["tok_a"].note(70);
        old["tok_b"].note(80);
        uses.write(&all(&old), |_| true);
        assert_eq!(old["tok_a"].unwritten_s(), None);
        old["tok_a"].note(90);
        uses.write(&all(&old), |_| true);

        let new = tokens(&["tok_a", "tok_b", "tok_unused"]);
        let uses = TokenUses::restore(notes.clone(), |id| new.get(id).cloned());
        assert_eq!(["tok_a", "tok_b", "tok_unused"].map(|id| new[id].at_s()), [Some(90), Some(80), None]);
        uses.write(&all(&new), |id| id != "tok_b");
        assert!(notes.scan::<i64>(NoteTable::TokenUses, b"").expect("a scan").iter().all(|(id, _)| id == b"tok_a"));
    }
}
