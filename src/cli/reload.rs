//! `stentor reload`: the server that runs on a data folder starts the program anew, as it lies on the disk by now and with the
//! settings of now, and that takes its place without a pause for its clients.

use std::path::PathBuf;

use clap::Args;

use super::{Failure, output};
use crate::handover::taking;
use crate::settings::{Flags, Settings};

/// The flags of `stentor reload`.
#[derive(Debug, Args)]
pub struct ReloadArgs {
    /// TOML file with settings, of which only storage.data_dir counts here; the server reads its own again
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the data (setting storage.data_dir)
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Asks, and waits until the new process serves.
///
/// # Errors
/// No server runs there, or the new process ended before it served; then the one before serves on.
pub fn run(args: ReloadArgs) -> Result<(), Failure> {
    let flags = Flags { config: args.config, data: args.data, ..Flags::default() };
    let settings = Settings::load(&flags)?;
    let pid = taking::reload(&settings.storage.data_dir).map_err(|e| Failure::Failed(e.to_string()))?;
    output::text(&format!("the process {pid} is the server now\n"))
}
