//! The operator's own token: how long it must be, and the one that a data folder keeps when nobody gives one.

use std::path::Path;

use super::HubError;
use crate::clock;
use crate::disk::{Disk, DiskError, Point};
use crate::model::access::secret_text;

/// Its shortest length in characters.
pub const CHARS_MIN: usize = 20;

/// # Errors
/// [`HubError::ShortAdminToken`].
pub fn check(token: &str) -> Result<(), HubError> {
    match token.chars().count() {
        chars if chars < CHARS_MIN => Err(HubError::ShortAdminToken { chars }),
        _ => Ok(()),
    }
}

/// The token in the data folder, made when there is none: (token, made now). Blocks.
///
/// # Errors
/// What the disk says.
pub fn of_folder(disk: &Disk, data_dir: &Path) -> Result<(String, bool), DiskError> {
    let path = data_dir.join("admin-token");
    match disk.read(Point::SecretKeyRead, &path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes).trim().to_owned();
            if !text.is_empty() {
                return Ok((text, false));
            }
        }
        Err(e) if e.is_missing() => {}
        Err(e) => return Err(e),
    }
    let token = secret_text("sta_", clock::random());
    disk.replace(Point::SecretKeyWrite, &path, token.as_bytes())?;
    Ok((token, true))
}
