//! `stentor/login.toml` in the user's configuration folder: the servers that `stentor login` was told of, each with its
//! token, and the one that is meant when none is named. Readable by its owner only.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Failure;

/// The largest file that is read; a login takes some hundred bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What the file holds.
#[derive(Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logins {
    /// The server of the last login.
    pub server: Option<String>,
    /// Tokens by the address of their server.
    #[serde(default)]
    pub tokens: BTreeMap<String, String>,
}

/// Where the file is: below `XDG_CONFIG_HOME`, else below `.config` in the home folder. None without either.
pub fn path() -> Option<PathBuf> {
    Some(user_folder("XDG_CONFIG_HOME", ".config")?.join("stentor").join("login.toml"))
}

/// A folder of the XDG base directory specification: a relative path in its variable counts as none.
pub fn user_folder(variable: &str, in_home: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    named.or_else(|| Some(home()?.join(in_home)))
}

impl Logins {
    /// Reads the file. A missing one holds nothing. Blocks.
    ///
    /// # Errors
    /// When it cannot be read, or is not what `stentor login` writes.
    pub fn load() -> Result<Logins, Failure> {
        match path() {
            Some(path) => Self::load_from(&path),
            None => Ok(Logins::default()),
        }
    }

    fn load_from(path: &Path) -> Result<Logins, Failure> {
        let failed = |reason: &dyn std::fmt::Display| {
            let path = path.display();
            Failure::Failed(format!("cannot read {path}: {reason}; correct or remove it, then log in by stentor login"))
        };
        match fs::metadata(path) {
            Ok(about) if about.len() > FILE_BYTES_MAX => return Err(failed(&"it is too large")),
            Ok(_) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Logins::default());
            }
            Err(e) => return Err(failed(&e)),
        }
        let text = fs::read_to_string(path).map_err(|e| failed(&e))?;
        // the parser's own message repeats the line, in which the token may stand
        toml::from_str(&text).map_err(|_| failed(&"it is no login file"))
    }

    /// Writes the file as a whole. Blocks. Returns its path.
    ///
    /// # Errors
    /// When there is no home folder, or it cannot be written.
    pub fn save(&self) -> Result<PathBuf, Failure> {
        let Some(path) = path() else {
            let reason = "there is no folder for configuration; set HOME or XDG_CONFIG_HOME";
            return Err(Failure::Failed(reason.to_owned()));
        };
        let text = toml::to_string(self).map_err(|e| Failure::Failed(format!("the login cannot be written: {e}")))?;
        write_private(&path, text.as_bytes(), true)
            .map_err(|e| Failure::Failed(format!("cannot write {}: {e}; check its folder", path.display())))?;
        Ok(path)
    }
}

/// Replaces a file as a whole by one with mode 0600; folders that are missing are made with mode 0700. Blocks; with
/// `durably` until the disk has it.
///
/// # Errors
/// When a folder cannot be made or the file cannot be written; the old one is whole then.
pub fn write_private(path: &Path, bytes: &[u8], durably: bool) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let new = path.with_extension(format!("new.{}", std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        if durably {
            file.sync_all()?;
        }
        fs::rename(&new, path)
    })();
    if written.is_err() {
        // it may not be there
        let _ = fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn logins_are_read_as_they_were_written_and_belong_to_their_owner() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("stentor").join("login.toml");
        assert!(Logins::load_from(&path).expect("a missing file") == Logins::default());
        let mut logins = Logins { server: Some("https://a.example".into()), ..Logins::default() };
        logins.tokens.insert("https://a.example".into(), "st_1".into());
        write_private(&path, toml::to_string(&logins).expect("it can be written").as_bytes(), true)
            .expect("it is written");
        assert!(Logins::load_from(&path).expect("it was written") == logins);
        let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().expect("a folder"))), (0o600, 0o700));
        assert_eq!(fs::read_dir(path.parent().expect("a folder")).expect("a folder").count(), 1);
    }

    #[test]
    fn a_damaged_file_is_named_and_its_token_is_not_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("login.toml");
        fs::write(&path, "[tokens]\n\"https://a\" = \"st_secret\" x\n").expect("it can be written");
        let said = Logins::load_from(&path).err().expect("it is damaged").to_string();
        assert!(said.contains("login.toml") && !said.contains("st_secret"), "{said}");
    }
}
