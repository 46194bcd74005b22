//! `--resume NAME`: how far a channel was posted, in `stentor/bookmarks/NAME.toml` in the user's state folder.

use std::path::{Path, PathBuf};

use actors::model::id::EventId;
use serde::{Deserialize, Serialize};

use crate::cli::Failure;
use crate::cli::channel::{Channel, is_plain};
use crate::cli::logins::{user_folder, write_private};

/// A name that can be one of a file.
///
/// # Errors
/// What a name looks like.
pub fn name(text: &str) -> Result<String, String> {
    match is_plain(text) && !text.starts_with('.') {
        true => Ok(text.to_owned()),
        false => Err("give a name of letters, digits, _ . and -".to_owned()),
    }
}

/// A place in the events of one channel of one server.
#[derive(Debug)]
pub struct Bookmark {
    path: PathBuf,
    place: Place,
}

/// What the file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    server: String,
    channel: String,
    /// The last event that was posted, or that was there when the first call began.
    cursor: Option<String>,
}

impl Bookmark {
    /// The place of that name, which has no cursor when the name is new.
    ///
    /// # Errors
    /// When the name belongs to another channel, or its file cannot be read.
    pub fn open(name: &str, server: &str, channel: &Channel) -> Result<Bookmark, Failure> {
        let Some(folder) = user_folder("XDG_STATE_HOME", ".local/state") else {
            let reason = "--resume has no folder to remember in; set HOME or XDG_STATE_HOME";
            return Err(Failure::Failed(reason.to_owned()));
        };
        let path = folder.join("stentor").join("bookmarks").join(format!("{name}.toml"));
        Self::open_at(path, name, Place { server: server.to_owned(), channel: channel.to_string(), cursor: None })
    }

    fn open_at(path: PathBuf, name: &str, wanted: Place) -> Result<Bookmark, Failure> {
        let failed = |path: &Path, reason: &dyn std::fmt::Display| {
            let path = path.display();
            Failure::Failed(format!("cannot read {path}: {reason}; correct or remove it, or choose another name"))
        };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Bookmark { path, place: wanted }),
            Err(e) => return Err(failed(&path, &e)),
        };
        let place: Place = toml::from_str(&text).map_err(|e| failed(&path, &e.message()))?;
        if (&place.server, &place.channel) != (&wanted.server, &wanted.channel) {
            return Err(Failure::Usage(format!(
                "--resume {name} belongs to {} at {}; choose another name",
                place.channel, place.server
            )));
        }
        if place.cursor.as_deref().is_some_and(|cursor| cursor.parse::<EventId>().is_err()) {
            return Err(failed(&path, &"its cursor is no id of an event"));
        }
        Ok(Bookmark { path, place })
    }

    /// The event behind which to go on.
    pub fn cursor(&self) -> Option<EventId> {
        self.place.cursor.as_deref()?.parse().ok()
    }

    /// Goes on behind this event from now on. Blocks briefly.
    ///
    /// # Errors
    /// When the file cannot be written, or nothing is known of where the stream is.
    pub fn set(&mut self, cursor: Option<&str>) -> Result<(), Failure> {
        let failed = |path: &Path, reason: &dyn std::fmt::Display| {
            Failure::Failed(format!("cannot remember the place in {}: {reason}; check its folder", path.display()))
        };
        if cursor.is_none() {
            return Err(failed(&self.path, &"the stream has not said where it begins"));
        }
        self.place.cursor = cursor.map(str::to_owned);
        let text = toml::to_string(&self.place).map_err(|e| failed(&self.path, &e))?;
        // one event more after a power cut is no harm
        write_private(&self.path, text.as_bytes(), false).map_err(|e| failed(&self.path, &e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(channel: &str) -> Place {
        Place { server: "http://a".into(), channel: channel.into(), cursor: None }
    }

    #[test]
    fn a_place_is_found_again_and_belongs_to_its_channel() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new").join("laptop.toml");
        let open = |channel| Bookmark::open_at(path.clone(), "laptop", place(channel));
        let mut bookmark = open("map:home").expect("a new name");
        assert_eq!(bookmark.cursor(), None);
        let id = EventId::at_time(1_750_509_296_789);
        bookmark.set(Some(&format!("evt_{id}"))).expect("it can be written");
        assert_eq!(open("map:home").expect("a known name").cursor(), Some(id));
        let said = open("map:other").expect_err("another channel").to_string();
        assert!(said.contains("--resume laptop belongs to map:home at http://a"), "{said}");
        std::fs::write(&path, "cursor = 1").expect("it can be written");
        assert!(open("map:home").is_err());
        assert!(name("laptop.1").is_ok() && name("../x").is_err() && name(".x").is_err() && name("").is_err());
    }
}
