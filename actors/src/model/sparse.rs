//! Numbers under small keys, of which most are absent: what a step of a series holds.

use serde::{Deserialize, Serialize};

/// In the order of the keys, each once. As JSON: `[[key,number],...]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SparseNumbers(Vec<(u8, u64)>);

impl SparseNumbers {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, key: u8) -> Option<u64> {
        self.0.iter().find(|(other, _)| *other == key).map(|(_, number)| *number)
    }

    /// Puts what `change` makes of the number that was there.
    pub fn update(&mut self, key: u8, change: impl FnOnce(Option<u64>) -> u64) {
        match self.0.binary_search_by_key(&key, |(other, _)| *other) {
            Ok(at) => self.0[at].1 = change(Some(self.0[at].1)),
            Err(at) => self.0.insert(at, (key, change(None))),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (u8, u64)> {
        self.0.iter().copied()
    }
}
