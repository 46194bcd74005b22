//! `stentor man`: manual pages, made of the same words as `--help`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Failure, output};

/// The flags of `stentor man`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stentor man | man -l -
  stentor man --dir /usr/local/share/man/man1")]
pub struct ManArgs {
    /// Folder for one page of each command, made when missing; without it stentor(1) goes to standard output
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints one page, or writes all.
///
/// # Errors
/// When standard output or the folder cannot be written.
pub fn run(args: ManArgs) -> Result<(), Failure> {
    match &args.dir {
        Some(dir) => write_all(dir)
            .map_err(|e| Failure::Failed(format!("cannot write to {}: {e}; choose another --dir", dir.display()))),
        None => {
            let mut page = Vec::new();
            output::written(clap_mangen::Man::new(super::command()).render(&mut page))?;
            output::bytes(&page)
        }
    }
}

fn write_all(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    clap_mangen::generate_to(super::command(), dir)
}
