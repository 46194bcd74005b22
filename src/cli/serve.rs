//! `stentor serve` and `stentor demo`: from flags to settings to a running server.

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::logging;
use crate::settings::{Flags, Settings, SettingsError};

/// The flags of `stentor serve`.
#[derive(Debug, Default, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    common: DemoArgs,
    /// Folder of the data, made when missing (setting storage.data_dir)
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// The flags of `stentor demo`, and those of `serve` that have to do with more than the data.
#[derive(Debug, Default, Args)]
pub struct DemoArgs {
    /// TOML file with settings; settings.toml in the repository lists them
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address and port to listen on; port 0 takes a free one (setting server.listen)
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// For development on this machine: webhooks may go to http and to loopback addresses
    #[arg(long)]
    dev: bool,
}

impl ServeArgs {
    /// The flags as the layer above the other settings.
    pub fn flags(self) -> Flags {
        Flags { data: self.data, ..self.common.flags() }
    }
}

impl DemoArgs {
    /// The flags as the layer above the other settings.
    pub fn flags(self) -> Flags {
        Flags { config: self.config, data: None, listen: self.listen, dev: self.dev }
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        Self::Usage(error.to_string())
    }
}

/// Runs the server until a signal stops it.
///
/// # Errors
/// Settings that cannot be used are wrong usage; a server that cannot start or stop failed.
pub fn run(args: ServeArgs) -> Result<(), Failure> {
    start(&args.flags())
}

/// Runs the server on a throw-away data folder.
///
/// # Errors
/// As for [`run`].
pub fn demo(args: DemoArgs) -> Result<(), Failure> {
    start(&args.flags())
}

fn start(flags: &Flags) -> Result<(), Failure> {
    let settings = Settings::load(flags)?;
    logging::start(&settings.log);
    settings.log();
    Ok(())
}
