//! The key that seals secrets: the operator's own, or the file `secret-key` in the data folder, made by the first start.
//!
//! A document that only the right key opens proves at each start that the key is still the same one. Another key would
//! make every stored secret unreadable, and new ones unreadable for the old key. A key is replaced by giving the one before it
//! as well: then everything that is stored has to be sealed anew.

use std::path::{Path, PathBuf};

use super::{Change, DocumentError, Documents, Table};
use crate::disk::{Cure, Disk, DiskError, Point};
use crate::model::seal::{BadKey, KEY_BYTES, NONCE_BYTES, SealKey, Sealed};

const NAME: &str = "secret-key";
/// The document that proves the key, and the place for which its text is sealed.
const CHECK: &str = "secret-check";
const CHECK_TEXT: &str = "the right key";

#[derive(Debug, thiserror::Error)]
pub enum SecretKeyError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error("{whence}: {source}")]
    Bad { whence: String, source: BadKey },
    #[error("the secret key {path} is missing, and stored secrets cannot be opened without it", path = path.display())]
    Missing { path: PathBuf },
    #[error("{whence} is not the key that has sealed the stored secrets")]
    Wrong { whence: String },
}

impl SecretKeyError {
    /// What the operator can do. Nothing but the key is to be put back where it is missing or another one.
    pub fn cure(&self) -> Cure {
        match self {
            SecretKeyError::Disk(e) => e.cure(),
            SecretKeyError::Document(_) => Cure::restore("restore a backup (stentor restore)"),
            SecretKeyError::Bad { .. } => Cure::adjust("put the right key there"),
            SecretKeyError::Missing { .. } | SecretKeyError::Wrong { .. } => Cure::adjust(
                "put the file secret-key of this data folder back, from a backup if need be, or set STENTOR_SECRET_KEY to \
                 the key that was in use; to replace that key, give it as STENTOR_PREVIOUS_SECRET_KEY",
            ),
        }
    }
}

/// The operator's own keys as texts, which are kept nowhere.
#[derive(Clone, Copy, Default)]
pub struct OwnKeys<'a> {
    /// None: the key in the data folder counts.
    pub current: Option<&'a str>,
    /// The key before it, while it is replaced.
    pub previous: Option<&'a str>,
}

/// The key of a data folder.
pub struct ProvedKey {
    pub key: SealKey,
    /// What has to be committed when nothing has proved this key before: last, where anything is to be sealed anew.
    pub check: Option<Change>,
    /// The key with which everything that is stored is still sealed, where another one takes its place.
    pub replaced: Option<SealKey>,
}

/// Random bytes for a new key and for what is sealed with it.
pub struct KeyChance {
    pub key: [u8; KEY_BYTES],
    pub nonce: [u8; NONCE_BYTES],
}

/// The key, made where there is none yet.
///
/// `sealed`: something that is stored, with its place; it proves the key of a folder that has no document for that yet. Blocks.
///
/// # Errors
/// The key is missing or another one, or what the disk says.
pub fn secret_key(
    disk: &Disk,
    data_dir: &Path,
    own: OwnKeys<'_>,
    documents: &Documents,
    sealed: Option<(&Sealed, &str)>,
    chance: KeyChance,
) -> Result<ProvedKey, SecretKeyError> {
    let check: Option<Sealed> = documents.get(Table::Numbers, CHECK)?;
    let proof = check.as_ref().map(|check| (check, CHECK)).or(sealed);
    let bad = |whence: &str, source| SecretKeyError::Bad { whence: whence.to_owned(), source };
    let previous =
        own.previous.map(SealKey::from_text).transpose().map_err(|e| bad("STENTOR_PREVIOUS_SECRET_KEY", e))?;
    let opens = |key: &SealKey| proof.is_none_or(|(sealed, place)| key.open(sealed, place).is_ok());
    // only where it is proved that it was the key
    let previous = previous.filter(|key| proof.is_some() && opens(key));
    let path = data_dir.join(NAME);
    let (key, whence) = match own.current {
        Some(own) => (SealKey::from_text(own), "STENTOR_SECRET_KEY".to_owned()),
        None => {
            let text = match disk.read(Point::SecretKeyRead, &path) {
                Ok(bytes) => String::from_utf8(bytes).unwrap_or_default(),
                Err(e) if e.is_missing() && proof.is_some() && previous.is_none() => {
                    return Err(SecretKeyError::Missing { path });
                }
                Err(e) if e.is_missing() => {
                    let text = SealKey::text_of(chance.key);
                    disk.replace(Point::SecretKeyWrite, &path, text.as_bytes())?;
                    text.to_string()
                }
                Err(e) => return Err(e.into()),
            };
            (SealKey::from_text(&zeroize::Zeroizing::new(text)), format!("the file {}", path.display()))
        }
    };
    let key = key.map_err(|source| bad(&whence, source))?;
    let replaced = match (opens(&key), previous) {
        (true, _) => None,
        (false, Some(previous)) => Some(previous),
        (false, None) => return Err(SecretKeyError::Wrong { whence }),
    };
    let check = match check {
        Some(_) if replaced.is_none() => None,
        _ => Some(Change::put(Table::Numbers, CHECK, &key.seal(CHECK_TEXT, CHECK, chance.nonce))?),
    };
    Ok(ProvedKey { key, check, replaced })
}

