//! Secrets from the environment: in a variable, or in a file that `NAME_FILE` names, as containers and systemd give them.

use std::env::{self, VarError};
use std::fs::File;
use std::io::Read;

use super::Failure;

/// The largest file of a secret.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The text of the variable, or of the file that the variable with `_FILE` behind its name names. Empty is not set.
///
/// # Errors
/// Both are set, or the file cannot be read or holds nothing.
pub(super) fn secret_variable(name: &str) -> Result<Option<String>, Failure> {
    let file_name = format!("{name}_FILE");
    match (variable(name)?, variable(&file_name)?) {
        (Some(_), Some(_)) => Err(Failure::Failed(format!("{name} and {file_name} are both set; set one of them"))),
        (Some(text), None) => Ok(Some(text)),
        (None, Some(path)) => read(&file_name, &path).map(Some),
        (None, None) => Ok(None),
    }
}

fn variable(name: &str) -> Result<Option<String>, Failure> {
    match env::var(name) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(Failure::Failed(format!("{name} is not valid UTF-8; correct or unset it"))),
    }
}

fn read(name: &str, path: &str) -> Result<String, Failure> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text));
    if let Err(e) = read {
        return Err(Failure::Failed(format!(
            "the file {path} of {name} cannot be read: {e}; check the path and who may read it"
        )));
    }
    match text.trim() {
        "" => Err(Failure::Failed(format!("the file {path} of {name} is empty; write the secret into it"))),
        text => Ok(text.to_owned()),
    }
}
