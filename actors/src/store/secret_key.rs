//! The key that seals secrets: the operator's own, or the file `secret-key` in the data folder, made by the first start.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{StoreError, io, sync_dir};
use crate::clock;
use crate::model::seal::SealKey;

const NAME: &str = "secret-key";

/// `own`: the text of the operator's key, which is then kept nowhere.
pub fn secret_key(data_dir: &Path, own: Option<&str>) -> Result<SealKey, StoreError> {
    let path = data_dir.join(NAME);
    if let Some(own) = own {
        return Ok(SealKey::from_text(own)?);
    }
    match std::fs::read_to_string(&path) {
        Ok(text) => return Ok(SealKey::from_text(&text)?),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(io("read", &path)(e)),
    }
    let text = SealKey::text_of(clock::random());
    // under another name first, so that a crash leaves no half of a key
    let fresh = data_dir.join("secret-key.new");
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&fresh, &path)
    };
    write().map_err(io("write", &path))?;
    sync_dir(data_dir)?;
    Ok(SealKey::from_text(&text)?)
}