/// Whether a key is the one that has sealed the stored secrets; none when no document tells.
///
/// # Errors
/// The document that tells cannot be read.
pub fn is_right_key(text: &str, documents: &Documents) -> Result<Option<bool>, DocumentError> {
    let check: Option<Sealed> = documents.get(Table::Numbers, CHECK)?;
    let opens = |check: Sealed| SealKey::from_text(text).is_ok_and(|key| key.open(&check, CHECK).is_ok());
    Ok(check.map(opens))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Room {
        dir: tempfile::TempDir,
        disk: Disk,
        documents: Documents,
    }

    impl Room {
        fn new() -> Room {
            let dir = tempfile::tempdir().expect("a folder");
            Room { dir, disk: Disk::real(), documents: Documents::default() }
        }

        fn key_with(&self, own: Option<&str>, sealed: Option<(&Sealed, &str)>) -> Result<SealKey, SecretKeyError> {
            let chance = KeyChance { key: [5; KEY_BYTES], nonce: [6; NONCE_BYTES] };
            let own = OwnKeys { current: own, previous: None };
            let proved = secret_key(&self.disk, self.dir.path(), own, &self.documents, sealed, chance)?;
            assert!(proved.replaced.is_none());
            self.commit(proved.check);
            Ok(proved.key)
        }

        /// With the key before the current one.
        fn replaced(&self, own: Option<&str>, previous: &str) -> Result<ProvedKey, SecretKeyError> {
            let chance = KeyChance { key: [8; KEY_BYTES], nonce: [7; NONCE_BYTES] };
            let own = OwnKeys { current: own, previous: Some(previous) };
            secret_key(&self.disk, self.dir.path(), own, &self.documents, None, chance)
        }

        fn commit(&self, check: Option<Change>) {
            if let Some(check) = check {
                self.documents.apply(&[check], self.documents.sequence() + 1);
            }
        }

        fn key(&self, own: Option<&str>) -> Result<SealKey, SecretKeyError> {
            self.key_with(own, None)
        }

        fn file(&self) -> PathBuf {
            self.dir.path().join(NAME)
        }
    }

    fn error(key: Result<SealKey, SecretKeyError>) -> SecretKeyError {
        key.err().expect("an error")
    }

    #[test]
    fn a_first_start_makes_a_key_that_later_ones_find() {
        let room = Room::new();
        let sealed = room.key(None).expect("a key").seal("secret", "here", [1; NONCE_BYTES]);
        let key = room.key(None).expect("the same key");
        assert_eq!(key.open(&sealed, "here").as_deref().map(String::as_str), Ok("secret"));
        assert_eq!(std::fs::metadata(room.file()).expect("a file").permissions().mode() & 0o777, 0o600);
        // whoever only looks is told the same
        let is_right = |text: &str| is_right_key(text, &room.documents).expect("it can be read");
        let own = std::fs::read_to_string(room.file()).expect("a key");
        assert_eq!(
            (is_right(&own), is_right(&SealKey::text_of([9; KEY_BYTES])), is_right("")),
            (Some(true), Some(false), Some(false))
        );
        assert_eq!(is_right_key(&own, &Documents::default()).expect("it can be read"), None);
        // the operator gives the same key
        let text = std::fs::read_to_string(room.file()).expect("a key");
        std::fs::remove_file(room.file()).expect("a file");
        assert!(room.key(Some(&text)).is_ok() && !room.file().exists());
    }

    #[test]
    fn another_key_or_none_ends_the_start_with_the_reason_and_the_cure() {
        let room = Room::new();
        room.key(None).expect("a key");
        let other = SealKey::text_of([9; KEY_BYTES]);
        let e = error(room.key(Some(&other)));
        assert!(e.to_string().contains("STENTOR_SECRET_KEY") && !e.to_string().contains(&**other), "{e}");
        std::fs::write(room.file(), other.as_bytes()).expect("a write");
        let e = error(room.key(None));
        assert!(e.to_string().contains("secret-key") && e.cure().as_str().contains("backup"), "{e}");
        std::fs::write(room.file(), b"\xff no key").expect("a write");
        assert!(matches!(error(room.key(None)), SecretKeyError::Bad { .. }));
        std::fs::remove_file(room.file()).expect("a file");
        assert!(matches!(error(room.key(None)), SecretKeyError::Missing { .. }));
        assert!(!room.file().exists(), "no new key beside sealed secrets");
        room.disk.faults().fail(Point::SecretKeyRead, libc::EACCES);
        assert!(matches!(error(room.key(None)), SecretKeyError::Disk(_)));
    }

    #[test]
    fn a_secret_that_is_stored_proves_the_key_where_nothing_else_does() {
        let room = Room::new();
        let sealed = SealKey::from_text(&SealKey::text_of([5; KEY_BYTES])).expect("a key");
        let sealed = sealed.seal("secret", "webhook w", [1; NONCE_BYTES]);
        let proof = Some((&sealed, "webhook w"));
        assert!(matches!(error(room.key_with(None, proof)), SecretKeyError::Missing { .. }));
        let other = SealKey::text_of([9; KEY_BYTES]);
        assert!(matches!(error(room.key_with(Some(&other), proof)), SecretKeyError::Wrong { .. }));
        assert!(!room.documents.contains(Table::Numbers, CHECK));
        let right = SealKey::text_of([5; KEY_BYTES]);
        room.key_with(Some(&right), proof).expect("the right key");
        assert!(room.documents.contains(Table::Numbers, CHECK));
    }

    #[test]
    fn a_key_takes_the_place_of_the_one_before_only_with_that_one_and_until_it_is_committed() {
        let (first, second) = (SealKey::text_of([1; KEY_BYTES]), SealKey::text_of([2; KEY_BYTES]));
        let room = Room::new();
        room.key(Some(&first)).expect("a key");
        let other = SealKey::text_of([3; KEY_BYTES]);
        let wrong = room.replaced(Some(&second), &other).err().expect("neither is the key");
        assert!(matches!(wrong, SecretKeyError::Wrong { .. }));
        let bad = room.replaced(Some(&second), "no key").err().expect("no key").to_string();
        assert!(bad.contains("STENTOR_PREVIOUS_SECRET_KEY"), "{bad}");
        // a crash before the commit leaves it as it was
        for _ in 0..2 {
            let proved = room.replaced(Some(&second), &first).expect("the key before is the right one");
            assert!(proved.replaced.is_some() && proved.check.is_some());
        }
        assert!(room.key(Some(&first)).is_ok());
        room.commit(room.replaced(Some(&second), &first).expect("the same").check);
        let again = room.replaced(Some(&second), &first).expect("both are still given");
        assert!(again.replaced.is_none() && again.check.is_none());
        assert!(room.key(Some(&second)).is_ok() && room.key(Some(&first)).is_err());
    }

    #[test]
    fn a_file_that_was_taken_away_is_made_anew_only_beside_the_key_that_it_held() {
        let room = Room::new();
        room.key(None).expect("a key");
        let text = std::fs::read_to_string(room.file()).expect("a key");
        std::fs::remove_file(room.file()).expect("a file");
        let other = SealKey::text_of([3; KEY_BYTES]);
        assert!(matches!(room.replaced(None, &other).err(), Some(SecretKeyError::Missing { .. })));
        let proved = room.replaced(None, &text).expect("the key before");
        assert!(proved.replaced.is_some() && room.file().exists());
        room.commit(proved.check);
        assert!(room.key(None).is_ok() && room.key(Some(&text)).is_err());
    }

    #[test]
    fn a_key_that_cannot_be_written_ends_the_start() {
        let room = Room::new();
        room.disk.faults().fail(Point::SecretKeyWrite, libc::ENOSPC);
        assert!(matches!(error(room.key(None)), SecretKeyError::Disk(e) if e.is_full()));
        room.disk.faults().clear_all();
        assert!(!room.file().exists() && room.key(None).is_ok());
    }
}
