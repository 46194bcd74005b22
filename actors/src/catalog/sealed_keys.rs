//! The keys of a webhook or a source at rest: the current one, and during a rotation the one before it.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::clock;
use crate::model::seal::{SealKey, Sealed, Unsealable};

/// Each is bound to a place, a text that names its owner, and opens nowhere else.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct SealedKeys {
    pub(super) current: Sealed,
    /// The key before the last rotation, and until when it counts, in Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<(Sealed, i64)>,
}

impl SealedKeys {
    pub(super) fn seal(seal: &SealKey, place: &str, current: &str, previous: Option<(&str, i64)>) -> SealedKeys {
        let sealed = |key: &str| seal.seal(key, place, clock::random());
        SealedKeys { current: sealed(current), previous: previous.map(|(key, until_ms)| (sealed(key), until_ms)) }
    }

    /// With another key in front; the one before it counts until `until_ms`, unless that is over at `now_ms`.
    pub(super) fn rotated(&self, seal: &SealKey, place: &str, key: &str, until_ms: i64, now_ms: i64) -> SealedKeys {
        let previous = (until_ms > now_ms).then(|| (self.current.clone(), until_ms));
        SealedKeys { previous, ..SealedKeys::seal(seal, place, key, None) }
    }

    /// The same keys sealed with another key; none when that one opens them already.
    ///
    /// # Errors
    /// They open with neither.
    pub(super) fn resealed(
        &self,
        before: &SealKey,
        key: &SealKey,
        place: &str,
    ) -> Result<Option<SealedKeys>, Unsealable> {
        if self.open(key, place).is_ok() {
            return Ok(None);
        }
        let open = self.open(before, place)?;
        let previous = open.previous.as_ref().map(|(text, until_ms)| (text.as_str(), *until_ms));
        Ok(Some(SealedKeys::seal(key, place, &open.current, previous)))
    }

    /// The texts of the keys, and until when the previous one counts.
    ///
    /// # Errors
    /// One of them was sealed with another secret key or for another place.
    pub(super) fn open(&self, seal: &SealKey, place: &str) -> Result<OpenKeys, Unsealable> {
        let open = |sealed: &Sealed| seal.open(sealed, place);
        let previous = self.previous.as_ref().map(|(sealed, until_ms)| Ok((open(sealed)?, *until_ms)));
        Ok(OpenKeys { current: open(&self.current)?, previous: previous.transpose()? })
    }
}

/// The texts of the keys.
pub(super) struct OpenKeys {
    pub current: Zeroizing<String>,
    /// And until when it counts, in Unix milliseconds.
    pub previous: Option<(Zeroizing<String>, i64)>,
}
