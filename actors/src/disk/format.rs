//! The version of the layout of a data folder, in the file `format`. It is written last when a folder is made, migrated or
//! restored.

use std::path::Path;

use super::{Disk, DiskError, Point};

/// The version that this program reads and writes.
pub const FORMAT: u32 = 2;
pub const FORMAT_FILE: &str = "format";

/// What the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataFormat {
    /// There is no such file.
    Missing,
    Current,
    /// A newer version wrote it.
    Newer(u32),
    Damaged,
}

impl DataFormat {
    /// Blocks.
    ///
    /// # Errors
    /// What the disk says.
    pub fn read(disk: &Disk, data_dir: &Path) -> Result<DataFormat, DiskError> {
        let text = match disk.read(Point::FormatRead, &data_dir.join(FORMAT_FILE)) {
            Ok(text) => text,
            Err(e) if e.is_missing() => return Ok(DataFormat::Missing),
            Err(e) => return Err(e),
        };
        let number = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
        Ok(match number {
            Some(FORMAT) => DataFormat::Current,
            Some(newer) if newer > FORMAT => DataFormat::Newer(newer),
            _ => DataFormat::Damaged,
        })
    }

    /// Marks a folder as one of the current version, durably. Blocks.
    ///
    /// # Errors
    /// What the disk says.
    pub fn write(disk: &Disk, data_dir: &Path) -> Result<(), DiskError> {
        disk.replace(Point::FormatWrite, &data_dir.join(FORMAT_FILE), format!("{FORMAT}\n").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_as_it_was_written_and_nothing_else_passes_for_it() {
        let disk = Disk::simulated(1);
        let dir = Path::new("/");
        assert_eq!(DataFormat::read(&disk, dir).expect("a look"), DataFormat::Missing);
        DataFormat::write(&disk, dir).expect("a write");
        assert_eq!(DataFormat::read(&disk, dir).expect("a look"), DataFormat::Current);
        for (text, found) in [
            ("3\n", DataFormat::Newer(3)),
            ("1\n", DataFormat::Damaged),
            ("", DataFormat::Damaged),
            ("x", DataFormat::Damaged),
        ] {
            disk.replace(Point::FormatWrite, &dir.join(FORMAT_FILE), text.as_bytes()).expect("a write");
            assert_eq!(DataFormat::read(&disk, dir).expect("a look"), found, "{text}");
        }
    }
}
